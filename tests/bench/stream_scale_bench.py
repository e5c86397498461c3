"""What a city costs by its size: the same four blocks seen in stores of 4 to 10 000 blocks; and converting.

`python -m tests.bench.stream_scale_bench` from the checkout; `--write` puts the tables into RESULTS.md. Every
store is opened in a process of its own. The stores and the checkpoint that is converted lie in a temporary
folder (`--folder`), some 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.store.convert import convert
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.cuda.tables import Quality
from tests import synthetic
from tests.city_store import make_city_store

from .results import machine, write_section

SIZE = (640, 360)
DIVISIONS = {4: (2, 2), 100: (10, 10), 1000: (20, 50), 10_000: (100, 100)}
BUDGET = 256 * 2**20  # bytes of blocks
TEXELS = 128  # along the side of a block's finest plane
FRAMES = 15
CHANNELS = (8, 24)  # density and appearance of the checkpoint that is converted
LEVELS = (1, 2)


# One store, in a process of its own


def corner_view(division: tuple[int, int], aabb: torch.Tensor) -> Camera:
    """Returns the view from above of the corner where four blocks in the middle of a city meet."""
    (x0, y0, z0), (x1, y1, z1) = aabb.tolist()
    wide, deep = (x1 - x0) / division[0], (y1 - y0) / division[1]
    # The corner above an even block in both directions: the same four files in every store.
    column, row = (2 * (n // 4) + 1 for n in division)
    x, y = x0 + column * wide, y0 + row * deep
    eye = (x, y - 0.12 * deep, z1 + 0.55 * wide)
    return Camera.from_fov(look_at(eye, (x, y, z0)), *SIZE, 50.0)


def peak_bytes() -> int:
    """Returns the most memory that this process had; getrusage would count its parent's, too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure_one(store: Path) -> dict[str, float]:
    """Opens a store and looks at four of its blocks."""
    began = time.perf_counter()
    model = open_checkpoint(store).model
    renderer = Renderer(model, memory=MemoryBudget(device=BUDGET))
    opened = time.perf_counter()
    camera = corner_view(model.layout.division, model.aabb)
    fast = RenderSettings(Quality.FAST, complete=False)
    renderer.render(camera, fast)
    first = time.perf_counter()
    renderer.render(camera, RenderSettings(Quality.FAST))
    complete = time.perf_counter()
    times = []
    for _ in range(FRAMES):
        start = time.perf_counter()
        renderer.render(camera, fast)
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    frame = renderer.render(camera, RenderSettings(Quality.EXACT))
    exact = time.perf_counter() - start
    assert renderer.stream is not None, "a store is streamed"
    status = renderer.stream.status()
    result = {
        "open": opened - began,
        "first": first - opened,
        "complete": complete - opened,
        "fast_ms": 1000 * statistics.median(times),
        "exact_ms": 1000 * exact,
        "peak": peak_bytes(),
        "fetched": status.fetched_bytes,
        "mean": float(frame.rgb.mean()),
    }
    renderer.close()
    return result


def in_process(store: Path) -> dict[str, float]:
    """Measures a store in a new process."""
    command = [sys.executable, "-m", "tests.bench.stream_scale_bench", "--one", str(store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def scale_rows(folder: Path, rounds: int) -> list[str]:
    """Makes the stores and measures each of them `rounds` times in turn; the best of each is told."""
    stores = {}
    for n, division in DIVISIONS.items():
        stores[n] = folder / f"city-{n}"
        if not stores[n].exists():
            make_city_store(stores[n], division, texels=TEXELS, seed=1, distinct=4)
    found: dict[int, list[dict[str, float]]] = {n: [] for n in DIVISIONS}
    for _ in range(rounds):
        for n, store in stores.items():
            found[n].append(in_process(store))
    best = {n: {key: min(each[key] for each in all_) for key in all_[0]} for n, all_ in found.items()}
    base = best[min(best)]
    rows = []
    for n, row in best.items():
        ratios = [row[key] / base[key] for key in ("first", "complete", "fast_ms", "exact_ms", "peak")]
        rows.append(
            f"| {n} | {row['open']:.2f} | {row['first']:.2f} | {row['complete']:.2f} | "
            f"{row['fast_ms']:.0f} | {row['exact_ms']:.0f} | {row['peak'] / 2**20:.0f} | "
            f"{row['fetched'] / 2**20:.1f} | " + " / ".join(f"{ratio:.2f}" for ratio in ratios) + " |"
        )
    return rows


# Converting


def large_checkpoint(folder: Path, n_bytes: int) -> Path:
    """Writes a merged stack of 2 x 2 blocks with so many bytes of random planes, or finds it there."""
    side = int((n_bytes / 4 / sum(CHANNELS) / sum(level**2 for level in LEVELS)) ** 0.5)
    folder /= f"checkpoint-{side}"
    path = folder / "city-merged-stack.th"
    if path.exists():
        return path
    density, appearance = CHANNELS
    return synthetic.write(
        folder,
        "merged-stack",
        grid=(side, side, 64),
        levels=LEVELS,
        density=density,
        appearance=appearance,
        mask=(201, 201, 50),
    )


def copied(source: Path, to: Path) -> float:
    """Copies a file with read and write, from the disk and to it, and returns the seconds."""
    drop_pages(source)
    began = time.perf_counter()
    with source.open("rb") as reader, to.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 16 * 2**20)
        writer.flush()
        os.fsync(writer.fileno())
    seconds = time.perf_counter() - began
    to.unlink()
    return seconds


def drop_pages(path: Path) -> None:
    """Makes the system forget the contents of files, so that they are read from the disk."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def convert_rows(folder: Path, n_bytes: int) -> list[str]:
    """Converts a merged-stack checkpoint, between two copies of the file."""
    checkpoint = large_checkpoint(folder, n_bytes)
    size = checkpoint.stat().st_size
    rows = []
    for precision in (Precision.FULL, Precision.HALF):
        store = folder / f"converted-{precision.value}"
        before = copied(checkpoint, folder / "copy.th")
        cpu, seconds = converted(checkpoint, store, precision)
        copy = (before + copied(checkpoint, folder / "copy.th")) / 2
        rows.append(
            f"| {precision.value} | {size / 1e9:.2f} | {size / seconds / 1e6:.0f} | {cpu:.2f} | "
            f"{size / copy / 1e6:.0f} | {copy / seconds:.2f} |"
        )
        shutil.rmtree(store)
    return rows


def converted(checkpoint: Path, store: Path, precision: Precision) -> tuple[float, float]:
    """Converts as the command line does; returns the seconds of processors and of the clock."""
    shutil.rmtree(store, ignore_errors=True)
    drop_pages(checkpoint)
    cpu, began = time.process_time(), time.perf_counter()
    convert(open_checkpoint(checkpoint), store, precision)
    drop_pages(store)  # to the disk
    return time.process_time() - cpu, time.perf_counter() - began


def main() -> None:
    """Measures, prints, and writes on request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the stores are made and kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--convert-bytes", type=float, default=1e9)
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure_one(given.one)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        text = report(scale_rows(folder, given.rounds), convert_rows(folder, int(given.convert_bytes)))
    print(text)
    if given.write:
        write_section("stream scale", text)


def report(scale: list[str], converting: list[str]) -> str:
    """Returns the section of RESULTS.md."""
    return "\n".join(
        [
            "## A city by its size",
            "",
            machine(),
            "",
            f"Procedural stores, the same four blocks seen from above at {SIZE[0]}x{SIZE[1]}, a budget of "
            f"{BUDGET // 2**20} MiB; best of all rounds, each in a process of its own. Ratios are to 4 "
            "blocks: first picture / complete picture / fast frame / exact frame / peak memory; wanted: at "
            "most 1.15.",
            "",
            "| blocks | open s | first picture s | complete picture s | fast frame ms | exact frame ms | "
            "peak memory MiB | fetched MiB | ratios |",
            "|---|---|---|---|---|---|---|---|---|",
            *scale,
            "",
            "Converting a merged stack of 2 x 2 blocks, read from the disk and written to it, against "
            "copying the file (wanted: at least 0.6 of the copy's speed).",
            "",
            "| precision | GB | convert MB/s of the source | CPU s | copy MB/s | ratio |",
            "|---|---|---|---|---|---|",
            *converting,
        ]
    )


if __name__ == "__main__":
    main()
