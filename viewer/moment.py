"""What two render threads decide alike, whose pictures of one moment are compared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..core.interactive.controller import Controller


@dataclass(frozen=True)
class Plan:
    """What a moving picture depends on beside what it shows."""

    controller: Controller  # deals out its rays
    scale: float  # share of the viewport per side
    now: float  # when it is shown, seconds since process start


class Moment:
    """One moment: the thread that comes first decides for both. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plan: Plan | None = None

    def plan(self, decide: Callable[[], Plan]) -> Plan:
        """Returns what was decided; calls `decide` if nothing was."""
        with self._lock:
            self._plan = self._plan or decide()
            return self._plan
