"""Scenes of the NeRF paper: an angle and poses, pictures with alpha in front of a background."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import blender
from landmark_viewer.scenes.datasets.dataset import DatasetOptions
from landmark_viewer.scenes.datasets.open import detect, open_dataset

from .dataset_files import edit, known_views, save_png, write_blender, write_transforms


def test_poses_focal_length_and_splits(tmp_path: Path) -> None:
    views = known_views(6)
    write_blender(tmp_path, views[:4], views[4:])
    assert detect(tmp_path) == "blender"
    dataset = open_dataset(DatasetOptions(tmp_path))
    assert (len(dataset.train), len(dataset.test)) == (4, 2)
    assert dataset.train.names[0] == "train/r_0000.png"
    for number, (camera, view) in enumerate(zip(dataset.train.cameras, views[:4], strict=True)):
        assert np.abs(camera.matrix - view.camera.matrix).max() < 1e-6
        assert camera.fl_x == camera.fl_y == pytest.approx(20.25, rel=1e-12)
        assert (camera.cx, camera.cy) == (11.5, 7.5)
        np.testing.assert_array_equal(dataset.train.pixels.image(number)[..., :3], view.pixels)


def test_the_papers_box_and_ends_of_rays(tmp_path: Path) -> None:
    views = known_views(3)
    write_blender(tmp_path, views[:2], views[2:])
    dataset = open_dataset(DatasetOptions(tmp_path))
    assert dataset.bounds == ((-1.5, -1.5, -1.5), (1.5, 1.5, 1.5))
    assert dataset.near_far == (2.0, 6.0)
    doubled = open_dataset(DatasetOptions(tmp_path, scale=2.0))
    assert doubled.bounds == ((-3.0, -3.0, -3.0), (3.0, 3.0, 3.0))
    assert doubled.near_far == (4.0, 12.0)


def test_transparency_shows_the_background(tmp_path: Path) -> None:
    views = known_views(2)
    write_blender(tmp_path, views[:1], views[1:])
    pixels = np.zeros((16, 24, 4), dtype=np.uint8)
    pixels[..., 0] = 200
    pixels[:, :8, 3] = 255
    pixels[:, 8:16, 3] = 51  # a fifth
    save_png(tmp_path / "train" / "r_0000.png", pixels)
    image = open_dataset(DatasetOptions(tmp_path, background=(0.0, 1.0, 0.5))).train.pixels.image(0)
    np.testing.assert_array_equal(image[3, 4], [200, 0, 0, 255])
    np.testing.assert_array_equal(image[3, 12], [40, 204, 102, 255])
    np.testing.assert_array_equal(image[3, 20], [0, 255, 128, 255])


def test_files_with_intrinsics_are_plain_transforms(tmp_path: Path) -> None:
    write_transforms(tmp_path, known_views(2), "transforms_train.json", camera_angle_x=0.7)
    assert not blender.looks_like(tmp_path)


Change = Callable[[dict[str, Any]], object]


def frame(key: str, value: Any) -> Change:
    return lambda data: data["frames"][1].update({key: value})


def number(row: int, column: int, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["frames"][1]["transform_matrix"][row][column] = value

    return change


FILE = r"transforms_train\.json: "
BROKEN: list[tuple[Change, str]] = [
    (lambda data: data.pop("frames"), FILE + r"frames must be a list of .* but is missing$"),
    (
        lambda data: data.update(frames=[]),
        FILE + r"frames must be a list of .*, got a list of 0$",
    ),
    (
        lambda data: data.update(frames="all"),
        FILE + r'frames must be a list of .*, got "all"$',
    ),
    (lambda data: data.pop("camera_angle_x"), FILE + r"frames\[0\]\.fl_x must be a focal length .* missing$"),
    (
        lambda data: data.update(camera_angle_x=0),
        FILE + r"frames\[0\]\.camera_angle_x must be a finite number above 0 and below 3\.14159, got 0$",
    ),
    (
        lambda data: data.update(camera_angle_x=3.2),
        FILE + r"frames\[0\]\.camera_angle_x .* got 3\.2$",
    ),
    (lambda data: data.update(camera_angle_x=math.nan), FILE + r"frames\[0\]\.camera_angle_x .* got NaN$"),
    (
        frame("file_path", "./train/r_9999"),
        FILE + r"frames\[1\]\.file_path .*got \./train/r_9999, which",
    ),
    (frame("file_path", None), FILE + r"frames\[1\]\.file_path must be a text, but is missing$"),
    (frame("transform_matrix", "eye"), FILE + r"frames\[1\]\.transform_matrix must be 4 x 4 .* got \"eye\"$"),
    (number(0, 0, math.nan), FILE + r"frames\[1\]\.transform_matrix must hold finite numbers only"),
    (number(0, 0, 9.0), FILE + r"frames\[1\]\.transform_matrix must begin with a rotation"),
    (number(3, 0, 1.0), FILE + r"frames\[1\]\.transform_matrix must end with the row 0, 0, 0, 1$"),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message[:70] for _, message in BROKEN])
def test_a_broken_file_is_named_with_its_key(tmp_path: Path, change: Change, message: str) -> None:
    views = known_views(4)
    edit(write_blender(tmp_path, views[:3], views[3:]), change)
    with pytest.raises(InputError, match=message):
        open_dataset(DatasetOptions(tmp_path, format="blender"))


def test_a_picture_of_another_shape_is_named(tmp_path: Path) -> None:
    views = known_views(3)
    write_blender(tmp_path, views[:2], views[2:])
    (tmp_path / "train" / "r_0001.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"r_0001\.png must be a photograph that Pillow can read"):
        open_dataset(DatasetOptions(tmp_path))
