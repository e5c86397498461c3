"""MatrixCity (Li et al., ICCV 2023): blocks of numbered pictures, in metres, of which 100 are one unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import InputError
from .dataset import PhotoFile, Source
from .images import SUFFIXES
from .json_file import Entry, check_rotation, read_entry
from .transforms import FrameFile, camera_of, choose_splits, code_of, find_image, lens_of, split_paths, world

METRES_PER_UNIT = 100.0
ROTATION_SCALE = 0.01  # of the rotations in rot_mat
FILES = ("transforms.json", "transforms_origin.json")  # the first leaves out views over the map's edge
FOLDERS = ("", "rgb")  # of the pictures, beside the file
MAX_INDEX = 10**9


def looks_like(path: Path) -> bool:
    """Whether the first transforms file of a folder or its blocks has frames with rot_mat."""
    for _, file in _files(path)[:1]:
        try:
            frames = read_entry(file).get("frames")
        except InputError:
            return False
        return isinstance(frames, list) and any(isinstance(f, dict) and "rot_mat" in f for f in frames[:1])
    return False


def read(root: Path) -> Source:
    """Reads one block, a folder of blocks, or a folder with the folders train and test of blocks.

    A block is a folder with transforms.json (else transforms_origin.json) and pictures 0000.png and so on,
    which may lie in its folder rgb. Blocks below a folder test, or whose name ends in _test, are for testing.
    One folder may also have a transforms_train.json and transforms_test.json. Frames hold frame_index, the
    picture's number, and rot_mat, a rotation times 0.01 and a position in metres, 100 of which become a unit.

    The keys of our own in transforms.json are read here too, and a frame may name its picture with file_path.
    Where metres_per_unit is stated, it is the unit of the positions.

    Raises:
        InputError: A file or picture is missing, or a key has no usable value.
    """
    files = [(split, FrameFile.read(path)) for split, path in _files(root)]
    if not files:
        raise InputError(f"{root} must hold transforms.json, or folders of blocks that do, got neither")
    facts = {"metres_per_unit": METRES_PER_UNIT, **world(files[0][1].top)}
    groups: dict[str | None, list[PhotoFile]] = {}
    for split, file in files:
        groups.setdefault(split, []).extend(_photo(file, frame) for frame in file.frames())
    photos, notices = choose_splits(groups)
    folder = root.parent if root.is_file() else root
    return Source(kind="matrixcity", root=folder, photos=photos, notices=notices, **facts)


def _files(root: Path) -> list[tuple[str | None, Path]]:
    """Returns the transforms files with their splits: None where nothing is for testing."""
    if root.is_file() or (root / "transforms_train.json").is_file():
        return split_paths(root)
    if file := _file_of(root):
        return [(None, file)]
    found: list[tuple[str | None, Path]] = []
    for folder in (root / "train", root / "test", root):
        for block in sorted(filter(Path.is_dir, folder.glob("*")), key=_natural):
            if file := _file_of(block):
                tested = folder.name == "test" or block.name.endswith("_test")
                found.append(("test" if tested else "train", file))
    return found


def _file_of(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def _natural(path: Path) -> tuple[str, int, str]:
    stem = path.name.rstrip("0123456789")
    digits = path.name[len(stem) :]
    return stem, int(digits or 0), path.name


def _photo(file: FrameFile, frame: Entry) -> PhotoFile:
    path = _image(file.path.parent, frame)
    pose = _pose(frame, 1.0 if "metres_per_unit" in file.top else METRES_PER_UNIT)
    return PhotoFile(path=path, camera=camera_of(frame, path, pose), lens=lens_of(frame), code=code_of(frame))


def _image(folder: Path, frame: Entry) -> Path:
    if "file_path" in frame:
        return find_image(folder, frame)
    name = f"{frame.whole('frame_index', 0, MAX_INDEX):04d}"
    for place in FOLDERS:
        for suffix in SUFFIXES:
            if (path := folder / place / (name + suffix)).is_file():
                return path
    raise InputError(
        f"{frame.prefix}frame_index must be the number of a picture, got {name}, which is not in {folder}"
    )


def _pose(frame: Entry, unit: float) -> np.ndarray:
    """Returns the camera-to-world matrix, with its position divided by the unit. [4, 4]"""
    pose = np.eye(4)
    pose[:3] = frame.array("rot_mat", (4, 4), (3, 4))[:3]
    pose[:3, :3] /= ROTATION_SCALE
    pose[:3, 3] /= unit
    check_rotation(pose[:3, :3], f"{frame.prefix}rot_mat, times {1 / ROTATION_SCALE:g},")
    return pose
