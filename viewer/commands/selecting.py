"""Commands on the selection: what the next edit acts on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from ...core.edits.layers import Prism
from ...core.edits.region import Region
from ..plan import block_footprint
from ..state import Selection, SelectMode, ViewerState
from .base import Once, say
from .edits import NOTHING_SELECTED


@dataclass(frozen=True)
class SetSelection:
    """Selects something, adds it to what is selected or takes it out."""

    selection: Selection
    mode: SelectMode = SelectMode.REPLACE
    gesture: str = ""
    undo: ClassVar[str] = "Select"

    def apply(self, state: ViewerState) -> ViewerState:
        new, old = self.selection, state.selection
        if self.mode is SelectMode.SUBTRACT:
            if old is None:
                return say(state, NOTHING_SELECTED)
            return _with_region(state, old, old.prism.region.difference(new.prism.region))
        if self.mode is SelectMode.ADD and old is not None:
            low, high = min(old.prism.low, new.prism.low), max(old.prism.high, new.prism.high)
            prism = Prism(old.prism.region.union(new.prism.region), low, high)
            what = old.what if old.what == new.what else "area"
            return replace(state, selection=Selection(prism, what))
        return replace(state, selection=None if new.prism.region.is_empty else new)


@dataclass(frozen=True)
class ClearSelection(Once):
    """Selects nothing."""

    undo: ClassVar[str] = "Select nothing"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, selection=None)


@dataclass(frozen=True)
class InvertSelection(Once):
    """Selects the rest of the scene's box, at all heights; without a selection the whole box."""

    undo: ClassVar[str] = "Invert selection"

    def apply(self, state: ViewerState) -> ViewerState:
        if state.scene is None:
            return state
        (x0, y0, _), (x1, y1, _) = state.scene.aabb
        region = Region.rectangle(x0, y0, x1, y1)
        if state.selection is not None:
            region = region.difference(state.selection.prism.region)
        return replace(state, selection=None if region.is_empty else Selection(Prism(region)))


@dataclass(frozen=True)
class GrowSelection(Once):
    """Moves the rim of the selection outwards, or inwards where the distance is negative."""

    distance: float  # scene units
    undo: ClassVar[str] = "Grow or shrink selection"

    def apply(self, state: ViewerState) -> ViewerState:
        if state.selection is None:
            return say(state, NOTHING_SELECTED)
        region = state.selection.prism.region.grown(self.distance)
        if region.is_empty:
            return say(state, "The selection is too narrow to shrink so far")
        return _with_region(state, state.selection, region)


@dataclass(frozen=True)
class SetSelectionHeights:
    """Sets from where to where the selection reaches; infinite ones are no limit."""

    low: float  # scene units
    high: float
    gesture: str = ""
    undo: ClassVar[str] = "Height of selection"

    def apply(self, state: ViewerState) -> ViewerState:
        if state.selection is None:
            return say(state, NOTHING_SELECTED)
        if math.isnan(self.low) or math.isnan(self.high) or not self.low < self.high:
            return say(state, "The roof of the selection must be above its ground")
        prism = replace(state.selection.prism, low=self.low, high=self.high)
        return replace(state, selection=replace(state.selection, prism=prism))


@dataclass(frozen=True)
class SelectBlockArea(Once):
    """Selects the area of a block, adds it to what is selected or takes it out."""

    block: int
    mode: SelectMode = SelectMode.REPLACE
    undo: ClassVar[str] = "Select block"

    def apply(self, state: ViewerState) -> ViewerState:
        if state.scene is None or not 0 <= self.block < len(state.scene.present):
            return state
        region = Region.rectangle(*block_footprint(state.scene, self.block))
        return SetSelection(Selection(Prism(region), "block"), self.mode).apply(state)


def _with_region(state: ViewerState, selection: Selection, region: Region) -> ViewerState:
    prism = replace(selection.prism, region=region)
    return replace(state, selection=None if region.is_empty else replace(selection, prism=prism))
