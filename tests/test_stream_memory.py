"""Budgets, what is given up under pressure, and pieces of memory that come back by themselves."""

from __future__ import annotations

import gc
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming import memory
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.core.streaming.memory import CHUNK_TILES, Needs, Plan, Slabs, is_shortage, plan, resolved

WORDS = (
    "fewer blocks",
    "half precision",
    "without the finest level",
    "smaller tiles",
    "lower resolution",
)
HALF_OF = {Precision.FULL: 1000, Precision.HALF: 500}


def needs(
    precision: Precision = Precision.FULL, n_levels: int = 3, n_blocks: int = 100, **more: int
) -> Needs:
    return Needs(lambda p, drop: HALF_OF[p] >> 2 * drop, precision, n_levels, n_blocks, **more)


def allocate(n_bytes: int) -> torch.Tensor:
    return torch.empty(n_bytes, dtype=torch.uint8)


# Budgets


def test_what_the_budget_states_stands_and_the_rest_is_a_share_of_what_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    assert resolved(MemoryBudget(device=7, host=8)) == MemoryBudget(device=7, host=8)
    assert resolved(MemoryBudget()) == MemoryBudget(device=500, host=0)
    assert resolved(MemoryBudget(detail=2.0, neighbour_size=3)).neighbour_size == 3


def test_a_device_of_its_own_has_a_share_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 200))
    assert resolved(MemoryBudget(), "cuda") == MemoryBudget(device=70, host=250)


def test_free_memory_is_known_even_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 2**20 < memory.free_memory() < 2**50

    def fail(*_: object, **__: object) -> str:
        raise OSError

    monkeypatch.setattr(memory.Path, "read_text", fail)
    assert 2**20 < memory.free_memory() < 2**50
    monkeypatch.setattr(memory.os, "sysconf", fail)
    assert memory.free_memory() == 4 * 2**30


def test_stand_ins_get_an_eighth_and_never_more_than_64_mib() -> None:
    assert memory.coarse_bytes(800) == 100
    assert memory.coarse_bytes(2**40) == 64 * 2**20


# The ladder


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (10**6, Plan(Precision.FULL, 0, 100, 64, 1.0, ())),
        (4000, Plan(Precision.FULL, 0, 4, 64, 1.0, ())),
        (1000, Plan(Precision.FULL, 0, 1, 64, 1.0, ())),
        (999, Plan(Precision.HALF, 0, 1, 64, 1.0, WORDS[:2])),
        (499, Plan(Precision.HALF, 1, 3, 64, 1.0, WORDS[:3])),
        (124, Plan(Precision.HALF, 1, 0, CHUNK_TILES[1], 0.5, WORDS)),
        (0, Plan(Precision.HALF, 1, 0, CHUNK_TILES[1], 0.5, WORDS)),
    ],
)
def test_as_little_is_given_up_as_lets_a_block_fit(room: int, expected: Plan) -> None:
    assert plan(needs(), room) == expected


def test_smaller_tiles_and_lower_resolution_make_room_where_rendering_takes_of_it() -> None:
    field = needs(Precision.HALF, n_levels=1, tile_bytes=100, frame_bytes=4000)
    assert plan(field, 10900) == Plan(Precision.HALF, 0, 1, 64, 1.0, ())
    assert plan(field, 10899).said == ("fewer blocks", "smaller tiles")
    assert plan(field, 6100).n_blocks == 1
    assert plan(field, 6099).said == ("fewer blocks", "smaller tiles", "lower resolution")
    assert plan(field, 3100).n_blocks == 1


def test_a_field_of_few_blocks_needs_no_more_than_these() -> None:
    assert plan(needs(n_blocks=2), 2000) == Plan(Precision.FULL, 0, 2, 64, 1.0, ())


def test_memory_that_is_short_of_the_budget_is_said() -> None:
    assert plan(needs(), 5000, short=True).said == ("fewer blocks",)
    assert plan(needs(n_blocks=5), 5000, short=True).said == ()


@given(room=st.integers(0, 10**6), n_levels=st.integers(1, 4), n_blocks=st.integers(0, 50))
@settings(max_examples=200, deadline=None)
def test_a_plan_fits_and_says_its_words_in_order(room: int, n_levels: int, n_blocks: int) -> None:
    made = plan(needs(n_levels=n_levels, n_blocks=n_blocks), room)
    assert made.n_blocks <= n_blocks
    assert made.n_blocks * (HALF_OF[made.precision] >> 2 * made.drop_levels) <= room
    assert [word for word in WORDS if word in made.said] == list(made.said)
    assert made.drop_levels < n_levels
    more = plan(needs(n_levels=n_levels, n_blocks=n_blocks), room + 1000)
    assert len(more.said) <= len(made.said)


# Pieces


def test_pieces_are_allocated_once_and_used_again() -> None:
    sizes = []

    def counted(n_bytes: int) -> torch.Tensor:
        sizes.append(n_bytes)
        return allocate(n_bytes)

    slabs = Slabs(100, 350, counted)
    for _ in range(50):
        leases = [slabs.take(100), slabs.take(60), slabs.take(1)]
        assert all(lease is not None and lease.memory.nbytes == 100 for lease in leases)
        assert slabs.take(100) is None
        assert (slabs.in_use, slabs.allocated, slabs.available) == (300, 300, 50)
        leases.clear()
        assert slabs.in_use == 0
    assert sizes == [100, 100, 100]


def test_a_piece_comes_back_without_the_garbage_collector_and_from_any_thread() -> None:
    slabs = Slabs(100, 100, allocate)
    gc.disable()
    try:
        held = [slabs.take(100)]
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        assert slabs.in_use == 0
        assert slabs.take(100) is not None
    finally:
        gc.enable()


def test_a_large_block_has_a_piece_of_its_own_and_gives_it_back() -> None:
    slabs = Slabs(100, 500, allocate)
    small = [slabs.take(100) for _ in range(3)]
    assert slabs.take(250) is None
    small.pop()
    large = slabs.take(250)  # for which a free small one goes
    assert large is not None
    assert large.memory.nbytes == 250
    assert (slabs.allocated, slabs.in_use) == (450, 450)
    del large
    assert (slabs.in_use, slabs.allocated) == (200, 200)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("not enough memory: you tried"), torch.cuda.OutOfMemoryError()]
)
def test_a_failed_allocation_becomes_the_limit(error: Exception) -> None:
    def fail_at_third(n_bytes: int) -> torch.Tensor:
        if slabs.allocated == 200:
            raise error
        return allocate(n_bytes)

    slabs = Slabs(100, 1000, fail_at_third)
    held = [slabs.take(100), slabs.take(100)]
    assert not slabs.is_short
    assert slabs.take(100) is None
    assert slabs.is_short
    assert slabs.limit == 200
    held.pop()
    assert slabs.take(100) is not None


def test_another_error_is_not_taken_for_a_shortage() -> None:
    def broken(n_bytes: int) -> torch.Tensor:
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        Slabs(100, 1000, broken).take(1)
    assert not is_shortage(ValueError("not enough memory"))


def test_after_a_change_of_size_old_pieces_leave_as_they_come_back() -> None:
    slabs = Slabs(100, 400, allocate)
    held = [slabs.take(100) for _ in range(3)]
    held.pop()
    slabs.resize(50, 400)
    assert slabs.allocated == 200
    new = [slabs.take(50) for _ in range(4)]
    assert None not in new
    assert slabs.take(50) is None
    held.clear()
    assert slabs.in_use == 200
    assert [slabs.take(50) is not None for _ in range(4)] == [True] * 4
    slabs.resize(50, 0)
    new.clear()
    assert (slabs.in_use, slabs.allocated) == (0, 0)
