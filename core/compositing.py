"""From densities along rays to weights, opacity and depth."""

from __future__ import annotations

import torch
from torch import Tensor


def render_weights(sigma: Tensor, delta: Tensor) -> Tensor:
    """Weighs samples front to back (Eq. 3 of arxiv.org/abs/2003.08934, with LandMark's 1e-10).

    Args:
        sigma: Density. [n_rays, n_samples]
        delta: Length of the ray that each sample stands for, inverse unit of sigma. [n_rays, n_samples]

    Returns:
        Weights in [0, 1]. [n_rays, n_samples]
    """
    alpha = 1.0 - torch.exp(-sigma * delta)
    passed = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1.0 - alpha + 1e-10], dim=-1), dim=-1)
    return alpha * passed[:, :-1]


def median_depth(weights: Tensor, t: Tensor) -> Tensor:
    """Returns t of the first sample at which opacity reaches 0.5; 0 where it never does. [n_rays]"""
    reached = weights.cumsum(dim=-1) >= 0.5
    first = reached.to(torch.uint8).argmax(dim=-1, keepdim=True)
    return torch.where(reached.any(dim=-1), t.gather(1, first).squeeze(1), torch.zeros_like(t[:, 0]))
