"""What there is to say of blocks and memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .contracts import STATES, BlockKey, BlockState, Variant

if TYPE_CHECKING:
    from .holdings import Holdings
    from .snapshots import Versions

NO_BLOCK = 255  # in arrays of states


def block_states(
    holdings: Holdings,
    exists: NDArray[np.bool_],
    shown: Versions,
    variant: Callable[[BlockKey], Variant | None],
) -> NDArray[np.uint8]:
    """Returns the state of each block in the version that is shown, as indices into STATES."""
    states = np.where(exists, STATES.index(BlockState.DISK), NO_BLOCK).astype(np.uint8)
    versions = {key.block: key for key in shown}
    for key, entry in holdings.machine.entries.items():
        if key == versions.get(key.block, BlockKey(key.block)):
            other = variant(key) if entry.state is BlockState.DEVICE else None
            states[key.block] = STATES.index(other.state if other else entry.state)
    return states


def block_bytes(holdings: Holdings, n_blocks: int) -> NDArray[np.int64]:
    """Returns the bytes of each block in memory, all versions, device and host together."""
    n_bytes = np.zeros(n_blocks, dtype=np.int64)
    for key, size in holdings.copied.items():
        n_bytes[key.block] += size
    for key, payload in holdings.resident.items():
        n_bytes[key.block] += payload.n_bytes
    return n_bytes


def count_beyond(holdings: Holdings, seen: Sequence[BlockKey]) -> int:
    """Counts wanted blocks that are missing and will not come as things are, though they could be read."""
    machine = holdings.machine
    wanted = [key for key in seen if machine.state(key) is not BlockState.FAILED]
    coming = [key for key in wanted if machine.is_wanted(key)]
    others = set(machine.pinned.values()).difference(coming)
    room = holdings.slabs.limit - sum(holdings.size_of(key) for key in others)
    n_fitting = 0
    for key in coming:
        room -= holdings.size_of(key)
        n_fitting += room >= 0
    n_missing = sum(machine.state(key) is not BlockState.DEVICE for key in coming)
    return min(len(coming) - n_fitting, n_missing) + len(wanted) - len(coming)
