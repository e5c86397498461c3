"""Soft-edged patterns on surfaces: nothing in them is finer than a given width."""

from __future__ import annotations

import numpy as np


def inside(distance: np.ndarray, width: np.ndarray | float) -> np.ndarray:
    """Returns 1 where a signed distance is below 0, 0 above, with a ramp of `width` between."""
    return np.asarray(np.clip(0.5 - distance / width, 0.0, 1.0))


def stripes(position: np.ndarray, period: np.ndarray | float, share: float, width: np.ndarray) -> np.ndarray:
    """Returns how much of a window round a position is covered by stripes: their exact box filter.

    Args:
        position: Along the axis that the stripes divide, metres; a stripe is centred at 0. [n]
        period: Distance between stripes, metres. [n] or one.
        share: Part of the period that a stripe covers.
        width: Width of the window, metres. [n]
    """
    half = 0.5 * width / period
    middle = position / period + 0.5 * share

    def covered(x: np.ndarray) -> np.ndarray:
        whole = np.floor(x)
        return np.asarray(whole * share + np.minimum(x - whole, share))

    return np.asarray((covered(middle + half) - covered(middle - half)) / (2 * half))


def blend(base: np.ndarray, color: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Mixes colours. base [n, 3], color [n, 3] or [3], amount [n] -> [n, 3]"""
    return np.asarray(base + (color - base) * amount[:, None])


def rise(value: np.ndarray) -> np.ndarray:
    """Returns the smooth step from 0 at 0 to 1 at 1."""
    value = np.clip(value, 0.0, 1.0)
    return np.asarray(value * value * (3 - 2 * value))
