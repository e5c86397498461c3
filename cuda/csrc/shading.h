// The decoder in batches: samples of a tile gather features into rows, full batches go through the layers at once.
#pragma once
#include "compositing.h"
#include "stream_lanes.h"

enum {
  BATCH = 96,                        // decoder rows; a multiple of ROWS
  TILE_RAYS = LV_TILE * LV_TILE,
  MAX_LOOKUPS = 4 * LANES,
};

// What decides the start of a row that does not have its ray's.
struct StartKey {
  int ray, style;   // ray -1: none
  float turned[2];  // the ray's direction as the row's operation turns it, x and y
};

// Memory of one thread.
struct Batch {
  const PackedField& packed;
  const Lookup lookup;
  const float* ray_base;  // first layer's bias and latent share. [hidden_1]
  Memory memory;
  int n_rows, n_lookups;
  float *products, *encoded, *hidden_1, *hidden_2;  // [BATCH][...]
  float* ray_hidden;                                // [TILE_RAYS][hidden_1]
  float *ray_inputs, *angles, *cosines;             // of one ray
  const float *starts[BATCH], *feature_starts[BATCH];  // what the sums of layer_1 and basis begin with
  int ray[BATCH];
  float color_weight[BATCH], scale[BATCH];
  float p[3][MAX_LOOKUPS], lookup_weight[MAX_LOOKUPS];
  int lookup_row[MAX_LOOKUPS];
  Pair* pairs;      // inputs of a layer in bfloat16; 0: the decoder runs in float32. [BATCH][...]
  int32_t* active;  // inputs of the second layer that are not 0. [BATCH / ROWS][hidden_1 + LANES]
  TapLanes* taps;
  Feedback* feedback = 0;  // of a streamed field
  // Edited scenes only.
  Batch* const* sources;  // batches of the edit's other fields
  float *edited_hidden;   // starts of rows that do not have their ray's. [BATCH][hidden_1]
  float *patch_features;  // sums of what patches feed to the decoder. [BATCH][feature]
  StartKey last;          // whose start `last_start` is
  const float* last_start;

  Batch(const PackedField& packed, const float* ray_base, bool edited, bool bfloat16);
};

// The first layer's bias with its share of an embedding. to: [hidden_1]
void latent_share(const PackedField& packed, const float* latent, float* to);

// What a row's first layer begins with: `base` (from latent_share), and what direction and its encoding add to it.
void start_vector(Batch& batch, const float* base, const float d[3], float* hidden);

void prepare_ray(Batch& batch, int ray, const float d[3]);

// Colours of n decoder rows from what their first layer, a whole number of groups, has put out. rgb: [n][3]
void color_rows(Batch& batch, int n, float (*rgb)[3]);

// Decodes all rows and adds their colours to the rays.
void flush_rows(Batch& batch, Composite* sums);

// Forgets all rows.
void drop_rows(Batch& batch);

// Opens a decoder row for a ray of the tile.
int begin_row(Batch& batch, int ray, Composite* sums);

// Features of the queued points, added to their rows.
void run_lookups(Batch& batch);

// Queues a point.
LV_HD void add_lookup(Batch& batch, int row, float x, float y, float z, float weight) {
  if (batch.n_lookups == MAX_LOOKUPS) run_lookups(batch);
  int i = batch.n_lookups++;
  batch.p[0][i] = x;
  batch.p[1][i] = y;
  batch.p[2][i] = z;
  batch.lookup_weight[i] = weight;
  batch.lookup_row[i] = row;
}
