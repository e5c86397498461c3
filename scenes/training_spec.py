"""What `train` is asked to do: a scene file, a LandMark config or a folder of photographs, made one."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.checkpoint.naming import CheckpointName
from ..core.errors import InputError
from ..core.training.settings import TrainSettings
from ..core.training.state import STATE_NAME
from .datasets.dataset import DatasetOptions
from .landmark_config import looks_like_config
from .landmark_training import read_training_config
from .overrides import overridden
from .paths import SCENE_ENDINGS, located
from .schema import VERSION, SceneSpec, scene_from_mapping
from .sections import write
from .training_sections import TRAIN
from .yaml_file import read_yaml

RUN_SUFFIX = "_run"  # of the folder that a run is written to where no other is named
GENERIC_NAMES = ("scene", "config", "transforms", "transforms_train")  # the folder's name says more

# For what a scene file's `train:` leaves out, and for photographs alone: a good model of some dozen to a few
# hundred photographs after some minutes on two cores. A coarse start and much smoothing keep few
# photographs from being explained by a cloud before each camera.
QUICK = TrainSettings(
    density_channels=(16, 8, 8),
    appearance_channels=(32, 16, 16),
    feature_pe=2,
    view_pe=2,
    bias=True,
    activation="relu",
    white_background=True,
    iterations=4000,
    batch_size=2048,
    l1_weight=8e-5,
    tv_density_weight=2.0,
    tv_appearance_weight=0.01,
    distortion_from=300,
    voxels_start=10_000,
    voxels_end=1_000_000,
    upsample_at=(300, 600, 900, 1300),
    update_mask_at=(450, 1000, 1600),
    test_every=2000,
    save_every=500,
)


@dataclass(frozen=True)
class TrainingSpec:
    """A run that was asked for: photographs, settings, and what else the scene says."""

    source: Path  # what the user named
    scene: SceneSpec
    dataset: DatasetOptions  # paths are absolute
    train: TrainSettings
    unstated: frozenset[str]  # fields of `train` that QUICK has filled
    notices: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of the checkpoint, from what the user named."""
        path = Path(os.path.abspath(self.source))
        own = path.name if path.is_dir() else path.stem
        name = re.sub(r"[^\w.+-]", "_", path.parent.name if own in GENERIC_NAMES else own) or "scene"
        return name if CheckpointName.parse(Path(f"{name}.th")).experiment == name else f"{name}_model"

    @property
    def run_folder(self) -> Path:
        """Where the run is written if nobody says otherwise: beside what was named, or where it began."""
        path = Path(os.path.abspath(self.source))
        if path.suffix in SCENE_ENDINGS and (path.parent / STATE_NAME).is_file():
            return path.parent
        return path.parent / f"{path.name if path.is_dir() else path.stem}{RUN_SUFFIX}"


def read_training_spec(path: Path, overrides: Sequence[str] = ()) -> TrainingSpec:
    """Reads what a run shall be.

    Args:
        path: A scene file with a section `dataset`, a LandMark config (.txt), photographs with poses (a
            folder, or a file such as transforms.json), or the folder of a run.
        overrides: `key.path=value` each, as if they stood in the scene file.

    Raises:
        InputError: Something in the file or the overrides cannot be used.
    """
    source = _source(path)
    data, notices = _mapping(source)
    scene = scene_from_mapping(_with_defaults(data), str(source))
    if overrides:
        data = overridden(data, overrides)
        scene = scene_from_mapping(_with_defaults(data), "--set")
    unstated = frozenset(TRAIN.accepted) - set(data.get("train") or ())
    if scene.dataset is None or scene.train is None:
        raise InputError(
            f"{source}: dataset must say where the photographs are, such as {{path: photos}}, got nothing"
        )
    dataset = replace(
        scene.dataset,
        path=_absolute(source, scene.dataset.path),
        cache=scene.dataset.cache and _absolute(source, scene.dataset.cache),
    )
    return TrainingSpec(source, scene, dataset, scene.train, unstated, notices)


def _source(path: Path) -> Path:
    """Returns the scene file of a folder that is no more than that of a scene, else the path itself."""
    scene = path / "scene.yaml"
    return scene if scene.is_file() else path


def _mapping(source: Path) -> tuple[Any, tuple[str, ...]]:
    """Returns what a scene file says or would say, and notices."""
    ending = source.suffix.lower()
    if ending in SCENE_ENDINGS:
        return read_yaml(source), ()
    if ending == ".txt" and looks_like_config(source):
        return read_training_config(source)
    return {"version": VERSION, "dataset": {"path": os.path.abspath(source)}}, ()


def _with_defaults(data: Any) -> Any:
    """Writes QUICK into what `train` leaves out."""
    stated = data.get("train") or {} if isinstance(data, dict) else None
    if not isinstance(stated, dict):
        return data  # the schema says what is wrong
    return {**data, "train": {**write(TRAIN, QUICK), **stated}}


def _absolute(source: Path, named: Path) -> Path:
    return Path(os.path.abspath(located(source, named)))
