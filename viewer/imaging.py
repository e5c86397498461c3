"""From rendered buffers to the RGBA bytes that are shown, for each mode."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core.appearance import Grade
from ..core.camera import Camera
from ..core.edits.compiled import CompiledEdits
from ..core.normals import normals_from_depth
from ..cuda.tables import FieldTables, FrameBuffers
from .edit_map import owners
from .state import Mode

EMPTY = (18, 21, 26)  # where a mode has nothing to show; the plot ground of the dark theme
VISIBLE_PERCENT = 1, 99  # the depth colours span the depths between these percentiles
SPARSE = 16384  # pixels that the depth range is taken from
SHADING = 0.65  # share of the block colour that the brightness of the picture decides
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)

# From near to far: lightness falls evenly, the hue runs from yellow over green to violet.
_DEPTH_COLORS = np.array(
    [
        (252, 243, 158),
        (205, 227, 116),
        (147, 207, 112),
        (91, 184, 126),
        (54, 157, 142),
        (42, 129, 150),
        (50, 99, 146),
        (60, 70, 130),
        (58, 42, 100),
    ]
)


@dataclass(frozen=True)
class BlockGrid:
    """What the blocks mode needs to know of a scene."""

    low: tuple[float, float]  # x, y of the scene's lower corner, scene units
    high: tuple[float, float]
    division: tuple[int, int] = (1, 1)

    @classmethod
    def of(cls, tables: FieldTables) -> BlockGrid:
        """Reads the grid of a loaded model."""
        (x_min, y_min), (x_max, y_max) = tables.aabb[:, :2].tolist()
        return cls((x_min, y_min), (x_max, y_max), tables.division)

    def locate(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Returns the block that each position lies in, -1 outside of all. Any shape, int64."""
        columns, rows = self.division
        column = np.floor((x - self.low[0]) / (self.high[0] - self.low[0]) * columns)
        row = np.floor((y - self.low[1]) / (self.high[1] - self.low[1]) * rows)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
        return np.where(inside, column * rows + row, -1).astype(np.int64)


def to_image(
    mode: Mode,
    buffers: FrameBuffers,
    camera: Camera,
    grid: BlockGrid | None = None,
    empty: tuple[int, int, int] = EMPTY,
    grade: Grade | None = None,
    edits: CompiledEdits | None = None,
) -> np.ndarray:
    """Returns the picture of a mode, uint8 RGBA, contiguous, opaque. [height, width, 4]

    Args:
        mode: What to show.
        buffers: A rendered picture.
        camera: That it was rendered with.
        grid: Of the scene; needed by the blocks mode only.
        empty: Colour where the mode has nothing to show, 8 bit.
        grade: Of the colours in the colour mode; None changes nothing.
        edits: That were rendered; needed by the edits mode only.
    """
    if mode is Mode.COLOR:
        return _color(buffers, grade or Grade())
    if mode is Mode.BLOCKS:
        return _blocks(buffers, camera, grid or BlockGrid((0, 0), (1, 1)), empty)
    if mode is Mode.EDITS:
        return _edits(buffers, camera, edits, empty)
    return _PAINTERS[mode](buffers, camera, empty)


def block_color(block: int) -> tuple[int, int, int]:
    """Returns the colour of a block, also for the plan map and legends: 8 bit red, green, blue."""
    # Steps of the golden ratio keep the hues of any number of neighbours apart.
    hue = (0.58 + block * 0.618034) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55, (0.95, 0.8)[block % 2])
    return round(red * 255), round(green * 255), round(blue * 255)


def depth_legend(n: int) -> np.ndarray:
    """Returns the colours of the depth mode from near to far. uint8 [n, 3]"""
    at = np.linspace(0, len(_DEPTH_COLORS) - 1, n)
    known = np.arange(len(_DEPTH_COLORS))
    channels = [np.interp(at, known, _DEPTH_COLORS[:, channel]) for channel in range(3)]
    colors: np.ndarray = np.rint(np.stack(channels, axis=1)).astype(np.uint8)
    return colors


def depth_range(depth: np.ndarray) -> tuple[float, float]:
    """Returns the nearest and farthest depth that get colours of their own, scene units; 0, 0 for none."""
    stride = max(1, int(np.sqrt(depth.size / SPARSE)))
    visible = depth[::stride, ::stride]
    visible = visible[visible > 0]
    if not len(visible):
        return 0.0, 0.0
    near, far = np.percentile(visible, VISIBLE_PERCENT)
    return float(near), float(far)


def _color(buffers: FrameBuffers, grade: Grade) -> np.ndarray:
    return _opaque(_to_bytes(grade.apply(buffers.rgb).numpy()))


def _opacity(buffers: FrameBuffers, camera: Camera, empty: tuple[int, int, int]) -> np.ndarray:
    return _opaque(_to_bytes(buffers.opacity.numpy())[..., None])


def _depth(buffers: FrameBuffers, camera: Camera, empty: tuple[int, int, int]) -> np.ndarray:
    depth = buffers.median_depth.numpy()
    near, far = depth_range(depth)
    legend = np.vstack([depth_legend(256), np.array([empty], np.uint8)])
    if far <= 0:
        return _opaque(legend[np.full(depth.shape, 256)])
    # Equal ratios of depth are equally far apart in colour, as a city is seen from near and far at once.
    span = max(np.log(far / near), 1e-6)
    share = (np.log(np.maximum(depth, near), dtype=np.float32) - np.float32(np.log(near))) * np.float32(
        255 / span
    )
    index = np.minimum(share, 255).astype(np.int16)
    index[~(depth > 0)] = 256
    return _opaque(legend[index])


def _normals(buffers: FrameBuffers, camera: Camera, empty: tuple[int, int, int]) -> np.ndarray:
    # Mean depth, not median: that one lies on a sample, and its steps would show as terraces.
    opacity = buffers.opacity.numpy()
    mean = buffers.depth.numpy() / np.maximum(opacity, 1e-6)
    normals = normals_from_depth(camera, np.where(buffers.median_depth.numpy() > 0, mean, np.float32(0)))
    colors = _to_bytes(normals * 0.5 + 0.5)
    colors[~normals.any(axis=-1)] = empty
    return _opaque(colors)


def _blocks(
    buffers: FrameBuffers, camera: Camera, grid: BlockGrid, empty: tuple[int, int, int]
) -> np.ndarray:
    depth = buffers.median_depth.numpy()
    x, y, _ = _positions(camera, depth)
    block = grid.locate(x, y)
    return _tinted(buffers, block, grid.division[0] * grid.division[1], empty)


def _edits(
    buffers: FrameBuffers, camera: Camera, edits: CompiledEdits | None, empty: tuple[int, int, int]
) -> np.ndarray:
    layers, ratios = (edits.layers, edits.unit_ratios) if edits else ((), ())
    owner = owners(layers, *_positions(camera, buffers.median_depth.numpy()), ratios)
    return _tinted(buffers, owner, len(layers), empty)


def _tinted(buffers: FrameBuffers, number: np.ndarray, count: int, empty: tuple[int, int, int]) -> np.ndarray:
    """Returns the picture tinted by number, grey for -1. number: [height, width], below `count`"""
    palette = np.array([block_color(index) for index in range(count)] + [(150, 150, 150)], np.float32)
    luma = buffers.rgb.numpy() @ LUMA
    shading = (1 - SHADING) + SHADING * luma
    colors = _to_bytes(palette[number] * (shading / 255)[..., None])
    colors[~(buffers.median_depth.numpy() > 0)] = empty
    return _opaque(colors)


def _positions(camera: Camera, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns x, y and z in the world of every pixel's surface point. [height, width] each"""
    matrix = camera.c2w
    across = (np.arange(camera.width, dtype=np.float32) - camera.cx) / camera.fl_x
    down = -(np.arange(camera.height, dtype=np.float32) - camera.cy) / camera.fl_y
    x, y, z = (
        (
            matrix[axis][3]
            + (matrix[axis][0] * across[None, :] + matrix[axis][1] * down[:, None] - matrix[axis][2]) * depth
        )
        for axis in range(3)
    )
    return x, y, z


def _to_bytes(values: np.ndarray) -> np.ndarray:
    """Rounds [0, 1] to [0, 255]; what is not a number becomes 0."""
    scaled = values * np.float32(255)
    if not np.isfinite(scaled.sum()):
        scaled = np.nan_to_num(scaled, nan=0.0)
    np.clip(scaled, 0, 255, out=scaled)
    return np.rint(scaled, out=scaled).astype(np.uint8)


def _opaque(colors: np.ndarray) -> np.ndarray:
    """Adds alpha to [height, width, 3] or, for grey, [height, width, 1]."""
    image = np.empty((*colors.shape[:2], 4), np.uint8)
    for channel in range(3):  # one by one is several times faster than a copy of all three
        image[..., channel] = colors[..., min(channel, colors.shape[2] - 1)]
    image[..., 3] = 255
    return image


_PAINTERS: dict[Mode, Callable[[FrameBuffers, Camera, tuple[int, int, int]], np.ndarray]] = {
    Mode.DEPTH: _depth,
    Mode.OPACITY: _opacity,
    Mode.NORMALS: _normals,
}
