"""scene.yaml, version 1, as frozen dataclasses; the fields themselves say what they accept."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from ..core.camera import Matrix
from ..core.edits.layers import Stack
from ..core.measure import Measurement
from ..core.settings import ModelSettings, Precision, Sampling
from ..core.streaming.contracts import MemoryBudget
from ..core.training.settings import TrainSettings
from .datasets.dataset import DatasetOptions
from .edit_sections import EDITS, MEASUREMENTS, SCENE_APPEARANCE, AppearanceSpec, numbered
from .kinds import (
    ANGLE,
    COLOR,
    DIVISION,
    EPSG,
    FILE,
    FLAG,
    POSITIVE,
    RANGE,
    SAMPLES,
    SIMILARITY,
    TEXT,
    THRESHOLD,
    VECTOR,
    Kind,
    Vector,
    member_of,
    whole,
)
from .memory_section import MEMORY
from .sections import read, section_of, write
from .training_sections import DATASET, TRAIN

VERSION = 1

_VERSION = Kind(f"{VERSION}, the version that this program reads", whole(VERSION, VERSION))


@dataclass(frozen=True)
class ModelSpec:
    """Which field is shown, and what its checkpoint does not say of itself. None: not stated."""

    checkpoint: Annotated[Path | None, FILE] = None  # .th or folder with one; relative to this file
    config: Annotated[Path | None, FILE] = None  # LandMark's config.txt; relative to this file
    white_background: Annotated[bool | None, FLAG] = None  # behind the field: white, else black
    sampling: Annotated[Sampling | None, member_of(Sampling)] = None  # where samples lie along a ray
    n_importance: Annotated[int | None, SAMPLES] = None  # samples per ray, hull sampling
    nerf_n_importance: Annotated[int | None, SAMPLES] = None  # further samples per ray, NeRF branch
    alpha_mask_threshold: Annotated[float | None, THRESHOLD] = None  # samples above it are kept; -1: all are
    plane_division: Annotated[tuple[int, int] | None, DIVISION] = None  # blocks along x and y
    near_far: Annotated[tuple[float, float] | None, RANGE] = None  # z-depth of a ray's ends, scene units
    run_nerf: Annotated[bool | None, FLAG] = None  # evaluate the NeRF branch
    residual_nerf: Annotated[bool | None, FLAG] = None  # NeRF branch is added to the grid, else replaces it
    precision: Annotated[Precision, member_of(Precision)] = Precision.AUTO  # of planes in memory

    @property
    def settings(self) -> ModelSettings:
        """The part that the checkpoint reader asks for."""
        return ModelSettings(**{f.name: getattr(self, f.name) for f in fields(ModelSettings)})


@dataclass(frozen=True)
class FrameSpec:
    """Where the scene lies on Earth."""

    metres_per_unit: Annotated[float | None, POSITIVE] = None  # metres per scene unit
    epsg: Annotated[int | None, EPSG] = None  # map projection of origin
    origin: Annotated[Vector, VECTOR] = (0.0, 0.0, 0.0)  # map coordinates of the scene's (0, 0, 0), metres
    scene_from_source: Annotated[Matrix | None, SIMILARITY] = None  # coordinates of the photographs -> scene


@dataclass(frozen=True)
class CameraSpec:
    """The view that the scene opens with; without eye and target, one is made from the bounding box."""

    eye: Annotated[Vector | None, VECTOR] = None  # scene units
    target: Annotated[Vector | None, VECTOR] = None  # scene units; the point that orbiting turns about
    fov_y: Annotated[float, ANGLE] = 50.0  # vertical field of view, degrees

    @property
    def problem(self) -> str | None:
        """What is wrong between the fields."""
        if (self.eye is None) != (self.target is None):
            return "must have both eye and target, or neither"
        if self.eye is not None and self.eye == self.target:
            return f"must have a target that differs from eye, got {list(self.eye)} for both"
        return None


@dataclass(frozen=True)
class SceneSpec:
    """One scene.yaml."""

    version: Annotated[int, _VERSION]  # of this format
    name: Annotated[str, TEXT] = ""  # title; "": the file's name
    model: ModelSpec = field(default_factory=ModelSpec)
    appearance: Annotated[AppearanceSpec, SCENE_APPEARANCE] = field(default_factory=AppearanceSpec)
    frame: FrameSpec = field(default_factory=FrameSpec)
    camera: CameraSpec = field(default_factory=CameraSpec)
    background: Annotated[Vector | None, COLOR] = None  # sRGB; None: see white_background
    memory: Annotated[MemoryBudget, MEMORY] = field(default_factory=MemoryBudget)  # of a streamed field
    dataset: Annotated[DatasetOptions | None, DATASET] = None  # photographs; paths as of model
    train: Annotated[TrainSettings | None, TRAIN] = None  # how a field is trained on them
    edits: Annotated[Stack, EDITS] = ()  # layers, the last one on top; paths as of model
    measurements: Annotated[tuple[Measurement, ...], MEASUREMENTS] = ()  # annotations


def scene_from_mapping(data: Any, where: str) -> SceneSpec:
    """Checks what a scene file holds; `where` starts every error message.

    Raises:
        InputError: A key is unknown or missing, or has a value that its field does not accept.
    """
    spec: SceneSpec = read(section_of(SceneSpec), data, where)
    return replace(spec, edits=numbered(spec.edits))


def scene_to_mapping(spec: SceneSpec) -> dict[str, Any]:
    """Returns the mapping that `scene_from_mapping` reads back as `spec`."""
    mapping: dict[str, Any] = write(section_of(SceneSpec), spec)
    return mapping
