// LandMark's colour network for one sample. Direction, its encoding, latent and bias enter the first layer linearly, so
// their share is computed once per ray.
#pragma once
#include "abi.h"
#include "arithmetic.h"

// Inputs of the first layer: feature, latent, direction, PE(feature), PE(direction).
struct InputLayout {
  int latent, direction, feature_pe, direction_pe, n;
};

LV_HD InputLayout input_layout(const LvField& field) {
  InputLayout layout;
  layout.latent = field.feature_dim;
  layout.direction = layout.latent + field.latent_dim;
  layout.feature_pe = layout.direction + (field.view_pe > -1 ? 3 : 0);
  layout.direction_pe = layout.feature_pe + (field.feature_pe > 0 ? 2 * field.feature_dim * field.feature_pe : 0);
  layout.n = layout.direction_pe + (field.view_pe > 0 ? 6 * field.view_pe : 0);
  return layout;
}

// Adds value * (column `input` of the first layer) to hidden [hidden_1].
LV_HD void add_input(const LvField& field, int n_inputs, int input, float value, float* hidden) {
  for (int j = 0; j < field.hidden_1; j++)
    hidden[j] = fmaf(field.weight_1[(int64_t)j * n_inputs + input], value, hidden[j]);
}

// Adds the encoding [sin(v 2^k), cos(v 2^k)], entry-major, of n values that starts at input `first`.
LV_HD void add_encoding(const LvField& field, int n_inputs, int first, int n, int n_frequencies, const float* values,
                        float* hidden) {
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < n_frequencies; k++) {
      float angle = ldexpf(values[i], k);
      add_input(field, n_inputs, first + i * n_frequencies + k, sinf(angle), hidden);
      add_input(field, n_inputs, first + (n + i) * n_frequencies + k, cosf(angle), hidden);
    }
  }
}

// The share of the first layer that is the same for all samples of a ray. hidden: [hidden_1]
LV_HD void ray_inputs(const LvField& field, const float* latent, const float d[3], float* hidden) {
  InputLayout layout = input_layout(field);
  for (int j = 0; j < field.hidden_1; j++) hidden[j] = field.bias_1[j];
  for (int i = 0; i < field.latent_dim; i++) add_input(field, layout.n, layout.latent + i, latent[i], hidden);
  if (field.view_pe > -1)
    for (int i = 0; i < 3; i++) add_input(field, layout.n, layout.direction + i, d[i], hidden);
  if (field.view_pe > 0) add_encoding(field, layout.n, layout.direction_pe, 3, field.view_pe, d, hidden);
}

// Decodes one feature. ray_hidden: from ray_inputs; hidden: scratch [hidden_1].
LV_HD void decode(const LvField& field, const float* ray_hidden, const float* feature, float* hidden, float rgb[3]) {
  InputLayout layout = input_layout(field);
  for (int j = 0; j < field.hidden_1; j++) hidden[j] = ray_hidden[j];
  for (int i = 0; i < field.feature_dim; i++) add_input(field, layout.n, i, feature[i], hidden);
  if (field.feature_pe > 0)
    add_encoding(field, layout.n, layout.feature_pe, field.feature_dim, field.feature_pe, feature, hidden);
  float sum[3] = {field.bias_3[0], field.bias_3[1], field.bias_3[2]};
  for (int j = 0; j < field.hidden_2; j++) {
    const float* weights = field.weight_2 + (int64_t)j * field.hidden_1;
    float value = field.bias_2[j];
    for (int i = 0; i < field.hidden_1; i++) value = fmaf(weights[i], max_of(hidden[i], 0.0f), value);
    value = max_of(value, 0.0f);
    for (int c = 0; c < 3; c++) sum[c] = fmaf(field.weight_3[c * field.hidden_2 + j], value, sum[c]);
  }
  for (int c = 0; c < 3; c++) rgb[c] = 1.0f / (1.0f + expf(-sum[c]));
}
