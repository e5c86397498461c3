"""LandMark's config.txt as the description of a training run, in the terms of a scene file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.training.settings import TrainSettings
from .kinds import BOUNDS, DIVISION, FLAG, RANGE, VECTOR, Kind, choice
from .landmark_config import USED_OPTIONS, Line, Option, flag, read_lines, unknown_keys
from .schema import VERSION, ModelSpec
from .sections import section_of, write
from .training_sections import DATASET_KINDS, TRAIN, TRAIN_KINDS

# LandMark's key -> field of TrainSettings. Where a config lacks the key, LandMark's default is the field's.
TRAIN_KEYS: Mapping[str, str] = {
    "ndims": "directions",
    "resMode": "levels",
    "n_lamb_sigma": "density_channels",
    "n_lamb_sh": "appearance_channels",
    "data_dim_color": "feature_dim",
    "featureC": "decoder_width",
    "fea_pe": "feature_pe",
    "view_pe": "view_pe",
    "bias_enable": "bias",
    "encode_app": "appearance_codes",
    "nonlinear_density": "nonlinear_density",
    "fea2denseAct": "activation",
    "density_shift": "density_shift",
    "distance_scale": "distance_scale",
    "step_ratio": "step_ratio",
    "nSamples": "max_samples",
    "white_bkgd": "white_background",
    "n_iters": "iterations",
    "batch_size": "batch_size",
    "random_seed": "seed",
    "lr_init": "learning_rate",
    "lr_basis": "network_learning_rate",
    "lr_decay_iters": "decay_iterations",
    "lr_decay_target_ratio": "decay_ratio",
    "lr_upsample_reset": "reset_learning_rate",
    "L1_weight_inital": "l1_weight",
    "Ortho_weight": "orthogonality_weight",
    "TV_weight_density": "tv_density_weight",
    "TV_weight_app": "tv_appearance_weight",
    "add_distort": "distortion_from",
    "add_lpips": "lpips_from",
    "patch_size": "patch_size",
    "N_voxel_init": "voxels_start",
    "N_voxel_final": "voxels_end",
    "upsamp_list": "upsample_at",
    "update_AlphaMask_list": "update_mask_at",
    "alpha_mask_thre": "mask_threshold",
    "alpha_grid_reso": "max_mask_voxels",
    "alpha_mask_filter_thre": "mask_filter_threshold",
    "add_nerf": "nerf_from",
    "nerf_D": "nerf_depth",
    "nerf_D_a": "nerf_color_depth",
    "nerf_W": "nerf_width",
    "nerf_freq": "nerf_frequencies",
    "n_importance": "n_importance",
    "nerf_n_importance": "nerf_n_importance",
    "residnerf": "residual_nerf",
    "vis_every": "test_every",
    "N_vis": "test_views",
}

DATASET_NAMES = ("city", "matrixcity")
DOWNSAMPLE = 20  # LandMark's default
PIXEL_CENTER = 0.0  # LandMark shoots its rays through the corners of pixels


def _names(value: Any) -> tuple[str, ...]:
    """Accepts a list of names, which LandMark's configs write without quotes, or one name."""
    listed = value if isinstance(value, list) else str(value).strip("[] ").split(",")
    return tuple(str(name).strip(" '\"") for name in listed if name != "")


# The other keys that decide a run; what becomes of them is written out below.
_OWN_KEYS: Mapping[str, Kind] = {
    "dataset_name": choice(*DATASET_NAMES),
    "downsample_train": DATASET_KINDS["downsample"],
    "subfolder": Kind("a list of names of folders such as [west]", _names),
    "lb": VECTOR,
    "ub": VECTOR,
    "train_near_far": RANGE,
    "branch_parallel": FLAG,
    "plane_parallel": FLAG,
    "channel_parallel": FLAG,
    "plane_division": DIVISION,
}

# Options of LandMark's trainer that ours does not have, with the value that switches them off.
_UNSUPPORTED: Mapping[str, Any] = {
    "add_upsample": -1,
    "ckpt": "",
    "start_iters": 0,
    "filter_ray": False,
    "use_preprocessed_data": False,
}


def read_training_config(path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Reads a LandMark config as what a scene file would say of the same run.

    Args:
        path: The config. Its `dataroot` is relative to it, or else as in LandMark to the current folder.

    Returns:
        Mapping for `scene_from_mapping`, and notices.

    Raises:
        InputError: The file cannot be read, or an option that decides the run has a wrong value.
    """
    lines = {line.key: line for line in read_lines(path)}
    known = {**TRAIN_KEYS, **USED_OPTIONS, **_OWN_KEYS}
    notices = [*unknown_keys(path, tuple(lines.values()), known), *_unsupported(path, lines)]
    stated = {
        field: _value(lines[key], TRAIN_KINDS[field]) for key, field in TRAIN_KEYS.items() if key in lines
    }
    own = {key: _value(lines[key], kind) for key, kind in _OWN_KEYS.items() if key in lines}
    if own.get("branch_parallel"):
        if "plane_division" not in own:
            raise InputError(
                f"{path}: plane_division must be given with branch_parallel, such as [2,2], got nothing"
            )
        stated["division"] = own["plane_division"]
    for key in ("plane_parallel", "channel_parallel"):
        if own.get(key):
            notices.append(
                f"{path.name} asks for {key}: the field is trained as a whole, the model is the same."
            )
    mapping = {
        "version": VERSION,
        "name": lines["expname"].text if "expname" in lines else "",
        "model": _model(lines, own),
        "dataset": _dataset(path, lines, own),
        "train": write(TRAIN, TrainSettings(**stated)),
    }
    return mapping, tuple(notices)


def _unsupported(path: Path, lines: Mapping[str, Line]) -> Iterator[str]:
    for key, off in _UNSUPPORTED.items():
        if key in lines and lines[key].literal not in (off, str(off)):
            yield f"{path.name} has {key} = {lines[key].text}, which is not supported and is ignored."


def _value(line: Line, kind: Kind) -> Any:
    """Reads a value as the field of a scene file; a flag may be 0 or 1, a list of one value that value."""
    if kind is FLAG:
        return line.value(Option(line.key, "0 or 1", flag))

    def parse(value: Any) -> Any:
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # such as 1e6
        if isinstance(value, tuple):
            value = list(value)
        try:
            return kind.parse(value)
        except (ValueError, TypeError):
            return kind.parse([value])

    return line.value(Option(line.key, kind.expected, parse))


def _model(lines: Mapping[str, Line], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scene's section `model`: how the finished field is to be rendered."""
    used = {key: option for key, option in USED_OPTIONS.items() if key in lines and key != "plane_division"}
    stated = {option.setting: lines[key].value(option) for key, option in used.items()}
    if own.get("branch_parallel"):
        stated["plane_division"] = own["plane_division"]
    model: dict[str, Any] = write(section_of(ModelSpec), ModelSpec(**stated))
    return model


def _dataset(path: Path, lines: Mapping[str, Line], own: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the scene's section `dataset`; its path is missing if the config names none.

    City data may lie in LandMark's folder of photographs that are reduced already.
    """
    dataset: dict[str, Any] = {
        "downsample": own.get("downsample_train", DOWNSAMPLE),
        "pixel_center": PIXEL_CENTER,
    }
    if "dataroot" in lines:
        named = Path(lines["dataroot"].text) / (lines["datadir"].text if "datadir" in lines else "")
        beside = path.parent / named
        root = (beside if beside.exists() else named).absolute()
        reduced = root / f"images_{dataset['downsample']}"
        if own.get("dataset_name") != "matrixcity" and reduced.is_dir():
            dataset |= {"format": "landmark", "downsample": 1}
            root = reduced
        dataset["path"] = str(root)
    if "subfolder" in own:
        dataset["folders"] = list(own["subfolder"])
    if "lb" in own or "ub" in own:
        dataset["bounds"] = _bounds(path, own)
    if "train_near_far" in own:
        dataset["near_far"] = list(own["train_near_far"])
    return dataset


def _bounds(path: Path, own: Mapping[str, Any]) -> list[list[float]]:
    try:
        low, high = BOUNDS.parse([list(own["lb"]), list(own["ub"])])
    except (KeyError, ValueError):
        raise InputError(f"{path}: lb and ub must both be given, with lb below ub on every axis") from None
    return [list(low), list(high)]
