"""Undo and redo over the part of the state that a user decides; a drag or a flight is one step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .commands import Command
from .state import ViewerState

UNDOABLE = (
    "pose",
    "navigation",
    "speed",
    "appearance",
    "styles",
    "edits",
    "edits_shown",
    "layer",
    "selection",
    "draft",
    "measurements",
    "compare",
    "render",
    "show_block_borders",
)
PAUSE = 0.6  # seconds without an event after which a wheel turn or a held key counts as a new gesture

Snapshot = tuple[Any, ...]


@dataclass(frozen=True)
class Step:
    """One entry of the history."""

    label: str  # "Orbit", "Render mode", ...
    snapshot: Snapshot  # values of UNDOABLE to return to


class History:
    """The steps that can be undone and redone. Opening another scene empties it."""

    def __init__(self) -> None:
        self._done: list[Step] = []
        self._undone: list[Step] = []
        self._gesture = ""

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a step to redo."""
        return bool(self._undone)

    @property
    def undo_label(self) -> str:
        """What `undo` would take back, "" for nothing."""
        return self._done[-1].label if self._done else ""

    @property
    def redo_label(self) -> str:
        """What `redo` would bring back, "" for nothing."""
        return self._undone[-1].label if self._undone else ""

    def do(self, state: ViewerState, command: Command) -> ViewerState:
        """Applies a command and records it where it is undoable and changes anything."""
        after = command.apply(state)
        if after.scene is not state.scene:
            self.clear()
            return after
        if not command.undo or snapshot(after) == snapshot(state):
            return after
        self._undone.clear()
        if not command.gesture or command.gesture != self._gesture:
            self._done.append(Step(command.undo, snapshot(state)))
        self._gesture = command.gesture
        return after

    def undo(self, state: ViewerState) -> ViewerState:
        """Takes the last step back; the state itself when there is none."""
        return self._exchange(state, self._done, self._undone)

    def redo(self, state: ViewerState) -> ViewerState:
        """Brings the last undone step back; the state itself when there is none."""
        return self._exchange(state, self._undone, self._done)

    def end_gesture(self) -> None:
        """Makes the next command a step of its own, whatever its gesture."""
        self._gesture = ""

    def clear(self) -> None:
        """Forgets everything."""
        self._done.clear()
        self._undone.clear()
        self._gesture = ""

    def _exchange(self, state: ViewerState, source: list[Step], target: list[Step]) -> ViewerState:
        self._gesture = ""
        if not source:
            return state
        step = source.pop()
        target.append(Step(step.label, snapshot(state)))
        return restore(state, step.snapshot)


class GestureKeys:
    """Names gestures: one key per drag; wheel turns and held keys share a key until they pause."""

    def __init__(self) -> None:
        self._number = 0
        self._kind = ""
        self._last = 0.0

    def begin(self, kind: str) -> str:
        """Returns a new key, for all events of one drag."""
        self._number += 1
        self._kind = ""
        return f"{kind}-{self._number}"

    def running(self, kind: str, now: float) -> str:
        """Returns the key of the gesture of this kind that goes on, or a new one after a PAUSE."""
        if kind != self._kind or now - self._last > PAUSE:
            self._number += 1
            self._kind = kind
        self._last = now
        return f"{kind}-{self._number}"


def snapshot(state: ViewerState) -> Snapshot:
    """Returns the undoable part of a state."""
    return tuple(getattr(state, name) for name in UNDOABLE)


def restore(state: ViewerState, values: Snapshot) -> ViewerState:
    """Returns a state with its undoable part replaced."""
    return replace(state, **dict(zip(UNDOABLE, values, strict=True)))
