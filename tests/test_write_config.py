"""The config.txt that LandMark gets beside a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from landmark_viewer.core.checkpoint.write_config import RunFacts, landmark_config_text
from landmark_viewer.core.settings import ModelSettings, Sampling
from landmark_viewer.scenes.landmark_config import read_landmark_config

from .test_checkpoint_write import BOUNDS, SMALL, make, write


def test_the_config_is_read_back(tmp_path: Path) -> None:
    config = write(make(division=(2, 2), mask_filter_threshold=0.5), tmp_path)[-1]
    read = read_landmark_config(config)
    assert read.notices == ()
    assert read.settings == ModelSettings(
        white_background=True,
        sampling=Sampling.BOX,
        n_importance=24,
        nerf_n_importance=6,
        alpha_mask_threshold=0.5,
        plane_division=(2, 2),
        residual_nerf=False,
    )


def test_the_config_says_what_landmark_needs_to_open_the_file() -> None:
    settings = replace(
        SMALL,
        directions=3,
        bias=True,
        appearance_codes=True,
        nonlinear_density=True,
        nerf_from=200,
        residual_nerf=True,
        upsample_at=(10, 20),
    )
    facts = RunFacts("town", BOUNDS, (0.1, 6.0), Path("/data/towns/demo"), downsample=2)
    lines = landmark_config_text(settings, facts).splitlines()
    told = dict(line.split(" = ") for line in lines)
    assert len(told) == len(lines)
    expected = {
        **{"expname": "town", "dataroot": "/data/towns", "datadir": "demo", "downsample_train": "2"},
        **{"lb": "[-1.0,-0.8,-0.1]", "ub": "[1.4,0.8,0.7]", "train_near_far": "[0.1,6.0]"},
        **{"ndims": "3", "resMode": "[1,2]", "n_lamb_sigma": "[4,5,6]", "n_lamb_sh": "[6,7,9]"},
        **{"encode_app": "1", "bias_enable": "1", "nonlinear_density": "1", "white_bkgd": "1"},
        **{"add_nerf": "200", "residnerf": "1", "nerf_D": "6", "nerf_W": "8"},
        **{"n_importance": "24", "nerf_n_importance": "6", "sampling_opt": "0", "branch_parallel": "0"},
        **{"upsamp_list": "[10,20]", "update_AlphaMask_list": "[30000]", "fea2denseAct": "relu"},
    }
    assert {key: told.get(key) for key in expected} == expected
    assert not {"plane_division", "run_nerf"} & told.keys()
