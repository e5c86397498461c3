// Which pixels get fresh rays.
#pragma once
#include "warp_picture.h"

enum { STALE_SCORE = 255, LEAST_SCORE = 7 };

// Brightness jumps across depth jumps: half of a warp's squared error sits in the few pixels where they are large.
// histogram: of the scores but 0.
static inline void score_row(Picture& picture, int y, int* histogram) {
  const Plane<float>&depth = picture.depth.z, &luma = picture.luma;
  const float *z = depth.row(y), *l = luma.row(y);
  uint8_t* score = picture.score.row(y);
  const int s = depth.stride, around[8] = {-1, 1, -s, s, -s - 1, -s + 1, s - 1, s + 1};
  const uint8_t* state = picture.state.data() + (size_t)y * picture.width;
  for (int x = 0; x < picture.width; x += LANES) {
    const int n = std::min<int>(LANES, picture.width - x);
    Bytes states = Bytes{};
    memcpy(&states, state + x, n);
    const IntVec its = __builtin_convertvector(states, IntVec);
    const Vec own = load<Vec>(z + x), bright = load<Vec>(l + x), limit = own * picture.settings.edge;
    IntVec any = IntVec{};
    for (int d : around) any |= absolute(load<Vec>(z + x + d) - own) > limit;
    Vec jump = Vec{};
    if (bits_of(any))
      for (int d : around) {
        const Vec other = load<Vec>(l + x + d);
        const IntVec counts = (absolute(load<Vec>(z + x + d) - own) > limit) & (other >= 0.0f);
        jump = max_of(::choose(counts, absolute(other - bright), Vec{}), jump);
      }
    const IntVec can_be_bettered = (its == (int32_t)GATHERED) | (its == (int32_t)POINT);
    IntVec scores = to_int(min_of(jump * 127.0f, splat<Vec>(254.0f))) & can_be_bettered;
    scores = its == (int32_t)STALE ? IntVec{} + (int32_t)STALE_SCORE : scores;
    const Bytes bytes = __builtin_convertvector(scores, Bytes);
    memcpy(score + x, &bytes, n);
    for (uint32_t left = bits_of(scores > 0); left; left &= left - 1) histogram[scores[__builtin_ctz(left)]]++;
  }
}

// Takes `wanted` of `n` things that come one after the other, evenly spread.
class Spread {
 public:
  Spread(int64_t n, int64_t wanted) : n_(n), wanted_(std::min(n, wanted)) {}

  bool takes() {
    sum_ += wanted_;
    if (sum_ < n_ || n_ == 0) return false;
    sum_ -= n_;
    return true;
  }

 private:
  const int64_t n_, wanted_;
  int64_t sum_ = 0;
};

// Calls visit(x, y) for the pixels that are holes or have a score of at least `least`, tile by tile, so that the rays
// of a pack are neighbours.
template <class Visit>
static void visit_tiles(const Picture& picture, int least, Visit visit) {
  typedef uint8_t Run __attribute__((vector_size(LV_TILE)));
  const Run lowest = Run{} + (uint8_t)std::min<int>(least, STALE_SCORE);
  for (int top = 0; top < picture.height; top += LV_TILE)
    for (int left = 0; left < picture.width; left += LV_TILE)
      for (int y = top; y < std::min(top + LV_TILE, picture.height); y++) {
        const int n = std::min(LV_TILE, picture.width - left);
        Run states = Run{} + (uint8_t)FRESH, scores = Run{};
        memcpy(&states, picture.state.data() + (size_t)y * picture.width + left, n);
        memcpy(&scores, picture.score.row(y) + left, n);
        const auto is_wanted = (states == (uint8_t)HOLE) | (scores >= lowest);
        uint64_t any;
        static_assert(sizeof any == sizeof is_wanted, "a run is a word");
        memcpy(&any, &is_wanted, sizeof any);
        for (; any; any &= ~(0xffull << (__builtin_ctzll(any) & ~7))) visit(left + __builtin_ctzll(any) / 8, y);
      }
}

struct Chosen {
  int n, n_fill, n_check;
};

// A number that looks like chance. (Mixer of Steele, Lea and Flood, SplitMix64.)
static inline uint64_t scrambled(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

// Ordinary pixels, one of each of n runs of the picture.
static inline int choose_checks(const Picture& picture, int n, int threshold, int32_t* pixels) {
  int found = 0;
  const int64_t all = (int64_t)picture.n_pixels();
  for (int64_t i = 0; i < n; i++) {
    const int64_t first = all * i / n, length = all * (i + 1) / n - first;
    if (length < 1) continue;
    const int64_t from = (int64_t)(scrambled((uint64_t)picture.number << 32 | (uint64_t)i) % (uint64_t)length);
    for (int64_t k = 0; k < length; k++) {
      const int64_t pixel = first + (from + k) % length;
      const int y = (int)(pixel / picture.width), x = (int)(pixel % picture.width);
      if (picture.state[pixel] != GATHERED || picture.score.row(y)[x] >= threshold) continue;
      pixels[found++] = (int32_t)pixel;
      break;
    }
  }
  return found;
}

// Fills pixels [fill + edge + check at most]: holes, silhouettes and stale pixels, checks.
static inline Chosen choose_pixels(const Picture& picture, const int* histogram, int fill, int edge, int check,
                                   int32_t* pixels) {
  const int64_t all = (int64_t)picture.n_pixels();
  const int64_t n_holes = picture.count_holes();
  const int64_t room = (int64_t)fill + edge;
  const int64_t most = n_holes > all / 20 ? fill + (int64_t)edge / 2 : fill;  // where much is new, weak silhouettes wait
  Spread holes(n_holes, most);
  const int64_t n_fill = std::min(n_holes, most);
  int64_t left = std::min<int64_t>(edge, room - n_fill);
  int threshold = STALE_SCORE + 1;
  while (threshold > LEAST_SCORE && histogram[threshold - 1] <= left) left -= histogram[--threshold];
  const int partly = threshold > LEAST_SCORE ? threshold - 1 : -1;  // this score is taken in part
  Spread some(partly < 0 ? 0 : histogram[partly], left);
  Chosen chosen = {0, 0, 0};
  int32_t* edges = pixels + n_fill;
  int n_edges = 0;
  visit_tiles(picture, partly < 0 ? threshold : partly, [&](int x, int y) {
    const int32_t pixel = y * picture.width + x;
    const int score = picture.score.row(y)[x];
    if (picture.state[pixel] == HOLE) {
      if (holes.takes()) pixels[chosen.n_fill++] = pixel;
    } else if (score >= threshold || (score == partly && some.takes())) {
      edges[n_edges++] = pixel;
    }
  });
  chosen.n = chosen.n_fill + n_edges;
  chosen.n_check = choose_checks(picture, check, partly < 0 ? threshold : partly, pixels + chosen.n);
  chosen.n += chosen.n_check;
  return chosen;
}
