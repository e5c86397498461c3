"""MatrixCity's blocks: units, folders, names of pictures, and what is said of broken files."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.dataset import CityOptions, write_city
from landmark_viewer.scenes.city.town import TownSpec
from landmark_viewer.scenes.datasets import matrixcity
from landmark_viewer.scenes.datasets.dataset import DatasetOptions
from landmark_viewer.scenes.datasets.open import detect, open_dataset

from .dataset_files import View, edit, intrinsics, known_views, save_png, write_block, write_transforms

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def block(folder: Path, views: list[View], **top: Any) -> Path:
    return write_block(folder, views, **intrinsics(views[0].camera), **top)


def assert_same_poses(photos: Any, views: list[View]) -> None:
    assert len(photos) == len(views)
    for number, (camera, view) in enumerate(zip(photos.cameras, views, strict=True)):
        assert np.abs(camera.matrix - view.camera.matrix).max() < 1e-6
        assert (camera.fl_x, camera.fl_y) == (view.camera.fl_x, view.camera.fl_y)
        assert (camera.cx, camera.cy) == (view.camera.cx - 0.5, view.camera.cy - 0.5)
        np.testing.assert_array_equal(photos.pixels.image(number)[..., :3], view.pixels)


def test_one_block_in_units_of_a_hundred_metres(tmp_path: Path) -> None:
    views = known_views(4)
    block(tmp_path, views, bounds=BOX)
    assert detect(tmp_path) == "matrixcity"
    dataset = open_dataset(DatasetOptions(tmp_path, holdout=0))
    assert_same_poses(dataset.train, views)
    assert (dataset.kind, dataset.metres_per_unit) == ("matrixcity", 100.0)


def test_the_file_of_a_block_may_be_named(tmp_path: Path) -> None:
    views = known_views(3)
    path = block(tmp_path, views)
    assert detect(path) == "matrixcity"
    assert_same_poses(open_dataset(DatasetOptions(path, holdout=0)).train, views)


def test_folders_of_blocks_to_train_on_and_to_test_with(tmp_path: Path) -> None:
    views = known_views(8)
    block(tmp_path / "train" / "block_10", views[4:6])
    block(tmp_path / "train" / "block_2", views[:4])
    block(tmp_path / "test" / "block_2_test", views[6:])
    dataset = open_dataset(DatasetOptions(tmp_path))
    assert_same_poses(dataset.train, views[:6])  # block_2 before block_10
    assert_same_poses(dataset.test, views[6:])
    assert dataset.test.names == ("test/block_2_test/0000.png", "test/block_2_test/0001.png")


def test_blocks_side_by_side_are_told_by_their_names(tmp_path: Path) -> None:
    views = known_views(5)
    block(tmp_path / "block_1", views[:4])
    block(tmp_path / "block_1_test", views[4:])
    dataset = open_dataset(DatasetOptions(tmp_path))
    assert_same_poses(dataset.train, views[:4])
    assert_same_poses(dataset.test, views[4:])


def test_blocks_without_a_test_are_held_out_from(tmp_path: Path) -> None:
    views = known_views(6)
    block(tmp_path / "block_1", views[:3])
    block(tmp_path / "block_2", views[3:])
    dataset = open_dataset(DatasetOptions(tmp_path, holdout=3))
    assert_same_poses(dataset.test, views[::3])


def test_the_angle_alone_as_matrixcity_writes_it(tmp_path: Path) -> None:
    path = write_block(tmp_path, known_views(3), camera_angle_x=2 * math.atan(12 / 20.25))
    edit(path, lambda data: [frame.pop("fl_x", None) for frame in data["frames"]])
    camera = matrixcity.read(tmp_path).photos[0].camera
    assert camera.fl_x == camera.fl_y == pytest.approx(20.25, rel=1e-12)
    assert (camera.width, camera.height, camera.cx, camera.cy) == (24, 16, 12.0, 8.0)


def test_pictures_in_the_folder_rgb_and_poses_of_all_views(tmp_path: Path) -> None:
    views = known_views(3)
    path = block(tmp_path, views)
    path.rename(tmp_path / "transforms_origin.json")
    (tmp_path / "rgb").mkdir()
    for picture in tmp_path.glob("*.png"):
        picture.rename(tmp_path / "rgb" / picture.name)
    assert_same_poses(open_dataset(DatasetOptions(tmp_path, holdout=0)).train, views)


def test_keys_of_our_own(tmp_path: Path) -> None:
    views = known_views(4)
    path = block(tmp_path, views, bounds=BOX, near_far=[0.1, 9.0], epsg=32650)
    save_png(tmp_path / "snow" / "0003.png", views[3].pixels)

    def change(data: dict[str, Any]) -> None:
        for number, frame in enumerate(data["frames"]):
            frame["appearance"] = number % 2
        data["frames"][3]["file_path"] = "snow/0003.png"

    edit(path, change)
    dataset = open_dataset(DatasetOptions(tmp_path, holdout=0))
    np.testing.assert_array_equal(dataset.train.codes, [0, 1, 0, 1])
    assert dataset.train.names[3] == "snow/0003.png"
    assert (dataset.bounds, dataset.near_far) == (BOX, (0.1, 9.0))
    assert (dataset.epsg, dataset.metres_per_unit) == (32650, 100.0)


def test_a_stated_unit_is_that_of_the_positions(tmp_path: Path) -> None:
    views = known_views(3)
    path = block(tmp_path, views)
    edit(path, lambda data: data.update(metres_per_unit=1.0))
    dataset = open_dataset(DatasetOptions(tmp_path, holdout=0, scale=0.01))
    assert dataset.metres_per_unit == 100.0
    assert_same_poses(dataset.train, views)


def test_split_files_with_rotations_of_matrixcity(tmp_path: Path) -> None:
    views = known_views(5)
    path = block(tmp_path, views)
    data = json.loads(path.read_text())
    for name, part in (("train", slice(0, 3)), ("test", slice(3, 5))):
        (tmp_path / f"transforms_{name}.json").write_text(json.dumps(data | {"frames": data["frames"][part]}))
    path.unlink()
    assert detect(tmp_path) == "matrixcity"
    dataset = open_dataset(DatasetOptions(tmp_path))
    assert_same_poses(dataset.train, views[:3])
    assert_same_poses(dataset.test, views[3:])


def test_a_city_of_our_own(tmp_path: Path) -> None:
    town = TownSpec(seed=3, blocks=(2, 2))
    write_city(tmp_path, CityOptions(town, train=4, test=1, size=(16, 12), samples=1), workers=1)
    dataset = open_dataset(DatasetOptions(tmp_path))
    assert (dataset.kind, dataset.metres_per_unit) == ("matrixcity", 100.0)
    assert (len(dataset.train), len(dataset.test)) == (4, 6)
    np.testing.assert_array_equal(dataset.test.codes, range(6))
    assert dataset.styles == tuple((appearance.name, code) for code, appearance in enumerate(APPEARANCES))
    (low, high), eye = dataset.bounds, dataset.train.cameras[0].eye
    assert (np.array(low[:2]) - 5 < eye[:2]).all()
    assert (eye[:2] < np.array(high[:2]) + 5).all()


def test_plain_transforms_are_not_taken_for_matrixcity(tmp_path: Path) -> None:
    write_transforms(tmp_path, known_views(2))
    assert not matrixcity.looks_like(tmp_path)
    assert detect(tmp_path) == "transforms"


Change = Callable[[dict[str, Any]], object]


def frame(key: str, value: Any) -> Change:
    return lambda data: data["frames"][1].update({key: value})


def number(row: int, column: int, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["frames"][1]["rot_mat"][row][column] = value

    return change


def unscaled(data: dict[str, Any]) -> None:
    matrix = np.array(data["frames"][1]["rot_mat"])
    matrix[:3, :3] *= 100
    data["frames"][1]["rot_mat"] = matrix.tolist()


POSE = r"transforms\.json: frames\[1\]\.rot_mat"
BROKEN: list[tuple[Change, str]] = [
    (lambda data: data.pop("frames"), r"transforms\.json: frames must be a list of .* but is missing$"),
    (lambda data: data.update(frames=[]), r"frames must be a list of at least one frame, got a list of 0$"),
    (lambda data: data["frames"].append([]), r"frames\[3\] must be a mapping, got list$"),
    (
        lambda data: data["frames"][1].pop("rot_mat"),
        POSE + r" must be 4 x 4 or 3 x 4 numbers, but is missing$",
    ),
    (frame("rot_mat", [1, 2, 3]), POSE + r" must be 4 x 4 or 3 x 4 numbers, got a list of 3$"),
    (number(1, 3, math.nan), POSE + r" must hold finite numbers only, got NaN or infinity$"),
    (number(1, 3, None), POSE + r" must be 4 x 4 or 3 x 4 numbers"),
    (unscaled, POSE + r", times 100, must begin with a rotation.*got columns of length 100, 100, 100$"),
    (number(0, 0, 0.5), POSE + r", times 100, must begin with a rotation"),
    (
        lambda data: data["frames"][1].pop("frame_index"),
        r"frames\[1\]\.frame_index must be a whole .*missing",
    ),
    (frame("frame_index", 7), r"frames\[1\]\.frame_index must be the number of a picture, got 0007, which"),
    (
        frame("frame_index", -1),
        r"frames\[1\]\.frame_index must be a whole number from 0 to 1000000000, got -1",
    ),
    (frame("frame_index", "2"), r'frames\[1\]\.frame_index must be a whole number .* got "2"$'),
    (frame("file_path", "none.png"), r"frames\[1\]\.file_path must name a photograph .* got none\.png"),
    (frame("appearance", 1.5), r"frames\[1\]\.appearance must be a whole number from 0 to 11499, got 1\.5$"),
    (lambda data: [data.pop("fl_x"), data.pop("fl_y")], r"frames\[0\]\.fl_x must be a focal length"),
    (
        lambda data: data.update(h=99),
        r"0000\.png must have 24 x 99 pixels, as its camera states, .* got 24",
    ),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message[:60] for _, message in BROKEN])
def test_a_broken_block_is_named_with_its_key(tmp_path: Path, change: Change, message: str) -> None:
    edit(block(tmp_path / "block_1", known_views(3)), change)
    with pytest.raises(InputError, match=message):
        open_dataset(DatasetOptions(tmp_path, format="matrixcity"))


def test_a_folder_without_blocks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must hold transforms\.json, or folders of blocks that do"):
        open_dataset(DatasetOptions(tmp_path, format="matrixcity"))
