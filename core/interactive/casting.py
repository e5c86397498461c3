"""Fresh rays of the engine: how they are asked for, and what they bring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...cuda import ops
from ...cuda.tables import TILE, FrameBuffers, NerfMode, Quality, RayList, RenderControl
from ...cuda.tight import TightRoom
from ..camera import Camera
from ..render import Renderer, RenderSettings, options_for
from .contracts import Look

CLUSTER_WEIGHT = 0.2  # weight after which further samples of a ray have a colour of their own
PACK = TILE * TILE  # rays that are one step of the work


@dataclass(frozen=True)
class Cast:
    """Rays that have been rendered, in the order of their list."""

    buffers: FrameBuffers
    done: np.ndarray  # bool [n]; not all where the work was cancelled
    lacking: np.ndarray  # bool [n] they, or neighbours in the list, read a coarse stand-in for a block
    lacks: np.ndarray | None = None  # bool [n_blocks] of a streamed field: read, but not in memory
    needs: np.ndarray | None = None  # float32 [n_blocks] what the blocks weigh, per ray of the list


class Caster:
    """Renders rays of one scene the way that moving pictures are rendered."""

    def __init__(self, renderer: Renderer, threads: int) -> None:
        self._renderer = renderer
        self._threads = threads
        columns, rows = renderer.model.layout.division
        self.n_blocks = columns * rows if renderer.stream is not None else 0  # 0: not streamed
        self._room: TightRoom | None = None  # of the field without edits
        self._is_prepared = renderer.stream is not None  # there are no rooms of streamed fields
        self.is_hazy = False  # much of what is seen lies behind something else

    def serves(self, look: Look) -> str | None:
        """Returns why rays cannot be rendered here, in a few words; None: they can."""
        renderer = self._renderer
        if renderer.device.type != "cpu":
            return f"pictures are rendered on {renderer.device.type}"
        status = renderer.backend_status
        if status.name != "native":
            return f"no native kernels: {status.detail}"
        if not renderer.can_render_rays(self._settings(look)):
            return "an edited scene with a NeRF branch"
        return None

    def prepare(self, cancelled: RenderControl | None) -> None:
        """Finds out once where the field holds anything at all; nothing is gained by half of that."""
        if self._is_prepared or self.serves(Look()) is not None:
            return
        renderer = self._renderer
        options = options_for(renderer.model, self._settings(Look()))
        if options.nerf is NerfMode.OFF:
            cancel = None if cancelled is None else cancelled.cancel_flag
            self._room = ops.tight_room(renderer.tables, options, cancel)
        self._is_prepared = cancelled is None or not cancelled.is_cancelled

    def cast(
        self,
        camera: Camera,
        look: Look,
        pixels: np.ndarray,
        start: np.ndarray | None,
        cancelled: RenderControl | None = None,
    ) -> Cast:
        """Renders some pixels of a view.

        Args:
            camera: Where from.
            look: What is seen.
            pixels: Their numbers, row * width + column. int32 [n]
            start: z-depths before which their rays meet nothing. float32 [n] None: not known
            cancelled: Whoever cancels it ends the work after the packs under way.
        """
        rays = RayList(np.ascontiguousarray(pixels), start)
        control, buffers = rays.control(), rays.buffers()
        if cancelled is not None:
            control.cancel_flag = cancelled.cancel_flag
        if self.n_blocks:
            control.needs = np.zeros(self.n_blocks, dtype=np.float32)
            control.lacking = np.zeros(self.n_blocks, dtype=np.uint8)
        if len(pixels):
            self._renderer.render_rays(camera, self._settings(look), rays, buffers, control)
            self.place_front(buffers)
        n = len(pixels)
        done, lacking = (
            np.repeat(packs != 0, PACK)[:n] for packs in (control.tile_done, control.tile_lacking)
        )
        lacks = None if control.lacking is None else control.lacking != 0
        return Cast(buffers, done, lacking, lacks, control.needs)

    def backdrop(self, look: Look) -> np.ndarray:
        """Returns the colour behind everything. float32 [3]"""
        options = options_for(self._renderer.model, self._settings(look))
        return np.array(options.background, dtype=np.float32)

    def place_front(self, buffers: FrameBuffers) -> None:
        """Puts the front layer of hazy pictures where half of the light comes from.

        The haze is spread along the whole ray, and what moves with the camera is the ground behind it.
        """
        assert buffers.front is not None, "it is asked for"
        if self.is_hazy:
            front, median = buffers.front[..., 0], buffers.median_depth
            front[:] = median.where(median > 0, front)

    def _settings(self, look: Look) -> RenderSettings:
        room = self._room
        if room is not None and look.edits is not None and look.edits.tables is not self._renderer.tables:
            room = None
        return RenderSettings(
            quality=Quality.FAST,
            appearance=look.appearance,
            edits=look.edits,
            background=look.background,
            threads=self._threads,
            complete=False,
            cluster_weight=CLUSTER_WEIGHT,
            bfloat16=True,
            tight=room,
        )


def picked(buffers: FrameBuffers, which: np.ndarray) -> FrameBuffers:
    """Returns the buffers of some rays of a list. which: bool [n]"""
    assert buffers.front is not None
    front = buffers.front[:, which].contiguous()
    rgb, opacity, depth, median_depth = (
        plane[:, which].contiguous()
        for plane in (buffers.rgb, buffers.opacity, buffers.depth, buffers.median_depth)
    )
    return FrameBuffers(rgb, opacity, depth, median_depth, front=front)
