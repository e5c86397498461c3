"""Renderer, the one door through which window, still and film get their pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..cuda import ops
from ..cuda.tables import FieldTables, FrameBuffers, NerfMode, Quality, RenderControl, RenderOptions
from .appearance import Appearance
from .camera import Camera
from .edits.compiled import CompiledEdits
from .errors import InputError
from .gridnerf import GridNeRF
from .rays import view_of
from .reference import render_reference
from .settings import Precision, Sampling

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
    complete: bool = (
        True  # of a streamed field: wait for every block that the picture reads; else coarse ones
    )


@dataclass(frozen=True)
class Frame:
    """One rendered picture; arrays are float32 and share memory with the buffers."""

    camera: Camera
    buffers: FrameBuffers
    quality: Quality
    is_complete: bool  # False: cancelled, only the finished tiles are valid
    appearance: Appearance = field(default_factory=Appearance)

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
    """Renders one model; the packed tables are made once. Call `render` from one thread at a time."""

    def __init__(
        self, model: GridNeRF, precision: Precision = Precision.AUTO, device: torch.device | str | None = None
    ) -> None:
        self.model = model
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.tables: FieldTables = model.tables(precision, self.device)

    @property
    def precision(self) -> Precision:
        """Number format of the packed planes."""
        held = next(block for block in self.tables.blocks if block is not None)
        return Precision.HALF if held.density_planes[0].dtype == torch.float16 else Precision.FULL

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
            InputError: The appearance asks for a row that is not in the model's table.
        """
        settings = settings or RenderSettings()
        edits = settings.edits
        model, tables = (edits.model, edits.tables) if edits else (self.model, self.tables)
        options = options_for(model, settings)
        view = view_of(camera)
        if buffers is None:
            buffers = FrameBuffers.empty(camera.width, camera.height, settings.normals)
        if settings.backend is Backend.REFERENCE:
            sources = edits.sources if edits else ()
            complete = render_reference(model, view, options, buffers, control, self.device, sources)
        else:
            complete = ops.render(tables, view, options, buffers, control, settings.backend.value)
        return Frame(camera, buffers, settings.quality, complete, settings.appearance)


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
    )


def check_code(model: GridNeRF, code: int, where: str = "appearance.code") -> None:
    """Raises InputError unless `code` is a row of the model's appearance table (or 0 where it has none)."""
    Appearance.of(code).embedding(model.embedding, where)


def _known(value: T | None) -> T:
    assert value is not None, "a model's settings are complete"
    return value
