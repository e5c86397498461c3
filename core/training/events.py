"""What a trainer tells its listener."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Event:
    """Something that happened after `iteration` steps."""

    iteration: int  # steps done since the run began


@dataclass(frozen=True)
class Started(Event):
    """The run begins, or goes on from a saved state if `iteration` is not 0."""

    iterations: int  # steps of the whole run
    n_parameters: int
    grid_size: tuple[int, int, int]
    backend: str  # what computes the steps, and on what or why: native (...) or torch (...)


@dataclass(frozen=True)
class Stepped(Event):
    """Steps were taken; sent a few times per second at most, and after the last one."""

    psnr: float  # of the batches, dB, smoothed
    losses: Mapping[str, float]  # weighted parts of the last step's loss
    seconds_per_step: float  # smoothed
    remaining_seconds: float
    n_inside: int = 0  # samples of the last step inside box and mask
    n_shaded: int = 0  # samples of the last step that the decoder saw


@dataclass(frozen=True)
class Upsampled(Event):
    """Planes and lines were resampled to a finer grid."""

    grid_size: tuple[int, int, int]


@dataclass(frozen=True)
class MaskUpdated(Event):
    """The alpha mask was rebuilt."""

    share: float  # of its vertices that may hold matter


@dataclass(frozen=True)
class Warned(Event):
    """Something went otherwise than the user will have wanted; training goes on."""

    message: str


@dataclass(frozen=True)
class NerfStarted(Event):
    """The NeRF branch was added."""


@dataclass(frozen=True)
class ViewScore:
    """How well one held-out photograph is met."""

    name: str
    psnr: float  # dB
    ssim: float  # NaN for pictures of less than 11 pixels along a side
    picture: Path | None = None  # the render


@dataclass(frozen=True)
class Tested(Event):
    """Held-out photographs were rendered."""

    scores: tuple[ViewScore, ...]
    psnr: float  # mean, dB
    ssim: float  # mean


@dataclass(frozen=True)
class Saved(Event):
    """State and checkpoint were written."""

    state: Path
    checkpoint: tuple[Path, ...]  # the first is the one to open


@dataclass(frozen=True)
class Stopped(Event):
    """The run was asked to stop; its state is saved."""


@dataclass(frozen=True)
class Finished(Event):
    """All steps are done; state and checkpoint are saved."""


@dataclass(frozen=True)
class Outcome:
    """What a run left behind."""

    iteration: int  # steps done
    is_finished: bool  # False: stopped before
    checkpoint: tuple[Path, ...]  # the first is the one to open
    scores: tuple[ViewScore, ...] = field(default=())  # of the last test
