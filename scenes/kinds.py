"""What a value in a scene file may be: parsers, and how an error message names what they expect."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..core.camera import LARGEST, Matrix

MAX_SAMPLES = 16384  # per ray; keeps a slip of the keyboard from exhausting the memory
MAX_BLOCKS = 1024  # along one axis
SKEW = 1e-6  # by which the axes of a similarity may miss equal length and right angles, relative

Vector = tuple[float, float, float]
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """What a field accepts: `parse` returns the value, or raises ValueError or TypeError."""

    expected: str  # how the error message completes "must be"
    parse: Callable[[Any], Any]


@dataclass(frozen=True)
class Table:
    """Accepts a mapping of names to values of one kind, which is held as pairs."""

    of: Accepted


@dataclass(frozen=True)
class Listed:
    """Accepts a list of at most `most` values of one kind, which is held as a tuple."""

    of: Accepted
    most: int


@dataclass(frozen=True)
class Section:
    """Accepts a mapping that becomes a dataclass; `accepted` says it of every key."""

    of: Callable[..., Any]  # the dataclass, or what makes it of the values of the keys that are given
    accepted: Mapping[str, Accepted]
    required: frozenset[str] = frozenset()  # keys without which there is nothing
    parts: Callable[[Any], Mapping[str, Any]] | None = None  # undoes `of`; None: a field for each key
    complete: bool = False  # is written with what equals its default
    short: Kind | None = None  # a value that may stand instead of the mapping, given to `of` as `short_key`
    short_key: str = ""


@dataclass(frozen=True)
class Variants:
    """Accepts a mapping whose `key` says which section it is."""

    key: str
    sections: Mapping[str, Section]
    name_of: Callable[[Any], str]  # the word of what a section made


Accepted = Kind | Table | Listed | Section | Variants


# Parsers


def number(value: Any) -> float:
    """Accepts what is finite in float32."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        raise ValueError
    return float(value)


def whole(low: int, high: int) -> Callable[[Any], int]:
    """Makes a parser for whole numbers from `low` to `high`."""

    def parse(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return parse


def between(low: float, high: float) -> Callable[[Any], float]:
    """Makes a parser for the open interval (low, high)."""

    def parse(value: Any) -> float:
        if not low < number(value) < high:
            raise ValueError
        return float(value)

    return parse


def within(low: float, high: float = math.inf) -> Callable[[Any], float]:
    """Makes a parser for the closed interval [low, high]."""

    def parse(value: Any) -> float:
        if not low <= number(value) <= high:
            raise ValueError
        return float(value)

    return parse


def list_of(parse: Callable[[Any], T], least: int, most: int) -> Callable[[Any], tuple[T, ...]]:
    """Makes a parser for lists of `least` to `most` values."""

    def parse_list(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise ValueError
        return tuple(parse(entry) for entry in value)

    return parse_list


def _exactly(type_: type[T]) -> Callable[[Any], T]:
    def parse(value: Any) -> T:
        if not isinstance(value, type_):
            raise TypeError
        return value

    return parse


def _file_name(value: Any) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise TypeError
    value.encode()  # a name that is no text on disk could not be written into a scene file
    return Path(value)


def vector(value: Any) -> Vector:
    """Accepts a list of three numbers."""
    x, y, z = list_of(number, 3, 3)(value)
    return x, y, z


def _range(value: Any) -> tuple[float, float]:
    near, far = list_of(number, 2, 2)(value)
    if not 0 <= near < far:
        raise ValueError
    return near, far


def _bounds(value: Any) -> tuple[Vector, Vector]:
    low, high = list_of(vector, 2, 2)(value)
    if not all(a < b for a, b in zip(low, high, strict=True)):
        raise ValueError
    return low, high


def _similarity(value: Any) -> Matrix:
    matrix = list_of(list_of(number, 4, 4), 4, 4)(value)
    array = np.array(matrix)
    axes = array[:3, :3]
    scale = np.cbrt(np.linalg.det(axes))
    if scale == 0 or tuple(matrix[3]) != (0.0, 0.0, 0.0, 1.0):
        raise ValueError
    if not np.allclose(axes.T @ axes / scale**2, np.eye(3), rtol=0, atol=SKEW):
        raise ValueError
    return matrix


def _color(value: Any) -> Vector:
    if isinstance(value, str):
        if value in ("white", "black"):
            return (1.0, 1.0, 1.0) if value == "white" else (0.0, 0.0, 0.0)
        if not re.fullmatch(r"#[0-9a-fA-F]{6}", value):
            raise ValueError
        red, green, blue = bytes.fromhex(value[1:])
        return red / 255, green / 255, blue / 255
    color = vector(value)
    if min(color) < 0 or max(color) > 1:
        raise ValueError
    return color


def _threshold(value: Any) -> float:
    if not -1 <= number(value) < 1:
        raise ValueError
    return float(value)


# Kinds


def choice(*names: str) -> Kind:
    """Accepts one of some words."""

    def parse(value: Any) -> str:
        if value not in names or not isinstance(value, str):
            raise ValueError
        return value

    return Kind(" or ".join(names), parse)


def member_of(kind: type[Enum]) -> Kind:
    """Accepts the value of a member of an enumeration."""
    return Kind(" or ".join(str(member.value) for member in kind), kind)


def whole_number(low: int, high: int) -> Kind:
    """Accepts whole numbers from `low` to `high`."""
    return Kind(f"a whole number from {low} to {high}", whole(low, high))


FLAG = Kind("true or false", _exactly(bool))
TEXT = Kind("text", _exactly(str))
FILE = Kind("a file name", _file_name)
NUMBER = Kind("a finite number", number)
VECTOR = Kind("three finite numbers such as [0, 0, 1]", vector)
SAMPLES = whole_number(1, MAX_SAMPLES)
THRESHOLD = Kind("a number from -1 to below 1", _threshold)
DIVISION = Kind(
    f"two whole numbers from 1 to {MAX_BLOCKS} such as [2, 2]", list_of(whole(1, MAX_BLOCKS), 2, 2)
)
RANGE = Kind("two numbers with 0 <= near < far", _range)
BOUNDS = Kind("two corners such as [[-1, -1, 0], [1, 1, 0.5]], the lower one first", _bounds)
SIMILARITY = Kind(
    "four rows of four numbers, the last 0 0 0 1, that turn, scale and shift without skew", _similarity
)
POSITIVE = Kind("a positive number", between(0, math.inf))
NOT_NEGATIVE = Kind("a number, 0 or more", within(0))
ANGLE = Kind("in (0, 180) degrees", between(0, 180))
CODE = Kind("a whole number, 0 or more", whole(0, 2**31))
EPSG = Kind("an EPSG code from 1024 to 32767", whole(1024, 32767))
COLOR = Kind("white, black, '#rrggbb' or three numbers from 0 to 1", _color)
