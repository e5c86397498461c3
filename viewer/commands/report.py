"""What the program itself reports."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..state import MAX_RECENT, Compare, Message, RenderStatus, SceneFacts, Tool, ViewerState
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
            measurements=facts.measurements,
            edits_shown=True,
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
            recent=(facts.path, *others)[:MAX_RECENT],
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
