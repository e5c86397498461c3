"""How soon an edit shows in the window: from the key to the first picture with it, on the demo scene.

`python -m tests.bench.edit_latency_bench` from the checkout; `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from ..gui.driver import Event, Window, virtual_display, wait_for
from .gui_bench import VIEWPORT, WINDOW, Row, size_viewport, table
from .results import machine, write_section

LOOK = 0.5  # seconds between a selection and what is done with it
OPEN_FOR = 5.0  # seconds that the scene is open before the first edit
WANTED = "≤ 150 ms"
# Shares of the viewport, from the home view.
TOWER = (0.372, 0.405)
HOUSE = (0.464, 0.6)
LAWN = (0.53, 0.48)


def edit_delays(events: list[Event]) -> list[float]:
    """Returns, for each input, the ms until the first picture that was asked for with edits made after it.

    The event "edits" says that the requests for pictures hold other edits from now on.
    """
    found = []
    for number, event in enumerate(events):
        if event["event"] != "input":
            continue
        later = iter(events[number + 1 :])
        changed = next((each for each in later if each["event"] == "edits"), None)
        shown = next((each for each in later if each["event"] == "picture"), None)
        if changed and shown:
            found.append(1000 * (shown["t"] - event["t"]))
    return found


def press(window: Window, key: str, command: str) -> float:
    """Presses a key, returns the ms until what it asks for is seen, and waits for the finished picture."""
    mark = window.mark()
    window.key(key)
    window.wait("command", mark, name=command)
    window.wait("edits", mark)
    window.wait_still(mark)
    return edit_delays(window.events(since=mark))[0]


def select(window: Window, at: tuple[float, float]) -> None:
    """Selects the building that is seen at a place, with the tool for it in hand."""
    mark = window.mark()
    window.click("viewport", *at)
    window.wait("command", mark, name="SetSelection")
    time.sleep(LOOK)


def drag_copy(window: Window) -> list[float]:
    """Copies the selection to the lawn, drags the copy to and fro, and returns the ms of every step."""
    window.key("ctrl+c")
    window.move(*LAWN)
    press(window, "ctrl+v", "CopySelection")
    mark = window.mark()
    window.drag(LAWN, (LAWN[0] + 0.1, LAWN[1]), steps=20)
    window.wait_still(mark)
    return edit_delays(window.events(since=mark))


def measure(folder: Path) -> list[Row]:
    """Edits the demo on a virtual display and returns the rows of the table."""
    size = f"{WINDOW[0]}x{WINDOW[1]}"
    with virtual_display(1920, 1080) as display, Window(display, folder, "demo", "--size", size) as window:
        window.wait("ready")
        size_viewport(window)
        wait_for(lambda: window.rect()[2:] == VIEWPORT, f"a viewport of {VIEWPORT}, got {window.rect()[2:]}")
        window.wait_still(after="first_picture")
        time.sleep(OPEN_FOR)
        window.key("g")
        select(window, TOWER)
        seen = [("first removal", press(window, "Delete", "RemoveSelection"))]
        select(window, HOUSE)
        seen.append(("second removal", press(window, "Delete", "RemoveSelection")))
        seen.append(("undo", press(window, "ctrl+z", "undo")))
        seen.append(("redo", press(window, "ctrl+y", "redo")))
        steps = drag_copy(window)
        seen.append((f"drag of a copy, median of {len(steps)} steps", statistics.median(steps)))
        backend = window.events("scene_opened")[-1]["backend"]
    heading = f"{backend}, viewport {VIEWPORT[0]}x{VIEWPORT[1]}"
    return [("input to picture", heading, "wanted"), *((name, f"{ms:.0f} ms", WANTED) for name, ms in seen)]


def main() -> None:
    """Measures, prints, and keeps the table if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    parser.add_argument("--quick", action="store_true", help="as without it: this is as short as it gets")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text = table(measure(Path(folder)))
    print(text)
    if given.write:
        about = f"Demo scene on a virtual display, open for {OPEN_FOR:g} s before the first edit. {machine()}"
        write_section("edit_latency", f"## How soon an edit shows\n\n{about}\n\n{text}")


if __name__ == "__main__":
    main()
