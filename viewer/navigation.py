"""Moving the camera: pure functions from a pose and an input to the next pose.

Lengths are scene units, angles radians unless said, picture positions pixels from the top left, times
seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.camera import Camera
from .state import MAX_FOV, MIN_FOV, Navigation, Pose, ViewerState

ORBIT_TURN = math.pi  # radians for a drag over the height of the picture
LOOK_TURN = 2.0  # fields of view for a drag over the height of the picture
DOLLY_STEP = 0.85  # one wheel click leaves this share of the distance to the point under the cursor
ZOOM_STEP = 0.92  # one wheel click leaves this share of the field of view
MIN_DISTANCE, MAX_DISTANCE = 1e-6, 1e9
SPEED_PER_HEIGHT = 0.8  # heights above ground per second
SLOWEST, FASTEST = 0.01, 0.5  # scene sizes per second, before Shift and Alt
BOOST = 5.0  # Shift multiplies the speed by it, Alt divides
GLIDE = 0.25  # seconds that focus, home and top-down take


def orbit(pose: Pose, dx: float, dy: float, height: int) -> Pose:
    """Turns the camera about its pivot like a turntable; heading is free, pitch ends at straight up and down.

    Args:
        pose: Where the camera is.
        dx: Pixels dragged to the right; the scene follows the cursor.
        dy: Pixels dragged down; the camera rises.
        height: Of the picture, pixels.
    """
    pivot = pose.pivot
    scale = ORBIT_TURN / height
    return _at_pivot(_turned(pose, dx * scale, -dy * scale), pivot)


def look(pose: Pose, dx: float, dy: float, height: int) -> Pose:
    """Turns the camera on the spot: to the right for a drag to the right, down for a drag down (pixels)."""
    scale = LOOK_TURN * math.radians(pose.fov_y) / height
    return _turned(pose, dx * scale, -dy * scale)


def pan(
    pose: Pose, camera: Camera, from_px: tuple[float, float], to_px: tuple[float, float], depth: float
) -> Pose:
    """Shifts the camera in its picture plane so that what lay under `from_px` lies under `to_px`.

    Give the pose and position of the button press each time, so that no error adds up during a drag.

    Args:
        pose: Where the camera was when the drag began.
        camera: Of that pose, for the size of the viewport.
        from_px: Column and row where the drag began.
        to_px: Column and row of the cursor now.
        depth: z-depth of the point that was grabbed.
    """
    right, up = pose.rotation[:, 0], pose.rotation[:, 1]
    shift = (from_px[0] - to_px[0]) / camera.fl_x * right - (from_px[1] - to_px[1]) / camera.fl_y * up
    return replace(pose, eye=_point(np.array(pose.eye) + depth * shift))


def dolly(pose: Pose, camera: Camera, px: tuple[float, float], depth: float, steps: float) -> Pose:
    """Moves the camera towards the point under the cursor, which stays under it and is never passed.

    The pivot takes the depth of that point, so that orbiting goes on about what the user moved to.

    Args:
        pose: Where the camera is.
        camera: Of that pose, for the size of the viewport.
        px: Column and row of the cursor.
        depth: z-depth of the point under it.
        steps: Wheel clicks; negative moves away.
    """
    depth = max(depth, MIN_DISTANCE)
    left = float(np.clip(depth * DOLLY_STEP**steps, MIN_DISTANCE, MAX_DISTANCE))
    _, direction = camera.ray(*px)
    return replace(pose, eye=_point(np.array(pose.eye) + (depth - left) * direction), distance=left)


def zoom(pose: Pose, steps: float) -> Pose:
    """Narrows the field of view by wheel clicks; negative widens."""
    return replace(pose, fov_y=float(np.clip(pose.fov_y * ZOOM_STEP**steps, MIN_FOV, MAX_FOV)))


def fly(pose: Pose, axes: tuple[float, float, float], dt: float, speed: float) -> Pose:
    """Moves the camera and its pivot for a time.

    Args:
        pose: Where the camera is.
        axes: Right, up (of the world) and forward (where the camera looks), each in [-1, 1]; a longer vector
            than 1 is shortened, so that a diagonal is no faster.
        dt: Seconds.
        speed: Scene units per second, see `fly_speed`.
    """
    right, up, forward = axes
    direction = right * pose.rotation[:, 0] + up * np.array([0.0, 0.0, 1.0]) + forward * pose.forward
    direction = direction / max(1.0, float(np.linalg.norm(direction)))
    return replace(pose, eye=_point(np.array(pose.eye) + speed * dt * direction))


def fly_speed(
    height: float, size: float, factor: float = 1.0, fast: bool = False, slow: bool = False
) -> float:
    """Returns the flying speed in scene units per second.

    Args:
        height: Above ground, scene units.
        size: Of the scene, its longer side on the plan, scene units; limits what the height gives.
        factor: The user's own, ViewerState.speed.
        fast: Shift is held.
        slow: Alt is held.
    """
    base = min(max(SPEED_PER_HEIGHT * height, SLOWEST * size), FASTEST * size)
    return base * factor * (BOOST if fast else 1.0) / (BOOST if slow else 1.0)


def flying_speed(state: ViewerState, fast: bool = False, slow: bool = False) -> float:
    """Returns the speed at which a state flies, scene units per second; 0 without a scene."""
    if state.scene is None:
        return 0.0
    (x0, y0, _), (x1, y1, _) = state.scene.aabb
    return fly_speed(above_ground(state), max(x1 - x0, y1 - y0), state.speed, fast, slow)


def above_ground(state: ViewerState) -> float:
    """Returns how high the camera is above the ground, scene units; until it is known, above the pivot."""
    ground = state.status.ground
    return abs(state.pose.eye[2] - (float(state.pose.pivot[2]) if ground is None else ground))


def focus(pose: Pose, point: Sequence[float] | np.ndarray, distance: float | None = None) -> Pose:
    """Brings a point to the middle of the picture and makes it the pivot; the viewing direction stays.

    Args:
        pose: Where the camera is.
        point: Scene units. [3]
        distance: From the point afterwards; None keeps the present one.
    """
    target = np.asarray(point, dtype=np.float64)
    if distance is None:
        distance = float(np.linalg.norm(target - np.array(pose.eye)))
    distance = float(np.clip(distance, MIN_DISTANCE, MAX_DISTANCE))
    return _at_pivot(replace(pose, distance=distance), target)


def top_down(pose: Pose) -> Pose:
    """Looks straight down on the pivot from the same distance, north up."""
    return _at_pivot(replace(pose, yaw=0.0, pitch=-math.pi / 2, roll=0.0), pose.pivot)


def north_up(pose: Pose, navigation: Navigation = Navigation.ORBIT) -> Pose:
    """Turns the camera level and to the north: about the pivot when orbiting, on the spot when flying."""
    turned = replace(pose, yaw=0.0, roll=0.0)
    return _at_pivot(turned, pose.pivot) if navigation is Navigation.ORBIT else turned


def animate(start: Pose, end: Pose, s: float) -> Pose:
    """Returns the pose on the way between two, with a soft start and stop.

    The pivot moves straight, the distance changes in proportion, and the heading takes the shorter way round.

    Args:
        start: Returned for s = 0.
        end: Returned for s = 1.
        s: Share of the time, limited to [0, 1].
    """
    if s <= 0 or s >= 1:
        return start if s <= 0 else end
    share = s * s * (3 - 2 * s)
    near, far = max(start.distance, MIN_DISTANCE), max(end.distance, MIN_DISTANCE)
    pose = Pose(
        yaw=start.yaw + share * _turn(start.yaw, end.yaw),
        pitch=start.pitch + share * (end.pitch - start.pitch),
        roll=start.roll + share * _turn(start.roll, end.roll),
        fov_y=start.fov_y + share * (end.fov_y - start.fov_y),
        distance=near * (far / near) ** share,
    )
    return _at_pivot(pose, start.pivot + share * (end.pivot - start.pivot))


@dataclass(frozen=True)
class Glide:
    """A visible journey of the camera; times are seconds of any one clock."""

    start: Pose
    end: Pose
    began: float
    duration: float = GLIDE

    def pose(self, now: float) -> Pose:
        """Returns where the camera is at a time."""
        return animate(self.start, self.end, (now - self.began) / self.duration)

    def is_over(self, now: float) -> bool:
        """Whether the camera has arrived."""
        return now - self.began >= self.duration


@dataclass(frozen=True)
class GlideCourse:
    """A glide from a moment on, as pictures on the way need to know it."""

    glide: Glide
    now: float  # seconds of the glide's clock
    size: tuple[int, int]  # of pictures, pixels

    def camera_in(self, seconds: float) -> Camera:
        """Returns the camera so many seconds later."""
        return self.glide.pose(self.now + seconds).camera(*self.size)


def _turned(pose: Pose, yaw: float, pitch: float) -> Pose:
    limited = min(max(pose.pitch + pitch, -math.pi / 2), math.pi / 2)
    return replace(pose, yaw=math.remainder(pose.yaw + yaw, math.tau), pitch=limited)


def _at_pivot(pose: Pose, pivot: np.ndarray) -> Pose:
    """Puts the camera where it sees the pivot in the middle, at its own distance."""
    return replace(pose, eye=_point(pivot - pose.distance * pose.forward))


def _turn(start: float, end: float) -> float:
    return math.remainder(end - start, math.tau)


def _point(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
