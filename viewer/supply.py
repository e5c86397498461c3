"""What a picture of a streamed field lacks, and what of that is still to come."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from ..cuda.tables import TILE, RenderControl

if TYPE_CHECKING:
    from ..core.appearance import Grade
    from ..core.camera import Camera
    from ..core.streaming.contracts import Variant
    from .pictures import Renderer, RenderRequest
    from .state import Mode

FADE_SECONDS = 0.3  # in which what a block brings replaces its stand-in on the screen


class Lacks:
    """Which tiles of a picture read coarse stand-ins, of which blocks, and how much every block mattered."""

    def __init__(self, camera: Camera, n_blocks: int) -> None:
        """Makes the account of a picture that lacks nothing."""
        self._rows, self._columns = -(-camera.height // TILE), -(-camera.width // TILE)
        self.tiles = np.zeros(self._rows * self._columns, dtype=bool)
        self.blocks = np.zeros(n_blocks, dtype=bool)
        self.needs = np.zeros(n_blocks, dtype=np.float32)

    @property
    def any(self) -> bool:
        """Whether any tile lacks a block."""
        return bool(self.tiles.any())

    @property
    def share(self) -> float:
        """Of the tiles, that lack a block."""
        return float(self.tiles.mean())

    def note(self, control: RenderControl) -> None:
        """Takes in a pass over some tiles."""
        self.tiles[control.order] = control.tile_lacking[control.order] != 0
        if control.lacking is not None:
            self.blocks |= control.lacking != 0
        if control.needs is not None:
            self.needs += control.needs

    def forget_blocks(self) -> None:
        """Begins to find out anew which blocks are lacking."""
        self.blocks[:] = False
        self.needs[:] = 0

    def pixels(self, camera: Camera) -> np.ndarray:
        """Returns which pixels of the picture lie in tiles that lack a block. bool [height, width]"""
        tiles = self.tiles.reshape(self._rows, self._columns)
        pixels: np.ndarray = np.repeat(np.repeat(tiles, TILE, axis=0), TILE, axis=1)
        return pixels[: camera.height, : camera.width]

    def over(self, camera: Camera) -> Lacks:
        """Returns the account of the same picture at the size of another camera."""
        account = Lacks(camera, len(self.blocks))
        rows = np.arange(account._rows) * self._rows // account._rows
        columns = np.arange(account._columns) * self._columns // account._columns
        tiles = self.tiles.reshape(self._rows, self._columns)
        account.tiles[:] = tiles[rows][:, columns].reshape(-1)
        account.blocks[:] = self.blocks
        return account


class Supply:
    """Asks the stream of a renderer for the blocks of requests. Used from the render thread only.

    A field that is all in memory has no stream, and nothing is ever lacking.
    """

    def __init__(self, renderer: Renderer) -> None:
        self._stream = renderer.stream
        columns, rows = renderer.tables.division
        self._n_blocks = columns * rows if self._stream is not None else 0

    def resolution(self, request: RenderRequest) -> float:
        """Returns the share of the viewport per side that is rendered at most, as memory allows."""
        return request.resolution * (self._stream.residency.plan.resolution if self._stream else 1.0)

    def lacks(self, camera: Camera) -> Lacks:
        """Returns the account of a picture of which nothing is known to be lacking."""
        return Lacks(camera, self._n_blocks)

    def control(self, camera: Camera, order: np.ndarray | None) -> RenderControl:
        """Returns the control of a pass that finds out what it lacks."""
        control = RenderControl(camera.width, camera.height, order)
        if self._stream is not None:
            control.needs = np.zeros(self._n_blocks, dtype=np.float32)
            control.lacking = np.zeros(self._n_blocks, dtype=np.uint8)
        return control

    def look(self, request: RenderRequest) -> None:
        """Says what is looked at."""
        if self._stream is not None:
            self._stream.look(request.camera, time.monotonic(), _variants(request), request.ahead)

    def note(self, lacks: Lacks, is_whole: bool = True) -> None:
        """Tells how much each block mattered in a picture, or in some tiles of one."""
        if self._stream is not None:
            self._stream.note_needs(lacks.needs, is_whole)

    def note_needs(self, needs: np.ndarray | None) -> None:
        """Tells how much each block mattered in a keyframe near what is looked at. float32 [n_blocks]"""
        if self._stream is not None and needs is not None:
            self._stream.note_needs(needs, True)

    def has_come(self, request: RenderRequest, lacks: Lacks) -> bool:
        """Whether a block that a picture lacks is in memory by now."""
        if self._stream is None or not lacks.any:
            return False
        held = self._stream.residency.tables(_variants(request)).blocks
        return any(held[block] is not None for block in np.flatnonzero(lacks.blocks))

    def can_better(self, request: RenderRequest, lacks: Lacks) -> bool:
        """Whether a block that a picture lacks is there by now, or may still come."""
        return self.has_come(request, lacks) or self.is_coming(lacks)

    def is_coming(self, lacks: Lacks) -> bool:
        """Whether a block that a picture lacks may still come without anyone doing anything for it."""
        if self._stream is None or not lacks.any:
            return False
        return self._stream.is_coming(np.flatnonzero(lacks.blocks))


class Fade:
    """Lets renewed tiles of an image replace the old ones little by little, each from when it was renewed."""

    def __init__(self, before: np.ndarray, look: tuple[Mode, Grade]) -> None:
        """`before` is what is on screen, in its mode and grade. uint8 [height, width, 4]"""
        self._before, self._look = before, look
        height, width = before.shape[:2]
        self._columns = -(-width // TILE)
        self._began = np.full(self._columns * -(-height // TILE), np.inf)

    def begin(self, tiles: np.ndarray, now: float) -> None:
        """These tiles were renewed."""
        self._began[tiles] = now

    def is_over(self, now: float) -> bool:
        """Whether every renewed tile has replaced its old one."""
        return not bool(((now - self._began < FADE_SECONDS) & np.isfinite(self._began)).any())

    def mixed(self, image: np.ndarray, look: tuple[Mode, Grade], now: float) -> np.ndarray:
        """Returns what to show now on the way to an image; itself where it shows another mode or grade."""
        if look != self._look:
            return image
        share = np.clip((now - self._began) / FADE_SECONDS, 0, 1).reshape(-1, self._columns)
        if (share[np.isfinite(self._began.reshape(share.shape))] >= 1).all():
            return image
        height, width = image.shape[:2]
        steps = np.rint(256 * share).astype(np.int32)
        weight = np.repeat(np.repeat(steps, TILE, axis=0), TILE, axis=1)[:height, :width, None]
        mixed = self._before + ((image.astype(np.int32) - self._before) * weight >> 8)
        return mixed.astype(np.uint8)


def _variants(request: RenderRequest) -> tuple[Variant, ...]:
    return request.edits.variants if request.edits else ()
