"""What the commands on layers and selections make of a state, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

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
from landmark_viewer.viewer import commands
from landmark_viewer.viewer.state import Selection, SelectMode, ViewerState

SHED = Prism(Region.rectangle(0.1, 0.1, 0.3, 0.2), 0.0, 0.1)
HALL = Prism(Region.rectangle(-0.5, -0.5, -0.2, -0.1), 0.05, 0.3)
THERE, FARTHER = Placement((0.6, 0.6, 0.0)), Placement((0.7, 0.1, 0.02), 45.0, 1.5)


@pytest.fixture
def state(scene_facts) -> ViewerState:
    """The shed is selected, nothing is edited."""
    return ViewerState(scene_facts, selection=Selection(SHED, "building"))


def run(state: ViewerState, *todo: commands.Command) -> ViewerState:
    for command in todo:
        state = command.apply(state)
    return state


def names(state: ViewerState) -> list[str]:
    return [layer.name for layer in state.edits]


class TestLayers:
    def test_a_new_layer_is_on_top_with_a_number_and_a_name_of_its_own_and_selected(self, state):
        after = run(state, commands.AddLayer(Hide(prism=SHED)), commands.AddLayer(Hide(prism=HALL)))
        assert [layer.uid for layer in after.edits] == [1, 2]
        assert names(after) == ["Hide", "Hide 2"]
        assert after.layer == 2

    def test_a_number_is_not_given_twice(self, state):
        after = run(state, commands.AddLayer(Hide(prism=SHED)), commands.RemoveLayer(1))
        assert run(after, commands.AddLayer(Hide(prism=SHED))).edits[0].uid == 2

    def test_deleting_the_selected_layer_selects_none(self, state):
        both = run(state, commands.AddLayer(Hide(prism=SHED)), commands.AddLayer(Hide(prism=HALL)))
        assert run(both, commands.RemoveLayer(2)).layer is None
        assert run(both, commands.RemoveLayer(1)).layer == 2

    @pytest.mark.parametrize(
        "command",
        [
            commands.RemoveLayer(1),
            commands.SetLayer(1, Copy(prism=HALL)),
            commands.ToggleLayer(1),
            commands.MoveLayer(1, 1),
            commands.AddPlacement(1, THERE),
            commands.SetPlacement(1, 0, FARTHER),
            commands.RemovePlacement(1, 0),
        ],
        ids=lambda command: type(command).__name__,
    )
    def test_a_locked_layer_is_left_alone_and_the_user_is_told(self, state, command):
        layers = Copy(1, "Shed", locked=True, prism=SHED, placements=(THERE,)), Hide(2, "Hide", prism=HALL)
        locked = replace(state, edits=layers, last_uid=2)
        after = command.apply(locked)
        assert after.edits == layers
        assert after.message.text == "Shed is locked; unlock it first"
        assert run(locked, commands.LockLayer(1), command).edits != layers

    @pytest.mark.parametrize("command", [commands.RemoveLayer(7), commands.ToggleLayer(7)])
    def test_a_layer_that_is_gone_is_a_message(self, state, command):
        assert "no such layer" in command.apply(state).message.text

    def test_moving_a_layer_changes_the_order_and_nothing_else(self, state):
        three = run(state, *(commands.AddLayer(Hide(name=name, prism=SHED)) for name in "abc"))
        assert names(run(three, commands.MoveLayer(1, 1))) == ["b", "a", "c"]
        assert names(run(three, commands.MoveLayer(1, 99))) == ["b", "c", "a"]
        assert names(run(three, commands.MoveLayer(3, -1))) == ["c", "a", "b"]

    def test_a_duplicate_stands_right_above_and_is_unlocked(self, state):
        layers = Hide(1, "Hide", locked=True, prism=SHED), Hide(2, "Top", prism=HALL)
        after = run(replace(state, edits=layers, last_uid=2), commands.DuplicateLayer(1))
        assert names(after) == ["Hide", "Hide 2", "Top"]
        assert (after.edits[1].uid, after.edits[1].locked, after.layer) == (3, False, 3)

    def test_unhiding_takes_only_unlocked_hidden_layers_away(self, state):
        layers = Hide(1, prism=SHED), Hide(2, locked=True, prism=SHED), Remove(3, prism=SHED)
        after = run(replace(state, edits=layers, layer=1), commands.UnhideAll())
        assert [layer.uid for layer in after.edits] == [2, 3]
        assert after.layer is None
        assert "Nothing is hidden" in run(after, commands.UnhideAll()).message.text

    def test_replacing_a_block_that_does_not_exist_is_refused(self, state):
        after = run(state, commands.ReplaceBlockWith(4, Path("sub4_add.th")))
        assert after.edits == ()
        assert after.message.text == "The block must be from 0 to 3, got 4"
        done = run(state, commands.ReplaceBlockWith(3, Path("sub3_add.th"), Path("alpha_volume_3.npy")))
        expected = ReplaceBlock(1, "Replace block", block=3, checkpoint=Path("sub3_add.th"))
        assert done.edits == (replace(expected, mask=Path("alpha_volume_3.npy")),)


class TestActingOnTheSelection:
    @pytest.mark.parametrize(
        ("command", "layer"),
        [
            (commands.RemoveSelection(), Remove(prism=SHED)),
            (commands.HideSelection(), Hide(prism=SHED)),
            (commands.IsolateSelection(), Crop(prism=SHED)),
            (commands.CropToSelection(), Crop(prism=Prism(SHED.region))),
            (
                commands.RestyleSelection(Appearance.of(3)),
                Restyle(prism=SHED, appearance=Appearance.of(3)),
            ),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_a_layer_is_made_of_it_once(self, state, command, layer):
        hidden = replace(state, edits_shown=False)
        after = command.apply(hidden)
        assert replace(after.edits[0], uid=0, name="") == layer
        assert (after.selection, after.layer, after.edits_shown) == (None, 1, True)
        again = command.apply(replace(after, selection=state.selection))
        assert again.edits == after.edits
        assert again.message.text.endswith("does that already")

    @pytest.mark.parametrize(
        "command",
        [
            commands.RemoveSelection(),
            commands.CropToSelection(),
            commands.CopySelection(THERE),
            commands.MoveSelection(THERE),
            commands.GrowSelection(0.1),
            commands.SetSelectionHeights(0.0, 1.0),
        ],
        ids=lambda command: type(command).__name__,
    )
    def test_nothing_selected_is_a_message(self, state, command):
        after = command.apply(replace(state, selection=None))
        assert after.edits == ()
        assert after.message.text == "Select a building or an area first"

    def test_copies_of_the_same_go_into_one_layer_and_the_newest_is_selected(self, state):
        after = run(state, commands.CopySelection(THERE), commands.CopySelection(FARTHER))
        assert [layer.placements for layer in after.edits] == [(THERE, FARTHER)]
        assert after.selection == Selection(SHED, "copy", 1)
        other = run(after, commands.SetSelection(Selection(HALL)), commands.CopySelection(THERE))
        assert [layer.prism for layer in other.edits] == [SHED, HALL]

    def test_what_a_layer_removed_can_be_copied_without_selecting_it_again(self, state):
        after = run(state, commands.RemoveSelection(), commands.CopySelection(THERE))
        assert [type(layer) for layer in after.edits] == [Remove, Copy]
        assert after.edits[1].prism == SHED

    def test_removing_a_selected_copy_takes_the_copy_away_and_the_layer_with_its_last(self, state):
        two = run(state, commands.CopySelection(THERE), commands.CopySelection(FARTHER))
        one = run(two, commands.RemoveSelection())
        assert (one.edits[0].placements, one.selection) == ((THERE,), None)
        assert run(one, commands.SelectPlacement(1, 0), commands.RemoveSelection()).edits == ()

    def test_moving_removes_here_and_copies_there_in_one_command(self, state):
        after = run(state, commands.MoveSelection(THERE))
        assert [type(layer) for layer in after.edits] == [Remove, Copy]
        assert (after.edits[0].prism, after.edits[1].placements) == (SHED, (THERE,))
        assert run(after, commands.MoveSelection(FARTHER)).edits[1].placements == (FARTHER,)

    def test_a_selected_copy_is_restyled_where_it_stands(self, state):
        after = run(state, commands.CopySelection(THERE), commands.RestyleSelection(Appearance.of(3)))
        prism = after.edits[1].prism
        assert prism.region.center == pytest.approx(THERE.position[:2])
        assert (prism.low, prism.high) == pytest.approx((0.0, 0.1))

    @pytest.mark.parametrize(
        "wrong", [Placement((math.nan, 0.0, 0.0)), Placement((0.0, 0.0, 0.0), scale=0.0)]
    )
    def test_a_copy_needs_finite_numbers_and_a_size(self, state, wrong):
        for command in (commands.CopySelection(wrong), commands.MoveSelection(wrong)):
            assert command.apply(state).edits == ()
        placed = run(state, commands.CopySelection(THERE))
        for command in (commands.AddPlacement(1, wrong), commands.SetPlacement(1, 0, wrong)):
            after = command.apply(placed)
            assert after.edits == placed.edits
            assert after.message.severity == "warn"

    def test_only_copies_have_placements(self, state):
        after = run(state, commands.RemoveSelection(), commands.AddPlacement(1, THERE))
        assert "Only a layer of copies" in after.message.text


class TestSelecting:
    def test_adding_joins_and_subtracting_cuts(self, state):
        near = Prism(Region.rectangle(0.2, 0.1, 0.4, 0.2), -0.1, 0.4)
        joined = run(state, commands.SetSelection(Selection(near), SelectMode.ADD)).selection
        assert joined.prism.region.area == pytest.approx(0.3 * 0.1)
        assert (joined.prism.low, joined.prism.high, joined.what) == (-0.1, 0.4, "area")
        cut = run(state, commands.SetSelection(Selection(near), SelectMode.SUBTRACT)).selection
        assert cut.prism.region.area == pytest.approx(0.1 * 0.1)
        assert (cut.prism.low, cut.prism.high, cut.what) == (0.0, 0.1, "building")

    def test_adding_to_nothing_selects_and_subtracting_all_deselects(self, state):
        nothing = replace(state, selection=None)
        command = commands.SetSelection(Selection(SHED), SelectMode.ADD)
        assert command.apply(nothing).selection == Selection(SHED)
        taken = commands.SetSelection(Selection(SHED), SelectMode.SUBTRACT)
        assert taken.apply(state).selection is None
        assert taken.apply(nothing).message is not None

    def test_inverting_gives_the_rest_of_the_box_and_twice_the_same_area(self, state):
        once = run(state, commands.InvertSelection())
        assert once.selection.prism.region.area == pytest.approx(4 - SHED.region.area)
        assert math.isinf(once.selection.prism.high)
        twice = run(once, commands.InvertSelection())
        assert twice.selection.prism.region.area == pytest.approx(SHED.region.area)
        everything = run(replace(state, selection=None), commands.InvertSelection())
        assert everything.selection.prism.region.area == pytest.approx(4)

    def test_growing_moves_the_rim_and_shrinking_too_far_is_refused(self, state):
        grown = run(state, commands.GrowSelection(0.05)).selection
        assert grown.prism.region.bounds == pytest.approx((0.05, 0.05, 0.35, 0.25))
        assert run(state, commands.GrowSelection(-0.2)).selection == state.selection

    @pytest.mark.parametrize(("low", "high"), [(0.2, 0.1), (0.1, 0.1), (math.nan, 0.1)])
    def test_a_roof_below_the_ground_is_refused(self, state, low, high):
        after = run(state, commands.SetSelectionHeights(low, high))
        assert after.selection == state.selection
        assert after.message.severity == "warn"

    def test_heights_may_be_without_limit(self, state):
        after = run(state, commands.SetSelectionHeights(-math.inf, 0.2))
        assert (after.selection.prism.low, after.selection.prism.high) == (-math.inf, 0.2)

    def test_the_area_of_a_block_is_selected(self, state):
        after = run(state, commands.SelectBlockArea(3))
        assert after.selection.prism.region.bounds == pytest.approx((0, 0, 1, 1))
        assert after.selection.what == "block"
        assert run(state, commands.SelectBlockArea(9)).selection == state.selection

    def test_selecting_a_layer_or_a_copy_replaces_the_selection(self, state):
        placed = run(state, commands.CopySelection(THERE))
        assert run(placed, commands.SelectLayer(1)).selection is None
        assert run(placed, commands.SelectLayer(9)).layer is None
        assert run(placed, commands.SelectPlacement(1, 0)).selection == Selection(SHED, "copy", 0)
        assert run(placed, commands.SelectPlacement(1, 5)).selection is None
