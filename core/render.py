"""Renderer, the one door through which window, still and film get their pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..cuda import ops
from ..cuda.edit_tables import ColumnGrid, Columns
from ..cuda.tables import (
    FieldTables,
    FrameBuffers,
    NerfMode,
    Quality,
    RayList,
    RenderControl,
    RenderOptions,
    View,
)
from ..cuda.tight import TightRoom
from .appearance import Appearance
from .camera import Camera
from .edits.compiled import CompiledEdits
from .errors import InputError
from .gridnerf import GridNeRF
from .rays import view_of
from .reference import render_reference
from .settings import Precision, Sampling
from .streaming.choice import stream_of
from .streaming.complete import CompletePicture, Completion, complete_columns, complete_probe, render_tiles
from .streaming.contracts import MemoryBudget, Variant

if TYPE_CHECKING:
    from .streaming.stream import FieldStream

T = TypeVar("T")


class Backend(str, Enum):
    """Which code renders; AUTO: the native kernels if they can be had, else the channel-last torch path."""

    AUTO = "auto"
    NATIVE = "native"
    TORCH = "torch"
    REFERENCE = "reference"


@dataclass(frozen=True)
class RenderSettings:
    """What is asked of one picture."""

    quality: Quality = Quality.EXACT
    appearance: Appearance = field(default_factory=Appearance)  # appearance; its grade acts on `Frame.rgb`
    edits: CompiledEdits | None = None  # made for this renderer; None: the field as it is
    background: tuple[float, float, float] | None = None  # None: white or black as the model says
    normals: bool = False  # also compute normals from the density gradient
    backend: Backend = Backend.AUTO
    threads: int = 0  # 0: all cores this process may use
    complete: bool = True  # of a streamed field: wait for every block that is read; else read coarse ones
    fades: bool = False  # of a streamed field that is not complete: blend in what has just come
    # Fast and clustered, on the host kernels: weight from which on further samples of a ray have a colour of
    # their own; None: fast has one colour per ray, clustered its usual weight.
    cluster_weight: float | None = None
    bfloat16: bool = False  # not exact: decode in bfloat16 where the processor can
    # Not exact: where to look for samples, as ops.tight_room returns it for the tables that are rendered.
    tight: TightRoom | None = None


@dataclass(frozen=True)
class Frame:
    """One rendered picture; arrays are float32 and share memory with the buffers."""

    camera: Camera
    buffers: FrameBuffers
    quality: Quality
    is_complete: bool  # False: cancelled, only the finished tiles are valid
    appearance: Appearance = field(default_factory=Appearance)
    lacking_share: float = 0.0  # share of the tiles asked for that read a coarse stand-in for a block
    cluster_weight: float | None = None  # as of RenderSettings
    bfloat16: bool = False  # as of RenderSettings

    @property
    def rgb(self) -> NDArray[np.float32]:
        """Colour in [0, 1], graded as the appearance says. [height, width, 3]"""
        return self.appearance.grade.apply(self.buffers.rgb).numpy()

    @property
    def opacity(self) -> NDArray[np.float32]:
        """Opacity in [0, 1]. [height, width]"""
        return self.buffers.opacity.numpy()

    @property
    def depth(self) -> NDArray[np.float32]:
        """Expected z-depth, scene units: the sum of weight times distance. [height, width]"""
        return self.buffers.depth.numpy()

    @property
    def median_depth(self) -> NDArray[np.float32]:
        """z-depth at which the accumulated opacity reaches 0.5, scene units; 0: never. [height, width]"""
        return self.buffers.median_depth.numpy()

    @property
    def normals(self) -> NDArray[np.float32] | None:
        """Unit normals in the world from the density gradient, if they were asked for. [height, width, 3]"""
        return None if self.buffers.normals is None else self.buffers.normals.numpy()


class Renderer:
    """Renders one model. Call `render` from one thread at a time.

    Its packed tables are made once, unless the model is a store or larger than the memory it may use: then
    its blocks are fetched as they are needed, and `stream` sees to that.
    """

    def __init__(
        self,
        model: GridNeRF,
        precision: Precision = Precision.AUTO,
        device: torch.device | str | None = None,
        memory: MemoryBudget | None = None,
    ) -> None:
        """`memory` says what blocks may use; None: as much as the machine has to spare."""
        self.model = model
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.stream: FieldStream | None = stream_of(model, precision, memory or MemoryBudget(), self.device)
        self._whole = None if self.stream else model.tables(precision, self.device)

    def close(self) -> None:
        """Ends the fetching of blocks; nothing can be rendered afterwards."""
        if self.stream:
            self.stream.close()

    @property
    def tables(self) -> FieldTables:
        """The field; of one that is streamed, what of it is in memory now. Then only for a moment's use."""
        if self.stream:
            return self.stream.residency.tables()
        assert self._whole is not None
        return self._whole

    @property
    def precision(self) -> Precision:
        """Number format of the packed planes."""
        dtype = self.tables.sample_block.density_planes[0].dtype
        return Precision.HALF if dtype == torch.float16 else Precision.FULL

    @property
    def backend_status(self) -> ops.BackendStatus:
        """Which code renders here, and why."""
        return ops.backend_status(self.device)

    def render(
        self,
        camera: Camera,
        settings: RenderSettings | None = None,
        control: RenderControl | None = None,
        buffers: FrameBuffers | None = None,
    ) -> Frame:
        """Renders a picture, tile by tile into `buffers`, until `control` cancels it.

        Raises:
            InputError: The appearance asks for a row that is not in the model's table; memory is too short;
                or a complete picture needs a block that cannot be read.
        """
        settings = settings or RenderSettings()
        edits = settings.edits
        model = edits.model if edits else self.model
        options = options_for(model, settings)
        if self.stream is not None:
            options = replace(options, chunk_tiles=self.stream.residency.plan.chunk_tiles)
        view = view_of(camera)
        control = control or RenderControl(camera.width, camera.height)
        if buffers is None:
            buffers = FrameBuffers.empty(camera.width, camera.height, settings.normals)
        if settings.backend is Backend.REFERENCE:
            sources = edits.sources if edits else ()
            complete = render_reference(model, view, options, buffers, control, self.device, sources)
        elif self.stream is None:
            tables = edits.tables if edits else self.tables
            complete = render_tiles(tables, view, options, buffers, control, settings.backend.value)
        elif settings.complete:
            complete = self._render_complete(self.stream, camera, options, buffers, control, settings)
        else:
            complete = self._render_once(self.stream, view, options, buffers, control, settings)
        lacking = control.tile_lacking[control.order]
        share = float(lacking.mean()) if len(lacking) else 0.0
        return Frame(
            camera,
            buffers,
            settings.quality,
            complete,
            settings.appearance,
            share,
            settings.cluster_weight,
            settings.bfloat16,
        )

    def can_render_rays(self, settings: RenderSettings) -> bool:
        """Whether `render_rays` serves: it needs the native kernels."""
        edits = settings.edits
        tables = edits.tables if edits else self.tables
        if self.device.type != "cpu":
            return False
        return ops.can_render_rays(tables, options_for(edits.model if edits else self.model, settings))

    def render_rays(
        self,
        camera: Camera,
        settings: RenderSettings,
        rays: RayList,
        buffers: FrameBuffers,
        control: RenderControl | None = None,
    ) -> bool:
        """Renders single pixels with what of the field is in memory; never waits for blocks.

        Args:
            camera: Where from.
            settings: How; the native kernels serve, whatever `backend` says.
            rays: Which pixels, and where their rays may start.
            buffers: Output in the order of the list, as `rays.buffers()` makes them.
            control: Cancelling, progress and feedback, as `rays.control()` makes it.

        Returns:
            False if it was cancelled; then only the packs marked done are valid.
        """
        edits = settings.edits
        options = options_for(edits.model if edits else self.model, settings)
        if self.stream is not None:
            tables = self.stream.residency.tables(edits.variants if edits else ())
            if settings.fades:
                options = replace(options, fade=self.stream.residency.fade(time.monotonic()))
        else:
            tables = edits.tables if edits else self.tables
        return ops.render_rays(tables, view_of(camera), options, rays, buffers, control)

    def columns(self, options: RenderOptions, grid: ColumnGrid, variants: Sequence[Variant] = ()) -> Columns:
        """Looks at the field from straight above as `ops.columns` does, whatever of it is in memory.

        Raises:
            InputError: Of a streamed field, a block cannot be read or does not fit into memory.
        """
        if self.stream is None:
            return ops.columns(self.tables, options, grid)
        return complete_columns(Completion(self.stream.residency, variants), options, grid)

    def probe(self, points: Tensor, variants: Sequence[Variant] = ()) -> ops.Probe:
        """Returns what the field holds at points in scene units [n, 3], whatever of it is in memory.

        Raises:
            InputError: Of a streamed field, a block cannot be read or does not fit into memory.
        """
        if self.stream is None:
            return ops.probe(self.tables, points)
        return complete_probe(Completion(self.stream.residency, variants), points)

    def _render_complete(
        self,
        stream: FieldStream,
        camera: Camera,
        options: RenderOptions,
        buffers: FrameBuffers,
        control: RenderControl,
        settings: RenderSettings,
    ) -> bool:
        _check_detail(stream)
        variants = settings.edits.variants if settings.edits else ()
        completion = Completion(stream.residency, variants, lambda: control.is_cancelled)
        backend = settings.backend.value
        return CompletePicture(completion, view_of(camera), options, buffers, control, backend).render()

    @staticmethod
    def _render_once(
        stream: FieldStream,
        view: View,
        options: RenderOptions,
        buffers: FrameBuffers,
        control: RenderControl,
        settings: RenderSettings,
    ) -> bool:
        variants = settings.edits.variants if settings.edits else ()
        tables = stream.residency.tables(variants)
        if settings.fades:
            options = replace(options, fade=stream.residency.fade(time.monotonic()))
        return render_tiles(tables, view, options, buffers, control, settings.backend.value)


def _check_detail(stream: FieldStream) -> None:
    """Raises InputError where memory is so short that blocks are not what the field holds."""
    plan = stream.residency.plan
    if plan.drop_levels or "half precision" in plan.said:
        raise InputError(
            "memory.device must have room for at least one block in full detail to make a complete picture, "
            f"got {stream.status().device_budget / 1e6:.1f} MB; raise it, or set model.precision to half"
        )


def options_for(model: GridNeRF, settings: RenderSettings) -> RenderOptions:
    """Joins what the model says of itself and what is asked of the picture."""
    stated = model.settings
    nerf = NerfMode.OFF
    if stated.run_nerf and model.nerf is not None:
        nerf = NerfMode.RESIDUAL if stated.residual_nerf else NerfMode.ALONE
    if nerf is not NerfMode.OFF and _known(stated.n_importance) < 3:
        raise InputError(
            f"model.n_importance must be at least 3 with model.run_nerf, got {stated.n_importance}"
        )
    # The NeRF branch is defined on hull samples without a mask threshold (its training forward).
    hull = stated.sampling is Sampling.HULL or nerf is not NerfMode.OFF
    white = (1.0, 1.0, 1.0) if stated.white_background else (0.0, 0.0, 0.0)
    return RenderOptions(
        sampling="hull" if hull else "box",
        near=model.near_far[0],
        far=model.near_far[1],
        step=float(model.step),
        n_samples=model.n_samples,
        n_importance=_known(stated.n_importance),
        distance_scale=model.distance_scale,
        weight_threshold=model.weight_threshold,
        mask_threshold=0.0 if nerf is not NerfMode.OFF else _known(stated.alpha_mask_threshold),
        background=settings.background or white,
        latent=settings.appearance.embedding(model.embedding),
        quality=settings.quality,
        nerf=nerf,
        nerf_n_importance=_known(stated.nerf_n_importance),
        normals=settings.normals,
        threads=settings.threads,
        edits=settings.edits.edits if settings.edits else None,
        cluster_weight=settings.cluster_weight,
        tight=settings.tight,
        bfloat16=settings.bfloat16,
    )


def check_code(model: GridNeRF, code: int, where: str = "appearance.code") -> None:
    """Raises InputError unless `code` is a row of the model's appearance table (or 0 where it has none)."""
    Appearance.of(code).embedding(model.embedding, where)


def _known(value: T | None) -> T:
    assert value is not None, "a model's settings are complete"
    return value
