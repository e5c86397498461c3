"""The render thread, with a renderer that is slow on purpose and paints what it was asked for."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Frame, RenderSettings
from landmark_viewer.cuda.tables import TILE, FrameBuffers, Quality, RenderControl
from landmark_viewer.viewer.pictures import Picture, RenderRequest, request_for
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.resolution import camera_at, centre_out, enlarged
from landmark_viewer.viewer.state import Mode, Pose, RenderPreferences, ViewerState

WIDTH, HEIGHT = 64, 48
N_TILES = (WIDTH // TILE) * (HEIGHT // TILE)
SHADE = {Quality.FAST: 0.2, Quality.CLUSTERED: 0.6, Quality.EXACT: 1.0}
PATIENCE = 20.0  # seconds that a test waits for what must come


class FakeRenderer:
    """Paints every tile with the camera's x, the quality and the scene; counts and delays what it does."""

    stream = None

    def __init__(self, scene: float = 0.0, delays: dict[Quality, float] | None = None) -> None:
        self.tables = SimpleNamespace(
            aabb=torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 1.0]]), division=(1, 1)
        )
        self.scene = scene
        self.delays = delays or {}  # seconds per tile
        self.calls: list[tuple[float, Quality, int]] = []  # camera's x, quality, picture width
        self.tiles = dict.fromkeys(Quality, 0)  # rendered so far
        self.reached = threading.Event()  # set whenever a tile is begun
        self.gate = threading.Event()  # tiles wait for it, unless they are cancelled
        self.gate.set()
        self.halts_at: int | None = None  # so many exact tiles close the gate
        self.error: Exception | None = None

    def render(self, camera, settings=None, control=None, buffers=None) -> Frame:
        assert isinstance(settings, RenderSettings)
        assert isinstance(control, RenderControl)
        quality = settings.quality
        self.calls.append((camera.c2w[0][3], quality, camera.width))
        for tile in control.order:
            self.reached.set()
            if quality is Quality.EXACT and self.tiles[quality] == self.halts_at:
                self.gate.clear()
            while not self.gate.wait(0.001) and not control.is_cancelled:
                pass
            if self.error:
                raise self.error
            if control.is_cancelled:
                return Frame(camera, buffers, quality, False)
            time.sleep(self.delays.get(quality, 0.0))
            row, column = (TILE * int(index) for index in divmod(int(tile), control.columns))
            buffers.rgb[row : row + TILE, column : column + TILE] = torch.tensor(
                [camera.c2w[0][3], SHADE[quality], self.scene]
            )
            buffers.median_depth[row : row + TILE, column : column + TILE] = 2.0
            control.done_count[0] += 1
            self.tiles[quality] += 1
        return Frame(camera, buffers, quality, True)


class Desk:
    """A worker with everything it delivers."""

    def __init__(self, renderer: FakeRenderer | None) -> None:
        self.pictures: list[Picture] = []
        self.failures: list[str] = []
        self.worker = RenderWorker(renderer, self.collect)

    def collect(self) -> None:
        if picture := self.worker.take():
            self.pictures.append(picture)
        if failure := self.worker.take_failure():
            self.failures.append(failure)

    def wait(self) -> None:
        assert self.worker.wait_idle(PATIENCE)

    def wait_halted(self, renderer: FakeRenderer) -> None:
        """Waits until as many tiles are exact as the renderer halts at."""
        self.wait_for(lambda: not renderer.gate.is_set())

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "what the test waits for never came"
            time.sleep(0.001)


@pytest.fixture
def renderer() -> FakeRenderer:
    return FakeRenderer()


@pytest.fixture
def desk(renderer) -> Iterator[Desk]:
    made = Desk(renderer)
    yield made
    renderer.gate.set()
    assert made.worker.stop(PATIENCE)


def request(x: float = 0.5, **changes: object) -> RenderRequest:
    return replace(RenderRequest(Pose((x, 0.0, 1.0)).camera(WIDTH, HEIGHT)), **changes)


def shades(picture: Picture) -> np.ndarray:
    """The quality that each pixel was painted with, as its shade of green."""
    return picture.image[..., 1] / 255


def test_a_resting_request_ends_exact_everywhere_and_then_the_thread_sleeps(desk, renderer):
    desk.worker.submit(request())
    desk.wait()
    last = desk.pictures[-1]
    assert last.finished
    assert (last.quality, last.scale, last.progress) == (Quality.EXACT, 1.0, pytest.approx(1.0))
    assert last.image.shape == (HEIGHT, WIDTH, 4)
    assert (shades(last) == 1.0).all()
    assert (last.depth == 2.0).all()
    assert [picture.finished for picture in desk.pictures[:-1]] == [False] * (len(desk.pictures) - 1)
    n_calls = len(renderer.calls)
    time.sleep(0.1)
    assert desk.worker.is_idle
    assert len(renderer.calls) == n_calls


def test_something_coarse_comes_before_something_fine(desk):
    desk.worker.submit(request())
    desk.wait()
    assert desk.pictures[0].quality is Quality.FAST
    assert desk.pictures[0].scale == 0.5
    assert [picture.progress for picture in desk.pictures] == sorted(
        picture.progress for picture in desk.pictures
    )


def test_exact_tiles_appear_over_the_fast_picture_from_the_middle_outwards(desk, renderer):
    renderer.delays[Quality.EXACT] = 0.015
    desk.worker.submit(request())
    desk.wait()
    partial = [
        picture for picture in desk.pictures if picture.quality is Quality.EXACT and not picture.finished
    ]
    assert len(partial) >= 2
    for picture in partial:
        assert shades(picture)[HEIGHT // 2, WIDTH // 2] == 1.0
        assert shades(picture)[0, 0] == pytest.approx(0.2)
    counts = [(shades(picture) == 1.0).sum() for picture in partial]
    assert counts == sorted(counts)


def test_a_published_picture_does_not_change_afterwards(desk, renderer):
    renderer.delays[Quality.EXACT] = 0.01
    desk.worker.submit(request())
    desk.wait_for(lambda: any(picture.quality is Quality.EXACT for picture in desk.pictures))
    picture = desk.pictures[-1]
    image, depth = picture.image.copy(), picture.depth.copy()
    desk.wait()
    np.testing.assert_array_equal(picture.image, image)
    np.testing.assert_array_equal(picture.depth, depth)


def test_while_moving_the_newest_request_wins_and_none_is_broken_off(desk, renderer):
    renderer.gate.clear()
    desk.worker.submit(request(0.0, moving=True))
    assert renderer.reached.wait(PATIENCE)
    for x in (0.2, 0.4, 0.6, 0.8):
        desk.worker.submit(request(x, moving=True))
    renderer.gate.set()
    desk.wait()
    assert [x for x, _, _ in renderer.calls] == [0.0, 0.8]
    assert [picture.request.camera.c2w[0][3] for picture in desk.pictures] == [0.0, 0.8]
    assert all(picture.moving and not picture.finished for picture in desk.pictures)


def test_a_movement_cancels_the_refinement_within_a_tile(desk, renderer):
    renderer.halts_at = 4
    desk.worker.submit(request(0.0))
    desk.wait_halted(renderer)
    desk.worker.submit(request(0.5, moving=True))
    renderer.gate.set()
    desk.wait()
    assert renderer.tiles[Quality.EXACT] == 4
    assert desk.pictures[-1].moving
    assert desk.pictures[-1].request.camera.c2w[0][3] == 0.5


def test_after_a_movement_the_last_view_is_refined_to_the_end(desk, renderer):
    for x in np.linspace(0, 0.9, 30):
        desk.worker.submit(request(float(x), moving=True, input_time=float(x)))
        time.sleep(0.001)
    desk.worker.submit(request(0.9, input_time=0.9))
    desk.wait()
    last = desk.pictures[-1]
    assert last.finished
    assert (shades(last) == 1.0).all()
    assert (last.image[..., 0] == round(0.9 * 255)).all()
    assert last.request.input_time == 0.9


def test_once_a_newer_view_is_shown_no_older_one_follows(desk, renderer):
    renderer.delays = dict.fromkeys(Quality, 0.0005)
    for index in range(25):
        desk.worker.submit(request(index / 25, moving=index % 3 == 1))
        time.sleep(0.01)
    desk.wait()
    order = [picture.request.camera.c2w[0][3] for picture in desk.pictures]
    assert all(a <= b for a, b in pairwise(order))
    assert desk.pictures[-1].finished
    assert order[-1] == 24 / 25


def test_a_flood_of_resting_requests_does_not_leave_the_window_blank(desk, renderer):
    renderer.delays = dict.fromkeys(Quality, 0.002)
    end = time.monotonic() + PATIENCE
    for code in count():
        desk.worker.submit(request(appearance=Appearance.of(code)))
        time.sleep(0.01)
        if desk.pictures and code >= 19:
            break
        assert time.monotonic() < end, "the window stays blank"
    desk.wait()
    assert desk.pictures[-1].request.appearance == Appearance.of(code)
    assert desk.pictures[-1].finished


def test_a_request_that_is_already_served_costs_nothing(desk, renderer):
    desk.worker.submit(request())
    desk.wait()
    n_calls, n_pictures = len(renderer.calls), len(desk.pictures)
    desk.worker.submit(request(input_time=3.0))
    desk.wait()
    assert (len(renderer.calls), len(desk.pictures)) == (n_calls, n_pictures)


def test_another_mode_is_shown_without_rendering_again(desk, renderer):
    desk.worker.submit(request())
    desk.wait()
    n_calls = len(renderer.calls)
    desk.worker.submit(request(mode=Mode.DEPTH))
    desk.wait()
    assert len(renderer.calls) == n_calls
    assert desk.pictures[-1].request.mode is Mode.DEPTH
    assert desk.pictures[-1].finished


def test_another_mode_during_the_refinement_goes_on_with_it(desk, renderer):
    renderer.halts_at = 4
    desk.worker.submit(request())
    desk.wait_halted(renderer)
    desk.worker.submit(request(mode=Mode.OPACITY))
    renderer.halts_at = None
    renderer.gate.set()
    desk.wait()
    assert renderer.tiles[Quality.EXACT] == N_TILES
    assert desk.pictures[-1].request.mode is Mode.OPACITY
    assert desk.pictures[-1].finished


@pytest.mark.parametrize("quality", Quality)
def test_the_quality_at_rest_is_the_one_asked_for(desk, renderer, quality):
    desk.worker.submit(request(quality_at_rest=quality))
    desk.wait()
    assert desk.pictures[-1].quality is quality
    assert desk.pictures[-1].finished
    assert shades(desk.pictures[-1]) == pytest.approx(SHADE[quality], abs=0.01)


def test_a_lower_resolution_at_rest_ends_finished_at_that_size(desk):
    desk.worker.submit(request(resolution=0.5))
    desk.wait()
    assert desk.pictures[-1].image.shape == (HEIGHT // 2, WIDTH // 2, 4)
    assert desk.pictures[-1].finished


def test_a_slow_machine_gets_coarser_pictures_while_moving_down_to_the_floor(desk, renderer):
    renderer.delays[Quality.FAST] = 0.01
    for index in range(12):
        desk.worker.submit(request(index / 12, moving=True, target_fps=60.0, floor=0.375))
        desk.wait()
    scales = [picture.scale for picture in desk.pictures]
    assert scales[0] == 0.5
    assert min(scales) == scales[-1] == 0.375


def test_a_failing_renderer_is_a_message_and_the_thread_lives_on(desk, renderer, caplog):
    renderer.error = RuntimeError("the kernel gave up")
    desk.worker.submit(request())
    desk.wait()
    assert desk.failures == ["Rendering failed: the kernel gave up"]
    assert "Traceback" in caplog.text
    renderer.error = None
    desk.worker.submit(request(0.1))
    desk.wait()
    assert desk.pictures[-1].finished


def test_an_input_error_is_said_in_its_own_words(desk, renderer):
    renderer.error = InputError("appearance.code must be from 0 to 3, got 9")
    desk.worker.submit(request(appearance=Appearance.of(9)))
    desk.wait()
    assert desk.failures == ["appearance.code must be from 0 to 3, got 9"]


def test_a_failure_in_the_middle_does_not_leave_its_pixels_behind(desk, renderer):
    renderer.halts_at = 4
    desk.worker.submit(request())
    desk.wait_halted(renderer)
    renderer.error = MemoryError()
    renderer.halts_at = None
    renderer.gate.set()
    desk.wait()
    renderer.error = None
    assert desk.failures == ["Rendering failed: MemoryError"]
    desk.worker.submit(request(mode=Mode.OPACITY))
    desk.wait()
    assert renderer.tiles[Quality.FAST] > N_TILES
    assert desk.pictures[-1].finished


def test_another_scene_ends_the_work_on_the_old_one(desk, renderer):
    renderer.halts_at = 4
    desk.worker.submit(request())
    desk.wait_halted(renderer)
    other = FakeRenderer(scene=1.0)
    desk.worker.set_renderer(other)
    desk.wait()
    seen = len(desk.pictures)
    desk.worker.submit(request())
    desk.wait()
    later = desk.pictures[seen:]
    assert later[-1].finished
    assert all((picture.image[..., 2] == 255).all() for picture in later)
    assert renderer.tiles[Quality.EXACT] == 4


def test_a_picture_of_the_old_scene_is_not_delivered_after_the_change():
    renderer = FakeRenderer()
    worker = RenderWorker(renderer, lambda: None)
    worker.submit(request())
    assert worker.wait_idle(PATIENCE)
    worker.set_renderer(None)
    assert worker.take() is None
    worker.submit(request(0.1))
    assert worker.is_idle
    assert worker.take() is None
    assert worker.stop(PATIENCE)


def test_a_scene_that_was_closed_is_released():
    renderer = FakeRenderer()
    alive = weakref.ref(renderer)
    worker = RenderWorker(renderer, lambda: None)
    worker.submit(request(moving=True))
    assert worker.wait_idle(PATIENCE)
    worker.set_renderer(None)
    del renderer
    gc.collect()
    assert alive() is None
    assert worker.stop(PATIENCE)


def test_stopping_ends_the_thread_even_in_the_middle_of_a_picture():
    renderer = FakeRenderer()
    renderer.halts_at = 2
    desk = Desk(renderer)
    desk.worker.submit(request())
    desk.wait_halted(renderer)
    assert desk.worker.stop(PATIENCE)
    assert renderer.tiles[Quality.EXACT] == 2
    desk.worker.submit(request(0.1))
    assert desk.worker.stop(PATIENCE)


def test_no_thread_is_left_over():
    before = set(threading.enumerate())
    desks = [Desk(FakeRenderer()) for _ in range(5)]
    for made in desks:
        made.worker.submit(request())
    assert all(made.worker.stop(PATIENCE) for made in desks)
    assert set(threading.enumerate()) <= before


def test_only_the_newest_picture_waits_to_be_taken(renderer):
    worker = RenderWorker(renderer, lambda: None)
    worker.submit(request())
    assert worker.wait_idle(PATIENCE)
    assert worker.take().finished
    assert worker.take() is None
    assert worker.stop(PATIENCE)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (33, 17), (200, 9)])
def test_viewports_of_any_size_are_served(desk, size):
    desk.worker.submit(RenderRequest(Pose((0.5, 0.0, 1.0)).camera(*size)))
    desk.wait()
    assert desk.pictures[-1].image.shape == (size[1], size[0], 4)
    assert desk.pictures[-1].finished
    desk.worker.submit(RenderRequest(Pose((0.6, 0.0, 1.0)).camera(*size), moving=True))
    desk.wait()
    assert desk.pictures[-1].moving


def test_a_request_says_what_the_window_shows():
    state = ViewerState(
        pose=Pose((1.0, 2.0, 3.0)),
        appearance=Appearance.of(2),
        render=RenderPreferences(Mode.DEPTH, Quality.FAST, 20.0, 0.5),
    )
    made = request_for(state, 64, 48, moving=True, input_time=1.5)
    assert made.camera == state.pose.camera(64, 48)
    assert (made.mode, made.quality_at_rest, made.appearance) == (Mode.DEPTH, Quality.FAST, Appearance.of(2))
    assert (made.target_fps, made.floor, made.moving, made.input_time) == (20.0, 0.5, True, 1.5)


@pytest.mark.parametrize("scale", [0.5, 0.375, 0.25])
def test_a_coarse_picture_lies_exactly_over_the_full_one(scale):
    full = Pose((0.0, 0.0, 2.0), pitch=-0.8).camera(320, 192)
    coarse = camera_at(full, scale)
    # The middle of a coarse pixel, stretched over the viewport, shows what the full picture shows there.
    for column, row in ((0, 0), (5, 7), (coarse.width - 1, coarse.height - 1)):
        at = ((column + 0.5) / scale - 0.5, (row + 0.5) / scale - 0.5)
        np.testing.assert_allclose(coarse.ray(column, row)[1], full.ray(*at)[1], atol=1e-12)


def test_the_full_picture_keeps_its_camera_to_the_last_bit():
    camera = replace(Pose().camera(321, 193), cx=33.3, cy=44.4)
    assert camera_at(camera, 1.0) is camera


def test_enlarging_takes_the_nearest_pixel():
    small = FrameBuffers.empty(4, 3)
    small.opacity[:] = torch.arange(12).reshape(3, 4)
    large = enlarged(small, Pose().camera(8, 6))
    np.testing.assert_array_equal(large.opacity.numpy(), np.kron(small.opacity.numpy(), np.ones((2, 2))))
    assert enlarged(small, Pose().camera(4, 3)) is small


def test_tiles_are_ordered_from_the_middle_and_every_one_comes_once():
    order = centre_out(WIDTH, HEIGHT)
    assert sorted(order) == list(range(N_TILES))
    assert set(order[:2].tolist()) <= {19, 20, 27, 28}
    assert order[-1] in (0, 7, 40, 47)
