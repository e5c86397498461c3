"""Blocks straight from LandMark's own files, which stay mapped into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...cuda import ops
from ...cuda.stream_tables import BlockMask, MaskGrid, StreamTables
from ...cuda.tables import BlockTables
from ..errors import InputError
from ..gridnerf import FieldBlock, Parts, fill_channel_last, padded_channels
from ..settings import Precision
from .cancelling import check_cancelled
from .contracts import Payload
from .parts import LINE_TEXELS, RoomBuilder, coarsened, mask_part, stack_coarse

if TYPE_CHECKING:
    from ..gridnerf import GridNeRF

ALIGNMENT = 64  # bytes
SAMPLES = 4  # texels that are read for each of a stand-in, along each axis
COARSE_SIDES = (64, 32, 16, 8, 4, 2)  # texels along the sides of coarse planes, finest first
GROUPS = ("density_planes", "density_lines", "appearance_planes", "appearance_lines")


@dataclass(frozen=True)
class _Place:
    """Where one tensor lies in a block's memory."""

    first: int  # bytes
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def end(self) -> int:
        return self.first + prod(self.shape) * self.dtype.itemsize

    def of(self, memory: Tensor) -> Tensor:
        return memory[self.first : self.end].view(self.dtype).view(self.shape)


class CheckpointSource:
    """Serves the blocks of any GridNeRF; of the files no more is in memory than what is being copied."""

    def __init__(self, model: GridNeRF, description: str = "the scene's checkpoint") -> None:
        """`description` says for people where the blocks lie."""
        self._model, self._description = model, description
        self._sizes: dict[tuple[int, Precision, int], int] = {}

    @property
    def description(self) -> str:
        """For people: where the blocks lie."""
        return self._description

    @property
    def precision(self) -> Precision:
        """Number format that the planes have where they come from."""
        return Precision.AUTO

    def exists(self, block: int) -> bool:
        """Whether there is such a block."""
        return self._model.blocks[block] is not None

    def n_bytes(self, block: int, precision: Precision, drop_levels: int = 0) -> int:
        """Bytes that `read` fills."""
        key = (block, precision, drop_levels)
        if key not in self._sizes:
            places = [*self._places(self._block(block), precision, drop_levels)]
            self._sizes[key] = _aligned(places[-1].end) + self._mask_bytes(block)
        return self._sizes[key]

    def read(self, block: int, memory: Tensor, precision: Precision, drop_levels: int = 0) -> Payload:
        """Fills memory (uint8 [n_bytes], CPU) with one block and describes it.

        Raises:
            InputError: There is no such block.
            ReadCancelled: See `cancelling`.
        """
        held = self._block(block)
        places = list(self._places(held, precision, drop_levels))
        tables = [place.of(memory) for place in places]
        parts = [part for group in GROUPS for part in getattr(held, group)]
        for table, part in zip(tables, parts, strict=True):
            if table.shape[:-1] != part[0].shape[1:]:  # a dropped level
                table.zero_()
                continue
            table[..., sum(len(channels) for channels in part) :] = 0
            fill_channel_last(table, part, self._after_piece)
        n = len(held.density_planes)
        groups = [tuple(tables[first : first + n]) for first in range(0, 4 * n, n)]
        mask = self._mask(block)
        if mask is not None:
            mask = _placed(mask, memory[_aligned(places[-1].end) :])
        return Payload(BlockTables(*groups), mask, memory.nbytes)

    def expect(self, block: int) -> None:
        """Does nothing: the parts of a block lie all over the files."""

    def stream_tables(self, model: GridNeRF, precision: Precision, n_bytes: int) -> StreamTables:
        """Reads the coarse stand-ins, in the finest size that fits n_bytes, and the room of the mask.

        Of each plane only SAMPLES times as many rows are read as the stand-in has.
        """
        exist = [number for number in range(model.layout.n_blocks) if self.exists(number)]
        dtype = _plane_dtype(precision)
        side = next(
            (side for side in COARSE_SIDES if self._coarse_bytes(exist, side, dtype) <= n_bytes),
            COARSE_SIDES[-1],
        )
        coarse = {number: self._coarse(self._block(number), side, dtype) for number in exist}
        self._model.release()
        grid = model.occupancy
        mask, room = None, None
        if grid is not None:
            n_z, n_y, n_x = grid.nodes.shape
            mask = MaskGrid((n_x, n_y, n_z), grid.aabb)
            builder = RoomBuilder((n_x, n_y, n_z))
            builder.add(grid.nodes, (0, 0))
            room = builder.room()
        return StreamTables(stack_coarse(coarse, model.layout.n_blocks, dtype), mask, room, {})

    def _block(self, block: int) -> FieldBlock:
        held = self._model.blocks[block]
        if held is None:
            raise InputError(f"block {block} must be one of {self._description}, but there is none")
        return held

    def _after_piece(self) -> None:
        self._model.release()
        check_cancelled()

    def _places(self, block: FieldBlock, precision: Precision, drop_levels: int) -> Iterator[_Place]:
        n_levels, first = self._model.n_levels, 0
        for group in GROUPS:
            is_plane = group.endswith("planes")
            dtype = _plane_dtype(precision) if is_plane else torch.float32
            for p, parts in enumerate(getattr(block, group)):
                is_dropped = p % n_levels >= n_levels - drop_levels
                size = (1,) * (2 if is_plane else 1) if is_dropped else tuple(parts[0].shape[1:])
                place = _Place(first, (*size, padded_channels(parts)), dtype)
                yield place
                first = _aligned(place.end)

    # Alpha mask

    def _mask(self, block: int) -> BlockMask | None:
        grid, model = self._model.occupancy, self._model
        if grid is None:
            return None
        nodes, first = mask_part(grid.nodes, grid.aabb, model.aabb, model.layout.division, block)
        return BlockMask(nodes, first, *ops.mask_bricks(nodes))

    def _mask_bytes(self, block: int) -> int:
        grid, model = self._model.occupancy, self._model
        if grid is None:
            return 0
        nodes, _ = mask_part(grid.nodes, grid.aabb, model.aabb, model.layout.division, block)
        bricks = prod(n // 4 + 1 for n in nodes.shape)  # four by four by four of the n + 1 cells round n
        return 2 * _aligned(bricks * 8) + _aligned(nodes.nbytes)

    # Stand-ins

    def _coarse_bytes(self, exist: Sequence[int], side: int, dtype: torch.dtype) -> int:
        if not exist:
            return 0
        block, total = self._block(exist[0]), 0
        for group in GROUPS:
            is_plane = group.endswith("planes")
            most = side if is_plane else LINE_TEXELS * side
            itemsize = dtype.itemsize if is_plane else 4
            for parts in getattr(block, group):
                texels = prod(min(n, most) for n in parts[0].shape[1:])
                total += texels * padded_channels(parts) * itemsize
        return total * len(exist)

    def _coarse(self, block: FieldBlock, side: int, dtype: torch.dtype) -> BlockTables:
        def group(name: str, most: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
            return tuple(_sampled(parts, SAMPLES * most, dtype) for parts in getattr(block, name))

        line = LINE_TEXELS * side
        few = BlockTables(
            group("density_planes", side, dtype),
            group("density_lines", line, torch.float32),
            group("appearance_planes", side, dtype),
            group("appearance_lines", line, torch.float32),
        )
        return coarsened(few, side)


def _sampled(parts: Parts, most: int, dtype: torch.dtype) -> Tensor:
    """Returns a table [..., channels] of at most so many texels along each axis, ends in common."""
    rows = _evenly(parts[0].shape[1], most)
    few: list[Tensor] = []
    for part in parts:
        thin = part[:, rows]
        if thin.dim() == 3:
            thin = thin[:, :, _evenly(part.shape[2], most)]
        few.append(thin)
    table = torch.zeros(*few[0].shape[1:], padded_channels(parts), dtype=dtype)
    fill_channel_last(table, tuple(few), lambda: None)
    return table


def _evenly(n: int, most: int) -> Tensor:
    """Returns at most so many of n numbers, evenly spread, both ends among them. int64"""
    if n <= most:
        return torch.arange(n)
    return torch.linspace(0, n - 1, most, dtype=torch.float64).round().to(torch.int64)


def _plane_dtype(precision: Precision) -> torch.dtype:
    return torch.float16 if precision is Precision.HALF else torch.float32


def _placed(mask: BlockMask, memory: Tensor) -> BlockMask:
    """Returns the same in given memory."""
    first, tensors = 0, []
    for tensor in (mask.any_cell, mask.all_cell, mask.nodes):
        place = _Place(first, tuple(tensor.shape), tensor.dtype).of(memory)
        tensors.append(place.copy_(tensor))
        first = _aligned(first + tensor.nbytes)
    return BlockMask(tensors[2], mask.first, tensors[0], tensors[1])


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // ALIGNMENT) * ALIGNMENT
