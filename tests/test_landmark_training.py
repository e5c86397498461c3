"""LandMark's configs as descriptions of training runs."""

from __future__ import annotations

import contextlib
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
from landmark_viewer.scenes.landmark_training import TRAIN_KEYS, read_training_config
from landmark_viewer.scenes.schema import scene_from_mapping
from landmark_viewer.scenes.training_spec import read_training_spec

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


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ("", {"path": "images_5", "format": "landmark"}),
        ("subfolder = [west]", {"path": "images_5", "format": "landmark", "folders": ("west",)}),
        ("subfolder = west, 2020", {"path": "images_5", "format": "landmark", "folders": ("west", "2020")}),
        ("subfolder = []\npartition = a", {"path": "images_5", "format": "landmark"}),
        ("downsample_train = 2", {"downsample": 2}),
        ("dataset_name = matrixcity\nsubfolder = [1, 2]", {"downsample": 5, "folders": ("1", "2")}),
    ],
)
def test_the_photographs_that_landmark_has_reduced_are_taken_as_they_are(config, tmp_path, lines, options):
    (tmp_path / "data" / "images_5").mkdir(parents=True)
    text = f"dataroot = .\ndatadir = data\ndataset_name = city\ndownsample_train = 5\nn_iters = 3\n{lines}"
    spec = read_training_spec(config(text))
    path = tmp_path / "data" / options.pop("path", "")
    assert spec.dataset == DatasetOptions(path=path, pixel_center=0.0, **options)
    assert spec.notices == ()


def test_what_the_trainer_lacks_is_told(config):
    text = "n_iters = 3\nbatch_size = 4\ndataroot = a\nadd_upsample = 5\nckpt = log/a.th\n"
    assert read_training_spec(config(text + "start_iters = 0\nmy_key = 1")).notices == (
        "config.txt has keys that are not LandMark's and are ignored: my_key.",
        "config.txt has add_upsample = 5, which is not supported and is ignored.",
        "config.txt has ckpt = log/a.th, which is not supported and is ignored.",
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


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([*TRAIN_KEYS, "lb", "ub", "dataroot"]), st.text(max_size=12))))
def test_any_text_is_a_config_or_a_sentence(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text("".join(f"{key} = {value}\n" for key, value in lines), encoding="utf-8")
    with contextlib.suppress(InputError):
        assert read_training_config(path)[0]["version"] == 1
