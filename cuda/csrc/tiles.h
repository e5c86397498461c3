// A tile of rays on the host: samples are placed, tested and weighed LANES at a time along each ray.
//
// EDITED code is compiled apart, in edited.cpp, so that a scene without edits runs as if there were none.
#pragma once
#include "edited_lanes.h"

// Samples of one ray that count and wait for their density.
struct Pending {
  alignas(64) float t[2 * LANES], length[2 * LANES], p[3][2 * LANES];
  int n;
  LaneOwners owners;  // edited scenes only; p is where the owner is read
};

// Samples of one ray that share a decoder row; the same rules as in render_ray.h.
struct OpenRow {
  int row;  // -1: none
  float weight, feature_weight, run_weight, run_moment;
  int op = -1, style = -1;  // of all samples; edited scenes only
  bool is_prepared = false;  // whether prepare_ray was called for the ray
};

template <bool EDITED>
static void look_up_at(const TileJob& job, Batch& batch, const Ray& ray, float t, float weight, OpenRow& open) {
  const float p[3] = {sample_position(ray, 0, t), sample_position(ray, 1, t), sample_position(ray, 2, t)};
  if constexpr (EDITED) look_up_edited(job, batch, open.op, open.row, p, weight);
  else add_lookup(batch, open.row, p[0], p[1], p[2], weight);
  open.feature_weight += weight;
}

template <bool EDITED>
static void look_up_run(const TileJob& job, Batch& batch, const Ray& ray, OpenRow& open) {
  look_up_at<EDITED>(job, batch, ray, open.run_moment / open.run_weight, open.run_weight, open);
  open.run_weight = open.run_moment = 0.0f;
}

template <bool EDITED>
static void close_row(const TileJob& job, Batch& batch, OpenRow& open) {
  Batch& own = EDITED ? batch_of(job, batch, open.op) : batch;
  own.color_weight[open.row] = open.weight;
  own.scale[open.row] = 1.0f / open.feature_weight;
  open = {-1, 0.0f, 0.0f, 0.0f, 0.0f, open.op, open.style, open.is_prepared};
}

// Closes a row that the ray leaves.
template <bool EDITED>
static void finish_row(const TileJob& job, Batch& batch, const Ray& ray, OpenRow& open) {
  if (open.row < 0) return;
  if (open.run_weight > 0.0f) look_up_run<EDITED>(job, batch, ray, open);
  close_row<EDITED>(job, batch, open);
}

// Samples of another owner or style begin a row of their own.
static void enter_row(const TileJob& job, Batch& batch, const Ray& ray, int op, int style, OpenRow& open) {
  if (open.op == op && open.style == style) return;
  finish_row<true>(job, batch, ray, open);
  open.op = op;
  open.style = style;
}

// Adds a sample that LandMark would shade.
template <bool EDITED>
static void shade_sample(const TileJob& job, Batch& batch, int ray_index, const Ray& ray, float t, float weight,
                         OpenRow& open, Composite* sums) {
  const LvOptions& options = job.options;
  if (options.quality == LV_FAST && open.weight >= options.cluster_weight) finish_row<EDITED>(job, batch, ray, open);
  if (open.row < 0) {
    if (!open.is_prepared) prepare_ray(batch, ray_index, ray.d);
    open.is_prepared = true;
    if constexpr (EDITED) open.row = begin_edited_row(job, batch, {ray_index, open.op, open.style}, ray.d, sums);
    else open.row = begin_row(batch, ray_index, sums);
  }
  open.weight += weight;
  if (options.quality == LV_FAST) {
    open.run_weight += weight;
    open.run_moment += weight * t;
    if (open.run_weight >= options.fast_weight) look_up_run<EDITED>(job, batch, ray, open);
    return;
  }
  look_up_at<EDITED>(job, batch, ray, t, options.quality == LV_EXACT ? 1.0f : weight, open);
  if (options.quality == LV_EXACT || open.weight >= options.cluster_weight) close_row<EDITED>(job, batch, open);
}

// Weighs up to LANES pending samples and shades those that matter. Returns false if the ray ends.
template <bool EDITED>
static bool weigh(const TileJob& job, Batch& batch, int ray_index, const Ray& ray, Pending& pending, OpenRow& open,
                  Composite* sums) {
  const LvOptions& options = job.options;
  const int n = pending.n < LANES ? pending.n : LANES;
  const bool is_fast = options.quality == LV_FAST;
  const float stop = is_fast ? options.fast_stop : LV_OPAQUE;
  Vec p[3] = {load<Vec>(pending.p[0]), load<Vec>(pending.p[1]), load<Vec>(pending.p[2])};
  Lanes lanes = locate_lanes(job.packed, p);
  Vec feature = density_features(job.packed, batch.lookup, lanes, n, batch.taps);
  Vec sigma = activate_lanes(job.packed.field, lanes, feature);
  if constexpr (EDITED) sigma = edited_sigma(job, batch, pending.owners, p, n, sigma);
  float alpha[LANES];
  store(alpha, 1.0f - exp_of(-sigma * load<Vec>(pending.length)));
  Composite& sum = sums[ray_index];
  for (int i = 0; i < n; i++) {
    float t = pending.t[i], weight = add_sample(sum, alpha[i], t);
    add_front(sum, weight, t, ray.spacing);
    if (batch.feedback && (!EDITED || reads_field(*options.edits, pending.owners.op[i]))) {
      note_read(job.packed, lanes, i, *batch.feedback);
      note_weight(lanes, i, weight, *batch.feedback);
    }
    if (weight > options.weight_threshold) {
      if constexpr (EDITED)
        enter_row(job, batch, ray, pending.owners.op[i], pending.owners.style[i], open);
      shade_sample<EDITED>(job, batch, ray_index, ray, t, weight, open, sums);
    }
    if (sum.transmittance < stop) {
      if (is_fast && open.row >= 0) open.weight += sum.transmittance;
      close_composite(sum, t);
      return false;
    }
  }
  pending.n -= n;
  for (int i = 0; i < pending.n; i++) {
    pending.t[i] = pending.t[n + i];
    pending.length[i] = pending.length[n + i];
    for (int axis = 0; axis < 3; axis++) pending.p[axis][i] = pending.p[axis][n + i];
    if constexpr (EDITED) move_owner(pending.owners, i, n + i);
  }
  return true;
}

// Distances of LANES samples from k on, and of the samples after them.
LV_HD void distances(const LvOptions& options, const Ray& ray, int k, Vec& t, Vec& next) {
  const Vec number = first_lanes() + (float)k;
  if (options.sampling == LV_HULL) {
    t = hull_distance(ray, load<Vec>(options.fractions + k));
    next = hull_distance(ray, load<Vec>(options.fractions + k + 1));
  } else {
    t = box_distance(ray, options.step, number);
    next = box_distance(ray, options.step, number + 1.0f);
  }
}

// The mask that decides about jumps, 0: none does.
template <bool EDITED>
static const LvMask* room_of(const TileJob& job) {
  if (job.options.tight) return job.options.tight;
  if (!job.options.use_mask) return 0;
  return EDITED ? &job.options.edits->room : &job.packed.field.mask;
}

// Whether a sample in a tight room's cell must be asked for in the field's mask, too.
LV_HD bool asks_mask(const LvOptions& options) {
  return options.use_mask && (!options.tight || options.mask_threshold > 0.0f);
}

// Places LANES samples from k on, and queues those that count. Returns whether there were any.
template <bool EDITED>
static bool place_samples(const TileJob& job, const Ray& ray, int k, Pending& pending) {
  const LvOptions& options = job.options;
  const LvField& field = job.packed.field;
  const Vec number = first_lanes() + (float)k;
  Vec t, next, p[3];
  distances(options, ray, k, t, next);
  IntVec inside = number < (float)ray.end;
  for (int i = 0; i < 3; i++) {
    p[i] = sample_position(ray, i, t);
    inside = inside & (p[i] >= field.low[i]) & (p[i] <= field.high[i]);
  }
  uint32_t kept = bits_of(inside);
  const LvMask* room = EDITED ? room_of<true>(job) : options.tight;
  if (room && kept) kept = lanes_in_room(*room, p, kept);
  if constexpr (EDITED) kept = claim_lanes(job, kept, p, pending.owners, pending.n);
  else if (asks_mask(options) && kept) kept = kept_lanes(field, options.mask_threshold, p, kept);
  if (!kept) return false;
  append_lanes(pending.t + pending.n, t, kept);
  append_lanes(pending.length + pending.n, sample_length(options, t, next), kept);
  for (int i = 0; i < 3; i++) append_lanes(pending.p[i] + pending.n, p[i], kept);
  pending.n += __builtin_popcount(kept);
  return true;
}

// Moves the beginnings of up to LANES rays to their first samples that may count, all rays at once.
static void approach(const TileJob& job, const LvMask& mask, Ray* rays, int n) {
  const LvOptions& options = job.options;
  float first[LANES], last[LANES], spacing[LANES], d[3][LANES], slope[3][LANES], fractions[LANES] = {};
  int32_t begin[LANES], end[LANES];
  for (int i = 0; i < LANES; i++) {
    const Ray& ray = rays[i < n ? i : 0];
    first[i] = ray.t_first, last[i] = ray.t_last, spacing[i] = ray.spacing;
    begin[i] = ray.begin, end[i] = i < n ? ray.end : 0;
    float of_ray[3];
    mask_slopes(mask, ray, of_ray);
    for (int axis = 0; axis < 3; axis++) d[axis][i] = ray.d[axis], slope[axis][i] = of_ray[axis];
  }
  RayLanes lanes = {load<Vec>(first), load<Vec>(last), load<Vec>(spacing), {}, {}, {}};
  for (int axis = 0; axis < 3; axis++) {
    lanes.o[axis] = splat<Vec>(rays[0].o[axis]);
    lanes.d[axis] = load<Vec>(d[axis]);
    lanes.slope[axis] = load<Vec>(slope[axis]);
  }
  IntVec k, ends;
  memcpy(&k, begin, sizeof k);
  memcpy(&ends, end, sizeof ends);
  for (uint32_t left; (left = bits_of(k < ends));) {
    Vec t, at[3];
    if (options.sampling == LV_HULL) {
      for (uint32_t at_work = left; at_work; at_work &= at_work - 1) {
        const int i = __builtin_ctz(at_work);
        fractions[i] = options.fractions[k[i]];
      }
      t = hull_distance(lanes, load<Vec>(fractions));
    } else {
      t = box_distance(lanes, options.step, __builtin_convertvector(k, Vec));
    }
    for (int axis = 0; axis < 3; axis++) at[axis] = mask_coordinate(mask, axis, sample_position(lanes, axis, t));
    const IntVec empty = empty_lanes(mask, lanes, at, left) & (k < ends);
    ends = empty > 0 ? ends : k;  // the others have arrived
    k += empty;
  }
  memcpy(begin, &k, sizeof k);
  for (int i = 0; i < n; i++) rays[i].begin = begin[i] < rays[i].end ? begin[i] : rays[i].end;
}

// First sample from k on that may count; whole empty bricks are jumped.
static int jump_empty(const TileJob& job, const LvMask& mask, const Ray& ray, const float slope[3], int k) {
  while (k < ray.end) {
    float t = sample_distance(job.options, ray, k), at[3];
    for (int i = 0; i < 3; i++) at[i] = mask_coordinate(mask, i, sample_position(ray, i, t));
    int empty = empty_samples(mask, ray, at, slope);
    if (!empty) break;
    k += empty;
  }
  return k;
}

template <bool EDITED>
static void march_ray(const TileJob& job, Batch& batch, int ray_index, Ray& ray, Composite* sums) {
  const LvMask* room = room_of<EDITED>(job);
  float slope[3] = {0.0f, 0.0f, 0.0f};
  if (room) mask_slopes(*room, ray, slope);
  Pending pending;
  pending.n = 0;
  OpenRow open = {-1, 0.0f, 0.0f, 0.0f, 0.0f};
  bool alive = true, look_ahead = false;
  for (int k = ray.begin; alive && k < ray.end; k += LANES) {
    if (look_ahead) k = jump_empty(job, *room, ray, slope, k);
    if (k >= ray.end) break;
    look_ahead = !place_samples<EDITED>(job, ray, k, pending) && room;
    if (pending.n >= LANES) alive = weigh<EDITED>(job, batch, ray_index, ray, pending, open, sums);
  }
  while (alive && pending.n) alive = weigh<EDITED>(job, batch, ray_index, ray, pending, open, sums);
  finish_row<EDITED>(job, batch, ray, open);
}

// Minus the gradient of the density feature at z-depth t, unit length.
template <bool EDITED>
static void surface_normal(const TileJob& job, Batch& batch, const Ray& ray, float t, float normal[3]) {
  const LvField& field = job.packed.field;
  const int n_padded = round_up(6, LANES);
  float at[3][16], feature[16], length = 0.0f;
  for (int i = 0; i < n_padded; i++) {
    for (int axis = 0; axis < 3; axis++) {
      float offset = i / 2 != axis ? 0.0f : i % 2 ? -job.options.step : job.options.step;
      at[axis][i] = clamp(sample_position(ray, axis, t) + offset, field.low[axis], field.high[axis]);
    }
  }
  [[maybe_unused]] Owner owners[6];
  if constexpr (EDITED) find_owners(*job.options.edits, at, owners);
  for (int i = 0; i < n_padded; i += LANES) {
    Vec p[3] = {load<Vec>(at[0] + i), load<Vec>(at[1] + i), load<Vec>(at[2] + i)};
    Lanes lanes = locate_lanes(job.packed, p);
    Vec features = density_features(job.packed, batch.lookup, lanes, LANES, batch.taps);
    store(feature + i, choose(lanes.is_present, features, Vec{}));
    for (int j = i; batch.feedback && j < i + LANES && j < 6; j++)
      if (!EDITED || reads_field(*job.options.edits, owners[j].op)) note_read(job.packed, lanes, j - i, *batch.feedback);
  }
  if constexpr (EDITED)
    for (int i = 0; i < 6; i++)
      if (owners[i].op >= 0) feature[i] = owner_feature(field, *job.options.edits, owners[i]);
  for (int axis = 0; axis < 3; axis++) {
    normal[axis] = feature[2 * axis + 1] - feature[2 * axis];
    length += normal[axis] * normal[axis];
  }
  float scale = 1.0f / max_of(sqrtf(length), 1e-12f);
  for (int axis = 0; axis < 3; axis++) normal[axis] *= scale;
}

// A pixel of a tile, or of a run of the list.
struct Pixel {
  int n;          // number in the tile
  int row, column;
  int64_t place;  // in the buffers
  float start;    // z-depth before which its ray meets nothing
};

// Calls visit(pixel) for every pixel of a run of the list. Returns false if it was cancelled on the way.
template <class Visit>
static bool visit_run(const TileJob& job, const LvRays& rays, int run, Visit visit) {
  const int first = run * TILE_RAYS, last = first + TILE_RAYS < rays.n ? first + TILE_RAYS : rays.n;
  for (int i = first; i < last; i++) {
    if (*job.cancel) return false;
    visit(Pixel{i - first, rays.pixels[i] / job.view.width, rays.pixels[i] % job.view.width, i,
                rays.start ? rays.start[i] : 0.0f});
  }
  return true;
}

// Calls visit(pixel) for every pixel of a tile. Returns false if it was cancelled on the way.
template <class Visit>
static bool visit_tile(const TileJob& job, int tile, Visit visit) {
  if (job.rays) return visit_run(job, *job.rays, tile, visit);
  const LvView& view = job.view;
  const int columns = (view.width + LV_TILE - 1) / LV_TILE;
  const int left = tile % columns * LV_TILE, top = tile / columns * LV_TILE;
  const int right = left + LV_TILE < view.width ? left + LV_TILE : view.width;
  const int bottom = top + LV_TILE < view.height ? top + LV_TILE : view.height;
  int n = 0;
  for (int row = top; row < bottom; row++) {
    for (int column = left; column < right; column++) {
      if (*job.cancel) return false;
      visit(Pixel{n++, row, column, (int64_t)row * view.width + column, 0.0f});
    }
  }
  return true;
}

template <bool EDITED>
static void write_normal(const TileJob& job, Batch& batch, const Ray& ray, float median_depth, int64_t pixel) {
  if (!job.buffers.normals) return;
  float* normal = job.buffers.normals + 3 * pixel;
  normal[0] = normal[1] = normal[2] = 0.0f;
  if (median_depth > 0.0f) surface_normal<EDITED>(job, batch, ray, median_depth, normal);
}

// Renders one tile. Returns false if it was cancelled on the way; then it is not whole.
template <bool EDITED>
static bool render_tile(const TileJob& job, Batch& batch, int tile) {
  Ray rays[TILE_RAYS];
  Composite sums[TILE_RAYS];
  const LvMask* room = room_of<EDITED>(job);
  int n_rays = 0;
  bool whole = visit_tile(job, tile, [&](const Pixel& pixel) {
    Ray& ray = rays[n_rays];
    ray = start_ray(job.packed.field, job.options, job.view, pixel.column, pixel.row);
    start_at(ray, pixel.start);
    if (room) clip_to_mask(*room, ray);
    sums[n_rays++] = start_composite();
  });
  for (int i = 0; whole && room && i < n_rays; i += LANES)
    approach(job, *room, rays + i, n_rays - i < LANES ? n_rays - i : LANES);
  for (int i = 0; whole && i < n_rays; i++) {
    march_ray<EDITED>(job, batch, i, rays[i], sums);
    whole = !*job.cancel;
  }
  [[maybe_unused]] const int n_sources = EDITED ? job.options.edits->n_sources : 0;
  if (!whole) {
    drop_rows(batch);
    for (int i = 0; i < n_sources; i++) drop_rows(*batch.sources[i]);
    return false;
  }
  flush_rows(batch, sums);
  for (int i = 0; i < n_sources; i++) flush_rows(*batch.sources[i], sums);
  return visit_tile(job, tile, [&](const Pixel& pixel) {
    const Composite& sum = sums[pixel.n];
    write_pixel(job.options, job.buffers, pixel.place, sum);
    write_normal<EDITED>(job, batch, rays[pixel.n], sum.median_depth, pixel.place);
  });
}
