"""What of a field is in memory, and how blocks come and go within the budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .contracts import BlockKey, BlockState, Payload
from .machine import Event, Machine, Slots
from .memory import Lease, Slabs

AHEAD = 3  # blocks for which room is made at a time, as pictures under way keep it a while
TRIES = 3  # of reads that fail in a way that may pass
RETRY_SECONDS = 0.25  # before the second try; each further one waits twice as long


@dataclass(frozen=True, eq=False)
class Copy:
    """A block in main memory beside the device."""

    lease: Lease
    payload: Payload | None  # None: it is being read


@dataclass(eq=False)
class Job:
    """One block on its way to the device."""

    key: BlockKey
    lease: Lease  # where it shall lie
    copy: Copy | None  # where it is read to, or already is; None: straight to where it shall lie
    epoch: int  # of the memory that it was begun in
    is_void: bool = False  # its result is of no use


class Holdings:
    """States, memory and payloads of one field's blocks; all methods are for one thread at a time."""

    def __init__(
        self, slabs: Slabs, host: Slabs | None, n_bytes: Callable[[BlockKey], int], n_blocks: int
    ) -> None:
        """Begins with everything on disk.

        Args:
        slabs: Where blocks lie on the device.
        host: Where copies of them lie in main memory; None: device and main memory are one.
        n_bytes: Says what a block takes.
        n_blocks: Of the field.
        """
        self.machine = Machine(n_blocks)
        self.slabs, self.host = slabs, host
        self.resident: dict[BlockKey, Payload] = {}
        self.is_changed = False  # `resident` is not as in the newest snapshot
        self.has_evicted = False  # and a block that had to go is in it
        self.jobs: dict[BlockKey, Job] = {}
        self.block_bytes = np.zeros(n_blocks, dtype=np.int64)  # of all versions, device and host together
        self.epoch = 0
        self._resident_bytes = 0
        self._n_bytes = n_bytes
        self._copies: OrderedDict[BlockKey, Copy] = OrderedDict()  # used last at the end

    def size_of(self, key: BlockKey) -> int:
        """Returns the bytes that a block takes on the device."""
        return self.slabs.size_of(self._n_bytes(key))

    def sizes_of(self, slots: Slots) -> NDArray[np.int64]:
        """Returns the same of the blocks in some slots of the machine."""
        sizes = np.full(len(slots), self.slabs.slab_bytes, dtype=np.int64)
        for place in np.flatnonzero(slots >= len(self.block_bytes)).tolist():
            sizes[place] = self.size_of(self.machine.key(slots[place]))
        return sizes

    @property
    def leaving(self) -> int:
        """Bytes of blocks that are gone and that pictures under way still read."""
        kept = sum(job.lease.memory.nbytes for job in self.jobs.values())
        return self.slabs.in_use - self._resident_bytes - kept

    @property
    def is_short(self) -> bool:
        """Whether an allocation failed that nobody has noted."""
        return self.slabs.is_short or (self.host is not None and self.host.is_short)

    def note_shortage(self) -> None:
        """Notes it."""
        self.slabs.is_short = False
        if self.host is not None:
            self.host.is_short = False

    # Fetching

    def next_job(self, now: float) -> Job | None:
        """Begins to fetch the most urgent block that memory has room for, and makes room for the next."""
        room, needed, n_waiting = self.slabs.available + self.leaving, 0, 0
        for key in self.machine.demand(now):
            job = None if n_waiting else self._begin(key, now)
            if job is not None:
                return job
            size = self.size_of(key)
            needed += size
            while room < needed <= self.slabs.limit:
                victim = self.machine.victim(key, now)
                if victim is None:
                    break
                room += self.slabs.size_of(self.resident[victim].n_bytes)
                self.evict(victim, now)
            if room >= needed:
                n_waiting += 1
            elif size == self.slabs.slab_bytes:
                break  # those that are less urgent fit even less
            else:
                needed -= size
            if n_waiting == AHEAD:
                break
        return None

    def _begin(self, key: BlockKey, now: float) -> Job | None:
        n_bytes = self._n_bytes(key)
        copy = self._copies.get(key)
        if self.host is not None and copy is None and not self._can_copy(n_bytes):
            return None
        lease = self.slabs.take(n_bytes)
        if lease is None:
            return None
        if self.host is not None and copy is None:
            memory = self.host.take(n_bytes)
            if memory is None:
                return None
            copy = self._copies[key] = Copy(memory, None)
            self.block_bytes[key.block] += memory.memory.nbytes
        if copy is not None:
            self._copies.move_to_end(key)
        self.machine.apply(key, Event.READ, now)
        job = self.jobs[key] = Job(key, lease, copy, self.epoch)
        return job

    def _can_copy(self, n_bytes: int) -> bool:
        """Drops the copies used least lately until there is room for another."""
        assert self.host is not None
        while self.host.available < self.host.size_of(n_bytes):
            oldest = next((key for key in self._copies if key not in self.jobs), None)
            if oldest is None:
                return False
            self._drop_copy(oldest)
        return True

    def arrived(self, job: Job, payload: Payload, copied: Payload | None, now: float) -> None:
        """Takes a block that was fetched.

        Args:
            job: What was to be done.
            payload: The block on the device.
            copied: The same in main memory beside it.
            now: Seconds.
        """
        if self._is_stale(job):
            return self.cancelled(job, now)
        del self.jobs[job.key]
        if job.copy is not None:
            self._copies[job.key] = Copy(job.copy.lease, copied)
        self.machine.apply(job.key, Event.ARRIVED, now)
        self.resident[job.key] = payload
        self._count(job.key, payload.n_bytes)
        self.is_changed = True
        return None

    def cancelled(self, job: Job, now: float) -> None:
        """Ends a job that came to nothing."""
        if self.jobs.get(job.key) is job:
            del self.jobs[job.key]
        if job.epoch != self.epoch:
            return
        copy = self._copies.get(job.key)
        if copy is not None and (copy.payload is None or job.is_void):
            self._forget_copy(job.key)
            copy = None
        self.machine.apply(job.key, Event.CANCELLED if copy is None else Event.DEMOTED, now)

    def failed(self, job: Job, reason: str, may_pass: bool, now: float) -> bool:
        """Ends a job whose read failed; what may pass is tried again later. Returns whether that is so."""
        if self._is_stale(job):
            self.cancelled(job, now)
            return True
        tries = self.machine.note_try(job.key)
        if may_pass and tries < TRIES:
            self.machine.put_off(job.key, now + RETRY_SECONDS * 2 ** (tries - 1))
            self.cancelled(job, now)
            return True
        self.machine.reasons[job.key] = reason
        del self.jobs[job.key]
        if job.key in self._copies:
            self._forget_copy(job.key)
        self.machine.apply(job.key, Event.BROKEN, now)
        self.is_changed = True  # so that it is told
        return False

    def _is_stale(self, job: Job) -> bool:
        return job.is_void or job.epoch != self.epoch

    # Going

    def evict(self, key: BlockKey, now: float) -> None:
        """Takes a block from the device; a copy in main memory stays."""
        self._count(key, -self.resident.pop(key).n_bytes)
        self.is_changed = self.has_evicted = True
        if key in self._copies:
            self._copies.move_to_end(key)
            self.machine.apply(key, Event.DEMOTED, now)
        else:
            self.machine.apply(key, Event.DROPPED, now)

    def drop(self, key: BlockKey, now: float) -> None:
        """Takes a block from all memory, whatever its state; a failed one is as if it had not been tried."""
        state = self.machine.state(key)
        if state is BlockState.FETCHING:
            self.jobs[key].is_void = True
        elif state is BlockState.FAILED:
            self.machine.apply(key, Event.RETRIED, now)
        else:
            if state is BlockState.DEVICE:
                self.evict(key, now)
            if key in self._copies:
                self._drop_copy(key)

    def clear(self, now: float) -> None:
        """Takes all blocks from all memory; reads under way come to nothing."""
        self.epoch += 1
        for key, job in list(self.jobs.items()):
            job.is_void = True
            self.machine.apply(key, Event.CANCELLED, now)
        self.jobs.clear()
        for key in list(self.resident):
            self.evict(key, now)
        for key in list(self._copies):
            self._drop_copy(key)

    def _count(self, key: BlockKey, n_bytes: int) -> None:
        self._resident_bytes += n_bytes
        self.block_bytes[key.block] += n_bytes

    def _forget_copy(self, key: BlockKey) -> None:
        self.block_bytes[key.block] -= self._copies.pop(key).lease.memory.nbytes

    def _drop_copy(self, key: BlockKey) -> None:
        self._forget_copy(key)
        if self.machine.state(key) is BlockState.HOST:
            self.machine.apply(key, Event.DROPPED, 0.0)
