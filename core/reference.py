"""The reference renderer: LandMark's picture in plain torch, to be read rather than to be fast.

It is the oracle of every faster path and runs on the device that `render_reference` is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cuda.tables import (
    TILE,
    FrameBuffers,
    NerfMode,
    NerfWeights,
    Quality,
    RenderControl,
    RenderOptions,
    View,
)
from .compositing import median_depth, render_weights
from .edited_model import EditedModel, Owners
from .gridnerf import GridNeRF
from .nerf import nerf_outputs
from .rays import generate_rays
from .sampling import sample_box, sample_hull, sample_importance, spacings

CHUNK = 2048  # rays at a time
CLUSTER = 0.3  # weight that the samples of one cluster hold together


@dataclass(frozen=True)
class RayColors:
    """What a batch of rays saw."""

    rgb: Tensor  # [n_rays, 3]
    opacity: Tensor  # [n_rays]
    depth: Tensor  # [n_rays]
    median_depth: Tensor  # [n_rays]
    t: Tensor  # sample distances [n_rays, n_samples]
    weights: Tensor  # [n_rays, n_samples]


def render_reference(
    model: GridNeRF,
    view: View,
    options: RenderOptions,
    buffers: FrameBuffers,
    control: RenderControl | None = None,
    device: torch.device | str = "cpu",
    sources: tuple[GridNeRF, ...] = (),
) -> bool:
    """Renders a view into `buffers`, top to bottom; `sources` are the models of `options.edits.sources`.

    Returns False if it was cancelled.
    """
    edited = EditedModel(model, options, sources)
    rays_o, rays_d = (rays.to(device) for rays in generate_rays(view))
    flat = FrameBuffers(
        buffers.rgb.view(-1, 3),
        buffers.opacity.view(-1),
        buffers.depth.view(-1),
        buffers.median_depth.view(-1),
    )
    for first in range(0, len(rays_o), CHUNK):
        if control is not None and control.is_cancelled:
            return False
        part = slice(first, first + CHUNK)
        with torch.no_grad():
            seen = _render_rays(edited, rays_o[part], rays_d[part])
            flat.rgb[part] = seen.rgb.cpu()
            flat.opacity[part] = seen.opacity.cpu()
            flat.depth[part] = seen.depth.cpu()
            flat.median_depth[part] = seen.median_depth.cpu()
            if buffers.normals is not None:
                normals = density_normals(edited, rays_o[part], rays_d[part], seen.median_depth)
                buffers.normals.view(-1, 3)[part] = normals.cpu()
        if control is not None:
            _report(control, view, min(first + CHUNK, len(rays_o)))
    return True


def render_rays(
    model: GridNeRF,
    rays_o: Tensor,
    rays_d: Tensor,
    options: RenderOptions,
    sources: tuple[GridNeRF, ...] = (),
) -> RayColors:
    """Renders rays: origins and directions [n_rays, 3]; the NeRF branch as `options.nerf` says."""
    return _render_rays(EditedModel(model, options, sources), rays_o, rays_d)


def _render_rays(edited: EditedModel, rays_o: Tensor, rays_d: Tensor) -> RayColors:
    options = edited.options
    grid = render_grid(edited, rays_o, rays_d)
    if options.nerf is NerfMode.OFF or edited.model.nerf is None:
        return grid
    t = sample_importance(grid.t, grid.weights, options.nerf_n_importance)
    points, directions = _samples(rays_o, rays_d, t)
    nerf = _composite_nerf(*edited.nerf(points, directions), t)
    if options.nerf is NerfMode.RESIDUAL:
        rgb = (nerf.rgb + grid.rgb).clamp(0, 1)
        return RayColors(rgb, nerf.opacity, nerf.depth, nerf.median_depth, nerf.t, nerf.weights)
    return nerf


def render_grid(edited: EditedModel, rays_o: Tensor, rays_d: Tensor) -> RayColors:
    """Renders rays through planes, lines and decoder, composited over the background."""
    options = edited.options
    aabb = edited.model.aabb.to(rays_o.device)
    bounds = (options.near, options.far)
    if options.sampling == "hull":
        t = sample_hull(rays_o, rays_d, aabb, bounds, options.n_importance)
    else:
        step = torch.tensor(options.step, dtype=torch.float32, device=rays_o.device)
        t = sample_box(rays_o, rays_d, aabb, bounds, step, options.n_samples)
    points = rays_o[:, None] + rays_d[:, None] * t[..., None]
    kept = ((points >= aabb[0]) & (points <= aabb[1])).all(dim=-1)
    sigma = torch.zeros_like(t)
    if kept.any():
        sigma[kept] = edited.sigma(points[kept])
    weights = render_weights(sigma, spacings(t, 0.0) * options.distance_scale)
    colors = _shade(edited, points, rays_d, weights)
    opacity = weights.sum(dim=-1)
    background = torch.tensor(options.background, device=rays_o.device)
    rgb = colors + (1.0 - opacity[:, None]) * background
    depth = (weights * t).sum(dim=-1)
    return RayColors(rgb.clamp(0, 1), opacity, depth, median_depth(weights, t), t, weights)


def render_nerf(
    model: GridNeRF, nerf: NerfWeights, rays_o: Tensor, rays_d: Tensor, t: Tensor, latent: Tensor | None
) -> RayColors:
    """Renders the NeRF branch at all given samples, inside the box or not, without background.

    Args:
        model: Supplies plane times line products as further inputs.
        nerf: The branch's weights.
        rays_o: Origins. [n_rays, 3]
        rays_d: Directions. [n_rays, 3]
        t: Sample distances, ascending. [n_rays, n_samples]
        latent: Appearance embedding. [latent_dim]
    """
    points, directions = _samples(rays_o, rays_d, t)
    return _composite_nerf(*nerf_outputs(model, nerf, points, directions, latent), t)


def _samples(rays_o: Tensor, rays_d: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Returns positions and directions of all samples. [n_rays * n_samples, 3] each"""
    points = rays_o[:, None] + rays_d[:, None] * t[..., None]
    return points.reshape(-1, 3), rays_d[:, None].expand_as(points).reshape(-1, 3)


def _composite_nerf(raw: Tensor, rgb: Tensor, t: Tensor) -> RayColors:
    weights = render_weights(torch.relu(raw.view_as(t)), spacings(t, 1000.0))
    return RayColors(
        (weights[..., None] * rgb.view(*t.shape, 3)).sum(dim=1),
        weights.sum(dim=-1),
        (weights * t).sum(dim=-1),
        median_depth(weights, t),
        t,
        weights,
    )


def density_normals(edited: EditedModel, rays_o: Tensor, rays_d: Tensor, depth: Tensor) -> Tensor:
    """Returns unit normals from central differences of the density feature at z-depth `depth` [n_rays].

    Returns:
        Normals in the world, 0 where depth is 0. [n_rays, 3]
    """
    aabb = edited.model.aabb.to(rays_o.device)
    surface = rays_o + rays_d * depth[:, None]
    gradient = torch.zeros_like(surface)
    for axis in range(3):
        offset = torch.zeros(3, device=rays_o.device)
        offset[axis] = edited.options.step
        ahead = torch.minimum(torch.maximum(surface + offset, aabb[0]), aabb[1])
        behind = torch.minimum(torch.maximum(surface - offset, aabb[0]), aabb[1])
        gradient[:, axis] = edited.raw_density(ahead) - edited.raw_density(behind)
    normals = -F.normalize(gradient, dim=-1)
    return torch.where(depth[:, None] > 0, normals, torch.zeros_like(normals))


def _shade(edited: EditedModel, points: Tensor, rays_d: Tensor, weights: Tensor) -> Tensor:
    """Returns the weighted colour of each ray before the background. [n_rays, 3]"""
    options = edited.options
    shaded = weights > options.weight_threshold
    ray, _ = shaded.nonzero(as_tuple=True)
    owners, weight = edited.owners(points[shaded]), weights[shaded]
    run, decoder = _runs(ray, owners), edited.decoder_of(owners)
    rgb = torch.zeros_like(owners.at)  # weighted; samples that are decoded together: all in the first of them
    for number in range(len(edited.readings)):
        rows = (decoder == number).nonzero().squeeze(-1)
        if not len(rows):
            continue
        feature, total = edited.features(number, owners[rows]), weight[rows]
        if options.quality is not Quality.EXACT:
            feature, total, first = _merge(feature, total, run[rows], options.quality)
            rows = rows[first]
        rgb[rows] = total[:, None] * edited.colors(number, feature, owners[rows], rays_d[ray[rows]])
    dense = torch.zeros_like(points)
    dense[shaded] = rgb
    return dense.sum(dim=1)  # LandMark's own sum over all samples, zeros included


def _runs(ray: Tensor, owners: Owners) -> Tensor:
    """Numbers the stretches of rays that have one owner and one style. [n]"""
    key = torch.stack([ray, owners.owner, owners.style], dim=-1)
    differs = (key[1:] != key[:-1]).any(dim=-1)
    return torch.cat([torch.zeros_like(ray[:1]), differs.cumsum(0)])


def _merge(feature: Tensor, weight: Tensor, run: Tensor, quality: Quality) -> tuple[Tensor, Tensor, Tensor]:
    """Averages the features of neighbouring samples: all of a run, or those that hold CLUSTER of weight.

    Returns:
        Features [n_rows, feature_dim], weights and numbers of the first sample. [n_rows] each
    """
    number = torch.zeros_like(run)
    if quality is Quality.CLUSTERED:
        before = weight.double().cumsum(0) - weight
        starts = torch.searchsorted(run, run)
        number = ((before - before[starts]) / CLUSTER).long()
    key = run * (int(1 / CLUSTER) + 2) + number
    _, index, counts = torch.unique_consecutive(key, return_inverse=True, return_counts=True)
    total = weight.new_zeros(len(counts)).index_add_(0, index, weight)
    merged = feature.new_zeros(len(counts), feature.shape[1]).index_add_(0, index, feature * weight[:, None])
    return merged / total[:, None], total, counts.cumsum(0) - counts


def _report(control: RenderControl, view: View, n_rays_done: int) -> None:
    """Marks the tiles whose rows are complete."""
    rows = n_rays_done // view.width
    whole = control.rows if rows >= view.height else rows // TILE
    control.tile_done.reshape(control.rows, control.columns)[:whole] = 1
    control.done_count[0] = int(control.tile_done.sum())
