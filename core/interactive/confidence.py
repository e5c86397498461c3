"""Where warped pictures are believed. Pure: measured errors in, a decision out.

A keyframe has one depth per pixel. Where much of what a pixel shows lies behind its front layer, as in glass,
fog or foliage, parts of it are moved to the wrong place, and no number of fresh rays makes up for that. How
much lies behind says only that this may be so: blurred fields are half transparent everywhere and can be
warped well. What the warp really loses is measured by the check rays of each picture.

The rule, with the constants below:

1. A scene is semi-transparent where more than BEHIND of the opacity of its last keyframe, on average, lies
   behind the front layer. Elsewhere warped pictures are always believed: what errors they have come from fast
   motion and are gone with the next keyframe.
2. In a semi-transparent scene they are believed as long as the mean error of the last PICTURES pictures is no
   worse than LIMIT, about what pictures of reduced resolution reach. Where motion sets in or turns round, it
   is worse until the next keyframes have come. When it has been so for PERSISTENT seconds of motion on end,
   pictures of reduced resolution are shown instead.
3. After FIRST_PAUSE seconds warped pictures are tried again. Whenever such a trial fails, the next one
   comes after twice the time, up to LONGEST_PAUSE; one that has held for PROVEN seconds makes the pause
   short again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ...cuda.warp_tables import BORDER, Keyframe

BEHIND = 0.1  # share of the opacity; of opaque fields it is 0.02
LIMIT = 1e-3  # mean squared error: 30 dB
PICTURES = 8
PERSISTENT = 2.0  # seconds: three keyframes; only then it is not for want of one that is near
FIRST_PAUSE = 4.0  # seconds
LONGEST_PAUSE = 120.0  # seconds
PROVEN = 10.0  # seconds
LONGEST_STEP = 0.1  # seconds between two pictures that count as motion
SEEN = 0.02  # opacity from which on a pixel shows anything, as LV_FRONT_LEAST in compositing.h


@dataclass(frozen=True)
class Confidence:
    """Whether moving pictures are warped, by the rule above. Times are seconds of any one clock."""

    behind: float = 0.0  # share of the opacity behind the front layer
    errors: tuple[float, ...] = ()  # mean squared, of the last pictures
    bad: float = 0.0  # seconds of motion for which the errors have been worse than the limit
    good: float = 0.0  # seconds of motion since warped pictures were tried, but for bad ones
    last: float | None = None  # time of the last picture
    until: float | None = None  # time at which warped pictures are tried again; None: they are believed
    pause: float = FIRST_PAUSE  # seconds that the next fall back lasts

    def after(self, error: float | None, behind_share: float, now: float) -> Confidence:
        """Takes in one moving picture, however it was made.

        Args:
            error: Mean squared error of the warp, `Displayed.error`; None: it was not measured.
            behind_share: Of the last keyframe, see `behind_share`.
            now: When it was shown.
        """
        seen = replace(self, behind=behind_share, last=now)
        if self.until is not None:
            return seen if now < self.until else replace(seen, errors=(), bad=0.0, good=0.0, until=None)
        if error is None or not math.isfinite(error):
            return seen
        passed = 0.0 if self.last is None else min(max(now - self.last, 0.0), LONGEST_STEP)
        return replace(seen, errors=(*self.errors, error)[-PICTURES:])._judged(passed, now)

    @property
    def is_semi_transparent(self) -> bool:
        """Whether much of the scene is seen through something."""
        return self.behind > BEHIND

    @property
    def uses_engine(self) -> bool:
        """Whether the next moving picture is to be a warped one."""
        return self.until is None

    @property
    def said(self) -> str:
        """Why moving pictures are not warped, in a few words; "": they are."""
        return "" if self.uses_engine else "semi-transparent"

    def _judged(self, passed: float, now: float) -> Confidence:
        is_bad = len(self.errors) == PICTURES and sum(self.errors) / PICTURES > LIMIT
        if not (is_bad and self.is_semi_transparent):
            good = self.good + passed
            return replace(self, bad=0.0, good=good, pause=FIRST_PAUSE if good >= PROVEN else self.pause)
        if self.bad + passed < PERSISTENT:
            return replace(self, bad=self.bad + passed)
        return replace(self, until=now + self.pause, pause=min(2 * self.pause, LONGEST_PAUSE))


def behind_share(keyframe: Keyframe) -> float:
    """Returns the mean share of the opacity that lies behind the front layer, of pixels that show any."""
    planes = keyframe.planes[BORDER:-BORDER, BORDER:-BORDER]
    return mean_behind(planes[..., 0], planes[..., 3])


def mean_behind(opacity: np.ndarray, front: np.ndarray) -> float:
    """Returns the same from the opacity of pixels and the share of it in the front layer. Equal shapes"""
    seen = opacity > SEEN
    return float(np.mean(1.0 - front[seen])) if seen.any() else 0.0
