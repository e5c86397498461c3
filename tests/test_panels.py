"""Every panel is built and shown in every state; Dear PyGui makes widgets without a window or display."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("dearpygui.dearpygui", exc_type=ImportError)

import dearpygui.dearpygui as dpg

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.edits.layers import (
    Copy,
    Crop,
    Hide,
    Placement,
    Prism,
    Remove,
    ReplaceBlock,
    Restyle,
)
from landmark_viewer.core.edits.region import Region
from landmark_viewer.viewer.comparison import CompareStatus
from landmark_viewer.viewer.handles import Copied
from landmark_viewer.viewer.history import History
from landmark_viewer.viewer.menu import MenuBar, Program
from landmark_viewer.viewer.panels import PANELS, StatusBar
from landmark_viewer.viewer.panels.insert import InsertForm, Source
from landmark_viewer.viewer.panels.sizes import area_text, fact_of, size_text
from landmark_viewer.viewer.panels.status import FIELDS, fields_that_fit
from landmark_viewer.viewer.state import (
    JobStatus,
    Message,
    Mode,
    Pose,
    RenderStatus,
    Selection,
    Theme,
    ViewerState,
)
from landmark_viewer.viewer.theme import DARK, LIGHT, TOKEN_NAMES, Look, icon
from landmark_viewer.viewer.units import Units
from landmark_viewer.viewer.viewport import Viewport
from landmark_viewer.viewer.widgets import Widgets

PRISM = Prism(Region.rectangle(-0.2, -0.2, 0.1, 0.1), 0.0, 0.3)
PLACEMENTS = Placement((0.5, 0.5, 0.0)), Placement((0.6, -0.5, 0.0), heading=30.0, scale=1.5)
LAYERS = (
    Remove(1, "Remove", prism=PRISM),
    Copy(2, "Copy", prism=PRISM, placements=PLACEMENTS, source=Path("other.th")),
    Restyle(3, "Restyle", enabled=False, prism=Prism(PRISM.region), appearance=Appearance.of(3)),
    ReplaceBlock(4, "Replace block", locked=True, block=1, checkpoint=Path("sub1_add.th")),
    Hide(5, prism=PRISM),
    Crop(6, prism=PRISM),
)


class FakeHost:
    """Takes what panels ask for."""

    comparison = SimpleNamespace(status=CompareStatus())
    session = SimpleNamespace(
        picture=None,
        renderer=None,
        scene=None,
        comparison=comparison,
        desk=SimpleNamespace(is_compiling=True),
        history=History(),
        undo_layer=lambda uid: None,
        redo_layer=lambda uid: None,
        state=ViewerState(),
        stream_status=None,
        fetch_records=(),
    )

    def __getattr__(self, name):
        return lambda *_: (0, (1.0, 1.0)) if name in ("plan_picture", "map_picture") else ""


@pytest.fixture
def widgets():
    dpg.create_context()
    look = Look(1.5)
    look.build_themes()
    yield Widgets(look)
    dpg.destroy_context()


@pytest.fixture
def states(scene_facts):
    """States that a panel must be able to show, one after another."""
    empty = ViewerState()
    opened = ViewerState(scene=scene_facts, recent=(Path("city.yaml"), Path("old/scene.yaml")))
    metric = replace(scene_facts, epsg=26915, notices=("sampling is assumed to be box",))
    single = replace(
        scene_facts, division=(1, 1), present=(True,), n_codes=0, styles=(), metres_per_unit=None
    )
    shown = RenderStatus(finished=True, progress=1.0, frame_ms=34.0, width=64, height=48, ground=0.1)
    return [
        empty,
        opened,
        replace(
            opened, status=replace(shown, moving=True, fps=12.0, finished=False), appearance=Appearance.of(3)
        ),
        replace(
            opened, status=shown, render=replace(opened.render, mode=Mode.DEPTH, background=(0.1, 0.2, 0.3))
        ),
        replace(opened, scene=metric, selected_block=1, show_block_borders=True, theme=Theme.LIGHT),
        replace(opened, scene=single, opening="other.yaml"),
        replace(opened, edits=LAYERS, layer=1, selection=Selection(PRISM, "building"), dirty=True),
        replace(opened, edits=LAYERS, layer=3, job=JobStatus("Fitting", 0.3, 4.0), edits_shown=False),
        replace(
            opened, edits=LAYERS, layer=2, selection=Selection(PRISM, "copy", 1), job=JobStatus("Reading")
        ),
        replace(opened, edits=LAYERS[:1], layer=4),
        replace(opened, edits=LAYERS, layer=4),
        replace(opened, edits=LAYERS, layer=5, selection=Selection(Prism(PRISM.region))),
        empty,
    ]


@pytest.mark.parametrize("panel", [*PANELS, StatusBar], ids=lambda panel: panel.title)
def test_every_panel_shows_every_state(panel, widgets, states):
    made = panel(widgets, FakeHost())
    made.build(lambda command: None)
    for state in states:
        made.show(state)


def test_titles_are_unique():
    titles = [panel.title for panel in PANELS]
    assert len(set(titles)) == len(titles)


def test_the_menu_enables_what_can_be_done(widgets, states):
    program = Program(lambda: None, lambda: None, lambda: None)
    menu = MenuBar(widgets, FakeHost(), program)
    menu.build(lambda command: None)
    menu.show(states[0], "", "")
    assert not dpg.is_item_enabled(menu.items["Home"])
    assert not dpg.is_item_enabled(menu.items["Undo"])
    menu.show(states[1], "Orbit", "")
    assert dpg.is_item_enabled(menu.items["Home"])
    assert dpg.get_item_label(menu.items["Undo"]) == "Undo: orbit"


def test_a_slider_keeps_its_text_beside_it(widgets):
    with dpg.window():
        slider = widgets.slider(0, 10, "{:.1f} fps".format, lambda value: None)
    slider.show(4.0)
    assert dpg.get_item_label(slider.readout) == "4.0 fps"
    slider.show(4.0, "four")
    assert dpg.get_item_label(slider.readout) == "four"


def test_a_choice_marks_one_button_at_a_time(widgets):
    with dpg.window():
        choice = widgets.segmented([("a", "A", ""), ("b", "B", "")], lambda value: None)
    for value in ("a", "b", "a"):
        choice.show(value)
        marked = [
            key for key, item in choice.items.items() if dpg.get_item_theme(item) == widgets.look.themes["on"]
        ]
        assert marked == [value]


def test_words_without_room_end_in_an_ellipsis(widgets, monkeypatch):
    monkeypatch.setattr(widgets, "text_width", lambda words, _font: 10.0 * len(words))
    assert widgets.shortened("adaptive", 80) == "adaptive"
    assert widgets.shortened("adaptive ¼", 99) == "adaptive…"
    assert widgets.shortened("adaptive", 5) == "…"


def test_what_the_status_bar_cuts_off_is_in_its_hint(widgets, scene_facts, monkeypatch):
    monkeypatch.setattr(widgets, "text_width", lambda words, _font: 20.0 * len(words))
    host = FakeHost()
    monkeypatch.setattr(host.session.desk, "is_compiling", False)
    bar = StatusBar(widgets, host)
    bar.build(lambda command: None)
    why = "the kernels are being compiled"
    status = RenderStatus(moving=True, scale=0.25, adaptive=why, width=64, height=48)
    bar.show(ViewerState(scene=scene_facts, status=status))
    assert dpg.get_item_label(bar._quality).endswith("…")
    assert dpg.get_value(bar._quality_hint).startswith(f"adaptive ¼ · {why}\n")


@pytest.mark.parametrize(("lines", "height"), [(1, 60), (6, 153)])
def test_a_banner_has_the_height_of_its_text_from_the_beginning(widgets, monkeypatch, lines, height):
    viewport = Viewport(widgets, SimpleNamespace(texture=0), FakeHost())
    viewport.size = 700, 400
    with dpg.window():
        viewport._build_banner(lambda command: None)
    monkeypatch.setattr(widgets, "text_height", lambda _words, _wrap: 20 * lines)
    viewport._show_banner(Message("Saved"))
    assert dpg.is_item_shown(viewport._banner)
    assert dpg.get_item_height(viewport._banner) == height


def test_fields_leave_the_status_bar_in_their_order():
    assert fields_that_fit(10_000) == list(FIELDS)
    assert "Pitch" not in fields_that_fit(600)
    assert "E" in fields_that_fit(600)
    assert fields_that_fit(0) == []


def test_switching_the_theme_changes_every_colour_that_follows_it(widgets):
    look = widgets.look
    assert look.color("panel") == (0x16, 0x19, 0x1D, 255)
    look.light = True
    assert look.color("panel") == (0xF5, 0xF6, 0xF8, 255)
    assert look.color("accent@90")[3] == 90
    assert look.color("text", 7)[3] == 7


def test_both_themes_have_every_token():
    for name in TOKEN_NAMES:
        for tokens in (DARK, LIGHT):
            assert getattr(tokens, name).startswith("#")


def test_every_size_follows_the_scale():
    assert Look(1.5).px(24) == 36
    assert Look(1.0).px(24) == 24


def test_labels_hold_icon_and_text():
    assert icon("folder", "Open").endswith("Open")
    assert len(icon("folder")) == 1


def test_sizes_are_those_of_the_narrowest_rectangle_in_metres():
    units = Units(100.0)
    turned = Region.polygon(((0.0, 0.0), (0.3, 0.3), (0.2, 0.4), (-0.1, 0.1)))
    assert size_text(Prism(turned, 0.1, 0.25), units) == "42.4 × 14.1 × 15.0 m"
    assert area_text(Prism(turned), units) == "600.0 m²"
    assert [fact_of(layer, units) for layer in LAYERS[1:4]] == ["2 copies", "900.0 m²", "block 1"]


def test_a_building_of_another_scene_is_inserted_where_the_camera_looks(widgets, scene_facts):
    inserted = []
    source = Source(Path("other.th"), ((-2.0, -1.0, 0.0), (2.0, 1.0, 0.5)), 50.0)
    tools = SimpleNamespace(insert=lambda copied, point, state: inserted.append((copied, point)))
    form = InsertForm(widgets, SimpleNamespace(tools=tools), inserted.append)
    with dpg.window():
        form.build()
    state = ViewerState(scene_facts, pose=Pose((0.25, 0.5, 1.0), pitch=-math.pi / 2))
    form.show(state)
    form._adopt(source)
    form._insert()
    ((copied, point),) = inserted
    assert copied == Copied(Prism(Region.rectangle(-2, -1, 2, 1), 0.0, 0.5), Path("other.th"))
    assert point == pytest.approx((0.25, 0.5))
    form._insert()
    assert len(inserted) == 1, "the form is closed"
