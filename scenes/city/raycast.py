"""Exact first hits of rays with the town's solids: rays walk through a grid of cells together.

The walk is Amanatides and Woo's ("A fast voxel traversal algorithm for ray tracing", 1987), one cell of all
rays a round. Metres.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .solids import BOX, COS, CX, CY, ELLIPSOID, FRUSTUM, HX, HY, KX, KY, N_KINDS, ROOF, SIN, Z0, Z1
from .town import CELL, Town

_TINY = 1e-12


def invert(directions: np.ndarray) -> np.ndarray:
    """Returns 1 / direction with a large number in the place of infinity."""
    return 1.0 / np.where(np.abs(directions) < _TINY, _TINY, directions)


def _hit_boxes(shape: np.ndarray, solid: np.ndarray, walk: _Walk, ray: np.ndarray) -> np.ndarray:
    cx, cy, hx, hy = (shape[column][solid] for column in (CX, CY, HX, HY))
    o, inverse = walk.o.take(ray, 1), walk.inverse.take(ray, 1)
    x = (cx - o[0]) * inverse[0]
    reach = hx * np.abs(inverse[0])
    near, far = x - reach, x + reach
    y = (cy - o[1]) * inverse[1]
    reach = hy * np.abs(inverse[1])
    near, far = np.maximum(near, y - reach), np.minimum(far, y + reach)
    a = (shape[Z0][solid] - o[2]) * inverse[2]
    b = (shape[Z1][solid] - o[2]) * inverse[2]
    near, far = np.maximum(near, np.minimum(a, b)), np.minimum(far, np.maximum(a, b))
    return np.where((near <= far) & (near > 0), near, np.inf)


def _hit_roofs(shape: np.ndarray, solid: np.ndarray, walk: _Walk, ray: np.ndarray) -> np.ndarray:
    cx, cy, hx, hy, z0, z1, cos, sin, kx, ky = (
        shape[column][solid] for column in (CX, CY, HX, HY, Z0, Z1, COS, SIN, KX, KY)
    )
    o, d = walk.o.take(ray, 1), walk.d.take(ray, 1)
    ox, oy = cos * (o[0] - cx) + sin * (o[1] - cy), cos * (o[1] - cy) - sin * (o[0] - cx)
    dx, dy = cos * d[0] + sin * d[1], cos * d[1] - sin * d[0]
    dz = d[2]
    near, far = np.full(len(solid), -np.inf), np.full(len(solid), np.inf)
    planes = (  # distance of the origin to each plane, and how fast a ray leaves it; inside is below 0
        (ox - hx, dx),
        (-ox - hx, -dx),
        (oy - hy, dy),
        (-oy - hy, -dy),
        (o[2] - z1, dz),
        (z0 - o[2], -dz),
        (o[2] - z0 - kx * (hx - ox), dz + kx * dx),
        (o[2] - z0 - kx * (hx + ox), dz - kx * dx),
        (o[2] - z0 - ky * (hy - oy), dz + ky * dy),
        (o[2] - z0 - ky * (hy + oy), dz - ky * dy),
    )
    for above, rate in planes:
        rate = np.where(np.abs(rate) < _TINY, _TINY, rate)
        t = -above / rate
        enters = rate < 0
        near = np.where(enters, np.maximum(near, t), near)
        far = np.where(enters, far, np.minimum(far, t))
    return np.where((near <= far) & (near > 0), near, np.inf)


def _hit_ellipsoids(shape: np.ndarray, solid: np.ndarray, walk: _Walk, ray: np.ndarray) -> np.ndarray:
    cx, cy, radius, z0, z1 = (shape[column][solid] for column in (CX, CY, HX, Z0, Z1))
    o, d = walk.o.take(ray, 1), walk.d.take(ray, 1)
    across, tall = 1.0 / radius, 2.0 / (z1 - z0)
    ox, oy, oz = (o[0] - cx) * across, (o[1] - cy) * across, (o[2] - 0.5 * (z0 + z1)) * tall
    dx, dy, dz = d[0] * across, d[1] * across, d[2] * tall
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1.0
    root = b * b - a * c
    t = (-b - np.sqrt(np.maximum(root, 0.0))) / a
    return np.where((root > 0) & (t > 0), t, np.inf)


def _hit_frusta(shape: np.ndarray, solid: np.ndarray, walk: _Walk, ray: np.ndarray) -> np.ndarray:
    cx, cy, lower, upper, z0, z1 = (shape[column][solid] for column in (CX, CY, HX, HY, Z0, Z1))
    o, d, inverse = walk.o.take(ray, 1), walk.d.take(ray, 1), walk.inverse[2, ray]
    ox, oy = o[0] - cx, o[1] - cy
    slope = (upper - lower) / (z1 - z0)
    radius = lower + slope * (o[2] - z0)  # of the cone at the origin's height
    rate = slope * d[2]
    a = d[0] * d[0] + d[1] * d[1] - rate * rate
    a = np.where(np.abs(a) < _TINY, _TINY, a)
    b = ox * d[0] + oy * d[1] - radius * rate
    c = ox * ox + oy * oy - radius * radius
    root = b * b - a * c
    width = np.sqrt(np.maximum(root, 0.0))
    best = np.full(len(solid), np.inf)
    for t in ((-b - width) / a, (-b + width) / a):
        z = o[2] + t * d[2]
        fits = (root > 0) & (t > 0) & (z >= z0) & (z <= z1)
        best = np.where(fits, np.minimum(best, t), best)
    for level, cap in ((z0, lower), (z1, upper)):
        t = (level - o[2]) * inverse
        x, y = ox + t * d[0], oy + t * d[1]
        fits = (t > 0) & (x * x + y * y <= cap * cap)
        best = np.where(fits, np.minimum(best, t), best)
    return best


class _Walk:
    """Rays on their way through the cells; what has ended is dropped from all arrays together."""

    def __init__(self, town: Town, rays_o: np.ndarray, rays_d: np.ndarray, limit: np.ndarray) -> None:
        self.town = town
        inverse = invert(rays_d)
        low = np.array([*town.low, town.bottom])
        high = np.array([*town.high, town.top])
        a, b = (low - rays_o) * inverse, (high - rays_o) * inverse
        start = np.maximum(np.minimum(a, b).max(axis=1), 0.0)
        end = np.minimum(np.maximum(a, b).min(axis=1), limit)
        (rays,) = np.nonzero(start < end)
        self.rays = rays
        self.o = np.ascontiguousarray(rays_o[rays].T)
        self.d = np.ascontiguousarray(rays_d[rays].T)
        self.inverse = np.ascontiguousarray(inverse[rays].T)
        self.t, self.end = start[rays], end[rays]
        if len(rays):
            ends = np.stack([self.o[:2] + self.t * self.d[:2], self.o[:2] + self.end * self.d[:2]])
            town.prepare(ends.min(axis=(0, 2)), ends.max(axis=(0, 2)))
        at = (self.o[:2] + self.t * self.d[:2] - town.low[:, None]) / CELL
        most = np.array(town.n_cells)[:, None] - 1
        self.cell = np.clip(np.floor(at).astype(np.int64), 0, most)  # [2, n]
        self.solid = np.full(len(rays), -1, np.int64)

    def keep(self, going: np.ndarray) -> None:
        """Drops the rays that have ended."""
        (rows,) = np.nonzero(going)
        self.rays, self.t, self.end = self.rays[rows], self.t[rows], self.end[rows]
        self.solid, self.cell = self.solid[rows], self.cell.take(rows, 1)
        self.o, self.d, self.inverse = (each.take(rows, 1) for each in (self.o, self.d, self.inverse))

    def exits(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns where rays leave their cells through an x and through a y side. [n] each"""
        edge = (self.cell + (self.inverse[:2] > 0)) * CELL + self.town.low[:, None]
        x, y = (edge - self.o[:2]) * self.inverse[:2]
        return x, y

    def test(self, leave: np.ndarray) -> None:
        """Shortens rays to the first solid in their cells."""
        town = self.town
        lowest = self.o[2] + self.d[2] * np.where(self.d[2] < 0, np.minimum(leave, self.end), self.t)
        cell = self.cell[1] * town.n_cells[0] + self.cell[0]
        (inside,) = np.nonzero(town.cell_top[cell] > lowest)
        cell = cell[inside]
        for kind in range(N_KINDS):
            counts = town.cell_count[kind, cell]
            total = int(counts.sum())
            if not total:
                continue
            ray = np.repeat(inside, counts)
            skip = town.cell_start[kind, cell] - (np.cumsum(counts) - counts)
            solid = town.entries[np.repeat(skip, counts) + np.arange(total)]
            t = _HITS[kind](town.shape_columns, solid, self, ray)
            (hits,) = np.nonzero(t < self.end[ray])
            hits = hits[np.argsort(-t[hits], kind="stable")]  # the nearest of a ray is written last
            self.end[ray[hits]] = t[hits]
            self.solid[ray[hits]] = solid[hits]


_Hit = Callable[[np.ndarray, np.ndarray, _Walk, np.ndarray], np.ndarray]
_HITS: dict[int, _Hit] = {
    BOX: _hit_boxes,
    ROOF: _hit_roofs,
    ELLIPSOID: _hit_ellipsoids,
    FRUSTUM: _hit_frusta,
}


def first_hit(
    town: Town, rays_o: np.ndarray, rays_d: np.ndarray, limit: np.ndarray, any_hit: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the first solid on each ray.

    Args:
        town: The town.
        rays_o: Origins, metres. [n, 3]
        rays_d: Unit directions. [n, 3]
        limit: Distance at which a ray ends. [n]
        any_hit: Whether any solid before the limit will do, as for shadows.

    Returns:
        Distances, `limit` where nothing is hit, [n], and the solids' rows in the town's tables or -1. [n]
    """
    t, solid = limit.copy(), np.full(len(limit), -1, np.int64)
    walk = _Walk(town, rays_o, rays_d, limit)
    most = np.array(town.n_cells)[:, None]
    while len(walk.rays):
        x, y = walk.exits()
        leave = np.minimum(x, y)
        walk.test(leave)
        ended = walk.end <= leave
        if any_hit:
            ended |= walk.solid >= 0
        across = x < y
        walk.cell += np.stack([across, ~across]) * np.where(walk.inverse[:2] > 0, 1, -1)
        walk.t = leave
        ended |= np.any((walk.cell < 0) | (walk.cell >= most), axis=0)
        found = ended & (walk.solid >= 0)
        t[walk.rays[found]] = walk.end[found]
        solid[walk.rays[found]] = walk.solid[found]
        if np.any(ended):
            walk.keep(~ended)
    return t, solid
