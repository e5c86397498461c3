"""Handles on prisms and placed copies: where they are, which is under the pointer, what a drag makes of them.

Pure functions of a camera and the state. Lengths are scene units, pointer positions viewport pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

import numpy as np
import shapely
from shapely import affinity
from shapely.geometry import MultiPolygon

from ..core.camera import Camera
from ..core.edits.layers import Copy, Crop, Hide, Layer, Placement, Prism, Remove, Restyle, Stack
from ..core.edits.region import Point, Region
from ..core.measure import Point3
from .state import Handle, SceneFacts, Snapping, UnitRatios, ViewerState

Pixel = tuple[float, float]
Ground = Callable[[float, float], float]  # height of the ground at x, y
Vertex = tuple[int, int, int]  # polygon, ring, number

STEEPEST = 0.02  # share of a ray that must be level for heights to be read off it
THINNEST = 1e-4  # share of the scene's size that a prism is high at least
SCALES = 0.01, 100.0
ARROW = 6.0  # radii around a handle that count as on it


class GripKind(str, Enum):
    """What a handle changes."""

    CORNER = "corner"
    EDGE = "edge"  # inserts a corner
    GROUND = "ground"  # the low height of a prism
    ROOF = "roof"  # the high one
    MOVE = "move"
    EAST = "east"  # moves along x only
    NORTH = "north"
    UP = "up"
    TURN = "turn"
    SIZE = "size"


@dataclass(frozen=True)
class Grip:
    """One handle."""

    kind: GripKind
    point: Point3
    vertex: Vertex = (0, 0, 0)  # of CORNER; of EDGE: that the new corner will have


@dataclass(frozen=True)
class Target:
    """What the handles change: the selection, the prism of a layer, or one placement of a Copy layer."""

    prism: Prism  # of a placement: that which is copied
    layer: Layer | None = None  # None: the selection
    placement: int | None = None
    ratio: float = 1.0  # length of one unit of the prism, in units of the scene

    @property
    def placed(self) -> Placement | None:
        """The placement, where it is one."""
        if isinstance(self.layer, Copy) and self.placement is not None:
            return self.layer.placements[self.placement]
        return None

    @property
    def outline(self) -> Prism:
        """What is drawn and surrounded by handles."""
        return placed_prism(self.prism, self.placed, self.ratio) if self.placed else self.prism


@dataclass(frozen=True)
class Copied:
    """What a copy is made of."""

    prism: Prism
    source: Path | None = None  # another scene that it stands in

    def placed(self, placement: Placement, ratios: UnitRatios) -> Prism:
        """Returns where it would be."""
        return placed_prism(self.prism, placement, ratio_of(self.source, ratios))


def copied_of(state: ViewerState) -> Copied | None:
    """Returns what a copy would be made of: the selection, else what the selected layer acts on."""
    layer = next((each for each in state.edits if each.uid == state.layer), None)
    selection = state.selection
    if selection is not None and selection.placement is None:
        return Copied(selection.prism)
    if isinstance(layer, Copy):
        return Copied(layer.prism, layer.source)
    prism = getattr(layer, "prism", None)
    return Copied(prism) if prism is not None else None


def target_of(state: ViewerState) -> Target | None:
    """Returns what the handles of a state act on."""
    layer = next((each for each in state.edits if each.uid == state.layer), None)
    selection = state.selection
    if isinstance(layer, Copy) and not layer.locked:
        lone = 0 if selection is None and len(layer.placements) == 1 else None
        number = lone if selection is None else selection.placement
        if number is not None and number < len(layer.placements):
            return Target(layer.prism, layer, number, ratio_of(layer.source, state.unit_ratios))
    if selection is not None and selection.placement is None:
        return Target(selection.prism)
    if selection is None and isinstance(layer, Remove | Hide | Crop | Restyle) and not layer.locked:
        return Target(layer.prism, layer)
    return None


def heights(prism: Prism, ground: float, scene: SceneFacts) -> tuple[float, float]:
    """Returns the heights between which a prism is drawn: without its own, the ground and the scene's top."""
    low = prism.low if math.isfinite(prism.low) else ground
    high = prism.high if math.isfinite(prism.high) else max(scene.aabb[1][2], low)
    return low, high


def ratio_of(source: Path | None, ratios: UnitRatios) -> float:
    """Returns how long one unit of another scene is in the open one; None is the open one itself."""
    return next((ratio for path, ratio in ratios if path == source), 1.0)


def placed_prism(prism: Prism, placement: Placement, ratio: float = 1.0) -> Prism:
    """Returns the prism of a placed copy; `ratio` is the length of one unit of `prism` in the scene."""
    (x, y, bottom), (to_x, to_y, base) = prism.anchor, placement.position
    scale = placement.scale * ratio
    shape = affinity.rotate(prism.region.shape, placement.heading, origin=(x, y))
    shape = affinity.scale(shape, scale, scale, origin=(x, y))
    low = base if math.isfinite(prism.low) else prism.low
    high = base + scale * (prism.high - bottom)
    return Prism(Region.of(affinity.translate(shape, to_x - x, to_y - y)), low, high)


def prisms_of(layer: Layer, ratios: UnitRatios = ()) -> list[Prism]:
    """Returns where a layer is in the scene: of a copy, every place that it stands."""
    if isinstance(layer, Copy):
        ratio = ratio_of(layer.source, ratios)
        return [placed_prism(layer.prism, placement, ratio) for placement in layer.placements]
    return [layer.prism] if isinstance(layer, Remove | Hide | Crop | Restyle) else []


def placement_at(edits: Stack, point: Point3, ratios: UnitRatios = ()) -> tuple[Copy, int] | None:
    """Returns the uppermost enabled Copy layer with a placement that stands at a point of the surface."""
    for layer in reversed(edits):
        if not (isinstance(layer, Copy) and layer.enabled):
            continue
        prisms = prisms_of(layer, ratios)
        for number, prism in reversed(list(enumerate(prisms))):
            slack = 0.05 * (prism.high - prism.low) if math.isfinite(prism.high - prism.low) else 0.0
            above = prism.low + slack < point[2] <= prism.high + slack
            if above and bool(prism.region.contains(np.array(point[0]), np.array(point[1]))):
                return layer, number
    return None


# Where handles are


def prism_grips(prism: Prism, low: float, high: float) -> tuple[Grip, ...]:
    """Returns the handles of a prism that is drawn between two heights."""
    grips = []
    for vertex, (x, y) in corners(prism.region):
        grips.append(Grip(GripKind.CORNER, (x, y, low), vertex))
    for polygon, rings in enumerate(prism.region.polygons):
        for ring, outline in enumerate(rings):
            for number, (x, y) in enumerate(outline):
                u, v = outline[(number + 1) % len(outline)]
                middle = ((x + u) / 2, (y + v) / 2, low)
                grips.append(Grip(GripKind.EDGE, middle, (polygon, ring, number + 1)))
    if not prism.region.is_empty:
        inside = prism.region.shape.representative_point()
        x, y = float(inside.x), float(inside.y)
        grips += [Grip(GripKind.ROOF, (x, y, high)), Grip(GripKind.GROUND, (x, y, low))]
    return tuple(grips)


def placement_grips(target: Target, handle: Handle, camera: Camera, radius: float) -> tuple[Grip, ...]:
    """Returns the handles of a target that is a placed copy; `radius` is that of a handle in pixels."""
    placement = target.placed
    assert placement is not None, "the target is a placed copy"
    x, y, z = placement.position
    if handle is Handle.MOVE:
        depth = max(camera.project(np.array(placement.position))[2], 0.0)
        arrow = ARROW * radius * depth / camera.fl_y
        return (
            Grip(GripKind.MOVE, (x, y, z)),
            Grip(GripKind.EAST, (x + arrow, y, z)),
            Grip(GripKind.NORTH, (x, y + arrow, z)),
            Grip(GripKind.UP, (x, y, z + arrow)),
        )
    reach = turning_radius(target)
    angle = math.radians(placement.heading)
    knob = (x + reach * math.cos(angle), y + reach * math.sin(angle), z)
    return (Grip(GripKind.TURN if handle is Handle.ROTATE else GripKind.SIZE, knob),)


def turning_radius(target: Target) -> float:
    """Returns the radius of the ring around a target that is a placed copy."""
    x0, y0, x1, y1 = target.prism.region.bounds
    scale = target.placed.scale if target.placed else 1.0
    return 0.6 * scale * target.ratio * math.hypot(x1 - x0, y1 - y0)


def grips_of(
    target: Target, state: ViewerState, camera: Camera, ground: Ground, radius: float
) -> tuple[Grip, ...]:
    """Returns all handles of a target; `radius` is that of a handle in pixels."""
    if state.scene is None or target.prism.region.is_empty:
        return ()
    if target.placed is not None:
        return placement_grips(target, state.handle, camera, radius)
    low, high = heights(target.prism, ground(*target.prism.region.center), state.scene)
    return prism_grips(target.prism, low, high)


def corners(region: Region) -> list[tuple[Vertex, Point]]:
    """Returns every corner of a region with its place in it."""
    return [
        ((polygon, ring, number), point)
        for polygon, rings in enumerate(region.polygons)
        for ring, outline in enumerate(rings)
        for number, point in enumerate(outline)
    ]


def hit(grips: Iterable[Grip], camera: Camera, at: Pixel, radius: float) -> Grip | None:
    """Returns the handle nearest to the pointer, None where none is within a radius in pixels."""
    found, nearest = None, radius
    for grip in grips:
        column, row, depth = camera.project(np.array(grip.point))
        distance = math.hypot(column - at[0], row - at[1])
        if depth > 0 and distance < nearest:
            found, nearest = grip, distance
    return found


# What a drag makes of them; always from what was there when it began, so that no error adds up


def dragged_prism(
    prism: Prism, grip: Grip, camera: Camera, path: tuple[Pixel, Pixel], grid: float = 0.0
) -> Prism:
    """Returns a prism after one of its handles was dragged.

    Args:
        prism: When the drag began.
        grip: That was grabbed then.
        camera: Of the picture.
        path: Where the drag began, and where it is now.
        grid: Side of the grid that corners snap to; 0: none.
    """
    x, y, z = grip.point
    if grip.kind in (GripKind.ROOF, GripKind.GROUND):
        rise = _rise(camera, (x, y), path)
        if rise is None:
            return prism
        thin = THINNEST * max(abs(z), 1.0)
        if grip.kind is GripKind.ROOF:
            return replace(prism, high=max(z + rise, prism.low + thin))
        return replace(prism, low=min(z + rise, prism.high - thin))
    shift = _shift(camera, z, path)
    if shift is None:
        return prism
    to = snapped((x + shift[0], y + shift[1]), grid)
    moved = (
        prism.region.moved(grip.vertex, to)
        if grip.kind is GripKind.CORNER
        else with_corner(prism.region, grip.vertex, to)
    )
    return prism if moved.is_empty else replace(prism, region=moved)


def dragged_placement(
    placement: Placement,
    grip: Grip,
    camera: Camera,
    path: tuple[Pixel, Pixel],
    snapping: Snapping,
    ground: Ground,
) -> Placement:
    """Returns a placement after one of its handles was dragged; arguments as for `dragged_prism`."""
    x, y, z = placement.position
    if grip.kind is GripKind.UP:
        rise = _rise(camera, (x, y), path)
        return placement if rise is None else replace(placement, position=(x, y, z + rise))
    ends = [on_plane(camera, at, z) for at in path]
    start, end = ends
    if start is None or end is None:
        return placement
    if grip.kind in (GripKind.TURN, GripKind.SIZE):
        return _turned_or_scaled(placement, grip, (start[0] - x, start[1] - y), (end[0] - x, end[1] - y))
    dx = end[0] - start[0] if grip.kind is not GripKind.NORTH else 0.0
    dy = end[1] - start[1] if grip.kind is not GripKind.EAST else 0.0
    x, y = snapped((x + dx, y + dy), snapping.grid)
    return replace(placement, position=(x, y, ground(x, y) if snapping.ground else z))


def with_corner(region: Region, vertex: Vertex, at: Point) -> Region:
    """Returns a region with one corner more; `vertex` is the place that it takes."""
    rings = [[list(ring) for ring in polygon] for polygon in region.polygons]
    polygon, ring, number = vertex
    rings[polygon][ring].insert(number, at)
    return Region.of(shapely.make_valid(MultiPolygon([(parts[0], parts[1:]) for parts in rings])))


def snapped(point: Sequence[float], grid: float) -> Point:
    """Returns the nearest point of a grid; a grid of 0 is none."""
    if grid <= 0:
        return float(point[0]), float(point[1])
    return grid * round(point[0] / grid), grid * round(point[1] / grid)


def on_plane(camera: Camera, at: Pixel, height: float) -> Point | None:
    """Returns where a pixel meets a level plane; None where it looks past it."""
    eye, direction = camera.ray(*at)
    if direction[2] == 0 or (height - eye[2]) / direction[2] <= 0:
        return None
    reach = (height - eye[2]) / direction[2]
    return float(eye[0] + reach * direction[0]), float(eye[1] + reach * direction[1])


def height_over(camera: Camera, foot: Point, at: Pixel) -> float | None:
    """Returns the height at which the vertical through a point is nearest to the ray of a pixel.

    None where the camera looks along the vertical.
    """
    eye, direction = camera.ray(*at)
    level = direction[:2]
    square = float(level @ level)
    if square < STEEPEST**2 * float(direction @ direction):
        return None
    reach = float((np.array(foot) - eye[:2]) @ level) / square
    return float(eye[2] + reach * direction[2])


def _turned_or_scaled(placement: Placement, grip: Grip, start: Point, end: Point) -> Placement:
    """Turns or scales by two positions of the pointer, relative to the middle."""
    before, after = math.hypot(*start), math.hypot(*end)
    if min(before, after) == 0:
        return placement
    if grip.kind is GripKind.SIZE:
        return replace(placement, scale=float(np.clip(placement.scale * after / before, *SCALES)))
    turn = math.degrees(math.atan2(end[1], end[0]) - math.atan2(start[1], start[0]))
    return replace(placement, heading=(placement.heading + turn + 180) % 360 - 180)


def _shift(camera: Camera, height: float, path: tuple[Pixel, Pixel]) -> Point | None:
    start, end = (on_plane(camera, at, height) for at in path)
    return None if start is None or end is None else (end[0] - start[0], end[1] - start[1])


def _rise(camera: Camera, foot: Point, path: tuple[Pixel, Pixel]) -> float | None:
    start, end = (height_over(camera, foot, at) for at in path)
    return None if start is None or end is None else end - start
