"""What the interactive engine is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np

from ...cuda.tables import FrameBuffers
from ..appearance import Appearance
from ..camera import Camera
from ..edits.compiled import CompiledEdits


@dataclass(frozen=True)
class Look:
    """What the colours and the geometry of a picture depend on beside the camera."""

    appearance: Appearance = field(default_factory=Appearance)  # its grade is not the engine's business
    edits: CompiledEdits | None = None
    background: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Budget:
    """Rays that one displayed picture may cost. Rays, not milliseconds: pictures must not depend on time."""

    total: int  # fresh rays and those of the next keyframe together
    key: int  # of them at least for the next keyframe: one that comes late leaves more holes, and so on
    fill: int  # at most for holes, unless much of the picture is new: then silhouettes wait
    edge: int  # at most for silhouettes and stale pixels
    check: int = 0  # beyond the total: ordinary pixels that say how good the warp is


class Kind(str, Enum):
    """How a picture came about."""

    WARPED = "warped"  # keyframes and fresh rays
    KEYFRAME = "keyframe"  # a keyframe from its own pose, as it is
    RECOLORED = "recoloured"  # as a warped one, but keyframes have the colours of the look about only
    COARSE = "coarse"  # rendered at a small part of the resolution, as no keyframe shows enough of the view


@dataclass(frozen=True)
class Displayed:
    """A picture of the asked pose. It is whole: every pixel is set."""

    camera: Camera  # the one asked for
    kind: Kind
    image: np.ndarray  # uint8 [height, width, 4] contiguous, opaque; without grade
    # The same as floats, its own copy. Opacity and depths are those of an opaque front layer, unless they
    # were asked for or a keyframe is shown as it is.
    buffers: FrameBuffers
    rays: int  # fresh ones that it cost
    holes: float  # share of the pixels that no keyframe showed
    guessed: float  # share of the pixels that are the mean of their neighbours
    error: float | None  # mean squared error of the warp, measured by the check rays; None: there were none
    coarse: float = 0.0  # share of the pixels that read a coarse stand-in for a block, about
    lacking: np.ndarray | None = None  # bool [n_blocks] of a streamed field: read, but not in memory


@dataclass(frozen=True)
class Refined:
    """What a call of `refine` has done."""

    rays: int
    finished: bool  # a keyframe has become the newest one
    needs: np.ndarray | None = None  # float32 [n_blocks] with `finished`, as RenderControl has them


class Course(Protocol):
    """Where the camera will be, for those who know: paths that are played, glides."""

    def camera_in(self, seconds: float) -> Camera:
        """Returns the camera so many seconds after the present one."""
        ...
