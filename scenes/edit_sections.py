"""What the sections `appearance:`, `edits:` and `measurements:` of a scene file accept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import shapely

from ..core.appearance import Appearance, Grade
from ..core.edits.layers import KINDS, Layer, Placement, Prism, Stack, kind_of
from ..core.edits.region import MAX_VERTICES, Point, Region
from ..core.errors import InputError
from ..core.measure import N_POINTS, MeasureKind, Measurement
from .kinds import (
    CODE,
    FILE,
    FLAG,
    MAX_BLOCKS,
    NOT_NEGATIVE,
    NUMBER,
    POSITIVE,
    TEXT,
    VECTOR,
    Accepted,
    Kind,
    Listed,
    Section,
    Table,
    Variants,
    list_of,
    member_of,
    number,
    whole_number,
    within,
)
from .sections import dataclass_section

MAX_LAYERS = 1000
MAX_PLACEMENTS = 10_000  # of one copy
MAX_MEASUREMENTS = 1000
MAX_POINTS = 1000  # of one measurement
MAX_ROWS = 1024  # of a mix
MAX_LATENT = 4096  # numbers of an embedding
MAX_STOPS = 16.0
SUM_TOLERANCE = 1e-9  # by which the weights of a mix may miss 1 and be taken as they are


# Appearances


@dataclass(frozen=True)
class AppearanceSpec:
    """How the scene is lit."""

    start: Appearance = field(default_factory=Appearance)  # when it opens
    styles: tuple[tuple[str, Appearance], ...] = ()  # by name


def _mix(value: Any) -> tuple[tuple[int, float], ...]:
    """Returns rows and weights; those that sum to 1 stay what they are, to the last bit."""
    if not isinstance(value, Mapping) or len(value) > MAX_ROWS:
        raise ValueError
    weights = {CODE.parse(code): within(0)(weight) for code, weight in value.items()}
    if len(weights) == len(value) and math.isclose(sum(weights.values()), 1, rel_tol=SUM_TOLERANCE):
        return tuple((code, weight) for code, weight in weights.items() if weight)
    return Appearance.mixed(weights).mix


_MIX = Kind(f"at most {MAX_ROWS} rows with weights such as {{0: 0.3, 2: 0.7}}, not all 0", _mix)
_LATENT = Kind(f"a list of at most {MAX_LATENT} numbers", list_of(number, 1, MAX_LATENT))
_STOPS = Kind(f"a number of stops from {-MAX_STOPS:g} to {MAX_STOPS:g}", within(-MAX_STOPS, MAX_STOPS))
_SHARE = Kind("a number from -1 to 1", within(-1, 1))
_GRADE: Mapping[str, Accepted] = {"exposure": _STOPS, "temperature": _SHARE, "tint": _SHARE}
_APPEARANCE: Mapping[str, Accepted] = {"code": CODE, "mix": _MIX, "latent": _LATENT, **_GRADE}


def _make_appearance(**given: Any) -> Appearance:
    if len(given.keys() & {"code", "mix", "latent"}) > 1:
        raise InputError("must have only one of code, mix and latent")
    grade = Grade(**{key: given[key] for key in _GRADE if key in given})
    if "latent" in given:
        return Appearance(latent=given["latent"], grade=grade)
    return Appearance(given.get("mix", ((given.get("code", 0), 1.0),)), grade=grade)


def _appearance_parts(appearance: Appearance) -> dict[str, Any]:
    parts: dict[str, Any]
    if appearance.latent:
        parts = {"latent": appearance.latent}
    elif appearance.mix == ((appearance.code, 1.0),):
        parts = {"code": appearance.code}
    else:
        parts = {"mix": dict(appearance.mix)}
    grade = {key: getattr(appearance.grade, key) for key in _GRADE}
    return parts | {key: value for key, value in grade.items() if value != 0}


APPEARANCE = Section(
    _make_appearance,
    _APPEARANCE,
    parts=_appearance_parts,
    short=Kind("a row of the appearance table, or a mapping such as {mix: {0: 0.3, 2: 0.7}}", CODE.parse),
    short_key="code",
)


def _make_scene_appearance(styles: tuple[tuple[str, Appearance], ...] = (), **given: Any) -> AppearanceSpec:
    return AppearanceSpec(_make_appearance(**given), styles)


def _scene_appearance_parts(spec: AppearanceSpec) -> dict[str, Any]:
    start = {} if spec.start == Appearance() else _appearance_parts(spec.start)
    return start | ({"styles": spec.styles} if spec.styles else {})


SCENE_APPEARANCE = Section(
    _make_scene_appearance, {**_APPEARANCE, "styles": Table(APPEARANCE)}, parts=_scene_appearance_parts
)


# Edits


def _region(value: Any) -> Region:
    """Reads outlines; those of a valid area stay what they are, others are mended."""
    outlines = [[value]] if _is_outline(value) else value
    polygons = list_of(list_of(_ring, 1, MAX_VERTICES), 0, MAX_VERTICES)(outlines)
    if Region(polygons).n_vertices > MAX_VERTICES:
        raise ValueError
    return mended(Region(polygons)) if polygons else Region()


def mended(region: Region) -> Region:
    """Returns a region itself if its outlines do not cross, else what they enclose.

    Raises:
        ValueError: They enclose nothing.
    """
    try:
        if region.shape.is_valid and region.area > 0:
            return region
        valid = Region.of(shapely.make_valid(region.shape))
    except shapely.errors.ShapelyError:
        raise ValueError from None
    if valid.is_empty:
        raise ValueError
    return valid


def _is_outline(value: Any) -> bool:
    """Whether something is a list of corners rather than of polygons."""
    is_list = isinstance(value, list) and value and isinstance(value[0], list) and value[0]
    return bool(is_list) and not isinstance(value[0][0], list)


def _ring(value: Any) -> tuple[Point, ...]:
    corners = list_of(_corner, 3, MAX_VERTICES + 1)(value)
    return corners[:-1] if corners[0] == corners[-1] and len(corners) > 3 else corners


def _corner(value: Any) -> Point:
    x, y = list_of(number, 2, 2)(value)
    return x, y


def _plain_region(region: Region) -> Any:
    is_simple = len(region.polygons) == 1 and len(region.polygons[0]) == 1
    return region.polygons[0][0] if is_simple else region.polygons


_REGION = Kind(
    "a list of corners such as [[0, 0], [1, 0], [1, 1]] that enclose an area, or of polygons, each a list of "
    f"such outlines, with at most {MAX_VERTICES} corners in all",
    _region,
)
_LAYER: Mapping[str, Accepted] = {"name": TEXT, "enabled": FLAG, "locked": FLAG}
_PRISM: Mapping[str, Accepted] = {"region": _REGION, "low": NUMBER, "high": NUMBER}
_PLACEMENT = dataclass_section(Placement, {"position": VECTOR, "heading": NUMBER, "scale": POSITIVE})
_OWN: Mapping[str, Mapping[str, Accepted]] = {
    "remove": _PRISM,
    "hide": _PRISM,
    "crop": _PRISM,
    "copy": {
        **_PRISM,
        "placements": Listed(_PLACEMENT, MAX_PLACEMENTS),
        "source": FILE,
        "appearance": APPEARANCE,
    },
    "replace-block": {"block": whole_number(0, MAX_BLOCKS**2 - 1), "checkpoint": FILE, "mask": FILE},
    "restyle": {**_PRISM, "appearance": APPEARANCE},
}
_REQUIRED = frozenset({"region", "block", "checkpoint"})


def _layer_section(kind: type[Layer], own: Mapping[str, Accepted]) -> Section:
    accepted = {**_LAYER, **own}

    def make(**given: Any) -> Layer:
        if "region" in given:
            prism = Prism(**{key: given.pop(key) for key in _PRISM if key in given})
            if not prism.low < prism.high:
                raise InputError(f"must have a low below high, got {prism.low:g} and {prism.high:g}")
            given["prism"] = prism
        return kind(**given)

    def parts(layer: Layer) -> dict[str, Any]:
        default, written = _values(kind()), _values(layer)
        return {
            key: written[key]
            for key in accepted
            if key in _REQUIRED or (written[key] is not None and written[key] != default[key])
        }

    return Section(make, accepted, _REQUIRED & set(accepted), parts)


def _values(layer: Layer) -> dict[str, Any]:
    """Returns the values of a layer's keys."""
    prism = getattr(layer, "prism", None)
    flat = {f.name: getattr(layer, f.name) for f in fields(layer) if f.name != "prism"}
    return flat | (vars(prism) | {"region": _plain_region(prism.region)} if prism else {})


EDITS = Listed(
    Variants("kind", {word: _layer_section(KINDS[word], own) for word, own in _OWN.items()}, kind_of),
    MAX_LAYERS,
)


def numbered(layers: Stack) -> Stack:
    """Returns layers whose uids are 1, 2, ... from the bottom to the top."""
    return tuple(replace(layer, uid=number) for number, layer in enumerate(layers, 1))


# Measurements

_MEASUREMENT: Mapping[str, Accepted] = {
    "kind": member_of(MeasureKind),
    "points": Listed(VECTOR, MAX_POINTS),
    "spreads": Listed(NOT_NEGATIVE, MAX_POINTS),
    "name": TEXT,
    "rays": Listed(VECTOR, MAX_POINTS),
}


def _make_measurement(**given: Any) -> Measurement:
    made = Measurement(**given)
    fewest, most = N_POINTS[made.kind]
    n_points = len(made.points)
    if n_points < fewest or (most is not None and n_points > most):
        wanted = f"{fewest}" if fewest == most else f"{fewest} or more"
        raise InputError(f"must have {wanted} points for the kind {made.kind.value}, got {n_points}")
    for key, values in (("spreads", made.spreads), ("rays", made.rays)):
        if values and len(values) != n_points:
            raise InputError(f"must have one of {key} for each of {n_points} points, got {len(values)}")
    return made


MEASUREMENTS = Listed(
    replace(dataclass_section(Measurement, _MEASUREMENT), of=_make_measurement), MAX_MEASUREMENTS
)
