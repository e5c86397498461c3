"""How fast every renderer is on two real checkpoints, all in one run, and how close it comes to exact.

`python -m tests.bench.render_bench` from the checkout; `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from landmark_viewer.core.camera import Camera
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.render import Backend, Frame, Renderer, RenderSettings
from landmark_viewer.core.settings import ModelSettings, Precision
from landmark_viewer.cuda.tables import Quality

from ..conftest import shared_folder
from .results import machine, write_section

CASES = {
    "b_seq_res124_app": "bb_b_seq_res124_app.th",
    "d_branch22_app": "bb_d_branch22_app-merged-stack.th",
}
POSE = "test_DJI_0026"
SIZES = ((320, 180), (640, 360))
STORED_HEIGHT = 150  # of the pictures whose focal length is stored
REFERENCE = "plain reference"
# Name -> what to ask for. The first one is what the others are measured against.
RENDERERS = {
    REFERENCE: RenderSettings(backend=Backend.REFERENCE),
    "channel-last torch, exact": RenderSettings(backend=Backend.TORCH),
    "channel-last torch, fast": RenderSettings(backend=Backend.TORCH, quality=Quality.FAST),
    "native exact, 1 thread": RenderSettings(backend=Backend.NATIVE, threads=1),
    "native exact, 2 threads": RenderSettings(backend=Backend.NATIVE, threads=2),
    "native clustered, 2 threads": RenderSettings(
        backend=Backend.NATIVE, quality=Quality.CLUSTERED, threads=2
    ),
    "native fast, 2 threads": RenderSettings(backend=Backend.NATIVE, quality=Quality.FAST, threads=2),
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    case: str
    size: str
    renderer: str
    ms: float  # best of all rounds, wall clock
    ratio: float  # time of the plain reference over this one
    psnr: float | None  # against the plain reference's picture; None for itself


def camera_for(case: str, width: int, height: int) -> Camera:
    """Returns the stored test pose, seen with the stored vertical field of view."""
    with np.load(shared_folder() / "oracle" / case / "oracle.npz") as stored:
        focal = float(stored[f"pose/{POSE}/focal"]) * height / STORED_HEIGHT
        return Camera.from_focal(stored[f"pose/{POSE}/c2w"], width, height, focal)


def measure(case: str, width: int, height: int, rounds: int) -> list[Row]:
    """Times all renderers in turn, `rounds` times, so that a slow spell of the machine hits them alike."""
    opened = open_checkpoint(
        shared_folder() / "oracle" / case / CASES[case], ModelSettings(white_background=True)
    )
    renderer, camera = Renderer(opened.model, Precision.FULL, "cpu"), camera_for(case, width, height)
    best: dict[str, float] = {}
    frames: dict[str, Frame] = {}
    for number in range(rounds):
        for name, settings in RENDERERS.items():
            n_times = 1 if name == REFERENCE or "torch" in name else 3
            ms, frames[name] = timed(lambda s=settings: renderer.render(camera, s), n_times + (number == 0))
            best[name] = min(ms, best.get(name, float("inf")))
    exact = frames[REFERENCE].rgb
    return [
        Row(
            case,
            f"{width}x{height}",
            name,
            best[name],
            best[REFERENCE] / best[name],
            None if name == REFERENCE else psnr(frames[name].rgb, exact),
        )
        for name in RENDERERS
    ]


def timed(render: Callable[[], Frame], n_times: int) -> tuple[float, Frame]:
    """Returns the shortest of n_times runs in ms, and the last picture."""
    shortest = float("inf")
    for _ in range(n_times):
        start = time.perf_counter()
        frame = render()
        shortest = min(shortest, 1e3 * (time.perf_counter() - start))
    return shortest, frame


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio, dB."""
    return float(-10 * np.log10(max(np.mean((a.astype(np.float64) - b) ** 2), 1e-20)))


def table(rows: list[Row]) -> str:
    """Formats rows as Markdown."""
    lines = ["| checkpoint | size | renderer | ms | times the reference | PSNR against it, dB |"]
    lines.append("|---|---|---|---:|---:|---:|")
    for row in rows:
        quality = "" if row.psnr is None else f"{row.psnr:.1f}"
        cells = (row.case, row.size, row.renderer, f"{row.ms:.0f}", f"{row.ratio:.1f}", quality)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smaller size only, one round")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    chosen = parser.parse_args()
    if not (shared_folder() / "oracle").is_dir():
        print(f"render_bench: skipped, {shared_folder()} does not hold the folder oracle")
        return 0
    rows = []
    for case in CASES:
        for width, height in SIZES[:1] if chosen.quick else SIZES:
            rows += measure(case, width, height, 1 if chosen.quick else 3)
            if not chosen.json:
                print(
                    table(rows[-len(RENDERERS) :])
                    if len(rows) == len(RENDERERS)
                    else "\n".join(table(rows[-len(RENDERERS) :]).splitlines()[2:]),
                    flush=True,
                )
    if chosen.json:
        print(json.dumps({"machine": machine(), "rows": [asdict(row) for row in rows]}, indent=1))
    if chosen.write:
        text = f"## Renderers\n\nBest of three rounds, wall clock. {machine()}\n\n{table(rows)}\n"
        write_section("renderers", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
