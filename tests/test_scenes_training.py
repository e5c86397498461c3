"""What a training run is asked to do: the sections of a scene file, LandMark's configs, photographs alone."""

from __future__ import annotations

import contextlib
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.checkpoint.write_config import RunFacts, landmark_config_text
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.settings import Sampling
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.scenes.datasets.dataset import DatasetOptions
from landmark_viewer.scenes.datasets.open import FORMATS
from landmark_viewer.scenes.landmark_training import TRAIN_KEYS, read_training_config
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.scenes.save import save_scene, scene_to_mapping
from landmark_viewer.scenes.schema import SceneSpec, scene_from_mapping
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
            "dataset.format must be auto or transforms or colmap or blender or llff or matrixcity or "
            "contextcapture, got 'nerf'",
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


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*TRAIN_KEYS, "lb", "ub", "dataroot"]), st.text(max_size=12))))
def test_any_text_is_a_config_or_a_sentence(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines), encoding="utf-8")
    with contextlib.suppress(InputError):
        assert read_training_config(path)[0]["version"] == 1


def test_every_scene_in_the_readme_reads():
    readme = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) == 2
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


# LandMark's configs

ORACLE = TrainSettings(
    bias=True,
    feature_pe=2,
    view_pe=2,
    white_background=True,
    activation="relu",
    density_channels=(8, 8, 8),
    appearance_channels=(16, 16, 16),
    batch_size=1024,
    voxels_start=40_000,
    l1_weight=8e-5,
    tv_density_weight=0.1,
    tv_appearance_weight=0.01,
    test_every=1_000_000,
    test_views=-1,
)
ORACLES = {
    "a2_seq_sparsemask": replace(
        ORACLE,
        activation="softplus",
        density_channels=(16, 16, 16),
        appearance_channels=(32, 32, 32),
        iterations=700,
        voxels_start=60_000,
        voxels_end=400_000,
        upsample_at=(120, 250),
        update_mask_at=(200,),
    ),
    "b_seq_res124_app": replace(
        ORACLE,
        levels=(1, 2, 4),
        appearance_channels=(24, 24, 24),
        appearance_codes=True,
        iterations=1300,
        voxels_end=110_000,
        upsample_at=(150, 350),
        update_mask_at=(250, 600),
    ),
    "d_branch22_app": replace(
        ORACLE,
        levels=(1, 2, 4),
        appearance_codes=True,
        division=(2, 2),
        iterations=600,
        voxels_end=100_000,
        upsample_at=(100, 220),
        update_mask_at=(160,),
    ),
    "e1_plane21": replace(
        ORACLE,
        levels=(1, 2),
        iterations=250,
        voxels_end=120_000,
        upsample_at=(60, 120),
        update_mask_at=(90,),
    ),
    "f_seq_nerf_app": replace(
        ORACLE,
        appearance_codes=True,
        batch_size=512,
        iterations=350,
        voxels_end=150_000,
        upsample_at=(60, 120),
        update_mask_at=(90,),
        nerf_from=200,
        n_importance=64,
        nerf_n_importance=16,
    ),
}


@pytest.mark.parametrize("name", ORACLES)
def test_the_configs_that_came_with_checkpoints_say_how_these_were_trained(shared_dir, name):
    path = shared_dir / "oracle" / name / "config.txt"
    photos = shared_dir / "data" / "brighton_beach"
    spec = read_training_spec(path, [f"dataset.path={photos}"])
    assert spec.train == ORACLES[name]
    assert spec.dataset == DatasetOptions(
        path=photos,
        format="transforms",
        pixel_center=0.0,
        bounds=((-1.5, -1.5, -0.1), (1.5, 1.5, 0.3)),
        near_far=(0.1, 4.0),
    )
    assert spec.scene.model.sampling is Sampling.BOX
    notice = "config.txt asks for plane_parallel: the field is trained as a whole, the model is the same."
    assert spec.notices == ((notice,) if name == "e1_plane21" else ())


@pytest.mark.parametrize("name", ORACLES)
def test_the_config_that_is_written_beside_a_checkpoint_trains_the_same(tmp_path, name):
    text = landmark_config_text(
        ORACLES[name], RunFacts("a", [[0, 0, 0], [1, 1, 1]], (0.1, 4.0), Path("/p/q"))
    )
    (tmp_path / "config.txt").write_text(text)
    spec = read_training_spec(tmp_path / "config.txt")
    assert spec.train == ORACLES[name]
    assert spec.notices == ()
    assert spec.dataset == DatasetOptions(
        path=Path("/p/q"),
        format="transforms",
        pixel_center=0.0,
        bounds=((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        near_far=(0.1, 4.0),
    )


@pytest.fixture
def config(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "config.txt"
        path.write_text(text)
        return path

    return write


def test_an_empty_config_means_landmarks_defaults(config):
    mapping, notices = read_training_config(config("expname = x"))
    spec = scene_from_mapping({**mapping, "dataset": {**mapping["dataset"], "path": "a"}}, "")
    assert spec.train == TrainSettings()
    assert spec.dataset == DatasetOptions(path=Path("a"), downsample=20, pixel_center=0.0)
    assert notices == ()


def test_every_key_of_landmarks_training_has_a_field_of_its_own():
    assert set(TRAIN_KEYS.values()) <= {f.name for f in fields(TrainSettings)}
    assert len(set(TRAIN_KEYS.values())) == len(TRAIN_KEYS)


def test_all_other_keys_of_a_config_arrive(config, tmp_path):
    (tmp_path / "data" / "west").mkdir(parents=True)
    text = """
        dataroot = data
        datadir = west
        dataset_name = matrixcity
        expname = my run
        downsample_train = 5
        ndims = 3
        resMode = 2
        lr_init = 1
        nSamples = 1000000.0
        nonlinear_density
        residnerf = 1
        add_nerf = 7
        add_distort = 3
        lr_decay_iters = 99
        plane_division = [4,2]
        channel_parallel = 0
        L1_weight_rest = 4e-5
        shadingMode = MLP_Fea
        rm_weight_mask_thre = 1e-4
        ckpt = None
        run_nerf = True
    """
    spec = read_training_spec(config(text))
    assert spec.train == TrainSettings(
        directions=3,
        levels=(2,),
        learning_rate=1.0,
        nonlinear_density=True,
        residual_nerf=True,
        nerf_from=7,
        distortion_from=3,
        decay_iterations=99,
    )
    assert spec.dataset == DatasetOptions(path=tmp_path / "data" / "west", downsample=5, pixel_center=0.0)
    assert spec.scene.name == "my run"
    assert spec.scene.model.plane_division is None
    assert spec.scene.model.run_nerf is True
    assert spec.notices == ()


def test_blocks_need_both_keys(config):
    both = read_training_spec(config("branch_parallel = 1\nplane_division = [4,2]\ndataroot = a"))
    assert both.train.division == both.scene.model.plane_division == (4, 2)
    with pytest.raises(InputError, match="plane_division must be given with branch_parallel"):
        read_training_spec(config("branch_parallel = 1\nn_iters = 3\ndataroot = a"))


def test_what_the_trainer_lacks_is_told(config):
    text = (
        "n_iters = 3\nbatch_size = 4\ndataroot = a\nadd_upsample = 5\nckpt = log/a.th\nsubfolder = [west]\n"
    )
    assert read_training_spec(config(text + "start_iters = 0\nmy_key = 1")).notices == (
        "config.txt has keys that are not LandMark's and are ignored: my_key.",
        "config.txt has add_upsample = 5, which is not supported and is ignored.",
        "config.txt has ckpt = log/a.th, which is not supported and is ignored.",
        "config.txt has subfolder = [west], which is not supported and is ignored.",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nn_iters = many", ", line 2: n_iters must be a whole number from 1 to 1000000000, got 'many'"),
        ("n_iter = 3", ", line 1: unknown key n_iter; did you mean n_iters?"),
        ("encode_app = 2", ", line 1: encode_app must be 0 or 1, got '2'"),
        (
            "dataset_name = blender",
            ", line 1: dataset_name must be city or matrixcity, got 'blender'",
        ),
        ("fea2denseAct = exp", ", line 1: fea2denseAct must be softplus or relu, got 'exp'"),
        (
            "lb = [0, 0]",
            ", line 1: lb must be three finite numbers such as [0, 0, 1], got '[0, 0]'",
        ),
        (
            "lb = [0, 0, 0]\nub = [1, 1, 0]",
            ": lb and ub must both be given, with lb below ub on every axis",
        ),
        ("lb = [0, 0, 0]", ": lb and ub must both be given, with lb below ub on every axis"),
        (
            "upsamp_list = [1, -2]",
            ", line 1: upsamp_list must be a list of at most 1000 iterations such as [2000, 3000], "
            "got '[1, -2]'",
        ),
        (
            "N_voxel_final = 1e12",
            ", line 1: N_voxel_final must be a whole number from 8 to 2147483648, got '1e12'",
        ),
    ],
)
def test_a_wrong_line_is_named_by_file_number_and_key(config, text, message):
    path = config(f"{text}\nbatch_size = 1\nlr_init = 1\nexpname = x\ndataroot = a")
    with pytest.raises(InputError) as error:
        read_training_spec(path)
    assert str(error.value) == f"{path}{message}"


def test_a_config_without_photographs_says_so(config):
    with pytest.raises(InputError, match=r"dataset\.path must be a file name, got nothing"):
        read_training_spec(config("n_iters = 3\nbatch_size = 4\nexpname = x"))
