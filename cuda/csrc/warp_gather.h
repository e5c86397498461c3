// The colour of a surface, looked up in a keyframe.
#pragma once
#include "warp_depth.h"

typedef float Vec4 __attribute__((vector_size(16), may_alias));   // a pixel
typedef float Vec16 __attribute__((vector_size(64), may_alias));  // four pixels

enum { BICUBIC_STEPS = 128 };

// Catmull-Rom weights of four neighbours, by the place between the middle two.
struct BicubicTable {
  struct Weights {
    float of[4];
    float of_channels[16];  // each four times
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

// The sum of 4 x 4 neighbours with weights, `from` being the first of them.
LV_HD Vec4 sum_bicubic(const Vec4* from, int64_t stride, const float down[4], const float across[16]) {
  Vec16 sum = down[0] * load<Vec16>((const float*)from) + down[1] * load<Vec16>((const float*)(from + stride));
  sum += down[2] * load<Vec16>((const float*)(from + 2 * stride));
  sum += down[3] * load<Vec16>((const float*)(from + 3 * stride));
  sum *= load<Vec16>(across);
  Vec4 parts[4];
  memcpy(parts, &sum, sizeof sum);
  return (parts[0] + parts[1]) + (parts[2] + parts[3]);
}

// A keyframe with what a gather must know of it.
struct GatherSource {
  LvKeyframe keyframe;
  Mapping mapping;       // from the picture
  const uint8_t* trust;  // with a border, as the keyframe's colours have one; or 0
  int stride;
  bool is_coarse;        // serves only where others know nothing

  int64_t place(int x, int y) const { return (int64_t)(y + LV_WARP_BORDER) * stride + x + LV_WARP_BORDER; }
};

// How well a keyframe knows a pixel.
struct Fetched {
  int rank = 0;       // 0: not at all; PARTLY or WHOLLY as some or all neighbours lie on the surface; 1 less: stale
  Vec4 color = {};
  int64_t place = 0;  // of the neighbour that counts most
};

enum { PARTLY = 2, WHOLLY = 4 };
static constexpr float LEAST_SHARE = 0.15f;  // of the valid neighbours

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
  uint32_t marks[4], all = 0;
  for (int j = 0; j < 4; j++) {
    memcpy(&marks[j], source.trust + place + (j - 1) * below - 1, 4);
    all |= marks[j];
  }
  found.any_void = all & 0x02020202u;
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

// Looks up what a keyframe shows at (u, v), if that lies at z-depth w.
LV_HD Fetched fetch(const GatherSource& source, const BicubicTable& bicubic, float u, float v, float w, float same) {
  Fetched fetched;
  const LvView& view = source.keyframe.view;
  if (!(u > -0.5f && v > -0.5f && u < (float)view.width - 0.5f && v < (float)view.height - 0.5f)) return fetched;
  const int x = (int)(u + 1.0f) - 1, y = (int)(v + 1.0f) - 1;
  // In steps: what lies on a pixel but for the rounding is that pixel.
  const int step_x = (int)((u - (float)x) * BICUBIC_STEPS + 0.5f);
  const int step_y = (int)((v - (float)y) * BICUBIC_STEPS + 0.5f);
  fetched.place = source.place(x, y);
  const Vec4* tap = (const Vec4*)source.keyframe.color + fetched.place;
  const Neighbours found = look_round(source, fetched.place, tap, w, same * w);
  if (!found.valid) return fetched;
  const uint32_t columns = (step_x < BICUBIC_STEPS ? 5 : 0) | (step_x > 0 ? 10 : 0);
  const uint32_t used = columns & ((step_y < BICUBIC_STEPS ? 3 : 0) | (step_y > 0 ? 12 : 0));
  const bool is_whole = (used & ~found.valid) == 0;
  fetched.rank = (is_whole ? WHOLLY : PARTLY) - ((used & found.valid & found.stale) != 0);
  if (is_whole && !found.any_void) {
    const int64_t stride = source.stride;
    fetched.color = sum_bicubic(tap - stride - 1, stride, bicubic.steps[step_y].of,
                                bicubic.steps[step_x].of_channels);
    fetched.place += (step_x > BICUBIC_STEPS / 2) + (step_y > BICUBIC_STEPS / 2) * stride;
  } else {
    const float a = (float)step_x / BICUBIC_STEPS, b = (float)step_y / BICUBIC_STEPS;
    const float shares[4] = {(1.0f - a) * (1.0f - b), a * (1.0f - b), (1.0f - a) * b, a * b};
    mix_valid(source, tap, shares, found.valid, fetched);
  }
  return fetched;
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
