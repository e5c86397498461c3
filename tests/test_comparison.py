"""Comparing two pictures in the window: two real render threads, and renderers that paint one colour."""

from __future__ import annotations

import gc
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera
from landmark_viewer.core.compare import Score
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Frame, RenderSettings
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.cuda.tables import FrameBuffers, RenderControl
from landmark_viewer.viewer import commands, counterparts, training_photos
from landmark_viewer.viewer import comparison as module
from landmark_viewer.viewer.comparison import NOTHING, CompareStatus, Comparison, composed, in_view, view_size
from landmark_viewer.viewer.counterparts import Counterparts, appearance_label, nearest_camera
from landmark_viewer.viewer.jobs import Jobs
from landmark_viewer.viewer.overlay_compare import grabs_line, line_of, score_text
from landmark_viewer.viewer.pictures import Picture, request_for
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.state import Against, Compare, CompareMode, Mode, Pose, ViewerState
from landmark_viewer.viewer.training_photos import TrainingPhotos

SIZE = (64, 48)
PATIENCE = 20.0  # seconds that a test waits for what must come
TABLES = SimpleNamespace(aabb=torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.5]]), division=(2, 2))
EDITS = SimpleNamespace(layers=("a layer",))


class Painter:
    """Paints everything in a shade: 0.1 for each number of the code, 0.5 more with edits."""

    tables, stream = TABLES, None

    def __init__(self, base: float = 0.0, n_codes: int = 6) -> None:
        self.base = base
        self.is_coarse = False
        self.pause: Callable[[], None] = lambda: None
        self.model = SimpleNamespace(embedding=torch.zeros(n_codes, 2))
        self.rendered: list[tuple[int, int]] = []

    def render(self, camera, settings=None, control=None, buffers=None):
        settings = settings or RenderSettings()
        control = control or RenderControl(camera.width, camera.height)
        buffers = buffers or FrameBuffers.empty(camera.width, camera.height)
        self.pause()
        self.rendered.append((camera.width, camera.height))
        shade = self.base + 0.1 * (settings.appearance.code or 0) + (0.5 if settings.edits else 0.0)
        buffers.rgb.fill_(shade)
        buffers.opacity.fill_(1.0)
        buffers.median_depth.fill_(1.0)
        control.tile_lacking[:] = self.is_coarse
        return Frame(camera, buffers, settings.quality, not control.is_cancelled)


class Driver:
    """What the session does of each turn of the main loop."""

    def __init__(self, scene_facts) -> None:
        self.woken = threading.Event()
        self.renderer = Painter()
        self.loaded = SimpleNamespace(facts=scene_facts, renderer=self.renderer, scene="the scene")
        self.state = ViewerState(scene_facts, pose=scene_facts.home, appearance=Appearance.of(1))
        self.jobs = Jobs(self.woken.set)
        self.flown: list[Pose] = []
        self.comparison = Comparison(self.woken.set, Counterparts(self.jobs, self.flown.append, MemoryBudget))
        self.worker = RenderWorker(self.renderer, self.woken.set)
        self.edits = None
        self.submitted: list = []

    def set(self, **compare: object) -> None:
        self.state = replace(self.state, compare=replace(self.state.compare, **compare))

    def turn(self, moving: bool = False) -> Picture | None:
        """One turn; returns what would be put on screen."""
        self.jobs.poll()
        request = request_for(self.state, *SIZE, moving, 0.0, self.edits)
        asked = self.comparison.ask(self.state, request, self.loaded)
        if asked is not None:
            self.submitted.append(asked)
            self.worker.submit(asked)
        return self.comparison.take(self.worker.take(), self.state)

    @property
    def is_idle(self) -> bool:
        return self.worker.is_idle and self.comparison.is_idle and self.jobs.status is None

    def settle(self, moving: bool = False) -> list[Picture]:
        """Turns until nothing is under way; returns everything that was shown."""
        shown: list[Picture] = []
        end, idle = time.monotonic() + PATIENCE, 0
        while idle < 3:
            assert time.monotonic() < end, "the pictures do not come"
            self.woken.wait(0.01)
            self.woken.clear()
            picture = self.turn(moving)
            shown += [picture] if picture is not None else []
            idle = idle + 1 if self.is_idle else 0
        return shown

    def close(self) -> None:
        self.comparison.close(PATIENCE)
        self.worker.stop(PATIENCE)


@pytest.fixture
def driver(scene_facts) -> Iterator[Driver]:
    driver = Driver(scene_facts)
    yield driver
    driver.close()


def shades(picture: Picture) -> tuple[int, int]:
    """Returns the red of the leftmost and the rightmost column."""
    return int(picture.image[0, 0, 0]), int(picture.image[0, -1, 0])


def threads() -> int:
    return sum(thread.name == "render" for thread in threading.enumerate())


def test_without_a_comparison_there_is_no_second_thread_and_nothing_is_changed(driver):
    before = threads()
    request = request_for(driver.state, *SIZE, False, 0.0)
    assert driver.comparison.ask(driver.state, request, driver.loaded) is request
    picture = driver.settle()[-1]
    assert driver.comparison.take(picture, driver.state) is picture
    assert driver.comparison.take(None, driver.state) is None
    assert threads() == before
    assert driver.comparison.status == CompareStatus()
    assert driver.comparison.next_time(1.0, driver.state) == math.inf


def test_a_wipe_shows_both_and_follows_its_line(driver):
    driver.set(mode=CompareMode.WIPE, against=Against.APPEARANCE, appearance=Appearance.of(4), position=0.25)
    picture = driver.settle()[-1]
    assert shades(picture) == (26, 102)
    assert picture.image[0, 15, 0] == 26
    assert picture.image[0, 16, 0] == 102
    n_rendered = len(driver.renderer.rendered)
    driver.set(position=0.75)
    moved = driver.turn()
    assert moved.image[0, 47, 0] == 26
    assert moved.image[0, 48, 0] == 102
    assert driver.turn() is None
    assert len(driver.renderer.rendered) == n_rendered


def test_edits_are_compared_with_the_scene_without_them(driver):
    driver.edits = EDITS
    driver.set(mode=CompareMode.WIPE, against=Against.UNEDITED)
    assert shades(driver.settle()[-1]) == (153, 26)
    assert driver.comparison.status.label == "unedited"


def test_what_would_be_the_same_picture_is_not_rendered_twice(driver):
    driver.set(mode=CompareMode.DIFFERENCE, against=Against.UNEDITED)
    shown = driver.settle()
    assert shades(shown[-1]) == (0, 0)
    assert driver.comparison.status.finished
    assert driver.comparison.status.score.psnr == math.inf
    for step in range(3):
        eye = (0.0, -2.0 + 0.01 * step, 1.0)
        driver.state = replace(driver.state, pose=replace(driver.state.pose, eye=eye))
        shown = driver.settle(moving=True)
        assert shades(shown[-1]) == (0, 0)
        assert shown[-1].beside.request.camera == shown[-1].request.camera
    assert driver.comparison._b is None
    driver.edits = EDITS
    assert shades(driver.settle()[-1]) == (255, 255)  # four times half of white: now B is another one


@pytest.mark.parametrize("against", [Against.APPEARANCE, Against.CHECKPOINT])
def test_moving_pictures_of_one_scene_are_made_alike(driver, monkeypatch, against):
    opened = Painter(0.5), Appearance.of(0), ()
    monkeypatch.setattr(counterparts, "open_counterpart", lambda path, room: opened)
    driver.set(mode=CompareMode.WIPE, against=against, appearance=Appearance.of(3), path=Path("other.th"))
    driver.settle()
    driver.state = replace(driver.state, pose=replace(driver.state.pose, eye=(0.0, -1.9, 1.0)))
    picture = driver.settle(moving=True)[-1]
    assert picture.beside is not None
    assert picture.request.moment is picture.beside.request.moment
    assert (picture.request.moment is not None) == (against is Against.APPEARANCE)


def test_side_by_side_both_render_half_the_width(driver):
    driver.set(mode=CompareMode.SIDE, against=Against.APPEARANCE, appearance=Appearance.of(3))
    picture = driver.settle()[-1]
    assert picture.image.shape == (48, 64, 4)
    assert (picture.image[0, 31, 0], picture.image[0, 32, 0]) == (26, 76)
    assert picture.request.camera.width == 32
    assert picture.request.camera.fov_y == pytest.approx(driver.state.pose.fov_y)
    assert view_size(SIZE, driver.state.compare) == (32, 48)
    assert in_view((40.0, 7.0), SIZE, driver.state.compare) == (8.0, 7.0)
    assert in_view((10.0, 7.0), SIZE, driver.state.compare) == (10.0, 7.0)
    assert in_view((40.0, 7.0), SIZE, Compare()) == (40.0, 7.0)
    driver.set(mode=CompareMode.OFF)
    after = driver.settle()
    assert after
    assert all(shown.request.camera.width == 64 and shades(shown) == (26, 26) for shown in after)
    assert after[-1].image.shape == (48, 64, 4)


def test_a_half_picture_is_never_stretched_over_the_whole_view(driver):
    driver.settle()
    for mode in (CompareMode.SIDE, CompareMode.WIPE, CompareMode.SIDE, CompareMode.OFF):
        driver.set(mode=mode)
        for picture in driver.settle():
            half = picture.request.camera.width == 32
            assert half == (mode is CompareMode.SIDE)


def test_a_difference_is_that_of_both(driver):
    driver.set(mode=CompareMode.DIFFERENCE, against=Against.APPEARANCE, appearance=Appearance.of(3), gain=2.0)
    assert shades(driver.settle()[-1]) == (100, 100)


def test_blinking_shows_a_and_b_in_turn(driver, monkeypatch):
    now = [10.2]
    monkeypatch.setattr(module, "since_start", lambda: now[0])
    driver.set(mode=CompareMode.BLINK, against=Against.APPEARANCE, appearance=Appearance.of(3))
    driver.settle()
    seen = []
    for _ in range(4):
        now[0] = driver.comparison.next_time(now[0], driver.state) + 0.01
        seen.append(shades(driver.turn())[0])
        assert driver.turn() is None
    assert seen == [76, 26, 76, 26]


def test_scores_come_when_both_pictures_are_finished_and_only_for_colours(driver):
    driver.set(mode=CompareMode.WIPE, against=Against.APPEARANCE, appearance=Appearance.of(2))
    driver.settle()
    status = driver.comparison.status
    assert status.finished
    assert status.score.psnr == pytest.approx(-20 * math.log10(25 / 255), abs=1e-3)
    driver.state = replace(driver.state, render=replace(driver.state.render, mode=Mode.OPACITY))
    driver.settle()
    assert driver.comparison.status.score is None


def test_scores_of_stand_ins_are_not_taken_for_scores_of_the_field(driver):
    driver.renderer.is_coarse = True
    driver.set(mode=CompareMode.WIPE, against=Against.APPEARANCE, appearance=Appearance.of(2))
    driver.settle()
    assert driver.comparison.status.finished
    assert driver.comparison.status.note.startswith("Up to 100 % is coarse")


def test_while_the_camera_moves_pairs_of_one_moment_are_shown(driver, monkeypatch):
    monkeypatch.setattr(module, "LATE", 60.0)
    driver.set(mode=CompareMode.WIPE, against=Against.APPEARANCE, appearance=Appearance.of(4))
    driver.settle()
    shown = []
    end = time.monotonic() + PATIENCE
    for step in count():
        if len(shown) >= 8:
            break
        assert time.monotonic() < end, "the pairs do not come"
        eye = (0.0, -2.0 + 0.001 * step, 1.0)
        driver.state = replace(driver.state, pose=replace(driver.state.pose, eye=eye))
        picture = driver.turn(moving=True)
        if picture is not None:
            shown.append(picture)
            assert driver.comparison._b.request.camera == picture.request.camera
            assert shades(picture) == (26, 102)
        driver.woken.wait(0.02)
        driver.woken.clear()
    assert all(picture.moving for picture in shown[1:])


def test_a_slow_b_does_not_hold_the_moving_picture_up(driver, monkeypatch):
    monkeypatch.setattr(module, "LATE", 0.05)
    gate = threading.Event()
    other = Painter(0.9)
    other.pause = lambda: gate.wait(PATIENCE)
    monkeypatch.setattr(counterparts, "open_counterpart", lambda path, room: (other, Appearance.of(0), ()))
    driver.set(mode=CompareMode.WIPE, against=Against.CHECKPOINT, path=Path("other.th"))
    shown = []
    end = time.monotonic() + PATIENCE / 2
    step = 0
    while len(shown) < 4 and time.monotonic() < end:
        step += 1
        eye = (0.0, -2.0 + 0.001 * step, 1.0)
        driver.state = replace(driver.state, pose=replace(driver.state.pose, eye=eye))
        picture = driver.turn(moving=True)
        shown += [picture] if picture is not None else []
        driver.woken.wait(0.02)
        driver.woken.clear()
    assert not driver.comparison.status.is_beside  # what is on screen is A alone, and says so
    gate.set()
    assert len(shown) == 4
    assert shades(driver.settle()[-1]) == (26, 255)  # at rest it is waited for
    assert driver.comparison.status.is_beside


def test_when_the_camera_stops_the_last_pair_is_still_waited_for(driver, monkeypatch):
    monkeypatch.setattr(module, "LATE", 60.0)
    gate = threading.Event()
    gate.set()
    other = Painter(0.5)
    other.pause = lambda: gate.wait(PATIENCE)
    driver.loaded = SimpleNamespace(facts=driver.loaded.facts, renderer=other, scene=None)
    driver.set(mode=CompareMode.WIPE, against=Against.APPEARANCE, appearance=Appearance.of(3))
    driver.settle()
    gate.clear()
    driver.state = replace(driver.state, pose=replace(driver.state.pose, eye=(0.0, -1.9, 1.0)))
    assert driver.turn(moving=True) is None
    shown = []
    for _ in range(5):
        assert driver.worker.wait_idle(PATIENCE / 2)
        shown.append(driver.turn())
    assert shown == [None] * 5  # A alone would flash up
    gate.set()
    assert all(shades(picture) == (26, 204) for picture in driver.settle())


def test_a_is_finished_before_b_is_refined(driver):
    order = []
    other = Painter(0.5)
    driver.renderer.pause = lambda: order.append("a")
    other.pause = lambda: order.append("b")
    driver.loaded = SimpleNamespace(facts=driver.loaded.facts, renderer=other, scene=None)
    driver.set(mode=CompareMode.WIPE, against=Against.APPEARANCE, appearance=Appearance.of(3))
    driver.settle()
    assert order[-1] == "b"
    last_a = len(order) - 1 - order[::-1].index("a")
    assert order[:last_a].count("b") <= 1  # a quick one, so that both sides show something


def test_another_checkpoint_is_opened_once_in_a_job(driver, monkeypatch):
    opened = []

    def open_counterpart(path, room):
        opened.append(path)
        return Painter(0.7, n_codes=1), Appearance.of(0), (path,)

    monkeypatch.setattr(counterparts, "open_counterpart", open_counterpart)
    driver.set(mode=CompareMode.WIPE, against=Against.CHECKPOINT)
    driver.settle()
    assert "Choose" in driver.comparison.status.note
    driver.set(path=Path("winter.th"))
    assert shades(driver.settle()[-1]) == (26, 178)
    assert opened == [Path("winter.th")]
    assert driver.comparison.status.label == "winter.th"
    assert "does not know this appearance" in driver.comparison.status.note
    driver.set(path=Path("spring.th"))
    driver.settle()
    assert opened == [Path("winter.th"), Path("spring.th")]


def test_another_checkpoint_is_let_go_when_it_is_not_compared_with_any_more(driver, monkeypatch):
    alive = []

    def open_counterpart(path, room):
        painter = Painter(0.7)
        alive.append(weakref.ref(painter))
        return painter, Appearance.of(0), ()

    monkeypatch.setattr(counterparts, "open_counterpart", open_counterpart)
    for end in ({"mode": CompareMode.OFF}, {"against": Against.UNEDITED}):
        driver.set(mode=CompareMode.WIPE, against=Against.CHECKPOINT, path=Path("winter.th"))
        driver.settle()
        assert alive[-1]() is not None
        driver.set(**end)
        driver.settle()
        until = time.monotonic() + PATIENCE
        while alive[-1]() is not None:  # its thread ends a little later
            assert time.monotonic() < until, "it is kept"
            time.sleep(0.01)
            gc.collect()
    assert len(alive) == 2


def test_a_picture_of_two_names_both_once_both_are_finished(driver):
    assert driver.settle()[-1].beside is None
    driver.set(mode=CompareMode.DIFFERENCE, against=Against.APPEARANCE, appearance=Appearance.of(1))
    beside = driver.settle()[-1].beside
    assert driver.comparison.stands
    assert (beside.mode, beside.name) == ("difference", "code 1")
    assert beside.request.appearance == Appearance.of(1)


def test_what_cannot_be_opened_is_said_once_and_a_lives_on(driver, monkeypatch):
    def open_counterpart(path, room):
        raise InputError("bad.th must be a checkpoint")

    monkeypatch.setattr(counterparts, "open_counterpart", open_counterpart)
    driver.set(mode=CompareMode.WIPE, against=Against.CHECKPOINT, path=Path("bad.th"))
    assert shades(driver.settle()[-1]) == (26, 26)
    assert driver.comparison.take_failure() == "bad.th must be a checkpoint"
    driver.settle()
    assert driver.comparison.take_failure() is None
    assert driver.comparison.status.note == "bad.th must be a checkpoint"


def photos() -> TrainingPhotos:
    """Two photographs, from the left and from the right; the second one does not know its left half."""
    poses = (Pose((-1.5, -2.0, 1.0), pitch=-0.5, fov_y=40.0), Pose((0.1, -2.0, 1.0), pitch=-0.5, fov_y=40.0))
    images = np.full((2, 30, 40, 4), 255, np.uint8)
    images[1, ..., :3] = 204
    images[1, :, :20, 3] = 0
    cameras = tuple(pose.camera(40, 30) for pose in poses)
    return TrainingPhotos(("day/left.jpg", "day/right.jpg"), (2, 3), cameras, lambda number: images[number])


def test_the_nearest_photograph_is_flown_to_and_compared_where_it_knows_something(driver, monkeypatch):
    monkeypatch.setattr(training_photos, "open_training_photos", lambda scene: photos())
    driver.set(mode=CompareMode.WIPE, against=Against.PHOTO, position=0.0)
    driver.settle()
    assert len(driver.flown) == 1
    pose = driver.flown[0]
    assert pose.eye == pytest.approx((0.1, -2.0, 1.0))
    assert "left the place" in driver.comparison.status.note
    driver.state = replace(driver.state, pose=pose)
    picture = driver.settle()[-1]
    status = driver.comparison.status
    assert status.note == ""
    assert (status.label, status.photo.name, status.photo.code) == ("right.jpg", "day/right.jpg", 3)
    assert shades(picture) == (26, 204)  # its unknown half shows A
    assert status.score.psnr == pytest.approx(-20 * math.log10((204 - 26) / 255), abs=1e-3)
    turned = replace(pose, yaw=pose.yaw + 0.1)
    driver.state = replace(driver.state, pose=turned)
    driver.settle()
    assert driver.comparison.status.note == ""  # another direction from the same place is as good
    assert len(driver.flown) == 1
    driver.state = replace(driver.state, pose=replace(pose, eye=(-1.4, -2.0, 1.0)))
    driver.comparison.counterparts.next_photo()
    driver.settle()
    assert driver.flown[-1].eye == pytest.approx((-1.5, -2.0, 1.0))


def test_another_scene_ends_the_comparison(driver):
    driver.set(mode=CompareMode.WIPE)
    driver.settle()
    running = threads()
    driver.comparison.open()
    deadline = time.monotonic() + PATIENCE
    while threads() >= running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threads() == running - 1
    assert driver.comparison.take(None, driver.state) is None


def test_the_nearest_camera_counts_places_and_directions():
    ahead = Pose((0.0, 0.0, 1.0), yaw=0.0)
    cameras = [
        replace(ahead, yaw=math.pi).camera(8, 8),
        replace(ahead, eye=(0.5, 0.0, 1.0)).camera(8, 8),
        replace(ahead, eye=(3.0, 0.0, 1.0)).camera(8, 8),
    ]
    assert nearest_camera(cameras, ahead) == 1
    assert nearest_camera(cameras, replace(ahead, yaw=3.0)) == 0
    assert nearest_camera(cameras, replace(ahead, eye=(2.5, 0.0, 1.0))) == 2


def test_appearances_are_named_by_their_styles():
    styles = (("winter", Appearance.of(3)),)
    assert appearance_label(Appearance.of(3), styles) == "winter"
    assert appearance_label(Appearance.of(2), styles) == "code 2"
    assert appearance_label(Appearance.mixed({0: 1, 1: 1}), styles) == "own appearance"


@pytest.mark.parametrize("mode", CompareMode)
def test_without_b_the_present_picture_is_shown(mode):
    a = np.full((6, 8, 4), 9, np.uint8)
    image = composed(a, None, Compare(mode))
    assert np.array_equal(image[:, :8], a)
    if mode is CompareMode.SIDE:
        assert (image[:, 8:] == NOTHING).all()


def test_a_photograph_is_shown_by_its_own_camera_alone():
    camera: Camera = Pose((0.0, 0.0, 1.0)).camera(8, 6)
    shown = counterparts.PhotoRenderer(np.full((6, 8, 4), 255, np.uint8), camera, TABLES)
    assert shown.render(camera).buffers.median_depth.min() == 1
    elsewhere = Pose((0.0, 0.1, 1.0)).camera(8, 6)
    assert shown.render(elsewhere).buffers.median_depth.max() == 0


# Commands


@pytest.fixture
def state(scene_facts) -> ViewerState:
    return ViewerState(scene_facts)


def test_photographs_can_only_be_compared_with_where_the_scene_names_them(state):
    refused = commands.CompareWith(Against.PHOTO).apply(state)
    assert refused.compare == state.compare
    assert "dataset.path" in refused.message.text
    named = replace(state, scene=replace(state.scene, has_photos=True))
    assert commands.CompareWith(Against.PHOTO).apply(named).compare.against is Against.PHOTO


def test_what_is_compared_is_chosen_with_its_appearance_or_file(state):
    after = commands.CompareWithAppearance(Appearance.of(2)).apply(state).compare
    assert (after.against, after.appearance) == (Against.APPEARANCE, Appearance.of(2))
    after = commands.CompareWithCheckpoint(Path("other.th")).apply(state).compare
    assert (after.against, after.path) == (Against.CHECKPOINT, Path("other.th"))
    assert after.mode is CompareMode.OFF


def test_line_and_gain_stay_within_their_ranges(state):
    assert commands.SetWipe(-0.5).apply(state).compare.position == 0.0
    assert commands.SetWipe(1.5).apply(state).compare.position == 1.0
    assert commands.SetWipe(math.nan).apply(state).compare.position == 0.0
    assert commands.SetGain(1e9).apply(state).compare.gain == 32.0


# What lies over the picture


def test_only_the_line_of_a_wipe_can_be_grabbed():
    wipe = Compare(CompareMode.WIPE, position=0.25)
    assert line_of(wipe, 800) == 200
    assert grabs_line(wipe, 208.0, 800, 1.0)
    assert not grabs_line(wipe, 220.0, 800, 1.0)
    assert grabs_line(wipe, 218.0, 800, 2.0)
    assert not grabs_line(replace(wipe, mode=CompareMode.SIDE), 400.0, 800, 1.0)


def test_the_score_is_said_in_words():
    assert score_text(CompareStatus(score=Score(31.256, 0.9))) == "PSNR 31.26 dB   SSIM 0.9000"
    assert score_text(CompareStatus(score=Score(math.inf, 1.0))) == "Both pictures are equal"
    assert score_text(CompareStatus(progress=0.43)) == "Refining B 43 %"
