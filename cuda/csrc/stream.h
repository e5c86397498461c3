// Which samples of a field count, and which of its blocks they lack: wholly in memory or streamed.
#pragma once
#include "field.h"
#include "occupancy.h"

LV_HD int home_of(const LvField& field, const float p[3]) {
  float c[3];
  for (int i = 0; i < 3; i++) c[i] = normalized(field, i, p[i]);
  return (int)home_block(field, c);
}

// The piece of the mask that decides about samples of a block; 0: the room does.
LV_HD const LvMaskPart* part_of(const LvStream& stream, int home) {
  return share_of(stream, home) == 1.0f ? stream.parts[home] : 0;
}

// Whether a sample of a streamed field counts. at: vertex coordinates
LV_HD bool streamed_counts(const LvField& field, float threshold, int home, const float at[3]) {
  if (const LvMaskPart* part = part_of(*field.stream, home)) {
    const float there[3] = {sub_rn(at[0], (float)part->first[0]), sub_rn(at[1], (float)part->first[1]), at[2]};
    return is_occupied(part->mask, threshold, there);
  }
  int cell[3];
  return mask_cell(field.mask, at, cell) && (field.mask.any[brick_of(field.mask, cell)] >> bit_of(cell) & 1);
}

// Whether the mask of a field keeps a sample at p.
LV_HD bool mask_holds(const LvField& field, float threshold, const float p[3]) {
  float at[3];
  for (int i = 0; i < 3; i++) at[i] = mask_coordinate(field.mask, i, p[i]);
  return field.stream ? streamed_counts(field, threshold, home_of(field, p), at)
                      : is_occupied(field.mask, threshold, at);
}
