"""Disks that fail, files that are damaged or gone, memory that cannot be had: the rest flies on."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Frame, Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.store.store import Store
from landmark_viewer.core.streaming import memory, residency
from landmark_viewer.core.streaming.contracts import STATES, BlockState
from landmark_viewer.cuda.tables import TILE, FrameBuffers, Quality, RenderControl

from .city_store import make_city_store, resident
from .store_rooms import streamed

PATIENCE = 60.0  # seconds
SIZE = (80, 48)
NOW = RenderSettings(Quality.FAST, complete=False)
COMPLETE = RenderSettings(Quality.FAST)
N_BLOCKS = 16


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_city_store(
        tmp_path_factory.mktemp("faults") / "sound", (4, 4), texels=48, seed=5, distinct=N_BLOCKS
    )


@pytest.fixture
def city(sound: Store, tmp_path: Path) -> Store:
    """A copy that may be damaged."""
    shutil.copytree(sound.path, tmp_path / "city")
    return Store.open(tmp_path / "city")


@pytest.fixture(scope="module")
def pictures(sound: Store) -> list[Frame]:
    """What there is to be seen."""
    everything = Renderer(resident(sound), Precision.HALF, "cpu")
    return [everything.render(camera, COMPLETE) for camera in flight()]


@pytest.fixture(autouse=True)
def no_thread_fails(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    failed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: failed.append(arguments.exc_value))
    yield
    assert not failed
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def flight() -> list[Camera]:
    """Looks down on three of the four rows of blocks, one after the other."""
    eyes = [(x, y, 1.25) for y in (0.7, 1.9, 3.2) for x in np.linspace(0.6, 3.4, 4)]
    return [Camera.from_fov(look_at(eye, (eye[0] + 0.2, eye[1], 0.0)), *SIZE, 45.0) for eye in eyes]


def fly(
    renderer: Renderer, wanted: Sequence[Frame], places: Sequence[int] = range(12), seconds: float = 0.05
) -> None:
    """Stays over places for a while; wherever nothing is lacking, what is shown must be right."""
    stream, cameras = renderer.stream, flight()
    assert stream is not None
    for number in places:
        camera, whole = cameras[number], wanted[number]
        end = time.monotonic() + seconds
        while True:
            stream.look(camera, time.monotonic())
            control = RenderControl(*SIZE)
            control.needs = np.zeros(N_BLOCKS, dtype=np.float32)
            frame = renderer.render(camera, NOW, control, FrameBuffers.empty(*SIZE))
            stream.note_needs(control.needs, True)
            assert_right(frame, control, whole)
            status = stream.status()
            assert status.device_bytes <= status.device_budget
            if time.monotonic() >= end:
                break


def assert_right(frame: Frame, control: RenderControl, whole: Frame) -> None:
    lacking = control.tile_lacking.reshape(-1, control.columns) != 0
    there = ~lacking.repeat(TILE, axis=0).repeat(TILE, axis=1)[: SIZE[1], : SIZE[0]]
    assert frame.is_complete
    for name in ("rgb", "opacity", "depth", "median_depth"):
        assert np.array_equal(getattr(frame, name)[there], getattr(whole, name)[there]), name
    assert (frame.opacity > 0)[whole.opacity > 0.5].mean() > 0.95  # stand-ins are blunt at edges


def assert_all_right(renderer: Renderer, wanted: Sequence[Frame]) -> None:
    """Nothing is left of what was wrong."""
    for camera, whole in zip(flight(), wanted, strict=True):
        frame = renderer.render(camera, COMPLETE)
        assert frame.lacking_share == 0
        for name in ("rgb", "opacity", "depth", "median_depth"):
            assert np.array_equal(getattr(frame, name), getattr(whole, name)), name


def failures(renderer: Renderer) -> dict[int, str]:
    assert renderer.stream is not None
    return dict(renderer.stream.status().failures)


def file_of(store: Store, block: int) -> Path:
    (path,) = (store.path / "blocks").glob(f"{block}-*")
    return path


def fly_until(
    renderer: Renderer, wanted: Sequence[Frame], met: Callable[[], bool], places: Sequence[int] = range(12)
) -> None:
    end = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < end, "flew for too long"
        fly(renderer, wanted, places)


def fly_until_failed(renderer: Renderer, wanted: Sequence[Frame], blocks: set[int]) -> None:
    """Flies until these blocks, and no others, are found to be broken."""
    fly_until(renderer, wanted, lambda: set(failures(renderer)) >= blocks)
    assert set(failures(renderer)) == blocks
    states = renderer.stream.status().states
    assert {STATES[states[block]] for block in blocks} == {BlockState.FAILED}


class Disk:
    """Reads as the system does, but in pieces, late, or not at all."""

    def __init__(self, seed: int) -> None:
        self.dead: set[int] = set()  # blocks that cannot be read
        self.errors = 0.0  # share of reads that fail once
        self.n_failed = self.n_short = self.n_late = 0
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._preadv = os.preadv

    def preadv(self, file: int, buffers: list[memoryview], offset: int) -> int:
        name = Path(os.readlink(f"/proc/self/fd/{file}")).name
        with self._lock:
            fails, late, share = self._random.random(3)
        if name.partition("-")[0] in map(str, self.dead) or fails < self.errors:
            self.n_failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if late < 0.05:
            self.n_late += 1
            time.sleep(0.03)
        (buffer,) = buffers
        n_bytes = 1 + int(share * (len(buffer) - 1)) if share < 0.5 else len(buffer)
        self.n_short += n_bytes < len(buffer)
        return self._preadv(file, [buffer[:n_bytes]], offset)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_disk_that_fails_at_random_costs_only_the_blocks_that_it_never_gives(
    city: Store, pictures: list[Frame], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    disk = Disk(seed)
    with streamed(city, 6) as renderer:
        monkeypatch.setattr(os, "preadv", disk.preadv)
        disk.dead, disk.errors = {1, 9}, 0.05
        fly(renderer, pictures)
        fly_until(renderer, pictures, lambda: 1 in failures(renderer), [4])
        fly_until(renderer, pictures, lambda: 9 in failures(renderer), [6])
        disk.errors = 0.0
        for reason in failures(renderer).values():
            assert "cannot be read (Input/output error); check the disk and try again" in reason
        assert disk.n_failed > 5
        assert disk.n_short > 5
        assert disk.n_late > 0
        with pytest.raises(InputError, match="cannot be read"):
            assert_all_right(renderer, pictures)
        disk.dead = set()
        for block in failures(renderer):
            renderer.stream.residency.reload(block)
        assert_all_right(renderer, pictures)
        assert failures(renderer) == {}


def test_a_read_that_hangs_stops_neither_pictures_nor_closing(
    city: Store, pictures: list[Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, goes_on, preadv = threading.Event(), threading.Event(), os.preadv

    def stuck(*arguments: object) -> int:
        hangs.set()
        goes_on.wait(PATIENCE)
        return preadv(*arguments)  # type: ignore[arg-type]

    with streamed(city, 4) as renderer:
        monkeypatch.setattr(os, "preadv", stuck)
        fly(renderer, pictures)
        assert hangs.is_set()
        assert renderer.stream.residency.records() == ()
        goes_on.set()
        assert_all_right(renderer, pictures)
    goes_on.clear()
    with streamed(city, 4) as renderer:
        fly(renderer, pictures)
        began = time.monotonic()
    goes_on.set()
    assert time.monotonic() - began < PATIENCE / 2


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(data)


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGE = {
    "flipped": (flipped, "the checksum of its data is wrong"),
    "cut off": (cut_off, "bytes instead of"),
    "emptied": (emptied, "must be a complete file of a block store"),
    "missing": (Path.unlink, "is missing; copy it again"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_blocks_are_named_and_come_back_once_they_are_repaired(
    city: Store, sound: Store, pictures: list[Frame], how: str
) -> None:
    damage, reason = DAMAGE[how]
    for block in (2, 5):
        damage(file_of(city, block))
    with streamed(city, 4) as renderer:
        fly_until_failed(renderer, pictures, {2, 5})
        for block, said in failures(renderer).items():
            assert f"{city.path.name}/blocks/{block}-" in said
            assert reason in said
        for block in (2, 5):
            good = file_of(sound, block)
            shutil.copyfile(good, city.path / "blocks" / good.name)
            renderer.stream.residency.reload(block)
        assert_all_right(renderer, pictures)
        assert failures(renderer) == {}


def test_files_that_vanish_in_flight_cost_what_is_not_there_yet(
    city: Store, sound: Store, pictures: list[Frame]
) -> None:
    with streamed(city, 4) as renderer:
        camera, whole = flight()[0], pictures[0]
        renderer.render(camera, COMPLETE)
        there = [n for n, block in enumerate(renderer.tables.blocks) if block is not None]
        assert there
        for path in (city.path / "blocks").iterdir():
            path.unlink()
        control = RenderControl(*SIZE)
        assert_right(renderer.render(camera, NOW, control), control, whole)
        assert not control.tile_lacking.any()
        fly_until(renderer, pictures, lambda: len(failures(renderer)) > 8)
        shutil.copytree(sound.path / "blocks", city.path / "blocks", dirs_exist_ok=True)
        for block in failures(renderer):
            renderer.stream.residency.reload(block)
        assert_all_right(renderer, pictures)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_allocations_that_fail_now_and_then_cost_detail_for_a_while_only(
    city: Store, pictures: list[Frame], monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random, allocate, n_failed = np.random.default_rng(seed), memory.new_memory, 0

    def scarce(n_bytes: int, device: torch.device, pinned: bool = False) -> torch.Tensor:
        nonlocal n_failed
        if random.random() < 0.6:
            n_failed += 1
            raise MemoryError
        return allocate(n_bytes, device, pinned)

    monkeypatch.setattr(residency, "SHORT_SECONDS", 0.05)
    with streamed(city, 6) as renderer:
        monkeypatch.setattr(memory, "new_memory", scarce)
        for _ in range(2):
            fly(renderer, pictures)
        assert n_failed > 2
        assert failures(renderer) == {}
        monkeypatch.setattr(memory, "new_memory", allocate)
        fly(renderer, pictures)
        assert_all_right(renderer, pictures)
        assert sum(block is not None for block in renderer.tables.blocks) > 3
