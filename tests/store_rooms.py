"""Budgets with room for a number of blocks of a store, and renderers that work within them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.render import Renderer
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.store.store import Store
from landmark_viewer.core.streaming.contracts import MemoryBudget
from landmark_viewer.core.streaming.memory import coarse_bytes
from landmark_viewer.core.streaming.snapshots import stream_bytes


def room_for(model: GridNeRF, n_blocks: int, precision: Precision, **changes: float) -> MemoryBudget:
    """Returns the budget with room for so many and a half blocks of a store's field."""
    store = model.source
    assert isinstance(store, Store)
    size = max(store.n_bytes(block, precision) for block in store.index.blocks.numbers[:100])
    device = n_blocks * size
    for _ in range(8):  # larger budgets have finer stand-ins, which take more of them
        coarse = stream_bytes(store.stream_tables(model, precision, coarse_bytes(device)))
        if device == (found := coarse + n_blocks * size + size // 2):
            break
        device = found
    return replace(MemoryBudget(device=device), **changes)


@contextmanager
def streamed(
    store: Store, n_blocks: int, precision: Precision = Precision.HALF, **changes: float
) -> Iterator[Renderer]:
    """Opens a store in a renderer with room for so many blocks; `changes` are of its budget."""
    model = store.model()
    renderer = Renderer(model, precision, "cpu", room_for(model, n_blocks, precision, **changes))
    try:
        assert renderer.stream is not None
        assert renderer.stream.residency.plan.n_blocks == n_blocks
        yield renderer
    finally:
        renderer.close()
