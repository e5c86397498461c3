"""Safetensors files: headers that end on a page border, and views of mapped tensors."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

from ..errors import InputError

PAGE = 4096  # bytes; where the data begins is a multiple
MAX_HEADER = 16 << 20  # bytes
DTYPES = {torch.float16: "F16", torch.float32: "F32", torch.uint8: "U8", torch.int64: "I64"}
_MAP_NORESERVE = 0x4000  # Linux; the mmap module names it from Python 3.11 on

Tensors = Sequence[tuple[str, torch.dtype, tuple[int, ...]]]  # name, number format, shape; in order


def layout(tensors: Tensors) -> dict[str, dict[str, Any]]:
    """Returns what a header says of tensors that lie behind each other."""
    entries, offset = {}, 0
    for name, dtype, shape in tensors:
        n_bytes = dtype.itemsize
        for length in shape:
            n_bytes *= length
        entries[name] = {
            "dtype": DTYPES[dtype],
            "shape": list(shape),
            "data_offsets": [offset, offset + n_bytes],
        }
        offset += n_bytes
    return entries


def header_bytes(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Returns the beginning of a file, padded with spaces up to a page border."""
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()
    padded = text.ljust(-(-(len(text) + 8) // PAGE) * PAGE - 8)
    return struct.pack("<Q", len(padded)) + padded


def parse_header(path: Path, head: bytes) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the entries and the metadata of a header as `header_bytes` makes it."""
    try:
        parsed = json.loads(head[8:])
        metadata = parsed.pop("__metadata__")
        if not isinstance(metadata, dict):
            raise ValueError
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise damaged(path, "its header cannot be read") from None
    return parsed, metadata


def damaged(path: Path, what: str) -> InputError:
    """Returns the error of a file of a store that cannot be used."""
    return InputError(
        f"{path}: must be a complete file of a block store, but {what}; copy it again, or run "
        "landmark-viewer convert again"
    )


def unreadable(path: Path, error: OSError) -> InputError:
    """Returns the error for what the system said."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: is missing; copy it again, or open the store again if it was changed")
    return InputError(f"{path}: cannot be read ({error.strerror}); check the disk and try again")


def map_file(path: Path, n_bytes: int) -> Tensor:
    """Maps a file of known size; nothing is read before it is used. uint8 [n_bytes]"""
    try:
        with path.open("rb") as file:
            found = file.seek(0, 2)
            if found != n_bytes or n_bytes < 8:
                raise damaged(path, f"has {found} bytes instead of {n_bytes}")
            # Private and writable, because torch warns about read-only memory; nobody writes.
            flags = mmap.MAP_PRIVATE | _MAP_NORESERVE
            mapping = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise unreadable(path, error) from None
    return torch.frombuffer(mapping, dtype=torch.uint8)


def map_checked(path: Path, n_bytes: int, digest: str) -> Tensor:
    """Maps a file and reads all of it for its checksum. uint8 [n_bytes]

    Raises:
        InputError: It is missing or damaged.
    """
    memory = map_file(path, n_bytes)
    if checksum(memory) != digest:
        raise damaged(path, "its checksum is wrong")
    return memory


def tensors_of(path: Path, memory: Tensor, tensors: Tensors) -> dict[str, Tensor]:
    """Returns the tensors in a mapped file, which must hold exactly these.

    Raises:
        InputError: It holds others.
    """
    n_bytes = len(memory)
    (length,) = struct.unpack("<Q", memory[:8].numpy().tobytes())
    if length > min(MAX_HEADER, n_bytes - 8):
        raise damaged(path, "its header lies outside it")
    entries, _ = parse_header(path, memory[: 8 + length].numpy().tobytes())
    expected = layout(tensors)
    if entries != expected or (8 + length) % PAGE:
        raise damaged(path, "it holds other tensors than the index says")
    data = memory[8 + length :]
    return {
        name: _view(path, data, expected[name]["data_offsets"], dtype, shape)
        for name, dtype, shape in tensors
    }


def _view(
    path: Path, data: Tensor, offsets: Sequence[int], dtype: torch.dtype, shape: tuple[int, ...]
) -> Tensor:
    if offsets[1] > len(data):
        raise damaged(path, "its end is missing")
    return data[offsets[0] : offsets[1]].view(dtype).view(shape)


def checksum(data: Any) -> str:
    """Returns the xxh3 of bytes or of a contiguous tensor, 16 hexadecimal digits."""
    if isinstance(data, Tensor):
        data = data.reshape(-1).view(torch.uint8).numpy() if data.numel() else b""
    return xxhash.xxh3_64_hexdigest(data)
