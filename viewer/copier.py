"""Copier: copies of what is selected, put down on the ground."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..core.edits.layers import Placement
from ..core.measure import Point3
from .commands import Command, CopySelection, ShowMessage
from .handles import Copied, copied_of, target_of
from .selector import Selector
from .state import ViewerState

SIDE_STEP = 1.2  # widths of a copy between it and its duplicate
NOTHING_SELECTED = "Select a building or an area first"
NOTHING_COPIED = "Copy a selected building first"


class Copier:
    """What copy, paste, duplicate and the tool that places do."""

    def __init__(self, selector: Selector, later: Callable[[Command], None]) -> None:
        """`later` takes commands that follow once the terrain has answered."""
        self._selector = selector
        self._later = later
        self._kept: Copied | None = None  # what pasting puts down

    def keep(self, state: ViewerState) -> Command:
        """Remembers what is selected, to be pasted: an area, a copy, or what a layer acts on."""
        copied = copied_of(state)
        if copied is None:
            return ShowMessage(NOTHING_SELECTED, "warn")
        self._kept = copied
        return ShowMessage("Copied; Ctrl+V puts it under the pointer")

    def forget(self) -> None:
        """Another scene is open: what was copied stands in none."""
        self._kept = None

    def paste(self, place: Point3, state: ViewerState) -> Command | None:
        """Puts what was copied somewhere; returns a message where nothing was."""
        if self._kept is None:
            return ShowMessage(NOTHING_COPIED, "warn")
        return self.put(self._kept, Placement(place), state)

    def place(self, place: Point3, state: ViewerState) -> Command | None:
        """Puts what is selected somewhere as well; returns a message where nothing is."""
        copied = copied_of(state)
        if copied is None:
            return ShowMessage(NOTHING_SELECTED, "warn")
        return self.put(copied, Placement(place), state)

    def duplicate(self, state: ViewerState) -> Command | None:
        """Puts a copy of what is selected east of it, turned and scaled alike."""
        copied, target = copied_of(state), target_of(state)
        if copied is None:
            return ShowMessage(NOTHING_SELECTED, "warn")
        outline = target.outline if target else copied.prism
        like = target.placed if target and target.placed else Placement(outline.anchor)
        x0, _, x1, _ = outline.region.bounds
        x, y, z = like.position
        return self.put(copied, replace(like, position=(x + SIDE_STEP * (x1 - x0), y, z)), state)

    def put(self, copied: Copied, placement: Placement, state: ViewerState) -> None:
        """Puts a copy somewhere: on the ground, once its height there is known, or as high as it is."""
        x, y, z = placement.position

        def put(height: float) -> None:
            self._later(CopySelection(replace(placement, position=(x, y, height)), copied))

        if state.snapping.ground:
            self._selector.exact_ground(x, y, put)
        else:
            put(z)
