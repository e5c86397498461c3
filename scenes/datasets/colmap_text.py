"""COLMAP's text models: cameras.txt, images.txt, points3D.txt."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np

from ...core.errors import InputError
from .colmap_model import MAX_POINTS, ColmapCamera, ColmapImage
from .photo_folder import check_name
from .source_camera import check_points

LONGEST_LINE = 1 << 24  # bytes; the observations of one photograph stand in one line
Number = TypeVar("Number", int, float)


def read_cameras(path: Path) -> dict[int, ColmapCamera]:
    """Reads cameras.txt.

    Raises:
        InputError: The file is unreadable or a line is not one of a camera.
    """
    cameras: dict[int, ColmapCamera] = {}
    for where, line in _records(_lines(path)):
        words = line.split()
        if len(words) < 4:
            raise InputError(
                f"{where}: a camera must be CAMERA_ID MODEL WIDTH HEIGHT PARAMS[], got {line[:60]!r}"
            )
        number, width, height = _numbers(int, where, [words[0], *words[2:4]])
        if number in cameras:
            raise InputError(f"{where}: a camera must have a number of its own, got {number} again")
        parameters = _numbers(float, where, words[4:])
        cameras[number] = ColmapCamera(where, words[1], width, height, parameters)
    return cameras


def read_images(path: Path) -> list[ColmapImage]:
    """Reads images.txt; every second line, the observations, is skipped.

    Raises:
        InputError: The file is unreadable or a line is not one of an image.
    """
    images = []
    lines = _lines(path)
    for where, line in _records(lines):
        words = line.split(maxsplit=9)
        if len(words) < 10:
            raise InputError(
                f"{where}: an image must be IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, got {line[:60]!r}"
            )
        pose = _numbers(float, where, words[1:8])
        (camera,) = _numbers(int, where, words[8:9])
        check_name(where, words[9])
        images.append(ColmapImage(where, words[9], camera, pose[:4], pose[4:]))
        if next(lines, None) is None:
            raise InputError(f"{where}: a line of observations, which may be empty, must follow an image")
    return images


def read_points(path: Path) -> np.ndarray:
    """Reads the positions in points3D.txt, at most MAX_POINTS of them, evenly spread. float64 [n, 3]

    Raises:
        InputError: The file is unreadable, or a line is not one of a point.
    """
    kept = array("d")
    every = 1
    for number, (where, line) in enumerate(_records(_lines(path))):
        if number % every:
            continue
        words = line.split(maxsplit=4)
        if len(words) < 4:
            raise InputError(f"{where}: a point must be POINT3D_ID X Y Z …, got {line[:60]!r}")
        kept.extend(_numbers(float, where, words[1:4]))
        if len(kept) > 3 * MAX_POINTS:  # the number of lines is known only at the end
            every *= 2
            kept = array("d", np.frombuffer(kept).reshape(-1, 3)[::2].tobytes())
    points = np.frombuffer(kept, dtype=np.float64).reshape(-1, 3).copy() if kept else np.empty((0, 3))
    check_points(path, points)
    return points


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yields where a line stands, for errors, and the line; each is read for itself."""
    try:
        with path.open("rb") as file:
            number = 0
            while raw := file.readline(LONGEST_LINE + 1):
                number += 1
                where = f"{path}: line {number}"
                if len(raw) > LONGEST_LINE:
                    raise InputError(f"{where} must have at most {LONGEST_LINE} bytes")
                try:
                    yield where, raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError:
                    raise InputError(f"{where} must be UTF-8 text, got {raw[:40]!r}") from None
    except OSError as error:
        raise InputError(f"{path} must be a readable COLMAP file, got: {error.strerror}") from None


def _records(lines: Iterator[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yields the lines that are neither empty nor comments."""
    return ((where, line) for where, line in lines if line and not line.startswith("#"))


def _numbers(kind: Callable[[str], Number], where: str, words: list[str]) -> tuple[Number, ...]:
    try:
        return tuple(kind(word) for word in words)
    except ValueError:
        raise InputError(f"{where}: numbers must stand here, got {' '.join(words)[:60]!r}") from None
