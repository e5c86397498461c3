"""What panels say of prisms and layers: sizes, areas, numbers of copies."""

from __future__ import annotations

import math
from dataclasses import replace

from ...core.edits.layers import Copy, Layer, Prism, ReplaceBlock
from ..state import SceneFacts
from ..units import Units, figures


def drawn_prism(prism: Prism, scene: SceneFacts) -> Prism:
    """Returns a prism with the scene's limits where it has none of its own."""
    low = prism.low if math.isfinite(prism.low) else scene.aabb[0][2]
    high = prism.high if math.isfinite(prism.high) else scene.aabb[1][2]
    return replace(prism, low=low, high=high)


def size_text(prism: Prism, units: Units) -> str:
    """Writes length, width and height of a prism: the sides of the narrowest rectangle around it."""
    width, length = sorted(sides_of(prism))
    sides = (length, width, prism.high - prism.low)
    return units.with_symbol(" × ".join(figures(side * units.factor) for side in sides))


def area_text(prism: Prism, units: Units) -> str:
    """Writes the area of a prism's outline."""
    area = figures(prism.region.area * units.factor**2)
    return f"{area} {units.symbol}²" if units.symbol else area


def sides_of(prism: Prism) -> tuple[float, float]:
    """Returns the sides of the narrowest rectangle around a prism's outline, scene units."""
    ring = prism.region.shape.minimum_rotated_rectangle.exterior.coords
    (x0, y0), (x1, y1), (x2, y2) = ring[0], ring[1], ring[2]
    return math.hypot(x1 - x0, y1 - y0), math.hypot(x2 - x1, y2 - y1)


def fact_of(layer: Layer, units: Units) -> str:
    """Says the most telling thing of a layer: its copies, file or area."""
    if isinstance(layer, Copy):
        return f"{len(layer.placements)} cop{'y' if len(layer.placements) == 1 else 'ies'}"
    if isinstance(layer, ReplaceBlock):
        return f"block {layer.block}"
    return area_text(layer.prism, units)
