"""Made-up reports of streaming, for what shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from landmark_viewer.core.streaming.contracts import STATES, BlockState, StreamStatus
from landmark_viewer.viewer.state import SceneFacts

NO_BLOCK = 255


def status_of(states: list[BlockState | None], **changes: Any) -> StreamStatus:
    """Returns the report of a field with blocks in these states; None: there is no such block."""
    numbers = [NO_BLOCK if state is None else STATES.index(state) for state in states]
    resident = {BlockState.DEVICE, BlockState.EDITED, BlockState.TUNED}
    plain = StreamStatus(
        states=np.array(numbers, np.uint8),
        block_bytes=np.array([92_000_000 if state in resident else 0 for state in states], np.int64),
        pinned=frozenset(),
        device_bytes=1_900_000_000,
        device_budget=2_000_000_000,
        host_bytes=0,
        host_budget=0,
        n_wanted=14,
        n_missing=2,
        n_beyond=0,
        fetching=(),
        prefetching=(),
        target=None,
    )
    return replace(plain, **changes)


def city_of(facts: SceneFacts, side: int) -> SceneFacts:
    """Returns what is known of a city of side x side blocks, all of which exist."""
    return replace(facts, division=(side, side), present=(True,) * side**2)
