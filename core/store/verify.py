"""Checks every file of a store against its checksum."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from .safe_file import map_checked
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
            map_checked(store.path / entry.name, entry.n_bytes, entry.digest)
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
