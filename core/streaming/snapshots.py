"""Immutable pictures of what is resident, as the kernels read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ...cuda import ops
from .contracts import BlockKey, Payload

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...cuda.stream_tables import BlockMask, Room, StreamTables
    from ...cuda.tables import BlockTables, FieldTables

Versions = tuple[BlockKey, ...]  # of blocks that stand for the checkpoint's own
MAX_ROOMS = 4  # that are kept of versions with masks of their own


class Streams:
    """What of a field is always in memory, also with versions of blocks that have a mask of their own."""

    def __init__(self, own: StreamTables, room_of: Callable[[BlockKey], Room | None]) -> None:
        """`own` is for the field's own blocks, `room_of` says where a version may have matter beside it."""
        self.own = own
        self._room_of = room_of
        self._made: dict[Versions, StreamTables] = {}

    def of(self, versions: Versions) -> StreamTables:
        """Returns tables whose room has the versions' too."""
        rooms = {key: room for key in versions if (room := self._room_of(key)) is not None}
        if self.own.room is None or not rooms:
            return self.own
        found = self._made.get(tuple(rooms))
        if found is None:
            if len(self._made) >= MAX_ROOMS:
                self._made.clear()
            bricks = self.own.room.bricks.clone()
            for room in rooms.values():
                bricks |= room.bricks
            found = replace(self.own, room=replace(self.own.room, bricks=bricks), static={})
            found = self._made.setdefault(tuple(rooms), found)
        return found


@dataclass(frozen=True, eq=False)
class Snapshots:
    """What was resident at one time, in every version that anyone asks for."""

    bare: FieldTables  # without blocks
    streams: Streams
    resident: Mapping[BlockKey, Payload]
    version: int
    _made: dict[Versions, FieldTables] = field(default_factory=dict, repr=False)

    def tables(self, versions: Versions = ()) -> FieldTables:
        """Returns tables with some versions of blocks; of those that are not there, the stand-in is read."""
        found = self._made.get(versions)
        if found is None:
            found = self._made.setdefault(versions, self._make(versions))
        return found

    def renumbered(self, version: int) -> Snapshots:
        """Returns the same as another version."""
        return replace(self, version=version)

    def _make(self, versions: Versions) -> FieldTables:
        replaced = {key.block: key for key in versions}
        blocks: list[BlockTables | None] = list(self.bare.blocks)
        masks: dict[int, BlockMask] = {}
        for key, payload in self.resident.items():
            if replaced.get(key.block, BlockKey(key.block)) == key:
                blocks[key.block] = payload.tables
                if payload.mask is not None:
                    masks[key.block] = payload.mask
        stream = replace(self.streams.of(versions), block_masks=masks)
        tables = replace(self.bare, blocks=tuple(blocks), stream=stream, cache={})
        ops.prepare(tables)
        return tables


def moved(payload: Payload, memory: Tensor, target: Tensor) -> Payload:
    """Describes a payload that was copied from one piece of memory to the same place of another.

    Tensors of it that lie elsewhere are copied to the target's device one by one.
    """
    base = memory.data_ptr()

    def there(tensor: Tensor) -> Tensor:
        first = tensor.data_ptr() - base
        if not 0 <= first <= memory.nbytes - tensor.nbytes:
            return tensor.to(target.device)
        return target[first : first + tensor.nbytes].view(tensor.dtype).view(tensor.shape)

    def group(tables: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(there(table) for table in tables)

    tables, mask = payload.tables, payload.mask
    return replace(
        payload,
        tables=replace(
            tables,
            density_planes=group(tables.density_planes),
            density_lines=group(tables.density_lines),
            appearance_planes=group(tables.appearance_planes),
            appearance_lines=group(tables.appearance_lines),
        ),
        mask=mask
        and replace(
            mask, nodes=there(mask.nodes), any_cell=there(mask.any_cell), all_cell=there(mask.all_cell)
        ),
    )


def stream_on(stream: StreamTables, device: torch.device) -> StreamTables:
    """Returns the stand-ins' planes and lines on a device."""
    coarse = stream.coarse

    def group(tables: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(table.to(device) for table in tables)

    return replace(
        stream,
        coarse=replace(
            coarse,
            density_planes=group(coarse.density_planes),
            density_lines=group(coarse.density_lines),
            appearance_planes=group(coarse.appearance_planes),
            appearance_lines=group(coarse.appearance_lines),
        ),
    )


def stream_bytes(stream: StreamTables) -> int:
    """Returns the bytes of what is always in memory."""
    return stream.coarse.n_bytes + (0 if stream.room is None else stream.room.bricks.nbytes)
