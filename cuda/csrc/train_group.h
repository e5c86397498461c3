// The way of a group of rays through the step, chunk by chunk.
#pragma once
#include "train_loss.h"

// Memory of one thread.
struct GroupScratch {
  Samples samples;
  Placed placed;
  Rows rows;
  RayShare share;
  Buffer<TapLanes> taps;
  Buffer<float> by_weight;
  Buffer<int> first;  // sample of each ray of the chunk, and the end
};

struct BatchOutput {
  float *rgb, *latent;  // predictions [n_rays][3], gradients of the latents [n_rays][latent_dim]
};

// Samples of the rays from `first` on until there is enough for the decoder. Returns the ray after the last.
static int march_chunk(const TrainJob& job, int first, int end, GroupScratch& scratch, Group& group) {
  Samples& samples = scratch.samples;
  Rows& rows = scratch.rows;
  samples.n = 0;
  samples.reserve(0);
  rows.sample.shorten(0);
  rows.ray.shorten(0);
  scratch.first.shorten(0);
  int ray = first;
  for (; ray < end && rows.sample.size() < CHUNK_ROWS; ray++) {
    scratch.first.push(samples.n);
    place_ray(job, ray, scratch.placed);
    weigh_ray(job, scratch.placed, scratch.taps.data(), samples);
    for (int i = scratch.first[ray - first]; i < samples.n; i++) {
      samples.row[i] = -1;
      if (!(samples.weight[i] > job.options.weight_threshold)) continue;
      samples.row[i] = (int32_t)rows.sample.size();
      rows.sample.push(i);
      rows.ray.push(ray - first);
    }
    group.n_inside += scratch.placed.n;
  }
  scratch.first.push(samples.n);
  rows.n = (int)rows.sample.size();
  group.n_dense += samples.n;
  group.n_shaded += rows.n;
  return ray;
}

// Keeps the points of a chunk for the planes.
static void keep_points(const Samples& samples, const Rows& rows, Group& group) {
  auto add = [&](Points& points, int i) {
    const float at[3] = {samples.c[0][i], samples.c[1][i], samples.c[2][i]};
    points.add(at, samples.table[i]);
  };
  for (int i = 0; i < samples.n; i++) {
    if (samples.gradient[i] == 0.0f) continue;
    add(group.density, i);
    group.density.scale.push(samples.gradient[i]);
  }
  for (int r = 0; r < rows.n; r++) add(group.appearance, rows.sample[r]);
}

template <int DENSITY, int APPEARANCE>
static void run_group(const TrainJob& job, int number, GroupScratch& scratch, Group& group, const BatchOutput& output) {
  const PackedField& packed = job.packed;
  group.clear(job.sums.n);
  scratch.taps.reset(packed.n_tables);
  float* sums = group.sums.data();
  const int last = (number + 1) * job.group_rays, end = last < job.batch.n_rays ? last : job.batch.n_rays;
  for (int ray = number * job.group_rays; ray < end;) {
    Samples& samples = scratch.samples;
    Rows& rows = scratch.rows;
    const int next = march_chunk(job, ray, end, scratch, group), n_rays = next - ray;
    reserve_rows(job, rows);
    ray_forward(job, ray, n_rays, scratch.share);
    appearance_forward<APPEARANCE>(job, samples, rows.sample.data(), rows.n, rows.taps.data(), rows.planes.data(),
                                   rows.products.data());
    decode_forward(job, scratch.share, rows);
    scratch.by_weight.reset(samples.n);
    for (int r = 0; r < n_rays; r++)
      ray_loss(job, ray + r, scratch.first[r], scratch.first[r + 1], samples, rows, scratch.by_weight.data(),
               output.rgb + 3 * (size_t)(ray + r), group);
    memset(scratch.share.hidden.data(), 0, scratch.share.hidden.size() * sizeof(float));
    decode_backward<APPEARANCE>(job, samples, rows, scratch.share, sums,
                                group.values.append((size_t)rows.n * packed.field.n_appearance));
    ray_backward(job, ray, n_rays, scratch.share, sums, output.latent);
    density_backward<DENSITY>(job, samples, scratch.taps.data(), sums);
    keep_points(samples, rows, group);
    ray = next;
  }
}

typedef void (*RunGroup)(const TrainJob&, int, GroupScratch&, Group&, const BatchOutput&);

// The kernel for the channels of a field; common pairs are compiled for their widths.
static RunGroup choose_group(const PackedField& packed) {
  const int n = packed.n_blocks * packed.n_tables;
  const int density = common_channels(packed.field.density, n);
  const int appearance = common_channels(packed.field.appearance, n);
  if (density == 8 && appearance == 24) return run_group<8, 24>;
  if (density == 16 && appearance == 48) return run_group<16, 48>;
  return run_group<0, 0>;
}
