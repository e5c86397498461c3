"""LandMark's own layout: a folder images_N of photographs reduced N times, beside transforms_train.json."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ...core.camera import Camera, as_matrix
from ...core.errors import InputError
from .dataset import PhotoFile, Source
from .images import SUFFIXES, size_of
from .json_file import Entry
from .photo_folder import REDUCED, check_name, is_file, is_folder
from .transforms import FOCAL_RANGE, FrameFile, choose_splits, code_of, pose_of, split_paths, world

FOCAL_REDUCTION = 10  # of the photographs whose focal length is fl_x


def looks_like(path: Path) -> bool:
    """Whether a path is such a folder."""
    return REDUCED.fullmatch(path.name) is not None and is_file(path.parent / "transforms_train.json")


def read(folder: Path) -> Source:
    """Reads the photographs of a folder images_N.

    Of a frame's file_path only the last folder and the name without its suffix count. fl_x is stated for
    photographs reduced 10 times; the principal point is the middle. Frames whose folder is not there at all
    are left out.

    Raises:
        InputError: A file or photograph is missing, or a key has no usable value.
    """
    match = REDUCED.fullmatch(folder.name)
    if match is None or not looks_like(folder):
        raise InputError(f"{folder} must be a folder such as images_5 beside a transforms_train.json")
    reduced = int(match[1])
    files = [(split, FrameFile.read(path)) for split, path in split_paths(folder.parent)]
    groups: dict[str | None, list[PhotoFile]] = {}
    missing: dict[str, int] = {}
    for split, file in files:
        for frame in file.frames():
            place = _place(frame)
            if is_folder(folder / place.parent):
                groups.setdefault(split, []).append(_photo(folder / place, frame, reduced))
            else:
                missing[place.parent.name] = missing.get(place.parent.name, 0) + 1
    photos, notices = choose_splits(groups)
    return Source(
        kind="landmark",
        root=folder.parent,
        photos=photos,
        pixel_center=0.0,
        reduced=reduced,
        notices=(
            *notices,
            *(
                f"photographs left out, as {folder} has no folder {name}: {n}"
                for name, n in sorted(missing.items())
            ),
        ),
        **world(files[0][1].top),
    )


def _place(frame: Entry) -> PurePosixPath:
    """Returns the folder and name of a photograph, without its suffix."""
    path = frame.text("file_path").replace("\\", "/")
    check_name(f"{frame.prefix}file_path", path)
    *_, folder, name = ("", *path.split("/"))
    stem = name.split(".")[0]
    if folder in ("", ".", "..") or not stem:
        raise frame.fail("file_path", "the path of a photograph in a folder, such as west/0001.jpg")
    return PurePosixPath(folder, stem)


def _photo(stem: Path, frame: Entry, reduced: int) -> PhotoFile:
    photo = _find(stem, frame)
    width, height = size_of(photo)
    focal = frame.number("fl_x", *FOCAL_RANGE) * FOCAL_REDUCTION / reduced
    pose = as_matrix(pose_of(frame))
    camera = Camera(pose, width, height, focal, focal, width / 2, height / 2)
    return PhotoFile(photo, camera, code=code_of(frame))


def _find(stem: Path, frame: Entry) -> Path:
    for suffix in SUFFIXES:
        if is_file(found := stem.with_name(stem.name + suffix)):
            return found
    raise InputError(
        f"{frame.prefix}file_path must name a photograph in {stem.parent}, got {stem.name}, "
        f"which does not exist there with a suffix such as {SUFFIXES[0]}"
    )
