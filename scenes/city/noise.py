"""Repeatable random numbers: a hash of integers for arrays, a stream for the plan of one block."""

from __future__ import annotations

import random

import numpy as np

_MIX = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def hash_noise(*keys: np.ndarray | int) -> np.ndarray:
    """Hashes integers that broadcast together to numbers in [0, 1), with SplitMix64's finalizer."""
    with np.errstate(over="ignore"):
        state: np.ndarray = np.zeros((), np.uint64)
        for key in keys:
            state = (state + np.asarray(key).astype(np.int64).astype(np.uint64)) * _MIX[0] + _MIX[0]
            state = (state ^ (state >> np.uint64(30))) * _MIX[1]
            state = (state ^ (state >> np.uint64(27))) * _MIX[2]
            state = state ^ (state >> np.uint64(31))
    return np.asarray((state >> np.uint64(11)).astype(np.float64) * 2.0**-53)


class Dice:
    """A stream of random numbers that depends on its keys alone.

    Only `random.Random.random` is drawn from: Python promises that its sequence never changes.
    """

    def __init__(self, *keys: int | str) -> None:
        self._random = random.Random("/".join(str(key) for key in keys))

    def between(self, low: float, high: float) -> float:
        """Returns a number in [low, high)."""
        return low + (high - low) * self._random.random()

    def whole(self, low: int, high: int) -> int:
        """Returns a whole number, both ends included."""
        return low + int(self._random.random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Returns True with this probability."""
        return self._random.random() < probability

    def pick(self, items: tuple[tuple[float, float, float], ...]) -> tuple[float, float, float]:
        """Returns one of the colours."""
        return items[int(self._random.random() * len(items))]
