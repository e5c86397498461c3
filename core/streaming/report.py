"""What there is to say of blocks and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .contracts import STATES, BlockKey, BlockState, Variant
from .machine import DEVICE, FAILED

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
    states = np.where(exists, holdings.machine.entries["state"][: len(exists)], NO_BLOCK).astype(np.uint8)
    for key in shown:
        state, other = holdings.machine.state(key), variant(key)
        states[key.block] = STATES.index(other.state if other and state is BlockState.DEVICE else state)
    return states


def count_wanted(holdings: Holdings) -> tuple[int, int, int]:
    """Counts what is wanted as seen: all, those that are missing, and those of these that will not come.

    The last are those that could be read, but will not as things are.
    """
    machine = holdings.machine
    seen = machine.wanted(seen=True)
    pinned = np.array([machine.slot(key) for key in machine.pinned.values()], dtype=np.int64)
    first = np.array([machine.slot(key) for key in machine.first()], dtype=np.int64)
    state = machine.entries["state"]
    readable = seen[state[seen] != FAILED]
    coming = readable[~machine.asked["is_sent_away"][readable] | np.isin(readable, first)]
    room = holdings.slabs.limit - holdings.sizes_of(pinned[~np.isin(pinned, coming)]).sum()
    n_fitting = np.count_nonzero(np.cumsum(holdings.sizes_of(coming)) <= room)
    n_coming = np.count_nonzero(state[coming] != DEVICE)
    n_beyond = min(len(coming) - n_fitting, n_coming) + len(readable) - len(coming)
    return len(seen), int(np.count_nonzero(state[seen] != DEVICE)), int(n_beyond)
