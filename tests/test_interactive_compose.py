"""Moving pictures from keyframes together with all else: the real render thread, engine and kernels."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from landmark_viewer.core import kernels
from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.layers import Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.interactive.engine import Engine
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.store.store import Store
from landmark_viewer.cuda import build
from landmark_viewer.viewer.imaging import to_image
from landmark_viewer.viewer.interactive import EngineMaker, open_engine
from landmark_viewer.viewer.navigation import Glide, GlideCourse
from landmark_viewer.viewer.opening import Loaded, load
from landmark_viewer.viewer.pictures import Picture, RenderRequest
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.state import Mode, Pose

from .city_store import make_city_store
from .scripted_source import eventually

SIZE = WIDTH, HEIGHT = 96, 64
PATIENCE = 20.0  # seconds that a test waits for what must come
HOUSE = Prism(Region.rectangle(-0.15, -0.2, 0.2, 0.1), 0.1, 0.5)
REFERENCE = RenderSettings(complete=False)


class Desk:
    """A render thread with everything it delivers."""

    def __init__(self, renderer: Renderer, make_engine: EngineMaker = open_engine) -> None:
        self.pictures: list[Picture] = []
        self.worker = RenderWorker(renderer, self._collect, make_engine)

    def _collect(self) -> None:
        failure = self.worker.take_failure()
        assert failure is None, failure
        if picture := self.worker.take():
            self.pictures.append(picture)

    def serve(self, request: RenderRequest) -> list[Picture]:
        """Returns all pictures of a request, until nothing more comes."""
        n = len(self.pictures)
        self.worker.submit(request)
        assert self.worker.wait_idle(PATIENCE)
        return self.pictures[n:]

    def close(self) -> None:
        assert self.worker.stop(PATIENCE)


@pytest.fixture
def desk(field) -> Iterator[Desk]:
    made = Desk(field)
    yield made
    made.close()


def pose(step: float) -> Pose:
    angle = 0.02 * step
    return Pose((1.6 * np.sin(angle), -1.6 * np.cos(angle), 1.1), yaw=-angle, pitch=-0.6)


def still(step: float, size: tuple[int, int] = SIZE, **changes: object) -> RenderRequest:
    """A request whose pictures do not depend on how fast the machine is."""
    request = RenderRequest(pose(step).camera(*size), floor=1.0, screen_fps=2.0)
    return replace(request, **changes)


def moving(step: float, size: tuple[int, int] = SIZE, **changes: object) -> RenderRequest:
    return still(step, size, moving=True, **changes)


def exact(renderer: Renderer, camera: Camera, **how: object) -> np.ndarray:
    return to_image(Mode.COLOR, renderer.render(camera, replace(REFERENCE, **how)).buffers, camera)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a[..., :3].astype(float) - b[..., :3]) ** 2) / 255**2 + 1e-12))


def test_a_look_that_changes_while_moving_is_shown_in_the_very_next_picture_and_stays(desk, field):
    desk.serve(still(0))
    for step in range(1, 4):
        desk.serve(moving(step))
    look = Appearance.of(1)
    other = exact(field, moving(6).camera)
    for step in range(4, 8):
        picture = desk.serve(moving(step, appearance=look))[0]
        wanted = exact(field, picture.camera, appearance=look)
        assert picture.warp is not None
        assert psnr(picture.image, wanted) > psnr(picture.image, exact(field, picture.camera)) + 3, step
        assert psnr(picture.image, wanted) > 32, step
    back = desk.serve(moving(6))[0]
    assert psnr(back.image, other) > 26


def test_an_edit_at_rest_leaves_all_it_does_not_touch_as_the_exact_keyframe_has_it(desk, field):
    before = desk.serve(still(0))[-1]
    assert before.finished
    edits = EditCompiler(field).compile((Remove(prism=HOUSE),))
    wanted = exact(field, before.camera, edits=edits)
    differs = (wanted != before.image).any(axis=-1)
    assert 0.01 < differs.mean() < 0.5
    picture = desk.serve(moving(0, edits=edits))[0]
    assert picture.warp is not None
    assert picture.warp.kind == "warped"
    same = (picture.image == before.image).all(axis=-1)
    assert 0.2 < same.mean() < 1 - 0.5 * differs.mean()
    assert psnr(picture.image, wanted) > 32
    assert psnr(picture.image[~same], wanted[~same]) > 26
    last = desk.serve(still(0, edits=edits))[-1]
    np.testing.assert_array_equal(last.image, wanted)
    undone = desk.serve(moving(0))[0]
    assert psnr(undone.image, before.image) > 32


def test_an_edit_at_rest_keeps_the_resolution_however_coarse_motion_was(desk, field):
    edits = EditCompiler(field).compile((Remove(prism=HOUSE),))
    hasty = {"floor": 0.25, "screen_fps": 2e4}
    desk.serve(still(0, **hasty))
    for step in range(1, 12):
        moved = desk.serve(moving(step, **hasty))[0]
    assert moved.scale < 1
    before = desk.serve(still(12, **hasty))[-1]
    picture = desk.serve(moving(12, edits=edits, **hasty))[0]
    assert picture.scale == 1
    assert (picture.image == before.image).all(axis=-1).mean() > 0.2
    assert desk.serve(moving(13, edits=edits, **hasty))[0].scale < 1


@pytest.mark.parametrize("mode", list(Mode))
def test_every_output_has_sane_values_while_moving(desk, field, mode):
    desk.serve(still(0))
    for step in range(1, 4):
        picture = desk.serve(moving(step, mode=mode))[0]
        assert picture.warp is not None
        assert picture.image.shape == (HEIGHT, WIDTH, 4)
        assert (picture.image[..., 3] == 255).all()
        reference = field.render(picture.camera, REFERENCE)
        depth, wanted = picture.depth, reference.median_depth
        assert np.isfinite(depth).all()
        assert (depth >= 0).all()
        is_opaque = (reference.opacity > 0.95) & (wanted > 0)
        assert is_opaque.mean() > 0.1
        off = np.abs(depth[is_opaque] / wanted[is_opaque] - 1)
        assert np.median(off) < 0.03
        assert np.mean(off > 0.1) < 0.15


def test_another_size_while_moving_is_served_at_once_and_exact_at_rest(desk, field):
    desk.serve(still(0))
    for step, size in enumerate(((96, 64), (128, 64), (64, 96), (50, 37), (96, 64)), start=1):
        picture = desk.serve(moving(step, size))[0]
        assert picture.warp is not None
        assert picture.image.shape == (size[1], size[0], 4)
        assert psnr(picture.image, exact(field, picture.camera)) > 22, size
    last = desk.serve(still(5, (50, 37)))[-1]
    np.testing.assert_array_equal(last.image, exact(field, last.camera))


def test_a_jump_that_ends_in_view_of_what_is_known_shows_a_coarse_picture_at_once(desk, field):
    desk.serve(still(0))
    near = Pose((0.4, -0.8, 0.7), yaw=0.3, pitch=-0.7).camera(*SIZE)
    picture = desk.serve(replace(moving(0), camera=near))[0]
    assert picture.warp is not None
    assert picture.warp.kind == "coarse"
    assert psnr(picture.image, exact(field, near)) > 22


def test_a_known_course_is_followed(desk, field):
    desk.serve(still(0))
    glide = Glide(pose(0), pose(12), began=0.0, duration=0.6)
    for index in range(1, 13):
        now = 0.05 * index
        camera = glide.pose(now).camera(*SIZE)
        picture = desk.serve(moving(0, camera=camera, course=GlideCourse(glide, now, SIZE)))[0]
        assert picture.camera == camera
        assert psnr(picture.image, exact(field, camera)) > 28, index


def test_two_threads_that_compare_have_keyframes_of_their_own(field):
    a, b = Desk(field), Desk(field)
    look = Appearance.of(2)
    try:
        a.serve(still(0)), b.serve(still(0, appearance=look))
        for step in range(1, 5):
            requests = moving(step), moving(step, appearance=look)
            counts = len(a.pictures), len(b.pictures)
            for each, request in zip((a, b), requests, strict=True):
                each.worker.submit(request)
            assert a.worker.wait_idle(PATIENCE)
            assert b.worker.wait_idle(PATIENCE)
            first, second = a.pictures[counts[0]], b.pictures[counts[1]]
            assert first.camera == second.camera
            assert psnr(first.image, exact(field, first.camera)) > 28
            assert psnr(second.image, exact(field, first.camera, appearance=look)) > 28
    finally:
        a.close()
        b.close()


def test_an_engine_is_used_from_the_render_thread_only(field):
    used: dict[str, set[str]] = {}

    class Watched:
        def __init__(self, engine: Engine) -> None:
            self._engine = engine

        def __getattr__(self, name: str) -> object:
            used.setdefault(name, set()).add(threading.current_thread().name)
            return getattr(self._engine, name)

    desk = Desk(field, lambda renderer: Watched(open_engine(renderer)))
    try:
        desk.serve(still(0))
        for step in range(1, 4):
            desk.serve(moving(step, appearance=Appearance.of(step % 2)))
        desk.worker.submit(still(4))
        desk.worker.submit(moving(5))
        desk.worker.set_renderer(field)
        desk.serve(moving(6))
    finally:
        desk.close()
    assert {"adopt", "behind", "display", "key_area", "prepare", "refine", "serves"} <= used.keys()
    assert set.union(*used.values()) == {"render"}


class TestStreaming:
    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory, native_kernels) -> Path:
        path = tmp_path_factory.mktemp("store") / "city"
        make_city_store(path, (3, 3), texels=32)
        return path

    @pytest.fixture
    def loaded(self, folder) -> Iterator[Loaded]:
        budget = int(Store.open(folder).n_bytes(0, Precision.FULL) * 12)
        made = load(folder, (f"memory.device={budget}", "memory.prefetch_seconds=0"))
        build.build_all(build.AHEAD)  # else pictures are others until they have been compiled
        eventually(lambda: not kernels.is_building())
        yield made
        made.renderer.close()

    @pytest.fixture
    def city(self, loaded) -> Iterator[Desk]:
        made = Desk(loaded.renderer)
        yield made
        made.close()

    def view(self, step: float) -> RenderRequest:
        camera = Pose((1.5 + 0.03 * step, -0.4, 1.2), pitch=-0.7).camera(*SIZE)
        return RenderRequest(camera, floor=1.0, screen_fps=2.0, moving=True)

    def test_blocks_that_are_seen_while_moving_come_and_are_shown(self, city, loaded, monkeypatch):
        renderer, may_read, read = loaded.renderer, threading.Event(), Store.read
        monkeypatch.setattr(Store, "read", lambda *given: may_read.wait(PATIENCE) and read(*given))
        noted: list[tuple[np.ndarray, bool]] = []
        stream, note = renderer.stream, renderer.stream.note_needs

        def watched(needs: np.ndarray, is_whole: bool = True) -> None:
            noted.append((needs.copy(), is_whole))
            note(needs, is_whole)

        stream.note_needs = watched
        first = city.serve(self.view(0))[0]
        assert first.coarse > 0.5
        may_read.set()
        end, step = time.monotonic() + PATIENCE, 0
        while True:
            step += 1
            picture = city.serve(self.view(0.2 * (step % 5)))[-1]
            if picture.coarse == 0 and picture.camera == first.camera:
                break
            assert time.monotonic() < end, f"still {picture.coarse:.0%} coarse"
            threading.Event().wait(0.02)
        assert picture.warp is not None
        assert any(needs.any() for needs, _ in noted)
        wanted = exact(renderer, picture.camera, quality=REFERENCE.quality)
        assert psnr(picture.image, wanted) > 26
        assert psnr(first.image, wanted) < psnr(picture.image, wanted)
