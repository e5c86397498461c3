// Given features in batches, seen along given directions in several embeddings: what all embeddings share of the first
// layer is found once.
#pragma once
#include "shading.h"

// Features [n][feature_dim] and directions [n][3], the embeddings' shares of the first layer [n_looks][hidden_1] (from
// latent_share), and their colours [n_looks][n][3].
struct DecodeJob {
  int64_t n;
  int n_looks;
  const float *features, *directions, *looks;
  float* rgb;
};

// Memory of one thread.
struct DecodeBatch {
  Batch batch;
  float *directions, *shared;  // shares of the first layer: of the directions, and of all but the look. [BATCH][hidden_1]

  explicit DecodeBatch(const PackedField& packed) : batch(packed, packed.zeros, false, false) {
    directions = batch.memory.take<float>((size_t)BATCH * packed.hidden_1);
    shared = batch.memory.take<float>((size_t)BATCH * packed.hidden_1);
  }
};

// What the directions of n rows from `first` on add to the first layer; rows alike share it.
static void start_rows(const DecodeJob& job, DecodeBatch& own, int64_t first, int n) {
  Batch& batch = own.batch;
  for (int r = 0; r < round_up(n, ROWS); r++) {
    const float* d = job.directions + 3 * (first + r);
    if (r >= n) {
      batch.starts[r] = batch.packed.zeros;
    } else if (r && !memcmp(d, d - 3, 3 * sizeof(float))) {
      batch.starts[r] = batch.starts[r - 1];
    } else {
      float* start = own.directions + (size_t)r * batch.packed.hidden_1;
      start_vector(batch, batch.ray_base, d, start);
      batch.starts[r] = start;
    }
  }
}

// Decodes up to BATCH features from `first` on in all looks.
static void decode_batch(const DecodeJob& job, DecodeBatch& own, int64_t first) {
  Batch& batch = own.batch;
  const PackedField& packed = batch.packed;
  const int n = (int)(job.n - first < BATCH ? job.n - first : BATCH), padded = round_up(n, ROWS);
  const int n_features = packed.field.feature_dim;
  for (int r = 0; r < padded; r++) {
    float* row = batch.encoded + (size_t)r * packed.encoded;
    memset(row, 0, packed.feature * sizeof(float));
    if (r < n) memcpy(row, job.features + (first + r) * n_features, n_features * sizeof(float));
    encode_row(packed, row);
  }
  start_rows(job, own, first, n);
  run_layer<false>(packed.layer_1, padded, batch.encoded, packed.encoded, batch.starts, own.shared, packed.hidden_1);
  for (int look = 0; look < job.n_looks; look++) {
    const float* share = job.looks + (size_t)look * packed.hidden_1;
    for (int r = 0; r < padded; r++)
      for (int j = 0; j < packed.hidden_1; j += LANES) {
        const size_t i = (size_t)r * packed.hidden_1 + j;
        store(batch.hidden_1 + i, max_of(load<Vec>(own.shared + i) + load<Vec>(share + j), Vec{}));
      }
    color_rows(batch, n, (float(*)[3])(job.rgb + 3 * (look * job.n + first)));
  }
}
