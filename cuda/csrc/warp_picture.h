// A displayed picture while it is being made, and the points that survive it.
#pragma once
#include <memory>

#include "warp_gather.h"

enum PixelState : uint8_t { HOLE = 0, GATHERED, STALE, POINT, FRESH, GUESSED };

// A hole's fresh pixel, kept as a point of the world.
struct Point {
  float at[3], z;  // z: its z-depth when it was fresh
  Vec4 color, planes;
  int32_t born;
};

struct Picture {
  const int width, height;
  LvView view = {};
  LvWarpSettings settings = {};
  bool has_planes = false;
  int32_t number = 0;  // of displayed pictures
  DepthMap depth;
  Plane<float> luma;               // brightness, -1: unset
  Plane<uint8_t> score;            // silhouettes 0..254, stale pixels 255
  std::vector<Vec4> color, planes; // [height * width] as in keyframes; planes only if has_planes
  std::vector<uint8_t> state;      // PixelState
  std::vector<Point> points;
  std::vector<uint64_t> nearest;   // of points, scratch

  Picture(int its_width, int its_height) : width(its_width), height(its_height) {
    depth.resize(width, height);
    luma.resize(width, height, -1.0f);
    score.resize(width, height, 0);
    color.assign(n_pixels(), Vec4{});
    state.assign(n_pixels(), HOLE);
  }

  size_t n_pixels() const { return (size_t)width * height; }

  void want_planes(bool wanted) {
    has_planes = wanted;
    if (wanted && planes.empty()) planes.assign(n_pixels(), Vec4{});
  }

  // Sets a pixel; its planes are those of a place where the z-depth was `scale` times smaller.
  void set(size_t pixel, Vec4 its_color, const Vec4* its_planes, float scale, PixelState its_state) {
    color[pixel] = its_color;
    state[pixel] = its_state;
    if (has_planes) planes[pixel] = *its_planes * Vec4{1.0f, scale, scale, 1.0f};
  }
};

static inline float brightness(Vec4 color) { return 0.5f * color[0] + color[1] + 0.5f * color[2]; }

// Colours in [0, 1] with a z-depth.
LV_HD Vec4 shown(Vec4 color, float z) {
  color = color > 0.0f ? color : Vec4{};
  color = color < 1.0f ? color : Vec4{} + 1.0f;
  color[3] = z;
  return color;
}

// Gathers one row of the picture.
class RowGather {
 public:
  RowGather(Picture& picture, const BicubicTable& bicubic, const std::vector<GatherSource>& sources, float fade)
      : picture_(picture), bicubic_(bicubic), sources_(sources), fade_(fade) {
    for (int i = 0; i < 3 * LV_WARP_SOURCES; i++) seen_[i].resize(picture.width + LANES);
  }

  void gather(int y) {
    const float* z = picture_.depth.z.row(y);
    float* luma = picture_.luma.row(y);
    for (size_t i = 0; i < sources_.size(); i++) {
      const RowMapping mapping(sources_[i].mapping, y);
      for (int x = 0; x < picture_.width; x += LANES) {
        const Seen seen = mapping.at(x, load<Vec>(z + x));
        store(&seen_[3 * i][x], ::choose(seen.is_seen, seen.u, splat<Vec>(-1.0f)));
        store(&seen_[3 * i + 1][x], seen.v);
        store(&seen_[3 * i + 2][x], seen.w);
      }
    }
    for (int x = 0; x < picture_.width; x++) {
      const size_t pixel = (size_t)y * picture_.width + x;
      if (z[x] > 0.0f && gather_pixel(x, z[x], pixel, luma[x])) continue;
      picture_.state[pixel] = HOLE;
      picture_.color[pixel] = Vec4{0.0f, 0.0f, 0.0f, LV_WARP_FAR};
      luma[x] = -1.0f;
    }
  }

 private:
  // Mostly the first source knows the pixel wholly, and the others need not be asked.
  bool gather_pixel(int x, float z, size_t pixel, float& luma) {
    Fetched best = fetch_from(0, x);
    const LvKeyframe* from = &sources_[0].keyframe;
    if (best.rank < WHOLLY || fade_ < 1.0f) ask_others(x, best, from);
    if (!best.rank) return false;
    const float there = ((const Vec4*)from->color)[best.place][3];
    const bool is_background = there >= LV_WARP_FAR;
    const Vec4 color = shown(best.color, is_background ? LV_WARP_FAR : z);
    picture_.set(pixel, color, (const Vec4*)from->planes + best.place, is_background ? 1.0f : z / there,
                 best.rank & 1 ? STALE : GATHERED);
    luma = brightness(color);
    return true;
  }

  __attribute__((noinline)) void ask_others(int x, Fetched& best, const LvKeyframe*& from) const {
    if (best.rank == WHOLLY) {
      const Fetched before = sources_.size() > 1 ? fetch_from(1, x) : Fetched();
      if (before.rank == WHOLLY) best.color = fade_ * best.color + (1.0f - fade_) * before.color;
      return;
    }
    for (size_t i = 1; i < sources_.size() && best.rank < WHOLLY; i++) {
      if (best.rank && sources_[i].is_coarse) continue;
      const Fetched fetched = fetch_from(i, x);
      if (fetched.rank > best.rank) best = fetched, from = &sources_[i].keyframe;
    }
  }

  __attribute__((always_inline)) Fetched fetch_from(size_t i, int x) const {
    return fetch(sources_[i], bicubic_, seen_[3 * i][x], seen_[3 * i + 1][x], seen_[3 * i + 2][x],
                 picture_.settings.same);
  }

  Picture& picture_;
  const BicubicTable& bicubic_;
  const std::vector<GatherSource>& sources_;
  const float fade_;
  std::vector<float> seen_[3 * LV_WARP_SOURCES];  // u, v, w in each source
};

// Drops points that have lived their time and shows the others: the nearest of a pixel, of equally near ones the
// newest, and none that lies on or behind what keyframes show.
static inline void show_points(Picture& picture) {
  std::vector<Point>& points = picture.points;
  const int32_t oldest = picture.number - picture.settings.life;
  auto is_old = [&](const Point& point) { return point.born < oldest; };
  points.erase(std::remove_if(points.begin(), points.end(), is_old), points.end());
  if (points.empty()) return;
  const LvView& view = picture.view;
  const WorldToCamera camera(view);
  if (picture.nearest.empty()) picture.nearest.assign(picture.n_pixels(), ~0ull);
  std::vector<size_t> hit;
  std::vector<float> depth(points.size());
  for (size_t i = 0; i < points.size(); i++) {
    double d[3], q[3];
    for (int axis = 0; axis < 3; axis++) d[axis] = points[i].at[axis] - camera.origin[axis];
    for (int axis = 0; axis < 3; axis++)
      q[axis] = camera.r[axis][0] * d[0] + camera.r[axis][1] * d[1] + camera.r[axis][2] * d[2];
    if (!(q[2] > LV_WARP_NEAR)) continue;
    const double u = view.fl_x * q[0] / q[2] + view.cx + 0.5, v = view.fl_y * q[1] / q[2] + view.cy + 0.5;
    if (!(u >= 0.0 && v >= 0.0 && u < view.width && v < view.height)) continue;
    const size_t pixel = (size_t)v * picture.width + (size_t)u;
    const float z = depth[i] = (float)q[2];
    if (picture.state[pixel] != HOLE && !(z < picture.color[pixel][3] * (1.0f - picture.settings.crack))) continue;
    uint32_t bits;
    memcpy(&bits, &z, sizeof bits);
    const uint64_t age = std::min<uint64_t>(picture.number - points[i].born, 0xffff);
    const uint64_t key = (uint64_t)(bits >> 16) << 48 | age << 32 | (uint32_t)i;
    if (picture.nearest[pixel] == ~0ull) hit.push_back(pixel);
    picture.nearest[pixel] = std::min(picture.nearest[pixel], key);
  }
  for (size_t pixel : hit) {
    const size_t i = (uint32_t)picture.nearest[pixel];
    const Point& point = points[i];
    const bool is_background = point.z >= LV_WARP_FAR;
    picture.nearest[pixel] = ~0ull;
    picture.set(pixel, shown(point.color, is_background ? LV_WARP_FAR : depth[i]), &point.planes,
                is_background ? 1.0f : depth[i] / point.z, POINT);
    picture.luma.row((int)(pixel / picture.width))[pixel % picture.width] = -1.0f;
  }
}
