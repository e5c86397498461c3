// Reading planes, lines and the mask: compiled once for all that look up points.
#include "simd.h"

#include "stream_lanes.h"

// Finds what of LANES points a streamed field holds. index: their blocks as LandMark numbers them
static void locate_streamed(const PackedField& packed, Vec home, const int index[LANES], Lanes& lanes) {
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

Lanes locate_lanes(const PackedField& packed, const Vec p[3]) {
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

void compute_taps(const PackedField& packed, const LvTable* tables, const Lanes& lanes, TapLanes* taps) {
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

const LvTable* begin_pass(const PackedField& packed, const LvTable* own, const LvTable* coarse, const Lanes& lanes,
                          int pass, TapLanes* taps) {
  const LvTable* tables = pass ? coarse : own;
  compute_taps(packed, tables, lanes, taps);
  if (!lanes.fades) return tables;
  const Vec share = pass ? 1.0f - lanes.share : lanes.share;
  for (int p = 0; p < packed.n_tables; p++)
    for (float* weight : {taps[p].w0, taps[p].w1}) store(weight, load<Vec>(weight) * share);
  return tables;
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

Lookup choose_lookup(const PackedField& packed) {
  const LvField& field = packed.field;
  const int density = common_channels(field.density + packed.some_table, packed.n_tables);
  const int appearance = common_channels(field.appearance + packed.some_table, packed.n_tables);
  if (field.half)
    return {density_kernel<uint16_t>(density), appearance_kernel<uint16_t>(appearance), prefetch_taps<uint16_t>};
  return {density_kernel<float>(density), appearance_kernel<float>(appearance), prefetch_taps<float>};
}

// All that it calls becomes part of it: it runs for every LANES samples.
__attribute__((flatten))
Vec density_features(const PackedField& packed, const Lookup& lookup, const Lanes& lanes, int n, TapLanes* taps) {
  alignas(64) float rows[LANES][8] = {};
  const LvTable* coarse = packed.field.stream ? packed.field.stream->coarse_folded : 0;
  for (int pass = 0; pass < n_passes(lanes); pass++) {
    const LvTable* tables = begin_pass(packed, packed.density, coarse, lanes, pass, taps);
    if (packed.exceeds_caches) lookup.prefetch(packed, tables, lanes, taps, n);
    lookup.density(packed, tables, lanes, taps, n, rows);
  }
  return row_sums(rows);
}

// Which of LANES samples that lie in one block its piece of the mask keeps, or the room.
static uint32_t kept_in_block(const LvField& field, float threshold, int home, const CellLanes& cells,
                              uint32_t inside) {
  const LvMaskPart* part = part_of(*field.stream, home);
  if (!part) return lanes_in_room(field.mask, cells, inside);
  const Vec there[3] = {sub_rn(cells.at[0], splat<Vec>((float)part->first[0])),
                        sub_rn(cells.at[1], splat<Vec>((float)part->first[1])), cells.at[2]};
  return occupied_lanes(part->mask, threshold, cells_at(part->mask, there), inside);
}

uint32_t kept_lanes(const LvField& field, float threshold, const Vec p[3], uint32_t inside) {
  const CellLanes cells = cells_of(field.mask, p);
  if (!field.stream) return occupied_lanes(field.mask, threshold, cells, inside);
  Vec c[3];
  for (int i = 0; i < 3; i++) c[i] = normalized(field, i, p[i]);
  const IntVec home = to_int(home_block(field, c));
  uint32_t kept = 0;
  for (uint32_t left = inside & cells.inside; left;) {
    const int block = home[__builtin_ctz(left)];
    const uint32_t same = left & bits_of(home == block);
    kept |= kept_in_block(field, threshold, block, cells, same);
    left &= ~same;
  }
  return kept;
}
