"""How good a picture can be: the resolution while moving, and the steps of refinement at rest.

Pure: measured milliseconds in, decisions out. A scale is a share of the full resolution per side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median

from ..core.camera import SCALES
from ..cuda.tables import Quality

SETTLE = 0.15  # seconds without a move after which the camera counts as resting

OVERHEAD = 0.02  # cost of a picture that does not shrink with its pixels, as a share of the full picture's
TOO_SLOW = 1.05  # coarser when a picture is expected to take longer than this many targets
ROOMY = 0.75  # finer when the finer picture is expected to take less than this many targets
HOPELESS = 4.0  # more than one step coarser only when over the target by this
MEMORY = 3  # pictures that an estimate rests on
FLICKER = 12  # pictures: a finer scale given up within so many is tried again later
LONGEST_WAIT = 120  # pictures


@dataclass(frozen=True)
class ScaleController:
    """Chooses the scale of moving pictures from what the last few cost. `after` returns the next one.

    The estimate is the median of the last three pictures (the lower of two), so that a single slow one
    changes nothing. It goes coarser by one step per picture, by more only when far over the target; it goes
    finer when all three agree that there is room. A finer scale that had to be given up at once is tried
    again ever later.
    """

    target_ms: float
    floor: float = 0.25  # coarsest scale allowed
    scale: float = 0.5  # for the next picture
    costs: tuple[float, ...] = ()  # the newest last: estimated ms of a picture in full resolution
    patience: int = 0  # pictures to wait after going coarser before going finer again
    waited: int = 0  # pictures since the last time coarser
    age: int = FLICKER  # pictures since the last time finer

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales that may be chosen, finest first."""
        return (*(scale for scale in SCALES if scale > self.floor), min(self.floor, 1.0))

    def after(self, ms: float, scale: float) -> ScaleController:
        """Takes in one measured picture: its milliseconds and the scale it was rendered at."""
        if not (math.isfinite(ms) and ms > 0 and scale > 0):
            return self
        cost = ms * _share(1.0) / _share(scale)
        seen = replace(
            self,
            costs=(*self.costs, cost)[-MEMORY:],
            waited=min(self.waited + 1, LONGEST_WAIT),
            age=min(self.age + 1, FLICKER),
        )
        return seen._coarser() or seen._finer() or seen

    def expected_ms(self, scale: float) -> float:
        """Returns the milliseconds that a picture of a scale should take; 0 before the first picture."""
        return self._typical * _share(scale) / _share(1.0)

    def wanting(self, target_ms: float, floor: float) -> ScaleController:
        """Returns the controller with other wishes."""
        if (target_ms, floor) == (self.target_ms, self.floor):
            return self
        wanting = replace(self, target_ms=target_ms, floor=floor, patience=0)
        return replace(wanting, scale=min(wanting.scales, key=lambda scale: abs(scale - self.scale)))

    def resized(self, area_ratio: float) -> ScaleController:
        """Returns the controller for a viewport with `area_ratio` times the pixels."""
        costs = tuple(cost * area_ratio for cost in self.costs)
        sized = replace(self, costs=costs, patience=0)
        if not costs:
            return sized
        fitting = [scale for scale in sized.scales if sized.expected_ms(scale) <= self.target_ms]
        return replace(sized, scale=fitting[0] if fitting else sized.scales[-1])

    @property
    def _typical(self) -> float:
        if not self.costs:
            return 0.0
        return median(self.costs) if len(self.costs) == MEMORY else min(self.costs)

    def _coarser(self) -> ScaleController | None:
        over = self.expected_ms(self.scale) / self.target_ms
        coarser = [scale for scale in self.scales if scale < self.scale]
        if over <= TOO_SLOW or not coarser:
            return None
        chosen = coarser[0]
        if over > HOPELESS and len(self.costs) > 1:
            fitting = [scale for scale in coarser if self.expected_ms(scale) <= self.target_ms]
            chosen = fitting[0] if fitting else coarser[-1]
        patience = min(max(2 * self.patience, FLICKER), LONGEST_WAIT) if self.age < FLICKER else 0
        return replace(self, scale=chosen, patience=patience, waited=0)

    def _finer(self) -> ScaleController | None:
        finer = [scale for scale in self.scales if scale > self.scale]
        if not finer or len(self.costs) < MEMORY or self.waited < self.patience:
            return None
        worst = max(self.costs) / _share(1.0)
        fitting = [scale for scale in finer if worst * _share(scale) < ROOMY * self.target_ms]
        return replace(self, scale=fitting[0], age=0) if fitting else None


@dataclass(frozen=True)
class Stage:
    """One step of the refinement at rest."""

    quality: Quality
    scale: float
    warped: bool = False  # shows keyframes from elsewhere: close to its quality, but not it


def rest_stages(shown: Stage | None, at_rest: Quality, resolution: float = 1.0) -> tuple[Stage, ...]:
    """Returns the steps to the resting picture: something soon, then all pixels, then the wanted quality.

    Args:
        shown: What is already shown of this very view; None when nothing is.
        at_rest: The quality that is wanted in the end.
        resolution: The scale that is wanted in the end.
    """
    final = Stage(at_rest, resolution)
    ladder = [Stage(Quality.FAST, resolution / 2), Stage(Quality.FAST, resolution), final]
    if shown is not None:
        ladder = [final] if shown.scale == resolution else ladder[1:]
    if shown == final:
        return ()
    return tuple(dict.fromkeys(ladder))


def _share(scale: float) -> float:
    """Cost of a scale, up to a factor."""
    return scale * scale + OVERHEAD
