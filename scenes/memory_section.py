"""What a scene file's section `memory:` accepts: how much a streamed field may use, and how."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from typing import Any

from ..core.streaming.contracts import MemoryBudget
from .kinds import NOT_NEGATIVE, Kind, whole
from .sections import dataclass_section

MAX_BYTES = 2**60
MAX_NEIGHBOURS = 1023  # along a side
UNITS = {"b": 1} | {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?) ?([kmgt]?i?b)", re.IGNORECASE)


def size(value: Any) -> int:
    """Reads a number of bytes, alone or with a unit; kB, MB ... are powers of 1000, KiB, MiB ... of 1024."""
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip())
        if found is None or found[2].lower() not in UNITS:
            raise ValueError
        value = round(float(found[1]) * UNITS[found[2].lower()])
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return whole(1, MAX_BYTES)(value)


def size_text(n_bytes: int) -> int | str:
    """Writes a number of bytes in the largest unit of which it is a whole number, as `size` reads it."""
    names = ("TiB", "TB", "GiB", "GB", "MiB", "MB")
    for name in names:
        if n_bytes % UNITS[name.lower()] == 0:
            return f"{n_bytes // UNITS[name.lower()]}{name}"
    return n_bytes


def _odd(value: Any) -> int:
    if whole(1, MAX_NEIGHBOURS)(value) % 2 == 0:
        raise ValueError
    return int(value)


def _parts(budget: MemoryBudget) -> dict[str, Any]:
    default = MemoryBudget()
    parts = {f.name: getattr(budget, f.name) for f in fields(budget)}
    stated = {name: part for name, part in parts.items() if part != getattr(default, name)}
    return stated | {name: size_text(stated[name]) for name in ("device", "host") if name in stated}


_BYTES = Kind("a size such as 4GB, 500MB or a whole number of bytes", size)

MEMORY = replace(
    dataclass_section(
        MemoryBudget,
        {
            "device": _BYTES,
            "host": _BYTES,
            "detail": NOT_NEGATIVE,
            "neighbour_size": Kind(f"an odd whole number from 1 to {MAX_NEIGHBOURS}", _odd),
            "prefetch_seconds": NOT_NEGATIVE,
        },
    ),
    parts=_parts,
)
