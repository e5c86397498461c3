"""Maps that save the kernels time: which operations concern a column, and where they may put matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ...cuda.edit_tables import FAR, EditIndex, EditKind, EditOp, Reach
from ...cuda.tables import FieldTables
from .raster import Cover, Lattice, cover_of

INDEX_CELLS = 1024  # along a side of the index, at most
REACH_CELLS = 256  # along x and y of the reach
REACH_LAYERS = 64  # along z


class Covered:
    """An operation with the cells of both maps that it may touch, found when first asked for."""

    def __init__(self, op: EditOp, tables: FieldTables, texel: float) -> None:
        self.op = op
        self._tables, self._texel = tables, texel

    @cached_property
    def index(self) -> Cover:
        """Cells of the index."""
        return cover_of(self.op, Lattice.over(self._tables, self._texel, INDEX_CELLS))

    @cached_property
    def reach(self) -> Cover:
        """Columns of the reach."""
        return cover_of(self.op, Lattice.over(self._tables, self._texel, REACH_CELLS))

    @property
    def heights(self) -> tuple[float, float]:
        """Between which heights of the edited scene it may put matter."""
        op = self.op
        if op.kind is EditKind.PATCH and op.ground is not None:
            return float(op.ground.min()) - op.thickness, float(op.ground.max()) + op.rise
        low, high = ((z - op.to_source.z0) / op.to_source.zz for z in (op.z_low, op.z_high))
        return max(low, -FAR), min(high, FAR)


def make_index(tables: FieldTables, texel: float, covered: Sequence[Covered]) -> EditIndex:
    """Returns the map of operation lists for a stack, the last operation on top."""
    lattice = Lattice.over(tables, texel, INDEX_CELLS)
    cells = np.zeros((lattice.n_y, lattice.n_x), dtype=np.int32)
    lists: list[tuple[int, ...]] = [()]
    numbers: dict[tuple[int, ...], int] = {(): 0}
    for number, each in enumerate(covered):
        cover = each.index
        window = cells[cover.rows, cover.columns]
        touched = window[cover.cells]
        known, place = np.unique(touched, return_inverse=True)
        renamed = np.zeros(len(known), dtype=np.int32)
        for at, old in enumerate(known):
            stacked = (number, *lists[old])
            if stacked not in numbers:
                numbers[stacked] = len(lists)
                lists.append(stacked)
            renamed[at] = numbers[stacked]
        window[cover.cells] = renamed[place]
    starts = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    items = np.array([item for each in lists for item in each], dtype=np.int32)
    scale = (1 / lattice.side[0], 1 / lattice.side[1])
    return EditIndex(
        torch.from_numpy(cells), lattice.low, scale, torch.from_numpy(starts), torch.from_numpy(items)
    )


def make_reach(tables: FieldTables, texel: float, covered: Sequence[Covered]) -> Reach:
    """Returns the cells in which the operations of a stack may put matter."""
    lattice = Lattice.over(tables, texel, REACH_CELLS)
    (_, _, low), (_, _, high) = tables.aabb.tolist()
    side = (high - low) / REACH_LAYERS
    cells: NDArray[np.uint8] = np.zeros((REACH_LAYERS, lattice.n_y, lattice.n_x), dtype=np.uint8)
    for each in covered:
        if each.op.kind not in (EditKind.PATCH, EditKind.INSTANCE):
            continue
        bottom, top = each.heights
        first = min(max(math.floor((max(bottom, low) - low) / side - 0.5), 0), REACH_LAYERS)
        last = min(max(math.ceil((min(top, high) - low) / side + 0.5), 0), REACH_LAYERS)
        cover = each.reach
        window = cells[first:last, cover.rows, cover.columns]
        window |= cover.cells.astype(np.uint8)
    return Reach(torch.from_numpy(cells), (*lattice.low, low), (*lattice.side, side))
