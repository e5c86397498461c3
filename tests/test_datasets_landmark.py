"""LandMark's own layout: photographs that are reduced already, in folders below images_N."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import landmark
from landmark_viewer.scenes.datasets.dataset import Dataset, DatasetOptions
from landmark_viewer.scenes.datasets.open import detect, open_dataset
from landmark_viewer.scenes.training_spec import read_training_spec

FOCAL = 40.0  # of photographs reduced 10 times
BOX = [[-1, -1, -0.1], [1, 1, 0.3]]


def pose_at(x: float) -> list[list[float]]:
    pose = np.eye(4)
    pose[:3, 3] = x, 0, 1
    return pose.tolist()


def write(
    root: Path, frames: dict[str, list[str]], reduced: int = 5, suffix: str = ".png", **top: Any
) -> Path:
    """Writes photographs of 16 x 12 pixels; their paths in the transforms files are of another machine."""
    for split, names in frames.items():
        listed = []
        for i, name in enumerate(names):
            path = root / f"images_{reduced}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 12), (i, 0, 0)).save(path.with_suffix(suffix))
            listed.append({"file_path": f"/far/away/{name}.JPG", "transform_matrix": pose_at(i)})
        content = {"fl_x": FOCAL, "bounds": BOX, "frames": listed, **top}
        (root / f"transforms_{split}.json").write_text(json.dumps(content))
    return root / f"images_{reduced}"


def opened(path: Path, *folders: str) -> Dataset:
    return open_dataset(DatasetOptions(path, folders=folders, pixel_center=0.0))


FRAMES = {"train": ["west/a", "east/b", "west/c"], "test": ["east/a", "west/d"]}


def test_the_last_folder_and_the_name_of_a_path_lead_to_the_photograph(tmp_path):
    path = write(tmp_path, FRAMES)
    assert detect(path) == "landmark"
    data = opened(path)
    assert (data.kind, data.root, data.downsample) == ("landmark", tmp_path, 5)
    assert data.train.names == ("images_5/west/a.png", "images_5/east/b.png", "images_5/west/c.png")
    assert data.test.names == ("images_5/east/a.png", "images_5/west/d.png")
    assert data.train.pixels.image(2)[0, 0, 0] == 2


@pytest.mark.parametrize("reduced", [1, 5, 20])
def test_the_focal_length_is_that_of_photographs_reduced_ten_times(tmp_path, reduced):
    camera = opened(write(tmp_path, FRAMES, reduced)).train.cameras[0]
    assert (camera.width, camera.height, camera.cx, camera.cy) == (16, 12, 8, 6)
    assert camera.fl_x == camera.fl_y == FOCAL * 10 / reduced


def test_only_the_photographs_of_a_folder_are_taken_and_numbered(tmp_path):
    data = opened(write(tmp_path, FRAMES, suffix=".JPG"), "west")
    assert data.train.names == ("images_5/west/a.JPG", "images_5/west/c.JPG")
    assert data.test.names == ("images_5/west/d.JPG",)
    assert data.train.codes.tolist() == [0, 1]
    assert len(opened(tmp_path / "images_5", "west", "east").train) == 3


def test_folders_are_chosen_in_every_format_that_names_its_files(tmp_path):
    write(tmp_path, {"train": ["west/a", "east/b"], "test": ["west/c"]})
    for file in tmp_path.glob("*.json"):
        file.write_text(file.read_text().replace("/far/away", "images_5").replace(".JPG", ".png"))
    data = open_dataset(DatasetOptions(tmp_path, folders=("west",)))
    assert (data.kind, data.train.names) == ("transforms", ("images_5/west/a.png",))


def test_a_folder_that_is_not_there_is_left_out_and_told(tmp_path):
    path = write(tmp_path, FRAMES)
    for photo in (path / "east").iterdir():
        photo.unlink()
    with pytest.raises(
        InputError, match=r"file_path must name a photograph in .*east, got b, which does not"
    ):
        opened(path)
    (path / "east").rmdir()
    data = opened(path)
    assert data.notices == (f"photographs left out, as {path} has no folder east: 2",)
    with pytest.raises(InputError, match=r"dataset\.folders must name folders .* such as west, got east"):
        opened(path, "east")


@pytest.mark.parametrize("name", ["b.JPG", ".", "..", "west/..", "../b.JPG", "/b.JPG"])
def test_a_path_that_leads_nowhere_is_named(tmp_path, name):
    path = write(tmp_path, {"train": ["west/a"]})
    file = tmp_path / "transforms_train.json"
    file.write_text(file.read_text().replace("/far/away/west/a.JPG", name))
    with pytest.raises(
        InputError, match=r"frames\[0\]\.file_path must be the path of a photograph in a fold"
    ):
        landmark.read(path)


@settings(deadline=None)
@given(st.text(max_size=12) | st.text(alphabet="/.\\a", max_size=6))
def test_any_path_is_a_photograph_or_a_sentence(tmp_path_factory, name):
    path = write(tmp_path_factory.getbasetemp() / "any", {"train": ["west/a"]})
    file = path.parent / "transforms_train.json"
    data = json.loads(file.read_text())
    data["frames"][0]["file_path"] = name
    file.write_text(json.dumps(data))
    with contextlib.suppress(InputError):
        assert all(photo.path.is_file() for photo in landmark.read(path).photos)


def test_the_format_needs_its_folder(tmp_path):
    write(tmp_path, FRAMES)
    with pytest.raises(InputError, match="must be a folder such as images_5 beside a transforms_train"):
        landmark.read(tmp_path)


def test_a_config_of_landmark_finds_its_photographs(tmp_path):
    write(tmp_path / "data" / "tower", FRAMES)
    config = tmp_path / "city.txt"
    config.write_text(
        """
        dataroot = data
        datadir = tower
        dataset_name = city
        subfolder = [west]
        downsample_train = 5
        lb = [-2.4,-2.4,-0.05]
        ub = [2.4,2.4,0.55]
        train_near_far = [1e-1, 4]
        n_iters = 50000
        """
    )
    data = open_dataset(read_training_spec(config).dataset)
    assert data.train.names == ("images_5/west/a.png", "images_5/west/c.png")
    assert data.train.cameras[0].fl_x == 2 * FOCAL
    assert data.bounds == ((-2.4, -2.4, -0.05), (2.4, 2.4, 0.55))
