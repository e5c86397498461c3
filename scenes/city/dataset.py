"""Writes pictures of the town as a data set like MatrixCity's: units of 100 m, `rot_mat` times 0.01."""

from __future__ import annotations

import io
import json
import math
import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.camera import Camera
from ...core.errors import InputError
from ...core.whole_file import write_whole
from .appearances import APPEARANCES
from .cameras import FIELD_OF_VIEW, plan_cameras
from .geojson import to_geojson
from .render import render
from .terrain import LOWEST
from .town import Town, TownSpec

METRES_PER_UNIT = 100.0
ROTATION_FACTOR = 0.01  # MatrixCity multiplies the rotation in `rot_mat` by this
VERSION = 1  # of what the generator draws; pictures of another version are not mixed in
NEAR = 0.1  # units of 100 m
MAX_SIDE, MAX_SAMPLES, MAX_VIEWS, MAX_WORKERS = 4096, 8, 1_000_000, 64

Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class CityOptions:
    """What a data set consists of."""

    town: TownSpec
    train: int = 600  # pictures to train on; each has one appearance
    test: int = 12  # views to test on; each is drawn in every appearance
    size: tuple[int, int] = (200, 150)  # pixels
    samples: int = 2  # along a pixel's side
    appearances: tuple[int, ...] = tuple(range(len(APPEARANCES)))

    def __post_init__(self) -> None:
        limits = (
            ("the number of training views", self.train, 1, MAX_VIEWS),
            ("the number of test views", self.test, 1, MAX_VIEWS),
            ("a picture's width", self.size[0], 8, MAX_SIDE),
            ("a picture's height", self.size[1], 8, MAX_SIDE),
            ("the number of samples along a pixel's side", self.samples, 1, MAX_SAMPLES),
        )
        for name, value, least, most in limits:
            if not least <= value <= most:
                raise InputError(f"{name} must be {least} to {most}, got {value}; choose such a number")
        last = len(APPEARANCES) - 1
        unknown = [code for code in self.appearances if not 0 <= code <= last]
        if unknown or not self.appearances or len(set(self.appearances)) != len(self.appearances):
            given = ",".join(map(str, self.appearances)) or "none"
            raise InputError(
                f"appearances must be different codes from 0 to {last}, got {given}; correct them"
            )


@dataclass(frozen=True)
class _Picture:
    """One picture of the data set."""

    file: str  # relative to the data set's folder
    camera: Camera  # metres
    appearance: int


def write_city(out: Path, options: CityOptions, workers: int = 2, progress: Progress | None = None) -> int:
    """Writes the data set, or what an interrupted run left to do; finished pictures are kept.

    The transforms files come last: a folder that has them is complete.

    Args:
        out: Folder, made where missing.
        options: What to write.
        workers: Processes that draw; 1 draws in this one.
        progress: Called with the number of finished pictures and of all.

    Returns:
        The number of pictures that were drawn.

    Raises:
        InputError: The folder holds something else or cannot be written, or the disk is full.
    """
    town = Town(options.town)
    plain = Town(replace(options.town, removed=(), added=()))  # views and bounds of what was not changed
    if not 1 <= workers <= MAX_WORKERS:
        raise InputError(f"the number of processes must be 1 to {MAX_WORKERS}, got {workers}; correct it")
    with _writing(out):
        _claim(out, town, options)
        splits = {split: _pictures(plain, split, options) for split in ("train", "test")}
        pictures = [picture for split in splits.values() for picture in split]
        todo = [picture for picture in pictures if not (out / picture.file).exists()]
        _draw_all(out, options, todo, workers, len(pictures), progress)
        buildings = town.buildings()
        _write(out / "buildings.geojson", _json(to_geojson(buildings)))
        removed = [town.building(number) for number in options.town.removed]
        tops = [building.ground + building.height for building in buildings + removed]
        for split, drawn in splits.items():
            _write(out / f"transforms_{split}.json", _json(_transforms(town, drawn, pictures, max(tops))))
    return len(todo)


def _pictures(town: Town, split: str, options: CityOptions) -> list[_Picture]:
    """Returns a split's pictures: appearances take turns in training; a test view has all of them."""
    codes = options.appearances
    if split == "train":
        cameras = plan_cameras(town, split, options.train, options.size)
        return [
            _Picture(f"train/{number:05d}.png", camera, codes[number % len(codes)])
            for number, camera in enumerate(cameras)
        ]
    cameras = plan_cameras(town, split, options.test, options.size)
    return [
        _Picture(f"test/{number:05d}_{code}.png", camera, code)
        for number, camera in enumerate(cameras)
        for code in codes
    ]


# Drawing

_setting: tuple[Path, Town, int]  # of this process: the folder, the town, the samples


def _start_worker(out: Path, spec: TownSpec, samples: int) -> None:
    global _setting
    _setting = out, Town(spec), samples
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool


def _draw_in_worker(picture: _Picture) -> None:
    _draw(picture, *_setting)


def _draw(picture: _Picture, out: Path, town: Town, samples: int) -> None:
    pixels = render(town, picture.camera, APPEARANCES[picture.appearance], samples)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    _write(out / picture.file, data.getvalue())


def _draw_all(
    out: Path,
    options: CityOptions,
    todo: list[_Picture],
    workers: int,
    total: int,
    progress: Progress | None,
) -> None:
    def report(left: int) -> None:
        if progress:
            progress(total - left, total)

    report(len(todo))
    if workers == 1 or len(todo) < 2:
        town = Town(options.town)
        for number, picture in enumerate(todo):
            _draw(picture, out, town, options.samples)
            report(len(todo) - number - 1)
        return
    pool = ProcessPoolExecutor(
        workers,
        multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(out, options.town, options.samples),
    )
    try:
        for number, _ in enumerate(pool.map(_draw_in_worker, todo, chunksize=4)):
            report(len(todo) - number - 1)
    except BrokenProcessPool:
        raise InputError(
            "the processes that draw must not be ended from outside, got one that was, perhaps for want "
            "of memory; run again: finished pictures are kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


# Files


def _claim(out: Path, town: Town, options: CityOptions) -> None:
    """Makes the folder this data set's own, or finds that it is already."""
    description = _json(_description(town, options))
    mark = out / "city.json"
    out.mkdir(parents=True, exist_ok=True)
    if mark.exists():
        if mark.read_bytes() != description:
            raise InputError(
                f"{out} must be a new folder or hold this very city, got other options in city.json; "
                "choose another folder"
            )
    elif any(out.iterdir()):
        raise InputError(f"{out} must be a new or an empty folder, got one with files in it; choose another")
    else:
        _write(mark, description)
    for split in ("train", "test"):
        (out / split).mkdir(exist_ok=True)


def _description(town: Town, options: CityOptions) -> dict[str, Any]:
    spec = options.town
    return {
        "version": VERSION,
        "seed": spec.seed,
        "blocks": list(spec.blocks),
        "extent": [town.low.tolist(), town.high.tolist()],  # metres
        "removed": list(spec.removed),
        "added": [
            {"building": added.building, "x": added.x, "y": added.y, "degrees": added.degrees}
            for added in spec.added
        ],
        "train": options.train,
        "test": options.test,
        "size": list(options.size),
        "samples": options.samples,
        "appearances": {str(code): APPEARANCES[code].name for code in options.appearances},
    }


def _transforms(town: Town, drawn: list[_Picture], pictures: list[_Picture], top: float) -> dict[str, Any]:
    """Returns the content of a transforms file; lengths in units of 100 m."""
    camera = drawn[0].camera
    low = np.array([*town.low, LOWEST])
    high = np.array([*town.high, math.ceil(top + 1.0)])
    far = max(float(np.linalg.norm(_corners(low, high) - each.camera.eye, axis=1).max()) for each in pictures)
    return {
        "camera_angle_x": FIELD_OF_VIEW,
        "fl_x": camera.fl_x,
        "fl_y": camera.fl_y,
        "cx": camera.cx,
        "cy": camera.cy,
        "w": camera.width,
        "h": camera.height,
        "metres_per_unit": METRES_PER_UNIT,
        "bounds": [(low / METRES_PER_UNIT).tolist(), (high / METRES_PER_UNIT).tolist()],
        "near_far": [NEAR, math.ceil(far / METRES_PER_UNIT * 10) / 10],
        "appearances": [appearance.name for appearance in APPEARANCES],
        "frames": [
            {
                "frame_index": number,
                "file_path": picture.file,
                "rot_mat": _rot_mat(picture.camera).tolist(),
                "appearance": picture.appearance,
            }
            for number, picture in enumerate(drawn)
        ],
    }


def _corners(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, -1).T


def _rot_mat(camera: Camera) -> np.ndarray:
    """Returns a pose as MatrixCity writes it. [4, 4]"""
    matrix = camera.matrix
    matrix[:3, :3] *= ROTATION_FACTOR
    matrix[:3, 3] /= METRES_PER_UNIT
    return matrix


def _json(data: Any) -> bytes:
    return (json.dumps(data) + "\n").encode()


def _write(path: Path, data: bytes) -> None:
    write_whole({path: lambda file: file.write(data)}, "finished pictures are kept, make room and run again")


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turns an error of the file system into a sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{out} must be a folder that can be written, got: {error.strerror}") from None
