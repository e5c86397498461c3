"""What the tables of a field must be, in memory as a whole or streamed: ValueError with one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .by_identity import ByIdentity
from .checks import MAX_TEXELS, check_decoder, require_tensor
from .stream_tables import ROOM_CELL, BlockMask, CoarseTables, MaskGrid, Room, StreamTables
from .tables import CHANNEL_MULTIPLE, BlockTables, FieldTables

KEY = "checked"  # in FieldTables.cache and StreamTables.static


def check_tables(tables: FieldTables) -> None:
    """Raises ValueError unless the tables are as FieldTables promises; the verdict is kept in their cache."""
    if KEY in tables.cache:
        return
    n_blocks = tables.division[0] * tables.division[1]
    numbers = tables.resident
    if len(tables.blocks) != n_blocks or not (numbers or tables.stream):
        raise ValueError(
            f"blocks must be {n_blocks} for division {tables.division}, at least one of them present, "
            f"got {len(tables.blocks)} with {len(numbers)} present"
        )
    if tables.n_directions not in (1, 3):
        raise ValueError(f"n_directions must be 1 or 3, got {tables.n_directions}")
    if tables.activation not in ("softplus", "relu"):
        raise ValueError(f"activation must be softplus or relu, got {tables.activation}")
    if tables.stream is not None:
        _check_stream(tables, tables.stream, numbers)
    else:
        check_decoder(tables.decoder, tables.n_levels * sum(tables.appearance_channels))
        shape = _Shape.of(tables, tables.sample_block.density_planes)
        for block in filter(None, tables.blocks):
            _check_block(shape, block)
    tables.cache[KEY] = True


@dataclass(frozen=True)
class _Shape:
    """What the tables of a field have in common."""

    n_tables: int
    n_levels: int
    channels: tuple[tuple[int, ...], tuple[int, ...]]  # of density and appearance
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tables: FieldTables, planes: tuple[Tensor, ...]) -> _Shape:
        n_tables = tables.n_directions * tables.n_levels
        if not planes:
            raise ValueError(f"every block must have {n_tables} density planes and lines, got 0")
        dtype = planes[0].dtype
        if dtype not in (torch.float16, torch.float32):
            raise ValueError(f"planes must be float16 or float32, got {dtype}")
        return cls(
            n_tables,
            tables.n_levels,
            (tables.density_channels, tables.appearance_channels),
            dtype,
            tables.device,
        )


def _check_block(shape: _Shape, block: BlockTables | CoarseTables, stack: tuple[int, ...] = ()) -> None:
    """Checks one block, or so many whose tables are stacked."""
    groups = (
        ("density", block.density_planes, block.density_lines),
        ("appearance", block.appearance_planes, block.appearance_lines),
    )
    for (name, planes, lines), channels in zip(groups, shape.channels, strict=True):
        n_tables = shape.n_tables
        if {len(planes), len(lines), len(channels) * shape.n_levels} != {n_tables}:
            raise ValueError(f"every block must have {n_tables} {name} planes and lines, got {len(planes)}")
        for p, (plane, line) in enumerate(zip(planes, lines, strict=True)):
            padded = -(-channels[p // shape.n_levels] // CHANNEL_MULTIPLE) * CHANNEL_MULTIPLE
            require_tensor(
                f"{name} plane {p}", plane, shape.dtype, (*stack, None, None, padded), shape.device
            )
            require_tensor(f"{name} line {p}", line, torch.float32, (*stack, None, padded), shape.device)
            n_v, n_u = plane.shape[-3:-1]
            if not 0 < n_u * n_v <= MAX_TEXELS or not line.shape[-2]:
                raise ValueError(f"{name} plane {p} must have 1 to {MAX_TEXELS} texels, got {(n_v, n_u)}")


class _StreamCheck:
    """The verdict on what lasts of a streamed field, and on blocks that were resident."""

    def __init__(self, tables: FieldTables, stream: StreamTables) -> None:
        coarse = stream.coarse
        check_decoder(tables.decoder, tables.n_levels * sum(tables.appearance_channels))
        require_tensor("coarse.rows", coarse.rows, torch.int32, (len(tables.blocks),))
        shape = _Shape.of(tables, coarse.density_planes)
        n_rows = len(coarse.density_planes[0])
        lowest, highest = (int(row) for row in torch.aminmax(coarse.rows))
        if not -1 <= lowest <= highest < n_rows or highest < 0:
            raise ValueError(
                f"coarse.rows must be -1 or rows below {n_rows}, not all -1, got {lowest} to {highest}"
            )
        _check_block(shape, coarse, (n_rows,))
        if (stream.mask is None) != (stream.room is None):
            raise ValueError("a streamed field must have mask and room, or neither, got one of them")
        if stream.mask is not None and stream.room is not None:
            _check_room(stream.mask, stream.room)
        self.decoder = tables.decoder
        self.exists = (coarse.rows >= 0).numpy()
        self.blocks = ByIdentity[BlockTables, None](partial(_check_block, shape))
        self.masks = ByIdentity[BlockMask, None](partial(_check_part, stream.mask, shape.device))


def _check_stream(tables: FieldTables, stream: StreamTables, numbers: list[int]) -> None:
    if tables.occupancy is not None:
        raise ValueError("occupancy of a streamed field must be None, as its mask comes in parts, got one")
    known = stream.static.get(KEY)
    if not isinstance(known, _StreamCheck) or known.decoder is not tables.decoder:
        known = stream.static[KEY] = _StreamCheck(tables, stream)
    if not known.exists[numbers].all():
        raise ValueError("every resident block must have a coarse stand-in, got one without")
    for number in numbers:
        block = tables.blocks[number]
        if block is not None:
            known.blocks[block]  # checked where it is new
        if stream.mask is None:
            continue
        if number not in stream.block_masks:
            raise ValueError(f"block_masks must hold the mask of every resident block, got none of {number}")
        known.masks[stream.block_masks[number]]


def _check_room(mask: MaskGrid, room: Room) -> None:
    cells = tuple(n // ROOM_CELL + 1 for n in mask.n)  # n + 1 cells lie round n vertices
    if room.n != cells:
        raise ValueError(f"room must have {cells} cells for {mask.n} vertices of the mask, got {room.n}")
    bricks = tuple(-(-n // 4) for n in reversed(cells))
    require_tensor("room.bricks", room.bricks, torch.int64, bricks)
    require_tensor("mask.aabb", mask.aabb, torch.float32, (2, 3), mask.aabb.device)


def _check_part(mask: MaskGrid | None, device: torch.device, part: BlockMask) -> None:
    require_tensor("nodes of a block", part.nodes, torch.uint8, (None, None, None), device)
    n_z, n_y, n_x = part.nodes.shape
    n = mask.n if mask is not None else (0, 0, 0)
    ends = (part.first[0] + n_x, part.first[1] + n_y, n_z)
    if min(part.first) < 0 or any(end > size for end, size in zip(ends, n, strict=True)):
        raise ValueError(f"nodes of a block must lie in the mask of {n} vertices, got {part.first} to {ends}")
    bricks = tuple(side // 4 + 1 for side in part.nodes.shape)
    require_tensor("any_cell of a block", part.any_cell, torch.int64, bricks, device)
    require_tensor("all_cell of a block", part.all_cell, torch.int64, bricks, device)
