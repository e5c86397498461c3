"""LLFF's forward-facing captures: poses_bounds.npy and a folder of photographs.

Facts: github.com/Fyusion/LLFF. A row holds a 3 x 5 matrix (camera to world with axes down, right, back;
position; height, width, focal length) and the nearest and farthest depth of the photograph.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...core.camera import LARGEST
from ...core.errors import InputError
from .dataset import PhotoFile, Source
from .photo_folder import find_photo_folder, is_file, list_photos
from .source_camera import source_camera

POSES = "poses_bounds.npy"
ROW = 17
MAGIC = b"\x93NUMPY"
LONGEST_HEADER = 1 << 16
HEADER = (
    r"'descr': *'([<>]f[248])'",
    r"'fortran_order': *(False)",
    rf"'shape': *\(([1-9][0-9]{{0,15}}), *{ROW},?\)",
)


def looks_like(path: Path) -> bool:
    """Whether a folder holds poses_bounds.npy."""
    return is_file(path / POSES)


def read(root: Path) -> Source:
    """Reads a forward-facing capture; the photographs come sorted by name, as the rows of the poses are.

    Raises:
        InputError: A file is missing, cut or says what cannot be.
    """
    path = root / POSES
    rows = _read_rows(path)
    folder = find_photo_folder([root])
    files = list_photos(folder)
    if len(files) != len(rows):
        raise InputError(
            f"{folder} must hold one photograph for each of the {len(rows)} rows of {path}, got {len(files)}"
        )
    photos = tuple(
        _photo(f"{path}: row {i}", row, file) for i, (row, file) in enumerate(zip(rows, files, strict=True))
    )
    return Source(
        kind="llff",
        root=root,
        photos=photos,
        near_far=_near_far(path, rows[:, 15:]),
        z_is_up=False,
    )


def _photo(where: str, row: np.ndarray, file: Path) -> PhotoFile:
    matrix = row[:15].reshape(3, 5)
    down, right, back, position, (height, width, focal) = matrix.T
    if not all(1 <= side <= 1e6 and side == round(side) for side in (height, width)):
        raise InputError(
            f"{where}: height and width must be whole numbers of pixels, got {height} and {width}"
        )
    size = (int(width), int(height))
    rotation = np.column_stack([right, -down, back])
    middle = (size[0] / 2, size[1] / 2)
    camera = source_camera(where, rotation, position, size, (focal, focal), middle)
    return PhotoFile(file, camera)


def _near_far(path: Path, bounds: np.ndarray) -> tuple[float, float]:
    """Returns the depths that hold every photograph's. bounds: [n, 2]"""
    for i, (near, far) in enumerate(bounds):
        if not 0 < near < far <= LARGEST:
            raise InputError(f"{path}: row {i}: depths must be 0 < near < far, got {near:g} and {far:g}")
    return float(bounds[:, 0].min()), float(bounds[:, 1].max())


def _read_rows(path: Path) -> np.ndarray:
    """Returns the rows of poses_bounds.npy, never more than the file holds. float64 [n, 17]"""
    try:
        with path.open("rb") as file:
            n_rows, dtype = _header(path, file)
            expected = n_rows * ROW * dtype.itemsize
            available = path.stat().st_size - file.tell()
            if available != expected:
                raise InputError(
                    f"{path}: {n_rows} rows of {ROW} numbers, as its header states, "
                    f"must take {expected} bytes, but {available} follow"
                )
            data = file.read(expected)
    except OSError as error:
        raise InputError(f"{path} must be a readable file of poses, got: {error.strerror}") from None
    return np.frombuffer(data, dtype=dtype).reshape(n_rows, ROW).astype(np.float64)


def _header(path: Path, file: BinaryIO) -> tuple[int, np.dtype[Any]]:
    """Reads the header of a .npy file, which is a Python literal, without evaluating it.

    Returns:
        Number of rows and type of number.
    """
    magic = file.read(8)
    length = file.read(2 if magic[6:7] == b"\1" else 4)
    header = file.read(min(int.from_bytes(length, "little"), LONGEST_HEADER)).decode("latin-1").strip()
    if magic[:6] != MAGIC or magic[6] not in (1, 2, 3) or not header.endswith("}"):
        raise InputError(f"{path} must be an array saved by numpy.save, got a file with another header")
    found = [re.search(pattern, header) for pattern in HEADER]
    if not all(found):
        raise InputError(
            f"{path} must hold real numbers of shape (photographs, {ROW}) in C order, got {header[:100]!r}"
        )
    number, _, rows = (match[1] for match in found if match)
    return int(rows), np.dtype(number)
