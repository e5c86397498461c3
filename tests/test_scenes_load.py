"""Opening scenes: what is found where, and who has the last word on a setting."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.settings import Sampling
from landmark_viewer.scenes.load import checkpoint_of, demo_scene_path, open_scene

from . import synthetic

DEMO = demo_scene_path().parent
CONFIG = "ndims = 1\nsampling_opt = 0\nwhite_bkgd = 1\n"  # of LandMark


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but a checkpoint."""
    shutil.copy(synthetic.write(tmp_path / "made"), tmp_path / "city.th")
    shutil.rmtree(tmp_path / "made")
    return tmp_path


def write_scene(folder: Path, text: str = "") -> Path:
    path = folder / "scene.yaml"
    path.write_text(f"version: 1\n{text}")
    return path


@pytest.mark.parametrize(("word", "name"), [("demo", "Town"), ("brighton", "Brighton Beach")])
def test_a_shipped_scene_opens_and_is_a_place_with_a_name(word, name):
    scene = open_scene(demo_scene_path(word))
    assert scene.name == name
    assert scene.background == (1, 1, 1)
    assert scene.model.settings.white_background
    assert scene.notices == ()


def test_the_photographers_notice_lies_beside_the_field():
    assert (DEMO / "LICENSE-brighton-beach.txt").read_text().startswith("BSD 2-Clause License")


def test_a_bare_checkpoint_opens_with_a_notice_for_all_that_is_assumed(folder):
    scene = open_scene(folder / "city.th")
    assert scene.name == "city"
    assert not scene.model.settings.white_background
    assert any("model.white_background is stated nowhere" in notice for notice in scene.notices)


@pytest.mark.parametrize("name", ["config.txt", "run_7.txt"])
def test_the_config_beside_a_bare_checkpoint_is_used_and_named(folder, name):
    (folder / name).write_text(CONFIG)
    (folder / "notes.txt").write_text("Flown in spring.\nTwo batteries.\n")
    for path in (folder, folder / "city.th"):
        scene = open_scene(path)
        assert scene.model.settings.white_background
        assert scene.notices[0] == f"Settings are taken from {name}, which lies beside the checkpoint."


def test_of_two_unnamed_configs_neither_is_used(folder):
    for name in ("run_7.txt", "run_8.txt"):
        (folder / name).write_text(CONFIG)
    assert not open_scene(folder).model.settings.white_background


def test_a_scene_file_uses_only_the_config_that_it_names(folder):
    (folder / "config.txt").write_text(CONFIG)
    without = write_scene(folder, "model: {checkpoint: city.th}")
    assert not open_scene(without).model.settings.white_background
    named = write_scene(folder, "model: {checkpoint: city.th, config: config.txt}")
    assert open_scene(named).model.settings.white_background


def test_a_folder_opens_its_scene_file_before_its_checkpoint(folder):
    write_scene(folder, "name: From the file\nmodel: {checkpoint: city.th}")
    assert open_scene(folder).name == "From the file"


def test_paths_are_relative_to_the_scene_file(folder, monkeypatch):
    (folder / "scenes").mkdir()
    path = write_scene(folder / "scenes", "model: {checkpoint: ../city.th}")
    monkeypatch.chdir("/")
    assert open_scene(path).opened.files == (folder / "scenes" / ".." / "city.th",)
    monkeypatch.setenv("HOME", str(folder))
    assert open_scene(path, ["model.checkpoint=~/city.th"]).opened.files == (folder / "city.th",)


def test_a_checkpoint_key_may_name_a_folder(folder):
    (folder / "scenes").mkdir()
    path = write_scene(folder / "scenes", "model: {checkpoint: ..}")
    assert checkpoint_of(path).resolve() == folder / "city.th"


def test_set_goes_over_the_scene_file_which_goes_over_the_config(folder):
    (folder / "config.txt").write_text(
        "n_importance = 10\nnerf_n_importance = 10\nalpha_mask_filter_thre = 0.1"
    )
    path = write_scene(
        folder, "model: {checkpoint: city.th, config: config.txt, n_importance: 20, nerf_n_importance: 20}"
    )
    settings = open_scene(path, ["model.n_importance=30"]).model.settings
    assert settings.n_importance == 30
    assert settings.nerf_n_importance == 20
    assert settings.alpha_mask_threshold == 0.1
    assert settings.white_background is False  # LandMark's default


def test_the_config_goes_over_what_the_checkpoint_says_of_its_own_run(shared_dir, tmp_path):
    checkpoint = shared_dir / "oracle" / "d_branch22_app" / "bb_d_branch22_app-merged-stack.th"
    path = tmp_path / "scene.yaml"
    path.write_text(f"version: 1\nmodel: {{checkpoint: {checkpoint}}}")
    assert open_scene(path).model.settings.white_background is True
    (tmp_path / "config.txt").write_text("white_bkgd = 0\n")
    settings = open_scene(path, ["model.config=config.txt"]).model.settings
    assert settings.white_background is False
    assert settings.plane_division == (2, 2)


def test_near_and_far_come_from_the_checkpoint_unless_the_scene_says_otherwise(folder):
    (folder / "config.txt").write_text("render_near_far = [0.5, 9]\ntrain_near_far = [0.5, 9]\n")
    assert open_scene(folder / "city.th").model.near_far == pytest.approx((0.1, 4))
    assert open_scene(folder / "city.th", ["model.near_far=[0.2, 5]"]).model.near_far == (0.2, 5)


def test_set_reaches_every_part_and_creates_what_is_missing(folder):
    scene = open_scene(
        folder,
        [
            "name=Elsewhere",
            "model.sampling=hull",
            "appearance.styles.dawn=0",
            "frame.metres_per_unit=1e2",
            "camera={eye: [0, 0, 5], target: [0, 0, 0]}",
            "camera.fov_y=30",
            "background=#ff8000",
        ],
    )
    assert scene.name == "Elsewhere"
    assert scene.model.settings.sampling is Sampling.HULL
    assert scene.spec.appearance.styles == (("dawn", Appearance.of(0)),)
    assert scene.spec.frame.metres_per_unit == 100
    assert scene.home_camera(40, 30).fov_y == pytest.approx(30)
    assert scene.home_camera(40, 30).eye.tolist() == [0, 0, 5]
    assert scene.background == (1, 128 / 255, 0)


def test_an_empty_value_takes_a_key_back(folder):
    path = write_scene(folder, "name: Long title\nmodel: {checkpoint: city.th}")
    assert open_scene(path, ["name="]).name == folder.name


def test_set_leaves_the_scene_file_alone(folder):
    path = write_scene(folder, "model: {checkpoint: city.th}")
    before = path.read_text()
    open_scene(path, ["model.sampling=hull"])
    assert path.read_text() == before


@pytest.mark.parametrize("aspect", [0.5, 1.0, 16 / 9, 3.0])
@pytest.mark.parametrize("fov_y", [20, 50, 75])
def test_the_home_view_looks_north_and_down_at_the_box_and_the_box_fills_it(folder, aspect, fov_y):
    scene = open_scene(folder, [f"camera.fov_y={fov_y}", "model.near_far=[0, 1000]"])
    width, height = round(200 * aspect), 200
    camera = scene.home_camera(width, height)
    low, high = scene.model.aabb.numpy()
    middle = camera.project((low + high) / 2)
    assert middle[:2] == pytest.approx((width / 2, height / 2), abs=0.01)
    forward = -camera.matrix[:3, 2]
    assert forward[0] == pytest.approx(0)
    assert np.degrees(np.arcsin(-forward[2])) == pytest.approx(40)
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(8, 3)
    seen = np.array([camera.project(corner) for corner in corners])
    assert (seen[:, 2] > 0).all()
    extent = np.abs(seen[:, :2] - [width / 2, height / 2]).max(axis=0) / [width / 2, height / 2]
    assert 1.0 < extent.max() < 1.6


def test_the_home_view_stays_where_rays_are_sampled(folder):
    scene = open_scene(folder, ["camera.fov_y=5"])
    eye = scene.home_camera(100, 100).eye
    assert np.linalg.norm(eye - scene.home_target()) <= scene.model.near_far[1] + 1e-9


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling"], "--set must be key.path=value, got 'sampling'"),
        (["=3"], "--set must be key.path=value, got '=3'"),
        (["model..sampling=3"], "--set must be key.path=value, got 'model..sampling=3'"),
        (["model.samping=hull"], "--set: unknown key model.samping; did you mean model.sampling?"),
        (["model.sampling=cone"], "--set: model.sampling must be box or hull, got 'cone'"),
        (
            ["model.near_far=[1"],
            "--set model.near_far must have a value such as 3, true, text or [1, 2], got '[1'",
        ),
        (["name.first=a"], "--set: name must be text, got a mapping"),
        (["version=2"], "--set: version must be 1, the version that this program reads, got 2"),
        (
            ["appearance.code=1"],
            "--set: appearance.code must be from 0 to 0 (the model has no appearance table), got 1",
        ),
        (
            ["model.checkpoint="],
            "--set: model.checkpoint must name a .th file or a folder with one, got nothing",
        ),
    ],
)
def test_a_wrong_override_is_blamed_on_set(folder, overrides, message):
    with pytest.raises(InputError) as error:
        open_scene(folder, overrides)
    assert str(error.value) == message


def test_a_code_outside_the_table_is_refused_with_its_size(shared_dir):
    folder = shared_dir / "oracle" / "b_seq_res124_app"
    assert open_scene(folder, ["appearance.code=11499"]).spec.appearance.start.code == 11499
    with pytest.raises(InputError) as error:
        open_scene(folder, ["appearance.styles={dusk: 11500}"])
    assert "appearance.styles.dusk must be from 0 to 11499 (the table has 11500 rows), got 11500" in str(
        error.value
    )


def test_every_oracle_folder_opens_by_its_name(shared_dir):
    for folder in sorted((shared_dir / "oracle").iterdir()):
        scene = open_scene(folder)
        assert scene.model.settings.white_background, folder
        assert scene.notices[0].startswith("Settings are taken from config.txt"), folder
