"""The picture at rest: slices of tiles, from the middle outwards, over what is already shown of the view.

Blocks that a picture lacks are never waited for: coarse stand-ins show what they hold. The tiles that lacked
something are rendered again when blocks have come, and replace the old ones little by little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..cuda.tables import Quality
from .quality import Stage, rest_stages
from .render_job import Drawing, Job, Turn, draw, with_front
from .resolution import camera_at, centre_out, enlarged
from .supply import Fade

PUBLISH_EVERY = 0.1  # seconds between pictures of a refinement
IMAGING_SHARE = 4  # a picture of a refinement costs at most one in so many parts of the time
FIRST_SLICE = 16  # tiles of the first slice, as a share of all: 1 / 16
SMALLEST_SLICE = 8  # tiles
LOOK_EVERY = 0.05  # seconds between two looks at whether a block has come that the picture lacks
LOOKS = 5  # after which it is found out whether any still may come
FADE_EVERY = 0.04  # seconds between two pictures while new tiles replace old ones
COST = {Quality.FAST: 1.0, Quality.CLUSTERED: 2.0, Quality.EXACT: 4.0}  # per pixel, for the progress only


class Refinement:
    """Serves requests at rest. Used from the render thread only."""

    def __init__(self, turn: Turn, on_stage: Callable[[Job, Drawing, float], None]) -> None:
        """`on_stage` is told of every stage that is done: its drawing, and the ms it took, 0 for a part."""
        self._turn = turn
        self._on_stage = on_stage

    def serve(self, job: Job) -> None:
        """Refines until nothing better will come; may raise Superseded."""
        drawing = self._turn.shown(job)
        shown = drawing.stage if drawing else None
        stages = rest_stages(shown, job.request.quality_at_rest, job.resolution)
        if drawing and not stages:
            job.supply.look(job.request)  # what was beyond reach before may come now
            self._turn.publish(job, drawing, 1.0, 0.0)
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
                self._turn.publish(job, drawing, 1.0, 0.0)

    def _refine(self, job: Job, stage: Stage, done: float, share: float) -> Drawing:
        """Renders one stage over what is shown of this view, publishing on the way."""
        start = self._turn.shown(job)
        if start is None:
            drawing = job.blank(stage)
        else:
            camera = camera_at(job.request.camera, stage.scale)
            drawing = Drawing(stage, camera, enlarged(start.buffers, camera), start.lacks.over(camera))
        if job.makes_keyframes:
            drawing = replace(drawing, buffers=with_front(drawing.buffers))
        order = centre_out(drawing.camera.width, drawing.camera.height)
        # Tiles that lacked something come last: it may have come until then.
        order = order[np.argsort(drawing.lacks.tiles[order], kind="stable")]
        drawing.lacks.forget_blocks()
        # With nothing to draw over, the first picture comes in one piece.
        size = max(len(order) // FIRST_SLICE, SMALLEST_SLICE) if start else len(order)
        seconds = self._sweep(job, drawing, order, size, (done, share))
        job.supply.note(drawing.lacks)
        self._on_stage(job, drawing, 1000 * seconds)
        return drawing

    def _renew(self, job: Job, drawing: Drawing) -> Drawing:
        """Renders the tiles again that lacked something, and lets them replace the old ones."""
        camera = drawing.camera
        order = centre_out(camera.width, camera.height)
        order = order[drawing.lacks.tiles[order]]
        assert job.image is not None, "it is there before anything is renewed"
        fade = Fade(job.image, job.request.look)
        renewed = replace(drawing, lacks=drawing.lacks.over(camera), fade=fade)
        renewed.lacks.forget_blocks()
        size = max(len(order) // FIRST_SLICE, SMALLEST_SLICE)
        self._sweep(job, renewed, order, size, (1.0, 0.0))
        job.supply.note(renewed.lacks, is_whole=False)
        while not fade.is_over(time.monotonic()):
            self._turn.pause(job, FADE_EVERY)
            self._turn.publish(job, renewed, 1.0, 0.0)
        renewed = replace(renewed, fade=None)
        self._turn.publish(job, renewed, 1.0, 0.0)
        self._on_stage(job, renewed, 0.0)
        return renewed

    def _await_blocks(self, job: Job, drawing: Drawing) -> None:
        """Sleeps until a block has come that a picture lacks, none will, or it is to be shown otherwise."""
        job.supply.look(job.request)
        while job.supply.is_coming(drawing.lacks):  # this takes longer to find out than the other
            for _ in range(LOOKS):
                if job.supply.has_come(job.request, drawing.lacks) or self._turn.pause(job, LOOK_EVERY):
                    return

    def _sweep(
        self, job: Job, drawing: Drawing, order: np.ndarray, size: int, progress: tuple[float, float]
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
            draw(self._turn, job, drawing, tiles)
            seconds = time.perf_counter() - began
            render_seconds += seconds
            taken += len(tiles)
            if drawing.fade:
                drawing.fade.begin(tiles, time.monotonic())
            pause = max(PUBLISH_EVERY, IMAGING_SHARE * self._turn.imaging_seconds)
            size = int(np.clip(size * pause / max(seconds, 1e-6), SMALLEST_SLICE, 4 * size))
            due = began + seconds - published >= 0.9 * pause or job.request.look != look
            if taken == len(order):
                self._turn.remember(job, drawing)
            if due or taken == len(order):
                done, share = progress
                self._turn.publish(job, drawing, done + share * taken / len(order), 1000 * render_seconds)
                published, look = time.perf_counter(), job.request.look
        return render_seconds
