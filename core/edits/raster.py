"""Rasters of regions, and which cells of a map an operation may touch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ...cuda.edit_tables import EditOp, Footprint, Transform
from ...cuda.tables import FieldTables
from ..gridnerf import GridNeRF
from .region import Region

MAX_CELLS = 2048  # along a side of a footprint: larger regions get larger cells
FINER = 2  # cells of a footprint per texel, along a side
MARGIN = 2  # cells around a region


def texel_side(field: FieldTables | GridNeRF) -> float:
    """Returns the side of the finest ground plane's texels, scene units: the smaller one of x and y.

    Tables must hold a block for that; of a field that is streamed, the model always tells.
    """
    if isinstance(field, GridNeRF):
        division = field.layout.division
        whole = next(block for block in field.blocks if block is not None)
        shapes = [parts[0].shape[1:] for parts in whole.density_planes[: field.n_levels]]
    else:
        division = field.division
        held = next(block for block in field.blocks if block is not None)
        shapes = [plane.shape[:2] for plane in held.density_planes[: field.n_levels]]
    size = (field.aabb[1] - field.aabb[0]).tolist()
    widths = [size[axis] / division[axis] for axis in range(2)]
    return float(
        min(widths[axis] / max(max(shape[1 - axis] for shape in shapes) - 1, 1) for axis in range(2))
    )


def footprint_of(region: Region, texel: float) -> Footprint:
    """Returns the raster of a region: the cells whose centre lies inside.

    Args:
        region: Not empty.
        texel: Side of the field's texels, scene units.
    """
    x0, y0, x1, y1 = region.bounds
    side = max(texel / FINER, (x1 - x0) / MAX_CELLS, (y1 - y0) / MAX_CELLS)
    i0, j0 = math.floor(x0 / side) - MARGIN, math.floor(y0 / side) - MARGIN
    n_x, n_y = math.ceil(x1 / side) + MARGIN - i0, math.ceil(y1 / side) + MARGIN - j0
    x, y = np.meshgrid((np.arange(n_x) + i0 + 0.5) * side, (np.arange(n_y) + j0 + 0.5) * side)
    mask = torch.from_numpy(region.contains(x, y).astype(np.uint8))
    return Footprint(mask, (float(np.float32(i0 * side)), float(np.float32(j0 * side))), side)


@dataclass(frozen=True)
class Lattice:
    """Plan cells of a map over a field's box."""

    low: tuple[float, float]
    side: tuple[float, float]
    n_x: int
    n_y: int

    @classmethod
    def over(cls, tables: FieldTables, texel: float, most: int) -> Lattice:
        """Returns cells of about a texel, but at most so many along a side."""
        (x0, y0, _), (x1, y1, _) = tables.aabb.tolist()
        n_x, n_y = (min(max(math.ceil((high - low) / texel), 1), most) for low, high in ((x0, x1), (y0, y1)))
        return cls((x0, y0), ((x1 - x0) / n_x, (y1 - y0) / n_y), n_x, n_y)


@dataclass(frozen=True)
class Cover:
    """The cells that an operation may touch: a window of the map, its rows and columns."""

    rows: slice
    columns: slice
    cells: NDArray[np.bool_]


def cover_of(op: EditOp, lattice: Lattice, spare: float = 0.0) -> Cover:
    """Returns the cells in which, or within `spare` of their size, an operation may claim a sample."""
    whole = Cover(
        slice(0, lattice.n_y), slice(0, lattice.n_x), np.ones((lattice.n_y, lattice.n_x), dtype=np.bool_)
    )
    if op.footprint is None:
        return whole
    footprint = op.footprint
    to = op.to_source
    # What may lie in a map cell, from its center, in cells of the footprint; and one for the rounding.
    spread = (0.5 + spare) * math.hypot(*lattice.side) * math.hypot(to.xx, to.xy) / footprint.side
    reach = math.ceil(spread) + 1
    mask = np.pad(footprint.mask.numpy().astype(np.uint8), reach)
    size = 2 * reach + 1
    if op.inside:
        near = ndimage.maximum_filter(mask, size, mode="constant") > 0
        rows, columns = _window(near, footprint, reach, to, lattice)
    else:
        near = ndimage.minimum_filter(mask, size, mode="constant") == 0
        rows, columns = whole.rows, whole.columns
    x = lattice.low[0] + (np.arange(columns.start, columns.stop) + 0.5) * lattice.side[0]
    y = (lattice.low[1] + (np.arange(rows.start, rows.stop) + 0.5) * lattice.side[1])[:, None]
    i = np.floor((to.xx * x + to.xy * y + to.x0 - footprint.low[0]) / footprint.side).astype(np.int64) + reach
    j = (
        np.floor((-to.xy * x + to.xx * y + to.y0 - footprint.low[1]) / footprint.side).astype(np.int64)
        + reach
    )
    inside = (i >= 0) & (j >= 0) & (i < mask.shape[1]) & (j < mask.shape[0])
    cells = np.full(i.shape, not op.inside)
    cells[inside] = near[j[inside], i[inside]]
    return Cover(rows, columns, cells)


def _window(
    near: NDArray[np.bool_], footprint: Footprint, reach: int, to: Transform, lattice: Lattice
) -> tuple[slice, slice]:
    """Returns rows and columns of the map that hold the marked cells of a padded footprint."""
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    x0, y0 = ((np.array([at[0], at[-1] + 1]) - reach) * footprint.side for at in (columns, rows))
    qx, qy = np.meshgrid(x0 + footprint.low[0] - to.x0, y0 + footprint.low[1] - to.y0)
    square = to.xx**2 + to.xy**2
    x, y = (to.xx * qx - to.xy * qy) / square, (to.xy * qx + to.xx * qy) / square
    return _span(y, lattice.low[1], lattice.side[1], lattice.n_y), _span(
        x, lattice.low[0], lattice.side[0], lattice.n_x
    )


def _span(values: NDArray[np.float64], low: float, side: float, n: int) -> slice:
    """Returns the numbers of the cells that hold some values, and one more at either end."""
    first, last = math.floor((values.min() - low) / side) - 1, math.ceil((values.max() - low) / side) + 1
    return slice(min(max(first, 0), n), min(max(last, 0), n))
