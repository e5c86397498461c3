"""scene.yaml, version 1, as frozen dataclasses; the fields themselves say what they accept."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

from ..core.camera import LARGEST
from ..core.errors import InputError
from ..core.settings import ModelSettings, Precision, Sampling
from .landmark_config import MAX_BLOCKS, MAX_SAMPLES

VERSION = 1
Vector = tuple[float, float, float]
S = TypeVar("S")


@dataclass(frozen=True)
class Kind:
    """What a field accepts: `parse` returns the value, or raises ValueError or TypeError."""

    expected: str  # how the error message completes "must be"
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class Table:
    """Accepts a mapping of names to values of one kind, which is held as pairs."""

    of: Kind


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError
    return float(value)


def _whole(low: int, high: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return parse


def _between(low: float, high: float) -> Callable[[Any], float]:
    """Makes a parser for the open interval (low, high)."""

    def parse(value: Any) -> float:
        if not low < _number(value) < high:
            raise ValueError
        return float(value)

    return parse


def _exactly(type_: type[S]) -> Callable[[Any], S]:
    def parse(value: Any) -> S:
        if not isinstance(value, type_):
            raise TypeError
        return value

    return parse


def _file_name(value: Any) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise TypeError
    return Path(value)


def _vector(value: Any) -> Vector:
    x, y, z = _sequence(value)
    return _number(x), _number(y), _number(z)


def _range(value: Any) -> tuple[float, float]:
    near, far = (_number(v) for v in _sequence(value))
    if not 0 <= near < far:
        raise ValueError
    return near, far


def _division(value: Any) -> tuple[int, int]:
    columns, rows = (_whole(1, MAX_BLOCKS)(v) for v in _sequence(value))
    return columns, rows


def _sequence(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _threshold(value: Any) -> float:
    if not -1 <= _number(value) < 1:
        raise ValueError
    return float(value)


def _color(value: Any) -> Vector:
    if isinstance(value, str):
        if value in ("white", "black"):
            return (1.0, 1.0, 1.0) if value == "white" else (0.0, 0.0, 0.0)
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ValueError
        red, green, blue = bytes.fromhex(value[1:])
        return red / 255, green / 255, blue / 255
    color = _vector(value)
    if min(color) < 0 or max(color) > 1:
        raise ValueError
    return color


def _choice(kind: type[Enum]) -> Kind:
    return Kind(" or ".join(str(member.value) for member in kind), kind)


_FLAG = Kind("true or false", _exactly(bool))
_TEXT = Kind("text", _exactly(str))
_FILE = Kind("a file name", _file_name)
_VECTOR = Kind("three finite numbers such as [0, 0, 1]", _vector)
_SAMPLES = Kind(f"a whole number from 1 to {MAX_SAMPLES}", _whole(1, MAX_SAMPLES))
_THRESHOLD = Kind("a number from -1 to below 1", _threshold)
_DIVISION = Kind(f"two whole numbers from 1 to {MAX_BLOCKS} such as [2, 2]", _division)
_RANGE = Kind("two numbers with 0 <= near < far", _range)
_POSITIVE = Kind("a positive number", _between(0, math.inf))
_ANGLE = Kind("in (0, 180) degrees", _between(0, 180))
_CODE = Kind("a whole number, 0 or more", _whole(0, 2**31))
_EPSG = Kind("an EPSG code from 1024 to 32767", _whole(1024, 32767))
_COLOR = Kind("white, black, '#rrggbb' or three numbers from 0 to 1", _color)
_VERSION = Kind(f"{VERSION}, the version that this program reads", _whole(VERSION, VERSION))


@dataclass(frozen=True)
class ModelSpec:
    """Which field is shown, and what its checkpoint does not say of itself. None: not stated."""

    checkpoint: Annotated[Path | None, _FILE] = None  # .th or folder with one; relative to this file
    config: Annotated[Path | None, _FILE] = None  # LandMark's config.txt; relative to this file
    white_background: Annotated[bool | None, _FLAG] = None  # behind the field: white, else black
    sampling: Annotated[Sampling | None, _choice(Sampling)] = None  # where samples lie along a ray
    n_importance: Annotated[int | None, _SAMPLES] = None  # samples per ray, hull sampling
    nerf_n_importance: Annotated[int | None, _SAMPLES] = None  # further samples per ray, NeRF branch
    alpha_mask_threshold: Annotated[float | None, _THRESHOLD] = None  # samples above it are kept; -1: all are
    plane_division: Annotated[tuple[int, int] | None, _DIVISION] = None  # blocks along x and y
    near_far: Annotated[tuple[float, float] | None, _RANGE] = None  # z-depth of a ray's ends, scene units
    run_nerf: Annotated[bool | None, _FLAG] = None  # evaluate the NeRF branch
    residual_nerf: Annotated[bool | None, _FLAG] = None  # NeRF branch is added to the grid, else replaces it
    precision: Annotated[Precision, _choice(Precision)] = Precision.AUTO  # number format of planes in memory

    @property
    def settings(self) -> ModelSettings:
        """The part that the checkpoint reader asks for."""
        return ModelSettings(**{f.name: getattr(self, f.name) for f in fields(ModelSettings)})


@dataclass(frozen=True)
class AppearanceSpec:
    """How the scene is lit."""

    code: Annotated[int, _CODE] = 0  # row of the appearance table
    styles: Annotated[tuple[tuple[str, int], ...], Table(_CODE)] = ()  # named rows: name, code


@dataclass(frozen=True)
class FrameSpec:
    """Where the scene lies on Earth."""

    metres_per_unit: Annotated[float | None, _POSITIVE] = None  # metres per scene unit
    epsg: Annotated[int | None, _EPSG] = None  # map projection of origin
    origin: Annotated[Vector, _VECTOR] = (0.0, 0.0, 0.0)  # map coordinates of the scene's (0, 0, 0), metres


@dataclass(frozen=True)
class CameraSpec:
    """The view that the scene opens with; without eye and target, one is made from the bounding box."""

    eye: Annotated[Vector | None, _VECTOR] = None  # scene units
    target: Annotated[Vector | None, _VECTOR] = None  # scene units; the point that orbiting turns about
    fov_y: Annotated[float, _ANGLE] = 50.0  # vertical field of view, degrees

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
    name: Annotated[str, _TEXT] = ""  # title; "": the file's name
    model: ModelSpec = field(default_factory=ModelSpec)
    appearance: AppearanceSpec = field(default_factory=AppearanceSpec)
    frame: FrameSpec = field(default_factory=FrameSpec)
    camera: CameraSpec = field(default_factory=CameraSpec)
    background: Annotated[Vector | None, _COLOR] = None  # sRGB; None: see white_background


def scene_from_mapping(data: Any, where: str) -> SceneSpec:
    """Checks what a scene file holds; `where` starts every error message.

    Raises:
        InputError: A key is unknown or missing, or has a value that its field does not accept.
    """
    return _build(SceneSpec, data, where, "")


def _build(part: type[S], data: Any, where: str, prefix: str) -> S:
    """Makes one of the dataclasses above from a mapping; `prefix` is its key path and a dot."""
    _check_mapping(data, where, prefix.rstrip("."))
    accepted = get_type_hints(part, include_extras=True)
    for key in data:
        if key not in accepted:
            raise InputError(f"{where}: {unknown_key(prefix, key, accepted)}")
    values = {}
    for its in fields(part):  # type: ignore[arg-type]
        value, path = data.get(its.name), f"{prefix}{its.name}"
        kind = getattr(accepted[its.name], "__metadata__", (accepted[its.name],))[0]
        if value is None:
            if its.default is MISSING and its.default_factory is MISSING:
                raise InputError(f"{where}: {path} must be {kind.expected}, got nothing")
        elif isinstance(kind, Kind):
            values[its.name] = _parse(kind, value, f"{where}: {path}")
        elif isinstance(kind, Table):
            values[its.name] = _pairs(kind.of, value, where, path)
        else:
            values[its.name] = _build(kind, value, where, f"{path}.")
    made = part(**values)
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
    near = get_close_matches(str(key), known, n=1, cutoff=0.5)
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
