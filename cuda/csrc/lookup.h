// Reading planes and lines for LANES points at a time: positions and weights across points, texels across channels.
#pragma once
#include "packed.h"

// Where LANES points read one table of their blocks: first texels and weights.
struct TapLanes {
  int32_t plane[LANES], line[LANES];
  float w00[LANES], w10[LANES], w01[LANES], w11[LANES], w0[LANES], w1[LANES];
};

// LANES points, located.
struct Lanes {
  Vec c[3];
  IntVec is_present;  // in a block that is there
  IntVec is_void;     // sigma is 0 whatever the feature
  Vec share;          // of the block against its coarse stand-in, if anything fades
  int32_t table[LANES];  // index of the first table of the point's block
  int32_t home[LANES];   // block that the point lies in, far faces included; streamed fields only
  int32_t beyond[LANES]; // another block, whose first texels a point on a far face would read; -1: none. As home
  bool one_block;        // all points are in the same block
  bool fades = false;    // a share is not 1
};

// Finds what of LANES points a streamed field holds. index: their blocks as LandMark numbers them
LV_HD void locate_streamed(const PackedField& packed, Vec home, const int index[LANES], Lanes& lanes) {
  const LvStream& stream = *packed.field.stream;
  const IntVec number = to_int(home);
  memcpy(lanes.home, &number, sizeof number);
  lanes.share = splat<Vec>(1.0f);
  for (int i = 0; i < LANES; i++) {
    lanes.beyond[i] = -1;
    if (!lanes.is_present[i]) continue;
    if (index[i] != lanes.home[i] && stream.lacks[index[i]]) {  // beyond a block there is no stand-in
      lanes.is_present[i] = 0;
      if (packed.field.rows == 1) lanes.beyond[i] = index[i];  // with more rows it is too far away to be read
      continue;
    }
    lanes.share[i] = share_of(stream, index[i]);
    lanes.fades = lanes.fades || lanes.share[i] != 1.0f;
  }
}

LV_HD Lanes locate_lanes(const PackedField& packed, const Vec p[3]) {
  const LvField& field = packed.field;
  Lanes lanes;
  for (int i = 0; i < 3; i++) lanes.c[i] = normalized(field, i, p[i]);
  lanes.one_block = true;
  if (packed.n_blocks == 1 && !field.stream) {
    lanes.is_present = ~IntVec{};
    lanes.is_void = IntVec{};
    memset(lanes.table, 0, sizeof lanes.table);
    return lanes;
  }
  const Vec home = field.stream ? home_block(field, lanes.c) : Vec{};
  Vec block = to_block(field, lanes.c);
  int all[LANES];
  for (int i = 0; i < LANES; i++) {
    int index = all[i] = block_index(field, block[i]);
    bool present = index >= 0 && field.density[index * packed.n_tables].plane;
    bool is_void = index < 0 ? field.zero_sigma_outside != 0 : !present;
    lanes.is_present[i] = present ? -1 : 0;
    lanes.is_void[i] = is_void ? -1 : 0;
    // A point without a block reads one that is there; its weights become 0.
    lanes.table[i] = present ? index * packed.n_tables : packed.some_table;
    lanes.one_block = lanes.one_block && lanes.table[i] == lanes.table[0];
  }
  if (field.stream) locate_streamed(packed, home, all, lanes);
  return lanes;
}

// Number of texels minus one along an axis, of the table that each point reads.
template <int32_t LvTable::*SIZE>
LV_HD Vec last_texels(const LvTable* tables, const Lanes& lanes) {
  if (lanes.one_block) return splat<Vec>((float)(tables[lanes.table[0]].*SIZE - 1));
  Vec last;
  for (int i = 0; i < LANES; i++) last[i] = (float)(tables[lanes.table[i]].*SIZE - 1);
  return last;
}

// Taps of the tables p = 0.. n_tables of each point's block. `tables` may be the density or the appearance tables.
LV_HD void compute_taps(const PackedField& packed, const LvTable* tables, const Lanes& lanes, TapLanes* taps) {
  for (int p = 0; p < packed.n_tables; p++) {
    const int direction = p / packed.field.n_levels;
    const LvTable* at = tables + p;
    Vec last_u = last_texels<&LvTable::n_u>(at, lanes);
    Texels<Vec> u = texels_at(lanes.c[axis_u(direction)], last_u);
    Texels<Vec> v = texels_at(lanes.c[axis_v(direction)], last_texels<&LvTable::n_v>(at, lanes));
    Texels<Vec> w = texels_at(lanes.c[axis_w(direction)], last_texels<&LvTable::n_w>(at, lanes));
    Vec weight_0 = choose(lanes.is_present, w.weight_0, Vec{});
    Vec weight_1 = choose(lanes.is_present, w.weight_1, Vec{});
    IntVec plane = to_int(v.base) * (to_int(last_u) + 1) + to_int(u.base), line = to_int(w.base);
    memcpy(taps[p].plane, &plane, sizeof plane);
    memcpy(taps[p].line, &line, sizeof line);
    store(taps[p].w00, u.weight_0 * v.weight_0);
    store(taps[p].w10, u.weight_1 * v.weight_0);
    store(taps[p].w01, u.weight_0 * v.weight_1);
    store(taps[p].w11, u.weight_1 * v.weight_1);
    store(taps[p].w0, weight_0);
    store(taps[p].w1, weight_1);
  }
}

// Prepares reading the tables at `own`, or in a second pass the stand-ins at `coarse` for points that fade. Returns which.
LV_HD const LvTable* begin_pass(const PackedField& packed, const LvTable* own, const LvTable* coarse,
                                const Lanes& lanes, int pass, TapLanes* taps) {
  const LvTable* tables = pass ? coarse : own;
  compute_taps(packed, tables, lanes, taps);
  if (!lanes.fades) return tables;
  const Vec share = pass ? 1.0f - lanes.share : lanes.share;
  for (int p = 0; p < packed.n_tables; p++)
    for (float* weight : {taps[p].w0, taps[p].w1}) store(weight, load<Vec>(weight) * share);
  return tables;
}

LV_HD int n_passes(const Lanes& lanes) { return lanes.fades ? 2 : 1; }

// The corner texels of one point.
template <class T>
struct Corners {
  const T *p00, *p10, *p01, *p11;
  const float *l0, *l1;
};

template <class T>
LV_HD Corners<T> corners(const LvTable& table, const TapLanes& taps, int lane, int channels) {
  Corners<T> at;
  at.p00 = (const T*)table.plane + (int64_t)taps.plane[lane] * channels;
  int step = table.n_u > 1 ? channels : 0;
  at.p10 = at.p00 + step;
  at.p01 = at.p00 + (table.n_v > 1 ? (int64_t)table.n_u * channels : 0);
  at.p11 = at.p01 + step;
  at.l0 = table.line + (int64_t)taps.line[lane] * channels;
  at.l1 = at.l0 + (table.n_w > 1 ? channels : 0);
  return at;
}

// Asks for the texels of n points ahead of their use; worth it only where the tables exceed the caches.
template <class T>
static void prefetch_taps(const PackedField& packed, const LvTable* first, const Lanes& lanes, const TapLanes* taps,
                         int n) {
  for (int lane = 0; lane < n; lane++) {
    const LvTable* tables = first + lanes.table[lane];
    for (int p = 0; p < packed.n_tables; p++) {
      const int bytes = tables[p].channels * 2 * (int)sizeof(T);
      Corners<T> at = corners<T>(tables[p], taps[p], lane, tables[p].channels);
      for (int byte = 0; byte < bytes; byte += 64) {
        __builtin_prefetch((const char*)at.p00 + byte);
        __builtin_prefetch((const char*)at.p01 + byte);
      }
    }
  }
}

template <class V>
LV_HD V read(const float* from) {
  return load<V>(from);
}
template <class V>
LV_HD V read(const uint16_t* from) {
  return load_half<V>(from);
}

// Plane times line of a run of channels.
template <class V, class T>
LV_HD V product(const Corners<T>& at, const TapLanes& taps, int lane, int channel) {
  V plane = read<V>(at.p00 + channel) * taps.w00[lane] + read<V>(at.p10 + channel) * taps.w10[lane] +
            read<V>(at.p01 + channel) * taps.w01[lane] + read<V>(at.p11 + channel) * taps.w11[lane];
  return plane * (load<V>(at.l0 + channel) * taps.w0[lane] + load<V>(at.l1 + channel) * taps.w1[lane]);
}

// Adds the density feature of n points, in eight parts. CHANNELS: of every table, 0 if they differ or are rare.
template <class T, int CHANNELS>
static void density_lanes(const PackedField& packed, const LvTable* first, const Lanes& lanes, const TapLanes* taps,
                          int n, float (*rows)[8]) {
  for (int lane = 0; lane < n; lane++) {
    const LvTable* tables = first + lanes.table[lane];
    Vec8 sum = load<Vec8>(rows[lane]);
    for (int p = 0; p < packed.n_tables; p++) {
      const int channels = CHANNELS ? CHANNELS : tables[p].channels;
      Corners<T> at = corners<T>(tables[p], taps[p], lane, channels);
      for (int channel = 0; channel < channels; channel += 8) sum += product<Vec8>(at, taps[p], lane, channel);
    }
    store(rows[lane], sum);
  }
}

// Adds weight * plane * line of one point to `row` [n_appearance].
template <class T, int CHANNELS>
static void appearance_lane(const PackedField& packed, const LvTable* first, const Lanes& lanes, const TapLanes* taps,
                            int lane, float weight, float* row) {
  const LvTable* tables = first + lanes.table[lane];
  for (int p = 0; p < packed.n_tables; p++) {
    const int channels = CHANNELS ? CHANNELS : tables[p].channels;
    Corners<T> at = corners<T>(tables[p], taps[p], lane, channels);
    int channel = 0;
    for (; channel + LANES <= channels; channel += LANES)
      store(row + channel, load<Vec>(row + channel) + product<Vec>(at, taps[p], lane, channel) * weight);
    for (; channel < channels; channel += 8)
      store(row + channel, load<Vec8>(row + channel) + product<Vec8>(at, taps[p], lane, channel) * weight);
    row += channels;
  }
}

typedef void (*DensityLanes)(const PackedField&, const LvTable*, const Lanes&, const TapLanes*, int, float (*)[8]);
typedef void (*PrefetchTaps)(const PackedField&, const LvTable*, const Lanes&, const TapLanes*, int);
typedef void (*AppearanceLane)(const PackedField&, const LvTable*, const Lanes&, const TapLanes*, int, float, float*);

// Channels that every one of a block's tables has, 0 if they differ.
static int common_channels(const LvTable* tables, int n) {
  for (int p = 1; p < n; p++)
    if (tables[p].channels != tables[0].channels) return 0;
  return tables[0].channels;
}

template <class T>
static DensityLanes density_kernel(int channels) {
  if (channels == 8) return density_lanes<T, 8>;
  if (channels == 16) return density_lanes<T, 16>;
  return density_lanes<T, 0>;
}

template <class T>
static AppearanceLane appearance_kernel(int channels) {
  if (channels == 16) return appearance_lane<T, 16>;
  if (channels == 24) return appearance_lane<T, 24>;
  if (channels == 32) return appearance_lane<T, 32>;
  if (channels == 48) return appearance_lane<T, 48>;
  return appearance_lane<T, 0>;
}

// The kernels of one field, chosen once.
struct Lookup {
  DensityLanes density;
  AppearanceLane appearance;
  PrefetchTaps prefetch;
};

static Lookup choose_lookup(const PackedField& packed) {
  const LvField& field = packed.field;
  const int density = common_channels(field.density + packed.some_table, packed.n_tables);
  const int appearance = common_channels(field.appearance + packed.some_table, packed.n_tables);
  if (field.half)
    return {density_kernel<uint16_t>(density), appearance_kernel<uint16_t>(appearance), prefetch_taps<uint16_t>};
  return {density_kernel<float>(density), appearance_kernel<float>(appearance), prefetch_taps<float>};
}

// Density features of n points, before relu and activation. taps: scratch [n_tables]
static Vec density_features(const PackedField& packed, const Lookup& lookup, const Lanes& lanes, int n,
                            TapLanes* taps) {
  alignas(64) float rows[LANES][8] = {};
  const LvTable* coarse = packed.field.stream ? packed.field.stream->coarse_folded : 0;
  for (int pass = 0; pass < n_passes(lanes); pass++) {
    const LvTable* tables = begin_pass(packed, packed.density, coarse, lanes, pass, taps);
    if (packed.exceeds_caches) lookup.prefetch(packed, tables, lanes, taps, n);
    lookup.density(packed, tables, lanes, taps, n, rows);
  }
  return row_sums(rows);
}

// Adds weight[i] * plane * line of each of n points to row(i) [n_appearance], unless the weight is 0.
template <class Row>
static void add_products(const PackedField& packed, const Lookup& lookup, const Lanes& lanes, int n, TapLanes* taps,
                         const float* weight, Row row) {
  const LvTable* coarse = packed.field.stream ? packed.field.stream->coarse_appearance : 0;
  for (int pass = 0; pass < n_passes(lanes); pass++) {
    const LvTable* tables = begin_pass(packed, packed.field.appearance, coarse, lanes, pass, taps);
    if (packed.exceeds_caches) lookup.prefetch(packed, tables, lanes, taps, n);
    for (int i = 0; i < n; i++)
      if (weight[i] != 0.0f) lookup.appearance(packed, tables, lanes, taps, i, weight[i], row(i));
  }
}

LV_HD Vec activate_lanes(const LvField& field, const Lanes& lanes, Vec feature) {
  if (field.nonlinear) feature = max_of(feature, Vec{});
  Vec sigma;
  if (field.activation == LV_RELU) {
    sigma = max_of(feature, Vec{});
  } else {
    Vec shifted = feature + field.density_shift;
    sigma = choose(shifted > 20.0f, shifted, log1p_of(exp_of(shifted)));
  }
  return choose(lanes.is_void, Vec{}, sigma);
}
