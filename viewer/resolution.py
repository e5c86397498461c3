"""Pictures of one view at several resolutions: matching cameras, enlarged buffers, tiles from the middle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..core.camera import Camera
from ..cuda.tables import FrameBuffers, RenderControl

SMALLEST_SIDE = 16  # pixels of a coarse picture


def camera_at(camera: Camera, scale: float) -> Camera:
    """Returns the camera for a share of the pixels whose picture, enlarged, lies exactly over the full one.

    Rays go through integer pixel positions while a texture is stretched from edge to edge, so the principal
    point moves by a part of a pixel; else the picture would jump whenever the resolution changes.
    """
    width, height = (
        max(round(side * scale), min(side, SMALLEST_SIDE)) for side in (camera.width, camera.height)
    )
    if (width, height) == (camera.width, camera.height):
        return camera
    across, down = width / camera.width, height / camera.height
    return replace(
        camera,
        width=width,
        height=height,
        fl_x=camera.fl_x * across,
        fl_y=camera.fl_y * down,
        cx=(camera.cx + 0.5) * across - 0.5,
        cy=(camera.cy + 0.5) * down - 0.5,
    )


def enlarged(buffers: FrameBuffers, camera: Camera) -> FrameBuffers:
    """Returns buffers of the camera's size with the nearest pixels of others; themselves at equal size."""
    height, width = buffers.opacity.shape
    if (width, height) == (camera.width, camera.height):
        return buffers
    rows = torch.from_numpy(((np.arange(camera.height) + 0.5) * height / camera.height).astype(np.int64))
    columns = torch.from_numpy(((np.arange(camera.width) + 0.5) * width / camera.width).astype(np.int64))
    rgb, opacity, depth, median_depth = (
        plane[rows][:, columns].contiguous()
        for plane in (buffers.rgb, buffers.opacity, buffers.depth, buffers.median_depth)
    )
    return FrameBuffers(rgb, opacity, depth, median_depth)


def centre_out(width: int, height: int) -> np.ndarray:
    """Returns the numbers of a picture's tiles, those in the middle first. int32 [n_tiles]"""
    grid = RenderControl(width, height)
    row, column = np.divmod(np.arange(grid.rows * grid.columns), grid.columns)
    distance = (row - (grid.rows - 1) / 2) ** 2 + (column - (grid.columns - 1) / 2) ** 2
    return np.argsort(distance, kind="stable").astype(np.int32)
