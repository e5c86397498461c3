"""Residency: which blocks of one field are in memory, and the tables that render from them."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from . import memory
from .contracts import (
    BlockKey,
    BlockSource,
    BlockState,
    FetchRecord,
    MemoryBudget,
    StreamStatus,
    Variant,
    Wants,
)
from .fetcher import N_THREADS, Fetcher
from .forms import Forms
from .holdings import Holdings
from .memory import Plan, Slabs
from .publisher import FADE_SECONDS, Publisher
from .report import block_states, count_wanted
from .snapshots import Streams, Versions, stream_bytes

if TYPE_CHECKING:
    from ...cuda.tables import FieldTables
    from ..gridnerf import GridNeRF
    from ..settings import Precision

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.05  # between two questions whether a wait is cancelled
CLOSE_SECONDS = 0.5  # that closing waits for reads under way
SHORT_SECONDS = 30.0  # after which an allocation that failed is tried again


class Residency:
    """Fetches blocks of a field into memory within a budget; for all threads.

    Times are those of time.monotonic(). Memory of blocks that go is used again as soon as no snapshot refers
    to them, so nobody should keep one longer than a picture takes.
    """

    def __init__(
        self,
        source: BlockSource,
        model: GridNeRF,
        precision: Precision,
        budget: MemoryBudget,
        device: torch.device | str = "cpu",
        on_change: Callable[[], None] | None = None,
        keeps_copies: bool | None = None,
    ) -> None:
        """Reads what is always in memory, and starts to wait for wants.

        Args:
            source: Where blocks come from.
            model: The field.
            precision: Of the planes, unless memory is too short; AUTO is FULL up to FULL_PRECISION_LIMIT.
            budget: Bytes, see `memory.resolved`.
            device: Where rendering happens.
            on_change: Called from a thread whenever `tables` has changed or a block has failed.
            keeps_copies: Whether blocks that leave the device stay in main memory within budget.host; None:
                where the device has memory of its own.

        Raises:
            InputError: The stand-ins cannot be read.
        """
        self._device = torch.device(device)
        self._budget = memory.resolved(budget, self._device)
        device_bytes = self._budget.device or 0
        self._forms = Forms(source, model, precision, device_bytes, self._device)
        stream = self._forms.open_stream(device_bytes)
        self._exists = stream.coarse.rows.numpy() >= 0
        self._static_bytes = stream_bytes(stream)
        self._limit = max(device_bytes - self._static_bytes, 0)
        self._changed = threading.Condition()
        self._turn = threading.Lock()  # of those who wait for blocks
        self._is_closed, self._is_planning = False, False
        self._short_time = float("inf")  # when an allocation failed last
        slabs = Slabs(
            self._forms.slab_bytes, self._limit, lambda n_bytes: memory.new_memory(n_bytes, self._device)
        )
        keeps_copies = self._device.type != "cpu" if keeps_copies is None else keeps_copies
        host = self._new_host() if keeps_copies else None
        self._host_limit = host.limit if host else 0
        self._holdings = Holdings(slabs, host, self._forms.n_bytes, len(self._exists))
        self._fetcher = Fetcher(
            self._holdings, self._changed, self._forms.source_of, self._relieve, self._device
        )
        streams = Streams(stream, self._forms.room_of)
        self._publisher = Publisher(model.bare_tables(), streams, self._holdings, self._changed, on_change)
        self._publisher.start(self._watch)

    # Snapshots

    @property
    def version(self) -> int:
        """Counts changes of what is resident."""
        return self._publisher.current.version

    @property
    def plan(self) -> Plan:
        """What was given up so far to stay within the budget, and how to render therefore."""
        return self._forms.plan

    @property
    def is_closed(self) -> bool:
        """Whether nothing will be fetched any more."""
        return self._is_closed

    def tables(self, variants: Sequence[Variant] = ()) -> FieldTables:
        """Returns the newest snapshot, the same object while nothing changed.

        Args:
            variants: Versions that stand for the field's own blocks, at most one of each.
        """
        publisher = self._publisher
        publisher.was_seen = True
        versions: Versions = ()
        if variants:
            versions = tuple(sorted(BlockKey(variant.block, self.number(variant)) for variant in variants))
        if versions != publisher.shown:
            with self._changed:
                publisher.shown = versions
                self._repin()
        return publisher.current.tables(versions)

    def fade(self, now: float) -> Tensor | None:
        """Returns the share of each block against its stand-in; None: all are 1. float32 [n_blocks]

        Only blocks fade that arrived after a snapshot was asked for.
        """
        with self._changed:
            arrivals = self._publisher.arriving(now)
        if not arrivals:
            return None
        shares = torch.ones(len(self._exists))
        for block, arrived in arrivals.items():
            shares[block] = min(max((now - arrived) / FADE_SECONDS, 0.0), 1.0)
        return shares

    # What is asked for

    def number(self, variant: Variant) -> int:
        """Returns the number of a version of a block, from 1; equal identities have equal numbers."""
        with self._changed:
            number = self._forms.number(variant)
            self._holdings.machine.register(BlockKey(variant.block, number))
            return number

    def want(self, wants: Wants) -> None:
        """Replaces what is wanted; blocks that do not exist are left out."""
        exists = self._exists[wants.blocks] | (wants.variants > 0)
        if not exists.all():
            wants = Wants(*(getattr(wants, each.name)[exists] for each in fields(Wants)))
        with self._changed:
            now = time.monotonic()
            self._holdings.machine.want(wants, now)
            self._allow_again(now)
            self._changed.notify_all()

    def n_bytes(self, keys: Sequence[BlockKey]) -> int:
        """Returns the memory that blocks take together, bytes."""
        return sum(self._holdings.size_of(key) for key in keys if self._is_there(key))

    def fits(self, keys: Sequence[BlockKey]) -> bool:
        """Whether the budget has room for these blocks at once, beside those that are pinned."""
        with self._changed:
            return self._needed(keys) <= self._holdings.slabs.limit

    @contextmanager
    def hold(
        self, keys: Sequence[BlockKey], is_cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[bool]:
        """Waits until blocks are resident and keeps them there meanwhile; they go before everything wanted.

        Whoever waits must not keep a snapshot, for the memory of its blocks may be what is waited for, nor
        hold other blocks. Several threads may hold blocks; they wait for theirs one after the other.

        Args:
            keys: The blocks; those that do not exist are left out.
            is_cancelled: Asked while waiting.

        Yields:
            Whether they are there; False: the wait was cancelled, or the field closed.

        Raises:
            InputError: They do not fit into the budget, or one of them cannot be read.
        """
        keys = tuple(dict.fromkeys(key for key in keys if self._is_there(key)))
        machine = self._holdings.machine
        while not self._turn.acquire(timeout=POLL_SECONDS):
            if is_cancelled():
                yield False
                return
        with self._changed:
            machine.hold(keys)
        try:
            try:
                are_there = self._wait_for(keys, is_cancelled)
            finally:
                self._turn.release()
            yield are_there
        finally:
            with self._changed:
                machine.release(keys, time.monotonic())
                self._changed.notify_all()

    def _wait_for(self, keys: Sequence[BlockKey], is_cancelled: Callable[[], bool]) -> bool:
        machine = self._holdings.machine
        with self._changed:
            try:
                machine.urgent = tuple(keys)
                self._changed.notify_all()
                while not all(key in self._publisher.current.resident for key in keys):
                    if self._is_closed or is_cancelled():
                        return False
                    self._check_hold(keys)
                    self._changed.wait(POLL_SECONDS)
                return not is_cancelled()
            finally:
                machine.urgent = ()

    def _check_hold(self, keys: Sequence[BlockKey]) -> None:
        machine = self._holdings.machine
        for key in keys:
            if machine.state(key) is BlockState.FAILED:
                raise InputError(machine.reasons[key])
        needed, limit = self._needed(keys), self._holdings.slabs.limit
        if needed > limit:
            raise InputError(
                f"the blocks that one picture needs at once must fit into memory.device, but they take "
                f"{needed / 1e6:.1f} MB and it has room for {limit / 1e6:.1f} MB; raise memory.device"
            )

    def _needed(self, keys: Sequence[BlockKey]) -> int:
        together = {*keys, *self._holdings.machine.pinned.values()}
        return sum(self._holdings.size_of(key) for key in together if self._is_there(key))

    # What people do

    def pin(self, block: int) -> None:
        """Fetches a block, in the version that is shown, and keeps it.

        Raises:
            InputError: No room would be left for any other block.
        """
        with self._changed:
            machine, slabs = self._holdings.machine, self._holdings.slabs
            key = self._shown_key(block)
            if self._needed([key]) + slabs.slab_bytes > slabs.limit:
                raise InputError(
                    f"memory.device must leave room for a block beside those that are pinned, but block "
                    f"{block} would take the last of {slabs.limit / 1e6:.1f} MB; unpin another one"
                )
            machine.pinned[block] = key
            machine.call_back(key)
            self._changed.notify_all()

    def unpin(self, block: int) -> None:
        """Undoes `pin`."""
        with self._changed:
            self._holdings.machine.pinned.pop(block, None)
            self._changed.notify_all()

    def evict(self, block: int) -> None:
        """Takes a block from memory; it comes back once it was not wanted for a while, or by `reload`.

        Raises:
            InputError: A picture is being rendered from it.
        """
        with self._changed:
            self._check_free(block)
            self._holdings.machine.pinned.pop(block, None)
            for key in self._versions_of(block):
                self._holdings.machine.send_away(key)
                self._holdings.drop(key, time.monotonic())
            self._changed.notify_all()

    def reload(self, block: int) -> None:
        """Reads a block again if it is wanted, also one that failed.

        Raises:
            InputError: A picture is being rendered from it.
        """
        with self._changed:
            self._check_free(block)
            for key in self._versions_of(block):
                self._holdings.machine.call_back(key)
                self._holdings.drop(key, time.monotonic())
            self._changed.notify_all()

    def _check_free(self, block: int) -> None:
        if any(key.block == block for key in self._holdings.machine.held):
            raise InputError(f"block {block} is being rendered from; wait for the picture, or cancel it")

    def _versions_of(self, block: int) -> list[BlockKey]:
        return list({*self._holdings.machine.versions_of(block), self._shown_key(block)})

    def _shown_key(self, block: int) -> BlockKey:
        return next((key for key in self._publisher.shown if key.block == block), BlockKey(block))

    def _repin(self) -> None:
        pinned = self._holdings.machine.pinned
        pinned.update({block: self._shown_key(block) for block in pinned})

    # What there is to say

    def records(self) -> tuple[FetchRecord, ...]:
        """Returns the last fetches, oldest first."""
        with self._changed:
            return tuple(self._fetcher.records)

    def status(self) -> StreamStatus:
        """Returns what there is to say; `target` is for those who know the camera."""
        with self._changed:
            return self._status(self._holdings)

    def _status(self, holdings: Holdings) -> StreamStatus:
        machine, slabs = holdings.machine, holdings.slabs
        n_wanted, n_missing, n_beyond = count_wanted(holdings)
        return StreamStatus(
            states=block_states(holdings, self._exists, self._publisher.shown, self._forms.variant),
            block_bytes=holdings.block_bytes.copy(),
            pinned=frozenset(machine.pinned),
            device_bytes=slabs.allocated + self._static_bytes,
            device_budget=self._budget.device or 0,
            host_bytes=holdings.host.allocated if holdings.host else 0,
            host_budget=holdings.host.limit if holdings.host else self._budget.host or 0,
            n_wanted=n_wanted,
            n_missing=n_missing,
            n_beyond=n_beyond,
            fetching=tuple(key.block for key in machine.among(BlockState.FETCHING)),
            prefetching=tuple(machine.key(slot).block for slot in machine.wanted(seen=False).tolist()),
            target=None,
            pressure=self._forms.plan.said,
            fetched_bytes=self._fetcher.fetched_bytes,
            fetch_seconds=self._fetcher.fetch_seconds,
            failures=tuple(sorted((key.block, reason) for key, reason in machine.reasons.items())),
            version=self.version,
        )

    def close(self) -> None:
        """Ends fetching and gives the memory back, at the latest when the last snapshot is gone."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._fetcher.close(CLOSE_SECONDS)
        self._publisher.close(CLOSE_SECONDS)
        with self._changed:
            self._holdings.machine.want(Wants(), time.monotonic())
            self._holdings.machine.pinned.clear()
            self._holdings.clear(time.monotonic())
            self._holdings.slabs.resize(1, 0)
            if self._holdings.host is not None:
                self._holdings.host.resize(1, 0)

    # Memory

    def _is_there(self, key: BlockKey) -> bool:
        return 0 <= key.block < len(self._exists) and (key.variant > 0 or bool(self._exists[key.block]))

    def _new_host(self) -> Slabs:
        slab_bytes = self._forms.slab_bytes
        pinned = self._device.type == "cuda"
        limit = max(self._budget.host or 0, N_THREADS * slab_bytes)  # room for those that are being read
        cpu = torch.device("cpu")
        return Slabs(slab_bytes, limit, lambda n_bytes: memory.new_memory(n_bytes, cpu, pinned))

    def _relieve(self) -> None:
        """Gives up what an allocation that failed demands."""
        with self._changed:
            slabs, before = self._holdings.slabs, self._forms.plan
            was_short = slabs.is_short and not self._is_planning
            self._holdings.note_shortage()
            self._short_time = time.monotonic()
            if not was_short:
                return
            slabs.limit = max(
                slabs.limit, slabs.slab_bytes - 1
            )  # nothing is known but that a block is too much
            plan = memory.plan(self._forms.needs, slabs.limit, short=True)
            if (plan.precision, plan.drop_levels) == (before.precision, before.drop_levels):
                self._forms.plan = plan
                return
            self._is_planning = True
        try:
            self._change_form(plan)
        except Exception:  # noqa: BLE001 - fewer blocks, then
            logger.error("blocks cannot be held in less memory\n%s", traceback.format_exc())
        finally:
            self._is_planning = False
        self._publisher.tell()

    def _allow_again(self, now: float) -> None:
        """Takes the whole budget once the shortage is long ago."""
        if now - self._short_time > SHORT_SECONDS:
            self._short_time = float("inf")
            self._holdings.slabs.limit = self._limit
            if self._holdings.host is not None:
                self._holdings.host.limit = self._host_limit

    def _watch(self) -> None:
        """Sees, with `_changed` held, that fetching goes on, also while nobody wants anything new."""
        self._fetcher.replace_stalled()
        self._allow_again(time.monotonic())

    def _change_form(self, plan: Plan) -> None:
        """Has all blocks read again after another plan."""
        streams = self._publisher.current.streams
        if plan.precision is not self._forms.plan.precision:
            streams = Streams(self._forms.read_stream(plan.precision), self._forms.room_of)

        def change() -> None:
            self._holdings.clear(time.monotonic())
            self._forms.plan = plan
            self._static_bytes = stream_bytes(streams.own)
            for slabs in (self._holdings.slabs, self._holdings.host):
                if slabs is not None:
                    slabs.resize(self._forms.slab_bytes, slabs.limit)

        self._publisher.restart(streams, change)
