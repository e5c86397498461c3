"""What lies over the picture while editing: outlines of layers, the selection, handles, and what is drawn."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.camera import Camera
from ..core.edits.layers import Hide, Placement, Prism, Remove
from ..core.measure import Point3
from ..scenes.footprints import Footprint
from .handles import (
    Grip,
    GripKind,
    Ground,
    Target,
    heights,
    placement_grips,
    prism_grips,
    prisms_of,
    turning_radius,
)
from .overlay import WHITE, draw_lines, pixel_of, prism_edges, visible_parts
from .state import Handle, SceneFacts, Tool, ViewerState
from .theme import AXIS_EAST, AXIS_NORTH, HALO, HUD_ACCENT, HUD_PLATE, HUD_TEXT, Rgba
from .tools import REACH, Sketch
from .units import Units, figures
from .widgets import Pen

DASH, GAP = 6.0, 4.0  # logical pixels
MOST_FOOTPRINTS = 200
MOST_DASHES = 400  # of all lines together; more are drawn as plain lines
RING = 48  # corners of the ring that turns a copy
FAINT, CLEAR = 70, 170  # alpha of layers that are off and on
AXIS_COLORS = {GripKind.EAST: AXIS_EAST, GripKind.NORTH: AXIS_NORTH, GripKind.UP: HUD_ACCENT}
STROKES: tuple[tuple[Rgba, float], ...] = ((HALO, 4.0), (HUD_ACCENT, 1.5))


@dataclass(frozen=True)
class Canvas:
    """Where to draw, and how the scene is seen."""

    pen: Pen
    camera: Camera
    near: float  # z-depth in front of which nothing is drawn
    scene: SceneFacts
    ground: Ground

    def parts(self, segments: np.ndarray) -> np.ndarray:
        """Projects segments [n, 2, 3]."""
        return visible_parts(self.camera, self.near, segments)

    def pixel(self, point: Point3) -> tuple[float, float] | None:
        """Returns where a point is in the picture, None out of sight."""
        return pixel_of(self.camera, self.near, point)


def draw_layers(canvas: Canvas, state: ViewerState) -> None:
    """Draws thin outlines on the ground of all layers: dashed where something was taken away."""
    for layer in state.edits:
        alpha = CLEAR if layer.enabled and state.edits_shown else FAINT
        color: Rgba = (*(HUD_ACCENT if layer.uid == state.layer else WHITE)[:3], alpha)
        for prism in prisms_of(layer, state.unit_ratios):
            floors = np.concatenate([np.zeros((0, 2, 3)), *_floors(canvas, prism)])
            parts = canvas.parts(floors)
            if isinstance(layer, Remove | Hide):
                parts = dashed(parts, canvas.pen.look.scale)
            draw_lines(canvas.pen, parts, ((8, 12, 18, alpha // 2), 2.5), (color, 1.0))


def draw_footprints(canvas: Canvas, footprints: Sequence[Footprint], near: tuple[float, float]) -> None:
    """Draws the outlines of a file that can be selected: those nearest to a place, if there are many."""
    x, y = near

    def distance(footprint: Footprint) -> float:
        at = footprint.region.center
        return math.hypot(at[0] - x, at[1] - y)

    shown = heapq.nsmallest(MOST_FOOTPRINTS, footprints, distance)
    floors = [floor for each in shown for floor in _floors(canvas, Prism(each.region))]
    if floors:
        parts = canvas.parts(np.concatenate(floors))
        draw_lines(canvas.pen, parts, ((8, 12, 18, 90), 2.5), ((*WHITE[:3], CLEAR), 1.0))


def draw_target(canvas: Canvas, state: ViewerState, target: Target, held: Grip | None) -> None:
    """Draws a prism with its handles, or a placed copy with those that move it."""
    draw_prism(canvas, target.outline)
    if target.layer is not None and target.layer.locked:
        return
    if target.placed is not None:
        draw_gizmo(canvas, target, target.placed, state.handle, held)
        return
    low, high = heights(target.prism, canvas.ground(*target.prism.region.center), canvas.scene)
    for grip in prism_grips(target.prism, low, high):
        draw_grip(canvas, grip, grip == held)


def draw_prism(canvas: Canvas, prism: Prism, strokes: Iterable[tuple[Rgba, float]] = STROKES) -> None:
    """Draws outline, upright edges and roof."""
    if prism.region.is_empty:
        return
    low, high = heights(prism, canvas.ground(*prism.region.center), canvas.scene)
    edges = [prism_edges(np.array(ring), low, high) for rings in prism.region.polygons for ring in rings]
    draw_lines(canvas.pen, canvas.parts(np.concatenate(edges)), *strokes)


def draw_grip(canvas: Canvas, grip: Grip, is_held: bool) -> None:
    """Draws a handle of a prism: squares are corners, dots insert one, discs move ground and roof."""
    at, pen = canvas.pixel(grip.point), canvas.pen
    if at is None:
        return
    fill = HUD_ACCENT if is_held else WHITE
    if grip.kind is GripKind.CORNER:
        draw_square(pen, at, fill)
        return
    radius = pen.look.px(3 if grip.kind is GripKind.EDGE else 5)
    pen.circle(at, radius + pen.look.px(1), fill=HALO)
    pen.circle(at, radius, fill=fill if grip.kind is GripKind.EDGE or is_held else HUD_ACCENT)


def draw_square(pen: Pen, at: tuple[float, float], fill: Rgba) -> None:
    """Draws the mark of a corner."""
    half = pen.look.px(4)
    pen.plate(at[0] - half - 1, at[1] - half - 1, 2 * half + 2, 2 * half + 2, HALO, 0)
    pen.plate(at[0] - half, at[1] - half, 2 * half, 2 * half, fill, 0)


def draw_gizmo(canvas: Canvas, target: Target, placed: Placement, handle: Handle, held: Grip | None) -> None:
    """Draws arrows that move a placed copy, the ring that turns it, or the square that scales it."""
    pen = canvas.pen
    radius = REACH * pen.look.scale
    if handle is Handle.ROTATE:
        x, y, z = placed.position
        reach = turning_radius(target)
        angles = np.linspace(0, 2 * math.pi, RING, endpoint=False)
        ring = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles), np.full(RING, z)], axis=1)
        ring_parts = canvas.parts(np.stack([ring, np.roll(ring, -1, axis=0)], axis=1))
        draw_lines(pen, ring_parts, *STROKES)
    for grip in placement_grips(target, handle, canvas.camera, radius):
        at = canvas.pixel(grip.point)
        if at is None:
            continue
        if grip.kind is GripKind.MOVE:
            draw_square(pen, at, HUD_ACCENT if grip == held else WHITE)
            continue
        color = WHITE if grip == held else AXIS_COLORS.get(grip.kind, HUD_ACCENT)
        arrow = canvas.parts(np.array([[placed.position, grip.point]]))
        draw_lines(pen, arrow, (HALO, 4.5), (color, 2.0))
        if grip.kind is GripKind.SIZE:
            draw_square(pen, at, color)
        else:
            pen.circle(at, pen.look.px(6), fill=HALO)
            pen.circle(at, pen.look.px(5), fill=color)


def draw_sketch(canvas: Canvas, state: ViewerState, sketch: Sketch) -> None:
    """Draws what a selecting tool has in hand: corners, a rectangle, the ghost of a copy."""
    pen = canvas.pen
    if sketch.band is not None:
        region, height = sketch.band
        draw_prism(canvas, Prism(region, height, height))
        end = canvas.pixel((region.bounds[2], region.bounds[1], height)) if not region.is_empty else None
        if end is not None:
            x0, y0, x1, y1 = region.bounds
            units = Units.of(canvas.scene)
            draw_label(pen, end, f"{figures((x1 - x0) * units.factor)} × {units.length(y1 - y0)}")
    if sketch.ghost is not None:
        draw_prism(canvas, sketch.ghost)
    if state.tool is Tool.POLYGON:
        _draw_draft(canvas, state.draft, sketch.cursor)


def draw_label(pen: Pen, at: tuple[float, float], words: str) -> None:
    """Writes a few words beside a point."""
    px = pen.look.px
    width = pen.text_width(words) + px(16)
    pen.plate(at[0] + px(10), at[1] + px(6), width, px(24), HUD_PLATE)
    pen.text(at[0] + px(18), at[1] + px(11), words, HUD_TEXT)


def dashed(parts: np.ndarray, scale: float) -> np.ndarray:
    """Cuts segments in the picture [n, 2, 2] into dashes; too many stay whole."""
    if not len(parts):
        return parts
    period, length = scale * (DASH + GAP), np.linalg.norm(parts[:, 1] - parts[:, 0], axis=1)
    if length.sum() > MOST_DASHES * period:
        return parts
    dashes = []
    for (start, end), long in zip(parts, length, strict=True):
        if long > 0:
            first = np.arange(0, long, period) / long
            last = np.minimum(first + scale * DASH / long, 1.0)
            dashes.append(start + np.stack([first, last], axis=1)[..., None] * (end - start))
    return np.concatenate(dashes) if dashes else parts[:0]


def _draw_draft(canvas: Canvas, draft: tuple[Point3, ...], cursor: Point3 | None) -> None:
    """Draws the corners of an outline that is not closed yet."""
    points = [*draft, cursor] if cursor is not None else list(draft)
    if len(points) > 1:
        way = np.array(points)
        draw_lines(canvas.pen, canvas.parts(np.stack([way[:-1], way[1:]], axis=1)), *STROKES)
    if len(points) > 2:
        closing = canvas.parts(np.array([[points[-1], points[0]]]))
        draw_lines(canvas.pen, dashed(closing, canvas.pen.look.scale), *STROKES)
    for number, point in enumerate(draft):
        at = canvas.pixel(point)
        if at is not None:
            draw_square(canvas.pen, at, HUD_ACCENT if number == 0 and len(draft) > 2 else WHITE)


def _floors(canvas: Canvas, prism: Prism) -> list[np.ndarray]:
    """Returns the outlines on the ground, as segments [n, 2, 3] each."""
    if prism.region.is_empty:
        return []
    low, _ = heights(prism, canvas.ground(*prism.region.center), canvas.scene)
    rings = [np.array(ring) for rings in prism.region.polygons for ring in rings]
    return [prism_edges(ring, low, low)[: len(ring)] for ring in rings]
