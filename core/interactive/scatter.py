"""In which order the pixels of a keyframe are rendered, and what the first ones tell the others.

Every sixteenth pixel comes first. Their rays begin at the camera, so they meet what no keyframe has seen:
things that come into view before others that are known, or that have been built there. The other rays begin
before the surface that is expected, but not behind what rays beside them have met.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...cuda.tables import TILE
from ...cuda.warp_tables import FAR

CELL = 4  # pixels along the side of a cell, of which one is a probe
STAGGER = np.array([1, 3, 0, 2])  # its place, by the cell's row and column: thin things are met somewhere
GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Scatter:
    """The pixels of a picture in the order of their rendering."""

    pixels: np.ndarray  # int32 [n] row * width + column, probes first
    n_probes: int
    cells: tuple[int, int]  # rows and columns of cells
    cell: np.ndarray  # int32 [n] cell of each pixel, row * columns + column

    def before(self, met: np.ndarray, margin: float) -> np.ndarray:
        """Returns z-depths before what the probes have met in the cell of each pixel and in those round it.

        Args:
            met: z-depths that the probes have met. float32 [n_probes]
            margin: How far before, scene units.

        Returns:
            Depths of all pixels, in this order. float32 [n]
        """
        rows, columns = self.cells
        low = np.full((rows + 2, columns + 2), FAR, dtype=np.float32)
        row, column = np.divmod(self.cell[: self.n_probes], columns)
        low[row + 1, column + 1] = met
        low = np.minimum(np.minimum(low[:-2], low[1:-1]), low[2:])
        low = np.minimum(np.minimum(low[:, :-2], low[:, 1:-1]), low[:, 2:])
        depths: np.ndarray = np.maximum(low.reshape(-1) - np.float32(margin), 0)[self.cell]
        return depths


@lru_cache(maxsize=4)
def scattered(width: int, height: int) -> Scatter:
    """Returns the order for a picture: probes, then all else tile by tile, neighbouring tiles far apart.

    What comes early says something of the whole picture, and tiles of sky and of houses take turns, so that
    equal numbers of rays cost about the same.
    """
    columns, rows = -(-width // TILE), -(-height // TILE)
    n = columns * rows
    step = next(step for step in range(round(GOLDEN * n), 2 * n + 2) if math.gcd(step, n) == 1)
    tiles = np.arange(n, dtype=np.int64) * step % n
    inside = np.arange(TILE)
    row = np.broadcast_to((tiles // columns * TILE)[:, None, None] + inside[:, None], (n, TILE, TILE))
    column = np.broadcast_to((tiles % columns * TILE)[:, None, None] + inside, (n, TILE, TILE))
    is_pixel = (row < height) & (column < width)
    row, column = row[is_pixel], column[is_pixel]
    cell_row, cell_column = row // CELL, column // CELL
    is_probe = (row % CELL == STAGGER[cell_column % CELL]) & (column % CELL == STAGGER[cell_row % CELL])
    order = np.argsort(~is_probe, kind="stable")
    cells = -(-height // CELL), -(-width // CELL)
    pixels = (row * width + column)[order].astype(np.int32)
    cell = (cell_row * cells[1] + cell_column)[order].astype(np.int32)
    for array in (pixels, cell):
        array.flags.writeable = False
    return Scatter(pixels, int(is_probe.sum()), cells, cell)
