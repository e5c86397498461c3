// A field as the host's SIMD wants it: decoder weights in panels, density weights folded into the lines.
#pragma once
#include <stdlib.h>

#include <initializer_list>

#include "decoder.h"
#include "field.h"
#include "gemm.h"

#define LV_LARGE_PLANES ((size_t)32 << 20)  // bytes; planes beyond this are prefetched

// Zeroed memory aligned for Vec, freed with its owner.
struct Memory {
  static constexpr int MAX = 128;
  void* blocks[MAX];
  int n = 0;

  template <class T>
  T* take(size_t count) {
    if (n == MAX) abort();
    size_t bytes = (count * sizeof(T) + 127) / 64 * 64;
    void* block = 0;
    if (posix_memalign(&block, 64, bytes)) return 0;
    memset(block, 0, bytes);
    return (T*)(blocks[n++] = block);
  }
  ~Memory() {
    while (n) free(blocks[--n]);
  }
};

// A layer of the decoder, and the same in bfloat16 where the processor can.
struct DecoderLayer : Layer {
  PairLayer pairs;
};

struct PackedDecoder {
  int n_ray_inputs;
  int feature, hidden_1, hidden_2;  // widths padded to LANES
  int encoded;                      // padded width of feature and its encoding: groups of `feature` numbers
  DecoderLayer basis, layer_1, layer_2;
  float* ray_weights;               // first layer: latent, direction, PE(direction). [n_ray_inputs][hidden_1]
  float *bias_1, *bias_2, *weight_3;  // [hidden_1], [hidden_2], [3][hidden_2]
  float* zeros;                     // [widest]
};

struct PackedField : PackedDecoder {
  LvField field;
  int n_tables, n_blocks;
  int some_table;          // index of the first table of a block that is there
  bool exceeds_caches;     // the planes do not fit a processor's last cache
  const LvTable* density;  // as field.density, lines times density_basis
};

inline const LvStream*& stream_of(PackedField& packed) { return packed.field.stream; }

// A packed field with the memory that its decoder and lines lie in.
struct OwnedField : PackedField {
  Memory memory;
};

static Layer make_layer(Memory& memory, int n_groups, int group_size, int group_stride, int n_out) {
  Layer layer = {n_groups, group_size, group_stride, n_out, 0};
  layer.weights = memory.take<float>((size_t)n_groups * group_size * n_out);
  return layer;
}

// A layer of the decoder that make_layer has made, with its weights.
template <class Weight>
static DecoderLayer pack_decoder_layer(Memory& memory, const Layer& layer, Weight weight) {
  pack_layer(layer, weight);
#if LV_BF16
  const size_t n_pairs = (size_t)layer.n_groups * ((layer.group_size + 1) / 2);
  return {layer, round_layer(layer, memory.take<Pair>(n_pairs * layer.n_out))};
#else
  return {layer, {}};
#endif
}

// Input of the first layer that group g, input i of the host's layout is: feature, sin 1, cos 1, sin 2, cos 2, sin 4 ...
static int encoded_input(const LvField& field, const InputLayout& layout, int group, int i) {
  if (group == 0) return i;
  int k = (group - 1) / 2, first = (group - 1) % 2 * field.feature_dim;
  return layout.feature_pe + (first + i) * field.feature_pe + k;
}

static void pack_decoder(OwnedField& packed) {
  const LvField& field = packed.field;
  const InputLayout layout = input_layout(field);
  const int n_groups = 1 + 2 * (field.feature_pe > 0 ? field.feature_pe : 0);
  packed.feature = round_up(field.feature_dim, LANES);
  packed.hidden_1 = round_up(field.hidden_1, LANES);
  packed.hidden_2 = round_up(field.hidden_2, LANES);
  packed.encoded = n_groups * packed.feature;
  Memory& memory = packed.memory;
  const Layer basis = make_layer(memory, 1, field.n_appearance, field.n_appearance, packed.feature);
  packed.basis = pack_decoder_layer(memory, basis, [&](int out, int, int i) {
    return out < field.feature_dim ? field.basis[(size_t)out * field.n_appearance + i] : 0.0f;
  });
  const Layer layer_1 = make_layer(memory, n_groups, field.feature_dim, packed.feature, packed.hidden_1);
  packed.layer_1 = pack_decoder_layer(memory, layer_1, [&](int out, int group, int i) {
    return out < field.hidden_1
               ? field.weight_1[(size_t)out * layout.n + encoded_input(field, layout, group, i)]
               : 0.0f;
  });
  const Layer layer_2 = make_layer(memory, 1, field.hidden_1, packed.hidden_1, packed.hidden_2);
  packed.layer_2 = pack_decoder_layer(memory, layer_2, [&](int out, int, int i) {
    return out < field.hidden_2 ? field.weight_2[(size_t)out * field.hidden_1 + i] : 0.0f;
  });
  packed.bias_1 = memory.take<float>(packed.hidden_1);
  packed.bias_2 = memory.take<float>(packed.hidden_2);
  packed.weight_3 = memory.take<float>(3 * packed.hidden_2);
  memcpy(packed.bias_1, field.bias_1, field.hidden_1 * sizeof(float));
  memcpy(packed.bias_2, field.bias_2, field.hidden_2 * sizeof(float));
  for (int c = 0; c < 3; c++)
    memcpy(packed.weight_3 + c * packed.hidden_2, field.weight_3 + c * field.hidden_2,
           field.hidden_2 * sizeof(float));
  packed.zeros = memory.take<float>(packed.feature + packed.hidden_1 + packed.hidden_2);
}

static void pack_ray_inputs(OwnedField& packed) {
  const LvField& field = packed.field;
  const InputLayout layout = input_layout(field);
  const int before_pe = layout.feature_pe - layout.latent;
  packed.n_ray_inputs = before_pe + layout.n - layout.direction_pe;
  packed.ray_weights = packed.memory.take<float>((size_t)packed.n_ray_inputs * packed.hidden_1);
  for (int i = 0; i < packed.n_ray_inputs; i++) {
    int input = i < before_pe ? layout.latent + i : layout.direction_pe + i - before_pe;
    for (int j = 0; j < field.hidden_1; j++)
      packed.ray_weights[(size_t)i * packed.hidden_1 + j] = field.weight_1[(size_t)j * layout.n + input];
  }
}

// relu(basis . (plane * line)) = relu(sum of plane * (basis * line))
static void fold_density(OwnedField& packed) {
  const LvField& field = packed.field;
  packed.density = field.density;
  if (!field.density_basis) return;
  const int n = packed.n_blocks * packed.n_tables;
  LvTable* tables = packed.memory.take<LvTable>(n);
  size_t total = 0;
  for (int p = 0; p < n; p++)
    if (field.density[p].plane) total += (size_t)field.density[p].n_w * field.density[p].channels;
  float* line = packed.memory.take<float>(total);
  for (int block = 0; block < packed.n_blocks; block++) {
    for (int p = 0, first = 0; p < packed.n_tables; p++) {
      LvTable& table = tables[block * packed.n_tables + p];
      table = field.density[block * packed.n_tables + p];
      if (!table.plane) continue;
      const float* from = table.line;
      table.line = line;
      for (int w = 0; w < table.n_w; w++)
        for (int c = 0; c < table.channels; c++) *line++ = *from++ * field.density_basis[first + c];
      first += table.channels;
    }
  }
  packed.density = tables;
}

static size_t plane_bytes(const PackedField& packed) {
  const LvField& field = packed.field;
  size_t n = 0;
  for (const LvTable* tables : {field.density, field.appearance})
    for (int p = 0; p < packed.n_blocks * packed.n_tables; p++)
      if (tables[p].plane) n += (size_t)tables[p].n_u * tables[p].n_v * tables[p].channels;
  return n * (field.half ? 2 : 4);
}

// like: a field with the same decoder, which must outlive this one; or 0
static inline PackedField* pack_field(const LvField& field, const PackedField* like) {
  OwnedField* packed = new OwnedField();
  packed->field = field;
  packed->n_tables = field.n_directions * field.n_levels;
  packed->n_blocks = field.columns * field.rows;
  while (!field.density[packed->some_table].plane) packed->some_table += packed->n_tables;
  packed->exceeds_caches = field.stream || plane_bytes(*packed) > LV_LARGE_PLANES;
  if (like) {
    (PackedDecoder&)*packed = *like;
  } else {
    pack_decoder(*packed);
    pack_ray_inputs(*packed);
  }
  if (field.stream) packed->density = field.stream->folded;
  else fold_density(*packed);
  return packed;
}

// Fills the groups behind the feature of a row: sin and cos of feature * 2^k. Odd k come from the double angle.
LV_HD void encode_row(const PackedField& packed, float* row) {
  const int width = packed.feature, n_frequencies = packed.field.feature_pe;
  for (int i = 0; i < width; i += LANES) {
    Vec value = load<Vec>(row + i), sine = {}, cosine = {};
    float* to = row + width + i;
    for (int k = 0; k < n_frequencies; k++, to += 2 * width) {
      if (k & 1) {
        Vec doubled = 2.0f * sine * cosine;
        cosine = fused(-2.0f * sine, sine, splat<Vec>(1.0f));
        sine = doubled;
      } else {
        sincos_of(value * (float)(1u << k), sine, cosine);
      }
      store(to, sine);
      store(to + width, cosine);
    }
  }
}
