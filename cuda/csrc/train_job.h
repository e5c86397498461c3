// One training step: what its threads read, and what they keep.
//
// Rays go through it in groups, and inside a group in chunks whose activations stay in cache:
//   march (train_march.h)   samples of the rays, their density and weights
//   decode (train_decode.h) features and colours of the samples that matter, and the way back
//   loss (train_loss.h)     colours of the rays, gradients of colours and weights
//   lookup (train_lookup.h) gradients of lines; what the planes get is left for later
// Then the points of all groups are sorted by plane row, and every row is updated once (train_planes.h).
//
// Groups depend on the number of rays alone, their sums are added in order, and a row belongs to one thread: results do
// not depend on the number of threads.
#pragma once
#include "lookup.h"
#include "train_abi.h"
#include "train_memory.h"

enum {
  MAX_GROUPS = 32,
  MIN_GROUP_RAYS = 8,
  CHUNK_ROWS = 128,  // a chunk of rays ends when the decoder has this many rows to do
  BLOCK_ROWS = 192,  // decoder rows that pass through the layers together; a multiple of ROWS
};

// Where the sums of a group lie, in floats. Weights as [input][padded output].
struct SumLayout {
  size_t basis, weight_1, ray_weights, weight_2, weight_3, bias_1, bias_2, bias_3, density_basis;
  std::vector<size_t> density_lines, appearance_lines;  // by table, blocks one after the other
  size_t n;
};

struct TrainJob {
  const PackedField& packed;
  const LvOptions& options;
  const LvBatch& batch;
  const LvTrainTable *density, *appearance;  // [n_blocks * n_tables]
  const Lookup lookup;
  int n_groups, group_rays;
  SumLayout sums;
  Layer basis_back, layer_1_back, layer_2_back;  // from gradients of outputs to gradients of inputs
  Layer ray_layer, latent_back;                  // the first layer's share that is the same along a ray
  std::vector<int32_t> encoded, in_order;  // where the inputs of the first layer and of all others lie
  float* zeros;  // as wide as any layer
  Memory memory;

  TrainJob(const PackedField& packed, const LvOptions& options, const LvBatch& batch, const LvTrainTable* density,
           const LvTrainTable* appearance);
};

static inline SumLayout lay_out_sums(const PackedField& packed) {
  const LvField& field = packed.field;
  SumLayout layout;
  layout.n = 0;
  auto take = [&](size_t n) {
    const size_t first = layout.n;
    layout.n += (n + 15) / 16 * 16;
    return first;
  };
  layout.basis = take((size_t)field.n_appearance * packed.feature);
  layout.weight_1 = take((size_t)packed.layer_1.n_groups * packed.layer_1.group_size * packed.hidden_1);
  layout.ray_weights = take((size_t)packed.n_ray_inputs * packed.hidden_1);
  layout.weight_2 = take((size_t)field.hidden_1 * packed.hidden_2);
  layout.weight_3 = take((size_t)3 * packed.hidden_2);
  layout.bias_1 = take(packed.hidden_1);
  layout.bias_2 = take(packed.hidden_2);
  layout.bias_3 = take(3);
  layout.density_basis = take(field.n_density);
  for (int i = 0; i < packed.n_blocks * packed.n_tables; i++) {
    layout.density_lines.push_back(take((size_t)field.density[i].n_w * field.density[i].channels));
    layout.appearance_lines.push_back(take((size_t)field.appearance[i].n_w * field.appearance[i].channels));
  }
  return layout;
}

inline TrainJob::TrainJob(const PackedField& packed, const LvOptions& options, const LvBatch& batch,
                          const LvTrainTable* density, const LvTrainTable* appearance)
    : packed(packed), options(options), batch(batch), density(density), appearance(appearance),
      lookup(choose_lookup(packed)), sums(lay_out_sums(packed)) {
  const LvField& field = packed.field;
  const InputLayout layout = input_layout(field);
  group_rays = (batch.n_rays + MAX_GROUPS - 1) / MAX_GROUPS;
  if (group_rays < MIN_GROUP_RAYS) group_rays = MIN_GROUP_RAYS;
  n_groups = (batch.n_rays + group_rays - 1) / group_rays;

  const int n_appearance = field.n_appearance, n_ray = packed.n_ray_inputs;
  basis_back = make_layer(memory, 1, field.feature_dim, packed.feature, round_up(n_appearance, LANES));
  pack_layer(basis_back, [&](int out, int, int i) {
    return out < n_appearance ? field.basis[(size_t)i * n_appearance + out] : 0.0f;
  });
  layer_1_back = make_layer(memory, 1, field.hidden_1, packed.hidden_1, packed.encoded);
  pack_layer(layer_1_back, [&](int out, int, int i) {
    const int group = out / packed.feature, input = out % packed.feature;
    if (input >= field.feature_dim) return 0.0f;
    return field.weight_1[(size_t)i * layout.n + encoded_input(field, layout, group, input)];
  });
  layer_2_back = make_layer(memory, 1, field.hidden_2, packed.hidden_2, packed.hidden_1);
  pack_layer(layer_2_back, [&](int out, int, int i) {
    return out < field.hidden_1 ? field.weight_2[(size_t)i * field.hidden_1 + out] : 0.0f;
  });
  ray_layer = make_layer(memory, 1, n_ray, n_ray, packed.hidden_1);
  pack_layer(ray_layer, [&](int out, int, int i) { return packed.ray_weights[(size_t)i * packed.hidden_1 + out]; });
  latent_back = make_layer(memory, 1, field.hidden_1, packed.hidden_1, round_up(field.latent_dim, LANES));
  pack_layer(latent_back, [&](int out, int, int i) {
    return out < field.latent_dim ? packed.ray_weights[(size_t)out * packed.hidden_1 + i] : 0.0f;
  });
  int widest_layer = 0;
  for (int n_out : {packed.feature, packed.hidden_1, packed.hidden_2, basis_back.n_out, layer_1_back.n_out,
                    latent_back.n_out})
    if (n_out > widest_layer) widest_layer = n_out;
  zeros = memory.take<float>(widest_layer);

  for (int group = 0; group < packed.layer_1.n_groups; group++)
    for (int i = 0; i < field.feature_dim; i++) encoded.push_back(group * packed.feature + i);
  for (int i = 0; i < n_appearance || i < field.hidden_1 || i < n_ray; i++) in_order.push_back(i);
}

// Points whose gradient goes to the planes.
struct Points {
  Buffer<float> c[3];      // position in [-1, 1] of the block
  Buffer<int32_t> table;   // index of the first table of the block
  Buffer<float> scale;     // density: gradient of the feature

  void clear() {
    for (Buffer<float>& axis : c) axis.shorten(0);
    table.shorten(0);
    scale.shorten(0);
  }
  void add(const float at[3], int32_t first_table) {
    for (int i = 0; i < 3; i++) c[i].push(at[i]);
    table.push(first_table);
  }
};

// What a group of rays leaves behind.
struct Group {
  Buffer<float> sums;
  Points density, appearance;
  Buffer<float> values;  // gradient of what the planes hold at the appearance points. [n][n_appearance]
  double loss, distortion;
  int64_t n_inside, n_dense, n_shaded;

  void clear(size_t n_sums) {
    memset(sums.reset(n_sums), 0, n_sums * sizeof(float));
    density.clear();
    appearance.clear();
    values.shorten(0);
    loss = distortion = 0.0;
    n_inside = n_dense = n_shaded = 0;
  }
};
