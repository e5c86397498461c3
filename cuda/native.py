"""The host library behind ctypes: describes tables to it once, then renders and probes."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import abi
from .columns import n_samples
from .edit_native import PreparedEdits
from .edit_tables import ColumnGrid, Columns
from .tables import (
    CHANNEL_MULTIPLE,
    BlockTables,
    DecoderWeights,
    FieldTables,
    FrameBuffers,
    NerfMode,
    NerfWeights,
    Quality,
    RenderControl,
    RenderOptions,
    View,
)
from .train_tables import TrainOptions

CACHE_KEY = "native"
CLUSTER_WEIGHT = 0.3  # clustered: weight that the samples of one decoder evaluation hold together
FAST_WEIGHT = 0.02  # fast: weight that the samples of one lookup hold together
FAST_STOP = 0.01  # fast: transmittance at which a ray counts as opaque
NERF_MODES = {NerfMode.OFF: 0, NerfMode.ALONE: 1, NerfMode.RESIDUAL: 2}
QUALITIES = {Quality.EXACT: 0, Quality.CLUSTERED: 1, Quality.FAST: 2}


class Library:
    """A loaded host library."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lib = ctypes.CDLL(str(path))
        self._declare()
        self._check()

    def prepare(self, tables: FieldTables) -> PreparedField:
        """Returns the library's view of the tables, made on first use and kept in their cache."""
        prepared = tables.cache.get(CACHE_KEY)
        if not isinstance(prepared, PreparedField) or prepared.library is not self:
            prepared = PreparedField(self, tables)
            tables.cache[CACHE_KEY] = prepared
        return prepared

    def build_mask(self, mask: abi.Mask, any_cell: Tensor, all_cell: Tensor, distance: Tensor) -> None:
        """Fills the brick tables of a mask from its vertices."""
        self._lib.lv_build_mask(
            ctypes.byref(mask), any_cell.data_ptr(), all_cell.data_ptr(), distance.data_ptr()
        )

    def build_room(
        self, mask: abi.Mask, room: abi.Mask, shift: list[int], reach: abi.ReachStruct, any_cell: Tensor
    ) -> Tensor:
        """Fills `any_cell`, which must be 0, with the cells of a mask and a reach; returns the distances."""
        distance = torch.empty(any_cell.shape, dtype=torch.uint8)
        self._lib.lv_build_room(
            ctypes.byref(mask),
            ctypes.byref(room),
            (ctypes.c_int32 * 3)(*shift),
            ctypes.byref(reach),
            any_cell.data_ptr(),
            distance.data_ptr(),
        )
        return distance

    def pack(self, field: abi.Field) -> int:
        """Packs a field for the renderer; `release` frees it."""
        return int(self._lib.lv_prepare(ctypes.byref(field)))

    def release(self, handle: int) -> None:
        """Frees what `pack` returned."""
        self._lib.lv_release(handle)

    def render(
        self,
        tables: FieldTables,
        view: View,
        options: RenderOptions,
        buffers: FrameBuffers,
        control: RenderControl,
    ) -> bool:
        """Renders a view with threads while the interpreter runs on. Returns False if it was cancelled."""
        prepared = self.prepare(tables)
        packed = PackedOptions(self, tables, options)
        return bool(
            self._lib.lv_render(
                prepared.handle,
                ctypes.byref(_view(view)),
                ctypes.byref(packed.struct),
                ctypes.byref(_buffers(buffers)),
                ctypes.byref(_control(control)),
            )
        )

    def render_scalar(
        self, tables: FieldTables, view: View, options: RenderOptions, buffers: FrameBuffers
    ) -> None:
        """Renders a view with the code that the GPU runs, one ray after the other."""
        packed = PackedOptions(self, tables, options)
        self._lib.lv_render_scalar(
            ctypes.byref(self.prepare(tables).field),
            ctypes.byref(_view(view)),
            ctypes.byref(packed.struct),
            ctypes.byref(_buffers(buffers)),
        )

    @staticmethod
    def can_render(tables: FieldTables, options: RenderOptions) -> bool:
        """Whether `render` serves these options: edits and the NeRF branch do not go together."""
        return options.edits is None or options.nerf is NerfMode.OFF or tables.nerf is None

    def columns(self, tables: FieldTables, options: RenderOptions, grid: ColumnGrid) -> Columns:
        """Looks at the field from straight above, without edits."""
        prepared = self.prepare(tables)
        packed = PackedOptions(self, tables, replace(options, edits=None))
        height, opacity = torch.empty(grid.n_y, grid.n_x), torch.empty(grid.n_y, grid.n_x)
        features = torch.empty(grid.n_y, grid.n_x, prepared.field.feature_dim)
        struct = abi.ColumnsStruct(
            (ctypes.c_float * 2)(*grid.low),
            grid.side,
            grid.z_high,
            grid.step,
            grid.n_x,
            grid.n_y,
            n_samples(grid),
            height.data_ptr(),
            opacity.data_ptr(),
            features.data_ptr(),
        )
        self._lib.lv_columns(prepared.handle, ctypes.byref(packed.struct), ctypes.byref(struct))
        return Columns(height, opacity, features)

    def query(self, tables: FieldTables, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns density feature [n], sigma [n] and appearance feature [n, feature_dim] at points [n, 3]."""
        prepared = self.prepare(tables)
        points = points.contiguous()
        n = len(points)
        feature, sigma = torch.empty(n), torch.empty(n)
        appearance = torch.empty(n, prepared.field.feature_dim)
        self._lib.lv_query(
            ctypes.byref(prepared.field),
            n,
            points.data_ptr(),
            feature.data_ptr(),
            sigma.data_ptr(),
            appearance.data_ptr(),
        )
        return feature, sigma, appearance

    def decode(
        self, tables: FieldTables, features: Tensor, directions: Tensor, looks: Sequence[Tensor | None]
    ) -> Tensor:
        """Returns colours [n_looks, n, 3] of features [n, feature_dim] seen along directions [n, 3].

        `looks` are embeddings. The work is done with threads, while the interpreter runs on.
        """
        prepared = self.prepare(tables)
        features, directions = features.contiguous(), directions.contiguous()
        latents = torch.stack([_latent(tables.decoder, look) for look in looks])
        rgb = torch.empty(len(looks), len(features), 3)
        self._lib.lv_decode(
            prepared.handle,
            len(os.sched_getaffinity(0)),
            len(looks),
            latents.data_ptr(),
            len(features),
            features.data_ptr(),
            directions.data_ptr(),
            rgb.data_ptr(),
        )
        return rgb

    def _declare(self) -> None:
        pointer, void = ctypes.c_void_p, None
        signatures = {
            "lv_abi": (ctypes.c_int, [pointer]),
            "lv_build_mask": (void, [pointer] * 4),
            "lv_build_room": (void, [pointer] * 6),
            "lv_prepare": (pointer, [pointer]),
            "lv_release": (void, [pointer]),
            "lv_render": (ctypes.c_int, [pointer] * 5),
            "lv_render_scalar": (void, [pointer] * 4),
            "lv_columns": (void, [pointer] * 3),
            "lv_query": (void, [pointer, ctypes.c_int64] + [pointer] * 4),
            "lv_decode": (void, [pointer, *[ctypes.c_int] * 2, pointer, ctypes.c_int64] + [pointer] * 3),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._lib, name)
            function.restype, function.argtypes = result, arguments

    def _check(self) -> None:
        sizes = (ctypes.c_int32 * (1 + len(abi.STRUCTS)))()
        rounds_apart = self._lib.lv_abi(sizes)
        expected = [abi.ABI, *map(ctypes.sizeof, abi.STRUCTS)]
        if [*sizes] != expected:
            raise OSError(f"{self.path} must have ABI {expected}, got {[*sizes]}; delete it to rebuild it")
        if not rounds_apart:
            raise OSError(f"{self.path} must round products before sums; compile it with -ffp-contract=off")


class PreparedField:
    """An abi.Field over tables, with everything that it points to; lives in the tables' cache."""

    def __init__(self, library: Library, tables: FieldTables) -> None:
        self.library = library
        self.held: list[object] = []  # memory that the struct points to
        self.field = abi.Field()
        self._fill_planes(tables)
        self._fill_decoder(tables)
        if tables.occupancy is not None:
            self._fill_mask(tables.occupancy.nodes, tables.occupancy.aabb)
        if tables.nerf is not None:
            self._fill_nerf(tables, tables.nerf)
        self.handle = library.pack(self.field)
        weakref.finalize(self, library.release, self.handle)

    def _fill_planes(self, tables: FieldTables) -> None:
        field, first = self.field, next(block for block in tables.blocks if block is not None)
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
        field.density = self._tables(tables.blocks, "density_planes", "density_lines")
        field.appearance = self._tables(tables.blocks, "appearance_planes", "appearance_lines")
        if tables.density_basis is not None:
            field.nonlinear = 1
            field.density_basis = self._hold(
                _padded(tables.density_basis[None], tables.density_channels, tables.n_levels)
            )

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
        field.basis = self._hold(_padded(decoder.basis, tables.appearance_channels, tables.n_levels))
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
            products = _padded(weight[:, first : first + n], channels, tables.n_levels)
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
        size = nodes.shape[::-1]
        bricks = [n // 4 + 1 for n in size]  # n + 1 cells
        low, high = aabb.to(torch.float32)
        mask.nodes = self._hold(nodes.contiguous(), torch.uint8)
        mask.n, mask.bricks = (ctypes.c_int32 * 3)(*size), (ctypes.c_int32 * 3)(*bricks)
        mask.low = (ctypes.c_float * 3)(*low.tolist())
        mask.scale = (ctypes.c_float * 3)(*(1.0 / (high - low) * 2).tolist())
        any_cell = torch.empty(bricks[::-1], dtype=torch.int64)
        all_cell = torch.empty_like(any_cell)
        distance = torch.empty(bricks[::-1], dtype=torch.uint8)
        self.library.build_mask(mask, any_cell, all_cell, distance)
        mask.any, mask.all = self._hold(any_cell, torch.int64), self._hold(all_cell, torch.int64)
        mask.distance = self._hold(distance, torch.uint8)

    def _hold(self, tensor: Tensor, dtype: torch.dtype = torch.float32) -> int:
        tensor = tensor.detach().to(dtype).contiguous()
        self.held.append(tensor)
        return tensor.data_ptr()


class PackedOptions:
    """An abi.Options with the memory that it points to."""

    def __init__(self, library: Library, tables: FieldTables, options: RenderOptions) -> None:
        hull = options.sampling == "hull"
        n = options.n_importance if hull else options.n_samples
        self.fractions = torch.cat([torch.linspace(0, 1, n), torch.ones(abi.PAD)])
        self.nerf_fractions = torch.linspace(0, 1, options.nerf_n_importance)
        self.latent = _latent(tables.decoder, options.latent)
        self.struct = abi.Options(
            sampling=int(hull),
            quality=QUALITIES[options.quality],
            n=n,
            **march_fields(options, tables.occupancy is not None),
            cluster_weight=CLUSTER_WEIGHT,
            fast_weight=FAST_WEIGHT,
            fast_stop=FAST_STOP,
            fractions=self.fractions.data_ptr(),
            latent=self.latent.data_ptr(),
            nerf=NERF_MODES[options.nerf],
            nerf_n=options.nerf_n_importance,
            nerf_fractions=self.nerf_fractions.data_ptr(),
        )
        if options.edits is not None:
            self.edits = PreparedEdits.of(library, tables, options.edits)
            self.struct.edits = ctypes.addressof(self.edits.struct)


def march_fields(options: RenderOptions | TrainOptions, has_mask: bool) -> dict[str, Any]:
    """Returns the fields of abi.Options that rendering and training state alike."""
    return {
        "threads": options.n_threads,
        "use_mask": has_mask and options.mask_threshold >= 0,
        "near": options.near,
        "far": options.far,
        "step": options.step,
        "distance_scale": options.distance_scale,
        "weight_threshold": options.weight_threshold,
        "mask_threshold": options.mask_threshold,
        "background": (ctypes.c_float * 3)(*options.background),
    }


def _padded(weights: Tensor, channels: tuple[int, ...], n_levels: int) -> Tensor:
    """Spreads [n, n_levels * sum(channels)] to the padded channels of the tables; the new columns are 0."""
    columns = []
    first = 0
    for width in channels:
        for _ in range(n_levels):
            part = weights[:, first : first + width]
            columns.append(torch.nn.functional.pad(part, (0, -width % CHANNEL_MULTIPLE)))
            first += width
    return torch.cat(columns, dim=1)


def _latent(decoder: DecoderWeights, latent: Tensor | None) -> Tensor:
    if latent is None:
        return torch.zeros(max(decoder.latent_dim, 1))
    return latent.detach().to(torch.float32).contiguous()


def _view(view: View) -> abi.ViewStruct:
    c2w = np.ascontiguousarray(view.c2w, dtype=np.float32).reshape(-1)
    return abi.ViewStruct(
        (ctypes.c_float * 12)(*c2w.tolist()), view.fl_x, view.fl_y, view.cx, view.cy, view.width, view.height
    )


def _buffers(buffers: FrameBuffers) -> abi.Buffers:
    return abi.Buffers(
        buffers.rgb.data_ptr(),
        buffers.opacity.data_ptr(),
        buffers.depth.data_ptr(),
        buffers.median_depth.data_ptr(),
        None if buffers.normals is None else buffers.normals.data_ptr(),
    )


def _control(control: RenderControl) -> abi.Control:
    return abi.Control(
        control.order.ctypes.data,
        len(control.order),
        control.cancel_flag.ctypes.data,
        control.done_count.ctypes.data,
        control.tile_done.ctypes.data,
    )
