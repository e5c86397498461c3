// Pairs of bfloat16 as numbers of a layer: twice the products per instruction, their sums in float32 as ever.
#pragma once
#include "simd.h"

#if defined(LV_AVX512) && defined(__AVX512BF16__)
#define LV_BF16 1
#else
#define LV_BF16 0
#endif

typedef int32_t Pair;  // inputs 2 i (low half) and 2 i + 1

#if LV_BF16
// sum + the products of both halves of a and b; denormal halves and sums count as 0.
LV_HD Vec fused(IntVec a, IntVec b, Vec sum) {
  return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)a, (__m512bh)(__m512i)b);
}

// The nearest pairs of what two vectors hold for the low and the high halves.
LV_HD IntVec pairs_of(Vec low, Vec high) {
  const __m512i halves[2] = {_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)low)),
                             _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)high))};
  return (IntVec)halves[0] | (IntVec)halves[1] << 16;
}

// Rounds n consecutive numbers, a multiple of LANES. to: [n / 2]
static void round_to_pairs(const float* from, size_t n, Pair* to) {
  for (size_t i = 0; i < n; i += LANES) {
    const __m256bh rounded = _mm512_cvtneps_pbh((__m512)load<Vec>(from + i));
    memcpy(to + i / 2, &rounded, sizeof rounded);
  }
}
#endif
