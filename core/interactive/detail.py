"""How fine keyframes must be: blurred ones lose nothing at half the resolution, and come far sooner."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from ...cuda.warp_tables import BORDER, Keyframe

HALF = 0.5  # share of the resolution per side
SMOOTH = 1e-4  # mean squared: a picture that loses less by halving is smooth, 40 dB
SHARP = (
    6e-4  # a picture of half the resolution that loses more by halving shows that the full one would be sharp
)
LUMA = (0.2126, 0.7152, 0.0722)


@dataclass(frozen=True)
class Detail:
    """The resolution of keyframes, from how much the last ones lose when it is halved.

    What halving loses grows by some 8 dB from a full picture to one of half the resolution, so that a half
    one tells when full ones are needed again.
    """

    scale: float = 1.0  # share of the displayed resolution per side

    def after(self, keyframe: Keyframe, scale: float) -> Detail:
        """Takes in a finished keyframe of a share of the displayed resolution per side."""
        if min(keyframe.view.width, keyframe.view.height) < 4:
            return self
        lost = lost_by_halving(keyframe)
        if scale > HALF:
            return Detail(HALF if lost < SMOOTH else 1.0)
        return Detail(1.0) if lost > SHARP else self


def lost_by_halving(keyframe: Keyframe) -> float:
    """Returns the mean squared error of the brightness at half the resolution, enlarged again."""
    height, width = keyframe.view.height // 2 * 2, keyframe.view.width // 2 * 2
    color = keyframe.color[BORDER : BORDER + height, BORDER : BORDER + width, :3]
    luma = torch.from_numpy(color @ np.array(LUMA, dtype=np.float32))[None, None]
    half = functional.avg_pool2d(luma, 2)
    again = functional.interpolate(half, scale_factor=2, mode="bicubic", align_corners=False)
    return float(functional.mse_loss(again, luma))
