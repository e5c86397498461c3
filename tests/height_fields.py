"""Radiance fields that show a given surface: density grows with the depth below it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from landmark_viewer.core.blocks import BlockLayout
from landmark_viewer.core.gridnerf import FieldBlock, GridNeRF
from landmark_viewer.core.settings import LANDMARK_DEFAULTS
from landmark_viewer.cuda.tables import DecoderWeights

Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]

LOW, HIGH = (-1.0, -1.0, 0.0), (1.0, 1.0, 0.8)
STEEPNESS = 400.0  # of the density, 1 / scene unit^2
DISTANCE_SCALE = 25.0
SINK = math.sqrt(2 * math.log(2) / (STEEPNESS * DISTANCE_SCALE))  # half of the light from above gets so deep


def height_field(
    height: Surface,
    colors: Surface | None = None,
    n: int = 97,
    division: tuple[int, int] = (1, 1),
    directions: int = 1,
) -> GridNeRF:
    """Returns a field whose surface, seen from above, is at `height(x, y)`, bilinear between texels.

    Args:
        height: Of the surface, scene units.
        colors: Appearance features of the surface, [..., 3]; None: x, y and 1.
        n: Texels along a side of a block's ground plane.
        division: Blocks along x and y.
        directions: 1, or 3 with two directions that hold nothing.
    """
    colors = colors or (lambda x, y: np.stack([x, y, np.ones_like(x)], axis=-1))
    blocks = []
    for i in range(division[0]):
        for j in range(division[1]):
            x, y = (
                LOW[axis] + (HIGH[axis] - LOW[axis]) * (place + np.linspace(0, 1, n)) / division[axis]
                for axis, place in enumerate((i, j))
            )
            blocks.append(_block(height, colors, *np.meshgrid(x, y), directions))
    random = torch.Generator().manual_seed(0)
    layers = tuple(
        (torch.randn(a, b, generator=random) / b**0.5, torch.zeros(a)) for a, b in ((8, 6), (8, 8), (3, 8))
    )
    return GridNeRF(
        aabb=torch.tensor([LOW, HIGH]),
        grid_size=(n * division[0], n * division[1], 81),
        density_channels=(2, 1, 1)[:directions],
        appearance_channels=(3, 1, 1)[:directions],
        n_levels=1,
        layout=BlockLayout(division),
        blocks=tuple(blocks),
        decoder=DecoderWeights(torch.eye(3, 2 + directions if directions == 3 else 3), layers, 0, 0, 0),
        activation="relu",
        density_shift=0.0,
        distance_scale=DISTANCE_SCALE,
        weight_threshold=1e-3,
        near_far=(0.1, 6.0),
        step_ratio=0.5,
        settings=LANDMARK_DEFAULTS,
    )


def _block(height: Surface, colors: Surface, x: np.ndarray, y: np.ndarray, directions: int) -> FieldBlock:
    n_z = 81
    z = torch.linspace(LOW[2], HIGH[2], n_z)
    top = np.broadcast_to(height(x, y) + SINK, x.shape).astype(np.float32)
    surface = torch.from_numpy(top) * STEEPNESS
    density = torch.stack([surface, torch.full_like(surface, -STEEPNESS)])
    seen = torch.from_numpy(np.moveaxis(colors(x, y), -1, 0).astype(np.float32))
    flat = (torch.zeros(1, n_z, len(x)),)
    line = (torch.zeros(1, len(x)),)
    rest = directions - 1
    return FieldBlock(
        ((density,), *[flat] * rest),
        ((torch.stack([torch.ones(n_z), z]),), *[line] * rest),
        ((seen,), *[flat] * rest),
        ((torch.ones(3, n_z),), *[line] * rest),
    )


def with_boxes(ground: Surface, *boxes: tuple[float, float, float, float, float]) -> Surface:
    """Returns a ground with boxes (x0, y0, x1, y1, height above the ground of their middle) on it."""

    def height(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        top = ground(x, y)
        for x0, y0, x1, y1, rise in boxes:
            inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
            roof = ground(np.array((x0 + x1) / 2), np.array((y0 + y1) / 2)) + rise
            top = np.where(inside, roof, top)
        return top

    return height
