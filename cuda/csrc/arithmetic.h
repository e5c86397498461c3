// Scalar arithmetic that host and GPU share.
//
// The functions *_rn round every operation on its own: whatever decides where a sample lies or whether it counts must
// go through them, because a fused multiply-add there moves samples across the faces of the bounding box. The host
// library is compiled with -ffp-contract=off; the GPU gets the intrinsics, which the compiler never fuses.
#pragma once
#include <math.h>
#include <stdint.h>

#if defined(__CUDACC__)
#include <cuda_fp16.h>
#define LV_HD static __host__ __device__ __forceinline__
#else
#ifndef LV_HD
#define LV_HD static inline __attribute__((always_inline))
#endif
#if defined(__F16C__)
#include <immintrin.h>
#endif
#endif

LV_HD float add_rn(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

LV_HD float sub_rn(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fsub_rn(a, b);
#else
  return a - b;
#endif
}

LV_HD float mul_rn(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

LV_HD float div_rn(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fdiv_rn(a, b);
#else
  return a / b;
#endif
}

// min_of, max_of and clamp return their first argument's bound when it is not a number.
LV_HD float min_of(float a, float b) { return a < b ? a : b; }
LV_HD float max_of(float a, float b) { return a > b ? a : b; }
LV_HD float clamp(float x, float low, float high) { return min_of(max_of(x, low), high); }
LV_HD float floor_of(float x) { return floorf(x); }
LV_HD float absolute(float x) { return fabsf(x); }
LV_HD float choose(bool mask, float a, float b) { return mask ? a : b; }
LV_HD int to_int(float x) { return (int)x; }
LV_HD float like(float, float value) { return value; }

LV_HD float half_to_float(uint16_t bits) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(bits));
#elif !defined(__CUDACC__) && defined(__F16C__)
  return _cvtsh_ss(bits);
#elif defined(__aarch64__)
  __fp16 value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return (float)value;
#else
  // Shift exponent and mantissa into place and let the hardware normalise what was subnormal.
  union {
    uint32_t u;
    float f;
  } value, magic;
  value.u = (uint32_t)(bits & 0x7fff) << 13;
  magic.u = 113u << 23;
  if ((value.u & 0x0f800000u) == 0x0f800000u) {
    value.u += 0x70000000u;  // infinity or not a number
  } else if ((value.u & 0x0f800000u) == 0) {
    value.u += magic.u;
    value.f -= magic.f;
  } else {
    value.u += 0x38000000u;
  }
  value.u |= (uint32_t)(bits & 0x8000) << 16;
  return value.f;
#endif
}
