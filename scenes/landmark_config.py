"""LandMark's own config.txt, read as data: the settings of a run that its checkpoint does not hold."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.settings import ModelSettings, Sampling
from .text_file import read_text

MAX_SAMPLES = 16384  # per ray; keeps a slip of the keyboard from exhausting the memory
MAX_BLOCKS = 1024  # along one axis

_KEY = re.compile(r"(?:--)?([^:=;#\s]+)\s*[:=]?\s*")  # then the value
_QUOTED = re.compile(r"""(['"])(.*?)\1(?=\s+[;#]|$)""")
_COMMENT = re.compile(r"\s[;#]|^[;#]")

# Options of LandMark that a viewer has no use for: they are passed over in silence.
_OTHER = """
    L1_weight_inital N_vis N_voxel_final N_voxel_init Ortho_weight TV_weight_app TV_weight_density
    add_distort add_lpips add_nerf add_timestamp add_upsample alpha_grid_reso alpha_mask_thre basedir
    batch_size bias_enable branch_parallel camera channel_parallel channel_parallel_size ckpt ckpt_type
    compute_extra_metrics config data_dim_color datadir dataroot dataset_name debug density_shift device
    dist_backend dist_url distance_scale distributed downsample_train dynamic_fetching encode_app env
    expname fea2denseAct fea_pe featureC filter_ray generate_videos gpu group is_train lb local_rank
    logfolder lr_basis lr_decay_iters lr_decay_target_ratio lr_init lr_upsample_reset model_name
    model_parallel model_parallel_and_DDP model_parallel_degree nSamples n_iters n_lamb_sh n_lamb_sigma
    ndims neighbour_size nerf_D nerf_D_a nerf_W nerf_freq nonlinear_density optim_dir part partition
    patch_size plane_parallel pos_pe preload preprocessed_dir processed_data_type progress_refresh_rate
    progressive_alpha random_seed rank render_batch_size render_downward render_fov render_fps render_lb
    render_ncircle render_near_far render_nframes render_only render_path render_pathid render_px
    render_skip render_spherical render_spherical_radius render_spherical_zdiff render_test render_ub
    resMode skip_save_imgs start_iters step_ratio subfolder tensorboard test_all train_near_far ub
    update_AlphaMask_list upsamp_list use_preprocessed_data view_pe vis_every wandb world_size
"""
_OTHER_KEYS = frozenset(_OTHER.split())


@dataclass(frozen=True)
class Option:
    """One option of LandMark that decides the picture."""

    setting: str  # field of ModelSettings
    expected: str  # how the error message completes "must be"
    parse: Callable[[Any], Any]  # raises ValueError or TypeError for anything else


def _flag(value: Any) -> bool:
    return {0: False, 1: True, "false": False, "true": True, "no": False, "yes": True}[
        value.lower() if isinstance(value, str) else value
    ]


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SAMPLES:
        raise ValueError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(value):
        raise ValueError
    return float(value)


def _division(value: Any) -> tuple[int, int]:
    columns, rows = value
    if not all(type(n) is int and 1 <= n <= MAX_BLOCKS for n in (columns, rows)):
        raise ValueError
    return columns, rows


_FLAG = "0 or 1"
_COUNT = f"a whole number from 1 to {MAX_SAMPLES}"

USED_OPTIONS = {
    "white_bkgd": Option("white_background", _FLAG, _flag),
    "sampling_opt": Option("sampling", _FLAG, lambda value: Sampling.HULL if _flag(value) else Sampling.BOX),
    "n_importance": Option("n_importance", _COUNT, _count),
    "nerf_n_importance": Option("nerf_n_importance", _COUNT, _count),
    "alpha_mask_filter_thre": Option("alpha_mask_threshold", "a finite number", _number),
    "plane_division": Option(
        "plane_division", f"two whole numbers from 1 to {MAX_BLOCKS} such as [2,2]", _division
    ),
    "run_nerf": Option("run_nerf", _FLAG, _flag),
    "residnerf": Option("residual_nerf", _FLAG, _flag),
}


@dataclass(frozen=True)
class LandmarkConfig:
    """What a config.txt says of the picture."""

    path: Path
    settings: ModelSettings
    notices: tuple[str, ...]


def read_landmark_config(path: Path) -> LandmarkConfig:
    """Reads a LandMark config file.

    `near_far` is not taken from it: LandMark renders with the one in the checkpoint. A key that LandMark does
    not know is an error if it looks like a slip in one that decides the picture; otherwise a notice, since
    forks add options of their own.

    Raises:
        InputError: The file cannot be read, or an option that decides the picture has a wrong value.
    """
    entries = _entries(path, read_text(path, "LandMark config"))
    stated: dict[str, Any] = {}
    unknown = []
    for key, (line, text) in entries.items():
        if key in USED_OPTIONS:
            stated[USED_OPTIONS[key].setting] = _value(path, line, key, text)
        elif key not in _OTHER_KEYS:
            _refuse_near_miss(path, line, key)
            unknown.append(key)
    notices = []
    if unknown:
        shown = ", ".join(unknown[:6]) + (", ..." if unknown[6:] else "")
        notices.append(f"{path.name} has keys that are not LandMark's and are ignored: {shown}.")
    return LandmarkConfig(path, ModelSettings(**stated), tuple(notices))


def looks_like_config(path: Path) -> bool:
    """Whether a text file is a LandMark config: every line parses and at least three keys are LandMark's."""
    try:
        keys = _entries(path, read_text(path, "LandMark config"))
    except InputError:
        return False
    return sum(key in USED_OPTIONS or key in _OTHER_KEYS for key in keys) >= 3


def _entries(path: Path, text: str) -> Mapping[str, tuple[int, str]]:
    """Returns line number and text of every key; as in LandMark, the last of equal keys counts."""
    entries: dict[str, tuple[int, str]] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;[" or line.startswith("---"):
            continue
        match = _KEY.match(line)
        if match is None:
            raise InputError(f"{path}, line {number}: must be `key = value`, got {_short(line)}")
        entries[match[1]] = (number, _plain(line[match.end() :]))
    return entries


def _plain(text: str) -> str:
    """Returns a value without quotes and comment (which white space sets off); a lone key means true."""
    if quoted := _QUOTED.match(text):
        return quoted[2]
    return _COMMENT.split(text, maxsplit=1)[0].rstrip() or "true"


def _value(path: Path, line: int, key: str, text: str) -> Any:
    option = USED_OPTIONS[key]
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = text
    try:
        return option.parse(value)
    except (KeyError, ValueError, TypeError, OverflowError):
        raise InputError(
            f"{path}, line {line}: {key} must be {option.expected}, got {_short(text)}"
        ) from None


def _refuse_near_miss(path: Path, line: int, key: str) -> None:
    near = get_close_matches(key, USED_OPTIONS, n=1, cutoff=0.8)
    if near:
        raise InputError(f"{path}, line {line}: unknown key {key}; did you mean {near[0]}?")


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
