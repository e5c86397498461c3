"""Warmup: work that is done ahead while nothing else is to be done, so that the first edit is quick."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

PAUSE = 0.1  # seconds until it is asked again whether there is time

log = logging.getLogger(__name__)


class Warmup:
    """Works in a thread, in short pieces, with pauses where there is no time. Used from the main thread."""

    def __init__(self, is_free: Callable[[], bool], on_done: Callable[[], None] = lambda: None) -> None:
        """Both are called from the thread: `is_free` says whether there is time for a piece of work."""
        self._is_free, self._on_done = is_free, on_done
        self._stopped = threading.Event()

    def open(self, pieces: Iterator[Callable[[], object]]) -> None:
        """Does these pieces of work from now on; older ones that are not done are forgotten."""
        self.close()
        self._stopped = threading.Event()
        threading.Thread(target=self._run, args=(pieces, self._stopped), name="warmup", daemon=True).start()

    def close(self) -> None:
        """Ends the work after the piece that is being done."""
        self._stopped.set()

    def _run(self, pieces: Iterator[Callable[[], object]], stopped: threading.Event) -> None:
        try:
            for piece in pieces:
                while not stopped.is_set() and not self._is_free():
                    stopped.wait(PAUSE)
                if stopped.is_set():
                    return
                piece()
            self._on_done()
        except Exception:
            log.exception("working ahead failed")  # whoever needs the result will hear of it
