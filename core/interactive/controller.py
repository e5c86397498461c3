"""How many rays a picture may cost, and at which resolution the engine works, from what pictures took.

Pure: measured milliseconds in, a budget and a scale out. A scale is a share of the full resolution per side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import median_low

import numpy as np

from ..camera import SCALES
from .contracts import Budget

AIM = 0.87  # share of the wanted time between two pictures that is planned with; the rest is for slow ones
USUAL_PIXELS, USUAL_MS = 640 * 360, 1000 / 30  # what the numbers of rays below are for
LATEST = 0.6  # seconds after which a keyframe should have come
TOLERABLE = 0.7  # seconds after which it may come, before that costs resolution
LEAST_KEY = USUAL_PIXELS * USUAL_MS / (1000 * LATEST)
# Rays for the keyframe, holes and silhouettes; what lies between two rows is between them. The last row is a
# picture as it should be; with more rays all three grow alike, with fewer than in the first all shrink.
DEALS = np.array(
    [
        (LEAST_KEY, 600, 600),
        (LEAST_KEY, 2_000, 1_500),
        (14_080, 2_000, 1_500),
        (14_080, 3_520, 1_500),
        (14_080, 3_520, 4_400),
    ]
)
NEEDED = LEAST_KEY * LATEST / TOLERABLE, 1_500, 2_000  # the same, what a scale should have
CHECKS = 128
LEAST = Budget(total=512, key=256, fill=192, edge=64, check=32)  # whatever a ray costs

WARP_SHARE = 0.4  # of the time between two pictures that warping may take
OVERHEAD = 0.02  # cost of a warp that does not shrink with its pixels, as a share of that in full resolution
MEMORY = 3  # pictures whose median counts
SMOOTH = 0.4  # weight of the newest median
ENOUGH = 256  # rays by which the cost of one is known
GIVEN_UP, LATE = 0.75, 12  # a scale must fit by less than this share, in so many pictures in a row
HOPELESS = 0.3  # by less than this share: it is given up at once
ROOMY, EARLY = 1.05, 30  # a finer scale must fit so many times over, in so many pictures in a row
FLICKER, LONGEST_WAIT = 90, 1800  # pictures: a finer scale given up within so many is tried again later


@dataclass(frozen=True)
class Controller:
    """Turns measured milliseconds into the budget and the scale of the next picture.

    It estimates what a ray costs and what warping costs besides, each from the median of the last three
    pictures and smoothed, so that a single slow one changes nothing. The rays that fit are dealt out such
    that silhouettes lose first, then holes, and the next keyframe last: one that comes late leaves more
    holes, and so on.

    The scale goes down when the keyframe would come too late nevertheless, or when warping alone takes too
    much of the time. A change of scale costs a keyframe, so it waits until that is certain, and a finer scale
    that had to be given up soon is tried again ever later.
    """

    target_ms: float  # wanted between two pictures
    pixels: int  # of a picture in full resolution
    floor: float = 0.25  # coarsest scale allowed
    scale: float = 1.0  # for the next picture
    ray_ms: float = 1.3e-3  # estimated for one ray, with the threads that there are
    warp_ms: float = 20.0  # estimated for a million pixels
    key_area: float = 1.0  # pixels of a keyframe, as a share of those of a picture
    costs: tuple[tuple[float, float], ...] = ()  # ray_ms and warp_ms of the last pictures, the newest last
    late: int = 0  # pictures in a row for which the scale was too fine
    roomy: int = 0  # pictures in a row for which a finer scale would have done
    patience: int = 0  # pictures to wait after going coarser before going finer again
    waited: int = 0  # pictures since the last time coarser
    age: int = FLICKER  # pictures since the last time finer

    @property
    def scales(self) -> tuple[float, ...]:
        """The scales that may be chosen, finest first."""
        return (*(scale for scale in SCALES if scale > self.floor), min(self.floor, 1.0))

    @property
    def budget(self) -> Budget:
        """Rays of the next picture, rendered at `scale`."""
        return self.budget_at(self.scale)

    def budget_at(self, scale: float) -> Budget:
        """Returns the rays of a picture that is rendered at another scale, whoever wishes it."""
        area = self.pixels * scale**2
        room = self._room(scale)
        check = min(room / 32, CHECKS)
        dealt = *_dealt(room - check, self._deals * self._unit(scale)), check
        least = LEAST.key, LEAST.fill, LEAST.edge, LEAST.check
        key, fill, edge, check = (
            round(min(max(each, few), area / 2)) for each, few in zip(dealt, least, strict=True)
        )
        return Budget(key + fill + edge, key, fill, edge, check)

    def expected_ms(self, rays: int, scale: float) -> float:
        """Returns the milliseconds that a picture with so many rays should take at a scale."""
        return self._warp(scale) + self.ray_ms * rays

    def after(
        self, display_ms: float, fresh_rays: int, refine_ms: float, refined_rays: int, scale: float
    ) -> Controller:
        """Takes in one measured picture of a moving camera: any but a keyframe that is shown as it is.

        Args:
            display_ms: Until it was finished, its fresh rays included.
            fresh_rays: Of this picture, checks and those of a coarse stand-in included.
            refine_ms: Spent on the next keyframe afterwards.
            refined_rays: Of the next keyframe in that time; few or 0: it says nothing.
            scale: At which the picture was rendered.
        """
        times = (display_ms, refine_ms, scale)
        if not all(map(math.isfinite, times)) or display_ms <= 0 or refine_ms < 0 or scale <= 0:
            return self
        megapixels = self._megapixels(scale)
        if refined_rays >= ENOUGH and refine_ms > 0:
            ray = refine_ms / refined_rays
            warp = max(display_ms - ray * fresh_rays, 0.02 * display_ms) / megapixels
        else:  # only how fast the machine is as a whole can be told
            slower = display_ms / self.expected_ms(fresh_rays, scale)
            ray, warp = self.ray_ms * slower, self.warp_ms * slower
        costs = (*self.costs, (ray, warp))[-MEMORY:]
        weight = SMOOTH if len(costs) == MEMORY else 1.0
        ray, warp = (median_low(each) for each in zip(*costs, strict=True))
        seen = replace(
            self,
            ray_ms=self.ray_ms + weight * (ray - self.ray_ms),
            warp_ms=self.warp_ms + weight * (warp - self.warp_ms),
            costs=costs,
            waited=min(self.waited + 1, LONGEST_WAIT),
            age=min(self.age + 1, FLICKER),
        )
        return seen._rescaled()

    def keying(self, area: float) -> Controller:
        """Returns the controller for keyframes with a share of a picture's pixels."""
        return self if area == self.key_area else replace(self, key_area=area)

    def wanting(self, target_ms: float, floor: float) -> Controller:
        """Returns the controller with other wishes."""
        if (target_ms, floor) == (self.target_ms, self.floor):
            return self
        return replace(self, target_ms=target_ms, floor=floor)._fitted()

    def resized(self, area_ratio: float) -> Controller:
        """Returns the controller for a viewport with `area_ratio` times the pixels."""
        return replace(self, pixels=max(round(self.pixels * area_ratio), 1))._fitted()

    def _fitted(self) -> Controller:
        """Returns the controller for other circumstances: with the scale that its estimates ask for now."""
        scale = min(self.scales, key=lambda scale: abs(scale - self.scale))
        if self.costs:
            fitting = [each for each in self.scales if self._fit(each) >= (ROOMY if each > scale else 1)]
            scale = max(
                [*fitting, *([scale] if self._fit(scale) >= GIVEN_UP else [])], default=self.scales[-1]
            )
        return replace(self, scale=scale, late=0, roomy=0, patience=0)

    def _rescaled(self) -> Controller:
        """Returns the controller with another scale, if the last pictures are enough to ask for one."""
        finer = [scale for scale in self.scales if scale > self.scale and self._fit(scale) >= ROOMY]
        fit = self._fit(self.scale)
        counted = replace(
            self, late=self.late + 1 if fit < GIVEN_UP else 0, roomy=self.roomy + 1 if finer else 0
        )
        if counted.late >= LATE or (len(self.costs) == MEMORY and fit < HOPELESS):
            return counted._coarser()
        if finer and counted.roomy >= EARLY and self.waited >= self.patience:
            return replace(counted, scale=finer[0], roomy=0, age=0)
        return counted

    def _coarser(self) -> Controller:
        coarser = [scale for scale in self.scales if scale < self.scale]
        if not coarser:
            return self
        fitting = [scale for scale in coarser if self._fit(scale) >= 1]
        patience = min(max(2 * self.patience, FLICKER), LONGEST_WAIT) if self.age < FLICKER else 0
        return replace(
            self, scale=fitting[0] if fitting else coarser[-1], late=0, roomy=0, patience=patience, waited=0
        )

    def _fit(self, scale: float) -> float:
        """Returns how many times over a scale would fit; it does from 1 on."""
        key, *others = NEEDED
        rays = (key * self.key_area + sum(others)) * self._unit(scale) + CHECKS
        warp_ms = max(self._warp(scale), 1e-6)
        return min(self._room(scale) / rays, WARP_SHARE * self.target_ms / warp_ms)

    @property
    def _deals(self) -> np.ndarray:
        """DEALS for keyframes of the size that they have."""
        deals = DEALS.copy()
        deals[deals[:, 0] <= LEAST_KEY, 0] *= self.key_area  # what goes beyond makes them come sooner
        return deals

    def _unit(self, scale: float) -> float:
        """Returns by what the usual numbers of rays are multiplied: for the pixels and the time they have."""
        return self.pixels * scale**2 / USUAL_PIXELS * self.target_ms / USUAL_MS

    def _room(self, scale: float) -> float:
        """Returns the rays that fit a picture."""
        return max(AIM * self.target_ms - self._warp(scale), 0.0) / max(self.ray_ms, 1e-9)

    def _warp(self, scale: float) -> float:
        return self.warp_ms * self._megapixels(scale)

    def _megapixels(self, scale: float) -> float:
        return self.pixels * (scale**2 + OVERHEAD) / 1e6


def _dealt(rays: float, deals: np.ndarray) -> tuple[float, float, float]:
    """Deals rays out to the keyframe, to holes and to silhouettes; rows as in DEALS."""
    sums = deals.sum(axis=1)
    known = min(max(rays, sums[0]), sums[-1])
    key, fill, edge = (float(np.interp(known, sums, part)) * max(rays, 0.0) / known for part in deals.T)
    return key, fill, edge
