"""Where the samples of a ray lie: LandMark's two rules, and the importance samples of its NeRF branch."""

from __future__ import annotations

import torch
from torch import Tensor


def sample_box(
    rays_o: Tensor,
    rays_d: Tensor,
    aabb: Tensor,
    near_far: tuple[float, float],
    step: Tensor,
    n_samples: int,
    jitter: Tensor | float = 0.0,
) -> Tensor:
    """Places samples `step` apart from where the ray enters the box (LandMark's `sample_ray`).

    The first sample lies on a face of the box to the rounding, so whether it counts as inside depends on
    every operation here being a separate float32 operation.

    Args:
        rays_o: Origins. [n_rays, 3]
        rays_d: Directions, t is measured in their length. [n_rays, 3]
        aabb: Bounding box, scene units. [2, 3]
        near_far: Bounds of the first sample.
        step: Distance between samples. scalar
        n_samples: Samples per ray.
        jitter: Shift of all samples of a ray, in steps (training). scalar or [n_rays, 1]

    Returns:
        Distances t, ascending. [n_rays, n_samples]
    """
    safe = torch.where(rays_d == 0, torch.full_like(rays_d, 1e-6), rays_d)
    to_high = (aabb[1] - rays_o) / safe
    to_low = (aabb[0] - rays_o) / safe
    t_first = torch.minimum(to_high, to_low).amax(dim=-1).clamp(*near_far)
    number = torch.arange(n_samples, dtype=torch.float32, device=rays_o.device)
    return t_first[:, None] + step * (number + jitter)


def sample_hull(
    rays_o: Tensor, rays_d: Tensor, aabb: Tensor, near_far: tuple[float, float], n_samples: int
) -> Tensor:
    """Spreads samples from the near bound to the floor of the box (LandMark's `sample_ray_within_hull`).

    The far end of a ray that reaches the floor is neither clamped to the far bound nor kept beyond near.

    Returns:
        Distances t. [n_rays, n_samples]
    """
    near, far = near_far
    to_floor = -(rays_o[:, 2] - aabb[0, 2]) / rays_d[:, 2]
    t_far = torch.where(rays_d[:, 2] >= 0, torch.full_like(to_floor, far), to_floor)[:, None]
    share = torch.linspace(0, 1, n_samples, device=rays_o.device)
    return near * (1 - share) + t_far * share


def sample_importance(t: Tensor, weights: Tensor, n_samples: int) -> Tensor:
    """Draws evenly spaced quantiles of the weights along each ray and merges them with the given samples."""
    u = torch.linspace(0, 1, n_samples, device=t.device).expand(len(t), -1).contiguous()
    return sample_quantiles(t, weights, u)


def sample_quantiles(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Draws quantiles of the weights along each ray and merges them with the given samples.

    Inverse transform sampling as in Eq. 5 of arxiv.org/abs/2003.08934.

    Args:
        t: Distances of the first samples, ascending. [n_rays, n]
        weights: Their weights. [n_rays, n]
        u: Quantiles in [0, 1]. [n_rays, n_samples]

    Returns:
        All distances, ascending. [n_rays, n + n_samples]
    """
    bins = 0.5 * (t[:, 1:] + t[:, :-1])
    inner = weights[:, 1:-1] + 1e-5
    cdf = torch.cumsum(inner / inner.sum(dim=-1, keepdim=True), dim=-1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], dim=-1)
    index = torch.searchsorted(cdf, u, right=True)
    low = (index - 1).clamp(min=0)
    high = index.clamp(max=cdf.shape[-1] - 1)
    cdf_low, cdf_high = cdf.gather(1, low), cdf.gather(1, high)
    bin_low, bin_high = bins.gather(1, low), bins.gather(1, high)
    width = cdf_high - cdf_low
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    drawn = bin_low + (u - cdf_low) / width * (bin_high - bin_low)
    return torch.sort(torch.cat([t, drawn], dim=-1), dim=-1).values


def spacings(t: Tensor, last: float) -> Tensor:
    """Returns the distance from each sample to the next, `last` for the last one. [n_rays, n]"""
    return torch.cat([t[:, 1:] - t[:, :-1], torch.full_like(t[:, :1], last)], dim=-1)
