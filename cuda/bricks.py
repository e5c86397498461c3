"""The brick tables of an alpha mask with torch; the native code makes the same."""

from __future__ import annotations

import torch
from torch import Tensor


def brick_tables(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Packs the cells round vertices [n_z, n_y, n_x]: those with any vertex set, with all; int64."""
    known = torch.nn.functional.pad(nodes.float(), (1, 1) * 3)[None]
    any_cell = torch.nn.functional.max_pool3d(known, 2, 1)[0]
    all_cell = 1 - torch.nn.functional.max_pool3d(1 - known, 2, 1)[0]
    return _packed(any_cell, 0), _packed(all_cell, 1)


def _packed(cells: Tensor, beyond: int) -> Tensor:
    pad = [side for n in reversed(cells.shape) for side in (0, -n % 4)]
    padded = torch.nn.functional.pad(cells, pad, value=beyond).to(torch.int64)
    z, y, x = (n // 4 for n in padded.shape)
    bits = padded.view(z, 4, y, 4, x, 4).permute(0, 2, 4, 1, 3, 5).reshape(z, y, x, 64)
    return (bits << torch.arange(64)).sum(dim=-1)
