"""Terrain: a field seen from straight above, and where its ground is. Made in tiles, when asked for."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product

import numpy as np
import scipy.ndimage as ndi
from numpy.typing import NDArray
from torch import Tensor

from ...cuda import ops
from ...cuda.edit_tables import ColumnGrid, Columns
from ...cuda.tables import FieldTables, RenderOptions
from .ground import filled_by_nearest, harmonic_fill, opening_sizes, reach_of, standing
from .raster import texel_side
from .region import Point
from .sunlight import Light, Skyline, colors_from_above, find_suns
from .tiles import MAX_TILES, TILE, Tiles, gather

Bounds = tuple[float, float, float, float]  # smallest x and y, largest x and y, scene units
Survey = Callable[[RenderOptions, ColumnGrid], Columns]

MOST_PREPARED = MAX_TILES // 2  # tiles: room is left for what lies around them
PREPARED_REACH = 2 * math.isqrt(MOST_PREPARED)  # tiles: as many as are prepared are nearer, in any corner
MIN_CELLS = 64  # along the longer side of the box, however coarse the planes are
WIDEST = (24, 63)  # cells: limits of the widest thing that may stand on the ground
SHADOWS = 176  # cells: what is farther off casts no shadow
SAMPLES = 3  # places along a side where heights are sampled
SUN_CELLS, SUN_STRIDE = 384, 3  # cells along the window that suns are looked for in; every third is
SAMPLE_CELLS = 64  # along a side of such a place, each two texels wide


@dataclass(frozen=True)
class TerrainWindow:
    """Rasters over a window of the terrain's lattice; [n_y, n_x, ...]."""

    low: Point  # lower corner of cell (0, 0)
    side: float  # of a cell, scene units
    height: NDArray[np.float32]  # of the top surface, NaN where there is none
    ground: NDArray[np.float32]  # under everything that stands on it; finite everywhere
    features: NDArray[np.float32]  # appearance feature of the top surface [n_y, n_x, feature_dim]
    standing: NDArray[np.bool_]  # where something stands on the ground, a cell more all round, or nothing is


@dataclass(frozen=True)
class Scale:
    """How large things are, scene units; found from the field, for no file states it."""

    rise: float  # what stands on the ground is typically this high: the median of what an opening takes
    noise: float  # a smaller rise is the surface's own roughness
    widest: float  # nothing wider than this is taken away from the ground
    step: float  # between samples


@dataclass(frozen=True)
class _Ground:
    height: NDArray[np.float32]  # [n_y, n_x]
    standing: NDArray[np.bool_]  # [n_y, n_x]


class Terrain:
    """The terrain of one field, for any thread; what is returned does not depend on earlier calls."""

    def __init__(
        self,
        tables: FieldTables,
        options: RenderOptions,
        looks: Tensor | None = None,
        metres_per_unit: float | None = None,
        texel: float | None = None,
        survey: Survey | None = None,
    ) -> None:
        """Makes a terrain that holds nothing yet.

        Args:
            tables: The field.
            options: How it is sampled and masked.
            looks: Embeddings whose shadows are found, so that a patch can be without them. [n, latent_dim]
            metres_per_unit: How messages name lengths; None: in scene units.
            texel: Side of the finest texels; None: as the tables' blocks have it.
            survey: Looks at the field from above; None: `ops.columns` of the tables, which are whole then.
        """
        self._survey_field = survey or partial(ops.columns, tables)
        self._metres_per_unit = metres_per_unit
        self._tables, self._options, self._looks = tables, options, looks
        low, high = tables.aabb.double().tolist()
        self._low: tuple[float, float, float] = (low[0], low[1], low[2])
        self._high: tuple[float, float, float] = (high[0], high[1], high[2])
        extent = (self._high[0] - self._low[0], self._high[1] - self._low[1])
        self._side = min(texel_side(tables) if texel is None else texel, max(extent) / MIN_CELLS)
        # A cell counts if its centre is in the box.
        self._n_x, self._n_y = (max(1, math.floor(length / self._side + 0.5)) for length in extent)
        self._surveys = Tiles(self._survey_tile)
        self._grounds = Tiles(self._ground_tile)
        self._scale_lock, self._light_lock = threading.Lock(), threading.Lock()

    @property
    def side(self) -> float:
        """Of a cell, scene units: that of the finest plane's texels."""
        return self._side

    @property
    def bounds(self) -> Bounds:
        """Of the field's box."""
        return self._low[0], self._low[1], self._high[0], self._high[1]

    @property
    def distance_scale(self) -> float:
        """Factor on lengths where density becomes opacity."""
        return self._options.distance_scale

    def length_text(self, length: float) -> str:
        """Writes a length given in scene units for a message: in metres where they are known."""
        if self._metres_per_unit is None:
            return f"{length:.3g} scene units"
        return f"{length * self._metres_per_unit:.3g} m"

    @property
    def scale(self) -> Scale:
        """How large things are here."""
        with self._scale_lock:
            return self._scale

    def window(self, bounds: Bounds) -> TerrainWindow:
        """Returns the cells that touch a rectangle, clipped to the field's box."""
        x0, y0, x1, y1 = bounds
        columns = self._cells(x0, x1, 0, self._n_x)
        rows = self._cells(y0, y1, 1, self._n_y)
        low = (self._low[0] + columns.start * self._side, self._low[1] + rows.start * self._side)
        return TerrainWindow(
            low,
            self._side,
            height=self._heights(rows, columns),
            ground=gather(rows, columns, lambda *tile: self._grounds(*tile).height),
            features=gather(rows, columns, lambda *tile: self._surveys(*tile).features.numpy()),
            standing=gather(rows, columns, lambda *tile: self._grounds(*tile).standing),
        )

    def skyline(self, window: TerrainWindow) -> Skyline:
        """Returns what stands so near to a window that it may cast a shadow into it."""
        n_y, n_x = window.height.shape
        first = [round((window.low[axis] - self._low[axis]) / self._side) for axis in (0, 1)]
        spans = [
            slice(max(start - SHADOWS, 0), min(start + n + SHADOWS, most))
            for start, n, most in zip(first, (n_x, n_y), (self._n_x, self._n_y), strict=True)
        ]
        height = self._heights(spans[1], spans[0])
        column, row = (start - span.start for start, span in zip(first, spans, strict=True))
        inner = (slice(row, row + n_y), slice(column, column + n_x))
        return Skyline(np.where(np.isnan(height), np.float32(-np.inf), height), inner)

    @property
    def has_looks(self) -> bool:
        """Whether there are appearances that light is looked for in."""
        return self._looks is not None

    @property
    def light(self) -> Light | None:
        """How the field is lit; None where no shadow is known."""
        with self._light_lock:
            return self._light

    def preparations(self, x: float, y: float) -> Iterator[Callable[[], object]]:
        """Yields short pieces of work after which a window near a point and the light are there at once."""
        yield lambda: self.scale
        columns, rows = (-(-n // TILE) for n in (self._n_x, self._n_y))
        middle = ((y - self._low[1]) / self._side / TILE - 0.5, (x - self._low[0]) / self._side / TILE - 0.5)
        near = [
            range(max(math.floor(at) - PREPARED_REACH, 0), min(math.ceil(at) + PREPARED_REACH + 1, n))
            for at, n in zip(middle, (rows, columns), strict=True)
        ]
        nearest = sorted(product(*near), key=lambda tile: math.dist(tile, middle))[:MOST_PREPARED]
        for kind in (self._surveys, self._grounds):
            for tile in nearest:
                yield partial(kind, *tile)
        yield lambda: self.light

    def ground_at(self, x: float, y: float) -> float:
        """Returns the height of the ground, scene units; outside of the box that of its nearest point."""
        x = min(max(x, self._low[0]), self._high[0])
        y = min(max(y, self._low[1]), self._high[1])
        window = self.window((x - self._side, y - self._side, x + self._side, y + self._side))
        u = (x - window.low[0]) / self._side - 0.5
        v = (y - window.low[1]) / self._side - 0.5
        n_y, n_x = window.ground.shape
        i, j = (int(min(max(math.floor(at), 0), n - 1)) for at, n in ((u, n_x), (v, n_y)))
        s, t = min(max(u - i, 0.0), 1.0), min(max(v - j, 0.0), 1.0)
        corners = window.ground[np.ix_((j, min(j + 1, n_y - 1)), (i, min(i + 1, n_x - 1)))].astype(float)
        return float(np.array([1 - t, t]) @ corners @ np.array([1 - s, s]))

    def _cells(self, first: float, last: float, axis: int, n: int) -> slice:
        """Returns the cells that touch an interval, at least one."""
        start = math.floor((first - self._low[axis]) / self._side)
        stop = math.ceil((last - self._low[axis]) / self._side)
        start = min(max(start, 0), n - 1)
        return slice(start, min(max(stop, start + 1), n))

    @cached_property
    def _scale(self) -> Scale:
        """Samples heights at a few places and asks how much an opening takes there."""
        step = float(self._options.step)
        box = self._high[2] - self._low[2]
        widest = min(max(round(box / 2 / self._side), WIDEST[0]), WIDEST[1]) * self._side
        noise = 2 * step
        rises = [self._rises(place, widest) for place in self._places()]
        found = np.concatenate([rise[rise > 2 * noise] for rise in rises])
        rise = float(np.median(found)) if len(found) else box / 8
        return Scale(rise, max(noise, rise / 8), widest, step)

    @cached_property
    def _light(self) -> Light | None:
        """Looks for suns in the middle of the field."""
        if self._looks is None:
            return None
        x, y = ((self._low[axis] + self._high[axis]) / 2 for axis in (0, 1))
        reach = SUN_CELLS / 2 * self._side
        window = self.window((x - reach, y - reach, x + reach, y + reach))
        thin = (slice(None, None, SUN_STRIDE), slice(None, None, SUN_STRIDE))
        height = np.where(np.isnan(window.height), window.ground, window.height)[thin]
        ground = ~window.standing[thin]
        colors = colors_from_above(self._tables, window.features[thin][ground], self._looks)
        suns = find_suns(height, SUN_STRIDE * self._side, ground, colors)
        return Light(self._tables, self._looks, suns) if any(suns) else None

    def _places(self) -> list[ColumnGrid]:
        """Returns windows spread over the box."""
        grids = []
        for axis_places in np.ndindex(SAMPLES, SAMPLES):
            low, size = [], []
            for axis, (place, n) in enumerate(zip(axis_places, (self._n_x, self._n_y), strict=True)):
                cells = max(1, min(n // 2 // SAMPLES, SAMPLE_CELLS))
                middle = (place + 0.5) / SAMPLES * n
                low.append(self._low[axis] + (middle - cells) * self._side)
                size.append(cells)
            grids.append(self._grid((low[0], low[1]), 2 * self._side, size[0], size[1]))
        return grids

    def _rises(self, grid: ColumnGrid, widest: float) -> NDArray[np.float32]:
        """Returns how far a place's surface rises above its opening. [n_y, n_x]"""
        height = filled_by_nearest(self._survey(grid).height.numpy(), self._low[2])
        surface = height
        for size in opening_sizes(round(widest / grid.side)):
            surface = ndi.grey_opening(surface, size=(size, size), mode="nearest")
        return np.asarray(height - surface)

    def _grid(self, low: Point, side: float, n_x: int, n_y: int) -> ColumnGrid:
        return ColumnGrid(low, side, n_x, n_y, self._low[2], self._high[2], float(self._options.step))

    def _survey(self, grid: ColumnGrid) -> Columns:
        return self._survey_field(self._options, grid)

    def _heights(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        return gather(rows, columns, lambda *tile: self._surveys(*tile).height.numpy())

    def _survey_tile(self, row: int, column: int) -> Columns:
        low = (self._low[0] + column * TILE * self._side, self._low[1] + row * TILE * self._side)
        n_x, n_y = min(TILE, self._n_x - column * TILE), min(TILE, self._n_y - row * TILE)
        return self._survey(self._grid(low, self._side, n_x, n_y))

    def _ground_tile(self, row: int, column: int) -> _Ground:
        """Finds the ground of a tile from all that lies as near as the filter reaches."""
        scale = self.scale
        widest = round(scale.widest / self._side)
        margin = reach_of(widest)
        rows = slice(max(row * TILE - margin, 0), min((row + 1) * TILE + margin, self._n_y))
        columns = slice(max(column * TILE - margin, 0), min((column + 1) * TILE + margin, self._n_x))
        seen = self._heights(rows, columns)
        height = filled_by_nearest(seen, self._low[2])
        stands = standing(height, self._side, widest, scale.noise, scale.rise / 2) | np.isnan(seen)
        ground = height if stands.all() else harmonic_fill(height, stands)
        inner = (
            slice(row * TILE - rows.start, min((row + 1) * TILE, self._n_y) - rows.start),
            slice(column * TILE - columns.start, min((column + 1) * TILE, self._n_x) - columns.start),
        )
        return _Ground(ground[inner].copy(), stands[inner].copy())
