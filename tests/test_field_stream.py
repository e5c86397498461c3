"""What a stream asks for on scripted flights, with a residency that only keeps accounts."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from landmark_viewer.core.blocks import BlockLayout
from landmark_viewer.core.camera import Camera
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming import machine
from landmark_viewer.core.streaming import stream as stream_module
from landmark_viewer.core.streaming.contracts import (
    STATES,
    BlockKey,
    BlockState,
    MemoryBudget,
    StreamStatus,
    Variant,
    Wants,
)
from landmark_viewer.core.streaming.demand import CityGrid, visible
from landmark_viewer.core.streaming.prediction import MAX_VIEWS
from landmark_viewer.core.streaming.stream import FieldStream, spread

from .flights import Flight, Pilot, city_grid, frames
from .scripted_source import ScriptedSource, Want, device_budget
from .small_fields import Shape, make_field

GRID = city_grid((60, 40), side=2.0, height=0.5)
PILOT = Pilot(GRID)
DISK, DEVICE, FAILED = (STATES.index(s) for s in (BlockState.DISK, BlockState.DEVICE, BlockState.FAILED))


class Accounts:
    """Stands for a Residency: `fetch` brings the most urgent blocks, and those least urgent have to go."""

    def __init__(self, *arguments: object) -> None:
        n = GRID.n_blocks
        coarse = SimpleNamespace(
            rows=torch.where(torch.from_numpy(GRID.exists), torch.arange(n), -1).int(),
            density_planes=(torch.zeros(n, 9, 9, 1),),
        )
        self.stream = SimpleNamespace(coarse=coarse)
        self.plan = SimpleNamespace(n_blocks=10_000)
        self.wants: list[Want] = []
        self.n_wants = 0
        self.resident: dict[BlockKey, None] = {}
        self.fetched: Counter[BlockKey] = Counter()
        self.failed: set[int] = set()
        self.variants: list[Variant] = []
        self.is_closed = False

    def tables(self, variants: Sequence[Variant] = ()) -> SimpleNamespace:
        shown = {variant.block: self.number(variant) for variant in variants}
        held = (BlockKey(block, shown.get(block, 0)) in self.resident for block in range(GRID.n_blocks))
        return SimpleNamespace(stream=self.stream, resident=[n for n, there in enumerate(held) if there])

    def number(self, variant: Variant) -> int:
        if variant not in self.variants:
            self.variants.append(variant)
        return self.variants.index(variant) + 1

    def want(self, wants: Wants) -> None:
        rows = (wants.blocks.tolist(), wants.variants.tolist(), wants.priority, wants.prefetch)
        self.wants = [
            Want(BlockKey(block, variant), *rest) for block, variant, *rest in zip(*rows, strict=True)
        ]
        self.n_wants += 1

    def fetch(self, n: int = 10_000) -> None:
        for want in self.wants[: self.plan.n_blocks]:
            if n and want.key not in self.resident and want.key.block not in self.failed:
                n -= 1
                self.resident[want.key] = None
                self.fetched[want.key] += 1
        rank = {want.key: number for number, want in enumerate(self.wants)}
        while len(self.resident) > self.plan.n_blocks:
            del self.resident[max(self.resident, key=lambda key: rank.get(key, len(rank)))]

    def status(self) -> StreamStatus:
        states = np.full(GRID.n_blocks, DISK, dtype=np.uint8)
        states[[key.block for key in self.resident]] = DEVICE
        states[list(self.failed)] = FAILED
        seen = [want.key for want in self.wants if not want.prefetch]
        missing = [key for key in seen if key not in self.resident]
        coming = [key for key in seen if key.block not in self.failed]
        return StreamStatus(
            states=states,
            block_bytes=np.zeros(GRID.n_blocks, dtype=np.int64),
            pinned=frozenset(),
            device_bytes=0,
            device_budget=0,
            host_bytes=0,
            host_budget=0,
            n_wanted=len(seen),
            n_missing=len(missing),
            n_beyond=max(len(coming) - self.plan.n_blocks, 0),
            fetching=(),
            prefetching=(),
            target=None,
        )

    def close(self) -> None:
        self.is_closed = True


Open = Callable[..., FieldStream]


@pytest.fixture(name="open_stream")
def _open_stream(monkeypatch: pytest.MonkeyPatch) -> Open:
    monkeypatch.setattr(stream_module, "Residency", Accounts)

    def opened(n_blocks: int = 10_000, **budget: object) -> FieldStream:
        model = SimpleNamespace(
            aabb=torch.from_numpy(GRID.aabb),
            layout=BlockLayout(GRID.division),
            source=object(),
            n_levels=1,
        )
        stream = FieldStream(model, "auto", MemoryBudget(**budget))
        stream.residency.plan.n_blocks = n_blocks
        return stream

    return opened


def wanted(stream: FieldStream, prefetch: bool | None = None) -> list[int]:
    return [w.key.block for w in stream.residency.wants if prefetch is None or w.prefetch == prefetch]


def blocks_of(camera: Camera, grid: CityGrid = GRID) -> set[int]:
    return set(visible(grid, camera)[0].tolist())


def fly(stream: FieldStream, flight: Flight, seconds: float, per_frame: int = 10_000) -> set[int]:
    """Flies and fetches; returns the blocks that were in view."""
    seen: set[int] = set()
    for now, camera in frames(flight, seconds):
        stream.look(camera, now)
        stream.residency.fetch(per_frame)
        seen |= blocks_of(camera)
    return seen


def test_seen_blocks_come_before_expected_ones_and_each_once(open_stream: Open) -> None:
    stream, flight = open_stream(prefetch_seconds=1.5), PILOT.straight(5, 20, 4.0)
    fly(stream, flight, 1.0)
    wants, camera = stream.residency.wants, flight(29 / 30)
    assert blocks_of(camera) <= set(wanted(stream, prefetch=False))
    assert [w.prefetch for w in wants] == sorted(w.prefetch for w in wants)
    assert len(set(wanted(stream))) == len(wants)
    for tier in (False, True):
        urgency = [w.priority for w in wants if w.prefetch == tier]
        assert urgency == sorted(urgency, reverse=True)
    assert blocks_of(flight(29 / 30 + 1.5)) <= set(wanted(stream))
    columns = [block // 40 for block in wanted(stream, prefetch=True)]
    assert columns == sorted(columns), "the next ones come first"


def test_the_target_is_where_the_camera_will_be(open_stream: Open) -> None:
    stream = open_stream(prefetch_seconds=1.0)
    fly(stream, PILOT.straight(5, 20, 4.0), 1.0)
    x, y = stream.status().target or (0, 0)
    assert (x, y) == pytest.approx((2 * (5 + 4 * (29 / 30 + 1)), 40), abs=0.01)


@pytest.mark.parametrize("speed", [2.0, 10.0])
@pytest.mark.parametrize("heading", [0.0, 0.5])
def test_a_straight_flight_fetches_little_that_is_never_seen(
    open_stream: Open, speed: float, heading: float
) -> None:
    stream = open_stream()
    seen = fly(stream, PILOT.straight(4, 10, speed, heading), 4.0)
    fetched = stream.residency.fetched
    assert max(fetched.values()) == 1
    assert seen <= {key.block for key in fetched}
    assert len(fetched) <= 1.5 * len(seen)


@pytest.mark.parametrize("speed", [2.0, 10.0])
def test_blocks_are_there_when_they_come_into_view(open_stream: Open, speed: float) -> None:
    stream, flight = open_stream(), PILOT.straight(4, 20, speed)
    missing = []
    for now, camera in frames(flight, 4.0):
        stream.look(camera, now)
        missing.append(len(blocks_of(camera) - {key.block for key in stream.residency.resident}))
        stream.residency.fetch(3)
    assert sum(missing[10:]) == 0


@pytest.mark.parametrize("n_blocks", [9, 14, 10_000])
def test_hovering_on_a_corner_fetches_each_block_at_most_once(open_stream: Open, n_blocks: int) -> None:
    stream = open_stream(n_blocks)
    flight = PILOT.hover(20, 20, 0.05)
    for now, camera in frames(flight, 1000 / 30):
        stream.look(camera, now)
        stream.residency.fetch()
    fetched = stream.residency.fetched
    corner = {BlockKey(column * 40 + row) for column in (19, 20) for row in (19, 20)}
    assert corner <= set(fetched)
    assert max(fetched.values()) == 1


@pytest.mark.parametrize("n_blocks", [9, 12])
def test_hovering_in_a_neighbourhood_fetches_each_block_at_most_once(
    open_stream: Open, n_blocks: int
) -> None:
    stream = open_stream(n_blocks, neighbour_size=3)
    for now, camera in frames(PILOT.hover(20, 20, 0.1, seed=1), 1000 / 30):
        stream.look(camera, now)
        stream.residency.fetch()
    fetched = stream.residency.fetched
    assert len(fetched) >= 9
    assert max(fetched.values()) == 1


def test_the_destination_of_a_jump_comes_first_at_once(open_stream: Open) -> None:
    stream, flight = open_stream(), PILOT.teleport((5, 20), (50, 8), when=1.0)
    fly(stream, flight, 1.0)
    assert wanted(stream, prefetch=True)
    stream.look(flight(1.0), 0.97)  # right after the last look
    assert set(wanted(stream)) == blocks_of(flight(1.0)) == set(wanted(stream, prefetch=False))
    assert stream.status().target == pytest.approx(tuple(flight(1.0).eye[:2]))


def test_after_a_reversal_what_lies_behind_is_prefetched(open_stream: Open) -> None:
    stream, flight = open_stream(), PILOT.there_and_back(20, 20, 4.0, turn=2.0)
    fly(stream, flight, 2.0)
    furthest = max(block // 40 for block in wanted(stream))
    at_turn = max(block // 40 for block in blocks_of(flight(2.0)))
    assert furthest > at_turn + 3
    for now, camera in frames(flight, 2.5)[60:]:
        stream.look(camera, now)
        if now > 2.25:
            assert max(block // 40 for block in wanted(stream)) <= at_turn
    nearest = min(block // 40 for block in blocks_of(flight(2.5)))
    assert min(block // 40 for block in wanted(stream, prefetch=True)) < nearest - 3


def test_given_views_ahead_are_used_instead_of_expected_ones(open_stream: Open) -> None:
    stream, ahead = open_stream(), [PILOT.ahead(30, 5 + row) for row in range(20)]
    stream.look(PILOT.ahead(5, 20), 0.0, ahead=ahead)
    soon = set(wanted(stream, prefetch=True))
    assert blocks_of(ahead[-1]) <= soon
    assert soon <= set().union(*(blocks_of(camera) for camera in ahead))
    assert stream.status().target == pytest.approx(tuple(ahead[-1].eye[:2]))


def test_nothing_is_prefetched_in_no_time(open_stream: Open) -> None:
    stream = open_stream(prefetch_seconds=0.0)
    fly(stream, PILOT.straight(5, 20, 4.0), 1.0)
    stream.look(PILOT.ahead(9, 20), 1.0, ahead=[PILOT.ahead(11, 20)])
    assert not wanted(stream, prefetch=True)


def test_views_are_spread_evenly_over_a_path() -> None:
    views = [PILOT.ahead(column, 5) for column in range(40)]
    assert spread(views) == tuple(views[4::5])
    assert spread(views[:3]) == tuple(views[:3])
    assert spread(views[:9])[-1] == views[8]
    assert len(spread(views[:9])) == MAX_VIEWS
    assert spread(()) == ()


def test_wants_are_not_renewed_more_often_than_is_useful(open_stream: Open) -> None:
    stream, flight = open_stream(), PILOT.straight(5, 20, 2.0)
    for now, camera in frames(flight, 1.0, fps=500.0):
        stream.look(camera, now)
    assert 50 <= stream.residency.n_wants <= 67


def test_hidden_blocks_come_behind_prefetched_ones(open_stream: Open) -> None:
    stream, flight = open_stream(), PILOT.straight(5, 20, 4.0)
    fly(stream, flight, 1.0)
    camera = flight(1.0)
    stream.look(camera, 1.0)
    needs = np.zeros(GRID.n_blocks, dtype=np.float32)
    front = wanted(stream, prefetch=False)[2]
    needs[front] = 0.5
    stream.note_needs(needs)
    stream.look(camera, 1.05)
    assert set(wanted(stream, prefetch=False)) >= blocks_of(camera)
    stream.note_needs(needs, is_whole=True)
    stream.look(camera, 1.1)
    assert wanted(stream, prefetch=False) == [front]
    behind = wanted(stream)[-(len(blocks_of(camera)) - 1) :]
    assert set(behind) <= blocks_of(camera) | set(wanted(stream))
    prefetched = [w for w in stream.residency.wants if w.prefetch and w.priority > 0]
    hidden = {w.key.block for w in stream.residency.wants if w.priority == 0}
    assert prefetched
    assert blocks_of(camera) - {front} <= hidden
    stream.look(PILOT.ahead(40, 8), 1.2)
    stream.look(camera, 1.3)
    assert set(wanted(stream, prefetch=False)) == blocks_of(camera), "a jump forgets what was measured"


def test_versions_of_blocks_are_asked_for_instead(open_stream: Open) -> None:
    stream, camera = open_stream(), PILOT.ahead(5.5, 20.5)
    block = visible(GRID, camera)[0][0]
    variant = Variant(int(block), SimpleNamespace(), ("roof", 1))
    stream.look(camera, 0.0)
    assert BlockKey(block) in {w.key for w in stream.residency.wants}
    stream.look(camera, 0.001, (variant,))  # no matter how soon
    keys = {w.key for w in stream.residency.wants}
    assert BlockKey(block, 1) in keys
    assert BlockKey(block) not in keys
    stream.look(camera, 0.1, (replace(variant, source=SimpleNamespace()),))
    assert {w.key for w in stream.residency.wants} == keys


def test_a_view_is_settled_once_all_that_fits_is_there(open_stream: Open) -> None:
    stream, camera = open_stream(), PILOT.ahead(5.5, 20.5)
    assert not stream.is_settled(camera)
    stream.look(camera, 0.0)
    blocks = np.array(sorted(blocks_of(camera)))
    assert not stream.is_settled(camera)
    assert stream.is_coming(blocks)
    assert not stream.is_coming(np.array([2399]))
    stream.residency.failed.add(int(blocks[0]))
    stream.residency.fetch()
    assert stream.is_settled(camera)
    assert not stream.is_settled(PILOT.ahead(6, 20))
    assert not stream.is_coming(blocks)
    assert (stream.status().n_wanted, stream.status().n_missing) == (len(blocks), 1)


def test_of_more_than_the_budget_only_a_useful_part_is_asked_for(open_stream: Open) -> None:
    stream, camera = open_stream(4), PILOT.ahead(5.5, 20.5, drop=0.1)
    n_seen = len(blocks_of(camera))
    assert n_seen > 500
    stream.look(camera, 0.0)
    assert len(stream.residency.wants) < 40
    stream.residency.fetch()
    status = stream.status()
    assert (status.n_wanted, status.n_missing, status.n_beyond) == (n_seen, n_seen - 4, n_seen - 4)
    assert stream.is_settled(camera)
    assert not stream.is_coming(np.array(wanted(stream)))


def test_a_city_that_fits_is_asked_for_as_a_whole(open_stream: Open) -> None:
    stream, camera = open_stream(), PILOT.ahead(5.5, 20.5, drop=0.1)
    stream.look(camera, 0.0)
    assert set(wanted(stream)) == blocks_of(camera)
    assert stream.status().n_beyond == 0
    assert stream.status().n_missing == len(blocks_of(camera))


def test_blocks_with_fine_stand_ins_are_not_asked_for(open_stream: Open) -> None:
    camera = PILOT.ahead(5.5, 20.5, drop=0.1)
    everything, fine = open_stream(), open_stream(detail=1.0)
    for stream in (everything, fine):
        stream.look(camera, 0.0)
    assert 0 < len(wanted(fine)) < 0.5 * len(wanted(everything))


@pytest.mark.parametrize(
    ("column", "row"), [(0.5, 0.5), (59.5, 39.5), (0.5, 39.5), (30.5, 0.5), (-9.0, 20.0)]
)
def test_a_neighbourhood_at_edges_and_corners_is_what_of_it_is_on_the_map(
    open_stream: Open, column: float, row: float
) -> None:
    stream = open_stream(neighbour_size=5)
    stream.look(PILOT.ahead(column, row), 0.0)
    c, r = int(np.floor(column)), int(np.floor(row))
    expected = {
        x * 40 + y for x in range(c - 2, c + 3) for y in range(r - 2, r + 3) if 0 <= x < 60 and 0 <= y < 40
    }
    assert set(wanted(stream)) == expected
    assert len(wanted(stream)) == len(expected)


def test_a_neighbourhood_prefetches_in_the_direction_of_motion(open_stream: Open) -> None:
    stream = open_stream(neighbour_size=3, prefetch_seconds=0.5)
    fly(stream, PILOT.straight(5.5, 20.5, 2.0), 1.0)  # now in column 7, in half a second in column 8
    assert set(wanted(stream, prefetch=False)) == {x * 40 + y for x in (6, 7, 8) for y in (19, 20, 21)}
    assert set(wanted(stream, prefetch=True)) == {9 * 40 + y for y in (19, 20, 21)}


def test_looking_and_asking_from_many_threads(open_stream: Open) -> None:
    stream, errors = open_stream(), []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            status = stream.status()
            if not 0 <= status.n_missing <= status.n_wanted:
                errors.append(status)
            stream.is_coming(np.arange(50))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    for now, camera in frames(PILOT.straight(5, 20, 10.0), 4.0):
        stream.look(camera, now)
    stop.set()
    for asker in askers:
        asker.join()
    assert not errors
    stream.close()
    assert stream.residency.is_closed


def small_city(division: tuple[int, int] = (6, 5)) -> GridNeRF:
    model = make_field(Shape(division=division, missing=(7,), mask=(25, 21, 5), mask_share=0.6))
    return replace(model, aabb=torch.tensor([[0.0, 0.0, 0.0], [*division, 0.5]]))


def wait_until_settled(stream: FieldStream, camera: Camera) -> None:
    deadline = time.monotonic() + 20
    while not stream.is_settled(camera):
        assert time.monotonic() < deadline, stream.status()
        time.sleep(0.005)


def held(stream: FieldStream) -> set[int]:
    return {n for n, block in enumerate(stream.residency.tables().blocks) if block is not None}


def test_a_residency_brings_what_views_want() -> None:
    model = small_city()
    grid, pilot = CityGrid.of(model), Pilot(CityGrid.of(model))
    stream = FieldStream(model, Precision.FULL, MemoryBudget(device=2**26))
    try:
        first, second = pilot.down(1.5, 1.5), pilot.down(4.5, 3.5)
        stream.look(first, 0.0)
        assert stream.is_coming(np.array([6]))
        wait_until_settled(stream, first)
        assert held(stream) == blocks_of(first, grid)
        assert 7 not in held(stream)
        stream.look(second, 0.01)
        wait_until_settled(stream, second)
        assert held(stream) >= blocks_of(second, grid)
        status = stream.status()
        assert (status.n_missing, status.n_wanted) == (0, len(blocks_of(second, grid)))
    finally:
        stream.close()


def budget_for(model: GridNeRF, n_blocks: int) -> MemoryBudget:
    """Returns what has room for so many blocks beside the stand-ins."""
    return MemoryBudget(device=device_budget(ScriptedSource(model), n_blocks))


@pytest.mark.parametrize("n_blocks", [4, 6])
def test_a_residency_fetches_each_block_once_while_the_camera_hovers_over_a_corner(
    n_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STAY", "LINGER", "LINGER_AGAIN", "RETURN"):  # time passes faster, too
        monkeypatch.setattr(machine, name, getattr(machine, name) / 20)
    model = small_city((6, 6))
    flight = Pilot(CityGrid.of(model)).hover(4, 3, 0.05)
    stream = FieldStream(model, Precision.FULL, budget_for(model, n_blocks))
    try:
        assert stream.residency.plan.n_blocks == n_blocks
        for now, camera in frames(flight, 1000 / 30):
            stream.look(camera, now)
            time.sleep(0.001)
        wait_until_settled(stream, camera)
        assert held(stream) >= {3 * 6 + 2, 3 * 6 + 3, 4 * 6 + 2, 4 * 6 + 3}
        fetched = Counter(record.key for record in stream.residency.records())
        assert max(fetched.values()) == 1
    finally:
        stream.close()


@pytest.mark.parametrize("speed", [2.0, 10.0])
def test_a_residency_with_little_more_memory_than_a_view_brings_all_views_of_a_flight(speed: float) -> None:
    model = small_city((18, 7))
    grid, seen = CityGrid.of(model), set()
    flight = Pilot(grid).straight(1, 3.5, speed)
    stream = FieldStream(model, Precision.FULL, budget_for(model, 12))
    try:
        for now, camera in frames(flight, 12 / speed, fps=5):
            stream.look(camera, now)
            wait_until_settled(stream, camera)
            in_view = blocks_of(camera, grid)
            assert 4 <= len(in_view) <= 12
            assert in_view <= held(stream)
            seen |= in_view
        n_fetched = len(stream.residency.records())
        assert len(seen) <= n_fetched <= 1.5 * len(seen)
    finally:
        stream.close()


def test_a_residency_holds_the_neighbourhood() -> None:
    model = small_city()
    pilot = Pilot(CityGrid.of(model))
    stream = FieldStream(model, Precision.FULL, MemoryBudget(device=2**26, neighbour_size=3))
    try:
        for column, row in ((0.5, 0.5), (4.5, 3.5), (5.5, 4.5)):
            camera = pilot.ahead(column, row)
            stream.look(camera, column)
            wait_until_settled(stream, camera)
            c, r = int(column), int(row)
            columns, rows = range(max(c - 1, 0), min(c + 2, 6)), range(max(r - 1, 0), min(r + 2, 5))
            assert held(stream) >= {x * 5 + y for x in columns for y in rows} - {7}
            assert stream.status().n_wanted == len({x * 5 + y for x in columns for y in rows} - {7})
    finally:
        stream.close()


def test_another_budget_is_worked_within_from_the_next_look_on(open_stream: Open) -> None:
    stream, camera = open_stream(), PILOT.ahead(5.5, 20.5)
    stream.look(camera, 0.0)
    first = stream.residency
    stream.set_budget(MemoryBudget(neighbour_size=3))
    assert stream.residency is first
    assert stream.status().n_wanted == 0
    stream.look(camera, 0.001)
    assert len(wanted(stream)) == 9
    stream.set_budget(MemoryBudget(device=2**20))
    assert first.is_closed
    assert stream.residency is not first
    stream.look(camera, 0.002)
    assert set(wanted(stream)) == blocks_of(camera)


def test_forgetting_makes_the_next_look_the_first(open_stream: Open) -> None:
    stream = open_stream()
    fly(stream, PILOT.straight(5, 20, 4.0), 1.0)
    stream.forget()
    assert stream.status().target is None
    assert stream.status().n_wanted == 0
    stream.look(PILOT.ahead(9, 20), 0.97)
    assert set(wanted(stream)) == blocks_of(PILOT.ahead(9, 20))
