"""JSON as data: read with a limit, and taken apart with errors that name the file and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.camera import LARGEST, MAX_SIDE
from ...core.errors import InputError
from ..text_file import MIB, read_text

MAX_BYTES = 512 * MIB
ROTATION_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Entry:
    """A mapping inside a JSON file; `prefix` starts the name of its keys in error messages."""

    data: Mapping[str, Any]
    prefix: str  # such as "transforms.json: frames[3]."

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def fail(self, key: str, expected: str) -> InputError:
        """Returns the error for a key whose value is not as expected."""
        if key not in self:
            return InputError(f"{self.prefix}{key} must be {expected}, but is missing")
        return InputError(f"{self.prefix}{key} must be {expected}, got {_shown(self.data[key])}")

    def get(self, key: str) -> Any:
        """Returns a value as it is, or None."""
        return self.data.get(key)

    def number(self, key: str, low: float = -LARGEST, high: float = LARGEST) -> float:
        """Returns a finite number; `low` and `high` are excluded."""
        value = self.get(key)
        if _is_number(value) and low < value < high:
            return float(value)
        above = f" above {low:g}" if low > -LARGEST else ""
        below = f" below {high:g}" if high < LARGEST else ""
        raise self.fail(key, f"a finite number{above}{' and' if above and below else ''}{below}")

    def whole(self, key: str, low: int, high: int) -> int:
        """Returns a whole number from `low` to `high`; 360.0 counts as one."""
        value = self.get(key)
        if _is_number(value) and value == int(value) and low <= value <= high:
            return int(value)
        raise self.fail(key, f"a whole number from {low} to {high}")

    def text(self, key: str) -> str:
        """Returns a text that is not empty."""
        value = self.get(key)
        if isinstance(value, str) and value and "\0" not in value:
            return value
        raise self.fail(key, "a text")

    def flag(self, key: str) -> bool:
        """Returns a truth value; missing is false."""
        value = self.data.get(key, False)
        if isinstance(value, bool):
            return value
        raise self.fail(key, "true or false")

    def items(self, key: str, expected: str) -> list[Any]:
        """Returns a list with at least one item."""
        value = self.get(key)
        if isinstance(value, list) and value:
            return value
        raise self.fail(key, expected)

    def array(self, key: str, *shapes: tuple[int, ...]) -> np.ndarray:
        """Returns an array of finite numbers in one of the shapes. float64"""
        names = " or ".join(" x ".join(map(str, shape)) for shape in shapes)
        try:
            value = np.array(self.data.get(key), dtype=object)
            numbers = [float(v) if _is_number(v, finite=False) else math.inf for v in value.ravel()]
            listed = all(_is_number(v, finite=False) for v in value.ravel())
        except (ValueError, OverflowError):
            raise self.fail(key, f"{names} numbers") from None
        if value.shape not in shapes or not listed:
            raise self.fail(key, f"{names} numbers")
        if not all(abs(v) <= LARGEST for v in numbers):
            raise InputError(f"{self.prefix}{key} must hold finite numbers only, got NaN or infinity")
        return np.array(numbers).reshape(value.shape)

    def size(self) -> tuple[int, int] | None:
        """Returns the stated width and height of the pictures in pixels, or None if neither is there."""
        if "w" not in self and "h" not in self:
            return None
        return self.whole("w", 1, MAX_SIDE), self.whole("h", 1, MAX_SIDE)


def read_entry(path: Path) -> Entry:
    """Reads a JSON file whose top level is a mapping.

    Raises:
        InputError: The file is missing, too large, not JSON, or not a mapping.
    """
    text = read_text(path, "JSON file", MAX_BYTES)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: must be valid JSON, got {error.msg.lower()}"
        ) from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} must be JSON with numbers and nesting of reasonable size") from None
    if not isinstance(data, dict):
        raise InputError(f"{path} must hold a mapping with frames, got {_shown(data)}")
    return Entry(data, f"{path}: ")


def check_rotation(rotation: np.ndarray, where: str) -> None:
    """Checks that a matrix is a rotation. [3, 3]

    Raises:
        InputError: It is scaled, skewed, mirrored or singular.
    """
    lengths = np.linalg.norm(rotation, axis=0)
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > ROTATION_TOLERANCE:
        shown = ", ".join(f"{length:.3g}" for length in lengths)
        raise InputError(
            f"{where} must begin with a rotation, whose columns have length 1 and are perpendicular, "
            f"got columns of length {shown}"
        )
    if np.linalg.det(rotation) < 0:
        raise InputError(f"{where} must begin with a rotation, got a mirrored one")


def _is_number(value: Any, finite: bool = True) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not finite or abs(value) <= LARGEST


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
