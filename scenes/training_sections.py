"""What the fields of a scene file's sections `dataset:` and `train:` accept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from ..core.training.settings import TrainSettings
from .datasets.dataset import Bounds, DatasetOptions
from .kinds import (
    BOUNDS,
    COLOR,
    DIVISION,
    FILE,
    FLAG,
    NOT_NEGATIVE,
    NUMBER,
    POSITIVE,
    RANGE,
    SAMPLES,
    TEXT,
    THRESHOLD,
    Kind,
    between,
    choice,
    list_of,
    whole,
    whole_number,
    within,
)
from .sections import dataclass_section

MAX_ITERATIONS = 10**9
MAX_LISTED = 1000  # entries of a list

_SCHEDULE = Kind(
    f"a list of at most {MAX_LISTED} iterations such as [2000, 3000]",
    list_of(whole(0, MAX_ITERATIONS), 0, MAX_LISTED),
)
_CHANNELS = Kind("one to three whole numbers from 1 to 1024 such as [16]", list_of(whole(1, 1024), 1, 3))
_LEVELS = Kind("one to 16 whole numbers from 1 to 64 such as [1, 2, 4]", list_of(whole(1, 64), 1, 16))
_ITERATIONS = whole_number(1, MAX_ITERATIONS)
_FROM = Kind("an iteration, or -1 for never", whole(-1, MAX_ITERATIONS))
_ALL_OR_COUNT = Kind("a whole number, or -1 for all", whole(-1, MAX_ITERATIONS))
_RATE = Kind("a number above 0 and below 10", between(0, 10))
_RATIO = Kind("a number above 0, at most 1", within(math.ulp(0.0), 1))
_FREQUENCIES = whole_number(0, 64)
_ENCODING = Kind("a whole number from 0 to 64, or -1 for none", whole(-1, 64))
_WIDTH = whole_number(1, 4096)
_DEPTH = whole_number(1, 64)
_VOXELS = whole_number(8, 2**31)


def _directions(value: Any) -> int:
    if whole(1, 3)(value) == 2:
        raise ValueError
    return int(value)


# What a field accepts of which nothing more is said below.
_BY_TYPE: Mapping[Any, Kind] = {
    bool: FLAG,
    int: whole_number(0, 2**31),
    float: NOT_NEGATIVE,
    str: TEXT,
    Path: FILE,
    Path | None: FILE,
    float | None: NUMBER,
    tuple[int, ...]: _SCHEDULE,
    tuple[int, int]: DIVISION,
    tuple[float, float] | None: RANGE,
    tuple[str, ...]: Kind(f"a list of at most {MAX_LISTED} words", list_of(TEXT.parse, 0, MAX_LISTED)),
    Bounds | None: BOUNDS,
}

_DATASET: Mapping[str, Kind] = {
    "format": choice(
        "auto", "transforms", "landmark", "colmap", "blender", "llff", "matrixcity", "contextcapture"
    ),
    "downsample": whole_number(1, 1024),
    "holdout": whole_number(0, 10**6),
    "scale": POSITIVE,
    "pixel_center": Kind("a number from 0 to 1", within(0, 1)),
    "max_memory": Kind("a number of bytes, 1048576 or more", whole(2**20, 2**60)),
    "background": COLOR,
}

_TRAIN: Mapping[str, Kind] = {
    "directions": Kind("1 or 3", _directions),
    "levels": _LEVELS,
    "density_channels": _CHANNELS,
    "appearance_channels": _CHANNELS,
    "feature_dim": whole_number(1, 1024),
    "decoder_width": _WIDTH,
    "feature_pe": _ENCODING,
    "view_pe": _ENCODING,
    "activation": choice("softplus", "relu"),
    "density_shift": NUMBER,
    "distance_scale": POSITIVE,
    "weight_threshold": Kind("a number from 0 to below 1", within(0, math.nextafter(1, 0))),
    "step_ratio": Kind("a number from 0.001 to 1000", within(0.001, 1000)),
    "max_samples": whole_number(1, 2**31),
    "iterations": _ITERATIONS,
    "batch_size": whole_number(1, 2**20),
    "seed": whole_number(0, 2**63 - 1),
    "learning_rate": _RATE,
    "network_learning_rate": _RATE,
    "nerf_learning_rate": _RATE,
    "decay_iterations": _FROM,
    "decay_ratio": _RATIO,
    "distortion_from": _FROM,
    "lpips_from": _FROM,
    "patch_size": whole_number(32, 1024),
    "voxels_start": _VOXELS,
    "voxels_end": _VOXELS,
    "mask_threshold": THRESHOLD,
    "max_mask_voxels": _VOXELS,
    "mask_filter_threshold": THRESHOLD,
    "nerf_from": _FROM,
    "nerf_depth": _DEPTH,
    "nerf_color_depth": _DEPTH,
    "nerf_width": whole_number(2, 4096),
    "nerf_frequencies": _FREQUENCIES,
    "n_importance": SAMPLES,
    "nerf_n_importance": SAMPLES,
    "test_every": _ITERATIONS,
    "test_views": _ALL_OR_COUNT,
    "save_every": _ITERATIONS,
    "threads": whole_number(0, 1024),
    "device": choice("auto", "cpu", "cuda"),
    "backend": choice("auto", "native", "torch"),
}


def _kinds(of: type, stated: Mapping[str, Kind]) -> dict[str, Kind]:
    """Returns what every field accepts; what is not stated follows from the type of the field."""
    hints = get_type_hints(of)
    names = [field.name for field in fields(of)]
    return {name: stated[name] if name in stated else _BY_TYPE[hints[name]] for name in names}


DATASET_KINDS = _kinds(DatasetOptions, _DATASET)
TRAIN_KINDS = _kinds(TrainSettings, _TRAIN)
DATASET = dataclass_section(DatasetOptions, DATASET_KINDS, complete=True)
TRAIN = dataclass_section(TrainSettings, TRAIN_KINDS, complete=True)
