"""Editing in a real window by mouse and keys: select, remove, undo, redo, copy, restyle, save, reopen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import yaml

from .driver import Window

pytestmark = pytest.mark.gui

SIZE = "1120x680"
TOWER = (-0.23, 0.42)  # of the picture's height from its middle, and from its top: the glass tower
LAWN = (0.05, 0.48)  # the square before the striped mast
TAB = (228, 12)  # pixels from the corner of the right dock: the tab of the Appearance panel
WINTER = (60, 186)  # from the same corner: the fourth thumbnail


@pytest.fixture
def window(xdisplay, tmp_path) -> Iterator[Window]:
    """The demo scene, open and still."""
    with Window(xdisplay, tmp_path, "demo", "--size", SIZE) as opened:
        opened.wait("ready")
        opened.wait_still(after="first_picture")
        yield opened


def place(window: Window, at: tuple[float, float]) -> tuple[float, float]:
    """Returns shares of the viewport for a place that does not depend on the viewport's shape."""
    _, _, width, height = window.rect()
    return 0.5 + at[0] * height / width, at[1]


def saved_picture(window: Window) -> np.ndarray:
    """Saves the picture with F12, once it is finished, and reads it: the scene without what lies over it."""
    mark = window.mark()
    window.key("F12")
    text = window.wait("saved", mark, seconds=60)["text"]
    name = next(word for word in text.split() if word.endswith(".png"))
    return imageio.imread(next(window.folder.rglob(Path(name).name)))[..., :3]


def change_at(window: Window, before: np.ndarray, after: np.ndarray, at: tuple[float, float]) -> float:
    """Returns the share of pixels that differ visibly within a twentieth of the height around a place."""
    height, width = before.shape[:2]
    x, y = place(window, at)
    column, row, reach = round(x * width), round(y * height), height // 20
    part = np.s_[max(row - reach, 0) : row + reach, max(column - reach, 0) : column + reach]
    return float((np.abs(before[part].astype(int) - after[part]).max(axis=-1) > 16).mean())


def do(window: Window, key: str, command: str) -> None:
    """Presses a key and waits until what it asks for is done and shown."""
    mark = window.mark()
    window.key(key)
    window.wait("command", mark, name=command)
    window.wait_still(mark)


def test_a_path_that_is_typed_replaces_the_one_suggested_every_time(window):
    for name in ("first", "second", "third"):
        path, mark = window.folder / f"{name}.yaml", window.mark()
        window.answer("ctrl+shift+s", str(path))
        window.wait("command", mark, name="SceneSaved")
        assert path.is_file()


def test_a_building_is_removed_copied_restyled_saved_and_reopened(window):
    first = saved_picture(window)

    mark = window.mark()
    window.key("g")
    window.click("viewport", *place(window, TOWER))
    window.wait("command", mark, name="SetSelection")
    do(window, "Delete", "RemoveSelection")
    removed = saved_picture(window)
    assert change_at(window, first, removed, TOWER) > 0.9
    assert np.array_equal(first[:, -first.shape[1] // 3 :], removed[:, -first.shape[1] // 3 :])

    do(window, "ctrl+z", "undo")
    assert np.array_equal(saved_picture(window), first)
    do(window, "ctrl+y", "redo")
    assert np.array_equal(saved_picture(window), removed)

    window.key("ctrl+c")
    window.move(*place(window, LAWN))
    do(window, "ctrl+v", "CopySelection")
    copied = saved_picture(window)
    assert change_at(window, removed, copied, LAWN) > 0.5

    mark = window.mark()
    left, top, _, _ = window.rect("window Camera")
    for x, y in (TAB, WINTER):
        window.xdotool("mousemove", left + x, top + y, "sleep", 0.3, "click", 1, "sleep", 0.3)
    window.wait("command", mark, name="SetAppearance")
    window.wait_still(mark)
    winter = saved_picture(window)
    assert change_at(window, copied, winter, (0.0, 0.9)) > 0.5

    path = window.folder / "edited" / "scene.yaml"
    path.parent.mkdir()
    mark = window.mark()
    window.answer("ctrl+shift+s", str(path))
    window.wait("command", mark, name="SceneSaved")
    saved = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [layer["kind"] for layer in saved["edits"]] == ["remove", "copy"]
    assert window.close() == 0

    with Window(window.display, window.folder / "again", str(path), "--size", SIZE) as again:
        again.wait("ready")
        again.wait_still(after="first_picture")
        assert np.array_equal(saved_picture(again), winter)
        assert again.close() == 0
