"""transforms.json in all its spellings: what is read, and what is said of files that cannot be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from landmark_viewer.core.camera import as_matrix
from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import transforms
from landmark_viewer.scenes.datasets.dataset import DatasetOptions, Lens
from landmark_viewer.scenes.datasets.open import detect, open_dataset

from .dataset_files import View, edit, intrinsics, known_views, save_png, write_transforms

BOX = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))


def assert_same_cameras(photos: Any, views: list[View]) -> None:
    """Poses, intrinsics and pixels are those of the views, in the program's pixel convention."""
    assert len(photos) == len(views)
    for number, (camera, view) in enumerate(zip(photos.cameras, views, strict=True)):
        assert np.abs(camera.matrix - view.camera.matrix).max() < 1e-6
        assert (camera.width, camera.height) == (view.camera.width, view.camera.height)
        assert (camera.fl_x, camera.fl_y) == (view.camera.fl_x, view.camera.fl_y)
        assert (camera.cx, camera.cy) == (view.camera.cx - 0.5, view.camera.cy - 0.5)
        image = photos.pixels.image(number)
        np.testing.assert_array_equal(image[..., :3], view.pixels)
        assert (image[..., 3] == 255).all()


def test_one_file_with_a_hold_out_rule(tmp_path: Path) -> None:
    views = known_views(7)
    write_transforms(tmp_path, views)
    dataset = open_dataset(DatasetOptions(tmp_path, holdout=3))
    assert dataset.kind == "transforms"
    assert_same_cameras(dataset.test, views[::3])
    assert_same_cameras(dataset.train, [view for i, view in enumerate(views) if i % 3])
    np.testing.assert_array_equal(dataset.train.codes, [0, 1, 2, 3])
    assert dataset.train.names[0] == "images/0001.png"
    np.testing.assert_array_equal(dataset.scene_from_source, np.eye(4))


def test_a_scene_far_from_the_origin_is_to_be_recentred(tmp_path: Path) -> None:
    moved = []
    for view in known_views():
        matrix = view.camera.matrix
        matrix[:3, 3] += 400_000, 5_800_000, 0  # as a map counts metres
        moved.append(replace(view, camera=replace(view.camera, c2w=as_matrix(matrix))))
    write_transforms(tmp_path, moved)
    said = open_dataset(DatasetOptions(tmp_path, orient=True, holdout=2)).notices
    assert said == (
        "the scene lies so far from the origin, for its size, that single precision blurs it; "
        "--set dataset.recenter=true moves it there",
    )
    assert not open_dataset(DatasetOptions(tmp_path, orient=True, recenter=True, holdout=2)).notices


def test_split_files_of_landmark(tmp_path: Path) -> None:
    views = known_views(6)
    write_transforms(tmp_path, views[:4], "transforms_train.json", camera_model="SIMPLE_PINHOLE")
    write_transforms(tmp_path, views[4:], "transforms_test.json", camera_model="SIMPLE_PINHOLE")
    dataset = open_dataset(DatasetOptions(tmp_path))
    assert_same_cameras(dataset.train, views[:4])
    assert_same_cameras(dataset.test, views[4:])


def test_validation_photographs_test_where_there_is_no_test(tmp_path: Path) -> None:
    views = known_views(6)
    write_transforms(tmp_path, views[:4], "transforms_train.json")
    write_transforms(tmp_path, views[4:], "transforms_val.json")
    assert_same_cameras(open_dataset(DatasetOptions(tmp_path)).test, views[4:])


def test_a_file_may_be_named_instead_of_its_folder(tmp_path: Path) -> None:
    views = known_views(4)
    write_transforms(tmp_path, views[:3], "transforms_train.json")
    write_transforms(tmp_path, views[3:], "transforms_test.json")
    dataset = open_dataset(DatasetOptions(tmp_path / "transforms_train.json", holdout=0))
    assert_same_cameras(dataset.train, views[:3])
    assert len(dataset.test) == 0
    assert "no photograph is kept for testing" in dataset.notices


def test_a_frame_may_have_intrinsics_of_its_own(tmp_path: Path) -> None:
    path = write_transforms(tmp_path, known_views(2))

    def change(data: dict[str, Any]) -> None:
        data["frames"][1] |= {"fl_x": 30.0, "fl_y": 31.0, "cx": 11.0, "k1": 0.125}

    edit(path, change)
    first, second = transforms.read(tmp_path).photos
    assert (first.camera.fl_x, first.camera.cx, first.lens) == (20.25, 12.375, Lens())
    assert (second.camera.fl_x, second.camera.fl_y, second.camera.cx) == (30.0, 31.0, 11.0)
    assert second.camera.cy == 7.875
    assert second.lens == Lens(k1=0.125)


def test_an_angle_in_a_frame_wins_over_the_focal_length_of_the_file(tmp_path: Path) -> None:
    path = write_transforms(tmp_path, known_views(2))
    edit(path, lambda data: data["frames"][0].update(camera_angle_x=math.pi / 2))
    first, second = transforms.read(tmp_path).photos
    assert first.camera.fl_x == first.camera.fl_y == pytest.approx(12.0)
    assert second.camera.fl_x == 20.25


def test_instant_ngp_with_angles_a_lens_and_names_without_suffix(tmp_path: Path) -> None:
    views = known_views(3)
    path = write_transforms(tmp_path, views, k1=0.05, k2=-0.02, p1=0.001, p2=-0.002, aabb_scale=4)

    def change(data: dict[str, Any]) -> None:
        for key in ("fl_x", "fl_y", "w", "h"):
            del data[key]
        data["camera_angle_x"] = 2 * math.atan(12 / 20.25)
        data["camera_angle_y"] = 2 * math.atan(8 / 20.5)
        for frame in data["frames"]:
            frame["file_path"] = "./" + frame["file_path"].removesuffix(".png")

    edit(path, change)
    photo = transforms.read(tmp_path).photos[0]
    assert photo.camera.fl_x == pytest.approx(20.25, rel=1e-12)
    assert photo.camera.fl_y == pytest.approx(20.5, rel=1e-12)
    assert (photo.camera.width, photo.camera.height) == (24, 16)
    assert photo.lens == Lens(0.05, -0.02, 0.001, -0.002)


@pytest.mark.parametrize(
    ("top", "fisheye"),
    [
        ({"camera_model": "OPENCV_FISHEYE"}, True),
        ({"is_fisheye": True}, True),
        ({"camera_model": "OPENCV"}, False),
        ({}, False),
    ],
)
def test_fisheye_lenses_are_told_from_others(tmp_path: Path, top: dict[str, Any], fisheye: bool) -> None:
    write_transforms(tmp_path, known_views(1), k1=0.1, k2=0.2, k3=0.3, k4=0.4, **top)
    assert transforms.read(tmp_path).photos[0].lens == Lens(0.1, 0.2, k3=0.3, k4=0.4, fisheye=fisheye)


def test_nerfstudio_with_lists_of_names_masks_and_an_applied_transform(tmp_path: Path) -> None:
    views = known_views(5)
    names = [f"images/{view.name}.png" for view in views]
    turn = [[0.0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 0]]
    path = write_transforms(
        tmp_path,
        views,
        camera_model="OPENCV",
        applied_transform=turn,
        applied_scale=2.0,
        train_filenames=names[:2],
        val_filenames=names[2:3],
        test_filenames=names[3:4],
    )
    mask = np.zeros((16, 24), dtype=np.uint8)
    mask[:, 12:] = 255
    save_png(tmp_path / "masks" / "a.png", mask)
    edit(path, lambda data: data["frames"][0].update(mask_path="masks/a.png"))
    dataset = open_dataset(DatasetOptions(tmp_path, bounds=BOX, scale=10.0))
    assert dataset.train.names == ("images/0000.png", "images/0001.png")
    assert dataset.test.names == ("images/0003.png",)
    assert dataset.notices == (
        "photographs left out, which are for validation: 1",
        "photographs left out, which belong to no split: 1",
    )
    image = dataset.train.pixels.image(0)
    assert (image[:, :12, 3] == 0).all()
    np.testing.assert_array_equal(image[:, 12:, :3], views[0].pixels[:, 12:])
    original = np.array([0.25, 0.5, -3.0, 1.0])
    expected = 10 * 2 * (np.array(turn) @ original)
    np.testing.assert_allclose((dataset.scene_from_source @ original)[:3], expected)


def test_keys_of_our_own(tmp_path: Path) -> None:
    path = write_transforms(
        tmp_path, known_views(3), metres_per_unit=50.0, epsg=2056, bounds=BOX, near_far=[0.5, 7]
    )
    edit(path, lambda data: [frame.update(appearance=9 - i) for i, frame in enumerate(data["frames"])])
    dataset = open_dataset(DatasetOptions(tmp_path, scale=2.0))
    assert (dataset.metres_per_unit, dataset.epsg) == (25.0, 2056)
    assert dataset.near_far == (1.0, 14.0)
    assert dataset.bounds == ((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0))
    np.testing.assert_array_equal(dataset.train.codes, [8, 7])
    np.testing.assert_array_equal(dataset.test.codes, [9])


def test_landmarks_pixel_convention_puts_the_principal_point_in_the_middle(tmp_path: Path) -> None:
    write_transforms(tmp_path, known_views(2))
    camera = open_dataset(DatasetOptions(tmp_path, pixel_center=0, downsample=2)).train.cameras[0]
    assert (camera.width, camera.height, camera.cx, camera.cy) == (12, 8, 6.0, 4.0)
    assert (camera.fl_x, camera.fl_y) == (10.125, 10.25)


def test_cameras_follow_photographs_that_were_scaled(tmp_path: Path) -> None:
    path = write_transforms(tmp_path, known_views(2))
    edit(path, lambda data: data.update(w=48, h=32, fl_x=40.5, fl_y=41.0, cx=24.75, cy=15.75))
    dataset = open_dataset(DatasetOptions(tmp_path))
    camera = dataset.train.cameras[0]
    assert (camera.fl_x, camera.fl_y, camera.cx, camera.cy) == (20.25, 20.5, 11.875, 7.375)
    assert dataset.notices == ("cameras scaled from 48 x 32 to 24 x 16 pixels, as their photographs are: 2",)


def test_a_bad_validation_file_beside_a_test_file_does_not_matter(tmp_path: Path) -> None:
    views = known_views(4)
    write_transforms(tmp_path, views[:3], "transforms_train.json")
    write_transforms(tmp_path, views[3:], "transforms_test.json")
    (tmp_path / "transforms_val.json").write_text("{")
    assert len(open_dataset(DatasetOptions(tmp_path)).test) == 1


def test_real_files_of_landmark_and_instant_ngp(shared_dir: Path) -> None:
    beach = open_dataset(DatasetOptions(shared_dir / "data" / "brighton_beach", pixel_center=0))
    assert (beach.kind, len(beach.train), len(beach.test)) == ("transforms", 15, 3)
    assert beach.train.cameras[0].cx == 400
    low, high = beach.bounds
    assert low[2] < 0 < high[2] < 0.99  # below the cameras, which fly at 1
    fox = open_dataset(DatasetOptions(shared_dir / "data" / "fox"))
    assert (fox.kind, len(fox.train), len(fox.test)) == ("transforms", 43, 7)
    known = fox.train.pixels.image(0)[..., 3]
    assert known[320, 180] == 255
    assert 0.9 < (known == 255).mean() < 1  # the lens shows less than the corners


Change = Callable[[dict[str, Any]], object]


def frame(key: str, value: Any) -> Change:
    """Sets a key of the second frame."""
    return lambda data: data["frames"][1].update({key: value})


def top(key: str, value: Any) -> Change:
    return lambda data: data.update({key: value})


def pose(row: int, column: int, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        data["frames"][1]["transform_matrix"][row][column] = value

    return change


def scale_rotation(data: dict[str, Any]) -> None:
    matrix = np.array(data["frames"][1]["transform_matrix"])
    matrix[:3, :3] *= 0.01
    data["frames"][1]["transform_matrix"] = matrix.tolist()


def mirror(data: dict[str, Any]) -> None:
    for row in data["frames"][1]["transform_matrix"][:3]:
        row[0] = -row[0]


POSE = r"transforms\.json: frames\[1\]\.transform_matrix must "
BROKEN: list[tuple[Change, str]] = [
    (lambda data: data.pop("frames"), r"transforms\.json: frames must be a list of .* but is missing$"),
    (top("frames", []), r"frames must be a list of at least one frame, got a list of 0$"),
    (top("frames", {"a": 1}), r"frames must be a list of at least one frame, got a mapping$"),
    (lambda data: data["frames"].append(7), r"frames\[3\] must be a mapping, got int$"),
    (
        lambda data: data["frames"][1].pop("file_path"),
        r"frames\[1\]\.file_path must be a text, but is missing$",
    ),
    (frame("file_path", 5), r"frames\[1\]\.file_path must be a text, got 5$"),
    (frame("file_path", "a\x1b[2J.png"), r"frames\[1\]\.file_path: the name must have no control characters"),
    (frame("file_path", "images/lost.png"), r"frames\[1\]\.file_path .*got images/lost\.png, which does not"),
    (
        lambda data: data["frames"][1].pop("transform_matrix"),
        POSE + r"be 4 x 4 or 3 x 4 numbers, but is missing$",
    ),
    (frame("transform_matrix", [[1, 2], [3, 4]]), POSE + r"be 4 x 4 or 3 x 4 numbers, got a list of 2$"),
    (frame("transform_matrix", [[1, 2], [3]]), POSE + r"be 4 x 4 or 3 x 4 numbers, got a list of 2$"),
    (pose(0, 0, "one"), POSE + r"be 4 x 4 or 3 x 4 numbers"),
    (pose(0, 0, math.nan), POSE + r"hold finite numbers only, got NaN or infinity$"),
    (pose(2, 3, math.inf), POSE + r"hold finite numbers only, got NaN or infinity$"),
    (pose(3, 3, 2.0), POSE + r"end with the row 0, 0, 0, 1$"),
    (scale_rotation, POSE + r"begin with a rotation.*got columns of length 0\.01, 0\.01, 0\.01$"),
    (mirror, POSE + r"begin with a rotation, got a mirrored one$"),
    (
        lambda data: [data.pop("fl_x"), data.pop("fl_y")],
        r"frames\[0\]\.fl_x must be a focal length .*missing$",
    ),
    (top("fl_x", -3), r"frames\[0\]\.fl_x must be a finite number above 0\.001 and below 1e\+09, got -3$"),
    (top("fl_x", "wide"), r'frames\[0\]\.fl_x must be a finite number above 0\.001 .*, got "wide"$'),
    (top("fl_y", 1e300), r"frames\[0\]\.fl_y must be a finite number above 0\.001 .*, got 1e\+300$"),
    (top("w", 24.5), r"frames\[0\]\.w must be a whole number from 1 to 16384, got 24\.5$"),
    (top("h", 0), r"frames\[0\]\.h must be a whole number from 1 to 16384, got 0$"),
    (lambda data: data.pop("h"), r"frames\[0\]\.h must be a whole number from 1 to 16384, but is missing$"),
    (top("h", 20), r"images/0000\.png must have 24 x 20 pixels, as its camera states, .* got 24 x 16$"),
    (top("cx", True), r"frames\[0\]\.cx must be a finite number, got true$"),
    (top("k1", "bent"), r'frames\[0\]\.k1 must be a finite number above .*, got "bent"$'),
    (top("camera_model", "SPHERE"), r'frames\[0\]\.camera_model must be one of PINHOLE.*, got "SPHERE"$'),
    (top("is_fisheye", "yes"), r'frames\[0\]\.is_fisheye must be true or false, got "yes"$'),
    (top("ftheta_p0", 1.0), r"ftheta_p0 must not be there: only pinhole and fisheye lenses are known$"),
    (frame("appearance", -1), r"frames\[1\]\.appearance must be a whole number from 0 to 11499, got -1$"),
    (frame("mask_path", "masks/none.png"), r"frames\[1\]\.mask_path must name .*got masks/none\.png"),
    (frame("mask_path", "small.png"), r"small\.png must have 24 x 16 pixels, got 3 x 2$"),
    (top("bounds", [[1, 1, 1], [0, 2, 2]]), r"transforms\.json: bounds must be two corners"),
    (top("near_far", [3, 2]), r"transforms\.json: near_far must be two numbers with 0 < near < far"),
    (
        top("appearances", ["a", "a"]),
        r"json: appearances must be a list of different names, .* got a list of 2$",
    ),
    (
        top("appearances", [1]),
        r"json: appearances must be a list of different names, one for each .* from 0 on",
    ),
    (top("appearances", "a"), r'json: appearances must be a list of different names, .* from 0 on, got "a"$'),
    (top("epsg", "WGS84"), r'transforms\.json: epsg must be a whole number from 1 to 999999, got "WGS84"$'),
    (top("metres_per_unit", 0), r"metres_per_unit must be a finite number above 0, got 0$"),
    (top("applied_transform", [[0] * 4] * 3), r"applied_transform must be invertible$"),
    (
        top("train_filenames", []),
        r"train_filenames must be a list of at least one file name, got a list of 0$",
    ),
]


@pytest.mark.parametrize(("change", "message"), BROKEN, ids=[message[:60] for _, message in BROKEN])
def test_a_broken_file_is_named_with_its_key(tmp_path: Path, change: Change, message: str) -> None:
    path = write_transforms(tmp_path, known_views(3))
    save_png(tmp_path / "small.png", np.zeros((2, 3), dtype=np.uint8))
    edit(path, change)
    with pytest.raises(InputError, match=message):
        open_dataset(DatasetOptions(tmp_path), lambda done, total: None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"transforms\.json, line 1: must be valid JSON"),
        ("[1]", r"transforms\.json must hold a mapping with frames, got a list of 1$"),
        ("[" * 100_000, r"transforms\.json must be JSON with numbers and nesting of reasonable size$"),
        ('{"w": ' + "9" * 5000 + "}", r"transforms\.json"),
        ("\udcff", r"transforms\.json must be a JSON file in UTF-8 text, got binary data$"),
    ],
)
def test_a_file_that_is_no_json(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "transforms.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message):
        open_dataset(DatasetOptions(tmp_path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": 1}, r"dataset\.holdout must be 0, or at least 2, got 1$"),
        ({"downsample": 0}, r"dataset\.downsample must be at least 1, got 0$"),
        ({"downsample": 17}, r"dataset\.downsample must be at most the side of every photograph, got 17 for"),
        ({"scale": -1.0}, r"dataset\.scale must be a positive number below 1e\+09, got -1$"),
        ({"format": "video"}, r"dataset\.format must be auto or one of .*, got video$"),
        ({"near_far": (2.0, 1.0)}, r"dataset\.near_far must be 0 < near < far, got 2 and 1$"),
    ],
)
def test_an_option_out_of_range(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    write_transforms(tmp_path, known_views(3))
    with pytest.raises(InputError, match=message):
        open_dataset(DatasetOptions(tmp_path, **options))


def test_test_photographs_alone_cannot_be_trained_on(tmp_path: Path) -> None:
    views = known_views(2)
    names = [f"images/{view.name}.png" for view in views]
    write_transforms(tmp_path, views, test_filenames=names)
    with pytest.raises(InputError, match="must have a photograph to train on, got test photographs only"):
        open_dataset(DatasetOptions(tmp_path))


def test_a_folder_that_holds_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"must hold transforms\.json, .* name the format with dataset\.format"
    ):
        detect(tmp_path)
    with pytest.raises(
        InputError, match=r"dataset\.path must be a folder or file with poses, but .* not exist$"
    ):
        detect(tmp_path / "none")


def test_a_file_of_one_split_is_still_held_out_from(tmp_path: Path) -> None:
    views = known_views(4)
    write_transforms(tmp_path, views, "transforms_train.json")
    dataset = open_dataset(DatasetOptions(tmp_path, holdout=2))
    assert (len(dataset.train), len(dataset.test)) == (2, 2)


def test_intrinsics_default_to_the_middle(tmp_path: Path) -> None:
    views = known_views(2)
    path = write_transforms(tmp_path, views)
    edit(path, lambda data: [data.pop(key) for key in ("w", "h", "cx", "cy", "fl_y")])
    camera = transforms.read(tmp_path).photos[0].camera
    assert intrinsics(camera) == {"w": 24, "h": 16, "fl_x": 20.25, "fl_y": 20.25, "cx": 12.0, "cy": 8.0}
    assert json.loads(path.read_text())["fl_x"] == 20.25
