"""Edits of small fields, made by hand: operations of every kind over the box of `small_fields`."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.cuda.edit_tables import (
    EditIndex,
    EditKind,
    EditOp,
    EditTables,
    Footprint,
    Reach,
    Source,
    Transform,
)
from landmark_viewer.cuda.tables import FrameBuffers, RenderOptions, View

from .small_fields import AABB

SIDE = 0.0625  # of footprint cells


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal to noise of pictures in [0, 1], dB."""
    return float(-10 * torch.log10((a - b).double().square().mean().clamp(min=1e-20)))


def buffers_for(view: View, normals: bool = False) -> FrameBuffers:
    """Empty buffers of a view's size."""
    return FrameBuffers.empty(view.width, view.height, normals)


def footprint(n_x: int = 14, n_y: int = 16, low: tuple[float, float] = (-0.5, -0.6)) -> Footprint:
    """A raster across the border of 2 x 2 blocks: a square without one corner and with a hole."""
    mask = torch.ones(n_y, n_x, dtype=torch.uint8)
    mask[: n_y // 3, : n_x // 3] = 0
    mask[n_y // 2, n_x // 2] = 0
    return Footprint(mask, low, SIDE)


def clear(**changes: object) -> EditOp:
    """Hides what stands on the footprint."""
    return replace(EditOp(EditKind.CLEAR, footprint(), z_low=-0.02, z_high=0.45), **changes)


def patch(feature_dim: int, **changes: object) -> EditOp:
    """Removes what stands on the footprint; its ground slopes, and its features are random."""
    cells = footprint()
    random = torch.Generator().manual_seed(5)
    n_y, n_x = cells.mask.shape
    ground = 0.02 + 0.004 * torch.arange(n_x).float() + 0.01 * torch.rand(n_y, n_x, generator=random)
    features = torch.randn(n_y, n_x, feature_dim, generator=random)
    op = EditOp(EditKind.PATCH, cells, z_high=0.45, ground=ground, features=features)
    return replace(op, **{"thickness": 0.08, "rise": 0.012, "sigma": 30.0} | changes)


def instance(turn: float = 35.0, scale: float = 1.3, **changes: object) -> EditOp:
    """A copy of what stands on the footprint, turned by degrees and scaled, farther in x and y."""
    op = EditOp(EditKind.INSTANCE, footprint(), z_low=-0.05, z_high=0.3, sigma_scale=1 / scale)
    return replace(op, to_source=placed((0.0, 0.0, 0.0), (0.35, 0.3, 0.02), turn, scale), **changes)


def style(latent: Tensor, **changes: object) -> EditOp:
    """Colours what stands on a footprint of its own with another embedding."""
    op = EditOp(EditKind.STYLE, footprint(12, 12, (-0.3, -0.2)), latent=latent)
    return replace(op, **changes)


def placed(
    anchor: tuple[float, float, float], position: tuple[float, float, float], turn: float, scale: float
) -> Transform:
    """The way back from a copy whose anchor went to a position, turned by degrees, to its source."""
    cosine, sine = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    xx, xy = cosine / scale, sine / scale
    x, y, z = position
    return Transform(
        xx,
        xy,
        anchor[0] - xx * x - xy * y,
        anchor[1] + xy * x - xx * y,
        1 / scale,
        anchor[2] - z / scale,
        cosine,
        sine,
    )


def tables_of(*ops: EditOp, sources: tuple[Source, ...] = ()) -> EditTables:
    """Edits whose index and reach leave nothing out."""
    n = len(ops)
    index = EditIndex(
        cells=torch.ones(3, 2, dtype=torch.int32),
        low=(float(AABB[0, 0]), float(AABB[0, 1])),
        scale=(1.0, 1.5),
        starts=torch.tensor([0, 0, n], dtype=torch.int32),
        items=torch.arange(n - 1, -1, -1, dtype=torch.int32),
    )
    low, high = AABB.tolist()
    side = [(b - a) / 4 for a, b in zip(low, high, strict=True)]
    reach = Reach(torch.ones(4, 4, 4, dtype=torch.uint8), tuple(low), tuple(side))
    return EditTables(ops, sources, index, reach)


def source_of(model: GridNeRF, tables: object = None, code: int = 0) -> Source:
    """A field to insert from."""
    return Source(tables or model.tables(), model.settings.alpha_mask_threshold, model.latent(code))


def with_edits(options: RenderOptions, *ops: EditOp, sources: tuple[Source, ...] = ()) -> RenderOptions:
    """The same options with edits."""
    return replace(options, edits=tables_of(*ops, sources=sources))
