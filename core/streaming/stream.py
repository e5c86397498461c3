"""FieldStream: one open field of which only the blocks that matter are in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .checkpoint_source import CheckpointSource
from .contracts import STATES, BlockState, MemoryBudget, StreamStatus, Variant, Wants
from .demand import CityGrid, ViewDemand
from .neighbourhood import Neighbourhood
from .prediction import MAX_VIEWS, Motion
from .residency import Residency

if TYPE_CHECKING:
    import torch

    from ..camera import Camera
    from ..gridnerf import GridNeRF
    from ..settings import Precision

LOOK_SECONDS = 0.015  # between two answers to what a moving camera wants
SPARE_WANTS = 16  # asked for beside twice the blocks that the budget has room for
FAILED = STATES.index(BlockState.FAILED)
ARRIVED = [STATES.index(state) for state in (BlockState.DEVICE, BlockState.EDITED, BlockState.TUNED)]


class FieldStream:
    """Has the blocks of one field fetched that its views want, in the order in which they count.

    Blocks in view come first, then those of the views that are expected next, then those in view that
    the last picture found hidden. `look` and `note_needs` are for the thread that renders, the rest for any.
    """

    def __init__(
        self,
        model: GridNeRF,
        precision: Precision,
        budget: MemoryBudget,
        device: torch.device | str = "cpu",
        on_change: Callable[[], None] | None = None,
    ) -> None:
        """Opens the field's blocks for fetching; `on_change` is called whenever other blocks are there."""
        source = model.source or CheckpointSource(model)

        def within(budget: MemoryBudget) -> Residency:
            return Residency(source, model, precision, budget, device, on_change)

        self._model, self._budget, self._within = model, budget, within
        self.residency = within(budget)
        self._grid = self._grid_of(self.residency)
        self._demand = _demand_of(self._grid, budget)
        self._motion = Motion(float(self._grid.side.min()))
        self._lock = threading.Lock()
        self._looked = -np.inf  # when wants were made last
        self._camera: Camera | None = None  # that they were made for
        self._variants: tuple[Variant, ...] = ()
        self._seen = np.zeros(0, dtype=np.int64)  # blocks in view that count, most urgent first
        self._n_asked = 0  # so many of them were asked for
        self._target: tuple[float, float] | None = None

    def look(
        self, camera: Camera, now: float, variants: Sequence[Variant] = (), ahead: Sequence[Camera] = ()
    ) -> None:
        """Says what is looked at, and so what is to be fetched.

        Args:
            camera: The view.
            now: Seconds, never falling.
            variants: Versions of blocks that the view shows instead of the field's own.
            ahead: Views that will follow within the time of prefetching, as a playing path knows them;
                none: they are expected from how the camera moves.
        """
        with self._lock:
            jumped = self._motion.note(camera, now)
            soon = abs(now - self._looked) < LOOK_SECONDS
            if jumped:
                self._demand.forget()
            elif soon and tuple(variants) == self._variants:
                return
            self._looked, self._camera, self._variants = now, camera, tuple(variants)
            seconds = self._budget.prefetch_seconds
            views = (spread(ahead) if seconds > 0 else ()) or self._motion.ahead(seconds)
            self._target = _plan(views[-1] if views else camera)
            self.residency.want(self._wants(camera, views))

    def note_needs(self, needs: np.ndarray, is_whole: bool = False) -> None:
        """Takes how much each block counted in a picture of the view last looked at.

        Args:
            needs: RenderControl.needs. float32 [n_blocks]
            is_whole: All tiles of the picture were rendered, so blocks with need 0 are hidden.
        """
        with self._lock:
            self._demand.note_needs(needs, is_whole)

    def is_settled(self, camera: Camera) -> bool:
        """Whether all that the view last looked at wants is there, but what will not come as things are."""
        with self._lock:
            if camera != self._camera or self._n_asked < min(len(self._seen), self._useful):
                return False
            return not self._are_coming(self._seen)

    def is_coming(self, blocks: np.ndarray) -> bool:
        """Whether any of these blocks is in view, counts there, is missing and will come. int64 [n]"""
        with self._lock:
            return self._are_coming(blocks[np.isin(blocks, self._seen[: self._n_asked])])

    def forget(self) -> None:
        """Forgets earlier views: the next look is the first."""
        with self._lock:
            self._motion.forget()
            self._demand.forget()
            self._looked, self._camera, self._target = -np.inf, None, None
            self._seen, self._n_asked = np.zeros(0, dtype=np.int64), 0

    def status(self) -> StreamStatus:
        """Returns what there is to say."""
        with self._lock:
            status = self.residency.status()
            n_seen = len(self._seen)
            return replace(
                status,
                n_wanted=n_seen,
                n_missing=status.n_missing + n_seen - self._n_asked,
                n_beyond=status.n_beyond + max(n_seen - self._useful, 0),
                target=self._target,
            )

    def set_budget(self, budget: MemoryBudget) -> None:
        """Works within another budget from now on; where it has other sizes, all blocks are fetched anew.

        Raises:
            InputError: The coarse stand-ins do not fit into it; then the budget stays as it was.
        """
        sizes, before = (budget.device, budget.host), (self._budget.device, self._budget.host)
        residency = self.residency if sizes == before else self._within(budget)
        grid = self._grid_of(residency)
        demand = _demand_of(grid, budget)
        if residency is not self.residency:
            self.residency.close()  # before anything is fetched into the other's memory
        with self._lock:
            self.residency, self._budget, self._grid, self._demand = residency, budget, grid, demand
            self._looked, self._camera = -np.inf, None
            self._seen, self._n_asked = np.zeros(0, dtype=np.int64), 0

    def close(self) -> None:
        """Ends fetching and gives all memory back."""
        self.residency.close()

    def _grid_of(self, residency: Residency) -> CityGrid:
        stream = residency.tables().stream
        assert stream is not None, "a residency's tables are streamed"
        return CityGrid.of(self._model, stream.coarse)

    def _wants(self, camera: Camera, views: Sequence[Camera]) -> Wants:
        self._seen, share, hidden = self._demand.seen(camera, hovers=not views)
        most = self._useful
        n_seen = self._n_asked = min(len(self._seen), most)
        taken = np.zeros(self._grid.n_blocks, dtype=bool)
        taken[self._seen] = taken[hidden] = True
        later = []
        n_more = most - n_seen
        for view in views:
            if n_more <= 0:
                break
            blocks = self._demand.soon(view, taken)
            later.append(blocks)
            n_more -= len(blocks)
            taken[blocks] = True
        sooner = [np.full(len(some), 1 / number) for number, some in enumerate(later, 1)]
        blocks = np.concatenate([self._seen[:n_seen], *later, hidden])[:most]
        priority = np.concatenate([share[:n_seen], *sooner, np.zeros(len(hidden))])[:most]
        versions = np.zeros(self._grid.n_blocks, dtype=np.int64)
        for variant in self._variants:
            versions[variant.block] = self.residency.number(variant)
        return Wants(blocks, versions[blocks], priority, np.arange(len(blocks)) >= n_seen)

    @property
    def _useful(self) -> int:
        """So many wants make sense: further ones would never come."""
        return SPARE_WANTS + 2 * self.residency.plan.n_blocks

    def _are_coming(self, blocks: np.ndarray) -> bool:
        """Whether any of these blocks, which were asked for, is not in the newest tables and will be."""
        shown = np.zeros(self._grid.n_blocks, dtype=bool)
        shown[self.residency.tables(self._variants).resident] = True
        status = self.residency.status()
        has_arrived = np.isin(status.states[blocks], ARRIVED)
        missing = blocks[~(shown[blocks] & has_arrived)]  # what has gone may still be shown
        if not len(missing):
            return False
        states = status.states[missing]
        if np.isin(states, ARRIVED).any():
            return True
        n_failed = (status.states[self._seen[: self._n_asked]] == FAILED).sum()
        n_coming = status.n_missing - status.n_beyond - int(n_failed)
        return n_coming > 0 and bool((states != FAILED).any())


def _demand_of(grid: CityGrid, budget: MemoryBudget) -> ViewDemand | Neighbourhood:
    if budget.neighbour_size is not None:
        return Neighbourhood(grid, budget.neighbour_size)
    return ViewDemand(grid, budget.detail)


def spread(views: Sequence[Camera]) -> tuple[Camera, ...]:
    """Picks at most MAX_VIEWS of the given ones, evenly, the last among them."""
    n = min(len(views), MAX_VIEWS)
    return tuple(views[(number + 1) * len(views) // n - 1] for number in range(n))


def _plan(camera: Camera) -> tuple[float, float]:
    x, y, _ = camera.eye.tolist()
    return x, y
