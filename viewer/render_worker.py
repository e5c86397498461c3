"""The render thread: newest request wins, coarse to fine, asleep when there is nothing to do.

While the camera moves, pictures come from keyframes (`interactive`), or are rendered in one piece at the
resolution that is fast enough (`adaptive`). At rest the picture is refined in slices of tiles
(`refinement`); any other request cancels that within a tile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..core.errors import InputError
from ..cuda.tables import RenderControl
from .adaptive import Adaptive
from .events import since_start
from .interactive import EngineMaker, Interactive, open_engine
from .pictures import Picture, Renderer, RenderRequest
from .refinement import Refinement
from .render_job import Drawing, Job, Superseded

log = logging.getLogger(__name__)


class RenderWorker:
    """Owns the thread that renders. All methods may be called from the main thread at any time."""

    def __init__(
        self,
        renderer: Renderer | None,
        on_wake: Callable[[], None],
        make_engine: EngineMaker = open_engine,
    ) -> None:
        """Starts the thread.

        Args:
            renderer: Of the first scene; None shows nothing.
            on_wake: Called from the thread after every picture and failure.
            make_engine: Returns what makes pictures from keyframes for a renderer, if anything does.
        """
        self._condition = threading.Condition()
        # Guarded by the condition:
        self._renderer = renderer
        self._scene = 0  # counts the renderers
        self._latest: RenderRequest | None = None
        self._pending: RenderRequest | None = None
        self._job: Job | None = None
        self._control: RenderControl | None = None
        self._shown: tuple[tuple[object, ...], Drawing] | None = None  # with the view that it is of
        self._mail: Picture | None = None
        self._failure: str | None = None
        self._stopping = False
        # Used by the thread only:
        self.imaging_seconds = 0.0
        self._on_wake = on_wake
        self._make_engine = make_engine
        self._adaptive = Adaptive()
        self._interactive: tuple[int, Interactive | None] = -1, None  # with the scene
        self._refinement = Refinement(self, self._note_stage)
        self._thread = threading.Thread(target=self._run, name="render", daemon=True)
        self._thread.start()

    def submit(self, request: RenderRequest) -> None:
        """Asks for a picture instead of the one asked for before; an equal request changes nothing."""
        with self._condition:
            if self._stopping or self._renderer is None or request.is_same(self._latest):
                return
            self._latest = self._pending = request
            if self._job is not None and self._is_superseded(self._job):
                self._cancel()
            self._condition.notify_all()

    def stop_refining(self) -> None:
        """Ends a refinement: what it refines is about to be replaced. The next request is served as usual."""
        with self._condition:
            if self._job is not None and (self._job.is_spare or not self._job.request.moving):
                self._latest = None
                self._cancel()

    def look_again(self) -> None:
        """Serves the newest request once more: what had no chance to come may come now."""
        with self._condition:
            if not self._stopping and self._job is None and self._pending is None:
                self._pending = self._latest
                self._condition.notify_all()

    def set_renderer(self, renderer: Renderer | None) -> None:
        """Changes the scene: drops request, pictures and refinement of the old one. None shows nothing."""
        with self._condition:
            self._renderer = renderer
            self._scene += 1
            self._latest = self._pending = self._shown = self._mail = self._failure = None
            self._cancel()
            if self._job is None:
                self._release()
            self._condition.notify_all()

    def take(self) -> Picture | None:
        """Returns the newest picture that was not taken yet."""
        with self._condition:
            picture, self._mail = self._mail, None
        return picture

    def take_failure(self) -> str | None:
        """Returns a sentence on the last failure that was not taken yet; the traceback is in the log."""
        with self._condition:
            failure, self._failure = self._failure, None
        return failure

    @property
    def is_idle(self) -> bool:
        """Whether the thread sleeps with nothing to do."""
        with self._condition:
            return self._job is None and self._pending is None

    @property
    def can_take_another(self) -> bool:
        """Whether the newest request was not begun yet, so that another may take its place at no cost."""
        with self._condition:
            return self._pending is not None

    def wait_idle(self, timeout: float) -> bool:
        """Waits until the thread has nothing to do; False when the time is over before."""
        with self._condition:
            return self._condition.wait_for(lambda: self._job is None and self._pending is None, timeout)

    def stop(self, timeout: float = 1.0) -> bool:
        """Cancels what is under way and ends the thread; False when it did not end in time."""
        with self._condition:
            self._stopping = True
            self._cancel()
            self._condition.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # Under the lock

    def _cancel(self) -> None:
        if self._control is not None:
            self._control.cancel()

    def _release(self) -> None:
        """Drops what belongs to a scene that is shown no more."""
        if self._interactive[0] != self._scene:
            self._interactive = -1, None

    def _is_superseded(self, job: Job) -> bool:
        if self._stopping or job.scene != self._scene:
            return True
        pending = self._pending
        if pending is not None and job.is_spare:
            return True
        if pending is None or job.request.moving or pending.is_same_work(job.request):
            return False
        # Something is shown for every request at rest: a flood of them must not leave the window blank.
        return pending.moving or job.image is not None

    # In the thread

    def _run(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                self._serve(job)
            except Superseded:
                pass
            except Exception as error:
                log.exception("rendering failed")
                self._report(job, error)
            finally:
                with self._condition:
                    self._job = self._control = None
                    self._release()
                    self._condition.notify_all()
                del job

    def _next_job(self) -> Job | None:
        """Sleeps until there is something to do; None at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._pending is not None)
            if self._stopping:
                return None
            assert self._pending is not None, "a request is waiting"
            assert self._renderer is not None, "submit takes no request without a renderer"
            self._job = Job(self._pending, self._renderer, self._scene)
            self._pending = None
            return self._job

    def _serve(self, job: Job) -> None:
        interactive = self._interactive_for(job)
        self._adaptive.follow(job)
        if not job.request.moving:
            self._refinement.serve(job)
            if interactive is not None:
                interactive.prepare(self, job)
        elif interactive is None:
            self._adaptive.serve(self, job)
        elif job.adaptive or not interactive.serve(self, job):
            job.adaptive = interactive.why_not(job.request)
            self._adaptive.serve(self, job)
            interactive.stand_by()

    def _interactive_for(self, job: Job) -> Interactive | None:
        """Returns what makes moving pictures of the scene from keyframes, and notes in the job why not."""
        scene, found = self._interactive
        if scene != job.scene:
            engine = self._make_engine(job.renderer)
            found = Interactive(engine, job.request) if engine is not None else None
            self._interactive = job.scene, found
        if found is not None:
            found.follow(job.request)
            job.adaptive = found.why_not(job.request)
            job.makes_keyframes = not job.adaptive
        return found

    def _note_stage(self, job: Job, drawing: Drawing, ms: float) -> None:
        """A stage of a picture at rest is done."""
        self._adaptive.note(ms, drawing.stage)
        _, found = self._interactive
        if found is not None and drawing.stage.scale == job.resolution:
            found.adopt(job, drawing)

    # For those who serve a job, see Turn

    def begin(self, job: Job, control: RenderControl) -> None:
        with self._condition:
            self._adopt(job)
            if self._has_ended(job):
                raise Superseded
            self._control = control

    def pause(self, job: Job, seconds: float) -> bool:
        with self._condition:
            self._condition.wait_for(lambda: self._pending is not None or self._has_ended(job), seconds)
            if self._has_ended(job):
                raise Superseded
            return self._pending is not None

    def spare(self, job: Job) -> None:
        with self._condition:
            job.is_spare = True
            if self._is_superseded(job):
                raise Superseded

    def shown(self, job: Job) -> Drawing | None:
        view, drawing = self._shown or (None, None)
        return drawing if view == job.request.view else None

    def remember(self, job: Job, drawing: Drawing) -> None:
        with self._condition:
            if job.scene == self._scene:
                self._shown = job.request.view, replace(drawing, fade=None)

    def publish(self, job: Job, drawing: Drawing, progress: float, render_ms: float) -> None:
        with self._condition:
            self._adopt(job)
            request = job.request
        stage, fade = drawing.stage, drawing.fade
        began = time.perf_counter()
        image = job.image_of(drawing.buffers, drawing.camera)
        shown = fade.mixed(image, request.look, time.monotonic()) if fade else image
        self.imaging_seconds = time.perf_counter() - began
        is_done = not request.moving and stage == job.final and progress >= 1 - 1e-9 and fade is None
        picture = Picture(
            image=shown,
            depth=drawing.buffers.median_depth.numpy().copy(),
            camera=drawing.camera,
            request=request,
            quality=stage.quality,
            scale=stage.scale,
            progress=progress,
            finished=is_done and not job.supply.can_better(request, drawing.lacks),
            render_ms=render_ms,
            published=since_start(),
            coarse=drawing.lacks.share,
            adaptive=job.adaptive,
        )
        self.deliver(job, picture, image)

    def deliver(self, job: Job, picture: Picture, image: np.ndarray) -> None:
        with self._condition:
            if self._is_superseded(job):
                raise Superseded
            self._mail = picture
            job.image, job.is_finished = image, picture.finished
        self._on_wake()

    def _has_ended(self, job: Job) -> bool:
        """Whether the job is not wanted any more. Under the lock."""
        return self._is_superseded(job) or (self._control is not None and self._control.is_cancelled)

    def _adopt(self, job: Job) -> None:
        """Goes on with the work for a new request that only shows it in another mode."""
        if self._pending is not None and self._pending.is_same_work(job.request):
            job.request, self._pending = self._pending, None

    def _report(self, job: Job, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        sentence = reason if isinstance(error, InputError) else f"Rendering failed: {reason}"
        with self._condition:
            if job.scene != self._scene:
                return
            self._shown = None  # its buffers may be half overwritten
            self._failure = sentence
        self._on_wake()
