"""The procedural town on disk: pictures with poses, written whole, resumed, refused."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.city import dataset as city_dataset
from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.cameras import make_camera, plan_cameras
from landmark_viewer.scenes.city.dataset import CityOptions, write_city
from landmark_viewer.scenes.city.render import pixel_rays, render, trace
from landmark_viewer.scenes.city.town import Addition, Town, TownSpec

FOG = APPEARANCES[5]
SPEC = TownSpec(seed=1, blocks=(2, 2))
TINY = CityOptions(SPEC, train=3, test=1, size=(16, 12), samples=1, appearances=(0, 4))


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(SPEC)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city") / "tiny"
    write_city(out, TINY, workers=1)
    return out


def contents(out: Path) -> dict[str, bytes]:
    files = [file for file in sorted(out.rglob("*")) if file.is_file()]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def test_a_data_set_has_its_pictures_and_their_poses(written: Path, town: Town) -> None:
    assert len(contents(written)) == 3 + 2 + 4
    for split, codes in (("train", [0, 4, 0]), ("test", [0, 4])):
        data = json.loads((written / f"transforms_{split}.json").read_text())
        assert [frame["appearance"] for frame in data["frames"]] == codes
        assert [frame["frame_index"] for frame in data["frames"]] == list(range(len(codes)))
        assert data["metres_per_unit"] == 100
        assert (data["w"], data["h"], data["cx"], data["cy"]) == (16, 12, 8, 6)
        assert data["appearances"] == [appearance.name for appearance in APPEARANCES]
        np.testing.assert_allclose(data["fl_x"], 8 / math.tan(data["camera_angle_x"] / 2))
        for frame in data["frames"]:
            matrix = np.array(frame["rot_mat"])
            matrix[:3, :3] *= 100
            np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
            matrix[:3, 3] *= 100  # metres
            camera = make_camera(matrix, data["w"], data["h"])
            drawn = render(town, camera, APPEARANCES[frame["appearance"]], 1)
            kept = np.array(Image.open(written / frame["file_path"]))
            assert np.abs(drawn.astype(int) - kept).mean() < 0.5


def test_poses_come_back_from_the_file(written: Path, town: Town) -> None:
    data = json.loads((written / "transforms_train.json").read_text())
    for frame, camera in zip(data["frames"], plan_cameras(town, "train", 3, (16, 12)), strict=True):
        matrix = np.array(frame["rot_mat"])
        np.testing.assert_allclose(matrix[:3, :3] * 100, camera.matrix[:3, :3], atol=1e-12)
        np.testing.assert_allclose(matrix[:3, 3] * 100, camera.matrix[:3, 3], atol=1e-9)


def test_bounds_and_near_far_hold_all_that_is_seen(written: Path, town: Town) -> None:
    data = json.loads((written / "transforms_train.json").read_text())
    low, high = np.array(data["bounds"]) * 100
    near, far = np.array(data["near_far"]) * 100
    for camera in plan_cameras(town, "train", 3, (16, 12)):
        rays_o, rays_d = pixel_rays(camera)
        depth = trace(rays_o, rays_d, town, FOG).depth
        seen = np.isfinite(depth)
        points = (rays_o + np.where(seen, depth, 0)[:, None] * rays_d)[seen]
        assert np.all(points > low - 1e-6)
        assert np.all(points < high + 1e-6)
        z_depth = -(depth[:, None] * rays_d)[seen] @ camera.matrix[:3, 2]
        assert near < z_depth.min()
        assert z_depth.max() < far


def test_the_same_options_write_the_same_bytes_with_two_processes(written: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    assert write_city(tmp_path / "again", TINY, 2, lambda done, total: steps.append((done, total))) == 5
    assert contents(tmp_path / "again") == contents(written)
    assert steps[0] == (0, 5)
    assert steps[-1] == (5, 5)


def test_an_interrupted_run_goes_on_where_it_stopped(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "resumed"
    plain = city_dataset.render
    calls: list[int] = []

    def interrupted(*arguments: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*arguments)

    monkeypatch.setattr(city_dataset, "render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_city(out, TINY, 1)
    assert not (out / "transforms_train.json").exists()
    (out / "train" / ".00002.png.tmp").write_bytes(b"half")
    assert write_city(out, TINY, 1) == 3
    assert contents(out) == contents(written)
    assert write_city(out, TINY, 1) == 0


def test_a_variant_keeps_the_views_and_bounds(written: Path, tmp_path: Path, town: Town) -> None:
    gone = next(b for b in town.buildings() if b.kind == "landmark").id
    write_city(tmp_path / "v", replace(TINY, town=replace(SPEC, removed=(gone,))), 1)
    for split in ("train", "test"):
        name = f"transforms_{split}.json"
        assert (tmp_path / "v" / name).read_bytes() == (written / name).read_bytes()
    assert str(gone) not in (tmp_path / "v" / "buildings.geojson").read_text()


def test_another_citys_folder_is_left_alone(written: Path, tmp_path: Path) -> None:
    before = contents(written)
    with pytest.raises(InputError, match=r"must be a new folder or hold this very city"):
        write_city(written, replace(TINY, train=4), 1)
    assert contents(written) == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="must be a new or an empty folder"):
        write_city(tmp_path, TINY, 1)


def test_a_full_disk_is_one_clear_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"got: No space left on device; finished pictures are kept, make"):
        write_city(tmp_path / "out", TINY, 1)
    assert contents(tmp_path / "out") == {}


def test_a_folder_that_is_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be a folder that can be written"):
        write_city(tmp_path / "file", TINY, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": 0}, "training views must be 1 to"),
        ({"test": -1}, "test views must be 1 to"),
        ({"size": (4, 150)}, "width must be 8 to 4096, got 4"),
        ({"size": (200, 5000)}, "height must be 8 to 4096, got 5000"),
        ({"samples": 9}, "samples along a pixel's side must be 1 to 8"),
        ({"appearances": (0, 6)}, "codes from 0 to 5, got 0,6"),
        ({"appearances": (1, 1)}, "different codes"),
        ({"appearances": ()}, "got none"),
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"blocks": (1, 2)}, "2x2 to 100x100 blocks, got 1x2"),
        ({"blocks": (2, 101)}, "2x2 to 100x100 blocks, got 2x101"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"removed": (5,)}, "one of this town's, got 5"),
        ({"removed": (5095090,)}, "one of this town's, got 5095090"),
        ({"added": (Addition(5005000, 400.0, 0.0),)}, "must be in the town"),
        ({"added": (Addition(5005000, math.nan, 0.0),)}, "finite numbers"),
    ],
)
def test_towns_that_cannot_be_built_are_refused(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Town(replace(SPEC, **spec))
