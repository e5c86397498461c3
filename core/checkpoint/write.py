"""Writes a field as LandMark saves it: one file, or the sub files of its blocks and the merged ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..training.parameters import FieldParameters
from ..whole_file import write_whole
from .archive import save_archive
from .metadata import METADATA_KEY, make_metadata
from .naming import CheckpointName
from .unpickle import ConfigRecord
from .write_config import POSITION_PE, RunFacts, landmark_config_text, landmark_records, run_arguments

EMBEDDING_ROWS = 11500  # of every appearance table of LandMark
CONFIG_FILE = "config.txt"


def write_checkpoint(
    parameters: FieldParameters,
    folder: Path,
    name: str,
    metadata: Mapping[str, Any],
    photos: Path | None = None,
    downsample: int = 1,
) -> tuple[Path, ...]:
    """Writes all files of a checkpoint, and beside them the config.txt with which LandMark opens it.

    One block makes `<name>.th`. Several make, as LandMark's branch-parallel training does, `<name>-sub<k>.th`
    for every block, `<name>-merged-stack.th`, and the latter again without planes and without state_dict.

    LandMark takes the sample step of a merged file from the size of one block. Its step_ratio is therefore
    not that of the settings, but what gives the trained step: step / mean(box size / (block size - 1)).

    Args:
        parameters: The field. Beyond it the memory holds at most one file at a time.
        folder: Made where it does not exist.
        name: LandMark's experiment name.
        metadata: Plain data about the run, kept in every file (see `metadata.make_metadata`).
        photos: Folder of the photographs, for LandMark's config.
        downsample: How much smaller than there they were for the training.

    Returns:
        The files, first the one to open, last the config.

    Raises:
        InputError: The name cannot be used or a file cannot be written; then all files are as they were.
    """
    check_name(name)
    facts = RunFacts(name, parameters.aabb.tolist(), parameters.near_far, photos, downsample)
    portable = replace(facts, photos=None if photos is None else Path(photos.name))  # checkpoints travel
    config = landmark_config_text(parameters.settings, facts).encode()
    contents: dict[Path, Callable[[BinaryIO], object]] = {
        folder / CONFIG_FILE: lambda file: file.write(config),
        **{
            folder / f"{name}{ending}.th": partial(_save, make_root)
            for ending, make_root in _Files(parameters, portable, metadata).roots().items()
        },
    }
    write_whole(contents)
    return tuple(reversed(contents))


def check_name(name: str) -> None:
    """Finds out before a long run whether a checkpoint can have a name.

    Raises:
        InputError: It cannot.
    """
    if CheckpointName.parse(Path(f"{name}.th")).experiment != name or Path(name).name != name:
        raise InputError(
            "the name of a checkpoint must be a plain file name that does not end like -sub0 or -merged, "
            f"got {name!r}; choose another"
        )


def _save(make_root: Callable[[], dict[str, Any]], file: BinaryIO) -> None:
    save_archive(make_root(), file)


@dataclass(frozen=True)
class _Files:
    """What every file of one checkpoint holds; tensors are copied only when a file is written."""

    parameters: FieldParameters
    facts: RunFacts
    metadata: Mapping[str, Any]

    def roots(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Returns for every file the end of its name and the function that makes its dict.

        The one to open comes last: when it is there, the others are.
        """
        n_blocks = self.parameters.settings.n_blocks
        if n_blocks == 1:
            return {"": lambda: self._whole(dict(self._block(0)) | dict(self._networks()))}
        subs = {f"-sub{number}": partial(self._sub, number) for number in range(n_blocks)}
        return {
            **subs,
            "-merged-stack-wo_plane": lambda: self._merged(self._merged_state(self._dropped_planes())),
            "-merged-stack-wo_state_dict": lambda: self._merged(None),
            "-merged-stack": lambda: self._merged(self._merged_state()),
        }

    def _whole(self, state: dict[str, Tensor]) -> dict[str, Any]:
        return self._root(self._kwargs(self.parameters.grid_size, self.parameters.settings.step_ratio), state)

    def _sub(self, number: int) -> dict[str, Any]:
        """Makes a sub file; `.module` is LandMark's wrapper around the networks that all processes share."""
        nets = {key.replace(".", ".module.", 1): tensor for key, tensor in self._networks()}
        return self._whole(dict(self._block(number)) | nets)

    def _merged(self, state: Mapping[str, Tensor] | None) -> dict[str, Any]:
        shapes = {key: tensor.shape for key, tensor in sorted(self._stacked(), key=itemgetter(0))}
        *_, height, width = shapes["density_plane.0"]
        size = (width, height, shapes["density_line.0"][2])
        settings, records = self.parameters.settings, landmark_records(self.parameters.settings, self.facts)
        model_name = {"model_name": "GridNeRFBranchParallel"}
        kwargs = self._kwargs(size, self._step_ratio(size))
        kwargs["device"] = "cpu"
        kwargs["args"] = {
            **run_arguments(settings, self.facts),
            "config_list": [
                ConfigRecord({**record, **(model_name if "resMode" in record else {})}) for record in records
            ],
        }
        return {**self._root(kwargs, state), "gridShape": shapes}

    def _step_ratio(self, size: tuple[int, int, int]) -> float:
        """Returns the step_ratio that gives a file with another gridSize the trained step."""
        parameters = self.parameters
        box = parameters.aabb[1] - parameters.aabb[0]
        trained, stated = ((box / (torch.tensor(n) - 1)).mean() for n in (parameters.grid_size, size))
        return float(trained * parameters.settings.step_ratio) / float(stated)

    def _root(self, kwargs: dict[str, Any], state: Mapping[str, Tensor] | None) -> dict[str, Any]:
        occupancy, render = self.parameters.occupancy, self.parameters.model().settings
        root: dict[str, Any] = {"kwargs": kwargs}
        if state is not None:
            root["state_dict"] = OrderedDict(state)
        if occupancy is not None:
            root["alphaMask.shape"] = (1, 1, *occupancy.nodes.shape)
            root["alphaMask.mask"] = np.packbits(occupancy.nodes.cpu().numpy().reshape(-1))
            root["alphaMask.aabb"] = _copy(occupancy.aabb)
        root[METADATA_KEY] = make_metadata(self.parameters.settings, render, self.metadata)
        return root

    def _kwargs(self, grid_size: tuple[int, int, int], step_ratio: float) -> dict[str, Any]:
        parameters, settings = self.parameters, self.parameters.settings
        return {
            "aabb": _copy(parameters.aabb),
            "gridSize": list(grid_size),
            "density_n_comp": list(settings.density_channels[: settings.directions]),
            "appearance_n_comp": list(settings.appearance_channels[: settings.directions]),
            "app_dim": settings.feature_dim,
            "density_shift": settings.density_shift,
            "alphaMask_thres": settings.mask_threshold,
            "distance_scale": settings.distance_scale,
            "rayMarch_weight_thres": settings.weight_threshold,
            "fea2denseAct": settings.activation,
            "near_far": list(parameters.near_far),
            "step_ratio": step_ratio,
            "pos_pe": POSITION_PE,
            "view_pe": settings.view_pe,
            "fea_pe": settings.feature_pe,
            "featureC": settings.decoder_width,
        }

    # Tensors, in LandMark's shapes

    def _tables(self) -> Iterator[tuple[str, Tensor]]:
        """Goes through planes [C, n_blocks, n_v, n_u] and lines [C, n_blocks, n_w], without padding."""
        parameters, settings = self.parameters, self.parameters.settings
        density, appearance = settings.density_channels, settings.appearance_channels
        for group, tables, channels in (
            ("density_plane", parameters.density_planes, density),
            ("density_line", parameters.density_lines, density),
            ("app_plane", parameters.appearance_planes, appearance),
            ("app_line", parameters.appearance_lines, appearance),
        ):
            for p, table in enumerate(tables):
                yield f"{group}.{p}", table[..., : channels[p // len(settings.levels)]].movedim(-1, 0)

    def _block(self, number: int) -> Iterator[tuple[str, Tensor]]:
        """Copies the planes (1, C, n_v, n_u) and lines (1, C, n_w, 1) of one block."""
        for key, table in self._tables():
            if "_plane." in key:
                yield key, _copy(table[None, :, number], self._plane_type)
            else:
                yield key, _copy(table[None, :, number, :, None])

    def _stacked(self) -> Iterator[tuple[str, Tensor]]:
        """Goes through planes (1, C, n_blocks, n_v, n_u) and lines (1, C, n_w, n_blocks)."""
        for key, table in self._tables():
            yield key, table[None] if "_plane" in key else table[None].movedim(2, 3)

    def _merged_state(self, dropped: Collection[str] = ()) -> dict[str, Tensor]:
        stacked = {
            key: _copy(tensor, self._plane_type if "_plane." in key else torch.float32)
            for key, tensor in self._stacked()
            if key not in dropped
        }
        state = {**stacked, **dict(self._networks())}
        return {key: state[key] for key in sorted(state)}

    def _dropped_planes(self) -> list[str]:
        """Lists what LandMark leaves out: planes in this order up to the first that does not exist."""
        held = dict(self._tables())
        later = ("density_plane.1", "density_plane.2", "app_plane.1", "app_plane.2")
        return ["density_plane.0", "app_plane.0", *takewhile(held.__contains__, later)]

    def _networks(self) -> Iterator[tuple[str, Tensor]]:
        """Copies everything but planes and lines."""
        for key, tensor in self.parameters.named().items():
            if "_plane." in key or "_line." in key:
                continue
            copied = _copy(tensor)
            if key == "basis_den.weight":
                copied = copied.reshape(1, -1)
            yield key, _padded(copied).to(self._plane_type) if key == "embedding_app.weight" else copied

    @property
    def _plane_type(self) -> torch.dtype:
        """Number format of what makes a file large."""
        return torch.float16 if self.parameters.settings.half_planes else torch.float32


def _copy(tensor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns the tensor in a storage of its own on the CPU, in the order of its axes."""
    return tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)


def _padded(embedding: Tensor) -> Tensor:
    """Fills the appearance table up to LandMark's length with the mean of the rows that photographs use."""
    n_more = max(EMBEDDING_ROWS - len(embedding), 0)
    return torch.cat([embedding, embedding.mean(dim=0, keepdim=True).expand(n_more, -1)])
