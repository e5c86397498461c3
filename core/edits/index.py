"""Maps that save the kernels time: which operations concern a column, and where they may put matter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ...cuda.edit_tables import FAR, EditIndex, EditKind, EditOp, Reach
from ...cuda.stream_tables import ROOM_CELL, Room
from ...cuda.tables import FieldTables
from .raster import Cover, Lattice, cover_of

INDEX_CELLS = 1024  # along a side of the index, at most
REACH_CELLS = 256  # along x and y of the reach
REACH_LAYERS = 64  # along z


class Covered:
    """An operation with the cells of both maps that it may touch, found when first asked for."""

    def __init__(
        self, op: EditOp, tables: FieldTables, texel: float, source: FieldTables | None = None
    ) -> None:
        """`source`: what an INSTANCE reads, where samples are kept by its alpha mask."""
        self.op = op
        self._tables, self._texel, self._source = tables, texel, source

    @cached_property
    def index(self) -> Cover:
        """Cells of the index."""
        return cover_of(self.op, Lattice.over(self._tables, self._texel, INDEX_CELLS))

    @cached_property
    def reach(self) -> Cover:
        """Columns of the reach."""
        return cover_of(self.op, Lattice.over(self._tables, self._texel, REACH_CELLS), spare=0.5)

    @cached_property
    def holding(self) -> tuple[slice, NDArray[np.bool_]]:
        """Layers of the reach, and which cells in them and in its columns may hold matter. [n_z, n_y, n_x]"""
        (_, _, low), (_, _, high) = self._tables.aabb.tolist()
        side, (bottom, top) = (high - low) / REACH_LAYERS, self._heights
        first, last = (
            min(max(round_(((z - low) / side) + slack), 0), REACH_LAYERS)
            for z, round_, slack in ((max(bottom, low), math.floor, -0.5), (min(top, high), math.ceil, 0.5))
        )
        columns = np.broadcast_to(self.reach.cells, (max(last - first, 0), *self.reach.cells.shape))
        mask = None if self._source is None else Mask.of(self._source)
        if mask is None:
            return slice(first, last), columns
        lattice = Lattice.over(self._tables, self._texel, REACH_CELLS)
        found = columns.copy()
        k, j, i = np.nonzero(found)
        centers = np.stack(
            [
                lattice.low[0] + (i + self.reach.columns.start + 0.5) * lattice.side[0],
                lattice.low[1] + (j + self.reach.rows.start + 0.5) * lattice.side[1],
                low + (k + first + 0.5) * side,
            ]
        )
        found[k, j, i] = may_hold(mask, self.op, centers, (*lattice.side, side))
        return slice(first, last), found

    @property
    def _heights(self) -> tuple[float, float]:
        """Between which heights of the edited scene it may put matter."""
        op = self.op
        if op.kind is EditKind.PATCH and op.ground is not None:
            return float(op.ground.min()) - op.thickness, float(op.ground.max()) + op.rise
        low, high = ((z - op.to_source.z0) / op.to_source.zz for z in (op.z_low, op.z_high))
        return max(low, -FAR), min(high, FAR)


@dataclass(frozen=True)
class Mask:
    """Which vertices of an alpha mask may be set; of a streamed field, as its room knows it."""

    n: tuple[int, int, int]  # vertices along x, y, z
    aabb: Tensor  # [2, 3], scene units
    _nodes: Tensor | None
    _room: Room | None

    @classmethod
    def of(cls, tables: FieldTables) -> Mask | None:
        """Returns the mask of a field, or None if it has none."""
        if tables.occupancy is not None:
            n_z, n_y, n_x = tables.occupancy.nodes.shape
            return cls((n_x, n_y, n_z), tables.occupancy.aabb, tables.occupancy.nodes, None)
        if tables.stream is None or tables.stream.mask is None:
            return None
        return cls(tables.stream.mask.n, tables.stream.mask.aabb, None, tables.stream.room)

    def window(self, x: slice, y: slice, z: slice) -> NDArray[np.uint8]:
        """Returns 1 for the vertices of a window that may be set. [n_z, n_y, n_x]"""
        if self._nodes is not None:
            nodes: NDArray[np.uint8] = self._nodes[z, y, x].numpy()
            return nodes
        assert self._room is not None
        # Vertex c is a corner of cell c of the mask, and the room holds all cells that a set vertex touches.
        i, j, k = (np.arange(at.start, at.stop) // ROOM_CELL for at in (x, y, z))
        words = self._room.bricks.numpy()[np.ix_(k // 4, j // 4, i // 4)]
        bits = (k % 4 * 16)[:, None, None] + (j % 4 * 4)[:, None] + i % 4
        found: NDArray[np.uint8] = (words >> bits & 1).astype(np.uint8)
        return found


def may_hold(
    mask: Mask,
    op: EditOp,
    centers: NDArray[np.float64],
    sides: tuple[float, float, float],
) -> NDArray[np.bool_]:
    """Tells which cells of the edited scene see a vertex that is set, within their sides all round. [n]

    Args:
        mask: Of the source.
        op: An INSTANCE of it.
        centers: Of the cells, scene units. [3, n]
        sides: Of the cells, scene units.
    """
    if not centers.size:
        return np.zeros(0, dtype=np.bool_)
    to, low, high = op.to_source, *mask.aabb.double().numpy()
    size = np.array(mask.n)
    spacing = (high - low) / np.maximum(size - 1, 1)
    x, y, z = centers
    q = np.stack([to.xx * x + to.xy * y + to.x0, -to.xy * x + to.xx * y + to.y0, to.zz * z + to.z0])
    nearest = np.rint((q - low[:, None]) / spacing[:, None]).astype(np.int64)
    across = math.hypot(sides[0], sides[1]) * math.hypot(to.xx, to.xy)
    # Between a sample and the vertices round it lies less than 1, between a center and its nearest one half.
    reach = np.ceil(np.array([across, across, sides[2] * to.zz]) / spacing + 1.5).astype(np.int64)
    first = np.clip(nearest.min(axis=1) - reach, 0, size)
    last = np.clip(nearest.max(axis=1) + reach + 1, 0, size)
    window = mask.window(*(slice(int(begin), int(end)) for begin, end in zip(first, last, strict=True)))
    padded = np.pad(window, [(n, n) for n in 2 * reach[::-1]])
    near = ndimage.maximum_filter(padded, tuple(2 * reach[::-1] + 1), mode="constant") > 0
    at = np.clip(nearest - (first - 2 * reach)[:, None], 0, np.array(near.shape[::-1])[:, None] - 1)
    found: NDArray[np.bool_] = near[at[2], at[1], at[0]]
    return found


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
        if each.op.kind in (EditKind.PATCH, EditKind.INSTANCE):
            layers, holding = each.holding
            window = cells[layers, each.reach.rows, each.reach.columns]
            window |= holding.astype(np.uint8)
    return Reach(torch.from_numpy(cells), (*lattice.low, low), (*lattice.side, side))
