"""Work in the background that the user sees and may cancel, one piece at a time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import InputError
from .events import since_start
from .state import JobStatus

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """What a job is given: it says how far it is, and hears whether it shall stop."""

    share: float | None = None  # in [0, 1]; None: not known
    _cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def is_cancelled(self) -> bool:
        """Whether the job shall stop soon."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Asks the job to stop."""
        self._cancelled.set()


Work = Callable[[Progress], Any]


@dataclass
class _Job:
    what: str
    progress: Progress
    began: float
    on_done: Callable[[Any], None]
    on_failed: Callable[[str], None]
    outcome: tuple[bool, Any] | None = None  # whether it succeeded, and its result or a sentence


class Jobs:
    """Runs one job at a time; results and failures are told to the main thread by `poll`."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop call `poll` soon."""
        self._wake = wake
        self._job: _Job | None = None

    def start(
        self, what: str, work: Work, on_done: Callable[[Any], None], on_failed: Callable[[str], None]
    ) -> bool:
        """Starts a job unless one runs; the callbacks are called from `poll`, none of them after a cancel.

        Args:
            what: For the status bar: "Fitting the appearance".
            work: Called in a thread; what it returns is given to `on_done`.
            on_done: Takes the result.
            on_failed: Takes one sentence that says why there is none.
        """
        if self._job is not None:
            return False
        job = self._job = _Job(what, Progress(), since_start(), on_done, on_failed)
        threading.Thread(target=self._run, args=(job, work), name="job", daemon=True).start()
        return True

    def cancel(self) -> None:
        """Asks the running job to stop; its result is dropped."""
        if self._job is not None:
            self._job.progress.cancel()

    @property
    def status(self) -> JobStatus | None:
        """The job under way."""
        job = self._job
        return JobStatus(job.what, job.progress.share, since_start() - job.began) if job else None

    def poll(self) -> None:
        """Hands over what has finished; for the main thread."""
        job = self._job
        if job is None or job.outcome is None:
            return
        self._job = None
        succeeded, result = job.outcome
        if not job.progress.is_cancelled:
            (job.on_done if succeeded else job.on_failed)(result)

    def _run(self, job: _Job, work: Work) -> None:
        try:
            job.outcome = True, work(job.progress)
        except InputError as error:
            job.outcome = False, str(error)
        except Exception as error:
            log.exception("%s failed", job.what)
            job.outcome = False, f"{job.what} failed: {str(error) or type(error).__name__}"
        self._wake()
