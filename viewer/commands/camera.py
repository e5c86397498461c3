"""Commands that move the camera."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from .. import navigation
from ..state import MAX_FOV, MIN_FOV, Navigation, Pose, ViewerState
from .base import Once, clamp, say

SPEED_RANGE = 1 / 64, 64.0  # factor on the flying speed that the height above ground gives


@dataclass(frozen=True)
class SetPose:
    """Puts the camera somewhere: an event of a drag, a frame of a flight, a typed number.

    A pose that is not finite is refused with a message.
    """

    pose: Pose
    gesture: str = ""
    undo: str = "Move camera"

    def apply(self, state: ViewerState) -> ViewerState:
        pose = self.pose
        numbers = (*pose.eye, pose.yaw, pose.pitch, pose.roll, pose.fov_y, pose.distance)
        if not all(math.isfinite(number) for number in numbers) or not 0 < pose.fov_y < 180:
            return say(state, "The camera needs finite numbers and a field of view between 0 and 180 degrees")
        return replace(state, pose=pose)


@dataclass(frozen=True)
class Home(Once):
    """Returns to the view with which the scene opened."""

    undo: ClassVar[str] = "Go home"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=state.scene.home) if state.scene else state


@dataclass(frozen=True)
class FocusOn(Once):
    """Brings a point of the scene to the middle of the picture and orbits about it from then on."""

    point: tuple[float, float, float]  # scene units
    undo: ClassVar[str] = "Focus"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=navigation.focus(state.pose, self.point))


@dataclass(frozen=True)
class TopDown(Once):
    """Looks straight down on the pivot, north up."""

    undo: ClassVar[str] = "Appearance straight down"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=navigation.top_down(state.pose))


@dataclass(frozen=True)
class NorthUp(Once):
    """Turns the view to the north: about the pivot when orbiting, on the spot when flying."""

    undo: ClassVar[str] = "North up"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=navigation.north_up(state.pose, state.navigation))


@dataclass(frozen=True)
class SetFov:
    """Sets the vertical field of view."""

    degrees: float
    gesture: str = ""
    undo: ClassVar[str] = "Field of view"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=replace(state.pose, fov_y=clamp(self.degrees, MIN_FOV, MAX_FOV)))


@dataclass(frozen=True)
class SetNavigation(Once):
    """Chooses between orbiting and flying."""

    navigation: Navigation
    undo: ClassVar[str] = "Navigation"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, navigation=self.navigation)


@dataclass(frozen=True)
class ToggleNavigation(Once):
    """Changes from orbiting to flying and back."""

    undo: ClassVar[str] = "Navigation"

    def apply(self, state: ViewerState) -> ViewerState:
        orbiting = state.navigation is Navigation.ORBIT
        return replace(state, navigation=Navigation.FLY if orbiting else Navigation.ORBIT)


@dataclass(frozen=True)
class SetSpeed:
    """Sets the factor on the flying speed."""

    factor: float
    gesture: str = ""
    undo: ClassVar[str] = "Flying speed"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, speed=clamp(self.factor, *SPEED_RANGE))


@dataclass(frozen=True)
class ChangeSpeed(Once):
    """Multiplies the flying speed."""

    factor: float
    undo: ClassVar[str] = "Flying speed"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, speed=clamp(state.speed * self.factor, *SPEED_RANGE))
