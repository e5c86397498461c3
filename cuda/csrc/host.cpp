// The host library's C entry points: preparing a field, rendering with threads, probing single points.
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "simd.h"

#include "columns.h"
#include "decode_batch.h"
#include "nerf.h"
#include "render_ray.h"
#include "tight.h"

#define LV_EXPORT extern "C" __attribute__((visibility("default")))

// Number of the entry points' agreement, sizes of the structs, and whether products are rounded before they are added.
LV_EXPORT int lv_abi(int32_t* sizes) {
  const int32_t all[] = {LV_ABI,          (int32_t)sizeof(LvTable),   (int32_t)sizeof(LvMask), sizeof(LvNerf),
                         sizeof(LvField), (int32_t)sizeof(LvView),    (int32_t)sizeof(LvOptions),
                         sizeof(LvBuffers), (int32_t)sizeof(LvControl), (int32_t)sizeof(LvEditOp),
                         sizeof(LvSource), sizeof(LvReach),           (int32_t)sizeof(LvEdits),   sizeof(LvColumns),
                         sizeof(LvMaskPart), sizeof(LvStream), sizeof(LvRays)};
  memcpy(sizes, all, sizeof all);
  volatile float a = 1.0f + 0x1p-12f, b = -(1.0f + 0x1p-11f);
  float x = a, y = b;
  return add_rn(mul_rn(x, x), y) == 0.0f;
}

// Whether LvOptions.bfloat16 makes a difference.
LV_EXPORT int lv_has_bfloat16() { return LV_BF16; }

// Chessboard distance in bricks: one sweep each way over the 13 neighbours before and after.
static void fill_distance(const LvMask& mask, const uint64_t* any, uint8_t* distance) {
  const int* bricks = mask.bricks;
  const int64_t n_bricks = (int64_t)bricks[0] * bricks[1] * bricks[2];
  for (int64_t i = 0; i < n_bricks; i++) distance[i] = any[i] ? 0 : 255;
  for (int sweep = 0; sweep < 2; sweep++) {
    for (int64_t s = 0; s < n_bricks; s++) {
      int64_t i = sweep ? n_bricks - 1 - s : s;
      int x = (int)(i % bricks[0]), y = (int)(i / bricks[0] % bricks[1]), z = (int)(i / bricks[0] / bricks[1]);
      for (int c = 0; c < 13; c++) {
        int sign = sweep ? -1 : 1, o[3] = {sign * (c % 3 - 1), sign * (c / 3 % 3 - 1), sign * (c / 9 - 1)};
        int at[3] = {x + o[0], y + o[1], z + o[2]};
        bool inside = true;
        for (int axis = 0; axis < 3; axis++) inside = inside && at[axis] >= 0 && at[axis] < bricks[axis];
        if (!inside) continue;
        int other = distance[((int64_t)at[2] * bricks[1] + at[1]) * bricks[0] + at[0]] + 1;
        if (other < distance[i]) distance[i] = (uint8_t)other;
      }
    }
  }
}

// Does the same work in several threads at once, one of them the caller's.
template <class Work>
static void run_threads(int n, Work work) {
  std::vector<std::thread> threads;
  for (int i = 1; i < n; i++) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
}

// Fills any, all and, unless it is 0, distance of a mask from its vertices.
LV_EXPORT void lv_build_mask(const LvMask* mask, uint64_t* any, uint64_t* all, uint8_t* distance) {
  const int *n = mask->n, *bricks = mask->bricks;
  const int64_t n_bricks = (int64_t)bricks[0] * bricks[1] * bricks[2];
  for (int64_t i = 0; i < n_bricks; i++) any[i] = 0, all[i] = ~0ull;
  const std::vector<uint8_t> none(n[0]);  // vertices beside the mask
  // Of the four vertices at each x, whether some and every one is set; at x + 1, as 0 and n + 1 lie beside the mask.
  std::vector<uint8_t> some(4 * bricks[0] + 2), every(4 * bricks[0] + 2);
  auto set_row = [&](int z, int y) {
    const uint8_t* row[4];
    for (int c = 0; c < 4; c++) {
      int at_y = y - 1 + (c & 1), at_z = z - 1 + (c >> 1);
      bool inside = at_y >= 0 && at_y < n[1] && at_z >= 0 && at_z < n[2];
      row[c] = inside ? mask->nodes + ((int64_t)at_z * n[1] + at_y) * n[0] : none.data();
    }
    for (int x = 0; x < n[0]; x++) {
      some[x + 1] = (row[0][x] | row[1][x] | row[2][x] | row[3][x]) != 0;
      every[x + 1] = (row[0][x] != 0) & (row[1][x] != 0) & (row[2][x] != 0) & (row[3][x] != 0);
    }
    const int first[3] = {0, y, z}, shift = bit_of(first);
    const int64_t brick = brick_of(*mask, first);
    for (int b = 0; b < bricks[0]; b++) {
      uint64_t has = 0, lacks = 0;
      for (int i = 0; i < 4; i++) {
        const int x = 4 * b + i;
        has |= (uint64_t)(some[x] | some[x + 1]) << i;
        lacks |= (uint64_t)(x <= n[0] && !(every[x] & every[x + 1])) << i;
      }
      any[brick + b] |= has << shift;
      all[brick + b] &= ~(lacks << shift);
    }
  };
  for (int z = 0; z <= n[2]; z++)
    for (int y = 0; y <= n[1]; y++) set_row(z, y);
  if (distance) fill_distance(*mask, any, distance);
}

LV_EXPORT void lv_fill_distance(const LvMask* mask, uint8_t* distance) { fill_distance(*mask, mask->any, distance); }

// Fills any and distance of `room`: cells that `mask` has, whose brick 0 is brick `shift` of the room, and what the set
// cells [n_z][n_y][n_x] of a reach touch. `any` must be 0.
LV_EXPORT void lv_build_room(const LvMask* mask, const LvMask* room, const int32_t* shift, const LvReach* reach,
                             uint64_t* any, uint8_t* distance) {
  for (int z = 0; z < mask->bricks[2]; z++)
    for (int y = 0; y < mask->bricks[1]; y++)
      memcpy(any + ((int64_t)(z + shift[2]) * room->bricks[1] + y + shift[1]) * room->bricks[0] + shift[0],
             mask->any + ((int64_t)z * mask->bricks[1] + y) * mask->bricks[0], mask->bricks[0] * sizeof(uint64_t));
  std::vector<int> first[3], last[3];  // cells of the room that a cell of the reach touches
  for (int axis = 0; axis < 3; axis++) {
    auto cell = [&](int i, float slack) {
      float at = mask_coordinate(*room, axis, reach->low[axis] + (float)i * reach->side[axis]);
      return std::min(std::max((int)floorf(at + slack) + 1, 0), room->n[axis]) >> room->shift;
    };
    for (int i = 0; i < reach->n[axis]; i++) {
      first[axis].push_back(cell(i, -0.01f));
      last[axis].push_back(cell(i + 1, 0.01f));
    }
  }
  const uint8_t* cells = reach->cells;
  for (int k = 0; k < reach->n[2]; k++)
    for (int j = 0; j < reach->n[1]; j++)
      for (int i = 0; i < reach->n[0]; i++)
        if (*cells++)
          for (int z = first[2][k]; z <= last[2][k]; z++)
            for (int y = first[1][j]; y <= last[1][j]; y++)
              for (int x = first[0][i]; x <= last[0][i]; x++) {
                const int cell[3] = {x, y, z};
                any[brick_of(*room, cell)] |= 1ull << bit_of(cell);
              }
  fill_distance(*room, any, distance);
}

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

// The field must outlive what is returned, apart from its decoder, which is copied; or it is that of `like`, a field that
// was prepared before and must outlive what is returned, too.
LV_EXPORT void* lv_prepare(const LvField* field, const void* like) {
  return pack_field(*field, (const PackedField*)like);
}

LV_EXPORT void lv_release(void* packed) { delete (OwnedField*)(PackedField*)packed; }

// A field as one call sees it: of a streamed one with the call's fade.
template <class Field>
struct Seen {
  Field field;
  LvStream stream;

  Seen(const Field& from, const float* fade) : field(from), stream() {
    const LvStream*& its = stream_of(field);
    if (!its) return;
    stream = *its;
    stream.fade = fade;
    its = &stream;
  }
  Seen(const Seen&) = delete;

 private:
  static const LvStream*& stream_of(LvField& field) { return field.stream; }
  static const LvStream*& stream_of(PackedField& packed) { return packed.field.stream; }
};

// Latent shares of all styles of an edit, on the field's decoder, and of its other fields, on theirs.
struct EditShares {
  Memory memory;
  std::vector<const float*> styles, sources;

  EditShares(const PackedField& packed, const LvEdits& edits) {
    auto share = [&](const PackedField& of, const float* latent) {
      float* to = memory.take<float>(of.hidden_1);
      latent_share(of, latent, to);
      return to;
    };
    for (int i = 0; i < edits.n_ops; i++)
      styles.push_back(edits.ops[i].kind == LV_STYLE ? share(packed, edits.ops[i].latent) : 0);
    for (int i = 0; i < edits.n_sources; i++)
      sources.push_back(share(*(const PackedField*)edits.sources[i].packed, edits.sources[i].latent));
  }
};

// Batches of one thread: the field's, and in an edited scene those of the other fields.
struct ThreadBatches {
  std::vector<std::unique_ptr<Batch>> owned;
  std::vector<Batch*> sources;
  Batch batch;

  ThreadBatches(const PackedField& packed, const float* ray_base, const LvOptions& options, const EditShares* shares)
      : batch(packed, ray_base, options.edits != 0, options.bfloat16) {
    const LvEdits* edits = options.edits;
    for (int i = 0; edits && i < edits->n_sources; i++) {
      const PackedField& source = *(const PackedField*)edits->sources[i].packed;
      owned.emplace_back(new Batch(source, shares->sources[i], true, options.bfloat16));
      sources.push_back(owned.back().get());
    }
    batch.sources = sources.data();
  }
};

static void start_feedback(const PackedField& packed, const LvControl& control, Batch& batch, Feedback& feedback) {
  if (!packed.field.stream) return;
  feedback.lacking = control.lacking;
  if (control.needs) feedback.needs.resize(packed.n_blocks);
  batch.feedback = &feedback;
}

// Tiles are handed out in order; returns 1 if all were rendered. Edits are not for the NeRF branch.
LV_EXPORT int lv_render(const void* prepared, const LvView* view, const LvOptions* options, const LvBuffers* buffers,
                        const LvControl* control) {
  const Seen<PackedField> seen(*(const PackedField*)prepared, options->fade);
  const PackedField& packed = seen.field;
  const LvEdits* edits = options->edits;
  Memory memory;
  float* ray_base = memory.take<float>(packed.hidden_1);
  latent_share(packed, options->latent, ray_base);
  std::unique_ptr<EditShares> shares(edits ? new EditShares(packed, *edits) : 0);
  const TileJob job = {packed,        *options,        *view, *buffers,
                       control->rays, control->cancel, edits ? shares->styles.data() : 0};
  const auto render = edits ? render_tile<true> : render_tile<false>;
  const double n_pixels = control->rays ? std::max(control->rays->n, 1) : (double)view->width * view->height;
  std::atomic<int> next{0}, finished{0};
  std::mutex adding;
  auto work = [&]() {
    std::unique_ptr<ThreadBatches> batches(new ThreadBatches(packed, ray_base, *options, shares.get()));
    Feedback feedback;
    start_feedback(packed, *control, batches->batch, feedback);
    NerfBatch* nerf = options->nerf && packed.field.nerf ? new NerfBatch(packed, *options) : 0;
    for (int i = next++; i < control->n_tiles && !*control->cancel; i = next++) {
      const int tile = control->order[i];
      feedback.is_lacking = false;
      if (!(nerf ? render_nerf_tile(job, batches->batch, *nerf, tile) : render(job, batches->batch, tile))) break;
      if (packed.field.stream) control->tile_lacking[tile] = feedback.is_lacking;
      __atomic_store_n(control->tile_done + tile, (uint8_t)1, __ATOMIC_RELEASE);
      __atomic_fetch_add(control->done_count, 1, __ATOMIC_RELEASE);
      finished++;
    }
    delete nerf;
    std::lock_guard<std::mutex> lock(adding);
    for (size_t i = 0; i < feedback.needs.size(); i++)
      control->needs[i] += (float)(feedback.needs[i] / n_pixels);
  };
  run_threads(std::min(options->threads, std::max(control->n_tiles, 1)), work);
  return finished == control->n_tiles;
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

// The same picture ray by ray with the code that the GPU runs.
LV_EXPORT void lv_render_scalar(const LvField* whole, const LvView* view, const LvOptions* options,
                                const LvBuffers* buffers) {
  const Seen<LvField> seen(*whole, options->fade);
  const LvField* field = &seen.field;
  int n_features = field->feature_dim, n_hidden = field->hidden_1;
  for (int i = 0; options->edits && i < options->edits->n_sources; i++) {
    n_features = std::max(n_features, options->edits->sources[i].field->feature_dim);
    n_hidden = std::max(n_hidden, options->edits->sources[i].field->hidden_1);
  }
  std::vector<float> memory(n_features + 2 * n_hidden);
  Scratch scratch = {memory.data(), memory.data() + n_features, memory.data() + n_features + n_hidden};
  for (int row = 0; row < view->height; row++) {
    for (int column = 0; column < view->width; column++) {
      Ray ray = start_ray(*field, *options, *view, column, row);
      Composite sum = options->edits ? render_ray<true>(*field, *options, ray, scratch)
                                     : render_ray<false>(*field, *options, ray, scratch);
      int64_t pixel = (int64_t)row * view->width + column;
      write_pixel(*options, *buffers, pixel, sum);
      if (!buffers->normals) continue;
      float* normal = buffers->normals + 3 * pixel;
      if (options->edits) density_normal<true>(*field, *options, ray, sum.median_depth, normal);
      else density_normal<false>(*field, *options, ray, sum.median_depth, normal);
    }
  }
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
