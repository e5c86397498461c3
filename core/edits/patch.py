"""Patch: a ground for the place where something was removed, continued inwards from its surroundings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi
import torch
from numpy.typing import NDArray
from scipy import fft

from ...cuda.edit_tables import EditKind, EditOp, Footprint
from ..errors import InputError
from .ground import Mask, harmonic_fill
from .region import Region
from .sunlight import Light, Relighting
from .terrain import Bounds, Terrain, TerrainWindow

RIM = 2  # cells by which more is taken away than was selected: walls are blurred and roofs overhang
SEARCH = 72  # cells around a region in which ground is looked for
VOID_RIM = 3  # cells at the border of the field, or of what is empty, that keep the shadow
FRAME = 16  # cells around a patch that its ground is continued from
BESIDE = 4  # cells of what stands beside relit ground that the ground is continued into
EDGE = 2  # cells of raster beyond the rim, for reading between cells
MOST_CELLS = 1024  # along a side of a region
RISE_STEPS = 1.0  # half the height of the surface's ramp, in samples
CRUST = 3.0  # samples over its ground that relit ground reaches: above is what stands there
THICK_STEPS = 2.0  # the surface is opaque over this many samples below its ramp
CLEAN_SHARE = 0.98  # of a place that lends its detail: at least this much of it is ground
DETAIL = 11  # cells: what varies over less is detail
COMPONENTS = 4  # principal components of the features that places are compared by


Crop = tuple[slice, slice]  # rows and columns of a raster


@dataclass(frozen=True)
class _Masks:
    """Cells of a window. [n_y, n_x] each"""

    mask: Mask  # what is removed
    empty: Mask  # what is removed by this or another layer
    clean: Mask  # ground that nothing stands on or stood on


def make_patches(
    terrain: Terrain, region: Region, high: float, others: tuple[Region, ...] = (), is_draft: bool = False
) -> tuple[EditOp, ...]:
    """Returns the PATCH that removes what stands on a region up to the height `high`, and one for its shadow.

    Heights and features are harmonic inwards from the ring of clean ground around it; the detail that a
    harmonic surface lacks comes from the place near by whose ground fits the ring best. Where the terrain
    knows the light, the ground is sunlit but for the shadows of others; then the second operation, if there
    is any, holds the ground around the region without the shadow that fell on it. It belongs under all
    layers, for nothing but ground is there.

    Args:
        terrain: Of the field.
        region: What is to be removed, as it was selected; a narrow rim around it goes too.
        high: Above this, nothing is removed, scene units.
        others: Further regions that layers remove: their surroundings are no source of ground either.
        is_draft: Leaves shadows as they are, which takes a third of the time.

    Raises:
        InputError: The region lies outside of the field, or leaves no ground to continue.
    """
    window = terrain.window(_surroundings(terrain, region))
    masks = _masks(window, region, others, terrain.scale.noise)
    if not masks.mask.any() or not masks.clean.any():
        raise InputError(
            "a region that is removed must have ground of the scene around it, got none; draw less"
        )
    found = _continued(terrain, window, masks, None if is_draft else terrain.light)
    patches = [_operation(terrain, window, found, found.filled, high)]
    if found.relit.any():
        patches.append(_operation(terrain, window, found, found.relit, high, CRUST))
    return tuple(patches)


def make_patch(terrain: Terrain, region: Region, high: float, others: tuple[Region, ...] = ()) -> EditOp:
    """Returns the first of `make_patches`: without the region's shadow around it."""
    return make_patches(terrain, region, high, others)[0]


@dataclass(frozen=True)
class _Continued:
    """A ground without what was removed, in a part of a window."""

    near: Crop  # the part
    ground: NDArray[np.float32]  # [n_y, n_x]
    features: NDArray[np.float32]  # [n_y, n_x, feature_dim]
    filled: Mask  # cells where it is made up, in the whole window
    relit: Mask  # cells where it is there but looks different now, in the whole window


def _operation(
    terrain: Terrain,
    window: TerrainWindow,
    found: _Continued,
    cover: Mask,
    high: float,
    crust: float = math.inf,
) -> EditOp:
    """Returns the PATCH of some cells, up to `high` and at most so many samples over their ground."""
    rows, columns = found.near
    inner = _crop(cover[rows, columns], EDGE)
    low_x = window.low[0] + (columns.start + inner[1].start) * window.side
    low_y = window.low[1] + (rows.start + inner[0].start) * window.side
    step = terrain.scale.step
    rise = RISE_STEPS * step
    thickness = rise + THICK_STEPS * step
    ground = torch.from_numpy(found.ground[inner].copy())
    return EditOp(
        EditKind.PATCH,
        Footprint(
            torch.from_numpy(cover[rows, columns][inner].astype(np.uint8)),
            (float(np.float32(low_x)), float(np.float32(low_y))),
            float(np.float32(window.side)),
        ),
        z_low=float(ground.min()) - thickness - rise,
        z_high=min(high, float(ground.max()) + crust * step),
        ground=ground,
        features=torch.from_numpy(found.features[inner].copy()),
        thickness=thickness,
        rise=rise,
        # From straight above, half of the light is gone at `ground`: sigma * rise / 4 * scale = ln 2.
        sigma=4 * math.log(2) / (rise * terrain.distance_scale),
    )


def _continued(terrain: Terrain, window: TerrainWindow, masks: _Masks, light: Light | None) -> _Continued:
    """Continues the features of the ground over what is removed, and takes its shadow away."""
    mask, clean = masks.mask, masks.clean
    if light is None:
        near = _crop(mask, EDGE + FRAME)
        ground, features = _filled(window, window.features, clean, near, _grown(mask, FRAME))
        detail = _detail(window.features, mask, clean)[near]
        return _Continued(near, ground, features + detail, mask, np.zeros_like(mask))
    skyline, noise = terrain.skyline(window), terrain.scale.noise
    relighting = Relighting(window, skyline, light, masks.empty, clean, noise)
    around, changed = relighting.around()
    filled = mask | relighting.on_others(mask)  # another layer's ground loses this shadow here
    # A field ends in a thin crust: at its border, a surface of some thickness would show from the side.
    void = ndi.binary_dilation(np.isnan(window.height), np.ones((3, 3)), VOID_RIM, border_value=1)
    relit = changed & ~masks.empty & ~void
    near = _crop(filled | relit, EDGE + FRAME)
    inner, outer = _grown(filled, FRAME), _grown(relit, BESIDE)
    sunlit = relighting.sunlit(filled)
    inside = around.copy()
    inside[near] = harmonic_fill(sunlit[near], ~clean[near], inner[near])
    inside = relighting.shaded(inside + _detail(sunlit, mask, relighting.steady), filled)
    ground, features = _filled(window, around, clean, near, inner | outer)
    return _Continued(near, ground, np.where(filled[near][..., None], inside[near], features), filled, relit)


def _filled(
    window: TerrainWindow, features: NDArray[np.float32], clean: Mask, near: Crop, wanted: Mask
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns ground and features of a part, continued into the wanted cells that are not clean."""
    both = np.concatenate([window.ground[near][..., None], features[near]], axis=-1)
    both = harmonic_fill(both, ~clean[near], wanted[near])
    return both[..., 0], both[..., 1:]


def _surroundings(terrain: Terrain, region: Region) -> Bounds:
    """Returns the rectangle that a patch is made from."""
    x0, y0, x1, y1 = region.bounds if not region.is_empty else (math.inf,) * 4
    low_x, low_y, high_x, high_y = terrain.bounds
    if not (x0 < high_x and x1 > low_x and y0 < high_y and y1 > low_y):
        raise InputError("a region that is removed must lie in the scene's box, got one outside; move it")
    x0, y0, x1, y1 = max(x0, low_x), max(y0, low_y), min(x1, high_x), min(y1, high_y)
    width, most = max(x1 - x0, y1 - y0), MOST_CELLS * terrain.side
    if width > most:
        raise InputError(
            f"a region that is removed must be at most {terrain.length_text(most)} wide, got "
            f"{terrain.length_text(width)}; remove it in parts"
        )
    room = SEARCH * terrain.side
    return x0 - room, y0 - room, x1 + room, y1 + room


def _masks(window: TerrainWindow, region: Region, others: tuple[Region, ...], noise: float) -> _Masks:
    """Tells what becomes of the cells of a window."""
    own = _cells_of(region, window)
    gone = own.copy()
    for other in others:
        gone |= _cells_of(other, window)
    with np.errstate(invalid="ignore"):
        tall = window.height - window.ground > noise
    # The blurred rim of the region is thin; what survives an opening beside it is something else.
    else_tall = ndi.binary_opening(tall & ~_grown(gone, 1), np.ones((3, 3)))
    mask, empty = (each | (_grown(each, RIM) & ~else_tall) for each in (own, gone))
    clean = ~_grown(window.standing | gone, RIM - 1) & ~mask
    return _Masks(mask, empty, clean)


def _cells_of(region: Region, window: TerrainWindow) -> Mask:
    """Returns the cells whose centre lies in a region. [n_y, n_x]"""
    cells = np.zeros(window.ground.shape, dtype=np.bool_)
    if region.is_empty:
        return cells
    x0, y0, x1, y1 = region.bounds
    n_y, n_x = window.ground.shape
    columns = _between(x0 - window.low[0], x1 - window.low[0], window.side, n_x)
    rows = _between(y0 - window.low[1], y1 - window.low[1], window.side, n_y)
    x, y = window.low[0] + (columns + 0.5) * window.side, window.low[1] + (rows + 0.5) * window.side
    cells[np.ix_(rows, columns)] = region.contains(*np.meshgrid(x, y))
    return cells


def _between(first: float, last: float, side: float, n: int) -> NDArray[np.int64]:
    """Returns the numbers of the cells of a row that touch an interval."""
    return np.arange(max(math.floor(first / side), 0), min(math.floor(last / side) + 1, n))


def _grown(mask: Mask, cells: int) -> Mask:
    """Returns a mask with its rim moved outwards, corners kept."""
    if not mask.any() or cells < 1:
        return mask
    return np.asarray(ndi.maximum_filter(mask, size=2 * cells + 1, mode="constant"))


def _crop(mask: Mask, margin: int) -> Crop:
    """Returns rows and columns around the marked cells."""
    spans = []
    for axis, n in enumerate(mask.shape):
        at = np.flatnonzero(mask.any(axis=1 - axis))
        spans.append(slice(max(int(at[0]) - margin, 0), min(int(at[-1]) + 1 + margin, n)))
    return spans[0], spans[1]


def _detail(features: NDArray[np.float32], mask: Mask, clean: Mask) -> NDArray[np.float32]:
    """Returns what is added to a smooth ground inside the mask: the detail of the place that fits best.

    Nothing is added where no place near by is clean ground throughout. [n_y, n_x, feature_dim]
    """
    added = np.zeros_like(features)
    if not clean.any():
        return added
    shift = _best_shift(_principal(features, clean), mask, clean)
    if shift is None:
        return added
    rows, columns = _crop(mask, 0)
    n_y, n_x = mask.shape
    half = DETAIL // 2
    top, left = rows.start + shift[0], columns.start + shift[1]
    height, width = rows.stop - rows.start, columns.stop - columns.start
    v = np.arange(top - half, top + height + half).clip(0, n_y - 1)[:, None]
    u = np.arange(left - half, left + width + half).clip(0, n_x - 1)
    weight = clean[v, u].astype(np.float32)[..., None]
    source = features[v, u] * weight
    size = (DETAIL, DETAIL, 1)
    mean = ndi.uniform_filter(source, size) / np.maximum(ndi.uniform_filter(weight, size), 1e-3)
    inner = (slice(half, half + height), slice(half, half + width))
    high = ((source - mean) * weight)[inner]
    added[rows, columns] = np.where(mask[rows, columns, None], high, 0.0)
    return added


def _principal(features: NDArray[np.float32], clean: Mask) -> NDArray[np.float32]:
    """Returns the features of clean ground along their principal axes, 0 elsewhere. [n, n_y, n_x]"""
    ground = features[clean]
    centered = ground - ground.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    found = np.zeros((min(COMPONENTS, features.shape[2]), *clean.shape), dtype=np.float32)
    found[:, clean] = (centered @ axes[:, ::-1][:, : len(found)]).T
    return found


def _best_shift(values: NDArray[np.float32], mask: Mask, clean: Mask) -> tuple[int, int] | None:
    """Returns by how many rows and columns the best source lies off, or None if none is clean enough.

    The mask is compared with every place up to SEARCH cells away at once, by Fourier transforms.
    """
    ring = _grown(mask, RIM) & clean
    if not ring.any():
        return None
    shape = tuple(fft.next_fast_len(n + SEARCH, real=True) for n in mask.shape)

    def spectrum(raster: NDArray[np.float32] | Mask) -> NDArray[np.complex64]:
        return np.asarray(fft.rfft2(raster.astype(np.float32), shape))

    def correlation(product: NDArray[np.complex64]) -> NDArray[np.float32]:
        """Sums over p of a(p) b(p + shift), from conj(A) B, shifts -SEARCH to SEARCH."""
        found = np.roll(fft.irfft2(product, shape), (SEARCH, SEARCH), axis=(-2, -1))
        return np.asarray(found[: 2 * SEARCH + 1, : 2 * SEARCH + 1])

    ground, around = spectrum(clean), spectrum(ring).conj()
    square = (values**2).sum(axis=0)
    crossed = (spectrum(values * ring).conj() * spectrum(values)).sum(axis=0)
    share = correlation(spectrum(mask).conj() * ground) / np.count_nonzero(mask)
    seen = correlation(around * ground)
    error = correlation(around * spectrum(square) + spectrum(square * ring).conj() * ground - 2 * crossed)
    fits = (share >= CLEAN_SHARE) & (seen >= 0.5 * np.count_nonzero(ring))
    if not fits.any():
        return None
    best = np.argmin(np.where(fits, error / np.maximum(seen, 1.0), np.inf))
    row, column = np.unravel_index(best, error.shape)
    return int(row) - SEARCH, int(column) - SEARCH
