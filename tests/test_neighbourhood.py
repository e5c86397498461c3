"""The N x N blocks around the camera, and the two buffers that hold them."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.streaming.neighbourhood import Neighbourhood, PingPong, Window

from .flights import Pilot, city_grid

GRID = city_grid((6, 5), side=2.0, missing=(7, 13))
N_BYTES = 32


def eye(column: float, row: float) -> np.ndarray:
    return np.array([2.0 * column, 2.0 * row, 1.0])


def square(columns: range, rows: range) -> set[int]:
    return {c * 5 + r for c in columns for r in rows if 0 <= c < 6 and 0 <= r < 5} - {7, 13}


def content(block: int, version: int = 0) -> Tensor:
    return torch.full((N_BYTES,), 1 + block + 100 * version, dtype=torch.uint8)


class Host:
    """Where blocks are fetched from; counts."""

    def __init__(self) -> None:
        self.fetched: Counter[int] = Counter()

    def __call__(self, block: int, memory: Tensor) -> None:
        self.fetched[block] += 1
        memory.copy_(content(block))


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ((2.5, 2.5), square(range(1, 4), range(1, 4))),
        ((0.1, 0.1), square(range(-1, 2), range(-1, 2))),
        ((5.9, 4.9), square(range(4, 7), range(3, 6))),
        ((0.5, 4.9), square(range(-1, 2), range(3, 6))),
        ((-0.5, 2.5), square(range(-2, 1), range(1, 4))),
        ((-7.0, 2.5), set()),
        ((1e30, -1e30), set()),
    ],
)
def test_the_three_by_three_blocks_around_a_place(place: tuple[float, float], expected: set[int]) -> None:
    blocks = Neighbourhood(GRID, 3).window(eye(*place)).blocks(GRID)
    assert len(blocks) == len(set(blocks.tolist()))
    assert set(blocks.tolist()) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_the_camera_is_in_the_middle_of_a_window_of_any_size(size: int) -> None:
    for column in np.arange(-1.95, 8, 0.1):
        window = Neighbourhood(GRID, size).window(eye(column, 2.2))
        assert abs(window.column + size / 2 - column) <= 0.5 + 1e-9
        assert window.size == size


def test_hovering_on_a_corner_keeps_the_window() -> None:
    random = np.random.default_rng(0)
    hood = Neighbourhood(GRID, 3)
    windows = {hood.window(eye(*(3.0 + random.uniform(-0.2, 0.2, 2)))) for _ in range(1000)}
    assert len(windows) == 1


def test_the_window_follows_a_quarter_of_a_block_behind_a_border() -> None:
    hood = Neighbourhood(GRID, 3)
    assert hood.window(eye(2.5, 2.5)) == Window(1, 1, 3)
    assert hood.window(eye(3.2, 2.5)) == Window(1, 1, 3)
    assert hood.window(eye(3.3, 2.5)) == Window(2, 1, 3)
    assert hood.window(eye(2.8, 2.5)) == Window(2, 1, 3)
    assert hood.window(eye(2.7, 1.7)) == Window(1, 0, 3)


def test_a_long_jump_lands_where_a_fresh_start_would() -> None:
    random = np.random.default_rng(1)
    hood = Neighbourhood(GRID, 3)
    for _ in range(200):
        place = random.uniform(-3, 9, 2)
        before = hood.window(eye(*random.uniform(-3, 9, 2)))
        after, fresh = hood.window(eye(*place)), Neighbourhood(GRID, 3).window(eye(*place))
        for now, new, old in (
            (after.column, fresh.column, before.column),
            (after.row, fresh.row, before.row),
        ):
            assert now == new or (now == old and abs(now - new) == 1)


def test_the_nearest_block_comes_first_and_the_next_column_is_wanted_soon() -> None:
    pilot = Pilot(GRID)
    hood = Neighbourhood(GRID, 3)
    blocks, priority, hidden = hood.seen(pilot.ahead(2.5, 2.6))
    assert blocks[0] == 2 * 5 + 2
    assert set(blocks.tolist()) == square(range(1, 4), range(1, 4))
    assert (np.diff(priority) <= 0).all()
    assert not len(hidden)
    taken = np.isin(np.arange(GRID.n_blocks), blocks)
    assert set(hood.soon(pilot.ahead(3.5, 2.6), taken).tolist()) == square(range(4, 5), range(1, 4))


def test_a_neighbourhood_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="neighbour_size must be at least 1"):
        Neighbourhood(GRID, 0)


def check(buffers: PingPong, window: Window) -> None:
    with buffers.front() as slots:
        assert slots.window == window
        assert slots.held == frozenset(window.blocks(GRID).tolist())
        expected = torch.zeros(window.size**2, N_BYTES, dtype=torch.uint8)
        for column in range(window.size):
            for row in range(window.size):
                at = (window.column + column, window.row + row)
                if 0 <= at[0] < 6 and 0 <= at[1] < 5 and GRID.exists[at[0] * 5 + at[1]]:
                    expected[column * window.size + row] = content(at[0] * 5 + at[1])
        assert torch.equal(slots.memory, expected)
        for block in range(30):
            found = slots.block(block, GRID)
            assert (found is not None) == (block in slots.held)
            assert found is None or torch.equal(found, content(block))


def test_every_slot_is_right_after_any_moves() -> None:
    random = np.random.default_rng(2)
    buffers, host = PingPong(GRID, 3, N_BYTES), Host()
    column = row = 1
    for _ in range(150):
        if random.random() < 0.3:
            column, row = random.integers(-4, 8, 2).tolist()
        else:
            column, row = column + int(random.integers(-1, 2)), row + int(random.integers(-1, 2))
        window = Window(column, row, 3)
        buffers.move(window, host)
        check(buffers, window)


def test_kept_blocks_are_not_fetched_again() -> None:
    buffers, host = PingPong(GRID, 3, N_BYTES), Host()
    for column in (0, 1, 2, 3):
        buffers.move(Window(column, 1, 3), host)
    assert host.fetched == Counter(square(range(0, 6), range(1, 4)))
    buffers.move(Window(0, 1, 3), host)  # three columns away: nothing is kept
    assert host.fetched[6] == 2


def test_a_fetch_that_fails_leaves_the_front_as_it_was() -> None:
    buffers, host = PingPong(GRID, 3, N_BYTES), Host()
    buffers.move(Window(0, 0, 3), host)

    def broken(block: int, memory: Tensor) -> None:
        memory.fill_(255)
        raise InputError("the disk is gone")

    with pytest.raises(InputError, match="disk is gone"):
        buffers.move(Window(1, 0, 3), broken)
    check(buffers, Window(0, 0, 3))
    buffers.move(Window(1, 0, 3), host)
    check(buffers, Window(1, 0, 3))


def test_nothing_is_in_front_before_the_first_move() -> None:
    with PingPong(GRID, 3, N_BYTES).front() as slots:
        assert slots.held == frozenset()
        assert all(slots.block(block, GRID) is None for block in range(30))


def test_a_reader_never_sees_a_half_filled_buffer() -> None:
    buffers, faults = PingPong(GRID, 3, N_BYTES), []
    started, stop = threading.Barrier(4), threading.Event()

    def read() -> None:
        started.wait()
        while not stop.is_set():
            with buffers.front() as slots:
                for block in slots.held:
                    found = slots.block(block, GRID)
                    if found is None or not torch.equal(found, content(block)):
                        faults.append(block)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    started.wait()
    random, host = np.random.default_rng(3), Host()
    for _ in range(300):
        buffers.move(Window(*random.integers(-2, 6, 2).tolist(), 3), host)
    stop.set()
    for reader in readers:
        reader.join()
    assert not faults


def test_a_buffer_that_is_read_is_not_written() -> None:
    buffers, host = PingPong(GRID, 3, N_BYTES), Host()
    buffers.move(Window(0, 0, 3), host)
    moved = threading.Event()

    def move_twice() -> None:
        buffers.move(Window(1, 1, 3), host)
        buffers.move(Window(2, 2, 3), host)
        moved.set()

    with buffers.front() as slots:
        before = slots.memory.clone()
        mover = threading.Thread(target=move_twice)
        mover.start()
        assert not moved.wait(0.2)
        assert torch.equal(slots.memory, before)
    assert moved.wait(10)
    mover.join()
    check(buffers, Window(2, 2, 3))
