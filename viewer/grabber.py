"""Grabber: a handle in the hand. A drag is one step of the history, whatever it moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core.camera import Camera
from ..core.edits.layers import Copy
from ..core.errors import InputError
from .commands import Command, SetLayer, SetPlacement, SetSelection
from .handles import (
    Grip,
    Ground,
    Pixel,
    Target,
    dragged_placement,
    dragged_prism,
    grips_of,
    hit,
    target_of,
)
from .history import GestureKeys
from .selector import Selector
from .state import ViewerState


@dataclass(frozen=True)
class _Held:
    grip: Grip
    target: Target  # when it was grabbed
    camera: Camera
    start: Pixel
    last: Pixel
    gesture: str


class Grabber:
    """Finds the handle under the pointer, drags it, and puts down what hangs on it."""

    def __init__(
        self, keys: GestureKeys, selector: Selector, later: Callable[[Command], None], radius: float
    ) -> None:
        """Makes a hand with nothing in it.

        Args:
            keys: Names the drags.
            selector: Knows the ground.
            later: Takes commands that follow once the terrain has answered.
            radius: Around a handle, pixels.
        """
        self._keys = keys
        self._selector = selector
        self._later = later
        self._radius = radius
        self._held: _Held | None = None

    @property
    def grip(self) -> Grip | None:
        """The handle in the hand."""
        return self._held.grip if self._held else None

    def find(self, at: Pixel, state: ViewerState, camera: Camera, ground: Ground) -> Grip | None:
        """Returns the handle under the pointer."""
        target = target_of(state)
        if target is None:
            return None
        grips = grips_of(target, state, camera, ground, self._radius)
        return hit(grips, camera, at, self._radius)

    def seize(self, at: Pixel, state: ViewerState, camera: Camera, ground: Ground) -> bool:
        """Takes the handle under the pointer; False where there is none."""
        grip, target = self.find(at, state, camera, ground), target_of(state)
        if grip is None or target is None:
            return False
        self._held = _Held(grip, target, camera, at, at, self._keys.begin(grip.kind.value))
        return True

    def move(self, to: Pixel, state: ViewerState, ground: Ground) -> list[Command] | None:
        """Returns the commands of a move with a handle in the hand; None where nothing has moved."""
        held = self._held
        if held is None or to == held.last:
            return None
        self._held = held = replace(held, last=to)
        target, path = held.target, (held.start, to)
        if target.placed is not None and target.layer is not None and target.placement is not None:
            placement = dragged_placement(target.placed, held.grip, held.camera, path, state.snapping, ground)
            return [SetPlacement(target.layer.uid, target.placement, placement, held.gesture)]
        try:
            prism = dragged_prism(target.prism, held.grip, held.camera, path, state.snapping.grid)
        except InputError:  # the outline has no area just now
            return []
        if target.layer is not None:
            return [SetLayer(target.layer.uid, replace(target.layer, prism=prism), held.gesture)]
        if state.selection is None:
            return []
        return [SetSelection(replace(state.selection, prism=prism), gesture=held.gesture)]

    def release(self, state: ViewerState) -> None:
        """Lets go; a copy that was moved comes to stand on the ground, once its height there is known."""
        held, self._held = self._held, None
        if held is None or held.target.layer is None or not state.snapping.ground:
            return
        number = held.target.placement
        layer = next((each for each in state.edits if each.uid == held.target.layer.uid), None)
        if not isinstance(layer, Copy) or number is None or number >= len(layer.placements):
            return
        placement, before = layer.placements[number], held.target.placed
        x, y, z = placement.position
        if before is None or before.position[:2] == (x, y):
            return
        uid, gesture = layer.uid, held.gesture

        def stand(height: float) -> None:
            if height != z:
                self._later(SetPlacement(uid, number, replace(placement, position=(x, y, height)), gesture))

        self._selector.exact_ground(x, y, stand)
