// What crosses the border between Python and the training step, beside the field and the options of abi.h.
//
// Of LvOptions the step reads n, threads, use_mask, near, far, step, distance_scale, both thresholds and background.
#pragma once
#include "abi.h"

// What is written of one LvTable: gradients, and the plane itself if it is updated in place.
struct LvTrainTable {
  float *plane, *moment_1, *moment_2;  // [n_v][n_u][channels]; no moments without an update
  float* plane_gradient;               // same; 0 with an update
  float* line_gradient;                // [n_w][channels]
  int32_t n_channels, padding;         // channels that are not padding
};

// Adam over data, total variation and L1 gradients.
struct LvUpdate {
  int32_t is_on;
  float step_size;     // learning rate / (1 - beta1^t)
  float inverse_root;  // 1 / sqrt(1 - beta2^t)
  float beta_1, beta_2, epsilon;
  float tv_density, tv_appearance, l1_density;
};

struct LvBatch {
  int32_t n_rays;
  float distortion_weight;
  const float *origins, *directions, *rgb;  // [n_rays][3]
  const float* jitter;                      // [n_rays]
  const int32_t* codes;                     // [n_rays], or 0
  const float* embedding;                   // [n_codes][latent_dim], or 0
};

// Gradients in the layout of LvField's weights; sums over the batch.
struct LvTrainOutput {
  float* rgb;  // predictions [n_rays][3]
  float *basis, *density_basis;
  float *weight_1, *weight_2, *weight_3, *bias_1, *bias_2, *bias_3;
  float* embedding;  // [n_codes][latent_dim], zeroed
  double loss, distortion;
  int64_t n_inside, n_dense, n_shaded;
};
