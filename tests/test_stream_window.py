"""Streamed fields in the window's threads: a made-up field whose blocks come when the test says so."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Frame, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.store.store import Store
from landmark_viewer.core.streaming.contracts import BlockKey, FetchRecord, MemoryBudget, StreamStatus
from landmark_viewer.cuda.ops import BackendStatus
from landmark_viewer.cuda.tables import TILE, FrameBuffers, Quality, RenderControl
from landmark_viewer.viewer import counterparts, keeper, opening, refinement, render_worker
from landmark_viewer.viewer.commands import PinBlock, SetPose
from landmark_viewer.viewer.events import EventLog, read_events
from landmark_viewer.viewer.imaging import to_image
from landmark_viewer.viewer.jobs import Jobs
from landmark_viewer.viewer.opening import Loaded, load
from landmark_viewer.viewer.pictures import Picture, RenderRequest
from landmark_viewer.viewer.refinement import LOOK_EVERY
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.session import Session
from landmark_viewer.viewer.state import (
    Against,
    Compare,
    CompareMode,
    Mode,
    Pose,
    RenderStatus,
    ViewerState,
)
from landmark_viewer.viewer.stream_watch import QUIET_LOOKS, REPORT_SECONDS, StreamWatch
from landmark_viewer.viewer.supply import FADE_SECONDS, Fade, Lacks

from .city_store import make_city_store
from .test_session import FlatCompiler, FlatDocument, FlatJournal, run

WIDTH, HEIGHT = SIZE = 64, 48
COLUMNS = WIDTH // TILE
N_TILES = COLUMNS * (HEIGHT // TILE)
N_BLOCKS = 4  # block n shows in the tile columns 2 n and 2 n + 1
STAND_IN, BLOCK = 0.2, 1.0  # what a tile is painted with
PATIENCE = 20.0  # seconds that a test waits for what must come
LOOK = (Mode.COLOR, Grade())


class FakeStream:
    """Holds the blocks that the test has sent; the others come, or never do."""

    def __init__(self) -> None:
        self.held: frozenset[int] = frozenset()
        self.lost: frozenset[int] = frozenset()  # will not come
        self.reasons: tuple[tuple[int, str], ...] = ()
        self.is_closed = threading.Event()
        self.looks: list[tuple[object, ...]] = []
        self.needs: list[tuple[np.ndarray, bool]] = []
        self.wishes: list[tuple[object, ...]] = []
        self.fetched: tuple[FetchRecord, ...] = ()
        self.residency = SimpleNamespace(
            plan=SimpleNamespace(resolution=1.0),
            tables=lambda variants=(): SimpleNamespace(
                blocks=[n if n in self.held else None for n in range(N_BLOCKS)]
            ),
            records=lambda: self.fetched,
            pin=lambda block: self.wishes.append(("pin", block)),
            unpin=lambda block: self.wishes.append(("unpin", block)),
            evict=lambda block: self.wishes.append(("evict", block)),
            reload=lambda block: self.wishes.append(("reload", block)),
        )

    def look(self, camera, now, variants=(), ahead=()) -> None:
        self.looks.append((camera, variants, ahead))

    def note_needs(self, needs, is_whole=True) -> None:
        self.needs.append((needs.copy(), is_whole))

    def is_coming(self, blocks) -> bool:
        return any(block not in self.held | self.lost for block in blocks.tolist())

    def close(self) -> None:
        self.is_closed.set()

    def set_budget(self, budget) -> None:
        self.wishes.append(("budget", budget))

    def status(self) -> StreamStatus:
        n_missing = N_BLOCKS - len(self.held)
        return StreamStatus(
            states=np.zeros(N_BLOCKS, np.uint8),
            block_bytes=np.zeros(N_BLOCKS, np.int64),
            pinned=frozenset(),
            device_bytes=len(self.held),
            device_budget=10,
            host_bytes=0,
            host_budget=0,
            n_wanted=N_BLOCKS,
            n_missing=n_missing,
            n_beyond=0,
            fetching=tuple(sorted(set(range(N_BLOCKS)) - self.held - self.lost))[:1],
            prefetching=(),
            target=None,
            failures=self.reasons,
            version=len(self.held),
        )


class FakeRenderer:
    """Paints tiles by whether their block is there; keeps account of what it was asked for."""

    def __init__(self) -> None:
        self.tables = SimpleNamespace(
            aabb=torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 1.0]]), division=(2, N_BLOCKS // 2)
        )
        self.stream: FakeStream | None = FakeStream()
        self.calls: list[tuple[Quality, bool, bool, np.ndarray]] = []  # quality, complete, fades, tiles
        self.delay = 0.0  # seconds per tile
        self.error: Exception | None = None
        self.backend_status = BackendStatus("made up", "")

    def render(self, camera, settings, control, buffers=None) -> Frame:
        if self.error:
            raise self.error
        held = frozenset(range(N_BLOCKS)) if settings.complete else self.stream.held
        buffers = buffers or FrameBuffers.empty(camera.width, camera.height)
        self.calls.append((settings.quality, settings.complete, settings.fades, control.order.copy()))
        for tile in control.order.tolist():
            if control.is_cancelled:
                return Frame(camera, buffers, settings.quality, False)
            time.sleep(self.delay)
            row, column = divmod(tile, control.columns)
            block = column * N_BLOCKS // control.columns
            area = np.s_[TILE * row : TILE * row + TILE, TILE * column : TILE * column + TILE]
            buffers.rgb[area] = BLOCK if block in held else STAND_IN
            buffers.median_depth[area] = 2.0
            control.tile_lacking[tile] = block not in held
            if control.lacking is not None:
                control.lacking[block] |= block not in held
                control.needs[block] += 1 / len(control.tile_done)
            control.done_count[0] += 1
        is_complete = not (settings.complete and self.stream.is_closed.is_set())
        return Frame(camera, buffers, settings.quality, is_complete)

    @property
    def n_rendered(self) -> int:
        return sum(len(tiles) for *_, tiles in self.calls)


class Desk:
    """A worker with everything it delivers."""

    def __init__(self) -> None:
        self.renderer = FakeRenderer()
        self.stream = self.renderer.stream
        self.pictures: list[Picture] = []
        self.failures: list[str] = []
        self.worker = RenderWorker(self.renderer, self.collect)

    def collect(self) -> None:
        if picture := self.worker.take():
            self.pictures.append(picture)
        if failure := self.worker.take_failure():
            self.failures.append(failure)

    def submit(self, x: float = 0.5, **changes: object) -> None:
        made = RenderRequest(Pose((x, 0.0, 1.0)).camera(WIDTH, HEIGHT))
        self.worker.submit(replace(made, **changes))

    def wait(self) -> Picture:
        assert self.worker.wait_idle(PATIENCE)
        return self.pictures[-1]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "what the test waits for never came"
            time.sleep(0.001)

    def wait_refined(self) -> None:
        """Waits until the best is shown that there is without further blocks."""
        self.wait_for(lambda: bool(self.pictures) and self.pictures[-1].progress > 1 - 1e-6)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    assert made.worker.stop(PATIENCE)
    assert not made.failures


def shades(picture: Picture) -> np.ndarray:
    return picture.image[..., 0] / 255


def tiles_of(*blocks: int) -> set[int]:
    return {tile for tile in range(N_TILES) if tile % COLUMNS * N_BLOCKS // COLUMNS in blocks}


class TestResolution:
    def test_what_memory_does_not_allow_is_not_rendered(self, desk):
        desk.stream.held = frozenset(range(N_BLOCKS))
        desk.stream.residency.plan.resolution = 0.5
        desk.submit(moving=True, floor=1.0)
        assert desk.wait().scale == 0.5
        desk.submit()
        last = desk.wait()
        assert (last.scale, last.finished) == (0.5, True)
        desk.stream.residency.plan.resolution = 1.0
        desk.worker.look_again()
        last = desk.wait()
        assert (last.scale, last.finished) == (1.0, True)


class TestRest:
    def test_stand_ins_are_shown_at_once_and_the_picture_is_not_finished(self, desk):
        desk.submit()
        desk.wait_refined()
        last = desk.pictures[-1]
        assert shades(last) == pytest.approx(STAND_IN, abs=0.01)
        assert (last.quality, last.finished, last.coarse) == (Quality.EXACT, False, 1.0)
        assert not desk.worker.is_idle

    def test_what_was_lacking_is_rendered_again_and_nothing_else(self, desk):
        desk.stream.held = frozenset({0, 1})
        desk.submit()
        desk.wait_refined()
        n_calls = len(desk.renderer.calls)
        desk.stream.held = frozenset({0, 1, 2})
        desk.wait_for(lambda: desk.pictures[-1].coarse == 0.25)
        first = [set(tiles.tolist()) for *_, tiles in desk.renderer.calls[n_calls:]]
        assert set.union(*first) == tiles_of(2, 3)
        assert {quality for quality, *_ in desk.renderer.calls[n_calls:]} == {Quality.EXACT}
        n_calls = len(desk.renderer.calls)
        desk.stream.held = frozenset(range(N_BLOCKS))
        last = desk.wait()
        second = [set(tiles.tolist()) for *_, tiles in desk.renderer.calls[n_calls:]]
        assert set.union(*second) == tiles_of(3)
        assert sum(map(len, second)) == len(tiles_of(3))
        assert (last.finished, last.coarse) == (True, 0.0)
        assert (last.image[..., :3] == 255).all()

    def test_a_renewed_tile_replaces_the_old_one_little_by_little(self, desk, monkeypatch):
        clock = itertools.count(0.0, 0.03)  # seconds, a step at every look
        for module in (refinement, render_worker):
            ticking = SimpleNamespace(monotonic=lambda: next(clock), perf_counter=time.perf_counter)
            monkeypatch.setattr(module, "time", ticking)
        desk.stream.held = frozenset({0, 1, 2})
        desk.submit()
        desk.wait_refined()
        before = len(desk.pictures)
        desk.stream.held = frozenset(range(N_BLOCKS))
        desk.wait()
        later = desk.pictures[before:]
        renewed = [float(shades(picture)[:, -1].mean()) for picture in later]
        assert renewed == sorted(renewed)
        assert len({shade for shade in renewed if STAND_IN + 0.05 < shade < BLOCK - 0.05}) >= 3
        assert renewed[-1] == BLOCK
        assert all((shades(picture)[:, 0] == BLOCK).all() for picture in later)
        assert [picture.finished for picture in later] == [False] * (len(later) - 1) + [True]

    def test_nothing_is_rendered_while_nothing_comes(self, desk):
        desk.submit()
        desk.wait_refined()
        rendered, shown, looked = desk.renderer.n_rendered, len(desk.pictures), len(desk.stream.looks)
        time.sleep(6 * LOOK_EVERY)
        assert (desk.renderer.n_rendered, len(desk.pictures)) == (rendered, shown)
        assert len(desk.stream.looks) - looked <= 1
        desk.stream.held = frozenset(range(N_BLOCKS))
        desk.wait()
        looked = len(desk.stream.looks)
        time.sleep(3 * LOOK_EVERY)
        assert len(desk.stream.looks) == looked

    def test_blocks_that_never_come_do_not_keep_the_picture_from_being_finished(self, desk):
        desk.stream.held, desk.stream.lost = frozenset({0, 1}), frozenset({2, 3})
        desk.submit()
        last = desk.wait()
        assert (last.finished, last.coarse) == (True, 0.5)

    def test_a_block_that_fails_while_it_is_waited_for_ends_the_wait(self, desk):
        desk.stream.held = frozenset({0, 1, 2})
        desk.submit()
        desk.wait_refined()
        rendered = desk.renderer.n_rendered
        desk.stream.lost = frozenset({3})
        last = desk.wait()
        assert (last.finished, last.coarse) == (True, 0.25)
        assert desk.renderer.n_rendered == rendered

    def test_looking_again_fetches_what_failed_before(self, desk):
        desk.stream.held, desk.stream.lost = frozenset({0, 1, 2}), frozenset({3})
        desk.submit()
        assert desk.wait().coarse == 0.25
        rendered = desk.renderer.n_rendered
        desk.stream.lost = frozenset()
        desk.worker.look_again()
        desk.wait_for(lambda: not desk.pictures[-1].finished)
        desk.stream.held = frozenset(range(N_BLOCKS))
        last = desk.wait()
        assert (last.finished, last.coarse) == (True, 0.0)
        assert desk.renderer.n_rendered == rendered + len(tiles_of(3))

    def test_another_mode_is_shown_while_blocks_are_waited_for(self, desk):
        desk.submit()
        desk.wait_refined()
        rendered = desk.renderer.n_rendered
        desk.submit(mode=Mode.DEPTH)
        desk.wait_for(lambda: desk.pictures[-1].request.mode is Mode.DEPTH)
        assert desk.renderer.n_rendered == rendered
        desk.stream.held = frozenset(range(N_BLOCKS))
        last = desk.wait()
        assert (last.request.mode, last.finished) == (Mode.DEPTH, True)

    @pytest.mark.parametrize("moving", [True, False])
    def test_another_view_ends_the_wait(self, desk, moving):
        desk.submit()
        desk.wait_refined()
        desk.submit(0.7, moving=moving)
        desk.wait_for(lambda: desk.pictures[-1].request.camera.c2w[0][3] == 0.7)
        desk.stream.held = frozenset(range(N_BLOCKS))
        desk.submit(0.7)
        last = desk.wait()
        assert (last.finished, last.coarse) == (True, 0.0)
        assert (last.image[..., :3] == 255).all()

    def test_a_renewal_that_is_broken_off_is_made_up_for(self, desk):
        desk.submit()
        desk.wait_refined()
        desk.renderer.delay = 0.005
        rendered = desk.renderer.n_rendered
        desk.stream.held = frozenset(range(N_BLOCKS))
        desk.wait_for(lambda: desk.renderer.n_rendered > rendered)
        desk.worker.stop_refining()
        desk.renderer.delay = 0.0
        assert desk.worker.wait_idle(PATIENCE)
        desk.submit()
        last = desk.wait()
        assert (last.finished, last.coarse) == (True, 0.0)
        assert (last.image[..., :3] == 255).all()

    def test_tiles_that_lacked_something_come_last(self, desk):
        desk.stream.held = frozenset({0, 1})
        desk.submit()
        desk.wait_refined()
        finest = [t for quality, *_, tiles in desk.renderer.calls if quality is Quality.EXACT for t in tiles]
        assert set(finest[: N_TILES // 2]) == tiles_of(0, 1)

    def test_stopping_ends_the_wait(self):
        made = Desk()
        made.submit()
        made.wait_refined()
        assert made.worker.stop(PATIENCE)

    def test_another_scene_ends_the_wait(self, desk):
        desk.submit()
        desk.wait_refined()
        desk.worker.set_renderer(None)
        assert desk.worker.wait_idle(PATIENCE)


class TestMoving:
    def test_a_moving_picture_takes_what_is_there(self, desk):
        desk.stream.held = frozenset({0})
        desk.submit(moving=True)
        last = desk.wait()
        assert (last.moving, last.coarse, last.finished) == (True, 0.75, False)
        assert len(desk.renderer.calls) == 1

    def test_only_moving_pictures_blend_in_what_has_come(self, desk):
        desk.stream.held = frozenset(range(N_BLOCKS))
        desk.submit(moving=True)
        desk.wait()
        desk.submit()
        desk.wait()
        assert [fades for _, _, fades, _ in desk.renderer.calls] == [True] + [False] * (
            len(desk.renderer.calls) - 1
        )
        assert not any(complete for _, complete, _, _ in desk.renderer.calls)

    def test_the_stream_hears_of_every_view_and_where_it_leads(self, desk):
        ahead = (Pose((0.9, 0.0, 1.0)).camera(WIDTH, HEIGHT),)
        desk.submit(0.1, moving=True, ahead=ahead)
        desk.wait()
        assert desk.stream.looks == [(Pose((0.1, 0.0, 1.0)).camera(WIDTH, HEIGHT), (), ahead)]

    def test_the_stream_hears_how_much_each_block_matters_in_a_whole_picture(self, desk):
        desk.stream.held = frozenset(range(N_BLOCKS))
        desk.submit()
        desk.wait()
        assert len(desk.stream.needs) == 3  # of each stage
        needs, is_whole = desk.stream.needs[-1]
        np.testing.assert_allclose(needs, 1 / N_BLOCKS, rtol=1e-5)
        assert is_whole

    def test_where_a_camera_is_going_makes_no_other_request(self):
        request = RenderRequest(Pose().camera(WIDTH, HEIGHT))
        assert request.is_same(replace(request, ahead=(request.camera,)))


class TestFade:
    def image(self, value: int) -> np.ndarray:
        return np.full((20, 30, 4), value, np.uint8)

    def test_tiles_fade_each_from_its_own_beginning(self):
        fade = Fade(self.image(0), LOOK)
        fade.begin(np.array([0]), 10.0)
        fade.begin(np.array([5]), 10.0 + FADE_SECONDS / 2)
        mixed = fade.mixed(self.image(200), LOOK, 10.0 + FADE_SECONDS / 2)
        assert mixed[0, 0, 0] == 100
        assert (mixed[:8, 8:] == 0).all()
        assert not fade.is_over(10.0 + FADE_SECONDS)
        assert fade.is_over(10.0 + 1.6 * FADE_SECONDS)

    def test_it_begins_with_the_old_image_and_ends_with_the_new_one(self):
        generator = np.random.default_rng(1)
        old, new = generator.integers(0, 256, (2, 20, 30, 4), dtype=np.uint8)
        fade = Fade(old, LOOK)
        fade.begin(np.arange(12), 1.0)
        np.testing.assert_array_equal(fade.mixed(new, LOOK, 1.0), old)
        np.testing.assert_array_equal(fade.mixed(new, LOOK, 1.0 + FADE_SECONDS), new)
        between = fade.mixed(new, LOOK, 1.0 + FADE_SECONDS / 3)
        assert (between >= np.minimum(old, new)).all()
        assert (between <= np.maximum(old, new)).all()

    def test_another_mode_is_not_mixed_with_this_one(self):
        fade = Fade(self.image(0), LOOK)
        fade.begin(np.arange(12), 1.0)
        assert (fade.mixed(self.image(200), (Mode.DEPTH, Grade()), 1.0) == 200).all()


def test_what_a_picture_lacks_is_known_at_another_size():
    small, large = Pose().camera(32, 24), Pose().camera(WIDTH, HEIGHT)
    lacks = Lacks(small, N_BLOCKS)
    lacks.tiles[1] = True
    lacks.blocks[2] = True
    larger = lacks.over(large)
    assert set(np.flatnonzero(larger.tiles)) == {2, 3, 10, 11}
    assert larger.share == lacks.share
    assert larger.blocks.tolist() == lacks.blocks.tolist()


class TestWatch:
    @pytest.fixture
    def log(self, tmp_path) -> Iterator[EventLog]:
        events = EventLog(tmp_path / "events.jsonl")
        yield events
        events.close()

    @pytest.fixture
    def watch(self, log) -> StreamWatch:
        made = StreamWatch(log)
        self.stream = FakeStream()
        made.open(self.stream, MemoryBudget())
        return made

    def look(self, watch: StreamWatch, n: int, start: float = 100.0) -> list:
        return [said for k in range(n) for said in watch.advance(start + k * REPORT_SECONDS)]

    def test_it_looks_a_few_times_a_second_while_something_changes(self, watch):
        versions = []
        for step in range(20):
            self.stream.held = frozenset(range(min(step // 5, N_BLOCKS)))
            watch.advance(100.0 + step * REPORT_SECONDS / 4)
            versions.append(watch.version)
        assert watch.is_busy
        assert watch.status.version == self.stream.status().version
        assert versions[-1] - versions[0] <= 20 / 4

    def test_it_comes_to_rest_once_nothing_is_fetched_any_more(self, watch):
        self.stream.held = frozenset(range(N_BLOCKS))
        self.look(watch, QUIET_LOOKS + 1)
        assert not watch.is_busy
        assert watch.next_time(200.0) == np.inf
        watch.touch()
        assert watch.next_time(200.0) <= 200.0

    def test_without_a_stream_there_is_nothing_to_follow(self, watch):
        watch.open(None, MemoryBudget())
        assert self.stream.is_closed.wait(PATIENCE)
        assert not watch.is_busy
        assert watch.status is None
        assert watch.records == ()
        assert not watch.follow(ViewerState(pinned=frozenset({1})))
        assert watch.noted_in(RenderStatus(missing=3)).missing == 0

    def test_every_fetch_is_logged_once(self, watch, tmp_path):
        record = FetchRecord(BlockKey(2), 1000, 0.25, 7.0)
        self.stream.fetched = (record, replace(record, key=BlockKey(3), error="it is gone"))
        self.look(watch, 2)
        self.stream.fetched = (*self.stream.fetched[1:], replace(record, key=BlockKey(2)))
        watch.touch()
        self.look(watch, 3, 200.0)
        fetches = [event for event in read_events(tmp_path / "events.jsonl") if event["event"] == "fetch"]
        assert [(event["block"], event["error"]) for event in fetches] == [
            (2, None),
            (3, "it is gone"),
            (2, None),
        ]
        assert (fetches[0]["bytes"], fetches[0]["ms"]) == (1000, 250.0)

    def test_a_failed_block_is_said_once_and_again_when_it_fails_again(self, watch):
        self.stream.reasons = ((3, "the file is damaged"),)
        said = self.look(watch, 3)
        assert len(said) == 1
        assert "Block 3" in said[0].text
        assert "the file is damaged" in said[0].text
        assert "Try again" in said[0].text
        watch.reload(3)
        assert self.stream.wishes == [("reload", 3)]
        assert len(self.look(watch, 3, 200.0)) == 1

    def test_budget_and_pinned_blocks_follow_the_state(self, watch):
        state = ViewerState(pinned=frozenset({1}))
        assert watch.follow(state)
        assert not watch.follow(state)
        assert watch.follow(replace(state, pinned=frozenset({2})))
        assert self.stream.wishes == [("pin", 1), ("unpin", 1), ("pin", 2)]

    def test_another_budget_is_made_in_the_background_and_pinned_blocks_are_pinned_anew(self, watch):
        state = ViewerState(pinned=frozenset({1}))
        assert watch.follow(state)
        state = replace(state, memory=MemoryBudget(device=5))
        assert not watch.follow(state)
        end = time.monotonic() + PATIENCE
        while not watch.follow(state):
            assert time.monotonic() < end
            assert watch.is_busy
        assert self.stream.wishes == [("pin", 1), ("budget", MemoryBudget(device=5)), ("pin", 1)]
        assert not watch.follow(state)

    def test_a_budget_that_is_too_small_is_a_message(self, watch):
        def refuse(budget: MemoryBudget) -> None:
            raise InputError("memory.device must be larger")

        self.stream.set_budget = refuse
        state = ViewerState(memory=MemoryBudget(device=5))
        end = time.monotonic() + PATIENCE
        while not watch.follow(state):
            assert time.monotonic() < end
        assert [said.text for said in self.look(watch, 1)] == ["memory.device must be larger"]

    def test_what_it_is_compared_with_gets_a_quarter_of_the_budget(self, watch):
        assert watch.room_beside is None
        alone = ViewerState(memory=MemoryBudget(device=200, prefetch_seconds=0.5))
        self.follow(watch, alone)
        compare = Compare(CompareMode.WIPE, Against.CHECKPOINT, path=Path("winter.th"))
        self.follow(watch, replace(alone, compare=compare))
        assert self.stream.wishes[-1] == ("budget", MemoryBudget(device=150, prefetch_seconds=0.5))
        assert watch.room_beside == MemoryBudget(device=50)
        self.follow(watch, alone)
        assert self.stream.wishes[-1] == ("budget", alone.memory)
        assert watch.room_beside is None

    def test_what_the_machine_chose_is_shared_too(self, watch):
        compare = Compare(CompareMode.WIPE, Against.CHECKPOINT, path=Path("winter.th"))
        self.follow(watch, ViewerState(compare=compare))
        whole = self.stream.status().device_budget
        assert self.stream.wishes == [("budget", MemoryBudget(device=whole - whole // 4))]
        assert watch.room_beside == MemoryBudget(device=whole // 4)
        self.follow(watch, ViewerState())
        assert self.stream.wishes[-1] == ("budget", MemoryBudget())

    def test_nothing_else_that_is_compared_takes_memory(self, watch):
        for against in (Against.UNEDITED, Against.APPEARANCE, Against.PHOTO):
            assert not watch.follow(ViewerState(compare=Compare(CompareMode.WIPE, against)))
        assert self.stream.wishes == []
        watch.open(None, MemoryBudget())
        assert watch.room_beside == MemoryBudget()

    def follow(self, watch: StreamWatch, state: ViewerState) -> None:
        """Follows a state whose budget is another one, until that is in force."""
        end = time.monotonic() + PATIENCE
        while not watch.follow(state):
            assert time.monotonic() < end

    def test_a_wish_that_cannot_be_granted_is_a_message(self, watch):
        def refuse(block: int) -> None:
            raise InputError("no room is left for another block")

        self.stream.residency.pin = refuse
        assert watch.follow(ViewerState(pinned=frozenset({1})))
        assert [said.text for said in self.look(watch, 1)] == ["no room is left for another block"]

    def test_the_status_bar_hears_what_is_missing(self, watch):
        self.stream.held = frozenset({0})
        self.look(watch, 1)
        assert watch.noted_in(RenderStatus()).missing == 3


class StreamedCompiler(FlatCompiler):
    """Surveys nothing ahead."""

    def preparations(self, x, y):
        raise AssertionError("a streamed field must not be surveyed before anyone asks for it")


class TestSession:
    """The viewer's run without its window, on a field of which blocks come when the test says so."""

    @pytest.fixture
    def renderers(self) -> list[FakeRenderer]:
        """Those of the scenes, as they are opened."""
        return []

    @pytest.fixture
    def session(self, scene_facts, tmp_path, monkeypatch, renderers) -> Iterator[Session]:
        def load(path, overrides=()):
            renderers.append(FakeRenderer())
            facts = replace(scene_facts, path=path, name=path.stem)
            plan = np.zeros((4, 4, 4), np.uint8)
            scene = SimpleNamespace(model=SimpleNamespace(near_far=(0.1, 10.0)))
            compiler = StreamedCompiler()
            return Loaded(facts, renderers[-1], (0.0, 0.0, 0.0), (), plan, scene, compiler, None)

        monkeypatch.setattr(opening, "load", load)
        monkeypatch.setattr(keeper, "open_document", lambda scene: (FlatDocument(), FlatJournal()))
        monkeypatch.setenv("XDG_PICTURES_DIR", str(tmp_path / "pictures"))
        events = EventLog(tmp_path / "events.jsonl")
        made = Session(ViewerState(), events, lambda: None)
        yield made
        assert made.close()
        assert all(renderer.stream.is_closed.wait(PATIENCE) for renderer in renderers)
        events.close()

    @pytest.fixture
    def stream(self, session, renderers) -> FakeStream:
        """Of a city that is open; its stand-ins are on screen."""
        session.open(Path("city.yaml"))
        run(session, lambda: session.picture is not None and session.picture.progress > 1 - 1e-6)
        return renderers[0].stream

    def test_a_scene_is_shown_before_its_blocks_and_rests_once_they_are_there(self, session, stream):
        assert (session.picture.coarse, session.picture.finished) == (1.0, False)
        assert session.state.status.coarse == 1.0
        run(session, lambda: session.state.status.missing == N_BLOCKS)
        assert not session.came_to_rest()
        version = session.stream_version
        stream.held = frozenset(range(N_BLOCKS))
        run(session, session.came_to_rest)
        assert session.state.status.finished
        assert (session.state.status.coarse, session.state.status.missing) == (0.0, 0)
        assert session.stream_version > version
        assert session.stream_status.version == N_BLOCKS

    def test_a_glide_has_its_end_fetched_from_the_beginning(self, session, stream):
        there = replace(session.state.pose, eye=(0.5, 0.5, 1.0))
        n_looks = len(stream.looks)
        session.submit(SetPose(there), glide=True)
        run(session, lambda: len(stream.looks) > n_looks)
        camera, _, ahead = stream.looks[n_looks]
        assert camera != there.camera(*SIZE)
        assert ahead == (there.camera(*SIZE),)

    def test_the_next_scene_ends_the_fetching_for_this_one(self, session, stream, renderers):
        session.open(Path("other.yaml"))
        run(session, lambda: len(renderers) == 2 and session.state.opening is None)
        assert stream.is_closed.wait(PATIENCE)
        assert not renderers[1].stream.is_closed.is_set()

    def test_a_picture_is_saved_once_its_blocks_are_there(self, session, stream, tmp_path):
        run(session, lambda: session.state.status.missing == N_BLOCKS)
        session.save_picture()
        run(session, lambda: session.state.message is not None)
        assert session.state.message.text.startswith("Waiting for 4 blocks")
        stream.held = frozenset(range(N_BLOCKS))
        assert (self.saved(session, tmp_path) == 255).all()

    def test_a_picture_whose_blocks_do_not_fit_is_completed_before_it_is_saved(
        self, session, stream, renderers, tmp_path
    ):
        stream.held, stream.lost = frozenset({0, 1}), frozenset({2, 3})
        run(session, lambda: session.state.status.finished)
        assert session.picture.coarse == 0.5
        session.save_picture()
        assert (self.saved(session, tmp_path) == 255).all()
        assert [complete for _, complete, *_ in renderers[0].calls[-2:]] == [False, True]

    def test_why_a_picture_cannot_be_completed_is_said(self, session, stream, renderers, tmp_path):
        stream.held, stream.lost = frozenset({0, 1}), frozenset({2, 3})
        run(session, lambda: session.state.status.finished)
        renderers[0].error = InputError("block 2 is damaged")
        session.save_picture()
        run(session, lambda: session.state.message and session.state.message.severity == "error")
        assert "block 2 is damaged" in session.state.message.text
        assert not list((tmp_path / "pictures").rglob("*.png"))

    def test_half_a_picture_is_never_saved(self, session, stream, tmp_path):
        stream.held, stream.lost = frozenset({0, 1}), frozenset({2, 3})
        run(session, lambda: session.state.status.finished)
        stream.close()  # as when another budget is set
        session.save_picture()
        run(session, lambda: session.state.message and session.state.message.severity == "error")
        assert "save it again" in session.state.message.text
        assert not list((tmp_path / "pictures").rglob("*.png"))

    def saved(self, session: Session, tmp_path: Path) -> np.ndarray:
        run(session, lambda: session.state.message and session.state.message.text.startswith("Saved"))
        (path,) = (tmp_path / "pictures").rglob("city-*.png")
        return imageio.imread(path)

    def test_what_people_wish_of_blocks_reaches_stream_and_log(self, session, stream, tmp_path):
        session.submit(PinBlock(1))
        run(session, lambda: ("pin", 1) in stream.wishes)
        session.evict_block(3)
        session.reload_block(0)
        session.undo()
        run(session, lambda: ("unpin", 1) in stream.wishes)
        assert {("evict", 3), ("reload", 0)} <= set(stream.wishes)
        logged = [event for event in read_events(tmp_path / "events.jsonl") if event.get("block") is not None]
        assert [(event["name"], event["block"]) for event in logged if event["event"] == "command"] == [
            ("evict_block", 3),
            ("reload_block", 0),
        ]

    def test_a_block_that_failed_is_shown_once_it_is_reloaded(self, session, stream):
        stream.held, stream.lost = frozenset({0, 1, 2}), frozenset({3})
        stream.reasons = ((3, "its checksum is wrong"),)
        run(session, session.came_to_rest)
        assert "its checksum is wrong" in session.state.message.text
        assert session.picture.coarse == 0.25
        stream.lost, stream.reasons = frozenset(), ()
        session.reload_block(3)
        stream.held = frozenset(range(N_BLOCKS))
        run(session, lambda: session.picture.coarse == 0.0 and session.picture.finished)


class TestStore:
    """A real store of 4 x 4 blocks, of which six fit into memory."""

    BLOCK = Pose((1.95, 1.4, 1.0), pitch=-1.4)  # looks down on blocks 5 and 9
    OTHER = Pose((2.5, 2.4, 1.0), pitch=-1.4)  # on block 10

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory) -> Path:
        path = tmp_path_factory.mktemp("store") / "city"
        make_city_store(path, (4, 4), texels=32, missing={3})
        return path

    @pytest.fixture
    def loaded(self, folder) -> Iterator[Loaded]:
        made = load(folder, (f"memory.device={self.budget(folder)}", "memory.prefetch_seconds=0"))
        yield made
        made.renderer.close()

    def budget(self, folder: Path) -> int:
        store = Store.open(folder)
        return int(store.n_bytes(0, Precision.FULL) * 7.5)

    @pytest.fixture
    def worker(self, loaded) -> Iterator[RenderWorker]:
        self.pictures: list[Picture] = []
        made = RenderWorker(loaded.renderer, lambda: self.pictures.append(made.take()))
        yield made
        assert made.stop(PATIENCE)

    def request(self, pose: Pose, **changes: object) -> RenderRequest:
        return replace(RenderRequest(pose.camera(WIDTH, HEIGHT)), **changes)

    def test_opening_fetches_nothing(self, loaded):
        assert loaded.renderer.stream.residency.records() == ()
        assert loaded.facts.present == tuple(block != 3 for block in range(16))
        assert loaded.facts.n_bytes > 15 * 32 * 32 * 16
        assert loaded.facts.kind.endswith("15 blocks")
        assert loaded.plan.min() < 250  # the stand-ins, from above

    def test_a_resting_picture_ends_as_if_all_blocks_were_in_memory(self, loaded, worker):
        asked = self.request(self.BLOCK)
        worker.submit(asked)
        assert worker.wait_idle(PATIENCE)
        last = self.pictures[-1]
        assert (last.finished, last.coarse) == (True, 0.0)
        frame = loaded.renderer.render(asked.camera)
        image = to_image(Mode.COLOR, frame.buffers, asked.camera)
        np.testing.assert_array_equal(last.image, image)
        np.testing.assert_array_equal(last.depth, frame.median_depth)

    def test_after_a_jump_nothing_is_empty_that_is_not_so_coarsely(self, loaded, worker):
        worker.submit(self.request(self.BLOCK))
        assert worker.wait_idle(PATIENCE)
        asked = self.request(self.OTHER, mode=Mode.OPACITY, moving=True)
        self.pictures.clear()
        worker.submit(asked)
        assert worker.wait_idle(PATIENCE)
        first = self.pictures[0]
        camera = first.camera
        empty = load(loaded.facts.path)  # none of whose blocks have been asked for
        settings = RenderSettings(Quality.FAST, complete=False)
        frame = empty.renderer.render(camera, settings, RenderControl(camera.width, camera.height))
        empty.renderer.close()
        coarse = to_image(Mode.OPACITY, frame.buffers, camera)
        assert coarse.mean() > 100
        assert (first.image.astype(int) >= coarse.astype(int) - 2).all()

    def test_a_view_beyond_the_budget_ends_with_stand_ins(self, loaded, worker):
        worker.submit(self.request(Pose((2.0, -1.0, 3.0), pitch=-0.8)))
        assert worker.wait_idle(PATIENCE)
        last = self.pictures[-1]
        assert last.finished
        assert 0.0 < last.coarse < 1.0
        status = loaded.renderer.stream.status()
        assert status.n_beyond > 0
        assert status.device_bytes <= status.device_budget

    def test_no_picture_and_no_point_is_half_true_once_the_field_is_closed(self, loaded):
        renderer, camera = loaded.renderer, self.BLOCK.camera(WIDTH, HEIGHT)
        points = torch.tensor([[1.5, 1.5, 0.1]])
        assert renderer.render(camera, RenderSettings(Quality.FAST)).is_complete
        assert renderer.probe(points).sigma.isfinite().all()
        renderer.stream.residency.evict(5)
        renderer.stream.residency.evict(9)
        renderer.close()
        assert not renderer.render(camera, RenderSettings(Quality.FAST)).is_complete
        with pytest.raises(InputError, match="must stay as it is"):
            renderer.probe(points)

    def test_with_a_larger_budget_the_picture_is_completed(self, loaded, worker):
        worker.submit(self.request(Pose((2.0, -1.0, 3.0), pitch=-0.8)))
        assert worker.wait_idle(PATIENCE)
        assert self.pictures[-1].coarse > 0.0
        stream, budget = loaded.renderer.stream, loaded.facts.memory
        watch = StreamWatch(EventLog())
        watch.open(stream, budget)
        state = ViewerState(memory=replace(budget, device=4 * budget.device))
        end = time.monotonic() + PATIENCE
        while not watch.follow(state):
            assert time.monotonic() < end
            time.sleep(0.01)
        worker.look_again()
        assert worker.wait_idle(PATIENCE)
        last = self.pictures[-1]
        assert (last.finished, last.coarse) == (True, 0.0)
        assert stream.status().device_budget == 4 * budget.device
        watch.close()

    def test_a_damaged_block_stays_coarse_and_the_rest_is_shown(self, loaded, worker, folder, tmp_path):
        copy = tmp_path / "damaged"
        shutil.copytree(folder, copy)
        (file,) = (copy / "blocks").glob("5-*")
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 255
        file.unlink()
        file.write_bytes(data)
        opened = load(copy, (f"memory.device={self.budget(folder)}",))
        worker.set_renderer(opened.renderer)
        worker.submit(self.request(self.BLOCK))
        assert worker.wait_idle(PATIENCE)
        last = self.pictures[-1]
        assert last.finished
        assert 0.0 < last.coarse < 1.0
        assert [block for block, _ in opened.renderer.stream.status().failures] == [5]
        opened.renderer.close()

    def test_a_scene_that_was_closed_leaves_no_thread_behind(self, folder, tmp_path):
        before = set(threading.enumerate())
        events = EventLog()
        watch = StreamWatch(events)
        for _ in range(3):
            opened = load(folder, (f"memory.device={self.budget(folder)}",))
            watch.open(opened.renderer.stream, opened.facts.memory)
            worker = RenderWorker(opened.renderer, lambda: None)
            worker.submit(self.request(self.BLOCK))
            assert worker.wait_idle(PATIENCE)
            assert worker.stop(PATIENCE)
        watch.close()
        end = time.monotonic() + PATIENCE
        while not set(threading.enumerate()) <= before:
            assert time.monotonic() < end
            time.sleep(0.01)
        status = opened.renderer.stream.status()
        assert status.block_bytes.sum() == 0


def test_a_checkpoint_that_was_compared_with_is_closed(scene_facts, monkeypatch):
    renderer = FakeRenderer()
    renderer.model = SimpleNamespace(embedding=torch.zeros(4, 2))
    renderer.close = renderer.stream.close
    monkeypatch.setattr(counterparts, "open_counterpart", lambda path, room: (renderer, Appearance(), ()))
    jobs = Jobs(lambda: None)
    found = counterparts.Counterparts(jobs, lambda pose: None, MemoryBudget)
    compare = Compare(CompareMode.WIPE, Against.CHECKPOINT, path=Path("winter.th"))
    state = ViewerState(scene_facts, compare=compare)
    end = time.monotonic() + PATIENCE
    while (other := found.find(state, None)) is None:
        assert time.monotonic() < end
        jobs.poll()
    assert other.renderer is renderer
    assert not renderer.stream.is_closed.is_set()
    found.release()
    assert renderer.stream.is_closed.is_set()


def test_no_thread_is_left_over():
    before = set(threading.enumerate())
    desks = [Desk() for _ in range(3)]
    for made in desks:
        made.submit()
    assert all(made.worker.stop(PATIENCE) for made in desks)
    assert set(threading.enumerate()) <= before
