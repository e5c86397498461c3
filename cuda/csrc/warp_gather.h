// The colour of a surface, looked up in a keyframe.
#pragma once
#include "warp_depth.h"

typedef float Vec4 __attribute__((vector_size(16), may_alias));   // a pixel
typedef float Vec16 __attribute__((vector_size(64), may_alias));  // four pixels

enum { BICUBIC_STEPS = 128 };

// Catmull-Rom weights of four neighbours, by the place between the middle two.
struct BicubicTable {
  struct alignas(64) Weights {
    float of_channels[16];  // each four times
    float of[4];
  } steps[BICUBIC_STEPS + 1];

  BicubicTable() {
    for (int i = 0; i <= BICUBIC_STEPS; i++) {
      const float a = (float)i / BICUBIC_STEPS;
      const float weights[4] = {0.5f * a * (a * (2.0f - a) - 1.0f), 0.5f * (a * a * (3.0f * a - 5.0f) + 2.0f),
                                0.5f * a * (a * (4.0f - 3.0f * a) + 1.0f), 0.5f * a * a * (a - 1.0f)};
      for (int k = 0; k < 4; k++) steps[i].of[k] = weights[k];
      for (int k = 0; k < 16; k++) steps[i].of_channels[k] = weights[k / 4];
    }
  }
};

// The 4 x 4 pixels about a place between four of them, by rows.
struct Neighbourhood {
  Vec16 a, b, c, d;

  __attribute__((always_inline)) Neighbourhood(const Vec4* upper_left, int64_t stride) {
    const float *middle = (const float*)(upper_left - 1), *below = middle + 4 * stride;
    a = load<Vec16>(middle - 4 * stride);
    b = load<Vec16>(middle);
    c = load<Vec16>(below);
    d = load<Vec16>(below + 4 * stride);
  }

  // Whether the four in the middle lie at a z-depth.
  __attribute__((always_inline)) bool lies_at(float w, float slack) const {
#if defined(LV_AVX512)
    const __m512 at = _mm512_set1_ps(w), limit = _mm512_set1_ps(slack);
    const __mmask16 upper = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps((__m512)b, at)), limit, _CMP_LT_OS);
    const __mmask16 lower = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_sub_ps((__m512)c, at)), limit, _CMP_LT_OS);
    return (~((uint32_t)upper & lower) & (1u << 7 | 1u << 11)) == 0;
#else
    auto is_near = [&](float z) { return fabsf(z - w) < slack; };
    return is_near(b[7]) & is_near(b[11]) & is_near(c[7]) & is_near(c[11]);
#endif
  }

  __attribute__((always_inline)) Vec4 mean(const BicubicTable::Weights& across,
                                           const BicubicTable::Weights& down) const {
    Vec16 sum = down.of[0] * a + down.of[1] * b;
    sum += down.of[2] * c;
    sum += down.of[3] * d;
    sum *= load<Vec16>(across.of_channels);
    Vec4 parts[4];
    memcpy(parts, &sum, sizeof sum);
    return (parts[0] + parts[1]) + (parts[2] + parts[3]);
  }
};

// A keyframe with what a gather must know of it.
struct GatherSource {
  LvKeyframe keyframe;
  Mapping mapping;       // from the picture
  const uint8_t* trust;  // with a border, as the keyframe's colours have one; or 0
  int stride;
  bool is_coarse;        // serves only where others know nothing
};

// How well a keyframe knows a pixel.
struct Fetched {
  int rank = 0;       // 0: not at all; PARTLY or WHOLLY as some or all neighbours lie on the surface; 1 less: stale
  Vec4 color = {};
  int64_t place = 0;  // of the neighbour that counts most
};

enum { PARTLY = 2, WHOLLY = 4 };
static constexpr float LEAST_SHARE = 0.15f;  // of the valid neighbours

// Marks of 4 x 4 neighbours, a word for each row; returns all marks in one word.
LV_HD uint32_t marks_round(const GatherSource& source, int64_t place, uint32_t marks[4]) {
  for (int j = 0; j < 4; j++) memcpy(&marks[j], source.trust + place + (j - 1) * (int64_t)source.stride - 1, 4);
  return marks[0] | marks[1] | marks[2] | marks[3];
}

// Four neighbours of a place: which lie on the surface and may be shown.
struct Neighbours {
  uint32_t valid, stale;  // one bit each
  bool any_void;          // among 4 x 4 neighbours
};

LV_HD Neighbours look_round(const GatherSource& source, int64_t place, const Vec4* tap, float w, float slack) {
  const int64_t below = source.stride;
  Neighbours found = {};
  auto lies_there = [&](int64_t step) { return (uint32_t)(fabsf(tap[step][3] - w) < slack); };
  found.valid = lies_there(0) | lies_there(1) << 1 | lies_there(below) << 2 | lies_there(below + 1) << 3;
  if (!source.trust) return found;
  uint32_t marks[4];
  found.any_void = marks_round(source, place, marks) & 0x02020202u;
  for (int i = 0; i < 4; i++) {
    const uint32_t mark = marks[1 + i / 2] >> (8 + 8 * (i % 2));
    found.stale |= (mark & 1) << i;
    found.valid &= ~((mark >> 1 & 1) << i);
  }
  return found;
}

// The valid ones of four neighbours, weighted by their nearness.
static __attribute__((noinline)) void mix_valid(const GatherSource& source, const Vec4* tap, const float shares[4],
                                                uint32_t valid, Fetched& fetched) {
  const int64_t steps[4] = {0, 1, source.stride, source.stride + 1}, place = fetched.place;
  Vec4 mixed = {};
  float sum = 0.0f, most = 0.0f;
  for (int i = 0; i < 4; i++) {
    if (!(valid >> i & 1)) continue;
    mixed += shares[i] * tap[steps[i]];
    sum += shares[i];
    if (shares[i] > most) most = shares[i], fetched.place = place + steps[i];
  }
  if (sum < LEAST_SHARE) fetched.rank = 0;
  else fetched.color = mixed * (1.0f / sum);
}

// Where LANES pixels of a row are to be looked up in a keyframe.
struct LookUp {
  int32_t place[LANES];                  // of the upper left of the four neighbours; -1: not in the keyframe
  int32_t nearest[LANES];                // of the nearest neighbour
  int32_t step_x[LANES], step_y[LANES];  // from the upper left one: what lies on a pixel but for the rounding is it
  float w[LANES], slack[LANES];          // z-depth, and by how much that of a neighbour may differ

  void set(const GatherSource& source, const Seen& seen, float same) {
    const LvView& view = source.keyframe.view;
    const IntVec is_inside = seen.is_seen & (seen.u > -0.5f) & (seen.v > -0.5f) & (seen.u < (float)view.width - 0.5f) &
                             (seen.v < (float)view.height - 0.5f);
    const Vec u = ::choose(is_inside, seen.u, Vec{}), v = ::choose(is_inside, seen.v, Vec{});
    const IntVec x = to_int(u + 1.0f) - 1, y = to_int(v + 1.0f) - 1;
    const Vec left = __builtin_convertvector(x, Vec), top = __builtin_convertvector(y, Vec);
    const IntVec right = to_int((u - left) * (float)BICUBIC_STEPS + 0.5f);
    const IntVec down = to_int((v - top) * (float)BICUBIC_STEPS + 0.5f);
    const IntVec at = (y + LV_WARP_BORDER) * source.stride + x + LV_WARP_BORDER;
    const IntVec half = IntVec{} + BICUBIC_STEPS / 2;
    const IntVec near = at - (right > half) + ((down > half) & source.stride);  // a true comparison is -1
    const IntVec places = is_inside ? at : IntVec{} - 1;
    memcpy(place, &places, sizeof places);
    memcpy(nearest, &near, sizeof near);
    memcpy(step_x, &right, sizeof right);
    memcpy(step_y, &down, sizeof down);
    store(w, seen.w);
    store(slack, seen.w * same);
  }
};

// Looks up one of the pixels, however little of it the keyframe knows.
static inline Fetched fetch(const GatherSource& source, const BicubicTable& bicubic, const LookUp& at, int i) {
  Fetched fetched;
  const int64_t stride = source.stride;
  fetched.place = at.place[i];
  if (fetched.place < 0) return fetched;
  const int step_x = at.step_x[i], step_y = at.step_y[i];
  const Vec4* tap = (const Vec4*)source.keyframe.color + fetched.place;
  const Neighbours found = look_round(source, fetched.place, tap, at.w[i], at.slack[i]);
  if (!found.valid) return fetched;
  const uint32_t columns = (step_x < BICUBIC_STEPS ? 5 : 0) | (step_x > 0 ? 10 : 0);
  const uint32_t used = columns & ((step_y < BICUBIC_STEPS ? 3 : 0) | (step_y > 0 ? 12 : 0));
  const bool is_whole = (used & ~found.valid) == 0;
  fetched.rank = (is_whole ? WHOLLY : PARTLY) - ((used & found.valid & found.stale) != 0);
  if (is_whole && !found.any_void) {
    fetched.color = Neighbourhood(tap, stride).mean(bicubic.steps[step_x], bicubic.steps[step_y]);
    fetched.place = at.nearest[i];
  } else {
    const float a = (float)step_x / BICUBIC_STEPS, b = (float)step_y / BICUBIC_STEPS;
    const float shares[4] = {(1.0f - a) * (1.0f - b), a * (1.0f - b), (1.0f - a) * b, a * b};
    mix_valid(source, tap, shares, found.valid, fetched);
  }
  return fetched;
}

// The same where the keyframe knows all neighbours, as it mostly does; false where it does not.
LV_HD bool fetch_known(const GatherSource& source, const BicubicTable& bicubic, const LookUp& at, int i, Vec4& color) {
  const int64_t place = at.place[i];
  uint32_t marks[4];
  if (place < 0 || (source.trust && marks_round(source, place, marks))) return false;
  const Neighbourhood around((const Vec4*)source.keyframe.color + place, source.stride);
  if (!around.lies_at(at.w[i], at.slack[i])) return false;
  color = around.mean(bicubic.steps[at.step_x[i]], bicubic.steps[at.step_y[i]]);
  return true;
}

// Where a pixel's own ray meets the surface, as a share of the z-depth that it was looked up with: that is of a point
// beside the ray, and would show as stripes on slopes.
static __attribute__((noinline)) float depth_ratio(const GatherSource& source, const LookUp& at, int i) {
  const Vec4* tap = (const Vec4*)source.keyframe.color + at.place[i];
  const float a = (float)at.step_x[i] / BICUBIC_STEPS, b = (float)at.step_y[i] / BICUBIC_STEPS, w = at.w[i];
  const float shares[4] = {(1.0f - a) * (1.0f - b), a * (1.0f - b), (1.0f - a) * b, a * b};
  const int64_t steps[4] = {0, 1, source.stride, source.stride + 1};
  float mixed = 0.0f, sum = 0.0f;
  for (int k = 0; k < 4; k++) {
    const float z = tap[steps[k]][3];
    if (!(fabsf(z - w) < at.slack[i])) continue;
    mixed += shares[k] * z;
    sum += shares[k];
  }
  return sum > LEAST_SHARE ? mixed / (sum * w) : 1.0f;
}

// Copies marks of trust into a plane with a border.
static inline void pad_trust(const LvKeyframe& source, std::vector<uint8_t>& to) {
  const int width = source.view.width, height = source.view.height, stride = width + 2 * LV_WARP_BORDER;
  to.resize((size_t)stride * (height + 2 * LV_WARP_BORDER));
  for (int y = -LV_WARP_BORDER; y < height + LV_WARP_BORDER; y++) {
    const uint8_t* row = source.trust + (size_t)std::min(std::max(y, 0), height - 1) * width;
    uint8_t* its = to.data() + (size_t)(y + LV_WARP_BORDER) * stride;
    memset(its, row[0], LV_WARP_BORDER);
    memcpy(its + LV_WARP_BORDER, row, width);
    memset(its + LV_WARP_BORDER + width, row[width - 1], LV_WARP_BORDER);
  }
}
