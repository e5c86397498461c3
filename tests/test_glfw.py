"""What Dear PyGui is told of keys, by a GLFW that only keeps the callback."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from landmark_viewer.viewer import glfw

RELEASED, PRESSED, REPEATED, CONTROL, SHIFT = 0, 1, 2, 2, 1
A, SEVEN, RETURN, LEFT = ord("A"), ord("7"), 257, 263


@pytest.fixture
def keyboard(monkeypatch):
    """The window, its `press(key, action, modifiers)`, and the list of what reaches Dear PyGui."""
    told, ours = [], []

    def keep(_handle, callback):
        ours.append(callback)
        return lambda _window, key, _code, action, _modifiers: told.append((key, action))

    library = SimpleNamespace(glfwGetCurrentContext=lambda: None, glfwSetKeyCallback=keep)
    monkeypatch.setattr(glfw, "library", lambda: library)
    window = glfw.Window()

    def press(key, action=PRESSED, modifiers=0):
        ours[0](None, key, 0, action, modifiers)

    return window, press, told


def test_all_keys_are_told_while_no_field_has_the_keyboard(keyboard):
    _, press, told = keyboard
    for key in (A, RETURN):
        press(key)
        press(key, RELEASED)
    assert told == [(A, PRESSED), (A, RELEASED), (RETURN, PRESSED), (RETURN, RELEASED)]


def test_of_keys_that_write_into_a_field_only_the_character_is_told(keyboard):
    window, press, told = keyboard
    window.is_typing = True
    press(A, modifiers=SHIFT)
    press(A, REPEATED)
    press(SEVEN)
    press(A, RELEASED)
    press(SEVEN, RELEASED)
    assert told == []


def test_keys_that_edit_and_chords_are_told_in_a_field_too(keyboard):
    window, press, told = keyboard
    window.is_typing = True
    press(LEFT)
    press(A, PRESSED, CONTROL)
    press(A, RELEASED, CONTROL)
    press(RETURN)
    assert told == [(LEFT, PRESSED), (A, PRESSED), (A, RELEASED), (RETURN, PRESSED)]


def test_a_key_is_told_to_go_up_exactly_where_it_was_told_to_go_down(keyboard):
    window, press, told = keyboard
    press(A)
    window.is_typing = True
    press(SEVEN)
    press(A, RELEASED)
    window.is_typing = False
    press(SEVEN, RELEASED)
    assert told == [(A, PRESSED), (A, RELEASED)]
