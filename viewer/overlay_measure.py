"""Measurements over the picture: lines with ends, a label with the value, and what is being drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.camera import Camera
from ..core.measure import MeasureKind, Measurement, Point3
from .measuring import drafted, value_text
from .overlay import draw_segment, pixel_of
from .state import Tool
from .theme import HALO, HUD_ACCENT, HUD_PLATE, HUD_TEXT, HUD_WARN, Rgba
from .units import Units
from .widgets import Pen

THIN: Rgba = (255, 255, 255, 150)
END = 4.0  # logical pixels
LABEL_HEIGHT, LABEL_PAD = 22, 6  # logical pixels

Segment = tuple[Point3, Point3]


def draw_measurements(
    pen: Pen, measurements: Sequence[Measurement], camera: Camera, near: float, units: Units
) -> None:
    """Draws kept measurements: `near` is the z-depth nearer than which lines are cut, scene units."""
    for measurement in measurements:
        _draw(pen, measurement, camera, near, HUD_ACCENT)
        _label(pen, measurement, camera, near, value_text(measurement, units))


def draw_measure_draft(
    pen: Pen, tool: Tool, corners: tuple[Point3, ...], camera: Camera, near: float, units: Units
) -> None:
    """Draws corners set so far, the last of which may follow the pointer, with the value that they have."""
    measurement = drafted(tool, corners)
    if measurement is None:
        for corner in corners:
            _draw_end(pen, corner, camera, near, HUD_WARN)
        return
    _draw(pen, measurement, camera, near, HUD_WARN)
    _label(pen, measurement, camera, near, value_text(measurement, units))


def lines_of(measurement: Measurement) -> tuple[list[Segment], list[Segment]]:
    """Returns what is measured, and what only helps to see it: the level part of a height."""
    points = measurement.points
    if measurement.kind is MeasureKind.HEIGHT:
        foot, top = points
        over: Point3 = (foot[0], foot[1], top[2])
        return [(foot, over)], [(over, top)]
    ends = points[1:] + points[:1] if measurement.kind is MeasureKind.AREA else points[1:]
    return list(zip(points, ends, strict=False)), []


def anchor_of(measurement: Measurement) -> Point3:
    """Returns where the label belongs: the middle of what is measured."""
    if measurement.kind is MeasureKind.AREA:
        x, y, z = np.mean(measurement.points, axis=0)
        return float(x), float(y), float(z)
    lines = np.array(lines_of(measurement)[0])
    lengths = np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1)
    until = np.cumsum(lengths)
    number = min(int(np.searchsorted(until, until[-1] / 2)), len(lines) - 1)
    share = (until[-1] / 2 - (until[number] - lengths[number])) / max(lengths[number], 1e-12)
    x, y, z = lines[number, 0] + share * (lines[number, 1] - lines[number, 0])
    return float(x), float(y), float(z)


def _draw(pen: Pen, measurement: Measurement, camera: Camera, near: float, color: Rgba) -> None:
    measured, helping = lines_of(measurement)
    for start, end in helping:
        draw_segment(pen, camera, near, np.array(start), np.array(end), (HALO, 3.0), (THIN, 1.0))
    for start, end in measured:
        draw_segment(pen, camera, near, np.array(start), np.array(end), (HALO, 4.5), (color, 2.0))
    for point in measurement.points:
        _draw_end(pen, point, camera, near, color)


def _draw_end(pen: Pen, point: Point3, camera: Camera, near: float, color: Rgba) -> None:
    at = _seen(point, camera, near)
    if at is not None:
        pen.circle(at, pen.look.px(END + 1.5), fill=HALO)
        pen.circle(at, pen.look.px(END), fill=color)
        pen.circle(at, pen.look.px(END - 2), fill=HUD_TEXT)


def _label(pen: Pen, measurement: Measurement, camera: Camera, near: float, words: str) -> None:
    at = _seen(anchor_of(measurement), camera, near)
    if at is None:
        return
    px = pen.look.px
    width = pen.text_width(words) + 2 * px(LABEL_PAD)
    x, y = at[0] - width / 2, at[1] - px(LABEL_HEIGHT + 8)
    pen.plate(x, y, width, px(LABEL_HEIGHT), HUD_PLATE, 4)
    pen.text(x + px(LABEL_PAD), y + px(3), words, HUD_TEXT)


def _seen(point: Point3, camera: Camera, near: float) -> tuple[float, float] | None:
    """Returns the pixel of a point in front of the camera and within the picture."""
    at = pixel_of(camera, near, point)
    if at is None:
        return None
    x, y = at
    return (x, y) if 0 <= x <= camera.width and 0 <= y <= camera.height else None
