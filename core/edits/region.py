"""Region: an area of the ground plane, as outlines. Shapely does the geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import MultiPolygon, Polygon, box

from ..errors import InputError

Point = tuple[float, float]
MAX_VERTICES = 20_000  # of a region; keeps a hostile file from exhausting the memory


@dataclass(frozen=True)
class Region:
    """An area in the plane, scene units: polygons, each an outline and the outlines of its holes.

    Outlines do not repeat their first vertex. Two regions are equal if their vertices are.
    """

    polygons: tuple[tuple[tuple[Point, ...], ...], ...] = ()

    @classmethod
    def rectangle(cls, x0: float, y0: float, x1: float, y1: float) -> Region:
        """Returns an axis-parallel rectangle, whatever the order of its corners."""
        return cls.of(box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)))

    @classmethod
    def polygon(cls, outline: NDArray[np.float64] | tuple[Point, ...]) -> Region:
        """Returns the inside of an outline; one that crosses itself is mended.

        Raises:
            InputError: There are fewer than three vertices, or they enclose nothing.
        """
        vertices = np.asarray(outline, dtype=np.float64).reshape(-1, 2)
        if len(vertices) < 3 or not np.isfinite(vertices).all():
            raise InputError(f"a polygon must have at least three finite corners, got {len(vertices)}")
        region = cls.of(shapely.make_valid(Polygon(vertices)))
        if region.is_empty:
            raise InputError("a polygon must enclose an area, got corners on a line")
        return region

    @classmethod
    def of(cls, shape: shapely.Geometry) -> Region:
        """Returns the areas of any shapely geometry; points and lines in it are dropped."""
        parts = list(getattr(shape, "geoms", [shape]))
        polygons: list[tuple[tuple[Point, ...], ...]] = []
        for part in parts:
            if isinstance(part, MultiPolygon):
                polygons += cls.of(part).polygons
            elif isinstance(part, Polygon) and not part.is_empty:
                rings = [part.exterior, *part.interiors]
                polygons.append(tuple(tuple((float(x), float(y)) for x, y in r.coords[:-1]) for r in rings))
        return cls(tuple(polygons))

    @cached_property
    def shape(self) -> MultiPolygon:
        """The same as a shapely geometry."""
        return MultiPolygon([(rings[0], list(rings[1:])) for rings in self.polygons])

    @property
    def is_empty(self) -> bool:
        """Whether it has no area."""
        return not self.polygons

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Smallest x and y, largest x and y."""
        x0, y0, x1, y1 = self.shape.bounds
        return float(x0), float(y0), float(x1), float(y1)

    @property
    def center(self) -> Point:
        """Middle of the bounds."""
        x0, y0, x1, y1 = self.bounds
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def area(self) -> float:
        """Area, square scene units."""
        return float(self.shape.area)

    @property
    def n_vertices(self) -> int:
        """Corners of all outlines."""
        return sum(len(ring) for rings in self.polygons for ring in rings)

    def union(self, other: Region) -> Region:
        """Returns what lies in either."""
        return Region.of(self.shape.union(other.shape))

    def difference(self, other: Region) -> Region:
        """Returns what lies in this and not in the other."""
        return Region.of(self.shape.difference(other.shape))

    def grown(self, distance: float) -> Region:
        """Returns the region with its rim moved outwards, or inwards if negative, corners kept sharp."""
        return Region.of(self.shape.buffer(distance, join_style="mitre", mitre_limit=2.0))

    def simplified(self, tolerance: float) -> Region:
        """Returns the region with fewer corners, nowhere farther off than the tolerance."""
        return Region.of(self.shape.simplify(tolerance))

    def contains(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether points lie inside, for arrays of any one shape."""
        inside: NDArray[np.bool_] = shapely.contains_xy(self.shape, x, y)
        return inside

    def moved(self, vertex: tuple[int, int, int], to: Point) -> Region:
        """Returns the region with one corner (polygon, ring, number) elsewhere, mended if need be."""
        rings = [[list(ring) for ring in polygon] for polygon in self.polygons]
        polygon, ring, number = vertex
        rings[polygon][ring][number] = to
        shape = MultiPolygon([(parts[0], parts[1:]) for parts in rings])
        return Region.of(shapely.make_valid(shape))
