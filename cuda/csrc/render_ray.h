// One ray from pixel to colour, sample by sample: what the GPU runs per thread and what the host's SIMD is tested with.
#pragma once
#include "compositing.h"
#include "decoder.h"
#include "field.h"
#include "occupancy.h"

// Scratch of one ray: feature [feature_dim], ray_hidden and hidden [hidden_1].
struct Scratch {
  float *feature, *ray_hidden, *hidden;
};

// Samples that are decoded together: their weight, and for the fast quality the run that awaits its lookup.
struct Cluster {
  float weight;        // of all samples since the last decoding
  float feature_weight;  // of those whose feature has been added
  float run_weight, run_moment;
};

LV_HD void clear_cluster(const LvField& field, Cluster& cluster, const Scratch& scratch) {
  cluster.weight = cluster.feature_weight = cluster.run_weight = cluster.run_moment = 0.0f;
  for (int i = 0; i < field.feature_dim; i++) scratch.feature[i] = 0.0f;
}

LV_HD void look_up(const LvField& field, const Ray& ray, float t, float weight, Cluster& cluster,
                   const Scratch& scratch) {
  float p[3];
  for (int i = 0; i < 3; i++) p[i] = sample_position(ray, i, t);
  add_appearance(field, locate(field, p), weight, scratch.feature);
  cluster.feature_weight += weight;
}

LV_HD void decode_cluster(const LvField& field, Cluster& cluster, const Scratch& scratch, Composite& sum) {
  if (cluster.feature_weight > 0.0f) {
    float rgb[3], scale = 1.0f / cluster.feature_weight;
    for (int i = 0; i < field.feature_dim; i++) scratch.feature[i] *= scale;
    decode(field, scratch.ray_hidden, scratch.feature, scratch.hidden, rgb);
    for (int c = 0; c < 3; c++) sum.rgb[c] += cluster.weight * rgb[c];
  }
  clear_cluster(field, cluster, scratch);
}

// Adds a sample that LandMark would shade.
LV_HD void shade(const LvField& field, const LvOptions& options, const Ray& ray, float t, float weight,
                 Cluster& cluster, const Scratch& scratch, Composite& sum) {
  cluster.weight += weight;
  if (options.quality == LV_FAST) {
    cluster.run_weight += weight;
    cluster.run_moment += weight * t;
    if (cluster.run_weight < options.fast_weight) return;
    look_up(field, ray, cluster.run_moment / cluster.run_weight, cluster.run_weight, cluster, scratch);
    cluster.run_weight = cluster.run_moment = 0.0f;
    return;
  }
  look_up(field, ray, t, options.quality == LV_EXACT ? 1.0f : weight, cluster, scratch);
  if (options.quality == LV_EXACT || cluster.weight >= options.cluster_weight)
    decode_cluster(field, cluster, scratch, sum);
}

LV_HD void finish_shading(const LvField& field, const LvOptions& options, const Ray& ray, Cluster& cluster,
                          const Scratch& scratch, Composite& sum) {
  if (options.quality == LV_FAST && cluster.run_weight > 0.0f)
    look_up(field, ray, cluster.run_moment / cluster.run_weight, cluster.run_weight, cluster, scratch);
  decode_cluster(field, cluster, scratch, sum);
}

LV_HD bool in_box(const LvField& field, const float p[3]) {
  bool inside = true;
  for (int i = 0; i < 3; i++) inside = inside && p[i] >= field.low[i] && p[i] <= field.high[i];
  return inside;
}

LV_HD Composite render_ray(const LvField& field, const LvOptions& options, Ray ray, const Scratch& scratch) {
  const bool is_fast = options.quality == LV_FAST;
  float slope[3] = {0.0f, 0.0f, 0.0f};
  if (options.use_mask) {
    clip_to_mask(field.mask, ray);
    mask_slopes(field.mask, ray, slope);
  }
  Composite sum = start_composite();
  Cluster cluster;
  clear_cluster(field, cluster, scratch);
  ray_inputs(field, options.latent, ray.d, scratch.ray_hidden);
  for (int k = ray.begin; k < ray.end; k++) {
    float t = sample_distance(options, ray, k), p[3], at[3];
    for (int i = 0; i < 3; i++) p[i] = sample_position(ray, i, t);
    if (!in_box(field, p)) continue;
    if (options.use_mask) {
      for (int i = 0; i < 3; i++) at[i] = mask_coordinate(field.mask, i, p[i]);
      int empty = empty_samples(field.mask, ray, at, slope);
      if (empty) {
        k += empty - 1;
        continue;
      }
      if (!is_occupied(field.mask, options.mask_threshold, at)) continue;
    }
    float length = sample_length(options, t, sample_distance(options, ray, k + 1));
    float weight = add_sample(sum, 1.0f - expf(-density(field, locate(field, p)) * length), t);
    if (weight > options.weight_threshold) shade(field, options, ray, t, weight, cluster, scratch, sum);
    if (sum.transmittance < (is_fast ? options.fast_stop : LV_OPAQUE)) {
      if (is_fast) cluster.weight += cluster.weight > 0.0f ? sum.transmittance : 0.0f;
      close_composite(sum, t);
      break;
    }
  }
  finish_shading(field, options, ray, cluster, scratch, sum);
  return sum;
}

// Minus the gradient of the density feature at z-depth t by central differences, unit length; 0 where t is 0.
LV_HD void density_normal(const LvField& field, const Ray& ray, float t, float spacing, float normal[3]) {
  float length = 0.0f;
  for (int axis = 0; axis < 3; axis++) {
    float difference = 0.0f;
    for (int side = 0; side < 2; side++) {
      float p[3];
      for (int i = 0; i < 3; i++) {
        float offset = i == axis ? (side ? -spacing : spacing) : 0.0f;
        p[i] = clamp(sample_position(ray, i, t) + offset, field.low[i], field.high[i]);
      }
      float feature = density_feature(field, locate(field, p));
      difference += side ? -feature : feature;
    }
    normal[axis] = t > 0.0f ? -difference : 0.0f;
    length += normal[axis] * normal[axis];
  }
  float scale = 1.0f / max_of(sqrtf(length), 1e-12f);
  for (int i = 0; i < 3; i++) normal[i] *= scale;
}
