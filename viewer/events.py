"""The event log: one JSON object per line, times in seconds since the process started."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_IMPORTED = time.monotonic()


def _started() -> float:
    """Returns when the process started, on the clock of `time.clock_gettime(CLOCK_BOOTTIME)`."""
    # The command in parentheses may hold spaces: count the fields after it. Field 22 is the start time.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


try:
    _OFFSET = time.clock_gettime(time.CLOCK_BOOTTIME) - _started() - time.monotonic()
except (AttributeError, OSError, IndexError, ValueError):  # no Linux: the first import is the best guess
    _OFFSET = -_IMPORTED


def since_start() -> float:
    """Returns the seconds since the process started, by the kernel's account of it."""
    return time.monotonic() + _OFFSET


class EventLog:
    """Writes events to a file, or nowhere. Any thread may write; every line is flushed."""

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._file = path.open("w", encoding="utf-8") if path else None

    @property
    def is_open(self) -> bool:
        """Whether events are written anywhere."""
        return self._file is not None

    def write(self, event: str, **fields: Any) -> None:
        """Writes one event; `t` is added. Values that JSON does not know are written as text."""
        if self._file is None:
            return
        line = json.dumps({"t": round(since_start(), 6), "event": event, **fields}, default=str)
        with self._lock:
            if self._file is not None:
                self._file.write(line + "\n")
                self._file.flush()

    def close(self) -> None:
        """Ends the log; later events are dropped."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def read_events(path: Path) -> list[dict[str, Any]]:
    """Reads a log, without a last line that is still being written."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events


def latencies(events: Iterable[Mapping[str, Any]]) -> list[float]:
    """Returns, for each input, the seconds until a picture that shows it was on screen.

    Reads the events "input" (`t`) and "picture" (`t`; `input`: time of the newest input that it shows).
    An input that no picture shows yet is left out; one that was skipped counts with the later picture.
    """
    waiting: list[float] = []
    found: list[float] = []
    for event in events:
        if event["event"] == "input":
            waiting.append(event["t"])
        elif event["event"] == "picture":
            shown = [t for t in waiting if t <= event["input"]]
            found += [event["t"] - t for t in shown]
            waiting = waiting[len(shown) :]
    return found
