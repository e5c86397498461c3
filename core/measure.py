"""Measurements from picked points, with how sure the depth along each ray is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

Point3 = tuple[float, float, float]


class MeasureKind(str, Enum):
    """What is measured."""

    DISTANCE = "distance"  # between two points
    HEIGHT = "height"  # of the second point over the first, along the vertical
    POLYLINE = "polyline"  # length of the way through all points
    AREA = "area"  # of the polygon through all points, in the plane that fits them best


@dataclass(frozen=True)
class Measurement:
    """One measurement, kept as an annotation of the scene."""

    kind: MeasureKind
    points: tuple[Point3, ...]  # scene units
    spreads: tuple[float, ...] = ()  # of depth along each ray, one sigma, scene units; (): not known
    name: str = ""
