"""The mouse over the picture: presses, moves and wheel turns in, camera commands out. Knows no window."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..core.camera import Camera
from . import navigation
from .commands import FocusOn, SetPose
from .history import GestureKeys
from .picking import Picked
from .shortcuts import Action
from .state import Navigation, Pose, ViewerState

LEFT, RIGHT, MIDDLE = 0, 1, 2  # button numbers of GLFW and Dear PyGui
ZOOM_PIXELS = 40.0  # drag that counts as one wheel click of the field of view

Pixel = tuple[float, float]
LABELS = {
    Action.ORBIT: "Orbit",
    Action.TURN: "Look around",
    Action.PAN: "Pan",
    Action.PAN_VIEW: "Pan",
    Action.ZOOM: "Field of view",
}


@dataclass(frozen=True)
class Drag:
    """A drag under way. It belongs to the picture until the button is released, wherever the pointer goes."""

    button: int
    action: Action
    gesture: str
    start: Pixel  # viewport pixels
    last: Pixel
    pose: Pose  # when the button went down
    camera: Camera  # of that pose
    depth: float  # z-depth of what lay under the pointer then
    slop: float = 0.0  # pixels that it may wander and still be a click
    moved: bool = False


class Pointer:
    """Turns what the mouse does into commands."""

    def __init__(self, pick: Callable[[Pixel], Picked], keys: GestureKeys) -> None:
        """`pick` returns what a viewport pixel shows."""
        self._pick = pick
        self._keys = keys
        self.drag: Drag | None = None

    def press(
        self,
        button: int,
        at: Pixel,
        state: ViewerState,
        size: tuple[int, int],
        shift: bool,
        ctrl: bool,
        slop: float = 0.0,
    ) -> None:
        """Begins a drag; a second button pressed during one is ignored. Nothing moves within the slop."""
        if self.drag is not None or state.scene is None:
            return
        action = drag_action(button, state.navigation, shift, ctrl)
        camera = state.pose.camera(*size)
        depth = state.pose.distance
        if action is Action.PAN:
            depth = max(self._pick(at).depth_for(camera), navigation.MIN_DISTANCE)
        gesture = self._keys.begin(action.value)
        self.drag = Drag(button, action, gesture, at, at, state.pose, camera, depth, slop)

    def move(self, to: Pixel, state: ViewerState, size: tuple[int, int]) -> SetPose | None:
        """Returns the command of a move during a drag, None where nothing moves."""
        drag = self.drag
        if drag is None or to == drag.last:
            return None
        dx, dy = to[0] - drag.last[0], to[1] - drag.last[1]
        if not drag.moved and math.hypot(dx, dy) < drag.slop:
            return None
        self.drag = replace(drag, last=to, moved=True)
        if drag.action is Action.ORBIT:
            pose = navigation.orbit(state.pose, dx, dy, size[1])
        elif drag.action is Action.TURN:
            pose = navigation.look(state.pose, dx, dy, size[1])
        elif drag.action is Action.ZOOM:
            pose = navigation.zoom(state.pose, -dy / ZOOM_PIXELS)
        else:
            pose = navigation.pan(drag.pose, drag.camera, drag.start, to, drag.depth)
        return SetPose(pose, drag.gesture, LABELS[drag.action])

    def release(self) -> Drag | None:
        """Ends the drag and returns it."""
        drag, self.drag = self.drag, None
        return drag

    def wheel(
        self, steps: float, at: Pixel, state: ViewerState, size: tuple[int, int], now: float
    ) -> SetPose | None:
        """Returns the command of a wheel turn; `now` is in seconds."""
        if state.scene is None or self.drag is not None:
            return None
        camera = state.pose.camera(*size)
        depth = self._pick(at).depth_for(camera)
        if depth <= 0:
            depth = state.pose.distance
        pose = navigation.dolly(state.pose, camera, at, depth, steps)
        return SetPose(pose, self._keys.running("dolly", now), "Dolly")

    def focus(self, at: Pixel) -> FocusOn:
        """Returns the command that focuses what a viewport pixel shows."""
        return FocusOn(self._pick(at).point)


def drag_action(button: int, mode: Navigation, shift: bool, ctrl: bool) -> Action:
    """Returns what a drag with a button does; TURN means looking around here, orbiting has its own name."""
    if button == RIGHT:
        return Action.PAN
    if button == MIDDLE and shift:
        return Action.PAN_VIEW
    if button == MIDDLE and ctrl:
        return Action.ZOOM
    if button == MIDDLE or mode is Navigation.ORBIT:
        return Action.ORBIT
    return Action.TURN
