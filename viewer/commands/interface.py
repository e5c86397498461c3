"""Commands on the window itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..state import Theme, ViewerState
from .base import Once, say


@dataclass(frozen=True)
class SelectBlock(Once):
    """Selects one block, or none; a number that is no block selects none."""

    block: int | None

    def apply(self, state: ViewerState) -> ViewerState:
        n_blocks = len(state.scene.present) if state.scene else 0
        known = self.block is not None and 0 <= self.block < n_blocks
        return replace(state, selected_block=self.block if known else None)


@dataclass(frozen=True)
class ToggleInterface(Once):
    """Hides or shows everything but the picture."""

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, interface_hidden=not state.interface_hidden)


@dataclass(frozen=True)
class ToggleHelp(Once):
    """Shows or hides the table of keys."""

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, help_shown=not state.help_shown)


@dataclass(frozen=True)
class SetTheme(Once):
    """Chooses the colours of the interface."""

    theme: Theme

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, theme=self.theme)


@dataclass(frozen=True)
class ShowMessage(Once):
    """Says a sentence to the user."""

    text: str
    severity: str = "info"  # "info", "warn" or "error"

    def apply(self, state: ViewerState) -> ViewerState:
        return say(state, self.text, self.severity)


@dataclass(frozen=True)
class DismissMessage(Once):
    """Takes the message away, or else closes the help."""

    def apply(self, state: ViewerState) -> ViewerState:
        if state.message is None:
            return replace(state, help_shown=False)
        return replace(state, message=None)
