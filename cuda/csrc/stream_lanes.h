// What a streamed field keeps of LANES samples, and what rendering it lacked.
#pragma once
#include <vector>

#include "lookup.h"
#include "occupancy_lanes.h"
#include "stream.h"

// Which of LANES samples that lie in one block its piece of the mask keeps, or the room.
static uint32_t kept_in_block(const LvField& field, float threshold, int home, const CellLanes& cells,
                              uint32_t inside) {
  const LvMaskPart* part = part_of(*field.stream, home);
  if (!part) return lanes_in_room(field.mask, cells, inside);
  const Vec there[3] = {sub_rn(cells.at[0], splat<Vec>((float)part->first[0])),
                        sub_rn(cells.at[1], splat<Vec>((float)part->first[1])), cells.at[2]};
  return occupied_lanes(part->mask, threshold, cells_at(part->mask, there), inside);
}

// Which of LANES samples the mask of a field keeps, as bits.
static uint32_t kept_lanes(const LvField& field, float threshold, const Vec p[3], uint32_t inside) {
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

// What one thread has found out about a streamed field.
struct Feedback {
  bool is_lacking = false;    // the tile under way has read a stand-in
  uint8_t* lacking = 0;       // of the whole picture, or 0. [n_blocks]
  std::vector<double> needs;  // sums of weights, or empty. [n_blocks]
};

static void note_lacking(int block, Feedback& feedback) {
  feedback.is_lacking = true;
  if (feedback.lacking) __atomic_store_n(feedback.lacking + block, (uint8_t)1, __ATOMIC_RELAXED);
}

// Notes that the field was read at point i.
static void note_read(const PackedField& packed, const Lanes& lanes, int i, Feedback& feedback) {
  if (packed.field.stream->lacks[lanes.home[i]]) note_lacking(lanes.home[i], feedback);
  if (lanes.beyond[i] >= 0) note_lacking(lanes.beyond[i], feedback);
}

// Notes that the sample at point i has a weight.
static void note_weight(const Lanes& lanes, int i, float weight, Feedback& feedback) {
  if (!feedback.needs.empty()) feedback.needs[lanes.home[i]] += weight;
}
