"""Picture desk: when a picture is asked for, with which edits, and what comes back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.appearance import Grade
from . import memory
from .comparison import Comparison, in_view
from .counterparts import Counterparts
from .edit_job import EditJob
from .events import EventLog
from .frame_rate import FrameRate
from .picking import Picked, ground_height, pick
from .quality import SETTLE
from .state import RenderStatus, ViewerState
from .warmup import Warmup

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from ..core.edits.compiled import CompiledEdits
    from ..core.interactive.contracts import Course
    from .opening import Loaded
    from .pictures import Picture, RenderRequest
    from .render_worker import RenderWorker

GROUND_SECONDS = 0.5  # between two estimates of the height of the ground
COMPILING_SECONDS = 0.25  # after which it is said that the edits of the picture are not the newest
LONGEST_PAUSE = 1.0  # seconds that compiling edits may keep a picture from being refined
LONGEST_TURN = 0.5  # seconds after which a picture that does not come is no longer waited for


class PictureDesk:
    """Between the state and the render threads. Used from the main thread only."""

    def __init__(
        self, events: EventLog, wake: Callable[[], None], counterparts: Counterparts, takes_turns: bool
    ) -> None:
        """Makes a desk without a scene; arguments as for Session.

        Args:
            events: Where changes of the edits are logged.
            wake: Makes the main loop look here again; other threads call it.
            counterparts: Finds what pictures are compared with.
            takes_turns: A moving picture is not asked for before the one before it is there.
        """
        self.picture: Picture | None = None  # what is on screen
        self.edits: CompiledEdits | None = None  # that were last asked for in a picture
        self.size = (0, 0)  # of the viewport, pixels
        self.comparison = Comparison(wake, counterparts)
        self._events, self._wake = events, wake
        self._takes_turns = takes_turns
        self._worker: RenderWorker | None = None  # from the first scene on
        self._edit_job = EditJob(wake)
        self._warmup = Warmup(self._has_time, self._note_prepared)
        self._loaded: Loaded | None = None
        self._request: RenderRequest | None = None
        self._rate = FrameRate()
        self._moved = -math.inf  # when the view last changed
        self._colors: tuple[object, ...] = ()  # that were last asked for in a picture; empty: none were
        self._awaited_since = -math.inf  # when the moving picture was asked for that is still to come
        self._ground = 0.0
        self._ground_time = -math.inf

    def open(self, loaded: Loaded) -> None:
        """Shows another scene from now on."""
        from .render_worker import RenderWorker

        if self._worker is None:
            self._worker = RenderWorker(loaded.renderer, self._wake)
        else:
            self._worker.set_renderer(loaded.renderer)
        self._loaded, self.picture, self._request = loaded, None, None
        self.edits, self._colors = loaded.compiled, ()
        self._edit_job.open(loaded.compiler, loaded.compiled)
        self.comparison.open()
        self._rate.clear()
        self._moved = self._ground_time = self._awaited_since = -math.inf
        self._ground = float(loaded.facts.home.pivot[2])
        x, y, _ = loaded.facts.home.pivot
        is_streamed = loaded.renderer.stream is not None  # then nobody has asked yet for blocks to survey
        self._warmup.open(iter(()) if is_streamed else loaded.compiler.preparations(x, y))

    def close(self) -> bool:
        """Ends the threads; False when the first did not stop in time."""
        self._warmup.close()
        self._edit_job.close()
        self.comparison.close()
        return self._worker is None or self._worker.stop(2.0)

    # Asking

    def note_move(self, now: float) -> None:
        """The view changes: quick pictures are wanted for a while."""
        self._moved = now

    def ask(
        self,
        state: ViewerState,
        shown: ViewerState,
        size: tuple[int, int],
        now: float,
        since: float,
        course: Course | None = None,
    ) -> None:
        """Asks for the picture of the present state, for a viewport in pixels.

        Args:
            state: Of the session.
            shown: As it is seen now: during a glide the camera is still on its way.
            size: Of the viewport.
            now: Seconds since the process started.
            since: When the user did what the picture shows.
            course: By which the camera gets from there to the state's pose.
        """
        if self._worker is None or self._loaded is None or min(size) < 1:
            return
        from .pictures import request_for

        if size != self.size:
            if self.size != (0, 0) and self.picture is not None:
                self._moved = now
            self.size = size
        edits, background = self._compiled_edits(state), self.background(state)
        if edits is not self.edits:  # shown at once and fast, like a move, then refined
            self.edits, self._moved = edits, now
            self._events.write("edits", layers=len(edits.layers) if edits else 0)
        colors = replace(state.appearance, grade=Grade()), background
        if self._colors and colors != self._colors:  # so are they
            self._moved = now
        self._colors = colors
        moving = now - self._moved < SETTLE
        if not moving and 0 < self._edit_job.seconds_behind < LONGEST_PAUSE:
            self._worker.stop_refining()  # compiling needs the processor, and makes another picture
            self._request = None
            return
        fps = self._rate.for_rendering(state.render.target_fps)
        request = request_for(shown, *size, moving, since, edits)
        request = replace(request, background=background, target_fps=fps)
        if shown.pose != state.pose:
            request = replace(request, ahead=(state.pose.camera(*size),), course=course)
        if moving and edits is not None and self._edit_job.is_behind:
            request = replace(request, draft=True)
        if moving and self._must_wait(now):
            return
        asked = self.comparison.ask(state, request, self._loaded)
        if asked is None or asked.is_same(self._request):
            return
        if moving:
            self._awaited_since = now
        self._request = asked
        self._worker.submit(asked)

    def look_again(self) -> None:
        """Blocks that the picture lacks, and that would not come, may come now."""
        if self._worker is not None:
            self._worker.look_again()

    def background(self, state: ViewerState) -> tuple[float, float, float] | None:
        """Returns the colour behind the scene: the user's, else the scene's."""
        return state.render.background or (self._loaded.background if self._loaded else None)

    def _must_wait(self, now: float) -> bool:
        """Whether the moving picture that is being made comes first; until it has begun it may be another."""
        if not self._takes_turns or now - self._awaited_since >= LONGEST_TURN:
            return False
        return self._worker is not None and not self._worker.can_take_another

    def _compiled_edits(self, state: ViewerState) -> CompiledEdits | None:
        """Returns the edits to show: those of the state, or the last ones that are ready."""
        layers = tuple(layer for layer in state.edits if layer.enabled) if state.edits_shown else ()
        self._edit_job.ask(layers)
        return self._edit_job.current if layers else None

    # Taking

    def take(self, state: ViewerState, now: float) -> tuple[Picture, RenderStatus] | None:
        """Returns a new picture to show and what there is to say of it."""
        picture = self._worker.take() if self._worker is not None else None
        picture = self.comparison.take(picture, state)
        if picture is None or self._loaded is None:
            return None
        self.picture = picture
        self._awaited_since = -math.inf
        self._edit_job.note_shown(picture.request.edits)
        if now - self._ground_time > GROUND_SECONDS:
            self._ground_time = now
            self._ground = ground_height(picture.camera, picture.depth, self._ground)
        height, width = picture.image.shape[:2]
        return picture, RenderStatus(
            moving=picture.moving,
            quality=picture.quality,
            scale=picture.scale,
            progress=picture.progress,
            finished=picture.finished,
            frame_ms=picture.render_ms or state.status.frame_ms,
            fps=self._rate.note_picture(now, picture.moving),
            width=width,
            height=height,
            backend=self._loaded.backend,
            ground=self._ground,
            coarse=picture.coarse,
            warp=picture.warp,
            adaptive=picture.adaptive,
        )

    def take_failures(self) -> list[str]:
        """Returns why there is no picture, or not the wanted one; each sentence once."""
        failures = [self._edit_job.take_failure(), self.comparison.take_failure()]
        if self._worker is not None and (failure := self._worker.take_failure()):
            self._awaited_since = -math.inf
            failures.append(failure)
        return [failure for failure in failures if failure]

    def note_drawing(self, seconds: float) -> None:
        """The window drew a new picture: the time of a moving one counts against its frame rate."""
        if self.picture is not None and self.picture.moving:
            self._rate.note_drawing(seconds)

    @property
    def standing(self) -> Picture | None:
        """The picture on screen, if it is finished and shows what was asked for last."""
        picture = self.picture
        if picture is None or not picture.finished or not picture.request.is_same(self._request):
            return None
        if self._edit_job.is_behind:
            return None
        return picture if self.comparison.stands else None

    # Time

    def next_time(self, now: float, state: ViewerState) -> float:
        """Returns when there is something to ask or to take even if nothing happens before."""
        settled = self._moved + SETTLE if self._request is not None and self._request.moving else math.inf
        return min(self.comparison.next_time(now, state), settled)

    @property
    def is_behind(self) -> bool:
        """Whether the newest edits are still being compiled."""
        return self._edit_job.is_behind

    @property
    def is_compiling(self) -> bool:
        """Whether the picture lacks the newest edits, and that for so long that it should be said."""
        return self._edit_job.seconds_behind > COMPILING_SECONDS

    def _note_prepared(self) -> None:
        """Says that all work ahead is done; for any thread."""
        memory.trim()
        self._events.write("prepared")

    def _has_time(self) -> bool:
        """Whether the first picture is there and nothing is rendered or compiled now; for any thread."""
        if self.picture is None or self._worker is None:
            return False
        return self._worker.is_idle and not self._edit_job.is_behind

    def is_idle(self, state: ViewerState) -> bool:
        """Whether the picture is as good as it will be."""
        if self._edit_job.is_behind or not self.comparison.is_idle:
            return False
        return self._worker is None or (self._worker.is_idle and state.status.finished)

    # What the picture shows

    @property
    def ground(self) -> float:
        """Height of the ground in the picture, scene units."""
        return self._ground

    def pick(self, state: ViewerState, shown: ViewerState, at: tuple[float, float]) -> Picked:
        """Returns the point of the scene under a viewport pixel of the picture on screen."""
        pose = shown.pose
        if self.picture is None:
            return pick(pose.camera(*self.size), *at, None, self._ground, pose.distance)
        camera, at = self.picture.request.camera, in_view(at, self.size, state.compare)
        return pick(camera, *at, self.picture.depth, self._ground, pose.distance)
