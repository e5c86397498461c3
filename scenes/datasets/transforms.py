"""transforms.json as LandMark, instant-ngp and nerfstudio write it: one file, or one for each split."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.camera import Camera, as_matrix
from ...core.errors import InputError
from .dataset import Bounds, Lens, PhotoFile, Source
from .images import SUFFIXES, size_of
from .json_file import Entry, check_rotation, read_entry
from .photo_folder import check_name, is_file

MAX_CODE = 11499  # LandMark's table of appearance codes has 11500 rows
MAX_TERM = 1e6  # of a lens
FOCAL_RANGE = (1e-3, 1e9)  # pixels
FOCAL_KEYS = ("fl_x", "fl_y", "camera_angle_x", "camera_angle_y")
INTRINSIC_KEYS = ("w", "h", "cx", "cy", "k1", "k2", "k3", "k4", "p1", "p2", "camera_model", "is_fisheye")
OTHER_LENSES = ("ftheta_p0", "latlong", "equirectangular", "orthographic")
PINHOLES = ("PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL")
FISHEYES = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE")
NAMES = "a list of different names, one for each appearance code from 0 on"
FILE_LISTS = (("train_filenames", "train"), ("val_filenames", "val"), ("test_filenames", "test"))


@dataclass(frozen=True)
class FrameFile:
    """A transforms.json, checked as far as its list of frames."""

    path: Path
    top: Entry

    @classmethod
    def read(cls, path: Path) -> FrameFile:
        """Reads the file.

        Raises:
            InputError: It is not JSON, or has no frames.
        """
        file = cls(path, read_entry(path))
        for key in OTHER_LENSES:
            if file.top.data.get(key) not in (None, False):
                raise InputError(
                    f"{path}: {key} must not be there: only pinhole and fisheye lenses are known"
                )
        file.top.items("frames", "a list of at least one frame")
        return file

    def frames(self) -> Iterator[Entry]:
        """Yields the frames; what a frame does not say, the top of the file says."""
        shared = {key: self.top.data[key] for key in INTRINSIC_KEYS if key in self.top}
        focal = {key: self.top.data[key] for key in FOCAL_KEYS if key in self.top}
        for number, data in enumerate(self.top.data["frames"]):
            where = f"{self.path}: frames[{number}]"
            if not isinstance(data, dict):
                raise InputError(f"{where} must be a mapping, got {type(data).__name__}")
            own_focal = any(data.get(key) is not None for key in FOCAL_KEYS)
            yield Entry({**shared, **({} if own_focal else focal), **data}, where + ".")


def looks_like(path: Path) -> bool:
    """Whether a folder holds transforms.json or transforms_train.json, or the path is such a file."""
    if path.is_file():
        return path.suffix == ".json"
    return (path / "transforms.json").is_file() or (path / "transforms_train.json").is_file()


def read(root: Path) -> Source:
    """Reads a folder with transforms_train.json and others, or with transforms.json, or one such file.

    A file for each split wins over a single file; validation photographs are the test where there is none.
    Poses are camera to world with OpenGL axes. Keys of our own: `appearance` (a code) in a frame, and
    `metres_per_unit`, `epsg`, `bounds`, `near_far` and `appearances` (the names of the codes) at the top.

    Raises:
        InputError: A file or photograph is missing, or a key has no usable value.
    """
    files = [(split, FrameFile.read(path)) for split, path in split_paths(root)]
    first = files[0][1]
    groups: dict[str | None, list[PhotoFile]] = {}
    for split, file in files:
        listed = _listed_splits(file) if split is None else None
        for frame in file.frames():
            photo = _photo(file.path.parent, frame, split)
            own = split if listed is None else listed.get(frame.text("file_path"), "none")
            groups.setdefault(own, []).append(photo)
    photos, notices = choose_splits(groups)
    return Source(
        kind="transforms",
        root=first.path.parent,
        photos=photos,
        applied=_applied(first.top),
        notices=notices,
        **world(first.top),
    )


def split_paths(root: Path) -> list[tuple[str | None, Path]]:
    """Returns the transforms files of a folder (or the one that is named), each with its split or None."""
    if root.is_file():
        return [(None, root)]
    paths = {split: root / f"transforms_{split}.json" for split in ("train", "test", "val")}
    found: dict[str | None, Path] = {split: path for split, path in paths.items() if path.is_file()}
    if "train" not in found:
        return [(None, root / "transforms.json")]
    if len(found) == 1:
        return [(None, found["train"])]
    if "test" in found:
        found.pop("val", None)
    return list(found.items())


def choose_splits(groups: dict[str | None, list[PhotoFile]]) -> tuple[tuple[PhotoFile, ...], tuple[str, ...]]:
    """Marks photographs by split: "test", or "val" where there is no test; returns them and notices."""
    notices = []
    tested = "test" if groups.get("test") else "val"
    names = {None: None, "train": "train", tested: "test"}
    photos: list[PhotoFile] = []
    for split, members in groups.items():
        if split in names:
            photos += [replace(photo, split=names[split]) for photo in members]
        else:
            reason = "belong to no split" if split == "none" else "are for validation"
            notices.append(f"photographs left out, which {reason}: {len(members)}")
    return tuple(photos), tuple(notices)


def camera_of(frame: Entry, photo: Path, pose: np.ndarray) -> Camera:
    """Returns the camera of a frame; the size is the photograph's where none is stated."""
    width, height = frame.size() or size_of(photo)
    fl_x = _focal(frame, "fl_x", "camera_angle_x", width)
    fl_y = _focal(frame, "fl_y", "camera_angle_y", height)
    if fl_x is None and fl_y is None:
        raise frame.fail("fl_x", "a focal length in pixels, or camera_angle_x an angle in radians")
    return Camera(
        c2w=as_matrix(pose),
        width=width,
        height=height,
        fl_x=fl_x or fl_y or 0.0,
        fl_y=fl_y or fl_x or 0.0,
        cx=frame.number("cx") if "cx" in frame else width / 2,
        cy=frame.number("cy") if "cy" in frame else height / 2,
    )


def lens_of(frame: Entry) -> Lens:
    """Returns the lens distortion of a frame."""
    model = frame.text("camera_model") if "camera_model" in frame else "OPENCV"
    if model not in (*PINHOLES, *FISHEYES):
        raise frame.fail("camera_model", f"one of {', '.join((*PINHOLES, *FISHEYES))}")
    names = ("k1", "k2", "p1", "p2", "k3", "k4")
    terms = {key: frame.number(key, -MAX_TERM, MAX_TERM) for key in names if key in frame}
    return Lens(**terms, fisheye=model in FISHEYES or frame.flag("is_fisheye"))


def pose_of(frame: Entry, key: str = "transform_matrix") -> np.ndarray:
    """Returns the camera-to-world matrix of a frame. [4, 4]"""
    matrix = frame.array(key, (4, 4), (3, 4))
    check_rotation(matrix[:3, :3], frame.prefix + key)
    if len(matrix) == 4 and np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError(f"{frame.prefix}{key} must end with the row 0, 0, 0, 1")
    return np.vstack([matrix[:3], [0.0, 0.0, 0.0, 1.0]])


def code_of(frame: Entry) -> int | None:
    """Returns the appearance code of a frame, if it has one."""
    return frame.whole("appearance", 0, MAX_CODE) if "appearance" in frame else None


def find_image(folder: Path, frame: Entry, key: str = "file_path") -> Path:
    """Returns the file that a key names, relative to the folder; the suffix may be missing."""
    name = frame.text(key).replace("\\", "/")
    check_name(f"{frame.prefix}{key}", name)
    for suffix in ("", *SUFFIXES):
        if is_file(candidate := folder / (name + suffix)):
            return candidate
    raise InputError(
        f"{frame.prefix}{key} must name a photograph in {folder}, got {name[:200]}, which does not exist"
    )


def world(top: Entry) -> dict[str, Any]:
    """Returns what the top of a file says of the world, by the names of Source's fields."""
    facts: dict[str, Any] = {}
    if "bounds" in top:
        facts["bounds"] = _bounds(top)
    if "near_far" in top:
        near, far = top.array("near_far", (2,))
        if not 0 < near < far:
            raise top.fail("near_far", "two numbers with 0 < near < far")
        facts["near_far"] = (float(near), float(far))
    if "metres_per_unit" in top:
        facts["metres_per_unit"] = top.number("metres_per_unit", low=0.0)
    if "epsg" in top:
        facts["epsg"] = top.whole("epsg", 1, 999_999)
    if "appearances" in top:
        facts["styles"] = _styles(top)
    return facts


def _photo(folder: Path, frame: Entry, split: str | None) -> PhotoFile:
    path = find_image(folder, frame)
    return PhotoFile(
        path=path,
        camera=camera_of(frame, path, pose_of(frame)),
        lens=lens_of(frame),
        code=code_of(frame),
        mask=find_image(folder, frame, "mask_path") if "mask_path" in frame else None,
        split=split,
    )


def _focal(frame: Entry, key: str, angle_key: str, side: int) -> float | None:
    """Returns a focal length in pixels, from itself or from the field of view."""
    if key in frame:
        return frame.number(key, *FOCAL_RANGE)
    if angle_key in frame:
        return side / 2 / math.tan(frame.number(angle_key, 0.0, math.pi) / 2)
    return None


def _bounds(top: Entry) -> Bounds:
    low, high = top.array("bounds", (2, 3))
    if not (low < high).all():
        raise top.fail("bounds", "two corners, the first lower than the second along every axis")
    return tuple(low.tolist()), tuple(high.tolist())


def _styles(top: Entry) -> tuple[tuple[str, int], ...]:
    """Returns the names of the appearance codes; the first is that of code 0."""
    names = top.items("appearances", NAMES)
    if len(set(map(str, names))) < len(names) or len(names) > MAX_CODE + 1:
        raise top.fail("appearances", NAMES)
    if not all(isinstance(name, str) and name and name.isprintable() for name in names):
        raise top.fail("appearances", NAMES)
    return tuple((name, code) for code, name in enumerate(names))


def _listed_splits(file: FrameFile) -> dict[str, str] | None:
    """Returns nerfstudio's lists of file names as file name -> split; None where there are no lists."""
    names: dict[str, str] = {}
    for key, split in FILE_LISTS:
        if key in file.top:
            for name in file.top.items(key, "a list of at least one file name"):
                names[str(name)] = split
    return names or None


def _applied(top: Entry) -> np.ndarray | None:
    """Returns the similarity that nerfstudio has already applied to the poses. [4, 4]"""
    if "applied_transform" not in top and "applied_scale" not in top:
        return None
    applied = np.eye(4)
    if "applied_transform" in top:
        applied[:3] = top.array("applied_transform", (3, 4), (4, 4))[:3]
        if abs(np.linalg.det(applied[:3, :3])) < 1e-12:
            raise InputError(f"{top.prefix}applied_transform must be invertible")
    if "applied_scale" in top:
        applied[:3] *= top.number("applied_scale", low=0.0)
    return applied
