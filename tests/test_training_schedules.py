"""Schedules against a plain run of LandMark's loop."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.training import schedules
from landmark_viewer.core.training.settings import TrainSettings

BOUNDS = ((-3.0, -2.0, -0.1), (3.0, 2.5, 0.9))
BASE = TrainSettings(
    iterations=20,
    voxels_start=8000,
    voxels_end=1_000_000,
    upsample_at=(3, 7, 12),
    nerf_from=9,
    decay_ratio=0.2,
)


@pytest.mark.parametrize("resets", [True, False])
@pytest.mark.parametrize("decay_iterations", [-1, 6])
def test_learning_rates_and_tv_follow_landmarks_loop(resets, decay_iterations):
    run = replace(BASE, reset_learning_rate=resets, decay_iterations=decay_iterations)
    factor = 0.2 ** (1 / (20 if decay_iterations < 0 else decay_iterations))
    rates, tv = [0.02, 1e-3, 5e-4], 1.0
    for iteration in range(run.iterations):
        tv *= factor
        assert schedules.learning_rates_at(run, iteration) == pytest.approx(rates)
        assert schedules.tv_factor_at(run, iteration) == pytest.approx(tv)
        rates = [rate * factor for rate in rates]
        if iteration in run.upsample_at or iteration == run.nerf_from:
            scale = 1 if resets else 0.2 ** (iteration / 20)
            rates = [0.02 * scale, 1e-3 * scale, 5e-4]


def test_grid_grows_after_the_step_of_its_iteration():
    counts = schedules.voxel_counts(BASE)
    assert counts == (8000, 40000, 200000, 1_000_000)
    sizes = [schedules.grid_size_at(BASE, BOUNDS, i) for i in range(20)]
    grids = [schedules.grid_size_for(count, BOUNDS) for count in counts]
    assert sizes == [grids[0]] * 4 + [grids[1]] * 4 + [grids[2]] * 5 + [grids[3]] * 7


def test_grid_without_upsampling_stays_at_its_start():
    run = replace(BASE, upsample_at=())
    assert schedules.voxel_counts(run) == (8000,)
    assert schedules.grid_size_at(run, BOUNDS, 19) == schedules.grid_size_for(8000, BOUNDS)


@given(
    st.tuples(*[st.floats(0.1, 50)] * 3),
    st.integers(1000, 10**8),
)
@settings(max_examples=50, deadline=None)
def test_grid_has_cubic_voxels_and_about_as_many_as_asked_for(size, n_voxels):
    grid = schedules.grid_size_for(n_voxels, ((0.0, 0.0, 0.0), size))
    side = (size[0] * size[1] * size[2] / n_voxels) ** (1 / 3)
    for n, length in zip(grid, size, strict=True):
        assert n == 2 or length / side - 1.01 < n <= length / side * (1 + 1e-5)


def test_box_is_crossed_by_its_samples():
    grid = (40, 30, 7)
    assert schedules.sample_count(BASE, grid) == int((40**2 + 30**2 + 7**2) ** 0.5 / 0.5)
    assert schedules.sample_count(replace(BASE, max_samples=50), grid) == 50
    assert schedules.sample_count(replace(BASE, step_ratio=1000.0), grid) == 1
    low, high = torch.tensor(BOUNDS)
    units = (high - low) / torch.tensor([39, 29, 6])
    assert schedules.sample_step(BASE, BOUNDS, grid) == pytest.approx(float(units.mean()) / 2)


def test_background_is_a_fair_coin_that_falls_the_same_way_again():
    run = replace(BASE, seed=5)
    shades = [schedules.background_at(run, i) for i in range(400)]
    assert set(shades) == {(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)}
    assert 160 < sum(shade[0] for shade in shades) < 240
    assert shades == [schedules.background_at(run, i) for i in range(400)]
    assert shades != [schedules.background_at(replace(run, seed=6), i) for i in range(400)]
    white = replace(run, white_background=True)
    assert {schedules.background_at(white, i) for i in range(9)} == {(1.0, 1.0, 1.0)}
