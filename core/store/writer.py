"""StoreWriter makes a block store or lets one grow; killed anywhere, it leaves the old one as it was.

Files are never changed: new ones get new names, and store.json, which is replaced last, says which count.
Finished blocks that it does not name yet are in a journal, so that the work of hours can be taken up again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checkpoint.naming import STORE_INDEX, STORE_JOURNAL
from ..errors import InputError
from ..gridnerf import FieldBlock
from ..whole_file import write_whole
from .block_file import MASK_ALIGNMENT, FileForm
from .commit import write_beside
from .index import BLOCK_FOLDER, BlockList, StoreIndex, block_name
from .large_file import write_large
from .pack import pack_block, pack_coarse
from .safe_file import checksum
from .store import Store, is_store

MAX_JOURNAL = 1 << 30  # bytes
_OWN_FILES = re.compile(r"(?:\.?(?:coarse-\d+|room|network)-(\d+)\.safetensors|\.store\.json)(?:\.tmp)?")
_BLOCK_FILES = re.compile(r"\d+-[0-9a-f]{16}\.safetensors|\.\d+\.tmp")

MaskPart = tuple[Tensor, tuple[int, int]]  # vertices [n_z, n_y, n_x] and the first one's numbers along x, y


@dataclass(frozen=True)
class PackedBlock:
    """One block, ready to be written."""

    number: int
    memory: Tensor  # tables and, behind them, room for the coarse ones. uint8
    mask: MaskPart | None


class StoreWriter:
    """Writes blocks into a store; what is written counts from `commit` on.

    Args:
        path: The folder; made where it does not exist.
        draft: What the store shall hold beside its blocks; its `blocks` are those that it already has.
        networks: Everything but planes and lines, by LandMark's names.
        fingerprint: Tells whether a journal belongs to the same work; None: no journal is kept.

    Raises:
        InputError: The folder cannot be written, or somebody else is writing in it.
    """

    def __init__(
        self,
        path: Path,
        draft: StoreIndex,
        networks: Mapping[str, Tensor],
        fingerprint: str | None = None,
    ) -> None:
        self.path, self._draft, self._networks = path, draft, networks
        self._fingerprint = fingerprint
        self._added: dict[int, tuple[int, str, tuple[int, int, int, int]]] = {}
        self._coarse = tuple((entry.side, draft.coarse_form(entry)) for entry in draft.coarse)
        self._file_forms: dict[int, FileForm] = {}  # by vertices of the mask
        with _writing(path):
            (path / BLOCK_FOLDER).mkdir(parents=True, exist_ok=True)
            self._folder = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._lock()
            if fingerprint is not None:
                self._read_journal(fingerprint)
            self.clean()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets others write; what was not committed stays in the journal, if there is one."""
        os.close(self._folder)

    @property
    def finished(self) -> frozenset[int]:
        """Blocks that are written and not yet committed."""
        return frozenset(self._added)

    @property
    def n_memory_bytes(self) -> int:
        """Bytes that `pack` needs."""
        return self._draft.form.n_bytes + sum(form.n_bytes for _, form in self._coarse)

    def put(self, number: int, block: FieldBlock, mask: MaskPart | None) -> None:
        """Adds a block or replaces it.

        Raises:
            InputError: It does not fit the store, or cannot be written.
        """
        memory = torch.empty(self.n_memory_bytes, dtype=torch.uint8)
        self.write(self.pack(number, block, mask, memory))

    def pack(
        self,
        number: int,
        block: FieldBlock,
        mask: MaskPart | None,
        memory: Tensor,
        release: Callable[[], None] = lambda: None,
    ) -> PackedBlock:
        """Brings a block into the form in which `write` writes it.

        Args:
            number: Of the block.
            block: Planes and lines.
            mask: The block's part of the alpha mask, if the field has one.
            memory: uint8 [n_memory_bytes]
            release: Drops resident pages of the source.
        """
        if not 0 <= number < self._draft.n_blocks:
            raise InputError(f"a block must have a number from 0 to {self._draft.n_blocks - 1}, got {number}")
        if (mask is None) != (self._draft.mask is None):
            raise InputError("a block must have a mask exactly if the others in its store do")
        pack_block(block, self._draft.form, memory, release)
        return PackedBlock(number, memory, mask)

    def write(self, packed: PackedBlock) -> None:
        """Makes the coarse stand-ins and writes the block's file."""
        draft = self._draft
        tables, offset = draft.form.tables(packed.memory), draft.form.n_bytes
        for side, form in self._coarse:
            tables = pack_coarse(tables, form, side, packed.memory[offset : offset + form.n_bytes])
            offset += form.n_bytes
        window, bits = _packed_mask(packed.mask)
        n_vertices = window[2] * window[3] * (draft.mask.n[2] if draft.mask else 0)
        if n_vertices not in self._file_forms:
            self._file_forms[n_vertices] = FileForm(draft.form, self._coarse, n_vertices)
        file_form = self._file_forms[n_vertices]
        sections = torch.split(packed.memory[:offset], list(file_form.sections[1:]))
        header = file_form.header([checksum(bits), *map(checksum, sections)])
        digest, n_bytes = checksum(header), len(header) + len(bits) + offset
        self._save(
            packed.number, digest, [memoryview(header), bits.data, packed.memory[:offset].numpy().data]
        )
        self._note(packed.number, n_bytes, digest, window)

    def put_copy(self, number: int, like: int, first: tuple[int, int] = (0, 0)) -> None:
        """Adds a block whose file is that of a finished one under another name.

        Args:
            number: Of the new block.
            like: Of the finished block.
            first: Where the new one's part of the mask begins.
        """
        n_bytes, digest, window = self._added[like]
        with _writing(self.path):
            path = self._block_path(number, digest)
            path.unlink(missing_ok=True)
            os.link(self._block_path(like, digest), path)
        self._note(number, n_bytes, digest, (*first, *window[2:]) if self._draft.mask else (0, 0, 0, 0))

    def commit(self) -> StoreIndex:
        """Makes everything count that was put, all at once.

        Raises:
            InputError: There is no block at all, or something cannot be written.
        """
        blocks = self._all_blocks()
        if not len(blocks.numbers):
            raise InputError(f"{self.path}: a block store must have at least one block, got none")
        index = replace(self._draft, blocks=blocks, generation=self._next_generation())
        previous = Store(self.path, self._draft) if len(self._draft.blocks.numbers) else None
        with _writing(self.path):
            index = write_beside(self.path, index, previous, self._networks)
            self._sync_blocks()
        write_whole({self.path / STORE_INDEX: lambda file: file.write(index.dump())})
        with _writing(self.path):
            os.fsync(self._folder)
            (self.path / STORE_JOURNAL).unlink(missing_ok=True)
        self._draft, self._added = index, {}
        return index

    def clean(self) -> None:
        """Removes what neither the store nor the journal names, such as blocks that were replaced."""
        kept = {block_name(number, digest) for number, (_, digest, _) in self._added.items()}
        if is_store(self.path):
            with suppress(InputError):  # a damaged index names nothing
                kept |= _named_files(Store.open(self.path).index)
        with _writing(self.path):
            for folder, pattern in ((self.path, _OWN_FILES), (self.path / BLOCK_FOLDER, _BLOCK_FILES)):
                for entry in list(os.scandir(folder)):
                    name = str(Path(entry.path).relative_to(self.path))
                    if name not in kept and pattern.fullmatch(entry.name) and entry.is_file():
                        os.unlink(entry.path)

    # Files

    def _lock(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(
                f"{self.path}: somebody else is writing in this block store; wait until they have finished"
            ) from None

    def _block_path(self, number: int, digest: str) -> Path:
        return self.path / block_name(number, digest)

    def _save(self, number: int, digest: str, parts: list[memoryview]) -> None:
        temporary = self.path / BLOCK_FOLDER / f".{number}.tmp"
        with _writing(self.path):
            try:
                write_large(temporary, parts)
                temporary.replace(self._block_path(number, digest))
            finally:
                temporary.unlink(missing_ok=True)

    def _sync_blocks(self) -> None:
        """Waits until new files are on the disk; copies of a file are one file there."""
        for digest, number in {digest: number for number, (_, digest, _) in self._added.items()}.items():
            _sync(self._block_path(number, digest))
        _sync(self.path / BLOCK_FOLDER)

    def _next_generation(self) -> int:
        found = [self._draft.generation]
        for name in os.listdir(self.path):
            match = _OWN_FILES.fullmatch(name)
            if match and match[1]:
                found.append(int(match[1][:18]))
        return max(found) + 1

    def _all_blocks(self) -> BlockList:
        """Returns the list with what was put; the others keep their places."""
        old = self._draft.blocks
        rows: dict[int, tuple[int, str, Any]] = {
            int(number): (int(n_bytes), digest, window)
            for number, n_bytes, digest, window in zip(
                old.numbers, old.n_bytes, old.digests, old.windows, strict=True
            )
        }
        rows.update(self._added)
        return BlockList(
            np.array(list(rows), dtype=np.int64),
            np.array([entry[0] for entry in rows.values()], dtype=np.int64),
            tuple(entry[1] for entry in rows.values()),
            np.array([entry[2] for entry in rows.values()], dtype=np.int64).reshape(-1, 4),
        )

    # Journal

    def _note(self, number: int, n_bytes: int, digest: str, window: tuple[int, int, int, int]) -> None:
        replaced = self._added.get(number)
        self._added[number] = (n_bytes, digest, window)
        if self._fingerprint is not None:
            with _writing(self.path), (self.path / STORE_JOURNAL).open("ab") as file:
                file.write(json.dumps([number, n_bytes, digest, *window]).encode() + b"\n")
        if replaced and replaced[1] != digest:
            self._block_path(number, replaced[1]).unlink(missing_ok=True)

    def _read_journal(self, fingerprint: str) -> None:
        """Takes up what an earlier run has finished, as far as its files are whole."""
        path = self.path / STORE_JOURNAL
        head, *lines = journal_lines(path) or [None]
        if head != fingerprint:
            with _writing(self.path):
                path.write_bytes(json.dumps(fingerprint).encode() + b"\n")
            return
        for line in lines:
            if not _is_entry(line, self._draft.n_blocks):
                continue
            number, n_bytes, digest, *window = line
            blocks = BlockList(
                np.array([number]), np.array([n_bytes]), (digest,), np.array([window], dtype=np.int64)
            )
            store = Store(self.path, replace(self._draft, blocks=blocks))
            with suppress(InputError), store.block_file(0) as file:
                file.verify()
                self._added[number] = (n_bytes, digest, tuple(window))


def journal_lines(path: Path) -> list[Any]:
    """Returns the lines of a journal that are whole; none if there is no journal."""
    try:
        if path.stat().st_size > MAX_JOURNAL:
            return []
        text = path.read_bytes()
    except OSError:
        return []
    lines = []
    for line in text.split(b"\n"):
        with suppress(ValueError, RecursionError):
            lines.append(json.loads(line))
    return lines


def _is_entry(line: object, n_blocks: int) -> bool:
    return (
        isinstance(line, list)
        and len(line) == 7
        and all(type(value) is int and 0 <= value < 2**40 for value in (*line[:2], *line[3:]))
        and line[0] < n_blocks
        and isinstance(line[2], str)
        and re.fullmatch(r"[0-9a-f]{16}", line[2]) is not None
    )


def _named_files(index: StoreIndex) -> set[str]:
    blocks = {index.blocks.name(row) for row in range(len(index.blocks.numbers))}
    return blocks | {entry.name for entry in index.beside}


def _packed_mask(mask: MaskPart | None) -> tuple[tuple[int, int, int, int], np.ndarray]:
    """Returns the window of a part of the mask, and its bits, padded."""
    if mask is None:
        return (0, 0, 0, 0), np.zeros(0, dtype=np.uint8)
    nodes, first = mask
    packed = np.packbits(nodes.contiguous().numpy().reshape(-1))
    bits = np.zeros(-(-len(packed) // MASK_ALIGNMENT) * MASK_ALIGNMENT, dtype=np.uint8)
    bits[: len(packed)] = packed
    return (*first, nodes.shape[2], nodes.shape[1]), bits


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turns what the system says into a sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} must be writable, got: {error.strerror or error}; make room or name another folder"
        ) from error
