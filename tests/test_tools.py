"""The tools: mouse and keys in, commands out, on a flat ground with a flat-roofed house."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from landmark_viewer.core.edits.layers import Copy, Placement, Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.edits.terrain import TerrainWindow
from landmark_viewer.core.measure import MeasureKind
from landmark_viewer.scenes.schema import FrameSpec
from landmark_viewer.viewer.commands import ShowMessage
from landmark_viewer.viewer.handles import Copied
from landmark_viewer.viewer.history import GestureKeys, History
from landmark_viewer.viewer.picking import Picked
from landmark_viewer.viewer.pointer import LEFT, RIGHT
from landmark_viewer.viewer.selector import Selector, standing_prism
from landmark_viewer.viewer.shortcuts import Action
from landmark_viewer.viewer.state import (
    Message,
    Pose,
    Selection,
    SelectMode,
    Snapping,
    Tool,
    ViewerState,
)
from landmark_viewer.viewer.tools import Sketch, Tools, mode_of

SIZE = (640, 480)
POSE = Pose((0.0, -1.2, 1.0), pitch=math.radians(-42), distance=1.5)
CAMERA = POSE.camera(*SIZE)
HOUSE = Prism(Region.rectangle(-0.2, -0.1, 0.2, 0.1), 0.1, 0.3)
GROUND = 0.1


@dataclass(frozen=True)
class Scale:
    rise: float = 0.2


class FlatTerrain:
    """A level ground with one house."""

    side = 0.05
    scale = Scale()
    bounds = (-1.0, -1.0, 1.0, 1.0)

    def ground_at(self, x: float, y: float) -> float:
        return GROUND

    def window(self, bounds) -> TerrainWindow:
        x0, y0, x1, y1 = bounds
        n_x, n_y = (max(1, round((high - low) / self.side)) for low, high in ((x0, x1), (y0, y1)))
        x, y = np.meshgrid(x0 + (np.arange(n_x) + 0.5) * self.side, y0 + (np.arange(n_y) + 0.5) * self.side)
        ground = np.full((n_y, n_x), GROUND, np.float32)
        house = HOUSE.region.contains(x, y)
        height = np.where(house, np.float32(0.28), ground)
        return TerrainWindow((x0, y0), self.side, height, ground, np.zeros((n_y, n_x, 1), np.float32), house)


def pick(at) -> Picked:
    """Returns what a pixel shows: the ground, else the sky."""
    eye, direction = CAMERA.ray(*at)
    reach = (GROUND - eye[2]) / direction[2] if direction[2] < 0 else 0.0
    if reach <= 0:
        return Picked(tuple(float(v) for v in eye + direction), 1.0, "pivot")
    return Picked(tuple(float(v) for v in eye + reach * direction), reach, "surface")


def pixel(x: float, y: float, z: float = GROUND) -> tuple[float, float]:
    """Returns where a point is seen."""
    column, row, _ = CAMERA.project(np.array([x, y, z]))
    return float(column), float(row)


class Hand:
    """Works the tools as the window does, and keeps the state."""

    def __init__(self, state: ViewerState) -> None:
        self.state, self.history, self.said = state, History(), []
        self.selector = Selector(lambda: None)
        self.selector.open(FlatTerrain())
        self.tools = Tools(pick, GestureKeys(), self.selector)
        self.tools.poll(state.scene)

    def do(self, commands) -> None:
        for command in commands or ():
            self.said.append(command)
            self.state = self.history.do(self.state, command)

    def wait(self) -> None:
        """Lets the terrain answer all that was asked."""
        answered = []
        self.selector._ask(lambda _: None, answered.append, answered.append)
        while not answered:
            self.do(self.tools.poll(self.state.scene))
            time.sleep(1e-3)
        self.do(self.tools.poll(self.state.scene))

    def drag(self, *path, shift: bool = False, ctrl: bool = False, button: int = LEFT) -> None:
        """Moves the pointer there, and drags it along a path."""
        self.tools.sketch(path[0], self.state, SIZE)
        self.wait()
        self.tools.press(button, path[0], self.state, SIZE, shift, ctrl)
        for at in path[1:]:
            self.do(self.tools.move(at, self.state, SIZE))
        self.do(self.tools.release(self.state, SIZE))
        self.wait()

    def click(self, *at: float, shift: bool = False, ctrl: bool = False) -> None:
        self.drag(pixel(*at), shift=shift, ctrl=ctrl)

    def key(self, action: Action, at=(320.0, 300.0)) -> None:
        self.do(self.tools.act(action, at, self.state, SIZE))
        self.wait()


@pytest.fixture
def hand(scene_facts, monkeypatch):
    def found(terrain, x, y):
        if not HOUSE.region.grown(0.051).contains(np.array(x), np.array(y)):
            from landmark_viewer.core.errors import InputError

            raise InputError("nothing rises there")
        return HOUSE

    monkeypatch.setattr("landmark_viewer.core.edits.select.select_building", found)
    return Hand(ViewerState(scene_facts, pose=POSE))


def test_a_click_with_the_building_tool_selects_what_stands_there(hand):
    hand.key(Action.SELECT_BUILDING)
    assert hand.state.tool is Tool.BUILDING
    hand.click(0.1, 0.0)
    assert hand.state.selection == Selection(HOUSE, "building")


def test_a_click_where_nothing_stands_says_so_and_selects_nothing(hand):
    hand.key(Action.SELECT_BUILDING)
    hand.click(0.6, 0.5)
    assert hand.state.selection is None
    assert hand.state.message == Message("Nothing rises there", "warn")


def test_a_click_at_the_sky_says_that_nothing_stands_there(hand):
    hand.key(Action.SELECT_BUILDING)
    hand.drag((320.0, -2000.0))
    assert hand.state.message.severity == "warn"


def test_a_drag_with_the_building_tool_still_moves_the_camera(hand):
    hand.key(Action.SELECT_BUILDING)
    hand.drag((300.0, 300.0), (320.0, 310.0), (340.0, 320.0))
    assert hand.state.pose != POSE
    assert hand.state.selection is None


def test_a_hand_that_trembles_still_clicks(hand):
    hand.key(Action.SELECT_BUILDING)
    column, row = pixel(0.1, 0.0)
    hand.drag((column, row), (column + 1, row - 2), (column, row - 1))
    assert hand.state.pose == POSE
    assert hand.state.selection is not None


def test_other_buttons_navigate_whatever_the_tool(hand):
    hand.key(Action.SELECT_RECTANGLE)
    hand.drag((300.0, 300.0), (360.0, 330.0), button=RIGHT)
    assert hand.state.pose != POSE


def test_pressing_the_key_of_a_tool_again_puts_it_away(hand):
    hand.key(Action.SELECT_POLYGON)
    hand.key(Action.SELECT_POLYGON)
    assert hand.state.tool is Tool.NAVIGATE


def test_a_click_on_a_copy_selects_it_and_its_layer(hand):
    layer = Copy(uid=4, prism=HOUSE, placements=(Placement((5.0, 0, 0)), Placement((0.6, 0.3, 0.0))))
    hand.state = replace(hand.state, edits=(layer,))
    hand.key(Action.SELECT_BUILDING)
    hand.click(0.6, 0.3)
    assert hand.state.layer == 4
    assert hand.state.selection.placement == 1


def test_a_drag_selects_a_rectangle_on_the_ground_with_what_stands_in_it(hand):
    hand.key(Action.SELECT_RECTANGLE)
    hand.drag(pixel(-0.4, -0.3), pixel(0.0, 0.0), pixel(0.5, 0.3))
    prism = hand.state.selection.prism
    assert prism.region.bounds == pytest.approx((-0.4, -0.3, 0.5, 0.3))
    assert prism.low == pytest.approx(GROUND)
    assert prism.high == pytest.approx(0.28 + 0.05)
    assert hand.state.pose == POSE


def test_shift_adds_to_the_selection_and_ctrl_takes_away(hand):
    hand.key(Action.SELECT_RECTANGLE)
    hand.drag(pixel(-0.4, -0.3), pixel(0.4, 0.3))
    whole = hand.state.selection.prism.region.area
    hand.drag(pixel(0.0, -0.3), pixel(0.4, 0.3), ctrl=True)
    assert hand.state.selection.prism.region.area == pytest.approx(whole / 2)
    hand.drag(pixel(0.0, -0.3), pixel(0.4, 0.3), shift=True)
    assert hand.state.selection.prism.region.area == pytest.approx(whole)


def test_clicks_and_enter_select_a_polygon_in_one_step_of_the_history(hand):
    hand.key(Action.SELECT_POLYGON)
    for corner in ((-0.4, -0.3), (0.4, -0.3), (0.9, 0.9)):
        hand.click(*corner)
    hand.key(Action.TAKE_BACK)
    hand.click(0.4, 0.3)
    assert len(hand.state.draft) == 3
    hand.key(Action.CONFIRM)
    assert hand.state.draft == ()
    assert hand.state.selection.prism.region.area == pytest.approx(0.24)
    hand.state = hand.history.undo(hand.state)
    assert (len(hand.state.draft), hand.state.selection) == (3, None)


def test_a_click_on_the_first_corner_closes_the_polygon(hand):
    hand.key(Action.SELECT_POLYGON)
    for corner in ((-0.4, -0.3), (0.4, -0.3), (0.4, 0.3), (-0.4, -0.3)):
        hand.click(*corner)
    assert hand.state.draft == ()
    assert hand.state.selection.prism.region.n_vertices == 3


def test_corners_on_a_line_are_no_polygon_and_stay(hand):
    hand.key(Action.SELECT_POLYGON)
    for corner in ((-0.4, 0.0), (0.0, 0.0)):
        hand.click(*corner)
    hand.key(Action.CONFIRM)
    assert len(hand.state.draft) == 2
    assert "three" in hand.state.message.text


def test_corners_snap_to_the_grid(hand):
    hand.state = replace(hand.state, snapping=Snapping(grid=0.25))
    hand.key(Action.SELECT_POLYGON)
    hand.click(0.22, -0.04)
    assert hand.state.draft[0][:2] == (0.25, 0.0)


def test_another_tool_begins_with_corners_of_its_own(hand):
    hand.key(Action.SELECT_POLYGON)
    hand.click(0.1, 0.1)
    hand.key(Action.MEASURE)
    assert (hand.state.tool, hand.state.draft) == (Tool.DISTANCE, ())


def test_two_points_complete_a_distance(hand):
    done = []
    hand.tools.measured = lambda kind, points: done.append((kind, points))
    hand.key(Action.MEASURE)
    hand.click(0.0, 0.0)
    hand.click(0.0, 0.0)
    hand.click(0.3, 0.0)
    assert [kind for kind, _ in done] == [MeasureKind.DISTANCE]
    assert math.dist(*done[0][1]) == pytest.approx(0.3)
    hand.click(0.1, 0.1)
    assert len(hand.state.draft) == 1


def test_a_line_of_any_length_is_measured_when_it_is_confirmed(hand):
    hand.state = replace(hand.state, tool=Tool.POLYLINE)
    for corner in ((0.0, 0.0), (0.3, 0.0), (0.3, 0.4)):
        hand.click(*corner)
    hand.key(Action.CONFIRM)
    assert hand.state.measurements[0].kind is MeasureKind.POLYLINE
    assert len(hand.state.measurements[0].points) == 3
    assert hand.state.draft == ()


def test_escape_drops_the_draft_then_the_tool_then_the_selection(hand):
    hand.state = replace(hand.state, selection=Selection(HOUSE))
    hand.key(Action.SELECT_POLYGON)
    hand.click(0.7, 0.5)
    for draft, tool, selected in (
        (0, Tool.POLYGON, True),
        (0, Tool.NAVIGATE, True),
        (0, Tool.NAVIGATE, False),
    ):
        hand.key(Action.DISMISS)
        assert (len(hand.state.draft), hand.state.tool) == (draft, tool)
        assert (hand.state.selection is not None) is selected
    assert hand.tools.act(Action.DISMISS, (0, 0), hand.state, SIZE) is None


def test_escape_belongs_to_errors_and_help_first(hand):
    hand.state = replace(hand.state, tool=Tool.POLYGON, help_shown=True)
    assert hand.tools.act(Action.DISMISS, (0, 0), hand.state, SIZE) is None


def test_a_corner_is_dragged_in_one_step_of_the_history(hand):
    hand.state = replace(hand.state, selection=Selection(HOUSE))
    hand.drag(pixel(0.2, 0.1), pixel(0.3, 0.2), pixel(0.4, 0.25), pixel(0.5, 0.3))
    corners = hand.state.selection.prism.region.polygons[0][0]
    assert any(math.dist(corner, (0.5, 0.3)) < 1e-6 for corner in corners)
    hand.state = hand.history.undo(hand.state)
    assert hand.state.selection.prism == HOUSE
    assert not hand.history.can_undo


def test_the_prism_of_a_selected_layer_has_handles_too(hand):
    hand.state = replace(hand.state, edits=(Remove(uid=2, prism=HOUSE),), layer=2)
    hand.drag(pixel(0.2, 0.1), pixel(0.5, 0.3))
    assert hand.state.edits[0].prism.region.area > HOUSE.region.area
    assert hand.state.edits[0].uid == 2


def test_a_copy_is_dragged_over_the_ground_in_one_step(hand):
    layer = Copy(uid=2, prism=HOUSE, placements=(Placement((0.5, 0.3, GROUND)),))
    hand.state = replace(hand.state, edits=(layer,), layer=2)
    hand.drag(pixel(0.5, 0.3), pixel(0.4, 0.2), pixel(0.3, -0.2))
    assert hand.state.edits[0].placements[0].position == pytest.approx((0.3, -0.2, GROUND))
    hand.state = hand.history.undo(hand.state)
    assert hand.state.edits == (layer,)


def test_copy_and_paste_put_the_building_on_the_ground_under_the_pointer(hand):
    hand.state = replace(hand.state, selection=Selection(HOUSE))
    hand.key(Action.COPY)
    hand.key(Action.PASTE, pixel(0.6, 0.4))
    assert hand.state.edits[0].placements[0].position == pytest.approx((0.6, 0.4, GROUND))


def test_pasting_what_is_not_selected_any_more_is_one_step(hand):
    hand.state = replace(hand.state, selection=Selection(HOUSE))
    hand.key(Action.COPY)
    other = Selection(Prism(Region.rectangle(0.5, 0.5, 0.9, 0.9)))
    before = hand.state = replace(hand.state, selection=other)
    hand.key(Action.PASTE, pixel(0.6, 0.4))
    assert hand.state.edits[0].prism == HOUSE
    after = hand.history.undo(hand.state)
    assert (after.edits, after.selection) == ((), before.selection)


def test_what_a_selected_layer_copies_is_copied_and_placed_again_from_the_scene_it_stands_in(hand):
    places = (Placement((1.0, 0.0, GROUND)), Placement((0.0, 1.0, GROUND)))
    layer = Copy(uid=1, prism=HOUSE, placements=places, source=Path("other.yaml"))
    hand.state = replace(hand.state, edits=(layer,), layer=1, last_uid=1)
    hand.key(Action.COPY)
    hand.state = replace(hand.state, layer=None)
    hand.key(Action.PASTE, pixel(0.6, 0.4))
    assert (hand.state.edits[1].prism, hand.state.edits[1].source) == (HOUSE, layer.source)
    hand.state = replace(hand.state, layer=1, selection=None, tool=Tool.PLACE)
    assert hand.tools.sketch(pixel(0.6, 0.4), hand.state, SIZE).ghost is not None
    hand.click(0.6, 0.4)
    assert len(hand.state.edits[0].placements) == 3


def test_pasting_what_was_not_copied_says_so(hand):
    hand.key(Action.PASTE)
    assert isinstance(hand.said[-1], ShowMessage)
    assert hand.state.edits == ()


def test_the_place_tool_puts_copies_where_it_clicks_and_shows_the_ghost_before(hand):
    hand.state = replace(hand.state, selection=Selection(HOUSE), tool=Tool.PLACE, snapping=Snapping(grid=0.5))
    ghost = hand.tools.sketch(pixel(0.6, 0.4), hand.state, SIZE).ghost
    assert ghost.anchor[:2] == pytest.approx((0.5, 0.5))
    hand.click(0.6, 0.4)
    hand.click(-0.6, 0.4)
    assert [p.position[0] for p in hand.state.edits[0].placements] == [0.5, -0.5]


def test_what_is_inserted_from_another_scene_stands_on_the_ground(hand):
    hand.tools.insert(Copied(HOUSE, Path("other.yaml")), (0.6, 0.4), hand.state)
    hand.wait()
    (layer,) = hand.state.edits
    assert (layer.prism, layer.source) == (HOUSE, Path("other.yaml"))
    assert layer.placements[0].position == pytest.approx((0.6, 0.4, GROUND))


def test_a_duplicate_stands_beside_its_original(hand):
    hand.state = replace(hand.state, selection=Selection(HOUSE))
    hand.key(Action.DUPLICATE)
    x, y, z = hand.state.edits[0].placements[0].position
    assert x > 0.4
    assert (y, z) == pytest.approx((0.0, GROUND))


def test_a_duplicate_of_a_placed_copy_is_turned_and_scaled_like_it(hand):
    placed = Placement((0.0, 0.0, GROUND), heading=30.0, scale=0.5)
    layer = Copy(uid=1, prism=HOUSE, placements=(placed,))
    hand.state = replace(hand.state, edits=(layer,), layer=1, last_uid=1)
    hand.key(Action.DUPLICATE)
    _, other = hand.state.edits[0].placements
    assert (other.heading, other.scale) == (30.0, 0.5)
    assert other.position[0] > 0.2


def test_places_on_the_plan_map_work_like_places_in_the_picture(hand):
    hand.state = replace(hand.state, tool=Tool.POLYGON)
    for corner in ((-0.4, -0.3), (0.4, -0.3), (0.4, 0.3)):
        hand.do(hand.tools.click_ground(corner, hand.state, False, False))
    assert [corner[:2] for corner in hand.state.draft] == [(-0.4, -0.3), (0.4, -0.3), (0.4, 0.3)]
    hand.tools.drag_ground((-0.5, -0.5), (0.5, 0.5), False, False)
    hand.wait()
    assert hand.state.selection.prism.region.area == pytest.approx(1.0)


def test_another_scene_forgets_what_was_copied_and_asked(hand, scene_facts):
    hand.state = replace(hand.state, selection=Selection(HOUSE))
    hand.key(Action.COPY)
    hand.state = replace(hand.state, scene=replace(scene_facts, name="Other"), selection=None)
    hand.wait()
    hand.key(Action.PASTE)
    assert hand.state.edits == ()


def test_a_click_in_a_footprint_of_a_file_selects_its_outline(hand, tmp_path):
    ring = [[-30, -20], [30, -20], [30, 20], [-30, 20], [-30, -20]]
    feature = {
        "type": "Feature",
        "properties": {"height": 12.0},
        "geometry": {"type": "Polygon", "coordinates": [ring]},
    }
    path = tmp_path / "town.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    hand.do(hand.tools.read_footprints(path, FrameSpec(metres_per_unit=100.0)))
    hand.click(0.25, 0.15)
    selection = hand.state.selection
    assert selection.what == "footprint"
    assert selection.prism.region.bounds == pytest.approx((-0.3, -0.2, 0.3, 0.2))
    assert selection.prism.high - selection.prism.low == pytest.approx(0.12)
    path.write_text("[]")
    hand.do(hand.tools.read_footprints(path, FrameSpec()))
    assert hand.state.message.severity == "error"
    assert len(hand.tools.footprints) == 1


def test_without_a_scene_the_tools_do_nothing():
    hand = Hand(ViewerState())
    hand.tools.press(LEFT, (10.0, 10.0), hand.state, SIZE, False, False)
    assert hand.tools.button is None
    assert hand.tools.act(Action.SELECT_BUILDING, (0, 0), hand.state, SIZE) is None
    assert hand.tools.sketch((10.0, 10.0), hand.state, SIZE) == Sketch()


def test_modifiers_say_what_happens_to_the_selection():
    assert mode_of(False, False) is SelectMode.REPLACE
    assert mode_of(True, False) is SelectMode.ADD
    assert mode_of(False, True) is SelectMode.SUBTRACT


def test_a_region_narrower_than_a_cell_still_has_a_height():
    prism = standing_prism(FlatTerrain(), Region.rectangle(0.0, 0.0, 0.001, 0.001))
    assert prism.low == pytest.approx(GROUND)
    assert prism.high > prism.low


def test_a_question_that_fails_is_answered_with_a_sentence(caplog):
    selector, failures = Selector(lambda: None), []

    class Broken(FlatTerrain):
        def window(self, bounds):
            raise RuntimeError("no tile")

    selector.open(Broken())
    selector.standing(HOUSE.region, failures.append, failures.append)
    while not failures:
        selector.poll()
    assert failures == ["That did not work: no tile"]


def test_the_ground_is_guessed_until_the_terrain_has_answered():
    selector = Selector(lambda: None)
    selector.open(FlatTerrain())
    first = selector.ground(0.3, 0.3, 7.0)
    assert first == 7.0
    while not selector.poll():
        time.sleep(1e-3)
    assert selector.ground(0.3, 0.3, 7.0) == GROUND
