"""The window as a user feels it: first picture, input to picture while orbiting, a still window.

`python -m tests.bench.gui_bench` from the checkout; `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from landmark_viewer.viewer.events import latencies

from ..gui.driver import Window, virtual_display, wait_for

VIEWPORT = (640, 360)  # pixels
WINDOW = (1280, 640)  # pixels, before the viewport is measured
ORBITS = 4  # drags, each in both directions
STEPS = 60  # of a drag
STILL_SECONDS = 10.0
RESULTS = Path(__file__).parent / "RESULTS.md"
BEGIN, END = "<!-- window: begin -->", "<!-- window: end -->"

Row = tuple[str, str, str]


def first_picture(display: str, folder: Path, cache: Path) -> float:
    """Returns the seconds from process start to the first picture of the demo on screen."""
    environment = {"LANDMARK_VIEWER_CACHE": str(cache)}
    size = f"{WINDOW[0]}x{WINDOW[1]}"
    with Window(display, folder, "demo", "--size", size, environment=environment) as window:
        seconds = window.wait("first_picture", seconds=300)["t"]
        window.close(30)
    return seconds


def size_viewport(window: Window) -> None:
    """Resizes the window until the viewport has the size that is measured."""
    width, height = WINDOW
    for _ in range(4):
        _, _, shown_width, shown_height = window.rect()
        if (shown_width, shown_height) == VIEWPORT:
            break
        width, height = width + VIEWPORT[0] - shown_width, height + VIEWPORT[1] - shown_height
        window.resize(width, height)
        time.sleep(0.5)


def orbit(window: Window) -> list[Row]:
    """Orbits to and fro; returns what the event log says of it."""
    mark = window.mark()
    for _ in range(ORBITS):
        window.drag((0.3, 0.5), (0.7, 0.55), steps=STEPS)
        window.drag((0.7, 0.55), (0.3, 0.5), steps=STEPS)
    window.wait_still(mark)
    events = window.events(since=mark)
    pictures = [event for event in events if event["event"] == "picture" and event["moving"]]
    seconds = [event["t"] for event in pictures]
    delays = sorted(1000 * delay for delay in latencies(events))
    scale = statistics.median(event["scale"] for event in pictures)
    gaps = [after - before for before, after in pairwise(seconds)]
    return [
        ("input to picture while orbiting, median", f"{statistics.median(delays):.0f} ms", "≤ 100 ms"),
        ("the same, 95 of 100", f"{delays[int(0.95 * len(delays))]:.0f} ms", ""),
        ("pictures per second while orbiting, median", f"{1 / statistics.median(gaps):.1f}", ""),
        ("scale per side while orbiting, median", f"{scale:.2f}", ""),
        ("inputs, pictures", f"{len(delays)}, {len(pictures)}", ""),
    ]


def refine(window: Window) -> Row:
    """Returns how long the picture takes from the last input to exact."""
    mark = window.mark()
    window.drag((0.4, 0.5), (0.5, 0.5))
    finished = window.wait_still(mark)
    last = window.events("input", mark)[-1]
    return ("last input to exact picture", f"{finished['t'] - last['t']:.2f} s", "")


def still(window: Window) -> Row:
    """Returns the share of a core that the window uses where nothing changes."""
    time.sleep(2)
    before, began = window.cpu_seconds(), time.monotonic()
    time.sleep(STILL_SECONDS)
    share = (window.cpu_seconds() - before) / (time.monotonic() - began)
    return ("still window, share of one core", f"{share:.1%}", "< 5 %")


def measure(folder: Path) -> list[Row]:
    """Runs everything on a virtual display and returns the rows of the table."""
    with virtual_display(1920, 1080) as display:
        cold = first_picture(display, folder / "cold", folder / "cache")
        warm = first_picture(display, folder / "warm", folder / "cache")
        rows = [
            ("first picture of the demo, kernels not yet built", f"{cold:.2f} s", "≤ 5 s"),
            ("first picture of the demo, kernels built", f"{warm:.2f} s", "≤ 5 s"),
        ]
        size = f"{WINDOW[0]}x{WINDOW[1]}"
        with Window(display, folder / "orbit", "demo", "--size", size) as window:
            window.wait("ready")
            size_viewport(window)
            window.wait_still(after="first_picture")
            wait_for(
                lambda: window.rect()[2:] == VIEWPORT, f"a viewport of {VIEWPORT}, got {window.rect()[2:]}"
            )
            backend = window.events("scene_opened")[-1]["backend"]
            rows += [*orbit(window), refine(window), still(window)]
            rows.append(("memory of the process", f"{window.memory() / 1e6:.0f} MB", ""))
            window.close(30)
    cores = len(os.sched_getaffinity(0))
    heading = f"{cores} cores ({platform.machine()}), {backend}, viewport {VIEWPORT[0]}x{VIEWPORT[1]}"
    return [("demo scene", heading, "wanted"), *rows]


def table(rows: list[Row]) -> str:
    """Returns the rows as a Markdown table; the first is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]])


def write(text: str) -> None:
    """Puts the table into its section of the results, in place of an older one."""
    known = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Measurements\n"
    if BEGIN not in known:
        known += f"\n## Window\n\n{BEGIN}\n{END}\n"
    before, _, rest = known.partition(BEGIN)
    RESULTS.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {RESULTS.name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(measure(Path(folder)))
    print(text)
    if given.write:
        write(text)


if __name__ == "__main__":
    main()
