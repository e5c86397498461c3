// Planes and lines of points: reading them for the decoder, and the gradients of the lines.
#pragma once
#include "train_march.h"

// Calls body(vector of zeros, first channel) for runs of LANES and then 8 channels. CHANNELS: 0 if not known.
template <int CHANNELS, class Body>
LV_HD void for_channels(int channels, Body body) {
  const int n = CHANNELS ? CHANNELS : channels;
  int channel = 0;
  for (; channel + LANES <= n; channel += LANES) body(Vec{}, channel);
  for (; channel < n; channel += 8) body(Vec8{}, channel);
}

template <class V>
LV_HD V plane_at(const Corners<float>& at, const TapLanes& taps, int lane, int channel) {
  return load<V>(at.p00 + channel) * taps.w00[lane] + load<V>(at.p10 + channel) * taps.w10[lane] +
         load<V>(at.p01 + channel) * taps.w01[lane] + load<V>(at.p11 + channel) * taps.w11[lane];
}

template <class V>
LV_HD V line_at(const Corners<float>& at, const TapLanes& taps, int lane, int channel) {
  return load<V>(at.l0 + channel) * taps.w0[lane] + load<V>(at.l1 + channel) * taps.w1[lane];
}

template <class V>
LV_HD void add_to(float* sum, V value) {
  store(sum, load<V>(sum) + value);
}

// LANES points whose blocks are known. number(i): index of the i-th of n points in c and table.
template <class Number>
LV_HD Lanes located_lanes(const float* const c[3], const int32_t* table, int n, Number number) {
  Lanes lanes;
  lanes.is_present = ~IntVec{};
  lanes.is_void = IntVec{};
  lanes.one_block = true;
  for (int i = 0; i < LANES; i++) {
    const int from = number(i < n ? i : 0);
    for (int axis = 0; axis < 3; axis++) lanes.c[axis][i] = c[axis][from];
    lanes.table[i] = table[from];
    lanes.one_block = lanes.one_block && lanes.table[i] == lanes.table[0];
  }
  return lanes;
}

// Where the gradient of a line is summed.
struct LineSums {
  float* lines;  // first texel
  int step;      // to the second one
};

LV_HD LineSums line_sums(const LvTable& table, float* sums, size_t first, const TapLanes& taps, int lane) {
  return {sums + first + (size_t)taps.line[lane] * table.channels, table.n_w > 1 ? table.channels : 0};
}

// Adds what the density feature's gradient of each sample gives to lines and density_basis.
template <int CHANNELS>
static void density_backward(const TrainJob& job, const Samples& samples, TapLanes* taps, float* sums) {
  const PackedField& packed = job.packed;
  const LvField& field = packed.field;
  const float* const c[3] = {samples.c[0].data(), samples.c[1].data(), samples.c[2].data()};
  float* basis_sums = sums + job.sums.density_basis;
  for (int first = 0; first < samples.n; first += LANES) {
    const int n = samples.n - first < LANES ? samples.n - first : LANES;
    const Lanes lanes = located_lanes(c, samples.table.data(), n, [&](int i) { return first + i; });
    compute_taps(packed, field.density, lanes, taps);
    for (int lane = 0; lane < n; lane++) {
      const float gradient = samples.gradient[first + lane];
      if (gradient == 0.0f) continue;
      for (int p = 0, channel_0 = 0; p < packed.n_tables; p++) {
        const int number = lanes.table[lane] + p;
        const LvTable& table = field.density[number];
        const Corners<float> at = corners<float>(table, taps[p], lane, table.channels);
        const LineSums to = line_sums(table, sums, job.sums.density_lines[number], taps[p], lane);
        const float* basis = field.density_basis ? field.density_basis + channel_0 : 0;
        for_channels<CHANNELS>(table.channels, [&](auto zero, int channel) __attribute__((always_inline)) {
          typedef decltype(zero) V;
          V plane = plane_at<V>(at, taps[p], lane, channel) * gradient;
          if (basis) {
            add_to(basis_sums + channel_0 + channel, plane * line_at<V>(at, taps[p], lane, channel));
            plane *= load<V>(basis + channel);
          }
          add_to(to.lines + channel, plane * taps[p].w0[lane]);
          add_to(to.lines + to.step + channel, plane * taps[p].w1[lane]);
        });
        channel_0 += table.channels;
      }
    }
  }
}

// Appearance of n rows: what the planes hold, and that times the lines. rows: their samples; taps: kept for later
template <int CHANNELS>
static void appearance_forward(const TrainJob& job, const Samples& samples, const int32_t* rows, int n, TapLanes* taps,
                               float* planes, float* products) {
  const PackedField& packed = job.packed;
  const int width = packed.field.n_appearance;
  const float* const c[3] = {samples.c[0].data(), samples.c[1].data(), samples.c[2].data()};
  for (int first = 0; first < n; first += LANES, taps += packed.n_tables) {
    const int some = n - first < LANES ? n - first : LANES;
    const Lanes lanes = located_lanes(c, samples.table.data(), some, [&](int i) { return rows[first + i]; });
    compute_taps(packed, packed.field.appearance, lanes, taps);
    if (packed.exceeds_caches) job.lookup.prefetch(packed, packed.field.appearance, lanes, taps, some);
    for (int lane = 0; lane < some; lane++) {
      float* plane_row = planes + (size_t)(first + lane) * width;
      float* product_row = products + (size_t)(first + lane) * width;
      for (int p = 0; p < packed.n_tables; p++) {
        const LvTable& table = packed.field.appearance[lanes.table[lane] + p];
        const Corners<float> at = corners<float>(table, taps[p], lane, table.channels);
        for_channels<CHANNELS>(table.channels, [&](auto zero, int channel) __attribute__((always_inline)) {
          typedef decltype(zero) V;
          const V plane = plane_at<V>(at, taps[p], lane, channel);
          store(plane_row + channel, plane);
          store(product_row + channel, plane * line_at<V>(at, taps[p], lane, channel));
        });
        plane_row += table.channels;
        product_row += table.channels;
      }
    }
  }
}

// From gradients of the products of n rows to those of the lines and of what the planes hold (values).
template <int CHANNELS>
static void appearance_backward(const TrainJob& job, const Samples& samples, const int32_t* rows, int n,
                                const TapLanes* taps, const float* planes, const float* gradients, int stride,
                                float* sums, float* values) {
  const PackedField& packed = job.packed;
  const int width = packed.field.n_appearance;
  for (int i = 0; i < n; i++) {
    const TapLanes* at_taps = taps + (size_t)(i / LANES) * packed.n_tables;
    const int lane = i % LANES, first_table = samples.table[rows[i]];
    for (int p = 0, channel_0 = 0; p < packed.n_tables; p++) {
      const LvTable& table = packed.field.appearance[first_table + p];
      const Corners<float> at = corners<float>(table, at_taps[p], lane, table.channels);
      const LineSums to = line_sums(table, sums, job.sums.appearance_lines[first_table + p], at_taps[p], lane);
      const float* gradient = gradients + (size_t)i * stride + channel_0;
      const float* plane = planes + (size_t)i * width + channel_0;
      float* value = values + (size_t)i * width + channel_0;
      for_channels<CHANNELS>(table.channels, [&](auto zero, int channel) __attribute__((always_inline)) {
        typedef decltype(zero) V;
        const V g = load<V>(gradient + channel), on_line = g * load<V>(plane + channel);
        store(value + channel, g * line_at<V>(at, at_taps[p], lane, channel));
        add_to(to.lines + channel, on_line * at_taps[p].w0[lane]);
        add_to(to.lines + to.step + channel, on_line * at_taps[p].w1[lane]);
      });
      channel_0 += table.channels;
    }
  }
}
