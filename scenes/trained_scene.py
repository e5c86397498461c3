"""The scene file of a finished or running training: what the viewer opens, and what `train` goes on from."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.appearance import Appearance
from ..core.camera import Camera, as_matrix
from ..core.errors import InputError
from .datasets.dataset import Dataset, DatasetOptions
from .edit_sections import AppearanceSpec
from .load import HOME_PITCH
from .paths import relocated
from .schema import CameraSpec, FrameSpec, SceneSpec, scene_from_mapping, scene_to_mapping
from .training_spec import TrainingSpec

HOME_TOLERANCE = math.radians(45)  # by which a photograph's pitch may miss the home view's to stand in for it


def trained_scene(spec: TrainingSpec, data: Dataset, folder: Path, checkpoint: Path) -> SceneSpec:
    """Returns the scene of a run.

    Args:
        spec: What was asked for; all that the scene said is kept.
        data: The photographs.
        folder: Where the scene file is written.
        checkpoint: The file to open, in `folder`.

    Raises:
        InputError: The scene states something that does not suit the run.
    """
    scene = replace(
        spec.scene,
        name=spec.scene.name or spec.name,
        model=replace(spec.scene.model, checkpoint=checkpoint.relative_to(folder), config=None),
        frame=_frame(spec.scene.frame, data),
        appearance=_appearance(spec, data),
        camera=_camera(spec.scene.camera, data),
        dataset=_portable(spec.dataset, folder),
        train=spec.train,
        edits=relocated(spec.scene, spec.source, folder / checkpoint.name).edits,
    )
    _check_appearance(scene)
    return scene_from_mapping(scene_to_mapping(scene), str(spec.source))


def _frame(stated: FrameSpec, data: Dataset) -> FrameSpec:
    """Returns where the scene lies; what the scene file states goes over what the photographs say."""
    epsg, origin = stated.epsg, stated.origin
    if epsg is None and data.epsg is not None:  # the photographs' coordinates are those of the map
        epsg, origin = data.epsg, tuple(np.linalg.inv(data.scene_from_source)[:3, 3].tolist())
    return FrameSpec(
        metres_per_unit=stated.metres_per_unit or data.metres_per_unit,
        epsg=epsg,
        origin=origin,
        scene_from_source=as_matrix(data.scene_from_source),
    )


def _appearance(spec: TrainingSpec, data: Dataset) -> AppearanceSpec:
    """Returns the names of the codes; those of the photographs count where the scene file states none."""
    stated = spec.scene.appearance
    if stated.styles or not spec.train.appearance_codes:
        return stated
    used = set(data.train.codes.tolist())
    return replace(
        stated, styles=tuple((name, Appearance.of(code)) for name, code in data.styles if code in used)
    )


def _camera(stated: CameraSpec, data: Dataset) -> CameraSpec:
    """Returns the view to open with: a photograph's, where one looks about as steeply as the usual view."""
    if stated.eye is not None or not data.train.cameras:
        return stated
    camera = min(data.train.cameras, key=_miss)
    if _miss(camera) > HOME_TOLERANCE:
        return stated
    forward = -camera.matrix[:3, 2]
    middle = np.mean(data.bounds, axis=0)
    distance = max(float((middle - camera.eye) @ forward), data.near_far[0], 1e-3)
    eye, target = camera.eye, camera.eye + distance * forward
    return CameraSpec(tuple(eye.tolist()), tuple(target.tolist()), camera.fov_y)


def _miss(camera: Camera) -> float:
    """Returns by how much a camera's pitch differs from the home view's, radians."""
    return abs(math.asin(float(np.clip(camera.matrix[2, 2], -1, 1))) - HOME_PITCH)


def _portable(options: DatasetOptions, folder: Path) -> DatasetOptions:
    """Returns the options with a path relative to the scene file, if photographs and run lie together."""
    if options.path.is_relative_to(folder.parent):
        return replace(options, path=Path("..") / options.path.relative_to(folder.parent))
    return options


def _check_appearance(scene: SceneSpec) -> None:
    appearances = (scene.appearance.start, *(style for _, style in scene.appearance.styles))
    has_codes = any(appearance.code != 0 for appearance in appearances)
    if has_codes and scene.train is not None and not scene.train.appearance_codes:
        raise InputError("train.appearance_codes must be true for a scene with appearance codes, got false")
