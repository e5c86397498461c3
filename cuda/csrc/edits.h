// Edits: who owns a sample and where it is read. edit_tables.py says what the formulas mean; whatever decides who owns
// a sample is rounded operation by operation, so that every renderer decides alike.
#pragma once
#include "stream.h"

// Who owns a sample.
struct Owner {
  int op;      // -1: the field itself
  int style;   // operation that colours it, -1: none
  float q[3];  // where the owner is read
  float ground;  // of a PATCH, at q, where it may hold something
};

LV_HD bool is_kind(const LvEdits& edits, int op, LvEditKind kind) { return op >= 0 && edits.ops[op].kind == kind; }

// Source that an operation reads, -1: the field itself or none.
LV_HD int source_of(const LvEdits& edits, int op) {
  return is_kind(edits, op, LV_INSTANCE) ? edits.ops[op].source - 1 : -1;
}

LV_HD const LvField& field_of(const LvEdits& edits, const LvField& field, int op) {
  int source = source_of(edits, op);
  return source < 0 ? field : *edits.sources[source].field;
}

LV_HD void to_source(const LvEditOp& op, const float p[3], float q[3]) {
  q[0] = add_rn(add_rn(mul_rn(op.xx, p[0]), mul_rn(op.xy, p[1])), op.x0);
  q[1] = add_rn(add_rn(mul_rn(-op.xy, p[0]), mul_rn(op.xx, p[1])), op.y0);
  q[2] = add_rn(mul_rn(op.zz, p[2]), op.z0);
}

// Whether an operation may claim something at a height of the edited scene.
LV_HD bool is_at_height(const LvEditOp& op, float z) {
  if (op.kind == LV_INSTANCE) z = add_rn(mul_rn(op.zz, z), op.z0);
  return z >= op.z_low && z < op.z_high;
}

// Where an operation reads a sample at p.
LV_HD void read_position(const LvEditOp& op, const float p[3], float q[3]) {
  if (op.kind == LV_INSTANCE) return to_source(op, p, q);
  for (int i = 0; i < 3; i++) q[i] = p[i];
}

LV_HD void turn_direction(const LvEditOp& op, const float d[3], float turned[3]) {
  turned[0] = add_rn(mul_rn(op.cosine, d[0]), mul_rn(op.sine, d[1]));
  turned[1] = add_rn(mul_rn(-op.sine, d[0]), mul_rn(op.cosine, d[1]));
  turned[2] = d[2];
}

LV_HD float footprint_coordinate(const LvEditOp& op, int axis, float q) {
  return mul_rn(sub_rn(q, op.low[axis]), op.inverse_side);
}

LV_HD bool footprint_holds(const LvEditOp& op, const float q[3]) {
  if (!op.footprint) return true;
  float x = floor_of(footprint_coordinate(op, 0, q[0])), y = floor_of(footprint_coordinate(op, 1, q[1]));
  bool inside = x >= 0.0f && y >= 0.0f && x < (float)op.n_x && y < (float)op.n_y;
  return inside && op.footprint[(int64_t)y * op.n_x + (int64_t)x];
}

// Where a patch's rasters are read: two cells along each axis, and the weight of the second one.
struct RasterTap {
  int64_t first[2];  // first cell of either row
  int step;          // to the second column
  float x, y;
};

LV_HD RasterTap raster_tap(const LvEditOp& op, const float q[3]) {
  float at[2], base[2];
  const int n[2] = {op.n_x, op.n_y};
  for (int i = 0; i < 2; i++) {
    at[i] = clamp(sub_rn(footprint_coordinate(op, i, q[i]), 0.5f), 0.0f, (float)(n[i] - 1));
    base[i] = max_of(min_of(floor_of(at[i]), (float)(n[i] - 2)), 0.0f);
  }
  RasterTap tap;
  tap.first[0] = (int64_t)base[1] * op.n_x + (int64_t)base[0];
  tap.first[1] = tap.first[0] + (op.n_y > 1 ? op.n_x : 0);
  tap.step = op.n_x > 1;
  tap.x = sub_rn(at[0], base[0]);
  tap.y = sub_rn(at[1], base[1]);
  return tap;
}

LV_HD float mix_rn(float a, float b, float share) {
  return add_rn(mul_rn(a, sub_rn(1.0f, share)), mul_rn(b, share));
}

// Channel of a raster [n_y][n_x][channels], bilinear.
LV_HD float raster_value(const RasterTap& tap, const float* raster, int channels, int channel) {
  float rows[2];
  for (int i = 0; i < 2; i++) {
    const float* from = raster + tap.first[i] * channels + channel;
    rows[i] = mix_rn(from[0], from[tap.step * channels], tap.x);
  }
  return mix_rn(rows[0], rows[1], tap.y);
}

LV_HD float patch_ground(const LvEditOp& op, const float q[3]) {
  return raster_value(raster_tap(op, q), op.ground, 1, 0);
}

// Whether an operation claims what it reads at q, a height at which it may; `ground` is set for a PATCH.
LV_HD bool claims(const LvEditOp& op, const float q[3], float& ground) {
  if (footprint_holds(op, q) != (op.inside != 0)) return false;
  if (op.kind != LV_PATCH || q[2] > op.empty_above) return true;
  ground = patch_ground(op, q);
  return q[2] >= sub_rn(ground, op.thickness);
}

// Column or row of the map.
LV_HD int64_t map_cell(float low, float scale, int n, float p) {
  return (int64_t)clamp(floor_of(mul_rn(sub_rn(p, low), scale)), 0.0f, (float)(n - 1));
}

// Number of the list of operations that may claim samples at (x, y); 0: none can.
LV_HD int column_list(const LvEdits& edits, float x, float y) {
  return edits.cells[map_cell(edits.low[1], edits.scale[1], edits.n_y, y) * edits.n_x +
                     map_cell(edits.low[0], edits.scale[0], edits.n_x, x)];
}

// Owner of p among the operations of a list. Styles reach neither what is cleared nor other fields.
LV_HD Owner find_owner(const LvEdits& edits, int list, const float p[3]) {
  Owner owner = {-1, -1, {p[0], p[1], p[2]}, 0.0f};
  bool wants_style = edits.has_styles != 0;
  for (int item = edits.starts[list]; item < edits.starts[list + 1]; item++) {
    int number = edits.items[item];
    const LvEditOp& op = edits.ops[number];
    const bool is_style = op.kind == LV_STYLE;
    if (is_style ? !wants_style : owner.op >= 0) continue;
    if (!is_at_height(op, p[2])) continue;
    float q[3], ground = 0.0f;
    read_position(op, p, q);
    if (!claims(op, q, ground)) continue;
    if (is_style) {
      owner.style = number;
      wants_style = false;
      continue;
    }
    owner.op = number;
    owner.ground = ground;
    for (int i = 0; i < 3; i++) owner.q[i] = q[i];
    if (op.kind == LV_CLEAR || source_of(edits, number) >= 0) wants_style = false, owner.style = -1;
    if (!wants_style) break;
  }
  return owner;
}

LV_HD Owner owner_at(const LvEdits& edits, const float p[3]) {
  return find_owner(edits, column_list(edits, p[0], p[1]), p);
}

// Whether a field has a sample at p that counts. source: -1, or the edit's source that the field is.
LV_HD bool field_counts(const LvField& field, const LvOptions& options, int source, const float p[3]) {
  if (!in_box(field, p)) return false;
  const bool use_mask = source < 0 ? options.use_mask : options.edits->sources[source].use_mask;
  const float threshold = source < 0 ? options.mask_threshold : options.edits->sources[source].mask_threshold;
  return !use_mask || mask_holds(field, threshold, p);
}

// Whether a sample that an operation owns counts.
LV_HD bool edit_counts(const LvField& field, const LvOptions& options, const Owner& owner) {
  const LvEditOp& op = options.edits->ops[owner.op];
  if (op.kind == LV_CLEAR) return false;
  if (op.kind == LV_PATCH) return owner.q[2] <= op.empty_above && owner.q[2] <= add_rn(owner.ground, op.rise);
  return field_counts(field_of(*options.edits, field, owner.op), options, source_of(*options.edits, owner.op), owner.q);
}

// A patch's sigma if it went on growing: half of it is reached at the ground.
LV_HD float patch_slope(const LvEditOp& op, const float q[3]) {
  float depth = patch_ground(op, q) + op.rise - q[2];
  return op.sigma * (depth / max_of(2.0f * op.rise, 1e-12f));
}

LV_HD float patch_sigma(const LvEditOp& op, const float q[3]) { return clamp(patch_slope(op, q), 0.0f, op.sigma); }

// Density feature of an edited scene before relu and activation, of patches their slope; for normals.
LV_HD float owner_feature(const LvField& field, const LvEdits& edits, const Owner& owner) {
  if (is_kind(edits, owner.op, LV_CLEAR)) return 0.0f;
  if (is_kind(edits, owner.op, LV_PATCH)) return patch_slope(edits.ops[owner.op], owner.q);
  const LvField& own = field_of(edits, field, owner.op);
  return density_feature(own, locate(own, owner.q));
}

LV_HD float owner_sigma(const LvField& field, const LvEdits& edits, const Owner& owner) {
  if (is_kind(edits, owner.op, LV_PATCH)) return patch_sigma(edits.ops[owner.op], owner.q);
  const LvField& own = field_of(edits, field, owner.op);
  float sigma = density(own, locate(own, owner.q));
  return owner.op < 0 ? sigma : sigma * edits.ops[owner.op].sigma_scale;
}

// Adds weight * feature of a patch at q to `feature` [feature_dim].
LV_HD void add_patch_feature(const LvEditOp& op, int feature_dim, const float q[3], float weight, float* feature) {
  RasterTap tap = raster_tap(op, q);
  for (int f = 0; f < feature_dim; f++) feature[f] += weight * raster_value(tap, op.features, feature_dim, f);
}
