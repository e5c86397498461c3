"""Saves the picture on screen in a thread of its own, once it is finished, with all of its blocks."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..cuda.tables import RenderControl
from .commands import ShowMessage
from .events import EventLog

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from .opening import Loaded
    from .pictures import Picture
    from .state import RenderStatus

CHANGED = "The picture was not saved: the memory budget was changed meanwhile; save it again"
WAITING = "The picture is saved as soon as it is finished"


class PictureSaver:
    """Used from the main thread; `poll` hands over what is to be said."""

    def __init__(self, events: EventLog, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop call `poll` soon."""
        self.is_waiting = False  # for the picture to be finished
        self._events, self._wake = events, wake
        self._said: deque[ShowMessage] = deque()
        self._control: RenderControl | None = None  # of a picture that is completed

    def save(self, picture: Picture | None, loaded: Loaded, status: RenderStatus) -> None:
        """Saves a finished picture; None is one that is still to be waited for.

        One that reads stand-ins for blocks, as they do not all fit into memory, is rendered once more with
        all of them. Two that are compared are saved as they are shown.
        """
        self.is_waiting = picture is None
        if picture is None:
            self._say(_waiting(status.missing) if status.missing else WAITING)
            return
        control = None
        if picture.coarse and picture.beside is None:
            self._say(_waiting(status.missing + status.beyond))
            control = RenderControl(picture.camera.width, picture.camera.height)
        self.close()
        self._control = control
        work = threading.Thread(target=self._work, args=(picture, loaded, control), name="save", daemon=True)
        work.start()

    def close(self) -> None:
        """Gives up a picture that waits for blocks."""
        self.is_waiting = False
        if self._control is not None:
            self._control.cancel()

    def _work(self, picture: Picture, loaded: Loaded, control: RenderControl | None) -> None:
        from .saving import completed, save_picture

        try:
            whole = completed(picture, loaded.renderer, control) if control else picture
        except InputError as error:
            text, severity = f"The picture was not saved: {error}", "error"
        else:
            if control is not None and control.is_cancelled:
                return
            text, severity = CHANGED, "error"
            if whole is not None:
                text, severity = save_picture(whole, loaded.facts, loaded.files)
        self._events.write("saved" if severity == "info" else "error", text=text)
        self._say(text, severity)
        self._wake()

    def _say(self, text: str, severity: str = "info") -> None:
        self._said.append(ShowMessage(text, severity))

    def poll(self) -> ShowMessage | None:
        """Returns a message that was not shown yet."""
        return self._said.popleft() if self._said else None


def _waiting(n_blocks: int) -> str:
    return f"Waiting for {n_blocks} block{'s' * (n_blocks != 1)}: then the picture is saved"
