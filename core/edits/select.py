"""Selecting a building: the connected part of what rises above the local ground around a picked point."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
import shapely
from numpy.typing import NDArray

from ..errors import InputError
from .layers import Prism
from .region import Region
from .terrain import Terrain, TerrainWindow

LEAST_HEIGHT = 0.24  # of the scene's typical rise: what rises less is no building
STEP = 0.28  # of the typical rise: a jump of the roof that parts neighbours; wings differ by less
VALLEY = 0.08  # of the typical rise: a narrow dip of the roof that parts neighbours
VALLEY_WIDTH = 7  # cells: a wider one is a roof of its own
CORE = 7  # cells across: what is narrower between cuts is part of its neighbour
ENCLOSED = 0.6  # of a piece's rim along one neighbour: it stands on it
WINDOWS = (96, 192, 336)  # cells along the sides of the windows that are tried
WIDEST = 160  # cells along a side of the largest building
SIMPLIFY = 0.75  # cells by which the outline may leave the raster
RIM = 3  # cells around a building in which its ground height is read
HEADROOM = 0.25  # of the typical rise, above the roof


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
    tuning = tuning or SelectTuning()
    x0, y0, x1, y1 = terrain.bounds
    if not (x0 <= x <= x1 and y0 <= y <= y1):
        raise InputError("a building must lie in the scene's box, got a point outside; pick one inside")
    for cells in WINDOWS:
        reach = cells / 2 * terrain.side
        window = terrain.window((x - reach, y - reach, x + reach, y + reach))
        mask = _component(terrain, window, x, y, tuning)
        if not _is_cut_off(window, terrain, mask):
            if max(np.ptp(np.flatnonzero(mask.any(axis=axis))) for axis in (0, 1)) < WIDEST:
                return _prism(terrain, window, mask, tuning)
            break
    raise InputError(
        f"a building must be at most {terrain.length_text(WIDEST * terrain.side)} wide, got a larger thing; "
        "draw its outline instead"
    )


def outline_of(mask: NDArray[np.bool_], low: tuple[float, float], side: float) -> Region:
    """Returns the area of a raster's cells, exactly, along their edges. [n_y, n_x]"""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)  # runs of cells, row by row
    _, stops = np.nonzero(edges == -1)
    runs = shapely.box(starts, rows, stops, rows + 1)
    cells = shapely.union_all(runs)
    scaled = shapely.transform(cells, lambda corners: np.asarray(low) + corners * side)
    return Region.of(shapely.make_valid(scaled))


def _component(
    terrain: Terrain, window: TerrainWindow, x: float, y: float, tuning: SelectTuning
) -> NDArray[np.bool_]:
    """Returns the cells of what rises at a point, at least one. [n_y, n_x]"""
    scale = terrain.scale
    least = LEAST_HEIGHT * scale.rise if tuning.least_height is None else tuning.least_height
    step = max(STEP * scale.rise, 2 * scale.step) if tuning.step is None else tuning.step
    height = np.where(np.isnan(window.height), window.ground, window.height)
    tall = ndi.binary_opening(height - window.ground > least, np.ones((3, 3)))
    j, i = _cell(window, x, y)
    if not tall[j, i]:
        raise InputError(
            f"a building must rise by at least {terrain.length_text(least)} above the ground, got none "
            "there; pick another point, lower the height, or draw an outline"
        )
    things, _ = ndi.label(tall)
    pieces = _pieces(things == things[j, i], height, step, max(VALLEY * scale.rise, scale.step))
    return np.asarray(ndi.binary_fill_holes(pieces == pieces[j, i]))


def _cell(window: TerrainWindow, x: float, y: float) -> tuple[int, int]:
    """Returns row and column of the cell at a point, or of the nearest one."""
    n_y, n_x = window.ground.shape
    row = math.floor((y - window.low[1]) / window.side)
    column = math.floor((x - window.low[0]) / window.side)
    return min(max(row, 0), n_y - 1), min(max(column, 0), n_x - 1)


def _pieces(
    thing: NDArray[np.bool_], height: NDArray[np.float32], step: float, valley: float
) -> NDArray[np.int32]:
    """Numbers the buildings of a connected thing; 0 elsewhere. [n_y, n_x]

    It is cut where the roof jumps or dips. What is left of it and wide enough is a building; the rest goes
    to the nearest one, and what one neighbour encloses, as a tower on its base, joins it.
    """
    jump = ndi.maximum_filter(height, size=2) - ndi.minimum_filter(height, size=2) > step
    dip = ndi.grey_closing(height, size=VALLEY_WIDTH) - height > valley
    cores, n = ndi.label(ndi.binary_opening(thing & ~jump & ~dip, np.ones((CORE, CORE))))
    if n < 2:
        return thing.astype(np.int32)
    rows, columns = ndi.distance_transform_edt(cores == 0, return_distances=False, return_indices=True)
    pieces: NDArray[np.int32] = np.where(thing, cores[rows, columns], 0)
    while (joined := _enclosed(pieces)) is not None:
        pieces[pieces == joined[0]] = joined[1]
    return pieces


def _enclosed(pieces: NDArray[np.int32]) -> tuple[int, int] | None:
    """Returns the piece with most of its rim along one neighbour, and that neighbour, if it is enclosed."""
    n = int(pieces.max()) + 1
    borders = np.zeros((n, n), dtype=np.int64)
    for a, b in ((pieces[:, 1:], pieces[:, :-1]), (pieces[1:], pieces[:-1])):
        np.add.at(borders, (a.reshape(-1), b.reshape(-1)), 1)
    borders += borders.T
    np.fill_diagonal(borders, 0)
    share = borders / np.maximum(borders.sum(axis=1, keepdims=True), 1)
    share[0], share[:, 0] = 0.0, 0.0
    piece, neighbour = np.unravel_index(np.argmax(share), share.shape)
    return (int(piece), int(neighbour)) if share[piece, neighbour] > ENCLOSED else None


def _is_cut_off(window: TerrainWindow, terrain: Terrain, mask: NDArray[np.bool_]) -> bool:
    """Whether a thing touches a side of the window that is not a side of the box."""
    x0, y0, x1, y1 = terrain.bounds
    n_y, n_x = mask.shape
    high = window.low[0] + n_x * window.side, window.low[1] + n_y * window.side
    half = window.side / 2
    return bool(
        (window.low[0] > x0 + half and mask[:, 0].any())
        or (window.low[1] > y0 + half and mask[0].any())
        or (high[0] < x1 - half and mask[:, -1].any())
        or (high[1] < y1 - half and mask[-1].any())
    )


def _prism(terrain: Terrain, window: TerrainWindow, mask: NDArray[np.bool_], tuning: SelectTuning) -> Prism:
    """Returns the outline of cells with the heights of ground and roof."""
    rim = ndi.binary_dilation(mask, iterations=RIM) & ~mask
    low = float(np.median(window.ground[rim if rim.any() else mask]))
    roof = float(np.nanmax(np.where(mask, window.height, np.nan)))
    region = outline_of(mask, window.low, window.side).simplified(SIMPLIFY * window.side)
    if tuning.grow:
        region = region.grown(tuning.grow)
    if region.is_empty:
        raise InputError("a building must keep an area when its rim moves inwards, got none; move it less")
    return Prism(region, low, roof + HEADROOM * terrain.scale.rise)
