"""The parts of a field that is streamed: a block's piece of the mask, the room, and coarse stand-ins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...cuda.stream_tables import ROOM_CELL, CoarseTables, Room
from ...cuda.tables import BlockTables

SPARE = 2  # vertices round a block's piece of the mask: one for rounding, one that the cells beside it end at
BAND = 8  # coarse texels that are fitted at a time
FIT_VALUES = 1 << 17  # fine texels that are weighed at a time
LINE_TEXELS = 2  # of a coarse line for each along the side of a coarse plane: lines are small


def mask_part(
    nodes: Tensor, mask_aabb: Tensor, field_aabb: Tensor, division: tuple[int, int], block: int
) -> tuple[Tensor, tuple[int, int]]:
    """Cuts out the vertices of a mask that samples of one block can read, and some to spare.

    Args:
        nodes: The whole mask, 0 or 1. uint8 [n_z, n_y, n_x]
        mask_aabb: Its box, scene units. [2, 3]
        field_aabb: Box of the field that is divided into blocks, scene units. [2, 3]
        division: Blocks along x and y.
        block: Number of the block.

    Returns:
        The vertices, contiguous, at least one along each axis [n_z, n_y', n_x'], and the x and y number of
        the first of them in the whole mask.
    """
    (x, x_end), (y, y_end) = mask_window(nodes.shape[:0:-1], mask_aabb, field_aabb, division, block)
    return nodes[:, y:y_end, x:x_end].clone(memory_format=torch.contiguous_format), (x, y)


def mask_window(
    n: Sequence[int], mask_aabb: Tensor, field_aabb: Tensor, division: tuple[int, int], block: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the first vertex and the one behind the last that `mask_part` cuts out, along x and along y.

    `n` are the vertices of the whole mask along x and y; the other arguments are those of `mask_part`.
    """
    place = (block // division[1], block % division[1])
    window = []
    for axis in range(2):
        (low, high), (mask_low, mask_high) = field_aabb[:, axis].tolist(), mask_aabb[:, axis].tolist()
        ends = [low + (high - low) * (place[axis] + i) / division[axis] for i in range(2)]
        begin, end = ((x - mask_low) / (mask_high - mask_low) * (n[axis] - 1) for x in ends)
        first = min(max(int(np.floor(begin)) - SPARE, 0), n[axis] - 1)
        last = max(min(int(np.floor(end)) + 1 + SPARE, n[axis] - 1), first)
        window.append((first, last + 1))
    return window[0], window[1]


class RoomBuilder:
    """Collects the room of a mask from pieces of it, in any order; pieces may overlap."""

    def __init__(self, n_vertices: tuple[int, int, int]) -> None:
        """`n_vertices` of the whole mask along x, y, z."""
        self._n_vertices = n_vertices
        x, y, z = (n // ROOM_CELL + 1 for n in n_vertices)  # n + 1 cells lie round n vertices
        self._n = (x, y, z)
        self._cells = np.zeros((z, y, x), dtype=bool)

    def add(self, nodes: Tensor, first: tuple[int, int]) -> None:
        """Adds a piece [n_z, n_y, n_x], whose first vertex is (first[0], first[1], 0) of the whole mask.

        A vertex sets the two cells beside it along each axis and, as rays need some slack, one more on either
        side. So a cell of the room is set by vertices from two before its first cell to four after it.
        """
        cells = nodes.numpy() != 0
        place = []
        for axis, begin in ((2, first[0]), (1, first[1]), (0, 0)):
            n = cells.shape[axis]
            low = max((begin - 1) // ROOM_CELL, 0)
            high = min((begin + n + 1) // ROOM_CELL, self._cells.shape[axis] - 1)
            cells = _gathered(cells, axis, begin - (ROOM_CELL * low - 2), high - low + 1)
            place.append(slice(low, high + 1))
        self._cells[place[2], place[1], place[0]] |= cells

    def room(self) -> Room:
        """Returns the room of all pieces so far."""
        return Room(self._n, packed_bricks(torch.from_numpy(self._cells.view(np.uint8))))


def packed_bricks(cells: Tensor) -> Tensor:
    """Packs cells [n_z, n_y, n_x] of 0 or 1 four by four by four into bits, as Room.bricks. int64"""
    padded = cells
    for axis in range(3):
        padded = _padded(padded, axis, 0, -cells.shape[axis] % 4)
    z, y, x = (n // 4 for n in padded.shape)
    bits = padded.view(z, 4, y, 4, x, 4).permute(0, 2, 4, 1, 3, 5).reshape(z, y, x, 64).numpy()
    bricks = np.packbits(bits, axis=-1, bitorder="little").view("<i8")[..., 0]
    return torch.from_numpy(np.ascontiguousarray(bricks, dtype=np.int64))


def coarsened(tables: BlockTables, side: int) -> BlockTables:
    """Returns a stand-in of a block, in the block's own precision and never finer than the block.

    Planes have at most `side` texels along each axis, lines LINE_TEXELS times as many. Interpolated, a coarse
    plane or line is as close to the fine one as can be, in the mean square over its texels. Then a product of
    plane and line is, too. What is linear, or not larger than the stand-in, stays as it is.

    Four views of the shipped town, drawn from stand-ins only, against the whole: 19.2, 20.5, 25.8 and 32.8 dB
    for a side of 8, 16, 32 and 64. Area means give 18.1, 20.0, 24.6 and 29.8, maxima of density 17.8 to 24.1.
    """
    if side < 2:
        raise ValueError(f"a coarse plane must have at least 2 texels along its sides, got {side}")

    def planes(group: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(_like(_fitted(_fitted(plane, 0, side), 1, side), plane) for plane in group)

    def lines(group: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(_like(_fitted(line, 0, LINE_TEXELS * side), line) for line in group)

    return BlockTables(
        planes(tables.density_planes),
        lines(tables.density_lines),
        planes(tables.appearance_planes),
        lines(tables.appearance_lines),
    )


def stack_coarse(parts: Mapping[int, BlockTables], n_blocks: int, dtype: torch.dtype) -> CoarseTables:
    """Puts coarse blocks, by number and of equal sizes, behind each other; planes become `dtype`.

    Raises:
        ValueError: Sizes differ, or there is no block at all.
    """
    if not parts:
        raise ValueError("a streamed field must have at least one block, got none")
    numbers = sorted(parts)
    rows = torch.full((n_blocks,), -1, dtype=torch.int32)
    rows[torch.tensor(numbers)] = torch.arange(len(numbers), dtype=torch.int32)

    def stacked(group: str, to: torch.dtype) -> tuple[Tensor, ...]:
        tables = zip(*(getattr(parts[number], group) for number in numbers), strict=True)
        return tuple(torch.stack(table).to(to) for table in tables)

    return CoarseTables(
        rows,
        stacked("density_planes", dtype),
        stacked("density_lines", torch.float32),
        stacked("appearance_planes", dtype),
        stacked("appearance_lines", torch.float32),
    )


def _fitted(table: Tensor, axis: int, n: int) -> Tensor:
    """Fits a table with n texels at most along one axis; both grids have their ends in common. float32

    A coarse texel reads only the fine ones beside it, so a few at a time are made from few rows, and only so
    many values that they are still in the processor's cache when they have become float32. Small tables are
    for NumPy: waking torch's threads for them takes far longer than the work where the processors are busy.
    """
    n_fine = table.shape[axis]
    if n_fine <= n:
        return table
    gather, untangle, fit = _fit(n_fine, n)
    moved = table.movedim(axis, 0)
    rows = moved.flatten(1)
    if rows.numel() <= FIT_VALUES:
        return _unflattened(torch.from_numpy(fit.numpy() @ rows.float().numpy()), moved, axis)
    gathered = torch.empty(n, rows.shape[1])
    for low in range(0, n, BAND):
        high = min(low + BAND, n)
        begin = max(math.floor((low - 1) * (n_fine - 1) / (n - 1)), 0)
        end = min(math.ceil(high * (n_fine - 1) / (n - 1)) + 1, n_fine)
        n_columns = max(FIT_VALUES // (end - begin), 1)
        pieces = torch.split(rows[begin:end], n_columns, dim=1)
        for made, piece in zip(torch.split(gathered[low:high], n_columns, dim=1), pieces, strict=True):
            torch.mm(gather[low:high, begin:end], piece.float(), out=made)
    return _unflattened(untangle @ gathered, moved, axis)


def _unflattened(rows: Tensor, moved: Tensor, axis: int) -> Tensor:
    table: Tensor = rows.view(len(rows), *moved.shape[1:]).movedim(0, axis)
    return table


@lru_cache(maxsize=64)
def _fit(n_fine: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns two matrices, and their product, which makes n texels of n_fine, least squares.

    The first weighs the fine texels of each coarse one [n, n_fine], the second takes apart what neighbours
    share [n, n]. float32
    """
    at = torch.arange(n_fine, dtype=torch.float64) * ((n - 1) / (n_fine - 1))
    linear = (1 - (at[:, None] - torch.arange(n, dtype=torch.float64)).abs()).clamp(min=0)
    untangle = torch.linalg.inv(linear.T @ linear)
    return linear.T.float().contiguous(), untangle.float(), (untangle @ linear.T).float()


def _like(fitted: Tensor, table: Tensor) -> Tensor:
    return fitted.to(table.dtype).contiguous()


def _gathered(cells: NDArray[np.bool_], axis: int, before: int, n: int) -> NDArray[np.bool_]:
    """Makes n cells of the room along one axis, with so many unset ones in front; see RoomBuilder.add."""
    source = cells.swapaxes(axis, 0)
    padded = np.zeros((ROOM_CELL * n + 3, *source.shape[1:]), dtype=bool)
    kept = source[: len(padded) - before]
    padded[before : before + len(kept)] = kept
    room = padded[: ROOM_CELL * n : ROOM_CELL].copy()
    for k in range(1, ROOM_CELL + 3):
        room |= padded[k : k + ROOM_CELL * n : ROOM_CELL]
    return room.swapaxes(axis, 0)


def _padded(cells: Tensor, axis: int, before: int, after: int) -> Tensor:
    """Adds zeros along one axis; less than none cuts off."""
    pad = [0, 0] * (cells.dim() - 1 - axis) + [before, after]
    return torch.nn.functional.pad(cells, pad)
