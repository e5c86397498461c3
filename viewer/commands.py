"""Every user action as a frozen dataclass: `apply` turns one state into the next and does nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

from ..cuda.tables import Quality
from . import navigation
from .state import (
    MAX_FOV,
    MAX_RECENT,
    MIN_FOV,
    Message,
    Mode,
    Navigation,
    Pose,
    RenderStatus,
    SceneFacts,
    Theme,
    ViewerState,
)

SPEED_RANGE = 1 / 64, 64.0  # factor on the flying speed that the height above ground gives
FPS_RANGE = 1.0, 120.0  # pictures per second while moving
FLOOR_RANGE = 0.125, 1.0  # share of the full resolution, per side
RESOLUTION_RANGE = 0.25, 1.0  # share of the full resolution, per side


class Command(Protocol):
    """One user action.

    `undo` is the label under which the history records it, or "" for what is not undone (messages, hover).
    Consecutive commands with the same non-empty `gesture` are one step of the history: a drag, a wheel turn.
    """

    @property
    def undo(self) -> str:
        """Label in the history, "" for what is not undone."""
        ...

    @property
    def gesture(self) -> str:
        """Key of the gesture that this is a part of, "" for an action of its own."""
        ...

    def apply(self, state: ViewerState) -> ViewerState:
        """Returns the state after the action."""
        ...


class _Once:
    """What most commands are: a single action that the history does not record."""

    undo: ClassVar[str] = ""
    gesture: ClassVar[str] = ""


# Camera


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
            return _say(
                state, "The camera needs finite numbers and a field of view between 0 and 180 degrees"
            )
        return replace(state, pose=pose)


@dataclass(frozen=True)
class Home(_Once):
    """Returns to the view with which the scene opened."""

    undo: ClassVar[str] = "Go home"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=state.scene.home) if state.scene else state


@dataclass(frozen=True)
class FocusOn(_Once):
    """Brings a point of the scene to the middle of the picture and orbits about it from then on."""

    point: tuple[float, float, float]  # scene units
    undo: ClassVar[str] = "Focus"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=navigation.focus(state.pose, self.point))


@dataclass(frozen=True)
class TopDown(_Once):
    """Looks straight down on the pivot, north up."""

    undo: ClassVar[str] = "Look straight down"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, pose=navigation.top_down(state.pose))


@dataclass(frozen=True)
class NorthUp(_Once):
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
        return replace(state, pose=replace(state.pose, fov_y=_clamp(self.degrees, MIN_FOV, MAX_FOV)))


@dataclass(frozen=True)
class SetNavigation(_Once):
    """Chooses between orbiting and flying."""

    navigation: Navigation
    undo: ClassVar[str] = "Navigation"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, navigation=self.navigation)


@dataclass(frozen=True)
class ToggleNavigation(_Once):
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
        return replace(state, speed=_clamp(self.factor, *SPEED_RANGE))


@dataclass(frozen=True)
class ChangeSpeed(_Once):
    """Multiplies the flying speed."""

    factor: float
    undo: ClassVar[str] = "Flying speed"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, speed=_clamp(state.speed * self.factor, *SPEED_RANGE))


# Picture


@dataclass(frozen=True)
class SetMode(_Once):
    """Chooses what the viewport shows."""

    mode: Mode
    undo: ClassVar[str] = "Render mode"

    def apply(self, state: ViewerState) -> ViewerState:
        return _prefer(state, mode=self.mode)


@dataclass(frozen=True)
class SetQualityAtRest(_Once):
    """Chooses the quality that a still picture refines to."""

    quality: Quality
    undo: ClassVar[str] = "Quality at rest"

    def apply(self, state: ViewerState) -> ViewerState:
        return _prefer(state, quality_at_rest=self.quality)


@dataclass(frozen=True)
class SetTargetFps:
    """Sets how many pictures per second are wanted while moving."""

    fps: float
    gesture: str = ""
    undo: ClassVar[str] = "Target frame rate"

    def apply(self, state: ViewerState) -> ViewerState:
        return _prefer(state, target_fps=_clamp(self.fps, *FPS_RANGE))


@dataclass(frozen=True)
class SetFloor:
    """Sets the coarsest resolution that moving may fall to, as a share per side."""

    share: float
    gesture: str = ""
    undo: ClassVar[str] = "Coarsest resolution"

    def apply(self, state: ViewerState) -> ViewerState:
        return _prefer(state, floor=_clamp(self.share, *FLOOR_RANGE))


@dataclass(frozen=True)
class SetResolution:
    """Sets the resolution at rest, as a share of the viewport per side."""

    share: float
    gesture: str = ""
    undo: ClassVar[str] = "Resolution"

    def apply(self, state: ViewerState) -> ViewerState:
        return _prefer(state, resolution=_clamp(self.share, *RESOLUTION_RANGE))


@dataclass(frozen=True)
class SetBackground:
    """Sets the colour behind the scene; None is the scene's own."""

    color: tuple[float, float, float] | None  # in [0, 1]
    gesture: str = ""
    undo: ClassVar[str] = "Background"

    def apply(self, state: ViewerState) -> ViewerState:
        if self.color is None:
            return _prefer(state, background=None)
        red, green, blue = (_clamp(value, 0.0, 1.0) for value in self.color)
        return _prefer(state, background=(red, green, blue))


@dataclass(frozen=True)
class SetCode:
    """Chooses a row of the appearance table; one that does not exist is answered with a message."""

    code: int
    gesture: str = ""
    undo: ClassVar[str] = "Appearance"

    def apply(self, state: ViewerState) -> ViewerState:
        if state.scene is None or not state.scene.n_codes:
            return _say(state, "This scene has one appearance only", "info")
        if not 0 <= self.code < state.scene.n_codes:
            last = state.scene.n_codes - 1
            return _say(state, f"The appearance code must be from 0 to {last}, got {self.code}")
        return replace(state, code=self.code)


@dataclass(frozen=True)
class ToggleBlockBorders(_Once):
    """Shows or hides the outlines of the blocks over the picture."""

    undo: ClassVar[str] = "Block borders"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, show_block_borders=not state.show_block_borders)


# Interface


@dataclass(frozen=True)
class SelectBlock(_Once):
    """Selects one block, or none; a number that is no block selects none."""

    block: int | None

    def apply(self, state: ViewerState) -> ViewerState:
        n_blocks = len(state.scene.present) if state.scene else 0
        known = self.block is not None and 0 <= self.block < n_blocks
        return replace(state, selected_block=self.block if known else None)


@dataclass(frozen=True)
class ToggleInterface(_Once):
    """Hides or shows everything but the picture."""

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, interface_hidden=not state.interface_hidden)


@dataclass(frozen=True)
class ToggleHelp(_Once):
    """Shows or hides the table of keys."""

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, help_shown=not state.help_shown)


@dataclass(frozen=True)
class SetTheme(_Once):
    """Chooses the colours of the interface."""

    theme: Theme

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, theme=self.theme)


@dataclass(frozen=True)
class ShowMessage(_Once):
    """Says a sentence to the user."""

    text: str
    severity: str = "info"  # "info", "warn" or "error"

    def apply(self, state: ViewerState) -> ViewerState:
        return _say(state, self.text, self.severity)


@dataclass(frozen=True)
class DismissMessage(_Once):
    """Takes the message away, or else closes the help."""

    def apply(self, state: ViewerState) -> ViewerState:
        if state.message is None:
            return replace(state, help_shown=False)
        return replace(state, message=None)


# What the program reports


@dataclass(frozen=True)
class BeginOpening(_Once):
    """A scene is being read; the one that is open stays until it is there."""

    name: str

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, opening=self.name, message=None)


@dataclass(frozen=True)
class SceneOpened(_Once):
    """A scene is ready: the camera goes to its home view, and the history starts afresh."""

    facts: SceneFacts

    def apply(self, state: ViewerState) -> ViewerState:
        facts = self.facts
        others = tuple(path for path in state.recent if path != facts.path)
        return replace(
            state,
            scene=facts,
            pose=facts.home,
            code=facts.code,
            speed=1.0,
            render=replace(state.render, background=None),
            status=RenderStatus(backend=state.status.backend),
            opening=None,
            message=None,
            selected_block=None,
            recent=(facts.path, *others)[:MAX_RECENT],
        )


@dataclass(frozen=True)
class OpeningFailed(_Once):
    """A scene could not be opened; the one that is open lives on."""

    text: str

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, opening=None, message=Message(self.text, "error"))


@dataclass(frozen=True)
class SetStatus(_Once):
    """What the render thread last reported."""

    status: RenderStatus

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, status=self.status)


COMMANDS: tuple[type[Command], ...] = (
    SetPose,
    Home,
    FocusOn,
    TopDown,
    NorthUp,
    SetFov,
    SetNavigation,
    ToggleNavigation,
    SetSpeed,
    ChangeSpeed,
    SetMode,
    SetQualityAtRest,
    SetTargetFps,
    SetFloor,
    SetResolution,
    SetBackground,
    SetCode,
    ToggleBlockBorders,
    SelectBlock,
    ToggleInterface,
    ToggleHelp,
    SetTheme,
    ShowMessage,
    DismissMessage,
    BeginOpening,
    SceneOpened,
    OpeningFailed,
    SetStatus,
)

GLIDING: tuple[type[Command], ...] = (Home, FocusOn, TopDown, NorthUp)  # the camera may travel there visibly


def _prefer(state: ViewerState, **changes: Any) -> ViewerState:
    return replace(state, render=replace(state.render, **changes))


def _say(state: ViewerState, text: str, severity: str = "warn") -> ViewerState:
    return replace(state, message=Message(text, severity))


def _clamp(value: float, low: float, high: float) -> float:
    """Limits a value; one that is not a number becomes the lower limit."""
    return min(max(value, low), high) if math.isfinite(value) else low
