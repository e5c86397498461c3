"""Shadows that are learnt into a field: where they fall in each appearance, and ground without them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.ndimage as ndi
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ...cuda import ops
from ...cuda.tables import FieldTables
from .ground import Mask, Raster

if TYPE_CHECKING:
    from .terrain import TerrainWindow

AZIMUTHS = 24  # directions that are tried first
ELEVATIONS = tuple(math.tan(math.radians(angle)) for angle in (12, 18, 25, 33, 42, 52, 63))
ROUNDS = 3  # of ever finer tries around the best
SURE = 0.42  # correlation of darkness and shadow from which a sun is believed
DARKEST = 0.02  # brightness below which nothing is told apart
EDGE = 2  # cells by which the rim of a learnt shadow is blurred
MOST_LOOKS = 12  # appearances that shadows are looked for in
LENDERS = 1200  # cells that may lend their features
SIMILAR = 3  # of them whose mean is taken


@dataclass(frozen=True)
class Sun:
    """Where the light comes from."""

    azimuth: float  # of the way to the sun, radians from x towards y
    slope: float  # tangent of its elevation


def shadows(height: Raster, side: float, sun: Sun) -> Mask:
    """Tells which cells of a surface the sun does not reach; what is outside casts no shadow. [n_y, n_x]"""
    x, y = math.cos(sun.azimuth), math.sin(sun.azimuth)
    if abs(y) > abs(x):
        return shadows(height.T, side, Sun(math.pi / 2 - sun.azimuth, sun.slope)).T
    if x < 0:
        return shadows(height[:, ::-1], side, Sun(math.pi - sun.azimuth, sun.slope))[:, ::-1]
    # The sun is at the end of the rows, or up to half a right angle off: in the sheared raster, the cells on
    # a way to it share a row, and each looks for a higher one behind it, less what the way rises.
    n_y, n_x = height.shape
    at = np.arange(n_x)
    shift = np.rint(at * (y / x)).astype(np.int64)
    rows = np.arange(n_y)[:, None] - shift + shift.max()
    sheared = np.full((n_y + int(np.ptp(shift)), n_x), -np.inf, dtype=np.float32)
    sheared[rows, at] = height - np.float32(sun.slope * side / x) * at.astype(np.float32)
    highest = np.maximum.accumulate(sheared[:, :0:-1], axis=1)[
        :, ::-1
    ]  # of all cells after each but the last
    found = np.zeros(sheared.shape, dtype=np.bool_)
    found[:, :-1] = highest > sheared[:, :-1]
    return np.asarray(found[rows, at])


@dataclass(frozen=True)
class Skyline:
    """Heights of a window and far around it."""

    height: Raster  # scene units, -inf: nothing. [m_y, m_x]
    inner: tuple[slice, slice]  # rows and columns of the window

    def shadows(self, height: Raster, side: float, sun: Sun) -> Mask:
        """Tells where the sun does not reach the window, whose heights are given. [n_y, n_x]"""
        wide = self.height.copy()
        wide[self.inner] = height
        return shadows(wide, side, sun)[self.inner]


def find_suns(
    height: Raster, side: float, ground: Mask, colors: NDArray[np.float32]
) -> tuple[Sun | None, ...]:
    """Returns the sun of each look, or None where none explains what is dark there.

    What a look shows darker than the others let expect is compared with the shadows of many suns.

    Args:
        height: Of the surface, scene units. [n_y, n_x]
        side: Of a cell, scene units.
        ground: Cells whose light is compared. [n_y, n_x]
        colors: Of these cells, row by row. [n, n_looks, 3]
    """
    if not len(colors):
        return ()
    light = np.log(colors.astype(np.float64).mean(axis=-1) + DARKEST)  # [n, n_looks]
    suns = []
    for look in range(light.shape[1]):
        others = np.concatenate([np.delete(light, look, axis=1), np.ones((len(light), 1))], axis=1)
        expected = others @ np.linalg.lstsq(others, light[:, look], rcond=None)[0]
        suns.append(_find_sun(height, side, ground, expected - light[:, look]))
    return tuple(suns)


def _find_sun(height: Raster, side: float, ground: Mask, dark: NDArray[np.float64]) -> Sun | None:
    """Returns the sun whose shadows fit best to where the ground is dark, if any fits well."""
    spread = float(np.sqrt((dark**2).mean()))
    if not spread > 0:
        return None

    def fit(sun: Sun) -> float:
        shadow = shadows(height, side, sun)[ground]
        share = float(shadow.mean())
        if not 0.01 < share < 0.99:
            return 0.0
        return float((dark * (shadow - share)).mean()) / (spread * math.sqrt(share * (1 - share)))

    turn, stretch = 2 * math.pi / AZIMUTHS, 1.35
    best = max((Sun(n * turn, slope) for n in range(AZIMUTHS) for slope in ELEVATIONS), key=fit)
    for _ in range(ROUNDS):
        turn, stretch = turn / 2, math.sqrt(stretch)
        tries = (
            Sun(best.azimuth + a * turn, best.slope * stretch**b) for a in (-1, 0, 1) for b in (-1, 0, 1)
        )
        best = max(tries, key=fit)
    return best if fit(best) > SURE else None


def _spread(masks: Mask, cells: int, outside: bool = False) -> Mask:
    """Returns masks that reach so many cells farther, step by step along rows and columns. [n_y, n_x, n]"""
    for _ in range(cells):
        wide = np.pad(masks, ((1, 1), (1, 1), (0, 0)), constant_values=outside)
        masks = masks | wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    return masks


def looks_of(embedding: Tensor | None) -> Tensor | None:
    """Returns the rows of an appearance table that shadows are looked for in, or None. [n_looks, latent_dim]

    Rows that repeat were not learnt; a table with a row for every photograph is too much to look through.
    """
    if embedding is None:
        return None
    rows, counts = torch.unique(embedding, dim=0, return_counts=True)
    rows = rows[counts == 1]
    return rows.contiguous() if 0 < len(rows) <= MOST_LOOKS else None


@dataclass(frozen=True)
class Light:
    """How a field is lit in several appearances."""

    tables: FieldTables
    looks: Tensor  # embeddings, float32 [n_looks, latent_dim]
    suns: tuple[Sun | None, ...]  # of each look; None: it has no shadows

    def colors(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns what features look like from above. [n, feature_dim] -> [n, n_looks, 3]"""
        return colors_from_above(self.tables, features, self.looks)


def colors_from_above(
    tables: FieldTables, features: NDArray[np.float32], looks: Tensor
) -> NDArray[np.float32]:
    """Returns what features look like from above. [n, feature_dim] -> [n, n_looks, 3]"""
    values = torch.from_numpy(np.ascontiguousarray(features))
    down = torch.tensor([[0.0, 0.0, -1.0]]).repeat(len(values), 1)
    return np.asarray(ops.decode(tables, values, down, looks).numpy().transpose(1, 0, 2))


class Relighting:
    """The light around something that no longer stands there: its shadow goes, those of others stay.

    A cell whose light changes in some appearances gets the features of cells that have the light it shall
    have in these, and that look the same in all others.
    """

    def __init__(
        self,
        window: TerrainWindow,
        skyline: Skyline,
        light: Light,
        mask: Mask,
        clean: Mask,
        least: float,
    ) -> None:
        """Casts the shadows.

        Args:
            window: Heights, ground and features.
            skyline: Of the window.
            light: Looks and suns of the field.
            mask: Where what goes stands now. [n_y, n_x]
            clean: Ground that is seen from above. [n_y, n_x]
            least: What rises more above the ground stands on it, scene units.
        """
        self._features, self._light, self._mask, self._clean = window.features, light, mask, clean
        before = np.where(np.isnan(window.height), window.ground, window.height)
        after = np.where(mask, window.ground, before)
        self._before, self._ground, self._side = before, window.ground, window.side
        self._skyline = skyline
        shape = (*mask.shape, len(light.suns))
        self._old, self._new = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        for look, sun in enumerate(light.suns):
            if sun is not None:
                self._old[..., look] = skyline.shadows(before, window.side, sun)
                self._new[..., look] = skyline.shadows(after, window.side, sun)
        self._soft = _spread(self._old, EDGE)
        self._core = ~_spread(~self._old, EDGE, outside=True)
        self._gone = _spread(self._old & ~self._new, EDGE) & ~self._new
        at = np.argwhere(clean)
        at = at[:: max(len(at) // LENDERS, 1)]
        self._rows, self._columns = at.T
        self._lent = window.features[self._rows, self._columns]
        self._colors = light.colors(self._lent).reshape(len(at), -1)
        # Ground beside walls is blurred with them; it is continued from what is found next to it.
        self._free = ~mask & ~ndi.binary_dilation(before - window.ground > least, np.ones((3, 3)))

    @property
    def steady(self) -> Mask:
        """Clean ground that no shadow falls on in any appearance. [n_y, n_x]"""
        return np.asarray(self._clean & ~self._soft.any(axis=-1))

    def around(self) -> tuple[NDArray[np.float32], Mask]:
        """Returns the features of the ground without the shadow [n_y, n_x, feature_dim], and what it changes.

        What changes holds cells beside walls as well, for which there are no features. [n_y, n_x]
        """
        fell = self._gone.any(axis=-1)
        features, changed = self._exchanged(self._features, self._clean & fell, self._gone, ~self._soft)
        near = ndi.binary_dilation(changed, iterations=2 * EDGE)
        return features, changed | (fell & near & self._free & ~self._clean)

    def on_others(self, mask: Mask) -> Mask:
        """Tells where what stands on a part of the mask would throw a shadow on the rest of it. [n_y, n_x]"""
        rest = self._mask & ~mask
        fell = np.zeros_like(mask)
        if rest.any():
            alone = np.where(rest, self._ground, self._before)
            for look, sun in enumerate(self._light.suns):
                if sun is not None:
                    fell |= self._skyline.shadows(alone, self._side, sun) & ~self._new[..., look]
        return np.asarray(ndi.binary_dilation(fell, iterations=EDGE) & rest)

    def sunlit(self, cells: Mask) -> NDArray[np.float32]:
        """Returns the features with the ground next to some cells as if no shadow fell on it at all."""
        ring = ndi.binary_dilation(cells, np.ones((3, 3)), 3 * EDGE) & self._clean & self._soft.any(axis=-1)
        return self._exchanged(self._features, ring, self._soft, ~self._soft)[0]

    def shaded(self, features: NDArray[np.float32], cells: Mask) -> NDArray[np.float32]:
        """Returns sunlit features with the shadows that other things cast on some cells of the mask."""
        return self._exchanged(features, cells & self._new.any(axis=-1), self._new, self._core)[0]

    def _exchanged(
        self, features: NDArray[np.float32], cells: Mask, which: Mask, state: Mask
    ) -> tuple[NDArray[np.float32], Mask]:
        """Returns features with those of some cells exchanged, and the cells for which others were found.

        Args:
            features: [n_y, n_x, feature_dim]
            cells: Whose features are exchanged. [n_y, n_x]
            which: Looks in which their light changes. [n_y, n_x, n_looks]
            state: Where the light is what it changes to. [n_y, n_x, n_looks]
        """
        found, done = features[cells], np.zeros(np.count_nonzero(cells), dtype=np.bool_)
        if len(found):
            own = self._light.colors(found).reshape(len(found), -1)
            fits = state[self._rows, self._columns]
            bits = 1 << np.arange(which.shape[-1])
            numbers = which[cells] @ bits
            for number in np.unique(numbers):
                pattern = (number & bits) != 0
                lenders, here = fits[:, pattern].all(axis=-1), numbers == number
                if pattern.all() or np.count_nonzero(lenders) < SIMILAR:
                    continue
                steady = np.repeat(~pattern, 3)  # the colours that stay
                known = cKDTree(self._colors[lenders][:, steady], balanced_tree=False, compact_nodes=False)
                _, similar = known.query(own[here][:, steady], k=SIMILAR)
                found[here] = self._lent[lenders][similar].mean(axis=1)
                done |= here
        result, changed = features.copy(), np.zeros_like(cells)
        result[cells], changed[cells] = found, done
        return result, changed
