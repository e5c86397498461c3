"""Scripted flights of a camera over a city of blocks, for tests and benches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.streaming.demand import CityGrid

FPS = 30.0

Flight = Callable[[float], Camera]  # seconds to view


def city_grid(
    division: tuple[int, int], side: float = 1.0, height: float = 0.5, missing: tuple[int, ...] = ()
) -> CityGrid:
    """Returns a city of square blocks whose low corner lies at the origin."""
    exists = np.ones(division[0] * division[1], dtype=bool)
    exists[list(missing)] = False
    aabb = np.array([[0.0, 0.0, 0.0], [division[0] * side, division[1] * side, height]])
    return CityGrid(aabb, division, exists, texel=side / 8)


@dataclass(frozen=True)
class Pilot:
    """Cameras over a city, placed in blocks; heading 0 looks east, pi / 2 north."""

    grid: CityGrid
    size: tuple[int, int] = (64, 36)
    fov: float = 50.0

    def ahead(
        self, column: float, row: float, heading: float = 0.0, height: float = 0.6, drop: float = 1.0
    ) -> Camera:
        """Looks ahead and, by `drop` per unit of the way, down, from a height over the ground in blocks."""
        eye = self._place(column, row, height)
        side = float(self.grid.side.min())
        way = np.array([math.cos(heading), math.sin(heading), -drop]) * side
        return Camera.from_fov(look_at(eye, eye + way), *self.size, self.fov)

    def down(self, column: float, row: float, height: float = 1.5) -> Camera:
        """Looks straight down."""
        eye = self._place(column, row, height)
        return Camera.from_fov(look_at(eye, eye - [0.0, 0.0, 1.0]), *self.size, self.fov)

    def straight(self, column: float, row: float, speed: float, heading: float = 0.0) -> Flight:
        """A level flight at so many blocks per second."""
        east, north = math.cos(heading) * speed, math.sin(heading) * speed
        return lambda t: self.ahead(column + east * t, row + north * t, heading)

    def there_and_back(self, column: float, row: float, speed: float, turn: float) -> Flight:
        """Flies east, backwards again after `turn` seconds."""
        return lambda t: self.ahead(column + speed * (t if t < turn else 2 * turn - t), row)

    def teleport(self, first: tuple[float, float], second: tuple[float, float], when: float) -> Flight:
        """Flies east at one block per second; from a moment on somewhere else."""

        def at(t: float) -> Camera:
            column, row = first if t < when else second
            return self.ahead(column + t, row)

        return at

    def hover(self, column: float, row: float, reach: float, seed: int = 0) -> Flight:
        """Trembles around a place, by at most `reach` blocks; looks down."""
        shifts = np.random.default_rng(seed).uniform(-reach, reach, (4096, 2))
        return lambda t: self.down(*(shifts[round(t * FPS) % 4096] + (column, row)))

    def _place(self, column: float, row: float, height: float) -> np.ndarray:
        low, side = self.grid.aabb[0], self.grid.side
        return np.array([low[0] + column * side[0], low[1] + row * side[1], low[2] + height * side.min()])


def frames(flight: Flight, seconds: float, fps: float = FPS) -> list[tuple[float, Camera]]:
    """Returns times and views of a flight."""
    return [(number / fps, flight(number / fps)) for number in range(round(seconds * fps))]
