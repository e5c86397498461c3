// The host library's C entry points: preparing a field, rendering with threads, probing single points.
#include <atomic>
#include <thread>
#include <vector>

#include "simd.h"

#include "nerf.h"
#include "render_ray.h"

#define LV_EXPORT extern "C" __attribute__((visibility("default")))

// Number of the entry points' agreement, sizes of the structs, and whether products are rounded before they are added.
LV_EXPORT int lv_abi(int32_t* sizes) {
  const int32_t all[] = {LV_ABI,          (int32_t)sizeof(LvTable),   (int32_t)sizeof(LvMask), sizeof(LvNerf),
                         sizeof(LvField), (int32_t)sizeof(LvView),    (int32_t)sizeof(LvOptions),
                         sizeof(LvBuffers), (int32_t)sizeof(LvControl)};
  memcpy(sizes, all, sizeof all);
  volatile float a = 1.0f + 0x1p-12f, b = -(1.0f + 0x1p-11f);
  float x = a, y = b;
  return add_rn(mul_rn(x, x), y) == 0.0f;
}

// Fills any, all and distance of a mask from its vertices.
LV_EXPORT void lv_build_mask(const LvMask* mask, uint64_t* any, uint64_t* all, uint8_t* distance) {
  const int *n = mask->n, *bricks = mask->bricks;
  const int64_t n_bricks = (int64_t)bricks[0] * bricks[1] * bricks[2];
  for (int64_t i = 0; i < n_bricks; i++) any[i] = 0, all[i] = ~0ull;
  auto set_row = [&](int z, int y) {
    for (int x = 0; x <= n[0]; x++) {
      int cell[3] = {x, y, z}, set = 0;
      for (int c = 0; c < 8; c++) {
        int at[3] = {x - 1 + (c & 1), y - 1 + (c >> 1 & 1), z - 1 + (c >> 2)};
        bool inside = true;
        for (int i = 0; i < 3; i++) inside = inside && at[i] >= 0 && at[i] < n[i];
        set += inside && mask->nodes[((int64_t)at[2] * n[1] + at[1]) * n[0] + at[0]];
      }
      uint64_t bit = 1ull << bit_of(cell);
      if (set) any[brick_of(*mask, cell)] |= bit;
      if (set < 8) all[brick_of(*mask, cell)] &= ~bit;
    }
  };
  for (int z = 0; z <= n[2]; z++)
    for (int y = 0; y <= n[1]; y++) set_row(z, y);
  for (int64_t i = 0; i < n_bricks; i++) distance[i] = any[i] ? 0 : 255;
  // Chessboard distance: one sweep each way over the 13 neighbours before and after.
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

// The field must outlive what is returned, apart from its decoder, which is copied.
LV_EXPORT void* lv_prepare(const LvField* field) { return pack_field(*field); }

LV_EXPORT void lv_release(void* packed) { delete (PackedField*)packed; }

// Tiles are handed out in order; returns 1 if all were rendered.
LV_EXPORT int lv_render(const void* prepared, const LvView* view, const LvOptions* options, const LvBuffers* buffers,
                        const LvControl* control) {
  const PackedField& packed = *(const PackedField*)prepared;
  Memory memory;
  float* ray_base = memory.take<float>(packed.hidden_1);
  memcpy(ray_base, packed.bias_1, packed.hidden_1 * sizeof(float));
  for (int i = 0; i < packed.field.latent_dim; i++)
    for (int j = 0; j < packed.hidden_1; j++)
      ray_base[j] += options->latent[i] * packed.ray_weights[(size_t)i * packed.hidden_1 + j];
  const TileJob job = {packed, *options, *view, *buffers, control->cancel};
  std::atomic<int> next{0}, finished{0};
  auto work = [&]() {
    Batch* batch = new Batch(packed, ray_base);
    NerfBatch* nerf = options->nerf && packed.field.nerf ? new NerfBatch(packed, *options) : 0;
    for (int i = next++; i < control->n_tiles && !*control->cancel; i = next++) {
      const int tile = control->order[i];
      if (!(nerf ? render_nerf_tile(job, *batch, *nerf, tile) : render_tile(job, *batch, tile))) break;
      __atomic_store_n(control->tile_done + control->order[i], (uint8_t)1, __ATOMIC_RELEASE);
      __atomic_fetch_add(control->done_count, 1, __ATOMIC_RELEASE);
      finished++;
    }
    delete nerf;
    delete batch;
  };
  std::vector<std::thread> threads;
  for (int i = 1; i < options->threads; i++) threads.emplace_back(work);
  work();
  for (std::thread& thread : threads) thread.join();
  return finished == control->n_tiles;
}

// The same picture ray by ray with the code that the GPU runs.
LV_EXPORT void lv_render_scalar(const LvField* field, const LvView* view, const LvOptions* options,
                                const LvBuffers* buffers) {
  std::vector<float> memory(field->feature_dim + 2 * field->hidden_1);
  Scratch scratch = {memory.data(), memory.data() + field->feature_dim,
                     memory.data() + field->feature_dim + field->hidden_1};
  for (int row = 0; row < view->height; row++) {
    for (int column = 0; column < view->width; column++) {
      Ray ray = start_ray(*field, *options, *view, column, row);
      Composite sum = render_ray(*field, *options, ray, scratch);
      int64_t pixel = (int64_t)row * view->width + column;
      write_pixel(*options, *buffers, pixel, sum);
      if (buffers->normals)
        density_normal(*field, ray, sum.median_depth, options->step, buffers->normals + 3 * pixel);
    }
  }
}

// Density feature, sigma and appearance feature at points [n][3]; any output may be 0.
LV_EXPORT void lv_query(const LvField* field, int64_t n, const float* points, float* feature, float* sigma,
                        float* appearance) {
  for (int64_t i = 0; i < n; i++) {
    Located at = locate(*field, points + 3 * i);
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

// Colours [n][3] of appearance features [n][feature_dim] seen along directions [n][3].
LV_EXPORT void lv_decode(const LvField* field, const float* latent, int64_t n, const float* features,
                         const float* directions, float* rgb) {
  std::vector<float> ray_hidden(field->hidden_1), hidden(field->hidden_1);
  for (int64_t i = 0; i < n; i++) {
    ray_inputs(*field, latent, directions + 3 * i, ray_hidden.data());
    decode(*field, ray_hidden.data(), features + i * field->feature_dim, hidden.data(), rgb + 3 * i);
  }
}
