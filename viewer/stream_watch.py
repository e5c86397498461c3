"""Follows the streaming of the open scene: what it says goes to the panels and the log, wishes go to it."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.errors import InputError
from ..core.streaming.contracts import MemoryBudget
from . import memory
from .commands import ShowMessage
from .events import EventLog
from .state import Against, CompareMode

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from ..core.streaming.contracts import FetchRecord, StreamStatus
    from ..core.streaming.stream import FieldStream
    from .state import RenderStatus, ViewerState

REPORT_SECONDS = 0.2  # between two looks while something changes
BESIDE_SHARE = 4  # a field that is compared with gets one part in so many of the budget
QUIET_LOOKS = 2  # in a row that found nothing new, after which it is not looked again

log = logging.getLogger(__name__)


class StreamWatch:
    """Used from the main thread only. Of a field that is all in memory there is nothing to follow."""

    def __init__(self, events: EventLog) -> None:
        """`events` takes one line for every fetch."""
        self.status: StreamStatus | None = None  # the newest
        self.version = 0  # counts the changes of `status`
        self._events = events
        self._stream: FieldStream | None = None
        self._logged: FetchRecord | None = None  # the last one
        self._said: list[ShowMessage] = []  # but not handed over yet
        self._told: set[int] = set()  # failed blocks that the user knows of
        self._budget: MemoryBudget | None = None  # asked for
        self._change: Future[None] | None = None  # to that budget, which is under way
        self._whole = (0, 0)  # bytes of device and host, while nothing is shown beside it
        self._shares = False  # they are shared with what it is compared with
        self._pinned: frozenset[int] = frozenset()
        self._looked = -math.inf
        self._quiet = QUIET_LOOKS  # looks in a row that found nothing new

    def open(self, stream: FieldStream | None, budget: MemoryBudget) -> None:
        """Follows another stream, which works within a budget already; the one before is closed."""
        self.close()
        self._stream, self._budget, self._shares = stream, budget, False
        self.status = self._logged = None
        self._told.clear()
        self._pinned = frozenset()
        self._note_whole()
        self.version += 1
        self.touch()

    def close(self) -> None:
        """Ends the fetching; a read that hangs keeps nobody waiting."""
        if self._stream is not None:
            rest = (self._stream, self._change)
            threading.Thread(target=_end, args=rest, name="close", daemon=True).start()
        self._stream = self._change = None

    @property
    def records(self) -> tuple[FetchRecord, ...]:
        """The last fetches, oldest first."""
        return self._stream.residency.records() if self._stream is not None else ()

    def touch(self) -> None:
        """Something may have changed: looks at it soon."""
        self._quiet = 0

    def follow(self, state: ViewerState) -> bool:
        """Takes budget and pinned blocks over from a state; True where anything is new."""
        if self._stream is None:
            return False
        is_new = self._take_budget()
        wanted = self._wanted(state)
        if wanted != self._budget and self._change is None:
            self._budget, self._shares = wanted, is_beside_another(state)
            pool = ThreadPoolExecutor(1, "budget")
            self._change = pool.submit(self._stream.set_budget, wanted)
            pool.shutdown(wait=False)
        if self._change is not None:
            self.touch()
            return False
        gone, new = self._pinned - state.pinned, state.pinned - self._pinned
        if gone or new:
            self._pinned, is_new = state.pinned, True
            for block in gone:
                self._stream.residency.unpin(block)
            for block in new:
                self._try(self._stream.residency.pin, block)
        if is_new:
            self.touch()
        return is_new

    @property
    def room_beside(self) -> MemoryBudget | None:
        """What another field may use while this one is compared with it; None: there is no room yet."""
        if self._stream is None:
            return MemoryBudget()
        if not self._shares or self._change is not None:
            return None
        device, host = (n_bytes // BESIDE_SHARE for n_bytes in self._whole)
        return MemoryBudget(device, host or None)

    def _wanted(self, state: ViewerState) -> MemoryBudget:
        """Returns the budget of a state, less what another field may use that is compared with this one."""
        if not is_beside_another(state):
            return state.memory
        stated = state.memory.device, state.memory.host
        self._whole = whole = (stated[0] or self._whole[0], stated[1] or self._whole[1])
        device, host = (n_bytes - n_bytes // BESIDE_SHARE for n_bytes in whole)
        return replace(state.memory, device=device, host=host or None)

    def _note_whole(self) -> None:
        if self._stream is not None and not self._shares:
            status = self._stream.status()
            self._whole = status.device_budget, status.host_budget

    def _take_budget(self) -> bool:
        """Notes that a budget is in force by now, or why it is not; True where there was one to come."""
        if self._change is None or not self._change.done():
            return False
        if error := self._change.exception():
            log.error("the memory budget was not changed", exc_info=error)
            reason = str(error) if isinstance(error, InputError) else f"The budget was not changed: {error}"
            self._say(reason)
        self._change = None
        self._note_whole()
        self._pinned = frozenset()  # in other memory nothing is pinned yet
        return True

    def evict(self, block: int) -> None:
        """Takes a block out of memory."""
        if self._stream is not None:
            self._try(self._stream.residency.evict, block)

    def reload(self, block: int) -> None:
        """Fetches a block anew, also one that has failed."""
        if self._stream is not None:
            self._told.discard(block)
            self._try(self._stream.residency.reload, block)

    def _try(self, change: Callable[[int], None], block: int) -> None:
        try:
            change(block)
        except InputError as error:
            self._say(str(error))
        self.touch()

    def _say(self, text: str) -> None:
        self._events.write("error", text=text)
        self._said.append(ShowMessage(text, "error"))

    def advance(self, now: float) -> list[ShowMessage]:
        """Looks at the stream where that is due; returns what is to be said of it."""
        if self._stream is None or self.next_time(now) > now:
            return []
        self._looked = now
        status, before = self._stream.status(), self.status
        is_same = before is not None and _moves(status) == _moves(before)
        self._quiet = self._quiet + 1 if is_same and not status.fetching else 0
        if not is_same:
            self.status = status
            self.version += 1
        self._log_fetches()
        self._note_failures(status)
        said, self._said = self._said, []
        return said

    def next_time(self, now: float) -> float:
        """Returns when `advance` has something to do even if nothing happens before."""
        if self._stream is None or self._quiet >= QUIET_LOOKS:
            return math.inf
        return max(self._looked + REPORT_SECONDS, now if self._looked == -math.inf else 0.0)

    def noted_in(self, status: RenderStatus) -> RenderStatus:
        """Returns what is said of a picture with what is to be said of its blocks."""
        known = self.status
        if known is None:
            return replace(status, missing=0, beyond=0, pressure="")
        missing = max(known.n_missing - known.n_beyond - len(known.failures), 0)
        return replace(status, missing=missing, beyond=known.n_beyond, pressure="".join(known.pressure[-1:]))

    @property
    def is_busy(self) -> bool:
        """Whether blocks come and go."""
        return self._stream is not None and self._quiet < QUIET_LOOKS

    def _log_fetches(self) -> None:
        records = self.records
        first = len(records)
        while first > 0 and records[first - 1] is not self._logged:
            first -= 1
        for record in records[first:]:
            self._events.write(
                "fetch",
                block=record.key.block,
                version=record.key.variant,
                bytes=record.n_bytes,
                ms=round(1000 * record.seconds, 3),
                error=record.error,
            )
        self._logged = records[-1] if records else None

    def _note_failures(self, status: StreamStatus) -> None:
        """Says once of each block that it cannot be read."""
        new = [(block, reason) for block, reason in status.failures if block not in self._told]
        self._told = {block for block, _ in status.failures}
        for block, reason in new:
            self._say(f"Block {block} is shown coarsely: {reason}. Blocks panel: Try again")


def is_beside_another(state: ViewerState) -> bool:
    """Whether the scene is compared with another one, which takes memory, too."""
    compare = state.compare
    is_shown = compare.mode is not CompareMode.OFF and compare.against is Against.CHECKPOINT
    return is_shown and compare.path is not None


def _end(stream: FieldStream, change: Future[None] | None) -> None:
    if change is not None:
        wait([change])
    stream.close()
    memory.release()


def _moves(status: StreamStatus) -> tuple[object, ...]:
    """Returns what of a status is worth a new look at it."""
    return (
        status.version,
        status.states.tobytes(),
        status.pinned,
        status.device_bytes,
        status.host_bytes,
        (status.device_budget, status.host_budget),
        (status.n_wanted, status.n_missing, status.n_beyond),
        (status.fetching, status.prefetching, status.target),
        status.pressure,
        status.failures,
        status.fetched_bytes,
    )
