"""COLMAP models, binary or text, in the folders that COLMAP and its users keep them in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...core.errors import InputError
from . import colmap_binary, colmap_text
from .colmap_model import ColmapCamera, ColmapImage, Intrinsics, intrinsics, rotation_matrix, unit_quaternion
from .dataset import PhotoFile, Source
from .photo_folder import find_photo_folder, is_file, photo_path
from .source_camera import OPENGL_FROM_OPENCV, source_camera

FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", "0", ".")


@dataclass(frozen=True)
class _Spelling:
    """Binary or text."""

    ending: str
    cameras: Callable[[Path], dict[int, ColmapCamera]]
    images: Callable[[Path], list[ColmapImage]]
    points: Callable[[Path], np.ndarray]


SPELLINGS = (
    _Spelling(".bin", colmap_binary.read_cameras, colmap_binary.read_images, colmap_binary.read_points),
    _Spelling(".txt", colmap_text.read_cameras, colmap_text.read_images, colmap_text.read_points),
)


def looks_like(path: Path) -> bool:
    """Whether a folder holds a COLMAP model, or is one."""
    return _find_model(path) is not None


def read(root: Path) -> Source:
    """Reads the model below `root`; the photographs come sorted by name, the world axes as they are.

    Raises:
        InputError: A file is missing, cut or says what cannot be.
    """
    found = _find_model(root)
    if found is None:
        raise InputError(
            f"{root} must hold COLMAP's cameras.bin and images.bin (or .txt), in itself or in "
            f"one of {', '.join(FOLDERS[:3])}"
        )
    model, spelling = found
    cameras_path, images_path, points_path = (
        model / (stem + spelling.ending) for stem in ("cameras", "images", "points3D")
    )
    cameras = {number: intrinsics(camera) for number, camera in spelling.cameras(cameras_path).items()}
    images = sorted(spelling.images(images_path), key=lambda image: image.name)
    if not images:
        raise InputError(f"{images_path} must hold at least one registered image, got none")
    for image, following in pairwise(images):
        if image.name == following.name:
            raise InputError(f"{following.where}: image names must differ, got {image.name} twice")
    folder = find_photo_folder([root, *model.absolute().parents[:2]])
    photos = tuple(_photo(image, cameras, cameras_path, folder) for image in images)
    points = spelling.points(points_path) if is_file(points_path) else None
    return Source(
        kind="colmap",
        root=root,
        photos=photos,
        points=points if points is not None and len(points) else None,
        z_is_up=False,
        notices=_notices(model),
    )


def _find_model(root: Path) -> tuple[Path, _Spelling] | None:
    for folder in FOLDERS:
        for spelling in SPELLINGS:
            if all(is_file(root / folder / (stem + spelling.ending)) for stem in ("cameras", "images")):
                return root / folder, spelling
    return None


def _photo(image: ColmapImage, cameras: dict[int, Intrinsics], cameras_path: Path, folder: Path) -> PhotoFile:
    camera = cameras.get(image.camera)
    if camera is None:
        raise InputError(
            f"{image.where}: the camera of {image.name} must be in {cameras_path}, "
            f"which has no number {image.camera}"
        )
    world_from_camera = rotation_matrix(unit_quaternion(image)).T
    center = -world_from_camera @ np.array(image.translation)
    rotation = world_from_camera @ OPENGL_FROM_OPENCV
    pinhole = source_camera(image.where, rotation, center, camera.size, camera.focal, camera.middle)
    return PhotoFile(photo_path(image.where, folder, image.name), pinhole, camera.lens)


def _notices(model: Path) -> tuple[str, ...]:
    """Says which of several models was taken."""
    if model.name != "0":
        return ()
    others = sum(1 for folder in model.parent.iterdir() if folder.name.isdigit()) - 1
    return (f"{model.parent} holds {others + 1} models; 0 is read.",) if others else ()
