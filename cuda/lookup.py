"""Reading channel-last tables with plain torch, on whatever device they lie."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from .stream_tables import CoarseTables
from .tables import BlockTables, FieldTables, OccupancyNodes

# Plane axes (u, v) and line axis w of each direction, as indices into x, y, z.
DIRECTION_AXES = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
EMPTY, MIXED, FULL = 0, 1, 2  # cells of the mask by how many of their vertices are set
FULL_PASSES_BELOW = 1.0 - 1e-4  # below this threshold a sample in a full cell needs no test

LOOKUP_CHUNK = 16384  # points read at once on a CPU, so that what is read stays in its cache
Texels = tuple[Tensor, Tensor, Tensor, int]  # first index, two weights, step to the second


def in_chunks(function: Callable[..., Tensor], size: int, *inputs: Tensor) -> Tensor:
    """Applies a function to rows of its inputs: `size` of them at a time on a CPU, all at once elsewhere."""
    n = len(inputs[0])
    if inputs[0].device.type != "cpu" or n <= size:
        return function(*inputs)
    starts = range(0, n, size)
    return torch.cat([function(*(x[start : start + size] for x in inputs)) for start in starts])


class Lookup:
    """Planes, lines and mask of one field, ready to be read. Points are [n, 3] in scene units."""

    def __init__(self, tables: FieldTables) -> None:
        self.tables = tables
        self.device = tables.device
        self.low, self.high = tables.aabb.to(self.device, torch.float32)
        basis = tables.density_basis
        self.density_basis = None if basis is None else basis.to(self.device)
        self.basis = tables.decoder.basis.to(self.device)
        self._cells: Tensor | None = None

    def density_products(self, points: Tensor) -> Tensor:
        """Returns plane times line of every density level. [n, n_levels * sum(density_channels)]"""
        return self._products(points, "density", self.tables.density_channels)

    def appearance_products(self, points: Tensor) -> Tensor:
        """Returns plane times line of every appearance level. [n, n_levels * sum(appearance_channels)]"""
        return self._products(points, "appearance", self.tables.appearance_channels)

    def raw_density(self, points: Tensor) -> Tensor:
        """Returns the density feature before relu and activation. [n]"""
        return in_chunks(self._raw_density, LOOKUP_CHUNK, points)

    def appearance_feature(self, points: Tensor) -> Tensor:
        """Returns the decoder's input feature. [n, feature_dim]"""
        return in_chunks(lambda part: self.appearance_products(part) @ self.basis.T, LOOKUP_CHUNK, points)

    def density_feature(self, points: Tensor) -> Tensor:
        """Returns the value that the activation turns into density. [n]"""
        feature = self.raw_density(points)
        return feature if self.density_basis is None else torch.relu(feature)

    def sigma(self, points: Tensor) -> Tensor:
        """Returns density, 1 / scene unit; the mask is not asked. [n]"""
        feature = self.density_feature(points)
        shift = self.tables.density_shift
        is_softplus = self.tables.activation == "softplus"
        sigma: Tensor = F.softplus(feature + shift) if is_softplus else torch.relu(feature)
        if self._exists is not None or self.tables.zero_sigma_outside:
            sigma = sigma.masked_fill(self._is_void(points), 0.0)
        return sigma

    def is_inside(self, points: Tensor) -> Tensor:
        """Whether points lie in the bounding box, faces included. points [..., 3] -> [...]"""
        inside: Tensor = ((points >= self.low) & (points <= self.high)).all(dim=-1)
        return inside

    def is_occupied(self, points: Tensor, threshold: float) -> Tensor:
        """Whether the mask exceeds a threshold at points; asks its cells first. [n]"""
        mask = self.tables.occupancy
        if mask is None or threshold < 0:
            return torch.ones(len(points), dtype=torch.bool, device=self.device)
        normalized, _, cell, in_mask = mask_cells(points, mask.aabb, mask.nodes.shape[::-1])
        state = self._cell_states(mask)[cell[:, 2], cell[:, 1], cell[:, 0]]
        occupied: Tensor = in_mask & (state != EMPTY)
        unsure = occupied if threshold >= FULL_PASSES_BELOW else occupied & (state == MIXED)
        index = unsure.nonzero().squeeze(-1)
        if len(index):
            volume = mask.nodes.to(self.device, torch.float32)[None, None]
            at_mixed = normalized[index].view(1, -1, 1, 1, 3)
            occupied[index] = F.grid_sample(volume, at_mixed, align_corners=True).view(-1) > threshold
        return occupied

    def locate(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns each point's block number, out of range if it has none [n], and its place inside [n, 3]."""
        return locate(points, self.low, self.high, self.tables.division)

    @cached_property
    def _exists(self) -> Tensor | None:
        """Which blocks there are, None if all. [n_blocks] bool"""
        exists = [block is not None for block in self.tables.blocks]
        return None if all(exists) else torch.tensor(exists, device=self.device)

    def _is_void(self, points: Tensor) -> Tensor:
        block, _ = self.locate(points)
        outside = (block < 0) | (block >= len(self.tables.blocks))
        void = torch.zeros_like(outside)
        if self._exists is not None:
            void = ~self._exists[block.clamp(0, len(self._exists) - 1)] & ~outside
        return void | outside if self.tables.zero_sigma_outside else void

    def _products(self, points: Tensor, kind: str, channels: tuple[int, ...]) -> Tensor:
        number, local = self.locate(points)
        if len(self.tables.blocks) == 1:
            return self._block_products(self.tables.blocks[0], local, kind, channels)
        products = points.new_zeros(len(points), self.tables.n_levels * sum(channels))
        for index, block in enumerate(self.tables.blocks):
            inside = (number == index).nonzero().squeeze(-1)
            if block is not None and len(inside):
                products[inside] = self._block_products(block, local[inside], kind, channels)
        return products

    def _block_products(
        self,
        block: BlockTables | CoarseTables | None,
        local: Tensor,
        kind: str,
        channels: tuple[int, ...],
        row: Tensor | None = None,
    ) -> Tensor:
        """Returns plane times line at places inside a block, or inside the given rows of coarse ones."""
        assert block is not None, "a field has at least one block"
        planes = block.density_planes if kind == "density" else block.appearance_planes
        lines = block.density_lines if kind == "density" else block.appearance_lines
        products = local.new_empty(len(local), self.tables.n_levels * sum(channels))
        first = 0
        for p, (plane, line) in enumerate(zip(planes, lines, strict=True)):
            direction = p // self.tables.n_levels
            u, v, w = DIRECTION_AXES[direction]
            at_u, at_v = texels(local[:, u], plane.shape[-2]), texels(local[:, v], plane.shape[-3])
            on_plane = _bilinear(plane, at_u, at_v, row)
            on_line = _linear(line, texels(local[:, w], line.shape[-2]), row)
            width = channels[direction]
            torch.mul(on_plane[:, :width], on_line[:, :width], out=products[:, first : first + width])
            first += width
        return products

    def _raw_density(self, points: Tensor) -> Tensor:
        products = self.density_products(points)
        return products.sum(dim=-1) if self.density_basis is None else products @ self.density_basis

    def _cell_states(self, mask: OccupancyNodes) -> Tensor:
        """EMPTY, MIXED or FULL for the cells between vertices; the outermost ones are half outside."""
        if self._cells is None:
            padded = F.pad(mask.nodes.to(self.device), (1, 1, 1, 1, 1, 1))
            some, every = padded, padded
            for axis in range(3):
                n = padded.shape[axis] - 1
                some = some.narrow(axis, 0, n) | some.narrow(axis, 1, n)
                every = every.narrow(axis, 0, n) & every.narrow(axis, 1, n)
            self._cells = some + every
        return self._cells


def locate(points: Tensor, low: Tensor, high: Tensor, division: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns each point's block number, out of range if it has none, and its place in [-1, 1] inside.

    Args:
        points: Positions in scene units. [n, 3]
        low: Lowest corner of the field. [3]
        high: Highest corner. [3]
        division: Blocks along x and y.
    """
    normalized = (points - low) * (2.0 / (high - low)) - 1
    columns, rows = division
    if columns * rows == 1:
        return torch.zeros(len(points), dtype=torch.int64, device=points.device), normalized
    width, height = 2 / columns, 2 / rows
    column = torch.floor((normalized[:, 0] + 1) / width)
    block = column * rows + torch.floor((normalized[:, 1] + 1) / height)
    column = torch.floor(block / rows)
    row = block - column * rows
    x = _inside(normalized[:, 0], -1 + column * width, -1 + (column + 1) * width)
    y = _inside(normalized[:, 1], -1 + row * height, -1 + (row + 1) * height)
    return block.to(torch.int64), torch.stack([x, y, normalized[:, 2]], dim=-1)


def mask_cells(
    points: Tensor, aabb: Tensor, n_vertices: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns where points [n, 3] lie in an alpha mask, in the arithmetic of grid_sample.

    Args:
        points: Positions in scene units. [n, 3]
        aabb: Box of the mask. [2, 3]
        n_vertices: Of the mask, along x, y, z.

    Returns:
        Places in [-1, 1] and in vertices [n, 3] each, the cell, which ends at the vertex of its number
        [n, 3], and whether there is such a cell [n].
    """
    low, high = aabb.to(points.device)
    normalized = (points - low) * (1.0 / (high - low) * 2) - 1
    size = torch.tensor(n_vertices, device=points.device)
    at = ((normalized + 1) / 2) * (size - 1)
    in_mask = ((at >= -1) & (at < size)).all(dim=-1)
    cell = (at.clamp(min=-1.0).floor().to(torch.int64) + 1).minimum(size)
    return normalized, at, cell, in_mask


def _inside(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (value - low) * 2 / (high - low) - 1


def texels(c: Tensor, n: int) -> Texels:
    """Finds the two texels next to positions in [-1, 1]: align_corners, zero outside. [n_points] each"""
    x = (c + 1) / 2 * (n - 1)
    base = torch.floor(x).clamp(0, max(n - 2, 0))
    offset = x - base
    near = (1 - offset.abs()).clamp_(min=0)
    far = (1 - (offset - 1).abs()).clamp_(min=0)
    return base.to(torch.int32), near, far, int(n > 1)


def _bilinear(plane: Tensor, at_u: Texels, at_v: Texels, row: Tensor | None) -> Tensor:
    """Reads a plane [n_v, n_u, channels], or the given rows of [n_rows, n_v, n_u, channels]."""
    (u, u_0, u_1, u_step), (v, v_0, v_1, v_step) = at_u, at_v
    height, width, channels = plane.shape[-3:]
    if plane.numel() // channels >= 2**31:
        v = v.to(torch.int64)
    if row is not None:
        v = v + row.to(v.dtype) * height
    base = v * width + u
    below = base + v_step * width
    index = torch.stack([base, base + u_step, below, below + u_step], dim=1)
    weight = torch.stack([u_0 * v_0, u_1 * v_0, u_0 * v_1, u_1 * v_1], dim=1)
    return _weighted_rows(plane.reshape(-1, channels), index, weight)


def _linear(line: Tensor, at: Texels, row: Tensor | None) -> Tensor:
    """Reads a line [n_w, channels], or the given rows of [n_rows, n_w, channels]."""
    base, near, far, step = at
    if row is not None:
        base = base + row.to(base.dtype) * line.shape[-2]
    index = torch.stack([base, base + step], dim=1)
    return _weighted_rows(line.reshape(-1, line.shape[-1]), index, torch.stack([near, far], dim=1))


def _weighted_rows(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Sums rows of a table: index [n, k], weight [n, k] -> [n, channels] float32."""
    if table.dtype == torch.float32:
        return F.embedding_bag(index, table, mode="sum", per_sample_weights=weight)
    total = torch.zeros(len(index), table.shape[1], device=table.device)
    for corner in range(index.shape[1]):
        total.addcmul_(table[index[:, corner].to(torch.int64)].float(), weight[:, corner, None])
    return total
