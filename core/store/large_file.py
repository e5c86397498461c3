"""Writes files that are larger than what memory should cache of them."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Sequence
from pathlib import Path

from .safe_file import PAGE

PIECE = 4 << 20  # bytes that are written at a time
LARGE = 16 << 20  # bytes from which on a file goes past the system's cache, which is several times faster


def write_large(path: Path, parts: Sequence[memoryview]) -> None:
    """Writes parts behind each other into a new file.

    Raises:
        OSError: The file cannot be written; what there is of it stays.
    """
    n_bytes = sum(len(part) for part in parts)
    file = _open(path, n_bytes >= LARGE)
    staging = memoryview(mmap.mmap(-1, PIECE))  # on a page border, as writing past the cache demands
    try:
        filled = 0
        for part in parts:
            begin = 0
            while begin < len(part):
                count = min(PIECE - filled, len(part) - begin)
                staging[filled : filled + count] = part[begin : begin + count]
                begin, filled = begin + count, filled + count
                if filled == PIECE:
                    _write(file, staging)
                    filled = 0
        _write(file, staging[: -(-filled // PAGE) * PAGE])
        os.ftruncate(file, n_bytes)
    finally:
        os.close(file)


def _open(path: Path, is_large: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    direct = getattr(os, "O_DIRECT", 0) if is_large else 0  # not every system has it
    try:
        return os.open(path, flags | direct, 0o666)
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:  # nor every kind of disk
            raise
        return os.open(path, flags, 0o666)


def _write(file: int, data: memoryview) -> None:
    while len(data):
        data = data[os.write(file, data) :]
