"""What the program remembers between two starts: recent files and the window."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import platformdirs

from .state import MAX_RECENT, Theme

APP = "landmark-viewer"
FILE = "window.json"
FOLDER_VARIABLE = "LANDMARK_VIEWER_CONFIG"

MIN_SIDE, MAX_SIDE = 320, 16384  # of a window, pixels

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remembered:
    """Everything that is kept; lengths in screen pixels."""

    recent: tuple[Path, ...] = ()  # newest first
    width: int = 1600
    height: int = 1000
    x: int | None = None  # None: where the window manager likes
    y: int | None = None
    theme: Theme = Theme.DARK
    folder: Path | None = None  # where the open dialog starts


def config_folder() -> Path:
    """Returns the folder of the program's settings; LANDMARK_VIEWER_CONFIG names another."""
    stated = os.environ.get(FOLDER_VARIABLE)
    return Path(stated) if stated else platformdirs.user_config_path(APP)


def load() -> Remembered:
    """Reads what was remembered; what is missing or broken takes its default."""
    path = config_folder() / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Remembered()
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); starting with defaults", path, error)
        return Remembered()
    if not isinstance(data, dict):
        return Remembered()
    known = {name: read(data[name]) for name, read in _READERS.items() if name in data}
    return replace(Remembered(), **{name: value for name, value in known.items() if value is not None})


def save(remembered: Remembered) -> None:
    """Writes atomically; a folder that cannot be written costs a warning in the log only."""
    data = {field.name: _plain(getattr(remembered, field.name)) for field in fields(Remembered)}
    path = config_folder() / FILE
    temporary = path.with_name(f"{FILE}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)
        with contextlib.suppress(OSError):
            temporary.unlink()


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _read_paths(value: Any) -> tuple[Path, ...] | None:
    if not isinstance(value, list):
        return None
    return tuple(Path(item) for item in value if isinstance(item, str) and item)[:MAX_RECENT]


def _read_path(value: Any) -> Path | None:
    return Path(value) if isinstance(value, str) and value else None


def _read_side(value: Any) -> int | None:
    number = _read_number(value)
    return number if number is not None and MIN_SIDE <= number <= MAX_SIDE else None


def _read_number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _read_theme(value: Any) -> Theme | None:
    return next((theme for theme in Theme if theme.value == value), None)


_READERS: dict[str, Callable[[Any], Any]] = {
    "recent": _read_paths,
    "width": _read_side,
    "height": _read_side,
    "x": _read_number,
    "y": _read_number,
    "theme": _read_theme,
    "folder": _read_path,
}
