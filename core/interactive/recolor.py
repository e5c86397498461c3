"""Keyframes in the colours of another look, before one is rendered in it.

Near a place and by channels, the colours of one look are about a linear function of those of another. A few
fresh pixels of the keyframe's own view tell that function; the detail comes from the old colours.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from ...cuda.warp_tables import BORDER, Keyframe
from .scatter import CELL, scattered

SPARSEST = 4  # every so many probes at least: one in each tile
STEADY = 1e-3  # variance of a channel below which its contrast is taken to stay as it is


def samples(width: int, height: int, n: int) -> np.ndarray:
    """Returns evenly spread pixels of a picture: about n at most, but at least one in each tile. int32"""
    order = scattered(width, height)
    step = min(math.ceil(order.n_probes / max(n, 1)), SPARSEST)
    return order.pixels[: order.n_probes : max(step, 1)]


def recolored(keyframe: Keyframe, backdrop: np.ndarray, pixels: np.ndarray, rgb: np.ndarray) -> Keyframe:
    """Returns a keyframe in other colours.

    Args:
        keyframe: In the colours that it was rendered in.
        backdrop: What the background has more of each colour in the others. float32 [3]
        pixels: Some of its pixels, row * width + column. int32 [n]
        rgb: The colours that they are to have. float32 [n, 3]
    """
    view = keyframe.view
    row, column = np.divmod(pixels, view.width)
    color = keyframe.color.copy()
    for channel, more in enumerate(backdrop):
        color[..., channel] += (1 - keyframe.planes[..., 0]) * more
    old, new = color[row + BORDER, column + BORDER, :3], np.nan_to_num(rgb)
    rows, columns = -(-view.height // CELL), -(-view.width // CELL)
    cell = row // CELL * columns + column // CELL
    moments = np.concatenate([np.ones((len(pixels), 1)), old, new, old * old, old * new], axis=1)
    sums = np.stack([np.bincount(cell, each, rows * columns) for each in moments.T])
    n, *means = np.split(_smoothed(sums.reshape(-1, rows, columns)), (1, 4, 7, 10))
    x, y, xx, xy = (each / np.maximum(n, 1e-9) for each in means)
    slope = (xy - x * y + STEADY) / (xx - x * x + STEADY)
    lines = torch.from_numpy(np.concatenate([slope, y - slope * x]).astype(np.float32))[None]
    fine = functional.interpolate(lines, scale_factor=CELL, mode="bilinear", align_corners=False)
    fine = functional.pad(fine[..., : view.height, : view.width], (BORDER,) * 4, mode="replicate")
    for channel, (by, plus) in enumerate(fine[0].numpy().reshape(2, 3, *color.shape[:2]).swapaxes(0, 1)):
        color[..., channel] = np.clip(color[..., channel] * by + plus, 0, 1)
    color.setflags(write=False)
    return Keyframe(view, color, keyframe.planes, keyframe.lacking)


def _smoothed(sums: np.ndarray) -> np.ndarray:
    """Returns each of some grids, averaged over neighbouring cells. [n, rows, columns]"""
    wide = np.pad(sums, ((0, 0), (1, 1), (1, 1)), mode="edge")
    wide = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
    mean: np.ndarray = (wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]) / 16
    return mean
