"""From a pixel to a point of the world, through the depth of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.camera import Camera

REACH = 2  # pixels of the depth picture around the cursor that may lend their depth
GROUND_PERCENT = 5  # share of the visible surface that may lie below the ground
SAMPLES = 4096  # surface points that an estimate of the ground looks at


@dataclass(frozen=True)
class Picked:
    """A point under the cursor."""

    point: tuple[float, float, float]  # scene units
    depth: float  # z-depth for the camera it was picked with, scene units
    source: str  # "surface", "ground" or "pivot": what was hit

    def depth_for(self, camera: Camera) -> float:
        """Returns the z-depth of the point for another camera; negative behind it."""
        return camera.project(np.array(self.point))[2]


def pick(
    camera: Camera,
    column: float,
    row: float,
    depth: np.ndarray | None = None,
    ground: float | None = None,
    pivot_distance: float = 1.0,
) -> Picked:
    """Finds the point of the world that a pixel shows.

    Args:
        camera: Of the picture that the user sees, at the size of the viewport (Picture.request.camera).
        column: Of the cursor, viewport pixels from the left.
        row: Of the cursor, viewport pixels from the top.
        depth: Median z-depth of that picture at any size; 0: no surface. [height, width]
        ground: Height of the ground plane, scene units; hit where there is no surface.
        pivot_distance: z-depth that is taken where there is no ground either.
    """
    eye, direction = camera.ray(column, row)
    found, source = _surface_depth(camera, column, row, depth), "surface"
    if not found:
        found, source = _ground_depth(float(eye[2]), float(direction[2]), ground), "ground"
    if not found:
        found, source = pivot_distance, "pivot"
    x, y, z = (float(value) for value in eye + found * direction)
    return Picked((x, y, z), found, source)


def ground_height(camera: Camera, depth: np.ndarray, fallback: float) -> float:
    """Estimates the height of the ground as a low percentile of z over the surface that a picture shows.

    Args:
        camera: Of the depth picture, at its size.
        depth: Median z-depth, scene units; 0: no surface. [height, width]
        fallback: Returned where the picture shows no surface.
    """
    heights = surface_heights(camera, depth)
    return float(np.percentile(heights, GROUND_PERCENT)) if len(heights) else fallback


def surface_heights(camera: Camera, depth: np.ndarray) -> np.ndarray:
    """Returns z of some thousand points of the surface that a picture shows, scene units. [n]

    Args:
        camera: Of the depth picture, at its size.
        depth: Median z-depth, scene units; 0: no surface. [height, width]
    """
    stride = max(1, int(np.sqrt(depth.size / SAMPLES)))
    sparse = depth[::stride, ::stride]
    row, column = np.nonzero(sparse > 0)
    z = sparse[row, column].astype(np.float64)
    local = np.stack(
        [
            (column * stride - camera.cx) / camera.fl_x,
            -(row * stride - camera.cy) / camera.fl_y,
            -np.ones(len(z)),
        ]
    )
    heights: np.ndarray = camera.matrix[2, 3] + z * (camera.matrix[2, :3] @ local)
    return heights


def _surface_depth(camera: Camera, column: float, row: float, depth: np.ndarray | None) -> float:
    """Returns the depth at the cursor, else of the nearest pixel within REACH that has one, else 0."""
    if depth is None or not depth.size:
        return 0.0
    height, width = depth.shape
    u = int(np.clip((column + 0.5) * width / camera.width, 0, width - 1))
    v = int(np.clip((row + 0.5) * height / camera.height, 0, height - 1))
    top, left = max(v - REACH, 0), max(u - REACH, 0)
    window = depth[top : v + REACH + 1, left : u + REACH + 1]
    rows, columns = np.nonzero(np.isfinite(window) & (window > 0))
    if not len(rows):
        return 0.0
    nearest = np.argmin((rows + top - v) ** 2 + (columns + left - u) ** 2)
    return float(window[rows[nearest], columns[nearest]])


def _ground_depth(height: float, fall: float, ground: float | None) -> float:
    """Returns the depth at which a ray falling by `fall` per unit of depth meets the ground, 0 for never."""
    if ground is None or fall == 0:
        return 0.0
    return max((ground - height) / fall, 0.0)
