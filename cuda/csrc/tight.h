// Where a field holds anything that one sample of a ray would show: a mask of cells for pictures that need not be exact.
#pragma once
#include <vector>

#include "stream_lanes.h"

// The question, for the cells of a mask. A lattice divides every cell `parts` times along each side; parts is even.
struct TightJob {
  const PackedField& packed;
  const LvMask& mask;         // any 0: all its cells are asked
  float least_sigma;          // density from which on a cell is kept
  int parts;
  const volatile int32_t* cancel;
};

// One thread's lattice over the cells of a brick.
struct TightLattice {
  const Lookup lookup;
  const int side;                     // points
  std::vector<TapLanes> taps;
  std::vector<uint8_t> asked, dense;  // [side][side][side]
  std::vector<int32_t> points;

  explicit TightLattice(const TightJob& job)
      : lookup(choose_lookup(job.packed)), side(4 * job.parts + 1), taps(job.packed.n_tables),
        asked((size_t)side * side * side), dense(asked.size()) {}
};

LV_HD int lattice_point(int side, int x, int y, int z) { return (z * side + y) * side + x; }

// Scene position of a lattice coordinate of a brick, drawn into the box.
static float lattice_position(const TightJob& job, int axis, int brick, int i) {
  const LvMask& mask = job.mask;
  const float at = (float)(4 * brick - 1) + (float)i / (float)job.parts;
  const float p = mask.low[axis] + 2.0f * at / (mask.scale[axis] * (float)std::max(mask.n[axis] - 1, 1));
  return clamp(p, job.packed.field.low[axis], job.packed.field.high[axis]);
}

// Finds out which of the asked points are dense, and forgets that they were asked.
static void ask_points(const TightJob& job, const int brick[3], TightLattice& lattice) {
  lattice.points.clear();
  for (int i = 0; i < (int)lattice.asked.size(); i++)
    if (lattice.asked[i]) lattice.points.push_back(i);
  const int n = (int)lattice.points.size(), side = lattice.side;
  for (int first = 0; first < n; first += LANES) {
    const int some = std::min(n - first, (int)LANES);
    Vec p[3];
    for (int i = 0; i < LANES; i++) {
      const int point = lattice.points[first + std::min(i, some - 1)];
      const int at[3] = {point % side, point / side % side, point / side / side};
      for (int axis = 0; axis < 3; axis++) p[axis][i] = lattice_position(job, axis, brick[axis], at[axis]);
    }
    const Lanes lanes = locate_lanes(job.packed, p);
    const Vec feature = density_features(job.packed, lattice.lookup, lanes, some, lattice.taps.data());
    const Vec sigma = activate_lanes(job.packed.field, lanes, feature);
    for (int i = 0; i < some; i++) {
      const int point = lattice.points[first + i];
      lattice.dense[point] = sigma[i] >= job.least_sigma;
      lattice.asked[point] = 0;
    }
  }
}

// Calls visit(bit, x, y, z) for the set cells of a brick, with the first lattice point of each.
template <class Visit>
static void visit_cells(const TightJob& job, uint64_t cells, Visit visit) {
  for (; cells; cells &= cells - 1) {
    const int bit = __builtin_ctzll(cells);
    visit(bit, (bit & 3) * job.parts, (bit >> 2 & 3) * job.parts, (bit >> 4) * job.parts);
  }
}

// Which cells of a brick are kept: those that are dense in the middle at once, of the others all points are asked.
static uint64_t tight_cells(const TightJob& job, const int brick[3], uint64_t wanted, TightLattice& lattice) {
  const int side = lattice.side, parts = job.parts, half = parts / 2;
  uint64_t kept = 0;
  visit_cells(job, wanted, [&](int, int x, int y, int z) {
    lattice.asked[lattice_point(side, x + half, y + half, z + half)] = 1;
  });
  ask_points(job, brick, lattice);
  visit_cells(job, wanted, [&](int bit, int x, int y, int z) {
    kept |= (uint64_t)lattice.dense[lattice_point(side, x + half, y + half, z + half)] << bit;
  });
  auto visit_points = [&](int x, int y, int z, auto visit) {
    for (int k = z; k <= z + parts; k++)
      for (int j = y; j <= y + parts; j++)
        for (int i = x; i <= x + parts; i++) visit(lattice_point(side, i, j, k));
  };
  visit_cells(job, wanted & ~kept, [&](int, int x, int y, int z) {
    visit_points(x, y, z, [&](int point) { lattice.asked[point] = 1; });
  });
  ask_points(job, brick, lattice);
  visit_cells(job, wanted & ~kept, [&](int bit, int x, int y, int z) {
    uint8_t dense = 0;
    visit_points(x, y, z, [&](int point) { dense |= lattice.dense[point]; });
    kept |= (uint64_t)dense << bit;
  });
  return kept;
}

// Cells of a brick that are asked.
static uint64_t wanted_cells(const LvMask& mask, const int brick[3], int64_t number) {
  if (mask.any) return mask.any[number];
  uint64_t wanted = 0;
  for (int bit = 0; bit < 64; bit++) {
    const int cell[3] = {4 * brick[0] + (bit & 3), 4 * brick[1] + (bit >> 2 & 3), 4 * brick[2] + (bit >> 4)};
    const bool is_cell = cell[0] <= mask.n[0] && cell[1] <= mask.n[1] && cell[2] <= mask.n[2];
    wanted |= (uint64_t)is_cell << bit;
  }
  return wanted;
}

// Fills a row of bricks of `any`. Returns false if it was cancelled on the way.
static bool tight_row(const TightJob& job, int y, int z, TightLattice& lattice, uint64_t* any) {
  const int* bricks = job.mask.bricks;
  for (int x = 0; x < bricks[0]; x++) {
    if (*job.cancel) return false;
    const int brick[3] = {x, y, z};
    const int64_t number = ((int64_t)z * bricks[1] + y) * bricks[0] + x;
    const uint64_t wanted = wanted_cells(job.mask, brick, number);
    any[number] = wanted ? tight_cells(job, brick, wanted, lattice) : 0;
  }
  return true;
}
