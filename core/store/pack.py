"""Packs blocks as the kernels read them, in memory that is used again and again."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ...cuda.tables import BlockTables
from ..errors import InputError
from ..gridnerf import FieldBlock, Parts, fill_channel_last
from ..streaming.parts import coarsened
from .form import FIELDS, BlockForm, sizes_of

PIECES = 8  # of the source, of 8 MiB at most, after which its pages are dropped


def pack_block(
    block: FieldBlock, form: BlockForm, memory: Tensor, release: Callable[[], None] = lambda: None
) -> None:
    """Fills memory with the tables of a block, just as GridNeRF.tables packs them.

    Args:
        block: Planes and lines, channels first.
        form: What shapes they must have.
        memory: uint8 [>= form.n_bytes]
        release: Drops the source's resident pages.

    Raises:
        InputError: The block has other shapes.
    """
    if sizes_of(block) != form.sizes:
        raise InputError(
            f"a block must have the sizes {list(form.sizes)} of the others in its store, "
            f"got {list(sizes_of(block))}"
        )
    pieces = 0

    def after_piece() -> None:
        nonlocal pieces
        pieces += 1
        if pieces % PIECES == 0:
            release()

    for spec in form.specs:
        parts: Parts = getattr(block, FIELDS[spec.group])[spec.p]
        channels = sum(len(part) for part in parts)
        if channels != form.channels(spec):
            raise InputError(f"{spec.name} must have {form.channels(spec)} channels, got {channels}")
        table = spec.view(memory)
        table[..., channels:] = 0
        fill_channel_last(table, parts, after_piece)
    release()


def pack_coarse(tables: BlockTables, form: BlockForm, side: int, memory: Tensor) -> BlockTables:
    """Fills memory with a coarse stand-in of a block and returns it.

    Args:
        tables: The block, or a finer stand-in of it.
        form: Shapes of the stand-in.
        side: Its texels along the sides of planes.
        memory: uint8 [>= form.n_bytes]
    """
    made, packed = coarsened(tables, side), form.tables(memory)
    for group in FIELDS:
        for table, place in zip(getattr(made, group), getattr(packed, group), strict=True):
            place.copy_(table)
    return packed
