"""Flights over cities that are larger than memory: pictures, memory, jumps and hovering."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance, blend
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.checkpoint.landmark import Opened
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.layers import Copy, Crop, Placement, Prism, Remove, Restyle
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import Frame, Renderer, RenderSettings, options_for
from landmark_viewer.core.settings import ModelSettings, Precision
from landmark_viewer.core.store.convert import convert
from landmark_viewer.core.store.store import Store
from landmark_viewer.core.streaming import memory
from landmark_viewer.core.streaming.checkpoint_source import CheckpointSource
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.core.streaming.demand import CityGrid, visible
from landmark_viewer.core.streaming.fetcher import N_THREADS
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.tables import TILE, FrameBuffers, Quality, RenderControl

from . import synthetic
from .city_store import HEIGHT, SIDE, make_city_store, resident
from .small_fields import Shape, make_field, with_settings
from .store_rooms import streamed

PATIENCE = 30.0  # seconds
SIZE = (96, 64)
SMALL = (48, 27)
MIXED = blend(Appearance.of(0), Appearance.of(2), 0.35)
NOW = RenderSettings(Quality.FAST, complete=False)


def prism(x0: float, y0: float, x1: float, y1: float, low: float = 0.0, high: float = HEIGHT) -> Prism:
    return Prism(Region.rectangle(x0, y0, x1, y1), low, high)


LAYERS = (
    Remove(prism=prism(0.7, 0.6, 1.6, 1.5, 0.06)),  # over a corner of four blocks
    Copy(prism=prism(2.1, 2.1, 2.9, 2.9, 0.06), placements=(Placement((2.05, 1.1, 0.06), 30.0),)),
    Restyle(prism=prism(1.2, 1.8, 3.3, 2.6), appearance=Appearance.of(1)),
    Crop(prism=prism(0.2, 0.3, 3.7, 3.8, 0.0, 0.45)),
)


def ahead(x: float, y: float, heading: float, size: tuple[int, int] = SIZE, height: float = 1.1) -> Camera:
    """Looks ahead and down, steeply, from over a place in blocks; heading 0 is east, pi / 2 north."""
    eye = np.array([x, y, height]) * SIDE
    way = np.array([0.6 * np.cos(heading), 0.6 * np.sin(heading), -0.9])
    return Camera.from_fov(look_at(eye, eye + way), *size, 50.0)


def down(x: float, y: float, size: tuple[int, int] = SMALL, height: float = 1.3) -> Camera:
    """Looks straight down."""
    eye = np.array([x, y, height]) * SIDE
    return Camera.from_fov(look_at(eye, eye - [0.0, 0.0, 1.0]), *size, 50.0)


def flight(n: int = 9) -> list[Camera]:
    """Flies over all of a city of 4 x 4 blocks, in a bend."""
    turns = np.linspace(0.0, 1.5 * np.pi, n)
    return [ahead(2 + 1.3 * np.cos(a), 2 + 1.3 * np.sin(a), a + 2.0) for a in turns]


def assert_same(got: Frame, wanted: Frame) -> None:
    for name in ("rgb", "opacity", "depth", "median_depth"):
        assert np.array_equal(getattr(got, name), getattr(wanted, name)), name
    assert got.is_complete
    assert got.lacking_share == 0


def until(met: object, *arguments: object) -> None:
    """Waits until a function says so."""
    end = time.monotonic() + PATIENCE
    while not met(*arguments):  # type: ignore[operator]
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.002)


def in_view(renderer: Renderer, camera: Camera) -> set[int]:
    model = renderer.model
    return set(visible(CityGrid.of(model), camera, model.near_far[1])[0].tolist())


def fly(renderer: Renderer, camera: Camera, now: float, buffers: FrameBuffers) -> tuple[Frame, RenderControl]:
    """Shows one view at once, and tells the stream what it needs, as a window does."""
    stream = renderer.stream
    assert stream is not None
    stream.look(camera, now)
    control = RenderControl(camera.width, camera.height)
    control.needs = np.zeros(renderer.model.layout.n_blocks, dtype=np.float32)
    control.lacking = np.zeros(renderer.model.layout.n_blocks, dtype=np.uint8)
    frame = renderer.render(camera, NOW, control, buffers)
    stream.note_needs(control.needs, True)
    return frame, control


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """16 blocks that all differ; they have three appearances and an alpha mask."""
    path = tmp_path_factory.mktemp("flight") / "city"
    return make_city_store(path, (4, 4), texels=48, seed=2, distinct=16)


@pytest.fixture(scope="module")
def wide_city(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("flight") / "wide"
    return make_city_store(path, (10, 10), texels=64, seed=3, distinct=8)


def places(side: int) -> list[tuple[float, float]]:
    """Returns places all over a city of side x side blocks, none of which shows blocks of another."""
    found = [(x + 1.5, y + 1.5) for x in range(0, side, 3) for y in range(0, side, 3)]
    return [found[number * 29 % len(found)] for number in range(len(found))]


# Equality


def test_a_flight_with_four_of_sixteen_blocks_equals_the_whole_city(city: Store) -> None:
    everything = Renderer(resident(city), Precision.HALF, "cpu")
    assert everything.stream is None
    edits = EditCompiler(everything).compile(LAYERS)
    met: set[int] = set()
    with streamed(city, 4) as renderer:
        assert renderer.stream is not None
        mine = EditCompiler(renderer).compile(LAYERS)
        for camera in flight():
            for quality in Quality:
                settings = RenderSettings(quality, appearance=MIXED)
                wanted = everything.render(camera, replace(settings, edits=edits))
                assert wanted.opacity.mean() > 0.3
                assert_same(renderer.render(camera, replace(settings, edits=mine)), wanted)
                status = renderer.stream.status()
                assert status.device_bytes <= status.device_budget
            assert_same(renderer.render(camera), plain := everything.render(camera))
            assert not np.array_equal(plain.rgb, wanted.rgb)
            met |= in_view(renderer, camera)
    assert len(met) == 16


def divided(tmp_path: Path, model: GridNeRF) -> Store:
    """Cuts or copies a field into a store in full precision."""
    opened = Opened(model, (), "a random field", (tmp_path / "field.th",))
    (tmp_path / "field.th").touch()
    convert(opened, tmp_path / "store", Precision.FULL, (3, 3) if model.layout.n_blocks == 1 else None)
    return Store.open(tmp_path / "store")


def over_field(number: int) -> Camera:
    """Looks down on the box of small fields from somewhere."""
    eye = (-0.3 + 0.2 * number, -0.6 + 0.25 * number, 1.7)
    return Camera.from_fov(look_at(eye, (0.2 * number - 0.25, -0.1, 0.0)), 64, 48, 40.0)


def test_a_sequential_checkpoint_that_was_cut_is_shown_as_if_all_of_it_were_there(tmp_path: Path) -> None:
    shape = Shape(levels=2, latent=3, grid=(25, 25, 8), mask=(17, 17, 9), mask_share=0.2, opacity=20.0)
    model = make_field(shape)
    store = divided(tmp_path, model)
    assert store.model().layout.division == (3, 3)
    everything = Renderer(resident(store), Precision.FULL, "cpu")
    uncut = Renderer(model, Precision.FULL, "cpu")
    settings = RenderSettings(appearance=MIXED)
    with streamed(store, 4, Precision.FULL) as renderer:
        for number in range(4):
            camera = over_field(number)
            got = renderer.render(camera, settings)
            assert_same(got, everything.render(camera, settings))
            assert got.opacity.mean() > 0.1
            assert np.abs(got.rgb - uncut.render(camera, settings).rgb).max() < 1e-3


def test_the_nerf_branch_of_a_store_is_complete(tmp_path: Path) -> None:
    shape = Shape(levels=2, latent=3, grid=(25, 25, 6), division=(3, 3), nerf=True, opacity=60.0)
    model = with_settings(make_field(shape), run_nerf=True, residual_nerf=True, n_importance=24)
    store = divided(tmp_path, model)
    assert store.model().nerf is not None
    everything = Renderer(resident(store), Precision.FULL, "cpu")
    settings = RenderSettings(appearance=MIXED)
    plain = Renderer(with_settings(resident(store), run_nerf=False), Precision.FULL, "cpu")
    with streamed(store, 4, Precision.FULL) as renderer:
        for number in (0, 2):
            wanted = everything.render(over_field(number), settings)
            assert_same(renderer.render(over_field(number), settings), wanted)
            assert not np.array_equal(wanted.rgb, plain.render(over_field(number), settings).rgb)


@pytest.mark.parametrize("layout", ["branch-sub", "merged-stack", "wo_plane"])
def test_landmarks_own_files_are_fetched_from_directly(tmp_path: Path, layout: str) -> None:
    options = {"division": (3, 3), "grid": (72, 72, 12), "embedding": 3, "latent": 8, "mask": (19, 19, 7)}
    path = synthetic.write(tmp_path, layout, **options)
    model = open_checkpoint(path, ModelSettings(plane_division=(3, 3))).model
    source = CheckpointSource(model)
    size = max(source.n_bytes(block, Precision.FULL) for block in range(9))
    everything = Renderer(model, Precision.FULL, "cpu")
    renderer = Renderer(model, Precision.FULL, "cpu", MemoryBudget(device=int(4.7 * size)))
    assert everything.stream is None
    assert renderer.stream is not None
    assert renderer.stream.residency.plan.n_blocks == 4
    try:
        settings = RenderSettings(appearance=MIXED)
        for number in range(3):
            eye = (-1.0 + number, -0.6 + 0.5 * number, 1.6)
            camera = Camera.from_fov(look_at(eye, (0.3 * number - 0.3, 0.1, 0.0)), 64, 48, 45.0)
            wanted = everything.render(camera, settings)
            assert wanted.opacity.max() > 0.1
            assert_same(renderer.render(camera, settings), wanted)
    finally:
        renderer.close()


# Memory


@contextmanager
def watched(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sees that nothing fails in any thread meanwhile, and that the threads of streaming live on."""
    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: failed.append(arguments.exc_value))
    before = {thread for thread in threading.enumerate() if thread.name in ("fetch", "publish")}
    assert len({thread.name for thread in before}) == 2
    with caplog.at_level(logging.WARNING):
        yield
    assert not failed
    assert not caplog.records
    assert all(thread.is_alive() for thread in before)


class Meter:
    """Counts the bytes of blocks that really are allocated, whatever anyone says of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.n_bytes = 0
        monkeypatch.setattr(memory, "new_memory", self._allocate)

    def _allocate(self, n_bytes: int, device: torch.device, pinned: bool = False) -> torch.Tensor:
        held = np.empty(n_bytes, dtype=np.uint8)
        self.n_bytes += n_bytes
        weakref.finalize(held, self._gone, n_bytes)
        return torch.from_numpy(held)

    def _gone(self, n_bytes: int) -> None:
        self.n_bytes -= n_bytes


def process_bytes() -> int:
    """Returns the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_long_flight_stays_within_its_budget_and_grows_by_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = make_city_store(tmp_path / "large", (24, 24), texels=64, seed=4, distinct=6)
    meter, sizes, buffers = Meter(monkeypatch), [], FrameBuffers.empty(*SMALL)
    views = [(x + 0.02 * step, y, 0.1 * step) for x, y in places(24) for step in range(8)]
    with streamed(store, 6) as renderer, watched(caplog, monkeypatch):
        stream = renderer.stream
        assert stream is not None
        budget = stream.status().device_budget
        static = stream.status().device_bytes
        for number, view in enumerate(views):
            camera = ahead(*view, SMALL)
            fly(renderer, camera, number / 30, buffers)
            assert static + meter.n_bytes <= budget
            assert stream.status().device_bytes <= budget
            sizes.append(process_bytes())
            time.sleep(0.002)  # for the thread that fetches
        status = stream.status()
        assert status.device_budget == budget
        assert status.failures == ()
        warm = len(views) // 3
        before = max(sizes[warm : warm + 20])
        # Keeping a tenth of what was fetched would be seen, whatever else this process holds.
        assert max(sizes[-20:]) - before <= min(0.01 * before, 0.1 * status.fetched_bytes)
        assert meter.n_bytes > 0
    assert meter.n_bytes == 0


# Jumps


def coarse_picture(store: Store, camera: Camera) -> Frame:
    """Returns the picture of stand-ins alone."""
    with streamed(store, 6) as renderer:
        frame = renderer.render(camera, NOW)
        assert frame.lacking_share > 0.9
        return frame


def in_lacking_tiles(control: RenderControl, frame: Frame) -> np.ndarray:
    """Returns which pixels lie in tiles that lack a block. bool [height, width]"""
    lacking = control.tile_lacking.reshape(-1, control.columns) != 0
    pixels = lacking.repeat(TILE, axis=0).repeat(TILE, axis=1)
    return pixels[: frame.camera.height, : frame.camera.width]


def complete_picture(store: Store, camera: Camera) -> Frame:
    """Returns the picture of the whole city in memory."""
    return Renderer(resident(store), Precision.HALF, "cpu").render(camera, replace(NOW, complete=True))


@pytest.mark.parametrize("to", [(7.3, 7.6), (2.9, 3.4)], ids=["far", "overlapping"])
def test_after_a_jump_no_pixel_is_empty_where_stand_ins_are_not(
    wide_city: Store, to: tuple[float, float]
) -> None:
    before, after = ahead(2.3, 2.4, 0.5), ahead(*to, 0.5)
    coarse, whole = coarse_picture(wide_city, after), complete_picture(wide_city, after)
    assert (coarse.opacity > 0.9).mean() > 0.9
    with streamed(wide_city, 7) as renderer:
        for number in range(30):
            fly(renderer, before, number / 30, FrameBuffers.empty(*SIZE))
        until(renderer.stream.is_settled, before)
        first, control = fly(renderer, after, 1.0, FrameBuffers.empty(*SIZE))
        lacks = in_lacking_tiles(control, first)
        assert lacks.any()
        assert (first.opacity >= coarse.opacity - 1e-6)[lacks].all()
        assert (first.depth > 0)[coarse.depth > 0].all()
        assert np.array_equal(first.rgb[~lacks], whole.rgb[~lacks])
        assert np.array_equal(first.opacity[~lacks], whole.opacity[~lacks])


def test_the_destination_of_a_jump_comes_before_everything_else(wide_city: Store) -> None:
    after, buffers = down(7.5, 2.5, height=0.9), FrameBuffers.empty(*SMALL)
    with streamed(wide_city, 7) as renderer:
        for number in range(30):  # so fast that much is prefetched
            fly(renderer, ahead(1.5 + number / 6, 6.5, 0.0, SMALL), number / 30, buffers)
        fly(renderer, after, 1.0, buffers)
        n_before = len(renderer.stream.residency.records())  # of which the last may have come just now
        until(renderer.stream.is_settled, after)
        came = [record.key.block for record in renderer.stream.residency.records()]
        seen = in_view(renderer, after)
        assert 1 <= len(seen) <= 4
        first = min(came.index(block) for block in seen)
        assert set(came[first : first + len(seen)]) == seen
        assert first <= n_before + N_THREADS


# Hovering


@pytest.mark.parametrize("n_blocks", [4, 6])
def test_hovering_over_a_corner_fetches_each_block_at_most_once(wide_city: Store, n_blocks: int) -> None:
    shifts = np.random.default_rng(0).uniform(-0.05, 0.05, (1000, 2))
    size, buffers = (24, 16), FrameBuffers.empty(24, 16)
    with streamed(wide_city, n_blocks) as renderer:
        stream = renderer.stream
        assert stream is not None
        for number, (x, y) in enumerate(shifts):
            fly(renderer, down(5 + x, 5 + y, size), number / 30, buffers)
        until(lambda: not stream.status().fetching)
        fetched = Counter(record.key.block for record in stream.residency.records())
        assert fetched[44] == fetched[45] == fetched[54] == fetched[55] == 1
        assert max(fetched.values()) == 1
        frame, _ = fly(renderer, down(5, 5, size), 34.0, buffers)
        assert frame.lacking_share == 0


# Snapshots


def test_blocks_that_come_and_go_meanwhile_change_no_picture(wide_city: Store) -> None:
    camera = down(5.0, 5.0, SIZE)
    blocks = (44, 45, 54, 55)
    everything = complete_picture(wide_city, camera)
    with streamed(wide_city, 4) as renderer:
        stream = renderer.stream
        assert stream is not None
        taken, done = [], threading.Event()
        newest = stream.residency.tables

        def tables(*arguments: object) -> object:
            taken.append(newest(*arguments))
            return taken[-1]

        stream.residency.tables = tables  # type: ignore[method-assign]

        def churn() -> None:
            """Has blocks read again, and others in their place, for as long as pictures are made."""
            random, began = np.random.default_rng(1), time.monotonic()
            while not done.is_set():
                x, y = random.uniform(4.3, 5.7, 2)
                stream.look(down(x, y, SIZE), time.monotonic() - began)
                stream.residency.reload(int(random.choice(blocks)))
                time.sleep(0.001)

        thread = threading.Thread(target=churn)
        thread.start()
        held, shares = set(), []
        try:
            for _ in range(60):
                control = RenderControl(*SIZE)
                frame = renderer.render(camera, NOW, control, FrameBuffers.empty(*SIZE))
                snapshot = taken[-1]
                again = FrameBuffers.empty(*SIZE)
                ops.render(snapshot, view_of(camera), options_for(renderer.model, NOW), again)
                for name in ("rgb", "opacity", "depth", "median_depth"):
                    assert torch.equal(getattr(frame.buffers, name), getattr(again, name)), name
                whole = ~in_lacking_tiles(control, frame)
                assert np.array_equal(frame.rgb[whole], everything.rgb[whole])
                held.add(tuple(block for block in blocks if snapshot.blocks[block] is not None))
                shares.append(whole.mean())
                del snapshot
                taken.clear()
        finally:
            done.set()
            thread.join(PATIENCE)
        assert len(held) > 3
        assert max(shares) > 0
        assert not thread.is_alive()
