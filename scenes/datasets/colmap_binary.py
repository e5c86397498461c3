"""COLMAP's binary models: cameras.bin, images.bin, points3D.bin, all little-endian."""

from __future__ import annotations

import mmap
from array import array
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np

from ...core.errors import InputError
from .colmap_model import MAX_POINTS, MODELS, ColmapCamera, ColmapImage, parameter_names
from .photo_folder import check_name
from .source_camera import check_points

COUNT = Struct("<Q")
CAMERA = Struct("<IiQQ")  # id, model, width, height; then the parameters
IMAGE = Struct("<I7dI")  # id, qw qx qy qz, tx ty tz, camera; then the name and its zero
OBSERVATION = 24  # bytes: x, y, and the number of the 3D point
POINT = Struct("<Q3d3BdQ")  # id, xyz, rgb, error, length of the track; then the track
POSITION = Struct("<3d")
TRACK_ELEMENT = 8  # bytes: image and observation
LONGEST_NAME = 4096  # bytes


class _Records:
    """A binary file, read record by record through a memory map."""

    def __init__(self, path: Path, smallest: int, what: str) -> None:
        """Opens a file of records that take `smallest` bytes at least; `what` names them in errors."""
        self.path = path
        try:
            with path.open("rb") as file:
                file.seek(0, 2)
                self.size = file.tell()
                self.data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""
        except (OSError, ValueError) as error:
            raise InputError(f"{path} must be a readable COLMAP file, got: {error}") from None
        self.at = 0
        self.what = what
        (self.n,) = self.take(COUNT, f"the number of {what}s")
        if self.n * smallest > self.size - self.at:
            raise InputError(
                f"{path}: {self.n} {what}s, as byte 0 states, must take {smallest} bytes each at least, "
                f"but only {self.size - self.at} bytes follow"
            )

    def take(self, layout: Struct, what: str) -> tuple[Any, ...]:
        """Returns the next record."""
        start = self.at
        self.skip(layout.size, what)
        return layout.unpack_from(self.data, start)

    def skip(self, n_bytes: int, what: str) -> None:
        """Goes on by some bytes, which must be there."""
        if n_bytes > self.size - self.at:
            raise InputError(
                f"{self.path}: {what} at byte {self.at} must have {n_bytes} bytes, "
                f"but the file ends at byte {self.size}; copy the model again"
            )
        self.at += n_bytes

    def name(self, where: str) -> str:
        """Returns the next zero-terminated string."""
        end = self.data.find(b"\0", self.at, self.at + LONGEST_NAME + 1)
        if end < 0:
            raise InputError(
                f"{where}: the name at byte {self.at} must end with a zero byte within {LONGEST_NAME} bytes"
            )
        raw, self.at = self.data[self.at : end], end + 1
        try:
            return str(raw, "utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{where}: the name must be UTF-8 text, got {raw[:40]!r}") from None

    def end(self) -> None:
        """Checks that nothing follows."""
        if self.at != self.size:
            raise InputError(
                f"{self.path} must end after the {self.n} {self.what}s that byte 0 states, "
                f"but {self.size - self.at} bytes follow"
            )


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Reads cameras.bin.

    Raises:
        InputError: The file is unreadable, cut, or has a camera of an unknown model.
    """
    records = _Records(path, CAMERA.size, "camera")
    names = tuple(MODELS)
    cameras: dict[int, ColmapCamera] = {}
    for _ in range(records.n):
        where = f"{path}: the camera at byte {records.at}"
        number, model, width, height = records.take(CAMERA, "a camera")
        name = names[model] if 0 <= model < len(names) else f"number {model}"
        layout = Struct(f"<{len(parameter_names(where, name))}d")
        if number in cameras:
            raise InputError(f"{where} must have a number of its own, got {number} again")
        parameters = records.take(layout, f"the parameters of {name}")
        cameras[number] = ColmapCamera(where, name, width, height, parameters)
    records.end()
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """Reads images.bin; the observations in it are skipped.

    Raises:
        InputError: The file is unreadable or cut.
    """
    records = _Records(path, IMAGE.size + 1 + COUNT.size, "image")
    images = []
    for _ in range(records.n):
        where = f"{path}: the image at byte {records.at}"
        _, *pose, camera = records.take(IMAGE, "an image")
        name = records.name(where)
        check_name(where, name)
        (n_observations,) = records.take(COUNT, f"the number of observations of {name}")
        records.skip(n_observations * OBSERVATION, f"observations of {name}")
        images.append(ColmapImage(where, name, camera, tuple(pose[:4]), tuple(pose[4:])))
    records.end()
    return images


def read_points(path: Path) -> np.ndarray:
    """Reads the positions in points3D.bin, at most MAX_POINTS of them, evenly spread. float64 [n, 3]

    Raises:
        InputError: The file is unreadable or cut, or a position is not finite.
    """
    records = _Records(path, POINT.size, "point")
    every = -(-records.n // MAX_POINTS) or 1
    kept = array("d")
    track_at = POINT.size - COUNT.size
    for number in range(records.n):
        start = records.at
        records.skip(POINT.size, "a point")
        if number % every == 0:
            kept.extend(POSITION.unpack_from(records.data, start + 8))
        (length,) = COUNT.unpack_from(records.data, start + track_at)
        records.skip(length * TRACK_ELEMENT, "a track")
    records.end()
    points = np.frombuffer(kept, dtype=np.float64).reshape(-1, 3).copy() if kept else np.empty((0, 3))
    check_points(path, points)
    return points
