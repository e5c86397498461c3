// The alpha mask for LANES samples at a time.
#pragma once
#include "simd.h"

#include "occupancy.h"

// Where LANES samples lie in a mask.
struct CellLanes {
  Vec at[3];
  IntVec brick, bit;
  uint32_t inside;  // which lie in a cell at all
};

// Cells of LANES vertex coordinates.
LV_HD CellLanes cells_at(const LvMask& mask, const Vec at[3]) {
  CellLanes cells;
  IntVec cell[3];
  IntVec in_mask = ~IntVec{};
  for (int i = 0; i < 3; i++) {
    cells.at[i] = at[i];
    in_mask = in_mask & (cells.at[i] >= -1.0f) & (cells.at[i] < (float)mask.n[i]);
    cell[i] = (to_int(floor_of(choose(in_mask, cells.at[i], Vec{}))) + 1) >> mask.shift;
  }
  cells.brick = ((cell[2] >> 2) * mask.bricks[1] + (cell[1] >> 2)) * mask.bricks[0] + (cell[0] >> 2);
  cells.bit = (cell[2] & 3) << 4 | (cell[1] & 3) << 2 | (cell[0] & 3);
  cells.inside = bits_of(in_mask);
  return cells;
}

LV_HD CellLanes cells_of(const LvMask& mask, const Vec p[3]) {
  Vec at[3];
  for (int i = 0; i < 3; i++) at[i] = mask_coordinate(mask, i, p[i]);
  return cells_at(mask, at);
}

// Which of LANES samples inside the box the mask keeps, as bits.
static uint32_t occupied_lanes(const LvMask& mask, float threshold, const CellLanes& cells, uint32_t inside) {
  const bool full_passes = threshold < 1.0f - 1e-4f;
  uint32_t kept = 0;
  for (uint32_t left = inside & cells.inside; left; left &= left - 1) {
    int i = __builtin_ctz(left);
    if (!(mask.any[cells.brick[i]] >> cells.bit[i] & 1)) continue;
    bool passes = full_passes && (mask.all[cells.brick[i]] >> cells.bit[i] & 1);
    if (!passes) {
      float corner[3] = {cells.at[0][i], cells.at[1][i], cells.at[2][i]};
      passes = mask_value(mask, corner) > threshold;
    }
    kept |= (uint32_t)passes << i;
  }
  return kept;
}

static uint32_t occupied_lanes(const LvMask& mask, float threshold, const Vec p[3], uint32_t inside) {
  return occupied_lanes(mask, threshold, cells_of(mask, p), inside);
}

// Which of them lie in cells that are set in `any`.
static uint32_t lanes_in_room(const LvMask& mask, const CellLanes& cells, uint32_t inside) {
  uint32_t kept = 0;
  for (uint32_t left = inside & cells.inside; left; left &= left - 1) {
    int i = __builtin_ctz(left);
    kept |= (uint32_t)(mask.any[cells.brick[i]] >> cells.bit[i] & 1) << i;
  }
  return kept;
}

static uint32_t lanes_in_room(const LvMask& mask, const Vec p[3], uint32_t inside) {
  return lanes_in_room(mask, cells_of(mask, p), inside);
}
