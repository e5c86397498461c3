// Which pixels get fresh rays.
#pragma once
#include "warp_picture.h"

enum { STALE_SCORE = 255, LEAST_SCORE = 7 };

// Brightness jumps across depth jumps: half of a warp's squared error sits in the few pixels where they are large.
static inline void score_row(Picture& picture, int y, int* histogram) {
  const Plane<float>&depth = picture.depth.z, &luma = picture.luma;
  const float *z = depth.row(y), *l = luma.row(y);
  uint8_t* score = picture.score.row(y);
  const int s = depth.stride, around[8] = {-1, 1, -s, s, -s - 1, -s + 1, s - 1, s + 1};
  for (int x = 0; x < picture.width; x += LANES) {
    const Vec own = load<Vec>(z + x), bright = load<Vec>(l + x), limit = own * picture.settings.edge;
    Vec jump = Vec{};
    for (int d : around) {
      const Vec other = load<Vec>(l + x + d);
      const IntVec counts = (absolute(load<Vec>(z + x + d) - own) > limit) & (other >= 0.0f);
      jump = max_of(::choose(counts, absolute(other - bright), Vec{}), jump);
    }
    const IntVec scores = to_int(min_of(jump * 127.0f, splat<Vec>(254.0f)));
    for (int i = 0; i < LANES; i++) score[x + i] = (uint8_t)scores[i];
  }
  const uint8_t* state = picture.state.data() + (size_t)y * picture.width;
  for (int x = 0; x < picture.width; x++) {
    if (state[x] == STALE) score[x] = STALE_SCORE;
    else if (state[x] != GATHERED) score[x] = 0;
    histogram[score[x]]++;
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

// Calls visit(x, y) for all pixels, tile by tile, so that the rays of a pack are neighbours.
template <class Visit>
static void visit_tiles(int width, int height, Visit visit) {
  for (int top = 0; top < height; top += LV_TILE)
    for (int left = 0; left < width; left += LV_TILE)
      for (int y = top; y < std::min(top + LV_TILE, height); y++)
        for (int x = left; x < std::min(left + LV_TILE, width); x++) visit(x, y);
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
  const int64_t n_holes = std::count(picture.state.begin(), picture.state.end(), (uint8_t)HOLE);
  const int64_t room = (int64_t)fill + edge;
  Spread holes(n_holes, n_holes > all / 20 ? room : fill);  // where much is new, silhouettes wait
  const int64_t n_fill = std::min(n_holes, n_holes > all / 20 ? room : (int64_t)fill);
  int64_t left = std::min<int64_t>(edge, room - n_fill);
  int threshold = STALE_SCORE + 1;
  while (threshold > LEAST_SCORE && histogram[threshold - 1] <= left) left -= histogram[--threshold];
  const int partly = threshold > LEAST_SCORE ? threshold - 1 : -1;  // this score is taken in part
  Spread some(partly < 0 ? 0 : histogram[partly], left);
  Chosen chosen = {0, 0, 0};
  int32_t* edges = pixels + n_fill;
  int n_edges = 0;
  visit_tiles(picture.width, picture.height, [&](int x, int y) {
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
