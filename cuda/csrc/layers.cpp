// Dense layers, register blocked: compiled once for all that run them.
#include "gemm.h"

// How a layer takes its numbers: in float32, or in pairs of bfloat16.
template <class Number>
struct Numbers;
template <>
struct Numbers<float> {
  typedef Vec Lanes;
  static constexpr int32_t MAGNITUDE = 0x7fffffff;
};
template <>
struct Numbers<Pair> {
  typedef IntVec Lanes;
  static constexpr int32_t MAGNITUDE = 0x7fff7fff;
};

#if LV_BF16
PairLayer round_layer(const Layer& layer, Pair* weights) {
  const float* from = layer.weights;
  Pair* to = weights;
  for (int first = 0; first < layer.n_out;) {
    const int left = layer.n_out - first, width = left < COLUMNS * LANES ? left : COLUMNS * LANES;
    for (int g = 0; g < layer.n_groups; g++, from += layer.group_size * width)
      for (int i = 0; i < layer.group_size; i += 2)
        for (int j = 0; j < width; j += LANES, to += LANES) {
          const float* low = from + i * width + j;
          const IntVec pairs = pairs_of(load<Vec>(low), i + 1 < layer.group_size ? load<Vec>(low + width) : Vec{});
          memcpy(to, &pairs, sizeof pairs);
        }
    first += width;
  }
  return {layer.n_groups, (layer.group_size + 1) / 2, layer.group_stride / 2, layer.n_out, weights};
}
#endif

// One panel for ROWS rows: out = start + in * weights, negative results to 0 if RELU. in, out: the first row.
template <int N, bool RELU, class Number, class Inputs>
LV_HD void run_panel(const Inputs& inputs, const Number* in, int in_stride, const Number* weights,
                     const float* const* start, int column, float* out, int out_stride) {
  typedef typename Numbers<Number>::Lanes Lanes;
  Vec sums[ROWS][N];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) sums[r][j] = load<Vec>(start[r] + column + j * LANES);
  inputs([&](int at, int weight_row) __attribute__((always_inline)) {
    const Number* w = weights + (size_t)weight_row * N * LANES;
    Lanes v[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) v[j] = load<Lanes>(w + j * LANES);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      Lanes x = in[r * in_stride + at] - Lanes{};
#pragma GCC unroll 4
      for (int j = 0; j < N; j++) sums[r][j] = fused(x, v[j], sums[r][j]);
    }
  });
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 4
    for (int j = 0; j < N; j++)
      store(out + (size_t)r * out_stride + column + j * LANES, RELU ? max_of(sums[r][j], Vec{}) : sums[r][j]);
}

// All panels for n rows (a multiple of ROWS). inputs_of(group of rows) gives what calls back for every input.
template <bool RELU, class Number, class InputsOf>
static void run_panels(const LayerOf<Number>& layer, int n, const Number* in, int in_stride, const float* const* start,
                       float* out, int out_stride, InputsOf inputs_of) {
  const int n_inputs = layer.n_groups * layer.group_size;
  const Number* weights = layer.weights;
  for (int column = 0; column < layer.n_out;) {
    const int left = (layer.n_out - column) / LANES, vectors = left < COLUMNS ? left : COLUMNS;
    for (int row = 0; row < n; row += ROWS) {
      const auto inputs = inputs_of(row / ROWS);
      const Number* a = in + (size_t)row * in_stride;
      float* c = out + (size_t)row * out_stride;
#if defined(LV_AVX512)
      if (vectors == 4) run_panel<4, RELU>(inputs, a, in_stride, weights, start + row, column, c, out_stride);
      if (vectors == 3) run_panel<3, RELU>(inputs, a, in_stride, weights, start + row, column, c, out_stride);
#endif
      if (vectors == 2) run_panel<2, RELU>(inputs, a, in_stride, weights, start + row, column, c, out_stride);
      if (vectors == 1) run_panel<1, RELU>(inputs, a, in_stride, weights, start + row, column, c, out_stride);
    }
    weights += (size_t)vectors * LANES * n_inputs;
    column += vectors * LANES;
  }
}

template <bool RELU, class Number>
void run_layer(const LayerOf<Number>& layer, int n, const Number* in, int in_stride, const float* const* start,
               float* out, int out_stride) {
  run_panels<RELU>(layer, n, in, in_stride, start, out, out_stride, [&](int) {
    return [&layer](auto&& input) __attribute__((always_inline)) {
      for (int g = 0; g < layer.n_groups; g++)
        for (int i = 0; i < layer.group_size; i++) input(g * layer.group_stride + i, g * layer.group_size + i);
    };
  });
}

template <bool RELU, class Number>
void run_sparse_layer(const LayerOf<Number>& layer, int n, const Number* in, int in_stride, const float* const* start,
                      float* out, int out_stride, int32_t* index) {
  int counts[64];
  for (int row = 0; row < n; row += ROWS) {
    int32_t* to = index + (size_t)row / ROWS * (in_stride + LANES);
    int count = 0;
    for (int i = 0; i < layer.group_size; i += LANES) {
      IntVec any = {};
      for (int r = 0; r < ROWS; r++) any = any | load<IntVec>(in + (size_t)(row + r) * in_stride + i);
      const int left = layer.group_size - i;  // behind them may lie the next row
      const uint32_t there = left < LANES ? (1u << left) - 1 : ~0u;
      count += append_set(to + count, i, there & bits_of((any & Numbers<Number>::MAGNITUDE) != 0));
    }
    counts[row / ROWS] = count;
  }
  run_panels<RELU>(layer, n, in, in_stride, start, out, out_stride, [&](int group) {
    const int32_t* from = index + (size_t)group * (in_stride + LANES);
    const int count = counts[group];
    return [from, count](auto&& input) __attribute__((always_inline)) {
      for (int i = 0; i < count; i++) input(from[i], from[i]);
    };
  });
}

template void run_layer<false>(const Layer&, int, const float*, int, const float* const*, float*, int);
template void run_layer<true>(const Layer&, int, const float*, int, const float* const*, float*, int);
template void run_sparse_layer<false>(const Layer&, int, const float*, int, const float* const*, float*, int, int32_t*);
template void run_sparse_layer<true>(const Layer&, int, const float*, int, const float* const*, float*, int, int32_t*);
#if LV_BF16
template void run_layer<false>(const PairLayer&, int, const Pair*, int, const float* const*, float*, int);
template void run_layer<true>(const PairLayer&, int, const Pair*, int, const float* const*, float*, int);
template void run_sparse_layer<true>(const PairLayer&, int, const Pair*, int, const float* const*, float*, int,
                                     int32_t*);
#endif
