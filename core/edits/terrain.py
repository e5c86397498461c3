"""Terrain: a field seen from straight above, and where its ground is. Made in tiles, when asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...cuda.tables import FieldTables, RenderOptions
from .region import Point

Bounds = tuple[float, float, float, float]  # smallest x and y, largest x and y, scene units


@dataclass(frozen=True)
class TerrainWindow:
    """Rasters over a window of the terrain's lattice; float32 [n_y, n_x, ...]."""

    low: Point  # lower corner of cell (0, 0)
    side: float  # of a cell, scene units
    height: NDArray[np.float32]  # of the top surface, NaN where there is none
    ground: NDArray[np.float32]  # under everything that stands on it; finite everywhere
    features: NDArray[np.float32]  # appearance feature of the top surface [n_y, n_x, feature_dim]


class Terrain:
    """The terrain of one field, for any thread; what is returned does not depend on earlier calls."""

    def __init__(self, tables: FieldTables, options: RenderOptions) -> None:
        """Makes a terrain that holds nothing yet; `options` say how the field is sampled and masked."""
        self._tables, self._options = tables, options

    @property
    def side(self) -> float:
        """Of a cell, scene units: that of the finest plane's texels."""
        raise NotImplementedError

    def window(self, bounds: Bounds) -> TerrainWindow:
        """Returns the cells that touch a rectangle, clipped to the field's box."""
        raise NotImplementedError

    def ground_at(self, x: float, y: float) -> float:
        """Returns the height of the ground, scene units; outside of the box that of its nearest point."""
        raise NotImplementedError
