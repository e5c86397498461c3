"""Commands on what streaming may use, and on single blocks of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..state import ViewerState
from .base import Once, clamp, say

LEAST = 1_000_000  # bytes of a budget; what a field needs, it says itself
DETAIL_RANGE = 0.0, 16.0  # pixels that a coarse texel may cover


@dataclass(frozen=True)
class SetMemoryDevice(Once):
    """Sets how many bytes blocks may take where rendering happens; None lets the program choose."""

    n_bytes: int | None
    undo: ClassVar[str] = "Memory budget"

    def apply(self, state: ViewerState) -> ViewerState:
        if self.n_bytes is not None and self.n_bytes < LEAST:
            return say(state, f"The memory budget must be at least {LEAST // 1_000_000} MB")
        return _remember(state, device=self.n_bytes)


@dataclass(frozen=True)
class SetMemoryHost(Once):
    """Sets how many bytes of blocks main memory may hold beside a device; None lets the program choose."""

    n_bytes: int | None
    undo: ClassVar[str] = "Host memory budget"

    def apply(self, state: ViewerState) -> ViewerState:
        if self.n_bytes is not None and self.n_bytes < LEAST:
            return say(state, f"The host memory budget must be at least {LEAST // 1_000_000} MB")
        return _remember(state, host=self.n_bytes)


@dataclass(frozen=True)
class SetMemoryDetail:
    """Sets how many pixels a coarse texel may cover; 0 wants full detail wherever a block is seen."""

    pixels: float
    gesture: str = ""
    undo: ClassVar[str] = "Detail of far blocks"

    def apply(self, state: ViewerState) -> ViewerState:
        return _remember(state, detail=clamp(self.pixels, *DETAIL_RANGE))


@dataclass(frozen=True)
class SetMemoryNeighbours(Once):
    """Holds the N x N blocks around the camera instead of what is in view; None goes by what is in view."""

    size: int | None
    undo: ClassVar[str] = "Neighbourhood"

    def apply(self, state: ViewerState) -> ViewerState:
        if self.size is not None and (self.size < 1 or self.size % 2 == 0):
            return say(state, f"The neighbourhood must be an odd number of blocks wide, got {self.size}")
        return _remember(state, neighbour_size=self.size)


@dataclass(frozen=True)
class PinBlock(Once):
    """Keeps a block in memory wherever the camera is, or lets it go again."""

    block: int
    on: bool = True
    undo: ClassVar[str] = "Pin block"

    def apply(self, state: ViewerState) -> ViewerState:
        if state.scene is None or not 0 <= self.block < len(state.scene.present):
            return state
        if self.on and not state.scene.present[self.block]:
            return say(state, "There is no such block to keep in memory")
        others = state.pinned - {self.block}
        return replace(state, pinned=others | {self.block} if self.on else others)


def _remember(state: ViewerState, **changes: Any) -> ViewerState:
    return replace(state, memory=replace(state.memory, **changes))
