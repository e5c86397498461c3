"""A city in a block store, larger than the memory that it may use, in a real window."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from landmark_viewer.core.settings import Precision

from ..city_store import make_city_store
from .driver import Window, wait_for

pytestmark = pytest.mark.gui

SIZE = "960x560"
DIVISION = (5, 5)
N_FITTING = 7  # blocks
STILL_SECONDS = 3.0
STILL_SHARE = 0.1  # of one core that a window may use where nothing changes


def open_city(xdisplay: str, folder: Path, damaged: int | None = None) -> Window:
    """Writes a city of which some blocks fit into memory, and opens it over its southern rim."""
    store = make_city_store(folder / "city", DIVISION, texels=64)
    if damaged is not None:
        (file,) = (folder / "city" / "blocks").glob(f"{damaged}-*")
        data = bytearray(file.read_bytes())
        data[len(data) // 3] ^= 255
        file.unlink()  # others may be links to it
        file.write_bytes(data)
    budget = N_FITTING * store.n_bytes(0, Precision.HALF) * 8 // 7  # a part of it is for the stand-ins
    wishes = (f"memory.device={budget}", "model.precision=half", "camera.eye=[2.5,-0.6,1.2]")
    options = [option for wish in (*wishes, "camera.target=[2.5,0.6,0]") for option in ("--set", wish)]
    return Window(xdisplay, folder, str(folder / "city"), "--size", SIZE, *options)


@pytest.fixture
def window(xdisplay, tmp_path) -> Iterator[Window]:
    """The city, open and still."""
    with open_city(xdisplay, tmp_path) as opened:
        opened.wait("ready")
        opened.wait_still(after="first_picture")
        yield opened


def fetched(window: Window, since: int = 0) -> set[int]:
    return {event["block"] for event in window.events("fetch", since) if event["error"] is None}


def test_a_flight_over_a_city_fetches_what_comes_into_view(window):
    first = window.events("picture")
    assert first[0]["coarse"] > 0.0
    assert first[-1]["finished"]
    near = fetched(window)
    assert near
    assert len(near) < DIVISION[0] * DIVISION[1]

    mark = window.mark()
    window.move()
    window.xdotool("keydown", "d")  # along the rim, of which the view shows the middle
    try:
        wait_for(lambda: fetched(window, mark) - near, "other blocks")
    finally:
        window.xdotool("keyup", "d")
    assert window.wait_still(mark)["finished"]
    assert not window.events("error")

    began = window.cpu_seconds()
    time.sleep(STILL_SECONDS)
    assert window.cpu_seconds() - began < STILL_SHARE * STILL_SECONDS
    assert window.events()[-1]["event"] == "idle"
    assert window.close() == 0
    assert window.errors == ""


def test_a_damaged_block_is_told_of_once_and_the_window_lives_on(xdisplay, tmp_path):
    with open_city(xdisplay, tmp_path, damaged=10) as window:
        window.wait("ready")
        window.wait_still(after="first_picture")
        mark = window.mark()
        window.drag((0.5, 0.8), (0.6, 0.8))  # below the message
        assert window.wait_still(mark)["finished"]
        (error,) = window.events("error")
        assert "Block 10" in error["text"]
        assert "Try again" in error["text"]
        assert window.close() == 0
