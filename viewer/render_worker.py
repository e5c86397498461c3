"""The render thread: newest request wins, coarse to fine, asleep when there is nothing to do.

A moving camera gets one fast picture after the other, at the scale that the controller finds; one that is
under way is finished, as it is short. At rest the picture is refined in slices of tiles, from the middle
outwards, over what is already shown; any other request cancels that within a tile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..core.appearance import Appearance, Grade
from ..core.camera import Camera
from ..core.edits.compiled import CompiledEdits
from ..core.errors import InputError
from ..core.render import Frame, RenderSettings
from ..cuda.tables import FieldTables, FrameBuffers, Quality, RenderControl
from .events import since_start
from .imaging import BlockGrid, to_image
from .quality import ScaleController, Stage, rest_stages
from .resolution import camera_at, centre_out, enlarged
from .state import Mode, ViewerState

if TYPE_CHECKING:
    from .comparison import Beside

PUBLISH_EVERY = 0.1  # seconds between pictures of a refinement
IMAGING_SHARE = 4  # a picture of a refinement costs at most one in so many parts of the time
FIRST_SLICE = 16  # tiles of the first slice, as a share of all: 1 / 16
SMALLEST_SLICE = 8  # tiles
COST = {Quality.FAST: 1.0, Quality.CLUSTERED: 2.0, Quality.EXACT: 4.0}  # per pixel, for the progress only

log = logging.getLogger(__name__)


class Renderer(Protocol):
    """What the worker needs of core.render.Renderer."""

    tables: FieldTables

    def render(
        self,
        camera: Camera,
        settings: RenderSettings | None = None,
        control: RenderControl | None = None,
        buffers: FrameBuffers | None = None,
    ) -> Frame:
        """Renders the ordered tiles into the buffers and leaves the others alone."""
        ...


@dataclass(frozen=True)
class RenderRequest:
    """A picture that the window wants."""

    camera: Camera  # at the size of the viewport
    mode: Mode = Mode.COLOR
    quality_at_rest: Quality = Quality.EXACT
    moving: bool = False
    appearance: Appearance = field(default_factory=Appearance)
    edits: CompiledEdits | None = None
    background: tuple[float, float, float] | None = None
    resolution: float = 1.0  # share of the viewport per side, at rest
    target_fps: float = 15.0  # while moving
    floor: float = 0.25  # coarsest scale while moving
    input_time: float = 0.0  # when the user did what this shows, seconds since process start

    @property
    def view(self) -> tuple[object, ...]:
        """What the rendered pixels depend on, beside quality and scale."""
        return self.camera, replace(self.appearance, grade=Grade()), self.edits, self.background

    @property
    def look(self) -> tuple[Mode, Grade]:
        """How the rendered pixels are shown."""
        return self.mode, self.appearance.grade

    def is_same(self, other: RenderRequest | None) -> bool:
        """Whether both ask for the same picture, if at different times."""
        return other is not None and replace(self, input_time=other.input_time) == other

    def is_same_work(self, other: RenderRequest) -> bool:
        """Whether both rest on the same rendering, though they may show it in different modes and grades."""
        appearance = replace(self.appearance, grade=other.appearance.grade)
        alike = replace(self, mode=other.mode, appearance=appearance, input_time=other.input_time)
        return not self.moving and alike == other


@dataclass(frozen=True)
class Picture:
    """A picture to show; every array is its own copy."""

    image: np.ndarray  # uint8 [height, width, 4], contiguous, opaque
    depth: np.ndarray  # float32 [height, width] median z-depth, 0: no surface; for picking
    camera: Camera  # at the size of the image
    request: RenderRequest  # what it answers
    quality: Quality  # of the finest tiles
    scale: float  # share of the viewport per side
    progress: float  # of the refinement at rest, in [0, 1]; 0 while moving
    finished: bool  # nothing better will come for this request
    render_ms: float  # spent on rendering this stage so far
    published: float  # seconds since process start
    beside: Beside | None = None  # what else the image shows

    @property
    def moving(self) -> bool:
        """Whether it was made for a moving camera."""
        return self.request.moving


@dataclass(frozen=True)
class _Shown:
    """What was last rendered in full: a start for the next refinement."""

    view: tuple[object, ...]
    stage: Stage
    camera: Camera
    buffers: FrameBuffers


class _Job:
    """One request being served; only `request` and `has_shown` change."""

    def __init__(self, request: RenderRequest, renderer: Renderer, scene: int) -> None:
        self.request = request
        self.renderer = renderer
        self.scene = scene
        self.grid = BlockGrid.of(renderer.tables)
        self.has_shown = False

    def settings(self, quality: Quality) -> RenderSettings:
        """Returns what to ask of the renderer."""
        return RenderSettings(
            quality=quality,
            appearance=self.request.appearance,
            edits=self.request.edits,
            background=self.request.background,
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
        self._shown: _Shown | None = None
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
        return pending.moving or job.has_shown

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
        stage = Stage(Quality.FAST, min(self._controller.scale, job.request.resolution))
        camera = camera_at(job.request.camera, stage.scale)
        buffers = FrameBuffers.empty(camera.width, camera.height)
        began = time.perf_counter()
        self._render(job, camera, stage, buffers)
        render_ms = 1000 * (time.perf_counter() - began)
        self._remember(job, stage, camera, buffers)
        self._publish(job, stage, camera, buffers, 0.0, render_ms)
        self._controller = self._controller.after(render_ms + 1000 * self._imaging_seconds, stage.scale)

    def _serve_rest(self, job: _Job) -> None:
        shown = self._shown if self._shown and self._shown.view == job.request.view else None
        stages = rest_stages(
            shown.stage if shown else None, job.request.quality_at_rest, job.request.resolution
        )
        if shown and not stages:
            self._publish(job, shown.stage, shown.camera, shown.buffers, 1.0, 0.0)
        work = sum(COST[stage.quality] * stage.scale**2 for stage in stages)
        done = 0.0
        for stage in stages:
            share = COST[stage.quality] * stage.scale**2 / work
            self._refine(job, stage, done, share)
            done += share

    def _refine(self, job: _Job, stage: Stage, done: float, share: float) -> None:
        """Renders one stage over what is shown of this view, publishing on the way."""
        camera = camera_at(job.request.camera, stage.scale)
        start = self._shown if self._shown and self._shown.view == job.request.view else None
        buffers = (
            enlarged(start.buffers, camera) if start else FrameBuffers.empty(camera.width, camera.height)
        )
        order = centre_out(camera.width, camera.height)
        # With nothing to draw over, the first picture comes in one piece.
        size = max(len(order) // FIRST_SLICE, SMALLEST_SLICE) if start else len(order)
        taken, render_seconds, look = 0, 0.0, job.request.look
        published = time.perf_counter()
        while taken < len(order):
            began = time.perf_counter()
            self._render(job, camera, stage, buffers, order[taken : taken + size])
            seconds = time.perf_counter() - began
            render_seconds += seconds
            taken = min(taken + size, len(order))
            pause = max(PUBLISH_EVERY, IMAGING_SHARE * self._imaging_seconds)
            size = int(np.clip(size * pause / max(seconds, 1e-6), SMALLEST_SLICE, 4 * size))
            due = began + seconds - published >= 0.9 * pause or job.request.look != look
            if taken == len(order):
                self._remember(job, stage, camera, buffers)
                self._learn(stage, render_seconds)
            if due or taken == len(order):
                progress = done + share * taken / len(order)
                self._publish(job, stage, camera, buffers, progress, 1000 * render_seconds)
                published, look = time.perf_counter(), job.request.look

    def _learn(self, stage: Stage, seconds: float) -> None:
        if stage.quality is Quality.FAST:
            self._controller = self._controller.after(1000 * seconds, stage.scale)

    def _render(
        self, job: _Job, camera: Camera, stage: Stage, buffers: FrameBuffers, order: np.ndarray | None = None
    ) -> None:
        """Renders some tiles, or all; raises _Superseded when that was cancelled."""
        with self._condition:
            self._adopt(job)
            if self._is_superseded(job):
                raise _Superseded
            control = self._control = RenderControl(camera.width, camera.height, order)
        frame = job.renderer.render(camera, job.settings(stage.quality), control, buffers)
        if not frame.is_complete:
            raise _Superseded

    def _adopt(self, job: _Job) -> None:
        """Goes on with the work for a new request that only shows it in another mode."""
        if self._pending is not None and self._pending.is_same_work(job.request):
            job.request, self._pending = self._pending, None

    def _remember(self, job: _Job, stage: Stage, camera: Camera, buffers: FrameBuffers) -> None:
        with self._condition:
            if job.scene == self._scene:
                self._shown = _Shown(job.request.view, stage, camera, buffers)

    def _publish(
        self,
        job: _Job,
        stage: Stage,
        camera: Camera,
        buffers: FrameBuffers,
        progress: float,
        render_ms: float,
    ) -> None:
        with self._condition:
            self._adopt(job)
            request = job.request
        began = time.perf_counter()
        grade = request.appearance.grade
        image = to_image(request.mode, buffers, camera, job.grid, grade=grade, edits=request.edits)
        self._imaging_seconds = time.perf_counter() - began
        final = Stage(request.quality_at_rest, request.resolution)
        picture = Picture(
            image=image,
            depth=buffers.median_depth.numpy().copy(),
            camera=camera,
            request=request,
            quality=stage.quality,
            scale=stage.scale,
            progress=progress,
            finished=not request.moving and stage == final and progress >= 1 - 1e-9,
            render_ms=render_ms,
            published=since_start(),
        )
        with self._condition:
            if self._is_superseded(job):
                raise _Superseded
            self._mail = picture
            job.has_shown = True
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


def request_for(
    state: ViewerState,
    width: int,
    height: int,
    moving: bool,
    input_time: float,
    edits: CompiledEdits | None = None,
) -> RenderRequest:
    """Returns what the window wants to see of a state, for a viewport in pixels."""
    preferences = state.render
    return RenderRequest(
        camera=state.pose.camera(width, height),
        mode=preferences.mode,
        quality_at_rest=preferences.quality_at_rest,
        moving=moving,
        appearance=state.appearance,
        edits=edits,
        background=preferences.background,
        resolution=preferences.resolution,
        target_fps=preferences.target_fps,
        floor=preferences.floor,
        input_time=input_time,
    )
