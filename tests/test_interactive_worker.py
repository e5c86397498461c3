"""Moving pictures from keyframes in the render thread: with a scripted engine, and with the real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance, Grade
from landmark_viewer.core.camera import Camera
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.interactive.contracts import Budget, Displayed, Kind, Look, Refined
from landmark_viewer.core.render import Frame, RenderSettings
from landmark_viewer.cuda.tables import TILE, FrameBuffers, Quality, RenderControl
from landmark_viewer.viewer.imaging import BlockGrid, to_image
from landmark_viewer.viewer.moment import Moment
from landmark_viewer.viewer.navigation import Glide, GlideCourse
from landmark_viewer.viewer.pictures import Picture, RenderRequest
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.state import Mode, Pose, RenderStatus, WarpStatus
from landmark_viewer.viewer.units import quality_text, warp_error_text

WIDTH, HEIGHT = 64, 48
PATIENCE = 20.0  # seconds that a test waits for what must come
WARPED, EXACT = 0.4, 1.0  # shades of green
KEY_RAYS = 40_000  # of a scripted keyframe: more than one budget


class FakeRenderer:
    """Paints every tile with the shade of its quality."""

    stream = None

    def __init__(self) -> None:
        self.tables = SimpleNamespace(
            aabb=torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 1.0]]), division=(1, 1)
        )
        self.calls: list[tuple[Quality, int]] = []  # quality and width of pictures
        self.delay = 0.0  # seconds per tile

    def render(self, camera, settings=None, control=None, buffers=None) -> Frame:
        self.calls.append((settings.quality, camera.width))
        for tile in control.order:
            if control.is_cancelled:
                return Frame(camera, buffers, settings.quality, False)
            time.sleep(self.delay)
            row, column = (TILE * int(index) for index in divmod(int(tile), control.columns))
            area = np.s_[row : row + TILE, column : column + TILE]
            buffers.rgb[area] = EXACT if settings.quality is Quality.EXACT else 0.2
            if buffers.front is not None:
                buffers.front[area] = 1.0
        return Frame(camera, buffers, settings.quality, True)


@dataclass
class Script:
    """What the scripted engine does."""

    reason: str | None = None
    error: Exception | None = None
    kind: Kind = Kind.WARPED
    warp_error: float | None = 1e-4
    behind: float = 0.0
    refining: float = 0.0  # seconds that `refine` takes, unless cancelled
    blocked_from: int | None = None  # number of the first `refine` that ends only when it is cancelled
    preparing: float = 0.0  # seconds that `prepare` takes, unless cancelled
    left: int = KEY_RAYS  # rays of the keyframe under way


class FakeEngine:
    """Keeps account of what it is asked for, and answers by its script."""

    def __init__(self) -> None:
        self.script = Script()
        self.log: list[tuple[str, Any]] = []
        self.looks: list[Look] = []
        self.budgets: list[Budget] = []
        self.times: list[float] = []
        self.planes: list[bool] = []
        self.ahead: list[Camera] = []
        self.adopted: list[tuple[Camera, Look, FrameBuffers]] = []
        self.cancelled: list[bool] = []  # of every `refine`
        self.prepared: list[bool] = []  # whether it was done to the end
        self.refining = threading.Event()
        self.gate = threading.Event()  # `refine` waits for it, unless it is cancelled
        self.gate.set()
        self.key_area = 1.0
        self.behind = 0.0

    def serves(self, look: Look) -> str | None:
        return self.script.reason

    def display(self, camera, look, budget, now, course=None, planes=False) -> Displayed:
        self.log.append(("display", camera))
        self.looks.append(look)
        self.budgets.append(budget)
        self.times.append(now)
        self.planes.append(planes)
        if course is not None:
            self.ahead.append(course.camera_in(0.1))
        if self.script.error:
            raise self.script.error
        buffers = FrameBuffers.empty(camera.width, camera.height)
        buffers.rgb[:] = WARPED
        image = np.full((camera.height, camera.width, 4), round(255 * WARPED), np.uint8)
        return Displayed(camera, self.script.kind, image, buffers, 100, 0.04, 0.01, self.script.warp_error)

    def refine(self, n: int, cancelled: RenderControl | None = None) -> Refined:
        self.log.append(("refine", n))
        self.refining.set()
        first = self.script.blocked_from
        is_blocked = first is not None and len(self.cancelled) >= first
        end = time.monotonic() + (PATIENCE if is_blocked else self.script.refining)
        while (time.monotonic() < end or not self.gate.is_set()) and not cancelled.is_cancelled:
            time.sleep(0.001)
        self.cancelled.append(cancelled.is_cancelled)
        rays = min(n, self.script.left)
        self.script.left -= rays
        return Refined(rays, rays > 0 and self.script.left == 0)

    def adopt(self, camera, look, buffers, lacking=None, lacks=None) -> None:
        self.log.append(("adopt", camera))
        self.adopted.append((camera, look, buffers))

    def prepare(self, cancelled: RenderControl | None = None) -> None:
        end = time.monotonic() + self.script.preparing
        self.log.append(("prepare", None))
        while time.monotonic() < end and not cancelled.is_cancelled:
            time.sleep(0.001)
        self.prepared.append(not cancelled.is_cancelled)

    def count(self, name: str) -> int:
        return sum(each == name for each, _ in self.log)


class Desk:
    """A worker with everything it delivers."""

    def __init__(self, renderer: Any, make_engine: Callable[[Any], Any] | None = None) -> None:
        self.pictures: list[Picture] = []
        self.failures: list[str] = []
        self.engine = FakeEngine()
        self.renderer = renderer
        made = {} if make_engine is None else {"make_engine": make_engine}
        self.worker = RenderWorker(renderer, self.collect, **made)

    def collect(self) -> None:
        if picture := self.worker.take():
            self.pictures.append(picture)
        if failure := self.worker.take_failure():
            self.failures.append(failure)

    def serve(self, request: RenderRequest) -> Picture:
        self.worker.submit(request)
        assert self.worker.wait_idle(PATIENCE)
        assert not self.failures
        return self.pictures[-1]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "what the test waits for never came"
            time.sleep(0.001)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(FakeRenderer(), lambda renderer: made.engine)
    yield made
    made.engine.script.refining = 0.0
    assert made.worker.stop(PATIENCE)


@pytest.fixture
def other_desk() -> Iterator[Desk]:
    made = Desk(FakeRenderer(), lambda renderer: made.engine)
    yield made
    assert made.worker.stop(PATIENCE)


def request(x: float = 0.5, **changes: object) -> RenderRequest:
    return replace(RenderRequest(Pose((x, 0.0, 1.0)).camera(WIDTH, HEIGHT)), **changes)


def moving(x: float = 0.5, **changes: object) -> RenderRequest:
    return request(x, moving=True, **changes)


def shades(picture: Picture) -> np.ndarray:
    return picture.image[..., 1] / 255


class TestMoment:
    def test_two_threads_make_the_pictures_of_one_moment_alike(self, desk, other_desk):
        first = replace(moving(), camera=Pose().camera(640, 360), screen_fps=30.0)
        second = replace(first, screen_fps=5.0)  # more time, more rays
        for each, wanted in ((desk, first), (other_desk, second)):
            each.serve(wanted)
        assert desk.engine.budgets[-1] != other_desk.engine.budgets[-1]
        moment = Moment()
        done = [len(each.engine.log) for each in (desk, other_desk)]
        for each, wanted in ((desk, first), (other_desk, second)):
            each.serve(replace(wanted, camera=Pose((0.1, 0.0, 1.0)).camera(640, 360), moment=moment))
        one, other = desk.engine, other_desk.engine
        assert (one.budgets[-1], one.times[-1]) == (other.budgets[-1], other.times[-1])
        assert one.log[done[0] :] == other.log[done[1] :]  # the same camera, the same rays of the keyframe
        assert [name for name, _ in one.log[done[0] :]] == ["display", "refine"]


class TestMoving:
    def test_the_picture_is_published_before_the_next_keyframe_is_worked_on(self, desk):
        desk.engine.gate.clear()
        desk.worker.submit(moving())
        assert desk.engine.refining.wait(PATIENCE)
        assert len(desk.pictures) == 1
        assert shades(desk.pictures[0]) == pytest.approx(WARPED, abs=0.01)
        assert desk.pictures[0].moving

    def test_the_share_of_the_keyframe_is_rendered_even_where_the_next_request_waits(self, desk):
        desk.engine.gate.clear()
        desk.worker.submit(moving(0.1))
        assert desk.engine.refining.wait(PATIENCE)
        desk.worker.submit(moving(0.2))
        desk.engine.gate.set()
        desk.wait_for(lambda: desk.engine.count("display") >= 2)
        assert [name for name, _ in desk.engine.log[:3]] == ["display", "refine", "display"]
        assert desk.engine.log[1][1] == desk.engine.budgets[0].key
        assert not desk.engine.cancelled[0]

    def test_the_next_picture_is_of_the_last_request_before_it_begins(self, desk):
        desk.engine.gate.clear()
        desk.worker.submit(moving(0.1))
        assert desk.engine.refining.wait(PATIENCE)
        assert not desk.worker.can_take_another
        for x in (0.2, 0.3):
            desk.worker.submit(moving(x))
            assert desk.worker.can_take_another
        desk.engine.gate.set()
        desk.wait_for(lambda: desk.engine.count("display") >= 2)
        cameras = [camera for name, camera in desk.engine.log if name == "display"]
        assert cameras[:2] == [moving(x).camera for x in (0.1, 0.3)]

    def test_what_goes_beyond_the_share_is_cancelled_by_the_next_request(self, desk):
        desk.engine.script.blocked_from = 1
        desk.worker.submit(moving(0.1))
        desk.wait_for(lambda: desk.engine.count("refine") == 2)
        desk.worker.submit(moving(0.2))
        desk.wait_for(lambda: desk.pictures[-1].request.camera == moving(0.2).camera)
        assert desk.engine.cancelled[:2] == [False, True]

    def test_the_picture_at_rest_does_not_wait_for_what_goes_beyond_the_share(self, desk):
        desk.engine.script.blocked_from = 1
        desk.worker.submit(moving())
        desk.wait_for(lambda: desk.engine.count("refine") == 2)
        assert desk.serve(request()).finished
        assert desk.engine.cancelled == [False, True]

    def test_work_that_edits_make_needless_is_ended(self, desk):
        desk.engine.script.blocked_from = 1
        desk.worker.submit(moving())
        desk.wait_for(lambda: desk.engine.count("refine") == 2)
        desk.worker.stop_refining()
        assert desk.worker.wait_idle(PATIENCE / 2)

    def test_every_picture_is_of_the_asked_camera(self, desk):
        for x in (0.1, 0.2, 0.3):
            desk.serve(moving(x))
        asked = [picture.request.camera for picture in desk.pictures]
        assert [picture.camera for picture in desk.pictures] == asked
        assert {camera.c2w[0][3] for camera in asked} == {0.1, 0.2, 0.3}

    def test_while_nothing_else_is_asked_for_the_same_pose_gets_better_and_then_the_thread_sleeps(self, desk):
        desk.serve(moving())
        assert 2 <= len(desk.pictures) <= 6
        assert len({picture.camera for picture in desk.pictures}) == 1
        n = len(desk.engine.log)
        time.sleep(0.05)
        assert desk.worker.is_idle
        assert len(desk.engine.log) == n

    def test_a_picture_that_is_a_keyframe_cannot_be_bettered(self, desk):
        desk.engine.script.kind = Kind.KEYFRAME
        desk.serve(moving())
        assert desk.engine.count("display") == 1

    def test_colours_come_from_the_engine_other_modes_and_grades_from_its_floats(self, desk):
        desk.engine.script.left = 0
        color = desk.serve(moving(0.1))
        graded = desk.serve(moving(0.2, appearance=Appearance(grade=Grade(exposure=1.0))))
        opacity = desk.serve(moving(0.3, mode=Mode.OPACITY))
        assert desk.engine.planes == [False, False, True]
        assert (color.image == round(255 * WARPED)).all()
        assert graded.image[..., 1].min() > color.image[..., 1].max()
        assert (opacity.image[..., :3] == 0).all()
        assert desk.engine.looks[0] == desk.engine.looks[1]

    def test_a_smaller_resolution_holds_while_moving_too(self, desk):
        assert desk.serve(moving(resolution=0.5)).image.shape == (HEIGHT // 2, WIDTH // 2, 4)

    def test_the_engine_is_told_what_is_looked_at(self, desk):
        edits = SimpleNamespace(layers=(), unit_ratios=())
        desk.engine.script.left = 0
        desk.serve(moving(appearance=Appearance.of(3), edits=edits, background=(1.0, 0.0, 0.0)))
        look = desk.engine.looks[-1]
        assert (look.appearance, look.background) == (Appearance.of(3), (1.0, 0.0, 0.0))
        assert look.edits is edits

    def test_a_glide_tells_where_the_camera_will_be(self, desk):
        glide = Glide(Pose((0.0, 0.0, 1.0)), Pose((1.0, 0.0, 1.0)), began=0.0, duration=1.0)
        course = GlideCourse(glide, 0.4, (WIDTH, HEIGHT))
        desk.serve(moving(resolution=0.5, course=course))
        ahead = desk.engine.ahead[0]
        assert ahead.c2w == glide.pose(0.5).camera(WIDTH, HEIGHT).c2w
        assert (ahead.width, ahead.height) == (WIDTH // 2, HEIGHT // 2)


class TestRest:
    def test_exact_is_drawn_at_once_over_the_picture_of_the_engine(self, desk):
        desk.serve(moving())
        desk.renderer.delay = 0.01
        seen = len(desk.pictures)
        last = desk.serve(request())
        assert {quality for quality, _ in desk.renderer.calls} == {Quality.EXACT}
        partial = desk.pictures[seen:-1]
        assert partial
        assert shades(partial[0])[0, 0] == pytest.approx(WARPED, abs=0.01)
        assert last.finished
        assert (shades(last) == EXACT).all()

    def test_a_published_moving_picture_does_not_change_when_exact_is_drawn(self, desk):
        picture = desk.serve(moving())
        image, depth = picture.image.copy(), picture.depth.copy()
        desk.serve(request())
        np.testing.assert_array_equal(picture.image, image)
        np.testing.assert_array_equal(picture.depth, depth)

    @pytest.mark.parametrize(("kind", "learns"), [(Kind.WARPED, True), (Kind.RECOLORED, False)])
    def test_what_a_recoloured_picture_costs_does_not_tell_what_others_will(self, desk, kind, learns):
        desk.engine.script.kind = kind
        for x in (0.1, 0.2, 0.3, 0.4):
            desk.serve(replace(moving(x), camera=Pose((x, 0.0, 1.0)).camera(640, 360)))
        assert (len(set(desk.engine.budgets)) > 1) == learns

    @pytest.mark.parametrize("kind", [Kind.COARSE, Kind.WARPED])
    def test_from_a_coarse_picture_on_full_resolution_comes_first(self, desk, kind):
        desk.engine.script.kind = kind
        resolution = 1.0 if kind is Kind.COARSE else 0.5
        desk.serve(moving(resolution=resolution))
        desk.serve(request())
        assert [quality for quality, _ in desk.renderer.calls][:1] == [Quality.FAST]
        assert (shades(desk.pictures[-1]) == EXACT).all()

    def test_a_warped_picture_is_never_taken_for_the_fast_one_that_was_asked_for(self, desk):
        desk.serve(moving())
        last = desk.serve(request(quality_at_rest=Quality.FAST))
        assert last.finished
        assert shades(last) == pytest.approx(0.2, abs=0.01)

    def test_the_finished_picture_becomes_the_newest_keyframe(self, desk):
        desk.serve(request(appearance=Appearance.of(2)))
        camera, look, buffers = desk.engine.adopted[-1]
        assert camera == request().camera
        assert look.appearance == Appearance.of(2)
        assert (buffers.rgb == EXACT).all()
        assert buffers.front is not None
        assert (buffers.front == 1.0).all()

    def test_work_ahead_is_done_when_nothing_is_asked_for_and_gives_way_to_a_request(self, desk):
        desk.engine.script.preparing = PATIENCE
        desk.worker.submit(request(0.1))
        desk.wait_for(lambda: desk.engine.count("prepare") == 1)
        assert desk.pictures[-1].finished
        desk.engine.script.preparing = 0.0
        desk.serve(moving(0.2))
        assert desk.engine.prepared == [False]
        desk.serve(request(0.2))
        assert desk.engine.prepared == [False, True]

    def test_moving_on_finds_the_keyframe_adopted(self, desk):
        desk.serve(moving(0.1))
        desk.serve(request(0.1))
        desk.serve(moving(0.2))
        names = [name for name, _ in desk.engine.log]
        assert names.index("adopt") < len(names) - names[::-1].index("display") - 1


class TestFallingBack:
    def test_a_failing_engine_is_logged_once_and_pictures_go_on(self, desk, caplog):
        desk.engine.script.error = RuntimeError("the warp gave up")
        picture = desk.serve(moving(0.1))
        assert picture.moving
        assert (picture.warp, picture.adaptive) == (None, "failed: the warp gave up")
        desk.serve(moving(0.2))
        assert desk.engine.count("display") == 1
        assert caplog.text.count("Traceback") == 1
        assert desk.serve(request(0.2)).finished
        assert not desk.engine.adopted

    def test_a_wrong_request_is_the_users_and_not_the_engines_fault(self, desk):
        desk.engine.script.error = InputError("appearance.code must be from 0 to 3, got 9")
        desk.worker.submit(moving(0.1))
        assert desk.worker.wait_idle(PATIENCE)
        assert desk.failures == ["appearance.code must be from 0 to 3, got 9"]
        desk.failures.clear()
        desk.engine.script.error = None
        assert desk.serve(moving(0.2)).warp is not None

    def test_where_the_engine_does_not_serve_the_reason_is_told(self, desk):
        desk.engine.script.reason = "no native kernels: no compiler found"
        picture = desk.serve(moving())
        assert picture.adaptive == "no native kernels: no compiler found"
        assert picture.scale == 0.5
        assert desk.serve(request()).adaptive == picture.adaptive
        assert not desk.engine.log

    def test_kernels_that_are_being_compiled_are_not_waited_for(self, desk, monkeypatch):
        building, asked = [True], []
        monkeypatch.setattr("landmark_viewer.viewer.interactive.is_building", lambda: building[0])
        desk.engine.serves = asked.append
        picture = desk.serve(moving(0.1))
        assert (picture.warp, picture.adaptive) == (None, "compiling kernels")
        assert desk.serve(request(0.1)).adaptive == picture.adaptive
        assert (asked, desk.engine.log) == ([], [])
        building[0] = False
        picture = desk.serve(moving(0.2))
        assert picture.adaptive == ""
        assert picture.warp is not None
        assert asked

    def test_a_look_that_is_served_again_is_warped_again(self, desk):
        desk.engine.script.reason = "not this one"
        desk.serve(moving(0.1, background=(1.0, 1.0, 1.0)))
        desk.engine.script.reason = None
        assert desk.serve(moving(0.2)).warp is not None

    def test_semi_transparent_scenes_fall_back_and_are_tried_again(self, desk, monkeypatch):
        clock = iter(np.arange(0.0, 1e4, 0.05).tolist())
        monkeypatch.setattr("landmark_viewer.viewer.interactive.since_start", lambda: next(clock))
        desk.engine.behind = 0.5
        desk.engine.script.warp_error, desk.engine.script.left = 1e-2, 1
        made = []
        for index in range(200):
            picture = desk.serve(moving(index / 200))
            made.append(picture.adaptive if picture.warp is None else "warped")
        assert made[0] == "warped"
        assert made.count("semi-transparent") > 20
        first = made.index("semi-transparent")
        assert "warped" in made[first:]

    def test_without_an_engine_nothing_is_said_and_the_adaptive_way_serves(self):
        made = Desk(FakeRenderer(), lambda renderer: None)
        try:
            picture = made.serve(moving())
            assert (picture.warp, picture.adaptive, picture.scale) == (None, "", 0.5)
        finally:
            made.worker.stop(PATIENCE)


class TestScenes:
    def test_another_scene_gets_an_engine_of_its_own(self):
        engines: list[tuple[Any, FakeEngine]] = []

        def make(renderer: Any) -> FakeEngine:
            engines.append((renderer, FakeEngine()))
            return engines[-1][1]

        first, second = FakeRenderer(), FakeRenderer()
        made = Desk(first, make)
        try:
            made.serve(moving(0.1))
            made.worker.set_renderer(second)
            made.serve(moving(0.1))
            assert [renderer for renderer, _ in engines] == [first, second]
            assert all(engine.count("display") for _, engine in engines)
        finally:
            made.worker.stop(PATIENCE)

    def test_a_scene_change_ends_even_the_guaranteed_share(self, desk):
        desk.engine.script.refining = PATIENCE
        desk.worker.submit(moving())
        assert desk.engine.refining.wait(PATIENCE)
        desk.worker.set_renderer(None)
        assert desk.worker.wait_idle(PATIENCE / 2)
        assert desk.engine.cancelled == [True]

    def test_stopping_ends_even_the_guaranteed_share(self, desk):
        desk.engine.script.refining = PATIENCE
        desk.worker.submit(moving())
        assert desk.engine.refining.wait(PATIENCE)
        assert desk.worker.stop(PATIENCE / 2)


class TestWords:
    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (RenderStatus(warp=WarpStatus(fresh=0.04)), "warped · 4 % new"),
            (RenderStatus(warp=WarpStatus(fresh=0.04), scale=0.75), "warped · ¾ res · 4 % new"),
            (RenderStatus(warp=WarpStatus("coarse")), "coarse"),
            (RenderStatus(warp=WarpStatus("keyframe")), "keyframe"),
            (RenderStatus(warp=WarpStatus("recoloured")), "recoloured"),
            (
                RenderStatus(adaptive="no native kernels: g++ was not found", scale=0.5),
                "adaptive ½ · no native kernels",
            ),
        ],
    )
    def test_the_status_bar_says_what_a_moving_picture_is_worth(self, status, words):
        assert quality_text(replace(status, moving=True)) == words

    def test_measured_errors_are_said_in_decibels(self):
        assert [warp_error_text(error) for error in (1e-3, 0.0, None)] == ["30.0 dB", "exact", "not measured"]


@pytest.fixture
def real(field) -> Iterator[Desk]:
    made = Desk(field)
    yield made
    assert made.worker.stop(PATIENCE)


def orbit(step: float, size: tuple[int, int] = (96, 64)) -> Camera:
    angle = 0.02 * step
    eye = (1.6 * np.sin(angle), -1.6 * np.cos(angle), 1.1)
    return Pose(eye, yaw=-angle, pitch=-0.6).camera(*size)


def view(camera: Camera, *mode: Mode, **changes: object) -> RenderRequest:
    """A request whose pictures do not depend on how fast the machine is."""
    return RenderRequest(camera, *mode, floor=1.0, screen_fps=2.0, **changes)


class TestRealEngine:
    def test_the_picture_at_rest_is_equal_to_the_renderers_bit_for_bit(self, real, field):
        for step in range(4):
            real.serve(view(orbit(step), moving=True))
        assert real.pictures[-1].warp is not None
        last = real.serve(view(orbit(3)))
        exact = field.render(orbit(3), RenderSettings(complete=False))
        np.testing.assert_array_equal(last.image, to_image(Mode.COLOR, exact.buffers, orbit(3)))
        np.testing.assert_array_equal(last.depth, exact.median_depth)
        again = real.serve(view(orbit(3), moving=True))
        assert again.warp is not None
        assert again.warp.kind == "keyframe"
        np.testing.assert_array_equal(again.image, last.image)

    def test_moving_pictures_are_close_to_exact_ones_of_the_same_pose(self, real, field):
        real.serve(view(orbit(0)))
        for step in range(1, 8):
            picture = real.serve(view(orbit(step), moving=True))
            assert picture.camera == orbit(step)
            exact = to_image(Mode.COLOR, field.render(orbit(step)).buffers, orbit(step))
            error = np.mean((picture.image[..., :3].astype(float) - exact[..., :3]) ** 2) / 255**2
            assert -10 * np.log10(error) > 30

    @pytest.mark.parametrize("mode", [Mode.DEPTH, Mode.OPACITY, Mode.NORMALS, Mode.BLOCKS])
    def test_other_modes_are_warped_as_well(self, real, field, mode):
        real.serve(view(orbit(0)))
        picture = real.serve(view(orbit(2), mode, moving=True))
        assert picture.warp is not None
        exact = to_image(mode, field.render(orbit(2)).buffers, orbit(2), BlockGrid.of(field.tables))
        differs = np.abs(picture.image.astype(int) - exact).max(axis=-1) > 48
        assert differs.mean() < (0.3 if mode is Mode.NORMALS else 0.15)  # those of a rough field are rough

    def test_another_appearance_is_shown_at_once(self, real, field):
        real.serve(view(orbit(0)))
        look = Appearance.of(1)
        picture = real.serve(view(orbit(0), moving=True, appearance=look))
        exact = to_image(
            Mode.COLOR, field.render(orbit(0), RenderSettings(appearance=look)).buffers, orbit(0)
        )
        error = np.mean((picture.image[..., :3].astype(float) - exact[..., :3]) ** 2) / 255**2
        assert -10 * np.log10(error) > 25
