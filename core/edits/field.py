"""The field that operations act on, or that a copy is read from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import torch

from ...cuda.stream_tables import BlockMask
from ...cuda.tables import BlockTables, FieldTables
from ..gridnerf import GridNeRF
from ..render import Renderer
from ..settings import Precision
from ..streaming.checkpoint_source import CheckpointSource
from ..streaming.contracts import BlockSource, Variant
from ..streaming.memory import COARSE_LIMIT
from ..streaming.snapshots import moved, stream_on
from .raster import texel_side
from .region import Region


@dataclass(frozen=True)
class Field:
    """A model with its tables; those of one that is streamed hold none of its blocks."""

    model: GridNeRF
    tables: FieldTables
    texel: float
    variants: tuple[Variant, ...] = ()  # blocks that layers replace

    @classmethod
    def of(cls, renderer: Renderer) -> Field:
        """Returns the field of a renderer."""
        return cls(renderer.model, without_blocks(renderer.tables), texel_side(renderer.model))

    @property
    def mask_threshold(self) -> float:
        """Samples count where the alpha mask exceeds it; negative: all do."""
        threshold = self.model.settings.alpha_mask_threshold
        return 0.0 if threshold is None else threshold

    @property
    def keeps_by_mask(self) -> bool:
        """Whether an alpha mask decides which samples count."""
        return self.tables.has_mask and self.mask_threshold >= 0


def without_blocks(tables: FieldTables) -> FieldTables:
    """Returns what never changes of a field that is streamed, so that none of its memory is kept."""
    if tables.stream is None:
        return tables
    stream = replace(tables.stream, block_masks={})
    return replace(tables, blocks=(None,) * len(tables.blocks), stream=stream, cache={})


class SourceField:
    """Another scene's field, of which only the blocks are in memory that copies show."""

    def __init__(self, model: GridNeRF, precision: Precision, device: torch.device) -> None:
        """Opens the field; no block is read."""
        self._source: BlockSource = model.source or CheckpointSource(model)
        self._precision, self._device = precision, device
        stream = stream_on(self._source.stream_tables(model, precision, COARSE_LIMIT), device)
        self.field = Field(model, replace(model.bare_tables(), stream=stream), texel_side(model))
        self._held: dict[int, tuple[BlockTables, BlockMask | None]] = {}

    def tables(self, blocks: Collection[int]) -> FieldTables:
        """Returns the field with some blocks; only these stay in memory.

        Raises:
            InputError: A block cannot be read.
        """
        self._held = {block: self._held.get(block) or self._read(block) for block in blocks}
        root = self.field.tables
        assert root.stream is not None
        held = list(root.blocks)
        for block, (tables, _) in self._held.items():
            held[block] = tables
        masks = {block: mask for block, (_, mask) in self._held.items() if mask is not None}
        return replace(root, blocks=tuple(held), stream=replace(root.stream, block_masks=masks), cache={})

    def blocks_under(self, region: Region) -> frozenset[int]:
        """Returns the blocks that a region touches, a texel more all round."""
        model = self.field.model
        low, high = model.aabb.double().tolist()
        x0, y0, x1, y1 = region.grown(self.field.texel).bounds
        spans = []
        for axis, (first, last) in enumerate(((x0, x1), (y0, y1))):
            n, side = model.layout.division[axis], (high[axis] - low[axis]) / model.layout.division[axis]
            begin, end = (int(min(max((at - low[axis]) // side, 0), n - 1)) for at in (first, last))
            spans.append(range(begin, end + 1))
        numbers = (i * model.layout.division[1] + j for i in spans[0] for j in spans[1])
        return frozenset(number for number in numbers if self._source.exists(number))

    def _read(self, block: int) -> tuple[BlockTables, BlockMask | None]:
        memory = torch.empty(self._source.n_bytes(block, self._precision), dtype=torch.uint8)
        payload = self._source.read(block, memory, self._precision)
        if self._device.type != "cpu":
            payload = moved(payload, memory, memory.to(self._device))
        return payload.tables, payload.mask
