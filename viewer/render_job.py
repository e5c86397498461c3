"""What the render thread works on: one request being served, and the picture that is drawn for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch

from ..core.camera import Camera
from ..core.render import RenderSettings
from ..cuda.tables import FrameBuffers, Quality, RenderControl
from .imaging import BlockGrid, to_image
from .pictures import Picture, Renderer, RenderRequest
from .quality import Stage
from .resolution import camera_at
from .supply import Fade, Lacks, Supply


@dataclass(frozen=True)
class Drawing:
    """A picture being rendered, or as it was rendered in full: a start for the next refinement."""

    stage: Stage
    camera: Camera
    buffers: FrameBuffers
    lacks: Lacks
    fade: Fade | None = None  # from what was shown before


class Job:
    """One request being served; `request` changes only to another way to show the same."""

    def __init__(self, request: RenderRequest, renderer: Renderer, scene: int) -> None:
        self.request = request
        self.renderer = renderer
        self.scene = scene  # number of the renderer
        self.grid = BlockGrid.of(renderer.tables)
        self.supply = Supply(renderer)
        self.resolution = self.supply.resolution(request)
        self.adaptive = ""  # why moving pictures do not rest on keyframes, where there is something to say
        self.makes_keyframes = False  # the picture at rest is to be a keyframe as well
        self.image: np.ndarray | None = None  # that was last made for it
        self.is_finished = False  # nothing better will come
        self.is_spare = False  # all that was asked for is shown: any other request may end it

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

    def blank(self, stage: Stage) -> Drawing:
        """Returns a picture of which nothing is drawn yet."""
        camera = camera_at(self.request.camera, stage.scale)
        buffers = FrameBuffers.empty(camera.width, camera.height)
        return Drawing(stage, camera, buffers, self.supply.lacks(camera))

    def image_of(self, buffers: FrameBuffers, camera: Camera) -> np.ndarray:
        """Returns what to show of buffers, in the mode and grade of the request. uint8 [height, width, 4]"""
        request = self.request
        grade = request.appearance.grade
        return to_image(request.mode, buffers, camera, self.grid, grade=grade, edits=request.edits)

    @property
    def final(self) -> Stage:
        """The stage that the picture at rest ends with."""
        return Stage(self.request.quality_at_rest, self.resolution)


class Superseded(Exception):  # noqa: N818 - no error
    """The job is not wanted any more."""


class Turn(Protocol):
    """What those who serve a job need of the render thread. Calls may raise Superseded."""

    imaging_seconds: float  # that the last picture took after it was rendered

    def begin(self, job: Job, control: RenderControl) -> None:
        """Work on the job begins that `control` can cancel; takes another way to show it in first."""
        ...

    def pause(self, job: Job, seconds: float) -> bool:
        """Sleeps a little; True where the picture is to be shown otherwise."""
        ...

    def spare(self, job: Job) -> None:
        """What follows only makes the picture better: any other request ends it."""
        ...

    def publish(self, job: Job, drawing: Drawing, progress: float, render_ms: float) -> None:
        """Shows a drawing in the mode that is asked for by now."""
        ...

    def deliver(self, job: Job, picture: Picture, image: np.ndarray) -> None:
        """Hands a picture to the window; `image` is it without fading."""
        ...

    def shown(self, job: Job) -> Drawing | None:
        """Returns what is shown of the job's view already."""
        ...

    def remember(self, job: Job, drawing: Drawing) -> None:
        """Keeps a whole picture as what is shown of the job's view."""
        ...


def draw(turn: Turn, job: Job, drawing: Drawing, order: np.ndarray | None = None) -> None:
    """Renders some tiles of a drawing, or all; raises Superseded when that was cancelled."""
    job.supply.look(job.request)
    control = job.supply.control(drawing.camera, order)
    turn.begin(job, control)
    frame = job.renderer.render(drawing.camera, job.settings(drawing.stage.quality), control, drawing.buffers)
    if not frame.is_complete:
        raise Superseded
    drawing.lacks.note(control)


def with_front(buffers: FrameBuffers) -> FrameBuffers:
    """Returns the same buffers with room for the depth of the front layer."""
    if buffers.front is not None:
        return buffers
    return replace(buffers, front=torch.zeros(*buffers.opacity.shape, 2))
