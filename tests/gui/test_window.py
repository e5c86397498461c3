"""A real window on a virtual display, used as a person would. Every test has a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from landmark_viewer.scenes.load import demo_scene_path

from .driver import Window, difference, wait_for

pytestmark = pytest.mark.gui

SIZE = "960x440"
SCENES_OPENED = 10
SAME = 0.03  # share of pixels in which two grabs of one view may differ: the badge tells how long it took
MEMORY_SLACK = 40_000_000  # bytes that opening scenes again may add: less than two fields of the demo
STILL_SECONDS = 3.0
STILL_SHARE = 0.1  # of one core that a window may use where nothing changes


@pytest.fixture
def window(xdisplay, tmp_path) -> Iterator[Window]:
    """The demo scene, open and still."""
    with Window(xdisplay, tmp_path, "demo", "--size", SIZE) as opened:
        opened.wait("ready")
        opened.wait_still(after="first_picture")
        yield opened


def copy_demo(folder: Path, name: str) -> None:
    """Copies the demo scene into a new folder and gives it another name."""
    source = demo_scene_path()
    shutil.copytree(source.parent, folder)
    scene = folder / source.name
    text = scene.read_text(encoding="utf-8")
    lines = [f"name: {name}" if line.startswith("name:") else line for line in text.splitlines()]
    scene.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_window_opens_with_an_exact_picture_of_the_demo(window):
    opened = window.wait("scene_opened")
    picture = window.events("picture")[-1]
    assert Path(opened["path"]) == demo_scene_path()
    assert picture["finished"]
    assert picture["quality"] == "exact"
    assert picture["scale"] == 1
    assert (picture["width"], picture["height"]) == window.rect()[2:]
    colors = Image.fromarray(window.picture()).getcolors(10**6) or []
    assert len(colors) > 1000


def test_left_drag_orbits_coarsely_and_refines_at_rest(window):
    before, mark = window.picture(), window.mark()
    window.drag((0.4, 0.6), (0.7, 0.5))
    picture = window.wait_still(mark)
    assert picture["quality"] == "exact"
    assert [event for event in window.events("picture", mark) if event["moving"]]
    assert {event["kind"] for event in window.events("input", mark)} == {"SetPose"}
    assert difference(before, window.picture()) > 0.2


@pytest.mark.parametrize("button", [2, 3])
def test_other_buttons_move_the_camera_too(window, button):
    before, mark = window.picture(), window.mark()
    window.drag((0.4, 0.6), (0.7, 0.5), button=button)
    window.wait_still(mark)
    assert difference(before, window.picture()) > 0.2


def test_wheel_moves_towards_the_scene_and_back(window):
    start, mark = window.picture(), window.mark()
    window.wheel(3)
    window.wait_still(mark)
    near, mark = window.picture(), window.mark()
    window.wheel(-3)
    window.wait_still(mark)
    assert difference(start, near) > 0.2
    assert difference(start, window.picture()) < difference(start, near) / 2


def test_held_keys_fly_each_to_another_place(window):
    window.move()
    seen, mark = [window.picture()], window.mark()
    for key in ("w", "a", "s", "d", "e", "q"):
        began = window.mark()
        window.hold(key, 0.5)
        window.wait_still(began)
        seen.append(window.picture())
        assert difference(*seen[-2:]) > 0.1, key
    assert window.events("command", mark)[0]["name"] == "SetNavigation"


def test_speed_keys_change_the_speed_once_per_press(window):
    for count, key in enumerate(("equal", "minus", "KP_Add", "KP_Subtract"), start=1):
        window.key(key)
        wait_for(lambda count=count: len(window.events("key")) == count, key)
    wait_for(lambda: window.events()[-1]["event"] == "idle", "the window to be still")
    assert [event["name"] for event in window.events("command") if event["name"] == "ChangeSpeed"] == [
        "ChangeSpeed"
    ] * 4


def test_f_and_double_click_focus_the_point_under_the_cursor(window):
    before, mark = window.picture(), window.mark()
    window.move(0.35, 0.6)
    window.key("f")
    window.wait("command", mark, name="FocusOn")
    window.wait_still(mark)
    focused, mark = window.picture(), window.mark()
    window.double_click(0.65, 0.6)
    window.wait("command", mark, name="FocusOn")
    window.wait_still(mark)
    assert difference(before, focused) > 0.2
    assert difference(focused, window.picture()) > 0.2


def test_each_mode_key_shows_another_picture(window):
    color = window.picture()
    pictures = []
    for key, mode in {"F6": "depth", "F7": "opacity", "F8": "normals", "F9": "blocks"}.items():
        mark = window.mark()
        window.key(key)
        assert window.wait_still(mark)["mode"] == mode
        pictures.append(window.picture())
    mark = window.mark()
    window.key("F5")
    window.wait_still(mark)
    assert difference(color, window.picture()) < SAME
    everything = [color, *pictures]
    for index, picture in enumerate(everything):
        for other in everything[:index]:
            assert difference(picture, other) > 0.05


def test_undo_takes_a_whole_drag_back_and_redo_brings_it_again(window):
    before, mark = window.picture(), window.mark()
    window.drag((0.4, 0.6), (0.7, 0.5))
    window.wait_still(mark)
    after, mark = window.picture(), window.mark()
    window.key("ctrl+z")
    window.wait_still(mark)
    assert difference(before, window.picture()) < SAME
    mark = window.mark()
    window.key("ctrl+y")
    window.wait_still(mark)
    assert difference(after, window.picture()) < SAME


def test_home_returns_to_the_first_view(window):
    before, mark = window.picture(), window.mark()
    window.drag((0.4, 0.6), (0.7, 0.5))
    window.wait_still(mark)
    mark = window.mark()
    window.key("Home")
    window.wait_still(mark)
    assert difference(before, window.picture()) < SAME


def test_resizing_renders_at_the_new_size(window):
    before, mark = window.rect(), window.mark()
    window.resize(1040, 520)
    window.wait("layout", mark)
    picture = window.wait_still(mark, after="picture")
    assert window.rect()[2] > before[2]
    assert window.rect()[3] > before[3]
    assert (picture["width"], picture["height"]) == window.rect()[2:]


def test_docks_leave_a_narrow_window_and_return(xdisplay, tmp_path):
    with Window(xdisplay, tmp_path, "demo", "--size", "1280x440") as window:
        window.wait("ready")
        first = window.rect()
        for width in (1000, 640):
            mark = window.mark()
            window.resize(width, 440)
            window.wait("layout", mark)
            wait_for(lambda width=width: window.rect()[2] >= 0.4 * width, "room for the picture")
        mark = window.mark()
        window.resize(1280, 440)
        window.wait("layout", mark)
        wait_for(lambda: window.rect()[2] == first[2], "the docks to return")


def test_tab_leaves_only_the_picture(window):
    before, mark = window.rect(), window.mark()
    window.key("Tab")
    window.wait("layout", mark)
    window.wait_still(mark, after="picture")
    assert window.rect()[2] == 960
    assert window.rect()[3] > before[3]
    mark = window.mark()
    window.key("Tab")
    window.wait("layout", mark)
    wait_for(lambda: window.rect() == before, "the panels to return")


def test_help_lists_the_keys_until_it_is_closed(window):
    before, mark = window.screenshot(), window.mark()
    window.key("F1")
    window.wait("command", mark, name="ToggleHelp")
    wait_for(lambda: difference(before, window.screenshot()) > 0.02, "the help")
    window.key("Escape")
    wait_for(lambda: difference(before, window.screenshot()) < SAME, "the help to go")


def test_screenshot_saves_the_exact_picture(window):
    mark = window.mark()
    window.key("F12")
    window.wait("saved", mark)
    (saved,) = (window.folder / "pictures").rglob("*.png")
    with Image.open(saved) as picture:
        assert picture.size == window.rect()[2:]


def test_bad_file_is_a_sentence_and_the_window_lives_on(window):
    (window.folder / "broken.th").write_bytes(b"no checkpoint")
    before, mark = window.picture(), window.mark()
    window.answer("ctrl+o", "broken.th")
    error = window.wait("error", mark)
    assert "broken.th" in error["text"]
    wait_for(lambda: difference(before, window.picture()) > 0.005, "the message")
    window.key("Escape")
    mark = window.mark()
    window.drag((0.4, 0.6), (0.7, 0.5))
    window.wait_still(mark)
    assert difference(before, window.picture()) > 0.2
    assert window.close() == 0


def test_window_that_starts_with_a_bad_file_says_so_and_lives_on(xdisplay, tmp_path):
    (tmp_path / "broken.th").write_bytes(b"no checkpoint")
    copy_demo(tmp_path / "good", "Good")
    with Window(xdisplay, tmp_path, "broken.th", "--size", SIZE) as window:
        window.wait("ready")
        window.wait("error")
        window.answer("ctrl+o", "good")
        assert window.wait_still(after="first_picture")["finished"]
        assert window.close() == 0


def test_second_scene_replaces_the_first(window):
    copy_demo(window.folder / "other", "Elsewhere")
    mark = window.mark()
    window.answer("ctrl+o", "other")
    window.wait("scene_opened", mark, name="Elsewhere")
    picture = window.wait_still(mark, after="first_picture")
    assert picture["finished"]
    assert window.close() == 0


def test_opening_scenes_again_and_again_leaks_nothing(window):
    copy_demo(window.folder / "again", "Again")
    memory = []
    for _ in range(SCENES_OPENED):
        mark = window.mark()
        window.answer("ctrl+o", "again")
        window.wait("first_picture", mark)
        window.wait("prepared", mark)
        memory.append(window.memory())
    assert memory[-1] - memory[1] < MEMORY_SLACK, " ".join(f"{held / 1e6:.0f}" for held in memory)


def test_still_window_leaves_the_processor_alone(window):
    window.wait("prepared")
    window.xdotool("sleep", 1.0)
    before, mark = window.cpu_seconds(), window.mark()
    window.xdotool("sleep", STILL_SECONDS)
    assert window.cpu_seconds() - before < STILL_SHARE * STILL_SECONDS
    assert not window.events("picture", mark)


def test_closing_while_rendering_ends_at_once(window):
    mark = window.mark()
    window.drag((0.4, 0.6), (0.7, 0.5))
    window.wait("picture", mark)
    assert window.close() == 0
    assert window.events()[-1]["event"] == "closed"
    assert "Traceback" not in window.errors


def test_closing_while_a_scene_opens_ends_at_once(xdisplay, tmp_path):
    with Window(xdisplay, tmp_path, "demo", "--size", SIZE) as window:
        window.wait("window")
        assert window.close() == 0
        assert "Traceback" not in window.errors


def test_termination_is_an_interruption(window):
    window.process.send_signal(signal.SIGTERM)
    assert window.process.wait(5) == 130
    assert window.events()[-1]["event"] == "closed"


def test_window_without_a_scene_offers_to_open_one(xdisplay, tmp_path):
    copy_demo(tmp_path / "good", "Good")
    with Window(xdisplay, tmp_path, "--size", SIZE) as window:
        window.wait("ready")
        window.answer("ctrl+o", "good")
        assert window.wait_still(after="first_picture")["finished"]


def test_twice_the_scale_is_shown_twice_as_large(xdisplay, tmp_path):
    with Window(xdisplay, tmp_path, "demo", "--size", "1500x900", "--scale", "2") as window:
        assert window.wait("ready")["scale"] == 2
        assert window.wait_still(after="first_picture")["finished"]


def test_without_a_display_the_message_names_the_way_out():
    environment = {
        name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    command = [sys.executable, "-m", "landmark_viewer.viewer.cli", "demo"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "landmark-viewer render" in done.stderr
    assert "Traceback" not in done.stderr
