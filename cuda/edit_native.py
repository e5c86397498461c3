"""Edits as the host library reads them: the structs of csrc/abi.h with the memory that they point to."""

from __future__ import annotations

import ctypes
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import abi
from .edit_tables import EditKind, EditOp, EditTables, Source
from .tables import FieldTables

if TYPE_CHECKING:
    from .field_native import PreparedField
    from .native import Library
    from .tight import TightRoom

CACHE_KEY = "native"
KINDS = {EditKind.CLEAR: 0, EditKind.PATCH: 1, EditKind.INSTANCE: 2, EditKind.STYLE: 3}
SLACK = 1e-5  # of a height: above the rounding of a patch's ground between its cells
TRANSFORM = ("xx", "xy", "x0", "y0", "zz", "z0", "cosine", "sine")


class PreparedEdits:
    """An abi.Edits of one field; lives in the edits' cache."""

    def __init__(self, library: Library, field: PreparedField, edits: EditTables) -> None:
        self.library, self.field = library, field
        self._held: list[object] = []  # memory that the structs point to
        ops = (abi.EditOpStruct * max(len(edits.ops), 1))(*map(self._op, edits.ops))
        sources = (abi.SourceStruct * max(len(edits.sources), 1))(*map(self._source, edits.sources))
        self._held += [ops, sources]
        index = edits.index
        n_y, n_x = index.cells.shape
        self.struct = abi.Edits(
            ops=ctypes.addressof(ops),
            sources=ctypes.addressof(sources),
            n_ops=len(edits.ops),
            n_sources=len(edits.sources),
            has_styles=any(op.kind is EditKind.STYLE for op in edits.ops),
            n_x=n_x,
            n_y=n_y,
            low=(ctypes.c_float * 2)(*index.low),
            scale=(ctypes.c_float * 2)(*index.scale),
            cells=self._hold(index.cells, torch.int32),
            starts=self._hold(index.starts, torch.int32),
            items=self._hold(index.items, torch.int32),
        )
        self.reach = edits.reach
        if field.field.mask.any:
            self.struct.room = self._room(field.field.mask)
        self._tight: tuple[TightRoom, abi.Mask] | None = None  # the last one asked for

    @classmethod
    def of(cls, library: Library, tables: FieldTables, edits: EditTables) -> PreparedEdits:
        """Returns the library's view of a field's edits, made on first use and kept in their cache."""
        field, found = library.prepare(tables).lasting, edits.cache.get(CACHE_KEY)
        if not isinstance(found, PreparedEdits) or found.field is not field:
            found = cls(library, field, edits)
            edits.cache[CACHE_KEY] = found
        return found

    def tight_room(self, tight: TightRoom) -> abi.Mask:
        """Returns a tight room of the field with what operations may put into it; the last one is kept."""
        if self._tight is None or self._tight[0] is not tight:
            self._tight = (tight, self._room(tight.mask))
        return self._tight[1]

    def _op(self, op: EditOp) -> abi.EditOpStruct:
        struct = abi.EditOpStruct(
            kind=KINDS[op.kind],
            inside=op.inside,
            z_low=op.z_low,
            z_high=op.z_high,
            source=op.source,
            sigma_scale=op.sigma_scale,
            ground=self._hold(op.ground),
            features=self._hold(op.features),
            thickness=op.thickness,
            rise=op.rise,
            sigma=op.sigma,
            latent=self._hold(op.latent),
        )
        if op.ground is not None:
            top = op.ground.max().item()
            struct.empty_above = top + op.rise + SLACK * (1 + abs(top))
        if op.footprint is not None:
            struct.footprint = self._hold(op.footprint.mask, torch.uint8)
            struct.n_y, struct.n_x = op.footprint.mask.shape
            struct.low = (ctypes.c_float * 2)(*op.footprint.low)
            struct.inverse_side = 1.0 / op.footprint.side
        for name in TRANSFORM:
            setattr(struct, name, getattr(op.to_source, name))
        return struct

    def _source(self, source: Source) -> abi.SourceStruct:
        prepared = self.library.prepare(source.tables)
        self._held.append(prepared)
        return abi.SourceStruct(
            field=ctypes.addressof(prepared.field),
            packed=prepared.handle,
            latent=self._hold(source.latent),
            mask_threshold=source.mask_threshold,
            use_mask=source.tables.has_mask and source.mask_threshold >= 0,
        )

    def _room(self, mask: abi.Mask) -> abi.Mask:
        """Makes a mask that decides about jumps: a field's cells, as far as need be, with the reach's."""
        room, reach = abi.Mask(), self.reach
        cells = reach.cells.to(torch.uint8).contiguous()
        room.shift = mask.shift
        brick = 4 << mask.shift  # cells along the side of a brick
        n_cells = cells.shape[::-1]
        shift = []
        for axis in range(3):
            n, scale = mask.n[axis], mask.scale[axis]
            side = 2 / (scale * max(n - 1, 1))  # of a cell
            low = (reach.low[axis] - mask.low[axis]) / side
            high = low + reach.side[axis] * n_cells[axis] / side
            before = max(math.ceil(-low / brick), 0)  # whole bricks
            after = max(math.ceil(high) + 1 - n, 0)
            room.n[axis] = n + brick * before + after
            room.bricks[axis] = room.n[axis] // brick + 1
            room.low[axis] = mask.low[axis] - brick * before * side
            room.scale[axis] = 2 / (side * (room.n[axis] - 1))
            shift.append(before)
        struct = abi.ReachStruct(cells.data_ptr(), n_cells, reach.low, reach.side)
        any_cell = torch.zeros([*room.bricks][::-1], dtype=torch.int64)
        distance = self.library.build_room(mask, room, shift, struct, any_cell)
        room.any, room.distance = self._hold(any_cell, torch.int64), self._hold(distance, torch.uint8)
        return room

    def _hold(self, tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
        if tensor is None:
            return None
        tensor = tensor.detach().to("cpu", dtype).contiguous()
        self._held.append(tensor)
        return tensor.data_ptr()
