"""Training as LandMark defines it: dense tensors, torch autograd and torch.optim.Adam, to be read.

It is the oracle of the kernels and of their twin, and runs on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...cuda.train_tables import RayBatch, TrainOptions
from ..compositing import render_weights
from ..gridnerf import FieldBlock, GridNeRF, Parts
from ..reference import render_nerf
from ..sampling import sample_box, sample_hull, sample_quantiles, spacings
from . import losses
from .parameters import FieldParameters, name_small


@dataclass(frozen=True)
class BatchLosses:
    """What a batch says of the field; every loss is weighted."""

    rgb: Tensor  # [n_rays, 3]
    loss: Tensor
    hull_loss: Tensor
    nerf_loss: Tensor
    distortion: Tensor
    extra: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum."""
        return self.loss + self.hull_loss + self.nerf_loss + self.distortion + self.extra


class ReferenceTraining:
    """A copy of a field in LandMark's layout, trained from iteration 0 on as LandMark's loop does."""

    def __init__(self, parameters: FieldParameters) -> None:
        self.settings = settings = parameters.settings
        self.model = _trainable(parameters.model())
        self.tv_density, self.tv_appearance = settings.tv_density_weight, settings.tv_appearance_weight
        groups: dict[float, list[Tensor]] = {}
        for key, blocks in self.named().items():
            rate = settings.network_learning_rate
            if "_plane." in key or "_line." in key:
                rate = settings.learning_rate
            elif key.startswith("nerf."):
                rate = settings.nerf_learning_rate
            groups.setdefault(rate, []).extend(blocks)
        self.optimizer = torch.optim.Adam(
            [{"params": group, "lr": rate} for rate, group in groups.items()], betas=(0.9, 0.99)
        )

    def named(self) -> dict[str, list[Tensor]]:
        """Returns every parameter under its LandMark key: planes and lines of all blocks, else a single one.

        Planes are [channels, n_v, n_u], lines [channels, n_w].
        """
        model = self.model
        blocks = [block for block in model.blocks if block is not None]
        named = {}
        for key, attribute in (
            ("density_plane", "density_planes"),
            ("density_line", "density_lines"),
            ("app_plane", "appearance_planes"),
            ("app_line", "appearance_lines"),
        ):
            for p in range(len(blocks[0].density_planes)):
                named[f"{key}.{p}"] = [getattr(block, attribute)[p][0] for block in blocks]
        small = name_small(
            model.decoder.basis, model.decoder.layers, model.density_basis, model.embedding, model.nerf
        )
        return named | {key: [tensor] for key, tensor in small.items()}

    def step(self, batch: RayBatch, options: TrainOptions) -> BatchLosses:
        """Trains on one batch; the gradients stay in the parameters until the next step."""
        factor = self.settings.decay_factor
        self.tv_density *= factor
        self.tv_appearance *= factor
        found = batch_losses(self.model, batch, options)
        self.optimizer.zero_grad()
        torch.autograd.backward(found.total + self.regularization())
        self.optimizer.step()
        for group in self.optimizer.param_groups:
            group["lr"] *= factor
        return found

    def regularization(self) -> Tensor:
        """Returns the losses of the parameters alone; every block has its own terms."""
        named = self.named()

        def of(name: str) -> Iterator[Tensor]:
            return (leaf for key, blocks in named.items() if key.startswith(name) for leaf in blocks)

        density_tv = torch.stack([losses.total_variation(plane) for plane in of("density_plane")]).sum()
        appearance_tv = torch.stack([losses.total_variation(plane) for plane in of("app_plane")]).sum()
        return (
            self.tv_density * losses.TV_SCALE * density_tv
            + self.tv_appearance * losses.TV_SCALE * appearance_tv
            + self.settings.l1_weight * losses.l1([*of("density_plane"), *of("density_line")])
            + self.settings.orthogonality_weight
            * losses.orthogonality([*of("density_line"), *of("app_line")])
        )


def batch_losses(model: GridNeRF, batch: RayBatch, options: TrainOptions) -> BatchLosses:
    """Renders a batch and compares it with its colours."""
    o, d, bounds = batch.origins, batch.directions, (options.near, options.far)
    step = torch.tensor(options.step, dtype=torch.float32)
    t = sample_box(o, d, model.aabb, bounds, step, options.n_samples, batch.jitter[:, None])
    rgb, weights = render_samples(model, batch, t, options)
    distortion = _distortion(weights, t, options)
    hull_loss = nerf_loss = torch.zeros(())
    if model.nerf is not None:
        assert batch.hull_jitter is not None
        assert batch.nerf_u is not None
        t = _jittered(sample_hull(o, d, model.aabb, bounds, batch.hull_jitter.shape[1]), batch.hull_jitter)
        hull_rgb, weights = render_samples(model, batch, t, options)
        distortion = distortion + _distortion(weights, t, options)
        t = sample_quantiles(t, weights.detach(), batch.nerf_u)
        latent = _latents(model, batch)
        latent = None if latent is None else latent.repeat_interleave(t.shape[1], dim=0)
        nerf_rgb = render_nerf(model, model.nerf, o, d, t, latent).rgb
        if options.residual_nerf:
            nerf_rgb = (nerf_rgb + hull_rgb).clamp(0, 1)
        hull_loss, nerf_loss = F.mse_loss(hull_rgb, batch.rgb), F.mse_loss(nerf_rgb, batch.rgb)
    extra = torch.zeros(()) if options.extra_loss is None else options.extra_loss(rgb)
    return BatchLosses(rgb, F.mse_loss(rgb, batch.rgb), hull_loss, nerf_loss, distortion, extra)


def render_samples(
    model: GridNeRF, batch: RayBatch, t: Tensor, options: TrainOptions
) -> tuple[Tensor, Tensor]:
    """Returns colours [n_rays, 3] and weights of the samples at distances t. [n_rays, n]"""
    points = batch.origins[:, None] + batch.directions[:, None] * t[..., None]
    kept = ((points >= model.aabb[0]) & (points <= model.aabb[1])).all(dim=-1)
    if model.occupancy is not None and kept.any():
        kept[kept.clone()] = model.occupancy.sample(points[kept]) > options.mask_threshold
    sigma = torch.zeros_like(t)
    sigma[kept] = model.sigma(points[kept])
    weights = render_weights(sigma, spacings(t, 0.0) * options.distance_scale)
    shaded = weights > options.weight_threshold
    ray, _ = shaded.nonzero(as_tuple=True)
    latent = _latents(model, batch)
    feature = model.appearance_feature(points[shaded])
    colors = torch.zeros_like(points)
    colors[shaded] = model.color(feature, batch.directions[ray], None if latent is None else latent[ray])
    rgb = (weights[..., None] * colors).sum(dim=1)
    rgb = rgb + (1.0 - weights.sum(dim=1, keepdim=True)) * torch.tensor(options.background)
    return rgb.clamp(0, 1), weights


def _distortion(weights: Tensor, t: Tensor, options: TrainOptions) -> Tensor:
    """Counts what is shaded; the last sample, which weighs nothing, shares the last middle."""
    if not options.distortion_weight:
        return weights.new_zeros(())
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    middle = torch.cat([middle, middle[:, -1:]], dim=1)
    shaded = weights * (weights > options.weight_threshold)
    return options.distortion_weight * losses.distortion(shaded, middle, spacings(t, 0.0))


def _jittered(t: Tensor, jitter: Tensor) -> Tensor:
    """Moves each sample inside its stratum, which ends half-way to its neighbours. [n_rays, n] each"""
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    upper, lower = torch.cat([middle, t[:, -1:]], dim=1), torch.cat([t[:, :1], middle], dim=1)
    return lower + (upper - lower) * jitter


def _latents(model: GridNeRF, batch: RayBatch) -> Tensor | None:
    if model.embedding is None or batch.codes is None:
        return None
    return F.embedding(batch.codes.long(), model.embedding)


def _trainable(model: GridNeRF) -> GridNeRF:
    """Returns a copy whose tensors torch differentiates by."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().clone(memory_format=torch.contiguous_format).requires_grad_()

    def maybe(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else leaf(tensor)

    def leaves(group: tuple[Parts, ...]) -> tuple[Parts, ...]:
        return tuple(tuple(leaf(part) for part in parts) for parts in group)

    def of(block: FieldBlock) -> FieldBlock:
        return FieldBlock(
            leaves(block.density_planes),
            leaves(block.density_lines),
            leaves(block.appearance_planes),
            leaves(block.appearance_lines),
        )

    layers = tuple((leaf(weight), maybe(bias)) for weight, bias in model.decoder.layers)
    return replace(
        model,
        blocks=tuple(None if block is None else of(block) for block in model.blocks),
        decoder=replace(model.decoder, basis=leaf(model.decoder.basis), layers=layers),
        density_basis=maybe(model.density_basis),
        embedding=maybe(model.embedding),
        nerf=None if model.nerf is None else model.nerf.map(leaf),
    )
