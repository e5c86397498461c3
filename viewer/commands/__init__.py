"""Every user action as a frozen dataclass: `apply` turns one state into the next and does nothing else."""

from __future__ import annotations

from .base import Command
from .camera import (
    ChangeSpeed,
    FocusOn,
    Home,
    NorthUp,
    SetFov,
    SetNavigation,
    SetPose,
    SetSpeed,
    ToggleNavigation,
    TopDown,
)
from .interface import DismissMessage, SelectBlock, SetTheme, ShowMessage, ToggleHelp, ToggleInterface
from .picture import (
    SetBackground,
    SetCode,
    SetFloor,
    SetMode,
    SetQualityAtRest,
    SetResolution,
    SetTargetFps,
    ToggleBlockBorders,
)
from .report import BeginOpening, OpeningFailed, SceneOpened, SetStatus

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

__all__ = ["COMMANDS", "GLIDING", "Command", *(command.__name__ for command in COMMANDS)]
