"""Groups of a picture's tiles that look at the same blocks, in an order in which few blocks change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...cuda.tables import TILE, FrameBuffers, View


def swept(
    tiles: NDArray[np.int32], view: View, buffers: FrameBuffers, aabb: Tensor, division: tuple[int, int]
) -> list[NDArray[np.int32]]:
    """Groups tiles by where their middle ends, to and fro over the field in stripes along the view.

    A stop of the way is a corner where four blocks meet, with what lies within half a block of it: from each
    to the next one, half of the blocks stay the same.

    Args:
        tiles: Numbers of tiles.
        view: Of the picture.
        buffers: A picture of it, however coarse.
        aabb: Of the field. [2, 3]
        division: Of the field into blocks.
    """
    ends = _ends(tiles, view, buffers)
    low, high = aabb[:, :2].double().numpy()
    most = np.array(division)
    corner = np.rint(np.clip((ends - low) / (high - low), 0, 1) * most).astype(np.int64)
    corner = np.clip(corner, np.minimum(1, most - 1), np.maximum(most - 1, 0))  # a field's rim has no corners
    forward = -view.c2w[:2, 2]
    along = int(abs(forward[1]) >= abs(forward[0]))
    stripe, step = corner[:, 1 - along], corner[:, along]
    step = np.where(stripe % 2 == 0, step, -step)
    order = np.lexsort((tiles, step, stripe))
    is_next = (np.diff(stripe[order]) != 0) | (np.diff(step[order]) != 0)
    return np.split(tiles[order], np.flatnonzero(is_next) + 1)


def _ends(tiles: NDArray[np.int32], view: View, buffers: FrameBuffers) -> NDArray[np.float64]:
    """Returns where the rays through the middles of tiles end, in plan. [n, 2]"""
    columns = -(-view.width // TILE)
    row = np.minimum(tiles // columns * TILE + TILE // 2, view.height - 1)
    column = np.minimum(tiles % columns * TILE + TILE // 2, view.width - 1)
    median, mean = buffers.median_depth.numpy()[row, column], buffers.depth.numpy()[row, column]
    depth = np.where(median > 0, median, mean).astype(np.float64)
    x, y = (column - view.cx) / view.fl_x, -(row - view.cy) / view.fl_y
    turn, eye = view.c2w[:, :3].astype(np.float64), view.c2w[:, 3].astype(np.float64)
    directions = np.stack([x, y, -np.ones_like(x)], axis=-1) @ turn.T
    ends: NDArray[np.float64] = (eye + depth[:, None] * directions)[:, :2]
    return ends
