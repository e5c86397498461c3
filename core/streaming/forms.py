"""In what form a field's blocks are held, and where each version of them comes from."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..gridnerf import FULL_PRECISION_LIMIT
from ..settings import Precision
from . import memory
from .contracts import BlockKey, BlockSource, Variant
from .memory import Needs, Plan
from .snapshots import stream_bytes, stream_on

if TYPE_CHECKING:
    from ...cuda.stream_tables import Room, StreamTables
    from ..gridnerf import GridNeRF


class Forms:
    """The sources of one field, and the plan after which they are read."""

    def __init__(
        self,
        source: BlockSource,
        model: GridNeRF,
        precision: Precision,
        device_bytes: int,
        device: torch.device,
    ) -> None:
        """Decides on the plan.

        Args:
        source: Of the field's own blocks.
        model: The field.
        precision: Asked for; AUTO is the source's own, or else FULL up to FULL_PRECISION_LIMIT bytes of all
            blocks.
        device_bytes: The budget.
        device: Where planes shall lie.
        """
        self._model, self._device = model, device
        self._coarse_bytes = memory.coarse_bytes(device_bytes)
        self._sources: list[BlockSource] = [source]  # by variant; each but the first serves one block
        self._variants: list[Variant] = []
        self._numbers: dict[Variant, int] = {}
        self.needs = _needs(source, model, precision)
        self.plan = memory.plan(self.needs, device_bytes - self._coarse_bytes)

    @property
    def slab_bytes(self) -> int:
        """Bytes of the largest of the field's own blocks."""
        return self.needs.block_bytes(self.plan.precision, self.plan.drop_levels)

    def open_stream(self, device_bytes: int) -> StreamTables:
        """Reads what is always in memory, and plans with what it leaves of the budget.

        Raises:
            InputError: It cannot be read, or does not fit into the budget.
        """
        stream = self.read_stream(self.plan.precision)
        plan = memory.plan(self.needs, device_bytes - stream_bytes(stream))
        if plan.precision is not self.plan.precision:
            stream = self.read_stream(plan.precision)
        if stream_bytes(stream) > device_bytes:
            raise InputError(
                f"memory.device must have room for the coarse stand-ins of {self.needs.n_blocks} blocks, "
                f"{stream_bytes(stream) / 1e6:.1f} MB, got {device_bytes / 1e6:.1f} MB; raise it"
            )
        self.plan = plan
        return stream

    def read_stream(self, precision: Precision) -> StreamTables:
        """Reads what is always in memory.

        Raises:
            InputError: It cannot be read.
        """
        stream = self._sources[0].stream_tables(self._model, precision, self._coarse_bytes)
        return stream_on(stream, self._device)

    def number(self, variant: Variant) -> int:
        """Returns the number of a version, from 1; equal ones have equal numbers."""
        if variant not in self._numbers:
            self._variants.append(variant)
            self._sources.append(variant.source)
            self._numbers[variant] = len(self._variants)
        return self._numbers[variant]

    def variant(self, key: BlockKey) -> Variant | None:
        """Returns what a key's number stands for; None: the field's own block."""
        return self._variants[key.variant - 1] if key.variant else None

    def room_of(self, key: BlockKey) -> Room | None:
        """Returns where a version with a mask of its own may have matter."""
        variant = self.variant(key)
        return variant.room if variant else None

    def source_of(self, key: BlockKey) -> tuple[BlockSource, Plan]:
        """Says where a block comes from, and in what form."""
        return self._sources[key.variant], self.plan

    def n_bytes(self, key: BlockKey) -> int:
        """Returns the bytes of a block; the same for all of the field's own, so that their memory is."""
        if key.variant:
            try:
                source, plan = self.source_of(key)
                return source.n_bytes(key.block, plan.precision, plan.drop_levels)
            except (InputError, OSError):  # reading it will say so
                pass
        return self.slab_bytes


def _needs(source: BlockSource, model: GridNeRF, precision: Precision) -> Needs:
    exists = [block for block in range(model.layout.n_blocks) if source.exists(block)]

    @cache
    def largest(precision: Precision, drop_levels: int) -> int:
        return max((source.n_bytes(block, precision, drop_levels) for block in exists), default=1)

    if precision is Precision.AUTO:
        precision = source.precision
    if precision is Precision.AUTO:
        is_large = largest(Precision.FULL, 0) * len(exists) > FULL_PRECISION_LIMIT
        precision = Precision.HALF if is_large else Precision.FULL
    return Needs(largest, precision, model.n_levels, len(exists))
