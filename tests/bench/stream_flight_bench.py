"""Flights over a streamed city: complete frames, longest frames, bytes and memory.

`python -m tests.bench.stream_flight_bench` from the checkout; `--write` puts the tables into RESULTS.md.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.core.streaming.demand import CityGrid, visible
from landmark_viewer.cuda.tables import FrameBuffers, Quality
from tests.city_store import make_city_store

from .results import machine, write_section
from .stream_scale_bench import drop_pages

DIVISION = (40, 40)
TEXELS = 192  # along the side of a block's finest plane
SIZE = (320, 180)
SMALL = (64, 36)  # of the frames of the long flight
SECONDS = 12.0
SPEEDS = (2.0, 10.0)  # blocks per second
LONG_MINUTES = 30.0
LONG_FPS = 10.0
LONG_BLOCKS = 6


@dataclass(frozen=True)
class City:
    """A store and where its blocks lie."""

    path: Path
    low: tuple[float, float]
    side: float  # of a block, scene units
    top: float

    @classmethod
    def make(cls, folder: Path) -> City:
        """Makes the store."""
        path = folder / "city"
        if not path.exists():
            make_city_store(path, DIVISION, texels=TEXELS, seed=3, distinct=16)
        (x0, y0, _), (x1, _, z1) = open_checkpoint(path).model.aabb.tolist()
        return cls(path, (x0, y0), (x1 - x0) / DIVISION[0], z1)

    def camera(self, column: float, row: float, heading: float, size: tuple[int, int]) -> Camera:
        """Looks ahead and down from over a place, in blocks; heading in radians, 0 is east."""
        x, y = self.low[0] + column * self.side, self.low[1] + row * self.side
        eye = (x, y, self.top + 0.5 * self.side)
        ahead = (x + self.side * math.cos(heading), y + self.side * math.sin(heading), self.top - 0.5 * self.side)
        return Camera.from_fov(look_at(eye, ahead), *size, 50.0)

    def straight(self, speed: float) -> Callable[[float], Camera]:
        """A flight to the east, with a turn to the north half way."""
        reach = min(speed * SECONDS / 2, DIVISION[0] - 8)

        def at(t: float) -> Camera:
            along = speed * t
            if along < reach:
                return self.camera(4 + along, 6, 0.0, SIZE)
            beyond = min(along - reach, DIVISION[1] - 12)
            return self.camera(4 + reach, 6 + beyond, min(beyond, 1.0) * math.pi / 2, SIZE)

        return at


def flight_row(city: City, speed: float) -> str:
    """Flies in real time and tells what was seen."""
    model = open_checkpoint(city.path).model
    renderer = Renderer(model, memory=MemoryBudget(device=512 * 2**20))
    stream = renderer.stream
    assert stream is not None, "a store is streamed"
    path, settings = city.straight(speed), RenderSettings(Quality.FAST, complete=False)
    buffers = FrameBuffers.empty(*SIZE)
    stream.look(path(0.0), time.monotonic())
    renderer.render(path(0.0), RenderSettings(Quality.FAST))
    before = stream.status().fetched_bytes
    times, missing, lacking, cameras = [], [], [], []
    began = time.monotonic()
    while (t := time.monotonic() - began) < SECONDS:
        camera = path(t)
        start = time.perf_counter()
        stream.look(camera, time.monotonic())
        frame = renderer.render(camera, settings, None, buffers)
        times.append(time.perf_counter() - start)
        missing.append(stream.status().n_missing)
        lacking.append(frame.lacking_share)
        cameras.append(camera)
    fetched = stream.status().fetched_bytes - before
    grid = CityGrid.of(model)
    seen: set[int] = set()
    for camera in cameras:
        seen.update(np.asarray(visible(grid, camera, model.near_far[1])[0]).tolist())
    at_start = set(np.asarray(visible(grid, path(0.0), model.near_far[1])[0]).tolist())
    sizes = [path.stat().st_size for path in sorted((city.path / "blocks").iterdir())[:16]]
    needed = len(seen - at_start) * statistics.mean(sizes)
    renderer.close()
    complete = sum(n == 0 for n in missing) / len(missing)
    whole = sum(share == 0 for share in lacking) / len(lacking)
    median, longest = statistics.median(times), max(times)
    late = float(np.percentile(times, 99))
    return (
        f"| {speed:g} | {len(times)} | {100 * complete:.1f} % | {100 * whole:.1f} % | {100 * statistics.mean(lacking):.2f} % | "
        f"{1000 * median:.0f} | {1000 * late:.0f} | {1000 * longest:.0f} | {longest / median:.2f} | "
        f"{fetched / 2**20:.0f} | {fetched / max(needed, 1):.2f} |"
    )


def throughput(city: City, n: int = 200) -> str:
    """Fetches blocks from the disk, against reading the same files in one go; each twice in turn."""
    files = sorted({path.stat().st_ino: path for path in sorted((city.path / "blocks").iterdir())}.values())
    speeds: dict[str, list[float]] = {"read": [], "fetch": []}
    for _ in range(3):
        drop_pages(city.path / "blocks")
        began, total = time.perf_counter(), 0
        memory = bytearray(max(path.stat().st_size for path in files))
        for path in files:
            with path.open("rb", buffering=0) as file:
                total += file.readinto(memory)
        speeds["read"].append(total / (time.perf_counter() - began))
        drop_pages(city.path / "blocks")
        speeds["fetch"].append(fetch_speed(city))
    read, fetch = max(speeds["read"]), max(speeds["fetch"])
    return f"| {read / 1e6:.0f} | {fetch / 1e6:.0f} | {fetch / read:.2f} |"


def fetch_speed(city: City) -> float:
    """Returns bytes per second of fetching every different block once."""
    model = open_checkpoint(city.path).model
    renderer = Renderer(model, memory=MemoryBudget(device=2**30))
    stream = renderer.stream
    assert stream is not None, "a store is streamed"
    keys = distinct_keys(city)
    began = time.perf_counter()
    with stream.residency.hold(keys, lambda: False):
        seconds = time.perf_counter() - began
    fetched = stream.status().fetched_bytes
    renderer.close()
    return fetched / seconds


def distinct_keys(city: City) -> list:
    """Returns one block of every different file."""
    from landmark_viewer.core.store.store import Store
    from landmark_viewer.core.streaming.contracts import BlockKey

    store = Store.open(city.path)
    found: dict[int, int] = {}
    for path in sorted((city.path / "blocks").iterdir()):
        found.setdefault(path.stat().st_ino, int(path.name.split("-")[0]))
    assert all(store.exists(block) for block in found.values())
    return [BlockKey(block) for block in found.values()]


def long_row(city: City, minutes: float) -> str:
    """Flies for long in little memory; time is compressed: a frame follows the other without a pause."""
    model = open_checkpoint(city.path).model
    renderer = Renderer(model, memory=MemoryBudget(device=budget_of(model, LONG_BLOCKS)))
    stream = renderer.stream
    assert stream is not None, "a store is streamed"
    buffers, settings = FrameBuffers.empty(*SMALL), RenderSettings(Quality.FAST, complete=False)
    n = int(minutes * 60 * LONG_FPS)
    peak, sizes, beyond = 0, [], 0
    for number in range(n):
        t = number / LONG_FPS
        # A Lissajous figure over the whole city at about two blocks a second.
        column = DIVISION[0] / 2 + (DIVISION[0] / 2 - 3) * math.sin(0.11 * t)
        row = DIVISION[1] / 2 + (DIVISION[1] / 2 - 3) * math.sin(0.07 * t + 1.0)
        camera = city.camera(column, row, 0.3 * t, SMALL)
        stream.look(camera, t)
        renderer.render(camera, settings, None, buffers)
        status = stream.status()
        peak = max(peak, status.device_bytes)
        beyond += status.device_bytes > status.device_budget
        if number % (n // 20) == n // 20 - 1:
            sizes.append(resident_bytes())
    budget, fetched = stream.status().device_budget, stream.status().fetched_bytes
    failures = len(stream.status().failures)
    renderer.close()
    growth = sizes[-1] / sizes[1] - 1
    return (
        f"| {minutes:g} | {n} | {fetched / 2**20:.0f} | {peak / 2**20:.1f} / {budget / 2**20:.1f} | {beyond} | "
        f"{sizes[1] / 2**20:.0f} -> {sizes[-1] / 2**20:.0f} | {100 * growth:+.2f} % | {failures} |"
    )


def budget_of(model: object, n_blocks: int) -> int:
    """Returns the budget that has room for so many blocks and the coarse stand-ins."""
    raise NotImplementedError  # set in round two


def resident_bytes() -> int:
    """Returns the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
