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
from .gridnerf import GridNeRF, positional_encoding
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
            seen = render_rays(model, rays_o[part], rays_d[part], options)
            flat.rgb[part] = seen.rgb.cpu()
            flat.opacity[part] = seen.opacity.cpu()
            flat.depth[part] = seen.depth.cpu()
            flat.median_depth[part] = seen.median_depth.cpu()
            if buffers.normals is not None:
                normals = density_normals(model, rays_o[part], rays_d[part], seen.median_depth, options.step)
                buffers.normals.view(-1, 3)[part] = normals.cpu()
        if control is not None:
            _report(control, view, min(first + CHUNK, len(rays_o)))
    return True


def render_rays(model: GridNeRF, rays_o: Tensor, rays_d: Tensor, options: RenderOptions) -> RayColors:
    """Renders rays: origins and directions [n_rays, 3]; the NeRF branch as `options.nerf` says."""
    grid = render_grid(model, rays_o, rays_d, options)
    if options.nerf is NerfMode.OFF or model.nerf is None:
        return grid
    t = sample_importance(grid.t, grid.weights, options.nerf_n_importance)
    nerf = render_nerf(model, model.nerf, rays_o, rays_d, t, options.latent)
    if options.nerf is NerfMode.RESIDUAL:
        rgb = (nerf.rgb + grid.rgb).clamp(0, 1)
        return RayColors(rgb, nerf.opacity, nerf.depth, nerf.median_depth, nerf.t, nerf.weights)
    return nerf


def render_grid(model: GridNeRF, rays_o: Tensor, rays_d: Tensor, options: RenderOptions) -> RayColors:
    """Renders rays through planes, lines and decoder, composited over the background."""
    aabb = model.aabb.to(rays_o.device)
    bounds = (options.near, options.far)
    if options.sampling == "hull":
        t = sample_hull(rays_o, rays_d, aabb, bounds, options.n_importance)
    else:
        step = torch.tensor(options.step, dtype=torch.float32, device=rays_o.device)
        t = sample_box(rays_o, rays_d, aabb, bounds, step, options.n_samples)
    points = rays_o[:, None] + rays_d[:, None] * t[..., None]
    kept = ((points >= aabb[0]) & (points <= aabb[1])).all(dim=-1)
    if model.occupancy is not None and kept.any():
        kept[kept.clone()] = model.occupancy.sample(points[kept]) > options.mask_threshold
    sigma = torch.zeros_like(t)
    if kept.any():
        sigma[kept] = model.sigma(points[kept])
    weights = render_weights(sigma, spacings(t, 0.0) * options.distance_scale)
    colors = _shade(model, points, rays_d, weights, options)
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
    points = (rays_o[:, None] + rays_d[:, None] * t[..., None]).reshape(-1, 3)
    directions = rays_d[:, None].expand(-1, t.shape[1], -1).reshape(-1, 3)
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
    raw = layer(hidden, nerf.density).view_as(t)
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
    rgb = torch.sigmoid(layer(hidden, nerf.color)).view(*t.shape, 3)
    ray_weights = render_weights(torch.relu(raw), spacings(t, 1000.0))
    return RayColors(
        (ray_weights[..., None] * rgb).sum(dim=1),
        ray_weights.sum(dim=-1),
        (ray_weights * t).sum(dim=-1),
        median_depth(ray_weights, t),
        t,
        ray_weights,
    )


def density_normals(model: GridNeRF, rays_o: Tensor, rays_d: Tensor, depth: Tensor, spacing: float) -> Tensor:
    """Returns unit normals from central differences of the density feature at z-depth `depth` [n_rays].

    Returns:
        Normals in the world, 0 where depth is 0. [n_rays, 3]
    """
    aabb = model.aabb.to(rays_o.device)
    surface = rays_o + rays_d * depth[:, None]
    gradient = torch.zeros_like(surface)
    for axis in range(3):
        offset = torch.zeros(3, device=rays_o.device)
        offset[axis] = spacing
        ahead = torch.minimum(torch.maximum(surface + offset, aabb[0]), aabb[1])
        behind = torch.minimum(torch.maximum(surface - offset, aabb[0]), aabb[1])
        gradient[:, axis] = _raw_density(model, ahead) - _raw_density(model, behind)
    normals = -F.normalize(gradient, dim=-1)
    return torch.where(depth[:, None] > 0, normals, torch.zeros_like(normals))


def _raw_density(model: GridNeRF, points: Tensor) -> Tensor:
    products = model.density_products(points)
    if model.density_basis is None:
        return products.sum(dim=-1)
    return products @ model.density_basis.to(points.device).reshape(-1)


def _shade(
    model: GridNeRF, points: Tensor, rays_d: Tensor, weights: Tensor, options: RenderOptions
) -> Tensor:
    """Returns the weighted colour of each ray before the background. [n_rays, 3]"""
    shaded = weights > options.weight_threshold
    colors = torch.zeros_like(rays_d)
    ray, _ = shaded.nonzero(as_tuple=True)
    if not len(ray):
        return colors
    feature = model.appearance_feature(points[shaded])
    weight = weights[shaded]
    if options.quality is not Quality.EXACT:
        feature, weight, ray = _merge(feature, weight, ray, weights * shaded, shaded, options.quality)
    rgb = model.color(feature, rays_d[ray], options.latent)
    if options.quality is Quality.EXACT:  # LandMark's own sum over all samples, zeros included
        dense = points.new_zeros(points.shape)
        dense[shaded] = rgb
        return (weights[..., None] * dense).sum(dim=1)
    return colors.index_add_(0, ray, weight[:, None] * rgb)


def _merge(
    feature: Tensor, weight: Tensor, ray: Tensor, shaded_weights: Tensor, shaded: Tensor, quality: Quality
) -> tuple[Tensor, Tensor, Tensor]:
    """Averages the features of neighbouring samples: all of a ray, or runs that hold CLUSTER of weight."""
    before = shaded_weights.cumsum(dim=-1) - shaded_weights
    number = torch.zeros_like(ray) if quality is Quality.FAST else (before[shaded] / CLUSTER).long()
    key = ray * (int(1 / CLUSTER) + 2) + number
    groups, index = torch.unique_consecutive(key, return_inverse=True)
    total = weight.new_zeros(len(groups)).index_add_(0, index, weight)
    merged = feature.new_zeros(len(groups), feature.shape[1]).index_add_(0, index, feature * weight[:, None])
    first_ray = torch.div(groups, int(1 / CLUSTER) + 2, rounding_mode="floor")
    return merged / total[:, None], total, first_ray


def _report(control: RenderControl, view: View, n_rays_done: int) -> None:
    """Marks the tiles whose rows are complete."""
    rows = n_rays_done // view.width
    whole = control.rows if rows >= view.height else rows // TILE
    control.tile_done.reshape(control.rows, control.columns)[:whole] = 1
    control.done_count[0] = int(control.tile_done.sum())
