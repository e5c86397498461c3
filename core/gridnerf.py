"""GridNeRF, the one model class: planes and lines by block, direction and level, decoder, appearance, NeRF.

The queries here are plain torch and follow LandMark's arithmetic to the rounding: they are the oracle of
every kernel. Rendering at speed goes through `tables`, which the kernels read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cuda.tables import (
    CHANNEL_MULTIPLE,
    BlockTables,
    DecoderWeights,
    FieldTables,
    NerfWeights,
    OccupancyNodes,
)
from .blocks import BlockLayout
from .occupancy import OccupancyGrid
from .settings import ModelSettings, Precision

if TYPE_CHECKING:
    from .streaming.contracts import BlockSource

# Plane axes (u, v) and line axis w of each direction, as indices into x, y, z.
DIRECTION_AXES = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
FULL_PRECISION_LIMIT = 2**30  # bytes of planes above which Precision.AUTO means half
PACK_BYTES = 8 * 2**20  # of a plane that are packed at a time

Parts = tuple[Tensor, ...]  # concatenated along the channels; more than one only in channel-parallel sets


@dataclass(frozen=True)
class FieldBlock:
    """Planes [channels, n_v, n_u] and lines [channels, n_w] of one block.

    They are numbered p = direction * n_levels + level. The tensors, of any floating-point type, may be
    views into a memory-mapped file: nothing is read until it is used.
    """

    density_planes: tuple[Parts, ...]
    density_lines: tuple[Parts, ...]
    appearance_planes: tuple[Parts, ...]
    appearance_lines: tuple[Parts, ...]


@dataclass(frozen=True)
class GridNeRF:
    """A LandMark radiance field, whatever file layout it came from."""

    aabb: Tensor  # float32 [2, 3], scene units
    grid_size: tuple[
        int, int, int
    ]  # vertices of level 0 as the file states them; they decide the sample step
    density_channels: tuple[int, ...]  # one per direction
    appearance_channels: tuple[int, ...]  # one per direction
    n_levels: int
    layout: BlockLayout
    blocks: Sequence[FieldBlock | None]
    decoder: DecoderWeights
    activation: str  # "softplus" or "relu"
    density_shift: float
    distance_scale: float
    weight_threshold: float
    near_far: tuple[float, float]
    step_ratio: float
    settings: ModelSettings  # complete: nothing in it is None but plane_division
    density_basis: Tensor | None = None  # [1, n_levels * sum(density_channels)], nonlinear density
    embedding: Tensor | None = None  # appearance table [n_images, latent_dim]
    nerf: NerfWeights | None = None
    occupancy: OccupancyGrid | None = None
    zero_sigma_outside: bool = (
        False  # a point in no block has sigma 0 (sub files) instead of feature 0 (stacked)
    )
    source: BlockSource | None = None  # where single blocks are fetched from; `blocks` then reads them lazily
    release: Callable[[], None] = field(
        default=lambda: None, repr=False, compare=False
    )  # drops resident file pages

    @property
    def n_directions(self) -> int:
        """1 (ground planes only) or 3."""
        return len(self.density_channels)

    @property
    def step(self) -> Tensor:
        """Distance between box samples, scene units: mean voxel side times step_ratio. float32 scalar"""
        units = (self.aabb[1] - self.aabb[0]) / (torch.tensor(self.grid_size) - 1)
        return units.mean() * self.step_ratio

    @property
    def n_samples(self) -> int:
        """Box samples per ray: enough to cross the box along its diagonal."""
        size = self.aabb[1] - self.aabb[0]
        return int((size.square().sum().sqrt() / self.step).item()) + 1

    @property
    def n_parameter_bytes(self) -> int:
        """Bytes of all planes and lines in full precision; a source is asked for them, if there is one."""
        if self.source is not None:
            numbers = (number for number in range(self.layout.n_blocks) if self.source.exists(number))
            return sum(self.source.n_bytes(number, Precision.FULL) for number in numbers)
        return sum(
            part.numel() * 4
            for block in self.blocks
            if block is not None
            for group in (
                block.density_planes,
                block.density_lines,
                block.appearance_planes,
                block.appearance_lines,
            )
            for parts in group
            for part in parts
        )

    def latent(self, code: int) -> Tensor | None:
        """Returns a row of the appearance table, or None if the model has none. [latent_dim]"""
        return None if self.embedding is None else self.embedding[code].clone()

    # Queries: points [n, 3] in scene units.

    def density_products(self, points: Tensor) -> Tensor:
        """Returns plane times line of every density level. [n, n_levels * sum(density_channels)]"""
        return self._products(points, "density_planes", "density_lines", self.density_channels)

    def appearance_products(self, points: Tensor) -> Tensor:
        """Returns plane times line of every appearance level. [n, n_levels * sum(appearance_channels)]"""
        return self._products(points, "appearance_planes", "appearance_lines", self.appearance_channels)

    def density_feature(self, points: Tensor) -> Tensor:
        """Returns the value that the activation turns into density. [n]"""
        return self._density_feature(self.density_products(points))

    def sigma(self, points: Tensor) -> Tensor:
        """Returns density, 1 / scene unit; 0 in a block that is absent. [n]"""
        sigma = self._activate(self.density_feature(points))
        block, _ = self.layout.locate(self._normalize(points))
        void = ((block < 0) | (block >= self.layout.n_blocks)) & self.zero_sigma_outside
        for number in self._numbers(block):
            if self.blocks[number] is None:
                void |= block == number
        return torch.where(void, torch.zeros_like(sigma), sigma)

    def appearance_feature(self, points: Tensor) -> Tensor:
        """Returns the decoder's input feature. [n, feature_dim]"""
        return F.linear(self.appearance_products(points), self.decoder.basis.to(points.device))

    def color(self, feature: Tensor, directions: Tensor, latent: Tensor | None) -> Tensor:
        """Runs the decoder.

        Args:
            feature: Appearance feature. [n, feature_dim]
            directions: Ray directions, not normalised. [n, 3]
            latent: Appearance embedding. [latent_dim]

        Returns:
            Colour in [0, 1]. [n, 3]
        """
        hidden = self.decoder_inputs(feature, directions, latent)
        *hidden_layers, last = self.decoder.layers
        for weight, bias in hidden_layers:
            hidden = torch.relu(_linear(hidden, weight, bias))
        return torch.sigmoid(_linear(hidden, *last))

    def decoder_inputs(self, feature: Tensor, directions: Tensor, latent: Tensor | None) -> Tensor:
        """Returns what the first layer of the decoder reads; arguments as `color` takes them. [n, n_in]"""
        decoder = self.decoder
        inputs = [feature]
        if latent is not None and decoder.latent_dim:
            inputs.append(latent.to(feature.device).expand(len(feature), -1))
        if decoder.view_pe > -1:
            inputs.append(directions)
        if decoder.feature_pe > 0:
            inputs.append(positional_encoding(feature, decoder.feature_pe))
        if decoder.view_pe > 0:
            inputs.append(positional_encoding(directions, decoder.view_pe))
        return torch.cat(inputs, dim=-1)

    # Tables

    def tables(
        self, precision: Precision = Precision.AUTO, device: torch.device | str = "cpu"
    ) -> FieldTables:
        """Packs planes and lines channel-last for the kernels, one tensor at a time.

        At no time is more than one plane held twice, and file pages are released as they are used.
        """
        if precision is Precision.AUTO:
            precision = Precision.HALF if self.n_parameter_bytes > FULL_PRECISION_LIMIT else Precision.FULL
        dtype = torch.float16 if precision is Precision.HALF else torch.float32
        grid = self.occupancy
        return replace(
            self.bare_tables(),
            blocks=tuple(
                None if block is None else self._pack(block, dtype, torch.device(device))
                for block in self.blocks
            ),
            occupancy=None if grid is None else OccupancyNodes(grid.nodes, grid.aabb),
        )

    def bare_tables(self) -> FieldTables:
        """Returns the tables without any block and without the alpha mask."""
        return FieldTables(
            aabb=self.aabb,
            division=self.layout.division,
            n_directions=self.n_directions,
            n_levels=self.n_levels,
            density_channels=self.density_channels,
            appearance_channels=self.appearance_channels,
            blocks=(None,) * self.layout.n_blocks,
            zero_sigma_outside=self.zero_sigma_outside,
            activation=self.activation,
            density_shift=self.density_shift,
            density_basis=None if self.density_basis is None else self.density_basis.reshape(-1),
            decoder=self.decoder,
            nerf=self.nerf,
        )

    def repacked(self, tables: FieldTables, number: int) -> FieldTables:
        """Returns tables of a field that differs from this one in one block and the alpha mask only."""
        held = next(block for block in tables.blocks if block is not None)
        block, dtype = self.blocks[number], held.density_planes[0].dtype
        packed = None if block is None else self._pack(block, dtype, tables.device)
        blocks = tuple(packed if n == number else table for n, table in enumerate(tables.blocks))
        grid = self.occupancy
        nodes = None if grid is None else OccupancyNodes(grid.nodes, grid.aabb)
        return replace(tables, blocks=blocks, occupancy=nodes, cache={})

    def _pack(self, block: FieldBlock, dtype: torch.dtype, device: torch.device) -> BlockTables:
        def planes(group: tuple[Parts, ...]) -> tuple[Tensor, ...]:
            return tuple(self._channel_last(parts, dtype, device) for parts in group)

        def lines(group: tuple[Parts, ...]) -> tuple[Tensor, ...]:
            return tuple(self._channel_last(parts, torch.float32, device) for parts in group)

        return BlockTables(
            planes(block.density_planes),
            lines(block.density_lines),
            planes(block.appearance_planes),
            lines(block.appearance_lines),
        )

    def _channel_last(self, parts: Parts, dtype: torch.dtype, device: torch.device) -> Tensor:
        table = torch.zeros(*parts[0].shape[1:], padded_channels(parts), dtype=dtype, device=device)
        fill_channel_last(table, parts, self.release)
        return table

    # Arithmetic

    def _normalize(self, points: Tensor) -> Tensor:
        low, high = self.aabb.to(points.device)
        normalized: Tensor = (points - low) * (2.0 / (high - low)) - 1
        return normalized

    def _activate(self, feature: Tensor) -> Tensor:
        if self.activation == "softplus":
            return F.softplus(feature + self.density_shift)
        return torch.relu(feature)

    def _density_feature(self, products: Tensor) -> Tensor:
        if self.density_basis is not None:
            return torch.relu(F.linear(products, self.density_basis.to(products.device)).squeeze(-1))
        widths = [channels for channels in self.density_channels for _ in range(self.n_levels)]
        total = products.new_zeros(len(products))
        for part in torch.split(products, widths, dim=-1):
            total = total + part.T.contiguous().sum(dim=0)
        return total

    def _products(self, points: Tensor, planes: str, lines: str, channels: tuple[int, ...]) -> Tensor:
        index, local = self.layout.locate(self._normalize(points))
        out = points.new_zeros(len(points), self.n_levels * sum(channels))
        for number in self._numbers(index):
            block = self.blocks[number]
            if block is None:
                continue
            if self.layout.n_blocks == 1:
                return self._block_products(local, getattr(block, planes), getattr(block, lines))
            inside = (index == number).nonzero().squeeze(-1)
            out[inside] = self._block_products(local[inside], getattr(block, planes), getattr(block, lines))
        return out

    def _numbers(self, block: Tensor) -> list[int]:
        """Returns the numbers of blocks that occur: no other block of a lazy field is opened."""
        inside = (block >= 0) & (block < self.layout.n_blocks)
        numbers: list[int] = torch.unique(block[inside]).tolist()
        return numbers

    def _block_products(self, local: Tensor, planes: tuple[Parts, ...], lines: tuple[Parts, ...]) -> Tensor:
        products = []
        for p, (plane, line) in enumerate(zip(planes, lines, strict=True)):
            u, v, w = DIRECTION_AXES[p // self.n_levels]
            at_plane = local[:, [u, v]].view(1, -1, 1, 2)
            at_line = torch.stack([torch.zeros_like(local[:, w]), local[:, w]], dim=-1).view(1, -1, 1, 2)
            on_plane = F.grid_sample(_join(plane, local)[None], at_plane, align_corners=True)
            on_line = F.grid_sample(_join(line, local)[None, :, :, None], at_line, align_corners=True)
            products.append((on_plane * on_line)[0, :, :, 0])
        return torch.cat(products).T


def padded_channels(parts: Parts) -> int:
    """Returns the channels of a channel-last table of these parts."""
    return -(-sum(len(part) for part in parts) // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE


def fill_channel_last(table: Tensor, parts: Parts, after_piece: Callable[[], None]) -> None:
    """Copies parts [channels, ...] into a table [..., channels], whose further channels stay as they are.

    Args:
        table: To be filled, of any floating-point type.
        parts: What to copy; may be mapped files.
        after_piece: Called after every few MiB, e.g. to drop pages of files.
    """
    first = 0
    starts = ((part, start) for part in parts for start in range(0, len(part), CHANNEL_MULTIPLE))
    for group in (part[start : start + CHANNEL_MULTIPLE] for part, start in starts):
        n_rows = max(1, PACK_BYTES // group[:, 0].nbytes)
        for start in range(0, len(table), n_rows):
            rows = slice(start, start + n_rows)
            table[rows, ..., first : first + len(group)] = group[:, rows].movedim(0, -1)
            after_piece()
        first += len(group)


def positional_encoding(values: Tensor, n_frequencies: int) -> Tensor:
    """Encodes [n, dim] as [sin(v * 2^k), cos(v * 2^k)], dimension-major. [n, 2 * dim * n_frequencies]"""
    bands = 2.0 ** torch.arange(n_frequencies, device=values.device)
    angles = (values[..., None] * bands).reshape(*values.shape[:-1], -1)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


def _join(parts: Parts, like: Tensor) -> Tensor:
    joined = parts[0] if len(parts) == 1 else torch.cat(parts)
    return joined.to(like.device, torch.float32)


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    device = inputs.device
    return F.linear(inputs, weight.to(device), None if bias is None else bias.to(device))
