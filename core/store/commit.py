"""What a commit writes beside the blocks: coarse stand-ins of all, the room of the mask, the networks."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from ..streaming.parts import RoomBuilder
from .form import TableSpec
from .index import CoarseEntry, FileEntry, StoreIndex, file_name
from .safe_file import Tensors, checksum, header_bytes, layout, map_file
from .store import MAX_OCCUPANCY, Store, coarse_tensors, room_tensors

BATCH = 32 << 20  # bytes of coarse tables that are moved at a time
KEPT_FILES = 64  # whose masks stay in memory, as a file may serve several blocks


def write_beside(
    path: Path, index: StoreIndex, previous: Store | None, networks: Mapping[str, Tensor]
) -> StoreIndex:
    """Writes the files of a generation.

    Args:
        path: Folder of the store.
        index: Its blocks, and the generation that the names shall have.
        previous: The store before, from which coarse tables of blocks that stay are taken.
        networks: Everything but planes and lines, by LandMark's names.

    Returns:
        The index with the new files.

    Raises:
        InputError: A block's file is damaged.
        OSError: A file cannot be written.
    """
    draft = Store(path, index)
    coarse = _write_coarse(draft, previous)
    room = None if index.mask is None else _write_room(draft)
    data = save({name: tensor.contiguous() for name, tensor in networks.items()})
    network = _write_file(path / file_name("network", index.generation), data)
    return replace(index, coarse=coarse, room=room, network=network)


# Coarse stand-ins


def _write_coarse(draft: Store, previous: Store | None) -> tuple[CoarseEntry, ...]:
    """Writes the coarse files of all sides, from those of before and from the blocks' own files."""
    index = draft.index
    n_rows = len(index.blocks.numbers)
    kept = _kept_rows(index, previous)
    tables: list[_CoarseTable] = []
    paths, skipped = [], 0
    with ExitStack() as files:
        for entry in index.coarse:
            form = index.coarse_form(entry)
            paths.append(draft.path / file_name(f"coarse-{entry.side}", index.generation))
            file = files.enter_context(TensorFile(paths[-1], coarse_tensors(form, n_rows)))
            old = previous.coarse_rows(_same_side(previous, entry)) if previous else [None] * len(form.specs)
            for spec, source in zip(form.specs, old, strict=True):
                tables.append(_CoarseTable(spec, skipped + spec.offset, file, source))
            skipped += form.n_bytes
        n_batch = max(1, BATCH // skipped)
        for begin in range(0, n_rows, n_batch):
            end = min(begin + n_batch, n_rows)
            _keep_rows(tables, begin, end)
            new = begin + np.flatnonzero(~kept[begin:end])
            for run in np.split(new, np.flatnonzero(np.diff(new) != 1) + 1):
                _read_rows(tables, draft, run, skipped)
    return tuple(
        replace(entry, file=_file_entry(path)) for entry, path in zip(index.coarse, paths, strict=True)
    )


@dataclass(frozen=True)
class _CoarseTable:
    spec: TableSpec
    offset: int  # in the coarse part of a block's file
    file: TensorFile  # where it is written as [n_rows, ...]
    source: Tensor | None  # the same of the store before


def _kept_rows(index: StoreIndex, previous: Store | None) -> NDArray[np.bool_]:
    """Tells which rows are as they were before; blocks keep their rows. [n_rows]"""
    kept = np.zeros(len(index.blocks.numbers), dtype=bool)
    if previous is not None:
        digests = previous.index.blocks.digests
        kept[: len(digests)] = np.array(digests) == np.array(index.blocks.digests[: len(digests)])
    return kept


def _same_side(previous: Store, entry: CoarseEntry) -> CoarseEntry:
    return next(other for other in previous.index.coarse if other.side == entry.side)


def _keep_rows(tables: list[_CoarseTable], begin: int, end: int) -> None:
    for table in tables:
        if table.source is not None:
            table.file.put(table.spec.name, table.source[begin:end], begin)


def _read_rows(tables: list[_CoarseTable], draft: Store, rows: NDArray[np.int64], n_bytes: int) -> None:
    """Takes successive rows from the blocks' own files."""
    if not len(rows):
        return
    read: dict[str, NDArray[np.uint8]] = {}  # a file may serve several blocks
    batch = np.empty((len(rows), n_bytes), dtype=np.uint8)
    for place, row in enumerate(rows.tolist()):
        digest = draft.index.blocks.digests[row]
        if digest not in read:
            with draft.block_file(row) as file:
                read[digest] = file.coarse().numpy()
        batch[place] = read[digest]
    for table in tables:
        spec = table.spec
        part = torch.from_numpy(batch[:, table.offset : table.offset + spec.n_bytes]).view(spec.dtype)
        table.file.put(spec.name, part.view(len(rows), *spec.shape), int(rows[0]))


# Room and whole mask


def _write_room(draft: Store) -> FileEntry:
    index = draft.index
    assert index.mask is not None
    x, y, z = index.mask.n
    builder = RoomBuilder(index.mask.n)
    whole = np.zeros((z, y, x), dtype=np.uint8) if x * y * z <= MAX_OCCUPANCY else None

    read: OrderedDict[str, Tensor] = OrderedDict()
    for row, digest in enumerate(index.blocks.digests):
        if digest not in read:
            part = draft.block_mask(row)
            assert part is not None
            read[digest] = part[0]
            if len(read) > KEPT_FILES:
                read.popitem(last=False)
        nodes = read[digest]
        first_x, first_y, n_x, n_y = index.blocks.windows[row].tolist()
        builder.add(nodes, (first_x, first_y))
        if whole is not None:
            whole[:, first_y : first_y + n_y, first_x : first_x + n_x] |= nodes.numpy()
    path = draft.path / file_name("room", index.generation)
    with TensorFile(path, room_tensors(index.mask.n)) as file:
        file.put("bricks", builder.room().bricks)
        if whole is not None:
            file.put("mask", torch.from_numpy(np.packbits(whole.reshape(-1))))
    return _file_entry(path)


# Files


class TensorFile:
    """A new file of tensors that are written row by row, in any order, and are on the disk when it closes.

    Rows are written, not mapped: a full disk is an error then, and it is many times faster.
    """

    def __init__(self, path: Path, tensors: Tensors) -> None:
        self._entries = layout(tensors)
        head = header_bytes(self._entries, {"format": "landmark-viewer store"})
        self._start = len(head)
        self._file = path.open("wb", buffering=0)
        self._file.truncate(self._start + max(entry["data_offsets"][1] for entry in self._entries.values()))
        self._write(head, 0)

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def put(self, name: str, rows: Tensor, first: int = 0) -> None:
        """Writes rows [n, ...] of a tensor from a number on."""
        if len(rows):
            begin = self._start + self._entries[name]["data_offsets"][0] + first * rows[0].nbytes
            self._write(np.ascontiguousarray(rows.numpy()).reshape(-1).view(np.uint8).data, begin)

    def _write(self, data: bytes | memoryview, offset: int) -> None:
        view = memoryview(data)
        while len(view):
            written = os.pwrite(self._file.fileno(), view, offset)
            view, offset = view[written:], offset + written


def _write_file(path: Path, data: bytes) -> FileEntry:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(path.name, len(data), checksum(data))


def _file_entry(path: Path) -> FileEntry:
    n_bytes = path.stat().st_size
    return FileEntry(path.name, n_bytes, checksum(map_file(path, n_bytes)))
