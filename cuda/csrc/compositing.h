// Front to back compositing of one ray, with LandMark's 1e-10.
#pragma once
#include "abi.h"
#include "arithmetic.h"

#define LV_OPAQUE 1e-6f  // a ray ends when less than this passes: no visible difference

struct Composite {
  float transmittance, opacity, depth, median_depth;
  float rgb[3];
  float front_weight, front_moment, front_end;  // of the samples in front of front_end
};

LV_HD Composite start_composite() {
  Composite sum = {1.0f, 0.0f, 0.0f, 0.0f, {0.0f, 0.0f, 0.0f}, 0.0f, 0.0f, 3.4e38f};
  return sum;
}

// Length that a sample at t stands for, the next one being at t_next, in the unit of 1 / sigma.
template <class F>
LV_HD F sample_length(const LvOptions& options, F t, F t_next) {
  return mul_rn(sub_rn(t_next, t), like(t, options.distance_scale));
}

// Adds a sample and returns its weight.
LV_HD float add_sample(Composite& sum, float alpha, float t) {
  float weight = alpha * sum.transmittance;
  sum.transmittance *= (1.0f - alpha) + 1e-10f;
  sum.opacity += weight;
  sum.depth += weight * t;
  if (sum.opacity >= 0.5f && sum.median_depth == 0.0f) sum.median_depth = t;
  return weight;
}

// The front layer begins where the opacity reaches LV_FRONT_FROM and is LV_FRONT_SAMPLES deep; what little lies before it
// counts with it. Its mean depth moves with the object in front, where a pixel holds an edge.
#define LV_FRONT_FROM 0.1f
#define LV_FRONT_SAMPLES 8.0f
#define LV_FRONT_LEAST 0.02f  // opacity below which a pixel shows the background

// Adds a sample of a weight to the front layer, after add_sample.
LV_HD void add_front(Composite& sum, float weight, float t, float spacing) {
  if (t > sum.front_end) return;
  sum.front_weight += weight;
  sum.front_moment += weight * t;
  if (sum.front_end == 3.4e38f && sum.opacity >= LV_FRONT_FROM) sum.front_end = t + LV_FRONT_SAMPLES * spacing;
}

// Ends a ray early: what still passes is taken as absorbed at t.
LV_HD void close_composite(Composite& sum, float t) {
  sum.opacity += sum.transmittance;
  sum.depth += sum.transmittance * t;
  if (sum.opacity >= 0.5f && sum.median_depth == 0.0f) sum.median_depth = t;
  if (t <= sum.front_end) {
    sum.front_weight += sum.transmittance;
    sum.front_moment += sum.transmittance * t;
  }
  sum.transmittance = 0.0f;
}

// Background and clamp, written to the pixel.
LV_HD void write_pixel(const LvOptions& options, const LvBuffers& buffers, int64_t pixel, const Composite& sum) {
  for (int c = 0; c < 3; c++)
    buffers.rgb[3 * pixel + c] = clamp(sum.rgb[c] + (1.0f - sum.opacity) * options.background[c], 0.0f, 1.0f);
  buffers.opacity[pixel] = sum.opacity;
  buffers.depth[pixel] = sum.depth;
  buffers.median_depth[pixel] = sum.median_depth;
  if (!buffers.front) return;
  const bool is_seen = sum.opacity > LV_FRONT_LEAST && sum.front_weight > 0.0f;
  buffers.front[2 * pixel] = is_seen ? sum.front_moment / sum.front_weight : 0.0f;
  buffers.front[2 * pixel + 1] = is_seen ? min_of(sum.front_weight / sum.opacity, 1.0f) : 1.0f;
}
