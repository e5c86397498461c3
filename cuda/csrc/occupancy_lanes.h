// The alpha mask for LANES samples at a time.
#pragma once
#include "simd.h"

#include "occupancy.h"

// Which of LANES samples inside the box the mask keeps, as bits.
static uint32_t occupied_lanes(const LvMask& mask, float threshold, const Vec p[3], uint32_t inside) {
  Vec at[3];
  IntVec cell[3];
  IntVec in_mask = ~IntVec{};
  for (int i = 0; i < 3; i++) {
    at[i] = mask_coordinate(mask, i, p[i]);
    in_mask = in_mask & (at[i] >= -1.0f) & (at[i] < (float)mask.n[i]);
    cell[i] = to_int(floor_of(choose(in_mask, at[i], Vec{}))) + 1;
  }
  IntVec brick = ((cell[2] >> 2) * mask.bricks[1] + (cell[1] >> 2)) * mask.bricks[0] + (cell[0] >> 2);
  IntVec bit = (cell[2] & 3) << 4 | (cell[1] & 3) << 2 | (cell[0] & 3);
  const bool full_passes = threshold < 1.0f - 1e-4f;
  uint32_t kept = 0;
  for (uint32_t left = inside & bits_of(in_mask); left; left &= left - 1) {
    int i = __builtin_ctz(left);
    if (!(mask.any[brick[i]] >> bit[i] & 1)) continue;
    bool passes = full_passes && (mask.all[brick[i]] >> bit[i] & 1);
    if (!passes) {
      float corner[3] = {at[0][i], at[1][i], at[2][i]};
      passes = mask_value(mask, corner) > threshold;
    }
    kept |= (uint32_t)passes << i;
  }
  return kept;
}
