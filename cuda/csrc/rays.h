// Rays, and where their samples lie: LandMark's two rules, rounded as it rounds them.
#pragma once
#include "abi.h"
#include "arithmetic.h"

struct Ray {
  float o[3], d[3];  // t is z-depth: d is not normalised
  float t_first;     // box: first sample. hull: near bound
  float t_last;      // hull: far end
  float spacing;     // distance between samples; hull: to the rounding
  int begin, end;    // samples outside [begin, end) lie outside the box or have no length
};

LV_HD void ray_through(const LvView& view, int column, int row, float o[3], float d[3]) {
  float x = div_rn(sub_rn((float)column, view.cx), view.fl_x);
  float y = div_rn(-sub_rn((float)row, view.cy), view.fl_y);
  for (int i = 0; i < 3; i++) {
    const float* r = view.c2w + 4 * i;
    d[i] = sub_rn(add_rn(mul_rn(x, r[0]), mul_rn(y, r[1])), r[2]);
    o[i] = r[3];
  }
}

// t of sample k. F is float, or a vector on the host, there of one Ray or of several.
template <class R, class F>
LV_HD F box_distance(const R& ray, float step, F k) {
  return add_rn(like(k, ray.t_first), mul_rn(like(k, step), k));
}

template <class R, class F>
LV_HD F hull_distance(const R& ray, F fraction) {
  F near_part = mul_rn(like(fraction, ray.t_first), sub_rn(like(fraction, 1.0f), fraction));
  return add_rn(near_part, mul_rn(like(fraction, ray.t_last), fraction));
}

LV_HD float sample_distance(const LvOptions& options, const Ray& ray, int k) {
  return options.sampling == LV_HULL ? hull_distance(ray, options.fractions[k])
                                     : box_distance(ray, options.step, (float)k);
}

template <class R, class F>
LV_HD F sample_position(const R& ray, int axis, F t) {
  return add_rn(like(t, ray.o[axis]), mul_rn(like(t, ray.d[axis]), t));
}

// Whether a point lies in the box seen from above.
LV_HD bool in_plan(const LvField& field, const float p[3]) {
  return p[0] >= field.low[0] && p[0] <= field.high[0] && p[1] >= field.low[1] && p[1] <= field.high[1];
}

LV_HD bool in_box(const LvField& field, const float p[3]) {
  bool inside = true;
  for (int i = 0; i < 3; i++) inside = inside && p[i] >= field.low[i] && p[i] <= field.high[i];
  return inside;
}

// Narrows [begin, end) to the samples that can lie within a box, with slack for the rounding.
LV_HD void clip_to_box(Ray& ray, const float low[3], const float high[3]) {
  if (!(ray.spacing > 0.0f)) return;
  float enter = -3.4e38f, leave = 3.4e38f;
  for (int i = 0; i < 3; i++) {
    if (ray.d[i] == 0.0f) {
      if (ray.o[i] < low[i] || ray.o[i] > high[i]) leave = -3.4e38f;
      continue;
    }
    float a = (low[i] - ray.o[i]) / ray.d[i], b = (high[i] - ray.o[i]) / ray.d[i];
    enter = max_of(enter, min_of(a, b));
    leave = min_of(leave, max_of(a, b));
  }
  float slack = 0.1f + 4e-6f * max_of(absolute(leave), absolute(ray.t_first)) / ray.spacing;
  float first = (enter - ray.t_first) / ray.spacing - slack;
  float last = (leave - ray.t_first) / ray.spacing + 1.0f + slack;
  if (!(leave >= enter - slack * ray.spacing)) ray.end = ray.begin;
  if (first > (float)ray.begin) ray.begin = first < (float)ray.end ? (int)first : ray.end;
  if (last < (float)ray.end) ray.end = last > (float)ray.begin ? (int)last : ray.begin;
}

// Distance at which a ray enters the bounding box; behind where it leaves if it misses.
LV_HD float box_entry(const LvField& field, const Ray& ray) {
  float enter = -INFINITY;
  for (int i = 0; i < 3; i++) {
    float v = ray.d[i] == 0.0f ? 1e-6f : ray.d[i];
    float a = div_rn(sub_rn(field.high[i], ray.o[i]), v), b = div_rn(sub_rn(field.low[i], ray.o[i]), v);
    enter = max_of(enter, min_of(a, b));
  }
  return enter;
}

// Leaves out the samples of a ray that lie before a z-depth.
LV_HD void start_at(Ray& ray, float t) {
  if (!(ray.spacing > 0.0f)) return;
  float n = (t - ray.t_first) / ray.spacing;
  if (n > (float)ray.begin) ray.begin = n < (float)ray.end ? (int)n : ray.end;
}

LV_HD Ray start_ray(const LvField& field, const LvOptions& options, const LvView& view, int column, int row) {
  Ray ray;
  ray_through(view, column, row, ray.o, ray.d);
  ray.begin = 0;
  ray.end = options.n - 1;  // the last sample stands for no length and never counts
  if (options.sampling == LV_HULL) {
    float floor_distance = div_rn(-sub_rn(ray.o[2], field.low[2]), ray.d[2]);
    ray.t_first = options.near;
    ray.t_last = ray.d[2] >= 0.0f ? options.far : floor_distance;
    ray.spacing = (ray.t_last - ray.t_first) / (float)(options.n > 1 ? options.n - 1 : 1);
  } else {
    ray.t_first = clamp(box_entry(field, ray), options.near, options.far);
    ray.t_last = ray.t_first;
    ray.spacing = options.step;
  }
  clip_to_box(ray, field.low, field.high);
  return ray;
}
