"""Moving pictures that rest on keyframes: one is shown first, then the next keyframe is worked on.

A displayed picture costs a stated number of rays, and a share of rays goes into the next keyframe whatever
comes; what is done beyond that ends as soon as there is another request. A camera that stands still for a
moment sees its picture get better. Where the engine does not serve, the reason is said, and others take over.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..core.appearance import Grade
from ..core.errors import InputError
from ..core.interactive.confidence import Confidence
from ..core.interactive.contracts import Budget, Course, Displayed, Kind, Look, Refined
from ..core.interactive.controller import Controller
from ..core.kernels import is_building
from ..cuda.tables import TILE, Quality, RenderControl
from .events import since_start
from .moment import Plan
from .pictures import Picture, Renderer, RenderRequest
from .quality import Stage
from .render_job import Drawing, Job, Superseded, Turn
from .resolution import camera_at
from .state import Mode, WarpStatus

if TYPE_CHECKING:
    from ..core.camera import Camera
    from ..core.interactive.engine import Engine

IMPROVEMENTS = 4  # pictures of one pose that follow the first while no other request comes
HOLD = 1.5  # times between two moving pictures that pass before each of these
COARSE = 0.25  # share of the resolution that a picture without keyframes is worth

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Sized:
    """A course for pictures of another size."""

    course: Course
    camera: Camera  # of that size

    def camera_in(self, seconds: float) -> Camera:
        return replace(self.camera, c2w=self.course.camera_in(seconds).c2w)


class Interactive:
    """Drives the engine for one renderer. Used from the render thread only."""

    def __init__(self, engine: Engine, request: RenderRequest) -> None:
        """The request tells what the window wants at first."""
        self._engine = engine
        self._pixels = request.camera.width * request.camera.height
        self._controller = Controller(1000 / request.screen_fps, self._pixels, request.floor)
        self._confidence = Confidence()
        self._failure = ""
        self._served: tuple[Look | None, str] = None, ""  # the last look, and why it is not served
        self._key_time = since_start()  # when the newest keyframe was finished
        self._at_rest: Camera | None = None  # of the last picture at rest

    def why_not(self, request: RenderRequest) -> str:
        """Returns why the engine does not make moving pictures of a request, "" where it does."""
        if is_building():
            return "compiling kernels"
        look = look_of(request)
        if look != self._served[0] and not self._failure:
            with self._guarded():
                self._served = look, self._engine.serves(look) or ""
        return self._failure or self._served[1] or self._confidence.said

    def follow(self, request: RenderRequest) -> None:
        """Tells the controller about another viewport or wish."""
        pixels = request.camera.width * request.camera.height
        if pixels != self._pixels:
            self._controller = self._controller.resized(pixels / self._pixels)
            self._pixels = pixels
        self._controller = self._controller.wanting(1000 / request.screen_fps, request.floor)

    def serve(self, turn: Turn, job: Job) -> bool:
        """Makes the pictures of a moving request; False if that failed, and another way must do."""
        with self._guarded():
            self._serve(turn, job)
        return not self._failure

    def stand_by(self) -> None:
        """A moving picture was made another way."""
        if not self._failure:
            self._confidence = self._confidence.after(None, self._engine.behind, since_start())

    def adopt(self, job: Job, drawing: Drawing) -> None:
        """Takes a picture that is finished, with its front layer, as the newest keyframe."""
        if self._failure or drawing.buffers.front is None:
            return
        lacks = drawing.lacks
        lacking = (lacks.pixels(drawing.camera), lacks.blocks.copy()) if lacks.any else (None, None)
        with self._guarded():
            look = look_of(job.request)
            self._engine.adopt(drawing.camera, look, drawing.buffers, *lacking)
            self._at_rest = drawing.camera
            self._key_time = since_start()

    def prepare(self, turn: Turn, job: Job) -> None:
        """Works ahead, as nothing is asked for; any request ends that."""
        if self._failure or not job.makes_keyframes:
            return
        turn.spare(job)
        control = RenderControl(TILE, TILE)
        turn.begin(job, control)
        with self._guarded():
            self._engine.prepare(control)

    def _serve(self, turn: Turn, job: Job) -> None:
        moment = job.request.moment
        plan = moment.plan(lambda: self._plan(job)) if moment else self._plan(job)
        self._controller, scale = plan.controller, plan.scale
        budget = self._controller.budget_at(scale)
        began = time.perf_counter()
        displayed = self._display(turn, job, plan, budget, began)
        published = time.perf_counter()
        refined = self._refine(turn, job, budget.key)
        times = 1000 * (published - began), 1000 * (time.perf_counter() - published)
        if displayed.kind is Kind.WARPED:
            self._confidence = self._confidence.after(displayed.error, self._engine.behind, since_start())
        if displayed.kind in (Kind.WARPED, Kind.COARSE):  # what others cost does not tell what those will
            self._controller = self._controller.after(times[0], displayed.rays, times[1], refined.rays, scale)
        if moment is None:
            turn.spare(job)
            self._refine(turn, job, max(budget.total - displayed.rays - budget.key, 0))
            self._improve(turn, job, plan, budget, displayed.kind)

    def _plan(self, job: Job) -> Plan:
        return Plan(self._controller.keying(self._engine.key_area), self._scale(job), since_start())

    def _scale(self, job: Job) -> float:
        """Returns the share of the resolution of the next picture.

        Of a camera that rests, the most of the picture stays as it is when edits or colours change.
        """
        request = job.request
        camera = camera_at(request.camera, job.resolution)
        return job.resolution if camera == self._at_rest else min(self._controller.scale, job.resolution)

    def _improve(self, turn: Turn, job: Job, plan: Plan, budget: Budget, kind: Kind) -> None:
        """Goes on while nothing else is asked for, until nothing is to be gained."""
        for _ in range(IMPROVEMENTS):
            if kind is Kind.KEYFRAME or not self._hold(turn, job, budget.total):
                return
            again = replace(plan, now=since_start())
            kind = self._display(turn, job, again, budget, time.perf_counter()).kind

    def _hold(self, turn: Turn, job: Job, rays: int) -> bool:
        """Works on the next keyframe, so many rays at a time, until another picture of the pose is due.

        One that is begun too early holds up the next pose of a camera that moves on. False: nothing is left
        to be rendered.
        """
        due = time.perf_counter() + HOLD / job.request.screen_fps
        while time.perf_counter() < due:
            refined = self._refine(turn, job, rays)
            if refined.finished or not refined.rays:
                return refined.finished
        return True

    def _display(self, turn: Turn, job: Job, plan: Plan, budget: Budget, began: float) -> Displayed:
        """Makes a picture of the asked pose and hands it to the window."""
        request, scale = job.request, plan.scale
        turn.begin(job, RenderControl(TILE, TILE))
        job.supply.look(request)
        camera = camera_at(request.camera, scale)
        course = _Sized(request.course, camera) if request.course else None
        planes = request.mode is not Mode.COLOR
        displayed = self._engine.display(camera, look_of(request), budget, plan.now, course, planes)
        drawing = Drawing(self._worth(displayed, scale), camera, displayed.buffers, job.supply.lacks(camera))
        turn.remember(job, drawing)
        picture = self._picture(job, displayed, drawing.stage, 1000 * (time.perf_counter() - began))
        turn.deliver(job, picture, picture.image)
        return displayed

    def _refine(self, turn: Turn, job: Job, rays: int) -> Refined:
        """Works on the next keyframe; what is done stays when that is cancelled."""
        control = RenderControl(TILE, TILE)
        turn.begin(job, control)
        refined = self._engine.refine(rays, control)
        if refined.finished:
            self._key_time = since_start()
            job.supply.note_needs(refined.needs)
        return refined

    def _picture(self, job: Job, displayed: Displayed, stage: Stage, ms: float) -> Picture:
        request, buffers = job.request, displayed.buffers
        is_plain = request.mode is Mode.COLOR and request.appearance.grade == Grade()
        image = displayed.image if is_plain else job.image_of(buffers, displayed.camera)
        return Picture(
            image=image,
            depth=buffers.median_depth.numpy().copy(),  # the refinement at rest draws over the buffers
            camera=displayed.camera,
            request=request,
            quality=stage.quality,
            scale=stage.scale,
            progress=0.0,
            finished=False,
            render_ms=ms,
            published=since_start(),
            coarse=displayed.coarse,
            warp=self._status(displayed),
        )

    def _status(self, displayed: Displayed) -> WarpStatus:
        pixels = displayed.camera.width * displayed.camera.height
        return WarpStatus(
            kind=displayed.kind.value,
            fresh=min(displayed.rays / pixels, 1.0),
            holes=displayed.holes,
            guessed=displayed.guessed,
            rays=displayed.rays,
            age=since_start() - self._key_time,
            error=displayed.error,
        )

    @staticmethod
    def _worth(displayed: Displayed, scale: float) -> Stage:
        """Returns what a picture is as a start for the refinement at rest."""
        share = COARSE if displayed.kind is Kind.COARSE else 1.0
        return Stage(Quality.FAST, scale * share, warped=True)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Lets the engine fail once: it is not asked again, and that is said."""
        try:
            yield
        except (Superseded, InputError):
            raise
        except Exception as error:
            log.exception("keyframes failed; moving pictures are rendered in one piece from now on")
            self._failure = f"failed: {str(error) or type(error).__name__}"


def look_of(request: RenderRequest) -> Look:
    """Returns what the engine must know of a request beside its camera."""
    appearance = replace(request.appearance, grade=Grade())
    return Look(appearance, request.edits, request.background)


def open_engine(renderer: Renderer) -> Engine | None:
    """Returns the engine for a renderer; None for one of anything but a field."""
    from ..core.interactive.engine import Engine
    from ..core.render import Renderer as FieldRenderer

    return Engine(renderer) if isinstance(renderer, FieldRenderer) else None


EngineMaker = Callable[[Renderer], "Engine | None"]
