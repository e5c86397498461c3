"""Selecting buildings on grounds that are known."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.edits.select import SIMPLIFY, SelectTuning, outline_of, select_building
from landmark_viewer.core.edits.terrain import Terrain
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import RenderSettings, options_for

from .height_fields import Surface, height_field, with_boxes

BOXES = (
    (-0.62, -0.5, -0.21, -0.2, 0.25),
    (-0.1, -0.15, 0.2, 0.3, 0.35),
    (0.5, 0.4, 0.81, 0.8, 0.2),
    (-0.8, 0.5, -0.5, 0.8, 0.15),
    (-0.5, 0.5, -0.2, 0.8, 0.3),  # shares a wall with the one before
)


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.2 + 0.10 * x - 0.06 * y


def flat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.2 + 0 * x


def terrain_of(surface: Surface, **options) -> Terrain:
    model = height_field(surface, **options)
    return Terrain(model.tables(), options_for(model, RenderSettings()))


@pytest.fixture(scope="module")
def town() -> Terrain:
    return terrain_of(with_boxes(slope, *BOXES), n=65, division=(2, 2))


def iou(region: Region, box: tuple[float, ...]) -> float:
    truth = shapely.box(*box[:4])
    return region.shape.intersection(truth).area / region.shape.union(truth).area


@pytest.mark.parametrize("box", BOXES)
def test_a_building_is_found_on_a_slope_also_across_a_block_border(town, box):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    prism = select_building(town, x, y)
    assert iou(prism.region, box) > 0.85
    assert prism.low == pytest.approx(slope(x, y), abs=0.02)
    roof = 0.3 if box in BOXES[3:] else box[4]  # the wall they share counts as either's
    assert prism.low + box[4] < prism.high < prism.low + roof + 0.12
    assert prism.region.n_vertices <= 16


def test_any_point_of_a_building_selects_the_same_one(town):
    prisms = [select_building(town, x, y) for x, y in ((-0.55, -0.45), (-0.3, -0.25), (-0.4, -0.35))]
    assert prisms[0].region.shape.equals(prisms[1].region.shape)
    assert prisms[0] == prisms[2]


def test_a_step_that_parts_nothing_selects_both_neighbours(town):
    both = (-0.8, 0.5, -0.2, 0.8)
    assert iou(select_building(town, -0.65, 0.65, SelectTuning(step=0.01)).region, both) < 0.6
    assert iou(select_building(town, -0.65, 0.65, SelectTuning(step=1.0)).region, both) > 0.85


def test_the_rim_moves(town):
    plain = select_building(town, 0.0, 0.1)
    wider = select_building(town, 0.0, 0.1, SelectTuning(grow=0.05))
    assert wider.region.bounds[0] == pytest.approx(plain.region.bounds[0] - 0.05, abs=1e-6)
    with pytest.raises(InputError, match="must keep an area"):
        select_building(town, 0.0, 0.1, SelectTuning(grow=-0.3))


def test_a_tower_on_its_base_is_one_building():
    base = (-0.3, -0.3, 0.3, 0.3, 0.1)
    terrain = terrain_of(with_boxes(flat, base, (-0.2, -0.2, 0.2, 0.2, 0.5), *BOXES[2:]))
    assert iou(select_building(terrain, 0.0, 0.0).region, base) > 0.8
    assert iou(select_building(terrain, 0.25, 0.0).region, base) > 0.8


@pytest.mark.parametrize(("x", "y"), [(-0.3, -0.4), (-0.5, 0.1)])
def test_wings_of_different_height_are_one_building(x, y):
    wings = (-0.7, -0.6, 0.1, -0.2, 0.3), (-0.7, -0.2, -0.3, 0.3, 0.21)
    terrain = terrain_of(with_boxes(flat, *wings, BOXES[2]), n=145)
    found = select_building(terrain, x, y).region.shape
    truth = shapely.union_all([shapely.box(*wing[:4]) for wing in wings])
    assert found.intersection(truth).area / found.union(truth).area > 0.85
    parted = select_building(terrain, x, y, SelectTuning(step=0.03)).region.shape
    assert parted.intersection(truth).area < 0.7 * truth.area


@pytest.mark.parametrize(("x", "y"), [(0.4, -0.7), (0.97, 0.97)])
def test_no_building_is_a_sentence(town, x, y):
    with pytest.raises(InputError, match=r"a building must rise by at least .* got none"):
        select_building(town, x, y)


def test_a_scene_that_knows_metres_says_lengths_in_metres():
    model = height_field(flat)
    terrain = Terrain(model.tables(), options_for(model, RenderSettings()), metres_per_unit=100.0)
    with pytest.raises(InputError, match=r"at least 25 m above the ground"):
        select_building(terrain, 0.0, 0.0, SelectTuning(least_height=0.25))
    assert terrain.length_text(0.5) == "50 m"
    assert terrain_of(flat).length_text(0.5) == "0.5 scene units"


def test_what_rises_less_than_asked_is_no_building(town):
    x, y = 0.65, 0.6  # 0.2 high
    with pytest.raises(InputError, match=r"at least 0\.25 scene units"):
        select_building(town, x, y, SelectTuning(least_height=0.25))
    lower = select_building(town, x, y, SelectTuning(least_height=0.15))
    assert iou(lower.region, BOXES[2]) > 0.85


def test_a_point_outside_of_the_box_is_a_sentence(town):
    with pytest.raises(InputError, match=r"a building must lie in the scene's box, got a point outside"):
        select_building(town, 3.0, 0.0)


def test_what_is_too_large_for_a_building_is_a_sentence():
    walls = [(-0.95 + 0.2 * k, -0.9, -0.9 + 0.2 * k, 0.9, 0.2) for k in range(10)]
    terrain = terrain_of(with_boxes(slope, *walls, (-0.95, -0.05, 0.9, 0.0, 0.2)), n=193)
    with pytest.raises(InputError, match=r"a building must be at most .* draw its outline"):
        select_building(terrain, 0.0, -0.02)


@pytest.mark.parametrize("seed", range(4))
def test_an_outline_is_its_raster(seed):
    random = np.random.default_rng(seed)
    mask = np.kron(random.random((6, 8)) < 0.5, np.ones((5, 5))) > 0
    mask[:, :2] = random.random((30, 2)) < 0.5  # ragged, touching at corners
    low, side = (-0.3, 0.7), 0.013
    y, x = np.mgrid[:30, :40]
    centers = low[0] + (x + 0.5) * side, low[1] + (y + 0.5) * side
    outline = outline_of(mask, low, side)
    np.testing.assert_array_equal(outline.contains(*centers), mask)
    assert outline.area == pytest.approx(mask.sum() * side**2)
    simple = outline_of(mask[:, 2:], low, side).simplified(SIMPLIFY * side)
    assert simple.n_vertices <= outline.n_vertices
