"""COLMAP's camera models and poses, free of how the files spell them.

Facts: colmap.github.io/format.html and the parameter orders of COLMAP's camera models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.camera import LARGEST, MAX_SIDE
from ...core.errors import InputError
from .dataset import Lens

MAX_POINTS = 1_000_000  # sparse points kept; of more, every n-th

# Names of the parameters, in order; the position of a model is its number in binary files.
MODELS = {
    "SIMPLE_PINHOLE": "f cx cy",
    "PINHOLE": "fx fy cx cy",
    "SIMPLE_RADIAL": "f cx cy k1",
    "RADIAL": "f cx cy k1 k2",
    "OPENCV": "fx fy cx cy k1 k2 p1 p2",
    "OPENCV_FISHEYE": "fx fy cx cy k1 k2 k3 k4",
    "FULL_OPENCV": "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6",
    "FOV": "",
    "SIMPLE_RADIAL_FISHEYE": "f cx cy k1",
    "RADIAL_FISHEYE": "f cx cy k1 k2",
}
USABLE = tuple(name for name, parameters in MODELS.items() if parameters)
UNIT = 1e-2  # departure of a quaternion's length from 1 that rounding does not explain


@dataclass(frozen=True)
class ColmapCamera:
    """One line of cameras.txt."""

    where: str  # starts error messages
    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """One registered photograph."""

    where: str  # starts error messages
    name: str
    camera: int
    quaternion: tuple[float, ...]  # world to camera, (w, x, y, z)
    translation: tuple[float, ...]  # world to camera


@dataclass(frozen=True)
class Intrinsics:
    """What a COLMAP camera says, pixels; the first pixel's centre is at 0.5."""

    size: tuple[int, int]
    focal: tuple[float, float]
    middle: tuple[float, float]
    lens: Lens


def parameter_names(where: str, model: str) -> list[str]:
    """Returns the names of a camera model's parameters.

    Raises:
        InputError: The model has no counterpart here.
    """
    if model not in USABLE:
        raise InputError(
            f"{where}: the camera model must be one of {', '.join(USABLE)}, got {model!r}; "
            "let COLMAP undistort the photographs"
        )
    return MODELS[model].split()


def intrinsics(camera: ColmapCamera) -> Intrinsics:
    """Returns focal lengths, principal point and lens of a camera.

    Raises:
        InputError: A number is missing, not finite or out of range.
    """
    where = camera.where
    names = parameter_names(where, camera.model)
    if len(names) != len(camera.parameters):
        raise InputError(
            f"{where}: {camera.model} must have the {len(names)} parameters {', '.join(names)}, "
            f"got {len(camera.parameters)}"
        )
    values = dict(zip(names, camera.parameters, strict=True))
    for name, value in values.items():
        if not abs(value) <= LARGEST:
            raise InputError(f"{where}: the parameter {name} must be finite, got {value}")
    if not (1 <= camera.width <= MAX_SIDE and 1 <= camera.height <= MAX_SIDE):
        raise InputError(
            f"{where}: width and height must be 1 to {MAX_SIDE} pixels, got {camera.width} x {camera.height}"
        )
    focal = (values.pop("fx"), values.pop("fy")) if "fx" in values else (values.pop("f"),) * 2
    if min(focal) <= 0:
        raise InputError(f"{where}: the focal length must be positive, got {min(focal):g} pixels")
    middle = (values.pop("cx"), values.pop("cy"))
    if camera.model == "FULL_OPENCV":
        divisor = [values.pop(name) for name in ("k4", "k5", "k6")]
        if any(divisor):
            raise InputError(
                f"{where}: k4, k5 and k6 of FULL_OPENCV must be zero, got {divisor}; "
                "let COLMAP undistort the photographs"
            )
    lens = Lens(**values, fisheye=camera.model.endswith("_FISHEYE"))
    return Intrinsics((camera.width, camera.height), focal, middle, lens)


def rotation_matrix(quaternion: np.ndarray) -> np.ndarray:
    """Returns the rotation of a unit quaternion (w, x, y, z). [4] -> [3, 3]"""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def unit_quaternion(image: ColmapImage) -> np.ndarray:
    """Returns the rotation of a photograph as a quaternion of length 1. [4]"""
    quaternion = np.array(image.quaternion)
    length = float(np.linalg.norm(quaternion)) if (np.abs(quaternion) <= 2).all() else np.nan
    if not abs(length - 1) <= UNIT:
        raise InputError(
            f"{image.where}: qw, qx, qy, qz must be a quaternion of length 1, got {image.quaternion}"
        )
    return quaternion / length
