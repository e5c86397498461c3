"""Selector: asks the terrain for buildings and ground heights in a thread, so that the window never waits."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.edits.layers import Prism
from ..core.edits.region import Region
from ..core.errors import InputError

if TYPE_CHECKING:  # it needs torch, which is imported while the window is already there
    from ..core.edits.terrain import Terrain

HEADROOM = 0.25  # of the typical height of what stands here, above the highest point
MAX_KNOWN = 20_000  # ground heights that are kept

log = logging.getLogger(__name__)

Cell = tuple[int, int]


@dataclass(frozen=True)
class _Question:
    terrain: Terrain
    ask: Callable[[Terrain], Any]
    answered: Callable[[Any], None]
    failed: Callable[[str], None]


class Selector:
    """One thread that answers questions about a terrain in their order; `poll` hands the answers over.

    Everything but the thread itself belongs to the main thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop call `poll` soon."""
        self._wake = wake
        self._condition = threading.Condition()
        self._questions: deque[_Question] = deque()
        self._answers: deque[Callable[[], None]] = deque()
        self._terrain: Terrain | None = None
        self._known: dict[Cell, float] = {}
        self._asked: Cell | None = None  # whose ground is being looked up
        self._latest: float | None = None
        self._stopping = False
        threading.Thread(target=self._run, name="selector", daemon=True).start()

    def open(self, terrain: Terrain | None) -> None:
        """Asks another terrain from now on; unanswered questions about the old one are dropped."""
        with self._condition:
            self._questions.clear()
            self._answers.clear()
        self._terrain, self._latest, self._asked = terrain, None, None
        self._known.clear()

    def building(
        self, x: float, y: float, answered: Callable[[Prism], None], failed: Callable[[str], None]
    ) -> None:
        """Looks for the building at a point; one of the two is called from `poll` with what came of it."""

        def look(terrain: Terrain) -> Prism:
            from ..core.edits.select import select_building

            return select_building(terrain, x, y)

        self._ask(look, answered, failed)

    def standing(
        self, region: Region, answered: Callable[[Prism], None], failed: Callable[[str], None]
    ) -> None:
        """Looks how high stands what is on a region; one of the two is called from `poll`."""
        self._ask(lambda terrain: standing_prism(terrain, region), answered, failed)

    def exact_ground(self, x: float, y: float, answered: Callable[[float], None]) -> None:
        """Looks up the height of the ground at a point; from `poll`, or at once where it is known."""
        cell = self._cell(x, y)
        if cell in self._known:
            answered(self._known[cell])
        else:
            self._look_up(cell, x, y, answered)

    def ground(self, x: float, y: float, fallback: float) -> float:
        """Returns the height of the ground; where it is not known yet, that of the place before."""
        cell = self._cell(x, y)
        if cell in self._known:
            self._latest = self._known[cell]
            return self._latest
        if self._asked is None and self._terrain is not None:
            self._asked = cell
            self._look_up(cell, x, y, lambda _: None)
        return fallback if self._latest is None else self._latest

    def close(self) -> None:
        """Ends the thread after what it looks for now."""
        with self._condition:
            self._stopping = True
            self._condition.notify()

    @property
    def side(self) -> float:
        """Side of the terrain's cells, scene units; 0 without a terrain."""
        return self._terrain.side if self._terrain is not None else 0.0

    def poll(self) -> bool:
        """Hands over what was answered; True where there was anything. For the main thread."""
        told = False
        while self._answers:
            self._answers.popleft()()
            told = True
        return told

    def _cell(self, x: float, y: float) -> Cell:
        side = self.side or 1.0
        return round(x / side), round(y / side)

    def _look_up(self, cell: Cell, x: float, y: float, answered: Callable[[float], None]) -> None:
        def learn(height: float) -> None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[cell] = self._latest = height
            self._asked = None
            answered(height)

        def give_up(sentence: str) -> None:
            log.warning("the ground at %g, %g is not known: %s", x, y, sentence)

        self._ask(lambda terrain: terrain.ground_at(x, y), learn, give_up)

    def _ask(
        self,
        ask: Callable[[Terrain], Any],
        answered: Callable[[Any], None],
        failed: Callable[[str], None],
    ) -> None:
        if self._terrain is None:
            return
        with self._condition:
            self._questions.append(_Question(self._terrain, ask, answered, failed))
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._questions or self._stopping)
                if self._stopping:
                    return
                question = self._questions.popleft()
            told: Callable[[], None]
            try:
                answer = question.ask(question.terrain)
            except InputError as error:
                told = _call(question.failed, str(error))
            except Exception as error:
                log.exception("asking the terrain failed")
                told = _call(question.failed, f"That did not work: {str(error) or type(error).__name__}")
            else:
                told = _call(question.answered, answer)
            with self._condition:
                if question.terrain is self._terrain:
                    self._answers.append(told)
            self._wake()


def standing_prism(terrain: Terrain, region: Region) -> Prism:
    """Returns what stands on a region: from the ground under it to just above its highest point."""
    window = terrain.window(region.bounds)
    n_y, n_x = window.ground.shape
    x = window.low[0] + (np.arange(n_x) + 0.5) * window.side
    y = window.low[1] + (np.arange(n_y) + 0.5) * window.side
    inside = region.contains(*np.meshgrid(x, y))
    if not inside.any():  # narrower than a cell
        inside[:] = True
    low = float(np.median(window.ground[inside]))
    tops = window.height[inside]
    high = float(np.nanmax(tops)) if np.isfinite(tops).any() else low
    return Prism(region, low, max(high, low) + HEADROOM * terrain.scale.rise)


def _call(function: Callable[[Any], None], value: Any) -> Callable[[], None]:
    return lambda: function(value)
