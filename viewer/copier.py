"""Copier: copies of what is selected, put down on the ground."""

from __future__ import annotations

from collections.abc import Callable

from ..core.edits.layers import Placement, Prism
from ..core.measure import Point3
from .commands import Command, CopySelection, SetSelection, ShowMessage
from .handles import target_of
from .selector import Selector
from .state import Selection, ViewerState

SIDE_STEP = 1.2  # widths of a copy between it and its duplicate
NOTHING_SELECTED = "Select a building or an area first"
NOTHING_COPIED = "Copy a selected building first"


class Copier:
    """What copy, paste, duplicate and the tool that places do."""

    def __init__(self, selector: Selector, later: Callable[[Command], None]) -> None:
        """`later` takes commands that follow once the terrain has answered."""
        self._selector = selector
        self._later = later
        self._kept: Prism | None = None  # what pasting puts down

    def keep(self, state: ViewerState) -> Command:
        """Remembers what the handles are on, to be pasted: the selection or what a layer acts on."""
        target = target_of(state)
        if target is None:
            return ShowMessage(NOTHING_SELECTED, "warn")
        self._kept = target.prism
        return ShowMessage("Copied; Ctrl+V puts it under the pointer")

    def forget(self) -> None:
        """Another scene is open: what was copied stands in none."""
        self._kept = None

    def paste(self, place: Point3, state: ViewerState) -> Command | None:
        """Puts what was copied somewhere; returns a message where nothing was."""
        if self._kept is None:
            return ShowMessage(NOTHING_COPIED, "warn")
        return self._put(self._kept, place, state)

    def place(self, place: Point3, state: ViewerState) -> Command | None:
        """Puts what is selected somewhere as well; returns a message where nothing is."""
        target = target_of(state)
        if target is None:
            return ShowMessage(NOTHING_SELECTED, "warn")
        return self._put(target.prism, place, state)

    def duplicate(self, state: ViewerState) -> Command | None:
        """Puts a copy of what is selected east of it."""
        target = target_of(state)
        if target is None:
            return ShowMessage(NOTHING_SELECTED, "warn")
        x0, _, x1, _ = target.outline.region.bounds
        x, y, z = target.placed.position if target.placed else target.prism.anchor
        return self._put(target.prism, (x + SIDE_STEP * (x1 - x0), y, z), state)

    def _put(self, prism: Prism, place: Point3, state: ViewerState) -> None:
        x, y, z = place
        target = target_of(state)

        def put(height: float) -> None:
            if target is None or target.prism != prism:
                self._later(SetSelection(Selection(prism, "building")))
            self._later(CopySelection(Placement((x, y, height))))

        if state.snapping.ground:
            self._selector.exact_ground(x, y, put)
        else:
            put(z)
