"""Tight rooms: where a field holds anything that a sample would show, for pictures that need not be exact."""

from __future__ import annotations

import ctypes
import math
import weakref
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import abi
from .field_native import place_mask
from .tables import FieldTables, Quality, RenderOptions

if TYPE_CHECKING:
    from .native import Library

LEAST_ALPHA = 1e-2  # opacity of one sample from which on a cell is kept
CELL_STEPS = 3.0  # side of a cell in samples, where the field has no mask of its own
MAX_CELLS = 4_000_000  # of such a grid
MAX_PARTS = 8  # times that a cell is divided to look into it
MAX_POINTS = 100_000_000  # that may be looked at
MOST = 0.9  # share of the cells; where more are kept, none are worth leaving out


class TightRoom:
    """Cells of a field's mask, or of a grid over its box, in which some sample may be seen.

    It holds for one field and the options that decide how its samples lie.
    """

    def __init__(
        self, tables: FieldTables, options: RenderOptions, mask: abi.Mask, any_cell: Tensor, distance: Tensor
    ) -> None:
        """`mask` points to the memory of the tensors; they are as stream_tables.BlockMask has them."""
        self.mask = mask
        self.any_cell, self._distance = any_cell, distance
        self._tables = weakref.ref(tables)
        self._key = _key(options)

    def fits(self, tables: FieldTables, options: RenderOptions) -> bool:
        """Whether the room was made for this field and these options."""
        return self._tables() is tables and self._key == _key(options)

    @property
    def n_cells(self) -> int:
        """Cells that are kept."""
        return _count_bits(self.any_cell)


def check_tight(tables: FieldTables, options: RenderOptions, room: TightRoom) -> None:
    """Raises ValueError unless a room serves for a field and options."""
    if options.quality is Quality.EXACT:
        raise ValueError("a tight room is not for the exact quality; quality must be fast or clustered")
    if not room.fits(tables, options):
        raise ValueError(
            "tight must be a room of this field and these options, got another's; make a new one"
        )


def make_room(
    library: Library, tables: FieldTables, options: RenderOptions, cancel: NDArray[np.int32]
) -> TightRoom | None:
    """Looks at a lattice in every cell; see `ops.tight_room`."""
    prepared = library.prepare(tables)
    own = _has_mask(tables, options)
    mask = (
        _same_cells(prepared.field.mask) if own else _grid_over(tables.aabb, CELL_STEPS * _spacing(options))
    )
    bricks = [*mask.bricks][::-1]
    n_cells = math.prod(n - 1 for n in mask.n)
    if own and tables.occupancy is not None:
        n_cells = _count_bits(library.mask_bricks(tables.occupancy.nodes)[0])
    parts = _parts(tables, mask, n_cells)
    if parts is None:
        return None
    any_cell = torch.zeros(bricks, dtype=torch.int64)
    least_sigma = -math.log1p(-LEAST_ALPHA) / (_spacing(options) * options.distance_scale)
    if not library.tight_cells(prepared, mask, least_sigma, parts, options.n_threads, cancel, any_cell):
        return None
    if _count_bits(any_cell) > MOST * n_cells:
        return None
    distance = torch.empty(bricks, dtype=torch.uint8)
    mask.any, mask.distance = any_cell.data_ptr(), distance.data_ptr()
    library.fill_distance(mask, distance)
    return TightRoom(tables, options, mask, any_cell, distance)


def _key(options: RenderOptions) -> tuple[object, ...]:
    return options.sampling, _spacing(options), options.distance_scale, options.mask_threshold


def _spacing(options: RenderOptions) -> float:
    """Distance between samples along a ray that nothing cuts short."""
    if options.sampling == "box":
        return options.step
    return (options.far - options.near) / max(options.n_importance - 1, 1)


def _has_mask(tables: FieldTables, options: RenderOptions) -> bool:
    return tables.has_mask and options.mask_threshold >= 0


def _same_cells(of: abi.Mask) -> abi.Mask:
    return abi.Mask(any=of.any, n=of.n, bricks=of.bricks, low=of.low, scale=of.scale)


def _grid_over(aabb: Tensor, least_side: float) -> abi.Mask:
    """Returns cubes over a box, none of them cut by its faces, without any contents."""
    low, high = aabb.double()
    size = high - low
    side = max(least_side, float(size.prod() / MAX_CELLS) ** (1 / 3))
    n_cells = torch.ceil(size / side + 0.01)
    spare = (n_cells * side - size) / 2
    n = [int(number) + 1 for number in n_cells]
    integers = ctypes.c_int32 * 3
    mask = abi.Mask(n=integers(*n), bricks=integers(*(number // 4 + 1 for number in n)))
    place_mask(mask, torch.stack([low - spare, high + spare]))
    return mask


def _parts(tables: FieldTables, mask: abi.Mask, n_cells: int) -> int | None:
    """Times that a cell is divided so that no texel is missed, or as far as can be afforded; None: not so."""
    sides = [2 / (scale * max(n - 1, 1)) for scale, n in zip(mask.scale, mask.n, strict=True)]
    finest = max(side / texel for side, texel in zip(sides, _texels(tables), strict=True))
    parts = min(max(2 * math.ceil(finest / 2), 2), MAX_PARTS)
    while parts > 2 and n_cells * parts**3 > MAX_POINTS:
        parts -= 2
    return parts if n_cells * parts**3 <= MAX_POINTS else None


def _texels(tables: FieldTables) -> list[float]:
    """Smallest distance between texels of the density along each axis, scene units."""
    size = (tables.aabb[1] - tables.aabb[0]).tolist()
    size = [size[0] / tables.division[0], size[1] / tables.division[1], size[2]]
    n = [2, 2, 2]
    block = tables.sample_block
    for p, (plane, line) in enumerate(zip(block.density_planes, block.density_lines, strict=True)):
        u, v, w = ((0, 1, 2), (0, 2, 1), (1, 2, 0))[p // tables.n_levels]
        for axis, length in ((u, plane.shape[1]), (v, plane.shape[0]), (w, line.shape[0])):
            n[axis] = max(n[axis], length)
    return [length / (number - 1) for length, number in zip(size, n, strict=True)]


def _count_bits(words: Tensor) -> int:
    return int(np.unpackbits(words.numpy().view(np.uint8)).sum(dtype=np.int64))
