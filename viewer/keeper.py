"""Keeper: saves what the user made, and asks before any of it would be lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from .commands import Command, RestoreWork, SceneSaved, ShowMessage
from .state import ViewerState

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from ..scenes.load import Scene
    from .document import Document, Journal, Recovered

SAVE, DISCARD, CANCEL = "Save", "Don't save", "Cancel"
RESTORE, FORGET = "Restore", "Discard"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Question:
    """What the user must answer before the program goes on."""

    text: str
    detail: str
    answers: tuple[str, ...]  # the first is what Enter means, the last what Escape means


@dataclass(frozen=True)
class PathWanted:
    """The user must say where to save."""

    suggestion: Path


class Keeper:
    """The document of the open scene and its recovery journal. Used from the main thread."""

    def __init__(self, submit: Callable[[Command], None]) -> None:
        """`submit` does commands on the state."""
        self._submit = submit
        self._document: Document | None = None
        self._journal: Journal | None = None
        self._recovered: Recovered | None = None
        self._then: Callable[[], None] | None = None  # what waits for an answer
        self.asking: Question | PathWanted | None = None  # what the window asks now

    def open(self, scene: Scene) -> None:
        """Keeps another scene from now on, and offers what a crash left of it."""
        self._document, self._journal = open_document(scene)
        self.asking = self._then = None
        self._recovered = self._journal.find()
        if self._recovered is not None:
            self.asking = Question(
                f"Restore unsaved edits of {_time_text(self._recovered.when)}?",
                "The program ended before they were saved.",
                (RESTORE, FORGET),
            )

    def note(self, state: ViewerState) -> bool:
        """Takes note of a change for the case of a crash; returns whether there is something to save."""
        if self._document is None or self._journal is None:
            return False
        dirty = self._document.is_dirty(state)
        if self._recovered is None:  # what a crash left is kept until the user has answered
            self._journal.note(state)
        return dirty

    def save(self, state: ViewerState) -> None:
        """Saves to the scene file, or asks where to where there is none that may be written."""
        if self._document is None:
            return
        if self._document.path is None:
            self.save_elsewhere(state)
        else:
            self.save_as(state, self._document.path)

    def save_elsewhere(self, state: ViewerState) -> None:
        """Asks where to save."""
        if state.scene is not None:
            self.asking = PathWanted(self._document.suggestion if self._document else Path())

    def save_as(self, state: ViewerState, path: Path) -> None:
        """Saves to a file, then does what was waiting for it."""
        then, self._then, self.asking = self._then, None, None
        if self._document is None:
            return
        try:
            saved = self._document.save(state, path)
        except (InputError, OSError) as error:
            log.info("%s", error)
            self._submit(ShowMessage(f"Not saved: {error}", "error"))
            return
        self._submit(SceneSaved(saved))
        if then is not None:
            then()

    def guard(self, state: ViewerState, action: Callable[[], None]) -> None:
        """Does something that loses what is not saved, after asking where there is any."""
        if self._document is None or not self._document.is_dirty(state):
            if self._recovered is None:
                self.forget()
            action()
            return
        self._then = action
        name = state.scene.path.name if state.scene else "The scene"
        answers = (SAVE, DISCARD, CANCEL)
        self.asking = Question(f"Save the changes to {name}?", "Otherwise they are lost.", answers)

    def answer(self, state: ViewerState, answer: str) -> None:
        """Goes on with what the user said."""
        then, self.asking = self._then, None
        if answer == SAVE:
            self.save(state)
            return
        self._then = None
        recovered, self._recovered = self._recovered, None
        if answer == RESTORE and recovered is not None:
            self._submit(RestoreWork(**vars(recovered.work)))
        elif answer == FORGET:
            self.forget()
        elif answer == DISCARD and then is not None:
            self.forget()
            then()

    def close(self) -> None:
        """Waits until the recovery journal is on disk, if there is anything in it."""
        if self._journal is not None:
            self._journal.flush()

    def forget(self) -> None:
        """Drops the recovery journal: all is saved, or wanted to be lost."""
        if self._journal is not None:
            self._journal.discard()


def _time_text(when: datetime) -> str:
    """Writes a time of today as a time, another one with its day."""
    return f"{when:%H:%M}" if when.date() == datetime.now().date() else f"{when:%d %B, %H:%M}"


def open_document(scene: Scene) -> tuple[Document, Journal]:
    """Returns the document of a scene and the journal of what is not saved of it."""
    from .document import Document, Journal

    document = Document.of(scene)
    return document, Journal(document)
