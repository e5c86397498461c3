"""Where a camera is expected to be."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from ..camera import Camera, as_matrix
from ..rotation import rotation, rotation_vector

WINDOW = 0.4  # seconds over which motion is averaged
CERTAIN = 0.12  # seconds of motion that show where a camera goes; less may be a tremble
PAUSE = 1.5  # seconds without a view after which the camera is taken to have stood
JUMP_SIDES = 2.0  # sides of a block: a longer step is a jump, unless the step before was as fast
JUMP_TURN = math.radians(60)  # so is a larger turn
AGREE = 0.5  # of the speed: steps that differ by less are one motion
MAX_TURN = math.radians(45)  # people stop turning sooner than they stop flying
TURN_STEP = math.radians(15)  # between expected views
MAX_VIEWS = 8
TREMBLE = 0.25  # sides of a block, or steps of a turn: who is expected to go less far hovers


@dataclass(frozen=True)
class _Step:
    seconds: float
    way: np.ndarray  # [3]
    turn: np.ndarray  # rotation vector [3]


class Motion:
    """The motion of a camera, from the views that it has had."""

    def __init__(self, side: float) -> None:
        """`side` of a block, scene units: what is a jump, and how close together expected views lie."""
        self._side = side
        self._camera: Camera | None = None
        self._time = 0.0
        self._steps: deque[_Step] = deque()
        self._velocity: np.ndarray | None = None  # of the last step, also if that was a jump

    def note(self, camera: Camera, now: float) -> bool:
        """Takes the present view; returns whether it is a jump from the one before, or the first.

        Args:
            camera: The view.
            now: Seconds, never falling.
        """
        before, seconds = self._camera, now - self._time
        self._camera, self._time = camera, now
        if before is None:
            return True
        if camera.c2w == before.c2w and seconds <= 0:
            return False
        seconds = max(seconds, 1e-3)
        way = camera.eye - before.eye
        turn = rotation_vector(camera.matrix[:3, :3] @ before.matrix[:3, :3].T)
        velocity, known = way / seconds, self._velocity
        self._velocity = velocity
        is_far = float(np.linalg.norm(way)) > JUMP_SIDES * self._side
        goes_on = known is not None and _agree(velocity, known)
        if (is_far and not goes_on) or float(np.linalg.norm(turn)) > JUMP_TURN:
            self._steps.clear()
            return True
        if seconds > PAUSE:
            self._steps.clear()
            return False
        self._steps.append(_Step(seconds, way, turn))
        while len(self._steps) > 1 and sum(step.seconds for step in self._steps) > WINDOW:
            self._steps.popleft()
        return False

    def ahead(self, seconds: float) -> tuple[Camera, ...]:
        """Returns the views expected within so many seconds, soonest first; none if the camera hovers.

        They are at most a block or a small turn apart, but no more than MAX_VIEWS. The last is where the
        camera is expected then.
        """
        if self._camera is None or not self._steps or seconds <= 0:
            return ()
        total = sum(step.seconds for step in self._steps)
        if total < CERTAIN:
            return ()
        way = _straight([step.way for step in self._steps]) * (seconds / total)
        turn = _straight([step.turn for step in self._steps]) * (seconds / total)
        angle = float(np.linalg.norm(turn))
        if angle > MAX_TURN:
            turn, angle = turn * (MAX_TURN / angle), MAX_TURN
        size = max(float(np.linalg.norm(way)) / self._side, angle / TURN_STEP)
        n = min(math.ceil(size - 1e-6), MAX_VIEWS) if size > TREMBLE else 0
        return tuple(_moved(self._camera, way * (k / n), turn * (k / n)) for k in range(1, n + 1))

    def forget(self) -> None:
        """Forgets all views."""
        self._camera = self._velocity = None
        self._steps.clear()


def _agree(velocity: np.ndarray, known: np.ndarray) -> bool:
    speed = float(np.linalg.norm(velocity))
    return float(np.linalg.norm(velocity - known)) <= AGREE * speed


def _straight(steps: list[np.ndarray]) -> np.ndarray:
    # Their sum, times its share of the whole way: trembling and turning back lead nowhere.
    total: np.ndarray = np.sum(steps, axis=0)
    way = sum(float(np.linalg.norm(step)) for step in steps)
    return total * (float(np.linalg.norm(total)) / way) if way > 0 else total


def _moved(camera: Camera, way: np.ndarray, turn: np.ndarray) -> Camera:
    matrix = camera.matrix
    matrix[:3, :3] = rotation(turn) @ matrix[:3, :3]
    matrix[:3, 3] += way
    return replace(camera, c2w=as_matrix(matrix))
