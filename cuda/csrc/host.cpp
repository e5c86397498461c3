// The host library's first entry points: preparing fields and masks, pictures of scenes without edits. What a window does
// not need at once is in libraries of its own, because a window waits for this one to be compiled.
#include <algorithm>
#include <vector>

#include "simd.h"

#include "render.h"

// Number of the entry points' agreement, sizes of the structs, and whether products are rounded before they are added.
LV_EXPORT int lv_abi(int32_t* sizes) {
  const int32_t all[] = {LV_ABI,          (int32_t)sizeof(LvTable),   (int32_t)sizeof(LvMask), sizeof(LvNerf),
                         sizeof(LvField), (int32_t)sizeof(LvView),    (int32_t)sizeof(LvOptions),
                         sizeof(LvBuffers), (int32_t)sizeof(LvControl), (int32_t)sizeof(LvEditOp),
                         sizeof(LvSource), sizeof(LvReach),           (int32_t)sizeof(LvEdits),   sizeof(LvColumns),
                         sizeof(LvMaskPart), sizeof(LvStream), sizeof(LvRays)};
  memcpy(sizes, all, sizeof all);
  volatile float a = 1.0f + 0x1p-12f, b = -(1.0f + 0x1p-11f);
  float x = a, y = b;
  return add_rn(mul_rn(x, x), y) == 0.0f;
}

// Whether LvOptions.bfloat16 makes a difference.
LV_EXPORT int lv_has_bfloat16() { return LV_BF16; }

// Chessboard distance in bricks: one sweep each way over the 13 neighbours before and after.
static void fill_distance(const LvMask& mask, const uint64_t* any, uint8_t* distance) {
  const int* bricks = mask.bricks;
  const int64_t n_bricks = (int64_t)bricks[0] * bricks[1] * bricks[2];
  for (int64_t i = 0; i < n_bricks; i++) distance[i] = any[i] ? 0 : 255;
  for (int sweep = 0; sweep < 2; sweep++) {
    for (int64_t s = 0; s < n_bricks; s++) {
      int64_t i = sweep ? n_bricks - 1 - s : s;
      int x = (int)(i % bricks[0]), y = (int)(i / bricks[0] % bricks[1]), z = (int)(i / bricks[0] / bricks[1]);
      for (int c = 0; c < 13; c++) {
        int sign = sweep ? -1 : 1, o[3] = {sign * (c % 3 - 1), sign * (c / 3 % 3 - 1), sign * (c / 9 - 1)};
        int at[3] = {x + o[0], y + o[1], z + o[2]};
        bool inside = true;
        for (int axis = 0; axis < 3; axis++) inside = inside && at[axis] >= 0 && at[axis] < bricks[axis];
        if (!inside) continue;
        int other = distance[((int64_t)at[2] * bricks[1] + at[1]) * bricks[0] + at[0]] + 1;
        if (other < distance[i]) distance[i] = (uint8_t)other;
      }
    }
  }
}

// Fills any, all and, unless it is 0, distance of a mask from its vertices.
LV_EXPORT void lv_build_mask(const LvMask* mask, uint64_t* any, uint64_t* all, uint8_t* distance) {
  const int *n = mask->n, *bricks = mask->bricks;
  const int64_t n_bricks = (int64_t)bricks[0] * bricks[1] * bricks[2];
  for (int64_t i = 0; i < n_bricks; i++) any[i] = 0, all[i] = ~0ull;
  const std::vector<uint8_t> none(n[0]);  // vertices beside the mask
  // Of the four vertices at each x, whether some and every one is set; at x + 1, as 0 and n + 1 lie beside the mask.
  std::vector<uint8_t> some(4 * bricks[0] + 2), every(4 * bricks[0] + 2);
  auto set_row = [&](int z, int y) {
    const uint8_t* row[4];
    for (int c = 0; c < 4; c++) {
      int at_y = y - 1 + (c & 1), at_z = z - 1 + (c >> 1);
      bool inside = at_y >= 0 && at_y < n[1] && at_z >= 0 && at_z < n[2];
      row[c] = inside ? mask->nodes + ((int64_t)at_z * n[1] + at_y) * n[0] : none.data();
    }
    for (int x = 0; x < n[0]; x++) {
      some[x + 1] = (row[0][x] | row[1][x] | row[2][x] | row[3][x]) != 0;
      every[x + 1] = (row[0][x] != 0) & (row[1][x] != 0) & (row[2][x] != 0) & (row[3][x] != 0);
    }
    const int first[3] = {0, y, z}, shift = bit_of(first);
    const int64_t brick = brick_of(*mask, first);
    for (int b = 0; b < bricks[0]; b++) {
      uint64_t has = 0, lacks = 0;
      for (int i = 0; i < 4; i++) {
        const int x = 4 * b + i;
        has |= (uint64_t)(some[x] | some[x + 1]) << i;
        lacks |= (uint64_t)(x <= n[0] && !(every[x] & every[x + 1])) << i;
      }
      any[brick + b] |= has << shift;
      all[brick + b] &= ~(lacks << shift);
    }
  };
  for (int z = 0; z <= n[2]; z++)
    for (int y = 0; y <= n[1]; y++) set_row(z, y);
  if (distance) fill_distance(*mask, any, distance);
}

LV_EXPORT void lv_fill_distance(const LvMask* mask, uint8_t* distance) { fill_distance(*mask, mask->any, distance); }

// Fills any and distance of `room`: cells that `mask` has, whose brick 0 is brick `shift` of the room, and what the set
// cells [n_z][n_y][n_x] of a reach touch. `any` must be 0.
LV_EXPORT void lv_build_room(const LvMask* mask, const LvMask* room, const int32_t* shift, const LvReach* reach,
                             uint64_t* any, uint8_t* distance) {
  for (int z = 0; z < mask->bricks[2]; z++)
    for (int y = 0; y < mask->bricks[1]; y++)
      memcpy(any + ((int64_t)(z + shift[2]) * room->bricks[1] + y + shift[1]) * room->bricks[0] + shift[0],
             mask->any + ((int64_t)z * mask->bricks[1] + y) * mask->bricks[0], mask->bricks[0] * sizeof(uint64_t));
  std::vector<int> first[3], last[3];  // cells of the room that a cell of the reach touches
  for (int axis = 0; axis < 3; axis++) {
    auto cell = [&](int i, float slack) {
      float at = mask_coordinate(*room, axis, reach->low[axis] + (float)i * reach->side[axis]);
      return std::min(std::max((int)floorf(at + slack) + 1, 0), room->n[axis]) >> room->shift;
    };
    for (int i = 0; i < reach->n[axis]; i++) {
      first[axis].push_back(cell(i, -0.01f));
      last[axis].push_back(cell(i + 1, 0.01f));
    }
  }
  const uint8_t* cells = reach->cells;
  for (int k = 0; k < reach->n[2]; k++)
    for (int j = 0; j < reach->n[1]; j++)
      for (int i = 0; i < reach->n[0]; i++)
        if (*cells++)
          for (int z = first[2][k]; z <= last[2][k]; z++)
            for (int y = first[1][j]; y <= last[1][j]; y++)
              for (int x = first[0][i]; x <= last[0][i]; x++) {
                const int cell[3] = {x, y, z};
                any[brick_of(*room, cell)] |= 1ull << bit_of(cell);
              }
  fill_distance(*room, any, distance);
}

// The field must outlive what is returned, apart from its decoder, which is copied; or it is that of `like`, a field that
// was prepared before and must outlive what is returned, too.
LV_EXPORT void* lv_prepare(const LvField* field, const void* like) {
  return pack_field(*field, (const PackedField*)like);
}

LV_EXPORT void lv_release(void* packed) { delete (OwnedField*)(PackedField*)packed; }

// What one thread renders tiles with.
struct PlainTiles {
  const TileJob& job;
  Batch batch;
  bool render(int tile) { return render_tile<false>(job, batch, tile); }
};

// Returns 1 if all tiles were rendered. Serves neither edits nor the NeRF branch.
LV_EXPORT int lv_render(const void* prepared, const LvView* view, const LvOptions* options, const LvBuffers* buffers,
                        const LvControl* control) {
  const Seen<PackedField> seen(*(const PackedField*)prepared, options->fade);
  const TileJob job = {seen.field, *options, *view, *buffers, control->rays, control->cancel, 0};
  return render_tiles(job, *control, [&](const float* base) {
    return PlainTiles{job, Batch(job.packed, base, false, options->bfloat16)};
  });
}
