import math

import numpy as np
import pytest

from landmark_viewer.viewer.history import GestureKeys, History
from landmark_viewer.viewer.picking import Picked
from landmark_viewer.viewer.pointer import LEFT, MIDDLE, RIGHT, Pointer, drag_action
from landmark_viewer.viewer.shortcuts import Action
from landmark_viewer.viewer.state import Navigation, Pose, ViewerState

SIZE = (640, 360)
GROUND = 0.0
POSE = Pose((0.0, -1.0, 1.0), pitch=math.radians(-45), distance=math.sqrt(2))


@pytest.fixture
def state(scene_facts):
    return ViewerState(scene=scene_facts, pose=POSE)


def pick_ground(pose: Pose):
    """Returns a pick function that knows a flat ground seen from one pose."""

    def pick(at):
        camera = pose.camera(*SIZE)
        eye, direction = camera.ray(*at)
        depth = float((GROUND - eye[2]) / direction[2])
        return Picked(tuple(eye + depth * direction), depth, "ground")

    return pick


def dragged(state, button, start, path, shift=False, ctrl=False):
    """Returns the state after a drag, and the commands it gave."""
    pointer = Pointer(pick_ground(state.pose), GestureKeys())
    pointer.press(button, start, state, SIZE, shift, ctrl)
    commands = []
    for at in path:
        command = pointer.move(at, state, SIZE)
        if command is not None:
            commands.append(command)
            state = command.apply(state)
    pointer.release()
    return state, commands


@pytest.mark.parametrize(
    ("button", "mode", "shift", "ctrl", "action"),
    [
        (LEFT, Navigation.ORBIT, False, False, Action.ORBIT),
        (LEFT, Navigation.FLY, False, False, Action.TURN),
        (RIGHT, Navigation.FLY, False, False, Action.PAN),
        (MIDDLE, Navigation.FLY, False, False, Action.ORBIT),
        (MIDDLE, Navigation.ORBIT, True, False, Action.PAN_VIEW),
        (MIDDLE, Navigation.ORBIT, False, True, Action.ZOOM),
    ],
)
def test_button_mode_and_modifiers_decide_what_a_drag_does(button, mode, shift, ctrl, action):
    assert drag_action(button, mode, shift, ctrl) is action


def test_orbiting_keeps_the_pivot(state):
    after, commands = dragged(state, LEFT, (300.0, 200.0), [(330.0, 190.0), (400.0, 150.0)])
    assert len(commands) == 2
    np.testing.assert_allclose(after.pose.pivot, state.pose.pivot, atol=1e-9)
    assert after.pose.yaw != state.pose.yaw


def test_looking_around_keeps_the_eye(state):
    flying = ViewerState(scene=state.scene, pose=POSE, navigation=Navigation.FLY)
    after, _ = dragged(flying, LEFT, (300.0, 200.0), [(400.0, 150.0)])
    assert after.pose.eye == POSE.eye
    assert after.pose.yaw != POSE.yaw


def test_panning_keeps_the_grabbed_point_under_the_pointer(state):
    start, end = (200.0, 250.0), (431.0, 122.0)
    grabbed = pick_ground(POSE)(start).point
    after, _ = dragged(state, RIGHT, start, [(250.0, 240.0), (300.0, 300.0), end])
    column, row, depth = after.pose.camera(*SIZE).project(np.array(grabbed))
    assert depth > 0
    assert (column, row) == pytest.approx(end, abs=1e-6)


def test_panning_there_and_back_returns_exactly(state):
    start = (200.0, 250.0)
    after, _ = dragged(state, RIGHT, start, [(250.0, 240.0), (391.0, 17.0), start])
    np.testing.assert_allclose(after.pose.eye, POSE.eye, atol=1e-12)


def test_ctrl_drag_changes_the_lens_only(state):
    after, _ = dragged(state, MIDDLE, (200.0, 250.0), [(200.0, 170.0)], ctrl=True)
    assert after.pose.fov_y < POSE.fov_y
    assert after.pose.eye == POSE.eye


def test_a_pointer_that_stays_gives_no_command(state):
    _, commands = dragged(state, LEFT, (300.0, 200.0), [(300.0, 200.0)])
    assert commands == []


def test_a_drag_is_one_step_of_the_history_and_the_next_another(state):
    pointer, history = Pointer(pick_ground(POSE), GestureKeys()), History()
    for start in (100.0, 300.0):
        pointer.press(LEFT, (start, 100.0), state, SIZE, False, False)
        for step in range(1, 6):
            command = pointer.move((start + 7 * step, 100.0), state, SIZE)
            assert command is not None
            state = history.do(state, command)
        pointer.release()
    assert history.undo_label == "Orbit"
    middle = history.undo(state)
    first = history.undo(middle)
    assert first.pose == POSE
    assert middle.pose not in (POSE, state.pose)
    assert not history.can_undo


def test_a_second_button_does_not_take_a_drag_over(state):
    pointer = Pointer(pick_ground(POSE), GestureKeys())
    pointer.press(LEFT, (10.0, 10.0), state, SIZE, False, False)
    pointer.press(RIGHT, (10.0, 10.0), state, SIZE, False, False)
    assert pointer.drag is not None
    assert pointer.drag.button == LEFT


def test_the_wheel_moves_to_the_point_under_the_pointer(state):
    at = (450.0, 300.0)
    pointer = Pointer(pick_ground(POSE), GestureKeys())
    aim = np.array(pick_ground(POSE)(at).point)
    command = pointer.wheel(2, at, state, SIZE, 1.0)
    assert command is not None
    after = command.apply(state).pose
    assert np.linalg.norm(aim - after.eye) < np.linalg.norm(aim - np.array(POSE.eye))
    column, row, _ = after.camera(*SIZE).project(aim)
    assert (column, row) == pytest.approx(at, abs=1e-6)


def test_without_a_scene_nothing_moves():
    pointer = Pointer(pick_ground(POSE), GestureKeys())
    state = ViewerState(pose=POSE)
    pointer.press(LEFT, (10.0, 10.0), state, SIZE, False, False)
    assert pointer.drag is None
    assert pointer.wheel(1, (10.0, 10.0), state, SIZE, 0.0) is None


def test_focus_aims_at_the_point_under_the_pointer(state):
    pointer = Pointer(pick_ground(POSE), GestureKeys())
    after = pointer.focus((450.0, 300.0)).apply(state).pose
    np.testing.assert_allclose(after.pivot, pick_ground(POSE)((450.0, 300.0)).point, atol=1e-9)


def test_within_the_slop_a_press_is_no_drag(state):
    pointer = Pointer(pick_ground(POSE), GestureKeys())
    pointer.press(LEFT, (300.0, 200.0), state, SIZE, False, False, slop=4.0)
    assert pointer.move((302.0, 201.0), state, SIZE) is None
    drag = pointer.release()
    assert not drag.moved
    pointer.press(LEFT, (300.0, 200.0), state, SIZE, False, False, slop=4.0)
    assert pointer.move((305.0, 200.0), state, SIZE) is not None
    assert pointer.move((301.0, 200.0), state, SIZE) is not None
    assert pointer.release().moved
