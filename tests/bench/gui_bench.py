"""The window as a user feels it: first picture, input to picture while orbiting, a still window.

`python -m tests.bench.gui_bench` from the checkout; `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

from landmark_viewer.viewer.events import latencies

from ..gui.driver import PAUSE, Window, virtual_display, wait_for
from .results import machine, write_section

VIEWPORT = (640, 360)  # pixels
WINDOW = (1280, 640)  # pixels, before the viewport is measured
DRAG = 1.8  # seconds
MOUSE = 1 / 125  # seconds between two reports of a mouse
THOROUGH, QUICK = (4, 10.0), (1, 3.0)  # orbits to and fro, seconds of a still window

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


def orbit(window: Window, times: int, pause: float) -> list[Row]:
    """Orbits to and fro with a pause between two moves; returns what the event log says of it."""
    mark = window.mark()
    gaps: list[float] = []  # seconds between two pictures of one drag
    for _ in range(times):
        for path in (((0.3, 0.5), (0.7, 0.55)), ((0.7, 0.55), (0.3, 0.5))):
            begun = window.mark()
            window.drag(*path, steps=round(DRAG / pause), pause=pause)
            shown = [event["t"] for event in window.events("picture", begun) if event["moving"]]
            gaps += [after - before for before, after in pairwise(shown)]
    window.wait_still(mark)
    events = window.events(since=mark)
    pictures = [event for event in events if event["event"] == "picture" and event["moving"]]
    delays = sorted(1000 * delay for delay in latencies(events))
    scale = statistics.median(event["scale"] for event in pictures)
    kinds = Counter(event["shown"] or "rendered in one piece" for event in pictures)
    shares = ", ".join(f"{kind} {count / len(pictures):.0%}" for kind, count in kinds.most_common())
    slow = sorted(gaps)[int(0.95 * len(gaps))]
    return [
        ("input to picture, median", f"{statistics.median(delays):.0f} ms", "≤ 100 ms"),
        ("the same, 95 of 100", f"{delays[int(0.95 * len(delays))]:.0f} ms", ""),
        ("pictures per second, mean", f"{len(gaps) / sum(gaps):.1f}", "≥ 20"),
        ("the same, median", f"{1 / statistics.median(gaps):.1f}", ""),
        ("the same, 95 of 100 come at least at", f"{1 / slow:.1f}", ""),
        ("pictures", shares, ""),
        ("scale per side, median", f"{scale:.2f}", ""),
        ("inputs, pictures", f"{len(delays)}, {len(pictures)}", ""),
    ]


def refine(window: Window) -> Row:
    """Returns how long the picture takes from the last input to exact."""
    mark = window.mark()
    window.drag((0.4, 0.5), (0.5, 0.5))
    finished = window.wait_still(mark)
    last = window.events("input", mark)[-1]
    return ("last input to exact picture", f"{finished['t'] - last['t']:.2f} s", "")


def still(window: Window, seconds: float) -> Row:
    """Returns the share of a core that the window uses where nothing changes."""
    time.sleep(2)
    before, began = window.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    share = (window.cpu_seconds() - before) / (time.monotonic() - began)
    return ("still window, share of one core", f"{share:.1%}", "< 5 %")


def measure(folder: Path, orbits: int, still_seconds: float) -> list[Row]:
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
            for pause in (PAUSE, MOUSE):
                rows.append((f"orbiting, {1 / pause:.0f} moves of the pointer per second", "", ""))
                rows += orbit(window, orbits, pause)
            rows += [refine(window), still(window, still_seconds)]
            rows.append(("memory of the process", f"{window.memory() / 1e6:.0f} MB", ""))
            window.close(30)
    heading = f"{backend}, viewport {VIEWPORT[0]}x{VIEWPORT[1]}"
    return [("window", heading, "wanted"), *rows]


def table(rows: list[Row]) -> str:
    """Returns the rows as a Markdown table; the first is the heading."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---|---|---|", *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--quick", action="store_true", help="one orbit, a short look at the still window")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(measure(Path(folder), *(QUICK if given.quick else THOROUGH)))
    print(text)
    if given.write:
        write_section("window", f"## Window\n\nDemo scene on a virtual display. {machine()}\n\n{text}")


if __name__ == "__main__":
    main()
