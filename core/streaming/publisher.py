"""The thread that makes a new snapshot of what is resident, so that rendering never waits for one."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from .snapshots import Snapshots, Streams, Versions

if TYPE_CHECKING:
    from ...cuda.tables import FieldTables
    from .holdings import Holdings

logger = logging.getLogger(__name__)

FADE_SECONDS = 0.3  # in which a block that arrives takes the place of its stand-in
PUBLISH_SECONDS = 0.05  # between two snapshots, unless a block had to go or is waited for
PAUSES = 4  # times as long as a snapshot of very many blocks took
WATCH_SECONDS = 1.0  # between looks whether all goes well


class Publisher:
    """Holds the newest snapshot; whoever changes `holdings` under `changed` notifies it."""

    def __init__(
        self,
        bare: FieldTables,
        streams: Streams,
        holdings: Holdings,
        changed: threading.Condition,
        on_change: Callable[[], None] | None,
    ) -> None:
        """Makes the first snapshot, without blocks.

        Args:
            bare: Tables of the field without blocks.
            streams: What is always in memory.
            holdings: What is resident.
            changed: Guards it.
            on_change: Called after every new snapshot, without `changed`.
        """
        self.current = _prepared(Snapshots(bare, streams, {}, 0))
        self.shown: Versions = ()  # asked for last, and so made beforehand
        self.was_seen = False  # a snapshot was asked for
        self._holdings, self._changed, self._on_change = holdings, changed, on_change
        self._arrivals: dict[int, float] = {}
        self._is_closed = False
        self._thread: threading.Thread | None = None

    def start(self, watch: Callable[[], None]) -> None:
        """Starts the thread; it calls `watch` with `changed` held, every WATCH_SECONDS at least."""
        self._thread = threading.Thread(target=self._run, args=(watch,), name="publish", daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Ends the thread and leaves a snapshot without blocks."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)
        self.restart(self.current.streams)

    def restart(self, streams: Streams, change: Callable[[], None] = lambda: None) -> None:
        """Goes on without blocks and, maybe, with other stand-ins, after a `change` of the holdings."""
        empty = _prepared(Snapshots(self.current.bare, streams, {}, 0))
        with self._changed:
            change()
            self.current = empty.renumbered(self.current.version + 1)
            self._changed.notify_all()

    def tell(self) -> None:
        """Calls who wants to know of changes."""
        if self._on_change is not None:
            try:
                self._on_change()
            except Exception:  # noqa: BLE001 - whatever it is, blocks go on coming
                logger.error("a listener to blocks failed\n%s", traceback.format_exc())

    def arriving(self, now: float) -> dict[int, float]:
        """Returns the blocks that arrived in the last FADE_SECONDS, and when; call with `changed` held."""
        self._arrivals = {block: time for block, time in self._arrivals.items() if now - time < FADE_SECONDS}
        return dict(self._arrivals)

    def _run(self, watch: Callable[[], None]) -> None:
        next_time = float("-inf")
        while self._wait(next_time, watch):
            began = time.monotonic()
            try:
                self._publish()
            except Exception:  # noqa: BLE001 - the snapshot before stays, the next try comes
                logger.error("a snapshot cannot be made\n%s", traceback.format_exc())
                with self._changed:
                    self._holdings.is_changed = True
            now = time.monotonic()
            next_time = now + max(PUBLISH_SECONDS, PAUSES * (now - began))
            self.tell()

    def _wait(self, next_time: float, watch: Callable[[], None]) -> bool:
        """Returns once there is something to publish; False: closed."""
        holdings = self._holdings
        with self._changed:
            while not self._is_closed:
                due = next_time - time.monotonic()
                urgent = holdings.machine.urgent
                is_waited_for = bool(urgent) and all(key in holdings.resident for key in urgent)
                if holdings.is_changed and (holdings.has_evicted or is_waited_for or due <= 0):
                    return True
                watch()
                self._changed.wait(due if holdings.is_changed else WATCH_SECONDS)
            return False

    def _publish(self) -> None:
        holdings = self._holdings
        with self._changed:
            resident, shown, before = dict(holdings.resident), self.shown, self.current
            holdings.is_changed = holdings.has_evicted = False
            epoch = holdings.epoch
        made = Snapshots(before.bare, before.streams, resident, before.version + 1)
        made.tables()
        made.tables(shown)
        with self._changed:
            if holdings.epoch != epoch or self._is_closed:
                return
            now = time.monotonic()
            if self.was_seen:
                self._arrivals.update({key.block: now for key in resident if key not in before.resident})
            self.current = made
            del before  # and so the memory of what went, for which others wait
            self._changed.notify_all()


def _prepared(snapshots: Snapshots) -> Snapshots:
    snapshots.tables()
    return snapshots
