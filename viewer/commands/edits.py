"""Commands on the stack of edit layers. Each is one step that can be undone; a locked layer is left alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ...core.appearance import Appearance
from ...core.edits.layers import (
    Copy,
    Crop,
    Hide,
    Layer,
    Placement,
    Prism,
    Remove,
    ReplaceBlock,
    Restyle,
    kind_of,
)
from ..handles import Copied, copied_of, placed_prism, ratio_of
from ..state import Selection, ViewerState
from .base import Once, say

NOTHING_SELECTED = "Select a building or an area first"


@dataclass(frozen=True)
class AddLayer(Once):
    """Puts a layer on top of the stack, with a number of its own and a name, and selects it."""

    layer: Layer
    undo: ClassVar[str] = "Add layer"

    def apply(self, state: ViewerState) -> ViewerState:
        return add_layers(state, self.layer)


@dataclass(frozen=True)
class RemoveLayer(Once):
    """Takes a layer off the stack."""

    uid: int
    undo: ClassVar[str] = "Delete layer"

    def apply(self, state: ViewerState) -> ViewerState:
        if refusal := _refusal(state, self.uid):
            return say(state, refusal)
        rest = tuple(layer for layer in state.edits if layer.uid != self.uid)
        return replace(state, edits=rest, layer=None if state.layer == self.uid else state.layer)


@dataclass(frozen=True)
class SetLayer:
    """Replaces a layer by another version of it: a new name, outline, height, source, appearance."""

    uid: int
    layer: Layer
    gesture: str = ""
    undo: str = "Change layer"

    def apply(self, state: ViewerState) -> ViewerState:
        return change_layer(state, self.uid, lambda _: replace(self.layer, uid=self.uid))


@dataclass(frozen=True)
class ToggleLayer(Once):
    """Switches a layer off or on."""

    uid: int
    undo: ClassVar[str] = "Switch layer"

    def apply(self, state: ViewerState) -> ViewerState:
        return change_layer(state, self.uid, lambda layer: replace(layer, enabled=not layer.enabled))


@dataclass(frozen=True)
class LockLayer(Once):
    """Protects a layer from changes, or frees it."""

    uid: int
    undo: ClassVar[str] = "Lock layer"

    def apply(self, state: ViewerState) -> ViewerState:
        edits = tuple(replace(x, locked=not x.locked) if x.uid == self.uid else x for x in state.edits)
        return replace(state, edits=edits)


@dataclass(frozen=True)
class MoveLayer(Once):
    """Moves a layer to another place in the stack; 0 is the lowest."""

    uid: int
    to: int
    undo: ClassVar[str] = "Reorder layers"

    def apply(self, state: ViewerState) -> ViewerState:
        if refusal := _refusal(state, self.uid):
            return say(state, refusal)
        rest = [layer for layer in state.edits if layer.uid != self.uid]
        rest.insert(min(max(self.to, 0), len(rest)), layer_of(state, self.uid))
        return replace(state, edits=tuple(rest))


@dataclass(frozen=True)
class SelectLayer(Once):
    """Selects a layer instead of an area, or none; a number that is no layer's selects none."""

    uid: int | None
    undo: ClassVar[str] = "Select layer"

    def apply(self, state: ViewerState) -> ViewerState:
        known = any(layer.uid == self.uid for layer in state.edits)
        return replace(state, layer=self.uid if known else None, selection=None)


@dataclass(frozen=True)
class DuplicateLayer(Once):
    """Puts a second layer like this one right above it, unlocked."""

    uid: int
    undo: ClassVar[str] = "Duplicate layer"

    def apply(self, state: ViewerState) -> ViewerState:
        layer = layer_of(state, self.uid)
        if layer is None:
            return say(state, "There is no such layer any more")
        grown = add_layers(state, replace(layer, name="", locked=False))
        place = state.edits.index(layer) + 1
        edits = (*state.edits[:place], grown.edits[-1], *state.edits[place:])
        return replace(grown, edits=edits)


@dataclass(frozen=True)
class ToggleEdits(Once):
    """Shows the scene with or without its edits."""

    undo: ClassVar[str] = "Edits on or off"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, edits_shown=not state.edits_shown)


@dataclass(frozen=True)
class UnhideAll(Once):
    """Brings back what was hidden: takes all unlocked Hide layers off the stack."""

    undo: ClassVar[str] = "Unhide"

    def apply(self, state: ViewerState) -> ViewerState:
        rest = tuple(layer for layer in state.edits if layer.locked or not isinstance(layer, Hide))
        if rest == state.edits:
            return say(state, "Nothing is hidden, except by locked layers", "info")
        kept = state.layer if any(layer.uid == state.layer for layer in rest) else None
        return replace(state, edits=rest, layer=kept)


@dataclass(frozen=True)
class RemoveSelection(Once):
    """Takes away what is selected: a placed copy where one is selected, else what stands in the selection."""

    undo: ClassVar[str] = "Remove"

    def apply(self, state: ViewerState) -> ViewerState:
        chosen = state.selection
        if chosen is not None and chosen.placement is not None and state.layer is not None:
            return RemovePlacement(state.layer, chosen.placement).apply(state)
        return _from_selection(state, lambda prism: Remove(prism=prism))


@dataclass(frozen=True)
class HideSelection(Once):
    """Empties the selection and shows what is behind it."""

    undo: ClassVar[str] = "Hide"

    def apply(self, state: ViewerState) -> ViewerState:
        return _from_selection(state, lambda prism: Hide(prism=prism))


@dataclass(frozen=True)
class IsolateSelection(Once):
    """Keeps only what stands in the selection, between its heights."""

    undo: ClassVar[str] = "Isolate"

    def apply(self, state: ViewerState) -> ViewerState:
        return _from_selection(state, lambda prism: Crop(prism=prism))


@dataclass(frozen=True)
class CropToSelection(Once):
    """Keeps only what lies in the outline of the selection, at all heights."""

    undo: ClassVar[str] = "Crop"

    def apply(self, state: ViewerState) -> ViewerState:
        return _from_selection(state, lambda prism: Crop(prism=Prism(prism.region)))


@dataclass(frozen=True)
class CopySelection(Once):
    """Puts what is selected to another place as well; once more, it adds to the same layer.

    Without a selection it copies what stands in the selected layer's prism, say a building that was removed.
    """

    placement: Placement
    what: Copied | None = None  # to be put there instead
    undo: ClassVar[str] = "Copy"

    def apply(self, state: ViewerState) -> ViewerState:
        layer, what = layer_of(state, state.layer), self.what or copied_of(state)
        if what is None:
            return say(state, NOTHING_SELECTED)
        if isinstance(layer, Copy) and Copied(layer.prism, layer.source) == what:
            after = AddPlacement(layer.uid, self.placement).apply(state)
        elif refusal := _wrong(self.placement):
            return say(state, refusal)
        else:
            new = Copy(prism=what.prism, placements=(self.placement,), source=what.source)
            after = add_layers(state, new)
        return _select_last_copy(state, after)


@dataclass(frozen=True)
class MoveSelection(Once):
    """Takes what is selected away and puts it elsewhere: a Remove and a Copy on top; a copy just moves."""

    placement: Placement
    undo: ClassVar[str] = "Move"

    def apply(self, state: ViewerState) -> ViewerState:
        chosen = state.selection
        if chosen is None:
            return say(state, NOTHING_SELECTED)
        if chosen.placement is not None and state.layer is not None:
            return SetPlacement(state.layer, chosen.placement, self.placement).apply(state)
        if refusal := _wrong(self.placement):
            return say(state, refusal)
        prism = chosen.prism
        after = add_layers(state, Remove(prism=prism), Copy(prism=prism, placements=(self.placement,)))
        return _select_last_copy(state, after)


@dataclass(frozen=True)
class RestyleSelection(Once):
    """Shows what lies in the selection in another appearance."""

    appearance: Appearance
    undo: ClassVar[str] = "Restyle"

    def apply(self, state: ViewerState) -> ViewerState:
        return _from_selection(state, lambda prism: Restyle(prism=prism, appearance=self.appearance))


@dataclass(frozen=True)
class AddPlacement(Once):
    """Adds one more copy to a Copy layer."""

    uid: int
    placement: Placement
    undo: ClassVar[str] = "Add copy"

    def apply(self, state: ViewerState) -> ViewerState:
        return _change_placements(state, self.uid, lambda all_: (*all_, self.placement), self.placement)


@dataclass(frozen=True)
class SetPlacement:
    """Moves, turns or scales one copy of a Copy layer."""

    uid: int
    number: int
    placement: Placement
    gesture: str = ""
    undo: ClassVar[str] = "Move copy"

    def apply(self, state: ViewerState) -> ViewerState:
        def change(placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
            return tuple(self.placement if i == self.number else p for i, p in enumerate(placements))

        return _change_placements(state, self.uid, change, self.placement)


@dataclass(frozen=True)
class RemovePlacement(Once):
    """Takes one copy off a Copy layer; the layer goes with its last one."""

    uid: int
    number: int
    undo: ClassVar[str] = "Remove copy"

    def apply(self, state: ViewerState) -> ViewerState:
        def change(placements: tuple[Placement, ...]) -> tuple[Placement, ...]:
            return tuple(p for i, p in enumerate(placements) if i != self.number)

        after = _change_placements(state, self.uid, change)
        if after.edits == state.edits:
            return after
        layer = layer_of(after, self.uid)
        after = after if layer.placements else RemoveLayer(self.uid).apply(after)
        selection = after.selection
        if selection is not None and selection.placement is not None:
            after = replace(after, selection=None)
        return after


@dataclass(frozen=True)
class SelectPlacement(Once):
    """Selects one copy of a Copy layer, for its handles; one that does not exist selects nothing."""

    uid: int
    number: int
    undo: ClassVar[str] = "Select copy"

    def apply(self, state: ViewerState) -> ViewerState:
        layer = layer_of(state, self.uid)
        if not isinstance(layer, Copy) or not 0 <= self.number < len(layer.placements):
            return replace(state, selection=None)
        chosen = Selection(layer.prism, "copy", self.number)
        return replace(state, layer=self.uid, selection=chosen)


@dataclass(frozen=True)
class ReplaceBlockWith(Once):
    """Reads a block from another checkpoint from now on."""

    block: int
    checkpoint: Path
    mask: Path | None = None
    undo: ClassVar[str] = "Replace block"

    def apply(self, state: ViewerState) -> ViewerState:
        n_blocks = len(state.scene.present) if state.scene else 0
        if not 0 <= self.block < n_blocks:
            return say(state, f"The block must be from 0 to {n_blocks - 1}, got {self.block}")
        return add_layers(state, ReplaceBlock(block=self.block, checkpoint=self.checkpoint, mask=self.mask))


def layer_of(state: ViewerState, uid: int | None) -> Layer | None:
    """Returns the layer with a number, or None."""
    return next((layer for layer in state.edits if layer.uid == uid), None)


def add_layers(state: ViewerState, *layers: Layer) -> ViewerState:
    """Returns the state with layers on top, numbered, named and the last one selected."""
    edits, uid = state.edits, state.last_uid
    for layer in layers:
        uid += 1
        names = {other.name for other in edits}
        edits = (*edits, replace(layer, uid=uid, name=layer.name or _new_name(layer, names)))
    return replace(state, edits=edits, last_uid=uid, layer=uid, edits_shown=True)


def change_layer(state: ViewerState, uid: int, change: Callable[[Layer], Layer]) -> ViewerState:
    """Returns the state with one layer changed, or with a message where that is refused."""
    if refusal := _refusal(state, uid):
        return say(state, refusal)
    return replace(state, edits=tuple(change(x) if x.uid == uid else x for x in state.edits))


def _refusal(state: ViewerState, uid: int) -> str:
    """Says why a layer cannot be changed, "" if it can."""
    layer = layer_of(state, uid)
    if layer is None:
        return "There is no such layer any more"
    return f"{layer.name or 'The layer'} is locked; unlock it first" if layer.locked else ""


def _new_name(layer: Layer, names: set[str]) -> str:
    """Returns the word of a layer's kind, with a number where that is taken."""
    word = kind_of(layer).replace("-", " ").capitalize()
    number = 1
    while (name := word if number == 1 else f"{word} {number}") in names:
        number += 1
    return name


def _from_selection(state: ViewerState, make: Callable[[Prism], Layer]) -> ViewerState:
    """Returns the state with a layer made of the selection, unless there is one like it already."""
    chosen = state.selection
    if chosen is None:
        return say(state, NOTHING_SELECTED)
    prism, owner = chosen.prism, layer_of(state, state.layer)
    if chosen.placement is not None and isinstance(owner, Copy):
        ratio = ratio_of(owner.source, state.unit_ratios)
        prism = placed_prism(prism, owner.placements[chosen.placement], ratio)
    layer = make(prism)
    for other in state.edits:
        if other.enabled and replace(other, uid=0, name="", locked=False) == layer:
            return say(replace(state, layer=other.uid), f"{other.name} does that already", "info")
    return replace(add_layers(state, layer), selection=None)


def _select_last_copy(before: ViewerState, after: ViewerState) -> ViewerState:
    """Selects the copy that was just placed, if it was, so that its handles are at hand."""
    layer = layer_of(after, after.layer)
    if after.edits == before.edits or not isinstance(layer, Copy):
        return after
    return SelectPlacement(layer.uid, len(layer.placements) - 1).apply(after)


def _change_placements(
    state: ViewerState,
    uid: int,
    change: Callable[[tuple[Placement, ...]], tuple[Placement, ...]],
    given: Placement | None = None,
) -> ViewerState:
    """Returns the state with other placements of a Copy layer; `given` is a new one to be checked."""
    layer = layer_of(state, uid)
    if not isinstance(layer, Copy):
        return say(state, "Only a layer of copies has copies to change")
    if given is not None and (refusal := _wrong(given)):
        return say(state, refusal)
    return change_layer(state, uid, lambda _: replace(layer, placements=change(layer.placements)))


def _wrong(placement: Placement) -> str:
    """Says why a placement cannot be used, "" if it can."""
    if not all(math.isfinite(v) for v in (*placement.position, placement.heading, placement.scale)):
        return "A copy needs finite numbers for its position, heading and scale"
    return "" if placement.scale > 0 else f"The scale of a copy must be above 0, got {placement.scale:g}"
