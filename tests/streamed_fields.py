"""Streamed snapshots of fields that are whole in memory, with only some of their blocks resident."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch

from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming.parts import RoomBuilder, coarsened, mask_part, stack_coarse
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.stream_tables import BlockMask, MaskGrid, Room, StreamTables
from landmark_viewer.cuda.tables import FieldTables


def streamed(
    whole: GridNeRF | FieldTables,
    resident: Collection[int],
    side: int = 4,
    device: torch.device | str = "cpu",
) -> FieldTables:
    """Returns a snapshot of a field of which only the blocks `resident` are in memory.

    Args:
        whole: The field; a model in full precision.
        resident: Numbers of blocks that stay; those that are absent in the field stay absent.
        side: Texels along the sides of coarse planes.
        device: Where planes, lines and masks shall lie.
    """
    tables = whole.tables(Precision.FULL, device) if isinstance(whole, GridNeRF) else whole
    present = {number: block for number, block in enumerate(tables.blocks) if block is not None}
    dtype = next(iter(present.values())).density_planes[0].dtype
    coarse = stack_coarse(
        {number: coarsened(block, side) for number, block in present.items()}, len(tables.blocks), dtype
    )
    grid, room, masks = _mask(tables, present.keys() & set(resident))
    blocks = tuple(block if number in resident else None for number, block in enumerate(tables.blocks))
    stream = StreamTables(coarse, grid, room, masks)
    return replace(tables, blocks=blocks, occupancy=None, stream=stream, cache={})


def _mask(
    tables: FieldTables, resident: Collection[int]
) -> tuple[MaskGrid | None, Room | None, dict[int, BlockMask]]:
    whole = tables.occupancy
    if whole is None:
        return None, None, {}
    n_z, n_y, n_x = whole.nodes.shape
    builder, masks = RoomBuilder((n_x, n_y, n_z)), {}
    for number, block in enumerate(tables.blocks):
        if block is None:
            continue
        nodes, first = mask_part(whole.nodes, whole.aabb, tables.aabb, tables.division, number)
        builder.add(nodes, first)
        if number in resident:
            masks[number] = BlockMask(nodes, first, *ops.mask_bricks(nodes))
    return MaskGrid((n_x, n_y, n_z), whole.aabb), builder.room(), masks
