"""Ground under what stands on it: raster filters on heights seen from above, without a field in sight."""

from __future__ import annotations

import numpy as np
import scipy.ndimage as ndi
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.linalg import splu

KNOWN, OUTSIDE = -1, -2  # cells without a number among the unknown ones
GROUND_SLOPE = 0.3  # a ground may rise this much over the run without being taken for a building

Raster = NDArray[np.float32]
Mask = NDArray[np.bool_]


def filled_by_nearest(height: Raster, fallback: float) -> Raster:
    """Returns heights with every NaN replaced by the nearest finite one. [n_y, n_x]"""
    missing = np.isnan(height)
    if not missing.any():
        return height
    if missing.all():
        return np.full_like(height, fallback)
    rows, columns = ndi.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.asarray(height[rows, columns])


def opening_sizes(widest: int) -> list[int]:
    """Returns the growing windows of the filter, odd numbers of cells, up to the first beyond `widest`."""
    sizes = [3]
    while sizes[-1] <= widest:
        sizes.append(2 * sizes[-1] - 1)
    return sizes


def reach_of(widest: int) -> int:
    """Returns how many cells away `standing` still depends on what is there."""
    return sum(size - 1 for size in opening_sizes(widest)) + 2


def standing(height: Raster, side: float, widest: int, least: float, most: float) -> Mask:
    """Tells which cells hold something that stands on the ground: a progressive morphological filter.

    Openings with growing windows take away ever wider things; what an opening takes is no ground if it rose
    by more than what a slope explains (Zhang et al. 2003, doi.org/10.1109/TGRS.2003.810682).

    Args:
        height: Of the top surface, finite, scene units. [n_y, n_x]
        side: Of a cell, scene units.
        widest: Cells across the widest thing that may stand there.
        least: A rise that is noise, scene units.
        most: A rise that is never ground, scene units.
    """
    found = np.zeros(height.shape, dtype=np.bool_)
    surface, before = height, 1
    for size in opening_sizes(widest):
        opened = ndi.grey_opening(surface, size=(size, size), mode="nearest")
        allowed = min(least + GROUND_SLOPE * side * (size - before) / 2, most)
        found |= surface - opened > allowed
        surface, before = opened, size
    return np.asarray(ndi.binary_dilation(found, np.ones((3, 3))))


def harmonic_fill(values: Raster, unknown: Mask, near: Mask | None = None) -> Raster:
    """Continues values into unknown cells so that each is the mean of its four neighbours.

    Args:
        values: One or more numbers for each cell. [n_y, n_x] or [n_y, n_x, channels]
        unknown: Cells to be filled; their values are not read. At least one cell must be known. [n_y, n_x]
        near: Only unknown cells among these take part, and those that no known cell touches stay as they are;
            None: all. [n_y, n_x]

    Returns:
        The values with the unknown ones replaced; the raster's rim lets nothing through.
    """
    pieces, n = ndi.label(unknown if near is None else unknown & near)
    touched = np.zeros(n + 1, dtype=np.bool_)
    touched[pieces[ndi.binary_dilation(~unknown)]] = True
    touched[0] = False
    outside = unknown & ~touched[pieces]
    unknown = touched[pieces]
    if not unknown.any():
        return values
    n_y, n_x = unknown.shape
    number = np.where(outside, OUTSIDE, KNOWN)
    number[unknown] = np.arange(np.count_nonzero(unknown))
    y, x = np.nonzero(unknown)
    channels = values.reshape(n_y, n_x, -1)
    n_neighbours = np.zeros(len(y))
    right = np.zeros((len(y), channels.shape[2]))
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        v, u = y + dy, x + dx
        inside = (v >= 0) & (v < n_y) & (u >= 0) & (u < n_x)
        v, u = v.clip(0, n_y - 1), u.clip(0, n_x - 1)
        other = number[v, u]
        inside &= other != OUTSIDE
        n_neighbours += inside
        known = inside & (other < 0)
        right[known] += channels[v[known], u[known]]
        linked = inside & (other >= 0)
        pairs.append((np.nonzero(linked)[0], other[linked]))
    rows = np.concatenate([np.arange(len(y)), *(first for first, _ in pairs)])
    columns = np.concatenate([np.arange(len(y)), *(second for _, second in pairs)])
    data = np.concatenate([n_neighbours, -np.ones(len(rows) - len(y))])
    matrix = sparse.csc_matrix((data, (rows, columns)), shape=(len(y), len(y)))
    result = channels.copy()
    result[unknown] = splu(matrix, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(right)
    return result.reshape(values.shape)
