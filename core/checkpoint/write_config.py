"""A run's settings in LandMark's own words: its config.txt, and the config that its merged files hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..training.settings import TrainSettings

POSITION_PE = 6  # LandMark's pos_pe, which nothing uses


@dataclass(frozen=True)
class RunFacts:
    """What a LandMark config says beside the settings."""

    name: str
    bounds: Sequence[Sequence[float]]  # lowest and highest corner, scene units
    near_far: tuple[float, float]  # scene units
    photos: Path | None = None  # folder of the photographs
    downsample: int = 1


def landmark_records(settings: TrainSettings, facts: RunFacts) -> tuple[dict[str, Any], ...]:
    """Returns LandMark's options in its four groups: experiment, model, rendering, training.

    Types are LandMark's, None means not given. The NeRF branch is stated by add_nerf alone: with run_nerf
    LandMark's renderer fails, because it looks for pictures of that branch, which it never makes. The
    config.txt leaves run_nerf open, so that this program shows the branch where a checkpoint has one.
    """
    return (
        _experiment(settings, facts),
        _model(settings),
        _rendering(settings, facts),
        _training(settings, facts),
    )


def landmark_config_text(settings: TrainSettings, facts: RunFacts) -> str:
    """Returns a config.txt with which LandMark opens, renders and trains what these settings describe.

    LandMark resets its learning rates at an up-sampling whatever is said; lr_upsample_reset = 0 counts here.
    """
    options: dict[str, Any] = {}
    for record in landmark_records(settings, facts):
        options |= {key: value for key, value in record.items() if value is not None}
    del options["run_nerf"]
    return "".join(f"{key} = {_text(value)}\n" for key, value in options.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_text, value)) + "]"
    return str(value)


def _experiment(settings: TrainSettings, facts: RunFacts) -> dict[str, Any]:
    return {
        "expname": facts.name,
        "basedir": "log",
        "dataroot": None if facts.photos is None else str(facts.photos.parent),
        "datadir": None if facts.photos is None else facts.photos.name,
        "dataset_name": "city",
        "lb": [float(value) for value in facts.bounds[0]],
        "ub": [float(value) for value in facts.bounds[1]],
        "ckpt": None,
        "random_seed": settings.seed,
        "N_vis": settings.test_views,
        "vis_every": settings.test_every,
        "downsample_train": facts.downsample,
    }


def _model(settings: TrainSettings) -> dict[str, Any]:
    return {
        "resMode": list(settings.levels),
        "encode_app": settings.appearance_codes,
        "run_nerf": False,
        "nerf_D": settings.nerf_depth,
        "nerf_D_a": settings.nerf_color_depth,
        "nerf_W": settings.nerf_width,
        "nerf_freq": settings.nerf_frequencies,
        "n_importance": settings.n_importance,
        "nerf_n_importance": settings.nerf_n_importance,
        "nonlinear_density": settings.nonlinear_density,
        "n_lamb_sigma": list(settings.density_channels),
        "n_lamb_sh": list(settings.appearance_channels),
        "data_dim_color": settings.feature_dim,
        "pos_pe": POSITION_PE,
        "view_pe": settings.view_pe,
        "fea_pe": settings.feature_pe,
        "featureC": settings.decoder_width,
        "bias_enable": int(settings.bias),
        "fea2denseAct": settings.activation,
        "density_shift": settings.density_shift,
        "ndims": settings.directions,
    }


def _rendering(settings: TrainSettings, facts: RunFacts) -> dict[str, Any]:
    return {
        "render_near_far": [float(value) for value in facts.near_far],
        "render_batch_size": settings.batch_size,
        "distance_scale": settings.distance_scale,
        "compute_extra_metrics": 0,
        "sampling_opt": False,
        "alpha_mask_filter_thre": settings.mask_filter_threshold,
        "white_bkgd": settings.white_background,
        **_parallel(settings),
    }


def _training(settings: TrainSettings, facts: RunFacts) -> dict[str, Any]:
    return {
        "n_iters": settings.iterations,
        "batch_size": settings.batch_size,
        "add_lpips": settings.lpips_from,
        "add_nerf": settings.nerf_from,
        "add_distort": settings.distortion_from,
        "patch_size": settings.patch_size,
        "residnerf": settings.residual_nerf,
        "train_near_far": [float(value) for value in facts.near_far],
        "lr_init": settings.learning_rate,
        "lr_basis": settings.network_learning_rate,
        "lr_decay_iters": settings.decay_iterations,
        "lr_decay_target_ratio": settings.decay_ratio,
        "lr_upsample_reset": settings.reset_learning_rate,
        "L1_weight_inital": settings.l1_weight,
        "Ortho_weight": settings.orthogonality_weight,
        "TV_weight_density": settings.tv_density_weight,
        "TV_weight_app": settings.tv_appearance_weight,
        "alpha_mask_thre": settings.mask_threshold,
        "nSamples": int(settings.max_samples),
        "step_ratio": settings.step_ratio,
        "N_voxel_init": settings.voxels_start,
        "N_voxel_final": settings.voxels_end,
        "upsamp_list": _schedule(settings.upsample_at, settings),
        "update_AlphaMask_list": _schedule(settings.update_mask_at, settings),
        "alpha_grid_reso": settings.max_mask_voxels,
        "tensorboard": settings.tensorboard,
        **_parallel(settings),
    }


def _schedule(iterations: Sequence[int], settings: TrainSettings) -> list[int]:
    """Returns the iterations; LandMark fails without any, so for none the one after the last."""
    return list(iterations) or [settings.iterations]


def _parallel(settings: TrainSettings) -> dict[str, Any]:
    divided = settings.n_blocks > 1
    return {
        "branch_parallel": divided,
        "plane_division": list(settings.division) if divided else None,
    }


def run_arguments(settings: TrainSettings, facts: RunFacts) -> Mapping[str, Any]:
    """Returns what LandMark notes of the processes that trained the blocks, one each."""
    return {
        "distributed": True,
        "device": "cpu",
        "world_size": settings.n_blocks,
        "rank": 0,
        "model_parallel": True,
        "model_parallel_degree": settings.n_blocks,
        "logfolder": f"log/{facts.name}",
        "part": 0,
    }
