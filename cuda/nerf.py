"""LandMark's NeRF branch in plain torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .decoder import encode
from .tables import NerfWeights


def nerf_outputs(
    nerf: NerfWeights,
    points: Tensor,
    directions: Tensor,
    products: tuple[Tensor, Tensor],
    latent: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Returns raw density [n] and colour [n, 3] of the NeRF branch.

    Args:
        nerf: The branch's weights.
        points: Positions in scene units. [n, 3]
        directions: Ray directions, not normalised. [n, 3]
        products: Plane times line of every density level and of every appearance level.
        latent: Appearance embedding, one for all or one for each. [latent_dim] or [n, latent_dim]
    """
    device = points.device

    def layer(values: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return F.linear(values, weights[0].to(device), weights[1].to(device))

    inputs = torch.cat([points, encode(points, nerf.point_pe), products[0]], dim=-1)
    hidden = inputs
    for number, weights in enumerate(nerf.point_layers):
        hidden = torch.relu_(layer(hidden, weights))
        if number == nerf.skip:
            hidden = torch.cat([inputs, hidden], dim=-1)
    raw = layer(hidden, nerf.density).squeeze(-1)
    seen = [layer(hidden, nerf.feature), directions, encode(directions, nerf.view_pe), products[1]]
    if latent is not None:
        seen.append(latent.to(device).expand(len(points), -1))
    hidden = torch.cat(seen, dim=-1)
    for weights in nerf.view_layers:
        hidden = torch.relu_(layer(hidden, weights))
    return raw, torch.sigmoid(layer(hidden, nerf.color))
