"""Tiles: parts of a large raster that are made when first asked for, by whichever thread asks first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)
V = TypeVar("V")

TILE = 128  # cells along the side of a tile
MAX_TILES = 96  # tiles of a kind that are kept, the last used ones; 96 surveys hold about 180 MB


class Tiles(Generic[V]):
    """What there is of each tile. A thread waits for no tile but the one that it asks for."""

    def __init__(self, make: Callable[[int, int], V]) -> None:
        """`make` returns a tile by row and column; it may ask for tiles of other kinds."""
        self._make = make
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Future[V]] = OrderedDict()

    def __call__(self, row: int, column: int) -> V:
        """Returns a tile; made here, or waited for where another thread makes it."""
        key = (row, column)
        with self._lock:
            tile = self._kept.get(key)
            is_new = tile is None
            if tile is None:
                tile = self._kept[key] = Future()
                if len(self._kept) > MAX_TILES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
        if is_new:
            try:
                tile.set_result(self._make(row, column))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(key, None)
                tile.set_exception(error)
                raise
        return tile.result()


def gather(rows: slice, columns: slice, read: Callable[[int, int], NDArray[T]]) -> NDArray[T]:
    """Puts a window together from the tiles that it touches; `read` returns a tile by row and column."""
    bands = []
    for row in range(rows.start // TILE, -(-rows.stop // TILE)):
        tiles = []
        for column in range(columns.start // TILE, -(-columns.stop // TILE)):
            tile = read(row, column)
            tiles.append(tile[_within(rows, row), _within(columns, column)])
        bands.append(np.concatenate(tiles, axis=1))
    return np.concatenate(bands)


def _within(cells: slice, tile: int) -> slice:
    """Returns the part of a tile that lies in an interval of cells, counted from the tile's first."""
    return slice(max(cells.start - tile * TILE, 0), cells.stop - tile * TILE)
