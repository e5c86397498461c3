// Small dense layers for the host: rows of inputs times packed weights. layers.cpp has the code.
#pragma once
#include "bfloat16.h"

#if defined(LV_AVX512)
enum { ROWS = 6, COLUMNS = 4 };  // vectors held in registers: ROWS x COLUMNS sums
#else
enum { ROWS = 6, COLUMNS = 2 };
#endif

LV_HD int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// Weights of a layer in panels of up to COLUMNS vectors of outputs; inside a panel, inputs follow each other.
template <class Number>
struct LayerOf {
  int n_groups, group_size, group_stride;  // the inputs: input i of group g lies at g * group_stride + i
  int n_out;                               // a multiple of LANES
  Number* weights;
};
typedef LayerOf<float> Layer;
typedef LayerOf<Pair> PairLayer;

// weight(output, group, input) gives the numbers; outputs that do not exist must be 0.
template <class Weight>
static void pack_layer(const Layer& layer, Weight weight) {
  float* to = layer.weights;
  for (int first = 0; first < layer.n_out;) {
    int width = (layer.n_out - first < COLUMNS * LANES ? layer.n_out - first : COLUMNS * LANES);
    for (int g = 0; g < layer.n_groups; g++)
      for (int i = 0; i < layer.group_size; i++)
        for (int j = 0; j < width; j++) *to++ = weight(first + j, g, i);
    first += width;
  }
}

#if LV_BF16
// Rounds a packed layer to one of pairs; where a group's inputs are odd in number, the last one's partner weighs 0.
PairLayer round_layer(const Layer& layer, Pair* weights);
#endif

// Runs a layer on n rows (a multiple of ROWS). start: what the sums of each row begin with, [n][n_out]; RELU: negative
// results to 0.
template <bool RELU, class Number>
void run_layer(const LayerOf<Number>& layer, int n, const Number* in, int in_stride, const float* const* start,
               float* out, int out_stride);

// Same for a layer of one group that takes the output of a relu or its gradient: inputs that are 0 in a whole group of
// rows are left out, which changes no bit of the result. index: scratch [n / ROWS][in_stride + LANES]
template <bool RELU, class Number>
void run_sparse_layer(const LayerOf<Number>& layer, int n, const Number* in, int in_stride, const float* const* start,
                      float* out, int out_stride, int32_t* index);
