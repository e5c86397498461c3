"""Which edit layer owns a place, for the picture mode that shows the edits."""

from __future__ import annotations

import numpy as np

from ..core.edits.layers import EVERYWHERE, Hide, Layer, Prism, Remove, Stack
from .handles import prisms_of
from .state import UnitRatios

SLACK = 0.05  # shares of a prism's height that the surface of its ground may lie below it


def owners(layers: Stack, x: np.ndarray, y: np.ndarray, z: np.ndarray, ratios: UnitRatios = ()) -> np.ndarray:
    """Returns the number of the uppermost enabled layer that places lie in, -1 for none.

    Args:
        layers: The stack.
        x: Scene units, of any one shape; that of y and z, too.
        y: As x.
        z: As x.
        ratios: Of the scenes that copies come from.
    """
    owner = np.full(x.shape, -1, np.int64)
    for number, layer in enumerate(layers):
        if layer.enabled:
            for prism in _shown(layer, ratios):
                owner[_inside(prism, x, y, z)] = number
    return owner


def _shown(layer: Layer, ratios: UnitRatios) -> list[Prism]:
    """Returns where a layer shows: what it takes away also on the ground."""
    prisms = prisms_of(layer, ratios)
    return [Prism(prism.region) for prism in prisms] if isinstance(layer, Remove | Hide) else prisms


def _inside(prism: Prism, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    inside = np.zeros(x.shape, bool)
    if prism.region.is_empty:
        return inside
    x0, y0, x1, y1 = prism.region.bounds
    height = prism.high - prism.low
    low = prism.low - SLACK * height if height < EVERYWHERE else prism.low
    near = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1) & (z >= low) & (z <= prism.high)
    inside[near] = prism.region.contains(x[near].astype(np.float64), y[near].astype(np.float64))
    return inside
