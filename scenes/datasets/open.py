"""Opens photographs with poses, whatever their format, as one Dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core.camera import Camera
from ...core.errors import InputError
from ...core.training.photos import Photos
from . import blender, colmap, contextcapture, landmark, llff, matrixcity, transforms
from .dataset import Dataset, DatasetOptions, PhotoFile, Progress, Source
from .images import Recipe, size_of
from .pixels import open_pixels
from .placement import Placement, is_remote, place, scene_bounds, scene_near_far

LARGEST = 1e9  # scene units; rays are float32


@dataclass(frozen=True)
class Format:
    """A way to store photographs with poses."""

    looks_like: Callable[[Path], bool]
    read: Callable[[Path], Source]


FORMATS = {  # in the order in which they are tried
    "landmark": Format(landmark.looks_like, landmark.read),
    "matrixcity": Format(matrixcity.looks_like, matrixcity.read),
    "blender": Format(blender.looks_like, blender.read),
    "transforms": Format(transforms.looks_like, transforms.read),
    "colmap": Format(colmap.looks_like, colmap.read),
    "llff": Format(llff.looks_like, llff.read),
    "contextcapture": Format(contextcapture.looks_like, contextcapture.read),
}


def detect(path: Path) -> str:
    """Returns the name of the format of a folder or file.

    Raises:
        InputError: It does not exist, or has no known format.
    """
    if not path.exists():
        raise InputError(f"dataset.path must be a folder or file with poses, but {path} does not exist")
    for name, form in FORMATS.items():
        if form.looks_like(path):
            return name
    raise InputError(
        f"{path} must hold transforms.json, transforms_train.json, a COLMAP model, poses_bounds.npy, blocks "
        "of MatrixCity or a ContextCapture XML file; name the format with dataset.format if it does"
    )


def open_dataset(options: DatasetOptions, progress: Progress | None = None) -> Dataset:
    """Reads a dataset and moves it into its scene.

    Args:
        options: Where it lies and what becomes of it.
        progress: Is told how many photographs are decoded; with it all are decoded now, else when needed.

    Raises:
        InputError: A file, key or option is missing or wrong.
    """
    _check(options)
    name = detect(options.path) if options.format == "auto" else options.format
    if name not in FORMATS:
        raise InputError(f"dataset.format must be auto or one of {', '.join(FORMATS)}, got {name}")
    source = FORMATS[name].read(options.path)
    if not source.photos:
        raise InputError(f"{source.root} must hold at least one photograph with a pose, got none")
    notices = list(source.notices)
    if options.folders:
        source = replace(source, photos=_in_folders(source, options.folders))
    fitted = _fitted(source, notices)
    train, test = _split(fitted.photos, options.holdout)
    placement = place(fitted, options)
    if not source.z_is_up and not options.orient:
        notices.append(
            "nothing says which way is up; --set dataset.orient=true turns the cameras' mean up to +z"
        )
    if not test:
        notices.append("no photograph is kept for testing")
    cameras = [placement.camera(photo.camera) for photo in (*train, *test)]
    bounds = scene_bounds(fitted, options, placement, cameras)
    if is_remote(bounds):
        notices.append(
            "the scene lies so far from the origin, for its size, that single precision blurs it; "
            "--set dataset.recenter=true moves it there"
        )
    if np.abs(bounds).max() > LARGEST:
        raise InputError(
            f"dataset.bounds must be within {LARGEST:g} scene units of the origin, got {bounds}; "
            "make dataset.scale smaller"
        )
    near_far = scene_near_far(fitted, options, bounds, cameras)
    total = len(cameras)
    train = [replace(photo, code=i if photo.code is None else photo.code) for i, photo in enumerate(train)]
    test = [_lit_as_nearest(photo, train) for photo in test]
    opened = (
        _opened("train", train, fitted, options, placement, _part(progress, 0, total)),
        _opened("test", test, fitted, options, placement, _part(progress, len(train), total)),
    )
    metres = source.metres_per_unit
    return Dataset(
        kind=source.kind,
        root=source.root,
        train=opened[0],
        test=opened[1],
        bounds=bounds,
        near_far=near_far,
        scene_from_source=placement.matrix if source.applied is None else placement.matrix @ source.applied,
        metres_per_unit=None if metres is None else metres / options.scale,
        epsg=source.epsg,
        downsample=options.downsample * source.reduced,
        styles=source.styles,
        notices=tuple(notices),
    )


def _opened(
    name: str,
    photos: Sequence[PhotoFile],
    source: Source,
    options: DatasetOptions,
    placement: Placement,
    progress: Progress | None,
) -> Photos:
    """Opens the photographs of one split."""
    recipes = [_recipe(photo, source, options) for photo in photos]
    return Photos(
        cameras=tuple(_final_camera(placement.camera(recipe.camera), options) for recipe in recipes),
        names=tuple(_name(photo.path, source.root) for photo in photos),
        codes=np.array([photo.code for photo in photos], dtype=np.int32),
        pixels=open_pixels(recipes, name, options.max_memory, options.cache, progress),
    )


def _lit_as_nearest(photo: PhotoFile, train: Sequence[PhotoFile]) -> PhotoFile:
    """Returns a photograph to test with; one that states no code gets that of its nearest neighbour."""
    if photo.code is not None:
        return photo
    eyes = np.stack([other.camera.eye for other in train])
    nearest = np.linalg.norm(eyes - photo.camera.eye, axis=1).argmin()
    return replace(photo, code=train[nearest].code)


def _part(progress: Progress | None, first: int, total: int) -> Progress | None:
    """Returns the progress of a part that begins after `first` photographs."""
    return None if progress is None else lambda done, _: progress(first + done, total)


def _check(options: DatasetOptions) -> None:
    if options.downsample < 1:
        raise InputError(f"dataset.downsample must be at least 1, got {options.downsample}")
    if options.holdout < 0 or options.holdout == 1:
        raise InputError(f"dataset.holdout must be 0, or at least 2, got {options.holdout}")
    if not 0 < options.scale < LARGEST:
        raise InputError(f"dataset.scale must be a positive number below {LARGEST:g}, got {options.scale:g}")


def _in_folders(source: Source, names: Sequence[str]) -> tuple[PhotoFile, ...]:
    """Returns the photographs in folders of these names."""
    photos = tuple(photo for photo in source.photos if photo.path.parent.name in names)
    if not photos:
        there = sorted({photo.path.parent.name for photo in source.photos})
        raise InputError(
            f"dataset.folders must name folders of photographs such as {', '.join(there[:6])}, "
            f"got {', '.join(names)}"
        )
    return photos


def _split(photos: Sequence[PhotoFile], holdout: int) -> tuple[list[PhotoFile], list[PhotoFile]]:
    """Returns the photographs to train on and to test with."""
    if any(photo.split == "test" for photo in photos):
        tested = [photo.split == "test" for photo in photos]
    else:
        tested = [holdout > 0 and len(photos) > 1 and i % holdout == 0 for i in range(len(photos))]
    train = [photo for photo, is_test in zip(photos, tested, strict=True) if not is_test]
    if not train:
        raise InputError("the dataset must have a photograph to train on, got test photographs only")
    return train, [photo for photo, is_test in zip(photos, tested, strict=True) if is_test]


def _fitted(source: Source, notices: list[str]) -> Source:
    """Fits every camera to the size of its photograph on disk, where only the scale differs."""
    photos = []
    scaled: dict[str, int] = {}
    for photo in source.photos:
        camera = photo.camera
        width, height = size_of(photo.path, (camera.width, camera.height))
        if (width, height) != (camera.width, camera.height):
            if abs(width * camera.height - height * camera.width) > max(camera.width, camera.height):
                raise InputError(
                    f"{photo.path} must have {camera.width} x {camera.height} pixels, as its camera states, "
                    f"or others of the same proportions, got {width} x {height}"
                )
            change = f"from {camera.width} x {camera.height} to {width} x {height} pixels"
            scaled[change] = scaled.get(change, 0) + 1
            camera = _scaled(camera, width, height, source.pixel_center)
        photos.append(replace(photo, camera=camera))
    notices += [f"cameras scaled {change}, as their photographs are: {n}" for change, n in scaled.items()]
    return replace(source, photos=tuple(photos))


def _scaled(camera: Camera, width: int, height: int, pixel_center: float) -> Camera:
    """Returns the camera of the same picture with other pixels."""
    x, y = width / camera.width, height / camera.height
    edge = 0.5 - pixel_center  # from the source's coordinates to those whose first pixel begins at 0
    return replace(
        camera,
        width=width,
        height=height,
        fl_x=camera.fl_x * x,
        fl_y=camera.fl_y * y,
        cx=(camera.cx + edge) * x - edge,
        cy=(camera.cy + edge) * y - edge,
    )


def _recipe(photo: PhotoFile, source: Source, options: DatasetOptions) -> Recipe:
    camera = photo.camera
    if min(camera.width, camera.height) < options.downsample:
        raise InputError(
            f"dataset.downsample must be at most the side of every photograph, got {options.downsample} for "
            f"{photo.path} of {camera.width} x {camera.height} pixels"
        )
    edge = 0.5 - (source.pixel_center if options.pixel_center is None else options.pixel_center)
    return Recipe(
        path=photo.path,
        mask=photo.mask,
        camera=replace(camera, cx=camera.cx + edge, cy=camera.cy + edge),
        lens=photo.lens,
        downsample=options.downsample,
        background=options.background,
    )


def _final_camera(camera: Camera, options: DatasetOptions) -> Camera:
    """Returns the averaged-down camera in the program's convention: the first pixel's centre is at 0."""
    n = options.downsample
    width, height = camera.width // n, camera.height // n
    cx, cy = camera.cx / n - 0.5, camera.cy / n - 0.5
    if options.pixel_center == 0:  # LandMark: the principal point is the middle, whatever the file says
        cx, cy = width / 2, height / 2
    return Camera(camera.c2w, width, height, camera.fl_x / n, camera.fl_y / n, cx, cy)


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
