"""Terrain: heights, grounds and features of fields whose surface is known."""

from __future__ import annotations

import numpy as np
import pytest

from landmark_viewer.core.edits import terrain as terrain_module
from landmark_viewer.core.edits import tiles as tiles_module
from landmark_viewer.core.edits.ground import harmonic_fill, opening_sizes, reach_of, standing
from landmark_viewer.core.edits.terrain import Terrain
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.render import RenderSettings, options_for

from .height_fields import height_field, with_boxes
from .small_fields import SHAPES, make_field

EVERYTHING = (-2.0, -2.0, 2.0, 2.0)
BOXES = ((-0.6, -0.5, -0.2, -0.2, 0.25), (-0.1, -0.15, 0.2, 0.3, 0.35), (0.5, 0.4, 0.8, 0.8, 0.2))


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.2 + 0.10 * x - 0.06 * y


def terrain_of(model: GridNeRF) -> Terrain:
    return Terrain(model.tables(), options_for(model, RenderSettings()))


def cell_centers(window: terrain_module.TerrainWindow) -> tuple[np.ndarray, np.ndarray]:
    n_y, n_x = window.ground.shape
    x = window.low[0] + (np.arange(n_x) + 0.5) * window.side
    y = window.low[1] + (np.arange(n_y) + 0.5) * window.side
    return tuple(np.meshgrid(x, y))


@pytest.mark.parametrize(("division", "directions"), [((1, 1), 1), ((2, 2), 1), ((1, 2), 3)])
def test_the_ground_under_buildings_is_found_on_a_slope_in_any_layout(division, directions):
    n = 97 if division == (1, 1) else 49
    model = height_field(with_boxes(slope, *BOXES), n=n, division=division, directions=directions)
    window = terrain_of(model).window(EVERYTHING)
    x, y = cell_centers(window)
    assert window.height.shape[0] >= 96
    error = np.abs(window.ground - slope(x, y))
    assert np.percentile(error, 99) < 0.01
    for x0, y0, x1, y1, rise in BOXES:
        inside = (x > x0 + 0.05) & (x < x1 - 0.05) & (y > y0 + 0.05) & (y < y1 - 0.05)
        assert window.standing[inside].all()
        roof = slope(np.array((x0 + x1) / 2), np.array((y0 + y1) / 2)) + rise
        assert window.height[inside] == pytest.approx(roof, abs=0.02)
    free = ~window.standing
    assert free.mean() > 0.6
    assert np.abs(window.height - slope(x, y))[free].max() < 0.03


def test_features_are_those_of_the_surface():
    window = terrain_of(height_field(slope)).window(EVERYTHING)
    x, y = cell_centers(window)
    inner = (slice(2, -2), slice(2, -2))
    assert window.features[inner][..., 0] == pytest.approx(x[inner], abs=0.02)
    assert window.features[inner][..., 1] == pytest.approx(y[inner], abs=0.02)


def test_a_window_does_not_depend_on_what_was_asked_before(monkeypatch):
    monkeypatch.setattr(terrain_module, "TILE", 32)
    monkeypatch.setattr(tiles_module, "TILE", 32)
    monkeypatch.setattr(tiles_module, "MAX_TILES", 5)  # tiles are dropped and made again
    model = height_field(with_boxes(slope, *BOXES))
    whole = terrain_of(model).window(EVERYTHING)
    other = terrain_of(model)
    for bounds in ((0.3, 0.3, 0.9, 0.9), (-0.9, -0.7, -0.1, 0.1), (-0.3, -0.9, 0.7, 0.35)):
        part = other.window(bounds)
        column, row = (round((part.low[axis] - whole.low[axis]) / part.side) for axis in (0, 1))
        n_y, n_x = part.ground.shape
        same = (slice(row, row + n_y), slice(column, column + n_x))
        for name in ("height", "ground", "features", "standing"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[same])
        x0, _, _, y1 = bounds
        assert part.low[0] <= x0 < part.low[0] + part.side
        assert part.low[1] + n_y * part.side >= y1 > part.low[1] + (n_y - 1) * part.side


def test_the_ground_is_continuous_across_tiles(monkeypatch):
    monkeypatch.setattr(terrain_module, "TILE", 24)
    monkeypatch.setattr(tiles_module, "TILE", 24)
    ground = terrain_of(height_field(with_boxes(slope, *BOXES))).window(EVERYTHING).ground
    for axis in (0, 1):
        assert np.abs(np.diff(ground, axis=axis)).max() < 0.02


def test_the_height_of_the_ground_at_points():
    terrain = terrain_of(height_field(with_boxes(slope, *BOXES)))
    for x, y in ((0.05, 0.1), (-0.4, -0.35), (0.9, -0.9), (0.013, -0.77)):
        assert terrain.ground_at(x, y) == pytest.approx(slope(x, y), abs=0.01)
    assert terrain.ground_at(7.0, 0.0) == pytest.approx(slope(1.0, 0.0), abs=0.01)  # the nearest point


@pytest.mark.parametrize(
    "name", ["three directions", "sparse mask", "empty mask", "thin", "a block is missing"]
)
def test_fields_without_a_city_have_a_finite_ground(name):
    model = make_field(SHAPES[name])
    window = terrain_of(model).window(EVERYTHING)
    assert np.isfinite(window.ground).all()
    assert np.isfinite(window.features).all()
    low, high = model.aabb[:, 2].tolist()
    assert (window.ground >= low - 1e-4).all()
    assert (window.ground <= high + 1e-4).all()


def test_a_harmonic_fill_continues_a_plane():
    y, x = np.mgrid[:20, :30].astype(np.float32)
    plane = np.stack([0.5 * x + y, 3 - x], axis=-1)
    unknown = np.zeros((20, 30), dtype=bool)
    unknown[5:12, 4:20] = True
    damaged = np.where(unknown[..., None], np.nan, plane).astype(np.float32)
    np.testing.assert_allclose(harmonic_fill(damaged, unknown), plane, atol=1e-4)


def test_the_filter_sees_no_farther_than_its_reach():
    random = np.random.default_rng(0)
    height = random.random((150, 150)).astype(np.float32)
    other = height.copy()
    reach = reach_of(15)
    other[75 + reach + 1 :] += 5 * random.random(other[75 + reach + 1 :].shape).astype(np.float32)
    first, second = (standing(each, 1.0, 15, 0.5, 2.0) for each in (height, other))
    np.testing.assert_array_equal(first[:76], second[:76])
    assert not np.array_equal(first, second)
    assert opening_sizes(15) == [3, 5, 9, 17]
