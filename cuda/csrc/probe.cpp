// The host library's C entry points beside pictures: columns, cells that hold something, single points, colours.
#include <algorithm>
#include <memory>

#include "simd.h"

#include "columns.h"
#include "decode_batch.h"
#include "seen.h"
#include "threads.h"
#include "tight.h"

// Fills `any` with the cells of a mask, all of them if it has none, in which the density reaches least_sigma at a point of
// a lattice that divides every cell `parts` times along each side, an even number. Returns 1 unless it was cancelled.
LV_EXPORT int lv_tight_cells(const void* prepared, const LvMask* mask, float least_sigma, int parts, int threads,
                             const volatile int32_t* cancel, uint64_t* any) {
  const TightJob job = {*(const PackedField*)prepared, *mask, least_sigma, parts, cancel};
  const int n_rows = mask->bricks[1] * mask->bricks[2];
  std::atomic<int> next{0}, finished{0};
  run_threads(std::min(threads, n_rows), [&]() {
    TightLattice lattice(job);
    for (int i = next++; i < n_rows; i = next++)
      finished += tight_row(job, i % mask->bricks[1], i / mask->bricks[1], lattice, any);
  });
  return finished == n_rows;
}

// Seen from straight above; rows of columns are handed to threads.
LV_EXPORT void lv_columns(const void* prepared, const LvOptions* options, const LvColumns* columns) {
  const Seen<PackedField> seen(*(const PackedField*)prepared, options->fade);
  const PackedField& packed = seen.field;
  std::atomic<int> next{0};
  auto work = [&]() {
    ColumnBatch batch(packed, columns->lacking);
    for (int row = next++; row < columns->n_y; row = next++) march_row(packed, *options, *columns, batch, row);
  };
  run_threads(options->threads, work);
}

// Density feature, sigma and appearance feature at points [n][3]; any output may be 0. lacking: of a streamed field, set to
// 1 for stand-ins that were read; or 0.
LV_EXPORT void lv_query(const LvField* field, int64_t n, const float* points, float* feature, float* sigma,
                        float* appearance, uint8_t* lacking) {
  for (int64_t i = 0; i < n; i++) {
    const float* p = points + 3 * i;
    Located at = locate(*field, p);
    if (field->stream && lacking && field->stream->lacks[at.home] && in_plan(*field, p)) lacking[at.home] = 1;
    if (feature) {
      float value = density_feature(*field, at);
      feature[i] = field->nonlinear ? max_of(value, 0.0f) : value;
    }
    if (sigma) sigma[i] = density(*field, at);
    if (!appearance) continue;
    float* to = appearance + i * field->feature_dim;
    for (int f = 0; f < field->feature_dim; f++) to[f] = 0.0f;
    add_appearance(*field, at, 1.0f, to);
  }
}

// Colours [n_looks][n][3] of appearance features [n][feature_dim] seen along directions [n][3] in the embeddings
// [n_looks][latent_dim]; batches of features are handed to threads.
LV_EXPORT void lv_decode(const void* prepared, int threads, int n_looks, const float* latents, int64_t n,
                         const float* features, const float* directions, float* rgb) {
  const PackedField& packed = *(const PackedField*)prepared;
  Memory memory;
  float* looks = memory.take<float>((size_t)n_looks * packed.hidden_1);
  for (int i = 0; i < n_looks; i++)
    latent_share(packed, latents + (size_t)i * packed.field.latent_dim, looks + (size_t)i * packed.hidden_1);
  const DecodeJob job = {n, n_looks, features, directions, looks, rgb};
  const int64_t n_batches = (n + BATCH - 1) / BATCH;
  std::atomic<int64_t> next{0};
  run_threads((int)std::min<int64_t>(threads, n_batches), [&]() {
    std::unique_ptr<DecodeBatch> batch(new DecodeBatch(packed));
    for (int64_t i = next++; i < n_batches; i = next++) decode_batch(job, *batch, i * BATCH);
  });
}
