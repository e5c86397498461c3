"""The state of a training run on disk: whole or not there, and enough to go on bit for bit."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import InputError
from ..occupancy import OccupancyGrid
from ..whole_file import write_whole
from .parameters import FieldParameters
from .photos import TrainingData
from .settings import TrainSettings

FORMAT_VERSION = 1
STATE_NAME = "state.safetensors"
METADATA_KEY = "landmark-viewer"  # of the JSON in the file's header
MAX_METADATA = 1 << 20  # characters
FINGERPRINT_PIXELS = 4096  # that are compared to see whether the photographs are the same
DTYPES = {torch.float32: "F32", torch.uint8: "U8"}  # names of the safetensors format

# Settings that may change between the parts of a run; how far the iterations may, _decisive says.
FREE = frozenset(
    (
        "iterations",
        "decay_iterations",
        "test_every",
        "test_views",
        "save_every",
        "threads",
        "device",
        "backend",
        "tensorboard",
        "half_planes",
    )
)


@dataclass(frozen=True)
class State:
    """A run after `iteration` steps; no random state is needed, batches follow from the iteration."""

    iteration: int
    count: int  # Adam steps since the moments were zero
    grid_size: tuple[int, int, int]
    settings: dict[str, Any]  # TrainSettings, as JSON holds them
    data: dict[str, str]  # fingerprint of the photographs
    tensors: dict[str, Tensor]  # parameter/KEY, moment1/KEY, moment2/KEY, mask/nodes, mask/aabb


class RunFolder:
    """The folder of a run, held against other runs as long as the context lasts.

    Args:
        folder: Is made where it does not exist.
        name: Of the checkpoint; what a killed process left of its files is removed.

    Raises:
        InputError: On entering: the folder cannot be made or written, or another run holds it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.path = folder / STATE_NAME
        self._name = name

    def __enter__(self) -> RunFolder:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise InputError(
                f"{self.folder} must be a folder for the run's files, got: {error.strerror}; name another"
            ) from error
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however it ends
        except BlockingIOError:
            os.close(self._handle)
            raise InputError(
                f"{self.folder} must belong to one training at a time, got a second one; "
                "wait for the first or name another folder"
            ) from None
        names = (STATE_NAME, "config.txt")
        for stray in self.folder.glob(".*.tmp"):
            written = stray.name[1 : -len(".tmp")]
            if written in names or (written.startswith(self._name) and written.endswith(".th")):
                stray.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def write(self, parameters: FieldParameters, iteration: int, data: Mapping[str, str]) -> None:
        """Replaces the state by that of these parameters; on failure the old one stays.

        Raises:
            InputError: The file cannot be written.
        """
        metadata = {
            "format": FORMAT_VERSION,
            "iteration": iteration,
            "count": parameters.count,
            "grid_size": parameters.grid_size,
            "settings": asdict(parameters.settings),
            "data": dict(data),
        }
        tensors, text = _tensors(parameters), json.dumps(metadata)
        write_whole({self.path: lambda file: _write_safetensors(file, tensors, text)})

    def read(self) -> State | None:
        """Returns the state of the run, or None if there is none yet.

        Raises:
            InputError: The state file is broken or of another version of the format.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                state = json.loads((file.metadata() or {}).get(METADATA_KEY, "")[:MAX_METADATA])
                if state["format"] != FORMAT_VERSION:
                    raise InputError(
                        f"{self.path} must have format version {FORMAT_VERSION}, got {state['format']!r}; "
                        "go on with the program that wrote it, or train into another folder"
                    )
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            x, y, z = state["grid_size"]
            return State(
                iteration=int(state["iteration"]),
                count=int(state["count"]),
                grid_size=(int(x), int(y), int(z)),
                settings=dict(state["settings"]),
                data=dict(state["data"]),
                tensors=tensors,
            )
        except InputError:
            raise
        except (SafetensorError, OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._unusable(str(error).partition("\n")[0] or type(error).__name__) from error

    def restore(
        self, state: State, settings: TrainSettings, data: TrainingData, device: torch.device
    ) -> FieldParameters:
        """Makes the parameters that a state holds.

        Raises:
            InputError: The tensors of the state do not fit its settings.
        """
        parameters = FieldParameters.create(settings, data, device)
        if any(at < state.iteration for at in settings.upsample_at):
            parameters.upsample(state.grid_size)
        if 0 <= settings.nerf_from < state.iteration:
            parameters.add_nerf()
        if "mask/nodes" in state.tensors and "mask/aabb" in state.tensors:
            nodes, aabb = state.tensors["mask/nodes"], state.tensors["mask/aabb"]
            if nodes.dtype != torch.uint8 or nodes.dim() != 3 or aabb.shape != (2, 3):
                raise self._unusable(f"a mask of shape {list(nodes.shape)} in a box of {list(aabb.shape)}")
            parameters.occupancy = OccupancyGrid(nodes.to(device, copy=True), aabb.to(device, copy=True))
        parameters.count = state.count
        expected = _tensors(parameters)
        if odd := expected.keys() ^ state.tensors.keys():
            raise self._unusable(f"{min(odd)} in only one of the file and its settings")
        for key, tensor in expected.items():
            stored = state.tensors[key]
            if stored.shape != tensor.shape or stored.dtype != tensor.dtype:
                raise self._unusable(f"{key} of shape {list(stored.shape)} instead of {list(tensor.shape)}")
            tensor.copy_(stored)
        return parameters

    def _unusable(self, reason: str) -> InputError:
        return InputError(
            f"{self.path} must be the state of this training run, got: {reason}; "
            "begin anew with --restart, or train into another folder"
        )


def check_same_run(state: State, settings: TrainSettings, data: Mapping[str, str], path: Path) -> None:
    """Raises InputError, naming what differs, unless a state can go on with these settings and data."""
    if settings.iterations < state.iteration:
        raise InputError(
            f"iterations must be at least {state.iteration}, which {path} has behind it, "
            f"got {settings.iterations}; raise them or train into another folder"
        )
    old, new = _decisive(state.settings), _decisive(json.loads(json.dumps(asdict(settings))))
    for name in old | new:
        if old.get(name) != new.get(name):
            advice = "put it back or train into another folder"
            if name in ("iterations", "decay_iterations") and settings.decay_iterations <= 0:
                advice = (
                    f"set decay_iterations to {old.get(name)} and reset_learning_rate to true, so that the "
                    "iterations do not decide how learning rates fall, or train into another folder"
                )
            raise InputError(
                f"{name} must stay {old.get(name)}, with which {path} was trained, "
                f"got {new.get(name)}; {advice}"
            )
    for name in sorted(state.data.keys() | data.keys()):
        if state.data.get(name) != data.get(name):
            raise InputError(
                f"{name} must stay those with which {path} was trained, got others; "
                "put them back or train into another folder"
            )


def fingerprint(data: TrainingData) -> dict[str, str]:
    """Returns digests of what a run learns from, by name; photographs by a part of their pixels."""
    photos = data.train
    picked = np.linspace(0, int(photos.offsets[-1]) - 1, FINGERPRINT_PIXELS).astype(np.int64)
    parts = {
        "cameras": json.dumps([camera.to_json() for camera in photos.cameras]).encode(),
        "photographs": photos.pixels.colors(picked).tobytes() if len(photos) else b"",
        "appearance codes": json.dumps([photos.codes.tolist(), data.n_codes]).encode(),
        "bounds": json.dumps(data.bounds).encode(),
        "near and far": json.dumps(data.near_far).encode(),
    }
    return {name: hashlib.sha256(content).hexdigest() for name, content in parts.items()}


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that must stay, with what the number of iterations decides in its place."""
    decisive = {name: value for name, value in settings.items() if name not in FREE}
    iterations, decay = settings.get("iterations"), settings.get("decay_iterations")
    decisive["decay_iterations"] = decay if isinstance(decay, int) and decay > 0 else iterations
    if not settings.get("reset_learning_rate"):
        decisive["iterations"] = iterations  # up-sampling lowers learning rates by their share
    return decisive


def _tensors(parameters: FieldParameters) -> dict[str, Tensor]:
    """Returns everything that training changes, by its key in the file; no copies."""
    tensors = {f"parameter/{key}": tensor for key, tensor in parameters.named().items()}
    for key, (first, second) in parameters.moments.items():
        tensors |= {f"moment1/{key}": first, f"moment2/{key}": second}
    if parameters.occupancy is not None:
        tensors |= {"mask/nodes": parameters.occupancy.nodes, "mask/aabb": parameters.occupancy.aabb}
    return tensors


def _write_safetensors(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: str) -> None:
    """Writes the safetensors format; the library itself wants a file name and hides what the system says."""
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: metadata}}
    end = 0
    for key, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[key] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(tensor.cpu().contiguous().numpy().data)
