"""ReplaceBlock: a field with single blocks from other checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ...cuda.stream_tables import StreamTables
from ..checkpoint.block import open_block, open_mask
from ..errors import InputError
from ..gridnerf import FieldBlock, GridNeRF
from ..lazy_blocks import LazyBlocks
from ..occupancy import OccupancyGrid
from ..render import Renderer
from ..settings import Precision
from ..streaming.checkpoint_source import CheckpointSource
from ..streaming.contracts import BlockSource, Payload, Variant
from ..streaming.parts import RoomBuilder, mask_part
from .field import Field, without_blocks
from .layers import ReplaceBlock
from .raster import texel_side


def replaced(renderer: Renderer, field: Field, layer: ReplaceBlock) -> Field:
    """Returns a field with one more block replaced.

    Of a field that is streamed, a new mask counts in the replaced block only, else everywhere.

    Raises:
        InputError: There is no such block, or the files do not fit the field.
    """
    model = field.model
    if not 0 <= layer.block < model.layout.n_blocks:
        raise InputError(f"the block must be from 0 to {model.layout.n_blocks - 1}, got {layer.block}")
    held = open_block(layer.checkpoint, layer.block, model)
    mask = None
    if layer.mask is not None:
        like = _mask_form(field)
        if like is None:
            raise InputError(f"{layer.mask}: the scene must have an alpha mask to exchange it, got none")
        mask = open_mask(layer.mask, like)
    if renderer.stream is None:
        return _replaced_in_memory(field, layer.block, held, mask)
    edited = replace(model, blocks=Overlaid(model.blocks, {layer.block: held}))
    variant = _variant(renderer, edited, layer, mask)
    variants = (*(other for other in field.variants if other.block != layer.block), variant)
    tables = without_blocks(renderer.stream.residency.tables(variants))
    return Field(edited, tables, field.texel, variants)


def _replaced_in_memory(field: Field, number: int, held: FieldBlock, mask: OccupancyGrid | None) -> Field:
    blocks = tuple(held if n == number else block for n, block in enumerate(field.model.blocks))
    edited = replace(field.model, blocks=blocks, occupancy=mask or field.model.occupancy)
    packed = edited.repacked(field.tables, number)
    return Field(edited, packed, texel_side(packed))


def _mask_form(field: Field) -> OccupancyGrid | None:
    """Returns a mask of the size of the field's, or None where it has none."""
    stream = field.tables.stream
    if stream is None:
        return field.model.occupancy
    if stream.mask is None:
        return None
    nodes = torch.zeros(1, 1, 1, dtype=torch.uint8).expand(*stream.mask.n[::-1])
    return OccupancyGrid(nodes, stream.mask.aabb)


def _variant(
    renderer: Renderer, edited: GridNeRF, layer: ReplaceBlock, mask: OccupancyGrid | None
) -> Variant:
    """Returns a version of a block that is fetched from the files of a layer."""
    own = renderer.model.source or CheckpointSource(renderer.model)
    source = ReplacedBlock(own, edited, mask)
    room = None
    if mask is not None:
        n_z, n_y, n_x = mask.nodes.shape
        builder = RoomBuilder((n_x, n_y, n_z))
        division = edited.layout.division
        builder.add(*mask_part(mask.nodes, mask.aabb, edited.aabb, division, layer.block))
        room = builder.room()
    files = tuple(_stamp(path) for path in (layer.checkpoint, layer.mask) if path is not None)
    return Variant(layer.block, source, (layer.block, *files), room=room)


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_mtime_ns, found.st_size


class ReplacedBlock:
    """A BlockSource of one block, with the mask of the field where it has none of its own."""

    def __init__(self, own: BlockSource, edited: GridNeRF, mask: OccupancyGrid | None) -> None:
        """`own` is where the field's blocks come from, `edited` the field with the block replaced."""
        self._own = own
        self._keeps_mask = mask is None
        self._planes = CheckpointSource(replace(edited, occupancy=mask))

    @property
    def description(self) -> str:
        """For people: where the blocks lie."""
        return self._planes.description

    @property
    def precision(self) -> Precision:
        """Number format that the planes have where they come from."""
        return self._own.precision

    def exists(self, block: int) -> bool:
        """Whether there is such a block."""
        return self._planes.exists(block)

    def n_bytes(self, block: int, precision: Precision, drop_levels: int = 0) -> int:
        """Bytes that `read` fills."""
        return self._planes.n_bytes(block, precision, drop_levels)

    def read(self, block: int, memory: torch.Tensor, precision: Precision, drop_levels: int = 0) -> Payload:
        """Fills memory with the block, see BlockSource."""
        payload = self._planes.read(block, memory, precision, drop_levels)
        if not self._keeps_mask:
            return payload
        size = self._own.n_bytes(block, precision, drop_levels)
        mask = self._own.read(block, torch.empty(size, dtype=torch.uint8), precision, drop_levels).mask
        if mask is None:
            return payload
        nodes, any_cell, all_cell = mask.nodes.clone(), mask.any_cell.clone(), mask.all_cell.clone()
        return replace(payload, mask=replace(mask, nodes=nodes, any_cell=any_cell, all_cell=all_cell))

    def expect(self, block: int) -> None:
        """Tells where the planes come from."""
        self._planes.expect(block)

    def stream_tables(self, model: GridNeRF, precision: Precision, n_bytes: int) -> StreamTables:
        """Returns what is always in memory of the field's own blocks."""
        return self._own.stream_tables(model, precision, n_bytes)


class Overlaid(LazyBlocks):
    """Blocks of a field with others in their places; nothing is read before it is asked for."""

    def __init__(self, below: Sequence[FieldBlock | None], above: Mapping[int, FieldBlock | None]) -> None:
        self._below, self._above = below, above

    def __len__(self) -> int:
        return len(self._below)

    def __contains__(self, block: object) -> bool:
        return block in self._below or block in self._above.values()

    def block(self, number: int) -> FieldBlock | None:
        """Returns the block on top."""
        return self._above[number] if number in self._above else self._below[number]
