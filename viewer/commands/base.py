"""What a command is, and what several of them need."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from ..state import Message, ViewerState


class Command(Protocol):
    """One user action.

    `undo` is the label under which the history records it, or "" for what is not undone (messages, hover).
    Consecutive commands with the same non-empty `gesture` are one step of the history: a drag, a wheel turn.
    """

    @property
    def undo(self) -> str:
        """Label in the history, "" for what is not undone."""
        ...

    @property
    def gesture(self) -> str:
        """Key of the gesture that this is a part of, "" for an action of its own."""
        ...

    def apply(self, state: ViewerState) -> ViewerState:
        """Returns the state after the action."""
        ...


class Once:
    """What most commands are: a single action that the history does not record."""

    undo: ClassVar[str] = ""
    gesture: ClassVar[str] = ""


def prefer(state: ViewerState, **changes: Any) -> ViewerState:
    """Returns the state with other render preferences."""
    return replace(state, render=replace(state.render, **changes))


def say(state: ViewerState, text: str, severity: str = "warn") -> ViewerState:
    """Returns the state with a sentence to the user."""
    return replace(state, message=Message(text, severity))


def clamp(value: float, low: float, high: float) -> float:
    """Limits a value; one that is not a number becomes the lower limit."""
    return min(max(value, low), high) if math.isfinite(value) else low
