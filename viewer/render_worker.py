"""The render thread: newest request wins, coarse to fine, asleep when there is nothing to do.

A moving camera gets one fast picture after the other, at the scale that the controller finds; one that is
under way is finished, as it is short. At rest the picture is refined in slices of tiles, from the middle
outwards, over what is already shown; any other request cancels that within a tile.

Blocks that a picture lacks are never waited for: coarse stand-ins show what they hold. At rest, the tiles
that lacked something are rendered again when blocks have come, and replace the old ones little by little.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..core.camera import Camera
from ..core.errors import InputError
from ..core.render import RenderSettings
from ..cuda.tables import FrameBuffers, Quality, RenderControl
from .events import since_start
from .imaging import BlockGrid, to_image
from .pictures import Picture, Renderer, RenderRequest
from .quality import ScaleController, Stage, rest_stages
from .resolution import camera_at, centre_out, enlarged
from .supply import Fade, Lacks, Supply

PUBLISH_EVERY = 0.1  # seconds between pictures of a refinement
IMAGING_SHARE = 4  # a picture of a refinement costs at most one in so many parts of the time
FIRST_SLICE = 16  # tiles of the first slice, as a share of all: 1 / 16
SMALLEST_SLICE = 8  # tiles
LOOK_EVERY = 0.05  # seconds between two looks at whether a block has come that the picture lacks
LOOKS = 5  # after which it is found out whether any still may come
FADE_EVERY = 0.04  # seconds between two pictures while new tiles replace old ones
COST = {Quality.FAST: 1.0, Quality.CLUSTERED: 2.0, Quality.EXACT: 4.0}  # per pixel, for the progress only

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Drawing:
    """A picture being rendered, or as it was rendered in full: a start for the next refinement."""

    stage: Stage
    camera: Camera
    buffers: FrameBuffers
    lacks: Lacks
    fade: Fade | None = None  # from what was shown before


class _Job:
    """One request being served; `request` changes only to another way to show the same."""

    def __init__(self, request: RenderRequest, renderer: Renderer, scene: int) -> None:
        self.request = request
        self.renderer = renderer
        self.scene = scene
        self.grid = BlockGrid.of(renderer.tables)
        self.supply = Supply(renderer)
        self.resolution = self.supply.resolution(request)
        self.image: np.ndarray | None = None  # that was last made for it
        self.is_finished = False  # nothing better will come

    def settings(self, quality: Quality) -> RenderSettings:
        """Returns what to ask of the renderer."""
        return RenderSettings(
            quality=quality,
            appearance=self.request.appearance,
            edits=self.request.edits,
            background=self.request.background,
            complete=False,
            fades=self.request.moving,
        )


class _Superseded(Exception):  # noqa: N818 - no error
    """The job is not wanted any more."""


class RenderWorker:
    """Owns the thread that renders. All methods may be called from the main thread at any time."""

    def __init__(self, renderer: Renderer | None, on_wake: Callable[[], None]) -> None:
        """Starts the thread; `on_wake` is called from it after every picture and failure."""
        self._condition = threading.Condition()
        # Guarded by the condition:
        self._renderer = renderer
        self._scene = 0  # counts the renderers
        self._latest: RenderRequest | None = None
        self._pending: RenderRequest | None = None
        self._job: _Job | None = None
        self._control: RenderControl | None = None
        self._shown: tuple[tuple[object, ...], _Drawing] | None = None  # with the view that it is of
        self._mail: Picture | None = None
        self._failure: str | None = None
        self._stopping = False
        # Used by the thread only:
        self._on_wake = on_wake
        self._controller = ScaleController(1000 / 15)
        self._controlled = (-1, 0)  # scene and pixels that the controller has measured
        self._imaging_seconds = 0.0
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
            if self._job is not None and not self._job.request.moving:
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

    def _is_superseded(self, job: _Job) -> bool:
        if self._stopping or job.scene != self._scene:
            return True
        pending = self._pending
        if pending is None or job.request.moving or pending.is_same_work(job.request):
            return False
        # Something is shown for every request at rest: a flood of them must not leave the window blank.
        return pending.moving or job.image is not None

    # In the thread

    def _run(self) -> None:
        while (job := self._next_job()) is not None:
            try:
                self._serve(job)
            except _Superseded:
                pass
            except Exception as error:
                log.exception("rendering failed")
                self._report(job, error)
            finally:
                with self._condition:
                    self._job = self._control = None
                    self._condition.notify_all()
                del job

    def _next_job(self) -> _Job | None:
        """Sleeps until there is something to do; None at the end."""
        with self._condition:
            self._condition.wait_for(lambda: self._stopping or self._pending is not None)
            if self._stopping:
                return None
            assert self._pending is not None, "a request is waiting"
            assert self._renderer is not None, "submit takes no request without a renderer"
            self._job = _Job(self._pending, self._renderer, self._scene)
            self._pending = None
            return self._job

    def _serve(self, job: _Job) -> None:
        self._follow(job)
        if job.request.moving:
            self._serve_moving(job)
        else:
            self._serve_rest(job)

    def _follow(self, job: _Job) -> None:
        """Tells the controller about a new scene, viewport or wish."""
        request = job.request
        scene, pixels = self._controlled
        now = request.camera.width * request.camera.height
        if scene != job.scene:
            self._controller = ScaleController(1000 / request.target_fps, request.floor)
        elif pixels != now:
            self._controller = self._controller.resized(now / pixels)
        self._controlled = job.scene, now
        self._controller = self._controller.wanting(1000 / request.target_fps, request.floor)

    def _serve_moving(self, job: _Job) -> None:
        stage = Stage(Quality.FAST, min(self._controller.scale, job.resolution))
        drawing = self._blank(job, stage)
        began = time.perf_counter()
        self._render(job, drawing)
        job.supply.note(drawing.lacks)
        render_ms = 1000 * (time.perf_counter() - began)
        self._remember(job, drawing)
        self._publish(job, drawing, 0.0, render_ms)
        self._controller = self._controller.after(render_ms + 1000 * self._imaging_seconds, stage.scale)

    def _serve_rest(self, job: _Job) -> None:
        drawing = self._start(job)
        shown = drawing.stage if drawing else None
        stages = rest_stages(shown, job.request.quality_at_rest, job.resolution)
        if drawing and not stages:
            job.supply.look(job.request)  # what was beyond reach before may come now
            self._publish(job, drawing, 1.0, 0.0)
        work = sum(COST[stage.quality] * stage.scale**2 for stage in stages)
        done = 0.0
        for stage in stages:
            share = COST[stage.quality] * stage.scale**2 / work
            drawing = self._refine(job, stage, done, share)
            done += share
        assert drawing is not None, "it was there, or has been rendered"
        while not job.is_finished:
            self._await_blocks(job, drawing)
            if job.supply.has_come(job.request, drawing.lacks):
                drawing = self._renew(job, drawing)
            else:
                self._publish(job, drawing, 1.0, 0.0)

    def _start(self, job: _Job) -> _Drawing | None:
        """Returns what is shown of the view already."""
        view, drawing = self._shown or (None, None)
        return drawing if view == job.request.view else None

    def _blank(self, job: _Job, stage: Stage) -> _Drawing:
        camera = camera_at(job.request.camera, stage.scale)
        buffers = FrameBuffers.empty(camera.width, camera.height)
        return _Drawing(stage, camera, buffers, job.supply.lacks(camera))

    def _refine(self, job: _Job, stage: Stage, done: float, share: float) -> _Drawing:
        """Renders one stage over what is shown of this view, publishing on the way."""
        start = self._start(job)
        if start is None:
            drawing = self._blank(job, stage)
        else:
            camera = camera_at(job.request.camera, stage.scale)
            drawing = _Drawing(stage, camera, enlarged(start.buffers, camera), start.lacks.over(camera))
        order = centre_out(drawing.camera.width, drawing.camera.height)
        # Tiles that lacked something come last: it may have come until then.
        order = order[np.argsort(drawing.lacks.tiles[order], kind="stable")]
        drawing.lacks.forget_blocks()
        # With nothing to draw over, the first picture comes in one piece.
        size = max(len(order) // FIRST_SLICE, SMALLEST_SLICE) if start else len(order)
        seconds = self._sweep(job, drawing, order, size, (done, share))
        job.supply.note(drawing.lacks)
        if stage.quality is Quality.FAST:
            self._controller = self._controller.after(1000 * seconds, stage.scale)
        return drawing

    def _renew(self, job: _Job, drawing: _Drawing) -> _Drawing:
        """Renders the tiles again that lacked something, and lets them replace the old ones."""
        camera = drawing.camera
        order = centre_out(camera.width, camera.height)
        order = order[drawing.lacks.tiles[order]]
        assert job.image is not None, "it is there before anything is renewed"
        fade = Fade(job.image, job.request.look)
        renewed = replace(drawing, lacks=drawing.lacks.over(camera), fade=fade)
        renewed.lacks.forget_blocks()
        self._sweep(job, renewed, order, max(len(order) // FIRST_SLICE, SMALLEST_SLICE), (1.0, 0.0))
        job.supply.note(renewed.lacks, is_whole=False)
        while not fade.is_over(time.monotonic()):
            self._pause(job, FADE_EVERY)
            self._publish(job, renewed, 1.0, 0.0)
        renewed = replace(renewed, fade=None)
        self._publish(job, renewed, 1.0, 0.0)
        return renewed

    def _await_blocks(self, job: _Job, drawing: _Drawing) -> None:
        """Sleeps until a block has come that a picture lacks, none will, or it is to be shown otherwise."""
        job.supply.look(job.request)
        while job.supply.is_coming(drawing.lacks):  # this takes longer to find out than the other
            for _ in range(LOOKS):
                if job.supply.has_come(job.request, drawing.lacks) or self._pause(job, LOOK_EVERY):
                    return

    def _pause(self, job: _Job, seconds: float) -> bool:
        """Sleeps a little; True where the picture is to be shown otherwise. Raises _Superseded."""
        with self._condition:
            self._condition.wait_for(lambda: self._pending is not None or self._has_ended(job), seconds)
            if self._has_ended(job):
                raise _Superseded
            return self._pending is not None

    def _sweep(
        self, job: _Job, drawing: _Drawing, order: np.ndarray, size: int, progress: tuple[float, float]
    ) -> float:
        """Renders tiles in slices, the first of a size, publishing on the way; returns the seconds it took.

        Args:
            job: That is served.
            drawing: To be drawn over.
            order: Of the tiles.
            size: Tiles of the first slice.
            progress: Of the job so far, and what this is a share of.
        """
        taken, render_seconds, look = 0, 0.0, job.request.look
        published = time.perf_counter()
        while taken < len(order):
            tiles = order[taken : taken + size]
            began = time.perf_counter()
            self._render(job, drawing, tiles)
            seconds = time.perf_counter() - began
            render_seconds += seconds
            taken += len(tiles)
            if drawing.fade:
                drawing.fade.begin(tiles, time.monotonic())
            pause = max(PUBLISH_EVERY, IMAGING_SHARE * self._imaging_seconds)
            size = int(np.clip(size * pause / max(seconds, 1e-6), SMALLEST_SLICE, 4 * size))
            due = began + seconds - published >= 0.9 * pause or job.request.look != look
            if taken == len(order):
                self._remember(job, drawing)
            if due or taken == len(order):
                done, share = progress
                self._publish(job, drawing, done + share * taken / len(order), 1000 * render_seconds)
                published, look = time.perf_counter(), job.request.look
        return render_seconds

    def _render(self, job: _Job, drawing: _Drawing, order: np.ndarray | None = None) -> None:
        """Renders some tiles, or all; raises _Superseded when that was cancelled."""
        job.supply.look(job.request)
        with self._condition:
            self._adopt(job)
            if self._has_ended(job):
                raise _Superseded
            control = self._control = job.supply.control(drawing.camera, order)
        settings = job.settings(drawing.stage.quality)
        frame = job.renderer.render(drawing.camera, settings, control, drawing.buffers)
        if not frame.is_complete:
            raise _Superseded
        drawing.lacks.note(control)

    def _has_ended(self, job: _Job) -> bool:
        """Whether the job is not wanted any more. Under the lock."""
        return self._is_superseded(job) or (self._control is not None and self._control.is_cancelled)

    def _adopt(self, job: _Job) -> None:
        """Goes on with the work for a new request that only shows it in another mode."""
        if self._pending is not None and self._pending.is_same_work(job.request):
            job.request, self._pending = self._pending, None

    def _remember(self, job: _Job, drawing: _Drawing) -> None:
        with self._condition:
            if job.scene == self._scene:
                self._shown = job.request.view, replace(drawing, fade=None)

    def _publish(self, job: _Job, drawing: _Drawing, progress: float, render_ms: float) -> None:
        with self._condition:
            self._adopt(job)
            request = job.request
        stage, buffers = drawing.stage, drawing.buffers
        began = time.perf_counter()
        grade = request.appearance.grade
        image = to_image(request.mode, buffers, drawing.camera, job.grid, grade=grade, edits=request.edits)
        shown = drawing.fade.mixed(image, request.look, time.monotonic()) if drawing.fade else image
        self._imaging_seconds = time.perf_counter() - began
        is_final = not request.moving and stage == Stage(request.quality_at_rest, job.resolution)
        is_done = is_final and progress >= 1 - 1e-9 and drawing.fade is None
        picture = Picture(
            image=shown,
            depth=buffers.median_depth.numpy().copy(),
            camera=drawing.camera,
            request=request,
            quality=stage.quality,
            scale=stage.scale,
            progress=progress,
            finished=is_done and not job.supply.can_better(request, drawing.lacks),
            render_ms=render_ms,
            published=since_start(),
            coarse=drawing.lacks.share,
        )
        with self._condition:
            if self._is_superseded(job):
                raise _Superseded
            self._mail = picture
            job.image, job.is_finished = image, picture.finished
        self._on_wake()

    def _report(self, job: _Job, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        sentence = reason if isinstance(error, InputError) else f"Rendering failed: {reason}"
        with self._condition:
            if job.scene != self._scene:
                return
            self._shown = None  # its buffers may be half overwritten
            self._failure = sentence
        self._on_wake()
