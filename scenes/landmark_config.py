"""LandMark's own config.txt, read as data: the settings of a run that its checkpoint does not hold."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.settings import ModelSettings, Sampling
from .kinds import MAX_BLOCKS, MAX_SAMPLES
from .text_file import read_text

_KEY = re.compile(r"(?:--)?([^:=;#\s]+)\s*[:=]?\s*")  # then the value
NOTHING = "None"  # how LandMark itself writes an option that was not given
_QUOTED = re.compile(r"""(['"])(.*?)\1(?=\s+[;#]|$)""")
_COMMENT = re.compile(r"\s[;#]|^[;#]")

# Options of LandMark that a viewer has no use for: they are passed over in silence; so are the last three,
# which its configs have but its program does not.
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
    L1_weight_rest rm_weight_mask_thre shadingMode
"""
_OTHER_KEYS = frozenset(_OTHER.split())


@dataclass(frozen=True)
class Option:
    """One option of LandMark that decides the picture."""

    setting: str  # field of ModelSettings
    expected: str  # how the error message completes "must be"
    parse: Callable[[Any], Any]  # raises ValueError or TypeError for anything else


@dataclass(frozen=True)
class Line:
    """One key of a config and its value as written."""

    path: Path
    number: int  # from 1
    key: str
    text: str

    @property
    def where(self) -> str:
        """Start of every error message."""
        return f"{self.path}, line {self.number}"

    @property
    def literal(self) -> Any:
        """The value as Python writes it, or else its text."""
        try:
            return ast.literal_eval(self.text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return self.text

    def value(self, option: Option) -> Any:
        """Reads the value.

        Raises:
            InputError: The option does not accept it.
        """
        try:
            return option.parse(self.literal)
        except (KeyError, ValueError, TypeError, OverflowError):
            raise InputError(
                f"{self.where}: {self.key} must be {option.expected}, got {_short(self.text)}"
            ) from None


def flag(value: Any) -> bool:
    """Accepts what LandMark accepts for a switch."""
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
    "white_bkgd": Option("white_background", _FLAG, flag),
    "sampling_opt": Option("sampling", _FLAG, lambda value: Sampling.HULL if flag(value) else Sampling.BOX),
    "n_importance": Option("n_importance", _COUNT, _count),
    "nerf_n_importance": Option("nerf_n_importance", _COUNT, _count),
    "alpha_mask_filter_thre": Option("alpha_mask_threshold", "a finite number", _number),
    "plane_division": Option(
        "plane_division", f"two whole numbers from 1 to {MAX_BLOCKS} such as [2,2]", _division
    ),
    "run_nerf": Option("run_nerf", _FLAG, flag),
    "residnerf": Option("residual_nerf", _FLAG, flag),
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
    lines = read_lines(path)
    stated = {
        USED_OPTIONS[line.key].setting: line.value(USED_OPTIONS[line.key])
        for line in lines
        if line.key in USED_OPTIONS
    }
    return LandmarkConfig(path, ModelSettings(**stated), unknown_keys(path, lines, USED_OPTIONS))


def looks_like_config(path: Path) -> bool:
    """Whether a text file is a LandMark config: every line parses and at least three keys are LandMark's."""
    try:
        lines = read_lines(path)
    except InputError:
        return False
    return sum(line.key in USED_OPTIONS or line.key in _OTHER_KEYS for line in lines) >= 3


def read_lines(path: Path) -> tuple[Line, ...]:
    """Reads the keys of a config that have a value; as in LandMark, the last of equal keys counts.

    Raises:
        InputError: The file cannot be read, or a line is not `key = value`.
    """
    lines: dict[str, Line] = {}
    for number, raw in enumerate(read_text(path, "LandMark config").splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;[" or line.startswith("---"):
            continue
        match = _KEY.match(line)
        if match is None:
            raise InputError(f"{path}, line {number}: must be `key = value`, got {_short(line)}")
        lines[match[1]] = Line(path, number, match[1], _plain(line[match.end() :]))
    return tuple(line for line in lines.values() if line.text != NOTHING)


def _plain(text: str) -> str:
    """Returns a value without quotes and comment (which white space sets off); a lone key means true."""
    if quoted := _QUOTED.match(text):
        return quoted[2]
    return _COMMENT.split(text, maxsplit=1)[0].rstrip() or "true"


def unknown_keys(path: Path, lines: Sequence[Line], options: Collection[str]) -> tuple[str, ...]:
    """Returns a notice that names the keys which LandMark does not have, or nothing.

    Raises:
        InputError: One of them looks like a slip in one of `options`.
    """
    unknown = [line for line in lines if line.key not in options and line.key not in _OTHER_KEYS]
    for line in unknown:
        if near := get_close_matches(line.key, options, n=1, cutoff=0.8):
            raise InputError(f"{line.where}: unknown key {line.key}; did you mean {near[0]}?")
    if not unknown:
        return ()
    shown = ", ".join(line.key for line in unknown[:6]) + (", ..." if unknown[6:] else "")
    return (f"{path.name} has keys that are not LandMark's and are ignored: {shown}.",)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
