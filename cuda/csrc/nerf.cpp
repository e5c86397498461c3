// LandMark's NeRF branch on the host: importance samples of every ray through its two small networks.
#include <algorithm>

#include "simd.h"

#include "render.h"

// [sin(v * 2^k), cos(v * 2^k)] of three numbers, dimension-major. Returns how many were written.
static int encode_three(const float v[3], int n_frequencies, float* to) {
  const int n = 3 * n_frequencies;
  for (int first = 0; first < n; first += LANES) {
    Vec angles = {}, sine, cosine;
    const int some = std::min(n - first, (int)LANES);
    for (int i = 0; i < some; i++)
      angles[i] = ldexpf(v[(first + i) / n_frequencies], (first + i) % n_frequencies);
    sincos_of(angles, sine, cosine);
    memcpy(to + first, &sine, some * sizeof(float));
    memcpy(to + n + first, &cosine, some * sizeof(float));
  }
  return 2 * n;
}

// A layer with its bias, padded to LANES outputs.
struct Dense {
  Layer layer;
  float* bias;
};

static Dense pack_dense(Memory& memory, const LvDense& from) {
  Dense dense;
  dense.layer = make_layer(memory, 1, from.n_in, from.n_in, round_up(from.n_out, LANES));
  pack_layer(dense.layer, [&](int out, int, int i) {
    return out < from.n_out ? from.weight[(size_t)out * from.n_in + i] : 0.0f;
  });
  dense.bias = memory.take<float>(dense.layer.n_out);
  memcpy(dense.bias, from.bias, from.n_out * sizeof(float));
  return dense;
}

// The branch, packed, with the memory of one thread: rows are samples of one ray.
struct NerfBatch {
  const PackedField& packed;
  const LvNerf& nerf;
  Memory memory;
  std::vector<Dense> point_layers, view_layers;
  Dense density, feature, color;
  int n_point, point_stride, view_stride, hidden_stride;  // n_point: width of the first layer's input
  float *point_rows, *view_rows, *hidden[2], *raw, *rgb;   // [BATCH][...]
  std::vector<float> t, weights, cdf, view;

  NerfBatch(const PackedField& packed, const LvOptions& options) : packed(packed), nerf(*packed.field.nerf) {
    int widest = LANES;
    auto pack = [&](const LvDense& from) {
      widest = std::max(widest, round_up(from.n_out, LANES));
      return pack_dense(memory, from);
    };
    for (int i = 0; i < nerf.n_point_layers; i++) point_layers.push_back(pack(nerf.point_layers[i]));
    for (int i = 0; i < nerf.n_view_layers; i++) view_layers.push_back(pack(nerf.view_layers[i]));
    density = pack(nerf.density);
    feature = pack(nerf.feature);
    color = pack(nerf.color);
    n_point = nerf.point_layers[0].n_in;
    point_stride = n_point + widest;
    view_stride = nerf.feature.n_out + nerf.view_layers[0].n_in + LANES;
    hidden_stride = widest;
    point_rows = memory.take<float>((size_t)BATCH * point_stride);
    view_rows = memory.take<float>((size_t)BATCH * view_stride);
    for (float*& rows : hidden) rows = memory.take<float>((size_t)BATCH * hidden_stride);
    raw = memory.take<float>((size_t)BATCH * LANES);
    rgb = memory.take<float>((size_t)BATCH * LANES);
    t.resize(options.n + options.nerf_n + LANES);
    weights.resize(options.n + LANES);
    cdf.resize(options.n);
    view.resize(3 + 6 * nerf.view_pe);
  }
};

// Weights of all samples of a ray through the grid, as the branch's sampling wants them. t, weights: [options.n]
static void coarse_weights(const TileJob& job, Batch& batch, const Ray& ray, float* t_of, float* weights) {
  const LvOptions& options = job.options;
  const LvField& field = job.packed.field;
  double transmittance = 1.0;
  for (int k = 0; k < options.n; k += LANES) {
    Vec t, next, p[3], number = first_lanes() + (float)k;
    distances(options, ray, k, t, next);
    IntVec inside = number < (float)(options.n - 1);
    for (int i = 0; i < 3; i++) {
      p[i] = sample_position(ray, i, t);
      inside = inside & (p[i] >= field.low[i]) & (p[i] <= field.high[i]);
    }
    uint32_t kept = bits_of(inside);
    if (options.use_mask && kept) kept = kept_lanes(field, options.mask_threshold, p, kept);
    float alpha[LANES] = {}, at[LANES];
    if (kept) {
      Lanes lanes = locate_lanes(job.packed, p);
      Vec sigma = activate_lanes(field, lanes, density_features(job.packed, batch.lookup, lanes, LANES, batch.taps));
      store(alpha, 1.0f - exp_of(-sigma * sample_length(options, t, next)));
      for (uint32_t read = batch.feedback ? kept : 0; read; read &= read - 1)
        note_read(job.packed, lanes, __builtin_ctz(read), *batch.feedback);
    }
    store(at, t);
    for (int i = 0; i < LANES && k + i < options.n; i++) {
      float a = kept >> i & 1 ? alpha[i] : 0.0f;
      t_of[k + i] = at[i];
      weights[k + i] = a * (float)transmittance;
      transmittance *= (1.0f - a) + 1e-10f;
    }
  }
}

// Appends options.nerf_n quantiles of the weights to t [n] and sorts. Needs at least three samples.
static void draw_samples(const LvOptions& options, std::vector<float>& t, const float* weights, float* cdf) {
  const int n = options.n, n_bins = n - 1;
  // Sums in double precision, as torch's: where a sample lies decides the phase of encodings up to 2^15.
  double total = 0.0, sum = 0.0;
  for (int i = 1; i < n - 1; i++) total += weights[i] + 1e-5f;
  cdf[0] = 0.0f;
  for (int i = 1; i < n_bins; i++) cdf[i] = (float)(sum += (weights[i] + 1e-5f) / (float)total);
  auto middle = [&](int i) { return 0.5f * (t[i + 1] + t[i]); };
  for (int k = 0; k < options.nerf_n; k++) {
    float u = options.nerf_fractions[k];
    int index = (int)(std::upper_bound(cdf, cdf + n_bins, u) - cdf);
    int low = std::max(index - 1, 0), high = std::min(index, n_bins - 1);
    float width = cdf[high] - cdf[low];
    if (width < 1e-5f) width = 1.0f;
    t[n + k] = middle(low) + (u - cdf[low]) / width * (middle(high) - middle(low));
  }
  std::sort(t.begin(), t.begin() + n + options.nerf_n);
}

// Plane times line of every channel of all tables of one point, padded channels included.
template <class T>
static void products_lane(const PackedField& packed, const LvTable* all, const Lanes& lanes, const TapLanes* taps,
                          int lane, bool adds, float* row) {
  const LvTable* tables = all + lanes.table[lane];
  for (int p = 0; p < packed.n_tables; p++) {
    Corners<T> at = corners<T>(tables[p], taps[p], lane, tables[p].channels);
    for (int channel = 0; channel < tables[p].channels; channel += 8)
      store(row + channel, product<Vec8>(at, taps[p], lane, channel) + (adds ? load<Vec8>(row + channel) : Vec8{}));
    row += tables[p].channels;
  }
}

static void all_products(const Batch& batch, const LvTable* own, const LvTable* coarse, const Lanes& lanes, int n,
                         float* rows, int stride) {
  const PackedField& packed = batch.packed;
  for (int pass = 0; pass < n_passes(lanes); pass++) {
    const LvTable* tables = begin_pass(packed, own, coarse, lanes, pass, batch.taps);
    for (int i = 0; i < n; i++) {
      float* row = rows + (size_t)i * stride;
      if (packed.field.half) products_lane<uint16_t>(packed, tables, lanes, batch.taps, i, pass > 0, row);
      else products_lane<float>(packed, tables, lanes, batch.taps, i, pass > 0, row);
    }
  }
}

// Inputs of n samples of a ray: what the point layers and, behind the feature, the view layers see.
static void fill_rows(NerfBatch& nerf, const Batch& batch, const LvOptions& options, const Ray& ray, const float* t,
                      int n) {
  const LvField& field = batch.packed.field;
  float* view = nerf.view.data();
  memcpy(view, ray.d, sizeof ray.d);
  const int n_view = 3 + encode_three(ray.d, nerf.nerf.view_pe, view + 3);
  const int products = 3 + 6 * nerf.nerf.point_pe, view_at = nerf.nerf.feature.n_out;
  for (int first = 0; first < n; first += LANES) {
    const int some = std::min(n - first, (int)LANES);
    Vec p[3], at = load<Vec>(t + first);
    float points[3][LANES];
    for (int axis = 0; axis < 3; axis++) store(points[axis], p[axis] = sample_position(ray, axis, at));
    Lanes lanes = locate_lanes(batch.packed, p);
    float* point_rows = nerf.point_rows + (size_t)first * nerf.point_stride;
    float* view_rows = nerf.view_rows + (size_t)first * nerf.view_stride + view_at;
    const LvStream none = {}, &stream = field.stream ? *field.stream : none;
    all_products(batch, field.density, stream.coarse_density, lanes, some, point_rows + products, nerf.point_stride);
    all_products(batch, field.appearance, stream.coarse_appearance, lanes, some, view_rows + n_view, nerf.view_stride);
    for (int i = 0; batch.feedback && i < some; i++)
      if (in_plan(field, point_rows + (size_t)i * nerf.point_stride)) note_read(batch.packed, lanes, i, *batch.feedback);
    for (int i = 0; i < some; i++) {
      float *point = point_rows + (size_t)i * nerf.point_stride, *seen = view_rows + (size_t)i * nerf.view_stride;
      for (int axis = 0; axis < 3; axis++) point[axis] = points[axis][i];
      encode_three(point, nerf.nerf.point_pe, point + 3);
      memcpy(seen, view, n_view * sizeof(float));
      memcpy(seen + n_view + field.n_appearance, options.latent, field.latent_dim * sizeof(float));
    }
  }
}

// Raw density and colour logits of n filled rows.
static void run_networks(NerfBatch& nerf, int n) {
  const float* start[BATCH];
  const int rows = round_up(n, ROWS);
  auto with_bias = [&](const Dense& dense) {
    for (int r = 0; r < rows; r++) start[r] = dense.bias;
    return start;
  };
  const float* in = nerf.point_rows;
  int stride = nerf.point_stride;
  for (int i = 0; i < (int)nerf.point_layers.size(); i++) {
    const Dense& dense = nerf.point_layers[i];
    const bool joins = i == nerf.nerf.skip;  // what comes out stands behind the inputs, and both go on
    float* out = joins ? nerf.point_rows + nerf.n_point : nerf.hidden[i & 1];
    const int out_stride = joins ? nerf.point_stride : nerf.hidden_stride;
    run_layer<true>(dense.layer, rows, in, stride, with_bias(dense), out, out_stride);
    in = joins ? nerf.point_rows : out;
    stride = out_stride;
  }
  run_layer<false>(nerf.density.layer, rows, in, stride, with_bias(nerf.density), nerf.raw, LANES);
  // The feature goes before the other inputs of the view layers; its padding must not fall upon them.
  float* feature = nerf.hidden[nerf.point_layers.size() & 1];
  run_layer<false>(nerf.feature.layer, rows, in, stride, with_bias(nerf.feature), feature, nerf.hidden_stride);
  for (int r = 0; r < n; r++)
    memcpy(nerf.view_rows + (size_t)r * nerf.view_stride, feature + (size_t)r * nerf.hidden_stride,
           nerf.nerf.feature.n_out * sizeof(float));
  in = nerf.view_rows;
  stride = nerf.view_stride;
  for (int i = 0; i < (int)nerf.view_layers.size(); i++) {
    const Dense& dense = nerf.view_layers[i];
    run_layer<true>(dense.layer, rows, in, stride, with_bias(dense), nerf.hidden[i & 1], nerf.hidden_stride);
    in = nerf.hidden[i & 1];
    stride = nerf.hidden_stride;
  }
  run_layer<false>(nerf.color.layer, rows, in, stride, with_bias(nerf.color), nerf.rgb, LANES);
}

// What the branch sees along a ray; nothing lies behind it.
static Composite nerf_along(const TileJob& job, Batch& batch, NerfBatch& nerf, const Ray& ray) {
  const LvOptions& options = job.options;
  const int n = options.n + options.nerf_n;
  coarse_weights(job, batch, ray, nerf.t.data(), nerf.weights.data());
  draw_samples(options, nerf.t, nerf.weights.data(), nerf.cdf.data());
  Composite sum = start_composite();
  for (int first = 0; first < n; first += BATCH) {
    const int some = std::min(n - first, (int)BATCH);
    fill_rows(nerf, batch, options, ray, nerf.t.data() + first, some);
    run_networks(nerf, some);
    for (int i = 0; i < some; i++) {
      const int k = first + i;
      float length = k + 1 < n ? nerf.t[k + 1] - nerf.t[k] : 1000.0f;
      float alpha = 1.0f - expf(-max_of(nerf.raw[i * LANES], 0.0f) * length);
      float weight = add_sample(sum, alpha, nerf.t[k]);
      add_front(sum, weight, nerf.t[k], ray.spacing);
      for (int c = 0; c < 3; c++) sum.rgb[c] += weight / (1.0f + expf(-nerf.rgb[i * LANES + c]));
    }
  }
  return sum;
}

// Renders one tile with the branch, alone or over the grid. Returns false if it was cancelled on the way.
static bool render_nerf_tile(const TileJob& job, Batch& batch, NerfBatch& nerf, int tile) {
  const LvOptions& options = job.options;
  Composite grid[TILE_RAYS], seen[TILE_RAYS];
  Ray rays[TILE_RAYS];
  bool whole = visit_tile(job, tile, [&](const Pixel& pixel) {
    const int n = pixel.n;
    rays[n] = start_ray(job.packed.field, options, job.view, pixel.column, pixel.row);
    seen[n] = nerf_along(job, batch, nerf, rays[n]);
    grid[n] = start_composite();
    if (options.nerf != LV_NERF_RESIDUAL) return;
    prepare_ray(batch, n, rays[n].d);
    march_ray<false>(job, batch, n, rays[n], grid);
  });
  if (!whole) return drop_rows(batch), false;
  flush_rows(batch, grid);
  return visit_tile(job, tile, [&](const Pixel& of) {
    const int n = of.n;
    const int64_t pixel = of.place;
    float under[3] = {};
    if (options.nerf == LV_NERF_RESIDUAL) {
      write_pixel(options, job.buffers, pixel, grid[n]);
      memcpy(under, job.buffers.rgb + 3 * pixel, sizeof under);
    }
    write_pixel(options, job.buffers, pixel, seen[n]);
    for (int c = 0; c < 3; c++) job.buffers.rgb[3 * pixel + c] = clamp(seen[n].rgb[c] + under[c], 0.0f, 1.0f);
    write_normal<false>(job, batch, rays[n], seen[n].median_depth, pixel);
  });
}

// What one thread renders tiles with.
struct NerfTiles {
  const TileJob& job;
  Batch batch;
  NerfBatch nerf;
  bool render(int tile) { return render_nerf_tile(job, batch, nerf, tile); }
};

// Returns 1 if all tiles were rendered. Needs the branch, and does not serve edits.
LV_EXPORT int lv_render_nerf(const void* prepared, const LvView* view, const LvOptions* options,
                             const LvBuffers* buffers, const LvControl* control) {
  const Seen<PackedField> seen(*(const PackedField*)prepared, options->fade);
  const TileJob job = {seen.field, *options, *view, *buffers, control->rays, control->cancel, 0};
  return render_tiles(job, *control, [&](const float* base) {
    return NerfTiles{job, Batch(job.packed, base, false, options->bfloat16), NerfBatch(job.packed, *options)};
  });
}
