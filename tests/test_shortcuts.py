"""The table of keys: complete, free of contradictions, and the same everywhere."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from landmark_viewer.viewer import commands, shortcuts
from landmark_viewer.viewer.shortcuts import (
    APP_ACTIONS,
    AXIS_OF,
    COMMAND_OF,
    SHORTCUTS,
    TOOL_ACTIONS,
    Action,
    Trigger,
    action_for,
    fly_axes,
    keys_of,
    markdown_table,
)
from landmark_viewer.viewer.state import Mode

README = Path(__file__).resolve().parents[1] / "README.md"


def test_no_key_and_no_gesture_is_given_twice():
    chords = Counter(chord for row in SHORTCUTS for chord in row.chords)
    gestures = Counter(gesture for row in SHORTCUTS for gesture in row.mouse)
    assert max(chords.values()) == max(gestures.values()) == 1


def test_no_action_has_two_rows_and_none_is_missing():
    assert Counter(row.action for row in SHORTCUTS) == Counter(Action)


def test_every_row_says_what_it_does_and_how():
    for row in SHORTCUTS:
        assert row.what
        assert row.keys


def test_every_pressed_action_is_a_command_or_the_programs_own():
    pressed = {row.action for row in SHORTCUTS if row.trigger is Trigger.PRESS}
    assert set(COMMAND_OF) | APP_ACTIONS | TOOL_ACTIONS == pressed
    assert len(COMMAND_OF) + len(APP_ACTIONS) + len(TOOL_ACTIONS) == len(pressed)


def test_every_held_action_is_an_axis_or_a_change_of_speed():
    held = {row.action for row in SHORTCUTS if row.trigger is Trigger.HOLD}
    assert held == set(AXIS_OF) | {Action.FAST, Action.SLOW}


def test_no_flying_key_is_also_a_plain_shortcut():
    assert not set(shortcuts.FLY_KEYS) & {
        chord.key for row in _pressed() for chord in row.chords if not chord.ctrl
    }


def _pressed() -> list[shortcuts.Shortcut]:
    return [row for row in SHORTCUTS if row.trigger is Trigger.PRESS]


@pytest.mark.parametrize(
    ("key", "ctrl", "shift", "action"),
    [
        ("V", False, False, Action.NAVIGATION),
        ("V", False, True, Action.NAVIGATION),  # Shift is held for speed
        ("Z", True, False, Action.UNDO),
        ("Z", True, True, Action.REDO),
        ("Y", True, False, Action.REDO),
        ("Z", False, False, None),
        ("O", False, False, None),
        ("O", True, False, Action.OPEN),
        ("NumPad7", False, False, Action.TOP_DOWN),
        ("F12", False, False, Action.SCREENSHOT),
        ("H", False, False, Action.HIDE),
        ("H", False, True, Action.UNHIDE),
        ("S", True, False, Action.SAVE),
        ("S", True, True, Action.SAVE_AS),
        ("S", False, False, None),
        ("V", True, False, Action.PASTE),
        ("Delete", False, False, Action.REMOVE),
        ("Escape", False, True, Action.DISMISS),
    ],
)
def test_a_key_with_its_modifiers_asks_for_an_action(key, ctrl, shift, action):
    assert action_for(key, ctrl, shift) is action


def test_the_function_keys_choose_the_modes_in_their_order():
    modes = [COMMAND_OF[action_for(f"F{number}")] for number in range(5, 11)]
    assert modes == [commands.SetMode(mode) for mode in Mode]


@pytest.mark.parametrize(
    ("down", "axes"),
    [
        ({"W"}, (0, 0, 1)),
        ({"S"}, (0, 0, -1)),
        ({"A"}, (-1, 0, 0)),
        ({"D", "W"}, (1, 0, 1)),
        ({"A", "D"}, (0, 0, 0)),
        ({"E", "Spacebar"}, (0, 1, 0)),
        ({"C"}, (0, -1, 0)),
        ({"X", "F5"}, (0, 0, 0)),
        (set(), (0, 0, 0)),
    ],
)
def test_held_keys_give_the_axes_of_the_flight(down, axes):
    assert fly_axes(down) == axes


def test_with_ctrl_the_letters_are_not_for_flying():
    assert fly_axes({"W", "S", "A"}, ctrl=True) == (0, 0, 0)


def test_keys_are_written_as_people_read_them():
    assert keys_of(Action.REDO) == "Ctrl+Shift+Z or Ctrl+Y"
    assert keys_of(Action.UP) == "E or Space"
    assert keys_of(Action.FOCUS) == "F or Double-click"


def test_key_names_are_constants_of_dear_pygui():
    dpg = pytest.importorskip("dearpygui.dearpygui")
    for key in (*shortcuts.PRESS_KEYS, *shortcuts.FLY_KEYS):
        assert hasattr(dpg, f"mvKey_{key}")


def test_the_readme_shows_this_table():
    text = README.read_text(encoding="utf-8")
    shown = text.partition("<!-- keys -->")[2].partition("<!-- /keys -->")[0]
    assert shown.strip() == markdown_table()
