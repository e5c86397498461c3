"""Solid bodies that the town is made of, as arrays.

Four kinds are enough: boxes along the axes, roofs (turned boxes under sloping planes), ellipsoids, and frusta
of cones.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

BOX, ROOF, ELLIPSOID, FRUSTUM = range(4)
N_KINDS = 4
STEEP = 1e4  # slope of a roof's side that is a wall

# Columns of `Solids.shape`
CX, CY, HX, HY, Z0, Z1, COS, SIN, KX, KY = range(10)
# Columns of `Solids.paint`; the last three columns of either colour follow its first
STYLE, COLOR, ACCENT, BASE, FLOOR, BAY, PHASE = 0, 1, 4, 7, 8, 9, 10
N_SHAPE, N_PAINT = 10, 11

# Styles of a surface
PLAIN, FACADE, SHOPS, GLASS, TILES, FOLIAGE, CONIFER, BANDED, DECK = range(9)

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Paint:
    """What a solid's surface looks like; colours as sRGB in [0, 1]."""

    style: int
    color: Color
    accent: Color = (0.5, 0.5, 0.5)  # of upward faces, ledges or the second band
    base: float = 0.0  # height at which floors are counted from, metres
    floor: float = 3.3  # height of a floor, metres
    bay: float = 3.6  # width of a window bay, metres
    phase: float = 0.0  # own random number in [0, 1)


@dataclass(frozen=True)
class Solids:
    """A number of solids.

    A roof stands on the rectangle |x| <= hx, |y| <= hy of its own turned axes, between z0 and z1, below the
    planes z0 + kx (hx - |x|) and z0 + ky (hy - |y|). An ellipsoid has the radius hx and fills z0 to z1. A
    frustum has the radius hx at z0 and hy at z1.
    """

    kind: np.ndarray  # int8 [n]
    shape: np.ndarray  # float64 [n, 10], metres
    paint: np.ndarray  # float64 [n, 11]
    building: np.ndarray  # int32 [n], number of the building, -1 for everything else
    origin: np.ndarray  # int32 [n], number that chance on a surface hangs on: of a copy, its source's

    def __len__(self) -> int:
        return len(self.kind)

    def bounds(self) -> np.ndarray:
        """Returns the lowest and highest x and y of each solid. [n, 4] as x0, y0, x1, y1"""
        shape = self.shape
        hx = np.where(self.kind == FRUSTUM, np.maximum(shape[:, HX], shape[:, HY]), shape[:, HX])
        hy = np.where(self.kind >= ELLIPSOID, hx, shape[:, HY])
        ax = np.abs(shape[:, COS]) * hx + np.abs(shape[:, SIN]) * hy
        ay = np.abs(shape[:, SIN]) * hx + np.abs(shape[:, COS]) * hy
        x, y = shape[:, CX], shape[:, CY]
        return np.stack([x - ax, y - ay, x + ax, y + ay], axis=1)

    def take(self, rows: np.ndarray) -> Solids:
        """Returns some of the solids."""
        return Solids(
            self.kind[rows], self.shape[rows], self.paint[rows], self.building[rows], self.origin[rows]
        )

    def moved(self, pivot: np.ndarray, to: np.ndarray, angle: float, building: int) -> Solids:
        """Returns a copy that is turned by `angle` radians about the vertical through `pivot`, then moved.

        Args:
            pivot: Point that is moved to `to`. [3]
            to: Where it comes to lie. [3]
            angle: Counter-clockwise, radians.
            building: Number of the building that the copy belongs to.
        """
        cos, sin = math.cos(angle), math.sin(angle)
        kind, shape, paint = self.kind.copy(), self.shape.copy(), self.paint.copy()
        x, y = shape[:, CX] - pivot[0], shape[:, CY] - pivot[1]
        shape[:, CX], shape[:, CY] = to[0] + cos * x - sin * y, to[1] + sin * x + cos * y
        old_cos, old_sin = shape[:, COS].copy(), shape[:, SIN].copy()
        shape[:, COS], shape[:, SIN] = cos * old_cos - sin * old_sin, sin * old_cos + cos * old_sin
        shape[:, [Z0, Z1]] += to[2] - pivot[2]
        paint[:, BASE] += to[2] - pivot[2]
        if angle != 0.0:
            kind[kind == BOX] = ROOF  # a turned box no longer lies along the axes
        return Solids(kind, shape, paint, np.full(len(self), building, np.int32), self.origin)


def join(parts: Iterable[Solids]) -> Solids:
    """Returns all solids of several, in order."""
    parts = [part for part in parts if len(part)] or [SolidList().solids()]
    return Solids(
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.shape for part in parts]),
        np.concatenate([part.paint for part in parts]),
        np.concatenate([part.building for part in parts]),
        np.concatenate([part.origin for part in parts]),
    )


@dataclass
class SolidList:
    """Solids while they are being put together."""

    building: int = -1
    _kind: list[int] = field(default_factory=list)
    _shape: list[tuple[float, ...]] = field(default_factory=list)
    _paint: list[tuple[float, ...]] = field(default_factory=list)

    def _add(self, kind: int, shape: tuple[float, ...], paint: Paint) -> None:
        self._kind.append(kind)
        self._shape.append(shape)
        self._paint.append(
            (float(paint.style), *paint.color, *paint.accent, paint.base, paint.floor, paint.bay, paint.phase)
        )

    def box(self, rect: tuple[float, float, float, float], z: tuple[float, float], paint: Paint) -> None:
        """Adds a box on the rectangle x0, y0, x1, y1 between two heights."""
        x0, y0, x1, y1 = rect
        center = ((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)
        self._add(BOX, (*center, *z, 1.0, 0.0, STEEP, STEEP), paint)

    def roof(
        self,
        rect: tuple[float, float, float, float],
        z: tuple[float, float],
        slopes: tuple[float, float],
        paint: Paint,
    ) -> None:
        """Adds a roof on the rectangle, from the eaves to its cap, with the slopes of its x and y sides."""
        x0, y0, x1, y1 = rect
        center = ((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2)
        self._add(ROOF, (*center, *z, 1.0, 0.0, *slopes), paint)

    def ellipsoid(self, x: float, y: float, z: tuple[float, float], radius: float, paint: Paint) -> None:
        """Adds an ellipsoid of revolution between two heights."""
        self._add(ELLIPSOID, (x, y, radius, radius, *z, 1.0, 0.0, 0.0, 0.0), paint)

    def frustum(
        self, x: float, y: float, z: tuple[float, float], radii: tuple[float, float], paint: Paint
    ) -> None:
        """Adds a frustum of a cone with its lower and upper radius."""
        self._add(FRUSTUM, (x, y, *radii, *z, 1.0, 0.0, 0.0, 0.0), paint)

    def solids(self) -> Solids:
        """Returns them as arrays."""
        number = np.full(len(self._kind), self.building, np.int32)
        return Solids(
            np.array(self._kind, np.int8),
            np.array(self._shape, np.float64).reshape(-1, N_SHAPE),
            np.array(self._paint, np.float64).reshape(-1, N_PAINT),
            number,
            number,
        )
