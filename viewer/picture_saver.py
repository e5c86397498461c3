"""Saves the picture on screen in a thread of its own, once it is finished."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .commands import ShowMessage
from .events import EventLog

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from .opening import Loaded
    from .render_worker import Picture


class PictureSaver:
    """Used from the main thread; `poll` hands over what is to be said."""

    def __init__(self, events: EventLog, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop call `poll` soon."""
        self.is_waiting = False  # for the picture to be finished
        self._events, self._wake = events, wake
        self._said: deque[ShowMessage] = deque()

    def save(self, picture: Picture | None, loaded: Loaded) -> None:
        """Saves a finished picture; None is one that is still to be waited for."""
        self.is_waiting = picture is None
        if picture is None:
            self._said.append(ShowMessage("The picture is saved as soon as it is finished"))
            return

        def work() -> None:
            from .saving import save_picture

            text, severity = save_picture(picture, loaded.facts, loaded.files)
            self._events.write("saved" if severity == "info" else "error", text=text)
            self._said.append(ShowMessage(text, severity))
            self._wake()

        threading.Thread(target=work, name="save", daemon=True).start()

    def poll(self) -> ShowMessage | None:
        """Returns a message that was not shown yet."""
        return self._said.popleft() if self._said else None
