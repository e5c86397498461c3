// From rays to weighted samples: where they lie, which count, their density, and how much of each is seen.
#pragma once
#include "occupancy_lanes.h"
#include "train_job.h"

// Samples of positive density of a chunk of rays, ray by ray.
struct Samples {
  int n;
  Buffer<float> c[3];          // position in [-1, 1] of the block
  Buffer<int32_t> table;       // index of the first table of the block
  Buffer<float> delta, mid;    // distance to the next sample, z-depth half way there
  Buffer<float> decay;         // exp(-sigma * delta)
  Buffer<float> slope;         // d(sigma) / d(feature)
  Buffer<float> passed, weight;  // transmittance in front, weight
  Buffer<float> gradient;      // of the feature
  Buffer<int32_t> row;         // of the decoder; -1: not shaded

  // Makes room for `more` samples, and LANES behind them.
  void reserve(int more) {
    const size_t size = n + more + LANES;
    for (Buffer<float>* buffer :
         {&c[0], &c[1], &c[2], &delta, &mid, &decay, &slope, &passed, &weight, &gradient})
      keep(*buffer, size);
    keep(table, size);
    keep(row, size);
  }

 private:
  template <class T>
  void keep(Buffer<T>& buffer, size_t size) {
    buffer.shorten(n);
    buffer.append(size - n);
  }
};

// Samples of one ray inside box and mask.
struct Placed {
  int n;
  Buffer<float> delta, mid, p[3];
};

// A ray whose t_first has the jitter in it, which is right up to the rounding: good for finding what may be left out.
static Ray train_ray(const TrainJob& job, int number, float& entry) {
  const LvOptions& options = job.options;
  Ray ray;
  for (int i = 0; i < 3; i++) {
    ray.o[i] = job.batch.origins[3 * number + i];
    ray.d[i] = job.batch.directions[3 * number + i];
  }
  entry = clamp(box_entry(job.packed.field, ray), options.near, options.far);
  ray.t_first = ray.t_last = entry + options.step * job.batch.jitter[number];
  ray.spacing = options.step;
  ray.begin = 0;
  ray.end = options.n;
  clip_to_box(ray, job.packed.field.low, job.packed.field.high);
  if (options.use_mask) clip_to_mask(job.packed.field.mask, ray);
  return ray;
}

// First sample from k on that may count.
static int next_occupied(const TrainJob& job, const Ray& ray, const float slope[3], int k) {
  const LvMask& mask = job.packed.field.mask;
  while (k < ray.end) {
    const float t = box_distance(ray, job.options.step, (float)k);
    float at[3];
    for (int i = 0; i < 3; i++) at[i] = mask_coordinate(mask, i, sample_position(ray, i, t));
    const int empty = empty_samples(mask, ray, at, slope);
    if (!empty) break;
    k += empty;
  }
  return k;
}

// Finds the samples of a ray that lie inside box and mask, every operation rounded on its own.
static void place_ray(const TrainJob& job, int number, Placed& placed) {
  const LvOptions& options = job.options;
  const LvField& field = job.packed.field;
  const float jitter = job.batch.jitter[number];
  float entry, slope[3] = {0.0f, 0.0f, 0.0f};
  Ray ray = train_ray(job, number, entry);
  if (options.use_mask) mask_slopes(field.mask, ray, slope);
  const size_t room = (ray.end > ray.begin ? ray.end - ray.begin : 0) + 2 * LANES;
  for (Buffer<float>* buffer : {&placed.delta, &placed.mid, &placed.p[0], &placed.p[1], &placed.p[2]})
    buffer->reset(room);
  placed.n = 0;
  bool look_ahead = options.use_mask;
  for (int k = ray.begin; k < ray.end; k += LANES) {
    if (look_ahead) k = next_occupied(job, ray, slope, k);
    if (k >= ray.end) break;
    const Vec number_of = first_lanes() + (float)k;
    auto distance = [&](Vec n) { return add_rn(splat<Vec>(entry), mul_rn(splat<Vec>(options.step), n)); };
    const Vec following = min_of(number_of + 1.0f, splat<Vec>((float)(options.n - 1)));  // the last has no length
    const Vec t = distance(number_of + jitter), next = distance(following + jitter);
    Vec p[3];
    IntVec inside = number_of < (float)ray.end;
    for (int i = 0; i < 3; i++) {
      p[i] = sample_position(ray, i, t);
      inside = inside & (p[i] >= field.low[i]) & (p[i] <= field.high[i]);
    }
    uint32_t kept = bits_of(inside);
    if (options.use_mask && kept) kept = occupied_lanes(field.mask, options.mask_threshold, p, kept);
    look_ahead = !kept && options.use_mask;
    append_lanes(placed.delta.data() + placed.n, sub_rn(next, t), kept);
    append_lanes(placed.mid.data() + placed.n, (t + next) * 0.5f, kept);
    for (int i = 0; i < 3; i++) append_lanes(placed.p[i].data() + placed.n, p[i], kept);
    placed.n += __builtin_popcount(kept);
  }
}

// Derivative of the activation after the feature.
LV_HD Vec activation_slope(const LvField& field, const Lanes& lanes, Vec feature) {
  Vec slope = splat<Vec>(1.0f);
  if (field.activation == LV_SOFTPLUS) {
    const Vec shifted = (field.nonlinear ? max_of(feature, Vec{}) : feature) + field.density_shift;
    slope = choose(shifted > 20.0f, slope, 1.0f / (exp_of(-shifted) + 1.0f));
  }
  if (field.activation == LV_RELU || field.nonlinear) slope = choose(feature > 0.0f, slope, Vec{});
  return choose(lanes.is_void, Vec{}, slope);
}

// Appends the samples of positive density of one ray, and weighs them.
static void weigh_ray(const TrainJob& job, const Placed& placed, TapLanes* taps, Samples& samples) {
  const LvOptions& options = job.options;
  const LvField& field = job.packed.field;
  const int first = samples.n;
  samples.reserve(placed.n);
  for (int i = 0; i < placed.n; i += LANES) {
    const int n = placed.n - i < LANES ? placed.n - i : LANES;
    const Vec p[3] = {load<Vec>(placed.p[0].data() + i), load<Vec>(placed.p[1].data() + i),
                      load<Vec>(placed.p[2].data() + i)};
    const Lanes lanes = locate_lanes(job.packed, p);
    const Vec feature = density_features(job.packed, job.lookup, lanes, n, taps);
    const Vec sigma = activate_lanes(field, lanes, feature), delta = load<Vec>(placed.delta.data() + i);
    const uint32_t dense = bits_of(sigma > 0.0f) & ((1u << n) - 1);
    for (int axis = 0; axis < 3; axis++) append_lanes(samples.c[axis].data() + samples.n, lanes.c[axis], dense);
    append_lanes(samples.delta.data() + samples.n, delta, dense);
    append_lanes(samples.mid.data() + samples.n, load<Vec>(placed.mid.data() + i), dense);
    append_lanes(samples.decay.data() + samples.n, exp_of(-sigma * mul_rn(delta, splat<Vec>(options.distance_scale))),
                 dense);
    append_lanes(samples.slope.data() + samples.n, activation_slope(field, lanes, feature), dense);
    for (uint32_t left = dense; left; left &= left - 1) samples.table[samples.n++] = lanes.table[__builtin_ctz(left)];
  }
  float passed = 1.0f;
  for (int i = first; i < samples.n; i++) {
    const float alpha = 1.0f - samples.decay[i];
    samples.passed[i] = passed;
    samples.weight[i] = alpha * passed;
    passed *= (1.0f - alpha) + 1e-10f;
  }
}
