"""How fine keyframes are: at half the resolution they come four times as often.

Blurred fields lose nothing by that. Of others it is the lesser evil where the camera is so fast that finer
keyframes show little of what it sees by the time they are there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn import functional

from ...cuda.warp_tables import BORDER, Keyframe

HALF = 0.5  # share of the resolution per side
SMOOTH = 1e-4  # mean squared: a picture that loses less by halving is smooth, 40 dB
SHARP = 6e-4  # a picture of half the resolution that loses more by halving would be sharp at the full one
ALIKE = 0.7  # share of the width of a picture, from which on another one is as smooth
MANY = 0.15  # share of guessed pixels in a picture that comes of keyframes being late
FEW = 0.01
LATE = 3  # pictures in a row with many of them, after which keyframes become coarser
CALM = 10  # pictures in a row with few, after which they become finer
COARSEST = 2  # times that their resolution is halved at most
LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Detail:
    """The resolution of keyframes, from how much the last ones lose when it is halved.

    What halving loses grows by some 8 dB from a full picture to one of half the resolution, so that a half
    one tells when full ones are needed again.
    """

    scale: float = 1.0  # share of the displayed resolution per side
    width: int = 0  # pixels, of the displayed picture that told

    def at(self, width: int) -> float:
        """Returns the scale for pictures of some width: what is smooth may not be so in far larger pixels."""
        return self.scale if width > ALIKE * self.width else 1.0

    def after(self, keyframe: Keyframe, scale: float) -> Detail:
        """Takes in a finished keyframe of a share of the displayed resolution per side."""
        if min(keyframe.view.width, keyframe.view.height) < 4:
            return self
        if scale < 0.9 * HALF:
            return self
        lost = lost_by_halving(keyframe)
        if scale > HALF:
            return Detail(HALF, round(keyframe.view.width / scale)) if lost < SMOOTH else Detail()
        return Detail() if lost > SHARP else self


@dataclass(frozen=True)
class Haste:
    """How often the resolution of keyframes is halved because the camera is fast."""

    halvings: int = 0
    late: int = 0  # pictures in a row with many guessed pixels
    calm: int = 0  # pictures in a row with few

    def after(self, guessed: float) -> Haste:
        """Takes in the share of a picture for which there was neither a keyframe nor a ray."""
        late = self.late + 1 if guessed > MANY else 0
        calm = self.calm + 1 if guessed < FEW else 0
        if late >= LATE * (1 + 2 * self.halvings) and self.halvings < COARSEST:
            return Haste(self.halvings + 1)
        if calm >= CALM and self.halvings:
            return Haste(self.halvings - 1)
        return replace(self, late=late, calm=calm)

    @property
    def scale(self) -> float:
        """Share of the resolution per side."""
        return HALF**self.halvings


def lost_by_halving(keyframe: Keyframe) -> float:
    """Returns the mean squared error of the brightness at half the resolution, enlarged again."""
    height, width = keyframe.view.height // 2 * 2, keyframe.view.width // 2 * 2
    color = keyframe.color[BORDER : BORDER + height, BORDER : BORDER + width, :3]
    luma = torch.from_numpy(color @ np.array(LUMA, dtype=np.float32))[None, None]
    half = functional.avg_pool2d(luma, 2)
    again = functional.interpolate(half, scale_factor=2, mode="bicubic", align_corners=False)
    return float(functional.mse_loss(again, luma))
