"""What is seen from straight above, in plain torch: the survey that ground and roof heights are read from."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .edit_tables import ColumnGrid, Columns
from .lookup import Lookup
from .streamed_lookup import StreamedLookup, lookup_of
from .tables import FieldTables, RenderOptions

CHUNK_SAMPLES = 2**19  # samples held at once; a chunk is at least one column


def survey(
    tables: FieldTables, options: RenderOptions, grid: ColumnGrid, lacking: np.ndarray | None = None
) -> Columns:
    """Marches down every column of the grid, a few of them at a time.

    Of a streamed field, `lacking` (uint8 [n_blocks]) gets 1 for every block that was read without being
    resident.
    """
    lookup = lookup_of(tables)
    i = torch.arange(n_samples(grid), dtype=torch.float32, device=lookup.device)
    z = grid.z_high - (i + 0.5) * grid.step
    cell = torch.arange(grid.n_x * grid.n_y, device=lookup.device)
    parts = []
    with torch.no_grad():
        for chunk in torch.split(cell, max(1, CHUNK_SAMPLES // len(z))):
            parts.append([part.cpu() for part in _march(lookup, options, grid, chunk, z, lacking)])
    height, opacity, features = (torch.cat(part) for part in zip(*parts, strict=True))
    size = (grid.n_y, grid.n_x)
    return Columns(height.view(size), opacity.view(size), features.view(*size, -1))


def n_samples(grid: ColumnGrid) -> int:
    """Returns how many samples a column has: those above z_low, at least one."""
    return max(1, math.ceil((grid.z_high - grid.z_low) / grid.step - 0.5))


def _march(
    lookup: Lookup,
    options: RenderOptions,
    grid: ColumnGrid,
    cell: Tensor,
    z: Tensor,
    lacking: np.ndarray | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns height, opacity [n_cells] and features [n_cells, feature_dim] of cells, numbered row by row."""
    x = grid.low[0] + ((cell % grid.n_x).float() + 0.5) * grid.side
    y = grid.low[1] + (torch.div(cell, grid.n_x, rounding_mode="floor").float() + 0.5) * grid.side
    size = (len(cell), len(z))
    points = torch.stack([x[:, None].expand(size), y[:, None].expand(size), z.expand(size)], dim=-1)
    points = points.view(-1, 3)
    kept = lookup.is_inside(points).nonzero().squeeze(-1)
    kept = kept[lookup.is_occupied(points[kept], options.mask_threshold)]
    if isinstance(lookup, StreamedLookup):
        lookup.mark_lacking(points[kept], lacking)
    sigma = torch.zeros(len(points), device=z.device)
    sigma[kept] = lookup.sigma(points[kept])
    passes = torch.exp(-sigma.view(len(cell), -1) * (grid.step * options.distance_scale))
    left = passes.cumprod(dim=-1)  # what light passes the samples so far
    before = torch.cat([torch.ones_like(left[:, :1]), left[:, :-1]], dim=-1)
    weights = (before * (1.0 - passes)).view(-1)
    opacity = 1.0 - left[:, -1]

    seen = (weights > 0).nonzero().squeeze(-1)
    column = torch.div(seen, len(z), rounding_mode="floor")
    features = torch.zeros(len(cell), len(lookup.basis), device=z.device)
    total = torch.zeros(len(cell), device=z.device).index_add_(0, column, weights[seen])
    features.index_add_(0, column, weights[seen, None] * lookup.appearance_feature(points[seen]))
    features /= torch.where(total > 0, total, torch.ones_like(total))[:, None]
    return _height(grid, before, left), opacity, features


def _height(grid: ColumnGrid, before: Tensor, left: Tensor) -> Tensor:
    """Returns where half of the light is gone, linear in opacity inside a step; NaN: nowhere. [n_cells]"""
    reached = left <= 0.5
    first = reached.to(torch.uint8).argmax(dim=-1, keepdim=True)
    above, below = before.gather(1, first).squeeze(1), left.gather(1, first).squeeze(1)
    share = (above - 0.5) / (above - below)
    height = grid.z_high - (first.squeeze(1) + share) * grid.step
    return torch.where(reached.any(dim=-1), height, torch.full_like(height, math.nan))
