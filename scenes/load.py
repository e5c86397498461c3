"""Opens whatever a user names: a scene.yaml, a checkpoint, or a folder that holds one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np

from ..core.appearance import Appearance
from ..core.camera import Camera, look_at
from ..core.checkpoint import Opened, find_checkpoint, open_checkpoint
from ..core.checkpoint.naming import STORE_INDEX
from ..core.edits.compile import SourceScene
from ..core.edits.layers import Restyle, Stack
from ..core.errors import InputError
from ..core.gridnerf import GridNeRF
from ..core.settings import ModelSettings
from .kinds import Vector
from .landmark_config import LandmarkConfig, looks_like_config, read_landmark_config
from .overrides import overridden
from .paths import SCENE_ENDINGS, absolute, located
from .schema import VERSION, SceneSpec, scene_from_mapping
from .shipped import demo_scene_path as demo_scene_path
from .yaml_file import read_yaml

HOME_PITCH = math.radians(40)  # downwards, of a view that no file states
HOME_FILL = 0.85  # share of the distance at which the whole bounding box is just in view


@dataclass(frozen=True)
class Scene:
    """An open scene: what its file says, and the field it names."""

    spec: SceneSpec
    opened: Opened
    path: Path  # as the user named it
    source: Path  # the scene file or checkpoint that it stands for
    notices: tuple[str, ...]  # what was assumed because no file states it

    @property
    def model(self) -> GridNeRF:
        """The field."""
        return self.opened.model

    @property
    def edits(self) -> Stack:
        """The layers of the scene file, with absolute paths."""
        return absolute(self.spec, self.source).edits

    @property
    def name(self) -> str:
        """Title for people: the scene file's own, or else the name of the file or of its folder."""
        path = self.path.resolve()
        own = path.name if path.is_dir() else path.stem
        is_of_folder = own == "scene" or path.name == STORE_INDEX
        return self.spec.name or (path.parent.name if is_of_folder else own)

    @property
    def background(self) -> Vector:
        """Colour behind the field."""
        if self.spec.background is not None:
            return self.spec.background
        return (1.0, 1.0, 1.0) if self.model.settings.white_background else (0.0, 0.0, 0.0)

    def home_target(self) -> np.ndarray:
        """Returns the point that the home camera looks at. [3]"""
        if self.spec.camera.target is not None:
            return np.array(self.spec.camera.target)
        return self.model.aabb.double().mean(dim=0).numpy()

    def home_camera(self, width: int, height: int) -> Camera:
        """Returns the view that the scene opens with, for a picture size in pixels."""
        stated = self.spec.camera
        eye: Any = stated.eye
        if eye is None:
            low_high = self.model.aabb.double().numpy()
            eye = _oblique_eye(low_high, width / height, stated.fov_y, self.model.near_far[1])
        return Camera.from_fov(look_at(eye, self.home_target()), width, height, stated.fov_y)


def open_scene(path: Path, overrides: Sequence[str] = ()) -> Scene:
    """Opens a scene.yaml, a checkpoint, or a folder with one of them.

    Args:
        path: What the user named.
        overrides: `key.path=value` each, as if they stood in the scene file.

    Raises:
        InputError: Something in the files or the overrides cannot be used.
    """
    source = _source(Path(path))
    spec = _spec(source, overrides)
    checkpoint = _checkpoint(spec, source, _where(source, overrides, "model.checkpoint"))
    config = _config(spec, source, checkpoint, _where(source, overrides, "model.config"))
    opened = open_checkpoint(checkpoint, spec.model.settings, config.settings if config else ModelSettings())
    _check_appearances(opened.model, spec, source, overrides)
    notices = (*opened.notices, *(config.notices if config else ()))
    if config and spec.model.config is None:
        notices = (f"Settings are taken from {config.path.name}, which lies beside the checkpoint.", *notices)
        is_beside = config.path.parent == source.parent
        named = Path(config.path.name) if is_beside else config.path.absolute()
        spec = replace(spec, model=replace(spec.model, config=named))
    return Scene(spec, opened, Path(path), source, notices)


def open_source(path: Path) -> SourceScene:
    """Opens another scene or checkpoint that buildings are taken from; its own edits do not count.

    Raises:
        InputError: Something in the files cannot be used.
    """
    scene = open_scene(path)
    return SourceScene(scene.model, scene.spec.appearance.start, scene.spec.frame.metres_per_unit)


def checkpoint_of(path: Path) -> Path:
    """Returns the checkpoint that a scene.yaml or a folder leads to; another file is taken for one itself."""
    source = _source(path)
    return _checkpoint(_spec(source, ()), source, str(source))


def _source(path: Path) -> Path:
    """Returns the scene file or checkpoint that a path stands for."""
    try:
        if not S_ISDIR(path.stat().st_mode):
            return path
        scenes = [path / name for name in ("scene.yaml", "scene.yml") if (path / name).is_file()]
        return scenes[0] if scenes else find_checkpoint(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; name a scene.yaml, a .th checkpoint or a folder with one of them"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def _spec(source: Path, overrides: Sequence[str]) -> SceneSpec:
    """Reads the scene file, or makes up the one that a bare checkpoint would have."""
    data = read_yaml(source) if is_scene_file(source) else _bare_scene(source)
    spec = scene_from_mapping(data, str(source))
    return scene_from_mapping(overridden(data, overrides), "--set") if overrides else spec


def is_scene_file(source: Path) -> bool:
    """Whether a file is a scene file by its name; else it is a checkpoint."""
    return source.suffix.lower() in SCENE_ENDINGS


def _bare_scene(checkpoint: Path) -> dict[str, Any]:
    return {"version": VERSION, "model": {"checkpoint": checkpoint.name}}


def _where(source: Path, overrides: Sequence[str], key: str) -> str:
    """Returns who said the value of a key, for error messages."""
    stated = [text.partition("=")[0].strip() for text in overrides]
    return (
        "--set"
        if any(key == path or key.startswith((f"{path}.", f"{path}[")) for path in stated)
        else str(source)
    )


def _checkpoint(spec: SceneSpec, source: Path, where: str) -> Path:
    if spec.model.checkpoint is None:
        advice = "; landmark-viewer train makes one" if spec.dataset else ""
        raise InputError(
            f"{where}: model.checkpoint must name a .th file or a folder with one, got nothing{advice}"
        )
    checkpoint = located(source, spec.model.checkpoint)
    if checkpoint.is_dir():
        return find_checkpoint(checkpoint)
    if not checkpoint.is_file():
        raise InputError(f"{where}: model.checkpoint must be an existing file, got {checkpoint}")
    return checkpoint


def _config(spec: SceneSpec, source: Path, checkpoint: Path, where: str) -> LandmarkConfig | None:
    """Reads the config that the scene names, or for a bare checkpoint the one beside it."""
    if spec.model.config is not None:
        config = located(source, spec.model.config)
        if not config.is_file():
            raise InputError(f"{where}: model.config must be an existing file, got {config}")
        return read_landmark_config(config)
    if is_scene_file(source):
        return None
    beside = checkpoint.parent / "config.txt"
    if beside.is_file():
        return read_landmark_config(beside)
    configs = [text for text in sorted(checkpoint.parent.glob("*.txt")) if looks_like_config(text)]
    return read_landmark_config(configs[0]) if len(configs) == 1 else None


def _check_appearances(model: GridNeRF, spec: SceneSpec, source: Path, overrides: Sequence[str]) -> None:
    """Raises InputError unless the model has what every appearance asks for."""
    stated = {f"appearance.styles.{name}": style for name, style in spec.appearance.styles}
    for key, appearance in {_start_key(spec.appearance.start): spec.appearance.start, **stated}.items():
        appearance.embedding(model.embedding, f"{_where(source, overrides, key)}: {key}")
    for number, layer in enumerate(spec.edits):
        if isinstance(layer, Restyle):
            key = f"edits[{number}].appearance"
            layer.appearance.embedding(model.embedding, f"{_where(source, overrides, key)}: {key}")


def _start_key(start: Appearance) -> str:
    """Returns the key that says how a scene starts."""
    kind = "latent" if start.latent else "mix" if start.code is None else "code"
    return f"appearance.{kind}"


def _oblique_eye(aabb: np.ndarray, aspect: float, fov_y: float, far: float) -> np.ndarray:
    """Returns where a camera south of the box must stand to see it from above, filling the picture.

    Args:
        aabb: Bounding box, scene units. [2, 3]
        aspect: Width over height of the picture.
        fov_y: Vertical field of view, degrees.
        far: z-depth up to which rays are sure to be sampled, scene units.

    Returns:
        Position, scene units. [3]
    """
    forward = np.array([0.0, math.cos(HOME_PITCH), -math.sin(HOME_PITCH)])
    up = np.array([0.0, math.sin(HOME_PITCH), math.cos(HOME_PITCH)])
    tan_y = math.tan(math.radians(fov_y) / 2)
    corners = (np.stack(np.meshgrid(*aabb.T), axis=-1) - aabb.mean(axis=0)).reshape(8, 3)
    # A corner is in view at distance d if its offset from the axis is at most (d + its depth) * tan.
    sideways = np.abs(corners[:, 0]) / (tan_y * aspect)
    upwards = np.abs(corners @ up) / tan_y
    distance = HOME_FILL * float(np.max(np.maximum(sideways, upwards) - corners @ forward))
    eye: np.ndarray = aabb.mean(axis=0) - min(distance, far) * forward
    return eye
