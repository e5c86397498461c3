// The decoder of a chunk of rays: forward with everything kept, and the whole way back.
#pragma once
#include "train_gemm.h"
#include "train_lookup.h"

// Rows of the decoder of one chunk: the samples that are shaded. Rows are padded to a multiple of ROWS.
struct Rows {
  int n;
  Buffer<int32_t> sample, ray;  // of each row; ray counts from the chunk's first
  Buffer<TapLanes> taps;        // [ceil(n / LANES)][n_tables]
  Buffer<float> planes, products, encoded, hidden_1, hidden_2;  // [padded][...]
  Buffer<float> rgb, rgb_gradient;                              // [padded][3]; of the sum before the sigmoid
  Buffer<float> products_back, encoded_back, hidden_back;       // gradients of a block of rows
  Buffer<int32_t> active;                                       // of run_sparse_layer
  Buffer<const float*> starts;
};

// What is the same along each ray of a chunk.
struct RayShare {
  Buffer<float> inputs, hidden;  // [padded][n_ray_inputs], [padded][hidden_1]; hidden also takes the gradient
  Buffer<float> latent;          // gradient of the latent. [padded][...]
  Buffer<const float*> starts;
};

LV_HD int padded_rows(int n) { return round_up(n, ROWS); }

// Latent, direction and its encoding of one ray, in the order of PackedField::ray_weights.
static void fill_ray_inputs(const TrainJob& job, int number, float* inputs) {
  const LvField& field = job.packed.field;
  const float* d = job.batch.directions + 3 * (size_t)number;
  if (field.latent_dim) {
    const size_t code = job.batch.codes[number];
    memcpy(inputs, job.batch.embedding + code * field.latent_dim, field.latent_dim * sizeof(float));
    inputs += field.latent_dim;
  }
  if (field.view_pe > -1)
    for (int i = 0; i < 3; i++) *inputs++ = d[i];
  const int n = field.view_pe > 0 ? 3 * field.view_pe : 0;
  for (int first = 0; first < n; first += LANES) {
    Vec angles = {}, sine, cosine;
    const int some = n - first < LANES ? n - first : LANES;
    for (int i = 0; i < some; i++)
      angles[i] = d[(first + i) / field.view_pe] * (float)(1u << (first + i) % field.view_pe);
    sincos_of(angles, sine, cosine);
    memcpy(inputs + first, &sine, some * sizeof(float));
    memcpy(inputs + n + first, &cosine, some * sizeof(float));
  }
}

// What the rays first.. first + n add to the first layer.
static void ray_forward(const TrainJob& job, int first, int n, RayShare& share) {
  const PackedField& packed = job.packed;
  const int padded = padded_rows(n), n_inputs = packed.n_ray_inputs;
  memset(share.inputs.reset((size_t)padded * n_inputs), 0, (size_t)padded * n_inputs * sizeof(float));
  share.hidden.reset((size_t)padded * packed.hidden_1);
  share.starts.reset(padded);
  for (int r = 0; r < padded; r++) share.starts[r] = packed.bias_1;
  for (int r = 0; r < n; r++) fill_ray_inputs(job, first + r, share.inputs.data() + (size_t)r * n_inputs);
  run_layer<false>(job.ray_layer, padded, share.inputs.data(), n_inputs, share.starts.data(), share.hidden.data(),
                   packed.hidden_1);
}

static void reserve_rows(const TrainJob& job, Rows& rows) {
  const PackedField& packed = job.packed;
  const size_t padded = padded_rows(rows.n), block = padded < BLOCK_ROWS ? padded : (size_t)BLOCK_ROWS;
  const size_t width = packed.field.n_appearance;
  rows.taps.reset((size_t)(rows.n + LANES - 1) / LANES * packed.n_tables);
  rows.planes.reset(padded * width);
  memset(rows.products.reset(padded * width) + rows.n * width, 0, (padded - rows.n) * width * sizeof(float));
  rows.encoded.reset(padded * packed.encoded);
  rows.hidden_1.reset(padded * packed.hidden_1);
  rows.hidden_2.reset(padded * packed.hidden_2);
  rows.rgb.reset(3 * padded);
  memset(rows.rgb_gradient.reset(3 * padded), 0, 3 * padded * sizeof(float));
  rows.products_back.reset(block * job.basis_back.n_out);
  rows.encoded_back.reset(block * packed.encoded);
  rows.hidden_back.reset(block * packed.hidden_1);
  const int widest = packed.hidden_1 > packed.hidden_2 ? packed.hidden_1 : packed.hidden_2;
  rows.active.reset(block / ROWS * (widest + LANES));
  rows.starts.reset(block);
}

static const float* const* same_start(Rows& rows, int n, const float* start) {
  for (int r = 0; r < n; r++) rows.starts[r] = start;
  return rows.starts.data();
}

// Last layer and sigmoid of n rows. n: a multiple of ROWS
static void color_forward(const PackedField& packed, const float* hidden, int n, float* rgb) {
  for (int r = 0; r < n; r++, hidden += packed.hidden_2) {
    for (int c = 0; c < 3; c++) {
      Vec sum = {};
      for (int j = 0; j < packed.hidden_2; j += LANES)
        sum = fused(load<Vec>(hidden + j), load<Vec>(packed.weight_3 + c * packed.hidden_2 + j), sum);
      rgb[3 * r + c] = sum_of(sum) + packed.field.bias_3[c];
    }
  }
  for (int i = 0; i < 3 * n; i += LANES) {
    const Vec color = 1.0f / (exp_of(-load<Vec>(rgb + i)) + 1.0f);
    memcpy(rgb + i, &color, sizeof(float) * (3 * n - i < LANES ? 3 * n - i : LANES));
  }
}

// Colours of all rows of a chunk.
static void decode_forward(const TrainJob& job, const RayShare& share, Rows& rows) {
  const PackedField& packed = job.packed;
  const int width = packed.field.n_appearance, padded = padded_rows(rows.n);
  for (int first = 0; first < padded; first += BLOCK_ROWS) {
    const int n = padded - first < BLOCK_ROWS ? padded - first : (int)BLOCK_ROWS;
    float* encoded = rows.encoded.data() + (size_t)first * packed.encoded;
    float* hidden_1 = rows.hidden_1.data() + (size_t)first * packed.hidden_1;
    float* hidden_2 = rows.hidden_2.data() + (size_t)first * packed.hidden_2;
    run_layer<false>(packed.basis, n, rows.products.data() + (size_t)first * width, width,
                     same_start(rows, n, job.zeros), encoded, packed.encoded);
    for (int r = 0; r < n; r++) {
      encode_row(packed, encoded + (size_t)r * packed.encoded);
      const bool is_real = first + r < rows.n;
      rows.starts[r] = is_real ? share.hidden.data() + (size_t)rows.ray[first + r] * packed.hidden_1 : job.zeros;
    }
    run_layer<true>(packed.layer_1, n, encoded, packed.encoded, rows.starts.data(), hidden_1, packed.hidden_1);
    run_sparse_layer<true>(packed.layer_2, n, hidden_1, packed.hidden_1, same_start(rows, n, packed.bias_2), hidden_2,
                           packed.hidden_2, rows.active.data());
    color_forward(packed, hidden_2, n, rows.rgb.data() + 3 * (size_t)first);
  }
}

// Last layer: gradients of its weights and of the second bias; hidden becomes its own gradient before the relu.
static void color_backward(const TrainJob& job, int n, const float* gradient, float* hidden, float* sums) {
  const int width = job.packed.hidden_2;
  for (int r = 0; r < n; r++, gradient += 3, hidden += width) {
    for (int j = 0; j < width; j += LANES) {
      const Vec h = load<Vec>(hidden + j);
      Vec back = {};
      for (int c = 0; c < 3; c++) {
        back = fused(splat<Vec>(gradient[c]), load<Vec>(job.packed.weight_3 + c * width + j), back);
        float* to = sums + job.sums.weight_3 + c * width + j;
        store(to, fused(splat<Vec>(gradient[c]), h, load<Vec>(to)));
      }
      back = choose(h > 0.0f, back, Vec{});
      store(hidden + j, back);
      add_to(sums + job.sums.bias_2 + j, back);
    }
    for (int c = 0; c < 3; c++) sums[job.sums.bias_3 + c] += gradient[c];
  }
}

// Gradient of the feature from those of feature, sines and cosines; written to the first group.
LV_HD void encode_backward(const PackedField& packed, const float* row, float* gradient) {
  const int width = packed.feature;
  for (int i = 0; i < width; i += LANES) {
    Vec sum = load<Vec>(gradient + i);
    for (int k = 0; k < packed.field.feature_pe; k++) {
      const int sine = (1 + 2 * k) * width + i, cosine = sine + width;
      const Vec turned = load<Vec>(gradient + sine) * load<Vec>(row + cosine) -
                         load<Vec>(gradient + cosine) * load<Vec>(row + sine);
      sum = fused(turned, splat<Vec>((float)(1u << k)), sum);
    }
    store(gradient + i, sum);
  }
}

// Gradients of all weights and of the products of a chunk's rows. values: gradient of what the planes hold [n][..]
template <int CHANNELS>
static void decode_backward(const TrainJob& job, const Samples& samples, Rows& rows, RayShare& share, float* sums,
                            float* values) {
  const PackedField& packed = job.packed;
  const int width = packed.field.n_appearance, hidden_1 = packed.hidden_1;
  for (int first = 0; first < rows.n; first += BLOCK_ROWS) {
    const int n = rows.n - first < BLOCK_ROWS ? rows.n - first : (int)BLOCK_ROWS, padded = padded_rows(n);
    const float* encoded = rows.encoded.data() + (size_t)first * packed.encoded;
    const float* from = rows.hidden_1.data() + (size_t)first * hidden_1;
    float* back_2 = rows.hidden_2.data() + (size_t)first * packed.hidden_2;
    float* back_1 = rows.hidden_back.data();
    color_backward(job, padded, rows.rgb_gradient.data() + 3 * (size_t)first, back_2, sums);

    add_weight_gradient(n, from, hidden_1, job.in_order.data(), packed.field.hidden_1, back_2, packed.hidden_2,
                        packed.hidden_2, sums + job.sums.weight_2);
    run_sparse_layer<false>(job.layer_2_back, padded, back_2, packed.hidden_2, same_start(rows, padded, job.zeros),
                            back_1, hidden_1, rows.active.data());
    for (int r = 0; r < padded; r++) {
      const bool is_real = r < n;
      float* ray = is_real ? share.hidden.data() + (size_t)rows.ray[first + r] * hidden_1 : 0;
      for (int j = 0; j < hidden_1; j += LANES) {
        float* to = back_1 + (size_t)r * hidden_1 + j;
        const Vec back = choose(load<Vec>(from + (size_t)r * hidden_1 + j) > 0.0f, load<Vec>(to), Vec{});
        store(to, back);
        if (is_real) add_to(ray + j, back);
      }
    }
    add_weight_gradient(n, encoded, packed.encoded, job.encoded.data(), (int)job.encoded.size(), back_1, hidden_1,
                        hidden_1, sums + job.sums.weight_1);
    float* encoded_back = rows.encoded_back.data();
    run_sparse_layer<false>(job.layer_1_back, padded, back_1, hidden_1, same_start(rows, padded, job.zeros),
                            encoded_back, packed.encoded, rows.active.data());
    // The feature's gradient stands at the head of each row of encoded_back.
    for (int r = 0; r < padded; r++)
      encode_backward(packed, encoded + (size_t)r * packed.encoded, encoded_back + (size_t)r * packed.encoded);
    const float* products = rows.products.data() + (size_t)first * width;
    add_weight_gradient(n, products, width, job.in_order.data(), width, encoded_back, packed.feature, packed.encoded,
                        sums + job.sums.basis);
    run_layer<false>(job.basis_back, padded, encoded_back, packed.encoded, same_start(rows, padded, job.zeros),
                     rows.products_back.data(), job.basis_back.n_out);
    appearance_backward<CHANNELS>(job, samples, rows.sample.data() + first, n,
                                  rows.taps.data() + (size_t)first / LANES * packed.n_tables,
                                  rows.planes.data() + (size_t)first * width, rows.products_back.data(),
                                  job.basis_back.n_out, sums, values + (size_t)first * width);
  }
}

// First layer's share of the rays: share.hidden holds its gradient, summed over each ray's rows.
static void ray_backward(const TrainJob& job, int first, int n, RayShare& share, float* sums, float* latent_gradient) {
  const PackedField& packed = job.packed;
  const int width = packed.hidden_1, latent_dim = packed.field.latent_dim, padded = padded_rows(n);
  for (int r = 0; r < n; r++)
    for (int j = 0; j < width; j += LANES)
      add_to(sums + job.sums.bias_1 + j, load<Vec>(share.hidden.data() + (size_t)r * width + j));
  add_weight_gradient(n, share.inputs.data(), packed.n_ray_inputs, job.in_order.data(), packed.n_ray_inputs,
                      share.hidden.data(), width, width, sums + job.sums.ray_weights);
  if (!latent_dim) return;
  const int stride = job.latent_back.n_out;
  share.latent.reset((size_t)padded * stride);
  for (int r = 0; r < padded; r++) share.starts[r] = job.zeros;
  run_layer<false>(job.latent_back, padded, share.hidden.data(), width, share.starts.data(), share.latent.data(),
                   stride);
  for (int r = 0; r < n; r++)
    memcpy(latent_gradient + (size_t)(first + r) * latent_dim, share.latent.data() + (size_t)r * stride,
           latent_dim * sizeof(float));
}
