// The z-depth of what keyframes show, as it is seen from another view.
#pragma once
#include <vector>

#include "warp_abi.h"
#include "warp_geometry.h"
#include "warp_team.h"

#define LV_WARP_SPREAD 32.0f  // pixels that one pixel of a keyframe covers at most, along a side
enum {
  MARGIN = 2,  // pixels round the planes below
  MOST = 5     // of eight neighbours: so many nearer ones form a layer over what is behind them
};

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

// z-depths of the first n of LANES pixels of a keyframe or picture.
static inline Vec depths_of(const float* color, int n) {
#if defined(LV_AVX512)
  if (n == LANES) {
    const __m512i pick = _mm512_setr_epi32(3, 7, 11, 15, 19, 23, 27, 31, 3, 7, 11, 15, 19, 23, 27, 31);
    const __m512 low = _mm512_permutex2var_ps(_mm512_loadu_ps(color), pick, _mm512_loadu_ps(color + 16));
    const __m512 high = _mm512_permutex2var_ps(_mm512_loadu_ps(color + 32), pick, _mm512_loadu_ps(color + 48));
    return (Vec)_mm512_shuffle_f32x4(low, high, 0x44);
  }
#endif
  Vec z = Vec{};
  for (int i = 0; i < n; i++) z[i] = color[4 * i + 3];
  return z;
}

// Whether a keyframe is so much coarser than the best one that it only serves where that shows nothing: its pixels are
// wide, and would cover what lies beside an edge.
static inline bool is_coarser(const LvKeyframe& source, const LvKeyframe& best) {
  return source.view.fl_x * 1.5f < best.view.fl_x;
}

static inline bool any_coarser(const LvKeyframe* sources, int n) {
  bool any = false;
  for (int i = 1; i < n; i++) any |= is_coarser(sources[i], sources[0]);
  return any;
}

class DepthMap {
 public:
  int width = 0, height = 0;
  Plane<float> z;  // 0: unknown

  void resize(int its_width, int its_height) {
    if (width == its_width && height == its_height) return;
    width = its_width;
    height = its_height;
    nearest_.clear();
    behind_.clear();
    z.resize(width, height, 0.0f);
    low_.resize(width, height, 0.0f);
  }

  // Before `find`: room for what each thread finds.
  void prepare(const Team& team, const LvKeyframe* sources, int n) {
    auto make = [&](std::vector<Plane<float>>& planes) {
      for (int i = (int)planes.size(); i < team.size(); i++) planes.emplace_back().resize(width, height, UNSEEN);
    };
    make(nearest_);
    if (any_coarser(sources, n)) make(behind_);
  }

  // Phases of a team: the map as it follows from keyframes.
  void find(Team& team, int thread, const LvView& view, const LvKeyframe* sources, int n, float crack) {
    const bool any_coarse = any_coarser(sources, n);
    clear(nearest_[thread]);
    if (any_coarse) clear(behind_[thread]);
    Mapping mappings[LV_WARP_SOURCES];
    int n_rows = 0;
    for (int i = 0; i < n; i++) {
      mappings[i] = mapping_between(sources[i].view, view);
      n_rows += sources[i].view.height;
    }
    team.rows(n_rows, [&](int first, int last) {
      for (int row = first; row < last; row++) {
        int i = 0, y = row;
        while (y >= sources[i].view.height) y -= sources[i++].view.height;
        Plane<float>& to = (is_coarser(sources[i], sources[0]) ? behind_ : nearest_)[thread];
        cast_row(mappings[i], sources[i], y, to);
      }
    });
    if (team.size() > 1 || any_coarse)
      team.rows(height, [&](int first, int last) {
        for (int y = first; y < last; y++) unite(y, any_coarse);
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
          for (int d : {-2, -1, 1, 2}) low = ::min_of(low, load<Vec>(from + x + d));
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
  Plane<float> low_;
  std::vector<Plane<float>> nearest_;  // one of each thread
  std::vector<Plane<float>> behind_;   // what only coarse keyframes show; empty until there is one

  void clear(Plane<float>& plane) const {
    for (int y = 0; y < height; y++) std::fill_n(plane.row(y), width, UNSEEN);
  }

  // A pixel covers what a small square that faces its own camera would cover, at least the pixel that it falls on.
  void cast_row(const Mapping& mapping, const LvKeyframe& source, int y, Plane<float>& map) const {
    const int n = source.view.width, stride = n + 2 * LV_WARP_BORDER;
    const float(*h)[3] = mapping.h;
    const float* color = source.color + 4 * ((size_t)(y + LV_WARP_BORDER) * stride + LV_WARP_BORDER);
    const uint8_t* trust = source.trust ? source.trust + (size_t)y * n : 0;
    const RowMapping row(mapping, y);
    float* origin = map.row(0);
    for (int x = 0; x < n; x += LANES) {
      uint32_t pixels = (uint32_t)((1ull << std::min<int>(LANES, n - x)) - 1);
      for (uint32_t left = trust ? pixels : 0; left; left &= left - 1) {
        const int i = __builtin_ctz(left);
        if (trust[x + i] == LV_VOID) pixels &= ~(1u << i);
      }
      const Seen seen = row.at(x, depths_of(color + 4 * x, std::min<int>(LANES, n - x)));
      const Vec side_x = absolute(h[0][0] - seen.u * h[2][0]) + absolute(h[0][1] - seen.u * h[2][1]);
      const Vec side_y = absolute(h[1][0] - seen.v * h[2][0]) + absolute(h[1][1] - seen.v * h[2][1]);
      const Cover across(seen.u, seen.scale * side_x, width), down(seen.v, seen.scale * side_y, height);
      const IntVec is_covered = seen.is_seen & (across.n > 0) & (down.n > 0);
      int32_t at[LANES], columns[LANES], rows[LANES];
      float w[LANES];
      const IntVec first = down.first * map.stride + across.first;
      memcpy(at, &first, sizeof at);
      memcpy(columns, &across.n, sizeof columns);
      memcpy(rows, &down.n, sizeof rows);
      store(w, seen.w);
      pixels &= bits_of(is_covered);
      const uint32_t small = pixels & bits_of((across.n == 1) & (down.n == 1));
      for (uint32_t left = small; left; left &= left - 1) {
        const int i = __builtin_ctz(left);
        origin[at[i]] = min_of(w[i], origin[at[i]]);
      }
      for (uint32_t left = pixels & ~small; left; left &= left - 1) {
        const int i = __builtin_ctz(left);
        float* to = origin + at[i];
        for (int b = 0; b < rows[i]; b++, to += map.stride)
          for (int a = 0; a < columns[i]; a++) to[a] = min_of(w[i], to[a]);
      }
    }
  }

  static float min_of(float a, float b) { return a < b ? a : b; }

  // The pixels along one axis that LANES squares cover.
  struct Cover {
    IntVec first, n;

    Cover(Vec at, Vec side, int size) {
      const Vec half = 0.5f * ::min_of(max_of(side, splat<Vec>(1.0f)), splat<Vec>(LV_WARP_SPREAD));
      const Vec limit = splat<Vec>((float)size);
      first = to_int(::min_of(max_of(-floor_of(half - at), Vec{}), limit));
      n = to_int(max_of(::min_of(floor_of(at + half), limit - 1.0f), splat<Vec>(-1.0f))) - first + 1;
    }
  };

  // What any thread has found, and behind all that what coarse keyframes show.
  void unite(int y, bool any_coarse) {
    float* to = nearest_[0].row(y);
    auto lower = [&](float* its, const std::vector<Plane<float>>& planes) {
      for (size_t i = 1; i < planes.size(); i++) {
        const float* from = planes[i].row(y);
        for (int x = 0; x < width; x += LANES) store(its + x, ::min_of(load<Vec>(its + x), load<Vec>(from + x)));
      }
    };
    lower(to, nearest_);
    if (!any_coarse) return;
    float* behind = behind_[0].row(y);
    lower(behind, behind_);
    for (int x = 0; x < width; x++) to[x] = to[x] == UNSEEN ? behind[x] : to[x];
  }

  // A pixel most of whose neighbours form a layer before it belongs to that layer.
  void close_cracks(int y, float layer) {
    const float* from = nearest_[0].row(y);
    float* to = z.row(y);
    const int s = nearest_[0].stride, around[8] = {-s - 1, -s, -s + 1, -1, 1, s - 1, s, s + 1};
    for (int x = 0; x < width; x += LANES) {
      const Vec own = load<Vec>(from + x);
      Vec next[8], low = splat<Vec>(UNSEEN);
      for (int i = 0; i < 8; i++) low = ::min_of(next[i] = load<Vec>(from + x + around[i]), low);
      const Vec limit = low * layer;
      if (!bits_of(own > limit)) {
        store(to + x, ::choose(own < 1e9f, own, Vec{}));
        continue;
      }
      Vec sum = Vec{};
      IntVec count = IntVec{};
      for (int i = 0; i < 8; i++) {
        const IntVec in_layer = next[i] < limit;
        sum = sum + ::choose(in_layer, next[i], Vec{});
        count = count - in_layer;
      }
      const IntVec is_crack = (count >= (int32_t)MOST) & (own > limit);
      const Vec mean = sum / __builtin_convertvector(count, Vec);
      const Vec result = ::choose(is_crack, mean, own);
      store(to + x, ::choose(result < 1e9f, result, Vec{}));
    }
  }
};
