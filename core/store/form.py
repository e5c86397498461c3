"""Shapes and places of the tables of one block, in a file of the store and in memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ...cuda.tables import CHANNEL_MULTIPLE, BlockTables
from ..gridnerf import DIRECTION_AXES, FieldBlock

GROUPS = ("density_plane", "density_line", "app_plane", "app_line")
FIELDS = ("density_planes", "density_lines", "appearance_planes", "appearance_lines")  # the same in classes
ALIGNMENT = 16  # bytes; every table begins at a multiple, since its channels are padded

Size = tuple[int, int, int]  # vertices along u, v and the line


@dataclass(frozen=True)
class TableSpec:
    """One plane [n_v, n_u, channels] or line [n_w, channels]."""

    group: int  # index into GROUPS
    p: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int  # bytes from the first table

    @property
    def name(self) -> str:
        """Name in a file."""
        return f"{GROUPS[self.group]}.{self.p}"

    @property
    def n_bytes(self) -> int:
        """Bytes of the table."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, memory: Tensor) -> Tensor:
        """Returns the table in memory that holds all tables. memory: uint8 [>= BlockForm.n_bytes]"""
        return memory[self.offset : self.offset + self.n_bytes].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class BlockForm:
    """What all blocks of a store have in common; tables lie level by level, coarse ones first."""

    sizes: tuple[Size, ...]  # of table p = direction * n_levels + level
    n_levels: int
    density_channels: tuple[int, ...]  # unpadded, one per direction
    appearance_channels: tuple[int, ...]
    half: bool  # planes are float16, else float32; lines are always float32
    order: tuple[int, ...]  # levels, coarse to fine

    @classmethod
    def of(
        cls,
        sizes: Sequence[Size],
        n_levels: int,
        density_channels: tuple[int, ...],
        appearance_channels: tuple[int, ...],
        half: bool,
    ) -> BlockForm:
        """Makes a form; levels are ordered by the size of their first plane."""
        order = sorted(range(n_levels), key=lambda level: sizes[level][0] * sizes[level][1])
        return cls(tuple(sizes), n_levels, density_channels, appearance_channels, half, tuple(order))

    @property
    def plane_dtype(self) -> torch.dtype:
        """Number format of the planes."""
        return torch.float16 if self.half else torch.float32

    @cached_property
    def levels(self) -> tuple[tuple[TableSpec, ...], ...]:
        """The tables of each level, in the order of levels."""
        offset, levels = 0, []
        for level in self.order:
            specs = []
            for group, p, shape, dtype in self._shapes(level):
                specs.append(TableSpec(group, p, shape, dtype, offset))
                offset += specs[-1].n_bytes
            levels.append(tuple(specs))
        return tuple(levels)

    def _shapes(self, level: int) -> Iterator[tuple[int, int, tuple[int, ...], torch.dtype]]:
        for direction in range(len(self.density_channels)):
            p = direction * self.n_levels + level
            n_u, n_v, n_w = self.sizes[p]
            for first, channels in (
                (0, self.density_channels[direction]),
                (2, self.appearance_channels[direction]),
            ):
                padded = -(-channels // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE
                yield first, p, (n_v, n_u, padded), self.plane_dtype
                yield first + 1, p, (n_w, padded), torch.float32

    @cached_property
    def specs(self) -> tuple[TableSpec, ...]:
        """All tables, in the order in which they lie."""
        return tuple(spec for level in self.levels for spec in level)

    @cached_property
    def n_bytes(self) -> int:
        """Bytes of all tables together."""
        return self.specs[-1].offset + self.specs[-1].n_bytes

    @property
    def n_texels(self) -> int:
        """Texels along the longest side of the finest plane."""
        return max(max(n_u, n_v) for n_u, n_v, _ in self.sizes)

    def with_half(self, half: bool) -> BlockForm:
        """Returns the form in the other precision."""
        return replace(self, half=half)

    def dropped(self, n: int) -> BlockForm:
        """Returns the form in which the n finest levels, but not all, are single texels."""
        lost = self.order[max(self.n_levels - n, 1) :]
        kept = (p % self.n_levels not in lost for p in range(len(self.sizes)))
        sizes = tuple(size if keep else (1, 1, 1) for size, keep in zip(self.sizes, kept, strict=True))
        return replace(self, sizes=sizes)

    def tables(self, memory: Tensor, held: object = None) -> BlockTables:
        """Returns the tables that lie in memory. memory: uint8 [>= n_bytes]"""
        views: tuple[list[Tensor], ...] = ([], [], [], [])
        for spec in sorted(self.specs, key=lambda spec: spec.p):
            views[spec.group].append(spec.view(memory))
        return BlockTables(tuple(views[0]), tuple(views[1]), tuple(views[2]), tuple(views[3]), held)

    def channels(self, spec: TableSpec) -> int:
        """Returns the channels of a table, without padding."""
        stated = self.density_channels if spec.group < 2 else self.appearance_channels
        return stated[spec.p // self.n_levels]


def sizes_of(block: FieldBlock) -> tuple[Size, ...]:
    """Returns the sizes of a block's tables."""
    return tuple(
        (plane[0].shape[2], plane[0].shape[1], line[0].shape[1])
        for plane, line in zip(block.density_planes, block.density_lines, strict=True)
    )


def axes_of(p: int, n_levels: int) -> tuple[int, int, int]:
    """Returns which of x, y, z the axes u, v and w of table p are."""
    return DIRECTION_AXES[p // n_levels]
