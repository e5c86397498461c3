"""store.json: what a block store holds, checked as it is read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...cuda.stream_tables import MaskGrid
from ..checkpoint.header import Header, read_header
from ..checkpoint.metadata import plain_settings, settings_from
from ..checkpoint.naming import STORE_INDEX
from ..checkpoint.values import Values, is_integer, show
from ..errors import InputError
from ..settings import ModelSettings
from .form import BlockForm, Size

BLOCK_FOLDER = "blocks"
FORMAT = "landmark-viewer block store"
VERSION = 1
MAX_INDEX = 1 << 30  # bytes of store.json
MAX_BLOCKS = 1 << 20  # of the division, present or not
MAX_TEXELS = 1 << 20  # along one side of a table
MAX_LEVELS = 64
_DIGEST = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class FileEntry:
    """One file beside the index; its name follows from what it is and when it was written."""

    name: str
    n_bytes: int
    digest: str  # xxh3 of the whole file


@dataclass(frozen=True)
class CoarseEntry:
    """Stand-ins of all blocks in one size."""

    side: int
    sizes: tuple[Size, ...]
    file: FileEntry


@dataclass(frozen=True)
class BlockList:
    """The blocks that exist; their order is the order of rows in the coarse files."""

    numbers: NDArray[np.int64]  # [n]
    n_bytes: NDArray[np.int64]  # of the files [n]
    digests: tuple[str, ...]  # xxh3 of the header of each file, which holds those of its parts
    windows: NDArray[np.int64]  # first vertex of the mask along x, y and vertices along x, y [n, 4]

    @classmethod
    def empty(cls) -> BlockList:
        """No blocks yet."""
        none = np.zeros(0, dtype=np.int64)
        return cls(none, none, (), np.zeros((0, 4), dtype=np.int64))

    def name(self, row: int) -> str:
        """Returns the path of a block's file within the store."""
        return block_name(int(self.numbers[row]), self.digests[row])


@dataclass(frozen=True)
class StoreIndex:
    """The contents of store.json."""

    source: str  # for people: what was converted
    kind: str  # its layout
    generation: int  # counts commits
    division: tuple[int, int]
    zero_sigma_outside: bool
    header: Header
    kwargs: dict[str, Any]  # the header as LandMark writes it
    settings: ModelSettings
    form: BlockForm
    mask: MaskGrid | None
    blocks: BlockList
    coarse: tuple[CoarseEntry, ...]  # finest first
    room: FileEntry | None
    network: FileEntry

    @property
    def n_blocks(self) -> int:
        """Number of blocks, present or not."""
        return self.division[0] * self.division[1]

    @cached_property
    def rows(self) -> NDArray[np.int32]:
        """Place of each block in the list, -1 if there is no such block. [n_blocks]"""
        rows = np.full(self.n_blocks, -1, dtype=np.int32)
        rows[self.blocks.numbers] = np.arange(len(self.blocks.numbers), dtype=np.int32)
        return rows

    @property
    def beside(self) -> tuple[FileEntry, ...]:
        """The files beside the index."""
        room = () if self.room is None else (self.room,)
        return (*(entry.file for entry in self.coarse), *room, self.network)

    def coarse_form(self, entry: CoarseEntry) -> BlockForm:
        """Returns the shapes of one row of a coarse file."""
        form = self.form
        return BlockForm(
            entry.sizes,
            form.n_levels,
            form.density_channels,
            form.appearance_channels,
            form.half,
            form.order,
        )

    def dump(self) -> bytes:
        """Returns the text of store.json."""
        blocks = self.blocks
        rows = zip(
            blocks.numbers.tolist(),
            blocks.n_bytes.tolist(),
            blocks.digests,
            *blocks.windows.T.tolist(),
            strict=True,
        )
        values = {
            "format": FORMAT,
            "version": VERSION,
            "generation": self.generation,
            "source": self.source,
            "kind": self.kind,
            "precision": "half" if self.form.half else "full",
            "division": self.division,
            "zero_sigma_outside": self.zero_sigma_outside,
            "kwargs": self.kwargs,
            "settings": plain_settings(self.settings),
            "levels": self.form.n_levels,
            "sizes": self.form.sizes,
            "mask": None if self.mask is None else {"n": self.mask.n, "aabb": self.mask.aabb.tolist()},
            "coarse": [
                {"side": entry.side, "sizes": entry.sizes, **_file_values(entry.file)}
                for entry in self.coarse
            ],
            "room": None if self.room is None else _file_values(self.room),
            "network": _file_values(self.network),
            "blocks": list(rows),
        }
        return json.dumps(values, separators=(",", ":")).encode()


def block_name(number: int, digest: str) -> str:
    """Returns the path of a block's file within the store."""
    return f"{BLOCK_FOLDER}/{number}-{digest}.safetensors"


def file_name(what: str, generation: int) -> str:
    """Returns the name of a file beside the index."""
    return f"{what}-{generation}.safetensors"


def _file_values(entry: FileEntry) -> dict[str, Any]:
    generation = int(entry.name.removesuffix(".safetensors").rpartition("-")[2])
    return {"generation": generation, "bytes": entry.n_bytes, "xxh3": entry.digest}


# Reading


def read_index(folder: Path) -> StoreIndex:
    """Reads store.json, trusting nothing in it.

    Raises:
        InputError: It is missing, unreadable, of a newer version, or says something that cannot be.
    """
    path = folder / STORE_INDEX
    values = _load(path)
    if values.entries.get("format") != FORMAT:
        raise InputError(f"{path}: must be the index of a block store, but is another kind of file")
    version = values.integer("version", 1)
    if version > VERSION:
        raise InputError(
            f"{path}: must be of version {VERSION} or older, got {version}; "
            "open it with a newer landmark-viewer"
        )
    kwargs = values.require("kwargs")
    header = read_header(_part(values, "kwargs", aabb="aabb"))
    division = _division(values)
    form = _form(values, header)
    mask = _mask(values)
    room = values.require("room")
    if (mask is None) != (room is None):
        raise values.wrong("room", "null exactly where mask is null")
    settings = settings_from(_part(values, "settings"))
    return StoreIndex(
        source=str(values.entries.get("source", "")),
        kind=str(values.entries.get("kind", "")),
        generation=values.integer("generation", 1),
        division=division,
        zero_sigma_outside=values.boolean("zero_sigma_outside"),
        header=header,
        kwargs=kwargs,
        settings=settings,
        form=form,
        mask=mask,
        blocks=_blocks(values, division, header, mask),
        coarse=_coarse(values, form),
        room=None if room is None else _file(_part(values, "room"), "room"),
        network=_file(_part(values, "network"), "network"),
    )


def _load(path: Path) -> Values:
    try:
        if path.stat().st_size > MAX_INDEX:
            raise InputError(f"{path}: must be smaller than {MAX_INDEX} bytes; the file is refused")
        parsed = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, so the folder is no finished block store") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: must be complete JSON, but is damaged; copy it again") from None
    if not isinstance(parsed, dict):
        raise InputError(f"{path}: must be the index of a block store, but is another kind of file")
    return Values(str(path), "", parsed, "index of a block store")


def _part(values: Values, key: str, aabb: str | None = None) -> Values:
    """Returns a dict inside the index, its bounding box as a tensor."""
    held = values.require(key)
    if not isinstance(held, dict):
        raise values.wrong(key, "an object")
    part = Values(values.file, f"{values.prefix}{key}.", held, values.whole)
    if aabb is None:
        return part
    box = part.require(aabb)
    try:
        array = np.array(box, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        array = np.zeros(0)
    if array.shape != (2, 3):
        raise part.wrong(aabb, "two corners of three numbers")
    return Values(part.file, part.prefix, {**held, aabb: torch.from_numpy(array)}, part.whole)


def _division(values: Values) -> tuple[int, int]:
    columns, rows = values.integers("division", (2,), 1)
    if columns * rows > MAX_BLOCKS:
        raise values.wrong("division", f"at most {MAX_BLOCKS} blocks")
    return columns, rows


def _form(values: Values, header: Header) -> BlockForm:
    n_levels = values.integer("levels", 1)
    if n_levels > MAX_LEVELS:
        raise values.wrong("levels", f"at most {MAX_LEVELS}")
    return BlockForm.of(
        _sizes(values, n_levels * header.n_directions),
        n_levels,
        header.density_channels,
        header.appearance_channels,
        values.choice("precision", ("half", "full")) == "half",
    )


def _sizes(values: Values, n_tables: int) -> tuple[Size, ...]:
    sizes = values.require("sizes")
    if not isinstance(sizes, list) or len(sizes) != n_tables or not all(map(_is_size, sizes)):
        raise values.wrong("sizes", f"{n_tables} times three integers from 1 to {MAX_TEXELS}")
    return tuple((u, v, w) for u, v, w in sizes)


def _is_size(size: object) -> bool:
    return (
        isinstance(size, list)
        and len(size) == 3
        and all(is_integer(n) and 1 <= n <= MAX_TEXELS for n in size)
    )


def _mask(values: Values) -> MaskGrid | None:
    if values.require("mask") is None:
        return None
    part = _part(values, "mask", aabb="aabb")
    n_x, n_y, n_z = part.integers("n", (3,), 2)
    if max(n_x, n_y, n_z) > MAX_TEXELS:
        raise part.wrong("n", f"three integers from 2 to {MAX_TEXELS}")
    return MaskGrid((n_x, n_y, n_z), part.bounds("aabb"))


def _file(part: Values, what: str) -> FileEntry:
    digest = part.require("xxh3")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise part.wrong("xxh3", "16 hexadecimal digits")
    return FileEntry(file_name(what, part.integer("generation", 1)), part.integer("bytes", 1), digest)


def _coarse(values: Values, form: BlockForm) -> tuple[CoarseEntry, ...]:
    held = values.require("coarse")
    if not isinstance(held, list) or not 1 <= len(held) <= MAX_LEVELS:
        raise values.wrong("coarse", f"a list of 1 to {MAX_LEVELS} coarse files")
    entries = []
    for number, entry in enumerate(held):
        if not isinstance(entry, dict):
            raise values.wrong("coarse", "a list of objects")
        part = Values(values.file, f"coarse[{number}].", entry, values.whole)
        side, sizes = part.integer("side", 1), _sizes(part, len(form.sizes))
        entries.append(CoarseEntry(side, sizes, _file(part, f"coarse-{side}")))
    if len({entry.side for entry in entries}) != len(entries):
        raise values.wrong("coarse", "a list without a side twice")
    return tuple(sorted(entries, key=lambda entry: -entry.side))


def _blocks(values: Values, division: tuple[int, int], header: Header, mask: MaskGrid | None) -> BlockList:
    held = values.require("blocks")
    must = "a list of [number, bytes, xxh3, first x, first y, vertices x, vertices y]"
    if not isinstance(held, list) or not held or not all(isinstance(r, list) and len(r) == 7 for r in held):
        raise values.wrong("blocks", must)
    columns = list(zip(*held, strict=True))
    digests = columns.pop(2)
    if not all(set(map(type, column)) == {int} for column in columns):
        raise values.wrong("blocks", must)
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests):
        raise values.wrong("blocks", "a list whose xxh3 are 16 hexadecimal digits")
    try:
        array = np.array(columns, dtype=np.int64)
    except OverflowError:
        raise values.wrong("blocks", "a list of numbers below 2^63") from None
    numbers, n_bytes, windows = array[0], array[1], array[2:].T
    if numbers.min() < 0 or numbers.max() >= division[0] * division[1]:
        wrong = numbers[(numbers < 0) | (numbers >= division[0] * division[1])][0]
        raise InputError(
            f"{values.file}: blocks must have numbers from 0 to {division[0] * division[1] - 1}, got {wrong}"
        )
    if len(np.unique(numbers)) != len(numbers):
        ordered = np.sort(numbers)
        twice = ordered[1:][ordered[1:] == ordered[:-1]][0]
        raise InputError(f"{values.file}: blocks must hold every block once, but hold {twice} twice")
    if n_bytes.min() <= 0:
        raise InputError(f"{values.file}: blocks must have files of at least 1 byte, got {n_bytes.min()}")
    blocks = BlockList(numbers, n_bytes, digests, windows)
    if mask is not None:
        _check_windows(values, blocks, division, header, mask)
    elif windows.any():
        raise values.wrong("blocks", "a list with windows of zeros where mask is null")
    return blocks


def _check_windows(
    values: Values, blocks: BlockList, division: tuple[int, int], header: Header, mask: MaskGrid
) -> None:
    """Makes sure that every window lies inside the mask and holds what samples of its block read."""
    place = np.stack([blocks.numbers // division[1], blocks.numbers % division[1]], axis=1)
    box, mask_box = header.aabb.double().numpy()[:, :2], mask.aabb.double().numpy()[:, :2]
    side = (box[1] - box[0]) / np.array(division)
    last = np.array(mask.n[:2]) - 1
    scale = last / (mask_box[1] - mask_box[0])
    low = np.clip(np.floor((box[0] + place * side - mask_box[0]) * scale), 0, last)
    high = np.clip(np.ceil((box[0] + (place + 1) * side - mask_box[0]) * scale), 0, last)
    first, end = blocks.windows[:, :2], blocks.windows[:, :2] + blocks.windows[:, 2:]
    fits = (first >= 0) & (first <= low) & (end > high) & (end <= last + 1)
    if not fits.all():
        row = int(np.flatnonzero(~fits.all(axis=1))[0])
        raise InputError(
            f"{values.file}: the mask of block {blocks.numbers[row]} must cover the block and lie inside the "
            f"whole mask, got {show(blocks.windows[row].tolist())}"
        )


def check_texels(sizes: Sequence[Size]) -> None:
    """Raises InputError if a field is too large to be stored."""
    if max(max(size) for size in sizes) > MAX_TEXELS:
        raise InputError(
            f"planes must have at most {MAX_TEXELS} texels a side, got {max(map(max, sizes))}; "
            "convert with a --division"
        )
