// Pictures: tiles are handed to threads, whatever renders them.
#pragma once
#include <mutex>

#include "seen.h"
#include "threads.h"
#include "tiles.h"

static void start_feedback(const PackedField& packed, const LvControl& control, Batch& batch, Feedback& feedback) {
  if (!packed.field.stream) return;
  feedback.lacking = control.lacking;
  if (control.needs) feedback.needs.resize(packed.n_blocks);
  batch.feedback = &feedback;
}

// Renders the tiles of control.order, in their order; returns 1 if it came to all. open(base) gives what one thread works
// with: `batch` for the field, and render(tile), false if it was cancelled. base: the batch's ray_base
template <class Open>
static int render_tiles(const TileJob& job, const LvControl& control, Open open) {
  const PackedField& packed = job.packed;
  Memory memory;
  float* base = memory.take<float>(packed.hidden_1);
  latent_share(packed, job.options.latent, base);
  const double n_pixels = job.rays ? std::max(job.rays->n, 1) : (double)job.view.width * job.view.height;
  std::atomic<int> next{0}, finished{0};
  std::mutex adding;
  auto work = [&]() {
    auto tiles = open(base);
    Feedback feedback;
    start_feedback(packed, control, tiles.batch, feedback);
    for (int i = next++; i < control.n_tiles && !*control.cancel; i = next++) {
      const int tile = control.order[i];
      feedback.is_lacking = false;
      if (!tiles.render(tile)) break;
      if (packed.field.stream) control.tile_lacking[tile] = feedback.is_lacking;
      __atomic_store_n(control.tile_done + tile, (uint8_t)1, __ATOMIC_RELEASE);
      __atomic_fetch_add(control.done_count, 1, __ATOMIC_RELEASE);
      finished++;
    }
    std::lock_guard<std::mutex> lock(adding);
    for (size_t i = 0; i < feedback.needs.size(); i++)
      control.needs[i] += (float)(feedback.needs[i] / n_pixels);
  };
  run_threads(std::min(job.options.threads, std::max(control.n_tiles, 1)), work);
  return finished == control.n_tiles;
}
