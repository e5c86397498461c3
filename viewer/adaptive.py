"""Moving pictures without keyframes: each is rendered in one piece, at the resolution that is fast enough."""

from __future__ import annotations

import time

from ..cuda.tables import Quality
from .quality import ScaleController, Stage
from .render_job import Job, Turn, draw

DRAFT_SCALE = 0.25  # share of the resolution, per side, of a draft of edits: it is there to be seen soon


class Adaptive:
    """Chooses the resolution from what pictures cost. Used from the render thread only."""

    def __init__(self) -> None:
        self._controller = ScaleController(1000 / 15)
        self._controlled = (-1, 0)  # scene and pixels that the controller has measured

    def follow(self, job: Job) -> None:
        """Tells the controller about a new scene, viewport or wish."""
        request = job.request
        scene, pixels = self._controlled
        now = request.camera.width * request.camera.height
        target_ms = 1000 / request.target_fps
        if scene != job.scene:
            self._controller = ScaleController(target_ms, request.floor)
        elif pixels != now:
            self._controller = self._controller.resized(now / pixels)
        self._controlled = job.scene, now
        self._controller = self._controller.wanting(target_ms, request.floor)

    def serve(self, turn: Turn, job: Job) -> None:
        """Makes the picture of a moving request; one that is under way is finished, as it is short."""
        most = DRAFT_SCALE if job.request.draft else 1.0
        stage = Stage(Quality.FAST, min(self._controller.scale, job.resolution, most))
        drawing = job.blank(stage)
        began = time.perf_counter()
        draw(turn, job, drawing)
        job.supply.note(drawing.lacks)
        render_ms = 1000 * (time.perf_counter() - began)
        turn.remember(job, drawing)
        turn.publish(job, drawing, 0.0, render_ms)
        self.note(render_ms + 1000 * turn.imaging_seconds, stage)

    def note(self, ms: float, stage: Stage) -> None:
        """Learns what a picture has cost."""
        if stage.quality is Quality.FAST:
            self._controller = self._controller.after(ms, stage.scale)
