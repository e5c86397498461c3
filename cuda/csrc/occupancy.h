// LandMark's alpha mask: which samples count, and how far a ray may jump where none can.
#pragma once
#include "rays.h"

// Vertex coordinate of a world position along one axis, as torch's grid_sample computes it.
template <class F>
LV_HD F mask_coordinate(const LvMask& mask, int axis, F p) {
  F normalized = sub_rn(mul_rn(sub_rn(p, like(p, mask.low[axis])), like(p, mask.scale[axis])), like(p, 1.0f));
  F halved = mul_rn(add_rn(normalized, like(p, 1.0f)), like(p, 0.5f));
  return mul_rn(halved, like(p, (float)(mask.n[axis] - 1)));
}

// Trilinear mean of the vertices round `at`, zero outside, in torch's order of operations.
LV_HD float mask_value(const LvMask& mask, const float at[3]) {
  int corner[3];
  float ahead[3], behind[3];  // weights of the corners at and after floor(at)
  for (int i = 0; i < 3; i++) {
    float base = floorf(at[i]);
    corner[i] = (int)base;
    behind[i] = sub_rn(base + 1.0f, at[i]);
    ahead[i] = sub_rn(at[i], base);
  }
  float sum = 0.0f;
  for (int c = 0; c < 8; c++) {
    int x = corner[0] + (c & 1), y = corner[1] + (c >> 1 & 1), z = corner[2] + (c >> 2);
    if (x < 0 || y < 0 || z < 0 || x >= mask.n[0] || y >= mask.n[1] || z >= mask.n[2]) continue;
    float weight = mul_rn(mul_rn(c & 1 ? ahead[0] : behind[0], c & 2 ? ahead[1] : behind[1]),
                          c & 4 ? ahead[2] : behind[2]);
    if (mask.nodes[((int64_t)z * mask.n[1] + y) * mask.n[0] + x]) sum = add_rn(sum, weight);
  }
  return sum;
}

// Cell of a coordinate: cell c spans the vertices c-1 and c, so the cells 0 and n are half outside; then the mask's shift.
// False: no cell.
LV_HD bool mask_cell(const LvMask& mask, const float at[3], int cell[3]) {
  bool inside = true;
  for (int i = 0; i < 3; i++) {
    inside = inside && at[i] >= -1.0f && at[i] < (float)mask.n[i];
    cell[i] = inside ? ((int)floorf(at[i]) + 1) >> mask.shift : 0;
  }
  return inside;
}

LV_HD int64_t brick_of(const LvMask& mask, const int cell[3]) {
  return ((int64_t)(cell[2] >> 2) * mask.bricks[1] + (cell[1] >> 2)) * mask.bricks[0] + (cell[0] >> 2);
}

LV_HD int bit_of(const int cell[3]) { return (cell[2] & 3) << 4 | (cell[1] & 3) << 2 | (cell[0] & 3); }

// Whether a sample at vertex coordinates `at` counts. The threshold must not be negative.
LV_HD bool is_occupied(const LvMask& mask, float threshold, const float at[3]) {
  int cell[3];
  if (!mask_cell(mask, at, cell)) return false;
  int64_t brick = brick_of(mask, cell);
  int bit = bit_of(cell);
  if (!(mask.any[brick] >> bit & 1)) return false;
  if ((mask.all[brick] >> bit & 1) && threshold < 1.0f - 1e-4f) return true;
  return mask_value(mask, at) > threshold;
}

// Vertex coordinates grow by slope * t along a ray; only jumps depend on it, never whether a sample counts.
LV_HD void mask_slopes(const LvMask& mask, const Ray& ray, float slope[3]) {
  for (int i = 0; i < 3; i++) slope[i] = ray.d[i] * mask.scale[i] * 0.5f * (float)(mask.n[i] - 1);
}

// Number of samples, from this one on, that certainly do not count; 0: this one may. `at` is in vertex coordinates.
LV_HD int empty_samples(const LvMask& mask, const Ray& ray, const float at[3], const float slope[3]) {
  const float slack = 0.02f;  // cells; far above the rounding of the coordinates
  int cell[3];
  if (!mask_cell(mask, at, cell)) return 1;
  int64_t brick = brick_of(mask, cell);
  int distance = mask.distance[brick];
  if (!distance && (mask.any[brick] >> bit_of(cell) & 1)) return 0;
  if (!(ray.spacing > 0.0f)) return 1;
  float leave = 3.4e38f;
  for (int i = 0; i < 3; i++) {
    int low = distance ? ((cell[i] >> 2) - distance + 1) * 4 : cell[i];
    int high = distance ? ((cell[i] >> 2) + distance) * 4 : cell[i] + 1;
    low = (low << mask.shift) - 1;
    high = (high << mask.shift) - 1;
    float room = slope[i] > 0.0f ? (float)high - slack - at[i] : at[i] - ((float)low + slack);
    if (slope[i] != 0.0f) leave = min_of(leave, room / absolute(slope[i]));
  }
  float n = leave / ray.spacing * 0.9999f - 0.01f;
  if (!(n > 0.0f)) return 1;
  return n < 1e6f ? (int)n + 1 : 1000000;
}

// Narrows the samples of a ray to those that the mask can keep.
LV_HD void clip_to_mask(const LvMask& mask, Ray& ray) {
  float low[3], high[3];
  for (int i = 0; i < 3; i++) {
    float cell = mask.n[i] > 1 ? 2.0f / (mask.scale[i] * (float)(mask.n[i] - 1)) : 3.4e38f;
    low[i] = mask.low[i] - cell;
    high[i] = mask.low[i] + 2.0f / mask.scale[i] + cell;
  }
  clip_to_box(ray, low, high);
}
