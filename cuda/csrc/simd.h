// Vectors of LANES floats for the host, in GCC's vector extensions, with intrinsics only where those have no words.
//
// Must come before the shared headers: their templates find the overloads for Vec below. Everything here has internal
// linkage, because the same names mean other instructions in a library for another processor.
#pragma once
#include <string.h>

#include "arithmetic.h"

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define LV_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define LV_AVX2 1
#endif
#if defined(LV_AVX512) || defined(LV_AVX2)
#include <immintrin.h>
#endif

#if defined(LV_AVX512)
enum { LANES = 16 };
#elif defined(LV_AVX2)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

typedef float Vec __attribute__((vector_size(LANES * 4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(LANES * 4), may_alias));
typedef float Vec8 __attribute__((vector_size(32), may_alias));  // a run of channels
typedef int32_t IntVec8 __attribute__((vector_size(32), may_alias));

template <class V, class Number>
LV_HD V load(const Number* from) {
  V v;
  memcpy(&v, from, sizeof v);
  return v;
}
template <class V>
LV_HD void store(float* to, V v) {
  memcpy(to, &v, sizeof v);
}
template <class V>
LV_HD V splat(float x) {
  return x - V{};  // 0 + x would not fold: it turns -0 into 0
}

// a * b + c, fused where the processor can.
LV_HD Vec fused(Vec a, Vec b, Vec c) {
#if defined(LV_AVX512)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(LV_AVX2)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

LV_HD Vec floor_of(Vec x) {
#if defined(LV_AVX512)
  return (Vec)_mm512_roundscale_ps((__m512)x, 1);
#elif defined(LV_AVX2)
  return (Vec)_mm256_floor_ps((__m256)x);
#else
  // Beyond 2^22 every float here is whole or far outside any table.
  Vec near = x > 4194304.0f ? splat<Vec>(4194304.0f) : x;
  near = near < -4194304.0f ? splat<Vec>(-4194304.0f) : near;
  Vec whole = __builtin_convertvector(__builtin_convertvector(near, IntVec), Vec);
  return whole > near ? whole - 1.0f : whole;
#endif
}

LV_HD Vec round_of(Vec x) {
#if defined(LV_AVX512)
  return (Vec)_mm512_roundscale_ps((__m512)x, 0);
#elif defined(LV_AVX2)
  return (Vec)_mm256_round_ps((__m256)x, 0);
#else
  return floor_of(x + 0.5f);
#endif
}

// One bit per lane of a comparison's result.
LV_HD uint32_t bits_of(IntVec mask) {
#if defined(LV_AVX512)
  return _mm512_movepi32_mask((__m512i)mask);
#elif defined(LV_AVX2)
  return (uint32_t)_mm256_movemask_ps((__m256)mask);
#else
  uint32_t bits = 0;
  for (int i = 0; i < LANES; i++) bits |= (uint32_t)(mask[i] & 1) << i;
  return bits;
#endif
}

// All ones in the lanes whose bits are set.
LV_HD IntVec lanes_of(uint32_t bits) {
#if defined(LV_AVX512)
  return (IntVec)_mm512_movm_epi32((__mmask16)bits);
#else
  IntVec bit;
  for (int i = 0; i < LANES; i++) bit[i] = 1 << i;
  return ((IntVec{} + (int32_t)bits) & bit) != 0;
#endif
}

// Which of `lanes` have their bit set in their word, as bits.
LV_HD uint32_t set_bits(const uint64_t* words, IntVec word, IntVec bit, uint32_t lanes) {
#if defined(LV_AVX512)
  const __m512i all = (__m512i)word, shift = (__m512i)bit, one = _mm512_set1_epi64(1);
  const __m512i low = _mm512_mask_i32gather_epi64(_mm512_setzero_si512(), (__mmask8)lanes,
                                                  _mm512_castsi512_si256(all), words, 8);
  const __m512i high = _mm512_mask_i32gather_epi64(_mm512_setzero_si512(), (__mmask8)(lanes >> 8),
                                                   _mm512_extracti64x4_epi64(all, 1), words, 8);
  const __m512i low_shift = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(shift));
  const __m512i high_shift = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(shift, 1));
  return _mm512_test_epi64_mask(_mm512_srlv_epi64(low, low_shift), one) |
         (uint32_t)_mm512_test_epi64_mask(_mm512_srlv_epi64(high, high_shift), one) << 8;
#else
  uint32_t set = 0;
  for (; lanes; lanes &= lanes - 1) {
    int i = __builtin_ctz(lanes);
    set |= (uint32_t)(words[word[i]] >> bit[i] & 1) << i;
  }
  return set;
#endif
}

// Appends first + i for every set bit i and returns their number; up to LANES numbers are overwritten behind them.
LV_HD int append_set(int32_t* to, int first, uint32_t bits) {
#if defined(LV_AVX512)
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i numbers = _mm512_add_epi32(lanes, _mm512_set1_epi32(first));
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)bits, numbers));
  return __builtin_popcount(bits);
#else
  int n = 0;
  for (; bits; bits &= bits - 1) to[n++] = first + __builtin_ctz(bits);
  return n;
#endif
}

// Appends the lanes whose bits are set; up to LANES numbers are overwritten behind them.
LV_HD void append_lanes(float* to, Vec v, uint32_t bits) {
#if defined(LV_AVX512)
  _mm512_storeu_ps(to, _mm512_maskz_compress_ps((__mmask16)bits, (__m512)v));
#else
  float lanes[LANES];
  store(lanes, v);
  for (; bits; bits &= bits - 1) *to++ = lanes[__builtin_ctz(bits)];
#endif
}

LV_HD Vec add_rn(Vec a, Vec b) { return a + b; }
LV_HD Vec sub_rn(Vec a, Vec b) { return a - b; }
LV_HD Vec mul_rn(Vec a, Vec b) { return a * b; }
LV_HD Vec div_rn(Vec a, Vec b) { return a / b; }
LV_HD Vec min_of(Vec a, Vec b) { return a < b ? a : b; }
LV_HD Vec max_of(Vec a, Vec b) { return a > b ? a : b; }
LV_HD Vec choose(IntVec mask, Vec a, Vec b) { return mask ? a : b; }
LV_HD IntVec to_int(Vec x) { return __builtin_convertvector(x, IntVec); }
LV_HD Vec like(Vec, float value) { return splat<Vec>(value); }
LV_HD Vec like(Vec, Vec value) { return value; }
LV_HD Vec absolute(Vec x) { return (Vec)((IntVec)x & 0x7fffffff); }

LV_HD Vec first_lanes() {
  Vec v;
  for (int i = 0; i < LANES; i++) v[i] = (float)i;
  return v;
}

// Half precision: LANES or 8 consecutive numbers.
template <class V>
LV_HD V load_half(const uint16_t* from) {
  V v;
  for (unsigned i = 0; i < sizeof(V) / 4; i++) v[i] = half_to_float(from[i]);
  return v;
}
#if defined(LV_AVX512) || defined(LV_AVX2)
template <>
inline __attribute__((always_inline)) Vec8 load_half<Vec8>(const uint16_t* from) {
  return (Vec8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
}
#endif
#if defined(LV_AVX512)
template <>
inline __attribute__((always_inline)) Vec load_half<Vec>(const uint16_t* from) {
  return (Vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
}
#endif

LV_HD float sum_of(Vec v) {
#if defined(LV_AVX512)
  return _mm512_reduce_add_ps((__m512)v);
#else
  float pairs[LANES];
  store(pairs, v);
  for (int width = LANES / 2; width; width /= 2)
    for (int i = 0; i < width; i++) pairs[i] += pairs[i + width];
  return pairs[0];
#endif
}

// Sums of LANES rows of eight: the rows of all lanes, one sum per lane.
LV_HD Vec row_sums(const float (*rows)[8]) {
#if defined(LV_AVX512) || defined(LV_AVX2)
  __m256 parts[LANES / 8];
  for (int part = 0; part < LANES / 8; part++) {
    __m256 r[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(rows[8 * part + i]);
    __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(r[0], r[1]), _mm256_hadd_ps(r[2], r[3]));
    __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(r[4], r[5]), _mm256_hadd_ps(r[6], r[7]));
    parts[part] = _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  }
  Vec sums;
  memcpy(&sums, parts, sizeof sums);
  return sums;
#else
  Vec sums;
  for (int i = 0; i < LANES; i++) {
    const float* r = rows[i];
    sums[i] = ((r[0] + r[1]) + (r[2] + r[3])) + ((r[4] + r[5]) + (r[6] + r[7]));
  }
  return sums;
#endif
}

// exp, relative error below 2e-7; the argument is clamped to what a float can hold.
LV_HD Vec exp_of(Vec x) {
  x = max_of(min_of(x, splat<Vec>(88.37f)), splat<Vec>(-87.33f));
  Vec n = round_of(x * 1.44269504f);
  Vec r = fused(n, splat<Vec>(-0.693359375f), x);
  r = fused(n, splat<Vec>(2.12194440e-4f), r);
  Vec p = splat<Vec>(1.9875691500e-4f);
  p = fused(p, r, splat<Vec>(1.3981999507e-3f));
  p = fused(p, r, splat<Vec>(8.3334519073e-3f));
  p = fused(p, r, splat<Vec>(4.1665795894e-2f));
  p = fused(p, r, splat<Vec>(1.6666665459e-1f));
  p = fused(p, r, splat<Vec>(5.0000001201e-1f));
  p = fused(p, r * r, r + 1.0f);
  return p * (Vec)((to_int(n) + 127) << 23);
}

// log of a normal positive number.
LV_HD Vec log_of(Vec x) {
  IntVec bits = (IntVec)x;
  IntVec exponent = ((bits >> 23) & 0xff) - 126;
  Vec m = (Vec)((bits & 0x007fffff) | 0x3f000000);  // [0.5, 1)
  IntVec low = m < 0.707106781186547524f;
  exponent = exponent + low;  // a true comparison is -1
  m = choose(low, m + m, m) - 1.0f;
  Vec z = m * m, n = __builtin_convertvector(exponent, Vec);
  Vec p = splat<Vec>(7.0376836292e-2f);
  p = fused(p, m, splat<Vec>(-1.1514610310e-1f));
  p = fused(p, m, splat<Vec>(1.1676998740e-1f));
  p = fused(p, m, splat<Vec>(-1.2420140846e-1f));
  p = fused(p, m, splat<Vec>(1.4249322787e-1f));
  p = fused(p, m, splat<Vec>(-1.6668057665e-1f));
  p = fused(p, m, splat<Vec>(2.0000714765e-1f));
  p = fused(p, m, splat<Vec>(-2.4999993993e-1f));
  p = fused(p, m, splat<Vec>(3.3333331174e-1f));
  p = p * m * z;
  p = fused(n, splat<Vec>(-2.12194440e-4f), p);
  p = fused(z, splat<Vec>(-0.5f), p);
  return fused(n, splat<Vec>(0.693359375f), m + p);
}

// log(1 + x) for x >= 0, exact to the rounding for small x too (Kahan).
LV_HD Vec log1p_of(Vec x) {
  Vec u = x + 1.0f, difference = u - 1.0f;
  Vec safe = choose(difference > 0.0f, difference, splat<Vec>(1.0f));
  return choose(difference > 0.0f, log_of(u) * (x / safe), x);
}

LV_HD void sincos_of(Vec x, Vec& sine, Vec& cosine) {
  // The reduction by vectors would lose the digits of large angles.
  for (uint32_t left = bits_of(absolute(x) > 8192.0f); left; left &= left - 1) {
    int i = __builtin_ctz(left);
    x[i] = (float)remainder((double)x[i], 6.283185307179586);
  }
  Vec n = round_of(x * 0.636619772f);
  Vec r = fused(n, splat<Vec>(-1.5703125f), x);
  r = fused(n, splat<Vec>(-4.837512969970703125e-4f), r);
  r = fused(n, splat<Vec>(-7.54978995489188216e-8f), r);
  Vec z = r * r;
  Vec s = fused(splat<Vec>(-1.9515295891e-4f), z, splat<Vec>(8.3321608736e-3f));
  s = fused(s, z, splat<Vec>(-1.6666654611e-1f));
  s = fused(s * z, r, r);
  Vec c = fused(splat<Vec>(2.443315711809948e-5f), z, splat<Vec>(-1.388731625493765e-3f));
  c = fused(c, z, splat<Vec>(4.166664568298827e-2f));
  c = fused(c * z, z, fused(splat<Vec>(-0.5f), z, splat<Vec>(1.0f)));
  IntVec quadrant = to_int(n);
  IntVec swap = (quadrant & 1) != 0;
  Vec a = choose(swap, c, s), b = choose(swap, s, c);
  sine = (Vec)((IntVec)a ^ ((quadrant & 2) << 30));
  cosine = (Vec)((IntVec)b ^ (((quadrant + 1) & 2) << 30));
}
