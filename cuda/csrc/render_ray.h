// One ray from pixel to colour, sample by sample: what the GPU runs per thread and what the host's SIMD is tested with.
#pragma once
#include "compositing.h"
#include "decoder.h"
#include "edits.h"

// Scratch of one ray, for the widest decoder: feature [feature_dim], ray_hidden and hidden [hidden_1].
struct Scratch {
  float *feature, *ray_hidden, *hidden;
};

// Samples that are decoded together: their weight, and for the fast quality the run that awaits its lookup.
struct Cluster {
  float weight;        // of all samples since the last decoding
  float feature_weight;  // of those whose feature has been added
  float run_weight, run_moment;
  int op, style;         // of all samples; edited scenes only
};

LV_HD void clear_cluster(const LvField& field, Cluster& cluster, const Scratch& scratch) {
  cluster.weight = cluster.feature_weight = cluster.run_weight = cluster.run_moment = 0.0f;
  for (int i = 0; i < field.feature_dim; i++) scratch.feature[i] = 0.0f;
}

template <bool EDITED>
LV_HD void look_up(const LvField& field, const LvOptions& options, const Ray& ray, float t, float weight,
                   Cluster& cluster, const Scratch& scratch) {
  float p[3];
  for (int i = 0; i < 3; i++) p[i] = sample_position(ray, i, t);
  cluster.feature_weight += weight;
  if (EDITED && cluster.op >= 0) {
    const LvEditOp& op = options.edits->ops[cluster.op];
    const LvField& own = field_of(*options.edits, field, cluster.op);
    float q[3];
    read_position(op, p, q);
    if (op.kind == LV_PATCH) add_patch_feature(op, own.feature_dim, q, weight, scratch.feature);
    else add_appearance(own, locate(own, q), weight, scratch.feature);
    return;
  }
  add_appearance(field, locate(field, p), weight, scratch.feature);
}

// The first layer's share of direction and embedding, as an operation turns the one and a style changes the other.
LV_HD void edited_inputs(const LvField& field, const LvOptions& options, const float d[3], const Cluster& cluster,
                         float* hidden) {
  const LvEdits& edits = *options.edits;
  const int source = source_of(edits, cluster.op);
  const float* latent = source >= 0 ? edits.sources[source].latent : options.latent;
  if (cluster.style >= 0) latent = edits.ops[cluster.style].latent;
  float turned[3] = {d[0], d[1], d[2]};
  if (is_kind(edits, cluster.op, LV_INSTANCE)) turn_direction(edits.ops[cluster.op], d, turned);
  ray_inputs(field_of(edits, field, cluster.op), latent, turned, hidden);
}

template <bool EDITED>
LV_HD void decode_cluster(const LvField& field, const LvOptions& options, const Ray& ray, Cluster& cluster,
                          const Scratch& scratch, Composite& sum) {
  const LvField& own = EDITED ? field_of(*options.edits, field, cluster.op) : field;
  if (cluster.feature_weight > 0.0f) {
    float rgb[3], scale = 1.0f / cluster.feature_weight;
    for (int i = 0; i < own.feature_dim; i++) scratch.feature[i] *= scale;
    if (EDITED) edited_inputs(field, options, ray.d, cluster, scratch.ray_hidden);
    decode(own, scratch.ray_hidden, scratch.feature, scratch.hidden, rgb);
    for (int c = 0; c < 3; c++) sum.rgb[c] += cluster.weight * rgb[c];
  }
  clear_cluster(own, cluster, scratch);
}

template <bool EDITED>
LV_HD void finish_shading(const LvField& field, const LvOptions& options, const Ray& ray, Cluster& cluster,
                          const Scratch& scratch, Composite& sum) {
  if (options.quality == LV_FAST && cluster.run_weight > 0.0f)
    look_up<EDITED>(field, options, ray, cluster.run_moment / cluster.run_weight, cluster.run_weight, cluster,
                    scratch);
  decode_cluster<EDITED>(field, options, ray, cluster, scratch, sum);
}

// Samples of another owner or style begin a cluster of their own.
LV_HD void enter_cluster(const LvField& field, const LvOptions& options, const Ray& ray, const Owner& owner,
                         Cluster& cluster, const Scratch& scratch, Composite& sum) {
  if (cluster.op == owner.op && cluster.style == owner.style) return;
  finish_shading<true>(field, options, ray, cluster, scratch, sum);
  cluster.op = owner.op;
  cluster.style = owner.style;
  clear_cluster(field_of(*options.edits, field, owner.op), cluster, scratch);
}

// Adds a sample that LandMark would shade.
template <bool EDITED>
LV_HD void shade(const LvField& field, const LvOptions& options, const Ray& ray, float t, float weight,
                 Cluster& cluster, const Scratch& scratch, Composite& sum) {
  if (options.quality == LV_FAST && cluster.weight >= options.cluster_weight)
    finish_shading<EDITED>(field, options, ray, cluster, scratch, sum);
  cluster.weight += weight;
  if (options.quality == LV_FAST) {
    cluster.run_weight += weight;
    cluster.run_moment += weight * t;
    if (cluster.run_weight < options.fast_weight) return;
    look_up<EDITED>(field, options, ray, cluster.run_moment / cluster.run_weight, cluster.run_weight, cluster,
                    scratch);
    cluster.run_weight = cluster.run_moment = 0.0f;
    return;
  }
  look_up<EDITED>(field, options, ray, t, options.quality == LV_EXACT ? 1.0f : weight, cluster, scratch);
  if (options.quality == LV_EXACT || cluster.weight >= options.cluster_weight)
    decode_cluster<EDITED>(field, options, ray, cluster, scratch, sum);
}

// Renders a ray; EDITED: with options.edits.
template <bool EDITED>
LV_HD Composite render_ray(const LvField& field, const LvOptions& options, Ray ray, const Scratch& scratch) {
  const bool is_fast = options.quality == LV_FAST;
  const LvMask& room = EDITED ? options.edits->room : field.mask;  // what decides about jumps
  float slope[3] = {0.0f, 0.0f, 0.0f};
  if (options.use_mask) {
    clip_to_mask(room, ray);
    mask_slopes(room, ray, slope);
  }
  Composite sum = start_composite();
  Cluster cluster;
  cluster.op = cluster.style = -1;
  clear_cluster(field, cluster, scratch);
  if (!EDITED) ray_inputs(field, options.latent, ray.d, scratch.ray_hidden);
  for (int k = ray.begin; k < ray.end; k++) {
    float t = sample_distance(options, ray, k), p[3], at[3];
    for (int i = 0; i < 3; i++) p[i] = sample_position(ray, i, t);
    if (!in_box(field, p)) continue;
    Owner owner;
    if (options.use_mask) {
      for (int i = 0; i < 3; i++) at[i] = mask_coordinate(room, i, p[i]);
      int empty = empty_samples(room, ray, at, slope);
      if (empty) {
        k += empty - 1;
        continue;
      }
    }
    if (EDITED) owner = owner_at(*options.edits, p);
    if (EDITED && owner.op >= 0) {
      if (!edit_counts(field, options, owner)) continue;
    } else if (options.use_mask) {
      if (EDITED || field.stream ? !mask_holds(field, options.mask_threshold, p)
                                 : !is_occupied(field.mask, options.mask_threshold, at))
        continue;
    }
    float length = sample_length(options, t, sample_distance(options, ray, k + 1));
    float sigma = EDITED ? owner_sigma(field, *options.edits, owner) : density(field, locate(field, p));
    float weight = add_sample(sum, 1.0f - expf(-sigma * length), t);
    add_front(sum, weight, t, ray.spacing);
    if (weight > options.weight_threshold) {
      if (EDITED) enter_cluster(field, options, ray, owner, cluster, scratch, sum);
      shade<EDITED>(field, options, ray, t, weight, cluster, scratch, sum);
    }
    if (sum.transmittance < (is_fast ? options.fast_stop : LV_OPAQUE)) {
      if (is_fast) cluster.weight += cluster.weight > 0.0f ? sum.transmittance : 0.0f;
      close_composite(sum, t);
      break;
    }
  }
  finish_shading<EDITED>(field, options, ray, cluster, scratch, sum);
  return sum;
}

// Minus the gradient of the density feature at z-depth t by central differences, unit length; 0 where t is 0.
template <bool EDITED>
LV_HD void density_normal(const LvField& field, const LvOptions& options, const Ray& ray, float t, float normal[3]) {
  float length = 0.0f;
  for (int axis = 0; axis < 3; axis++) {
    float difference = 0.0f;
    for (int side = 0; side < 2; side++) {
      float p[3];
      for (int i = 0; i < 3; i++) {
        float offset = i == axis ? (side ? -options.step : options.step) : 0.0f;
        p[i] = clamp(sample_position(ray, i, t) + offset, field.low[i], field.high[i]);
      }
      float feature = EDITED ? owner_feature(field, *options.edits, owner_at(*options.edits, p))
                             : density_feature(field, locate(field, p));
      difference += side ? -feature : feature;
    }
    normal[axis] = t > 0.0f ? -difference : 0.0f;
    length += normal[axis] * normal[axis];
  }
  float scale = 1.0f / max_of(sqrtf(length), 1e-12f);
  for (int i = 0; i < 3; i++) normal[i] *= scale;
}
