"""Footprints of buildings from GeoJSON, to be selected in a scene."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from ..core.edits.region import MAX_VERTICES, Region
from ..core.errors import InputError
from .edit_sections import mended
from .kinds import number
from .schema import FrameSpec
from .text_file import MIB, read_text

MAX_BYTES = 32 * MIB
MAX_FOOTPRINTS = 100_000
DEGREES = ("CRS84", "4326", "4258")  # how names of coordinate systems in degrees end


@dataclass(frozen=True)
class Footprint:
    """The area that a building stands on."""

    name: str  # or id, as the file says it; "": it says none
    region: Region  # scene units
    height: float | None  # of the roof above the ground, scene units; None: not said
    ground: float | None  # scene units; None: not said


def read_footprints(path: Path, frame: FrameSpec) -> tuple[Footprint, ...]:
    """Reads the polygons of a GeoJSON file: of a FeatureCollection, a Feature, or a geometry alone.

    Coordinates, `height` and `ground_height` are metres of the map that `frame` is placed on; in a frame
    without scale, scene units. What is no polygon is left out.

    Raises:
        InputError: The file is not GeoJSON, or its coordinates are not those of the map.
    """
    data = _parse(path)
    features = list(_features(data, str(path)))
    if len(features) > MAX_FOOTPRINTS:
        raise InputError(f"{path} must hold at most {MAX_FOOTPRINTS} footprints, got {len(features)}")
    _check_system(data, frame, str(path))
    found = []
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for place, feature in features:
        geometry = feature.get("geometry")
        if not isinstance(geometry, Mapping) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
            continue
        polygons = _polygons(geometry, place)
        corners = np.concatenate([ring for rings in polygons for ring in rings])
        low, high = np.minimum(low, corners.min(axis=0)), np.maximum(high, corners.max(axis=0))
        found.append(_footprint(feature, polygons, frame, place))
    if not found:
        raise InputError(f"{path} must hold at least one polygon, got none")
    if frame.epsg is not None and max(-low[0], high[0]) <= 180 and max(-low[1], high[1]) <= 90:
        raise _degrees(str(path), frame)
    return tuple(found)


def _parse(path: Path) -> Mapping[str, Any]:
    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        data = json.loads(read_text(path, "GeoJSON file", MAX_BYTES), parse_constant=refuse)
    except InputError:
        raise
    except (ValueError, RecursionError):
        raise InputError(f"{path} must be a GeoJSON file, got text that is no valid JSON") from None
    if not isinstance(data, Mapping):
        raise InputError(f"{path} must be a GeoJSON file, got no object with a type")
    return data


def _features(data: Mapping[str, Any], where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields features, each with its place for error messages."""
    kind = data.get("type")
    if kind == "FeatureCollection" and isinstance(data.get("features"), list):
        for position, feature in enumerate(data["features"]):
            place = f"{where}: feature {position}"
            if not isinstance(feature, Mapping):
                raise InputError(f"{place} must be an object, got {type(feature).__name__}")
            yield place, feature
    elif kind == "Feature":
        yield where, data
    elif kind in ("Polygon", "MultiPolygon"):
        yield where, {"geometry": data}
    else:
        raise InputError(
            f"{where} must be a FeatureCollection, a Feature or a polygon, got the type {kind!r:.40}"
        )


def _check_system(data: Mapping[str, Any], frame: FrameSpec, where: str) -> None:
    """Refuses another coordinate system, where the file names one."""
    crs = data.get("crs")
    properties = crs.get("properties") if isinstance(crs, Mapping) else None
    name = properties.get("name") if isinstance(properties, Mapping) else None
    if not isinstance(name, str):
        return
    if name.endswith(DEGREES):
        raise _degrees(where, frame)
    code = re.search(r"EPSG\D{1,3}(\d{4,5})$", name)
    if code and frame.epsg is not None and int(code[1]) != frame.epsg:
        raise InputError(f"{where} must be in EPSG:{frame.epsg} as the scene, got EPSG:{code[1]}; convert it")


def _degrees(where: str, frame: FrameSpec) -> InputError:
    wanted = f"metres of EPSG:{frame.epsg}" if frame.epsg is not None else "metres of the scene's own map"
    return InputError(f"{where} must have coordinates in {wanted}, got longitude and latitude; convert it")


def _polygons(geometry: Mapping[str, Any], place: str) -> list[list[np.ndarray]]:
    """Returns the rings of every polygon, metres. [n_corners, 2] each"""
    coordinates = geometry.get("coordinates")
    polygons: Any = [coordinates] if geometry["type"] == "Polygon" else coordinates
    try:
        read = [[_ring(ring) for ring in polygon] for polygon in polygons]
        if not read or not all(read):
            raise ValueError
    except (ValueError, TypeError):
        raise InputError(
            f"{place} must have outlines of at least three corners [x, y], closed by the first one"
        ) from None
    n_corners = sum(len(ring) for rings in read for ring in rings)
    if n_corners > MAX_VERTICES:
        raise InputError(f"{place} must have at most {MAX_VERTICES} corners, got {n_corners}")
    return read


def _ring(ring: Any) -> np.ndarray:
    if not isinstance(ring, list) or len(ring) < 4 or ring[0] != ring[-1]:
        raise ValueError
    corners = [(number(x), number(y)) for x, y, *_ in ring]
    return np.array(corners, dtype=np.float64)


def _footprint(
    feature: Mapping[str, Any], polygons: list[list[np.ndarray]], frame: FrameSpec, place: str
) -> Footprint:
    metres = frame.metres_per_unit or 1.0
    rings = [[(ring - frame.origin[:2]) / metres for ring in polygon] for polygon in polygons]
    shape = shapely.MultiPolygon([(outline, holes) for outline, *holes in rings])
    try:
        region = mended(Region.of(shape))
    except ValueError:
        raise InputError(f"{place} must enclose an area, got corners on a line") from None
    stated = feature.get("properties")
    properties = stated if isinstance(stated, Mapping) else {}
    names = (properties.get("name"), feature.get("id"), properties.get("id"))
    name = next((str(word) for word in names if isinstance(word, str | int) and word != ""), "")
    height, ground = _metres(properties.get("height")), _metres(properties.get("ground_height"))
    return Footprint(
        name,
        region,
        height / metres if height is not None and height > 0 else None,
        None if ground is None else (ground - frame.origin[2]) / metres,
    )


def _metres(value: Any) -> float | None:
    """Reads a number, also one that is written as text; None: it says none."""
    try:
        metres = float(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return metres if math.isfinite(metres) else None
