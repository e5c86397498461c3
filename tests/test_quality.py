"""The controller of the moving resolution, in simulated sessions, and the steps of refinement."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from landmark_viewer.core.camera import SCALES
from landmark_viewer.cuda.tables import Quality
from landmark_viewer.viewer.quality import ScaleController, Stage, rest_stages

TARGET = 66.0


def simulate(
    controller: ScaleController, cost: Callable[[int, float], float], n_pictures: int
) -> tuple[ScaleController, list[float]]:
    """Renders pictures that take cost(number, scale) ms; returns the controller and the scales it chose."""
    scales = []
    for number in range(n_pictures):
        controller = controller.after(cost(number, controller.scale), controller.scale)
        scales.append(controller.scale)
    return controller, scales


def area_cost(
    full_ms: float | Callable[[int], float], overhead: float = 0.0, noise: float = 0.0
) -> Callable[[int, float], float]:
    """A machine on which a full picture takes `full_ms`, which may depend on its number."""
    rng = np.random.default_rng(5)

    def cost(number: int, scale: float) -> float:
        full = full_ms(number) if callable(full_ms) else full_ms
        return (overhead + full * scale**2) * (1 + noise * rng.uniform(-1, 1))

    return cost


@pytest.mark.parametrize("full_ms", [5, 40, 80, 130, 250, 500, 1000])
@pytest.mark.parametrize("noise", [0.0, 0.15])
def test_it_finds_a_scale_that_keeps_the_target_and_wastes_little(full_ms, noise):
    cost = area_cost(full_ms, noise=noise)
    controller, scales = simulate(ScaleController(TARGET), cost, 40)
    settled = scales[-15:]
    mean = np.median([full_ms * scale**2 for scale in settled])
    assert mean <= 1.1 * TARGET or controller.scale == controller.floor
    finer = [scale for scale in SCALES if scale > max(settled)]
    assert not finer or full_ms * finer[-1] ** 2 > 0.65 * TARGET


@pytest.mark.parametrize("full_ms", [90, 150, 260, 400])
def test_it_does_not_flicker_on_a_noisy_machine(full_ms):
    _, scales = simulate(ScaleController(TARGET), area_cost(full_ms, noise=0.2), 200)
    changes = sum(a != b for a, b in pairwise(scales[20:]))
    assert changes <= 6


def test_a_fixed_overhead_does_not_make_it_flicker():
    _, scales = simulate(ScaleController(TARGET), area_cost(120, overhead=25, noise=0.1), 200)
    changes = sum(a != b for a, b in pairwise(scales[20:]))
    assert changes <= 10


@pytest.mark.parametrize("spike", [10.0, 1000.0])
def test_one_slow_picture_changes_nothing(spike):
    cost = area_cost(45)
    controller, _ = simulate(ScaleController(TARGET), cost, 20)
    assert controller.scale == 1.0
    hit = controller.after(spike * cost(0, controller.scale), controller.scale)
    assert hit.scale == 1.0
    _, scales = simulate(hit, cost, 20)
    assert set(scales) == {1.0}


def test_a_slow_first_picture_costs_one_step_at_most_and_is_made_good():
    start = ScaleController(TARGET)
    first = start.after(5000.0, start.scale)
    assert first.scale == SCALES[SCALES.index(start.scale) + 1]
    _, scales = simulate(first, area_cost(45), 12)
    assert min(scales) >= first.scale
    assert scales[-1] == 1.0


def test_slow_pictures_now_and_then_never_leave_a_postage_stamp():
    _, scales = simulate(
        ScaleController(TARGET), area_cost(lambda number: 900 if number % 5 == 4 else 45), 200
    )
    assert min(scales[10:]) >= 0.75


def test_a_scene_that_becomes_heavier_is_followed_within_a_few_pictures():
    cost = area_cost(lambda number: 45 if number < 20 else 900)
    _, scales = simulate(ScaleController(TARGET), cost, 40)
    assert scales[19] == 1.0
    assert scales[23] == 0.25
    assert set(scales[24:]) == {0.25}


def test_it_goes_coarser_one_step_at_a_time_unless_far_over_the_target():
    cost = area_cost(lambda number: 45 if number < 20 else 200)
    _, scales = simulate(ScaleController(TARGET), cost, 30)
    steps = [SCALES.index(b) - SCALES.index(a) for a, b in pairwise(scales[19:])]
    assert max(steps) == 1
    assert scales[-1] == 0.5


def test_it_recovers_within_a_few_pictures_when_the_scene_becomes_light_again():
    cost = area_cost(lambda number: 900 if number < 20 else 40)
    _, scales = simulate(ScaleController(TARGET), cost, 30)
    assert scales[19] == 0.25
    assert scales[24] == 1.0


@pytest.mark.parametrize("floor", [0.25, 0.3, 0.5, 1.0])
def test_it_never_falls_below_the_floor(floor):
    controller, scales = simulate(ScaleController(TARGET, floor, 1.0), area_cost(1e5), 20)
    assert min(scales) == controller.scale == floor


def test_a_new_floor_or_target_takes_effect_at_once():
    controller, _ = simulate(ScaleController(TARGET), area_cost(1e4), 20)
    assert controller.wanting(TARGET, 0.5).scale == 0.5
    assert controller.wanting(TARGET, controller.floor) is controller
    assert controller.wanting(TARGET, 0.125).after(1e4 * 0.25**2, 0.25).scale < 0.25


def test_a_viewport_of_another_size_is_foreseen():
    controller, _ = simulate(ScaleController(TARGET), area_cost(45), 20)
    assert controller.scale == 1.0
    assert controller.resized(4.0).scale == 0.5
    assert controller.resized(4.0).resized(0.25).scale == 1.0


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_nonsensical_measurement_is_ignored(ms):
    controller = ScaleController(TARGET)
    assert controller.after(ms, 0.5) is controller


FAST_HALF, FAST, CLUSTERED, EXACT = (
    Stage(Quality.FAST, 0.5),
    Stage(Quality.FAST, 1.0),
    Stage(Quality.CLUSTERED, 1.0),
    Stage(Quality.EXACT, 1.0),
)


@pytest.mark.parametrize(
    ("shown", "wanted", "stages"),
    [
        (None, Quality.EXACT, (FAST_HALF, FAST, EXACT)),
        (None, Quality.CLUSTERED, (FAST_HALF, FAST, CLUSTERED)),
        (None, Quality.FAST, (FAST_HALF, FAST)),
        (FAST_HALF, Quality.EXACT, (FAST, EXACT)),
        (Stage(Quality.FAST, 0.25), Quality.EXACT, (FAST, EXACT)),
        (FAST, Quality.EXACT, (EXACT,)),
        (CLUSTERED, Quality.EXACT, (EXACT,)),
        (EXACT, Quality.CLUSTERED, (CLUSTERED,)),
        (FAST, Quality.FAST, ()),
        (EXACT, Quality.EXACT, ()),
    ],
)
def test_refinement_takes_the_steps_that_are_worth_it(shown, wanted, stages):
    assert rest_stages(shown, wanted) == stages


def test_refinement_ends_at_the_wanted_resolution():
    assert rest_stages(None, Quality.EXACT, 0.5)[-1] == Stage(Quality.EXACT, 0.5)
    assert rest_stages(EXACT, Quality.EXACT, 0.5) == (Stage(Quality.FAST, 0.5), Stage(Quality.EXACT, 0.5))
