"""Undo and redo over the part of the state that a user decides; a drag or a flight is one step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..core.edits.layers import Layer
from .commands import Command, SceneOpened
from .commands.edits import change_layer
from .state import ViewerState

UNDOABLE = (
    "pose",
    "navigation",
    "speed",
    "appearance",
    "styles",
    "edits",
    "last_uid",
    "edits_shown",
    "layer",
    "selection",
    "draft",
    "measurements",
    "compare",
    "render",
    "show_block_borders",
    "memory",
    "pinned",
)
PAUSE = 0.6  # seconds without an event after which a wheel turn or a held key counts as a new gesture

Snapshot = tuple[Any, ...]
EDITS = UNDOABLE.index("edits")


@dataclass(frozen=True)
class Step:
    """One entry of the history."""

    label: str  # "Orbit", "Render mode", ...
    snapshot: Snapshot  # values of UNDOABLE to return to
    layer: tuple[int, int] | None = None  # uid, and -1 or 1: the step undid or redid that layer alone


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
        if isinstance(command, SceneOpened):
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

    def undo_layer(self, state: ViewerState, uid: int) -> ViewerState:
        """Brings the previous version of one layer back, as a new step, whatever happened to others since."""
        return self._exchange_layer(state, uid, -1)

    def redo_layer(self, state: ViewerState, uid: int) -> ViewerState:
        """Takes the last `undo_layer` of one layer back, as a new step."""
        return self._exchange_layer(state, uid, 1)

    def can_undo_layer(self, state: ViewerState, uid: int) -> tuple[bool, bool]:
        """Returns whether a layer has a previous version, and whether one that was undone can come back."""
        versions, at = self._versions(state, uid)
        return at > 0, at + 1 < len(versions)

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
        target.append(replace(step, snapshot=snapshot(state)))
        return restore(state, step.snapshot)

    def _exchange_layer(self, state: ViewerState, uid: int, direction: int) -> ViewerState:
        versions, at = self._versions(state, uid)
        if not 0 <= at + direction < len(versions):
            return state
        version = versions[at + direction]
        after = change_layer(state, uid, lambda _: version)
        if after.edits == state.edits:  # it is locked, and says so
            return after
        self._undone.clear()
        self._gesture = ""
        word = "Undo" if direction < 0 else "Redo"
        self._done.append(Step(f"{word} {version.name or 'layer'}", snapshot(state), (uid, direction)))
        return after

    def _versions(self, state: ViewerState, uid: int) -> tuple[list[Layer], int]:
        """Returns what a layer has been, oldest first, and which of these it is; locks do not count."""
        versions: list[Layer] = []
        at, moved = 0, None
        for step in (*self._done, None):
            edits = step.snapshot[EDITS] if step else state.edits
            layer = next((replace(x, locked=False) for x in edits if x.uid == uid), None)
            if layer is not None and not versions:
                versions, at = [layer], 0
            elif layer is not None and layer != versions[at]:
                if moved is not None and moved[0] == uid:
                    at += moved[1]
                else:
                    versions, at = [*versions[: at + 1], layer], at + 1
            moved = step.layer if step else None
        return versions, at


class GestureKeys:
    """Names gestures: one key per drag; wheel turns and held keys share a key until they pause."""

    def __init__(self) -> None:
        self._number = 0
        self._kind = ""
        self._last = 0.0
        self._is_held = False

    def begin(self, kind: str) -> str:
        """Returns a new key, for all events of one drag."""
        self._number += 1
        self._kind = ""
        return f"{kind}-{self._number}"

    def running(self, kind: str, now: float) -> str:
        """Returns the key of the gesture of this kind that goes on, or a new one after a PAUSE.

        While a button is held there is no pause.
        """
        if kind != self._kind or (not self._is_held and now - self._last > PAUSE):
            self._number += 1
            self._kind = kind
        self._last = now
        return f"{kind}-{self._number}"

    def hold(self, is_held: bool, now: float) -> None:
        """Takes note of whether a mouse button is held now: what it drags is one gesture of its own."""
        if is_held == self._is_held:
            return
        self._is_held, self._last = is_held, now
        if is_held:
            self._kind = ""


def snapshot(state: ViewerState) -> Snapshot:
    """Returns the undoable part of a state."""
    return tuple(getattr(state, name) for name in UNDOABLE)


def restore(state: ViewerState, values: Snapshot) -> ViewerState:
    """Returns a state with its undoable part replaced."""
    return replace(state, **dict(zip(UNDOABLE, values, strict=True)))
