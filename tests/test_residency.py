"""Blocks that are fetched by threads, within a budget, from a source that waits, fails and hangs."""

from __future__ import annotations

import errno
import gc
import random
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming import fetcher, holdings, memory
from landmark_viewer.core.streaming.contracts import (
    STATES,
    BlockKey,
    BlockState,
    MemoryBudget,
    Payload,
    Variant,
)
from landmark_viewer.core.streaming.publisher import FADE_SECONDS
from landmark_viewer.core.streaming.residency import Residency
from landmark_viewer.core.streaming.snapshots import stream_bytes

from .scripted_source import TINY, ScriptedSource, Want, device_budget, eventually, ordered, wants
from .small_fields import make_field


@contextmanager
def residency(
    source: ScriptedSource, n_blocks: int, precision: Precision = Precision.FULL, **options: object
) -> Iterator[Residency]:
    """Opens a field with a budget for so many blocks."""
    budget = MemoryBudget(device=device_budget(source, n_blocks), host=options.pop("host", None))
    try:
        opened = Residency(source, source.model, precision, budget, **options)
        yield opened
    finally:
        for gate in source.gates.values():
            gate.set()
        opened.close()


def resident(opened: Residency) -> set[int]:
    return {number for number, block in enumerate(opened.tables().blocks) if block is not None}


def state(opened: Residency, block: int) -> BlockState:
    return STATES[opened.status().states[block]]


def keys(*blocks: int) -> list[BlockKey]:
    return [BlockKey(block) for block in blocks]


# Snapshots


def test_wanted_blocks_arrive_with_their_tables_and_masks() -> None:
    source = ScriptedSource()
    whole = source.model.tables(Precision.FULL)
    with residency(source, 4) as opened:
        before = opened.tables()
        assert before is opened.tables()
        assert resident(opened) == set()
        opened.want(wants([3, 9]))
        eventually(lambda: resident(opened) == {3, 9})
        after = opened.tables()
        assert after is opened.tables()
        assert before.blocks == (None,) * 16
        assert after.stream.static is before.stream.static
        assert set(after.stream.block_masks) == {3, 9}
        for block in (3, 9):
            for group in ("density_planes", "density_lines", "appearance_planes", "appearance_lines"):
                for mine, theirs in zip(
                    getattr(after.blocks[block], group), getattr(whole.blocks[block], group), strict=True
                ):
                    assert torch.equal(mine, theirs)
        assert opened.version > 0
        assert sorted(record.key.block for record in opened.records()) == [3, 9]  # two may be read at once


def test_a_source_is_told_what_comes_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "N_THREADS", 1)
    source = ScriptedSource()
    with residency(source, 4) as opened:
        opened.want(wants([3, 9, 5]))
        eventually(lambda: resident(opened) == {3, 5, 9})
        assert source.expected == [9, 5]


def test_a_burst_of_arrivals_is_published_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landmark_viewer.core.streaming.publisher.PUBLISH_SECONDS", 1000.0)
    source = ScriptedSource()
    with residency(source, 16) as opened:
        opened.want(wants([0]))
        eventually(lambda: resident(opened) == {0})
        opened.want(wants(list(range(16))))
        eventually(lambda: opened.status().n_missing == 0)
        assert resident(opened) == {0}
        assert opened.version == 1


def test_a_listener_is_told_and_may_fail() -> None:
    source, told = ScriptedSource(), []

    def listen() -> None:
        told.append(1)
        raise RuntimeError("a listener that fails")

    with residency(source, 4, on_change=listen) as opened:
        opened.want(wants([1]))
        eventually(lambda: bool(told))
        opened.want(wants([2]))
        eventually(lambda: resident(opened) == {1, 2})


def test_arrivals_fade_in_once_anyone_has_looked() -> None:
    source = ScriptedSource()
    with residency(source, 4) as opened:
        opened.want(wants([1]))
        eventually(lambda: opened.version == 1)
        assert opened.fade(time.monotonic()) is None
        opened.tables()
        opened.want(wants([1, 6]))
        eventually(lambda: resident(opened) == {1, 6})
        arrived = opened._publisher._arrivals[6]
        shares = opened.fade(arrived + FADE_SECONDS / 3)
        assert shares is not None
        assert shares.dtype == torch.float32
        assert shares[6].item() == pytest.approx(1 / 3)
        assert (shares[[n for n in range(16) if n != 6]] == 1).all()
        assert opened.fade(arrived + FADE_SECONDS) is None


# Budget


def test_memory_of_a_snapshot_in_use_is_not_used_again() -> None:
    source = ScriptedSource()
    with residency(source, 2) as opened:
        opened.want(wants([0, 1]))
        eventually(lambda: resident(opened) == {0, 1})
        kept = opened.tables()
        before = [kept.blocks[n].density_planes[0].clone() for n in (0, 1)]
        opened.want(wants([14, 15]))
        eventually(lambda: resident(opened) == set(), "the old ones leave the newest snapshot")
        time.sleep(0.1)
        assert source.reads[14] == source.reads[15] == 0
        assert [torch.equal(kept.blocks[n].density_planes[0], before[n]) for n in (0, 1)] == [True, True]
        assert opened.status().device_bytes <= opened.status().device_budget
        del kept
        eventually(lambda: resident(opened) == {14, 15})
        assert opened.status().device_bytes <= opened.status().device_budget


def test_what_does_not_fit_is_said_to_be_beyond() -> None:
    source = ScriptedSource()
    with residency(source, 5) as opened:
        opened.want(wants(list(range(8))))
        eventually(lambda: resident(opened) == set(range(5)))
        status = opened.status()
        assert (status.n_wanted, status.n_missing, status.n_beyond) == (8, 3, 3)
        assert status.device_bytes == status.device_budget
        assert status.pressure == ()
        assert int(status.block_bytes.sum()) == 5 * source.slab_bytes
        assert status.fetched_bytes > 0


@pytest.mark.parametrize("budget", [0, 1, 5000])
def test_a_budget_without_room_for_the_stand_ins_is_refused(budget: int) -> None:
    source = ScriptedSource()
    with pytest.raises(
        InputError, match=r"memory\.device must have room for the coarse stand-ins of 16 blocks"
    ):
        Residency(source, source.model, Precision.FULL, MemoryBudget(device=budget))


def test_a_budget_for_hardly_more_than_the_stand_ins_leaves_them() -> None:
    source = ScriptedSource()
    stand_ins = stream_bytes(source.stream_tables(source.model, Precision.HALF, 0))
    opened = Residency(source, source.model, Precision.FULL, MemoryBudget(device=stand_ins + 10))
    opened.want(wants([1, 2]))
    assert opened.plan.said == (
        "fewer blocks",
        "half precision",
        "without the finest level",
        "smaller tiles",
        "lower resolution",
    )
    with pytest.raises(InputError, match=r"raise memory\.device"), opened.hold(keys(1)):
        pass
    assert opened.status().n_beyond == 2
    assert opened.status().device_bytes <= opened.status().device_budget
    opened.close()


def test_failing_allocations_take_the_next_rung(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ScriptedSource()
    left = [0.8 * source.slab_bytes]

    def scarce(n_bytes: int, device: torch.device, pinned: bool = False) -> torch.Tensor:
        if n_bytes > left[0]:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried ...")
        piece = torch.empty(n_bytes, dtype=torch.uint8)
        left[0] -= n_bytes
        weakref.finalize(piece, give_back, n_bytes)
        return piece

    def give_back(n_bytes: int) -> None:
        left[0] += n_bytes

    monkeypatch.setattr(memory, "new_memory", scarce)
    with residency(source, 8) as opened:
        assert opened.tables().stream.coarse.density_planes[0].dtype == torch.float32
        opened.want(wants(list(range(8))))
        eventually(lambda: "half precision" in opened.status().pressure)
        eventually(lambda: bool(resident(opened)))
        tables = opened.tables()
        planes = {block.density_planes[0].dtype for block in tables.blocks if block is not None}
        assert planes == {tables.stream.coarse.density_planes[0].dtype} == {torch.float16}
        assert opened.status().pressure[:2] == ("fewer blocks", "half precision")
        assert opened.status().device_bytes <= opened.status().device_budget


def test_an_allocation_that_failed_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landmark_viewer.core.streaming.residency.SHORT_SECONDS", 0.0)
    source, allocate, failing = ScriptedSource(), memory.new_memory, []

    def sometimes(n_bytes: int, device: torch.device, pinned: bool = False) -> torch.Tensor:
        if failing:
            raise MemoryError
        return allocate(n_bytes, device, pinned)

    monkeypatch.setattr(memory, "new_memory", sometimes)
    with residency(source, 8) as opened:
        opened.want(wants([0, 1, 2, 3, 4]))
        eventually(lambda: len(resident(opened)) == 5)
        failing.append(True)
        opened.want(wants([0, 1, 2, 3, 4, 5]))
        eventually(lambda: opened.status().pressure == ("fewer blocks",))
        assert resident(opened) == {0, 1, 2, 3, 4}
        failing.clear()
        time.sleep(0.01)
        opened.want(wants([0, 1, 2, 3, 4, 5]))
        eventually(lambda: len(resident(opened)) == 6)


def test_it_is_tried_again_also_while_the_camera_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("landmark_viewer.core.streaming.residency.SHORT_SECONDS", 0.05)
    source, allocate, n_failing = ScriptedSource(), memory.new_memory, [2]

    def sometimes(n_bytes: int, device: torch.device, pinned: bool = False) -> torch.Tensor:
        if n_failing[0]:
            n_failing[0] -= 1
            raise MemoryError
        return allocate(n_bytes, device, pinned)

    monkeypatch.setattr(memory, "new_memory", sometimes)
    with residency(source, 8, keeps_copies=True, host=9 * source.slab_bytes) as opened:
        opened.want(wants([0, 1, 2]))  # only once, as of a still picture
        eventually(lambda: resident(opened) == {0, 1, 2})


def test_blocks_stay_in_main_memory_and_come_back_without_a_read() -> None:
    source = ScriptedSource()
    host = 9 * source.slab_bytes
    with residency(source, 2, keeps_copies=True, host=host) as opened:
        for block in range(6):
            opened.want(wants([block]))
            eventually(lambda block=block: block in resident(opened))
        held = opened.tables().blocks[5]
        assert held is not None
        del held
        eventually(lambda: opened.status().host_bytes == 6 * source.slab_bytes)
        assert state(opened, 0) is BlockState.HOST
        opened.want(wants([0]))
        eventually(lambda: 0 in resident(opened))
        assert source.reads[0] == 1
        mine = opened.tables().blocks[0]
        whole = source.model.tables(Precision.FULL).blocks[0]
        assert torch.equal(mine.appearance_planes[0], whole.appearance_planes[0])
        del mine
        for block in range(6, 16):
            opened.want(wants([block]))
            eventually(lambda block=block: block in resident(opened))
        assert opened.status().host_bytes <= opened.status().host_budget == host
        assert state(opened, 1) is BlockState.DISK
        opened.want(wants([1]))
        eventually(lambda: 1 in resident(opened))
        assert source.reads[1] == 2


# Cancelling, failing, hanging


def test_a_read_that_nobody_wants_any_more_is_left() -> None:
    source = ScriptedSource()
    source.gates[4] = threading.Event()
    with residency(source, 4) as opened:
        opened.want(wants([4]))
        eventually(lambda: state(opened, 4) is BlockState.FETCHING)
        opened.want(wants([7]))
        eventually(lambda: resident(opened) == {7}, "the destination")
        assert source.cancelled == [4]
        assert state(opened, 4) is BlockState.DISK


def test_a_damaged_block_fails_with_its_reason_and_the_others_come() -> None:
    source = ScriptedSource()
    source.errors[2] = [InputError("block 2: its checksum must be 17, got 18; copy it again")]
    with residency(source, 4) as opened:
        opened.want(wants([2, 3]))
        eventually(lambda: resident(opened) == {3})
        status = opened.status()
        assert status.failures == ((2, "block 2: its checksum must be 17, got 18; copy it again"),)
        assert state(opened, 2) is BlockState.FAILED
        assert (status.n_missing, status.n_beyond) == (1, 0)
        assert [r.error for r in opened.records() if r.key.block == 2] == [status.failures[0][1]]
        with pytest.raises(InputError, match="its checksum must be 17"), opened.hold(keys(2, 3)):
            pass
        assert source.reads[2] == 1
        opened.reload(2)
        eventually(lambda: resident(opened) == {2, 3})
        assert opened.status().failures == ()


@pytest.mark.parametrize("error", [KeyError("a mistake"), OSError(errno.ENOENT, "no such file")])
def test_whatever_a_read_raises_the_threads_live_on(error: Exception) -> None:
    source = ScriptedSource()
    source.errors[2] = [error]
    with residency(source, 4) as opened:
        opened.want(wants([2, 3]))
        eventually(lambda: resident(opened) == {3})
        assert state(opened, 2) is BlockState.FAILED
        assert "block 2 cannot be read" in opened.status().failures[0][1]
        assert source.reads[2] == 1


def test_a_disk_that_is_disturbed_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "RETRY_SECONDS", 0.01)
    source = ScriptedSource()
    wrapped = InputError("block 5 must be readable")
    wrapped.__cause__ = OSError(errno.ESTALE, "stale")
    source.errors[2] = [OSError(errno.EIO, "disk"), TimeoutError()]
    source.errors[3] = [OSError(errno.EIO, "disk")] * 3
    source.errors[5] = [wrapped]
    with residency(source, 6) as opened:
        opened.want(wants([2, 3, 4, 5]))
        eventually(lambda: resident(opened) == {2, 4, 5})
        eventually(lambda: state(opened, 3) is BlockState.FAILED)
        assert (source.reads[2], source.reads[3], source.reads[5]) == (3, 3, 2)


def test_hanging_reads_stop_neither_the_others_nor_closing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "STALL_SECONDS", 0.05)
    monkeypatch.setattr("landmark_viewer.core.streaming.publisher.WATCH_SECONDS", 0.02)
    monkeypatch.setattr("landmark_viewer.core.streaming.residency.CLOSE_SECONDS", 0.05)
    source = ScriptedSource()
    for block in (2, 3):
        source.gates[block] = threading.Event()
        source.hangs.add(block)
    with residency(source, 6) as opened:
        opened.want(wants([2, 3]))
        eventually(lambda: source.reads[2] == 1)

        opened.want(wants([2, 3, 4, 5]))
        eventually(lambda: resident(opened) == {4, 5})
        assert state(opened, 2) is BlockState.FETCHING
        opened.close()  # the reads still hang
        assert not source.gates[2].is_set()
    eventually(lambda: not any(thread.name == "fetch" for thread in threading.enumerate()))


# Holding


def test_held_blocks_come_before_all_wanted_ones_and_stay() -> None:
    source = ScriptedSource()
    with residency(source, 3) as opened:
        opened.want(wants([0, 1, 2]))
        eventually(lambda: resident(opened) == {0, 1, 2})
        with opened.hold(keys(7, 8, 9)) as are_there:
            assert are_there
            assert resident(opened) == {7, 8, 9}
            opened.want(wants([0, 1, 2]))
            with pytest.raises(InputError, match="block 7 is being rendered from"):
                opened.evict(7)
            time.sleep(0.1)
            assert resident(opened) == {7, 8, 9}
        opened.want(wants([0, 1, 2]))
        eventually(lambda: resident(opened) == {0, 1, 2})


def test_blocks_that_do_not_fit_together_are_refused() -> None:
    source = ScriptedSource()
    with residency(source, 3) as opened:
        assert opened.fits(keys(0, 1, 2))
        assert not opened.fits(keys(0, 1, 2, 3))
        assert opened.n_bytes(keys(0, 1)) == 2 * source.slab_bytes
        with (
            pytest.raises(InputError, match=r"they take 0\.0 MB.*raise memory.device") as refused,
            opened.hold(keys(0, 1, 2, 3)),
        ):
            pass
        assert "\n" not in str(refused.value)
        opened.pin(5)
        assert not opened.fits(keys(0, 1, 2))
        with opened.hold(keys(0, 1)) as are_there:
            assert are_there


def test_waiting_can_be_cancelled_and_ends_when_the_field_is_closed() -> None:
    source = ScriptedSource()
    source.gates[1] = threading.Event()
    with residency(source, 3) as opened:
        asked = iter([False, False, True])
        with opened.hold(keys(1), lambda: next(asked, True)) as are_there:
            assert not are_there
        found: list[bool] = []

        def wait() -> None:
            with opened.hold(keys(1)) as are_there:
                found.append(are_there)

        thread = threading.Thread(target=wait)
        thread.start()
        eventually(lambda: opened._holdings.machine.urgent == tuple(keys(1)))
        opened.close()
        thread.join(20)
        assert found == [False]


def test_blocks_that_do_not_exist_are_not_waited_for() -> None:
    source = ScriptedSource(make_field(replace(TINY, missing=(6,))))
    with residency(source, 3) as opened:
        assert opened.status().states[6] == 255
        with opened.hold(keys(6, 7)) as are_there:
            assert are_there
            assert resident(opened) == {7}
        opened.want(wants([6]))
        assert opened.status().n_wanted == 0


def test_several_holders_take_turns() -> None:
    source = ScriptedSource()
    with residency(source, 4) as opened:
        done: list[set[int]] = []

        def render(blocks: list[int]) -> None:
            for _ in range(5):
                with opened.hold(keys(*blocks)) as are_there:
                    assert are_there
                    assert set(blocks) <= resident(opened)
                done.append(set(blocks))

        groups = [[0, 1, 2], [3, 4, 5], [2, 3], [9]]
        threads = [threading.Thread(target=render, args=(blocks,)) for blocks in groups]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(done) == 20
        assert not opened._holdings.machine.held


# What people do


def test_pinned_blocks_stay_until_they_are_unpinned() -> None:
    source = ScriptedSource()
    with residency(source, 3) as opened:
        opened.pin(11)
        opened.pin(12)
        eventually(lambda: resident(opened) == {11, 12})
        with pytest.raises(InputError, match="unpin another one"):
            opened.pin(13)
        opened.want(wants([0, 1, 2]))
        eventually(lambda: resident(opened) == {0, 11, 12})
        assert opened.status().pinned == {11, 12}
        assert opened.status().n_beyond == 2
        opened.unpin(11)
        opened.want(wants([0, 1, 2]))
        eventually(lambda: resident(opened) == {0, 1, 12})


def test_an_evicted_block_is_fetched_again_by_reload_only() -> None:
    source = ScriptedSource()
    with residency(source, 3) as opened:
        opened.want(wants([0, 1]))
        eventually(lambda: resident(opened) == {0, 1})
        opened.evict(0)
        eventually(lambda: resident(opened) == {1})
        opened.want(wants([0, 1]))
        assert (opened.status().n_missing, opened.status().n_beyond) == (1, 1)
        opened.reload(0)
        eventually(lambda: resident(opened) == {0, 1})
        opened.reload(1)
        eventually(lambda: resident(opened) == {0, 1} and source.reads[1] == 2)
        assert source.reads[0] == 2


def test_a_block_reloaded_while_it_is_read_is_read_again() -> None:
    source = ScriptedSource()
    source.gates[3] = threading.Event()
    source.hangs.add(3)
    with residency(source, 3) as opened:
        opened.want(wants([3]))
        eventually(lambda: source.reads[3] == 1)
        opened.reload(3)
        source.gates[3].set()
        eventually(lambda: resident(opened) == {3})
        assert source.reads[3] == 2


# Versions


def test_versions_stand_for_blocks_where_they_are_asked_for() -> None:
    source, other = ScriptedSource(), ScriptedSource(make_field(TINY, seed=5))
    edited = Variant(2, other, ("a file", 1, 2))
    tuned = Variant(2, other, ("a file", 2, 2), BlockState.TUNED)
    with residency(source, 4) as opened:
        first = opened.number(edited)
        assert first == opened.number(Variant(2, source, ("a file", 1, 2))) == 1
        assert opened.number(tuned) == 2
        opened.want(wants([2, 3]))
        eventually(lambda: resident(opened) == {2, 3})
        assert opened.tables([edited]).blocks[2] is None
        assert opened.tables([edited]).blocks[3] is not None
        opened.want(ordered(Want(BlockKey(2, first), 9.0), Want(BlockKey(2, 2), 8.0), Want(BlockKey(3), 7.0)))
        eventually(lambda: opened.tables([edited]).blocks[2] is not None)
        shown = opened.tables([edited])
        assert shown is opened.tables([edited])
        whole = other.model.tables(Precision.FULL).blocks[2]
        assert torch.equal(shown.blocks[2].density_planes[0], whole.density_planes[0])
        assert state(opened, 2) is BlockState.EDITED
        eventually(lambda: opened.tables([tuned]).blocks[2] is not None)
        assert state(opened, 2) is BlockState.TUNED
        assert opened.tables().blocks[2] is not None
        assert state(opened, 2) is BlockState.DEVICE


def test_versions_with_a_mask_of_their_own_widen_the_room() -> None:
    source = ScriptedSource()
    own = source.own.stream_tables(source.model, Precision.FULL, 10**6).room
    room = type(own)(own.n, torch.full_like(own.bricks, 1 << 40))
    edited = Variant(2, source, ("masked",), room=room)
    with residency(source, 4) as opened:
        stream = opened.tables([edited]).stream
        assert torch.equal(stream.room.bricks, own.bricks | room.bricks)
        assert stream.static is not opened.tables().stream.static
        opened.want(wants([1]))
        eventually(lambda: resident(opened) == {1})
        assert opened.tables([edited]).stream.static is stream.static


def test_a_version_larger_than_any_block_has_memory_of_its_own() -> None:
    source = ScriptedSource()
    large = ScriptedSource(make_field(replace(TINY, grid=(6, 6, 6))))
    edited = Variant(2, large, ("large",))
    assert source.slab_bytes < large.slab_bytes < 6 * source.slab_bytes
    with residency(source, 6) as opened:
        opened.want(wants(list(range(6))))
        eventually(lambda: len(resident(opened)) == 6)
        key = BlockKey(2, opened.number(edited))
        opened.want(ordered(Want(key, 9.0)))
        eventually(lambda: opened.tables([edited]).blocks[2] is not None)
        assert opened.status().device_bytes <= opened.status().device_budget
        opened.want(wants([8, 9, 10, 11, 12, 13]))
        eventually(lambda: resident(opened) == {8, 9, 10, 11, 12, 13})
        assert opened.status().device_bytes <= opened.status().device_budget


# For hours


def test_fetching_for_long_takes_no_more_memory() -> None:
    source = ScriptedSource(make_field(replace(TINY, levels=1, mask=None)))
    with residency(source, 3) as opened:

        def fetch(n: int) -> None:
            for number in range(n):
                with opened.hold(keys(number % 16, (number + 5) % 16)) as are_there:
                    assert are_there

        fetch(200)
        tracemalloc.start()
        try:
            fetch(300)  # the log of fetches is full from here on
            gc.collect()
            before = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
            fetched = sum(source.reads.values())
            fetch(1100)
            assert sum(source.reads.values()) - fetched > 2000
            source.order.clear()
            source.expected.clear()
            gc.collect()
            after = tracemalloc.get_traced_memory()[0], len(gc.get_objects())
        finally:
            tracemalloc.stop()
        assert after[0] < before[0] + 100_000
        assert after[1] < before[1] + 1000
        assert opened.status().device_bytes <= opened.status().device_budget


def test_memory_comes_back_without_the_garbage_collector() -> None:
    source = ScriptedSource()
    gc.collect()
    gc.disable()
    try:
        with residency(source, 2) as opened:
            for number in range(16):
                opened.want(wants([number]))
                eventually(lambda number=number: number in resident(opened))
            slabs = opened._holdings.slabs
        eventually(lambda: slabs.in_use == 0)
        assert slabs.allocated == 0
    finally:
        gc.enable()


class Trouble(ScriptedSource):
    """Fails, waits and is killed at random."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self.n_raised = 0

    def read(self, block: int, memory: torch.Tensor, precision: Precision, drop_levels: int = 0) -> Payload:
        luck = self._random.random()
        if luck < 0.15:
            self.n_raised += 1
            raise self._random.choice(
                [
                    InputError("block: damaged"),
                    OSError(errno.EIO, "disk"),
                    OSError(errno.ENOENT, "gone"),
                    MemoryError(),
                    ValueError("a mistake"),
                    fetcher.ReadCancelled(),
                ]
            )
        return super().read(block, memory, precision, drop_levels)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_the_rules_hold(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holdings, "RETRY_SECONDS", 0.005)
    monkeypatch.setattr("landmark_viewer.core.streaming.residency.SHORT_SECONDS", 0.02)
    allocate, luck = memory.new_memory, random.Random(seed)

    def scarce(n_bytes: int, device: torch.device, pinned: bool = False) -> torch.Tensor:
        if luck.random() < 0.05:
            raise MemoryError
        return allocate(n_bytes, device, pinned)

    monkeypatch.setattr(memory, "new_memory", scarce)
    source = Trouble(seed)
    until = time.monotonic() + 30
    problems: list[BaseException] = []
    with residency(source, 6, keeps_copies=seed == 2, host=20 * source.slab_bytes) as opened:

        def often(action: Callable[[random.Random], None], own_seed: int) -> threading.Thread:
            def run() -> None:
                chance = random.Random(own_seed)
                try:
                    while source.n_raised < 60 and time.monotonic() < until:
                        action(chance)
                        time.sleep(0.0005)
                except BaseException as problem:  # noqa: BLE001
                    problems.append(problem)

            thread = threading.Thread(target=run)
            thread.start()
            return thread

        def fly(chance: random.Random) -> None:
            opened.want(wants(chance.sample(range(16), 5)))

        def render(chance: random.Random) -> None:
            try:
                limit = time.monotonic() + 0.05
                blocks = chance.sample(range(16), 3)
                with opened.hold(keys(*blocks), lambda: time.monotonic() > limit) as are_there:
                    if are_there:
                        assert set(blocks) <= resident(opened)
            except InputError:
                pass

        def click(chance: random.Random) -> None:
            action = chance.choice([opened.pin, opened.unpin, opened.unpin, opened.evict, opened.reload])
            with suppress(InputError):
                action(chance.randrange(16))

        last = [0]

        def watch(chance: random.Random) -> None:
            status = opened.status()
            tables = opened.tables()
            assert status.device_bytes <= status.device_budget
            assert status.version >= last[0]
            assert set(np.unique(status.states)) <= {*range(len(STATES)), 255}
            assert tables.stream is not None
            last[0] = status.version

        threads = [often(action, seed + n) for n, action in enumerate((fly, render, render, click, watch))]
        for thread in threads:
            thread.join(60)
        assert problems == []
        assert source.n_raised >= 60
        assert opened._publisher._thread.is_alive()
        assert all(thread.is_alive() for thread in opened._fetcher._threads)
        source._random.random = lambda: 1.0  # before the reloads: what is being read then, and fails, is void
        for block in range(16):
            opened.unpin(block)
            opened.reload(block)
        opened.want(wants([4]))
        eventually(lambda: 4 in resident(opened), "it still works")
        slabs = opened._holdings.slabs
    eventually(lambda: slabs.in_use == 0)
    assert slabs.allocated == 0
