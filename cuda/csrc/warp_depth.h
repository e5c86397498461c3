// The z-depth of what keyframes show, as it is seen from another view.
#pragma once
#include <vector>

#include "warp_abi.h"
#include "warp_geometry.h"
#include "warp_team.h"

#define LV_WARP_SPREAD 32.0f  // pixels that one pixel of a keyframe covers at most, along a side
enum { MARGIN = 2 };          // pixels round the planes below

// Planes of a picture's size with a margin, so that neighbours can be read everywhere.
template <class T>
struct Plane {
  int stride = 0;
  std::vector<T> memory;

  void resize(int width, int height, T value) {
    stride = width + 2 * MARGIN + LANES;
    memory.assign((size_t)stride * (height + 2 * MARGIN), value);
  }
  T* row(int y) { return memory.data() + (size_t)(y + MARGIN) * stride + MARGIN; }
  const T* row(int y) const { return memory.data() + (size_t)(y + MARGIN) * stride + MARGIN; }
};

// Lowers a number that other threads lower, too: the outcome does not depend on the order. Depths are positive, their
// bits are in the order of the numbers.
static inline void lower(uint32_t* to, uint32_t bits, bool is_alone) {
  uint32_t old = __atomic_load_n(to, __ATOMIC_RELAXED);
  if (is_alone) {
    if (bits < old) *to = bits;
    return;
  }
  while (bits < old && !__atomic_compare_exchange_n(to, &old, bits, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
}

// Whether a keyframe is so much coarser than the best one that it only serves where that shows nothing: its pixels are
// wide, and would cover what lies beside an edge.
static inline bool is_coarser(const LvKeyframe& source, const LvKeyframe& best) {
  return source.view.fl_x * 1.5f < best.view.fl_x;
}

class DepthMap {
 public:
  int width = 0, height = 0;
  Plane<float> z;  // 0: unknown

  void resize(int its_width, int its_height) {
    if (width == its_width && height == its_height) return;
    width = its_width;
    height = its_height;
    nearest_.resize(width, height, UNSEEN);
    z.resize(width, height, 0.0f);
    low_.resize(width, height, 0.0f);
    behind_ = {};
  }

  // Phases of a team: the map as it follows from keyframes.
  void find(Team& team, const LvView& view, const LvKeyframe* sources, int n, float crack) {
    bool any_coarse = false;
    for (int i = 1; i < n; i++) any_coarse |= is_coarser(sources[i], sources[0]);
    team.once([&] {
      if (any_coarse && behind_.memory.empty()) behind_.resize(width, height, UNSEEN);
    });
    team.rows(height, [&](int first, int last) {
      for (int y = first; y < last; y++) {
        std::fill_n(nearest_.row(y), width, UNSEEN);
        if (any_coarse) std::fill_n(behind_.row(y), width, UNSEEN);
      }
    });
    for (int i = 0; i < n; i++) {
      const Mapping mapping = mapping_between(sources[i].view, view);
      Plane<float>& to = is_coarser(sources[i], sources[0]) ? behind_ : nearest_;
      team.rows(sources[i].view.height, [&](int first, int last) {
        CastRow row(sources[i].view.width);
        for (int y = first; y < last; y++) cast_row(mapping, sources[i], y, row, to, team.is_alone());
      });
    }
    if (any_coarse)
      team.rows(height, [&](int first, int last) {
        for (int y = first; y < last; y++) show_behind(y);
      });
    team.rows(height, [&](int first, int last) {
      for (int y = first; y < last; y++) close_cracks(y, 1.0f + crack);
    });
  }

  // A phase: what `start` needs.
  void find_low(Team& team) {
    team.rows(height, [&](int first, int last) {
      for (int y = first; y < last; y++) {
        const float* from = z.row(y);
        float* to = low_.row(y);
        for (int x = 0; x < width; x += LANES) {
          Vec low = load<Vec>(from + x);
          for (int d : {-2, -1, 1, 2}) low = min_of(low, load<Vec>(from + x + d));
          store(to + x, low);
        }
      }
    });
  }

  // z-depth before which a ray meets nothing: less than what lies about it, 0 where anything of that is unknown.
  float start(int x, int y, float margin) const {
    if (y < 2 || y + 2 >= height) return 0.0f;
    float low = low_.row(y)[x];
    for (int d : {-2, -1, 1, 2}) low = min_of(low, low_.row(y + d)[x]);
    return max_of(low * (1.0f - ROUNDING) - margin, 0.0f);
  }

 private:
  static constexpr float UNSEEN = 3e38f, ROUNDING = 1e-4f;
  Plane<float> nearest_, low_;
  Plane<float> behind_;  // what only coarse keyframes show; empty until there is one

  // Pixels that the pixels of one row of a keyframe cover.
  struct CastRow {
    std::vector<float> z;
    std::vector<int32_t> left, right, top, bottom;

    explicit CastRow(int width)
        : z(width + LANES), left(width + LANES), right(width + LANES), top(width + LANES), bottom(width + LANES) {}
  };

  void cast_row(const Mapping& mapping, const LvKeyframe& source, int y, CastRow& row, Plane<float>& map,
                bool is_alone) const {
    const int n = source.view.width, stride = n + 2 * LV_WARP_BORDER;
    const float* color = source.color + 4 * ((size_t)(y + LV_WARP_BORDER) * stride + LV_WARP_BORDER);
    const uint8_t* trust = source.trust ? source.trust + (size_t)y * n : 0;
    for (int x = 0; x < n; x++) row.z[x] = trust && trust[x] == LV_VOID ? 0.0f : color[4 * x + 3];
    find_cover(RowMapping(mapping, y), n, row);
    uint32_t* base = (uint32_t*)map.row(0);
    const int64_t down = map.stride;
    for (int x = 0; x < n; x++) {
      const int columns = row.right[x] - row.left[x], rows = row.bottom[x] - row.top[x];
      if ((columns | rows) < 0) continue;
      uint32_t bits;
      memcpy(&bits, &row.z[x], sizeof bits);
      uint32_t* to = base + row.top[x] * down + row.left[x];
      for (int i = 0; i <= rows; i++)
        for (int j = 0; j <= columns; j++) lower(to + i * down + j, bits, is_alone);
    }
  }

  // A pixel covers what a small square that faces its own camera would cover, at least the pixel that it falls on.
  // Replaces the depths of the row by those in the new view.
  void find_cover(const RowMapping& mapping, int n, CastRow& row) const {
    const float(*h)[3] = mapping.mapping.h;
    for (int x = 0; x < n; x += LANES) {
      const Seen seen = mapping.at(x, load<Vec>(row.z.data() + x));
      const Vec side_x = absolute(h[0][0] - seen.u * h[2][0]) + absolute(h[0][1] - seen.u * h[2][1]);
      const Vec side_y = absolute(h[1][0] - seen.v * h[2][0]) + absolute(h[1][1] - seen.v * h[2][1]);
      cover(seen.u, seen.scale * side_x, width, seen.is_seen, row.left.data() + x, row.right.data() + x);
      cover(seen.v, seen.scale * side_y, height, seen.is_seen, row.top.data() + x, row.bottom.data() + x);
      store(row.z.data() + x, seen.w);
    }
  }

  static void cover(Vec at, Vec side, int n, IntVec is_seen, int32_t* first, int32_t* last) {
    const Vec half = 0.5f * min_of(max_of(side, splat<Vec>(1.0f)), splat<Vec>(LV_WARP_SPREAD));
    const Vec limit = splat<Vec>((float)n);
    const Vec low = min_of(max_of(-floor_of(half - at), Vec{}), limit);
    const Vec high = max_of(min_of(floor_of(at + half), limit - 1.0f), splat<Vec>(-1.0f));
    const IntVec firsts = to_int(low), lasts = to_int(::choose(is_seen, high, splat<Vec>(-1.0f)));
    memcpy(first, &firsts, sizeof firsts);
    memcpy(last, &lasts, sizeof lasts);
  }

  void show_behind(int y) {
    float* to = nearest_.row(y);
    const float* from = behind_.row(y);
    for (int x = 0; x < width; x++) to[x] = to[x] == UNSEEN ? from[x] : to[x];
  }

  // A pixel most of whose neighbours form a layer before it belongs to that layer.
  void close_cracks(int y, float layer) {
    const float* from = nearest_.row(y);
    float* to = z.row(y);
    const int s = nearest_.stride, around[8] = {-s - 1, -s, -s + 1, -1, 1, s - 1, s, s + 1};
    for (int x = 0; x < width; x += LANES) {
      const Vec own = load<Vec>(from + x);
      Vec next[8], low = splat<Vec>(UNSEEN);
      for (int i = 0; i < 8; i++) low = min_of(next[i] = load<Vec>(from + x + around[i]), low);
      const Vec limit = low * layer;
      Vec sum = Vec{};
      IntVec count = IntVec{};
      for (int i = 0; i < 8; i++) {
        const IntVec in_layer = next[i] < limit;
        sum = sum + ::choose(in_layer, next[i], Vec{});
        count = count - in_layer;
      }
      const IntVec is_crack = (count >= 5) & (own > limit);
      const Vec mean = sum / __builtin_convertvector(count, Vec);
      const Vec result = ::choose(is_crack, mean, own);
      store(to + x, ::choose(result < 1e9f, result, Vec{}));
    }
  }
};
