"""The map of blocks in a real window over a field that is streamed: click, wheel, menu."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from .driver import PAUSE, Window, difference, wait_for

pytestmark = pytest.mark.gui

BUDGET = "memory.device=16MB"  # less than the planes of the demo
MAP = (12, 76)  # pixels from the corner of the panel's window to the corner of the map
BLOCK = (70, 80)  # a place on the map: the north-western block
MEMORY, ROW = 474, 31  # pixels from the top of the panel to the head of its section, and to its first row
PIN, RELOAD = (30, 70), (30, 114)  # entries of the menu, pixels from where it opened


@pytest.fixture
def window(xdisplay, tmp_path) -> Iterator[Window]:
    """The demo scene, streamed, when all of it is there that fits."""
    with Window(xdisplay, tmp_path, "demo", "--size", "1120x900", "--set", BUDGET) as opened:
        opened.wait("ready", seconds=60)
        opened.wait("first_picture", seconds=60)
        opened.wait("idle", seconds=60)
        yield opened


def on_map(window: Window) -> tuple[int, int]:
    """Returns a point of the screen in the north-western block of the map."""
    left, top, _, _ = window.rect("window Blocks")
    return left + MAP[0] + BLOCK[0], top + MAP[1] + BLOCK[1]


def press(window: Window, at: tuple[int, int], button: int = 1) -> None:
    """Presses and releases a button there, slowly enough for software rendering."""
    window.xdotool("mousemove", *at, "sleep", 8 * PAUSE, "mousedown", button, "sleep", 5 * PAUSE)
    window.xdotool("mouseup", button, "sleep", 8 * PAUSE)


def choose(window: Window, entry: tuple[int, int]) -> None:
    """Opens the menu of the block, chooses an entry once it is there, and waits until it has gone."""
    x, y = on_map(window)

    def below() -> np.ndarray:
        return window.screenshot()[y : y + 120, x + 4 : x + 120]

    window.xdotool("mousemove", x, y, "sleep", 10 * PAUSE)
    before = below()
    press(window, (x, y), 3)
    wait_for(lambda: difference(before, below()) > 0.5, "the menu to open")
    menu = below()
    press(window, (x + entry[0], y + entry[1]))
    wait_for(lambda: difference(menu, below()) > 0.5, "the menu to close")


def test_the_map_selects_pins_and_reloads_blocks(window):
    mark = window.mark()
    press(window, on_map(window))
    window.wait("command", mark, name="SelectBlock")
    mark = window.mark()
    choose(window, PIN)
    window.wait("command", mark, name="PinBlock")
    window.wait("fetch", seconds=60, block=1)  # now at the latest
    mark = window.mark()
    choose(window, RELOAD)
    window.wait("command", mark, name="reload_block", block=1)
    assert window.wait("fetch", mark, seconds=60, block=1)["error"] is None
    assert not window.events("error")


def test_the_wheel_enlarges_the_map_under_the_pointer(window):
    def seen() -> np.ndarray:
        left, top, width, _ = window.rect("window Blocks")
        return window.screenshot()[top + MAP[1] : top + MAP[1] + 60, left + MAP[0] : left + width - 24]

    window.xdotool("mousemove", *on_map(window), "sleep", 10 * PAUSE)
    before = seen()
    window.xdotool("click", "--repeat", 6, "--delay", 60, 4, "sleep", 20 * PAUSE)
    assert difference(before, seen()) > 0.2
    window.xdotool("click", "--repeat", 12, "--delay", 60, 5, "sleep", 20 * PAUSE)
    assert difference(before, seen()) < 0.1, "all blocks are shown again, and nothing has scrolled"


def test_a_budget_that_is_typed_holds_at_once(xdisplay, tmp_path):
    with Window(xdisplay, tmp_path, "demo", "--size", "1400x1040", "--set", BUDGET) as window:
        window.wait("ready", seconds=60)
        window.wait("fetch", seconds=60)
        left, top, _, _ = window.rect("window Blocks")
        press(window, (left + 60, top + MEMORY))
        press(window, (left + 150, top + MEMORY + ROW))
        mark = window.mark()
        window.key("ctrl+a")
        window.type("150")
        window.key("Return")
        window.wait("command", mark, name="SetMemoryDevice")
        window.wait("fetch", mark, seconds=60)  # into the memory of another size
        assert not window.events("error")
