"""Commands on the tools: which one is in hand, what it snaps to, the corners it has set so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from ...core.measure import Point3
from ..state import Handle, Snapping, Tool, ViewerState
from .base import Once, say


@dataclass(frozen=True)
class SetTool(Once):
    """Takes a tool into the hand."""

    tool: Tool

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, tool=self.tool)


@dataclass(frozen=True)
class SetHandle(Once):
    """Chooses what dragging a placed copy changes."""

    handle: Handle

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, handle=self.handle)


@dataclass(frozen=True)
class SetSnapping(Once):
    """Chooses what placed copies and drawn corners snap to."""

    snapping: Snapping

    def apply(self, state: ViewerState) -> ViewerState:
        if not math.isfinite(self.snapping.grid) or self.snapping.grid < 0:
            return say(state, f"The grid must be 0 (none) or wider, got {self.snapping.grid:g}")
        return replace(state, snapping=self.snapping)


@dataclass(frozen=True)
class SetDraft:
    """Sets the corners of what is being drawn."""

    points: tuple[Point3, ...]
    gesture: str = ""
    undo: ClassVar[str] = "Set corner"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, draft=self.points)
