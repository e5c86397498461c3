"""The host library behind ctypes: describes tables to it once, then renders and probes."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import abi, build, warp_abi
from .columns import n_samples
from .edit_native import PreparedEdits
from .edit_tables import ColumnGrid, Columns
from .field_native import PreparedField, mask_of
from .loading import Loader
from .stream_native import Snapshot
from .tables import (
    DecoderWeights,
    FieldTables,
    FrameBuffers,
    NerfMode,
    Quality,
    RayList,
    RenderControl,
    RenderOptions,
    View,
)
from .train_tables import TrainOptions

CACHE_KEY = "native"
CLUSTER_WEIGHT = 0.3  # clustered: weight that the samples of one decoder evaluation hold together
WHOLE_RAY = 2.0  # more than the samples of a ray weigh
FAST_WEIGHT = 0.02  # fast: weight that the samples of one lookup hold together
FAST_STOP = 0.01  # fast: transmittance at which a ray counts as opaque
NERF_MODES = {NerfMode.OFF: 0, NerfMode.ALONE: 1, NerfMode.RESIDUAL: 2}
Signatures = dict[str, tuple[Any, list[Any]]]
POINTER, VOID, INT, FLOAT = ctypes.c_void_p, None, ctypes.c_int, ctypes.c_float
HOST: Signatures = {
    "lv_abi": (INT, [POINTER]),
    "lv_has_bfloat16": (INT, []),
    "lv_build_mask": (VOID, [POINTER] * 4),
    "lv_build_room": (VOID, [POINTER] * 6),
    "lv_fill_distance": (VOID, [POINTER] * 2),
    "lv_prepare": (POINTER, [POINTER] * 2),
    "lv_release": (VOID, [POINTER]),
    "lv_render": (INT, [POINTER] * 5),
}
EDITED: Signatures = {"lv_render_edited": (INT, [POINTER] * 5)}
NERF: Signatures = {"lv_render_nerf": (INT, [POINTER] * 5)}
PROBE: Signatures = {
    "lv_tight_cells": (INT, [POINTER] * 2 + [FLOAT, INT, INT] + [POINTER] * 2),
    "lv_columns": (VOID, [POINTER] * 3),
    "lv_query": (VOID, [POINTER, ctypes.c_int64] + [POINTER] * 5),
    "lv_decode": (VOID, [POINTER, INT, INT, POINTER, ctypes.c_int64] + [POINTER] * 3),
}
SCALAR: Signatures = {"lv_render_scalar": (VOID, [POINTER] * 4)}
PARTS = {  # and their uses
    "probe": "probes",
    "edited": "edits",
    "nerf": "the NeRF branch",
    "warp": "moving pictures",
    "scalar": "comparisons",
}
QUALITIES = {Quality.EXACT: 0, Quality.CLUSTERED: 1, Quality.FAST: 2}


class Library:
    """A loaded host library; what it lacks is in parts that are loaded when something needs them."""

    def __init__(self, path: Path, level: str | None = None) -> None:
        """`level` is what the library was built for, as `build.build` has it."""
        self.path = path
        self.level = level or build.cpu_level(build.find_compiler())
        self._lib = ctypes.CDLL(str(path))
        _declare(self._lib, HOST)
        self._check()
        self._parts = {
            name: Loader(name, partial(_open_part, name), use, self.level) for name, use in PARTS.items()
        }

    def has(self, part: str) -> bool:
        """Whether `part` can serve; builds it if that was not tried yet."""
        return not isinstance(self._parts[part].get(), str)

    def part(self, name: str) -> ctypes.CDLL:
        """Returns the entry points of one of PARTS, their types declared.

        Raises:
            RuntimeError: It cannot be had.
        """
        found = self._parts[name].get()
        if isinstance(found, str):
            raise RuntimeError(f"the native kernels were asked for, but {found}")
        return found

    @property
    def has_bfloat16(self) -> bool:
        """Whether it decodes in bfloat16 where `RenderOptions.bfloat16` asks for it."""
        return bool(self._lib.lv_has_bfloat16())

    def prepare(self, tables: FieldTables) -> PreparedField:
        """Returns the library's view of the tables, made on first use and kept in their cache."""
        prepared = tables.cache.get(CACHE_KEY)
        if not isinstance(prepared, PreparedField) or prepared.library is not self:
            prepared = PreparedField(self, tables) if tables.stream is None else Snapshot(self, tables)
            tables.cache[CACHE_KEY] = prepared
        return prepared

    def build_mask(self, mask: abi.Mask, any_cell: Tensor, all_cell: Tensor, distance: Tensor | None) -> None:
        """Fills the brick tables of a mask from its vertices."""
        self._lib.lv_build_mask(
            ctypes.byref(mask),
            any_cell.data_ptr(),
            all_cell.data_ptr(),
            None if distance is None else distance.data_ptr(),
        )

    def mask_bricks(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the brick tables of vertices; see `ops.mask_bricks`."""
        mask, bricks = mask_of(nodes)
        any_cell = torch.empty(bricks, dtype=torch.int64)
        all_cell = torch.empty_like(any_cell)
        self.build_mask(mask, any_cell, all_cell, None)
        return any_cell, all_cell

    def fill_distance(self, mask: abi.Mask, distance: Tensor) -> None:
        """Fills the distances of a mask from its cells."""
        self._lib.lv_fill_distance(ctypes.byref(mask), distance.data_ptr())

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

    def tight_cells(
        self,
        field: PreparedField,
        mask: abi.Mask,
        least_sigma: float,
        parts: int,
        threads: int,
        cancel: np.ndarray,
        any_cell: Tensor,
    ) -> bool:
        """Fills `any_cell` with the cells of a mask that hold something. Returns False if cancelled."""
        return bool(
            self.part("probe").lv_tight_cells(
                field.handle,
                ctypes.byref(mask),
                least_sigma,
                parts,
                threads,
                cancel.ctypes.data,
                any_cell.data_ptr(),
            )
        )

    def pack(self, field: abi.Field, like: int | None = None) -> int:
        """Packs a field for the renderer, with the decoder of `like` if given; `release` frees it."""
        return int(self._lib.lv_prepare(ctypes.byref(field), like))

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
        rays: RayList | None = None,
    ) -> bool:
        """Renders a view, or some rays of it, with threads while the interpreter runs on.

        Returns False if it was cancelled.
        """
        prepared = self.prepare(tables)
        packed = PackedOptions(self, tables, options)
        listed = None
        if rays is not None:
            listed = abi.Rays(rays.pixels.ctypes.data, _address(rays.start), len(rays.pixels))
        render = self._lib.lv_render
        if options.edits is not None:
            render = self.part("edited").lv_render_edited
        elif packed.struct.nerf and tables.nerf is not None:
            render = self.part("nerf").lv_render_nerf
        return bool(
            render(
                prepared.handle,
                ctypes.byref(view_struct(view)),
                ctypes.byref(packed.struct),
                ctypes.byref(buffers_struct(buffers)),
                ctypes.byref(_control(control, listed)),
            )
        )

    def render_scalar(
        self, tables: FieldTables, view: View, options: RenderOptions, buffers: FrameBuffers
    ) -> None:
        """Renders a view with the code that the GPU runs, one ray after the other."""
        packed = PackedOptions(self, tables, options)
        self.part("scalar").lv_render_scalar(
            ctypes.byref(self.prepare(tables).field),
            ctypes.byref(view_struct(view)),
            ctypes.byref(packed.struct),
            ctypes.byref(buffers_struct(buffers)),
        )

    def can_render(self, tables: FieldTables, options: RenderOptions) -> bool:
        """Whether `render` serves these options: edits and the NeRF branch do not go together."""
        has_nerf = options.nerf is not NerfMode.OFF and tables.nerf is not None
        if options.edits is None:
            return not has_nerf or self.has("nerf")
        return not has_nerf and self.has("edited")

    def columns(
        self,
        tables: FieldTables,
        options: RenderOptions,
        grid: ColumnGrid,
        lacking: np.ndarray | None = None,
    ) -> Columns:
        """Looks at the field from straight above, without edits. lacking: as for `query`"""
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
            _address(lacking),
        )
        self.part("probe").lv_columns(prepared.handle, ctypes.byref(packed.struct), ctypes.byref(struct))
        return Columns(height, opacity, features)

    def query(
        self, tables: FieldTables, points: Tensor, lacking: np.ndarray | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns density feature [n], sigma [n] and appearance feature [n, feature_dim] at points [n, 3].

        lacking: uint8 [n_blocks], becomes 1 for blocks that were read but are not resident.
        """
        prepared = self.prepare(tables)
        points = points.contiguous()
        n = len(points)
        feature, sigma = torch.empty(n), torch.empty(n)
        appearance = torch.empty(n, prepared.field.feature_dim)
        self.part("probe").lv_query(
            ctypes.byref(prepared.field),
            n,
            points.data_ptr(),
            feature.data_ptr(),
            sigma.data_ptr(),
            appearance.data_ptr(),
            _address(lacking),
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
        self.part("probe").lv_decode(
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

    def _check(self) -> None:
        sizes = (ctypes.c_int32 * (1 + len(abi.STRUCTS)))()
        rounds_apart = self._lib.lv_abi(sizes)
        expected = [abi.ABI, *map(ctypes.sizeof, abi.STRUCTS)]
        if [*sizes] != expected:
            raise OSError(f"{self.path} must have ABI {expected}, got {[*sizes]}; delete it to rebuild it")
        if not rounds_apart:
            raise OSError(f"{self.path} must round products before sums; compile it with -ffp-contract=off")


def _declare(library: ctypes.CDLL, signatures: Signatures) -> None:
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def _open_part(name: str, path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    if name == "warp":
        warp_abi.declare(library)
    else:
        _declare(library, {"probe": PROBE, "edited": EDITED, "nerf": NERF, "scalar": SCALAR}[name])
    return library


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
            **march_fields(options, tables.has_mask),
            cluster_weight=_cluster_weight(options),
            fast_weight=FAST_WEIGHT,
            fast_stop=FAST_STOP,
            fractions=self.fractions.data_ptr(),
            latent=self.latent.data_ptr(),
            nerf=NERF_MODES[options.nerf],
            nerf_n=options.nerf_n_importance,
            nerf_fractions=self.nerf_fractions.data_ptr(),
            bfloat16=options.bfloat16,
        )
        if options.fade is not None and tables.stream is not None:
            self.struct.fade = options.fade.data_ptr()
        if options.edits is not None:
            self.edits = PreparedEdits.of(library, tables, options.edits)
            self.struct.edits = ctypes.addressof(self.edits.struct)
        if options.tight is not None:
            self.tight = options.tight.mask if options.edits is None else self.edits.tight_room(options.tight)
            self.struct.tight = ctypes.addressof(self.tight)


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


def _latent(decoder: DecoderWeights, latent: Tensor | None) -> Tensor:
    if latent is None:
        return torch.zeros(max(decoder.latent_dim, 1))
    return latent.detach().to(torch.float32).contiguous()


def view_struct(view: View) -> abi.ViewStruct:
    """Returns a view as the library reads it."""
    c2w = np.ascontiguousarray(view.c2w, dtype=np.float32).reshape(-1)
    return abi.ViewStruct(
        (ctypes.c_float * 12)(*c2w.tolist()), view.fl_x, view.fl_y, view.cx, view.cy, view.width, view.height
    )


def buffers_struct(buffers: FrameBuffers) -> abi.Buffers:
    """Returns buffers as the library reads them; they must outlive that."""
    return abi.Buffers(
        buffers.rgb.data_ptr(),
        buffers.opacity.data_ptr(),
        buffers.depth.data_ptr(),
        buffers.median_depth.data_ptr(),
        None if buffers.normals is None else buffers.normals.data_ptr(),
        None if buffers.front is None else buffers.front.data_ptr(),
    )


def _cluster_weight(options: RenderOptions) -> float:
    if options.cluster_weight is not None:
        return options.cluster_weight
    return WHOLE_RAY if options.quality is Quality.FAST else CLUSTER_WEIGHT


def _control(control: RenderControl, rays: abi.Rays | None) -> abi.Control:
    return abi.Control(
        None if rays is None else ctypes.addressof(rays),
        control.order.ctypes.data,
        len(control.order),
        control.cancel_flag.ctypes.data,
        control.done_count.ctypes.data,
        control.tile_done.ctypes.data,
        control.tile_lacking.ctypes.data,
        _address(control.needs),
        _address(control.lacking),
    )


def _address(array: np.ndarray | None) -> int | None:
    return None if array is None else array.ctypes.data
