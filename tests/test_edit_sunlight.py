"""Shadows that a field has learnt: found, taken away, and left where others cast them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from landmark_viewer.core.edits.sunlight import Skyline, Sun, find_suns, looks_of, shadows

SIDE = 0.5


def town(n: int = 90) -> np.ndarray:
    height = np.zeros((n, n), dtype=np.float32)
    random = np.random.default_rng(1)
    for _ in range(12):
        i, j = random.integers(8, n - 20, 2)
        height[j : j + 8, i : i + 6] = random.uniform(2, 8)
    return height


@pytest.mark.parametrize(
    ("azimuth", "shift"), [(0.0, (0, -1)), (90.0, (-1, 0)), (180.0, (0, 1)), (-90.0, (1, 0))]
)
def test_a_shadow_falls_away_from_the_sun_as_far_as_its_height_over_the_slope(azimuth, shift):
    height = np.zeros((41, 41), dtype=np.float32)
    height[20, 20] = 4.0
    found = shadows(height, SIDE, Sun(math.radians(azimuth), slope=1.0))
    cells = np.argwhere(found) - 20
    assert {tuple(cell) for cell in cells} == {(n * shift[0], n * shift[1]) for n in range(1, 8)}


def test_what_stands_beside_a_window_throws_its_shadow_into_it():
    wide = np.zeros((30, 60), dtype=np.float32)
    wide[:, 50] = 8.0
    inner = slice(5, 25), slice(10, 45)
    found = Skyline(wide, inner).shadows(wide[inner], SIDE, Sun(0.0, slope=1.0))
    np.testing.assert_array_equal(np.flatnonzero(found.any(axis=0)), np.arange(25, 35))
    assert not shadows(wide[inner], SIDE, Sun(0.0, slope=1.0)).any()


def test_a_low_sun_throws_longer_shadows_and_a_roof_in_the_sun_has_none():
    height = town()
    high, low = (shadows(height, SIDE, Sun(1.0, slope)) for slope in (1.5, 0.4))
    assert low[high].mean() > 0.95
    assert low.sum() > 1.5 * high.sum()
    assert not low[height == height.max()].any()


def test_suns_are_found_by_their_shadows_whatever_the_ground_is_made_of():
    height, random = town(), np.random.default_rng(0)
    ground = height == 0
    albedo = np.kron(random.uniform(0.2, 0.9, (15, 15)), np.ones((6, 6)))
    truth = [Sun(math.radians(30), 0.9), Sun(math.radians(200), 0.45), None]
    light = np.stack(
        [albedo if sun is None else albedo * np.where(shadows(height, SIDE, sun), 0.4, 1.0) for sun in truth],
        axis=-1,
    )
    light *= random.uniform(0.95, 1.05, light.shape)
    colors = np.repeat(light[ground][..., None], 3, axis=-1).astype(np.float32)
    found = find_suns(height, SIDE, ground, colors)
    assert found[2] is None
    for sun, true in zip(found[:2], truth[:2], strict=True):
        assert abs(np.degrees(np.angle(np.exp(1j * (sun.azimuth - true.azimuth))))) < 6
        assert sun.slope == pytest.approx(true.slope, rel=0.2)


def test_looks_are_the_rows_that_were_learnt():
    learnt = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    table = torch.cat([learnt, torch.zeros(50, 4)])
    looks = looks_of(table)
    assert sorted(looks.tolist()) == sorted(learnt.tolist())
    assert looks_of(None) is None
    assert looks_of(torch.randn(200, 4)) is None  # a row for every photograph
    assert looks_of(torch.zeros(7, 4)) is None
