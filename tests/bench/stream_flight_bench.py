"""Flights over a streamed city: complete frames, longest frames, bytes and memory.

`python -m tests.bench.stream_flight_bench` from the checkout; `--write` puts the tables into RESULTS.md. The
stores lie in a temporary folder (`--folder`), some 250 MB.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.render import Frame, Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.store.store import Store
from landmark_viewer.core.streaming.contracts import MemoryBudget, Wants
from landmark_viewer.cuda.tables import FrameBuffers, Quality, RenderControl
from tests.city_store import make_city_store
from tests.store_rooms import room_for

from .results import machine, write_section
from .stream_scale_bench import drop_pages

DIVISION = (100, 100)
LONG_DIVISION = (20, 20)
TEXELS = 128  # along the side of a block's finest plane
DISTINCT = 400  # blocks of the city that really differ
BUDGET = 640 * 2**20  # bytes, of the two flights; all blocks of one have room
SIZE = (320, 180)
SMALL = (64, 36)  # of the frames of the long flight
SECONDS = 14.0
SPEEDS = (2.0, 10.0)  # blocks per second
RIM = 8.0  # blocks that flights stay away from the city's rim, so that all that they look at is there
BEND = 8.0  # radius of their bend, blocks
LONG_FPS = 10.0
LONG_BLOCKS = 6
SETTINGS = RenderSettings(Quality.FAST, complete=False)


@dataclass(frozen=True)
class City:
    """A store and where its blocks lie."""

    path: Path
    low: tuple[float, float]
    side: float  # of a block, scene units
    top: float

    @classmethod
    def make(cls, path: Path, division: tuple[int, int], distinct: int) -> City:
        """Makes the store, unless it is there."""
        if not path.exists():
            make_city_store(path, division, texels=TEXELS, seed=3, distinct=distinct)
        (x0, y0, _), (x1, _, z1) = open_checkpoint(path).model.aabb.tolist()
        return cls(path, (x0, y0), (x1 - x0) / division[0], z1)

    def camera(self, column: float, row: float, heading: float, size: tuple[int, int]) -> Camera:
        """Looks ahead and down from over a place, in blocks; heading in radians, 0 is east."""
        x, y = self.low[0] + column * self.side, self.low[1] + row * self.side
        eye = (x, y, self.top + 0.5 * self.side)
        way = np.array([math.cos(heading), math.sin(heading), -1.0]) * self.side
        return Camera.from_fov(look_at(eye, np.array(eye) + way), *size, 50.0)

    def at(self, way: float, length: float) -> Camera:
        """Looks from a flight to the east, with a bend to the north half way; both in blocks."""
        straight = (length - BEND * math.pi / 2) / 2
        turn = min(max((way - straight) / BEND, 0.0), math.pi / 2)
        column = RIM + min(way, straight) + BEND * math.sin(turn)
        row = RIM + BEND * (1 - math.cos(turn)) + max(way - straight - BEND * math.pi / 2, 0.0)
        return self.camera(column, row, turn, SIZE)


class Flight:
    """Shows views as a window does: with whatever is there, and telling what counted."""

    def __init__(self, renderer: Renderer, size: tuple[int, int]) -> None:
        assert renderer.stream is not None, "a store is streamed"
        self._renderer, self.stream = renderer, renderer.stream
        self._buffers = FrameBuffers.empty(*size)
        self._size, self._n_blocks = size, renderer.model.layout.n_blocks
        self.read = np.zeros(self._n_blocks, dtype=bool)  # blocks that rays of any picture read, or lacked
        self.seconds, self.n_missing = 0.0, 0  # that the last frame took; blocks in view that were not there

    def show(self, camera: Camera, now: float) -> Frame:
        """Renders one view."""
        began = time.perf_counter()
        self.stream.look(camera, now)
        looked = time.perf_counter()
        self.n_missing = self.stream.status().n_missing
        asked = time.perf_counter()
        control = RenderControl(*self._size)
        control.needs = np.zeros(self._n_blocks, dtype=np.float32)
        control.lacking = np.zeros(self._n_blocks, dtype=np.uint8)
        frame = self._renderer.render(camera, SETTINGS, control, self._buffers)
        self.stream.note_needs(control.needs, is_whole=True)
        self.seconds = time.perf_counter() - asked + looked - began
        self.read |= (control.needs > 0) | (control.lacking != 0)
        return frame


@dataclass
class Seen:
    """What there was to see on one flight."""

    times: list[float] = field(default_factory=list)  # of frames, s
    lacking: list[float] = field(default_factory=list)  # shares of tiles
    missing: list[int] = field(default_factory=list)  # blocks in view

    def row(self) -> str:
        """Returns columns of the table."""
        median, longest = statistics.median(self.times), max(self.times)
        late = float(np.percentile(self.times, 99))
        whole = statistics.mean(share == 0 for share in self.lacking)
        all_there = statistics.mean(n == 0 for n in self.missing)
        return (
            f"{len(self.times)} | {100 * whole:.1f} % | {100 * all_there:.1f} % | "
            f"{100 * statistics.mean(self.lacking):.2f} % | {1000 * median:.1f} | "
            f"{1000 * late:.1f} | {1000 * longest:.1f} | {longest / median:.2f}"
        )


def flown(city: City, flight: Flight, speed: float, first: float = 0.0, last: float = SECONDS) -> Seen:
    """Flies a part of the way in real time."""
    seen, began = Seen(), time.monotonic() - first
    while (t := time.monotonic() - began) < last:
        frame = flight.show(city.at(speed * t, speed * SECONDS), time.monotonic())
        seen.times.append(flight.seconds)
        seen.lacking.append(frame.lacking_share)
        seen.missing.append(flight.n_missing)
    return seen


def flight_rows(city: City, speed: float) -> list[str]:
    """Flies over blocks that are on disk, then the same way again."""
    drop_pages(city.path / "blocks")
    model = open_checkpoint(city.path).model
    budget = MemoryBudget(device=BUDGET)
    renderer = Renderer(model, memory=budget)
    flight = Flight(renderer, SIZE)
    renderer.render(city.at(0.0, speed * SECONDS), RenderSettings(Quality.FAST))
    there = np.array([block is not None for block in renderer.tables.blocks])
    before = flight.stream.status().fetched_bytes
    seen = flown(city, flight, speed)
    fetched = flight.stream.status().fetched_bytes - before
    flown(city, flight, speed, SECONDS, SECONDS + budget.prefetch_seconds)  # what was fetched for then
    needed = bytes_of(model, flight.read & ~there)
    flight.stream.forget()
    again = flown(city, flight, speed)
    renderer.close()
    return [
        f"| {speed:g} | {seen.row()} | {fetched / 2**20:.0f} | {fetched / needed:.2f} |",
        f"| {speed:g}, again | {again.row()} | | |",
    ]


def bytes_of(model: GridNeRF, blocks: np.ndarray) -> int:
    """Returns what fetching blocks takes. bool [n_blocks]"""
    assert model.source is not None, "a store is a source"
    return sum(model.source.n_bytes(block, Precision.HALF) for block in np.flatnonzero(blocks).tolist())


def throughput(city: City, rounds: int = 4) -> str:
    """Fetches every file once from the disk, against just reading them, in turn; the best of each counts.

    Both use memory that was used before: a first fetch of all blocks is not counted.
    """
    files = {path.stat().st_ino: path for path in sorted((city.path / "blocks").iterdir())}
    blocks = [block_of(path) for path in files.values()]
    memory = bytearray(max(path.stat().st_size for path in files.values()))
    reads, fetches = [], []
    renderer = Renderer(open_checkpoint(city.path).model, memory=MemoryBudget(device=BUDGET))
    fetch_speed(renderer, blocks)
    for _ in range(rounds):
        drop_pages(city.path / "blocks")
        began, total = time.perf_counter(), 0
        for path in files.values():
            with path.open("rb", buffering=0) as file:
                total += file.readinto(memory)
        reads.append(total / (time.perf_counter() - began))
        drop_pages(city.path / "blocks")
        fetches.append(fetch_speed(renderer, blocks))
    renderer.close()
    read, fetch = max(reads), max(fetches)
    return f"| {read / 1e6:.0f} | {fetch / 1e6:.0f} | {fetch / read:.2f} |"


def block_of(path: Path) -> int:
    """Returns the number of the block that a file is named after."""
    return int(path.name.partition("-")[0])


def fetch_speed(renderer: Renderer, blocks: list[int]) -> float:
    """Returns bytes per second of fetching blocks; they are sent away again afterwards."""
    stream = renderer.stream
    assert stream is not None, "a store is streamed"
    n = len(blocks)
    wants = Wants(np.array(blocks), np.zeros(n, np.int64), np.ones(n), np.zeros(n, bool))
    before = stream.status()
    began = time.perf_counter()
    stream.residency.want(wants)
    while stream.residency.status().n_missing:
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    status = stream.status()
    assert status.failures == (), status.failures
    stream.residency.want(Wants())
    for block in blocks:
        stream.residency.evict(block)
    return (status.fetched_bytes - before.fetched_bytes) / seconds


@contextmanager
def counted_errors() -> Iterator[list[object]]:
    """Collects what fails in any thread meanwhile, and what the program logs as an error."""
    found: list[object] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    collector, before = Collector(logging.ERROR), threading.excepthook
    logging.getLogger().addHandler(collector)
    threading.excepthook = found.append
    try:
        yield found
    finally:
        threading.excepthook = before
        logging.getLogger().removeHandler(collector)


def long_row(city: City, minutes: float) -> str:
    """Flies for long in little memory; time is compressed: a frame follows the other without a pause."""
    model = open_checkpoint(city.path).model
    store = model.source
    assert isinstance(store, Store), "the city is a store"
    renderer = Renderer(model, memory=room_for(model, LONG_BLOCKS, Precision.HALF))
    flight = Flight(renderer, SMALL)
    n = max(int(minutes * 60 * LONG_FPS), 40)
    peak, sizes, beyond = 0, [], 0
    with counted_errors() as errors:
        for number in range(n):
            flight.show(long_view(city, number / LONG_FPS), number / LONG_FPS)
            status = flight.stream.status()
            peak = max(peak, status.device_bytes)
            beyond += status.device_bytes > status.device_budget
            if number % (n // 20) == n // 20 - 1:
                sizes.append(resident_bytes())
        status = flight.stream.status()
        renderer.close()
    growth = sizes[-1] / sizes[1] - 1
    return (
        f"| {minutes:g} | {n} | {status.fetched_bytes / 2**20:.0f} | {peak / 2**20:.2f} / "
        f"{status.device_budget / 2**20:.2f} | {beyond} | {sizes[1] / 2**20:.1f} | {sizes[-1] / 2**20:.1f} | "
        f"{100 * growth:+.2f} % | {len(status.failures) + len(errors)} |"
    )


def long_view(city: City, t: float) -> Camera:
    """Looks from a Lissajous figure over the whole city, at up to two blocks a second."""
    (n_x, n_y), reach = LONG_DIVISION, min(LONG_DIVISION) / 2 - 3
    column, row = n_x / 2 + reach * math.sin(0.23 * t), n_y / 2 + reach * math.sin(0.17 * t)
    return city.camera(column, row, 0.3 * t, SMALL)


def resident_bytes() -> int:
    """Returns the memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def report(flights: list[str], throughput: str, long: str) -> str:
    """Returns the section of RESULTS.md."""
    return "\n".join(
        [
            "## Flights over a city",
            "",
            machine(),
            "",
            f"A procedural city of {DIVISION[0]} x {DIVISION[1]} blocks, of which {DISTINCT} differ; "
            f"{SIZE[0]}x{SIZE[1]}, fast, in real time, as a window shows it; blocks are read from the disk. "
            "Complete frames read no stand-in; all in view: no block of the frustum was missing, hidden ones "
            "included. The same way again, nothing is fetched: so much do frames differ anyway. Wanted: the "
            "longest frame at most 2 medians, bytes fetched at most 1.5 of those of the blocks that any ray "
            "read.",
            "",
            "| blocks/s | frames | complete | all in view | tiles lacking | median ms | 99 % ms | "
            "longest ms | longest / median | fetched MiB | fetched / needed |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
            *flights,
            "",
            "Fetching every file once, checksums included, into memory that was used before, against "
            "reading them (wanted: at least 0.8).",
            "",
            "| read MB/s | fetch MB/s | ratio |",
            "|---|---|---|",
            throughput,
            "",
            f"A long flight over {LONG_DIVISION[0]} x {LONG_DIVISION[1]} blocks with room for {LONG_BLOCKS}, "
            f"{SMALL[0]}x{SMALL[1]}, {LONG_FPS:g} frames per second of flight, one right after the other. "
            "Memory of the process after a tenth of the flight and at its end (wanted: at most 1 % more).",
            "",
            "| minutes | frames | fetched MiB | peak / budget MiB | frames beyond it | MiB early | "
            "MiB at the end | growth | failures |",
            "|---|---|---|---|---|---|---|---|---|",
            long,
        ]
    )


def main() -> None:
    """Measures, prints, and keeps the tables if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    parser.add_argument("--minutes", type=float, default=30.0, help="of the long flight")
    parser.add_argument("--folder", type=Path, help="where the stores are made and kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        small = City.make(folder / "flight-small", LONG_DIVISION, 8)
        long = long_row(small, given.minutes)
        city = City.make(folder / "flight", DIVISION, DISTINCT)
        flights = [row for speed in SPEEDS for row in flight_rows(city, speed)]
        text = report(flights, throughput(city), long)
    print(text)
    if given.write:
        write_section("stream flight", text)


if __name__ == "__main__":
    main()
