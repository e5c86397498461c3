"""A source of small blocks whose reads wait, fail and hang as told, and a clockwork without threads."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming import memory
from landmark_viewer.core.streaming.cancelling import check_cancelled
from landmark_viewer.core.streaming.checkpoint_source import CheckpointSource
from landmark_viewer.core.streaming.contracts import BlockKey, Payload, Wants
from landmark_viewer.core.streaming.holdings import Holdings
from landmark_viewer.core.streaming.memory import Slabs
from landmark_viewer.core.streaming.snapshots import stream_bytes
from landmark_viewer.cuda.tables import BlockTables

from .small_fields import Shape, make_field

N_BLOCKS = 32  # of a clockwork
TINY = Shape(grid=(3, 3, 3), hidden=4, feature_dim=2, division=(4, 4), levels=2, mask=(9, 8, 5))


class ScriptedSource:
    """Blocks of a small field."""

    def __init__(self, model: GridNeRF | None = None) -> None:
        self.model = model or make_field(TINY)
        self.own = CheckpointSource(self.model)
        self.reads: Counter[int] = Counter()
        self.gates: dict[int, threading.Event] = {}  # a read waits for its block's
        self.hangs: set[int] = set()  # these do not listen to being cancelled while they wait
        self.errors: dict[int, list[BaseException]] = defaultdict(list)  # one per read
        self.reading = threading.Semaphore(0)  # released at each start of a read
        self.order: list[int] = []
        self.cancelled: list[int] = []
        self.expected: list[int] = []
        self.description = "a script"

    def exists(self, block: int) -> bool:
        return self.own.exists(block)

    def n_bytes(self, block: int, precision: Precision, drop_levels: int = 0) -> int:
        return self.own.n_bytes(block, precision, drop_levels)

    def read(self, block: int, memory: Tensor, precision: Precision, drop_levels: int = 0) -> Payload:
        self.reads[block] += 1
        self.order.append(block)
        self.reading.release()
        try:
            while block in self.gates and not self.gates[block].wait(0.002):
                if block not in self.hangs:
                    check_cancelled()
        except BaseException:
            self.cancelled.append(block)
            raise
        if self.errors[block]:
            raise self.errors[block].pop(0)
        return self.own.read(block, memory, precision, drop_levels)

    def expect(self, block: int) -> None:
        self.expected.append(block)

    def stream_tables(self, model: GridNeRF, precision: Precision, n_bytes: int):
        return self.own.stream_tables(model, precision, n_bytes)

    @property
    def slab_bytes(self) -> int:
        """Bytes of the largest block in full precision."""
        return max(
            self.own.n_bytes(n, Precision.FULL) for n in range(self.model.layout.n_blocks) if self.exists(n)
        )


class Want(NamedTuple):
    """One block that is wanted."""

    key: BlockKey
    priority: float
    prefetch: bool = False


def ordered(*wants: Want) -> Wants:
    """Wants these, most urgent first."""
    keys = np.array([want.key for want in wants], dtype=np.int64).reshape(-1, 2)
    priority, prefetch = ([want[n] for want in wants] for n in (1, 2))
    return Wants(keys[:, 0], keys[:, 1], np.array(priority, dtype=float), np.array(prefetch, dtype=bool))


def wants(blocks: Sequence[int], prefetch: bool = False, top: float = 100.0) -> Wants:
    """Wants blocks in falling order."""
    return ordered(*(Want(BlockKey(block), top - n, prefetch) for n, block in enumerate(blocks)))


def device_budget(source: ScriptedSource, n_blocks: int) -> int:
    """Returns the bytes for so many blocks and whatever stand-ins fit beside them."""
    budget = source.slab_bytes * n_blocks
    for _ in range(20):  # larger budgets have finer stand-ins
        coarse = source.stream_tables(source.model, Precision.FULL, memory.coarse_bytes(budget))
        budget = source.slab_bytes * n_blocks + stream_bytes(coarse)
    return budget


def eventually(condition: Callable[[], bool], what: str = "") -> None:
    """Waits for something that threads do; long, because the machine may be busy."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, f"never came: {what}"
        time.sleep(0.002)


class Clockwork:
    """Holdings without threads: reads take no time, and memory of what goes is free at once."""

    def __init__(self, n_slabs: int, n_copies: int | None = None) -> None:
        host = None if n_copies is None else Slabs(64, 64 * n_copies, _memory)
        self.holdings = Holdings(Slabs(64, 64 * n_slabs, _memory), host, lambda key: 64, N_BLOCKS)
        self.machine = self.holdings.machine
        self.fetches: Counter[int] = Counter()
        self.now = 100.0

    def want(self, wanted: Wants) -> None:
        self.machine.want(wanted, self.now)

    def step(self, seconds: float = 0.016) -> list[int]:
        """Lets some time pass, then fetches all that can be had. Returns the fetched blocks."""
        self.now += seconds
        fetched = []
        idle = 0
        while idle < 2:
            job = self.holdings.next_job(self.now)
            idle = 0 if job else idle + 1
            if job:
                fetched.append(job.key.block)
                self.fetches[job.key.block] += 1
                copied = Payload(BlockTables((), (), (), ()), None, 64)
                payload = replace(copied, tables=replace(copied.tables, held=job.lease))
                self.holdings.arrived(job, payload, copied, self.now)
                del payload
            del job
        return fetched

    @property
    def resident(self) -> set[int]:
        return {key.block for key in self.holdings.resident}


def _memory(n_bytes: int) -> Tensor:
    return torch.empty(n_bytes, dtype=torch.uint8)
