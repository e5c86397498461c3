"""Where the photographs of a dataset lie: `images`, or only a reduced copy such as `images_4`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ...core.errors import InputError
from .images import SUFFIXES

FULL_SIZE = "images"
REDUCED = re.compile(r"images_([1-9][0-9]{0,3})")


def find_photo_folder(bases: Sequence[Path]) -> Path:
    """Returns the first `images` below `bases`, or the least reduced `images_N`.

    Cameras are stated for photographs in full size; whoever opens a reduced one scales its camera.

    Raises:
        InputError: There is none.
    """
    for base in bases:
        if (base / FULL_SIZE).is_dir():
            return base / FULL_SIZE
        reduced = {
            int(match[1]): folder
            for folder in base.glob(f"{FULL_SIZE}_*")
            if folder.is_dir() and (match := REDUCED.fullmatch(folder.name))
        }
        if reduced:
            return reduced[min(reduced)]
    raise InputError(f"{bases[0]} must hold the photographs in a folder images or images_2, images_4, …")


def list_photos(folder: Path) -> list[Path]:
    """Returns the photographs of a folder, sorted by name."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    except OSError as error:
        raise InputError(f"{folder} must be a readable folder, got: {error.strerror}") from None


def photo_path(where: str, folder: Path, name: str) -> Path:
    """Returns the file that a name from a dataset means, which lies in `folder` or below it."""
    relative = PurePosixPath(name)
    if not name or relative.is_absolute() or ".." in relative.parts:
        raise InputError(f"{where}: the name must be a path below {folder}, got {name!r}")
    path = folder / relative
    if not is_file(path):
        raise InputError(f"{where}: the photograph {name} must lie in {folder}, which has no such file")
    return path


def check_name(where: str, name: str) -> None:
    """Raises an InputError where a name has characters that would disturb a terminal."""
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise InputError(f"{where}: the name must have no control characters, got {name[:200]!r}")


def is_file(path: Path) -> bool:
    """Whether a path that a file names is a file; those that cannot be looked at are none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether a path that a file names is a folder; those that cannot be looked at are none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
