"""Commands on the comparison of the present picture with another one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ...core.appearance import Appearance
from ..state import Against, CompareMode, ViewerState
from .base import Once, clamp, say

GAIN_RANGE = 1.0, 32.0  # factor on differences


@dataclass(frozen=True)
class SetCompareMode(Once):
    """Chooses how both pictures are shown, or ends the comparison."""

    mode: CompareMode
    undo: ClassVar[str] = "Compare"

    def apply(self, state: ViewerState) -> ViewerState:
        return _compare(state, mode=self.mode)


@dataclass(frozen=True)
class CompareWith(Once):
    """Chooses what the present picture is compared with.

    Photographs are refused with a message where the scene names none.
    """

    against: Against
    undo: ClassVar[str] = "Compare with"

    def apply(self, state: ViewerState) -> ViewerState:
        if self.against is Against.PHOTO and not (state.scene and state.scene.has_photos):
            return say(state, "The scene file must name its photographs (dataset.path) to compare with them")
        return _compare(state, against=self.against)


@dataclass(frozen=True)
class CompareWithAppearance(Once):
    """Compares with another appearance of the same scene."""

    appearance: Appearance
    undo: ClassVar[str] = "Compare with"

    def apply(self, state: ViewerState) -> ViewerState:
        return _compare(state, against=Against.APPEARANCE, appearance=self.appearance)


@dataclass(frozen=True)
class CompareWithCheckpoint(Once):
    """Compares with another scene or checkpoint."""

    path: Path
    undo: ClassVar[str] = "Compare with"

    def apply(self, state: ViewerState) -> ViewerState:
        return _compare(state, against=Against.CHECKPOINT, path=self.path)


@dataclass(frozen=True)
class SetWipe:
    """Puts the line between both pictures somewhere."""

    position: float  # share of the width
    gesture: str = ""
    undo: ClassVar[str] = "Wipe"

    def apply(self, state: ViewerState) -> ViewerState:
        return _compare(state, position=clamp(self.position, 0.0, 1.0))


@dataclass(frozen=True)
class SetGain:
    """Sets the factor on differences."""

    gain: float
    gesture: str = ""
    undo: ClassVar[str] = "Difference gain"

    def apply(self, state: ViewerState) -> ViewerState:
        return _compare(state, gain=clamp(self.gain, *GAIN_RANGE))


def _compare(state: ViewerState, **changes: Any) -> ViewerState:
    return replace(state, compare=replace(state.compare, **changes))
