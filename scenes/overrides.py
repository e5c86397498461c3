"""Values from the command line: --set key.path=value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.errors import InputError
from .sections import show
from .yaml_file import parse_yaml


def overridden(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns a copy of a scene file's mapping with `key.path=value` texts written into it."""
    changed = dict(data)
    for text in overrides:
        path, equals, value = text.partition("=")
        *parents, last = keys = path.strip().split(".")
        if not equals or not all(keys):
            raise InputError(f"--set must be key.path=value, got {text!r}")
        place = changed
        for key in parents:
            inner = place.get(key)
            place[key] = dict(inner) if isinstance(inner, dict) else {}
            place = place[key]
        place[last] = _override_value(path.strip(), value)
    return changed


def _override_value(path: str, text: str) -> Any:
    if text.startswith("#"):  # a colour; in a file it would be a comment
        return text
    try:
        return parse_yaml(text, "--set")
    except InputError:
        raise InputError(
            f"--set {path} must have a value such as 3, true, text or [1, 2], got {show(text)}"
        ) from None
