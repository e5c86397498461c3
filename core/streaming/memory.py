"""How much memory streaming takes, what is given up when it is short, and the pieces that blocks lie in."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import torch
from torch import Tensor

from ..settings import Precision
from .contracts import MemoryBudget

CPU_SHARE = 0.5  # of the memory that the machine has free, where rendering happens in main memory
CUDA_SHARE = 0.7  # of the device's free memory
HOST_SHARE = 0.25  # of the machine's free memory, for blocks kept beside a device
COARSE_SHARE = 8  # coarse stand-ins get at most one part in so many of the device's budget ...
COARSE_LIMIT = 64 * 2**20  # ... and at most so many bytes
USEFUL = 1  # blocks that must fit before anything else than their number is given up
CHUNK_TILES = (64, 16)  # tiles that the torch path renders at once, and under pressure
_UNKNOWN_MEMORY = 4 * 2**30  # bytes taken to be free where the system does not tell


def free_memory() -> int:
    """Returns the bytes of main memory that this machine can still give."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text("ascii"), re.M)
        if found:
            return int(found[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return _UNKNOWN_MEMORY


def resolved(budget: MemoryBudget, device: torch.device | str = "cpu") -> MemoryBudget:
    """Returns the budget with what it leaves open filled in.

    On the CPU `device` is CPU_SHARE of the free memory and `host` 0, as both are one; with a CUDA device they
    are CUDA_SHARE of its free memory and HOST_SHARE of the machine's.
    """
    on_cuda = torch.device(device).type == "cuda"
    bytes_device, bytes_host = budget.device, budget.host
    if bytes_device is None:
        free = torch.cuda.mem_get_info(device)[0] if on_cuda else free_memory()
        bytes_device = int(free * (CUDA_SHARE if on_cuda else CPU_SHARE))
    if bytes_host is None:
        bytes_host = int(free_memory() * HOST_SHARE) if on_cuda else 0
    return replace(budget, device=bytes_device, host=bytes_host)


def coarse_bytes(device_bytes: int) -> int:
    """Returns what the coarse stand-ins may take of the device's budget."""
    return min(device_bytes // COARSE_SHARE, COARSE_LIMIT)


# What is given up under pressure


@dataclass(frozen=True)
class Needs:
    """What a field asks of memory."""

    block_bytes: Callable[[Precision, int], int]  # of its largest block, with so many levels dropped
    precision: Precision  # asked for; FULL or HALF
    n_levels: int
    n_blocks: int  # that exist
    tile_bytes: int = 0  # that rendering one tile takes of the same budget
    frame_bytes: int = 0  # that a whole picture takes of the same budget


@dataclass(frozen=True)
class Plan:
    """How a field is held and rendered."""

    precision: Precision
    drop_levels: int
    n_blocks: int  # that fit at once
    chunk_tiles: int
    resolution: float  # share of the width and height asked for
    said: tuple[str, ...]  # what was given up, in order


def plan(needs: Needs, room: int, short: bool = False) -> Plan:
    """Gives up as little as lets USEFUL blocks, or all that there are, fit.

    In this order: fewer blocks, half precision, no finest level, smaller tiles, lower resolution. If even
    the last does not do, it is what there is, with as many blocks as fit, possibly none.

    Args:
        needs: What the field asks.
        room: Bytes for blocks and rendering, without what is always in memory.
        short: The machine gave less than the budget; then even fewer blocks alone are said.
    """
    enough = min(USEFUL, needs.n_blocks)
    rung = Plan(needs.precision, 0, 0, CHUNK_TILES[0], 1.0, ())
    rungs = [rung]
    for words, change in _steps(needs):
        rung = replace(rung, said=(*(rung.said or ("fewer blocks",)), words), **change)
        rungs.append(rung)
    for rung in rungs:
        working = int(needs.tile_bytes * rung.chunk_tiles + needs.frame_bytes * rung.resolution**2)
        size = max(needs.block_bytes(rung.precision, rung.drop_levels), 1)
        fitting = replace(rung, n_blocks=min(max(room - working, 0) // size, needs.n_blocks))
        if fitting.n_blocks >= enough:
            break
    if short and not fitting.said and fitting.n_blocks < needs.n_blocks:
        return replace(fitting, said=("fewer blocks",))
    return fitting


def _steps(needs: Needs) -> list[tuple[str, dict[str, Any]]]:
    steps: list[tuple[str, dict[str, Any]]] = []
    if needs.precision is not Precision.HALF:
        steps.append(("half precision", {"precision": Precision.HALF}))
    if needs.n_levels > 1:
        steps.append(("without the finest level", {"drop_levels": 1}))
    steps.append(("smaller tiles", {"chunk_tiles": CHUNK_TILES[1]}))
    steps.append(("lower resolution", {"resolution": 0.5}))
    return steps


# Pieces of memory


class Lease:
    """A piece of memory that is in use for as long as anyone refers to this."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self, memory: Tensor) -> None:
        self.memory = memory  # uint8 [n_bytes]


class Slabs:
    """Pieces of memory of one size that are allocated once, used again and again, and kept within a limit.

    A block that is larger than all others gets a piece of its own, which is given back to the system. Pieces
    come back by themselves when their lease is gone, from whatever thread; all methods are for one at a time.
    """

    def __init__(self, slab_bytes: int, limit: int, allocate: Callable[[int], Tensor]) -> None:
        """Allocates nothing yet.

        Args:
        slab_bytes: Size of a piece.
        limit: Bytes of all pieces together.
        allocate: Returns uint8 [n]; may fail for lack of memory.
        """
        self.slab_bytes, self.limit = max(slab_bytes, 1), limit
        self.allocated = 0  # bytes, free pieces included
        self.is_short = False  # an allocation within the limit failed
        self._allocate = allocate
        self._free: list[Tensor] = []
        self._returned: SimpleQueue[Tensor] = SimpleQueue()  # safe in finalizers

    def size_of(self, n_bytes: int) -> int:
        """Returns the bytes that a block of n_bytes takes."""
        return max(n_bytes, self.slab_bytes)

    @property
    def in_use(self) -> int:
        """Bytes with a lease."""
        self._collect()
        return self.allocated - len(self._free) * self.slab_bytes

    @property
    def available(self) -> int:
        """Bytes that can be had now."""
        return self.limit - self.in_use

    def take(self, n_bytes: int) -> Lease | None:
        """Returns a piece of at least n_bytes; None: there is none now."""
        self._collect()
        size = self.size_of(n_bytes)
        if size == self.slab_bytes and self._free:
            return self._lease(self._free.pop())
        while self._free and self.allocated + size > self.limit:
            self._drop_free()
        if self.allocated + size > self.limit:
            return None
        try:
            memory = self._allocate(size)
        except (MemoryError, RuntimeError) as error:
            if not is_shortage(error):
                raise
            self.limit, self.is_short = self.allocated, True
            return None
        self.allocated += size
        return self._lease(memory)

    def resize(self, slab_bytes: int, limit: int) -> None:
        """Changes size and limit; pieces of another size leave as they come back."""
        self._collect()
        if slab_bytes != self.slab_bytes:
            while self._free:
                self._drop_free()
        self.slab_bytes, self.limit = max(slab_bytes, 1), limit
        while self._free and self.allocated > self.limit:
            self._drop_free()

    def _lease(self, memory: Tensor) -> Lease:
        lease = Lease(memory)
        weakref.finalize(lease, self._returned.put, memory).atexit = False
        return lease

    def _collect(self) -> None:
        while True:
            try:
                memory = self._returned.get_nowait()
            except Empty:
                return
            if memory.nbytes == self.slab_bytes and self.allocated <= self.limit:
                self._free.append(memory)
            else:
                self.allocated -= memory.nbytes

    def _drop_free(self) -> None:
        self.allocated -= self._free.pop().nbytes


def new_memory(n_bytes: int, device: torch.device, pinned: bool = False) -> Tensor:
    """Allocates a piece, locked in memory if asked for and possible. uint8 [n_bytes]"""
    if pinned:
        try:
            return torch.empty(n_bytes, dtype=torch.uint8, device=device, pin_memory=True)
        except RuntimeError:  # copies from it are slower then
            pass
    return torch.empty(n_bytes, dtype=torch.uint8, device=device)


def is_shortage(error: BaseException) -> bool:
    """Whether an allocation failed for lack of memory."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("not enough memory", "can't allocate memory", "out of memory")
    )
