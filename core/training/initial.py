"""Initial values of the small networks, drawn from a generator as torch.nn.Linear draws them."""

from __future__ import annotations

import torch
from torch import Tensor

from ...cuda.tables import NerfWeights
from .settings import TrainSettings

NERF_VIEW_PE = 4  # frequencies of the NeRF branch's direction encoding
NERF_SKIP = 4  # the NeRF branch reads its input again after this layer, if further layers follow


def channels_of(settings: TrainSettings) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the channels of density and appearance, one number per direction each."""
    n = settings.directions
    return settings.density_channels[:n], settings.appearance_channels[:n]


def uniform(random: torch.Generator, n_out: int, n_in: int) -> Tensor:
    """Draws a weight matrix as torch.nn.Linear does: uniform within 1 / sqrt(n_in)."""
    weight: Tensor = (torch.rand(n_out, n_in, generator=random) * 2 - 1) * n_in**-0.5
    return weight


def linear(random: torch.Generator, n_out: int, n_in: int) -> tuple[Tensor, Tensor]:
    """Draws weight and bias as torch.nn.Linear does."""
    weight = uniform(random, n_out, n_in)
    return weight, (torch.rand(n_out, generator=random) * 2 - 1) * n_in**-0.5


def new_decoder(
    settings: TrainSettings, latent_dim: int, random: torch.Generator
) -> list[tuple[Tensor, Tensor | None]]:
    """Draws the colour network; the last bias, if there are any, is 0."""
    n_in = settings.feature_dim * (1 + 2 * max(settings.feature_pe, 0)) + latent_dim
    n_in += 3 + 6 * settings.view_pe if settings.view_pe > -1 else 0
    width = settings.decoder_width
    layers: list[tuple[Tensor, Tensor | None]] = []
    for n_out, n_from in ((width, n_in), (width, width), (3, width)):
        weight, bias = linear(random, n_out, n_from)
        layers.append((weight, bias if settings.bias else None))
    weight, bias_of_last = layers[2]
    layers[2] = (weight, None if bias_of_last is None else torch.zeros_like(bias_of_last))
    return layers


def new_nerf(settings: TrainSettings, latent_dim: int, random: torch.Generator) -> NerfWeights:
    """Draws a NeRF branch that reads codes of latent_dim numbers."""
    n_density, n_appearance = (len(settings.levels) * sum(n) for n in channels_of(settings))
    width, half = settings.nerf_width, settings.nerf_width // 2
    n_in = 3 + 6 * settings.nerf_frequencies + n_density
    skip = NERF_SKIP if settings.nerf_depth > NERF_SKIP + 1 else -1
    point_layers = [linear(random, width, n_in)]
    for number in range(1, settings.nerf_depth):
        point_layers.append(linear(random, width, width + (n_in if number == skip + 1 else 0)))
    view_layers = [linear(random, half, width + 3 + 6 * NERF_VIEW_PE + n_appearance + latent_dim)]
    view_layers += [linear(random, half, half) for _ in range(1, settings.nerf_color_depth)]
    return NerfWeights(
        point_layers=tuple(point_layers),
        density=linear(random, 1, width),
        feature=linear(random, width, width),
        view_layers=tuple(view_layers),
        color=linear(random, 3, half),
        point_pe=settings.nerf_frequencies,
        view_pe=NERF_VIEW_PE,
        skip=skip,
    )
