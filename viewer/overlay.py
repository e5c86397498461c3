"""What lies over the picture: compass, scale bar, badge, block borders, pivot, and the empty state."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from ..core.camera import Camera
from .plan import block_footprint, ground_of
from .state import Pose, RenderStatus, SceneFacts
from .theme import (
    AXIS_EAST,
    AXIS_NORTH,
    HALO,
    HUD_ACCENT,
    HUD_INK,
    HUD_MUTED,
    HUD_OK,
    HUD_PLATE,
    HUD_TEXT,
    HUD_WARN,
    Rgba,
    icon,
)
from .units import (
    QUALITY_WORDS,
    Units,
    coarse_text,
    duration_text,
    figures,
    is_waiting,
    moving_words,
    nice_length,
    percent,
    resolution_text,
    waiting_text,
)
from .widgets import Pen

MARGIN, PLATE_HEIGHT = 16, 36  # logical pixels
SCALE_SHARE = 0.26  # of the viewport's width that the scale bar takes at most
SCALE_SHORT, BADGE_ROOM = 60, 328  # logical pixels: of a short scale bar; of the badge and all gaps beside it
COMPASS_ROOM = 432, 304  # that the compass needs beside the upper floating bars, and below the upper one
BAR_STEP = 44  # logical pixels from one floating bar to the next
NEAR = 1e-3  # shares of the pivot distance nearer than which lines are cut
SMALLEST_BLOCK = 8.0  # pixels that the side of a block must take for its borders to be drawn
MOST_BLOCKS = 48  # in each direction from the camera whose borders are drawn
WHITE: Rgba = (255, 255, 255, 255)


def draw_compass(pen: Pen, pose: Pose, width: int) -> None:
    """Draws a ring that points north and the three axes of the scene, top right, where no bar is."""
    px = pen.look.px
    beside, below = map(px, COMPASS_ROOM)
    if width < below:
        return
    x, y, radius = width - px(64), px(64 if width >= beside else 64 + BAR_STEP), px(44)
    pen.circle((x, y), radius, fill=(14, 17, 20, 150))
    pen.circle((x, y), radius, color=(255, 255, 255, 60))
    for tick in range(0, 360, 10):
        angle = math.radians(tick) - pose.yaw
        main = tick % 90 == 0
        inner, outer = radius - px(7 if main else 4), radius - px(2)
        sin, cos = math.sin(angle), math.cos(angle)
        ends = ((x + sin * inner, y - cos * inner), (x + sin * outer, y - cos * outer))
        pen.line(*ends, color=(255, 255, 255, 200 if main else 80))
    north = (x - math.sin(pose.yaw) * (radius + px(1)), y - math.cos(pose.yaw) * (radius + px(1)))
    pen.circle(north, px(8), fill=WHITE)
    pen.text(north[0], north[1] - px(7), "N", HUD_INK, 0.5)
    right, up, back = pose.rotation.T
    axes = [(np.eye(3)[0], AXIS_EAST, "E"), (np.eye(3)[1], AXIS_NORTH, "N"), (np.eye(3)[2], HUD_ACCENT, "H")]
    for axis, color, name in sorted(axes, key=lambda entry: float(entry[0] @ back)):
        end = (x + float(axis @ right) * px(25), y - float(axis @ up) * px(25))
        pen.line((x, y), end, color, 2)
        if name != "N":  # north is on the ring already
            pen.circle(end, px(8), fill=color)
            pen.text(end[0], end[1] - px(7), name, HUD_INK, 0.5)


def draw_scale_bar(pen: Pen, camera: Camera, pose: Pose, units: Units, width: int) -> None:
    """Draws a bar of a round length as it appears at the distance of the pivot, bottom left.

    There is none in a viewport whose `width` has no room for it beside the badge.
    """
    px = pen.look.px
    longest = _longest_bar(pen, width)
    if not longest:
        return
    per_unit = camera.fl_y / max(pose.distance, 1e-12) / units.factor  # pixels per displayed unit
    limit = max(min(camera.width * SCALE_SHARE, longest), px(SCALE_SHORT)) / per_unit
    length = nice_length(limit)
    long = length * per_unit
    text = units.with_symbol(figures(length).rstrip("0").rstrip(".") if length < 1000 else figures(length))
    left, bottom = px(MARGIN), camera.height - px(MARGIN)
    pen.plate(left, bottom - px(PLATE_HEIGHT), long + px(24), px(PLATE_HEIGHT), HUD_PLATE)
    x, y = left + px(12), bottom - px(12)
    for part in range(4):
        shade: Rgba = (255, 255, 255, 255 if part % 2 == 0 else 90)
        pen.plate(x + part * long / 4, y - px(2), long / 4, px(4), shade, 0)
    pen.text(x, y - px(20), "0", HUD_MUTED)
    pen.text(x + long, y - px(20), text, HUD_TEXT, 1)


def _longest_bar(pen: Pen, width: int) -> float:
    """Returns the pixels that a scale bar may take beside the badge; 0: it has no room."""
    px = pen.look.px
    room = min(width * SCALE_SHARE, width - px(BADGE_ROOM))
    return max(room, px(SCALE_SHORT)) if width >= px(BADGE_ROOM + SCALE_SHORT) else 0.0


def badge_parts(status: RenderStatus) -> tuple[Rgba, list[tuple[str, Rgba]], float]:
    """Returns colour of the mark, texts with their colours, and how far the bar reaches, in [0, 1]."""
    if status.moving:
        speed = f"{status.fps:.1f} fps" if status.fps else "moving"
        words = [speed, *moving_words(status)]
        texts = [(word, HUD_MUTED if at else HUD_TEXT) for at, word in enumerate(dict.fromkeys(words))]
        return HUD_WARN, texts, 0.0
    if is_waiting(status):
        return HUD_WARN, [("Waiting", HUD_TEXT), (waiting_text(status), HUD_MUTED)], status.progress
    if not status.finished:
        texts = [("Refining", HUD_TEXT), (percent(status.progress), HUD_MUTED)]
        return HUD_ACCENT, texts, status.progress
    name, mark = QUALITY_WORDS[status.quality], HUD_WARN if status.coarse else HUD_OK
    worth = (coarse_text(status), HUD_WARN) if status.coarse else (resolution_text(status.scale), HUD_MUTED)
    texts = [(name if status.coarse else f"{icon('check')} {name}", HUD_TEXT), worth]
    if status.frame_ms:
        texts.append((duration_text(status.frame_ms), HUD_MUTED))
    return mark, texts, 1.0


def draw_badge(pen: Pen, status: RenderStatus, width: int, height: int) -> None:
    """Draws what the picture is worth, bottom right, with the bar of the refinement, if it has room."""
    px = pen.look.px
    mark, texts, progress = badge_parts(status)
    bar = _longest_bar(pen, width)
    room = width - 2 * px(MARGIN) - (bar + px(24 + 8) if bar else 0)
    widths = [pen.text_width(_widest(text)) for text, _ in texts]  # numbers change, the plate keeps still
    while len(widths) > 1 and sum(widths) + px(16) * (len(widths) - 1) + px(40) > room:
        widths.pop()
    total = max(sum(widths) + px(16) * (len(widths) - 1) + px(40), px(168))
    x, y = width - px(MARGIN) - total, height - px(MARGIN) - px(PLATE_HEIGHT)
    pen.plate(x, y, total, px(PLATE_HEIGHT), HUD_PLATE)
    pen.circle((x + px(16), y + px(15)), px(4), fill=mark)
    at = x + px(28)
    for (text, color), width_of_text in zip(texts, widths, strict=False):
        pen.text(at, y + px(8), text, color)
        at += width_of_text + px(16)
    pen.plate(x + px(8), y + px(29), total - px(16), px(2), (255, 255, 255, 40), 1)
    if progress > 0:
        pen.plate(x + px(8), y + px(29), (total - px(16)) * progress, px(2), HUD_ACCENT, 1)


def _widest(text: str) -> str:
    """Returns a text with the widest numbers of two digits, or as many as it has."""
    return re.sub(r"(?<![.\d])\d+", lambda number: number[0].rjust(2, "0"), re.sub(r"\d", "0", text))


def draw_pivot(pen: Pen, width: int, height: int) -> None:
    """Marks the point that orbiting turns about, which is always in the middle."""
    px = pen.look.px
    x, y = width / 2, height / 2
    for near, far in ((5, 14), (-14, -5)):
        for start, end in (
            ((x + px(near), y), (x + px(far), y)),
            ((x, y + px(near)), (x, y + px(far))),
        ):
            pen.line(start, end, (8, 12, 18, 140), 3.5)
            pen.line(start, end, (255, 255, 255, 235), 1.5)


def draw_borders(pen: Pen, scene: SceneFacts, camera: Camera, near: float) -> None:
    """Draws the borders of the blocks around the camera, on the ground that the home view looks at."""
    parts = visible_parts(camera, near, border_lines(scene, camera))
    draw_lines(pen, parts, ((8, 12, 18, 70), 2.5), ((255, 255, 255, 150), 1))


def border_lines(scene: SceneFacts, camera: Camera) -> np.ndarray:
    """Returns the borders of the blocks that are near enough to be told apart in a picture. [n, 2, 3]

    Along a line of the grid, borders of blocks that exist side by side are one segment.
    """
    low, high = (np.array(corner) for corner in scene.aabb)
    ground, counts = ground_of(scene), np.array(scene.division)
    side = (high - low)[:2] / counts
    height = camera.eye[2] - ground
    reach = np.sqrt(max((camera.fl_y * side.max() / SMALLEST_BLOCK) ** 2 - height**2, 0.0))
    span = np.minimum(reach / side, MOST_BLOCKS)
    middle = np.clip((np.array(camera.eye[:2]) - low[:2]) / side, 0, counts)
    first = np.clip(np.floor(middle - span), 0, counts).astype(int)
    last = np.clip(np.ceil(middle + span), 0, counts).astype(int)
    if reach <= 0 or (last <= first).any():
        return np.zeros((0, 2, 3))
    present = np.fromiter(scene.present, bool, len(scene.present)).reshape(scene.division)
    segments = []
    for axis in (0, 1):
        blocks = present[first[0] : last[0], first[1] : last[1]]
        blocks = blocks if axis == 0 else blocks.T
        padded = np.pad(blocks, ((1, 1), (1, 1)))
        has_border = padded[1:] | padded[:-1]  # [line across the axis, place along it, one more at both ends]
        steps = np.diff(has_border.astype(np.int8), axis=1)
        line, start = np.nonzero(steps == 1)
        _, end = np.nonzero(steps == -1)
        ends = np.full((len(line), 2, 3), ground)
        ends[:, :, axis] = (low[axis] + (first[axis] + line) * side[axis])[:, None]
        along = first[1 - axis] + np.stack([start, end], axis=1)
        ends[:, :, 1 - axis] = low[1 - axis] + along * side[1 - axis]
        segments.append(ends)
    return np.concatenate(segments)


def draw_block_box(pen: Pen, scene: SceneFacts, block: int, camera: Camera, near: float) -> None:
    """Draws the edges of the selected block."""
    x0, y0, x1, y1 = block_footprint(scene, block)
    outline = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])
    edges = prism_edges(outline, scene.aabb[0][2], scene.aabb[1][2])
    draw_lines(pen, visible_parts(camera, near, edges), (HALO, 4.0), (HUD_ACCENT, 1.5))


def prism_edges(outline: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns the edges of an upright prism: below, above, and the upright ones. [3 n, 2, 3]"""
    floor = np.concatenate([outline, np.full((len(outline), 1), low)], axis=1)
    roof = np.concatenate([outline, np.full((len(outline), 1), high)], axis=1)
    rings = [np.stack([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in (floor, roof)]
    return np.concatenate([*rings, np.stack([floor, roof], axis=1)])


def visible_parts(camera: Camera, near: float, segments: np.ndarray) -> np.ndarray:
    """Projects segments, and cuts off what is behind the camera or outside of the picture.

    Args:
        camera: Of the picture.
        near: z-depth in front of which nothing is drawn, scene units.
        segments: Ends in the world. [n, 2, 3]

    Returns:
        Column and row of the ends of what is left of them. [m, 2, 2], m <= n
    """
    to_camera = np.linalg.inv(camera.matrix)
    local = np.asarray(segments, np.float64).reshape(-1, 2, 3) @ to_camera[:3, :3].T + to_camera[:3, 3]
    depth = -local[..., 2]
    local = local[depth.max(axis=1, initial=-np.inf) > near]
    depth = -local[..., 2]
    way = local[:, 1] - local[:, 0]
    fall = np.where(way[:, 2] == 0, 1.0, -way[:, 2])
    cut = (near - depth[:, 0]) / fall
    shares = np.stack(
        [np.where(depth[:, 0] < near, cut, 0.0), np.where(depth[:, 1] < near, cut, 1.0)], axis=1
    )
    ends = local[:, :1] + shares[..., None] * way[:, None]
    pixels = np.stack(
        [
            camera.cx + camera.fl_x * ends[..., 0] / -ends[..., 2],
            camera.cy - camera.fl_y * ends[..., 1] / -ends[..., 2],
        ],
        axis=-1,
    )
    return _inside_window(camera, pixels)


def draw_lines(pen: Pen, parts: np.ndarray, *strokes: tuple[Rgba, float]) -> None:
    """Draws projected segments [n, 2, 2], one stroke (colour, thickness) over the other."""
    for color, thickness in strokes:
        for start, end in parts.tolist():
            pen.line(start, end, color, thickness)


def draw_segment(
    pen: Pen, camera: Camera, near: float, start: np.ndarray, end: np.ndarray, *strokes: tuple[Rgba, float]
) -> None:
    """Draws one segment of the world."""
    draw_lines(pen, visible_parts(camera, near, np.array([[start, end]])), *strokes)


def pixel_of(camera: Camera, near: float, point: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """Returns where a point is in the picture, None where it is out of sight."""
    column, row, depth = camera.project(np.asarray(point))
    inside = depth > near and 0 <= column <= camera.width and 0 <= row <= camera.height
    return (float(column), float(row)) if inside else None


def _inside_window(camera: Camera, pixels: np.ndarray) -> np.ndarray:
    """Cuts segments [n, 2, 2] at the sides of the picture: side by side, another one begins there."""
    size = np.array([camera.width, camera.height], np.float64)
    start, way = pixels[:, 0], pixels[:, 1] - pixels[:, 0]
    still = way == 0
    rate = np.where(still, 1.0, way)
    crossings = np.stack([-start / rate, (size - start) / rate])  # [2, n, 2]
    first = np.where(still, -np.inf, crossings.min(axis=0)).max(axis=1, initial=0.0)
    last = np.where(still, np.inf, crossings.max(axis=0)).min(axis=1, initial=1.0)
    beyond = still & ((start < 0) | (start > size))
    kept = (first < last) & ~beyond.any(axis=1)
    shares = np.stack([first, last], axis=1)[kept]
    cut: np.ndarray = start[kept, None] + shares[..., None] * way[kept, None]
    return cut


def draw_empty(pen: Pen, width: int, height: int) -> tuple[float, float]:
    """Draws the invitation to open a scene; returns where its buttons belong."""
    px, color = pen.look.px, pen.look.color
    x, y = width / 2, height / 2 - px(88)
    pen.plate(0, 0, width, height, color("base"), 0)
    frame = {"rounding": px(8), "thickness": max(1.0, 1.5 * pen.look.scale)}
    pen.frame(x - px(220), y - px(32), px(440), px(248), color("line"), **frame)
    pen.text(x, y - px(4), icon("cube"), color("faint"), 0.5, "glyph")
    pen.text(x, y + px(56), "Open a scene", color("text"), 0.5, "title")
    pen.text(x, y + px(88), "Drop a checkpoint (.th), a scene.yaml or a folder", color("muted"), 0.5)
    pen.text(x, y + px(108), "that holds one here. No dataset is needed.", color("muted"), 0.5)
    return x - px(132), y + px(144)


def draw_opening(pen: Pen, name: str, seconds: float, width: int, height: int) -> None:
    """Says that a scene is being opened, and for how long already."""
    px = pen.look.px
    words = f"Opening {name}"
    clock = f"{seconds:.0f} s" if seconds >= 1 else ""
    total = max(pen.text_width(words) + px(28 + 16 + 40), px(200))
    x, y = (width - total) / 2, height / 2 - px(18)
    pen.plate(x, y, total, px(PLATE_HEIGHT), HUD_PLATE)
    pen.circle((x + px(16), y + px(18)), px(4), fill=HUD_WARN)
    pen.text(x + px(28), y + px(11), words, HUD_TEXT)
    pen.text(x + total - px(12), y + px(11), clock, HUD_MUTED, 1)
