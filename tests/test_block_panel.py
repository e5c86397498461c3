"""The Blocks panel while a field is streamed: what it draws when, and what clicks in it ask for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dearpygui.dearpygui", exc_type=ImportError)

import dearpygui.dearpygui as dpg

from landmark_viewer.core.edits.layers import Crop, Hide
from landmark_viewer.core.streaming.contracts import BlockKey, BlockState, FetchRecord
from landmark_viewer.viewer import commands
from landmark_viewer.viewer.block_map import BlockFacts, Kind
from landmark_viewer.viewer.panels import StatusBar
from landmark_viewer.viewer.panels.block_canvas import BlockCanvas, wrapped
from landmark_viewer.viewer.panels.blocks import BlocksPanel
from landmark_viewer.viewer.panels.scene import ScenePanel
from landmark_viewer.viewer.panels.stats import StatsPanel
from landmark_viewer.viewer.path_dialog import PathWish
from landmark_viewer.viewer.plan import block_footprint
from landmark_viewer.viewer.state import Pose, RenderStatus, ViewerState
from landmark_viewer.viewer.theme import Look
from landmark_viewer.viewer.widgets import Widgets

from .stream_statuses import city_of, status_of

WIDTH = 264
DISK, DEVICE, FAILED = BlockState.DISK, BlockState.DEVICE, BlockState.FAILED


class RecordingHost:
    """Notes what the panel asks for."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []
        self.asked: list[tuple[str, int]] = []
        self.wishes: list[PathWish] = []
        with dpg.texture_registry():
            self.texture = dpg.add_static_texture(1, 1, [1.0, 1.0, 1.0, 1.0])
        self.session = SimpleNamespace(
            state=ViewerState(),
            stream_status=None,
            fetch_records=(),
            desk=SimpleNamespace(is_compiling=False),
            evict_block=lambda block: self.asked.append(("evict", block)),
            reload_block=lambda block: self.asked.append(("reload", block)),
        )

    def map_picture(self, image: np.ndarray) -> tuple[int, tuple[float, float]]:
        self.pictures.append(image)
        return self.plan_picture()

    def plan_picture(self) -> tuple[int, tuple[float, float]]:
        return self.texture, (1.0, 1.0)

    def fly_to_block(self, block: int) -> None:
        self.asked.append(("fly", block))

    def choose_file(self, wish: PathWish) -> None:
        self.wishes.append(wish)

    def gesture(self, kind: str) -> str:
        return kind


class Bench:
    """A panel without a window, a pointer and what came of it."""

    def __init__(self, panel: type, state: ViewerState, monkeypatch: pytest.MonkeyPatch) -> None:
        dpg.create_context()
        look = Look(1.0)
        look.build_themes()
        self.host, self.state, self.submitted = RecordingHost(), state, []
        self.cursor = (0.0, 0.0)
        monkeypatch.setattr(BlocksPanel, "inner_width", WIDTH)
        monkeypatch.setattr(BlockCanvas, "cursor", property(lambda _: self.cursor))
        self.panel = panel(Widgets(look), self.host)
        self.panel.build(self.submit)

    def submit(self, command: commands.Command) -> None:
        self.submitted.append(command)
        self.state = command.apply(self.state)

    def show(self, status: object = None) -> None:
        if status is not None:
            self.host.session.stream_status = status
        self.host.session.state = self.state
        self.panel.show(self.state)

    def point_at(self, block: int) -> None:
        """Moves the pointer to the middle of a block."""
        x0, y0, x1, y1 = block_footprint(self.state.scene, block)
        self.cursor = self.panel.canvas.plan.to_plan((x0 + x1) / 2, (y0 + y1) / 2)


@pytest.fixture
def bench(scene_facts, monkeypatch):
    """A panel for a city of 100 x 100 blocks."""
    yield Bench(BlocksPanel, ViewerState(city_of(scene_facts, 100)), monkeypatch)
    dpg.destroy_context()


def city_status(**changes):
    """Returns a report of 10 000 blocks of which some are there and one has failed."""
    states = [DEVICE] * 100 + [DISK] * 9899 + [FAILED]
    return status_of(states, failures=((9999, "the file must be readable"),), **changes)


def texts(bench: Bench) -> list[str]:
    """Returns the words of all buttons and texts of the panel."""
    return [dpg.get_item_label(item) or "" for item in dpg.get_all_items()]


def test_ten_thousand_blocks_are_drawn_again_only_when_something_changed(bench):
    bench.show(city_status())
    assert len(bench.host.pictures) == 1
    n_items = len(dpg.get_all_items())
    assert n_items < 1000, "no item for each block"
    bench.show()
    bench.show(city_status())  # a new report that says the same
    assert len(bench.host.pictures) == 1
    bench.show(status_of([DEVICE] * 10_000))
    assert len(bench.host.pictures) == 2
    assert len(dpg.get_all_items()) <= n_items + 8
    assert not np.array_equal(bench.host.pictures[0], bench.host.pictures[1])


def test_wheel_and_drag_move_the_map_and_the_button_shows_all_again(bench, monkeypatch):
    bench.show(city_status())
    whole = bench.panel.canvas.plan
    bench.point_at(5050)
    bench.panel._is_hovered = True
    bench.panel._zoom(8)
    monkeypatch.setattr(dpg, "is_item_hovered", lambda item: False)
    bench.show()
    assert bench.panel.canvas.plan.per_unit > 5 * whole.per_unit
    assert bench.panel._block_under_cursor() == 5050
    assert len(bench.host.pictures) == 2
    held = {dpg.mvMouseButton_Right}
    monkeypatch.setattr(dpg, "is_mouse_button_down", lambda button: button in held)
    bench.panel._seize(0, None, dpg.mvMouseButton_Right)
    bench.cursor = bench.cursor[0] + 20, bench.cursor[1] - 10
    bench.show()
    assert bench.panel._block_under_cursor() == 5050, "it hangs on the pointer"
    held.clear()
    bench.show()
    assert not bench.submitted, "a drag opens no menu and selects nothing"
    bench.panel._show_all()
    assert bench.panel.canvas.plan == whole


def test_the_way_of_the_camera_is_drawn_to_where_it_will_be(bench):
    def ways() -> list[list[float]]:
        """Returns the last corner of each polyline in the layer of the view."""
        layer = bench.panel.canvas._layers["view"]
        lines = [item for item in dpg.get_item_children(layer, 2) if "Polyline" in dpg.get_item_type(item)]
        return [dpg.get_item_configuration(line)["points"][-1][:2] for line in lines[1:]]

    bench.show(city_status())
    assert ways() == []
    bench.show(city_status(target=(0.5, 0.25)))
    assert ways() == [pytest.approx(bench.panel.canvas.plan.to_plan(0.5, 0.25), abs=1e-3)] * 2
    here, bench.state = bench.state, replace(bench.state, pose=Pose((-0.5, -0.75, 1.0)))
    bench.host.session.state = bench.state
    bench.panel.show(here)  # a flight has begun
    assert ways() == [pytest.approx(bench.panel.canvas.plan.to_plan(-0.5, -0.75), abs=1e-3)] * 2


def test_a_click_selects_a_block_and_says_what_it_is(bench):
    bench.show(city_status())
    bench.point_at(9999)
    bench.panel._clicked()
    bench.show()
    assert bench.state.selected_block == 9999
    assert "Block 99, 99  ·  Failed" in texts(bench)
    bench.point_at(3)
    bench.panel._double_clicked()
    assert bench.host.asked == [("fly", 3)]


def test_the_menu_acts_on_its_block(bench, monkeypatch):
    status = city_status()
    bench.show(status)
    menu = bench.panel._menu
    monkeypatch.setattr(dpg, "get_mouse_pos", lambda local: (5, 5))
    menu.open(BlockFacts(42, (0, 42), Kind.EXACT), bench.state, True)
    entries = {dpg.get_item_label(item): item for item in dpg.get_item_children(menu._menu, 1)}

    def choose(label: str) -> None:
        dpg.get_item_callback(entries[label])()

    for label in ("Pin", "Evict", "Reload", "Isolate", "Hide", "Replace…", "Fly there", "Select area"):
        choose(label)
    assert bench.host.asked == [("evict", 42), ("reload", 42), ("fly", 42)]
    assert bench.state.pinned == {42}
    crop, hide = bench.state.edits
    assert (type(crop), type(hide)) == (Crop, Hide)
    x0, y0, x1, y1 = block_footprint(bench.state.scene, 42)
    assert crop.prism.region.bounds == pytest.approx((x0, y0, x1, y1))
    assert bench.state.selection.what == "block"
    assert not dpg.get_item_configuration(menu._items["failure"])["show"]
    wish = bench.host.wishes[0]
    wish.then(Path("/x/sub42_add.th"))
    bench.host.wishes[1].dropped()
    assert isinstance(bench.submitted[-1], commands.ReplaceBlockWith)
    assert bench.submitted[-1].block == 42


def test_a_failed_block_tells_why_and_is_tried_again(bench, monkeypatch):
    status = city_status()
    bench.show(status)
    monkeypatch.setattr(dpg, "get_mouse_pos", lambda local: (5, 5))
    bench.point_at(9999)
    bench.panel._open_menu(bench.state)
    menu = bench.panel._menu
    assert dpg.get_item_label(menu._items["reload"]) == "Try again"
    dpg.get_item_callback(menu._items["failure"])()
    assert bench.state.message.text == "Block 9999 failed: the file must be readable"


def test_pinned_blocks_are_marked_and_can_be_let_go(bench, monkeypatch):
    bench.state = replace(bench.state, pinned=frozenset({7}))
    bench.show(city_status())
    monkeypatch.setattr(dpg, "get_mouse_pos", lambda local: (5, 5))
    bench.point_at(7)
    bench.panel._open_menu(bench.state)
    menu = bench.panel._menu
    assert dpg.get_item_label(menu._items["pin"]) == "Unpin"
    dpg.get_item_callback(menu._items["pin"])()
    assert bench.state.pinned == frozenset()


def test_fetches_are_listed_newest_first(bench, monkeypatch):
    now = time.monotonic()
    records = tuple(FetchRecord(BlockKey(block), 30_000_000, 0.1, now) for block in range(300))
    bench.host.session.fetch_records = records
    bench.show(city_status(fetched_bytes=9_000_000_000, fetch_seconds=30.0))
    lines = dpg.get_value(bench.panel._log._list).splitlines()
    assert [int(line.split()[1]) for line in lines] == list(range(299, 199, -1))
    assert "9 GB  ·  mean 300 MB/s" in texts(bench)
    failed = FetchRecord(BlockKey(4), 0, 0.2, now, "the checksum must be 1, got 2")
    bench.host.session.fetch_records = (*records, failed)
    bench.panel._log._written -= 1.0
    bench.show()
    first = dpg.get_value(bench.panel._log._list).splitlines()[0]
    assert first.endswith("failed: the checksum must be 1, got 2")


def test_budgets_are_shown_and_the_program_may_choose_them(bench):
    bench.show(city_status(host_bytes=1_000_000_000, host_budget=4_000_000_000))
    section = bench.panel._memory_section
    assert dpg.get_value(section._device) == pytest.approx(2000)
    assert dpg.get_value(section._host_budget) == pytest.approx(4000)
    bench.submit(commands.SetMemoryDevice(3_000_000_000))
    bench.submit(commands.SetMemoryNeighbours(9))
    bench.show()
    assert dpg.get_value(section._device) == pytest.approx(3000)
    assert dpg.get_value(section._sizes) == "9 × 9 blocks"
    dpg.get_item_callback(section._sizes)(0, "5 × 5 blocks")
    assert bench.state.memory.neighbour_size == 5
    dpg.get_item_callback(section._sizes)(0, "What is in view")
    assert bench.state.memory.neighbour_size is None


def test_budgets_that_make_no_sense_are_refused_with_a_sentence(bench):
    before = bench.state.memory
    for command in (
        commands.SetMemoryDevice(1000),
        commands.SetMemoryHost(0),
        commands.SetMemoryNeighbours(4),
        commands.SetMemoryNeighbours(-1),
    ):
        after = command.apply(bench.state)
        assert after.memory == before
        assert "must be" in after.message.text
    assert commands.SetMemoryDetail(99.0).apply(bench.state).memory.detail == 16.0


@pytest.mark.parametrize(
    ("panel", "wanted"),
    [
        (StatusBar, "12 of 14 blocks  ·  1 failed"),
        (StatusBar, "3 blocks stay coarse: the memory budget is full"),
        (StatusBar, "1.9 of 2 GB"),
        (StatsPanel, "12 of 14 blocks"),
        (StatsPanel, "1 block"),
        (ScenePanel, "100 blocks  ·  1.9 GB"),
        (ScenePanel, "10 000  ·  100 × 100"),
    ],
)
def test_other_panels_say_what_streaming_does(panel, wanted, scene_facts, monkeypatch):
    shown = RenderStatus(finished=True, width=64, height=48, ground=0.1)
    bench = Bench(panel, ViewerState(city_of(scene_facts, 100), status=shown), monkeypatch)
    bench.show(city_status(n_beyond=3))
    words = texts(bench)
    dpg.destroy_context()
    assert wanted in words


def test_a_long_reason_is_broken_into_lines():
    assert wrapped("one two three", lambda words: len(words) <= 7) == ["one two", "three"]
    assert wrapped("abcdefghij k", lambda words: len(words) <= 4) == ["abcd", "efgh", "ij k"]
    assert wrapped("", lambda words: True) == [""]
