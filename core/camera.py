"""The pinhole camera: OpenGL axes (x right, y up, -z forward) in a Z-up world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import InputError

Matrix = tuple[tuple[float, ...], ...]
MAX_SIDE = 16384
SCALES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125)  # shares of a picture's resolution per side
SMALLEST_SIDE = 16  # pixels of a coarse picture
LARGEST = float(np.finfo(np.float32).max)  # rays are float32


@dataclass(frozen=True)
class Camera:
    """A pinhole camera, immutable and comparable.

    LandMark shoots rays through integer pixel positions: column i is at (i - cx) / fl_x, with no half-pixel
    offset, so cx = width / 2 and cy = height / 2 reproduce its pictures.
    """

    c2w: Matrix  # camera to world, 4 x 4, OpenGL axes
    width: int  # pixels
    height: int  # pixels
    fl_x: float  # focal length, pixels
    fl_y: float  # focal length, pixels
    cx: float  # principal point, pixels from the left
    cy: float  # principal point, pixels from the top

    @classmethod
    def from_focal(cls, c2w: Any, width: int, height: int, fl_x: float, fl_y: float | None = None) -> Camera:
        """Makes a camera whose principal point is the middle of the picture."""
        return cls(
            as_matrix(c2w),
            width,
            height,
            float(fl_x),
            float(fl_x if fl_y is None else fl_y),
            width / 2,
            height / 2,
        )

    @classmethod
    def from_fov(cls, c2w: Any, width: int, height: int, fov_y: float) -> Camera:
        """Makes a camera with a vertical field of view in degrees."""
        return cls.from_focal(c2w, width, height, height / 2 / math.tan(math.radians(fov_y) / 2))

    @classmethod
    def from_json(cls, data: Any, where: str = "camera") -> Camera:
        """Reads one entry of a camera file; `where` starts every error message.

        Raises:
            InputError: A key is missing, unknown, or has a value out of range.
        """
        return _from_json(data, where)

    def to_json(self) -> dict[str, Any]:
        """Returns the camera file entry that `from_json` reads."""
        return {
            "c2w": [list(row) for row in self.c2w],
            "width": self.width,
            "height": self.height,
            "fl_x": self.fl_x,
            "fl_y": self.fl_y,
            "cx": self.cx,
            "cy": self.cy,
        }

    @property
    def matrix(self) -> np.ndarray:
        """Camera to world. [4, 4] float64."""
        return np.array(self.c2w, dtype=np.float64)

    @property
    def eye(self) -> np.ndarray:
        """Position in the world. [3]"""
        return self.matrix[:3, 3]

    @property
    def fov_y(self) -> float:
        """Vertical field of view in degrees."""
        return math.degrees(2 * math.atan(self.height / 2 / self.fl_y))

    def resized(self, width: int, height: int) -> Camera:
        """Returns the camera for another picture size; the vertical field of view stays."""
        scale = height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fl_x=self.fl_x * scale,
            fl_y=self.fl_y * scale,
            cx=self.cx * width / self.width,
            cy=self.cy * height / self.height,
        )

    def ray(self, column: float, row: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns origin [3] and direction [3] of the ray through a pixel position; t is z-depth."""
        local = np.array([(column - self.cx) / self.fl_x, -(row - self.cy) / self.fl_y, -1.0])
        matrix = self.matrix
        return matrix[:3, 3], matrix[:3, :3] @ local

    def project(self, point: np.ndarray) -> tuple[float, float, float]:
        """Returns pixel column, row and z-depth of a world point; the depth is negative behind the camera."""
        local = np.linalg.inv(self.matrix) @ np.append(np.asarray(point, dtype=np.float64), 1.0)
        depth = -local[2]
        safe = depth if abs(depth) > 1e-12 else 1e-12
        return self.cx + self.fl_x * local[0] / safe, self.cy - self.fl_y * local[1] / safe, depth


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


def as_matrix(c2w: Any) -> Matrix:
    """Turns any 3 x 4 or 4 x 4 array into the nested tuple that a Camera holds."""
    array = np.asarray(c2w, dtype=np.float64)
    if array.shape == (3, 4):
        array = np.vstack([array, [0.0, 0.0, 0.0, 1.0]])
    if array.shape != (4, 4):
        raise InputError(f"c2w must be a 4 x 4 or 3 x 4 matrix, got shape {array.shape}")
    return tuple(tuple(float(v) for v in row) for row in array)


def look_at(eye: Any, target: Any) -> np.ndarray:
    """Returns the camera-to-world matrix of a level camera at `eye` that looks at `target`. [4, 4]"""
    eye, target = np.asarray(eye, dtype=np.float64), np.asarray(target, dtype=np.float64)
    back = eye - target
    length = np.linalg.norm(back)
    if not length > 0:
        raise InputError(f"camera.target must differ from camera.eye, got {target.tolist()} for both")
    back = back / length
    right = np.cross([0.0, 0.0, 1.0], back)
    if np.linalg.norm(right) < 1e-9:  # straight up or down: north up
        right = np.array([1.0, 0.0, 0.0])
    right = right / np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return c2w


def _from_json(data: Any, where: str) -> Camera:
    if not isinstance(data, Mapping):
        raise InputError(f"{where} must be a mapping with c2w, width and height, got {type(data).__name__}")
    known = {"c2w", "width", "height", "fl_x", "fl_y", "cx", "cy", "fov_y"}
    if unknown := sorted(set(data) - known):
        raise InputError(f"{where} has the unknown key {unknown[0]}; known are {', '.join(sorted(known))}")
    for key in ("c2w", "width", "height"):
        if key not in data:
            raise InputError(f"{where} must have the key {key}")
    if ("fl_x" in data) == ("fov_y" in data):
        raise InputError(f"{where} must have either fl_x (pixels) or fov_y (degrees)")
    width, height = (_side(data[key], f"{where}.{key}") for key in ("width", "height"))
    try:
        matrix = as_matrix(data["c2w"])
    except (InputError, TypeError, ValueError, OverflowError):
        raise InputError(f"{where}.c2w must be a 4 x 4 matrix of numbers") from None
    if not (np.abs(matrix) <= LARGEST).all():
        raise InputError(f"{where}.c2w must hold finite numbers only")
    if abs(np.linalg.det(np.array(matrix)[:3, :3])) < 1e-9:
        raise InputError(f"{where}.c2w must be invertible")
    if "fov_y" in data:
        fov_y = _number(data["fov_y"], f"{where}.fov_y")
        if not 0 < fov_y < 180:
            raise InputError(f"{where}.fov_y must be in (0, 180) degrees, got {fov_y:g}")
        camera = Camera.from_fov(matrix, width, height, fov_y)
    else:
        focal = [
            _number(data[key], f"{where}.{key}") for key in ("fl_x", "fl_y") if data.get(key) is not None
        ]
        if min(focal) <= 0:
            raise InputError(f"{where}.fl_x and fl_y must be positive, got {min(focal):g}")
        camera = Camera.from_focal(matrix, width, height, *focal)
    middle = {key: _number(data[key], f"{where}.{key}") for key in ("cx", "cy") if data.get(key) is not None}
    return replace(camera, cx=middle.get("cx", camera.cx), cy=middle.get("cy", camera.cy))


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise InputError(f"{where} must be a finite number, got {value!r}")
    return float(value)


def _side(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
        raise InputError(f"{where} must be a whole number of pixels from 1 to {MAX_SIDE}, got {value!r}")
    return value
