// The alpha mask for LANES samples at a time.
#pragma once
#include "simd.h"

#include "occupancy.h"

// Where LANES samples lie in a mask.
struct CellLanes {
  Vec at[3];
  IntVec cell[3], brick, bit;
  uint32_t inside;  // which lie in a cell at all
};

// Cells of LANES vertex coordinates.
LV_HD CellLanes cells_at(const LvMask& mask, const Vec at[3]) {
  CellLanes cells;
  IntVec* cell = cells.cell;
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

// Which of them lie in cells that are set in `any`.
static uint32_t lanes_in_room(const LvMask& mask, const CellLanes& cells, uint32_t inside) {
  return set_bits(mask.any, cells.brick, cells.bit, inside & cells.inside);
}

// Which of LANES samples lie so far from the faces of their cells that all eight corners weigh something.
LV_HD uint32_t deep_lanes(const CellLanes& cells) {
  Vec least = splat<Vec>(1.0f);
  for (int i = 0; i < 3; i++) {
    const Vec ahead = cells.at[i] - floor_of(cells.at[i]);
    least = min_of(least, min_of(ahead, 1.0f - ahead));
  }
  return bits_of(least > 1e-6f);
}

// Which of LANES samples inside the box the mask keeps, as bits.
static uint32_t occupied_lanes(const LvMask& mask, float threshold, const CellLanes& cells, uint32_t inside) {
  const bool full_passes = threshold < 1.0f - 1e-4f;
  const uint32_t some = lanes_in_room(mask, cells, inside);
  uint32_t kept = threshold == 0.0f && !mask.shift ? some & deep_lanes(cells) : 0;
  for (uint32_t left = some & ~kept; left; left &= left - 1) {
    int i = __builtin_ctz(left);
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

static uint32_t lanes_in_room(const LvMask& mask, const Vec p[3], uint32_t inside) {
  return lanes_in_room(mask, cells_of(mask, p), inside);
}

// LANES rays through one camera.
struct RayLanes {
  Vec t_first, t_last, spacing, o[3], d[3], slope[3];
};

// empty_samples for LANES rays; only those of `lanes` are found.
static IntVec empty_lanes(const LvMask& mask, const RayLanes& rays, const Vec at[3], uint32_t lanes) {
  const float slack = 0.02f;
  const CellLanes cells = cells_at(mask, at);
  const IntVec is_set = lanes_of(lanes_in_room(mask, cells, lanes));
  IntVec distance = {};
  for (uint32_t left = lanes & cells.inside; left; left &= left - 1) {
    const int i = __builtin_ctz(left);
    distance[i] = mask.distance[cells.brick[i]];
  }
  Vec leave = splat<Vec>(3.4e38f);
  for (int i = 0; i < 3; i++) {
    const IntVec& cell = cells.cell[i];
    const IntVec brick = cell >> 2;
    const IntVec low = distance ? (brick - distance + 1) * 4 : cell;
    const IntVec high = distance ? (brick + distance) * 4 : cell + 1;
    const Vec to_high = __builtin_convertvector((high << mask.shift) - 1, Vec) - slack - at[i];
    const Vec to_low = at[i] - __builtin_convertvector((low << mask.shift) - 1, Vec) - slack;
    const Vec room = choose(rays.slope[i] > 0.0f, to_high, to_low) / absolute(rays.slope[i]);
    leave = choose(rays.slope[i] != 0.0f, min_of(leave, room), leave);
  }
  Vec n = leave / rays.spacing * 0.9999f - 0.01f;
  n = choose(n > 0.0f, min_of(n, splat<Vec>(1e6f)), Vec{});
  IntVec empty = to_int(n) + 1;
  empty = (rays.spacing > 0.0f) & lanes_of(cells.inside) ? empty : IntVec{} + 1;
  return is_set ? IntVec{} : empty;
}
