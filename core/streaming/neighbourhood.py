"""LandMark's way of fetching: the N x N blocks around the camera, in two buffers that change places."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .demand import CityGrid

if TYPE_CHECKING:
    from ..camera import Camera

MARGIN = 0.25  # of a block, by which the camera must be past a border before the neighbourhood follows


@dataclass(frozen=True)
class Window:
    """size x size places for blocks, from a first column and row on; they may lie off the map."""

    column: int
    row: int
    size: int

    def blocks(self, grid: CityGrid) -> np.ndarray:
        """Returns the blocks that there are in it; places off the map hold none. int64 [n]"""
        places = np.arange(self.size)
        return grid.at(self.column + places, self.row + places)

    def slot(self, block: int, grid: CityGrid) -> int | None:
        """Returns a block's place in the window, counted as blocks are; None: it is not in it."""
        column, row = block // grid.division[1] - self.column, block % grid.division[1] - self.row
        if not (0 <= column < self.size and 0 <= row < self.size):
            return None
        return column * self.size + row


class Neighbourhood:
    """Wants the N x N blocks around the camera, whatever it looks at.

    The window follows once the camera is MARGIN past the border between two windows, so that hovering on
    a border or a corner changes nothing. A window reaches over the edge of the map rather than stop there.
    """

    def __init__(self, grid: CityGrid, size: int) -> None:
        if size < 1:
            raise InputError(f"memory.neighbour_size must be at least 1, got {size}")
        self._grid = grid
        self._size = size
        self._window: Window | None = None

    def window(self, eye: np.ndarray) -> Window:
        """Returns the window around a position, scene units, and keeps it as the present one. [3]"""
        self._window = self._followed(eye)
        return self._window

    def seen(self, camera: Camera, hovers: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Takes a view as the present one, as ViewDemand does; a border has the same margin at any speed.

        Returns:
            Blocks int64 [n], nearest first, and priorities float64 [n]; no block is hidden: int64 [0].
        """
        blocks = self.window(camera.eye).blocks(self._grid)
        distance = np.hypot(*(self._middle(blocks) - self._grid.place(camera.eye)).T)
        order = np.argsort(distance, kind="stable")
        return blocks[order], 1 / (1 + distance[order]), np.zeros(0, dtype=np.int64)

    def soon(self, camera: Camera, taken: np.ndarray) -> np.ndarray:
        """Returns the blocks around a coming view that are new: the next row or column. taken: [n_blocks]"""
        blocks = self._followed(camera.eye).blocks(self._grid)
        new: np.ndarray = blocks[~taken[blocks]]
        return new

    def note_needs(self, needs: np.ndarray, is_whole: bool) -> None:
        """Takes what a picture has measured, as ViewDemand does: here it changes nothing."""

    def forget(self) -> None:
        """Forgets where the window was."""
        self._window = None

    def _followed(self, eye: np.ndarray) -> Window:
        # Of a window whose middle is the camera; far off the map any window is empty.
        reach = np.array(self._grid.division) + self._size
        low = np.clip(self._grid.place(eye), -reach, 2 * reach) - self._size / 2
        corner = np.rint(low)
        if self._window is not None:
            kept = np.array([self._window.column, self._window.row])
            corner = np.where(np.abs(low - kept) <= 0.5 + MARGIN, kept, corner)
        column, row = corner.astype(int).tolist()
        return Window(column, row, self._size)

    def _middle(self, blocks: np.ndarray) -> np.ndarray:
        return np.stack(np.divmod(blocks, self._grid.division[1]), axis=1) + 0.5


@dataclass(frozen=True)
class Slots:
    """One filled buffer: `memory[slot]` holds the block at that place of the window, or zeros."""

    memory: Tensor  # uint8 [size * size, n_bytes]
    window: Window
    held: frozenset[int]  # blocks that are there

    def block(self, block: int, grid: CityGrid) -> Tensor | None:
        """Returns the bytes of a block, or None if it is not there. uint8 [n_bytes]"""
        slot = self.window.slot(block, grid)
        return self.memory[slot] if slot is not None and block in self.held else None


class PingPong:
    """Two buffers of N x N blocks of one size: one is read while the other is filled, then they swap.

    This is LandMark's memory for dynamic fetching, kept for parity: code that must find the blocks of a
    neighbourhood in one dense array, by their place in it, uses this. Rendering does not: a Residency
    serves blocks of any size in any shape of demand, and with `neighbour_size` a Neighbourhood is its
    demand. There kept blocks need not be moved at all, as they stay in the piece of memory they have.
    """

    def __init__(self, grid: CityGrid, size: int, n_bytes: int, device: torch.device | str = "cpu") -> None:
        """Allocates both buffers.

        Args:
            grid: The blocks.
            size: N.
            n_bytes: Of a block.
            device: Where the buffers lie.
        """
        self._grid = grid
        nowhere = Window(-size, -size, size)  # off the map
        self._buffers = [
            Slots(torch.zeros(size * size, n_bytes, dtype=torch.uint8, device=device), nowhere, frozenset())
            for _ in range(2)
        ]
        self._front = 0
        self._readers = [0, 0]
        self._changed = threading.Condition()
        self._moving = threading.Lock()

    @contextmanager
    def front(self) -> Iterator[Slots]:
        """Lends the filled buffer, which stays as it is meanwhile: the move after the next waits."""
        with self._changed:
            number = self._front
            self._readers[number] += 1
        try:
            yield self._buffers[number]
        finally:
            with self._changed:
                self._readers[number] -= 1
                self._changed.notify_all()

    def move(self, window: Window, fetch: Callable[[int, Tensor], None]) -> None:
        """Fills the other buffer for a window, then lets the two change places.

        Blocks that both windows hold are copied on the device. If fetching fails, the front stays.

        Args:
            window: Where to; of the size of the buffers.
            fetch: Writes a block into memory. (block, uint8 [n_bytes])
        """
        with self._moving:
            back = 1 - self._front
            with self._changed:
                self._changed.wait_for(lambda: not self._readers[back])
            front, memory = self._buffers[self._front], self._buffers[back].memory
            if memory.is_cuda:  # what its readers have queued is done
                torch.cuda.synchronize(memory.device)
            blocks = window.blocks(self._grid).tolist()
            memory.zero_()
            for block in blocks:
                slot = window.slot(block, self._grid)
                assert slot is not None, "a window's blocks are in it"
                kept = front.block(block, self._grid)
                if kept is not None:
                    memory[slot].copy_(kept)
                else:
                    fetch(block, memory[slot])
            if memory.is_cuda:
                torch.cuda.synchronize(memory.device)
            with self._changed:
                self._buffers[back] = Slots(memory, window, frozenset(blocks))
                self._front = back
