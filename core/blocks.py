"""How a scene is divided into blocks, and which block a point belongs to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class BlockLayout:
    """Equal blocks along x and y, as LandMark's branch and plane parallel training cuts them.

    There are division[0] x division[1]; block (i, j) has index i * division[1] + j.
    """

    division: tuple[int, int] = (1, 1)

    @property
    def n_blocks(self) -> int:
        """Number of blocks, present or not."""
        return self.division[0] * self.division[1]

    def locate(self, normalized: Tensor) -> tuple[Tensor, Tensor]:
        """Finds the block of each point and its position inside it.

        The arithmetic is LandMark's: a point beyond the last block of a column takes the next column's
        number, with a local position far outside [-1, 1], so that its features are 0.

        Args:
            normalized: Positions, [-1, 1] inside the bounding box. [n, 3]

        Returns:
            Block index, out of [0, n_blocks) where there is none [n] int64, and positions in [-1, 1] of that
            block [n, 3].
        """
        if self.division == (1, 1):
            return torch.zeros(len(normalized), dtype=torch.int64, device=normalized.device), normalized
        columns, rows = self.division
        block_width, block_height = 2 / columns, 2 / rows
        column = torch.floor((normalized[:, 0] + 1) / block_width).to(torch.int64)
        row = torch.floor((normalized[:, 1] + 1) / block_height).to(torch.int64)
        block = column * rows + row
        column = torch.div(block, rows, rounding_mode="floor").to(normalized.dtype)
        row = torch.remainder(block, rows).to(normalized.dtype)
        local = torch.stack(
            [
                _inside(normalized[:, 0], -1 + column * block_width, -1 + (column + 1) * block_width),
                _inside(normalized[:, 1], -1 + row * block_height, -1 + (row + 1) * block_height),
                normalized[:, 2],
            ],
            dim=-1,
        )
        return block, local


def _inside(value: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return (value - low) * 2 / (high - low) - 1
