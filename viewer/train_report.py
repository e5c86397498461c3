"""Listeners of a training run: the terminal, the log file, TensorBoard."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..core.errors import InputError
from ..core.training.events import (
    Event,
    MaskUpdated,
    NerfStarted,
    Started,
    Stepped,
    Tested,
    Upsampled,
    Warned,
)

LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal
LOG_FILE = "log.jsonl"
BOARD_FOLDER = "tensorboard"

Listener = Callable[[Event], None]


class Terminal:
    """Tells a person what happens: a bar on a terminal, else a line every few seconds.

    Args:
        quiet: Only warnings are told.
        console: Where to; standard error if not given.
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._quiet = quiet
        self._iterations = 0
        self._spoken = time.monotonic()  # when the last line of progress was written
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> Terminal:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, sentence: str, always: bool = False) -> None:
        """Writes a line above the bar."""
        if always or not self._quiet:
            self._console.print(sentence, markup=False, soft_wrap=True)

    def count(self, description: str, done: int, total: int) -> None:
        """Shows how much of something is done, such as photographs that are read."""
        self._show(description, done, total, "")
        if done == total:
            self._forget()
        elif self._bar.disable and self._is_due():
            self.say(f"{description}: {done} of {total}")

    def __call__(self, event: Event) -> None:
        """Tells of one event of the trainer."""
        if isinstance(event, Started):
            self._iterations = event.iterations
            self._spoken = -math.inf
        if isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Warned):
            self.say(f"warning: {event.message}", always=True)
        elif sentence := _sentence(event):
            self.say(sentence)

    def _step(self, event: Stepped) -> None:
        left = _duration(event.remaining_seconds)
        facts = f"PSNR {event.psnr:.2f} dB, {event.seconds_per_step:.3f} s/step, {left} left"
        self._show("training", event.iteration, self._iterations, facts)
        if self._bar.disable and (self._is_due() or event.iteration == self._iterations):
            self.say(f"iteration {event.iteration} of {self._iterations}: {facts}")

    def _is_due(self) -> bool:
        """Whether another line of progress may be written; then the next one has to wait."""
        now = time.monotonic()
        is_due = now - self._spoken >= LINE_SECONDS
        if is_due:
            self._spoken = now
        return is_due

    def _show(self, description: str, done: int, total: int, facts: str) -> None:
        if self._task is None:
            self._task = self._bar.add_task(description, total=total, facts=facts)
        self._bar.update(self._task, description=description, completed=done, total=total, facts=facts)

    def _forget(self) -> None:
        self._bar.remove_task(self._task)
        self._task = None


class Log:
    """Writes one JSON object per event; a resumed run appends."""

    def __init__(self, folder: Path) -> None:
        path = folder / LOG_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise InputError(f"{path} must be writable, got: {error.strerror}; name another --out") from None

    def __call__(self, event: Event) -> None:
        """Writes one event, for everyone to read at once; a line that does not fit is taken back."""
        entry = {"event": type(event).__name__.lower(), "time": round(time.time(), 3), **asdict(event)}
        line, end = f"{json.dumps(_plain(entry))}\n".encode(), self._file.tell()
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self._file.truncate(end)
            raise InputError(
                f"{self._file.name} must be writable, got: {error.strerror}; make room and train on"
            ) from None

    def close(self) -> None:
        """Ends the log."""
        self._file.close()


class Board:
    """Writes curves for TensorBoard."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError(
                "train.tensorboard needs the package tensorboard, which is not installed; "
                "pip install 'landmark-viewer[tensorboard]' or set it to false"
            ) from None
        self._writer = SummaryWriter(str(folder / BOARD_FOLDER))

    def __call__(self, event: Event) -> None:
        """Writes the figures of one event."""
        scalars: dict[str, float] = {}
        if isinstance(event, Stepped):
            scalars = {"train/psnr": event.psnr, "train/seconds_per_step": event.seconds_per_step}
            scalars |= {f"loss/{name}": value for name, value in event.losses.items()}
        elif isinstance(event, Tested):
            scalars = {"test/psnr": event.psnr, "test/ssim": event.ssim}
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, event.iteration)

    def close(self) -> None:
        """Writes what is left."""
        self._writer.close()


def _sentence(event: Event) -> str:
    """Returns what a person wants to know of an event; nothing for some."""
    at = f"iteration {event.iteration}"
    if isinstance(event, Started):
        size = " x ".join(map(str, event.grid_size))
        parameters = f"{event.n_parameters / 1e6:.1f} million parameters, a grid of {size}"
        begins = f"goes on from {at}" if event.iteration else "begins"
        return f"training {begins}: {parameters}, {event.backend}"
    if isinstance(event, Upsampled):
        return f"{at}: the grid is refined to " + " x ".join(map(str, event.grid_size))
    if isinstance(event, MaskUpdated):
        return f"{at}: {event.share:.0%} of the box may hold matter"
    if isinstance(event, NerfStarted):
        return f"{at}: the NeRF branch is added"
    if isinstance(event, Tested):
        views = counted(len(event.scores), "view")
        return f"{at}: test PSNR {event.psnr:.2f} dB, SSIM {event.ssim:.3f} over {views}"
    return ""


def counted(number: int, thing: str) -> str:
    """Returns such as "1 view" or "2 views"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _plain(value: Any) -> Any:
    """Returns a value as JSON holds it; what is not a finite number becomes null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
