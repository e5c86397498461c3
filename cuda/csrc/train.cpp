// The host library's training step: one batch of rays forward and back, and the planes updated in place.
#include <algorithm>

#include "simd.h"

#include "train_group.h"
#include "train_planes.h"

enum { BANDS_PER_THREAD = 4 };

// Sizes of the structs of train_abi.h.
LV_EXPORT void lv_train_abi(int32_t* sizes) {
  const int32_t all[] = {sizeof(LvTrainTable), sizeof(LvUpdate), sizeof(LvBatch), sizeof(LvTrainOutput)};
  memcpy(sizes, all, sizeof all);
}

namespace {

// Memory of the thread that calls, from step to step.
struct Workspace {
  std::vector<Group> groups;
  std::vector<GroupScratch> scratch;
  std::vector<Buffer<float>> rows;
  std::vector<Buffer<int32_t>> keys;
  Buffer<float> sums, latent;
  AllPoints density, appearance;
  std::vector<Plane> planes;
};

}  // namespace

// Adds the sums of all groups, in their order.
static const float* add_groups(const TrainJob& job, int threads, Workspace& workspace) {
  const size_t part = 4096;
  float* sums = workspace.sums.reset(job.sums.n);
  parallel(threads, (int)((job.sums.n + part - 1) / part), [&](int, int item) {
    const size_t first = item * part, end = std::min(job.sums.n, first + part);
    memcpy(sums + first, workspace.groups[0].sums.data() + first, (end - first) * sizeof(float));
    for (int g = 1; g < job.n_groups; g++) {
      const float* from = workspace.groups[g].sums.data();
      for (size_t i = first; i < end; i += LANES) add_to(sums + i, load<Vec>(from + i));
    }
  });
  return sums;
}

// Turns [input][padded output] into torch's [output][input].
static void write_transposed(const float* from, int n_in, int stride, int n_out, float* to, int to_stride,
                             const int32_t* to_columns) {
  for (int out = 0; out < n_out; out++)
    for (int i = 0; i < n_in; i++) to[(size_t)out * to_stride + to_columns[i]] = from[(size_t)i * stride + out];
}

static void write_sums(const TrainJob& job, const float* sums, const LvTrainOutput& output) {
  const PackedField& packed = job.packed;
  const LvField& field = packed.field;
  const InputLayout layout = input_layout(field);
  std::vector<int32_t> encoded, ray;  // columns of the first layer
  for (int group = 0; group < packed.layer_1.n_groups; group++)
    for (int i = 0; i < field.feature_dim; i++) encoded.push_back(encoded_input(field, layout, group, i));
  for (int i = layout.latent; i < layout.feature_pe; i++) ray.push_back(i);
  for (int i = layout.direction_pe; i < layout.n; i++) ray.push_back(i);
  write_transposed(sums + job.sums.basis, field.n_appearance, packed.feature, field.feature_dim, output.basis,
                   field.n_appearance, job.in_order.data());
  write_transposed(sums + job.sums.weight_1, (int)encoded.size(), packed.hidden_1, field.hidden_1, output.weight_1,
                   layout.n, encoded.data());
  write_transposed(sums + job.sums.ray_weights, (int)ray.size(), packed.hidden_1, field.hidden_1, output.weight_1,
                   layout.n, ray.data());
  write_transposed(sums + job.sums.weight_2, field.hidden_1, packed.hidden_2, field.hidden_2, output.weight_2,
                   field.hidden_1, job.in_order.data());
  for (int c = 0; c < 3; c++)
    memcpy(output.weight_3 + (size_t)c * field.hidden_2, sums + job.sums.weight_3 + (size_t)c * packed.hidden_2,
           field.hidden_2 * sizeof(float));
  memcpy(output.bias_1, sums + job.sums.bias_1, field.hidden_1 * sizeof(float));
  memcpy(output.bias_2, sums + job.sums.bias_2, field.hidden_2 * sizeof(float));
  memcpy(output.bias_3, sums + job.sums.bias_3, 3 * sizeof(float));
  if (output.density_basis)
    memcpy(output.density_basis, sums + job.sums.density_basis, field.n_density * sizeof(float));
  for (int i = 0; i < packed.n_blocks * packed.n_tables; i++) {
    const LvTable &density = field.density[i], &appearance = field.appearance[i];
    memcpy(job.density[i].line_gradient, sums + job.sums.density_lines[i],
           (size_t)density.n_w * density.channels * sizeof(float));
    memcpy(job.appearance[i].line_gradient, sums + job.sums.appearance_lines[i],
           (size_t)appearance.n_w * appearance.channels * sizeof(float));
  }
}

static void update_planes(UpdateJob& job, int threads, Workspace& workspace) {
  list_planes(job);
  parallel(threads, (int)job.planes.size(), [&](int thread, int item) {
    Plane& plane = job.planes[item];
    plane.n_bands = std::min(plane.n_rows, threads * BANDS_PER_THREAD);
    sort_points(job, plane, workspace.keys[thread]);
    if (job.update.is_on) copy_edges(job.train, plane);
  });
  std::vector<std::pair<int, int>> bands;
  size_t widest = 0;  // floats of two rows and a texel
  for (size_t i = 0; i < job.planes.size(); i++) {
    widest = std::max(widest, (size_t)2 * job.planes[i].width + job.planes[i].channels);
    for (int band = 0; band < job.planes[i].n_bands; band++) bands.push_back({(int)i, band});
  }
  for (Buffer<float>& rows : workspace.rows) memset(rows.reset(widest), 0, widest * sizeof(float));
  parallel(threads, (int)bands.size(), [&](int thread, int item) {
    const Plane& plane = job.planes[bands[item].first];
    const RunBand run = plane.is_density ? band_kernel<true>(plane.channels) : band_kernel<false>(plane.channels);
    run(job, plane, bands[item].second, workspace.rows[thread].data());
  });
}

// One step. density, appearance: [n_blocks * n_tables]
LV_EXPORT void lv_train_step(const void* prepared, const LvOptions* options, const LvBatch* batch,
                             const LvTrainTable* density, const LvTrainTable* appearance, const LvUpdate* update,
                             LvTrainOutput* output) {
  static thread_local Workspace workspace;
  const PackedField& packed = *(const PackedField*)prepared;
  const TrainJob job(packed, *options, *batch, density, appearance);
  const int threads = options->threads, latent_dim = packed.field.latent_dim;
  Workspace& space = workspace;
  if (space.groups.size() < (size_t)job.n_groups) space.groups.resize(job.n_groups);
  if (space.scratch.size() < (size_t)threads) space.scratch.resize(threads);
  if (space.rows.size() < (size_t)threads) space.rows.resize(threads);
  if (space.keys.size() < (size_t)threads) space.keys.resize(threads);

  const BatchOutput by_ray = {output->rgb, space.latent.reset((size_t)batch->n_rays * latent_dim)};
  const RunGroup run = choose_group(packed);
  parallel(threads, job.n_groups,
           [&](int thread, int item) { run(job, item, space.scratch[thread], space.groups[item], by_ray); });

  write_sums(job, add_groups(job, threads, space), *output);
  for (int r = 0; r < batch->n_rays; r++)
    for (int i = 0; i < latent_dim; i++)
      output->embedding[(size_t)batch->codes[r] * latent_dim + i] += by_ray.latent[(size_t)r * latent_dim + i];
  output->loss = output->distortion = 0.0;
  output->n_inside = output->n_dense = output->n_shaded = 0;
  for (int g = 0; g < job.n_groups; g++) {
    const Group& group = space.groups[g];
    output->loss += group.loss / (3.0 * batch->n_rays);
    output->distortion += group.distortion;
    output->n_inside += group.n_inside;
    output->n_dense += group.n_dense;
    output->n_shaded += group.n_shaded;
  }

  collect_points(space.groups, job.n_groups, packed.field.n_appearance, space.density, space.appearance);
  UpdateJob planes = {job, *update, space.density, space.appearance, space.planes};
  update_planes(planes, threads, space);
}
