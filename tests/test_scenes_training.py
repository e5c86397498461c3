"""What a training run is asked to do: the sections of a scene file, photographs alone."""

from __future__ import annotations

import contextlib
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.scenes.datasets.dataset import DatasetOptions
from landmark_viewer.scenes.datasets.open import FORMATS
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.scenes.save import save_scene
from landmark_viewer.scenes.schema import SceneSpec, scene_from_mapping, scene_to_mapping
from landmark_viewer.scenes.training_sections import DATASET, TRAIN
from landmark_viewer.scenes.training_spec import QUICK, read_training_spec
from landmark_viewer.scenes.yaml_file import parse_yaml, read_yaml

TURNED = "[[0, -2, 0, 1], [2, 0, 0, 3], [0, 0, 2, 4], [0, 0, 0, 1]]"


def scene(text: str) -> SceneSpec:
    return scene_from_mapping(parse_yaml(text, "scene.yaml"), "scene.yaml")


def refusal(text: str) -> str:
    with pytest.raises(InputError) as error:
        scene(text)
    return str(error.value)


# scene.yaml


def test_the_sections_hold_every_field_of_their_dataclasses():
    assert set(TRAIN.accepted) == {f.name for f in fields(TrainSettings)}
    assert set(DATASET.accepted) == {f.name for f in fields(DatasetOptions)}


def test_a_scene_without_the_sections_is_not_trained():
    assert scene("version: 1").dataset is None
    assert scene("version: 1").train is None


def test_keys_of_both_sections_arrive():
    spec = scene(
        """
        version: 1
        dataset:
          path: photos/west
          downsample: 2
          bounds: [[-1, -1, 0], [1, 1, 0.5]]
          near_far: [0.1, 4]
          pixel_center: 0
          background: black
        train:
          levels: [1, 2, 4]
          division: [2, 3]
          learning_rate: 1e-2
          upsample_at: [10, 20]
          seed: 7
        """
    )
    assert spec.dataset == DatasetOptions(
        path=Path("photos/west"),
        downsample=2,
        bounds=((-1.0, -1.0, 0.0), (1.0, 1.0, 0.5)),
        near_far=(0.1, 4.0),
        pixel_center=0.0,
        background=(0.0, 0.0, 0.0),
    )
    assert spec.train == TrainSettings(
        levels=(1, 2, 4), division=(2, 3), learning_rate=0.01, upsample_at=(10, 20), seed=7
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset: {}", "dataset.path must be a file name, got nothing"),
        ("dataset: {path: ''}", "dataset.path must be a file name, got ''"),
        ("dataset: photos", "dataset must be a mapping of keys to values, got 'photos'"),
        ("dataset: {pth: a}", "unknown key dataset.pth; did you mean dataset.path?"),
        (
            "dataset: {path: a, format: nerf}",
            "dataset.format must be auto or transforms or landmark or colmap or blender or llff or "
            "matrixcity or contextcapture, got 'nerf'",
        ),
        (
            "dataset: {path: a, bounds: [[0, 0, 0], [1, 1, 0]]}",
            "dataset.bounds must be two corners such as [[-1, -1, 0], [1, 1, 0.5]], the lower one first, "
            "got [[0, 0, 0], [1, 1, 0]]",
        ),
        ("dataset: {path: a, scale: 0}", "dataset.scale must be a positive number, got 0"),
        ("train: {batch_sise: 8}", "unknown key train.batch_sise; did you mean train.batch_size?"),
        ("train: {zzz: 8}", "unknown key train.zzz; did you mean train."),
        (
            "train: {batch_size: 0}",
            "train.batch_size must be a whole number from 1 to 1048576, got 0",
        ),
        (
            "train: {batch_size: 1e4}",
            "train.batch_size must be a whole number from 1 to 1048576, got 10000.0",
        ),
        (
            "train: {voxels_end: 3000000000000}",
            "train.voxels_end must be a whole number from 8 to 2147483648, got 3000000000000",
        ),
        (
            "train: {levels: [1, 128]}",
            "train.levels must be one to 16 whole numbers from 1 to 64 such as [1, 2, 4], got [1, 128]",
        ),
        (
            "train: {levels: []}",
            "train.levels must be one to 16 whole numbers from 1 to 64 such as [1, 2, 4], got []",
        ),
        ("train: {directions: 2}", "train.directions must be 1 or 3, got 2"),
        ("train: {bias: 1}", "train.bias must be true or false, got 1"),
        ("train: {decay_ratio: 0}", "train.decay_ratio must be a number above 0, at most 1, got 0"),
        ("train: {nerf_from: -2}", "train.nerf_from must be an iteration, or -1 for never, got -2"),
        ("train: {l1_weight: .nan}", "train.l1_weight must be a number, 0 or more, got nan"),
        (
            "train: {directions: 3, division: [2, 1]}",
            "train must have directions 1 when the field is divided into blocks, as in LandMark",
        ),
        (
            "frame: {scene_from_source: [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}",
            "frame.scene_from_source must be four rows of four numbers, the last 0 0 0 1, that turn, scale "
            "and shift without skew, got [[1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]",
        ),
    ],
)
def test_a_refusal_names_the_key_what_must_hold_and_what_was_got(text, message):
    assert refusal(f"version: 1\n{text}").startswith(f"scene.yaml: {message}")


@pytest.mark.parametrize(
    "matrix",
    [
        "[[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]",
        "[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 2]]",
        "[[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]",
        "[[1, 0, 0], [0, 1, 0], [0, 0, 1]]",
        "[1, 0, 0, 1]",
    ],
)
def test_what_is_no_similarity_does_not_lead_from_the_photographs_to_the_scene(matrix):
    assert "frame.scene_from_source must be" in refusal(f"version: 1\nframe: {{scene_from_source: {matrix}}}")


JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
VALUES = JSON | st.lists(JSON | st.lists(JSON, max_size=3), max_size=3)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(TRAIN.accepted)), VALUES, max_size=4),
    st.dictionaries(st.sampled_from(list(DATASET.accepted)), VALUES, max_size=4),
)
def test_any_values_are_a_scene_or_a_sentence(train, dataset):
    with contextlib.suppress(InputError):
        spec = scene_from_mapping({"version": 1, "train": train, "dataset": dataset}, "scene.yaml")
        assert isinstance(spec.train, TrainSettings)


def test_every_scene_in_the_readme_reads():
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        scene(block)


def test_a_scene_may_name_every_format_that_is_read():
    assert set(DATASET.accepted["format"].expected.split(" or ")) == {"auto", *FORMATS}


# Writing


def test_what_is_written_reads_back_the_same(tmp_path):
    spec = scene(
        f"""
        version: 1
        name: '1e-3'
        model: {{checkpoint: a b.th, sampling: hull, near_far: [0.1, 4]}}
        appearance: {{code: 1, styles: {{'no': 0, dusk: 1}}}}
        frame: {{metres_per_unit: 100, epsg: 25832, origin: [1, 2, 3], scene_from_source: {TURNED}}}
        camera: {{eye: [0, -1, 1], target: [0, 0, 0]}}
        background: '#ff8000'
        dataset: {{path: ../photos, cache: /tmp/x, bounds: [[-1, -1, 0], [1, 1, 0.1]]}}
        train: {{levels: [1, 2], l1_weight: 8e-5, upsample_at: [3, 4], appearance_codes: true}}
        """
    )
    path = tmp_path / "scene.yaml"
    save_scene(path, spec)
    assert scene_from_mapping(read_yaml(path), "scene.yaml") == spec
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.yaml"]


def test_a_bare_scene_is_written_bare_but_the_settings_of_a_training_are_complete():
    assert scene_to_mapping(scene("version: 1")) == {"version": 1}
    written = scene_to_mapping(scene("version: 1\ntrain: {}"))
    assert list(written["train"]) == [f.name for f in fields(TrainSettings)]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=20), st.floats(-1e30, 1e30))
def test_any_name_and_number_survive_being_written(tmp_path_factory, name, number):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    spec = scene("version: 1")
    spec = replace(spec, name=name, frame=replace(spec.frame, origin=(number, 0.0, 0.0)))
    save_scene(path, spec)
    assert scene_from_mapping(read_yaml(path), "scene.yaml") == spec


def test_a_scene_that_cannot_be_written_is_an_error_and_leaves_the_old_one(tmp_path):
    (tmp_path / "scene.yaml").mkdir()
    with pytest.raises(InputError, match=r"scene\.yaml must be writable"):
        save_scene(tmp_path / "scene.yaml", scene("version: 1"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.yaml"]


# What `train` is given


def test_what_a_scene_leaves_out_of_its_training_is_set_for_a_small_machine(tmp_path):
    path = tmp_path / "town" / "scene.yaml"
    path.parent.mkdir()
    path.write_text("version: 1\ndataset: {path: photos}\ntrain: {iterations: 12}")
    spec = read_training_spec(path, ["train.levels=[1]", "dataset.downsample=3"])
    assert spec.train == replace(QUICK, iterations=12, levels=(1,))
    assert spec.dataset == DatasetOptions(path=path.parent / "photos", downsample=3)
    assert (spec.name, spec.run_folder) == ("town", path.parent / "scene_run")


def test_a_folder_of_photographs_is_trained_with_the_same_settings(tmp_path):
    folder = tmp_path / "my photos"
    folder.mkdir()
    spec = read_training_spec(folder, ["train.seed=3"])
    assert spec.train == replace(QUICK, seed=3)
    assert spec.dataset == DatasetOptions(path=folder)
    assert (spec.name, spec.run_folder) == ("my_photos", tmp_path / "my photos_run")


def test_the_folder_of_a_run_names_that_run(tmp_path):
    (tmp_path / "scene.yaml").write_text("version: 1\ndataset: {path: ../photos}")
    assert read_training_spec(tmp_path).run_folder == tmp_path / "scene_run"
    (tmp_path / "state.safetensors").touch()
    assert read_training_spec(tmp_path).run_folder == tmp_path


def test_photographs_whose_name_is_no_text_are_refused_before_they_are_read(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.path must be a file name"):
        read_training_spec(tmp_path / "a\udc80")


def test_a_scene_without_photographs_cannot_be_trained(tmp_path):
    path = tmp_path / "scene.yaml"
    path.write_text("version: 1\nmodel: {checkpoint: a.th}")
    with pytest.raises(InputError, match="dataset must say where the photographs are"):
        read_training_spec(path)


@pytest.mark.parametrize("name", ["tower-sub0", "tower-merged-stack", "scene"])
def test_a_checkpoint_never_gets_a_name_that_means_something_else(tmp_path, name):
    folder = tmp_path / "place" / name
    folder.mkdir(parents=True)
    assert read_training_spec(folder).name == {"scene": "place"}.get(name, f"{name}_model")


def test_a_scene_that_is_not_trained_yet_cannot_be_opened_and_says_how_to_train_it(tmp_path):
    (tmp_path / "scene.yaml").write_text("version: 1\ndataset: {path: photos}")
    with pytest.raises(InputError, match=r"model\.checkpoint must name .*; landmark-viewer train makes one"):
        open_scene(tmp_path / "scene.yaml")
