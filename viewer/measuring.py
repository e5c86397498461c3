"""From corners on the screen to measurements: a ray is marched for each corner, off the main thread."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.measure import Measured, MeasureKind, Measurement, Point3, measure
from .commands import AddMeasurement, Command, ShowMessage
from .picking import surface_heights
from .state import Pose, Tool, ViewerState
from .units import Units

if TYPE_CHECKING:
    from ..core.edits.compiled import CompiledEdits
    from ..core.render import Renderer
    from .pictures import Picture

KINDS = {
    Tool.DISTANCE: MeasureKind.DISTANCE,
    Tool.HEIGHT: MeasureKind.HEIGHT,
    Tool.POLYLINE: MeasureKind.POLYLINE,
    Tool.AREA: MeasureKind.AREA,
}
ON_GROUND = 1e-6  # share of a point's distance from the eye by which it may miss the plane it was put on
GROUND_PERCENTS = 1, 10  # of the visible heights: half of what lies between them is the plane's spread
SAID = "No surface is under a corner: it lies on the plane of the ground, and is as uncertain as that plane"


@dataclass(frozen=True)
class Corner:
    """A corner, as sure as its ray can tell."""

    point: Point3  # on the surface that the ray meets, scene units
    ray: Point3  # unit direction
    spread: float | None  # along the ray, scene units; None: not known
    on_plane: bool  # no surface is there, the corner lies on the plane of the ground


@dataclass(frozen=True)
class Ground:
    """The plane that stands in where there is no surface."""

    height: float  # scene units
    spread: float  # one standard deviation, scene units

    @classmethod
    def seen_in(cls, picture: Picture | None, height: float) -> Ground:
        """Returns the plane at a height, whose spread is that of the lowest surfaces in a picture."""
        heights = surface_heights(picture.camera, picture.depth) if picture else np.zeros(0)
        if not len(heights):
            return cls(height, 0.0)
        low, high = np.percentile(heights, GROUND_PERCENTS)
        return cls(height, float(high - low) / 2)


class Measuring:
    """Learns how sure each corner is while the user sets the next one. Used from the main thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop look here again."""
        self._wake = wake
        self._pool: ThreadPoolExecutor | None = None  # from the first corner on
        self._corners: dict[Point3, Future[Corner]] = {}
        self._waiting: list[tuple[MeasureKind, tuple[Point3, ...]]] = []

    def advance(
        self,
        state: ViewerState,
        picture: Picture | None,
        renderer: Renderer,
        edits: CompiledEdits | None,
    ) -> list[Command]:
        """Follows the draft of a state as it is shown; returns what has come of it.

        Args:
            state: With the pose that is on screen.
            picture: On screen; the plane of the ground is as uncertain as its lowest surfaces.
            renderer: Of the scene.
            edits: That are shown.
        """
        if state.tool in KINDS and any(point not in self._corners for point in state.draft):
            ground = Ground.seen_in(picture, state.status.ground or 0.0)
            self.follow(state.draft, state.pose, renderer, edits, ground)
        if (found := self.take()) is None:
            return []
        measurement, said = found
        return [AddMeasurement(measurement), *([ShowMessage(said)] if said else [])]

    def follow(
        self,
        draft: tuple[Point3, ...],
        pose: Pose,
        renderer: Renderer,
        edits: CompiledEdits | None,
        ground: Ground,
    ) -> None:
        """Marches the rays of new corners, from the eye that they are seen with."""
        waited_for = {point for _, points in self._waiting for point in points}
        for point in set(self._corners) - {*draft, *waited_for}:
            del self._corners[point]
        for point in draft:
            if point not in self._corners:
                self._pool = self._pool or ThreadPoolExecutor(1, "measure")
                work = self._pool.submit(corner_at, point, pose, renderer, edits, ground)
                work.add_done_callback(lambda _: self._wake())
                self._corners[point] = work

    def complete(self, kind: MeasureKind, points: tuple[Point3, ...]) -> None:
        """Makes a measurement of corners that were followed, as soon as all are known."""
        self._waiting.append((kind, points))

    @property
    def is_busy(self) -> bool:
        """Whether a measurement is still to come."""
        return bool(self._waiting)

    def take(self) -> tuple[Measurement, str] | None:
        """Returns a measurement that is complete, and a sentence to the user or ""; each once."""
        if not self._waiting:
            return None
        kind, points = self._waiting[0]
        found = [self._corners.get(point) for point in points]
        if not all(work is None or work.done() for work in found):
            return None
        self._waiting.pop(0)
        corners = [work.result() if work and not work.exception() else None for work in found]
        return measured_from(kind, points, corners)

    def open(self) -> None:
        """Forgets everything: another scene has opened."""
        self._corners.clear()
        self._waiting.clear()

    def close(self) -> None:
        """Ends the thread after the ray that it marches now."""
        self.open()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def corner_at(
    point: Point3, pose: Pose, renderer: Renderer, edits: CompiledEdits | None, ground: Ground
) -> Corner:
    """Marches the ray from the eye to a picked point."""
    from ..core.ray_depth import ray_depth
    from ..core.render import RenderSettings

    eye = np.array(pose.eye)
    offset = np.array(point) - eye
    distance = float(np.linalg.norm(offset))
    ray = offset / max(distance, 1e-12)
    per_depth = 1 / max(float(ray @ pose.forward), 1e-6)  # length of the ray for a z-depth of 1
    found = ray_depth(renderer, RenderSettings(edits=edits), eye, ray * per_depth, distance / per_depth)
    direction = _point(ray)
    if found.spread is not None:
        at = eye + found.depth * per_depth * ray
        return Corner(_point(at), direction, found.spread * per_depth, on_plane=False)
    on_plane = abs(point[2] - ground.height) <= ON_GROUND * max(distance, abs(ground.height))
    fall = max(abs(float(ray[2])), 1e-6)
    return Corner(point, direction, ground.spread / fall if on_plane else None, on_plane)


def measured_from(
    kind: MeasureKind, points: tuple[Point3, ...], corners: list[Corner | None]
) -> tuple[Measurement, str]:
    """Returns the measurement of corners (None: nothing was learnt of it), and what there is to say."""
    known = [corner for corner in corners if corner is not None]
    places = tuple(corner.point if corner else point for corner, point in zip(corners, points, strict=True))
    spreads = tuple(corner.spread for corner in known if corner.spread is not None)
    said = SAID if any(corner.on_plane for corner in known) else ""
    if len(spreads) < len(points):
        return Measurement(kind, places), said
    return Measurement(kind, places, spreads, rays=tuple(corner.ray for corner in known)), said


def value_text(measurement: Measurement, units: Units) -> str:
    """Writes what a measurement says: "24.3 ± 0.4 m"."""
    found = measure(measurement)
    return units.measured(found.value, found.sigma, _power(measurement.kind))


def details_text(measurement: Measurement, units: Units) -> str:
    """Writes what else there is to say of it, "" for nothing."""
    found: Measured = measure(measurement)
    words = []
    if found.horizontal is not None and not math.isclose(found.horizontal, found.value, rel_tol=1e-6):
        words.append(f"horizontal {units.measured(found.horizontal, None, _power(measurement.kind))}")
    if found.sigma is None:
        words.append("uncertainty not known")
    return " · ".join(words)


def title(measurement: Measurement, number: int) -> str:
    """Returns the name of a measurement, or its kind and number."""
    return measurement.name or f"{measurement.kind.value.capitalize()} {number + 1}"


def drafted(tool: Tool, points: tuple[Point3, ...]) -> Measurement | None:
    """Returns the measurement that corners make so far; None while there are too few."""
    kind = KINDS.get(tool)
    if kind is MeasureKind.AREA and len(points) == 2:
        kind = MeasureKind.DISTANCE
    return Measurement(kind, points) if kind is not None and len(points) >= 2 else None


def focus_of(measurement: Measurement, pose: Pose) -> Pose:
    """Returns the view that shows a whole measurement from the present direction."""
    points = np.array(measurement.points)
    low, high = points.min(axis=0), points.max(axis=0)
    radius = max(float(np.linalg.norm(high - low)) / 2, 1e-3 * pose.distance)
    distance = 1.5 * radius / math.sin(math.radians(pose.fov_y) / 2)
    eye = (low + high) / 2 - distance * pose.forward
    return replace(pose, eye=_point(eye), distance=distance)


def _power(kind: MeasureKind) -> int:
    return 2 if kind is MeasureKind.AREA else 1


def _point(vector: np.ndarray) -> Point3:
    x, y, z = (float(value) for value in vector)
    return x, y, z
