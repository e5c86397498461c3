"""A streamed field as the host library reads it: what lasts, and what a snapshot adds to it.

A snapshot costs a few copies of arrays with one row per block, and what is new among its blocks.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import abi
from .by_identity import ByIdentity
from .field_native import PreparedField, mask_of, padded, place_mask
from .stream_tables import ROOM_CELL, BlockMask, MaskGrid, Room, StreamTables
from .tables import BlockTables, FieldTables

if TYPE_CHECKING:
    from .native import Library

KEY = "native"  # in StreamTables.static
TABLE = np.dtype(abi.Table)
_lock = threading.Lock()  # snapshots are prepared by the threads that fetch, too


@dataclass(frozen=True)
class Rows:
    """Tables of one block, or [n_blocks, ...] of all of them: LvTable as plain words. [n_tables, 4]"""

    density: NDArray[np.uint64]
    folded: NDArray[np.uint64]  # density with lines times density_basis; the same array if there is none
    appearance: NDArray[np.uint64]
    held: tuple[Tensor, ...] = ()  # folded lines

    def with_blocks(self, numbers: list[int], blocks: list[Rows]) -> Rows:
        """Returns a copy, with some blocks' tables in their places."""

        def merged(name: str) -> NDArray[np.uint64]:
            tables: NDArray[np.uint64] = getattr(self, name).copy()
            if blocks:
                tables[numbers] = np.stack([getattr(block, name) for block in blocks])
            return tables

        density = merged("density")
        folded = density if self.folded is self.density else merged("folded")
        return Rows(density, folded, merged("appearance"))


class StreamedField(PreparedField):
    """What all snapshots of a streamed field share; by itself a snapshot without any block."""

    def __init__(self, library: Library, tables: FieldTables) -> None:
        self._basis = _basis_parts(tables)
        self.tables_of = ByIdentity(partial(_block_rows, self._basis))
        self.part_of = ByIdentity(_mask_part)
        super().__init__(library, tables)
        self._wanted = (tables.decoder, tables.nerf, tables.density_basis)

    @classmethod
    def of(cls, library: Library, tables: FieldTables, stream: StreamTables) -> StreamedField:
        """Returns what the library shares between snapshots, made on first use and kept in `static`."""
        with _lock:
            found = stream.static.get(KEY)
            if not isinstance(found, cls) or found.library is not library or not found._fits(tables):
                found = stream.static[KEY] = cls(library, tables)
            return found

    def _fits(self, tables: FieldTables) -> bool:
        now = (tables.decoder, tables.nerf, tables.density_basis)
        return all(have is want for have, want in zip(self._wanted, now, strict=True))

    def struct(self, rows: Rows, lacks: NDArray[np.uint8], parts: NDArray[np.uint64]) -> abi.Stream:
        """Describes which blocks are in memory."""
        return abi.Stream(
            lacks=lacks.ctypes.data,
            folded=rows.folded.ctypes.data,
            coarse_density=self.coarse.density.ctypes.data,
            coarse_appearance=self.coarse.appearance.ctypes.data,
            coarse_folded=self.coarse.folded.ctypes.data,
            parts=parts.ctypes.data,
        )

    def _fill_planes(self, tables: FieldTables) -> None:
        assert tables.stream is not None
        coarse, grid, room = tables.stream.coarse, tables.stream.mask, tables.stream.room
        rows = coarse.rows.numpy()
        lines = _folded(self._basis, coarse.density_lines)
        density = _coarse_rows(rows, coarse.density_planes, coarse.density_lines)
        folded = _coarse_rows(rows, coarse.density_planes, lines) if lines else density
        appearance = _coarse_rows(rows, coarse.appearance_planes, coarse.appearance_lines)
        self.coarse = Rows(density, folded, appearance, lines)
        self.lacks: NDArray[np.uint8] = (rows >= 0).astype(np.uint8)
        parts = np.zeros(len(rows), np.uint64)
        stream = self.struct(self.coarse, self.lacks, parts)
        self.held += [coarse, parts, stream]
        self.field.density, self.field.appearance = density.ctypes.data, appearance.ctypes.data
        self.field.stream = ctypes.addressof(stream)
        if grid is not None and room is not None:
            self._fill_room(grid, room)

    def _fill_room(self, grid: MaskGrid, room: Room) -> None:
        mask = self.field.mask
        mask.n, mask.shift = (ctypes.c_int32 * 3)(*grid.n), ROOM_CELL.bit_length() - 1
        mask.bricks = (ctypes.c_int32 * 3)(*room.bricks.shape[::-1])
        place_mask(mask, grid.aabb)
        distance = torch.empty(room.bricks.shape, dtype=torch.uint8)
        mask.any = self._hold(room.bricks, torch.int64)
        mask.distance = self._hold(distance, torch.uint8)
        self.library.fill_distance(mask, distance)


class Snapshot(PreparedField):
    """A streamed field with the blocks that are resident in one FieldTables, which must hold them."""

    def __init__(self, library: Library, tables: FieldTables) -> None:
        stream = tables.stream
        assert stream is not None
        lasting = StreamedField.of(library, tables, stream)
        numbers = tables.resident
        blocks = [lasting.tables_of[block] for block in filter(None, tables.blocks)]
        rows, lacks = lasting.coarse.with_blocks(numbers, blocks), lasting.lacks.copy()
        lacks[numbers] = 0
        parts = np.zeros(len(lacks), np.uint64)
        masks = []
        if stream.mask is not None:
            masks = [lasting.part_of[stream.block_masks[number]] for number in numbers]
            parts[numbers] = [ctypes.addressof(mask) for mask in masks]
        struct = lasting.struct(rows, lacks, parts)
        self.library, self._lasting = library, lasting
        self.held = [rows, lacks, parts, struct, blocks, masks]
        self.field = abi.Field.from_buffer_copy(lasting.field)
        self.field.density, self.field.appearance = rows.density.ctypes.data, rows.appearance.ctypes.data
        self.field.stream = ctypes.addressof(struct)
        self.handle = library.pack(self.field, lasting.handle)
        weakref.finalize(self, library.release, self.handle)

    @property
    def lasting(self) -> PreparedField:
        """What this snapshot shares with the others of its field."""
        return self._lasting


def _basis_parts(tables: FieldTables) -> tuple[Tensor, ...]:
    """The density basis in the padded channels of every table; none where density is linear."""
    if tables.density_basis is None:
        return ()
    widths = [line.shape[-1] for line in tables.sample_block.density_lines]
    basis = tables.density_basis.detach().to(torch.float32)[None]
    return torch.split(padded(basis, tables.density_channels, tables.n_levels)[0], widths)


def _folded(basis: tuple[Tensor, ...], lines: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Multiplies lines with the density basis: relu(basis . (plane * line)) = relu(sum of plane * folded)."""
    return tuple(line * part for line, part in zip(lines, basis, strict=True)) if basis else ()


def _block_rows(basis: tuple[Tensor, ...], block: BlockTables) -> Rows:
    lines = _folded(basis, block.density_lines)
    density = _block_tables(block.density_planes, block.density_lines)
    folded = _block_tables(block.density_planes, lines) if lines else density
    return Rows(density, folded, _block_tables(block.appearance_planes, block.appearance_lines), lines)


def _mask_part(part: BlockMask) -> abi.MaskPart:
    mask, _ = mask_of(part.nodes)
    mask.any, mask.all = part.any_cell.data_ptr(), part.all_cell.data_ptr()
    return abi.MaskPart(mask, (ctypes.c_int32 * 2)(*part.first))


def _block_tables(planes: tuple[Tensor, ...], lines: tuple[Tensor, ...]) -> NDArray[np.uint64]:
    tables = [
        (plane.data_ptr(), line.data_ptr(), plane.shape[1], plane.shape[0], *line.shape)
        for plane, line in zip(planes, lines, strict=True)
    ]
    return _words(np.array(tables, dtype=TABLE))


def _coarse_rows(
    rows: NDArray[np.int32], planes: tuple[Tensor, ...], lines: tuple[Tensor, ...]
) -> NDArray[np.uint64]:
    """Tables of all blocks in stacked planes and lines; zeros where none is. [n_blocks, n_tables, 4]"""
    tables = np.zeros((len(rows), len(planes)), dtype=TABLE)
    there = rows >= 0
    numbers = rows[there].astype(np.uint64)
    for p, (plane, line) in enumerate(zip(planes, lines, strict=True)):
        for name, table in (("plane", plane), ("line", line)):
            step = table.stride(0) * table.element_size()
            tables[name][there, p] = numbers * np.uint64(step) + np.uint64(table.data_ptr())
        _, n_v, n_u, _ = plane.shape
        _, n_w, channels = line.shape
        for name, size in (("n_u", n_u), ("n_v", n_v), ("n_w", n_w), ("channels", channels)):
            tables[name][there, p] = size
    return _words(tables)


def _words(tables: NDArray[np.void]) -> NDArray[np.uint64]:
    """LvTable as plain words, which numpy copies faster than structs. [..., 4]"""
    return tables.view(np.uint64).reshape(*tables.shape, TABLE.itemsize // 8)
