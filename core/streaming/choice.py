"""Whether a field is held in memory as a whole, or its blocks are fetched as they are needed."""

from __future__ import annotations

import torch

from ...cuda.tables import CHANNEL_MULTIPLE
from ..gridnerf import FULL_PRECISION_LIMIT, GridNeRF, Parts
from ..settings import Precision
from .contracts import MemoryBudget
from .memory import resolved
from .stream import FieldStream


def stream_of(
    model: GridNeRF, precision: Precision, budget: MemoryBudget, device: torch.device
) -> FieldStream | None:
    """Returns what fetches a field's blocks; None for a field that is to be held in memory as a whole.

    A field is streamed if it is a store, if it is to be shown by its neighbourhood, or if its planes and
    lines are larger than the budget, or than the machine can spare if it has several blocks.
    """
    if model.source is None:
        limit = budget.device
        if limit is None and model.layout.n_blocks > 1:
            limit = resolved(budget, device).device
        is_small = limit is None or packed_bytes(model, precision) <= limit
        if is_small and budget.neighbour_size is None:
            return None
    return FieldStream(model, precision, budget, device)


def packed_bytes(model: GridNeRF, precision: Precision) -> int:
    """Returns the bytes of all planes and lines as GridNeRF.tables packs them, and of the alpha mask."""
    if precision is Precision.AUTO:
        precision = Precision.HALF if model.n_parameter_bytes > FULL_PRECISION_LIMIT else Precision.FULL
    width = 2 if precision is Precision.HALF else 4

    def padded(groups: tuple[Parts, ...]) -> int:
        counts = ((sum(map(len, parts)), parts[0][0].numel()) for parts in groups)
        return sum(-(-channels // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE * n for channels, n in counts)

    mask = 0 if model.occupancy is None else model.occupancy.nodes.nbytes
    return mask + sum(
        width * (padded(block.density_planes) + padded(block.appearance_planes))
        + 4 * (padded(block.density_lines) + padded(block.appearance_lines))
        for block in model.blocks
        if block is not None
    )
