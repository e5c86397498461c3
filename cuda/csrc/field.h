// Planes and lines: which block a point is in, the four and two texels it reads, and what becomes of their product.
#pragma once
#include "abi.h"
#include "arithmetic.h"

// Position in [-1, 1] inside the bounding box.
template <class F>
LV_HD F normalized(const LvField& field, int axis, F p) {
  float scale = div_rn(2.0f, sub_rn(field.high[axis], field.low[axis]));
  return sub_rn(mul_rn(sub_rn(p, like(p, field.low[axis])), like(p, scale)), like(p, 1.0f));
}

// Index of a block column or row, as LandMark numbers it.
template <class F>
LV_HD F block_slot(int n, F c) {
  return floor_of(div_rn(add_rn(c, like(c, 1.0f)), like(c, (float)(2.0 / n))));
}

// Position in [-1, 1] inside block column or row `slot`.
template <class F>
LV_HD F inside_block(int n, F slot, F c) {
  F side = like(c, (float)(2.0 / n)), one = like(c, 1.0f);
  F low = add_rn(mul_rn(slot, side), -one);
  F high = add_rn(mul_rn(add_rn(slot, one), side), -one);
  return sub_rn(div_rn(mul_rn(sub_rn(c, low), like(c, 2.0f)), sub_rn(high, low)), one);
}

// Finds the block of c (in [-1, 1] of the whole box) and turns c into the position inside it. A point beyond the last
// block of a column gets the next column's number, with a position far outside. Returns a whole number.
template <class F>
LV_HD F to_block(const LvField& field, F c[3]) {
  if (field.columns * field.rows == 1) return like(c[0], 0.0f);
  F rows = like(c[0], (float)field.rows);
  F block = add_rn(mul_rn(block_slot(field.columns, c[0]), rows), block_slot(field.rows, c[1]));
  F column = floor_of(div_rn(block, rows));
  F row = sub_rn(block, mul_rn(column, rows));
  c[0] = inside_block(field.columns, column, c[0]);
  c[1] = inside_block(field.rows, row, c[1]);
  return block;
}

// Block of c (in [-1, 1] of the whole box), far faces included; what to_block returns but for those.
template <class F>
LV_HD F home_block(const LvField& field, const F c[3]) {
  F zero = like(c[0], 0.0f);
  F column = max_of(min_of(block_slot(field.columns, c[0]), like(zero, (float)(field.columns - 1))), zero);
  F row = max_of(min_of(block_slot(field.rows, c[1]), like(zero, (float)(field.rows - 1))), zero);
  return add_rn(mul_rn(column, like(zero, (float)field.rows)), row);
}

// Index of a block number, -1 where there is no such number.
LV_HD int block_index(const LvField& field, float block) {
  int n = field.columns * field.rows;
  return block >= 0.0f && block < (float)n ? (int)block : -1;
}

// Two neighbouring texels and their weights: bilinear, align_corners, zero outside.
template <class F>
struct Texels {
  F base;  // whole number; the second texel is base + 1 where there is more than one
  F weight_0, weight_1;
};

template <class F>
LV_HD Texels<F> texels_at(F c, F last) {  // c in [-1, 1], last = number of texels - 1
  F zero = like(c, 0.0f), one = like(c, 1.0f);
  F x = mul_rn(mul_rn(add_rn(c, one), like(c, 0.5f)), last);
  Texels<F> texels;
  texels.base = max_of(min_of(floor_of(x), last - one), zero);
  F offset = x - texels.base;
  texels.weight_0 = max_of(one - absolute(offset), zero);
  texels.weight_1 = max_of(one - absolute(offset - one), zero);
  return texels;
}

// Plane axes (u, v) and line axis w of a direction.
LV_HD int axis_u(int direction) { return direction == 2 ? 1 : 0; }
LV_HD int axis_v(int direction) { return direction == 0 ? 1 : 2; }
LV_HD int axis_w(int direction) { return direction == 0 ? 2 : direction == 1 ? 1 : 0; }

// Where a table is read: offsets of the first texels in channels, steps to the second ones, weights.
struct Tap {
  int64_t plane, line;
  int step_u, step_w;
  int64_t step_v;
  float w00, w10, w01, w11, w0, w1;
};

LV_HD Tap tap_at(const LvTable& table, int direction, const float c[3]) {
  Texels<float> u = texels_at(c[axis_u(direction)], (float)(table.n_u - 1));
  Texels<float> v = texels_at(c[axis_v(direction)], (float)(table.n_v - 1));
  Texels<float> w = texels_at(c[axis_w(direction)], (float)(table.n_w - 1));
  Tap tap;
  tap.plane = ((int64_t)v.base * table.n_u + (int64_t)u.base) * table.channels;
  tap.line = (int64_t)w.base * table.channels;
  tap.step_u = table.n_u > 1 ? table.channels : 0;
  tap.step_v = table.n_v > 1 ? (int64_t)table.n_u * table.channels : 0;
  tap.step_w = table.n_w > 1 ? table.channels : 0;
  tap.w00 = u.weight_0 * v.weight_0;
  tap.w10 = u.weight_1 * v.weight_0;
  tap.w01 = u.weight_0 * v.weight_1;
  tap.w11 = u.weight_1 * v.weight_1;
  tap.w0 = w.weight_0;
  tap.w1 = w.weight_1;
  return tap;
}

LV_HD float plane_value(const LvField& field, const void* plane, int64_t index) {
  return field.half ? half_to_float(((const uint16_t*)plane)[index]) : ((const float*)plane)[index];
}

// Plane times line of one channel.
LV_HD float tap_product(const LvField& field, const LvTable& table, const Tap& tap, int channel) {
  int64_t at = tap.plane + channel;
  float plane = plane_value(field, table.plane, at) * tap.w00;
  plane = fmaf(plane_value(field, table.plane, at + tap.step_u), tap.w10, plane);
  plane = fmaf(plane_value(field, table.plane, at + tap.step_v), tap.w01, plane);
  plane = fmaf(plane_value(field, table.plane, at + tap.step_v + tap.step_u), tap.w11, plane);
  const float* line = table.line + tap.line + channel;
  return plane * fmaf(line[tap.step_w], tap.w1, line[0] * tap.w0);
}

struct Located {
  float c[3];  // position in [-1, 1] of the block
  int block;   // -1: no block has this number
  int home;    // block that the point lies in, far faces included; streamed fields only
  bool is_present, is_void;  // in a block that is there; sigma is 0 whatever the feature
  float share;  // of the block against its coarse stand-in
};

// Share of a block against its coarse stand-in.
LV_HD float share_of(const LvStream& stream, int block) {
  return stream.fade && !stream.lacks[block] ? stream.fade[block] : 1.0f;
}

LV_HD Located locate(const LvField& field, const float p[3]) {
  Located at;
  for (int i = 0; i < 3; i++) at.c[i] = normalized(field, i, p[i]);
  at.home = field.stream ? (int)home_block(field, at.c) : 0;
  at.block = block_index(field, to_block(field, at.c));
  at.is_present = at.block >= 0 && field.density[at.block * field.n_directions * field.n_levels].plane != 0;
  at.is_void = at.block < 0 ? field.zero_sigma_outside != 0 : !at.is_present;
  at.share = 1.0f;
  if (field.stream && at.is_present) {
    at.is_present = at.block == at.home || !field.stream->lacks[at.block];  // beyond a block there is no stand-in
    at.share = share_of(*field.stream, at.block);
  }
  return at;
}

LV_HD float table_density(const LvField& field, const LvTable* tables, const Located& at) {
  int n_tables = field.n_directions * field.n_levels, first = 0;
  float sum = 0.0f;
  for (int p = 0; p < n_tables; p++) {
    const LvTable& table = tables[at.block * n_tables + p];
    Tap tap = tap_at(table, p / field.n_levels, at.c);
    float part = 0.0f;
    for (int channel = 0; channel < table.channels; channel++) {
      float product = tap_product(field, table, tap, channel);
      part = field.density_basis ? fmaf(product, field.density_basis[first + channel], part) : part + product;
    }
    sum += part;
    first += table.channels;
  }
  return sum;
}

// Value before relu or activation.
LV_HD float density_feature(const LvField& field, const Located& at) {
  if (!at.is_present) return 0.0f;
  float own = table_density(field, field.density, at);
  if (at.share == 1.0f) return own;
  return own * at.share + table_density(field, field.stream->coarse_density, at) * (1.0f - at.share);
}

LV_HD float activate(const LvField& field, float feature) {
  if (field.nonlinear) feature = max_of(feature, 0.0f);
  if (field.activation == LV_RELU) return max_of(feature, 0.0f);
  float shifted = feature + field.density_shift;
  return shifted > 20.0f ? shifted : log1pf(expf(shifted));
}

LV_HD float density(const LvField& field, const Located& at) {
  return at.is_void ? 0.0f : activate(field, density_feature(field, at));
}

LV_HD void add_table_appearance(const LvField& field, const LvTable* tables, const Located& at, float weight,
                                float* feature) {
  int n_tables = field.n_directions * field.n_levels, first = 0;
  for (int p = 0; p < n_tables; p++) {
    const LvTable& table = tables[at.block * n_tables + p];
    Tap tap = tap_at(table, p / field.n_levels, at.c);
    for (int channel = 0; channel < table.channels; channel++) {
      float product = weight * tap_product(field, table, tap, channel);
      for (int f = 0; f < field.feature_dim; f++)
        feature[f] = fmaf(field.basis[(int64_t)f * field.n_appearance + first + channel], product, feature[f]);
    }
    first += table.channels;
  }
}

// Adds weight * appearance feature to `feature` [feature_dim].
LV_HD void add_appearance(const LvField& field, const Located& at, float weight, float* feature) {
  if (!at.is_present) return;
  add_table_appearance(field, field.appearance, at, weight * at.share, feature);
  if (at.share != 1.0f)
    add_table_appearance(field, field.stream->coarse_appearance, at, weight * (1.0f - at.share), feature);
}
