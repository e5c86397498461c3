"""Blocks and views on the ground: the geometry of the plan map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..core.camera import Camera
from . import navigation
from .state import Pose, SceneFacts

MARGIN = 0.08  # shares of the plan around the blocks
MAX_ASPECT, MIN_ASPECT = 1.25, 0.4  # height of the plan over its width
PICTURE_HEIGHTS = 3.0  # sizes of the plan from which its picture is taken, if the far end of rays allows it
FAR_SHARE = 0.95  # of the far end of rays that the ground may be away then
BLOCK_FILL = 1.3  # height of the view over the side of the block that it shows
BLOCK_PITCH = math.radians(-40)  # a flight to a block looks down at least so steeply
CLOSEST = 0.6  # share of the plan's width that a block takes at the largest scale
PROBES = np.array([0.1, 0.5, 0.9])  # shares of a block's side at which it is looked whether it is covered
REACH = 3.0  # scene sizes that a view without ground in sight is drawn far


@dataclass(frozen=True)
class Plan:
    """The map between scene and plan, pixels from the top left; north is up."""

    left: float  # scene units
    top: float
    per_unit: float  # pixels
    width: int
    height: int

    @classmethod
    def fit(cls, scene: SceneFacts, width: int) -> Plan:
        """Makes the plan that shows all blocks in a width in pixels."""
        (x0, y0, _), (x1, y1, _) = scene.aabb
        margin = MARGIN * max(x1 - x0, y1 - y0)
        across, along = x1 - x0 + 2 * margin, y1 - y0 + 2 * margin
        height = round(width * min(max(along / across, MIN_ASPECT), MAX_ASPECT))
        per_unit = min(width / across, height / along)
        left = (x0 + x1) / 2 - width / per_unit / 2
        return cls(left, (y0 + y1) / 2 + height / per_unit / 2, per_unit, width, height)

    def zoomed(self, factor: float, at: tuple[float, float]) -> Plan:
        """Returns the plan drawn larger, with the same position under a pixel."""
        x, y = self.to_scene(*at)
        per_unit = self.per_unit * factor
        return replace(self, left=x - at[0] / per_unit, top=y + at[1] / per_unit, per_unit=per_unit)

    def moved(self, columns: float, rows: float) -> Plan:
        """Returns the plan pushed by so many pixels."""
        return replace(self, left=self.left - columns / self.per_unit, top=self.top + rows / self.per_unit)

    def within(self, whole: Plan, closest: float) -> Plan:
        """Returns the nearest plan that shows nothing beyond another one of the same size.

        Args:
            whole: What may be shown.
            closest: Largest number of pixels for a scene unit.
        """
        per_unit = min(max(self.per_unit, whole.per_unit), max(closest, whole.per_unit))
        resized = self.zoomed(per_unit / self.per_unit, (self.width / 2, self.height / 2))
        across = whole.width / whole.per_unit - self.width / per_unit
        along = whole.height / whole.per_unit - self.height / per_unit
        left = min(max(resized.left, whole.left), whole.left + across)
        top = max(min(resized.top, whole.top), whole.top - along)
        return replace(resized, left=left, top=top)

    def to_plan(self, x: float, y: float) -> tuple[float, float]:
        """Turns a scene position into pixels."""
        return (x - self.left) * self.per_unit, (self.top - y) * self.per_unit

    def to_scene(self, column: float, row: float) -> tuple[float, float]:
        """Turns pixels into a scene position."""
        return self.left + column / self.per_unit, self.top - row / self.per_unit


def block_footprint(scene: SceneFacts, block: int) -> tuple[float, float, float, float]:
    """Returns x_min, y_min, x_max, y_max of a block in scene units."""
    column, row = divmod(block, scene.division[1])
    low, high = scene.aabb
    width, depth = ((high[axis] - low[axis]) / scene.division[axis] for axis in (0, 1))
    x, y = low[0] + column * width, low[1] + row * depth
    return x, y, x + width, y + depth


def closest(scene: SceneFacts, width: int) -> float:
    """Returns the largest pixels for a scene unit that a plan of that width is useful at."""
    (x0, y0, _), (x1, y1, _) = scene.aabb
    side = max((x1 - x0) / scene.division[0], (y1 - y0) / scene.division[1])
    return CLOSEST * width / side


def block_at(scene: SceneFacts, x: float, y: float) -> int | None:
    """Returns the block whose ground a position lies on, None outside of all."""
    (x0, y0, _), (x1, y1, _) = scene.aabb
    if not (x0 <= x < x1 and y0 <= y < y1):
        return None
    columns, rows = scene.division
    return int((x - x0) / (x1 - x0) * columns) * rows + int((y - y0) / (y1 - y0) * rows)


def blocks_in(scene: SceneFacts, outline: Sequence[tuple[float, float]]) -> np.ndarray:
    """Returns which blocks a convex outline covers, at one of 3 x 3 probes at least. bool [n_blocks]"""
    columns, rows = scene.division
    low, high = scene.aabb
    x, y = (
        low[axis] + (np.arange(count)[:, None] + PROBES).ravel() * (high[axis] - low[axis]) / count
        for axis, count in enumerate((columns, rows))
    )
    left = right = np.ones((3 * columns, 3 * rows), bool)
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
        north, east = ((x1 - x0) * (y - y0))[None, :], ((y1 - y0) * (x - x0))[:, None]
        left, right = left & (north >= east), right & (north <= east)
    covered: np.ndarray = (left | right).reshape(columns, 3, rows, 3).any(axis=(1, 3)).ravel()
    return covered


def over_block(scene: SceneFacts, block: int, pose: Pose, ground: float) -> Pose:
    """Returns the pose that shows one block as a whole, from the direction of a pose."""
    x0, y0, x1, y1 = block_footprint(scene, block)
    height = min(max(ground, scene.aabb[0][2]), scene.aabb[1][2])
    distance = BLOCK_FILL * max(x1 - x0, y1 - y0) / 2 / math.tan(math.radians(pose.fov_y) / 2)
    turned = replace(pose, pitch=min(pose.pitch, BLOCK_PITCH), roll=0.0)
    return navigation.focus(turned, np.array([(x0 + x1) / 2, (y0 + y1) / 2, height]), distance)


def ground_of(scene: SceneFacts) -> float:
    """Returns the height of the ground that the home view looks at, scene units."""
    low, high = scene.aabb
    return min(max(float(scene.home.pivot[2]), low[2]), high[2])


def plan_camera(scene: SceneFacts, far: float, width: int) -> Camera:
    """Returns a camera straight above whose picture lies over the plan of that width.

    Args:
        scene: What the plan shows.
        far: z-depth up to which rays are sampled, scene units.
        width: Of the plan, pixels.
    """
    plan, ground = Plan.fit(scene, width), ground_of(scene)
    x, y = plan.to_scene(plan.width / 2, plan.height / 2)
    height = min(PICTURE_HEIGHTS * max(plan.width, plan.height) / plan.per_unit, FAR_SHARE * far)
    c2w = np.eye(4)
    c2w[:3, 3] = x, y, ground + max(height, 1.05 * (scene.aabb[1][2] - ground))
    return Camera.from_focal(c2w, plan.width, plan.height, plan.per_unit * (c2w[2, 3] - ground))


def footprint_of_view(scene: SceneFacts, pose: Pose, aspect: float = 1.0) -> list[tuple[float, float]]:
    """Returns where the corners of the picture meet the ground of the scene: top left, clockwise.

    A corner above the horizon is taken far away in its direction.
    """
    low, high = scene.aabb
    ground = ground_of(scene)
    far = REACH * max(high[axis] - low[axis] for axis in (0, 1))
    camera = pose.camera(round(1000 * aspect), 1000)
    corners = []
    for column, row in ((0, 0), (camera.width, 0), (camera.width, camera.height), (0, camera.height)):
        eye, direction = camera.ray(column, row)
        reach = (ground - eye[2]) / direction[2] if direction[2] * (ground - eye[2]) > 0 else math.inf
        flat = float(np.hypot(direction[0], direction[1]))
        if reach * flat > far:
            reach = far / max(flat, 1e-9)
        corners.append((float(eye[0] + reach * direction[0]), float(eye[1] + reach * direction[1])))
    return corners


def is_inside(outline: Sequence[tuple[float, float]], point: tuple[float, float]) -> bool:
    """Whether a point lies in a convex outline."""
    sides = []
    for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
        sides.append((x1 - x0) * (point[1] - y0) - (y1 - y0) * (point[0] - x0))
    return all(side >= 0 for side in sides) or all(side <= 0 for side in sides)
