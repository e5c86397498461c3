"""Reading a field of which only some blocks are in memory; what is not there is read from its stand-in."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from .lookup import Lookup, mask_cells
from .stream_tables import ROOM_CELL, BlockMask, StreamTables
from .tables import FieldTables

NO_BLOCK = -1


def lookup_of(tables: FieldTables, fade: Tensor | None = None) -> Lookup:
    """Returns the lookup of the tables, kept in their cache if they are whole.

    A snapshot must not refer to itself: its memory is used again as soon as it is dropped.
    """
    if tables.stream is not None:
        return StreamedLookup(tables, tables.stream, fade)
    found = tables.cache.get("lookup")
    if not isinstance(found, Lookup):
        found = tables.cache["lookup"] = Lookup(tables)
    return found


class StreamedLookup(Lookup):
    """As Lookup, of a streamed field. No cost depends on how many blocks the field has."""

    def __init__(self, tables: FieldTables, stream: StreamTables, fade: Tensor | None = None) -> None:
        super().__init__(tables)
        self.stream, self.fade = stream, fade
        self._rows = self._kept("rows", stream.coarse.rows.to(torch.int64))

    def home(self, points: Tensor) -> Tensor:
        """Returns the number of the block in which points lie; NO_BLOCK beyond the field's sides. [n]

        Unlike `locate`, it counts points on the far faces to the last blocks.
        """
        columns, rows = self.tables.division
        normalized = (points - self.low) * (2.0 / (self.high - self.low)) - 1
        column = ((normalized[:, 0] + 1) / (2 / columns)).floor().clamp(0, columns - 1)
        row = ((normalized[:, 1] + 1) / (2 / rows)).floor().clamp(0, rows - 1)
        beside = ((points < self.low) | (points > self.high))[:, :2].any(dim=-1)
        home: Tensor = (column * rows + row).to(torch.int64).masked_fill(beside, NO_BLOCK)
        return home

    def lacks(self, block: Tensor) -> Tensor:
        """Whether blocks of these numbers exist without being resident. [n]"""
        numbers, of_point = torch.unique(block, return_inverse=True)
        gone = [number >= 0 and self.tables.blocks[number] is None for number in numbers.tolist()]
        there: Tensor = self._exists[block.clamp(min=0)]
        return there & torch.tensor(gone, dtype=torch.bool, device=self.device)[of_point]

    def mark_lacking(self, points: Tensor, lacking: np.ndarray | None) -> None:
        """Sets lacking[block] to 1 for every block that points lie in and that is not resident."""
        if lacking is not None:
            block = torch.unique(self.home(points))
            lacking[block[self.lacks(block)].cpu().numpy()] = 1

    def is_occupied(self, points: Tensor, threshold: float) -> Tensor:
        mask, room = self.stream.mask, self.stream.room
        if mask is None or room is None or threshold < 0:
            return torch.ones(len(points), dtype=torch.bool, device=self.device)
        _, at, cell, in_mask = mask_cells(points, mask.aabb, mask.n)
        x, y, z = torch.div(cell, ROOM_CELL, rounding_mode="floor").unbind(dim=-1)
        bit = (z & 3) * 16 + (y & 3) * 4 + (x & 3)
        bricks = self._kept("room", room.bricks)
        occupied = in_mask & ((bricks[z >> 2, y >> 2, x >> 2] >> bit & 1) == 1)
        kept = occupied.nonzero().squeeze(-1)
        for number, index in _by_block(self.home(points[kept])):
            part = self.stream.block_masks.get(number)
            if part is not None and self._share(number) == 1.0:
                index = kept[index]
                occupied[index] = _mask_mean(part, at[index]) > threshold
        return occupied

    def _products(self, points: Tensor, kind: str, channels: tuple[int, ...]) -> Tensor:
        number, local = self.locate(points)
        products = points.new_zeros(len(points), self.tables.n_levels * sum(channels))
        lacking = []
        for block, index in _by_block(number, len(self.tables.blocks)):
            tables, share = self.tables.blocks[block], self._share(block)
            if tables is None:
                lacking.append(index)
                continue
            own = self._block_products(tables, local[index], kind, channels)
            if share < 1.0:
                own = share * own + (1.0 - share) * self._coarse(number[index], local[index], kind, channels)
            products[index] = own
        if lacking:
            index = torch.cat(lacking)
            products[index] = self._coarse(number[index], local[index], kind, channels)
        return products

    def _coarse(self, number: Tensor, local: Tensor, kind: str, channels: tuple[int, ...]) -> Tensor:
        """Returns the products of stand-ins, 0 where there is none."""
        row = self._rows[number]
        products = self._block_products(self.stream.coarse, local, kind, channels, row.clamp(min=0))
        return products.masked_fill_((row < 0)[:, None], 0.0)

    def _share(self, block: int) -> float:
        """Returns how much of a resident block shows against its stand-in."""
        return 1.0 if self.fade is None else float(self.fade[block])

    @cached_property
    def _exists(self) -> Tensor:
        return self._rows >= 0

    def _kept(self, name: str, tensor: Tensor) -> Tensor:
        """Returns a tensor that all snapshots share on the tables' device."""
        key = f"torch {name} on {self.device}"
        found = self.stream.static.get(key)
        if not isinstance(found, Tensor):
            found = self.stream.static[key] = tensor.to(self.device)
        return found


def _by_block(number: Tensor, n_blocks: int | None = None) -> Iterator[tuple[int, Tensor]]:
    """Yields every block number that occurs, and where: ascending; those that are no block are left out."""
    ordered, order = number.sort(stable=True)
    blocks, counts = torch.unique_consecutive(ordered, return_counts=True)
    first = 0
    for block, count in zip(blocks.tolist(), counts.tolist(), strict=True):
        if block >= 0 and (n_blocks is None or block < n_blocks):
            yield block, order[first : first + count]
        first += count


def _mask_mean(part: BlockMask, at: Tensor) -> Tensor:
    """Returns the trilinear mean at places in vertices of the whole mask, rounded as by grid_sample. [n]"""
    base = at.floor()
    corner = base.to(torch.int64) - torch.tensor([*part.first, 0], device=at.device)
    weights = ((base + 1.0 - at).unbind(dim=-1), (at - base).unbind(dim=-1))  # of the vertices before, after
    nodes = part.nodes.to(at.device)
    n_z, n_y, n_x = nodes.shape
    mean = torch.zeros(len(at), device=at.device)
    for c in range(8):
        step = (c & 1, c >> 1 & 1, c >> 2)
        x, y, z = (corner[:, axis] + step[axis] for axis in range(3))
        inside = (x >= 0) & (y >= 0) & (z >= 0) & (x < n_x) & (y < n_y) & (z < n_z)
        vertex = nodes[z.clamp(0, n_z - 1), y.clamp(0, n_y - 1), x.clamp(0, n_x - 1)]
        weight = weights[step[0]][0] * weights[step[1]][1] * weights[step[2]][2]
        mean += weight * (inside & (vertex == 1))
    return mean
