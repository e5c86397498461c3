"""Work ahead: tiles are made once by whoever asks first, and pieces of work wait until there is time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from landmark_viewer.core.edits import terrain as terrain_module
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.tiles import Tiles
from landmark_viewer.core.render import Renderer
from landmark_viewer.viewer.warmup import Warmup

from .height_fields import height_field


def wait(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.001)


def test_a_tile_is_made_once_and_others_are_not_waited_for():
    made, free = [], threading.Event()

    def make(row: int, column: int) -> int:
        made.append((row, column))
        if row == 0:
            assert free.wait(20)
        return 10 * row + column

    tiles = Tiles(make)
    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(tiles, 0, 3) for _ in range(2)]
        wait(lambda: made == [(0, 3)])
        assert tiles(1, 2) == 12
        free.set()
        assert [each.result(10) for each in slow] == [3, 3]
    assert made == [(0, 3), (1, 2)]


def test_a_tile_that_could_not_be_made_is_tried_again():
    answers = iter([MemoryError("too much"), 7])

    def make(row: int, column: int) -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    tiles = Tiles(make)
    with pytest.raises(MemoryError):
        tiles(0, 0)
    assert tiles(0, 0) == 7


def test_after_the_preparations_nothing_is_left_to_survey(monkeypatch):
    compiler = EditCompiler(Renderer(height_field(lambda x, y: 0.2 + 0.1 * x)))
    for piece in compiler.preparations(5.0, 0.0):  # the point lies outside of the box
        piece()

    def survey(*_):
        raise AssertionError("surveyed again")

    monkeypatch.setattr(terrain_module.ops, "columns", survey)
    window = compiler.terrain.window(compiler.terrain.bounds)
    assert window.ground.shape == window.height.shape


def test_pieces_wait_until_there_is_time_and_end_with_the_scene():
    done, has_time = [], threading.Event()
    work = Warmup(has_time.is_set)
    work.open(iter([lambda: done.append("old")]))
    stopped = work._stopped
    work.open(iter([lambda n=n: done.append(n) for n in range(3)]))
    assert stopped.is_set()
    assert done == []
    has_time.set()
    wait(lambda: done == [0, 1, 2])
    work.close()


def test_a_piece_that_fails_ends_the_work_quietly(caplog):
    done = threading.Event()

    def pieces():
        yield lambda: 1 / 0
        done.set()
        yield lambda: None

    Warmup(lambda: True).open(pieces())
    wait(lambda: "working ahead failed" in caplog.text)
    assert not done.is_set()
