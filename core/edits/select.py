"""Selecting a building: the connected part of what rises above the local ground around a picked point."""

from __future__ import annotations

from dataclasses import dataclass

from .layers import Prism
from .terrain import Terrain


@dataclass(frozen=True)
class SelectTuning:
    """How a building is told from its surroundings; None: found from the scene."""

    least_height: float | None = None  # above the ground, scene units
    step: float | None = None  # a jump of the roof that parts neighbours, scene units
    grow: float = 0.0  # the rim moves outwards by this, scene units


def select_building(terrain: Terrain, x: float, y: float, tuning: SelectTuning | None = None) -> Prism:
    """Returns the building at a point: its outline, the ground around it, and a height just above its roof.

    Raises:
        InputError: Nothing rises there, or what does is too large for a building.
    """
    raise NotImplementedError
