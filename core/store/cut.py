"""Divides the blocks of a field further; the planes of the new ones are cut out of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..blocks import BlockLayout
from ..errors import InputError
from ..gridnerf import FieldBlock, GridNeRF, Parts
from ..lazy_blocks import LazyBlocks
from .form import axes_of

GROUP = 4  # channels that are resampled at a time


@dataclass
class CutBlocks(LazyBlocks):
    """The blocks of a field whose blocks were larger; each is cut out when it is asked for.

    Planes and lines whose texels divide are cut as they are. The others are resampled, along the axes that
    do not divide, to texels that lie at least as close; `largest_error` then says how far any interpolated
    value is from the one before.
    """

    whole: Sequence[FieldBlock | None]  # the larger blocks
    example: FieldBlock  # any of them
    n_levels: int
    rows: int  # larger blocks along y
    parts: tuple[int, int]  # new blocks along x and y for each larger one
    largest_error: float = field(default=0.0, init=False)
    largest_value: float = field(default=0.0, init=False)  # of what was resampled

    def __len__(self) -> int:
        return len(self.whole) * self.parts[0] * self.parts[1]

    def block(self, number: int) -> FieldBlock | None:
        """Cuts a block out of the larger one; None: that does not exist."""
        whole = self.whole[self.origin(number)]
        if whole is None:
            return None
        column, row = divmod(number, self.rows * self.parts[1])
        place = (column % self.parts[0], row % self.parts[1])

        def cut(group: tuple[Parts, ...], is_plane: bool) -> tuple[Parts, ...]:
            return tuple(self._cut(p, parts, place, is_plane) for p, parts in enumerate(group))

        return FieldBlock(
            cut(whole.density_planes, True),
            cut(whole.density_lines, False),
            cut(whole.appearance_planes, True),
            cut(whole.appearance_lines, False),
        )

    def origin(self, number: int) -> int:
        """Returns the number of the larger block that a block is cut out of."""
        column, row = divmod(number, self.rows * self.parts[1])
        return column // self.parts[0] * self.rows + row // self.parts[1]

    @property
    def is_exact(self) -> bool:
        """Whether every plane and line is cut as it is."""
        return not any(
            (parts[0].shape[dim] - 1) % n_parts
            for group, is_plane in (
                (self.example.density_planes, True),
                (self.example.density_lines, False),
            )
            for p, parts in enumerate(group)
            for dim, n_parts, _ in self._axes(p, is_plane, (0, 0))
        )

    def _axes(self, p: int, is_plane: bool, place: tuple[int, int]) -> list[tuple[int, int, int]]:
        """Returns for each divided axis of a table its dimension, its number of parts, and which it is."""
        u, v, w = axes_of(p, self.n_levels)
        dims = {u: 2, v: 1} if is_plane else {w: 1}
        return [(dims[axis], self.parts[axis], place[axis]) for axis in (0, 1) if axis in dims]

    def _cut(self, p: int, parts: Parts, place: tuple[int, int], is_plane: bool) -> Parts:
        axes = [axis for axis in self._axes(p, is_plane, place) if axis[1] > 1]
        resampled = []
        for dim, n_parts, part in axes:
            n = parts[0].shape[dim] - 1
            if n % n_parts:
                resampled.append((dim, n_parts, part))
            else:
                parts = tuple(table.narrow(dim, n // n_parts * part, n // n_parts + 1) for table in parts)
        if not resampled:
            return parts
        return tuple(
            torch.cat([self._resampled(group, resampled) for group in torch.split(table, GROUP)])
            for table in parts
        )

    def _resampled(self, table: Tensor, axes: list[tuple[int, int, int]]) -> Tensor:
        """Resamples a few channels and notes the error, which is largest where either of the two bends."""
        made = wanted = table.float()
        bends = []
        for dim, n_parts, part in axes:
            n = table.shape[dim] - 1
            begin, end = n * part / n_parts, n * (part + 1) / n_parts
            texels = torch.linspace(begin, end, -(-n // n_parts) + 1, dtype=torch.float64)
            made = _at(made, dim, texels)
            inner = torch.arange(math.floor(begin) + 1, math.ceil(end), dtype=torch.float64)
            bend = torch.cat([texels, inner])
            wanted = _at(wanted, dim, bend)
            bends.append((dim, (bend - begin) / (end - begin) * (len(texels) - 1)))
        got = made
        for dim, positions in bends:
            got = _at(got, dim, positions)
        self.largest_error = max(self.largest_error, float((got - wanted).abs().max()))
        self.largest_value = max(self.largest_value, float(wanted.abs().max()))
        return made


def _at(table: Tensor, dim: int, positions: Tensor) -> Tensor:
    """Interpolates a table linearly along one dimension. positions: float64, in texels [n]"""
    n = table.shape[dim]
    low = positions.floor().long().clamp(0, max(n - 2, 0))
    weight = (positions - low).float().view([-1 if axis == dim else 1 for axis in range(table.dim())])
    high = (low + 1).clamp(max=n - 1)
    return torch.lerp(table.index_select(dim, low), table.index_select(dim, high), weight)


def divided(
    model: GridNeRF, example: FieldBlock, division: tuple[int, int]
) -> tuple[GridNeRF, CutBlocks | None]:
    """Returns a field cut into division[0] x division[1] blocks along x and y; as it is, if it is so already.

    Args:
        model: The field.
        example: Any block of it.
        division: Multiples of the field's own.

    Raises:
        InputError: Borders of the field's blocks would vanish, or a block would have no texels of its own.
    """
    own = model.layout.division
    if division == own:
        return model, None
    if division[0] % own[0] or division[1] % own[1]:
        raise InputError(
            f"a division must keep the borders of the {own[0]} x {own[1]} blocks that there are, got "
            f"{division[0]} x {division[1]}; choose multiples of these or leave out --division"
        )
    parts = (division[0] // own[0], division[1] // own[1])
    for p, (plane, *_) in enumerate(example.density_planes):
        axes = axes_of(p, model.n_levels)
        for axis, texels in zip(axes, (plane.shape[2], plane.shape[1]), strict=False):
            if axis < 2 and texels - 1 < parts[axis]:
                raise InputError(
                    f"a division must leave every block a texel, got {parts[axis]} blocks of {texels} "
                    f"texels along {'xy'[axis]}; choose a smaller --division"
                )
    blocks = CutBlocks(model.blocks, example, model.n_levels, own[1], parts)
    return replace(
        model,
        blocks=blocks,
        layout=BlockLayout(division),
        source=None,
        settings=replace(model.settings, plane_division=division),
    ), blocks
