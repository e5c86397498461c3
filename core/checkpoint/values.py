"""Checked access to the plain values of a file: complaints name file and key in one sentence."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

_MAX_SHOWN = 60  # characters
_LARGEST = 2**53  # integers beyond it are no sizes


def show(value: object) -> str:
    """Describes a value in a few words, whatever its size or nesting."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        parts = [show(item) if not isinstance(item, (list, tuple)) else "..." for item in value[:6]]
        return "[" + ", ".join([*parts, "..."] if len(value) > 6 else parts) + "]"
    if value is None or isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 2**64 else "an integer of absurd size"
    if isinstance(value, str):
        text = ascii(value[:_MAX_SHOWN])
        return text if len(value) <= _MAX_SHOWN else text[:-1] + "...'"
    return f"a {type(value).__name__}"


def is_integer(value: object) -> bool:
    """Whether a value is an integer of a sane size and not a boolean."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _LARGEST


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))


@dataclass(frozen=True)
class Values:
    """The entries of a dict that came from a file."""

    file: str
    prefix: str  # what the dict is called in messages, e.g. "kwargs."
    entries: Mapping[str, Any]
    whole: str = "LandMark file"  # what the dict is a part of

    def wrong(self, key: str, must: str) -> InputError:
        """Returns the error that says what an entry must be and what it is."""
        return InputError(f"{self.file}: {self.prefix}{key} must be {must}, got {show(self.entries[key])}")

    def require(self, key: str) -> Any:
        """Returns an entry that must be there."""
        if key not in self.entries:
            raise InputError(
                f"{self.file}: {self.prefix}{key} is missing, so this is not a complete {self.whole}"
            )
        return self.entries[key]

    def integer(self, key: str, low: int) -> int:
        """Returns an integer not below `low`."""
        value = self.require(key)
        if not is_integer(value) or value < low:
            raise self.wrong(key, f"an integer not below {low}")
        return int(value)

    def number(self, key: str, above: float | None = None) -> float:
        """Returns a finite number, greater than `above` if that is given."""
        value = self.require(key)
        if not is_number(value) or (above is not None and not value > above):
            raise self.wrong(key, "a finite number" if above is None else f"a finite number above {above:g}")
        return float(value)

    def boolean(self, key: str) -> bool:
        """Returns a flag, which LandMark also writes as 0 or 1."""
        value = self.require(key)
        if not isinstance(value, (bool, int)) or value not in (0, 1):
            raise self.wrong(key, "true or false")
        return bool(value)

    def choice(self, key: str, allowed: Collection[str]) -> str:
        """Returns one of the allowed words."""
        value = self.require(key)
        if not isinstance(value, str) or value not in allowed:
            raise self.wrong(key, " or ".join(f"'{word}'" for word in allowed))
        return value

    def integers(self, key: str, counts: tuple[int, ...], low: int) -> tuple[int, ...]:
        """Returns a list of integers not below `low`, as long as one of `counts`."""
        value = self.require(key)
        if (
            not isinstance(value, (list, tuple))
            or len(value) not in counts
            or not all(is_integer(item) and item >= low for item in value)
        ):
            raise self.wrong(key, f"{' or '.join(map(str, counts))} integers not below {low}")
        return tuple(value)

    def interval(self, key: str) -> tuple[float, float]:
        """Returns two finite numbers, 0 <= first < second."""
        value = self.require(key)
        if (
            not isinstance(value, (list, tuple))
            or len(value) != 2
            or not all(is_number(item) for item in value)
            or not 0 <= value[0] < value[1]
        ):
            raise self.wrong(key, "two finite numbers with 0 <= near < far")
        return float(value[0]), float(value[1])

    def bounds(self, key: str) -> Tensor:
        """Returns a bounding box whose upper corner exceeds the lower one. float32 [2, 3]"""
        value = self.require(key)
        if not isinstance(value, Tensor) or tuple(value.shape) != (2, 3):
            raise self.wrong(key, "a tensor of shape (2, 3)")
        box = value.detach().to(torch.float32, copy=True)
        shown = f"{self.file}: {self.prefix}{key} must be finite and its second row must exceed the first"
        if not bool(torch.isfinite(box).all()) or not bool((box[1] > box[0]).all()):
            raise InputError(f"{shown}, got {box.tolist()}")
        return box
