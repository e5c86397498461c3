"""Cameras out of numbers that others wrote: checked once, for every format."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...core.camera import LARGEST, MAX_SIDE, Camera, as_matrix
from ...core.errors import InputError
from .json_file import check_rotation

OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])  # x right, y down, z forward -> x right, y up, z back


def source_camera(
    where: str,
    rotation: np.ndarray,
    center: np.ndarray,
    size: tuple[int, int],
    focal: Sequence[float],
    middle: Sequence[float],
) -> Camera:
    """Makes a camera of checked numbers.

    Args:
        where: Starts every error message.
        rotation: Camera to world, columns right, up, back. [3, 3]
        center: Position in the world. [3]
        size: Width and height, pixels.
        focal: Focal lengths in x and y, pixels. [2]
        middle: Principal point, pixels. [2]

    Raises:
        InputError: A number is not finite or out of range, or the rotation is none.
    """
    width, height = size
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise InputError(f"{where}: width and height must be 1 to {MAX_SIDE} pixels, got {width} x {height}")
    for name, values in (
        ("the rotation", rotation.ravel()),
        ("the position", center),
        ("the focal length", focal),
        ("cx, cy", middle),
    ):
        if not (np.abs(np.asarray(values, dtype=np.float64)) <= LARGEST).all():
            raise InputError(f"{where}: {name} must be finite, got {_listed(values)}")
    if min(focal) <= 0:
        raise InputError(f"{where}: the focal length must be positive, got {_listed(focal)} pixels")
    check_rotation(rotation, f"{where}: the pose")
    c2w = as_matrix(np.column_stack([rotation, center]))
    return Camera(c2w, width, height, float(focal[0]), float(focal[1]), float(middle[0]), float(middle[1]))


def check_points(path: object, points: np.ndarray) -> None:
    """Raises an InputError where a sparse point is not finite. points: [n, 3]"""
    bad = np.flatnonzero(~(np.abs(points) <= LARGEST).all(axis=1))
    if bad.size:
        raise InputError(f"{path}: points must have finite coordinates, got {_listed(points[bad[0]])}")


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return ", ".join(f"{float(value):g}" for value in values)
