"""One training step: the kernels move the planes, this module everything else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...cuda import ops
from ...cuda.adam import adam_step
from ...cuda.train_tables import Gradients, PlaneUpdate, RayBatch, StepResult, TrainOptions
from . import schedules
from .initial import channels_of
from .losses import TV_SCALE, l1, orthogonality
from .parameters import FieldParameters, name_small, name_tables


def train_step(
    parameters: FieldParameters,
    batch: RayBatch,
    iteration: int,
    extra_loss: Callable[[Tensor], Tensor] | None = None,
) -> StepResult:
    """Trains the field on one batch, in place, with the weights and rates of an iteration.

    Args:
        parameters: The field.
        batch: Rays, colours and random numbers, on the field's device.
        iteration: Counted from 0.
        extra_loss: Of the predicted rgb [n_rays, 3], already weighted (LPIPS).

    Returns:
        What the step found; without gradients of planes, which are moved already.
    """
    settings = parameters.settings
    rates = schedules.learning_rates_at(settings, iteration)
    options = options_for(parameters, iteration, extra_loss)
    update = plane_update(parameters, iteration)
    needs_autograd = parameters.nerf is not None or extra_loss is not None
    backend = "torch" if needs_autograd else settings.backend
    result = ops.train_step(parameters.tables(), batch, options, update, backend)
    gradients = _named_gradients(result.gradients)
    _add_line_losses(parameters, gradients)
    named = parameters.named()
    for key, gradient in gradients.items():
        rate = rates[0] if "_line." in key else rates[2] if key.startswith("nerf.") else rates[1]
        adam_step(named[key], gradient, parameters.moments[key], rate, update.count)
    parameters.count = update.count
    return result


def options_for(
    parameters: FieldParameters, iteration: int, extra_loss: Callable[[Tensor], Tensor] | None = None
) -> TrainOptions:
    """Returns how a batch is rendered and which losses count at an iteration."""
    settings = parameters.settings
    near, far = parameters.near_far
    return TrainOptions(
        near=near,
        far=far,
        step=schedules.sample_step(settings, parameters.aabb.tolist(), parameters.grid_size),
        n_samples=schedules.sample_count(settings, parameters.grid_size),
        distance_scale=settings.distance_scale,
        weight_threshold=settings.weight_threshold,
        mask_threshold=settings.mask_filter_threshold,
        background=schedules.background_at(settings, iteration),
        distortion_weight=schedules.distortion_weight_at(settings, iteration),
        residual_nerf=settings.residual_nerf,
        extra_loss=extra_loss,
        threads=settings.threads,
    )


def plane_update(parameters: FieldParameters, iteration: int) -> PlaneUpdate:
    """Returns how the planes are to be moved at an iteration."""
    settings, moments = parameters.settings, parameters.moments
    factor = schedules.tv_factor_at(settings, iteration) * TV_SCALE
    n_tables = range(len(parameters.density_planes))
    return PlaneUpdate(
        density_moments=tuple(moments[f"density_plane.{p}"] for p in n_tables),
        appearance_moments=tuple(moments[f"app_plane.{p}"] for p in n_tables),
        learning_rate=schedules.learning_rates_at(settings, iteration)[0],
        count=parameters.count + 1,
        tv_density=settings.tv_density_weight * factor,
        tv_appearance=settings.tv_appearance_weight * factor,
        l1_density=settings.l1_weight,
    )


def _named_gradients(gradients: Gradients) -> dict[str, Tensor]:
    """Returns all gradients but the planes' under the keys of their parameters."""
    return {
        **name_tables("density_line", gradients.density_lines),
        **name_tables("app_line", gradients.appearance_lines),
        **name_small(
            gradients.basis,
            gradients.layers,
            gradients.density_basis,
            gradients.embedding,
            gradients.nerf,
        ),
    }


def _add_line_losses(parameters: FieldParameters, gradients: dict[str, Tensor]) -> None:
    """Adds the gradients of the lines' L1 and orthogonality to those of the data, in place."""
    settings = parameters.settings
    if not settings.orthogonality_weight and not settings.l1_weight:
        return
    density, appearance = channels_of(settings)
    leaves: dict[str, list[Tensor]] = {}
    groups = (
        ("density_line", parameters.density_lines, density),
        ("app_line", parameters.appearance_lines, appearance),
    )
    for name, lines, channels in groups:
        for p, line in enumerate(lines):
            unpadded = line[..., : channels[p // len(settings.levels)]]
            leaves[f"{name}.{p}"] = [block.detach().T.requires_grad_() for block in unpadded]
    every = [line for blocks in leaves.values() for line in blocks]
    loss = torch.zeros((), device=parameters.device)
    if settings.orthogonality_weight:
        loss = loss + settings.orthogonality_weight * orthogonality(every)
    if settings.l1_weight:
        loss = loss + settings.l1_weight * l1(every[: len(parameters.density_lines) * settings.n_blocks])
    torch.autograd.backward(loss)
    for key, blocks in leaves.items():
        for block, leaf in enumerate(blocks):
            if leaf.grad is not None:
                gradients[key][block, :, : len(leaf)] += leaf.grad.T
