"""Undo and redo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.edits.layers import Hide, Placement, Prism
from landmark_viewer.core.edits.region import Region
from landmark_viewer.viewer import commands
from landmark_viewer.viewer.history import PAUSE, GestureKeys, History, snapshot
from landmark_viewer.viewer.state import Mode, Pose, RenderStatus, Selection, ViewerState


def move(x: float, gesture: str = "", undo: str = "Orbit") -> commands.SetPose:
    return commands.SetPose(Pose((float(x), 0.0, 0.0)), gesture, undo)


@pytest.fixture
def state(scene_facts) -> ViewerState:
    return ViewerState(scene_facts)


def run(history: History, state: ViewerState, *todo: commands.Command) -> ViewerState:
    for command in todo:
        state = history.do(state, command)
    return state


def test_undo_takes_back_and_redo_brings_back(state):
    history = History()
    after = run(history, state, move(1), commands.SetMode(Mode.DEPTH))
    assert (history.undo_label, history.can_redo) == ("Render mode", False)
    back = history.undo(history.undo(after))
    assert back == state
    assert (history.can_undo, history.redo_label) == (False, "Orbit")
    assert history.redo(history.redo(back)) == after


def test_a_drag_is_one_step(state):
    history = History()
    after = run(history, state, *(move(x, "orbit-1") for x in range(1, 20)))
    assert history.undo(after) == state
    assert not history.can_undo


def test_two_drags_are_two_steps(state):
    history = History()
    after = run(
        history, state, move(1, "orbit-1"), move(2, "orbit-1"), move(3, "orbit-2"), move(4, "orbit-2")
    )
    middle = history.undo(after)
    assert middle.pose.eye[0] == 2
    assert history.undo(middle) == state


def test_a_gesture_that_was_ended_starts_a_new_step(state):
    history = History()
    middle = run(history, state, move(1, "slider"))
    history.end_gesture()
    assert history.undo(run(history, middle, move(2, "slider"))) == middle


def test_a_drag_that_goes_on_after_an_undo_is_a_new_step(state):
    history = History()
    back = history.undo(run(history, state, move(1, "orbit-1")))
    again = history.do(back, move(2, "orbit-1"))
    assert history.undo(again) == state


def test_status_and_messages_neither_count_nor_break_a_drag(state):
    history = History()
    report = commands.SetStatus(RenderStatus(progress=0.5))
    after = run(history, state, move(1, "orbit-1"), report, commands.ShowMessage("Hi"), move(2, "orbit-1"))
    back = history.undo(after)
    assert snapshot(back) == snapshot(state)
    assert back.message.text == "Hi"
    assert back.status.progress == 0.5
    assert not history.can_undo


def test_a_new_edit_drops_what_could_be_redone(state):
    history = History()
    history.do(history.undo(run(history, state, move(1))), move(2))
    assert not history.can_redo
    assert history.redo_label == ""


def test_a_command_that_changes_nothing_is_no_step_and_keeps_the_redo(state):
    history = History()
    back = history.undo(run(history, state, move(1)))
    history.do(back, commands.SetMode(back.render.mode))
    assert not history.can_undo
    assert history.can_redo


def test_nothing_to_undo_or_redo_is_no_error(state):
    history = History()
    assert history.undo(state) is state
    assert history.redo(state) is state


def test_another_scene_empties_the_history(state, scene_facts):
    history = History()
    after = run(
        history, state, move(1), move(2), commands.SceneOpened(replace(scene_facts, path=Path("b.yaml")))
    )
    assert not history.can_undo
    assert history.undo(after) is after


PRISM = Prism(Region.rectangle(0.0, 0.0, 0.5, 0.5), 0.0, 0.2)
SELECTION = Selection(PRISM, "building")
numbers = st.integers(-3, 3)
uids = st.integers(1, 4)
placements = st.builds(
    lambda x, turn: Placement((x / 4, 0.5, 0.0), turn), numbers, st.sampled_from([0.0, 30.0])
)
gestures = st.sampled_from(["", "orbit-1", "orbit-2", "slider"])
edits = st.one_of(
    st.sampled_from(
        [
            commands.AddLayer(Hide(prism=PRISM)),
            commands.SetSelection(SELECTION),
            commands.RemoveSelection(),
            commands.CropToSelection(),
            commands.InvertSelection(),
            commands.ClearSelection(),
            commands.RestyleSelection(Appearance.of(2)),
            commands.ToggleEdits(),
            commands.UnhideAll(),
        ]
    ),
    st.builds(commands.GrowSelection, st.sampled_from([-0.1, 0.1])),
    st.builds(commands.SetSelectionHeights, numbers, numbers, gestures),
    st.builds(commands.CopySelection, placements),
    st.builds(commands.MoveSelection, placements),
    st.builds(commands.SetPlacement, uids, st.integers(0, 1), placements, gestures),
    st.builds(commands.SetLayer, uids, st.just(Hide(name="other", prism=PRISM)), gestures),
    st.builds(commands.MoveLayer, uids, numbers),
    *(
        st.builds(kind, uids)
        for kind in (
            commands.RemoveLayer,
            commands.ToggleLayer,
            commands.LockLayer,
            commands.SelectLayer,
            commands.DuplicateLayer,
        )
    ),
)
anything = st.one_of(
    edits,
    st.builds(move, numbers, gestures),
    st.builds(commands.SetFov, st.sampled_from([20.0, 50.0, 70.0]), gestures),
    st.builds(commands.SetMode, st.sampled_from(Mode)),
    st.builds(commands.SetCode, st.integers(-1, 5), gestures),
    st.builds(commands.ShowMessage, st.just("Hi")),
    st.builds(commands.SelectBlock, st.integers(0, 3)),
    st.sampled_from(
        [commands.Home(), commands.TopDown(), commands.ToggleNavigation(), commands.ToggleHelp()]
    ),
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(anything, max_size=25))
def test_any_actions_undone_give_the_first_state_and_redone_the_last(state, todo):
    history = History()
    last = run(history, state, *todo)
    back, n_steps = last, 0
    while history.can_undo:
        back, n_steps = history.undo(back), n_steps + 1
    assert snapshot(back) == snapshot(state)
    assert n_steps <= len(todo)
    for _ in range(n_steps):
        back = history.redo(back)
    assert back == last
    assert not history.can_redo


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.one_of(anything, st.sampled_from(["undo", "redo", "undo layer", "redo layer"])), max_size=30)
)
def test_undo_and_redo_in_between_lose_nothing(state, todo):
    history = History()
    now = state
    for item in todo:
        if item == "undo":
            before, could = now, history.can_undo
            now = history.undo(now)
            if could:
                assert history.redo(now) == before
                now = history.undo(before)
        elif item == "redo":
            now = history.redo(now)
        elif item in ("undo layer", "redo layer"):
            for layer in now.edits[-1:]:
                now = (history.undo_layer if item == "undo layer" else history.redo_layer)(now, layer.uid)
        else:
            now = history.do(now, item)
    while history.can_undo:
        now = history.undo(now)
    assert snapshot(now) == snapshot(state)


def added(uid: int) -> commands.AddLayer:
    return commands.AddLayer(Hide(prism=PRISM, name=f"layer {uid}"))


def renamed(uid: int, name: str, gesture: str = "") -> commands.SetLayer:
    return commands.SetLayer(uid, Hide(prism=PRISM, name=name), gesture)


def layer_names(state: ViewerState) -> list[str]:
    return [layer.name for layer in state.edits]


def test_one_layer_is_undone_whatever_happened_to_others_since(state):
    history = History()
    now = run(history, state, added(1), added(2), renamed(1, "a"), renamed(1, "b"), renamed(2, "c"))
    now = history.undo_layer(now, 1)
    assert layer_names(now) == ["a", "c"]
    now = history.undo_layer(now, 1)
    assert layer_names(now) == ["layer 1", "c"]
    assert history.can_undo_layer(now, 1) == (False, True)
    assert history.undo_layer(now, 1) is now
    now = history.redo_layer(history.redo_layer(now, 1), 1)
    assert layer_names(now) == ["b", "c"]
    assert history.can_undo_layer(now, 1) == (True, False)
    assert layer_names(history.undo_layer(now, 2)) == ["b", "layer 2"]


def test_undoing_a_layer_is_a_step_that_can_be_undone(state):
    history = History()
    before = run(history, state, added(1), renamed(1, "a"))
    after = history.undo_layer(before, 1)
    assert history.undo_label == "Undo layer 1"
    back = history.undo(after)
    assert snapshot(back) == snapshot(before)
    assert history.can_undo_layer(back, 1) == (True, False)
    again = history.redo(back)
    assert snapshot(again) == snapshot(after)
    assert history.can_undo_layer(again, 1) == (False, True)


def test_a_change_after_undoing_a_layer_drops_what_could_be_redone_of_it(state):
    history = History()
    now = run(history, state, added(1), renamed(1, "a"), renamed(1, "b"))
    now = run(history, history.undo_layer(now, 1), renamed(1, "c"))
    assert history.can_undo_layer(now, 1) == (True, False)
    assert layer_names(history.undo_layer(now, 1)) == ["a"]


def test_a_drag_of_a_layer_is_one_of_its_versions(state):
    history = History()
    now = run(history, state, added(1), *(renamed(1, name, "drag-1") for name in "abc"))
    assert layer_names(history.undo_layer(now, 1)) == ["layer 1"]


def test_a_locked_layer_is_not_undone_and_locks_are_no_versions(state):
    history = History()
    now = run(history, state, added(1), renamed(1, "a"), commands.LockLayer(1))
    refused = history.undo_layer(now, 1)
    assert refused.edits == now.edits
    assert "locked" in refused.message.text
    free = run(history, refused, commands.LockLayer(1))
    assert layer_names(history.undo_layer(free, 1)) == ["layer 1"]


def test_a_deleted_layer_that_comes_back_by_undo_keeps_its_versions(state):
    history = History()
    now = run(history, state, added(1), renamed(1, "a"), commands.RemoveLayer(1))
    assert history.can_undo_layer(now, 1) == (True, False)  # as far as it goes, there is no such layer
    assert history.undo_layer(now, 1).edits == ()
    back = history.undo(now)
    assert layer_names(history.undo_layer(back, 1)) == ["layer 1"]


def test_gestures_get_a_key_per_drag_and_one_per_run_of_wheel_turns():
    keys = GestureKeys()
    assert keys.begin("orbit") != keys.begin("orbit")
    first = keys.running("wheel", 10.0)
    assert keys.running("wheel", 10.0 + PAUSE / 2) == first
    assert keys.running("wheel", 10.0 + PAUSE) == first
    assert keys.running("wheel", 10.0 + 3 * PAUSE) != first
    held = keys.running("fly", 12.0)
    keys.begin("orbit")
    assert keys.running("fly", 12.1) != held


def test_a_slider_that_is_held_still_and_moved_on_is_one_gesture_and_the_next_press_another():
    keys = GestureKeys()
    keys.hold(True, 10.0)
    first = keys.running("gain", 10.1)
    keys.hold(True, 10.0 + 20 * PAUSE)
    assert keys.running("gain", 10.1 + 20 * PAUSE) == first
    keys.hold(False, 10.2 + 20 * PAUSE)
    assert (
        keys.running("gain", 10.3 + 20 * PAUSE) == first
    )  # the callback of the last move comes a frame late
    keys.hold(True, 10.4 + 20 * PAUSE)
    assert keys.running("gain", 10.5 + 20 * PAUSE) != first
