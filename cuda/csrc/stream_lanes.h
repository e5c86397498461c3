// What a streamed field keeps of LANES samples, and what rendering it lacked.
#pragma once
#include <vector>

#include "lookup.h"
#include "occupancy_lanes.h"
#include "stream.h"

// Which of LANES samples the mask of a field keeps, as bits.
uint32_t kept_lanes(const LvField& field, float threshold, const Vec p[3], uint32_t inside);

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
