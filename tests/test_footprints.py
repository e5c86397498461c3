"""Footprints from GeoJSON: where they come to lie in a scene, and what is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.city.geojson import to_geojson
from landmark_viewer.scenes.city.town import Town, TownSpec
from landmark_viewer.scenes.footprints import Footprint, read_footprints
from landmark_viewer.scenes.schema import FrameSpec

RING = [[0, 0], [20, 0], [20, 10], [0, 10], [0, 0]]
HOLE = [[5, 2], [8, 2], [8, 4], [5, 2]]
LOCAL = FrameSpec(metres_per_unit=10.0)
MAP = FrameSpec(metres_per_unit=10.0, epsg=25832, origin=(691000.0, 5335000.0, 500.0))


def write(folder: Path, data: Any) -> Path:
    path = folder / "footprints.geojson"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def feature(coordinates: Any, kind: str = "Polygon", **members: Any) -> dict[str, Any]:
    return {"type": "Feature", "geometry": {"type": kind, "coordinates": coordinates}, **members}


def collection(*features: Any, **members: Any) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features), **members}


def shifted(ring: list[list[float]]) -> list[list[float]]:
    return [[x + MAP.origin[0], y + MAP.origin[1]] for x, y in ring]


def test_the_buildings_of_a_town_lie_where_the_town_says(tmp_path):
    buildings = Town(TownSpec(seed=1, blocks=(2, 2))).buildings()
    frame = FrameSpec(metres_per_unit=100.0)
    read = read_footprints(write(tmp_path, to_geojson(buildings)), frame)
    assert len(read) == len(buildings) > 10
    for footprint, building in zip(read, buildings, strict=True):
        assert footprint.name == str(building.id)
        expected = Region.polygon(np.asarray(building.footprint) / 100)
        assert footprint.region.shape.symmetric_difference(expected.shape).area < 1e-3 * expected.area
        assert footprint.height == pytest.approx(building.height / 100, abs=1e-5)
        assert footprint.ground == pytest.approx(building.ground / 100, abs=1e-5)


def test_map_coordinates_become_scene_units(tmp_path):
    tower = feature(
        [shifted(RING), shifted(HOLE)], properties={"name": "Tower", "height": "25", "ground_height": 520}
    )
    (read,) = read_footprints(write(tmp_path, collection(tower)), MAP)
    assert (read.name, read.height, read.ground) == ("Tower", 2.5, 2.0)
    assert read.region.bounds == (0, 0, 2, 1)
    assert read.region.area == pytest.approx(2 - 0.03)
    assert len(read.region.polygons[0]) == 2


def test_a_multipolygon_is_one_footprint_and_what_is_no_polygon_is_left_out(tmp_path):
    far = [[x + 50, y] for x, y in RING]
    read = read_footprints(
        write(
            tmp_path,
            collection(
                feature([[RING], [far]], "MultiPolygon", id=7),
                feature([1, 2], "Point"),
                {"type": "Feature", "geometry": None, "properties": {"height": "tall"}},
                feature([RING], properties={"height": "tall"}),
            ),
        ),
        LOCAL,
    )
    assert [footprint.name for footprint in read] == ["7", ""]
    assert len(read[0].region.polygons) == 2
    assert read[1] == Footprint("", read[1].region, None, None)


@pytest.mark.parametrize(
    "data", [feature([RING]), {"type": "Polygon", "coordinates": [RING]}, collection(feature([RING]))]
)
def test_a_feature_or_a_geometry_alone_will_do(tmp_path, data):
    (read,) = read_footprints(write(tmp_path, data), FrameSpec())
    assert read.region.bounds == (0, 0, 20, 10)  # without a scale: scene units


def test_an_outline_that_crosses_itself_is_mended(tmp_path):
    bow = [[0, 0], [10, 10], [10, 0], [0, 10], [0, 0]]
    (read,) = read_footprints(write(tmp_path, feature([bow])), LOCAL)
    assert read.region.area == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("data", "frame", "message"),
    [
        ("[", LOCAL, " must be a GeoJSON file, got text that is no valid JSON"),
        ('{"type": NaN}', LOCAL, " must be a GeoJSON file, got text that is no valid JSON"),
        ("[" * 100_000, LOCAL, " must be a GeoJSON file, got text that is no valid JSON"),
        ([1], LOCAL, " must be a GeoJSON file, got no object with a type"),
        (
            {"type": "Topology"},
            LOCAL,
            " must be a FeatureCollection, a Feature or a polygon, got the type 'Topology'",
        ),
        (collection(3), LOCAL, ": feature 0 must be an object, got int"),
        (collection(), LOCAL, " must hold at least one polygon, got none"),
        (
            collection(feature([RING]), feature([RING[:-1]])),
            LOCAL,
            ": feature 1 must have outlines of at least three corners [x, y], closed by the first one",
        ),
        (
            collection(feature([[[0, 0], [1, "a"], [1, 1], [0, 0]]])),
            LOCAL,
            ": feature 0 must have outlines of at least three corners [x, y], closed by the first one",
        ),
        (
            feature([[[0, 0], [1, 1], [2, 2], [0, 0]]]),
            LOCAL,
            " must enclose an area, got corners on a line",
        ),
        (
            feature([[[11.5, 48.1], [11.6, 48.1], [11.6, 48.2], [11.5, 48.1]]]),
            MAP,
            " must have coordinates in metres of EPSG:25832, got longitude and latitude; convert it",
        ),
        (
            collection(
                feature([RING]), crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
            ),
            LOCAL,
            " must have coordinates in metres of the scene's own map, got longitude and latitude; convert it",
        ),
        (
            collection(
                feature([shifted(RING)]),
                crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::3857"}},
            ),
            MAP,
            " must be in EPSG:25832 as the scene, got EPSG:3857; convert it",
        ),
    ],
)
def test_a_refusal_says_what_must_hold_and_what_was_got(tmp_path, data, frame, message):
    path = write(tmp_path, data)
    with pytest.raises(InputError) as error:
        read_footprints(path, frame)
    assert str(error.value) == f"{path}{message}"


def test_the_map_of_the_scene_may_be_named(tmp_path):
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::25832"}}
    (read,) = read_footprints(write(tmp_path, collection(feature([shifted(RING)]), crs=crs)), MAP)
    assert read.region.bounds == (0, 0, 2, 1)


def test_too_large_files_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path, collection(*[feature([RING])] * 3))
    with monkeypatch.context() as patch:
        patch.setattr("landmark_viewer.scenes.footprints.MAX_FOOTPRINTS", 2)
        with pytest.raises(InputError, match=r"must hold at most 2 footprints, got 3$"):
            read_footprints(path, LOCAL)
    with monkeypatch.context() as patch:
        patch.setattr("landmark_viewer.scenes.footprints.MAX_VERTICES", 4)
        with pytest.raises(InputError, match=r"feature 0 must have at most 4 corners, got 5$"):
            read_footprints(path, LOCAL)
    with path.open("ab") as file:
        file.truncate(2**25 + 1)
    with pytest.raises(InputError, match=r"must be a GeoJSON file of at most 32 MiB$"):
        read_footprints(path, LOCAL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
RINGS = st.lists(
    st.lists(st.floats(-3e38, 3e38) | st.integers(-2, 2), min_size=2, max_size=3), min_size=3, max_size=6
)
CLOSED = RINGS.map(lambda ring: [*ring, ring[0]])


@settings(deadline=None)
@given(JSON | st.lists(CLOSED | JSON, max_size=3), JSON, JSON)
def test_any_json_is_footprints_or_a_sentence(tmp_path_factory, coordinates, properties, other):
    data = collection(feature(coordinates, properties=properties), crs=other)
    with contextlib.suppress(InputError):
        assert read_footprints(write(tmp_path_factory.getbasetemp(), data), LOCAL)[0].region.area > 0
