// Gradients of the planes, row by row: what the points of a row leave there, total variation, L1, Adam.
//
// Points are sorted by the lower of the two rows they touch. A thread takes a band of rows from top to bottom with the
// gradients of two rows in its cache, so that no plane of gradients is ever stored. A row is updated as soon as its
// gradient is whole; total variation between it and the next row is taken before, and the rows beyond a band's ends,
// which belong to other threads, are copied before any row changes.
#pragma once
#include <utility>

#include "train_lookup.h"

// Points of all groups, one after the other.
struct AllPoints {
  int n;
  Buffer<float> c[3], scale;
  Buffer<int32_t> table;
  Buffer<const float*> values;  // appearance: gradient of what the planes hold
};

// One plane of all blocks: n_blocks * n_v rows.
struct Plane {
  bool is_density;
  int direction;
  int n_rows, n_v, n_u, channels, width;  // width: floats of a row
  const LvTable* tables;                  // of block b: [b * n_tables]
  const LvTrainTable* train;              // same
  size_t first_value;                     // of this table in AllPoints::values
  float variation_u, variation_v, l1;     // weights of the differences along a row and between rows, and of signs
  int n_bands;
  Buffer<int32_t> order, starts;  // points by row; starts: [n_rows + 1]
  Buffer<float> edges;            // rows around the bands before the update [n_bands][2][width]
};

struct UpdateJob {
  const TrainJob& train;
  const LvUpdate& update;
  const AllPoints &density, &appearance;
  std::vector<Plane>& planes;
};

template <class V>
LV_HD V root_of(V x) {
#if defined(LV_AVX512)
  if constexpr (sizeof(V) == 64) return (V)_mm512_sqrt_ps((__m512)x);
#endif
#if defined(LV_AVX512) || defined(LV_AVX2)
  if constexpr (sizeof(V) == 32) return (V)_mm256_sqrt_ps((__m256)x);
#endif
  for (unsigned i = 0; i < sizeof(V) / 4; i++) x[i] = sqrtf(x[i]);
  return x;
}

static int64_t row_offset(const Plane& plane, int row) { return (int64_t)(row % plane.n_v) * plane.width; }

static const LvTrainTable& table_of_row(const TrainJob& job, const Plane& plane, int row) {
  return plane.train[(size_t)(row / plane.n_v) * job.packed.n_tables];
}

static float* plane_row(const TrainJob& job, const Plane& plane, int row) {
  return table_of_row(job, plane, row).plane + row_offset(plane, row);
}

static void collect_points(const std::vector<Group>& groups, int n_groups, int n_values, AllPoints& density,
                           AllPoints& appearance) {
  auto join = [&](Points Group::*member, AllPoints& all) {
    all.n = 0;
    for (int g = 0; g < n_groups; g++) all.n += (int)(groups[g].*member).table.size();
    for (Buffer<float>* buffer : {&all.c[0], &all.c[1], &all.c[2], &all.scale}) buffer->reset(all.n + LANES);
    all.table.reset(all.n + LANES);
    size_t first = 0;
    for (int g = 0; g < n_groups; g++) {
      const Points& points = groups[g].*member;
      const size_t n = points.table.size();
      if (!n) continue;
      for (int i = 0; i < 3; i++) memcpy(all.c[i].data() + first, points.c[i].data(), n * sizeof(float));
      memcpy(all.table.data() + first, points.table.data(), n * sizeof(int32_t));
      if (points.scale.size()) memcpy(all.scale.data() + first, points.scale.data(), n * sizeof(float));
      first += n;
    }
  };
  join(&Group::density, density);
  join(&Group::appearance, appearance);
  appearance.values.shorten(0);
  for (int g = 0; g < n_groups; g++)
    for (size_t i = 0; i < groups[g].appearance.table.size(); i++)
      appearance.values.push(groups[g].values.data() + i * n_values);
}

// Sorts the points of a plane by row, in their order inside a row.
static void sort_points(const UpdateJob& job, Plane& plane, Buffer<int32_t>& keys) {
  const AllPoints& points = plane.is_density ? job.density : job.appearance;
  const int n_tables = job.train.packed.n_tables, axis = axis_v(plane.direction);
  int32_t* starts = plane.starts.reset(plane.n_rows + 1);
  memset(starts, 0, (plane.n_rows + 1) * sizeof(int32_t));
  keys.reset(points.n + LANES);
  for (int i = 0; i < points.n; i += LANES) {
    const Texels<Vec> v = texels_at(load<Vec>(points.c[axis].data() + i), splat<Vec>((float)(plane.n_v - 1)));
    const IntVec base = to_int(v.base);
    memcpy(keys.data() + i, &base, sizeof base);
  }
  for (int i = 0; i < points.n; i++) {
    keys[i] += points.table[i] / n_tables * plane.n_v;
    starts[keys[i] + 1]++;
  }
  for (int r = 0; r < plane.n_rows; r++) starts[r + 1] += starts[r];
  plane.order.reset(points.n);
  for (int i = 0; i < points.n; i++) plane.order[starts[keys[i]]++] = i;
  for (int r = plane.n_rows; r > 0; r--) starts[r] = starts[r - 1];
  starts[0] = 0;
}

// Adds the points of a row to its gradient and to that of the next row; either may be left out (0).
template <int CHANNELS, bool IS_DENSITY>
static void add_points(const UpdateJob& job, const Plane& plane, int row, float* here, float* next) {
  const AllPoints& points = IS_DENSITY ? job.density : job.appearance;
  for (int e = plane.starts[row]; e < plane.starts[row + 1]; e++) {
    const int i = plane.order[e];
    const LvTable& table = plane.tables[points.table[i]];
    const float c[3] = {points.c[0][i], points.c[1][i], points.c[2][i]};
    const Tap tap = tap_at(table, plane.direction, c);
    const int64_t column = tap.plane - row_offset(plane, row);
    const float* line_0 = IS_DENSITY ? table.line + tap.line : 0;
    const float scale = IS_DENSITY ? points.scale[i] : 0.0f;
    const float* values = IS_DENSITY ? 0 : points.values[i] + plane.first_value;
    auto add = [&](float* to, float weight_0, float weight_1) __attribute__((always_inline)) {
      for_channels<CHANNELS>(plane.channels, [&](auto zero, int channel) __attribute__((always_inline)) {
        typedef decltype(zero) V;
        V value;
        if (IS_DENSITY)
          value = (load<V>(line_0 + channel) * tap.w0 + load<V>(line_0 + tap.step_w + channel) * tap.w1) * scale;
        else
          value = load<V>(values + channel);
        add_to(to + channel, value * weight_0);
        add_to(to + tap.step_u + channel, value * weight_1);
      });
    };
    if (here) add(here + column, tap.w00, tap.w10);
    if (next) add(next + column, tap.w01, tap.w11);
  }
}

// One row: pointers to its first texel.
struct Row {
  float *p, *m, *v;
  const float* below;  // the next row before its update; p if there is none
  float *gradient, *next_gradient;
};

// Completes the gradient of a row with total variation and L1, and takes Adam's step as torch does. The differences to
// the right and to the next row are handed on before p changes. The gradient is left zero. pending: scratch [channels]
template <int CHANNELS>
static void update_row(const LvUpdate& update, const Plane& plane, Row row, float* pending) {
  const int channels = plane.channels;
  memset(pending, 0, channels * sizeof(float));
  for (int u = 0; u < plane.n_u; u++) {
    const float* right = u + 1 < plane.n_u ? row.p + channels : row.p;
    for_channels<CHANNELS>(channels, [&](auto zero, int i) __attribute__((always_inline)) {
      typedef decltype(zero) V;
      const V p = load<V>(row.p + i), to_right = (load<V>(right + i) - p) * plane.variation_u;
      const V to_below = (load<V>(row.below + i) - p) * plane.variation_v;
      const V up = zero + plane.l1, down = zero - plane.l1, sign = p > 0.0f ? up : (p < 0.0f ? down : zero);
      const V g = load<V>(row.gradient + i) - to_right + load<V>(pending + i) - to_below + sign;
      store(pending + i, to_right);
      add_to(row.next_gradient + i, to_below);
      store(row.gradient + i, zero);
      const V m = load<V>(row.m + i), first = m + (g - m) * (1.0f - update.beta_1);
      const V second = load<V>(row.v + i) * update.beta_2 + g * g * (1.0f - update.beta_2);
      store(row.m + i, first);
      store(row.v + i, second);
      store(row.p + i, p - first * update.step_size / (root_of(second) * update.inverse_root + update.epsilon));
    });
    for (float** at : {&row.p, &row.m, &row.v, &row.gradient, &row.next_gradient}) *at += channels;
    row.below += channels;
  }
}

static int band_start(const Plane& plane, int band) { return (int)((int64_t)plane.n_rows * band / plane.n_bands); }

static void copy_edges(const TrainJob& job, Plane& plane) {
  plane.edges.reset((size_t)plane.n_bands * 2 * plane.width);
  for (int band = 0; band < plane.n_bands; band++) {
    const int rows[2] = {band_start(plane, band) - 1, band_start(plane, band + 1)};
    for (int side = 0; side < 2; side++)
      if (rows[side] >= 0 && rows[side] < plane.n_rows)
        memcpy(plane.edges.data() + ((size_t)band * 2 + side) * plane.width, plane_row(job, plane, rows[side]),
               plane.width * sizeof(float));
  }
}

// Completes and uses the gradients of a band's rows. gradients: scratch of two rows, zero before and after, and a texel
template <int CHANNELS, bool IS_DENSITY>
static void run_band(const UpdateJob& job, const Plane& plane, int band, float* gradients) {
  const TrainJob& train = job.train;
  const int first = band_start(plane, band), end = band_start(plane, band + 1);
  const float* edges = plane.edges.data() + (size_t)band * 2 * plane.width;
  float *here = gradients, *next = gradients + plane.width;
  auto has_below = [&](int row) { return (row + 1) % plane.n_v != 0; };
  if (first > 0 && has_below(first - 1)) {  // what the row before the band gives to the band
    add_points<CHANNELS, IS_DENSITY>(job, plane, first - 1, 0, here);
    if (job.update.is_on && plane.variation_v != 0.0f) {
      const float* p = plane_row(train, plane, first);
      for (int i = 0; i < plane.width; i++) here[i] += (p[i] - edges[i]) * plane.variation_v;
    }
  }
  for (int row = first; row < end; row++) {
    const bool is_last = row + 1 == end;
    add_points<CHANNELS, IS_DENSITY>(job, plane, row, here, has_below(row) ? next : 0);
    const LvTrainTable& table = table_of_row(train, plane, row);
    const int64_t offset = row_offset(plane, row);
    if (job.update.is_on) {
      float* p = table.plane + offset;
      const float* below = is_last ? edges + plane.width : p + plane.width;
      if (!has_below(row) || plane.variation_v == 0.0f) below = p;
      update_row<CHANNELS>(job.update, plane, {p, table.moment_1 + offset, table.moment_2 + offset, below, here, next},
                           gradients + 2 * plane.width);
    } else {
      memcpy(table.plane_gradient + offset, here, plane.width * sizeof(float));
      memset(here, 0, plane.width * sizeof(float));
    }
    if (is_last) memset(next, 0, plane.width * sizeof(float));
    std::swap(here, next);
  }
}

typedef void (*RunBand)(const UpdateJob&, const Plane&, int, float*);

template <bool IS_DENSITY>
static RunBand band_kernel(int channels) {
  if (channels == 8) return run_band<8, IS_DENSITY>;
  if (channels == 16) return run_band<16, IS_DENSITY>;
  if (channels == 24) return run_band<24, IS_DENSITY>;
  if (channels == 48) return run_band<48, IS_DENSITY>;
  return run_band<0, IS_DENSITY>;
}

// Describes the planes, the largest first.
static void list_planes(UpdateJob& job) {
  const PackedField& packed = job.train.packed;
  const LvUpdate& update = job.update;
  job.planes.resize(2 * packed.n_tables);
  size_t first_value = 0;
  for (int p = 0; p < packed.n_tables; p++) {
    for (int kind = 0; kind < 2; kind++) {
      Plane& plane = job.planes[2 * (packed.n_tables - 1 - p) + kind];
      plane.is_density = kind == 1;
      plane.direction = p / packed.field.n_levels;
      plane.tables = (plane.is_density ? packed.density : packed.field.appearance) + p;
      plane.train = (plane.is_density ? job.train.density : job.train.appearance) + p;
      const LvTable& table = plane.tables[0];
      plane.n_v = table.n_v;
      plane.n_u = table.n_u;
      plane.n_rows = packed.n_blocks * table.n_v;
      plane.channels = table.channels;
      plane.width = table.n_u * table.channels;
      plane.first_value = plane.is_density ? 0 : first_value;
      if (!plane.is_density) first_value += table.channels;
      const float n = (float)plane.train->n_channels;
      const float variation = plane.is_density ? update.tv_density : update.tv_appearance;
      plane.variation_u = table.n_u > 1 ? 4.0f * variation / (n * table.n_v * (table.n_u - 1)) : 0.0f;
      plane.variation_v = table.n_v > 1 ? 4.0f * variation / (n * (table.n_v - 1) * table.n_u) : 0.0f;
      plane.l1 = plane.is_density ? update.l1_density / (n * table.n_v * table.n_u) : 0.0f;
    }
  }
}
