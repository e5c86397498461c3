"""Measurements from picked points, with how sure the depth along each ray is.

A point p_i was picked on a ray of the unit direction u_i; its distance along the ray is known to s_i, one
standard deviation, and the errors of different rays do not depend on each other. To the first order

    sigma^2 = sum_i (s_i  df/dp_i . u_i)^2

for a value f(p_1, ..., p_n). The slope is taken over the very step that matters, s_i, to both sides, so
that it also says something where f has a kink, as the distance of two points that coincide. Where u_i is not
known, the error counts on all axes, which is the largest that any direction could make it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import shapely
from numpy.typing import NDArray

from .errors import InputError

Point3 = tuple[float, float, float]
Points = NDArray[np.float64]  # [n, 3]


class MeasureKind(str, Enum):
    """What is measured."""

    DISTANCE = "distance"  # between two points
    HEIGHT = "height"  # of the second point over the first, along the vertical
    POLYLINE = "polyline"  # length of the way through all points
    AREA = "area"  # of the polygon through all points, in the plane that fits them best


N_POINTS = {  # fewest and most points that a measurement of a kind has
    MeasureKind.DISTANCE: (2, 2),
    MeasureKind.HEIGHT: (2, 2),
    MeasureKind.POLYLINE: (2, None),
    MeasureKind.AREA: (3, None),
}


@dataclass(frozen=True)
class Measurement:
    """One measurement, kept as an annotation of the scene."""

    kind: MeasureKind
    points: tuple[Point3, ...]  # scene units
    spreads: tuple[float, ...] = ()  # of depth along each ray, one sigma, scene units; (): not known
    name: str = ""
    rays: tuple[Point3, ...] = ()  # unit direction of each ray; (): not known


@dataclass(frozen=True)
class Measured:
    """What a measurement says, scene units; those of an area squared."""

    value: float
    sigma: float | None  # one standard deviation; None: not known
    horizontal: float | None = None  # the same as seen from straight above; None for a height


def measure(measurement: Measurement) -> Measured:
    """Returns the value of a measurement.

    Raises:
        InputError: It has too few or too many points, they are not finite, or do not fit the spreads.
    """
    _check(measurement)
    value = _VALUES[measurement.kind]
    points = np.array(measurement.points, dtype=np.float64)
    horizontal = None
    if measurement.kind is not MeasureKind.HEIGHT:
        horizontal = value(points * (1.0, 1.0, 0.0))
    return Measured(value(points), _sigma(measurement, points, value), horizontal)


def _sigma(measurement: Measurement, points: Points, value: Callable[[Points], float]) -> float | None:
    if not measurement.spreads:
        return None
    middle, variance = value(points), 0.0
    for number, step in _steps(measurement):
        changes = []
        for sign in (1, -1):
            moved = points.copy()
            moved[number] += sign * step
            changes.append(value(moved) - middle)
        variance += (changes[0] ** 2 + changes[1] ** 2) / 2
    return math.sqrt(variance)


def _steps(measurement: Measurement) -> Iterator[tuple[int, Points]]:
    """Yields the number of a point and how far one sigma moves it. [3]"""
    for number, spread in enumerate(measurement.spreads):
        directions = np.array([measurement.rays[number]]) if measurement.rays else np.eye(3)
        for direction in directions:
            yield number, spread * direction


def _distance(points: Points) -> float:
    """Returns the length of the way through all points."""
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())


def _height(points: Points) -> float:
    return float(points[1, 2] - points[0, 2])


def _area(points: Points) -> float:
    """Returns what a polygon encloses in the plane that fits its corners best; it may cross itself."""
    centred = points - points.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2]
    ring = shapely.Polygon(centred @ axes[:2].T)
    return float(shapely.make_valid(ring).area)


_VALUES: dict[MeasureKind, Callable[[Points], float]] = {
    MeasureKind.DISTANCE: _distance,
    MeasureKind.HEIGHT: _height,
    MeasureKind.POLYLINE: _distance,
    MeasureKind.AREA: _area,
}


def _check(measurement: Measurement) -> None:
    count = len(measurement.points)
    fewest, most = N_POINTS[measurement.kind]
    if count < fewest or (most is not None and count > most):
        wanted = f"{fewest} points" if most == fewest else f"at least {fewest} points"
        raise InputError(f"a measurement of kind {measurement.kind.value} must have {wanted}, got {count}")
    given = np.array(measurement.points, dtype=np.float64)
    if given.shape != (count, 3) or not np.isfinite(given).all():
        raise InputError("the points of a measurement must be finite x, y, z")
    for name, values in (("spreads", measurement.spreads), ("rays", measurement.rays)):
        if values and (len(values) != count or not np.isfinite(values).all()):
            raise InputError(f"{name} of a measurement must be finite, one for each of its {count} points")
    if min(measurement.spreads, default=0.0) < 0:
        raise InputError("spreads of a measurement must be 0 or more")
