"""One file of a block: its header, the bits of the alpha mask, the tables level by level, the coarse ones.

The header holds a checksum of every part, the index one of the header. So any part can be read and checked
alone, such as the tables without the finest levels.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor

from ..streaming.cancelling import check_cancelled
from .form import BlockForm, TableSpec
from .safe_file import MAX_HEADER, Tensors, damaged, header_bytes, layout, parse_header, unreadable

PIECE = 4 << 20  # bytes that are read, checked and converted at a time
MASK_ALIGNMENT = 64  # bytes
_METADATA = "landmark-viewer block"


def mask_bytes(n_vertices: int) -> int:
    """Returns the bytes of so many packed vertices in a file."""
    return -(-n_vertices // (8 * MASK_ALIGNMENT)) * MASK_ALIGNMENT


@dataclass(frozen=True)
class FileForm:
    """What lies where in the file of a block."""

    form: BlockForm
    coarse: tuple[tuple[int, BlockForm], ...]  # side and shapes, finest first
    n_vertices: int  # of the mask; 0: the field has none

    @cached_property
    def tensors(self) -> Tensors:
        """Everything in the file, in order."""
        mask: Tensors = [("mask", torch.uint8, (mask_bytes(self.n_vertices),))] if self.n_vertices else []
        tables = [(spec.name, spec.dtype, spec.shape) for spec in self.form.specs]
        coarse = [
            (f"coarse-{side}.{spec.name}", spec.dtype, spec.shape)
            for side, form in self.coarse
            for spec in form.specs
        ]
        return [*mask, *tables, *coarse]

    @cached_property
    def sections(self) -> tuple[int, ...]:
        """Bytes of each part: mask, every level, coarse tables."""
        levels = [specs[-1].offset + specs[-1].n_bytes - specs[0].offset for specs in self.form.levels]
        return (mask_bytes(self.n_vertices), *levels, self.coarse_bytes)

    @cached_property
    def coarse_bytes(self) -> int:
        """Bytes of all coarse tables."""
        return sum(form.n_bytes for _, form in self.coarse)

    @cached_property
    def layout(self) -> dict[str, dict[str, Any]]:
        """What the header says of them."""
        return layout(self.tensors)

    def header(self, digests: Sequence[str]) -> bytes:
        """Returns the beginning of the file."""
        return header_bytes(self.layout, {"format": _METADATA, "sections": " ".join(digests)})


def read_ahead(path: Path) -> None:
    """Has the system read the beginning of a file; whatever is wrong with it will be said by who reads it."""
    with suppress(OSError):
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.posix_fadvise(file, 0, PIECE, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)


class BlockFile:
    """A block's file open for reading; the checksum of whatever is read is checked.

    Args:
        path: Where it lies.
        n_bytes: What its size must be.
        digest: What the checksum of its header must be.
        form: What must be in it.

    Raises:
        InputError: It is missing, damaged or cannot be read.
    """

    def __init__(self, path: Path, n_bytes: int, digest: str, form: FileForm) -> None:
        self._path, self._form = path, form
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise unreadable(path, error) from None
        try:
            found = os.fstat(self._file).st_size
            if found != n_bytes:
                raise damaged(path, f"has {found} bytes instead of {n_bytes}")
            self._read_header(digest)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BlockFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def mask(self, shape: tuple[int, int, int]) -> Tensor:
        """Reads the vertices of the mask. uint8 [n_z, n_y, n_x]"""
        packed = np.empty(self._form.sections[0], dtype=np.uint8)
        self._read_section(0, [packed.data])
        bits = np.unpackbits(packed, count=shape[0] * shape[1] * shape[2])
        return torch.from_numpy(bits.reshape(shape))

    def tables(self, memory: Tensor, form: BlockForm) -> None:
        """Fills memory with the tables, in the precision of `form` and without the levels that it drops.

        Args:
            memory: uint8 [>= form.n_bytes]
            form: As stored, in either precision, `dropped` or not.
        """
        raw = memory.numpy().data
        for number, (stored, wanted) in enumerate(zip(self._form.form.levels, form.levels, strict=True)):
            if [spec.shape for spec in stored] != [spec.shape for spec in wanted]:
                for spec in wanted:
                    spec.view(memory).zero_()
            elif self._form.form.half == form.half:
                end = wanted[-1].offset + wanted[-1].n_bytes
                self._read_section(number + 1, [raw[wanted[0].offset : end]])
            else:
                self._read_converted(number + 1, stored, wanted, memory)

    def coarse(self) -> Tensor:
        """Reads the coarse tables of all sides, which lie behind each other. uint8 [n]"""
        data = torch.empty(self._form.coarse_bytes, dtype=torch.uint8)
        self._read_section(len(self._form.sections) - 1, [data.numpy().data])
        return data

    def verify(self) -> None:
        """Reads everything."""
        scratch = memoryview(bytearray(PIECE))
        for number, n_bytes in enumerate(self._form.sections):
            sizes = [PIECE] * (n_bytes // PIECE) + [n_bytes % PIECE] * bool(n_bytes % PIECE)
            self._read_section(number, [scratch[:size] for size in sizes])

    # Reading

    def _read_header(self, digest: str) -> None:
        head = bytearray(8)
        self._fill(head, 0)
        (length,) = struct.unpack("<Q", head)
        n_bytes = os.fstat(self._file).st_size
        if length > min(MAX_HEADER, n_bytes - 8):
            raise damaged(self._path, "its header lies outside it")
        head += bytearray(length)
        self._fill(memoryview(head)[8:], 8)
        if xxhash.xxh3_64_hexdigest(head) != digest:
            raise damaged(self._path, "the checksum of its header is wrong")
        entries, metadata = parse_header(self._path, bytes(head))
        self._start = len(head)
        self._digests = str(metadata.get("sections", "")).split()
        sections = self._form.sections
        is_right = len(self._digests) == len(sections) and self._start + sum(sections) == n_bytes
        if not is_right or entries != self._form.layout:
            raise damaged(self._path, "it holds other tensors than the index says")

    def _read_section(self, number: int, buffers: Sequence[memoryview]) -> None:
        """Fills the buffers one after the other with a whole part of the file and checks it."""
        digest, offset = xxhash.xxh3_64(), self._offset(number)
        for buffer in buffers:
            for begin in range(0, len(buffer), PIECE):
                piece = buffer[begin : begin + PIECE]
                self._fill(piece, offset)
                digest.update(piece)
                offset += len(piece)
        self._check(number, digest)

    def _read_converted(
        self, number: int, stored: Sequence[TableSpec], wanted: Sequence[TableSpec], memory: Tensor
    ) -> None:
        digest, offset = xxhash.xxh3_64(), self._offset(number)
        scratch = torch.empty(PIECE, dtype=torch.uint8)
        for source, target in zip(stored, wanted, strict=True):
            flat, done = target.view(memory).view(-1), 0
            while done < len(flat):
                count = min(PIECE // source.dtype.itemsize, len(flat) - done)
                piece = scratch[: count * source.dtype.itemsize]
                self._fill(piece.numpy().data, offset)
                digest.update(piece.numpy().data)
                flat[done : done + count] = piece.view(source.dtype)
                offset, done = offset + len(piece), done + count
        self._check(number, digest)

    def _offset(self, number: int) -> int:
        return self._start + sum(self._form.sections[:number])

    def _check(self, number: int, digest: xxhash.xxh3_64) -> None:
        if digest.hexdigest() != self._digests[number]:
            raise damaged(self._path, "the checksum of its data is wrong")

    def _fill(self, buffer: memoryview | bytearray, offset: int) -> None:
        view, done = memoryview(buffer), 0
        check_cancelled()
        try:
            while done < len(view):
                count = os.preadv(self._file, [view[done:]], offset + done)
                if count == 0:
                    raise damaged(self._path, "its end is missing")
                done += count
        except OSError as error:
            raise unreadable(self._path, error) from None
