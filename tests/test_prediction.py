"""Where a camera is expected to be."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.core.camera import Camera
from landmark_viewer.core.streaming.prediction import MAX_TURN, MAX_VIEWS, Motion

from .flights import Flight, Pilot, city_grid, frames

PILOT = Pilot(city_grid((60, 60), side=2.0))


def flown(flight: Flight, seconds: float, fps: float = 30.0) -> Motion:
    motion = Motion(2.0)
    for now, camera in frames(flight, seconds, fps):
        motion.note(camera, now)
    return motion


def heading(camera: Camera) -> float:
    x, y, _ = -camera.matrix[:3, 2]
    return math.atan2(y, x)


@pytest.mark.parametrize("fps", [4.0, 30.0, 144.0])
@pytest.mark.parametrize("speed", [2.0, 10.0])
def test_a_straight_flight_is_continued(speed: float, fps: float) -> None:
    flight = PILOT.straight(5, 30, speed, heading=0.3)
    motion = flown(flight, 2.0, fps)
    views = motion.ahead(1.5)
    last = 2.0 - 1 / fps
    np.testing.assert_allclose(views[-1].matrix, flight(last + 1.5).matrix, atol=1e-3)
    assert len(views) == min(math.ceil(1.5 * speed), MAX_VIEWS)
    first = flight(last + 1.5 / len(views))
    np.testing.assert_allclose(views[0].matrix, first.matrix, atol=1e-3)


def test_a_turn_is_continued_but_not_for_long() -> None:
    slow = flown(lambda t: PILOT.ahead(30, 30, heading=0.2 * t), 1.0).ahead(1.5)
    assert heading(slow[-1]) == pytest.approx(0.2 * (29 / 30 + 1.5), abs=0.01)
    np.testing.assert_allclose(slow[-1].eye, PILOT.ahead(30, 30).eye, atol=1e-9)
    fast = flown(lambda t: PILOT.ahead(30, 30, heading=2.0 * t), 1.0).ahead(1.5)
    turned = heading(fast[-1]) - 2.0 * 29 / 30
    assert 0.5 * MAX_TURN < turned <= MAX_TURN + 1e-6


def test_a_standing_camera_is_expected_nowhere_else() -> None:
    assert flown(lambda t: PILOT.ahead(30, 30), 1.0).ahead(1.5) == ()
    assert Motion(2.0).ahead(1.5) == ()
    assert flown(PILOT.straight(5, 30, 2.0), 1.0).ahead(0.0) == ()


def test_a_camera_that_stood_still_for_a_while_starts_anew() -> None:
    motion = flown(PILOT.straight(5, 30, 10.0), 1.0)
    assert not motion.note(PILOT.ahead(15, 30), 4.0)
    assert motion.ahead(1.5) == ()


def test_trembling_leads_nowhere() -> None:
    motion = flown(PILOT.hover(30, 30, 0.1), 3.0)
    reach = [abs(view.eye - PILOT.down(30, 30).eye).max() for view in motion.ahead(1.5)]
    assert max(reach, default=0.0) < 0.25 * 2.0


def test_a_jump_drops_the_motion_at_once() -> None:
    motion = Motion(2.0)
    jumps = [motion.note(camera, now) for now, camera in frames(PILOT.straight(5, 30, 10.0), 1.0)]
    assert jumps == [True] + [False] * 29
    assert motion.note(PILOT.ahead(50, 5), 1.0)
    assert motion.ahead(1.5) == ()
    assert not motion.note(PILOT.ahead(50, 5), 1.03)
    assert motion.ahead(1.5) == ()


def test_turning_round_at_once_is_a_jump() -> None:
    motion = flown(PILOT.straight(5, 30, 2.0), 1.0)
    assert motion.note(PILOT.ahead(7, 30, heading=math.pi), 1.0)
    assert motion.note(PILOT.ahead(7, 30), 1.1)


def test_few_frames_of_a_fast_flight_are_not_jumps() -> None:
    motion = Motion(2.0)
    jumps = [motion.note(camera, now) for now, camera in frames(PILOT.straight(5, 30, 10.0), 3.0, fps=2.0)]
    assert jumps == [True, True, False, False, False, False]
    assert motion.ahead(1.5)[-1].eye[0] == pytest.approx(2.0 * (5 + 10 * 4.0), abs=1e-6)


def test_a_reversal_is_followed_within_half_a_second() -> None:
    flight = PILOT.there_and_back(30, 30, 4.0, turn=1.0)
    furthest = 2.0 * 34.0
    for seconds in (1.25, 1.3, 1.4):
        assert all(view.eye[0] < furthest for view in flown(flight, seconds).ahead(1.5))
    views = flown(flight, 1.5).ahead(1.5)
    assert views[-1].eye[0] == pytest.approx(2.0 * (34 - 4 * (0.5 - 1 / 30 + 1.5)), abs=0.1)


def test_the_same_moment_twice_is_harmless() -> None:
    motion = flown(PILOT.straight(5, 30, 2.0), 1.0)
    before = motion.ahead(1.5)
    camera = PILOT.straight(5, 30, 2.0)(29 / 30)
    assert not motion.note(camera, 29 / 30)
    assert motion.ahead(1.5) == before
    smaller = replace(camera.resized(32, 18))
    assert not motion.note(smaller, 29 / 30)
    assert motion.ahead(1.5)[-1].width == 32
