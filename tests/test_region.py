"""Regions: what they enclose, what becomes of them, and that bad outlines are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError

SQUARE = Region.rectangle(0, 0, 2, 1)
coordinates = st.floats(-10, 10, allow_nan=False).map(lambda value: round(value, 3))


def test_a_rectangle_takes_its_corners_in_any_order():
    assert Region.rectangle(2, 1, 0, 0) == SQUARE
    assert SQUARE.bounds == (0, 0, 2, 1)
    assert SQUARE.area == 2
    assert SQUARE.center == (1, 0.5)
    assert SQUARE.n_vertices == 4


def test_points_inside_a_hole_are_outside():
    ring = SQUARE.difference(Region.rectangle(0.5, 0.25, 1.5, 0.75))
    assert ring.contains(np.array([0.25, 1.0, 3.0]), np.array([0.5, 0.5, 0.5])).tolist() == [
        True,
        False,
        False,
    ]
    assert ring.n_vertices == 8


def test_regions_are_added_and_subtracted():
    other = Region.rectangle(1, 0, 3, 1)
    assert SQUARE.union(other).area == 3
    assert SQUARE.difference(other).area == 1
    assert SQUARE.difference(SQUARE).is_empty


def test_growing_keeps_sharp_corners_and_shrinking_takes_it_back():
    grown = SQUARE.grown(0.5)
    assert grown.bounds == (-0.5, -0.5, 2.5, 1.5)
    assert grown.area == pytest.approx(6)
    assert grown.grown(-0.5).area == pytest.approx(2)
    assert SQUARE.grown(-1).is_empty


def test_a_moved_corner_that_crosses_an_edge_is_mended():
    moved = SQUARE.moved((0, 0, 0), (-1.0, 2.0))
    assert moved.shape.is_valid
    assert not moved.is_empty


@pytest.mark.parametrize(
    ("outline", "sentence"),
    [
        (((0, 0), (1, 1)), "a polygon must have at least three finite corners, got 2"),
        (((0, 0), (1, 1), (np.nan, 0)), "a polygon must have at least three finite corners, got 3"),
        (((0, 0), (1, 1), (2, 2)), "a polygon must enclose an area, got corners on a line"),
    ],
)
def test_an_outline_without_an_area_is_refused(outline, sentence):
    with pytest.raises(InputError, match=sentence):
        Region.polygon(outline)


@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12))
def test_any_outline_is_refused_or_gives_a_valid_region_that_reads_back(outline):
    try:
        region = Region.polygon(tuple(outline))
    except InputError:
        return
    assert region.shape.is_valid
    assert Region(region.polygons) == region
    assert Region.of(region.shape).area == pytest.approx(region.area)
