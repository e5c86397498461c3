"""A field as the host library reads it: an abi.Field over tables, with everything that it points to."""

from __future__ import annotations

import ctypes
import weakref
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import abi
from .tables import CHANNEL_MULTIPLE, BlockTables, FieldTables, NerfWeights

if TYPE_CHECKING:
    from .native import Library


class PreparedField:
    """An abi.Field over tables, with everything that it points to; lives in the tables' cache."""

    def __init__(self, library: Library, tables: FieldTables) -> None:
        self.library = library
        self.held: list[object] = []  # memory that the struct points to
        self.field = abi.Field()
        self._fill_box(tables)
        self._fill_planes(tables)
        self._fill_decoder(tables)
        if tables.occupancy is not None:
            self._fill_mask(tables.occupancy.nodes, tables.occupancy.aabb)
        if tables.nerf is not None:
            self._fill_nerf(tables, tables.nerf)
        self.handle = library.pack(self.field)
        weakref.finalize(self, library.release, self.handle)

    @property
    def lasting(self) -> PreparedField:
        """Whose box, decoder and mask these are: this field's own, unless it is a streamed one's snapshot."""
        return self

    def _fill_box(self, tables: FieldTables) -> None:
        field, first = self.field, tables.sample_block
        low, high = tables.aabb.to(torch.float32).tolist()
        field.low, field.high = (ctypes.c_float * 3)(*low), (ctypes.c_float * 3)(*high)
        field.columns, field.rows = tables.division
        field.n_directions, field.n_levels = tables.n_directions, tables.n_levels
        field.half = first.density_planes[0].dtype == torch.float16
        field.zero_sigma_outside = tables.zero_sigma_outside
        field.activation = tables.activation == "softplus"
        field.density_shift = tables.density_shift
        field.n_density = sum(table.shape[-1] for table in first.density_planes)
        field.n_appearance = sum(table.shape[-1] for table in first.appearance_planes)
        if tables.density_basis is not None:
            field.nonlinear = 1
            field.density_basis = self._hold(
                padded(tables.density_basis[None], tables.density_channels, tables.n_levels)
            )

    def _fill_planes(self, tables: FieldTables) -> None:
        self.field.density = self._tables(tables.blocks, "density_planes", "density_lines")
        self.field.appearance = self._tables(tables.blocks, "appearance_planes", "appearance_lines")

    def _tables(self, blocks: tuple[BlockTables | None, ...], planes: str, lines: str) -> int:
        first = next(block for block in blocks if block is not None)
        n_tables = len(first.density_planes)
        array = (abi.Table * (len(blocks) * n_tables))()
        for number, block in enumerate(blocks):
            if block is None:
                continue
            for p, (plane, line) in enumerate(
                zip(getattr(block, planes), getattr(block, lines), strict=True)
            ):
                self.held += [plane, line]
                array[number * n_tables + p] = abi.Table(
                    plane.data_ptr(), line.data_ptr(), plane.shape[1], plane.shape[0], *line.shape
                )
        self.held.append(array)
        return ctypes.addressof(array)

    def _fill_decoder(self, tables: FieldTables) -> None:
        field, decoder = self.field, tables.decoder
        (weight_1, bias_1), (weight_2, bias_2), (weight_3, bias_3) = decoder.layers
        field.feature_dim = decoder.basis.shape[0]
        field.hidden_1, field.hidden_2 = weight_1.shape[0], weight_2.shape[0]
        field.latent_dim, field.feature_pe, field.view_pe = (
            decoder.latent_dim,
            decoder.feature_pe,
            decoder.view_pe,
        )
        field.basis = self._hold(padded(decoder.basis, tables.appearance_channels, tables.n_levels))
        field.weight_1, field.weight_2, field.weight_3 = map(self._hold, (weight_1, weight_2, weight_3))
        field.bias_1, field.bias_2, field.bias_3 = (
            self._hold(torch.zeros(len(weight)) if bias is None else bias)
            for weight, bias in ((weight_1, bias_1), (weight_2, bias_2), (weight_3, bias_3))
        )

    def _fill_nerf(self, tables: FieldTables, nerf: NerfWeights) -> None:
        """Describes the branch, with its weights on products spread to the tables' padded channels."""
        n_point, n_view = 3 + 6 * nerf.point_pe, 3 + 6 * nerf.view_pe
        n_density = tables.n_levels * sum(tables.density_channels)
        n_appearance = tables.n_levels * sum(tables.appearance_channels)

        def spread(weight: Tensor, first: int, n: int, channels: tuple[int, ...]) -> Tensor:
            products = padded(weight[:, first : first + n], channels, tables.n_levels)
            return torch.cat([weight[:, :first], products, weight[:, first + n :]], dim=1)

        def dense(layer: tuple[Tensor, Tensor], sees_point: bool = False) -> abi.Dense:
            weight, bias = layer
            if sees_point:
                weight = spread(weight, n_point, n_density, tables.density_channels)
            n_out, n_in = weight.shape
            return abi.Dense(self._hold(weight), self._hold(bias), n_in, n_out)

        last = len(nerf.point_layers) - 1
        joined = nerf.skip == last  # then density and feature see the point again
        point_layers = [
            dense(layer, number in (0, nerf.skip + 1)) for number, layer in enumerate(nerf.point_layers)
        ]
        weight, bias = nerf.view_layers[0]
        after_view = len(nerf.feature[1]) + n_view
        seen = spread(weight, after_view, n_appearance, tables.appearance_channels)
        view_layers = [dense((seen, bias)), *map(dense, nerf.view_layers[1:])]
        arrays = [(abi.Dense * len(layers))(*layers) for layers in (point_layers, view_layers)]
        struct = abi.Nerf(
            *map(ctypes.addressof, arrays),
            dense(nerf.density, joined),
            dense(nerf.feature, joined),
            dense(nerf.color),
            len(point_layers),
            len(view_layers),
            nerf.point_pe,
            nerf.view_pe,
            nerf.skip,
        )
        self.held += [*arrays, struct]
        self.field.nerf = ctypes.addressof(struct)

    def _fill_mask(self, nodes: Tensor, aabb: Tensor) -> None:
        mask = self.field.mask
        nodes = nodes.to(torch.uint8).contiguous()
        self.held.append(nodes)
        self.field.mask, bricks = mask_of(nodes)
        place_mask(mask, aabb)
        any_cell = torch.empty(bricks, dtype=torch.int64)
        all_cell = torch.empty_like(any_cell)
        distance = torch.empty(bricks, dtype=torch.uint8)
        self.library.build_mask(mask, any_cell, all_cell, distance)
        mask.any, mask.all = self._hold(any_cell, torch.int64), self._hold(all_cell, torch.int64)
        mask.distance = self._hold(distance, torch.uint8)

    def _hold(self, tensor: Tensor, dtype: torch.dtype = torch.float32) -> int:
        tensor = tensor.detach().to(dtype).contiguous()
        self.held.append(tensor)
        return tensor.data_ptr()


def padded(weights: Tensor, channels: tuple[int, ...], n_levels: int) -> Tensor:
    """Spreads [n, n_levels * sum(channels)] to the padded channels of the tables; the new columns are 0."""
    columns = []
    first = 0
    for width in channels:
        for _ in range(n_levels):
            part = weights[:, first : first + width]
            columns.append(torch.nn.functional.pad(part, (0, -width % CHANNEL_MULTIPLE)))
            first += width
    return torch.cat(columns, dim=1)


def mask_of(nodes: Tensor) -> tuple[abi.Mask, list[int]]:
    """Returns a mask that points to vertices [n_z, n_y, n_x], and the shape of its brick tables."""
    size = nodes.shape[::-1]
    bricks = [n // 4 + 1 for n in size]  # n + 1 cells
    integers = ctypes.c_int32 * 3
    return abi.Mask(nodes=nodes.data_ptr(), n=integers(*size), bricks=integers(*bricks)), bricks[::-1]


def place_mask(mask: abi.Mask, aabb: Tensor) -> None:
    """Says where the vertices of a mask lie: aabb [2, 3], scene units."""
    low, high = aabb.to(torch.float32)
    mask.low = (ctypes.c_float * 3)(*low.tolist())
    mask.scale = (ctypes.c_float * 3)(*(1.0 / (high - low) * 2).tolist())
