"""Commands on how the picture is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...cuda.tables import Quality
from ..state import Mode, ViewerState
from .base import Once, clamp, prefer

FPS_RANGE = 1.0, 120.0  # pictures per second while moving
FLOOR_RANGE = 0.125, 1.0  # share of the full resolution, per side
RESOLUTION_RANGE = 0.25, 1.0  # share of the full resolution, per side


@dataclass(frozen=True)
class SetMode(Once):
    """Chooses what the viewport shows."""

    mode: Mode
    undo: ClassVar[str] = "Render mode"

    def apply(self, state: ViewerState) -> ViewerState:
        return prefer(state, mode=self.mode)


@dataclass(frozen=True)
class SetQualityAtRest(Once):
    """Chooses the quality that a still picture refines to."""

    quality: Quality
    undo: ClassVar[str] = "Quality at rest"

    def apply(self, state: ViewerState) -> ViewerState:
        return prefer(state, quality_at_rest=self.quality)


@dataclass(frozen=True)
class SetTargetFps:
    """Sets how many pictures per second are wanted while moving."""

    fps: float
    gesture: str = ""
    undo: ClassVar[str] = "Target frame rate"

    def apply(self, state: ViewerState) -> ViewerState:
        return prefer(state, target_fps=clamp(self.fps, *FPS_RANGE))


@dataclass(frozen=True)
class SetFloor:
    """Sets the coarsest resolution that moving may fall to, as a share per side."""

    share: float
    gesture: str = ""
    undo: ClassVar[str] = "Coarsest resolution"

    def apply(self, state: ViewerState) -> ViewerState:
        return prefer(state, floor=clamp(self.share, *FLOOR_RANGE))


@dataclass(frozen=True)
class SetResolution:
    """Sets the resolution at rest, as a share of the viewport per side."""

    share: float
    gesture: str = ""
    undo: ClassVar[str] = "Resolution"

    def apply(self, state: ViewerState) -> ViewerState:
        return prefer(state, resolution=clamp(self.share, *RESOLUTION_RANGE))


@dataclass(frozen=True)
class SetBackground:
    """Sets the colour behind the scene; None is the scene's own."""

    color: tuple[float, float, float] | None  # in [0, 1]
    gesture: str = ""
    undo: ClassVar[str] = "Background"

    def apply(self, state: ViewerState) -> ViewerState:
        if self.color is None:
            return prefer(state, background=None)
        red, green, blue = (clamp(value, 0.0, 1.0) for value in self.color)
        return prefer(state, background=(red, green, blue))


@dataclass(frozen=True)
class ToggleBlockBorders(Once):
    """Shows or hides the outlines of the blocks over the picture."""

    undo: ClassVar[str] = "Block borders"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, show_block_borders=not state.show_block_borders)
