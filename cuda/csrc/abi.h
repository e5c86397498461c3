// What crosses the border between Python and the kernels: plain structs of pointers and numbers.
//
// Change LV_ABI whenever a struct or an entry point changes; the loader refuses a library with another number.
#pragma once
#include <stdint.h>

#define LV_EXPORT extern "C" __attribute__((visibility("default")))

#define LV_ABI 7
#define LV_TILE 8  // pixels along the side of a tile

enum LvSampling { LV_BOX = 0, LV_HULL = 1 };
enum LvQuality { LV_EXACT = 0, LV_CLUSTERED = 1, LV_FAST = 2 };
enum LvNerfMode { LV_NERF_OFF = 0, LV_NERF_ALONE = 1, LV_NERF_RESIDUAL = 2 };
enum LvActivation { LV_RELU = 0, LV_SOFTPLUS = 1 };

// One plane [n_v][n_u][channels] with its line [n_w][channels]; channels is a multiple of 8. plane == 0: absent block.
struct LvTable {
  const void* plane;
  const float* line;
  int32_t n_u, n_v, n_w, channels;
};

// The mask: bit (z&3)*16 + (y&3)*4 + (x&3) of brick (z>>2, y>>2, x>>2). Cell c lies between vertices c-1 and c; with a
// shift, 1 << shift such cells along every side make one.
struct LvMask {
  const uint8_t* nodes;      // [n_z][n_y][n_x], 0 or 1; 0: no mask
  const uint64_t* any;       // [bricks_z][bricks_y][bricks_x] cells with at least one vertex set
  const uint64_t* all;       // same, cells with all eight vertices set
  const uint8_t* distance;   // same, Chebyshev distance in bricks to the nearest brick with a cell in `any`
  int32_t n[3], bricks[3];   // x, y, z
  float low[3], scale[3];    // position in [-1, 1] = (p - low) * scale - 1
  int32_t shift;
};

// A piece of the mask: its vertex (0, 0, 0) is vertex (first[0], first[1], 0) of the whole. Neither place nor distance.
struct LvMaskPart {
  LvMask mask;
  int32_t first[2];          // not negative
};

// Of a field of which only some blocks are in memory; stream_tables.py says what it means.
struct LvStream {
  const uint8_t* lacks;      // [columns * rows] 1: the block exists, but is read from its coarse stand-in
  const LvTable* folded;     // as LvField.density, lines times density_basis if there is one
  const LvTable *coarse_density, *coarse_appearance, *coarse_folded;  // stand-ins of all blocks that exist
  const LvMaskPart* const* parts;  // [columns * rows] of resident blocks, else 0; used with a mask
  const float* fade;         // [columns * rows] share of a resident block against its stand-in, or 0
};

// One layer: weight [n_out][n_in], bias [n_out].
struct LvDense {
  const float *weight, *bias;
  int32_t n_in, n_out;
};

// The NeRF branch. Inputs: point, PE(point), density products; then feature, direction, PE(direction), appearance
// products, latent. Products in the tables' padded channels.
struct LvNerf {
  const LvDense *point_layers, *view_layers;
  LvDense density, feature, color;
  int32_t n_point_layers, n_view_layers, point_pe, view_pe;
  int32_t skip;  // the inputs join again after this point layer; -1: never
};

struct LvField {
  float low[3], high[3];         // bounding box
  int32_t columns, rows;         // blocks along x and y; block (i, j) has index i * rows + j
  int32_t n_directions, n_levels;
  int32_t half;                  // planes are float16, else float32
  int32_t zero_sigma_outside;
  int32_t activation;
  int32_t nonlinear;             // density_basis is applied and followed by a relu
  float density_shift;
  int32_t n_density, n_appearance;  // padded channels of all tables of a block together
  const LvTable* density;        // [columns * rows][n_directions * n_levels]
  const LvTable* appearance;     // same
  const float* density_basis;    // [n_density], or 0
  int32_t feature_dim, hidden_1, hidden_2, latent_dim, feature_pe, view_pe;
  const float* basis;            // [feature_dim][n_appearance]
  const float *weight_1, *weight_2, *weight_3;  // [n_out][n_in], inputs in LandMark's order
  const float *bias_1, *bias_2, *bias_3;        // [n_out]
  LvMask mask;                   // of a streamed field its room
  const LvNerf* nerf;            // or 0
  const LvStream* stream;        // or 0; then a block's tables are its own or the stand-in's
};

enum LvEditKind { LV_CLEAR = 0, LV_PATCH = 1, LV_INSTANCE = 2, LV_STYLE = 3 };

// One operation of an edit; edit_tables.py says what every number means.
struct LvEditOp {
  int32_t kind, inside;
  const uint8_t* footprint;  // [n_y][n_x], 0 or 1; 0: everywhere
  int32_t n_x, n_y;
  float low[2], inverse_side;
  float z_low, z_high;
  float xx, xy, x0, y0, zz, z0, cosine, sine;
  int32_t source;            // 0: the field itself, n: sources[n - 1]
  float sigma_scale;
  const float* ground;       // [n_y][n_x]
  const float* features;     // [n_y][n_x][feature_dim]
  float thickness, rise, sigma;
  float empty_above;         // above this height a patch holds nothing, wherever its ground lies
  const float* latent;       // [latent_dim]
};

// Another field that instances are read from.
struct LvSource {
  const LvField* field;
  const void* packed;        // the same field from lv_prepare
  const float* latent;       // [latent_dim]
  float mask_threshold;
  int32_t use_mask;
};

// Where operations may put matter: cell (i, j, k) spans low + (i, j, k) * side to low + (i + 1, j + 1, k + 1) * side.
struct LvReach {
  const uint8_t* cells;      // [n_z][n_y][n_x], 0 or 1
  int32_t n[3];              // x, y, z
  float low[3], side[3];
};

struct LvEdits {
  const LvEditOp* ops;       // the last one is on top
  const LvSource* sources;
  int32_t n_ops, n_sources, has_styles;
  int32_t n_x, n_y;          // of the map
  float low[2], scale[2];    // (x, y) lies in cell (floor((x - low[0]) * scale[0]), ...), clamped to the map
  const int32_t* cells;      // [n_y][n_x] number of a list; list 0 is empty
  const int32_t *starts, *items;  // list i: items[starts[i]] to items[starts[i + 1]], from the top down
  LvMask room;               // any, distance: where the field's mask or an operation may keep samples; used with a mask
};

struct LvView {
  float c2w[12];  // [3][4], OpenGL axes
  float fl_x, fl_y, cx, cy;
  int32_t width, height;
};

struct LvOptions {
  int32_t sampling, quality;
  int32_t n;                 // samples per ray
  int32_t threads;
  int32_t use_mask;
  float near, far, step;
  float distance_scale, weight_threshold, mask_threshold;
  float background[3];
  float cluster_weight;      // clustered, fast: weight from which on further samples begin another decoder row
  float fast_weight;         // fast: weight at which a run of samples is looked up, at its mean distance
  float fast_stop;           // fast: transmittance at which a ray ends and counts as opaque
  const float* fractions;    // hull: linspace(0, 1, n), padded at the end with LV_PAD ones
  const float* latent;       // [latent_dim], or 0
  int32_t nerf;              // LvNerfMode
  int32_t nerf_n;            // further samples of the NeRF branch
  const float* nerf_fractions;  // linspace(0, 1, nerf_n)
  const LvEdits* edits;      // or 0
  const float* fade;         // [columns * rows] of a streamed field, or 0
  const LvMask* tight;       // any, distance: all that the fast and clustered qualities need see, edits included; or 0
  int32_t bfloat16;          // not exact: the decoder's layers take bfloat16 where the processor can
};

#define LV_PAD 32

// Vertical lines through the centres of plan cells, and what is seen along them from above.
struct LvColumns {
  float low[2], side, z_high, step;
  int32_t n_x, n_y, n;       // n: samples of a line, at z_high - (i + 0.5) * step
  float *height, *opacity;   // [n_y][n_x]
  float* features;           // [n_y][n_x][feature_dim]
  uint8_t* lacking;          // [columns * rows] of a streamed field: 1 for stand-ins that were read; or 0
};

struct LvBuffers {
  float *rgb, *opacity, *depth, *median_depth;
  float* normals;            // or 0
  float* front;              // z-depth of the front layer and share of the opacity in it, per pixel; or 0
};

// Single pixels to be rendered instead of tiles, LV_TILE * LV_TILE at a time; all buffers are in the order of the list.
struct LvRays {
  const int32_t* pixels;     // row * width + column. [n]
  const float* start;        // z-depth before which a ray meets nothing. [n]; or 0
  int32_t n;
};

struct LvControl {
  const LvRays* rays;        // or 0; else a tile is a run of the list
  const int32_t* order;      // tile numbers
  int32_t n_tiles;
  const volatile int32_t* cancel;
  int32_t* done_count;
  uint8_t* tile_done;
  uint8_t* tile_lacking;     // of a streamed field: 1 for tiles that read a stand-in
  float* needs;              // [columns * rows] what samples of a block weigh, per pixel, is added; or 0
  uint8_t* lacking;          // [columns * rows] 1 for stand-ins that a tile read; or 0
};
