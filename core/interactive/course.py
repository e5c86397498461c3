"""Where the camera will be when the next keyframe is finished.

The motion between two poses is a screw: a turn and a way, both in the camera's own axes. A steady one is
continued for a little longer than a keyframe takes, so that the keyframe is met on the way; one that shakes
or turns back for less.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from ..camera import Camera, as_matrix
from ..rotation import cross_matrix, rotation, rotation_vector
from .contracts import Course

STEADY_LEAD = 1.35  # times that a keyframe takes
UNSTEADY_LEAD = 0.6
MEMORY = 8  # poses that tell whether a motion is steady
AVERAGED = 3  # steps of which the newest velocity is the mean
STRAIGHT = 0.8  # length of a way as the crow flies against its own length, from which on it is steady
OVERDUE = 1.5  # times the seconds between two poses
PAUSE = 0.5  # seconds without a pose after which the camera is taken to have stood
MAX_TURN = 0.8  # radians that are foretold at most
USUAL = 1 / 30  # seconds between two pictures where nothing is known
RIGID = 1e-3  # deviation from a rotation by which a camera has not moved but changed


@dataclass(frozen=True)
class _Step:
    seconds: float
    turn: np.ndarray  # rotation vector [3], in the axes of the camera before it
    way: np.ndarray  # [3], that of a screw: its length along the curve


class Motion:
    """The motion of a camera, from its last poses and their times."""

    def __init__(self) -> None:
        self._camera: Camera | None = None
        self._time = 0.0  # when it came
        self._still = 0.0  # seconds since then
        self._steps: deque[_Step] = deque(maxlen=MEMORY - 1)

    def note(self, camera: Camera, now: float) -> None:
        """Takes the present camera. One that is shown several times has come when it was shown first.

        Args:
            camera: The view that is shown.
            now: Seconds, never falling.
        """
        before, seconds = self._camera, now - self._time
        if camera == before:
            self._still = now - self._time
            return
        self._camera, self._time, self._still = camera, now, 0.0
        if before is None or not 0 < seconds <= PAUSE:
            self._steps.clear()
            return
        step = _step(before, camera, seconds)
        if step is None:
            self._steps.clear()
        else:
            self._steps.append(step)

    @property
    def interval(self) -> float:
        """Seconds between two poses, the mean of the last ones."""
        return sum(step.seconds for step in self._steps) / len(self._steps) if self._steps else USUAL

    @property
    def rests(self) -> bool:
        """Whether the next pose is overdue, so that the camera is taken to stand."""
        return self._still > 0 and (not self._steps or self._still > OVERDUE * self.interval)

    @property
    def is_steady(self) -> bool:
        """Whether the last poses lie on one way, without shaking or turning back."""
        turns, ways = [step.turn for step in self._steps], [step.way for step in self._steps]
        return _is_straight(turns) and _is_straight(ways)

    def ahead(self, key_seconds: float, course: Course | None = None) -> Camera:
        """Returns the camera for which to render a keyframe now.

        Args:
            key_seconds: That a keyframe takes.
            course: Where the camera will be, where that is known.
        """
        assert self._camera is not None, "a camera has been noted"
        if course is not None:
            return course.camera_in(STEADY_LEAD * key_seconds)
        steps = list(self._steps)[-AVERAGED:]
        total = sum(step.seconds for step in steps)
        if not steps:
            return self._camera
        seconds = key_seconds * (STEADY_LEAD if self.is_steady else UNSTEADY_LEAD)
        turn = np.sum([step.turn for step in steps], axis=0) * (seconds / total)
        way = np.sum([step.way for step in steps], axis=0) * (seconds / total)
        share = min(1.0, MAX_TURN / max(float(np.linalg.norm(turn)), 1e-9))
        return _moved(self._camera, turn * share, way * share)

    def forget(self) -> None:
        """Forgets all poses."""
        self._camera = None
        self._steps.clear()


def _step(before: Camera, after: Camera, seconds: float) -> _Step | None:
    """Returns the screw from one pose to another; None where there is none, or a turn too large to be one."""
    between = np.linalg.inv(before.matrix) @ after.matrix
    if np.abs(between[:3, :3] @ between[:3, :3].T - np.eye(3)).max() > RIGID:
        return None
    turn = rotation_vector(between[:3, :3])
    if float(np.linalg.norm(turn)) > math.pi / 2:
        return None
    return _Step(seconds, turn, np.linalg.solve(_spread(turn), between[:3, 3]))


def _moved(camera: Camera, turn: np.ndarray, way: np.ndarray) -> Camera:
    between = np.eye(4)
    between[:3, :3] = rotation(turn)
    between[:3, 3] = _spread(turn) @ way
    return replace(camera, c2w=as_matrix(camera.matrix @ between))


def _spread(turn: np.ndarray) -> np.ndarray:
    """Returns what takes the way of a screw to where it ends. [3, 3]"""
    angle = float(np.linalg.norm(turn))
    cross = cross_matrix(turn)
    if angle < 1e-4:  # the series of the below
        first, second = 0.5, 1 / 6
    else:
        first, second = (1 - math.cos(angle)) / angle**2, (angle - math.sin(angle)) / angle**3
    matrix: np.ndarray = np.eye(3) + first * cross + second * (cross @ cross)
    return matrix


def _is_straight(steps: list[np.ndarray]) -> bool:
    whole = float(np.linalg.norm(np.sum(steps, axis=0))) if steps else 0.0
    length = sum(float(np.linalg.norm(step)) for step in steps)
    return whole >= STRAIGHT * length or length < 1e-6
