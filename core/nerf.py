"""LandMark's NeRF branch over a model's planes and lines."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cuda.tables import NerfWeights
from .gridnerf import GridNeRF, positional_encoding


def nerf_outputs(
    model: GridNeRF, nerf: NerfWeights, points: Tensor, directions: Tensor, latent: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns raw density [n] and colour [n, 3].

    Args:
        model: Supplies plane times line products as further inputs.
        nerf: The branch's weights.
        points: Positions in scene units. [n, 3]
        directions: Ray directions, not normalised. [n, 3]
        latent: Appearance embedding, one for all or one for each. [latent_dim] or [n, latent_dim]
    """
    device = points.device

    def layer(values: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return F.linear(values, weights[0].to(device), weights[1].to(device))

    inputs = torch.cat(
        [points, positional_encoding(points, nerf.point_pe), model.density_products(points)], dim=-1
    )
    hidden = inputs
    for number, weights in enumerate(nerf.point_layers):
        hidden = torch.relu(layer(hidden, weights))
        if number == nerf.skip:
            hidden = torch.cat([inputs, hidden], dim=-1)
    raw = layer(hidden, nerf.density).squeeze(-1)
    view = [
        layer(hidden, nerf.feature),
        directions,
        positional_encoding(directions, nerf.view_pe),
        model.appearance_products(points),
    ]
    if latent is not None:
        view.append(latent.to(device).expand(len(points), -1))
    hidden = torch.cat(view, dim=-1)
    for weights in nerf.view_layers:
        hidden = torch.relu(layer(hidden, weights))
    return raw, torch.sigmoid(layer(hidden, nerf.color))
