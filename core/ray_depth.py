"""How far a single ray goes until it meets a surface, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from .reference import render_rays
from .render import Renderer, RenderSettings, options_for

TRUSTED = 0.02  # share of the picked distance by which the marched one may differ and still replace it
TRUSTED_STEPS = 4  # or so many steps between samples


@dataclass(frozen=True)
class RayDepth:
    """What a ray meets; distances in lengths of its direction."""

    depth: float  # of the surface
    spread: float | None  # standard deviation of the ray's weights around it; None: it meets no surface


def ray_depth(
    renderer: Renderer, settings: RenderSettings, origin: ArrayLike, direction: ArrayLike, picked: float
) -> RayDepth:
    """Marches one ray through every sample that the picture has.

    The depth is that at which half the light is absorbed, as in the picture. Where it lies far from what was
    picked, as beside the edge of a roof that was picked from a coarser picture, the picked depth stays, and
    the spread says how little that ray knows of it. The step between samples adds step / sqrt(12) of its own.

    Args:
        renderer: Of the scene.
        settings: Its appearance does not matter, its edits do.
        origin: Of the ray, scene units. [3]
        direction: Of the ray; z-depth is found for one with a z-depth of 1. [3]
        picked: Depth that was picked, in lengths of `direction`.
    """
    t, weights = _march(renderer, settings, origin, direction)
    reached = np.cumsum(weights) >= 0.5
    if not reached.any():
        return RayDepth(picked, None)
    median = float(t[reached.argmax()])
    step = float(np.diff(t[: reached.argmax() + 2][-2:])[0]) if len(t) > 1 else 0.0
    trusted = abs(median - picked) <= max(TRUSTED * picked, TRUSTED_STEPS * step)
    depth = median if trusted else picked
    variance = float((weights * (t - depth) ** 2).sum() / weights.sum()) + step**2 / 12
    return RayDepth(depth, math.sqrt(variance))


def _march(
    renderer: Renderer, settings: RenderSettings, origin: ArrayLike, direction: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distances of the samples and what each contributes. [n] each"""
    edits = settings.edits
    model = edits.model if edits else renderer.model
    rays_o, rays_d = (
        torch.as_tensor(np.asarray(vector, dtype=np.float32)).reshape(1, 3) for vector in (origin, direction)
    )
    with torch.no_grad():
        options = options_for(model, settings)
        seen = render_rays(model, rays_o, rays_d, options, edits.sources if edits else ())
    return seen.t[0].double().numpy(), seen.weights[0].double().numpy()
