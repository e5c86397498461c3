"""What a LandMark file says beside its tensors: `kwargs`, the run's `args`, and the alpha mask."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..occupancy import OccupancyGrid
from ..settings import ModelSettings, Sampling
from .container import Container, read_container
from .metadata import stated_settings
from .unpickle import ByteArray, ConfigRecord
from .values import Values, show

MAX_BOX_SAMPLES = 2**20  # per ray; a city of 10 000 vertices a side takes some 30 000
_MAX_FREQUENCIES = 64


@dataclass(frozen=True)
class Header:
    """LandMark's `kwargs`, checked."""

    aabb: Tensor  # float32 [2, 3], scene units
    grid_size: tuple[int, int, int]
    density_channels: tuple[int, ...]  # one per direction
    appearance_channels: tuple[int, ...]  # one per direction
    feature_dim: int
    hidden_dim: int
    activation: str
    density_shift: float
    distance_scale: float
    weight_threshold: float
    near_far: tuple[float, float]  # scene units
    step_ratio: float
    view_pe: int
    fea_pe: int

    @property
    def n_directions(self) -> int:
        """1 or 3."""
        return len(self.density_channels)


@dataclass(frozen=True)
class LandmarkFile:
    """One file as it lies on disk, with the wrapper words of parallel training taken off its keys."""

    path: Path
    container: Container
    header: Header
    settings: ModelSettings  # from what this program or else LandMark wrote of the run
    tensors: dict[str, Tensor] | None  # None: the file has no state_dict
    grid_shape: dict[str, tuple[int, ...]] | None  # shapes of the complete planes and lines, in stacked files
    has_args: bool
    has_wrapped_lines: bool  # the mark of plane-parallel sub files
    has_wrapped_nets: bool  # the mark of any unmerged parallel file

    def mask(self) -> OccupancyGrid | None:
        """Unpacks the alpha mask."""
        return _read_mask(str(self.path), self.container.root)


def read_file(path: Path) -> LandmarkFile:
    """Opens one file and checks everything in it that does not depend on other files."""
    container = read_container(path)
    root, file = container.root, str(path)
    if not isinstance(root, dict):
        raise InputError(f"{file}: must hold the dict that LandMark saves, got {show(root)}")
    top = Values(file, "", root)
    kwargs = top.require("kwargs")
    if not isinstance(kwargs, dict):
        raise top.wrong("kwargs", "a dict")
    state = root.get("state_dict")
    if "state_dict" in root and not isinstance(state, dict):
        raise top.wrong("state_dict", "a dict of tensors")
    if state is None and "gridShape" not in root:
        top.require("state_dict")
    tensors = None if state is None else _unwrap(file, state)
    keys = [] if state is None else list(state)
    return LandmarkFile(
        path=path,
        container=container,
        header=read_header(Values(file, "kwargs.", kwargs)),
        settings=stated_settings(file, root).over(_read_settings(file, kwargs.get("args"))),
        tensors=tensors,
        grid_shape=_read_grid_shape(top, tensors),
        has_args="args" in kwargs,
        has_wrapped_lines=any(".params" in key for key in keys),
        has_wrapped_nets=any(".module" in key for key in keys),
    )


def _unwrap(file: str, state: dict[Any, Any]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"{file}: state_dict must map names to tensors, got {show(key)}: {show(value)}")
        plain = key.replace(".module", "", 1).replace(".params", "", 1)
        if plain in tensors:
            raise InputError(f"{file}: state_dict must hold every tensor once, but holds {show(plain)} twice")
        tensors[plain] = value
    return tensors


def read_header(kwargs: Values) -> Header:
    """Checks LandMark's `kwargs`.

    Raises:
        InputError: Something is missing or cannot be.
    """
    density = kwargs.integers("density_n_comp", (1, 3), 1)
    near_far = kwargs.interval("near_far")
    header = Header(
        aabb=kwargs.bounds("aabb"),
        grid_size=kwargs.integers("gridSize", (3,), 2),  # type: ignore[arg-type]
        density_channels=density,
        appearance_channels=kwargs.integers("appearance_n_comp", (len(density),), 1),
        feature_dim=kwargs.integer("app_dim", 1),
        hidden_dim=kwargs.integer("featureC", 1),
        activation=kwargs.choice("fea2denseAct", ("softplus", "relu")),
        density_shift=kwargs.number("density_shift"),
        distance_scale=kwargs.number("distance_scale", above=0),
        weight_threshold=kwargs.number("rayMarch_weight_thres"),
        near_far=near_far,
        step_ratio=kwargs.number("step_ratio", above=0),
        view_pe=kwargs.integer("view_pe", -1),
        fea_pe=kwargs.integer("fea_pe", -1),
    )
    if max(header.view_pe, header.fea_pe) > _MAX_FREQUENCIES:
        raise InputError(
            f"{kwargs.file}: kwargs.view_pe and fea_pe must not exceed {_MAX_FREQUENCIES} frequencies"
        )
    _check_step(kwargs.file, header)
    return header


def _check_step(file: str, header: Header) -> None:
    size = header.aabb[1] - header.aabb[0]
    step = float((size / (torch.tensor(header.grid_size) - 1)).mean() * header.step_ratio)
    length = float(size.square().sum().sqrt())
    n_samples = length / step if step > 0 else math.inf
    if not n_samples < MAX_BOX_SAMPLES:  # catches NaN as well
        raise InputError(
            f"{file}: kwargs.aabb, gridSize and step_ratio must give fewer than {MAX_BOX_SAMPLES} samples, "
            f"got a step of {step:.3g} across {length:.3g} units"
        )


def _read_settings(file: str, args: Any) -> ModelSettings:
    """Reads what merged plane and branch files tell of their run: four PrintableConfig objects, as data."""
    records = args.get("config_list", ()) if isinstance(args, dict) else ()
    attributes: dict[str, Any] = {}
    for record in records if isinstance(records, (list, tuple)) else ():
        if isinstance(record, ConfigRecord):
            attributes.update(record.attributes)
    stated = {key: value for key, value in attributes.items() if value is not None}
    values = Values(file, "kwargs.args.", stated)

    def flag(key: str) -> bool | None:
        return values.boolean(key) if key in stated else None

    def count(key: str) -> int | None:
        return values.integer(key, 1) if key in stated else None

    hull = flag("sampling_opt")
    division = values.integers("plane_division", (2,), 1) if "plane_division" in stated else None
    return ModelSettings(
        white_background=flag("white_bkgd"),
        sampling=None if hull is None else (Sampling.HULL if hull else Sampling.BOX),
        n_importance=count("n_importance"),
        nerf_n_importance=count("nerf_n_importance"),
        alpha_mask_threshold=values.number("alpha_mask_filter_thre")
        if "alpha_mask_filter_thre" in stated
        else None,
        plane_division=None if division is None else (division[0], division[1]),
        run_nerf=flag("run_nerf"),
        residual_nerf=flag("residnerf"),
    )


def _read_grid_shape(top: Values, tensors: dict[str, Tensor] | None) -> dict[str, tuple[int, ...]] | None:
    if "gridShape" not in top.entries:
        return None
    shapes = top.entries["gridShape"]
    if not isinstance(shapes, dict) or not all(isinstance(shape, tuple) for shape in shapes.values()):
        raise top.wrong("gridShape", "a dict of shapes")
    for key, shape in shapes.items():
        if tensors is not None and key in tensors and tuple(tensors[key].shape) != shape:
            raise InputError(
                f"{top.file}: state_dict.{key} must have the shape that gridShape states, "
                f"{show(shape)}, got {show(tuple(tensors[key].shape))}"
            )
    return shapes


def _read_mask(file: str, root: dict[str, Any]) -> OccupancyGrid | None:
    if not any(key.startswith("alphaMask.") for key in root if isinstance(key, str)):
        return None
    values = Values(file, "", root)
    shape = values.integers("alphaMask.shape", (5,), 1)
    if shape[:2] != (1, 1):
        raise values.wrong("alphaMask.shape", "(1, 1, depth, height, width)")
    packed = values.require("alphaMask.mask")
    n_bytes = -(-math.prod(shape) // 8)
    if not isinstance(packed, ByteArray) or packed.values is None:
        raise values.wrong("alphaMask.mask", "an array of bytes")
    if len(packed.values) != n_bytes:
        raise InputError(
            f"{file}: alphaMask.mask must hold {n_bytes} bytes for alphaMask.shape {show(shape)}, "
            f"got {len(packed.values)}"
        )
    return OccupancyGrid.from_packed(packed.values, shape[2:], values.bounds("alphaMask.aabb"))  # type: ignore[arg-type]
