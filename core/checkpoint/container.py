"""Opens the zip file that torch.save writes and maps its numbers into memory instead of reading them."""

from __future__ import annotations

import mmap
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .unpickle import Unpickler
from .values import show

MAX_PICKLE = 64 << 20  # bytes of data.pkl; those of LandMark take some 20 KiB plus the alpha mask
MAX_DIRECTORY = 16 << 20  # bytes of the zip file's table of contents
_MAP_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.11 on

_END = struct.Struct("<4s4H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclass(frozen=True)
class Container:
    """One opened file; its tensors are views of the mapping."""

    path: Path
    root: Any  # what was pickled
    mapping: mmap.mmap

    @property
    def n_bytes(self) -> int:
        """Size of the file."""
        return len(self.mapping)

    def release(self) -> None:
        """Drops the file's pages from this process; they come back from the file when they are used again."""
        if hasattr(self.mapping, "madvise"):
            self.mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class _Entry:
    offset: int
    size: int


def read_container(path: Path) -> Container:
    """Opens a torch.save file.

    Nothing named inside the file is imported or called, and no storage is read before a tensor is used.
    """
    mapping = _map(path)
    entries = _read_directory(path, mapping)
    stem, pickle = _find_pickle(path, entries)
    byteorder = entries.get(f"{stem}/byteorder")
    if byteorder is not None and mapping[byteorder.offset : byteorder.offset + byteorder.size] != b"little":
        raise InputError(
            f"{path}: numbers must be stored little-endian; save it again on a little-endian machine"
        )

    def read_storage(dtype: torch.dtype, key: str, count: int) -> Tensor:
        return _read_storage(path, mapping, entries.get(f"{stem}/data/{key}"), f"data/{key}", dtype, count)

    root = Unpickler(str(path), read_storage).load(mapping[pickle.offset : pickle.offset + pickle.size])
    return Container(path, root, mapping)


def _map(path: Path) -> mmap.mmap:
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise InputError(f"{path}: must be a checkpoint file, but is none")
    try:
        with path.open("rb") as file:
            head = file.read(4)
            if not head:
                raise InputError(f"{path}: must be a checkpoint file, but is empty; copy it again")
            if head != b"PK\x03\x04":
                raise InputError(_not_a_zip(path, head))
            # Private and writable, because torch warns about read-only memory; nobody writes.
            if sys.platform == "linux":
                flags, protection = mmap.MAP_PRIVATE | _MAP_NORESERVE, mmap.PROT_READ | mmap.PROT_WRITE
                return mmap.mmap(file.fileno(), 0, flags=flags, prot=protection)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; check the path") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error


def _not_a_zip(path: Path, head: bytes) -> str:
    if head[:1] == b"\x80":
        return (
            f"{path}: must be a zip file as torch >= 1.6 saves it, but is in torch's older format; "
            "load it with torch.load and write it again with torch.save"
        )
    return f"{path}: must be a zip file written by torch.save, but is another kind of file"


def _damaged(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: must be a complete zip file, but {what}; it is truncated or damaged, so copy it again"
    )


def _read_directory(path: Path, mapping: mmap.mmap) -> dict[str, _Entry]:
    """Reads the zip file's table of contents, trusting nothing in it."""
    start, size = _find_directory(path, mapping)
    if size > MAX_DIRECTORY:
        raise InputError(f"{path}: its table of contents must be below {MAX_DIRECTORY} bytes, got {size}")
    if start + size > len(mapping):
        raise _damaged(path, "its table of contents lies outside the file")
    table, position, entries = mapping[start : start + size], 0, {}
    while position + _ENTRY.size <= len(table):
        fields = _ENTRY.unpack_from(table, position)
        signature, flags, method, packed, size = fields[0], fields[3], fields[4], fields[8], fields[9]
        name_length, extra_length, comment_length, header = fields[10], fields[11], fields[12], fields[16]
        if signature != b"PK\x01\x02":
            raise _damaged(path, "its table of contents is unreadable")
        position += _ENTRY.size
        name = table[position : position + name_length].decode("utf-8", "replace")
        extra = table[position + name_length : position + name_length + extra_length]
        size, packed, header = _wide_sizes(extra, size, packed, header)
        if method != 0 or flags & 1 or size != packed:
            raise InputError(
                f"{path}: entries must be stored as torch.save does it, but {show(name)} is packed"
            )
        entries[name] = _entry(path, mapping, name, header, size)
        position += name_length + extra_length + comment_length
    return entries


def _find_directory(path: Path, mapping: mmap.mmap) -> tuple[int, int]:
    at = mapping.rfind(b"PK\x05\x06", max(0, len(mapping) - _END.size - 0xFFFF))
    if at < 0 or at + _END.size > len(mapping):
        raise _damaged(path, "its end is missing")
    *_, n_entries, size, start, _comment = _END.unpack_from(mapping, at)
    if n_entries == 0xFFFF or 0xFFFFFFFF in (size, start):
        if at < _LOCATOR64.size:
            raise _damaged(path, "its end is unreadable")
        signature, _, at64, _ = _LOCATOR64.unpack_from(mapping, at - _LOCATOR64.size)
        if signature != b"PK\x06\x07" or at64 + _END64.size > len(mapping):
            raise _damaged(path, "its end is unreadable")
        signature, *_, size, start = _END64.unpack_from(mapping, at64)
        if signature != b"PK\x06\x06":
            raise _damaged(path, "its end is unreadable")
    return start, size


def _wide_sizes(extra: bytes, size: int, packed: int, header: int) -> tuple[int, int, int]:
    """Takes from the zip64 field those sizes that did not fit in 32 bits."""
    values = [size, packed, header]
    position = 0
    while position + 4 <= len(extra):
        tag, length = struct.unpack_from("<2H", extra, position)
        position += 4
        if tag == 1:
            field = extra[position : position + length]
            wide = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            values = [next(wide, value) if value == 0xFFFFFFFF else value for value in values]
        position += length
    return values[0], values[1], values[2]


def _entry(path: Path, mapping: mmap.mmap, name: str, header: int, size: int) -> _Entry:
    if header + _LOCAL.size > len(mapping):
        raise _damaged(path, f"{show(name)} lies outside it")
    fields = _LOCAL.unpack_from(mapping, header)
    offset = header + _LOCAL.size + fields[9] + fields[10]
    if fields[0] != b"PK\x03\x04" or offset + size > len(mapping):
        raise _damaged(path, f"{show(name)} lies outside it")
    return _Entry(offset, size)


def _find_pickle(path: Path, entries: dict[str, _Entry]) -> tuple[str, _Entry]:
    found = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(found) != 1:
        held = ", ".join(show(name) for name in list(entries)[:3]) or "nothing"
        raise InputError(
            f"{path}: must be a zip file written by torch.save with one data.pkl, but holds {held}"
        )
    entry = entries[found[0]]
    if entry.size > MAX_PICKLE:
        raise InputError(
            f"{path}: data.pkl must be below {MAX_PICKLE} bytes, got {entry.size}; the file is refused"
        )
    return found[0].removesuffix("/data.pkl"), entry


def _read_storage(
    path: Path, mapping: mmap.mmap, entry: _Entry | None, name: str, dtype: torch.dtype, count: int
) -> Tensor:
    if entry is None:
        raise _damaged(path, f"{show(name)} is missing")
    needed = count * dtype.itemsize
    if needed > entry.size:
        raise InputError(
            f"{path}: {name} must hold {needed} bytes, got {entry.size}; the file is damaged or absurd"
        )
    if count == 0:
        return torch.empty(0, dtype=dtype)
    if entry.offset % dtype.itemsize:
        content = bytearray(mapping[entry.offset : entry.offset + needed])
        return torch.frombuffer(content, dtype=dtype)
    return torch.frombuffer(mapping, dtype=dtype, count=count, offset=entry.offset)
