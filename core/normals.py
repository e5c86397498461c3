"""Normals from a depth picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .camera import Camera


def normals_from_depth(camera: Camera, depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crosses the differences of neighbouring surface points.

    Args:
        camera: The camera that the depth was seen with.
        depth: z-depth, scene units; 0 where there is no surface. [height, width]

    Returns:
        Unit normals in the world that face the camera; 0 where a neighbour has no surface. [height, width, 3]
    """
    matrix = camera.matrix.astype(np.float32)
    column = (np.arange(camera.width, dtype=np.float32) - camera.cx) / camera.fl_x
    row = -(np.arange(camera.height, dtype=np.float32) - camera.cy) / camera.fl_y
    local = np.empty((camera.height, camera.width, 3), np.float32)
    local[..., 0], local[..., 1], local[..., 2] = column[None, :], row[:, None], -1
    points = local * depth[..., None]
    across = _difference(points, axis=1)
    down = _difference(points, axis=0)
    normals = np.cross(down, across)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    surface = (depth > 0)[..., None] & (length > 0)
    normals = np.where(surface, normals / np.maximum(length, 1e-30), 0)
    facing = np.where((normals * local).sum(axis=-1, keepdims=True) > 0, -normals, normals)
    world: NDArray[np.float32] = (facing @ matrix[:3, :3].T).astype(np.float32)
    return world


def _difference(points: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Difference to the nearer of the two neighbours in depth, so that normals stay crisp at silhouettes."""
    outside = np.full_like(np.take(points, [0], axis=axis), np.inf)
    with np.errstate(invalid="ignore"):
        ahead = np.diff(points, axis=axis, append=outside)
        behind = np.diff(points, axis=axis, prepend=-outside)
    use_behind = np.abs(behind[..., 2:]) < np.abs(ahead[..., 2:])
    chosen: NDArray[np.float32] = np.where(use_behind, behind, ahead)
    return np.where(np.isfinite(chosen), chosen, 0)
