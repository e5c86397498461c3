// The field seen from straight above: LANES neighbouring columns are marched down together.
#pragma once
#include "shading.h"

#define LV_DARK 1e-12f  // a column ends when less light passes

// Memory of one thread.
struct ColumnBatch {
  Memory memory;
  const Lookup lookup;
  TapLanes* taps;
  float* products;  // weighted, of LANES columns. [LANES][n_appearance]
  Feedback feedback;

  ColumnBatch(const PackedField& packed, uint8_t* lacking) : lookup(choose_lookup(packed)) {
    feedback.lacking = lacking;
    taps = memory.take<TapLanes>(packed.n_tables);
    products = memory.take<float>((size_t)LANES * packed.field.n_appearance);
  }
};

static void march_columns(const PackedField& packed, const LvOptions& options, const LvColumns& columns,
                          ColumnBatch& batch, int row, int first) {
  const LvField& field = packed.field;
  const int n_lanes = columns.n_x - first < LANES ? columns.n_x - first : LANES;
  const float length = columns.step * options.distance_scale;
  Vec p[3], left = splat<Vec>(1.0f), height = splat<Vec>(NAN), total = {};
  p[0] = (first_lanes() + ((float)first + 0.5f)) * columns.side + columns.low[0];
  p[1] = splat<Vec>(((float)row + 0.5f) * columns.side + columns.low[1]);
  memset(batch.products, 0, (size_t)LANES * field.n_appearance * sizeof(float));
  IntVec in_plan = first_lanes() < (float)n_lanes;
  for (int i = 0; i < 2; i++) in_plan = in_plan & (p[i] >= field.low[i]) & (p[i] <= field.high[i]);
  const uint32_t plan = bits_of(in_plan);
  for (int k = 0; k < columns.n; k++) {
    p[2] = splat<Vec>(columns.z_high - ((float)k + 0.5f) * columns.step);
    uint32_t kept = p[2][0] >= field.low[2] && p[2][0] <= field.high[2] ? plan & bits_of(left > LV_DARK) : 0;
    if (kept && options.use_mask) kept = kept_lanes(field, options.mask_threshold, p, kept);
    if (!kept) continue;
    Lanes lanes = locate_lanes(packed, p);
    Vec sigma = activate_lanes(field, lanes, density_features(packed, batch.lookup, lanes, n_lanes, batch.taps));
    float weight[LANES];
    Vec passes = exp_of(-sigma * length);
    for (int i = 0; i < LANES; i++) passes[i] = kept >> i & 1 ? passes[i] : 1.0f;
    Vec after = left * passes;
    Vec share = (left - 0.5f) / (left - after);
    height = choose((left > 0.5f) & (after <= 0.5f), columns.z_high - ((float)k + share) * columns.step, height);
    store(weight, left * (1.0f - passes));
    total += load<Vec>(weight);
    left = after;
    add_products(packed, batch.lookup, lanes, n_lanes, batch.taps, weight,
                 [&](int i) { return batch.products + (size_t)i * field.n_appearance; });
    for (uint32_t read = field.stream ? kept : 0; read; read &= read - 1)
      note_read(packed, lanes, __builtin_ctz(read), batch.feedback);
  }
  for (int i = 0; i < n_lanes; i++) {
    const int64_t column = (int64_t)row * columns.n_x + first + i;
    const float* products = batch.products + (size_t)i * field.n_appearance;
    columns.height[column] = height[i];
    columns.opacity[column] = 1.0f - left[i];
    for (int f = 0; f < field.feature_dim; f++) {
      float sum = 0.0f;
      for (int c = 0; c < field.n_appearance; c++) sum += field.basis[(int64_t)f * field.n_appearance + c] * products[c];
      columns.features[column * field.feature_dim + f] = total[i] > 0.0f ? sum / total[i] : 0.0f;
    }
  }
}

static void march_row(const PackedField& packed, const LvOptions& options, const LvColumns& columns,
                      ColumnBatch& batch, int row) {
  for (int first = 0; first < columns.n_x; first += LANES) march_columns(packed, options, columns, batch, row, first);
}
