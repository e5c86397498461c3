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

Lanes locate_lanes(const PackedField& packed, const Vec p[3]);

// Taps of the tables p = 0.. n_tables of each point's block. `tables` may be the density or the appearance tables.
void compute_taps(const PackedField& packed, const LvTable* tables, const Lanes& lanes, TapLanes* taps);

// Prepares reading the tables at `own`, or in a second pass the stand-ins at `coarse` for points that fade. Returns which.
const LvTable* begin_pass(const PackedField& packed, const LvTable* own, const LvTable* coarse, const Lanes& lanes,
                          int pass, TapLanes* taps);

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

typedef void (*DensityLanes)(const PackedField&, const LvTable*, const Lanes&, const TapLanes*, int, float (*)[8]);
typedef void (*PrefetchTaps)(const PackedField&, const LvTable*, const Lanes&, const TapLanes*, int);
typedef void (*AppearanceLane)(const PackedField&, const LvTable*, const Lanes&, const TapLanes*, int, float, float*);

// Channels that every one of a block's tables has, 0 if they differ.
static int common_channels(const LvTable* tables, int n) {
  for (int p = 1; p < n; p++)
    if (tables[p].channels != tables[0].channels) return 0;
  return tables[0].channels;
}

// The kernels of one field, chosen once.
struct Lookup {
  DensityLanes density;
  AppearanceLane appearance;
  PrefetchTaps prefetch;
};

Lookup choose_lookup(const PackedField& packed);

// Density features of n points, before relu and activation. taps: scratch [n_tables]
Vec density_features(const PackedField& packed, const Lookup& lookup, const Lanes& lanes, int n, TapLanes* taps);

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
