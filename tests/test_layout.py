import re

import pytest

pytest.importorskip("dearpygui.dearpygui", exc_type=ImportError)

from landmark_viewer.viewer.layout import LEAST_VIEWPORT, LEAVING, WINDOW, Layout, Room, default_layout


def sizes(text: str) -> dict[str, tuple[int, int]]:
    """Returns the size of every dock node in a layout."""
    found = re.findall(r"ID=0x(\w+) Parent=\S+ SizeRef=(\d+),(\d+)", text)
    return {node.lstrip("0"): (int(width), int(height)) for node, width, height in found}


@pytest.mark.parametrize(
    ("width", "height", "scale"), [(1600, 1000, 1.0), (1280, 800, 1.0), (1920, 1200, 1.5)]
)
def test_docks_fill_the_window(width, height, scale):
    nodes = sizes(default_layout(width, height, scale))
    left, middle, right = (nodes[node][0] for node in ("1", "6", "C"))
    assert left + middle + right == width
    assert nodes["2"][1] + nodes["3"][1] == nodes["8"][1] + nodes["9"][1] == nodes["A"][1]


def test_small_windows_have_narrower_docks():
    assert sizes(default_layout(1280, 800, 1.0))["C"][0] < sizes(default_layout(1600, 1000, 1.0))["C"][0]


def test_even_a_tiny_window_gives_every_dock_some_room():
    nodes = sizes(default_layout(640, 400, 1.0))
    assert all(min(size) > 0 for size in nodes.values())


def test_every_window_is_docked():
    text = default_layout(1600, 1000, 1.0)
    assert all(f"[Window][###{tag}]" in text for tag in WINDOW.values())


def test_a_saved_layout_is_used_again(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDMARK_VIEWER_CONFIG", str(tmp_path))
    layout = Layout(1.0)
    first = layout.prepare(1600, 1000)
    assert first != layout.saved
    layout.saved.write_text(first.read_text())
    assert layout.prepare(1600, 1000) == layout.saved


@pytest.mark.parametrize("text", ["", "[Docking][Data]", "\x00\xff"])
def test_a_layout_that_lacks_windows_is_not_used(text, tmp_path, monkeypatch):
    monkeypatch.setenv("LANDMARK_VIEWER_CONFIG", str(tmp_path))
    layout = Layout(1.0)
    layout.saved.write_text(text, encoding="utf-8")
    assert layout.prepare(1600, 1000) != layout.saved


def test_each_scale_has_a_layout_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LANDMARK_VIEWER_CONFIG", str(tmp_path))
    assert Layout(1.0).saved != Layout(1.5).saved


@pytest.mark.parametrize(
    ("width", "scale", "groups"),
    [(1280, 1.0, 0), (1000, 1.0, 1), (640, 1.0, 1), (1500, 1.5, 1), (640, 1.5, 2)],
)
def test_a_narrow_window_leaves_docks_out(width, scale, groups):
    room = Room(scale)
    assert room.fit(width) == (groups > 0)
    assert room.left_out == sum(LEAVING[:groups], ())


def test_every_panel_can_be_left_out_but_picture_and_status():
    assert set(sum(LEAVING, ())) == set(WINDOW) - {"Viewport", "Status"}


def test_docks_that_left_return_when_the_window_is_as_wide_as_before():
    room = Room(1.0)
    room.fit(1280)
    room.note(1280 - 700)  # docks that were made wider
    assert room.fit(1160)
    room.note(1160 - 400)
    assert not room.fit(1166)
    assert room.fit(1280)
    assert room.left_out == ()


def test_a_dock_made_wide_by_hand_stays_while_the_window_grows():
    room = Room(1.0)
    room.fit(1200)
    room.note(round(0.9 * LEAST_VIEWPORT * 1200))
    assert not room.fit(1210)
    assert room.fit(1205)
