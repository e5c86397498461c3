// The host library's C entry points for showing keyframes from elsewhere. They work on pictures and know no field.
#include <math.h>

#include "warp_choose.h"

// What lasts from picture to picture.
struct Warp {
  const int threads;
  Picture picture;
  BicubicTable bicubic;
  DepthMap other;  // of views that are not displayed
  std::vector<uint8_t> trust[LV_WARP_SOURCES];

  Warp(int width, int height, int its_threads) : threads(its_threads), picture(width, height) {}
};

LV_EXPORT void lv_warp_abi(int32_t* sizes) {
  sizes[0] = (int32_t)sizeof(LvKeyframe);
  sizes[1] = (int32_t)sizeof(LvWarpSettings);
}

LV_EXPORT void* lv_warp_open(int width, int height, int threads) { return new Warp(width, height, threads); }

LV_EXPORT void lv_warp_close(void* warp) { delete (Warp*)warp; }

LV_EXPORT void lv_warp_next(void* warp) { ((Warp*)warp)->picture.number++; }

LV_EXPORT void lv_warp_forget(void* warp) { ((Warp*)warp)->picture.points.clear(); }

// Shows the keyframes from a view; returns the number of holes.
LV_EXPORT int64_t lv_warp_project(void* handle, const LvView* view, const LvKeyframe* sources, int n,
                                  const LvWarpSettings* settings, float fade, int planes) {
  Warp& warp = *(Warp*)handle;
  Picture& picture = warp.picture;
  picture.view = *view;
  picture.settings = *settings;
  picture.want_planes(planes != 0);
  std::vector<GatherSource> gathered;
  for (int i = 0; i < n; i++) {
    if (sources[i].trust) pad_trust(sources[i], warp.trust[i]);
    const uint8_t* trust = sources[i].trust ? warp.trust[i].data() : 0;
    gathered.push_back({sources[i], mapping_between(*view, sources[i].view), trust,
                        sources[i].view.width + 2 * LV_WARP_BORDER, is_coarser(sources[i], sources[0])});
  }
  Team team(warp.threads);
  picture.depth.prepare(team, sources, n);
  team.run([&](int thread) {
    picture.depth.find(team, thread, *view, sources, n, settings->crack);
    RowGather row(picture, warp.bicubic, gathered, fade);  // of this thread
    team.rows(picture.height, [&](int first, int last) {
      for (int y = first; y < last; y++) row.gather(y);
    });
  });
  show_points(picture);
  return picture.count_holes();
}

// Chooses pixels for fresh rays [fill + edge + check at most] with their start; counts: of holes, of checks.
LV_EXPORT int lv_warp_choose(void* handle, int fill, int edge, int check, int32_t* pixels, float* start,
                             int32_t* counts) {
  Warp& warp = *(Warp*)handle;
  Picture& picture = warp.picture;
  int histogram[256] = {};
  Team team(warp.threads);
  team.run([&](int) {
    int its[256] = {};
    team.rows(picture.height, [&](int first, int last) {
      for (int y = first; y < last; y++) score_row(picture, y, its);
    });
    for (int i = 0; i < 256; i++) __atomic_fetch_add(&histogram[i], its[i], __ATOMIC_RELAXED);
    picture.depth.find_low(team);
  });
  const Chosen chosen = choose_pixels(picture, histogram, fill, edge, check, pixels);
  for (int i = 0; i < chosen.n; i++)
    start[i] = picture.depth.start(pixels[i] % picture.width, pixels[i] / picture.width, picture.settings.margin);
  counts[0] = chosen.n_fill;
  counts[1] = chosen.n_check;
  return chosen.n;
}

// Writes fresh pixels, in the order of the list, and keeps the first n_fill as points. Of the last n_check it returns
// the mean squared difference from what was shown, and in `elsewhere` the number that show another surface.
LV_EXPORT double lv_warp_put(void* handle, const int32_t* pixels, int n, int n_fill, int n_check,
                             const LvBuffers* fresh, int32_t* elsewhere) {
  Picture& picture = ((Warp*)handle)->picture;
  const LvView& view = picture.view;
  double error = 0.0;
  *elsewhere = 0;
  for (int i = 0; i < n; i++) {
    const int32_t pixel = pixels[i];
    const float *rgb = fresh->rgb + 3 * (int64_t)i, front = fresh->front[2 * (int64_t)i];
    const float z = front > 0.0f && front < LV_WARP_FAR ? front : LV_WARP_FAR;
    const Vec4 color = shown(Vec4{rgb[0], rgb[1], rgb[2], 0.0f}, z);
    const Vec4 planes = {fresh->opacity[i], fresh->depth[i], fresh->median_depth[i],
                         fresh->front[2 * (int64_t)i + 1]};
    if (i >= n - n_check) {
      const float before = picture.color[pixel][3];
      *elsewhere += z < before * LV_WARP_FOUND || before < z * LV_WARP_FOUND;
      for (int c = 0; c < 3; c++) {
        const double difference = (double)color[c] - picture.color[pixel][c];
        error += difference * difference;
      }
    }
    // A silhouette's ray that meets something far nearer than what is shown has found what no keyframe has seen.
    const bool is_found = i < n - n_check && z < picture.color[pixel][3] * LV_WARP_FOUND;
    picture.set(pixel, color, &planes, 1.0f, FRESH);
    if (i >= n_fill && !is_found) continue;
    const float local[3] = {((float)(pixel % picture.width) - view.cx) / view.fl_x,
                            -((float)(pixel / picture.width) - view.cy) / view.fl_y, -1.0f};
    Point point = {{}, z, color, planes, picture.number};
    for (int axis = 0; axis < 3; axis++) {
      const float* r = view.c2w + 4 * axis;
      point.at[axis] = (local[0] * r[0] + local[1] * r[1] + local[2] * r[2]) * z + r[3];
    }
    picture.points.push_back(point);
  }
  return n_check ? error / (3.0 * n_check) : 0.0;
}

// Sets what is left, ring by ring, to the mean colour of set neighbours, at the depth of the farthest of them: what
// comes into view is rarely in front. Returns the number of pixels.
LV_EXPORT int64_t lv_warp_fill_rest(void* handle) {
  Picture& picture = ((Warp*)handle)->picture;
  const int width = picture.width, height = picture.height;
  enum : uint8_t { WAITING = 64, SETTLING };
  std::vector<int32_t> ring, next;
  int64_t n_holes = 0;
  auto visit = [&](int32_t pixel, auto use) {
    const int x = pixel % width, y = pixel / width;
    for (int b = std::max(y - 1, 0); b <= std::min(y + 1, height - 1); b++)
      for (int a = std::max(x - 1, 0); a <= std::min(x + 1, width - 1); a++) use(b * width + a);
  };
  picture.visit_holes([&](uint32_t holes, size_t first) {
    for (; holes; holes &= holes - 1) {
      const int32_t pixel = (int32_t)first + __builtin_ctz(holes);
      n_holes++;
      bool is_rim = false;
      visit(pixel, [&](int32_t other) { is_rim |= picture.state[other] != HOLE; });
      if (is_rim) ring.push_back(pixel);
    }
  });
  if (!n_holes) return 0;
  for (int32_t pixel : ring) picture.state[pixel] = WAITING;
  while (!ring.empty()) {
    for (int32_t pixel : ring) {
      Vec4 sum = {};
      float n = 0.0f;
      int32_t farthest = -1;
      visit(pixel, [&](int32_t other) {
        if (picture.state[other] == HOLE || picture.state[other] >= WAITING) return;
        sum += picture.color[other];
        n += 1.0f;
        if (farthest < 0 || picture.color[other][3] > picture.color[farthest][3]) farthest = other;
      });
      const Vec4 planes = picture.has_planes ? picture.planes[farthest] : Vec4{};
      picture.set(pixel, shown(sum / n, picture.color[farthest][3]), &planes, 1.0f, (PixelState)SETTLING);
    }
    next.clear();
    for (int32_t pixel : ring) {
      picture.state[pixel] = GUESSED;
      visit(pixel, [&](int32_t other) {
        if (picture.state[other] != HOLE) return;
        picture.state[other] = WAITING;
        next.push_back(other);
      });
    }
    ring.swap(next);
  }
  if (n_holes == (int64_t)picture.n_pixels())  // nothing at all was set
    for (size_t pixel = 0; pixel < picture.n_pixels(); pixel++) {
      const Vec4 nothing = {};
      picture.set(pixel, Vec4{0.0f, 0.0f, 0.0f, LV_WARP_FAR}, &nothing, 1.0f, GUESSED);
    }
  return n_holes;
}

// Copies a keyframe of the picture's size, or the listed pixels of it, as they are.
LV_EXPORT void lv_warp_show(void* handle, const LvKeyframe* keyframe, const int32_t* pixels, int64_t n) {
  Warp& warp = *(Warp*)handle;
  Picture& picture = warp.picture;
  const int width = picture.width, stride = width + 2 * LV_WARP_BORDER;
  const Vec4 *color = (const Vec4*)keyframe->color, *planes = (const Vec4*)keyframe->planes;
  auto copy = [&](int64_t pixel) {
    const int64_t place = (pixel / width + LV_WARP_BORDER) * stride + pixel % width + LV_WARP_BORDER;
    picture.set(pixel, color[place], planes + place, 1.0f, FRESH);
  };
  if (pixels) {
    for (int64_t i = 0; i < n; i++) copy(pixels[i]);
    return;
  }
  picture.view = keyframe->view;
  picture.want_planes(true);
  Team team(warp.threads);
  team.run([&](int) {
    team.rows(picture.height, [&](int first, int last) {
      for (int64_t pixel = (int64_t)first * width; pixel < (int64_t)last * width; pixel++) copy(pixel);
    });
  });
}

// The picture in bytes, opaque. [height][width][4]
LV_EXPORT void lv_warp_image(void* handle, uint8_t* image) {
  Warp& warp = *(Warp*)handle;
  Picture& picture = warp.picture;
  Vec scale, offset;
  for (int i = 0; i < LANES; i++) scale[i] = i % 4 == 3 ? 0.0f : 255.0f, offset[i] = i % 4 == 3 ? 255.0f : 0.0f;
  const float to_whole = 12582912.0f;  // 1.5 * 2^23: sums with it are rounded to whole numbers, halves to even ones
  auto convert = [&](const float* from, uint8_t* to, int n) {
    Vec v = Vec{};
    memcpy(&v, from, n * sizeof(float));
    v = v * scale + offset;
    v = min_of(max_of(v, Vec{}), splat<Vec>(255.0f));
    const Bytes bytes = __builtin_convertvector(to_int((v + to_whole) - to_whole), Bytes);
    memcpy(to, &bytes, n);
  };
  Team team(warp.threads);
  team.run([&](int) {
    team.rows(picture.height, [&](int first, int last) {
      int64_t i = 4 * (int64_t)first * picture.width;
      const int64_t end = 4 * (int64_t)last * picture.width;
      const float* color = (const float*)picture.color.data();
      for (; i + LANES <= end; i += LANES) convert(color + i, image + i, LANES);
      if (i < end) convert(color + i, image + i, (int)(end - i));
    });
  });
}

// The picture as floats.
LV_EXPORT void lv_warp_buffers(void* handle, const LvBuffers* to) {
  Warp& warp = *(Warp*)handle;
  const Picture& picture = warp.picture;
  Team team(warp.threads);
  team.run([&](int) {
    team.rows(picture.height, [&](int first, int last) {
      for (int64_t i = (int64_t)first * picture.width; i < (int64_t)last * picture.width; i++) {
        const Vec4 color = picture.color[i];
        const bool is_surface = color[3] < LV_WARP_FAR;
        const float z = is_surface ? color[3] : 0.0f;
        const Vec4 planes = picture.has_planes ? picture.planes[i] : Vec4{is_surface ? 1.0f : 0.0f, z, z, 1.0f};
        for (int c = 0; c < 3; c++) to->rgb[3 * i + c] = color[c];
        to->opacity[i] = planes[0];
        to->depth[i] = planes[1];
        to->median_depth[i] = planes[2];
      }
    });
  });
}

// Start of the rays of some pixels of another view.
LV_EXPORT void lv_warp_starts(void* handle, const LvView* view, const LvKeyframe* sources, int n_sources,
                              const LvWarpSettings* settings, const int32_t* pixels, int64_t n, float* start) {
  enum { RUN = 256 };  // pixels
  Warp& warp = *(Warp*)handle;
  warp.other.resize(view->width, view->height);
  Team team(warp.threads);
  warp.other.prepare(team, sources, n_sources);
  team.run([&](int thread) {
    warp.other.find(team, thread, *view, sources, n_sources, settings->crack);
    warp.other.find_low(team);
    team.rows((int)((n + RUN - 1) / RUN), [&](int first, int last) {
      for (int64_t i = (int64_t)first * RUN; i < std::min<int64_t>((int64_t)last * RUN, n); i++)
        start[i] = warp.other.start(pixels[i] % view->width, pixels[i] / view->width, settings->margin);
    });
  });
}
