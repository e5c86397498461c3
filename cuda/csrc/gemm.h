// Small dense layers for the host: rows of inputs times packed weights, register blocked.
#pragma once
#include "simd.h"

#if defined(LV_AVX512)
enum { ROWS = 6, COLUMNS = 4 };  // vectors held in registers: ROWS x COLUMNS sums
#elif defined(LV_AVX2)
enum { ROWS = 6, COLUMNS = 2 };
#else
enum { ROWS = 3, COLUMNS = 1 };
#endif

LV_HD int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// Weights of a layer in panels of up to COLUMNS vectors of outputs; inside a panel, inputs follow each other.
struct Layer {
  int n_groups, group_size, group_stride;  // the inputs: input i of group g lies at g * group_stride + i
  int n_out;                               // a multiple of LANES
  float* weights;
};

// weight(output, group, input) gives the numbers; outputs that do not exist must be 0.
template <class Weight>
static void pack_layer(const Layer& layer, Weight weight) {
  float* to = layer.weights;
  for (int first = 0; first < layer.n_out;) {
    int width = (layer.n_out - first < COLUMNS * LANES ? layer.n_out - first : COLUMNS * LANES);
    for (int g = 0; g < layer.n_groups; g++)
      for (int i = 0; i < layer.group_size; i++)
        for (int j = 0; j < width; j++) *to++ = weight(first + j, g, i);
    first += width;
  }
}

// One panel for n rows (a multiple of ROWS): out = start + in * weights, negative results to 0 if RELU.
template <int N, bool RELU>
static void run_panel(const Layer& layer, int n, const float* in, int in_stride, const float* weights,
                      const float* const* start, int column, float* out, int out_stride) {
  for (int first = 0; first < n; first += ROWS) {
    Vec sums[ROWS][N];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
      for (int j = 0; j < N; j++) sums[r][j] = load<Vec>(start[first + r] + column + j * LANES);
    const float* w = weights;
    for (int g = 0; g < layer.n_groups; g++) {
      const float* a = in + (size_t)first * in_stride + g * layer.group_stride;
      for (int i = 0; i < layer.group_size; i++, w += N * LANES) {
        Vec v[N];
#pragma GCC unroll 4
        for (int j = 0; j < N; j++) v[j] = load<Vec>(w + j * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
          Vec x = splat<Vec>(a[r * in_stride + i]);
#pragma GCC unroll 4
          for (int j = 0; j < N; j++) sums[r][j] = fused(x, v[j], sums[r][j]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
      for (int j = 0; j < N; j++)
        store(out + (size_t)(first + r) * out_stride + column + j * LANES,
              RELU ? max_of(sums[r][j], Vec{}) : sums[r][j]);
  }
}

// Runs a layer on n rows (a multiple of ROWS). start: what the sums of each row begin with. [n][n_out]
template <bool RELU>
static void run_layer(const Layer& layer, int n, const float* in, int in_stride, const float* const* start, float* out,
                      int out_stride) {
  const int n_inputs = layer.n_groups * layer.group_size;
  const float* weights = layer.weights;
  for (int column = 0; column < layer.n_out;) {
    int vectors = (layer.n_out - column) / LANES;
#if defined(LV_AVX512)
    if (vectors >= 4) {
      run_panel<4, RELU>(layer, n, in, in_stride, weights, start, column, out, out_stride);
      vectors = 4;
    } else if (vectors == 3) {
      run_panel<3, RELU>(layer, n, in, in_stride, weights, start, column, out, out_stride);
    } else
#endif
#if defined(LV_AVX512) || defined(LV_AVX2)
        if (vectors >= 2) {
      run_panel<2, RELU>(layer, n, in, in_stride, weights, start, column, out, out_stride);
      vectors = 2;
    } else
#endif
    {
      run_panel<1, RELU>(layer, n, in, in_stride, weights, start, column, out, out_stride);
      vectors = 1;
    }
    weights += (size_t)vectors * LANES * n_inputs;
    column += vectors * LANES;
  }
}
