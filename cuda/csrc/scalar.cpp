// The picture ray by ray with the code that the GPU runs: what the SIMD code is compared with.
#include <vector>

#define LV_HD static inline  // speed is not asked for, and inlining everything takes long
#include "render_ray.h"
#include "seen.h"

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
