"""The keyframe that is being rendered, a few rays at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...cuda.tables import RenderControl
from ...cuda.warp import KeyframeBuilder
from ...cuda.warp_tables import BORDER, Keyframe, Trust
from ..camera import Camera
from ..rays import view_of
from .casting import Caster, picked
from .changes import changed_boxes, trust_of
from .contracts import Look
from .ring import BlocksCame, Held, colors_of
from .scatter import scattered


class UnderWay:
    """A keyframe being rendered from one camera, in one look; packs of rays all over the picture in turn."""

    def __init__(
        self,
        camera: Camera,
        look: Look,
        start: np.ndarray | None = None,
        margin: float = 0.0,
        n_blocks: int = 0,
    ) -> None:
        """Begins a keyframe.

        Args:
            camera: Where from.
            look: What it shows.
            start: z-depths before which rays are expected to meet nothing, in the order of `scattered`.
                float32 [n] None: not known
            margin: By which a ray starts before what others have met, scene units.
            n_blocks: Of a streamed field; 0: it is not.
        """
        self.camera, self.look = camera, look
        self._builder = KeyframeBuilder(view_of(camera))
        self._scatter = scattered(camera.width, camera.height)
        self._todo = self._scatter.pixels
        self._n_probes = self._scatter.n_probes if start is not None else 0  # that are to be rendered
        self._start, self._margin = start, margin
        if self._start is not None:
            self._start[: self._n_probes] = 0
        self.n_pixels = len(self._todo)
        self._known = np.zeros(self.n_pixels, dtype=bool)
        self._is_renewed = False
        self._lacks = np.zeros(n_blocks, dtype=bool) if n_blocks else None
        self.needs = np.zeros(n_blocks, dtype=np.float32) if n_blocks else None

    @property
    def share(self) -> float:
        """Of the picture, that is finished."""
        return 1 - len(self._todo) / self.n_pixels

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to be rendered."""
        return not len(self._todo)

    @property
    def builder(self) -> KeyframeBuilder:
        """What holds the finished pixels."""
        return self._builder

    @property
    def finished(self) -> np.ndarray:
        """Numbers of the finished pixels. int32 [n]"""
        return np.flatnonzero(self._known).astype(np.int32)

    def advance(self, caster: Caster, n: int, cancelled: RenderControl | None) -> int:
        """Renders the next n rays, or what is left of a kind; what was finished before a cancel stays.

        Returns:
            How many were rendered.
        """
        n = min(n, self._n_probes or n)
        pixels = self._todo[:n]
        start = None if self._start is None else np.ascontiguousarray(self._start[:n])
        cast = caster.cast(self.camera, self.look, pixels, start, cancelled)
        done, buffers, lacking = cast.done, cast.buffers, cast.lacking
        self._todo = self._todo[n:]
        if self._start is not None:
            self._start = self._start[n:]
        if not done.all():
            self._todo = np.concatenate([pixels[~done], self._todo])
            if self._start is not None and start is not None:
                self._start = np.concatenate([start[~done], self._start])
            pixels, buffers, lacking = pixels[done], picked(buffers, done), lacking[done]
        n_done = len(pixels)
        self._builder.put(pixels, buffers)
        self._builder.lacking.reshape(-1)[pixels] = lacking
        self._known[pixels] = True
        if self._n_probes:
            self._n_probes -= n_done
            if not self._n_probes:
                self._lower()
        if self._lacks is not None and self.needs is not None:
            assert cast.needs is not None, "the field is streamed"
            self._lacks |= cast.lacks
            self.needs += cast.needs * np.float32(len(done) / self.n_pixels)
        return n_done

    def _lower(self) -> None:
        """Lets no ray start behind what the probes beside it have met."""
        assert self._start is not None, "else there are no probes"
        scatter = self._scatter
        row, column = np.divmod(scatter.pixels[: scatter.n_probes], self.camera.width)
        met = self._builder.color[row + BORDER, column + BORDER, 3]
        rest = scatter.before(met, self._margin)[scatter.n_probes :]
        self._start[: len(rest)] = np.minimum(self._start[: len(rest)], rest)

    def is_alike(self, look: Look) -> bool:
        """Whether it has the colours of a look."""
        return colors_of(self.look) == colors_of(look)

    def follow(self, look: Look, front: float) -> bool:
        """Goes on with the edits of another look; what they change is rendered without a start, or again.

        Args:
            look: Whose edits it is to show, in the colours that it has.
            front: How far behind its mean depth a front layer may reach, scene units.

        Returns:
            False where nothing of it could stay.
        """
        boxes = changed_boxes(self.look.edits, look.edits)
        if boxes is None:
            return False
        self.look = replace(self.look, edits=look.edits)
        if not boxes:
            return True
        builder = self._builder
        keyframe = Keyframe(builder.view, builder.color, builder.planes, builder.lacking)
        is_void = trust_of(keyframe, boxes, front).reshape(-1) != Trust.GOOD
        again = np.flatnonzero(is_void & self._known).astype(np.int32)
        self._known[again] = False
        if self._start is not None:
            start = np.where(is_void[self._todo], np.float32(0), self._start)
            self._start = np.concatenate([start, np.zeros(len(again), dtype=np.float32)])
        self._todo = np.concatenate([self._todo, again])
        return True

    def renew(self, have_come: BlocksCame) -> bool:
        """Has what lacked blocks rendered again, once, where some have come; returns whether it has."""
        if self._is_renewed or self._lacks is None or not self._lacks.any() or not have_come(self._lacks):
            return False
        self._is_renewed = True
        self._lacks[:] = False
        self._todo = np.flatnonzero(self._builder.lacking).astype(np.int32)
        self._start = None
        return True

    def finish(self, is_coarse: bool = False) -> Held:
        """Returns the finished keyframe; `is_coarse` as of Held."""
        return Held(self.camera, self.look, self._builder.finish(), self._lacks, is_coarse)
