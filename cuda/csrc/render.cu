// The GPU renderer: one thread renders one ray with the code that the host shares.
#include "render_ray.h"

#define LV_MAX_FEATURE 64  // widest decoder that fits a thread's local memory
#define LV_MAX_HIDDEN 256

// About rays: threads are numbered tile by tile, row by row inside a tile, so that a warp covers 8 x 4 pixels.
// About outputs: every pixel of the tiles in `order` is written once.
template <bool EDITED>
static __device__ __forceinline__ void render_pixel(const LvField& field, const LvView& view, const LvOptions& options,
                                                    const LvBuffers& buffers,
                                                    const int32_t* __restrict__ order,  // [n_tiles]
                                                    int n_tiles) {
  int thread = blockIdx.x * blockDim.x + threadIdx.x, pixel_of_tile = thread % (LV_TILE * LV_TILE);
  if (thread / (LV_TILE * LV_TILE) >= n_tiles) return;
  int tile = order[thread / (LV_TILE * LV_TILE)], columns = (view.width + LV_TILE - 1) / LV_TILE;
  int column = tile % columns * LV_TILE + pixel_of_tile % LV_TILE;
  int row = tile / columns * LV_TILE + pixel_of_tile / LV_TILE;
  if (column >= view.width || row >= view.height) return;
  float feature[LV_MAX_FEATURE], ray_hidden[LV_MAX_HIDDEN], hidden[LV_MAX_HIDDEN];
  Scratch scratch = {feature, ray_hidden, hidden};
  Ray ray = start_ray(field, options, view, column, row);
  Composite sum = render_ray<EDITED>(field, options, ray, scratch);
  int64_t pixel = (int64_t)row * view.width + column;
  write_pixel(options, buffers, pixel, sum);
  if (buffers.normals)
    density_normal<EDITED>(field, options, ray, sum.median_depth, buffers.normals + 3 * pixel);
}

extern "C" __global__ void lv_render(const LvField field, const LvView view, const LvOptions options,
                                     const LvBuffers buffers, const int32_t* __restrict__ order, int n_tiles) {
  render_pixel<false>(field, view, options, buffers, order, n_tiles);
}

// The same with options.edits.
extern "C" __global__ void lv_render_edited(const LvField field, const LvView view, const LvOptions options,
                                            const LvBuffers buffers, const int32_t* __restrict__ order, int n_tiles) {
  render_pixel<true>(field, view, options, buffers, order, n_tiles);
}
