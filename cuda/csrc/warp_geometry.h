// From the pixels of one view to those of another.
#pragma once
#include "abi.h"
#include "simd.h"

// w * (column, row, 1) = z * h * (column, row, 1) + t, where z and w are z-depths.
struct Mapping {
  float h[3][3], t[3];
};

// Inverse of the rotation of a view, in axes right, down, forward; not a number if there is none.
struct WorldToCamera {
  double r[3][3], origin[3];

  explicit WorldToCamera(const LvView& view) {
    double a[3][3], determinant = 0.0;
    for (int i = 0; i < 3; i++) {
      for (int j = 0; j < 3; j++) a[i][j] = view.c2w[4 * i + j];
      origin[i] = view.c2w[4 * i + 3];
    }
    for (int i = 0; i < 3; i++) {
      for (int j = 0; j < 3; j++) {
        const int i1 = (i + 1) % 3, i2 = (i + 2) % 3, j1 = (j + 1) % 3, j2 = (j + 2) % 3;
        r[j][i] = a[i1][j1] * a[i2][j2] - a[i1][j2] * a[i2][j1];
      }
      determinant += a[i][0] * r[0][i];
    }
    for (int i = 0; i < 3; i++)
      for (int j = 0; j < 3; j++) r[i][j] *= (i ? -1.0 : 1.0) / determinant;
  }
};

static inline Mapping mapping_between(const LvView& from, const LvView& to) {
  const WorldToCamera camera(to);
  double m[3][3], t[3];
  for (int i = 0; i < 3; i++) {
    t[i] = 0.0;
    for (int k = 0; k < 3; k++) t[i] += camera.r[i][k] * (from.c2w[4 * k + 3] - camera.origin[k]);
    for (int j = 0; j < 3; j++) {
      m[i][j] = 0.0;
      for (int k = 0; k < 3; k++) m[i][j] += camera.r[i][k] * from.c2w[4 * k + j] * (j ? -1.0 : 1.0);
    }
  }
  const double focal[3] = {to.fl_x, to.fl_y, 1.0}, centre[3] = {to.cx, to.cy, 0.0};
  Mapping mapping;
  for (int i = 0; i < 3; i++) {
    double k[3];
    for (int j = 0; j < 3; j++) k[j] = focal[i] * m[i][j] + centre[i] * m[2][j];
    mapping.h[i][0] = (float)(k[0] / from.fl_x);
    mapping.h[i][1] = (float)(k[1] / from.fl_y);
    mapping.h[i][2] = (float)(k[2] - k[0] * from.cx / from.fl_x - k[1] * from.cy / from.fl_y);
    mapping.t[i] = (float)(focal[i] * t[i] + centre[i] * t[2]);
  }
  return mapping;
}

#define LV_WARP_NEAR 1e-4f  // z-depth before which nothing is seen

// Where LANES pixels of a row, from `first` on, at z-depths z, are seen in the other view.
struct Seen {
  Vec u, v, w, scale;  // column, row, z-depth, z / w
  IntVec is_seen;      // the point lies before the camera, and is one
};

// A mapping on one row.
struct RowMapping {
  Mapping mapping = {};
  float base[3] = {};

  RowMapping() {}
  RowMapping(const Mapping& its, int row) : mapping(its) {
    for (int i = 0; i < 3; i++) base[i] = (float)((double)its.h[i][1] * row + its.h[i][2]);
  }

  Seen at(int first, Vec z) const {
    const Vec x = first_lanes() + (float)first;
    auto axis = [&](int i) {
      return fused(z, fused(splat<Vec>(mapping.h[i][0]), x, splat<Vec>(base[i])), splat<Vec>(mapping.t[i]));
    };
    Seen seen;
    seen.w = axis(2);
    seen.is_seen = (z > 0.0f) & (z < 1e9f) & (seen.w > LV_WARP_NEAR) & (seen.w < 1e9f);
    const Vec inverse = 1.0f / ::choose(seen.is_seen, seen.w, splat<Vec>(1.0f));
    seen.u = axis(0) * inverse;
    seen.v = axis(1) * inverse;
    seen.scale = z * inverse;
    return seen;
  }
};
