"""scene.yaml, version 1, as frozen dataclasses; the fields themselves say what they accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from ..core.camera import Matrix
from ..core.errors import InputError
from ..core.settings import ModelSettings, Precision, Sampling
from ..core.training.settings import TrainSettings
from .datasets.dataset import DatasetOptions
from .kinds import (
    ANGLE,
    CODE,
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
    Section,
    Table,
    Vector,
    member_of,
    whole,
)
from .training_sections import DATASET, TRAIN

VERSION = 1
MAX_NAMED = 16  # keys that one error message lists

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
class AppearanceSpec:
    """How the scene is lit."""

    code: Annotated[int, CODE] = 0  # row of the appearance table
    styles: Annotated[tuple[tuple[str, int], ...], Table(CODE)] = ()  # named rows: name, code


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
    appearance: AppearanceSpec = field(default_factory=AppearanceSpec)
    frame: FrameSpec = field(default_factory=FrameSpec)
    camera: CameraSpec = field(default_factory=CameraSpec)
    background: Annotated[Vector | None, COLOR] = None  # sRGB; None: see white_background
    dataset: Annotated[DatasetOptions | None, DATASET] = None  # photographs; paths as of model
    train: Annotated[TrainSettings | None, TRAIN] = None  # how a field is trained on them


def scene_from_mapping(data: Any, where: str) -> SceneSpec:
    """Checks what a scene file holds; `where` starts every error message.

    Raises:
        InputError: A key is unknown or missing, or has a value that its field does not accept.
    """
    spec: SceneSpec = _build(section_of(SceneSpec), data, where, "")
    return spec


def section_of(part: type) -> Section:
    """Returns what the fields of one of the dataclasses above accept."""
    accepted = {}
    for name, hint in get_type_hints(part, include_extras=True).items():
        accepted[name] = hint.__metadata__[0] if hasattr(hint, "__metadata__") else section_of(hint)
    return Section(part, accepted)


def _build(section: Section, data: Any, where: str, prefix: str) -> Any:
    """Makes the dataclass of a section from a mapping; `prefix` is its key path and a dot."""
    _check_mapping(data, where, prefix.rstrip("."))
    for key in data:
        if key not in section.accepted:
            raise InputError(f"{where}: {unknown_key(prefix, key, section.accepted)}")
    values = {}
    for its in fields(section.of):
        kind, value, path = section.accepted[its.name], data.get(its.name), f"{prefix}{its.name}"
        if value is None:
            if its.default is MISSING and its.default_factory is MISSING:
                expected = kind.expected if isinstance(kind, Kind) else "a mapping of keys to values"
                raise InputError(f"{where}: {path} must be {expected}, got nothing")
        elif isinstance(kind, Kind):
            values[its.name] = _parse(kind, value, f"{where}: {path}")
        elif isinstance(kind, Table):
            values[its.name] = _pairs(kind.of, value, where, path)
        else:
            values[its.name] = _build(kind, value, where, f"{path}.")
    made = section.of(**values)
    if problem := getattr(made, "problem", None):
        raise InputError(f"{where}: {prefix.rstrip('.')} {problem}")
    return made


def _pairs(kind: Kind, data: Any, where: str, path: str) -> tuple[tuple[str, Any], ...]:
    _check_mapping(data, where, path)
    for name in data:
        if not isinstance(name, str):
            raise InputError(f"{where}: {path} must have text as keys, got {show(name)}; put it in quotes")
    return tuple((name, _parse(kind, value, f"{where}: {path}.{name}")) for name, value in data.items())


def _check_mapping(data: Any, where: str, path: str) -> None:
    if not isinstance(data, Mapping):
        raise InputError(
            f"{where}: {path or 'the file'} must be a mapping of keys to values, got {show(data)}"
        )


def _parse(kind: Kind, value: Any, where: str) -> Any:
    try:
        return kind.parse(value)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{where} must be {kind.expected}, got {show(value)}") from None


def unknown_key(prefix: str, key: Any, known: Mapping[str, Any]) -> str:
    """Says that a key is unknown, and names the nearest known one."""
    near = get_close_matches(str(key), known, n=1, cutoff=0.5 if len(known) <= MAX_NAMED else 0.0)
    advice = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown key {prefix}{_clip(str(key))}; {advice}"


def show(value: Any) -> str:
    """Writes a value for an error message, in few characters."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    try:
        return _clip(repr(value))
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a huge number"


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
