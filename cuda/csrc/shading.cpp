// The decoder in batches; see shading.h.
#include "simd.h"

#include "shading.h"

static int widest_input(const PackedField& packed) {
  const int widest = packed.encoded > packed.hidden_1 ? packed.encoded : packed.hidden_1;
  return packed.field.n_appearance > widest ? packed.field.n_appearance : widest;
}

Batch::Batch(const PackedField& packed, const float* ray_base, bool edited, bool bfloat16)
    : packed(packed), lookup(choose_lookup(packed)), ray_base(ray_base), n_rows(0), n_lookups(0), sources(0),
      last{-1, -1, {0.0f, 0.0f}} {
  products = memory.take<float>((size_t)BATCH * packed.field.n_appearance);
  encoded = memory.take<float>((size_t)BATCH * packed.encoded);
  hidden_1 = memory.take<float>((size_t)BATCH * packed.hidden_1);
  hidden_2 = memory.take<float>((size_t)BATCH * packed.hidden_2);
  ray_hidden = memory.take<float>((size_t)TILE_RAYS * packed.hidden_1);
  ray_inputs = memory.take<float>(packed.n_ray_inputs + 3);
  angles = memory.take<float>(packed.n_ray_inputs + LANES);
  cosines = memory.take<float>(packed.n_ray_inputs + LANES);
  const int widest = widest_input(packed);
  pairs = LV_BF16 && bfloat16 ? memory.take<Pair>((size_t)BATCH * widest / 2) : 0;
  active = memory.take<int32_t>((size_t)BATCH / ROWS * (packed.hidden_1 + LANES));
  taps = memory.take<TapLanes>(packed.n_tables);
  edited_hidden = edited ? memory.take<float>((size_t)BATCH * packed.hidden_1) : 0;
  patch_features = edited ? memory.take<float>((size_t)BATCH * packed.feature) : 0;
}

void latent_share(const PackedField& packed, const float* latent, float* to) {
  memcpy(to, packed.bias_1, packed.hidden_1 * sizeof(float));
  for (int i = 0; i < packed.field.latent_dim; i++)
    for (int j = 0; j < packed.hidden_1; j++) to[j] += latent[i] * packed.ray_weights[(size_t)i * packed.hidden_1 + j];
}

void start_vector(Batch& batch, const float* base, const float d[3], float* hidden) {
  const PackedField& packed = batch.packed;
  const int n_frequencies = packed.field.view_pe, n_angles = 3 * n_frequencies;
  float* inputs = batch.ray_inputs;  // direction, sines, cosines
  int n = 0;
  if (n_frequencies >= 0)
    for (; n < 3; n++) inputs[n] = d[n];
  for (int i = 0; i < n_angles; i++) batch.angles[i] = d[i / n_frequencies] * (float)(1u << i % n_frequencies);
  for (int i = 0; i < n_angles; i += LANES) {
    Vec sine, cosine;
    sincos_of(load<Vec>(batch.angles + i), sine, cosine);
    store(batch.angles + i, sine);
    store(batch.cosines + i, cosine);
  }
  for (int i = 0; i < n_angles; i++) inputs[n++] = batch.angles[i];
  for (int i = 0; i < n_angles; i++) inputs[n++] = batch.cosines[i];
  const float* weights = packed.ray_weights + (size_t)packed.field.latent_dim * packed.hidden_1;
  const int width = packed.hidden_1;
  int j = 0;
  for (; j + 4 * LANES <= width; j += 4 * LANES) {  // four sums at once hide the latency of an addition
    Vec sum[4];
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) sum[q] = load<Vec>(base + j + q * LANES);
    for (int i = 0; i < n; i++)
#pragma GCC unroll 4
      for (int q = 0; q < 4; q++)
        sum[q] = fused(splat<Vec>(inputs[i]), load<Vec>(weights + i * width + j + q * LANES), sum[q]);
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) store(hidden + j + q * LANES, sum[q]);
  }
  for (; j < width; j += LANES) {
    Vec sum = load<Vec>(base + j);
    for (int i = 0; i < n; i++) sum = fused(splat<Vec>(inputs[i]), load<Vec>(weights + i * width + j), sum);
    store(hidden + j, sum);
  }
}

void prepare_ray(Batch& batch, int ray, const float d[3]) {
  start_vector(batch, batch.ray_base, d, batch.ray_hidden + (size_t)ray * batch.packed.hidden_1);
}

void run_lookups(Batch& batch) {
  const PackedField& packed = batch.packed;
  for (int first = 0; first < batch.n_lookups; first += LANES) {
    Vec p[3] = {load<Vec>(batch.p[0] + first), load<Vec>(batch.p[1] + first), load<Vec>(batch.p[2] + first)};
    Lanes lanes = locate_lanes(packed, p);
    int n = batch.n_lookups - first < LANES ? batch.n_lookups - first : LANES;
    add_products(packed, batch.lookup, lanes, n, batch.taps, batch.lookup_weight + first, [&](int i) {
      return batch.products + (size_t)batch.lookup_row[first + i] * packed.field.n_appearance;
    });
    for (int i = 0; batch.feedback && i < n; i++) note_read(packed, lanes, i, *batch.feedback);
  }
  batch.n_lookups = 0;
}

// Runs a layer of the decoder on n rows. SPARSE: it takes the output of a relu.
template <bool RELU, bool SPARSE>
static void run_decoder_layer(Batch& batch, const DecoderLayer& layer, int n, const float* in, int in_stride,
                              const float* const* start, float* out, int out_stride) {
  auto run = [&](const auto& layer, const auto* in, int in_stride) {
    if constexpr (SPARSE) run_sparse_layer<RELU>(layer, n, in, in_stride, start, out, out_stride, batch.active);
    else run_layer<RELU>(layer, n, in, in_stride, start, out, out_stride);
  };
#if LV_BF16
  if (batch.pairs) {
    round_to_pairs(in, (size_t)n * in_stride, batch.pairs);
    return run(layer.pairs, batch.pairs, in_stride / 2);
  }
#endif
  run(layer, in, in_stride);
}

// Output of the first layer for n decoder rows, from the products that they gathered.
static void run_rows(Batch& batch, int n) {
  const PackedField& packed = batch.packed;
  const int padded = round_up(n, ROWS), n_products = packed.field.n_appearance;
  for (int r = n; r < padded; r++) batch.starts[r] = batch.feature_starts[r] = packed.zeros;
  run_decoder_layer<false, false>(batch, packed.basis, padded, batch.products, n_products, batch.feature_starts,
                                  batch.encoded, packed.encoded);
  for (int r = 0; r < padded; r++) {
    float* row = batch.encoded + (size_t)r * packed.encoded;
    if (r < n && batch.scale[r] != 1.0f)
      for (int i = 0; i < packed.feature; i += LANES) store(row + i, load<Vec>(row + i) * batch.scale[r]);
    encode_row(packed, row);
  }
  run_decoder_layer<true, false>(batch, packed.layer_1, padded, batch.encoded, packed.encoded, batch.starts,
                                 batch.hidden_1, packed.hidden_1);
}

void color_rows(Batch& batch, int n, float (*rgb)[3]) {
  const PackedField& packed = batch.packed;
  const int padded = round_up(n, ROWS);
  const float* bias_2[BATCH];
  for (int r = 0; r < padded; r++) bias_2[r] = packed.bias_2;
  run_decoder_layer<true, true>(batch, packed.layer_2, padded, batch.hidden_1, packed.hidden_1, bias_2, batch.hidden_2,
                                packed.hidden_2);
  float logits[3 * BATCH + LANES];
  for (int r = 0; r < n; r++) {
    const float* hidden = batch.hidden_2 + (size_t)r * packed.hidden_2;
    for (int c = 0; c < 3; c++) {
      Vec sum = {};
      for (int j = 0; j < packed.hidden_2; j += LANES)
        sum = fused(load<Vec>(hidden + j), load<Vec>(packed.weight_3 + c * packed.hidden_2 + j), sum);
      logits[3 * r + c] = sum_of(sum) + packed.field.bias_3[c];
    }
  }
  for (int i = 3 * n; i < 3 * BATCH + LANES; i++) logits[i] = 0.0f;
  for (int i = 0; i < 3 * n; i += LANES) {
    Vec color = 1.0f / (exp_of(-load<Vec>(logits + i)) + 1.0f);
    memcpy((float*)rgb + i, &color, sizeof(float) * (3 * n - i < LANES ? 3 * n - i : LANES));
  }
}

void flush_rows(Batch& batch, Composite* sums) {
  float rgb[BATCH][3];
  run_lookups(batch);
  run_rows(batch, batch.n_rows);
  color_rows(batch, batch.n_rows, rgb);
  for (int r = 0; r < batch.n_rows; r++)
    for (int c = 0; c < 3; c++) sums[batch.ray[r]].rgb[c] += batch.color_weight[r] * rgb[r][c];
  batch.n_rows = 0;
  batch.last.ray = -1;
}

void drop_rows(Batch& batch) {
  batch.n_rows = batch.n_lookups = 0;
  batch.last.ray = -1;
}

int begin_row(Batch& batch, int ray, Composite* sums) {
  if (batch.n_rows == BATCH) flush_rows(batch, sums);
  const PackedField& packed = batch.packed;
  int row = batch.n_rows++;
  batch.ray[row] = ray;
  batch.starts[row] = batch.ray_hidden + (size_t)ray * packed.hidden_1;
  batch.feature_starts[row] = packed.zeros;
  batch.scale[row] = 1.0f;
  batch.color_weight[row] = 0.0f;
  memset(batch.products + (size_t)row * packed.field.n_appearance, 0, packed.field.n_appearance * sizeof(float));
  return row;
}
