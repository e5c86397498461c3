"""Writes small random checkpoints in every layout of LandMark, with torch.save and LandMark's pickled class.

The same seed and options give the same field in every layout: block planes are cut out of the undivided
planes with shared edges, so that all layouts agree at every point inside a block.
"""

from __future__ import annotations

import contextlib
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

LAYOUTS = (
    "sequential",
    "branch-sub",
    "merged-stack",
    "wo_plane",
    "wo_state_dict",
    "plane-sub",
    "plane-merged",
    "channel-sub",
    "channel-merged",
)
DIVIDED_LAYOUTS = LAYOUTS[1:7]
AXES = ((0, 1, 2), (0, 2, 1), (1, 2, 0))  # u, v, w of each direction


@dataclass(frozen=True)
class NerfShape:
    """Size of the NeRF branch."""

    depth: int = 6
    view_depth: int = 2
    width: int = 16
    frequencies: int = 3


@dataclass(frozen=True)
class Options:
    """What to write; the grid must be divisible by the division."""

    ndims: int = 1
    levels: tuple[int, ...] = (1, 2)  # LandMark's resMode
    grid: tuple[int, int, int] = (12, 8, 5)  # vertices of level 0, before rounding to whole blocks
    density: int | tuple[int, ...] = 4  # channels, per direction
    appearance: int | tuple[int, ...] = 6
    app_dim: int = 5
    width: int = 16
    view_pe: int = 2
    fea_pe: int = 2
    activation: str = "relu"
    nonlinear: bool = False
    bias: bool = True
    embedding: int = 0  # rows; 0: no appearance table
    latent: int = 48
    mask: tuple[int, int, int] | None = (7, 6, 4)  # vertices along x, y, z
    nerf: NerfShape | None = None
    division: tuple[int, int] | None = None  # None: 2 x 2 in layouts with blocks, 1 x 1 in the others
    ranks: int = 2  # channel-parallel files
    args: dict[str, Any] = field(default_factory=dict)  # over the run's config in merged files
    with_args: bool = True  # merged plane and branch files hold their run's config
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]] = (
        (-1.5, -1.0, -0.1),
        (1.5, 1.2, 0.4),
    )
    near_far: tuple[float, float] = (0.1, 4.0)
    location: str = "cpu"  # device tag of every storage
    dtype: torch.dtype = torch.float32
    name: str = "city"

    def channels(self, group: str) -> tuple[int, ...]:
        """Returns the channels per direction of "density" or "app"."""
        stated = self.density if group == "density" else self.appearance
        return (stated,) * self.ndims if isinstance(stated, int) else stated


def write(folder: Path, layout: str = "sequential", *, seed: int = 0, **options: Any) -> Path:
    """Writes a checkpoint and, where the layout needs them, its other files; returns the path to open."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}, got {layout}")
    chosen = Options(**options)
    if chosen.division is None:
        chosen = Options(**{**options, "division": (2, 2) if layout in DIVIDED_LAYOUTS else (1, 1)})
    folder.mkdir(parents=True, exist_ok=True)
    return _Writer(folder, chosen, seed).write(layout)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Loads a checkpoint as plain data, lets `change` alter the dict, and writes it again."""
    with landmark_classes():
        root = torch.load(path, map_location="cpu", weights_only=False)
        change(root)
        torch.save(root, path)
    return path


def entries(path: Path) -> dict[str, bytes]:
    """Reads the raw zip entries, by name without the folder that torch puts them in."""
    with zipfile.ZipFile(path) as archive:
        return {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}


def rewrite(
    path: Path, change: Callable[[dict[str, bytes]], object], method: int = zipfile.ZIP_STORED
) -> Path:
    """Lets `change` alter the raw zip entries, as `entries` returns them, and writes them again."""
    raw = entries(path)
    change(raw)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in raw.items():
            archive.writestr(f"{path.stem}/{name}", content)
    return path


def save_pickle(path: Path, pickle: bytes) -> Path:
    """Writes a torch.save zip file with the given bytes as its data.pkl and no storages."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{path.stem}/data.pkl", pickle)
        archive.writestr(f"{path.stem}/version", "3\n")
    return path


@contextlib.contextmanager
def landmark_classes() -> Iterator[type]:
    """Makes LandMark's app.tools.configs.PrintableConfig importable for a while."""
    modules = {name: types.ModuleType(name) for name in ("app", "app.tools", "app.tools.configs")}
    cls = type("PrintableConfig", (), {"__module__": "app.tools.configs"})
    modules["app.tools.configs"].PrintableConfig = cls  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, modules):
        yield cls


class _Writer:
    def __init__(self, folder: Path, options: Options, seed: int) -> None:
        self.folder, self.options = folder, options
        self.generator = torch.Generator().manual_seed(seed)
        self.fields = self._random_fields()
        self.nets = self._random_nets()
        self.mask = self._random_mask()

    def write(self, layout: str) -> Path:
        return getattr(self, "_" + layout.replace("-", "_"))()

    # Random content

    def _random(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (torch.rand(shape, generator=self.generator) - 0.4) * scale

    def _plane_size(self, axis: int, factor: int) -> int:
        """Vertices of an undivided plane, whose blocks share their edges."""
        n_parts = (*self.options.division, 1)[axis]
        return (self.options.grid[axis] * factor // n_parts - 1) * n_parts + 1

    def _random_fields(self) -> dict[str, Tensor]:
        options, tensors = self.options, {}
        for group in ("density", "app"):
            for i, channels in enumerate(options.channels(group)):
                u, v, w = AXES[i]
                for r, factor in enumerate(options.levels):
                    p = i * len(options.levels) + r
                    size = self._plane_size(v, factor), self._plane_size(u, factor)
                    tensors[f"{group}_plane.{p}"] = self._random(1, channels, *size)
                    tensors[f"{group}_line.{p}"] = self._random(1, channels, self._plane_size(w, factor), 1)
        return tensors

    def _random_nets(self) -> dict[str, Tensor]:
        o, tensors = self.options, {}
        n_density = len(o.levels) * sum(o.channels("density"))
        n_app = len(o.levels) * sum(o.channels("app"))
        latent = o.latent if o.embedding else 0
        n_in = (
            o.app_dim
            + latent
            + 3 * (o.view_pe > -1)
            + 2 * o.app_dim * max(o.fea_pe, 0)
            + 6 * max(o.view_pe, 0)
        )
        tensors["basis_mat.weight"] = self._random(o.app_dim, n_app)
        if o.nonlinear:
            tensors["basis_den.weight"] = self._random(1, n_density)
        if o.embedding:
            tensors["embedding_app.weight"] = self._random(o.embedding, latent)
        for number, n_out, n_from in ((0, o.width, n_in), (2, o.width, o.width), (4, 3, o.width)):
            tensors[f"renderModule.mlp.{number}.weight"] = self._random(n_out, n_from, scale=n_from**-0.5)
            if o.bias:
                tensors[f"renderModule.mlp.{number}.bias"] = self._random(n_out, scale=0.2)
        if o.nerf:
            tensors.update(self._random_nerf(o.nerf, n_density, n_app, latent))
        return tensors

    def _random_nerf(self, shape: NerfShape, n_density: int, n_app: int, latent: int) -> dict[str, Tensor]:
        n_in, half = 3 + 6 * shape.frequencies + n_density, shape.width // 2
        layers = {}
        for k in range(shape.depth):
            layers[f"pts_linears.{k}"] = (
                shape.width,
                n_in if k == 0 else shape.width + (n_in if k == 5 else 0),
            )
        for k in range(shape.view_depth):
            layers[f"views_linears.{k}"] = (half, shape.width + 27 + n_app + latent if k == 0 else half)
        layers["feature_linear"] = (shape.width, shape.width)
        layers["alpha_linear"] = (1, shape.width)
        layers["rgb_linear"] = (3, half)
        tensors = {}
        for name, (n_out, n_from) in layers.items():
            tensors[f"nerf.{name}.weight"] = self._random(n_out, n_from, scale=n_from**-0.5)
            tensors[f"nerf.{name}.bias"] = self._random(n_out, scale=0.2)
        return tensors

    def _random_mask(self) -> np.ndarray | None:
        if self.options.mask is None:
            return None
        return (torch.rand(tuple(reversed(self.options.mask)), generator=self.generator) < 0.7).numpy()

    # Layouts

    def _sequential(self) -> Path:
        grid = tuple(self._plane_size(axis, 1) for axis in range(3))
        return self._save("", self._kwargs(grid), {**self.fields, **self.nets})

    def _plane_merged(self) -> Path:
        grid = tuple(self._plane_size(axis, 1) for axis in range(3))
        return self._save("-merged", self._kwargs(grid, "plane"), _sorted({**self.fields, **self.nets}))

    def _channel_merged(self) -> Path:
        grid = tuple(self._plane_size(axis, 1) for axis in range(3))
        return self._save("-merged", self._kwargs(grid), _sorted({**self.fields, **self.nets}))

    def _branch_sub(self) -> Path:
        return self._sub_files("{}", "{}.module")

    def _plane_sub(self) -> Path:
        return self._sub_files("{}.module.params", "{}.module")

    def _sub_files(self, line_words: str, net_words: str) -> Path:
        a, b = self.options.division
        paths = []
        for k in range(a * b):
            block = {key: self._crop(tensor, k) for key, tensor in self.fields.items()}
            state = _reworded(block, "_line", line_words) | _reworded(self.nets, "", net_words)
            paths.append(self._save(f"-sub{k}", self._kwargs(self.options.grid), state))
        return paths[0]

    def _crop(self, tensor: Tensor, k: int) -> Tensor:
        a, b = self.options.division
        if tensor.shape[-1] == 1:
            return tensor.clone()
        height, width = (tensor.shape[2] - 1) // b, (tensor.shape[3] - 1) // a
        row, column = (k % b) * height, (k // b) * width
        return tensor[:, :, row : row + height + 1, column : column + width + 1].clone()

    def _channel_sub(self) -> Path:
        grid = tuple(self._plane_size(axis, 1) for axis in range(3))
        paths = []
        for k in range(self.options.ranks):
            chunks = {
                key: tensor.chunk(self.options.ranks, 1)[k].clone() for key, tensor in self.fields.items()
            }
            state = chunks | _reworded(self.nets, "", "{}.module")
            paths.append(self._save(f"-sub{k}", self._kwargs(grid), state))
        return paths[0]

    def _stacked(self) -> dict[str, Tensor]:
        n_blocks = self.options.division[0] * self.options.division[1]
        stacked = {}
        for key, tensor in self.fields.items():
            blocks = [self._crop(tensor, k) for k in range(n_blocks)]
            stacked[key] = torch.cat(blocks, 3) if tensor.shape[-1] == 1 else torch.stack(blocks, 2)
        return _sorted({**stacked, **self.nets})

    def _merged_stack(self, variant: str = "", drop: tuple[str, ...] | None = ()) -> Path:
        state = self._stacked()
        plane, line = state["density_plane.0"], state["density_line.0"]
        kwargs = self._kwargs((plane.shape[4], plane.shape[3], line.shape[2]), "branch")
        kept = None if drop is None else {key: value for key, value in state.items() if key not in drop}
        shapes = {key: value.shape for key, value in state.items() if "_plane." in key or "_line." in key}
        return self._save(f"-merged-stack{variant}", kwargs, kept, {"gridShape": shapes})

    def _wo_plane(self) -> Path:
        self._merged_stack()
        drop = ["density_plane.0", "app_plane.0"]
        for key in ("density_plane.1", "density_plane.2", "app_plane.1", "app_plane.2"):
            if key not in self.fields:
                break
            drop.append(key)
        return self._merged_stack("-wo_plane", tuple(drop))

    def _wo_state_dict(self) -> Path:
        self._merged_stack()
        return self._merged_stack("-wo_state_dict", None)

    # Files

    def _kwargs(self, grid: tuple[int, ...], parallel: str | None = None) -> dict[str, Any]:
        o = self.options
        kwargs = {
            "aabb": torch.tensor(o.bounds),
            "gridSize": list(grid),
            "density_n_comp": list(o.channels("density")),
            "appearance_n_comp": list(o.channels("app")),
            "app_dim": o.app_dim,
            "density_shift": -10,
            "alphaMask_thres": 0.0001,
            "distance_scale": 25,
            "rayMarch_weight_thres": 0.001,
            "fea2denseAct": o.activation,
            "near_far": list(o.near_far),
            "step_ratio": 0.5,
            "pos_pe": 6,
            "view_pe": o.view_pe,
            "fea_pe": o.fea_pe,
            "featureC": o.width,
        }
        if parallel and o.with_args:
            kwargs |= {"device": "cpu", "args": {"parallel": parallel, "world_size": 4, "config_list": None}}
        return kwargs

    def _save(
        self,
        ending: str,
        kwargs: dict[str, Any],
        state: dict[str, Tensor] | None,
        more: dict[str, Any] | None = None,
    ) -> Path:
        root: dict[str, Any] = {"kwargs": kwargs}
        if state is not None:
            root["state_dict"] = OrderedDict(
                (key, value.to(self.options.dtype)) for key, value in state.items()
            )
            root["state_dict"]._metadata = OrderedDict({"": {"version": 1}})
        if self.mask is not None:
            root["alphaMask.shape"] = (1, 1, *self.mask.shape)
            root["alphaMask.mask"] = np.packbits(self.mask.reshape(-1))
            root["alphaMask.aabb"] = kwargs["aabb"]
        root |= more or {}
        path = self.folder / f"{self.options.name}{ending}.th"
        tag = mock.patch("torch.serialization.location_tag", return_value=self.options.location)
        with landmark_classes() as config, tag:
            if "args" in kwargs:
                kwargs["args"]["config_list"] = self._config_list(config, kwargs["args"].pop("parallel"))
            torch.save(root, path)
        return path

    def _config_list(self, config: type, parallel: str) -> list[object]:
        o = self.options
        attributes: tuple[dict[str, Any], ...] = (
            {"expname": o.name, "lb": list(o.bounds[0]), "ub": list(o.bounds[1]), "ckpt": None},
            {"resMode": list(o.levels), "run_nerf": False, "n_importance": 128, "nerf_n_importance": 16},
            {
                "sampling_opt": False,
                "alpha_mask_filter_thre": 0,
                "white_bkgd": True,
                f"{parallel}_parallel": True,
                "plane_division": list(o.division),
            },
            {"residnerf": False, "plane_division": list(o.division)},
        )
        records = []
        for values in attributes:
            record = config()
            record.__dict__.update(
                {**values, **{key: value for key, value in o.args.items() if key in values}}
            )
            records.append(record)
        return records


def _reworded(tensors: dict[str, Tensor], only: str, words: str) -> dict[str, Tensor]:
    """Puts the wrapper words of parallel training behind the first part of the keys."""
    out = {}
    for key, tensor in tensors.items():
        first, _, rest = key.partition(".")
        out[f"{words.format(first)}.{rest}" if only in first else key] = tensor
    return out


def _sorted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensors[key] for key in sorted(tensors)}
