"""What this program writes into a checkpoint beside LandMark's own entries, and reads back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from ..settings import ModelSettings, Sampling
from ..training.settings import TrainSettings
from ..version import program_version
from .values import Values, show

METADATA_KEY = "landmark_viewer"  # top-level entry of every file; LandMark ignores it
FORMAT = 1
_MAX_SHOWN = 40  # entries


def make_metadata(settings: TrainSettings, render: ModelSettings, run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entry, plain data only.

    Args:
        settings: Of the run.
        render: What a picture depends on and LandMark's file does not tell.
        run: Whatever the trainer adds (iterations, scene_from_source ...).
    """
    return {
        "format": FORMAT,
        "program": f"landmark-viewer {program_version()}",
        "render": plain_settings(render),
        "settings": _plain(asdict(settings)),
        "run": _plain(run),
    }


def plain_settings(settings: ModelSettings) -> dict[str, Any]:
    """Returns what is stated, as plain data that `settings_from` reads."""
    return {key: _plain(value) for key, value in asdict(settings).items() if value is not None}


def _plain(value: Any) -> Any:
    """Returns a value in the types that every unpickler knows."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"metadata must be plain data, got {type(value).__name__}")


def _entry(file: str, root: Mapping[str, Any], key: str) -> Values:
    """Returns one dict of the entry; an empty one if the file has none or a later program wrote it."""
    own = root.get(METADATA_KEY)
    held = own.get(key) if isinstance(own, dict) and own.get("format") == FORMAT else None
    return Values(file, f"{METADATA_KEY}.{key}.", held if isinstance(held, dict) else {})


def stated_settings(file: str, root: Mapping[str, Any]) -> ModelSettings:
    """Reads what the file states of its own run.

    Args:
        file: Its name, for messages.
        root: What the file holds.
    """
    return settings_from(_entry(file, root, "render"))


def settings_from(values: Values) -> ModelSettings:
    """Reads settings that `plain_settings` has written; those that are not there stay unstated."""
    held = values.entries
    readers: dict[str, Callable[[str], Any]] = {
        "white_background": values.boolean,
        "sampling": lambda key: Sampling(values.choice(key, [kind.value for kind in Sampling])),
        "n_importance": lambda key: values.integer(key, 1),
        "nerf_n_importance": lambda key: values.integer(key, 1),
        "alpha_mask_threshold": values.number,
        "plane_division": lambda key: values.integers(key, (2,), 1),
        "run_nerf": values.boolean,
        "residual_nerf": values.boolean,
    }
    return ModelSettings(**{key: read(key) for key, read in readers.items() if key in held})


def described(file: str, root: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns label and text of what `inspect` tells of the entry."""
    own = root.get(METADATA_KEY)
    if not isinstance(own, dict):
        return []
    run = list(_entry(file, root, "run").entries.items())[:_MAX_SHOWN]
    return [
        ("written by", _text(own.get("program"))),
        *((_text(str(key)).replace("_", " "), _text(value)) for key, value in run),
    ]


def _text(value: object) -> str:
    if isinstance(value, dict):
        items = list(value.items())[:_MAX_SHOWN]
        return ", ".join(f"{_text(str(key))} {show(item)}" for key, item in items) or "none"
    if isinstance(value, list) and value and all(isinstance(row, list) for row in value):
        return "; ".join(map(show, value[:_MAX_SHOWN]))
    shown = show(value)
    return shown[1:-1] if isinstance(value, str) else shown
