"""Where keyframes are rendered: on the way of a steady camera, nearer to one that is not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.core.camera import Camera, as_matrix, look_at
from landmark_viewer.core.interactive.course import (
    MAX_TURN,
    PAUSE,
    STEADY_LEAD,
    UNSTEADY_LEAD,
    USUAL,
    Motion,
)
from landmark_viewer.core.rotation import rotation, rotation_vector

RATE = 30.0
KEY = 0.5  # seconds that a keyframe takes

Flight = Callable[[float], Camera]


def camera(c2w: np.ndarray, fov: float = 60.0) -> Camera:
    return Camera.from_fov(c2w, 64, 36, fov)


def yaw(degrees: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(np.array([0.0, 0.0, math.radians(degrees)]))
    return matrix


START = look_at((0.4, -2.0, 1.3), (0.1, 0.2, 0.0))
MIDDLE = np.array([0.1, 0.2, 0.0])


def orbit(seconds: float, speed: float = 10.0) -> Camera:
    shift = np.eye(4)
    shift[:3, 3] = MIDDLE
    return camera(shift @ yaw(speed * seconds) @ np.linalg.inv(shift) @ START)


def forward(seconds: float) -> Camera:
    matrix = START.copy()
    matrix[:3, 3] += np.array([0.1, 0.3, 0.0]) * seconds
    return camera(matrix)


def turn(seconds: float, speed: float = 60.0) -> Camera:
    matrix = yaw(speed * seconds) @ START
    matrix[:3, 3] = START[:3, 3]
    return camera(matrix)


def flown(flight: Flight, n: int = 12, rate: float = RATE) -> Motion:
    motion = Motion()
    for i in range(n):
        motion.note(flight(i / rate), i / rate)
    return motion


def angle(a: Camera, b: Camera) -> float:
    return float(np.linalg.norm(rotation_vector(np.linalg.inv(a.matrix)[:3, :3] @ b.matrix[:3, :3])))


@pytest.mark.parametrize("rate", [10.0, 30.0, 144.0])
@pytest.mark.parametrize("flight", [orbit, forward, lambda t: turn(t, 20.0)])
def test_a_steady_motion_is_met_on_its_way(flight, rate):
    motion = flown(flight, 12, rate)
    assert motion.is_steady
    wanted = flight(11 / rate + STEADY_LEAD * KEY)
    np.testing.assert_allclose(motion.ahead(KEY).matrix, wanted.matrix, atol=1e-7)
    assert motion.interval == pytest.approx(1 / rate)


def test_times_count_not_pictures():
    """Pictures that come at odd times do not change where a steady camera is going."""
    motion = Motion()
    times = (0.0, 0.03, 0.04, 0.11, 0.12, 0.2, 0.25, 0.26)
    for now in times:
        motion.note(orbit(now), now)
    wanted = orbit(times[-1] + STEADY_LEAD * KEY)
    np.testing.assert_allclose(motion.ahead(KEY).matrix, wanted.matrix, atol=1e-7)


def test_a_pose_that_is_shown_again_is_no_motion():
    """Pictures of one pose that follow each other do not make the camera faster or slower."""
    motion = Motion()
    for i in range(10):
        for later in (0.0, 0.01, 0.02):
            motion.note(orbit(i / RATE), i / RATE + later)
            assert not motion.rests or i == 0
    wanted = orbit(9 / RATE + STEADY_LEAD * KEY)
    np.testing.assert_allclose(motion.ahead(KEY).matrix, wanted.matrix, atol=1e-7)
    motion.note(orbit(9 / RATE), 11 / RATE)
    assert motion.rests
    motion.note(orbit(10 / RATE), 12 / RATE)
    assert not motion.rests


def test_a_camera_that_turns_back_is_followed_for_less():
    """After a reversal the lead is short until the new way has proved itself."""
    steady = []

    def back(seconds: float) -> Camera:
        return orbit(min(seconds, 12 / RATE) - max(seconds - 12 / RATE, 0.0))

    motion = Motion()
    for i in range(24):
        motion.note(back(i / RATE), i / RATE)
        steady.append(motion.is_steady)
        if i == 16:
            wanted = back(i / RATE + UNSTEADY_LEAD * KEY)
            np.testing.assert_allclose(motion.ahead(KEY).matrix, wanted.matrix, atol=1e-7)
    assert all(steady[:13])
    assert not any(steady[13:19])
    assert steady[-1]


def test_a_shaking_camera_is_not_steady():
    motion = flown(lambda t: turn(math.sin(4 * math.pi * t) / 40), 30)
    assert not motion.is_steady


def test_a_turn_is_foretold_no_further_than_it_is_likely_to_go():
    fast = flown(turn)
    assert angle(turn(11 / RATE), fast.ahead(2.0)) == pytest.approx(MAX_TURN, abs=1e-6)


def test_where_nothing_is_known_the_camera_stays():
    motion = Motion()
    motion.note(orbit(0.0), 5.0)
    assert motion.ahead(KEY) == orbit(0.0)
    motion.note(orbit(1.0), 5.0)  # no time has passed: a speed cannot be told
    assert motion.ahead(KEY) == orbit(1.0)
    motion.note(orbit(2.0), 5.0 + 2 * PAUSE)  # nor after a pause
    assert motion.ahead(KEY) == orbit(2.0)
    motion.forget()
    motion.note(orbit(0.1), 7.0)
    assert motion.ahead(KEY) == orbit(0.1)


@pytest.mark.parametrize("now", [4.0, math.nan, math.inf])
def test_times_that_do_not_go_on_tell_no_speed(now):
    motion = Motion()
    motion.note(orbit(0.0), 5.0)
    motion.note(orbit(1.0), now)
    assert motion.ahead(KEY) == orbit(1.0)
    assert motion.interval == USUAL
    for i in range(8):
        motion.note(orbit(2 + i / RATE), 9 + i / RATE)
    assert motion.interval == pytest.approx(1 / RATE)


def test_a_pose_out_of_the_blue_says_nothing_of_a_motion():
    motion = flown(forward)
    mirrored = forward(1.0).matrix @ np.diag([2.0, 2.0, 2.0, 1.0])
    other = replace(forward(1.0), c2w=as_matrix(mirrored))
    motion.note(other, 12 / RATE)
    assert motion.ahead(KEY) == other


def test_the_zoom_stays_as_it_is_now():
    motion = Motion()
    for i in range(10):
        motion.note(camera(orbit(i / RATE).matrix, 60.0 - i), i / RATE)
    expected = motion.ahead(KEY)
    assert expected.fov_y == pytest.approx(51.0)
    wanted = orbit(9 / RATE + STEADY_LEAD * KEY)
    np.testing.assert_allclose(expected.matrix, wanted.matrix, atol=1e-7)


def test_a_known_course_is_taken_at_its_word():
    class Path:
        def camera_in(self, seconds: float) -> Camera:
            return orbit(3.0 + seconds)

    motion = flown(turn)
    assert motion.ahead(KEY, Path()) == orbit(3.0 + STEADY_LEAD * KEY)
