// The third product of a layer: its weight gradient, inputs times output gradients summed over rows.
#pragma once
#include "gemm.h"

// sums[i][j] += in[r][columns[i]] * out[r][j] over n rows r, for M inputs and N vectors of outputs.
template <int M, int N>
LV_HD void add_products(int n, const float* in, int in_stride, const int32_t* columns, const float* out,
                        int out_stride, float* sums, int sums_stride) {
  Vec sum[M][N];
#pragma GCC unroll 8
  for (int i = 0; i < M; i++)
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) sum[i][j] = load<Vec>(sums + (size_t)i * sums_stride + j * LANES);
  int64_t column[M];
  for (int i = 0; i < M; i++) column[i] = columns[i];
  for (int r = 0; r < n; r++, in += in_stride, out += out_stride) {
    Vec v[N];
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) v[j] = load<Vec>(out + j * LANES);
#pragma GCC unroll 8
    for (int i = 0; i < M; i++) {
      Vec x = splat<Vec>(in[column[i]]);
#pragma GCC unroll 4
      for (int j = 0; j < N; j++) sum[i][j] = fused(x, v[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; i++)
#pragma GCC unroll 4
    for (int j = 0; j < N; j++) store(sums + (size_t)i * sums_stride + j * LANES, sum[i][j]);
}

template <int N>
static void add_product_panel(int n, const float* in, int in_stride, const int32_t* columns, int n_in,
                              const float* out, int out_stride, float* sums, int sums_stride) {
  int i = 0;
  for (; i + ROWS <= n_in; i += ROWS)
    add_products<ROWS, N>(n, in, in_stride, columns + i, out, out_stride, sums + (size_t)i * sums_stride,
                          sums_stride);
  for (; i < n_in; i++)
    add_products<1, N>(n, in, in_stride, columns + i, out, out_stride, sums + (size_t)i * sums_stride, sums_stride);
}

// Adds the weight gradient of n rows: sums [n_in][n_out], n_out a multiple of LANES. columns: where input i lies.
static void add_weight_gradient(int n, const float* in, int in_stride, const int32_t* columns, int n_in,
                                const float* out, int n_out, int out_stride, float* sums) {
  for (int j = 0; j < n_out;) {
    const int left = (n_out - j) / LANES, vectors = left < COLUMNS ? left : COLUMNS;
#if defined(LV_AVX512)
    if (vectors == 4) add_product_panel<4>(n, in, in_stride, columns, n_in, out + j, out_stride, sums + j, n_out);
    if (vectors == 3) add_product_panel<3>(n, in, in_stride, columns, n_in, out + j, out_stride, sums + j, n_out);
#endif
    if (vectors == 2) add_product_panel<2>(n, in, in_stride, columns, n_in, out + j, out_stride, sums + j, n_out);
    if (vectors == 1) add_product_panel<1>(n, in, in_stride, columns, n_in, out + j, out_stride, sums + j, n_out);
    j += vectors * LANES;
  }
}
