// Pictures of edited scenes.
#include <algorithm>
#include <memory>
#include <vector>

#include "simd.h"

#include "render.h"

// Latent shares of all styles of an edit, on the field's decoder, and of its other fields, on theirs.
struct EditShares {
  Memory memory;
  std::vector<const float*> styles, sources;

  EditShares(const PackedField& packed, const LvEdits& edits) {
    auto share = [&](const PackedField& of, const float* latent) {
      float* to = memory.take<float>(of.hidden_1);
      latent_share(of, latent, to);
      return to;
    };
    for (int i = 0; i < edits.n_ops; i++)
      styles.push_back(edits.ops[i].kind == LV_STYLE ? share(packed, edits.ops[i].latent) : 0);
    for (int i = 0; i < edits.n_sources; i++)
      sources.push_back(share(*(const PackedField*)edits.sources[i].packed, edits.sources[i].latent));
  }
};

// What one thread renders tiles with: batches of the field and of the edit's other fields.
struct EditedTiles {
  const TileJob& job;
  std::vector<std::unique_ptr<Batch>> owned;
  std::vector<Batch*> sources;
  Batch batch;

  EditedTiles(const TileJob& job, const float* base, const EditShares& shares)
      : job(job), batch(job.packed, base, true, job.options.bfloat16) {
    const LvEdits& edits = *job.options.edits;
    for (int i = 0; i < edits.n_sources; i++) {
      const PackedField& source = *(const PackedField*)edits.sources[i].packed;
      owned.emplace_back(new Batch(source, shares.sources[i], true, job.options.bfloat16));
      sources.push_back(owned.back().get());
    }
    batch.sources = sources.data();
  }
  bool render(int tile) { return render_tile<true>(job, batch, tile); }
};

// Returns 1 if all tiles were rendered. Needs edits, and does not serve the NeRF branch.
LV_EXPORT int lv_render_edited(const void* prepared, const LvView* view, const LvOptions* options,
                               const LvBuffers* buffers, const LvControl* control) {
  const Seen<PackedField> seen(*(const PackedField*)prepared, options->fade);
  const EditShares shares(seen.field, *options->edits);
  const TileJob job = {seen.field, *options, *view, *buffers, control->rays, control->cancel, shares.styles.data()};
  return render_tiles(job, *control, [&](const float* base) { return EditedTiles(job, base, shares); });
}
