"""Pictures of one view at several resolutions: matching cameras, enlarged buffers, tiles from the middle."""

from __future__ import annotations

import numpy as np
import torch

from ..core.camera import Camera
from ..core.camera import camera_at as camera_at
from ..cuda.tables import FrameBuffers, RenderControl


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
