// Front to back compositing of one ray, with LandMark's 1e-10.
#pragma once
#include "abi.h"
#include "arithmetic.h"

#define LV_OPAQUE 1e-6f  // a ray ends when less than this passes: no visible difference

struct Composite {
  float transmittance, opacity, depth, median_depth;
  float rgb[3];
};

LV_HD Composite start_composite() {
  Composite sum = {1.0f, 0.0f, 0.0f, 0.0f, {0.0f, 0.0f, 0.0f}};
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

// Ends a ray early: what still passes is taken as absorbed at t.
LV_HD void close_composite(Composite& sum, float t) {
  sum.opacity += sum.transmittance;
  sum.depth += sum.transmittance * t;
  if (sum.opacity >= 0.5f && sum.median_depth == 0.0f) sum.median_depth = t;
  sum.transmittance = 0.0f;
}

// Background and clamp, written to the pixel.
LV_HD void write_pixel(const LvOptions& options, const LvBuffers& buffers, int64_t pixel, const Composite& sum) {
  for (int c = 0; c < 3; c++)
    buffers.rgb[3 * pixel + c] = clamp(sum.rgb[c] + (1.0f - sum.opacity) * options.background[c], 0.0f, 1.0f);
  buffers.opacity[pixel] = sum.opacity;
  buffers.depth[pixel] = sum.depth;
  buffers.median_depth[pixel] = sum.median_depth;
}
