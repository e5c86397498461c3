"""The threads that bring blocks into memory."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from .cancelling import ReadCancelled, cancellable
from .contracts import BlockKey, BlockSource, FetchRecord, Payload
from .memory import Plan, is_shortage
from .snapshots import moved

if TYPE_CHECKING:
    from .holdings import Holdings, Job

logger = logging.getLogger(__name__)

N_RECORDS = 500
STARVED_SECONDS = 0.005  # between looks for memory that pictures under way give back
UNMET_SECONDS = 0.25  # between looks for blocks that may go by now, or be tried again
STALL_SECONDS = 5.0  # a read that takes longer may never end; then another thread takes over
N_THREADS = 2  # from four cores on, else one
MAX_THREADS = 8  # when reads hang
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EINTR, errno.EBUSY}


@dataclass(frozen=True)
class Fetched:
    """A block on the device, and its copy in main memory if there is one."""

    payload: Payload
    copied: Payload | None
    n_bytes: int  # that were read; 0: it came from main memory


@dataclass(frozen=True)
class Failure:
    """Why there is no block. An empty reason: it was cancelled."""

    reason: str
    may_pass: bool = False


class Fetcher:
    """Threads that read whatever `holdings` says is next; what it says changes under `changed` only."""

    def __init__(
        self,
        holdings: Holdings,
        changed: threading.Condition,
        source_of: Callable[[BlockKey], tuple[BlockSource, Plan]],
        on_short: Callable[[], None],
        device: torch.device,
    ) -> None:
        """Starts the threads.

        Args:
        holdings: States and memory.
        changed: Guards them; notified at every change.
        source_of: Says under `changed` where a block comes from, and in what form.
        on_short: Called without `changed` when an allocation has failed.
        device: Where blocks go.
        """
        self.records: deque[FetchRecord] = deque(maxlen=N_RECORDS)
        self.fetched_bytes, self.fetch_seconds = 0, 0.0
        self._holdings, self._changed = holdings, changed
        self._source_of, self._on_short = source_of, on_short
        self._device = device
        self._is_closed = False
        self._n_wanted = N_THREADS if (os.cpu_count() or 1) >= 4 else 1
        self._threads: list[threading.Thread] = []
        self._begun: dict[Job, float] = {}
        for _ in range(self._n_wanted):
            self._start()

    def close(self, seconds: float) -> None:
        """Ends the threads; those that are stuck in a read end after it."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        until = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(until - time.monotonic(), 0))

    def replace_stalled(self) -> None:
        """Starts a thread if all hang in reads that do not end; call with `changed` held."""
        old = time.monotonic() - STALL_SECONDS
        n_stalled = sum(begun < old for begun in self._begun.values())
        if not self._is_closed and n_stalled >= len(self._threads) and len(self._threads) < MAX_THREADS:
            self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="fetch", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        stream = None
        if self._device.type == "cuda":
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        while self._fetch_next(stream):
            pass

    def _fetch_next(self, stream: torch.cuda.Stream | None) -> bool:
        """Fetches one block. Returns whether to go on; keeps nothing alive while it waits."""
        job = self._wait_for_job()
        if job is None:
            return False
        with self._changed:
            source, plan = self._source_of(job.key)
            began = self._begun[job] = time.monotonic()
            following = next(self._holdings.machine.demand(began), None)
            next_source = None if following is None else self._source_of(following)[0]
        if following is not None and next_source is not None:
            next_source.expect(following.block)
        outcome = self._outcome(job, source, plan, stream)
        with self._changed:
            self._finish(job, outcome, began)
            del self._begun[job]
            self._changed.notify_all()
            if len(self._threads) > self._n_wanted and not self._is_closed:
                self._threads.remove(threading.current_thread())
                return False
        return True

    def _wait_for_job(self) -> Job | None:
        while True:
            with self._changed:
                if self._is_closed:
                    return None
                now = time.monotonic()
                job = self._holdings.next_job(now)
                if job is not None:
                    return job
                self._changed.notify_all()  # blocks may have gone to make room
                is_short = self._holdings.is_short
                if not is_short:
                    self._changed.wait(self._patience(now))
            if is_short:
                self._on_short()

    def _patience(self, now: float) -> float | None:
        if self._holdings.leaving:
            return STARVED_SECONDS
        machine = self._holdings.machine
        is_unmet = next(machine.demand(now), None) is not None
        return UNMET_SECONDS if is_unmet or machine.has_retries else None

    def _outcome(
        self, job: Job, source: BlockSource, plan: Plan, stream: torch.cuda.Stream | None
    ) -> Fetched | Failure:
        def is_useless() -> bool:
            with self._changed:
                if self._is_closed or job.is_void or job.epoch != self._holdings.epoch:
                    return True
                return self._holdings.machine.is_useless(job.key, time.monotonic())

        try:
            with cancellable(is_useless):
                return self._read(job, source, plan, stream)
        except Exception as error:  # noqa: BLE001 - one block fails, the thread lives on
            failure = _failure(job.key.block, error)
            _forget_frames(error)
            return failure

    def _read(self, job: Job, source: BlockSource, plan: Plan, stream: torch.cuda.Stream | None) -> Fetched:
        lease, n_bytes = job.lease, source.n_bytes(job.key.block, plan.precision, plan.drop_levels)
        memory = lease.memory if job.copy is None else job.copy.lease.memory
        copied = None if job.copy is None else job.copy.payload
        payload, n_read = copied, 0
        if payload is None:
            if n_bytes > memory.nbytes:
                raise InputError(
                    f"block {job.key.block} must have the size that it had when the scene was opened, "
                    f"{memory.nbytes} bytes, got {n_bytes}; open the scene again"
                )
            payload = source.read(job.key.block, memory[:n_bytes], plan.precision, plan.drop_levels)
            n_read = n_bytes
        if job.copy is not None:
            copied = payload
            _copy(memory, lease.memory, n_bytes, stream)
            payload = moved(payload, memory, lease.memory)
        tables = replace(payload.tables, held=lease)
        return Fetched(replace(payload, tables=tables, n_bytes=lease.memory.nbytes), copied, n_read)

    def _finish(self, job: Job, outcome: Fetched | Failure, began: float) -> None:
        now = time.monotonic()
        holdings = self._holdings
        self.fetch_seconds += now - began
        if isinstance(outcome, Fetched):
            self.fetched_bytes += outcome.n_bytes
            self.records.append(FetchRecord(job.key, outcome.n_bytes, now - began, now))
            holdings.arrived(job, outcome.payload, outcome.copied, now)
        elif not outcome.reason:
            holdings.cancelled(job, now)
        elif not holdings.failed(job, outcome.reason, outcome.may_pass, now):
            self.records.append(FetchRecord(job.key, 0, now - began, now, outcome.reason))


def _failure(block: int, error: Exception) -> Failure:
    if isinstance(error, ReadCancelled):
        return Failure("")
    if isinstance(error, InputError):
        return Failure(str(error), _may_pass(error))
    if isinstance(error, OSError):
        return Failure(f"block {block} cannot be read: {error}", _may_pass(error))
    if is_shortage(error):
        return Failure(f"block {block} cannot be read, because memory is too short", may_pass=True)
    logger.error("block %s cannot be read\n%s", block, traceback.format_exc())
    return Failure(f"block {block} cannot be read: {type(error).__name__}: {error}")


def _forget_frames(error: BaseException | None) -> None:
    """Lets go of what the calls that led to an error refer to, among it memory, whoever keeps the error."""
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _may_pass(error: BaseException) -> bool:
    """Whether an error is one of a disk or network that is disturbed for a moment."""
    causes = (error, error.__cause__, error.__context__)
    return any(
        isinstance(cause, TimeoutError) or (isinstance(cause, OSError) and cause.errno in _PASSING)
        for cause in causes
    )


def _copy(memory: torch.Tensor, target: torch.Tensor, n_bytes: int, stream: torch.cuda.Stream | None) -> None:
    """Copies a block to the device, and returns when it is there."""
    if stream is None:
        target[:n_bytes].copy_(memory[:n_bytes])
        return
    stream.wait_stream(torch.cuda.default_stream(target.device))  # which may still read the former block
    with torch.cuda.stream(stream):
        target[:n_bytes].copy_(memory[:n_bytes], non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(stream)
    done.synchronize()
