"""One training step in plain torch autograd: the native step's twin, and what runs on CUDA devices.

Work is done where it matters: only samples inside box and mask are looked at, of these only the ones that
have density are differentiated (relu), and only the ones that weigh something reach the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .adam import update_planes
from .decoder import Decoder
from .lookup import DIRECTION_AXES, locate, texels
from .nerf import nerf_outputs
from .reference import draw_importance, render_weights
from .tables import NerfWeights, OccupancyNodes
from .train_tables import Gradients, PlaneUpdate, RayBatch, StepResult, TrainOptions, TrainTables

LAST_NERF_DELTA = 1000.0  # length of the last sample in the NeRF branch
NERF_RAYS = 1024  # that go through the NeRF branch at once, some hundred samples each


@dataclass(frozen=True)
class Samples:
    """Some samples of a batch of rays, ray by ray, front to back."""

    ray: Tensor  # int64 [n]
    number: Tensor  # counted along the whole ray, int64 [n]
    t: Tensor  # [n]
    t_next: Tensor  # distance of the ray's next sample; the last sample repeats its own [n]
    points: Tensor  # [n, 3]

    def __getitem__(self, index: Tensor) -> Samples:
        return Samples(
            self.ray[index], self.number[index], self.t[index], self.t_next[index], self.points[index]
        )

    def __len__(self) -> int:
        return len(self.ray)


@dataclass(frozen=True)
class Taps:
    """The texels of one plane and one line around each sample, and what they weigh."""

    plane_rows: Tensor  # [n, 4], counted over all blocks
    plane_weights: Tensor  # [n, 4]
    line_rows: Tensor  # [n, 2]
    line_weights: Tensor  # [n, 2]

    def __getitem__(self, index: Tensor) -> Taps:
        return Taps(
            self.plane_rows[index], self.plane_weights[index], self.line_rows[index], self.line_weights[index]
        )


@dataclass(frozen=True)
class Rendered:
    """What a batch saw through planes, lines and decoder."""

    rgb: Tensor  # background included [n_rays, 3]
    distortion: Tensor  # mean over the rays, scalar
    samples: Samples  # those that have density
    weights: Tensor  # of these, detached [n]
    n_shaded: int


def train_step(
    tables: TrainTables, batch: RayBatch, options: TrainOptions, update: PlaneUpdate | None = None
) -> StepResult:
    """Renders a batch, finds the gradients of its losses and, if `update` is given, updates the planes.

    Args:
        tables: The field; planes change in place if `update` is given.
        batch: Rays, colours and random numbers, on the tables' device.
        options: How to render and which losses to add.
        update: Regularisation and Adam of the planes; None returns their gradients instead.
    """
    leaves = _leaves(tables)
    field = Field(leaves)
    inside = box_samples(leaves, batch, options)
    box = field.render(batch, inside, options)
    loss = F.mse_loss(box.rgb, batch.rgb)
    distortion = options.distortion_weight * box.distortion
    extra = loss.new_zeros(()) if options.extra_loss is None else options.extra_loss(box.rgb)
    _backward(loss + distortion + extra)
    hull_loss, nerf_loss, hull_distortion = 0.0, 0.0, 0.0
    if leaves.nerf is not None:
        hull_loss, nerf_loss, hull_distortion = _train_nerf(field, leaves.nerf, batch, options)
    gradients = _gradients(leaves)
    if update is not None:
        update_planes(tables, gradients, update)
        gradients = replace(gradients, density_planes=None, appearance_planes=None)
    return StepResult(
        rgb=box.rgb.detach(),
        loss=loss.item(),
        gradients=gradients,
        distortion=distortion.item() + hull_distortion,
        hull_loss=hull_loss,
        nerf_loss=nerf_loss,
        extra=extra.item(),
        n_inside=len(inside),
        n_dense=len(box.samples),
        n_shaded=box.n_shaded,
    )


def _train_nerf(
    field: Field, nerf: NerfWeights, batch: RayBatch, options: TrainOptions
) -> tuple[float, float, float]:
    """Adds the gradients of hull pass and NeRF branch; returns both losses and the weighted distortion."""
    if batch.hull_jitter is None or batch.nerf_u is None:
        raise ValueError("the NeRF branch needs hull_jitter and nerf_u, got None")
    sums = [0.0, 0.0, 0.0]
    for first in range(0, len(batch.origins), NERF_RAYS):
        part = _rays(batch, slice(first, first + NERF_RAYS))
        hull, nerf_rgb = field.render_nerf(nerf, part, options)
        share = len(part.origins) / len(batch.origins)
        losses = [
            share * F.mse_loss(hull.rgb, part.rgb),
            share * F.mse_loss(nerf_rgb, part.rgb),
            share * options.distortion_weight * hull.distortion,
        ]
        _backward(losses[0] + losses[1] + losses[2])
        sums = [total + loss.item() for total, loss in zip(sums, losses, strict=True)]
    return sums[0], sums[1], sums[2]


def _rays(batch: RayBatch, part: slice) -> RayBatch:
    values: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        values[field.name] = value if value is None else value[part]
    return RayBatch(**values)


def _backward(loss: Tensor) -> None:
    if loss.requires_grad:  # else no ray met anything
        torch.autograd.backward(loss)


class Field:
    """Differentiable reading of the tables."""

    def __init__(self, tables: TrainTables) -> None:
        self.tables = tables
        self.low, self.high = tables.aabb.to(tables.density_planes[0].device)
        self.decoder = Decoder(tables.decoder, self.low.device)

    def taps(self, points: Tensor) -> tuple[tuple[Taps, ...], Tensor]:
        """Returns the taps of every table and whether each point lies in a block. points: [n, 3]"""
        tables = self.tables
        block, local = locate(points, self.low, self.high, tables.division)
        is_in_block = (block >= 0) & (block < tables.n_blocks)
        block = block.clamp(0, tables.n_blocks - 1)
        found = []
        for p, (plane, line) in enumerate(zip(tables.density_planes, tables.density_lines, strict=True)):
            axes = DIRECTION_AXES[p // tables.n_levels]
            _, n_v, n_u, _ = plane.shape
            u, u_near, u_far, u_step = texels(local[:, axes[0]], n_u)
            v, v_near, v_far, v_step = texels(local[:, axes[1]], n_v)
            w, w_near, w_far, w_step = texels(local[:, axes[2]], line.shape[1])
            base = (block * n_v + v) * n_u + u
            below = base + v_step * n_u
            first = block * line.shape[1] + w
            plane_weights = [u_near * v_near, u_far * v_near, u_near * v_far, u_far * v_far]
            found.append(
                Taps(
                    torch.stack([base, base + u_step, below, below + u_step], dim=1),
                    torch.stack(plane_weights, dim=1) * is_in_block[:, None],
                    torch.stack([first, first + w_step], dim=1),
                    torch.stack([w_near, w_far], dim=1),
                )
            )
        return tuple(found), is_in_block

    def density_feature(self, taps: Sequence[Taps]) -> Tensor:
        """Returns the value that the activation turns into density. [n]"""
        tables = self.tables
        if tables.density_basis is not None:
            return torch.relu(self.density_products(taps) @ tables.density_basis)
        products = _products(tables.density_planes, tables.density_lines, taps)
        return torch.stack([product.sum(dim=-1) for product in products]).sum(dim=0)

    def sigma(self, taps: Sequence[Taps]) -> Tensor:
        """Returns density, 1 / scene unit. [n]"""
        feature = self.density_feature(taps)
        if self.tables.activation == "softplus":
            return F.softplus(feature + self.tables.density_shift)
        return torch.relu(feature)

    def density_products(self, taps: Sequence[Taps]) -> Tensor:
        """Returns plane times line of every density level. [n, n_levels * sum(density_channels)]"""
        tables = self.tables
        products = _products(tables.density_planes, tables.density_lines, taps)
        return _unpadded(products, tables.density_channels, tables.n_levels)

    def appearance_products(self, taps: Sequence[Taps]) -> Tensor:
        """Returns plane times line of every appearance level. [n, n_levels * sum(appearance_channels)]"""
        tables = self.tables
        products = _products(tables.appearance_planes, tables.appearance_lines, taps)
        return _unpadded(products, tables.appearance_channels, tables.n_levels)

    def latents(self, batch: RayBatch) -> Tensor | None:
        """Returns the appearance code of every ray. [n_rays, latent_dim]"""
        if self.tables.embedding is None or batch.codes is None:
            return None
        return F.embedding(batch.codes.long(), self.tables.embedding)

    def render(self, batch: RayBatch, samples: Samples, options: TrainOptions) -> Rendered:
        """Composites samples inside box and mask over the background."""
        taps, keep = self.taps(samples.points)
        if self.tables.activation == "relu":  # what has no density has no gradient either
            with torch.no_grad():
                keep = keep & (self.density_feature(taps) > 0)
        if not keep.all():
            index = keep.nonzero().squeeze(-1)
            samples, taps = samples[index], tuple(part[index] for part in taps)
        n_rays, ray = len(batch.origins), samples.ray
        slot, width = _slots(ray, n_rays)

        def by_ray(values: Tensor) -> Tensor:
            return values.new_zeros(n_rays, width).index_put((ray, slot), values)

        length = samples.t_next - samples.t
        weights = render_weights(by_ray(self.sigma(taps)), by_ray(length) * options.distance_scale)
        weight = weights[ray, slot]
        shaded = (weight > options.weight_threshold).nonzero().squeeze(-1)
        shaded_ray = ray[shaded]
        features = F.linear(
            self.appearance_products([part[shaded] for part in taps]), self.tables.decoder.basis
        )
        per_ray = self.decoder.ray_inputs(batch.directions, self.latents(batch))
        colors = self.decoder.colors(features, per_ray[shaded_ray])
        rgb = torch.zeros_like(batch.rgb).index_add(0, shaded_ray, weight[shaded, None] * colors)
        background = torch.tensor(options.background, device=rgb.device)
        rgb = (rgb + (1.0 - weights.sum(dim=1, keepdim=True)) * background).clamp(0, 1)
        distortion = rgb.new_zeros(())
        if options.distortion_weight:
            seen = torch.where(weights > options.weight_threshold, weights, 0.0)
            middle = by_ray(0.5 * (samples.t + samples.t_next))
            distortion = _distortion(seen, middle, by_ray(length))
        return Rendered(rgb, distortion, samples, weight.detach(), len(shaded))

    def render_nerf(
        self, nerf: NerfWeights, batch: RayBatch, options: TrainOptions
    ) -> tuple[Rendered, Tensor]:
        """Renders hull samples, then the NeRF branch on them and on importance samples; rgb [n_rays, 3]."""
        assert batch.nerf_u is not None
        t = hull_distances(self.tables, batch, options)
        hull = self.render(batch, _inside(self.tables, batch, options, *_flatten(t)), options)
        dense = torch.zeros_like(t)
        dense[hull.samples.ray, hull.samples.number] = hull.weights
        with torch.no_grad():
            t = draw_importance(t, dense, batch.nerf_u)
        n_rays, n = t.shape
        ray = torch.arange(n_rays, device=t.device).repeat_interleave(n)
        directions = batch.directions[ray]
        points = batch.origins[ray] + directions * t.reshape(-1, 1)
        taps, _ = self.taps(points)
        latents = self.latents(batch)
        raw, colors = nerf_outputs(
            nerf,
            points,
            directions,
            (self.density_products(taps), self.appearance_products(taps)),
            None if latents is None else latents[ray],
        )
        delta = torch.cat([t[:, 1:] - t[:, :-1], torch.full_like(t[:, :1], LAST_NERF_DELTA)], dim=1)
        weights = render_weights(torch.relu(raw).view_as(t), delta)
        rgb = (weights[..., None] * colors.view(n_rays, n, 3)).sum(dim=1)
        return hull, (rgb + hull.rgb).clamp(0, 1) if options.residual_nerf else rgb


def sigma(tables: TrainTables, points: Tensor) -> Tensor:
    """Returns density at points [n, 3], 0 in no block; the mask is not asked. [n]"""
    field = Field(tables)
    with torch.no_grad():
        taps, is_in_block = field.taps(points)
        return field.sigma(taps) * is_in_block


def box_samples(tables: TrainTables, batch: RayBatch, options: TrainOptions) -> Samples:
    """Places jittered samples `step` apart from where rays enter the box; keeps those in box and mask.

    As in `core.sampling.sample_box`, every operation is rounded on its own.
    """
    o, d = batch.origins, batch.directions
    low, high = tables.aabb.to(o.device)
    safe = torch.where(d == 0, torch.full_like(d, 1e-6), d)
    to_high, to_low = (high - o) / safe, (low - o) / safe
    first = torch.minimum(to_high, to_low).amax(dim=-1).clamp(options.near, options.far)
    leave = torch.where(d == 0, torch.inf, torch.maximum(to_high, to_low)).amin(dim=-1)
    n_candidates = ((leave - first) / options.step + 2).clamp(0, options.n_samples).to(torch.int64)
    ray = torch.arange(len(o), device=o.device).repeat_interleave(n_candidates)
    number, _ = _slots(ray, len(o))

    def distance(number: Tensor) -> Tensor:
        return first[ray] + options.step * (number + batch.jitter[ray])

    t_next = distance((number + 1).clamp(max=options.n_samples - 1))
    return _inside(tables, batch, options, ray, number, distance(number), t_next)


def hull_distances(tables: TrainTables, batch: RayBatch, options: TrainOptions) -> Tensor:
    """Returns one random distance in each stratum between the near bound and the floor of the box.

    Strata end half-way between the samples of `core.sampling.sample_hull`. [n_rays, n_importance]
    """
    assert batch.hull_jitter is not None
    d_z = batch.directions[:, 2:]
    to_floor = -(batch.origins[:, 2:] - tables.aabb.to(d_z.device)[0, 2]) / d_z
    far = torch.where(d_z >= 0, torch.full_like(to_floor, options.far), to_floor)
    share = torch.linspace(0, 1, batch.hull_jitter.shape[1], device=far.device)
    t = options.near * (1.0 - share) + far * share
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    upper, lower = torch.cat([middle, t[:, -1:]], dim=1), torch.cat([t[:, :1], middle], dim=1)
    return lower + (upper - lower) * batch.hull_jitter


def _inside(
    tables: TrainTables,
    batch: RayBatch,
    options: TrainOptions,
    ray: Tensor,
    number: Tensor,
    t: Tensor,
    t_next: Tensor,
) -> Samples:
    """Makes samples of those that lie in the box, faces included, and in the mask."""
    low, high = tables.aabb.to(t.device)
    points = batch.origins[ray] + batch.directions[ray] * t[:, None]
    samples = Samples(ray, number, t, t_next, points)
    samples = samples[((points >= low) & (points <= high)).all(dim=-1).nonzero().squeeze(-1)]
    if tables.occupancy is not None and len(samples):
        kept = mask_values(tables.occupancy, samples.points) > options.mask_threshold
        samples = samples[kept.nonzero().squeeze(-1)]
    return samples


def mask_values(mask: OccupancyNodes, points: Tensor) -> Tensor:
    """Interpolates the mask at points [n, 3], 0 outside its box; only the nodes needed are read. [n]"""
    low, high = mask.aabb.to(points.device)
    position = (points - low) * (1.0 / (high - low) * 2) - 1
    nodes = mask.nodes.to(points.device)
    n_z, n_y, n_x = nodes.shape
    x, y, z = (texels(position[:, axis], n) for axis, n in enumerate((n_x, n_y, n_z)))
    base = (z[0].to(torch.int64) * n_y + y[0]) * n_x + x[0]
    total = torch.zeros_like(position[:, 0])
    flat = nodes.reshape(-1)
    for k in range(8):
        i, j, m = k & 1, k >> 1 & 1, k >> 2
        row = base + (m * z[3] * n_y + j * y[3]) * n_x + i * x[3]
        total += flat[row] * x[1 + i] * y[1 + j] * z[1 + m]
    return total


def _slots(ray: Tensor, n_rays: int) -> tuple[Tensor, int]:
    """Numbers the samples of each ray from 0 [n], and returns the most that a ray has. ray: ascending [n]"""
    counts = torch.bincount(ray, minlength=n_rays)
    starts = counts.cumsum(0) - counts
    return torch.arange(len(ray), device=ray.device) - starts[ray], int(counts.max())


def _flatten(t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns ray, number, t and t_next of all samples of a dense batch. t: [n_rays, n]"""
    n_rays, n = t.shape
    number = torch.arange(n, device=t.device).repeat(n_rays)
    ray = torch.arange(n_rays, device=t.device).repeat_interleave(n)
    return ray, number, t.reshape(-1), torch.cat([t[:, 1:], t[:, -1:]], dim=1).reshape(-1)


def _distortion(weights: Tensor, middle: Tensor, length: Tensor) -> Tensor:
    """The distortion loss, mean over the rays (Eq. 15 of arxiv.org/abs/2111.12077). [n_rays, n] each"""
    products = weights * middle
    before = weights.cumsum(dim=1) - weights
    products_before = products.cumsum(dim=1) - products
    between = 2 * weights * (middle * before - products_before)
    return (length * weights.square() / 3 + between).sum() / len(weights)


def _products(planes: Sequence[Tensor], lines: Sequence[Tensor], taps: Sequence[Taps]) -> list[Tensor]:
    """Returns plane times line of every table, padding included. [n, channels] each"""
    return [
        _bags(plane, part.plane_rows, part.plane_weights) * _bags(line, part.line_rows, part.line_weights)
        for plane, line, part in zip(planes, lines, taps, strict=True)
    ]


def _bags(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    return F.embedding_bag(rows, table.view(-1, table.shape[-1]), mode="sum", per_sample_weights=weights)


def _unpadded(products: Sequence[Tensor], channels: tuple[int, ...], n_levels: int) -> Tensor:
    return torch.cat([part[:, : channels[p // n_levels]] for p, part in enumerate(products)], dim=1)


def _leaf(tensor: Tensor) -> Tensor:
    """Returns the same numbers as the start of a graph of their own."""
    return tensor.detach().requires_grad_()


def _maybe_leaf(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _leaf(tensor)


def _leaves(tables: TrainTables) -> TrainTables:
    decoder = tables.decoder
    layers = tuple((_leaf(weight), _maybe_leaf(bias)) for weight, bias in decoder.layers)
    return replace(
        tables,
        density_planes=tuple(_leaf(plane) for plane in tables.density_planes),
        density_lines=tuple(_leaf(line) for line in tables.density_lines),
        appearance_planes=tuple(_leaf(plane) for plane in tables.appearance_planes),
        appearance_lines=tuple(_leaf(line) for line in tables.appearance_lines),
        density_basis=_maybe_leaf(tables.density_basis),
        decoder=replace(decoder, basis=_leaf(decoder.basis), layers=layers),
        embedding=_maybe_leaf(tables.embedding),
        nerf=None if tables.nerf is None else tables.nerf.map(_leaf),
    )


def _gradients(leaves: TrainTables) -> Gradients:
    """Collects what the backward pass left; 0 where it did not come by."""

    def of(leaf: Tensor) -> Tensor:
        return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad

    def maybe(leaf: Tensor | None) -> Tensor | None:
        return None if leaf is None else of(leaf)

    return Gradients(
        density_lines=tuple(of(line) for line in leaves.density_lines),
        appearance_lines=tuple(of(line) for line in leaves.appearance_lines),
        basis=of(leaves.decoder.basis),
        layers=tuple((of(weight), maybe(bias)) for weight, bias in leaves.decoder.layers),
        density_basis=maybe(leaves.density_basis),
        embedding=maybe(leaves.embedding),
        nerf=None if leaves.nerf is None else leaves.nerf.map(of),
        density_planes=tuple(of(plane) for plane in leaves.density_planes),
        appearance_planes=tuple(of(plane) for plane in leaves.appearance_planes),
    )
