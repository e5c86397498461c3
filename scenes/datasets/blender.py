"""Blender renders as the NeRF paper (2020) distributes them: an angle, poses, and pictures with alpha."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ...core.errors import InputError
from . import transforms
from .dataset import Source
from .images import SUFFIXES
from .json_file import Entry, read_entry

BOUNDS = ((-1.5, -1.5, -1.5), (1.5, 1.5, 1.5))
NEAR_FAR = (2.0, 6.0)


def looks_like(path: Path) -> bool:
    """Whether transforms_train.json states camera_angle_x alone, and names pictures without their suffix."""
    try:
        top = read_entry(path / "transforms_train.json")
    except InputError:
        return False
    frames = top.data.get("frames")
    if "camera_angle_x" not in top or not isinstance(frames, list) or not frames:
        return False
    if any(key in top for key in ("w", "h", "fl_x", "cx")):
        return False
    first = Entry(frames[0] if isinstance(frames[0], dict) else {}, "")
    name = first.data.get("file_path")
    return isinstance(name, str) and "transform_matrix" in first and not name.endswith(SUFFIXES)


def read(root: Path) -> Source:
    """Reads transforms_train.json with transforms_test.json or transforms_val.json.

    The cube from -1.5 to 1.5 and the ends of rays at 2 and 6 are those of the paper's scenes, unless the file
    states others.

    Raises:
        InputError: A file or picture is missing, or a key has no usable value.
    """
    source = transforms.read(root)
    return replace(
        source, kind="blender", bounds=source.bounds or BOUNDS, near_far=source.near_far or NEAR_FAR
    )
