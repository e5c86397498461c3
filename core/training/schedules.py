"""What changes with the iterations: resolution, learning rates, weights, background. Pure functions.

Iterations are counted from 0. Up-sampling, a new alpha mask and a new NeRF branch come after the step of
their iteration, so they count from the next one on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from .settings import TrainSettings

Bounds = Sequence[Sequence[float]]
GridSize = tuple[int, int, int]

_BACKGROUND_STREAM = 0x62617365  # keeps the coin apart from other random numbers of an iteration


def grid_size_for(n_voxels: int, bounds: Bounds) -> GridSize:
    """Returns the vertices along x, y, z that about n_voxels cubes need to fill the bounds.

    Float32 throughout, since the quotients are cut to integers (LandMark's `n_to_reso`).
    """
    low, high = torch.tensor(bounds, dtype=torch.float32)
    voxel = ((high - low).prod() / n_voxels).pow(1 / 3)
    x, y, z = ((high - low) / voxel).long().clamp(min=2).tolist()
    return x, y, z


def voxel_counts(settings: TrainSettings) -> tuple[int, ...]:
    """Returns the number of voxels from the start on and after each up-sampling, evenly spaced in log."""
    start, end = math.log(settings.voxels_start), math.log(settings.voxels_end)
    later = torch.linspace(start, end, len(settings.upsample_at) + 1).exp().round().long().tolist()[1:]
    return (settings.voxels_start, *later)


def grid_size_at(settings: TrainSettings, bounds: Bounds, iteration: int) -> GridSize:
    """Returns the vertices of level 0 with which an iteration runs."""
    n_behind = sum(at < iteration for at in settings.upsample_at)
    return grid_size_for(voxel_counts(settings)[n_behind], bounds)


def learning_rates_at(settings: TrainSettings, iteration: int) -> tuple[float, float, float]:
    """Returns the learning rates of planes and lines, of decoder, bases and codes, and of the NeRF branch.

    They decay at every iteration and start anew after each up-sampling and with the NeRF branch: from their
    first values, or without `reset_learning_rate` from what is left of them then (but for the branch).
    """
    restarts = [at for at in (*settings.upsample_at, settings.nerf_from) if 0 <= at < iteration]
    last = max(restarts, default=-1)
    decay = settings.decay_factor ** (iteration - last - 1)
    base = 1.0
    if restarts and not settings.reset_learning_rate:
        base = settings.decay_ratio ** (last / settings.iterations)
    return (
        settings.learning_rate * base * decay,
        settings.network_learning_rate * base * decay,
        settings.nerf_learning_rate * decay,
    )


def tv_factor_at(settings: TrainSettings, iteration: int) -> float:
    """Returns what is left of the weights of total variation; they never start anew."""
    return settings.decay_factor ** (iteration + 1)


def distortion_weight_at(settings: TrainSettings, iteration: int) -> float:
    """Returns the weight of the distortion loss."""
    return settings.distortion_weight if 0 <= settings.distortion_from <= iteration else 0.0


def sample_step(settings: TrainSettings, bounds: Bounds, grid_size: GridSize) -> float:
    """Returns the distance between box samples, scene units: the mean voxel side times step_ratio."""
    low, high = torch.tensor(bounds, dtype=torch.float32)
    units = (high - low) / (torch.tensor(grid_size) - 1)
    return float(units.mean() * settings.step_ratio)


def sample_count(settings: TrainSettings, grid_size: GridSize) -> int:
    """Returns the box samples per ray: the grid's diagonal in steps, but 1 to `max_samples`."""
    return min(settings.max_samples, max(int(math.hypot(*grid_size) / settings.step_ratio), 1))


def background_at(settings: TrainSettings, iteration: int) -> tuple[float, float, float]:
    """Returns white, or without `white_background` white or black by a coin of seed and iteration."""
    if settings.white_background:
        return (1.0, 1.0, 1.0)
    stream = np.random.SeedSequence(settings.seed, spawn_key=(_BACKGROUND_STREAM, iteration))
    shade = float(np.random.default_rng(stream).integers(2))
    return (shade, shade, shade)
