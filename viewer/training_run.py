"""A training run from the command line: its folder, its photographs, its listeners, how it is interrupted."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from ..core.errors import InputError
from ..core.training.events import Event, Outcome, Saved
from ..core.training.photos import TrainingData
from ..core.training.schedules import Bounds, grid_size_for
from ..core.training.settings import TrainSettings
from ..core.training.state import STATE_NAME, RunFolder
from ..core.training.trainer import TESTS_FOLDER, Trainer, device_of
from ..scenes.datasets.dataset import Dataset
from ..scenes.datasets.open import open_dataset
from ..scenes.save import save_scene
from ..scenes.schema import SceneSpec
from ..scenes.trained_scene import trained_scene
from ..scenes.training_spec import TrainingSpec
from .cli import available_memory
from .train_report import BOARD_FOLDER, LOG_FILE, Board, Listener, Log, Terminal, counted

SCENE_FILE = "scene.yaml"
UNFINISHED = re.compile(r"\..*\.tmp")  # a file that a killed run was writing
CACHE_FOLDER = "pixels"
OBJECT_HEIGHT = 0.75  # share of its width from which on a box holds an object, not a landscape
BYTES_PER_TEXEL = 12  # of each channel: the value and its two moments, float32
EARLY_NAMES = (LOG_FILE, BOARD_FOLDER, CACHE_FOLDER, TESTS_FOLDER)  # of ours, before the first saved state


def run_training(spec: TrainingSpec, folder: Path, restart: bool, terminal: Terminal) -> Outcome:
    """Trains, or goes on with an earlier run of the same folder.

    Args:
        spec: What to train.
        folder: Of the run.
        restart: Moves the folder of an earlier run aside.
        terminal: Tells the user what happens.

    Raises:
        InputError: Something given cannot be used.
    """
    _check_folder(folder)
    if restart and (old := _moved_aside(folder, spec.name)):
        terminal.say(f"note: the earlier run lies in {old} now")
    terminal.say(f"the run is kept in {folder}")
    for notice in spec.notices:
        terminal.say(f"note: {notice}")
    data = _open(spec, folder, terminal)
    run = Run(_suited(spec, data), data, folder)
    run.scene(folder / "any.th")  # what does not suit the run shows before it begins
    _check_memory(run.spec.train, data.bounds)
    with _listeners(run, terminal) as listeners, _interruptible(terminal) as is_stopped:
        return _trainer(run, listeners).run(is_stopped)


@dataclass(frozen=True)
class Run:
    """A run whose photographs are open; as a listener it keeps the scene file up to date."""

    spec: TrainingSpec
    data: Dataset
    folder: Path

    def scene(self, checkpoint: Path) -> SceneSpec:
        """Returns the scene that shows a checkpoint of this run."""
        return trained_scene(self.spec, self.data, self.folder, checkpoint)

    def __call__(self, event: Event) -> None:
        """Writes the scene file with every checkpoint, so that a run can be looked at while it goes on."""
        if isinstance(event, Saved):
            save_scene(self.folder / SCENE_FILE, self.scene(event.checkpoint[0]))


def _check_folder(folder: Path) -> None:
    """Raises InputError if the run would write into a folder with files that are not a run's."""
    if not folder.is_dir() or (folder / STATE_NAME).is_file():
        return
    names = (entry.name for entry in folder.iterdir() if entry.name not in EARLY_NAMES)
    others = sorted(name for name in names if not UNFINISHED.fullmatch(name))
    if others:
        shown = ", ".join(others[:3]) + (", ..." if others[3:] else "")
        raise InputError(
            f"{folder} must be a new folder or that of an earlier run, got one that holds {shown}; "
            "name another with --out"
        )


def _moved_aside(folder: Path, name: str) -> Path | None:
    """Renames the folder of an earlier run, unless it is at work; returns its new name if there was one."""
    if not (folder / STATE_NAME).is_file():
        return None
    names = (folder.with_name(f"{folder.name}_{number}") for number in count(1))
    old = next(path for path in names if not path.exists())
    with RunFolder(folder, name):
        try:
            folder.rename(old)
        except OSError as error:
            raise InputError(f"{folder} must be movable to {old}, got: {error.strerror}") from None
    return old


def _open(spec: TrainingSpec, folder: Path, terminal: Terminal) -> Dataset:
    options = spec.dataset
    if options.cache is None:
        options = replace(options, cache=folder / CACHE_FOLDER)
    data = open_dataset(options, lambda done, total: terminal.count("reading photographs", done, total))
    for notice in data.notices:
        terminal.say(f"note: {notice}")
    photos = counted(len(data.train), "photograph")
    terminal.say(f"{photos} to learn from, {len(data.test)} to test with ({data.kind})")
    low, high = (", ".join(f"{value:.3g}" for value in corner) for corner in data.bounds)
    near, far = data.near_far
    terminal.say(f"the box from ({low}) to ({high}) is trained, with rays from {near:.3g} to {far:.3g}")
    return data


def _suited(spec: TrainingSpec, data: Dataset) -> TrainingSpec:
    """Decides what nobody has decided and the photographs make plain.

    Codes are trained if the photographs come with codes of their own. A box nearly as high as wide is no
    landscape: it gets planes in all three directions, unless it is to be divided into blocks or channels are
    stated for one direction only.
    """
    codes = data.train.codes
    has_own_codes = not np.array_equal(codes, np.arange(len(codes))) and bool(np.any(codes))
    x, y, z = np.subtract(*reversed(data.bounds))
    train = spec.train
    is_object = z > OBJECT_HEIGHT * min(x, y) and train.n_blocks == 1
    has_channels = min(len(train.density_channels), len(train.appearance_channels)) >= 3
    if "appearance_codes" in spec.unstated and has_own_codes:
        train = replace(train, appearance_codes=True)
    if "directions" in spec.unstated and is_object and has_channels:
        train = replace(train, directions=3)
    return replace(spec, train=train)


def _check_memory(settings: TrainSettings, bounds: Bounds) -> None:
    """Raises InputError if the field is sure not to fit; Linux would grant the memory and kill us later."""
    available = available_memory()
    if available is None or device_of(settings).type != "cpu":
        return
    x, y, z = np.max([grid_size_for(n, bounds) for n in (settings.voxels_start, settings.voxels_end)], axis=0)
    areas = (x * y, x * z, y * z)[: settings.directions]
    channels = zip(settings.density_channels, settings.appearance_channels, strict=False)
    texels = sum(int(area) * sum(both) for area, both in zip(areas, channels, strict=False))
    needed = texels * sum(level**2 for level in settings.levels) * BYTES_PER_TEXEL
    if needed > available:
        raise InputError(
            f"the field must fit into memory: planes of {needed / 2**30:.1f} GiB with their moments, "
            f"got {available / 2**30:.1f} GiB; lower train.voxels_end, train.levels or the channels"
        )


def _trainer(run: Run, listeners: list[Listener]) -> Trainer:
    data = run.data

    def tell(event: Event) -> None:
        for listener in listeners:
            listener(event)

    facts = {
        "name": run.spec.name,
        "dataset": data.kind,
        "photographs": len(data.train),
        "scene_from_source": data.scene_from_source.tolist(),
        "metres_per_unit": data.metres_per_unit,
        "epsg": data.epsg,
    }
    metadata = {key: value for key, value in facts.items() if value is not None}
    training_data = TrainingData(
        data.train, data.test, data.bounds, data.near_far, root=data.root, downsample=data.downsample
    )
    return Trainer(run.spec.train, training_data, run.folder, run.spec.name, metadata, tell)


@contextmanager
def _listeners(run: Run, terminal: Terminal) -> Iterator[list[Listener]]:
    with ExitStack() as stack:
        board = [Board(run.folder)] if run.spec.train.tensorboard else []
        files = [*board, Log(run.folder)]
        for file in files:
            stack.callback(file.close)
        yield [run, *files, terminal]


@contextmanager
def _interruptible(terminal: Terminal) -> Iterator[Callable[[], bool]]:
    """Lets the first Ctrl+C, or the system's wish to end the program, stop the run in good order."""
    asked: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        terminal.say("stopping after this step; Ctrl+C again stops at once, without saving", always=True)

    usual = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
