"""Batches of rays, each made from the seed and its iteration alone: a resumed run needs no random state."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ...cuda.train_tables import RayBatch
from ..errors import InputError
from ..rays import view_of
from .photos import Photos
from .settings import TrainSettings

# What random numbers are drawn for; each has a stream of its own.
ORDER, JITTER, HULL_JITTER, NERF_U, PATCH = range(5)

PATCH_TRIES = 32  # patches that are looked at to find one without unknown pixels
FEISTEL_ROUNDS = 8


class Batches:
    """Batches over all pixels of all photographs: each once per epoch, in an order drawn from the seed.

    Args:
        photos: Photographs to learn from.
        settings: Batch size, seed, what the rays need.
        device: Where the rays shall lie.

    Raises:
        InputError: There is no photograph, or a patch does not fit into one.
    """

    def __init__(self, photos: Photos, settings: TrainSettings, device: torch.device | str = "cpu") -> None:
        if not len(photos):
            raise InputError("training needs at least one photograph that is not kept for testing, got none")
        self._photos = photos
        self._settings = settings
        self._device = device
        self._offsets = photos.offsets
        views = [view_of(camera) for camera in photos.cameras]
        self._c2w = np.stack([view.c2w for view in views])
        self._focal = np.array([(view.fl_x, view.fl_y) for view in views], np.float32)
        self._center = np.array([(view.cx, view.cy) for view in views], np.float32)
        self._sizes = np.array([(view.height, view.width) for view in views], np.int64)
        side = int(self._sizes.min())
        if settings.lpips_from >= 0 and settings.patch_size > side:
            raise InputError(
                f"patch_size must be at most {side}, the shortest side of the photographs, "
                f"got {settings.patch_size}; lower it or switch LPIPS off"
            )

    @property
    def n_pixels(self) -> int:
        """Pixels of all photographs, known or not."""
        return int(self._offsets[-1])

    def at(self, iteration: int) -> RayBatch:
        """Returns the batch of an iteration, counted from 0.

        Raises:
            InputError: No pixel of the batch is known.
        """
        settings = self._settings
        if 0 <= settings.lpips_from <= iteration:
            pixels, colors = self._patch(iteration)
        else:
            pixels = self._shuffled(iteration)
            colors = self._photos.pixels.colors(pixels)
        pixels, colors = _without_unknown(pixels, colors)
        number, row, column = self._locate(pixels)
        origins, directions = self._rays(number, row, column)
        n = len(pixels)
        nerf = 0 <= settings.nerf_from < iteration
        return RayBatch(
            origins=self._tensor(origins),
            directions=self._tensor(directions),
            rgb=self._tensor(colors[:, :3].astype(np.float32) / np.float32(255)),
            jitter=self._random(JITTER, iteration, n),
            codes=self._tensor(self._photos.codes[number]) if settings.appearance_codes else None,
            hull_jitter=self._random(HULL_JITTER, iteration, n, settings.n_importance) if nerf else None,
            nerf_u=self._random(NERF_U, iteration, n, settings.nerf_n_importance) if nerf else None,
        )

    def rays_of(self, pixels: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns origins and directions of pixels by number, bit for bit as `generate_rays` has them.

        Args:
            pixels: Numbers over all photographs, row by row. [n]

        Returns:
            Origins and directions, the latter not normalised. [n, 3] each
        """
        return self._rays(*self._locate(pixels))

    def _locate(self, pixels: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """Returns photograph, row and column of every pixel. [n] each"""
        number = np.searchsorted(self._offsets, pixels, side="right") - 1
        row, column = np.divmod(pixels - self._offsets[number], self._sizes[number, 1])
        return number, row, column

    def _rays(
        self, number: NDArray[np.int64], row: NDArray[np.int64], column: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        at = np.stack([column, row], axis=-1).astype(np.float32)
        local = (at - self._center[number]) / self._focal[number]
        x, y = local[:, :1], -local[:, 1:]
        c2w = self._c2w[number]
        directions = (x * c2w[:, :, 0] + y * c2w[:, :, 1]) - c2w[:, :, 2]
        return c2w[:, :, 3], directions

    def _shuffled(self, iteration: int) -> NDArray[np.int64]:
        """Returns the next pixels of the walk over a new order in every epoch. [batch_size]"""
        size = self._settings.batch_size
        epochs, slots = np.divmod(np.arange(size) + iteration * size, self.n_pixels)
        pixels = np.empty(size, np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            keys = self._stream(ORDER, int(epoch)).random_raw(FEISTEL_ROUNDS)
            pixels[chosen] = shuffle(slots[chosen], self.n_pixels, keys)
        return pixels

    def _patch(self, iteration: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Returns the pixels of a square of one photograph, row by row, and their colours.

        The first square without unknown pixels is taken, else the one with the fewest.
        """
        side = self._settings.patch_size
        draws = np.random.Generator(self._stream(PATCH, iteration))
        best, most = None, -1
        for _ in range(PATCH_TRIES):
            number = int(draws.integers(len(self._photos)))
            top, left = draws.integers(0, self._sizes[number] - side + 1)
            rows, columns = np.mgrid[top : top + side, left : left + side]
            pixels = (self._offsets[number] + rows * self._sizes[number, 1] + columns).reshape(-1)
            colors = self._photos.pixels.colors(pixels)
            n_known = int(np.count_nonzero(colors[:, 3]))
            if n_known > most:
                best, most = (pixels, colors), n_known
            if n_known == len(pixels):
                break
        assert best is not None
        return best

    def _random(self, purpose: int, iteration: int, *shape: int) -> torch.Tensor:
        """Draws float32 numbers in [0, 1), multiples of 2^-24."""
        count = math.prod(shape)
        raw = self._stream(purpose, iteration).random_raw((count + 1) // 2).view(np.uint32)[:count]
        return self._tensor((raw >> 8).astype(np.float32).reshape(shape) * np.float32(2**-24))

    def _stream(self, purpose: int, index: int) -> np.random.Philox:
        """Returns the random bits of one purpose and iteration (or epoch).

        Philox (Salmon et al. 2011) needs no state but its key and counter; the counter's first word runs.
        """
        seed = self._settings.seed % 2**64
        return np.random.Philox(key=np.array([seed, purpose], np.uint64), counter=[0, index, 0, 0])

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def shuffle(slots: NDArray[np.int64], n: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Maps 0 .. n - 1 onto itself in an order that the keys decide, without holding that order.

    A Feistel network over pairs (a, b) with a * b >= n; what falls beyond n walks on until it falls inside
    (Black and Rogaway 2002, Section 3 and 4).

    Args:
        slots: Numbers below n. [m]
        n: How many numbers there are.
        keys: A key for each round. [n_rounds]

    Returns:
        Where the slots go. [m]
    """
    n_left = math.isqrt(n - 1) + 1
    n_right = -(-n // n_left)
    out = np.empty_like(slots)
    walking, values = np.arange(len(slots)), slots
    while len(walking):
        values = _feistel(values, n_left, n_right, keys)
        inside = values < n
        out[walking[inside]] = values[inside]
        walking, values = walking[~inside], values[~inside]
    return out


def _feistel(
    values: NDArray[np.int64], n_left: int, n_right: int, keys: NDArray[np.uint64]
) -> NDArray[np.int64]:
    left, right = (part.astype(np.uint64) for part in np.divmod(values, n_right))
    for number, key in enumerate(keys):
        if number % 2:
            right = (right + _mix(left ^ key) % np.uint64(n_right)) % np.uint64(n_right)
        else:
            left = (left + _mix(right ^ key) % np.uint64(n_left)) % np.uint64(n_left)
    return (left * np.uint64(n_right) + right).astype(np.int64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatters 64-bit numbers (the finaliser of SplitMix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _without_unknown(
    pixels: NDArray[np.int64], colors: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Puts known pixels of the batch, in turn, in the place of unknown ones."""
    known = colors[:, 3] > 0
    if known.all():
        return pixels, colors
    if not known.any():
        raise InputError(
            f"photographs must have known pixels, got a batch of {len(pixels)} without one; "
            "check their masks and alpha channels, or raise batch_size"
        )
    source = np.arange(len(pixels))
    source[~known] = np.resize(np.flatnonzero(known), int((~known).sum()))
    return pixels[source], colors[source]
