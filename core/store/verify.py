"""Checks every file of a store against its checksum."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from .index import FileEntry
from .safe_file import checksum, damaged, map_file
from .store import Store


def verify(store: Store, on_progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
    """Reads all files of a store.

    Args:
        store: The store.
        on_progress: Called with the number of blocks checked and their total.

    Returns:
        One sentence for every file that is missing or damaged.
    """
    index = store.index
    problems = []
    for entry in index.beside:
        try:
            _check(store, entry)
        except InputError as error:
            problems.append(str(error))
    total = len(index.blocks.numbers)
    for row in range(total):
        try:
            with store.block_file(row) as file:
                file.verify()
        except InputError as error:
            problems.append(str(error))
        on_progress(row + 1, total)
    return problems


def _check(store: Store, entry: FileEntry) -> None:
    path = store.path / entry.name
    if checksum(map_file(path, entry.n_bytes)) != entry.digest:
        raise damaged(path, "its checksum is wrong")
