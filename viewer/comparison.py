"""Compares the present picture A with another one, B, which a second render thread makes of the same view.

While the camera moves, both threads work on the same request at once, and a picture is shown when both are
there, so that A and B always show one moment. Of one scene they also do so with the same rays, so that the
pictures differ only where what they show does. Where B keeps A waiting for too long, A is shown alone until
the camera rests. At rest A is refined first and B after it, each with all cores. Where B is to show the very
same as A, it is A.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core import compare
from ..core.compare import Score
from .counterparts import Counterpart, Counterparts, Photo
from .events import since_start
from .moment import Moment
from .state import Against, Compare, CompareMode, Mode, ViewerState

if TYPE_CHECKING:
    from .opening import Loaded
    from .pictures import Picture, RenderRequest
    from .render_worker import RenderWorker

BLINK = 0.5  # seconds that each picture is shown
LATE = 0.4  # seconds after which a moving A does not wait for its B any longer
NOTHING = (18, 21, 26, 255)  # half of a side by side view that has no picture yet

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CompareStatus:
    """What panel and picture say of a comparison."""

    label: str = ""  # of B: "unedited", "winter.th"
    progress: float = 0.0  # of the refinement of B, in [0, 1]
    finished: bool = False  # both pictures are
    score: Score | None = None  # of two finished pictures in colour
    photo: Photo | None = None  # that B is
    note: str = ""  # why there is no B, or it is not what one might expect
    is_second: bool = False  # blinking: B is on screen
    is_beside: bool = False  # the picture on screen is made of both


@dataclass(frozen=True)
class Beside:
    """The second picture in an image that compares two."""

    mode: str  # "wipe", "blink, second shown", ...
    name: str
    files: tuple[Path, ...]  # of its checkpoint
    request: RenderRequest


class Comparison:
    """Owns the second render thread while two pictures are compared. Used from the main thread only."""

    def __init__(self, wake: Callable[[], None], counterparts: Counterparts) -> None:
        """`wake` makes the main loop look here again; `counterparts` finds what is rendered as B."""
        self.counterparts = counterparts
        self._wake = wake
        self._worker: RenderWorker | None = None  # while something is compared
        self._other: Counterpart | None = None
        self._renderer: object = None  # of A
        self._asked: RenderRequest | None = None  # of A
        self._a: Picture | None = None
        self._b: Picture | None = None
        self._awaited_since: float | None = None  # when a pair was asked for that is still to come
        self._alone = False  # B was too late, A moves on without it
        self._shown: tuple[object, ...] = ()
        self._scores = Scores(wake)
        self._failure: str | None = None

    def open(self) -> None:
        """Forgets the pictures of the scene before: another one has opened."""
        self._end()
        self._a = self._asked = None
        self._shown = ()
        self.counterparts.open()

    def close(self, timeout: float = 0.0) -> None:
        """Ends the second thread."""
        self._end(timeout)

    # The session calls these

    def ask(self, state: ViewerState, request: RenderRequest, loaded: Loaded) -> RenderRequest | None:
        """Returns what to ask of the first thread instead; None: what is under way comes first."""
        if state.compare.mode is CompareMode.OFF:
            if self._worker is not None:
                self._end()
            self._asked = request
            return request
        self._renderer = loaded.renderer
        self._adopt(self.counterparts.find(state, loaded))
        camera = request.camera
        size = view_size((camera.width, camera.height), state.compare)
        request = replace(request, camera=camera.resized(*size))
        if not request.moving:
            self._alone = False
        elif self._is_waiting:
            return None
        if not request.is_same(self._asked):
            request = self._paired(request)
            self._asked = request
        return request

    def _paired(self, request: RenderRequest) -> RenderRequest:
        """Asks for the B of a moving A at once, and returns what to ask for A."""
        other = self._other
        if not request.moving or other is None or self._worker is None or self._alone or self._is_a(request):
            return request
        if other.renderer is self._renderer:
            request = replace(request, moment=Moment())
        self._awaited_since = since_start()
        self._worker.submit(replace(other.request(request), moving=True))
        return request

    def take(self, picture: Picture | None, state: ViewerState) -> Picture | None:
        """Takes the newest picture of the first thread in; returns what to show, None for what is shown."""
        self._a = picture or self._a
        if self._worker is None:
            return self._alone_again(picture)
        self._b = self._worker.take() or self._b
        self._failure = self._worker.take_failure() or self._failure
        a, b = self._a, self._matching
        if a is None or not self._is_current(a):
            return None
        self._ask_at_rest(a)
        if b is not None and self._asked is not None and a.request.view == self._asked.view:
            self._awaited_since = None
        elif b is None and self._is_waiting:
            return None
        if b is not None and a.finished and b.finished and a.request.mode is Mode.COLOR:
            self._scores.ask(a, b, is_photo=state.compare.against is Against.PHOTO)
        return self._composed(a, b, state.compare)

    def next_time(self, now: float, state: ViewerState) -> float:
        """Returns when `take` has something to show even if no picture comes."""
        if self._worker is None:
            return math.inf
        times = [math.inf]
        if state.compare.mode is CompareMode.BLINK and self._matching is not None:
            times.append((math.floor(now / BLINK) + 1) * BLINK)
        if self._awaited_since is not None:
            times.append(self._awaited_since + LATE)
        return min(times)

    @property
    def stands(self) -> bool:
        """Whether B, where there is one, is as good as it will be."""
        b = self._matching
        return self._other is None or self._failure is not None or (b is not None and b.finished)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being rendered or counted here."""
        return self._worker is None or (self._worker.is_idle and not self._scores.is_busy)

    @property
    def status(self) -> CompareStatus:
        """What there is to say of it."""
        if self._worker is None:
            return CompareStatus()
        a, b = self._a, self._matching
        other = self._other
        both = a is not None and b is not None and a.finished and b.finished
        return CompareStatus(
            label=other.label if other else "",
            progress=b.progress if b is not None else 0.0,
            finished=both,
            score=self._scores.of(a, b) if a is not None and b is not None else None,
            photo=other.photo if other else None,
            is_second=bool(self._shown and self._shown[-1]),
            is_beside=bool(self._shown and self._shown[1]),
            note=self._failure or self._note(a, b),
        )

    def _note(self, a: Picture | None, b: Picture | None) -> str:
        if a is None or self._other is None:
            return self.counterparts.note
        note = self._other.note(a.request)
        coarse = max(a.coarse, b.coarse if b is not None else 0.0)
        if coarse and b is not None and a.finished and b.finished:
            said = (
                f"Up to {100 * coarse:.0f} % is coarse, as blocks do not fit: the scores are of what is shown"
            )
            note = f"{note}. {said}" if note else said
        return note

    def take_failure(self) -> str | None:
        """Returns why there is no B, once."""
        return self.counterparts.take_failure()

    # How it works

    @property
    def _is_waiting(self) -> bool:
        """Whether a moving pair is still to come, and worth the wait."""
        if self._awaited_since is None:
            return False
        if since_start() - self._awaited_since > LATE:
            self._awaited_since = None
            self._alone = self._asked is not None and self._asked.moving
            return False
        return True

    @property
    def _matching(self) -> Picture | None:
        """B, where it shows what A shows."""
        a, b = self._a, self._b
        if a is None or self._other is None:
            return None
        if self._is_a(a.request):
            return a
        if b is None:
            return None
        wanted = self._other.request(a.request)
        return b if (b.request.view, b.request.look) == (wanted.view, wanted.look) else None

    def _is_a(self, request: RenderRequest) -> bool:
        """Whether B is nothing but A."""
        other = self._other
        return other is not None and other.renderer is self._renderer and other.request(request) == request

    def _is_current(self, a: Picture) -> bool:
        """Whether A has the shape that the mode needs: half as wide when side by side."""
        asked = self._asked
        if asked is None:
            return False
        shape, now = a.request.camera, asked.camera
        return shape.width * now.height * 2 > now.width * shape.height > shape.width * now.height / 2

    def _adopt(self, other: Counterpart | None) -> None:
        """Renders another B from now on."""
        if self._worker is not None and other == self._other:
            return
        from .render_worker import RenderWorker

        renderer = other.renderer if other else None
        if self._worker is None:
            self._worker = RenderWorker(renderer, self._wake)
        elif self._other is None or other is None or self._other.renderer is not renderer:
            self._worker.set_renderer(renderer)
            self._b = None
        self._other, self._failure = other, None
        self._awaited_since = None

    def _ask_at_rest(self, a: Picture) -> None:
        """Asks for B: a quick one beside an unfinished A that has none yet, a good one after it."""
        if self._other is None or self._worker is None or a.moving or self._is_a(a.request):
            return
        if self._asked is not None and self._asked.moving:
            return  # the camera has moved on
        wanted = self._other.request(a.request)
        if a.finished or self._other.photo is not None:  # a photograph costs next to nothing
            self._worker.submit(wanted)
        elif self._matching is None:
            self._worker.submit(replace(wanted, moving=True))

    def _composed(self, a: Picture, b: Picture | None, wanted: Compare) -> Picture | None:
        """Returns A with both in its image; None where that is on screen already."""
        phase = math.floor(since_start() / BLINK) % 2 if wanted.mode is CompareMode.BLINK else 0
        key = (a.published, b and b.published, wanted.mode, wanted.position, wanted.gain, phase)
        if key == self._shown:
            return None
        self._shown = key
        image = b.image if b is not None else None
        if image is not None and b is not None and self._other is not None and self._other.photo is not None:
            image = compare.filled(image, b.depth > 0, a.image)
        beside = None
        if b is not None and self._other is not None:
            mode = f"{wanted.mode.value}{', second shown' * phase}"
            beside = Beside(mode, self._other.label, self._other.files, b.request)
        return replace(a, image=composed(a.image, image, wanted, phase), beside=beside)

    def _alone_again(self, picture: Picture | None) -> Picture | None:
        """Returns A alone, also when nothing new came but two were shown at last."""
        if self._shown:
            picture = self._a
            if picture is None or not self._is_current(picture):
                return None
            self._shown = ()
        return picture

    def _end(self, timeout: float = 0.0) -> None:
        if self._worker is not None:
            self._worker.stop(timeout)
            self.counterparts.release()
        self._worker = self._other = self._b = self._renderer = None
        self._awaited_since, self._alone, self._failure = None, False, None


def view_size(size: tuple[int, int], wanted: Compare) -> tuple[int, int]:
    """Returns the size of one picture in a viewport of a size in pixels: side by side, half as wide."""
    width, height = size
    return (max(width // 2, 1), height) if wanted.mode is CompareMode.SIDE else size


def in_view(at: tuple[float, float], size: tuple[int, int], wanted: Compare) -> tuple[float, float]:
    """Turns a pixel of a viewport into one of the picture that lies there; both pictures show one view."""
    width = view_size(size, wanted)[0]
    return (at[0] - width, at[1]) if wanted.mode is CompareMode.SIDE and at[0] >= width else at


def composed(a: np.ndarray, b: np.ndarray | None, wanted: Compare, phase: int = 0) -> np.ndarray:
    """Returns the image that a mode makes of two; without B, A alone.

    Args:
        a: uint8 [height, width, 4]
        b: uint8 [height, width, 4] of any size.
        wanted: Mode, position of the wipe, gain of the difference.
        phase: Of blinking: 0 shows A, 1 shows B.
    """
    if wanted.mode is CompareMode.SIDE:
        nothing = np.broadcast_to(np.array(NOTHING, np.uint8), a.shape)
        return compare.side_by_side(a, nothing if b is None else b)
    if b is None or wanted.mode is CompareMode.OFF:
        return a
    if wanted.mode is CompareMode.WIPE:
        return compare.wipe(a, b, wanted.position)
    if wanted.mode is CompareMode.DIFFERENCE:
        return compare.difference(a, b, wanted.gain)
    return a if phase == 0 else compare.resized(b, a.shape[1], a.shape[0])


class Scores:
    """Counts PSNR and SSIM in a thread, one pair at a time, and keeps the last ones."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop look here again."""
        self._wake = wake
        self._pair: tuple[Picture, Picture] | None = None
        self._score: Score | None = None
        self._thread: threading.Thread | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a pair is being counted."""
        return self._thread is not None and self._thread.is_alive()

    def ask(self, a: Picture, b: Picture, is_photo: bool) -> None:
        """Wants the score of a pair, unless it is known or another one is under way."""
        if self.is_busy or self._is_of(a, b):
            return
        self._pair, self._score = (a, b), None
        self._thread = threading.Thread(target=self._run, args=(a, b, is_photo), name="compare", daemon=True)
        self._thread.start()

    def of(self, a: Picture, b: Picture) -> Score | None:
        """Returns the score of a pair, if it is known."""
        return self._score if self._is_of(a, b) else None

    def _is_of(self, a: Picture, b: Picture) -> bool:
        return self._pair is not None and self._pair[0] is a and self._pair[1] is b

    def _run(self, a: Picture, b: Picture, is_photo: bool) -> None:
        known = None
        if is_photo:  # it has a depth where it knows its colours
            known = compare.resized(b.depth, a.image.shape[1], a.image.shape[0]) > 0
        try:
            self._score = compare.score(a.image, b.image, known)
        except Exception:
            log.exception("comparing failed")
        self._wake()
