"""What the program itself reports."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ...core.appearance import Appearance
from ...core.edits.layers import Stack
from ...core.measure import Measurement
from ...core.streaming.contracts import MemoryBudget
from ..state import (
    MAX_RECENT,
    Compare,
    JobStatus,
    Message,
    RenderStatus,
    SceneFacts,
    Tool,
    UnitRatios,
    ViewerState,
)
from .base import Once


@dataclass(frozen=True)
class BeginOpening(Once):
    """A scene is being read; the one that is open stays until it is there."""

    name: str

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, opening=self.name, message=None)


@dataclass(frozen=True)
class SceneOpened(Once):
    """A scene is ready: the camera goes to its home view, and the history starts afresh."""

    facts: SceneFacts

    def apply(self, state: ViewerState) -> ViewerState:
        facts = self.facts
        others = tuple(path for path in state.recent if path != facts.path)
        return replace(
            state,
            scene=facts,
            pose=facts.home,
            appearance=facts.appearance,
            styles=facts.styles,
            edits=facts.edits,
            last_uid=max((layer.uid for layer in facts.edits), default=0),
            measurements=facts.measurements,
            edits_shown=True,
            unit_ratios=(),
            selection=None,
            layer=None,
            draft=(),
            tool=Tool.NAVIGATE,
            compare=Compare(),
            speed=1.0,
            render=replace(state.render, background=None),
            status=RenderStatus(backend=state.status.backend),
            opening=None,
            message=None,
            selected_block=None,
            memory=facts.memory,
            pinned=frozenset(),
            recent=(facts.path, *others)[:MAX_RECENT],
        )


@dataclass(frozen=True)
class SceneSaved(Once):
    """The scene file holds everything now; it may be another file than before."""

    path: Path

    def apply(self, state: ViewerState) -> ViewerState:
        if state.scene is None:
            return state
        others = tuple(path for path in state.recent if path != self.path)
        return replace(
            state,
            scene=replace(state.scene, path=self.path),
            recent=(self.path, *others)[:MAX_RECENT],
            message=Message(f"Saved {self.path.name}"),
        )


@dataclass(frozen=True)
class RestoreWork(Once):
    """Brings back what was not saved when the program last ended."""

    appearance: Appearance
    styles: tuple[tuple[str, Appearance], ...]
    edits: Stack
    measurements: tuple[Measurement, ...]
    memory: MemoryBudget = field(default_factory=MemoryBudget)
    undo: ClassVar[str] = "Restore"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(
            state,
            appearance=self.appearance,
            styles=self.styles,
            edits=self.edits,
            last_uid=max([state.last_uid, *(layer.uid for layer in self.edits)]),
            measurements=self.measurements,
            memory=self.memory,
            layer=None,
            selection=None,
        )


@dataclass(frozen=True)
class OpeningFailed(Once):
    """A scene could not be opened; the one that is open lives on."""

    text: str

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, opening=None, message=Message(self.text, "error"))


@dataclass(frozen=True)
class SetStatus(Once):
    """What the render thread last reported."""

    status: RenderStatus

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, status=self.status)


@dataclass(frozen=True)
class SetJob(Once):
    """What the work in the background last reported; None: there is none."""

    job: JobStatus | None

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, job=self.job)


@dataclass(frozen=True)
class LearnUnitRatios(Once):
    """How long units of other scenes are, known once they are open; what was known of others stays."""

    ratios: UnitRatios

    def apply(self, state: ViewerState) -> ViewerState:
        known = dict(state.unit_ratios) | dict(self.ratios)
        return replace(state, unit_ratios=tuple(known.items()))


@dataclass(frozen=True)
class SetDirty(Once):
    """Whether there is something that the scene file does not hold yet."""

    dirty: bool

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, dirty=self.dirty)
