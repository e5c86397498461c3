// Edits on the host: who owns LANES samples at a time, their density, and where their decoder rows begin.
#pragma once
#include "edits.h"
#include "shading.h"

struct TileJob {
  const PackedField& packed;
  const LvOptions& options;
  const LvView& view;
  const LvBuffers& buffers;
  const LvRays* rays;                // or 0: tiles
  const volatile int32_t* cancel;
  const float* const* style_shares;  // latent_share of every STYLE operation. [n_ops]
};

// Owners of pending samples.
struct LaneOwners {
  int32_t op[2 * LANES], style[2 * LANES];
};

LV_HD void move_owner(LaneOwners& owners, int to, int from) {
  owners.op[to] = owners.op[from];
  owners.style[to] = owners.style[from];
}

// The batch whose decoder colours what an operation owns.
LV_HD Batch& batch_of(const TileJob& job, Batch& batch, int op) {
  const int source = source_of(*job.options.edits, op);
  return source < 0 ? batch : *batch.sources[source];
}

// Numbers of the map's cells that LANES samples lie in.
LV_HD IntVec map_cells(const LvEdits& edits, const Vec p[3]) {
  IntVec cell[2];
  const int n[2] = {edits.n_x, edits.n_y};
  for (int i = 0; i < 2; i++) {
    Vec at = floor_of(mul_rn(sub_rn(p[i], splat<Vec>(edits.low[i])), splat<Vec>(edits.scale[i])));
    cell[i] = to_int(max_of(min_of(at, splat<Vec>((float)(n[i] - 1))), Vec{}));
  }
  return cell[1] * edits.n_x + cell[0];
}

// Finds who owns the samples `inside`, and returns which of them count. Their owners are appended to `owners` behind
// the first n, and p becomes where they are read.
static uint32_t claim_lanes(const TileJob& job, uint32_t inside, Vec p[3], LaneOwners& owners, int n) {
  if (!inside) return 0;
  const LvOptions& options = job.options;
  const LvEdits& edits = *options.edits;
  const LvField& field = job.packed.field;
  const IntVec cell = map_cells(edits, p);
  bool claimed = false;
  uint32_t counted = 0;
  int32_t op[LANES], style[LANES];
  float at[3][LANES], q[3][LANES];
  for (uint32_t left = inside; left; left &= left - 1) {
    const int i = __builtin_ctz(left), list = edits.cells[cell[i]];
    if (!list) continue;
    if (!claimed) {
      for (int axis = 0; axis < 3; axis++) store(at[axis], p[axis]), store(q[axis], p[axis]);
      for (int j = 0; j < LANES; j++) op[j] = style[j] = -1;
      claimed = true;
    }
    const float position[3] = {at[0][i], at[1][i], at[2][i]};
    const Owner owner = find_owner(edits, list, position);
    style[i] = owner.style;
    if (owner.op < 0) continue;
    op[i] = owner.op;
    for (int axis = 0; axis < 3; axis++) q[axis][i] = owner.q[axis];
    const bool is_field = is_kind(edits, owner.op, LV_INSTANCE) && source_of(edits, owner.op) < 0;
    if (is_field && in_box(field, owner.q)) continue;  // asks the mask with all others
    inside &= ~(1u << i);
    counted |= (uint32_t)(!is_field && edit_counts(field, options, owner)) << i;
  }
  if (claimed)
    for (int axis = 0; axis < 3; axis++) p[axis] = load<Vec>(q[axis]);
  uint32_t kept = inside;
  if (options.use_mask && kept) kept = kept_lanes(field, options.mask_threshold, p, kept);
  kept |= counted;
  if (!claimed) {
    for (int i = 0; i < LANES; i++) owners.op[n + i] = owners.style[n + i] = -1;
    return kept;
  }
  for (uint32_t left = kept; left; left &= left - 1, n++) {
    owners.op[n] = op[__builtin_ctz(left)];
    owners.style[n] = style[__builtin_ctz(left)];
  }
  return kept;
}

// Whether the field itself is read for what an operation owns, or for what none does.
LV_HD bool reads_field(const LvEdits& edits, int op) {
  return op < 0 || (is_kind(edits, op, LV_INSTANCE) && source_of(edits, op) < 0);
}

// Sigma of n samples at p, where their owners are read; `sigma` holds what the field itself has there.
static Vec edited_sigma(const TileJob& job, Batch& batch, const LaneOwners& owners, const Vec p[3], int n, Vec sigma) {
  const LvEdits& edits = *job.options.edits;
  for (int i = 0; i < n; i++) {
    const int op = owners.op[i];
    if (op < 0) continue;
    if (edits.ops[op].kind == LV_PATCH) {
      const float q[3] = {p[0][i], p[1][i], p[2][i]};
      sigma[i] = patch_sigma(edits.ops[op], q);
      continue;
    }
    const int source = source_of(edits, op);
    if (source >= 0 && (i == 0 || source_of(edits, owners.op[i - 1]) != source)) {  // a run of the same source
      Batch& own = *batch.sources[source];
      Lanes lanes = locate_lanes(own.packed, p);
      Vec feature = density_features(own.packed, own.lookup, lanes, n, own.taps);
      Vec there = activate_lanes(own.packed.field, lanes, feature);
      for (int j = i; j < n && source_of(edits, owners.op[j]) == source; j++) sigma[j] = there[j];
    }
    sigma[i] *= edits.ops[op].sigma_scale;
  }
  return sigma;
}

// What a row's first layer begins with in another embedding, along a turned direction or on another field's decoder.
static const float* edited_start(const TileJob& job, Batch& own, const StartKey& key, int row, const float d[3]) {
  const StartKey& last = own.last;
  if (last.ray == key.ray && last.style == key.style && last.turned[0] == key.turned[0] &&
      last.turned[1] == key.turned[1])
    return own.last_start;
  float* start = own.edited_hidden + (size_t)row * own.packed.hidden_1;
  const float turned[3] = {key.turned[0], key.turned[1], d[2]};
  start_vector(own, key.style < 0 ? own.ray_base : job.style_shares[key.style], turned, start);
  own.last = key;
  return own.last_start = start;
}

// Who owns the samples of a row.
struct RowOwner {
  int ray, op, style;
};

// Opens a decoder row for samples of one owner and style.
static int begin_edited_row(const TileJob& job, Batch& batch, const RowOwner& of, const float d[3], Composite* sums) {
  const LvEdits& edits = *job.options.edits;
  Batch& own = batch_of(job, batch, of.op);
  const int row = begin_row(own, of.ray, sums);
  if (is_kind(edits, of.op, LV_PATCH)) {
    float* feature = own.patch_features + (size_t)row * own.packed.feature;
    memset(feature, 0, own.packed.feature * sizeof(float));
    own.feature_starts[row] = feature;
  }
  float turned[3] = {d[0], d[1], d[2]};
  if (is_kind(edits, of.op, LV_INSTANCE)) turn_direction(edits.ops[of.op], d, turned);
  const bool is_rays = &own == &batch && of.style < 0 && turned[0] == d[0] && turned[1] == d[1];
  if (!is_rays) own.starts[row] = edited_start(job, own, {of.ray, of.style, {turned[0], turned[1]}}, row, d);
  return row;
}

// Adds the feature of a sample at p to a row of its owner.
static void look_up_edited(const TileJob& job, Batch& batch, int op, int row, const float p[3], float weight) {
  if (op < 0) return add_lookup(batch, row, p[0], p[1], p[2], weight);
  const LvEditOp& edit = job.options.edits->ops[op];
  Batch& own = batch_of(job, batch, op);
  float q[3];
  read_position(edit, p, q);
  if (edit.kind != LV_PATCH) return add_lookup(own, row, q[0], q[1], q[2], weight);
  add_patch_feature(edit, own.packed.field.feature_dim, q, weight, own.patch_features + (size_t)row * own.packed.feature);
}

// Owners of the six points of a normal; `at` becomes where they are read.
static void find_owners(const LvEdits& edits, float (*at)[16], Owner owners[6]) {
  for (int i = 0; i < 6; i++) {
    const float p[3] = {at[0][i], at[1][i], at[2][i]};
    owners[i] = owner_at(edits, p);
    for (int axis = 0; axis < 3; axis++) at[axis][i] = owners[i].q[axis];
  }
}
