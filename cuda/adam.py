"""Adam, and how it moves planes under total variation and L1, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .train_tables import Gradients, PlaneUpdate, TrainTables


def adam_step(
    parameter: Tensor,
    gradient: Tensor,
    moments: tuple[Tensor, Tensor],
    learning_rate: float,
    count: int,
    betas: tuple[float, float] = (0.9, 0.99),
    epsilon: float = 1e-8,
) -> None:
    """Moves a parameter in place as torch.optim.Adam does (Algorithm 1 of arxiv.org/abs/1412.6980).

    Args:
        parameter: Of any shape.
        gradient: As the parameter.
        moments: Running means of the gradient and of its square, updated in place.
        learning_rate: Step size.
        count: Steps since the moments were zero, this one included.
        betas: Decay of the two moments.
        epsilon: Keeps the division finite.
    """
    mean, square = moments
    mean.lerp_(gradient, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(gradient, gradient, value=1 - betas[1])
    root = square.sqrt().div_((1 - betas[1] ** count) ** 0.5).add_(epsilon)
    parameter.addcdiv_(mean, root, value=-learning_rate / (1 - betas[0] ** count))


@torch.no_grad()
def update_planes(tables: TrainTables, gradients: Gradients, update: PlaneUpdate) -> None:
    """Adds the gradients of total variation and L1 to those of the data, in place, and moves the planes."""
    assert gradients.density_planes is not None
    assert gradients.appearance_planes is not None
    betas = (update.beta1, update.beta2)
    groups = (
        (tables.density_planes, gradients.density_planes, update.density_moments),
        (tables.appearance_planes, gradients.appearance_planes, update.appearance_moments),
    )
    _regularize(*groups[0][:2], tables.density_channels, update.tv_density, update.l1_density)
    _regularize(*groups[1][:2], tables.appearance_channels, update.tv_appearance, 0.0)
    for planes, found, moments in groups:
        for plane, gradient, held in zip(planes, found, moments, strict=True):
            adam_step(plane, gradient, held, update.learning_rate, update.count, betas, update.epsilon)


def _regularize(
    planes: Sequence[Tensor], gradients: Sequence[Tensor], channels: tuple[int, ...], tv: float, l1: float
) -> None:
    """Adds the gradients of PlaneUpdate's total variation and L1; channels: one per direction."""
    n_levels = len(planes) // len(channels)
    for p, (plane, gradient) in enumerate(zip(planes, gradients, strict=True)):
        _, n_v, n_u, _ = plane.shape
        n_entries = n_v * n_u * channels[p // n_levels]
        if l1:
            gradient.add_(plane.sign(), alpha=l1 / n_entries)
        for axis, n in ((1, n_v), (2, n_u)):
            if tv and n > 1:
                difference = plane.diff(dim=axis).mul_(4 * tv * n / (n_entries * (n - 1)))
                gradient.narrow(axis, 1, n - 1).add_(difference)
                gradient.narrow(axis, 0, n - 1).sub_(difference)
