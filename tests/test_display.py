"""The way of pixels to the screen, on a virtual display; each case in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.gui

WINDOW = """
    import json, sys
    import numpy as np
    import dearpygui.dearpygui as dpg
    from PIL import ImageGrab
    from landmark_viewer.viewer.display import Display

    dpg.create_context()
    dpg.create_viewport(width=400, height=300, x_pos=0, y_pos=0)
    shown, other = Display(), Display()
    with dpg.window(no_title_bar=True, pos=(0, 0), width=400, height=300, no_scrollbar=True) as window:
        canvas = dpg.add_drawlist(200, 100)
        image = dpg.draw_image(shown.texture, (0, 0), (200, 100), parent=canvas)
        dpg.add_text("WWWWWWWWWWWWWWWWWWWWWWWW", tag="text")
    dpg.setup_dearpygui()
    dpg.show_viewport()
    dpg.render_dearpygui_frame()
    shown.start()
    other.start()

    def frames(count=4):
        for _ in range(count):
            dpg.configure_item(image, texture_tag=shown.texture, uv_max=shown.uv_max)
            dpg.render_dearpygui_frame()

    def screen():
        return np.asarray(ImageGrab.grab(xdisplay=sys.argv[1]).convert("RGB"))

    def plain(width, height, *color):
        pixels = np.full((height, width, 4), 255, np.uint8)
        pixels[..., :3] = color
        return pixels

    def at(x, y):
        left, top = dpg.get_item_rect_min(canvas)
        return [int(v) for v in screen()[int(top + y), int(left + x)]]
"""


def run(xdisplay: str, body: str, environment: dict[str, str] | None = None) -> dict:
    """Runs a piece of code behind WINDOW and returns what it put into `answer`."""
    code = textwrap.dedent(WINDOW) + "answer = {}\n" + textwrap.dedent(body)
    code += "\ndpg.destroy_context()\nprint(json.dumps(answer))\n"
    variables = {**os.environ, "DISPLAY": xdisplay, **(environment or {})}
    done = subprocess.run(
        [sys.executable, "-c", code, xdisplay], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=["direct", "float"])
def environment(request):
    """Both ways that pixels can take."""
    return {"LANDMARK_VIEWER_FLOAT_TEXTURE": "1"} if request.param == "float" else {}


def test_the_texture_is_written_directly_where_that_works(xdisplay):
    assert "pixel buffer" in run(xdisplay, "answer['path'] = shown.path")["path"]


def test_pictures_of_any_size_fill_the_canvas(xdisplay, environment):
    body = """
        for name, size in {"small": (50, 25), "large": (801, 403), "odd": (33, 7)}.items():
            color = {"small": (250, 10, 10), "large": (10, 250, 10), "odd": (10, 10, 250)}[name]
            shown.show(plain(*size, *color))
            frames()
            answer[name] = [at(2, 2), at(100, 50), at(197, 97)]
    """
    answer = run(xdisplay, body, environment)
    for name, channel in {"small": 0, "large": 1, "odd": 2}.items():
        for pixel in answer[name]:
            assert pixel[channel] == pytest.approx(250, abs=2), (name, answer)
            assert max(pixel[:channel] + pixel[channel + 1 :]) < 16, (name, answer)


def test_row_zero_is_at_the_top_and_edges_do_not_bleed(xdisplay, environment):
    body = """
        picture = plain(200, 100, 200, 200, 200)
        picture[:50, :, :3] = (200, 0, 0)
        shown.show(picture)
        frames()
        answer.update(top=at(100, 0), bottom=at(100, 99), left=at(0, 75), right=at(199, 25))
    """
    answer = run(xdisplay, body, environment)
    assert answer["top"] == pytest.approx([200, 0, 0], abs=3)
    assert answer["bottom"] == pytest.approx([200, 200, 200], abs=3)
    assert answer["left"] == pytest.approx([200, 200, 200], abs=3)
    assert answer["right"] == pytest.approx([200, 0, 0], abs=3)


def test_two_displays_do_not_write_into_each_other(xdisplay, environment):
    body = """
        shown.show(plain(20, 10, 240, 0, 0))
        other.show(plain(30, 40, 0, 240, 0))
        frames()
        answer["pixel"] = at(100, 50)
    """
    assert run(xdisplay, body, environment)["pixel"] == pytest.approx([240, 0, 0], abs=3)


def test_text_stays_readable_after_uploads(xdisplay):
    body = """
        frames()
        left, top = (int(v) for v in dpg.get_item_rect_min("text"))
        before = screen()[top : top + 12, left : left + 150].astype(int)
        for width in (7, 64, 129):
            shown.show(plain(width, 11, 0, 0, 0))
            dpg.set_value("text", "WWWWWWWWWWWWWWWWWWWWWWWW")
            frames()
        after = screen()[top : top + 12, left : left + 150].astype(int)
        answer.update(ink=int((before > 128).sum()), change=int(abs(after - before).max()))
    """
    answer = run(xdisplay, body)
    assert answer["ink"] > 100
    assert answer["change"] < 8


@pytest.mark.parametrize(
    "picture",
    ["np.zeros((4, 4, 3), np.uint8)", "np.zeros((4, 4, 4), np.float32)", "np.zeros((0, 4, 4), np.uint8)"],
)
def test_what_is_no_picture_is_refused_before_it_reaches_the_driver(xdisplay, picture):
    body = f"""
        try:
            shown.show({picture})
        except ValueError as error:
            answer["error"] = str(error)
    """
    assert "image must be uint8 [height, width, 4]" in run(xdisplay, body)["error"]


def probe(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Asks in a process of its own whether a window could open."""
    code = "from landmark_viewer.viewer.display import probe_display; print(probe_display())"
    kept = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run(
        [sys.executable, "-c", code], env={**kept, **environment}, capture_output=True, text=True
    )


def test_the_probe_finds_a_display(xdisplay):
    assert probe({"DISPLAY": xdisplay}).stdout.strip() == "None"


@pytest.mark.parametrize("environment", [{}, {"DISPLAY": ":4711"}], ids=["none", "wrong"])
def test_the_probe_says_why_no_window_can_open(environment):
    done = probe(environment)
    assert done.returncode == 0
    assert "X11" in done.stdout
