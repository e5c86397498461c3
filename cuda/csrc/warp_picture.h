// A displayed picture while it is being made, and the points that survive it.
#pragma once
#include <memory>

#include "warp_gather.h"

typedef uint8_t Bytes __attribute__((vector_size(LANES), may_alias));

#define LV_WARP_FOUND 0.6f  // of the depth that is shown: what is nearer is another thing

enum PixelState : uint8_t { HOLE = 0, GATHERED, STALE, POINT, FRESH, GUESSED };

// A hole's fresh pixel, kept as a point of the world.
struct Point {
  float at[3], z;  // z: its z-depth when it was fresh
  Vec4 color, planes;
  int32_t born;
};

// The planes of a pixel, as seen from where its z-depth is `scale` times as large.
LV_HD Vec4 scaled(Vec4 planes, float scale) { return planes * Vec4{1.0f, scale, scale, 1.0f}; }

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

  // Calls visit(pixels, first) for runs of LANES pixels that have holes, whose bits are set.
  template <class Visit>
  void visit_holes(Visit visit) const {
    for (size_t i = 0; i < state.size(); i += LANES) {
      const size_t n = std::min<size_t>(LANES, state.size() - i);
      Bytes states = Bytes{} + (uint8_t)FRESH;
      memcpy(&states, state.data() + i, n);
      const uint32_t holes = bits_of(__builtin_convertvector(states, IntVec) == (int32_t)HOLE);
      if (holes) visit(holes, i);
    }
  }

  int64_t count_holes() const {
    int64_t n = 0;
    visit_holes([&](uint32_t holes, size_t) { n += __builtin_popcount(holes); });
    return n;
  }

  void want_planes(bool wanted) {
    has_planes = wanted;
    if (wanted && planes.empty()) planes.assign(n_pixels(), Vec4{});
  }

  // Sets a pixel; its planes are those of a place where the z-depth was `scale` times smaller.
  void set(size_t pixel, Vec4 its_color, const Vec4* its_planes, float scale, PixelState its_state) {
    color[pixel] = its_color;
    state[pixel] = its_state;
    if (has_planes) planes[pixel] = scaled(*its_planes, scale);
  }

  void make_hole(int x, int y) {
    const size_t pixel = (size_t)y * width + x;
    color[pixel] = Vec4{0.0f, 0.0f, 0.0f, LV_WARP_FAR};
    state[pixel] = HOLE;
    luma.row(y)[x] = -1.0f;
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

// Gathers LANES pixels of a row of the picture at a time.
class RowGather {
 public:
  RowGather(Picture& picture, const BicubicTable& bicubic, const std::vector<GatherSource>& sources, float fade)
      : picture_(picture), bicubic_(bicubic), sources_(sources), fade_(sources.size() > 1 ? fade : 1.0f) {}

  void gather(int y) {
    const size_t first = (size_t)y * picture_.width;
    row_ = {picture_.depth.z.row(y), picture_.luma.row(y), picture_.color.data() + first,
            picture_.has_planes ? picture_.planes.data() + first : 0, picture_.state.data() + first, y};
    for (size_t i = 0; i < sources_.size(); i++) mappings_[i] = RowMapping(sources_[i].mapping, y);
    for (int x = 0; x < picture_.width; x += LANES) {
      n_looked_up_ = 0;
      const uint32_t all = (uint32_t)((1ull << std::min<int>(LANES, picture_.width - x)) - 1);
      for (uint32_t rest = gather_known(x, all); rest; rest &= rest - 1) gather_pixel(x, __builtin_ctz(rest));
    }
  }

 private:
  // Where LANES pixels lie in source i; the sources are asked for in their order.
  const LookUp& look_up(size_t i, int x) {
    for (; n_looked_up_ <= i; n_looked_up_++) {
      const Seen seen = mappings_[n_looked_up_].at(x, load<Vec>(row_.z + x));
      at_[n_looked_up_].set(sources_[n_looked_up_], seen, picture_.settings.same);
    }
    return at_[i];
  }

  // Mostly the first source knows a pixel wholly, and the others need not be asked. Returns the pixels that are left.
  uint32_t gather_known(int x, uint32_t pixels) {
    if (sources_.empty()) return pixels;
    const bool fades = fade_ < 1.0f;
    const LookUp &at = look_up(0, x), &before = look_up(fades, x);
    const GatherSource source = sources_[0];  // copies: what is written could else be these
    const Row row = row_;
    const BicubicTable& bicubic = bicubic_;
    uint32_t rest = 0;
    for (; pixels; pixels &= pixels - 1) {
      const int i = __builtin_ctz(pixels);
      Vec4 color, other;
      if (!fetch_known(source, bicubic, at, i, color) ||
          (fades && !fetch_known(sources_[1], bicubic, before, i, other))) {
        rest |= 1u << i;
        continue;
      }
      if (fades) color = fade_ * color + (1.0f - fade_) * other;
      row.write(x + i, color, source, at, i, at.nearest[i], GATHERED);
    }
    return rest;
  }

  void gather_pixel(int first, int i) {
    Fetched best;
    size_t from = 0;
    for (size_t k = 0; k < sources_.size() && best.rank < WHOLLY; k++) {
      if (best.rank && sources_[k].is_coarse) continue;
      const Fetched fetched = fetch(sources_[k], bicubic_, look_up(k, first), i);
      if (fetched.rank > best.rank) best = fetched, from = k;
    }
    if (best.rank == WHOLLY && from == 0 && fade_ < 1.0f) {
      const Fetched other = fetch(sources_[1], bicubic_, look_up(1, first), i);
      if (other.rank == WHOLLY) best.color = fade_ * best.color + (1.0f - fade_) * other.color;
    }
    const int x = first + i;
    if (best.rank) {
      row_.write(x, best.color, sources_[from], look_up(from, first), i, best.place, best.rank & 1 ? STALE : GATHERED);
      return;
    }
    picture_.make_hole(x, row_.y);
  }

  // Of the picture.
  struct Row {
    const float* z;
    float* luma;
    Vec4 *color, *planes;
    uint8_t* state;
    int y;

    __attribute__((always_inline)) void write(int x, Vec4 its_color, const GatherSource& from, const LookUp& at, int i,
                                              int64_t place, PixelState its_state) const {
      const float there = from.keyframe.color[4 * place + 3];
      const bool is_background = there >= LV_WARP_FAR;
      its_color = shown(its_color, is_background ? LV_WARP_FAR : z[x]);
      if (planes) {
        const float scale = is_background ? 1.0f : z[x] / there * depth_ratio(from, at, i);
        planes[x] = scaled(((const Vec4*)from.keyframe.planes)[place], scale);
      }
      color[x] = its_color;
      state[x] = its_state;
      luma[x] = brightness(its_color);
    }
  };

  Picture& picture_;
  const BicubicTable& bicubic_;
  const std::vector<GatherSource>& sources_;
  const float fade_;
  Row row_ = {};
  RowMapping mappings_[LV_WARP_SOURCES];
  LookUp at_[LV_WARP_SOURCES];  // of the LANES pixels
  size_t n_looked_up_ = 0;
};

// Points that move apart from each other leave cracks, in which what lies far behind would be seen: they become holes.
static inline void open_cracks(Picture& picture, const std::vector<size_t>& points) {
  Plane<float>& depth = picture.depth.z;
  const int s = depth.stride, around[8] = {-s - 1, -s, -s + 1, -1, 1, s - 1, s, s + 1};
  float* origin = depth.row(0);
  std::vector<int> cracks;
  for (size_t pixel : points) {
    const int place = (int)(pixel / picture.width) * s + (int)(pixel % picture.width);
    const float limit = origin[place] * (1.0f + picture.settings.crack);
    for (int step : {-s, -1, 1, s}) {  // one of them is in the layer, as most are
      const float* other = origin + place + step;
      if (!(*other > limit)) continue;
      int n = 0;
      for (int d : around) n += other[d] > 0.0f && other[d] < limit;
      if (n >= MOST) cracks.push_back(place + step);
    }
  }
  for (int place : cracks) {
    origin[place] = 0.0f;
    picture.make_hole(place % s, place / s);
  }
}

// Drops points that have lived their time and shows the others: the nearest of a pixel, of equally near ones the
// newest, and none that lies on or behind what keyframes show. They have edges as what keyframes show has.
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
    const int x = (int)(pixel % picture.width), y = (int)(pixel / picture.width);
    picture.luma.row(y)[x] = brightness(point.color);
    picture.depth.z.row(y)[x] = depth[i];
  }
  open_cracks(picture, hit);
}
