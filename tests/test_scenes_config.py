"""LandMark's config.txt, read as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.settings import ModelSettings, Sampling
from landmark_viewer.scenes.landmark_config import looks_like_config, read_landmark_config


@pytest.fixture
def config(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "config.txt"
        path.write_text(text)
        return path

    return write


def test_every_option_that_decides_the_picture_is_read(config):
    path = config(
        """
        white_bkgd = 1
        sampling_opt = 1
        n_importance = 64
        nerf_n_importance = 8
        alpha_mask_filter_thre = 1e-3
        plane_division = [4, 2]
        run_nerf = true
        residnerf = False
        """
    )
    assert read_landmark_config(path).settings == ModelSettings(
        white_background=True,
        sampling=Sampling.HULL,
        n_importance=64,
        nerf_n_importance=8,
        alpha_mask_threshold=1e-3,
        plane_division=(4, 2),
        run_nerf=True,
        residual_nerf=False,
    )


def test_near_and_far_of_a_config_do_not_override_those_of_the_checkpoint(config):
    settings = read_landmark_config(config("render_near_far = [2e-1, 4]\ntrain_near_far = [1, 2]")).settings
    assert settings == ModelSettings()


@pytest.mark.parametrize(
    "line",
    [
        "n_importance = 32",
        "n_importance=32",
        "n_importance: 32",
        "n_importance 32",
        "--n_importance = 32",
        "n_importance = 32  # as in the paper",
        "n_importance = 32 ; as in the paper",
        "n_importance = '32'",
        'n_importance = "32"  # quoted',
        "[model]\n; a comment\n---\nn_importance = 32",
        "n_importance = 16\nn_importance = 32",
    ],
)
def test_all_ways_of_writing_a_line_give_the_same_value(config, line):
    assert read_landmark_config(config(line)).settings.n_importance == 32


def test_a_lone_key_means_true(config):
    assert read_landmark_config(config("white_bkgd")).settings.white_background is True


def test_a_comment_sign_inside_quotes_or_a_word_belongs_to_the_value(config):
    path = config("expname = city#1\nbasedir = 'logs # old'\nwhite_bkgd = 1")
    assert read_landmark_config(path).notices == ()


def test_options_of_a_fork_are_passed_over_with_a_notice(config):
    read = read_landmark_config(config("white_bkgd = 1\nmy_loss_weight = 3\nsky_model = none"))
    assert read.settings.white_background is True
    assert read.notices == (
        "config.txt has keys that are not LandMark's and are ignored: my_loss_weight, sky_model.",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lb = [0]\nwhite_bkg = 1", "line 2: unknown key white_bkg; did you mean white_bkgd?"),
        ("sample_opt = 1", "line 1: unknown key sample_opt; did you mean sampling_opt?"),
        ("\nwhite_bkgd = maybe", "line 2: white_bkgd must be 0 or 1, got 'maybe'"),
        ("sampling_opt = 2", "line 1: sampling_opt must be 0 or 1, got '2'"),
        ("n_importance = 0", "line 1: n_importance must be a whole number from 1 to 16384, got '0'"),
        ("n_importance = 1e9", "line 1: n_importance must be a whole number from 1 to 16384, got '1e9'"),
        (
            "n_importance = " + "9" * 5000,
            "line 1: n_importance must be a whole number from 1 to 16384, got '" + "9" * 57 + "...'",
        ),
        ("alpha_mask_filter_thre = [0]", "line 1: alpha_mask_filter_thre must be a finite number, got '[0]'"),
        (
            "alpha_mask_filter_thre = 1e999",
            "line 1: alpha_mask_filter_thre must be a finite number, got '1e999'",
        ),
        (
            "plane_division = [2]",
            "line 1: plane_division must be two whole numbers from 1 to 1024 such as [2,2], got '[2]'",
        ),
        (
            "plane_division = [2, 0]",
            "line 1: plane_division must be two whole numbers from 1 to 1024 such as [2,2], got '[2, 0]'",
        ),
        (
            "plane_division = __import__('os').abort()",
            "line 1: plane_division must be two whole numbers from 1 to 1024 such as [2,2], "
            "got \"__import__('os').abort()\"",
        ),
        ("= 3", "line 1: must be `key = value`, got '= 3'"),
    ],
)
def test_a_wrong_line_is_named_by_file_number_and_key(config, text, message):
    path = config(text)
    with pytest.raises(InputError) as error:
        read_landmark_config(path)
    assert str(error.value) == f"{path}, {message}"


def test_binary_and_oversized_files_are_refused(tmp_path):
    binary, large = tmp_path / "binary.txt", tmp_path / "large.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    large.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(InputError, match="UTF-8 text, got binary data"):
        read_landmark_config(binary)
    with pytest.raises(InputError, match="at most 1 MiB"):
        read_landmark_config(large)


def test_a_licence_is_no_config_and_every_config_that_came_with_a_checkpoint_is(shared_dir):
    assert not looks_like_config(shared_dir / "data" / "brighton_beach" / "LICENSE")
    configs = sorted((shared_dir / "oracle").glob("*/config.txt"))
    assert configs
    for path in configs:
        assert looks_like_config(path)
        assert read_landmark_config(path).notices == ()
