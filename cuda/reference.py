"""The renderer in plain torch over channel-last tables: what serves without a compiler and on CUDA devices.

It has the signature, the outputs and the qualities of the native code, and is one of its oracles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .lookup import Lookup, in_chunks
from .tables import (
    TILE,
    DecoderWeights,
    FieldTables,
    FrameBuffers,
    NerfMode,
    NerfWeights,
    Quality,
    RenderControl,
    RenderOptions,
    View,
)

CHUNK_TILES = 64  # tiles rendered at once; cancelling waits for them
DECODER_CHUNK = 2048  # features decoded at once on a CPU
CLUSTER_WEIGHT = 0.3  # clustered: weight that the samples of one decoder evaluation hold together
NERF_CHUNK = 65536  # points that go through the NeRF branch at once


@dataclass(frozen=True)
class Rays:
    """Rays of a chunk; t is z-depth, directions are not normalised."""

    origins: Tensor  # [n_rays, 3]
    directions: Tensor  # [n_rays, 3]


@dataclass(frozen=True)
class Seen:
    """What rays saw."""

    rgb: Tensor  # [n_rays, 3], background included
    opacity: Tensor  # [n_rays]
    depth: Tensor  # [n_rays]
    median_depth: Tensor  # [n_rays]


def render(
    tables: FieldTables,
    view: View,
    options: RenderOptions,
    buffers: FrameBuffers,
    control: RenderControl,
) -> bool:
    """Renders a view, a few tiles at a time. Returns False if it was cancelled."""
    lookup = Lookup.of(tables)
    for first in range(0, len(control.order), CHUNK_TILES):
        if control.is_cancelled:
            return False
        tiles = control.order[first : first + CHUNK_TILES]
        pixels = _tile_pixels(tiles, control.columns, view)
        with torch.no_grad():
            _render_pixels(lookup, view, options, buffers, pixels)
        control.tile_done[tiles] = 1
        control.done_count[0] += len(tiles)
    return True


def query(tables: FieldTables, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns density feature [n], sigma [n] and appearance feature [n, feature_dim] at points [n, 3]."""
    lookup = Lookup.of(tables)
    points = points.to(lookup.device)
    with torch.no_grad():
        feature, sigma = lookup.density_feature(points), lookup.sigma(points)
        return feature.cpu(), sigma.cpu(), lookup.appearance_feature(points).cpu()


def decode(tables: FieldTables, features: Tensor, directions: Tensor, latent: Tensor | None) -> Tensor:
    """Returns colours [n, 3] of features [n, feature_dim] seen along directions [n, 3]."""
    device = tables.device
    decoder = Decoder(tables.decoder, device)
    with torch.no_grad():
        per_ray = decoder.ray_inputs(directions.to(device), latent)
        return decoder.colors(features.to(device), per_ray).cpu()


class Decoder:
    """LandMark's colour network; what is the same along a ray is computed once per ray."""

    def __init__(self, weights: DecoderWeights, device: torch.device) -> None:
        self.weights = weights
        self.layers = [
            (weight.to(device), None if bias is None else bias.to(device)) for weight, bias in weights.layers
        ]
        n, n_frequencies = weights.basis.shape[0], max(weights.feature_pe, 0)
        widths = [n, weights.latent_dim, 3 if weights.view_pe > -1 else 0]
        widths += [2 * n * n_frequencies, 6 * max(weights.view_pe, 0)]
        feature, latent, direction, pe, direction_pe = torch.split(self.layers[0][0], widths, dim=1)
        # [hidden, sine or cosine, dimension, frequency] -> the order of `_encode_by_frequency`
        by_frequency = pe.reshape(len(pe), 2, n, n_frequencies).permute(0, 3, 1, 2).flatten(1)
        self.per_sample = torch.cat([feature, by_frequency], dim=1)
        self.per_ray = torch.cat([latent, direction, direction_pe], dim=1)

    def ray_inputs(self, directions: Tensor, latent: Tensor | None) -> Tensor:
        """Returns the first layer's share of direction, latent and bias. [n, 3] -> [n, hidden]"""
        inputs = [directions.new_empty(len(directions), 0)]
        if self.weights.latent_dim and latent is not None:
            inputs.append(latent.to(directions.device).expand(len(directions), -1))
        if self.weights.view_pe > -1:
            inputs.append(directions)
        if self.weights.view_pe > 0:
            inputs.append(encode(directions, self.weights.view_pe))
        return F.linear(torch.cat(inputs, dim=-1), self.per_ray, self.layers[0][1])

    def colors(self, features: Tensor, per_ray: Tensor) -> Tensor:
        """Returns colours [n, 3]; per_ray: `ray_inputs` of each feature's ray. [n, hidden]"""
        inputs = _encode_by_frequency(features, self.weights.feature_pe)
        hidden = torch.relu_(torch.addmm(per_ray, inputs, self.per_sample.T))
        hidden = torch.relu_(F.linear(hidden, *self.layers[1]))
        return torch.sigmoid(F.linear(hidden, *self.layers[2]))


def _encode_by_frequency(values: Tensor, n_frequencies: int) -> Tensor:
    """Returns values, then sine and cosine of values * 2^k for each k; odd k come from the double angle."""
    parts = [values]
    for k in range(n_frequencies):
        if k % 2:
            sine, cosine = parts[-2], parts[-1]
            parts += [2 * sine * cosine, 1 - 2 * sine * sine]
        else:
            angle = values * 2.0**k
            parts += [torch.sin(angle), torch.cos(angle)]
    return torch.cat(parts, dim=-1) if n_frequencies > 0 else values


def encode(values: Tensor, n_frequencies: int) -> Tensor:
    """Encodes [n, dim] as [sin(v * 2^k), cos(v * 2^k)], dimension-major. [n, 2 * dim * n_frequencies]"""
    bands = 2.0 ** torch.arange(n_frequencies, device=values.device)
    angles = (values[..., None] * bands).flatten(-2)
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1)


def _tile_pixels(tiles: np.ndarray, columns: int, view: View) -> Tensor:
    """Returns the pixel numbers of tiles, row by row inside each. [n_pixels] int64"""
    tile = torch.from_numpy(tiles).to(torch.int64)
    row, column = (tile // columns * TILE)[:, None, None], (tile % columns * TILE)[:, None, None]
    row = row + torch.arange(TILE)[:, None]
    column = column + torch.arange(TILE)
    inside = (row < view.height) & (column < view.width)
    return (row * view.width + column)[inside]


def _render_pixels(
    lookup: Lookup, view: View, options: RenderOptions, buffers: FrameBuffers, pixels: Tensor
) -> None:
    rays = _cast(view, pixels, lookup.device)
    seen = _render_rays(lookup, rays, options)
    buffers.rgb.view(-1, 3)[pixels] = seen.rgb.cpu()
    buffers.opacity.view(-1)[pixels] = seen.opacity.cpu()
    buffers.depth.view(-1)[pixels] = seen.depth.cpu()
    buffers.median_depth.view(-1)[pixels] = seen.median_depth.cpu()
    if buffers.normals is not None:
        normals = _normals(lookup, rays, seen.median_depth, options.step)
        buffers.normals.view(-1, 3)[pixels] = normals.cpu()


def _cast(view: View, pixels: Tensor, device: torch.device) -> Rays:
    """Shoots rays, every operation rounded on its own, on the CPU: a device might fuse them."""
    column, row = (pixels % view.width).float(), torch.div(pixels, view.width, rounding_mode="floor").float()
    x = ((column - view.cx) / torch.tensor(view.fl_x))[:, None]
    y = (-(row - view.cy) / torch.tensor(view.fl_y))[:, None]
    right, up, back, eye = torch.from_numpy(np.ascontiguousarray(view.c2w.T, dtype=np.float32))
    directions = (x * right + y * up) + -1.0 * back
    return Rays(eye.expand_as(directions).to(device), directions.to(device))


def _render_rays(lookup: Lookup, rays: Rays, options: RenderOptions) -> Seen:
    nerf = lookup.tables.nerf if options.nerf is not NerfMode.OFF else None
    t, delta = _place(lookup, rays, options, whole=nerf is not None)
    weights, kept, points = _weigh(lookup, rays, t, delta, options)
    if nerf is None or options.nerf is NerfMode.RESIDUAL:
        colors = _shade(lookup, rays, points, weights, kept, options)
        opacity = weights.sum(dim=-1)
        background = torch.tensor(options.background, device=t.device)
        rgb = (colors + (1.0 - opacity[:, None]) * background).clamp(0, 1)
    if nerf is None:
        return Seen(rgb, opacity, (weights * t).sum(dim=-1), _median(weights, t))
    share = torch.linspace(0, 1, options.nerf_n_importance, device=t.device)
    t = draw_importance(t, weights, share.expand(len(t), -1).contiguous())
    seen = _render_nerf(lookup, nerf, rays, t, options)
    if options.nerf is NerfMode.RESIDUAL:
        return Seen((seen.rgb + rgb).clamp(0, 1), seen.opacity, seen.depth, seen.median_depth)
    return seen


def _place(lookup: Lookup, rays: Rays, options: RenderOptions, whole: bool) -> tuple[Tensor, Tensor]:
    """Places LandMark's samples; those that all rays have outside the box are left out unless `whole` is set.

    Returns:
        Distances t and what each sample stands for, the very last one for nothing. [n_rays, n] each
    """
    o, d = rays.origins, rays.directions
    device = o.device
    if options.sampling == "hull":
        n = options.n_importance
        to_floor = -(o[:, 2] - lookup.low[2]) / d[:, 2]
        far = torch.where(d[:, 2] >= 0, torch.full_like(to_floor, options.far), to_floor)[:, None]
        share = torch.linspace(0, 1, n, device=device)
        first = torch.full_like(far, options.near)
        spacing = (far - first) / max(n - 1, 1)
        t = options.near * (1 - share) + far * share
    else:
        n = options.n_samples
        safe = torch.where(d == 0, torch.full_like(d, 1e-6), d)
        enter = torch.minimum((lookup.high - o) / safe, (lookup.low - o) / safe)
        first = enter.amax(dim=-1).clamp(options.near, options.far)[:, None]
        spacing = torch.tensor(options.step, dtype=torch.float32, device=device).expand_as(first)
        t = first + options.step * torch.arange(n, dtype=torch.float32, device=device)
    delta = torch.cat([t[:, 1:] - t[:, :-1], torch.zeros_like(t[:, :1])], dim=-1)
    if whole:
        return t, delta
    begin, end = _box_range(lookup, rays, first, spacing, n)
    return t[:, begin:end], delta[:, begin:end]


def _box_range(lookup: Lookup, rays: Rays, first: Tensor, spacing: Tensor, n: int) -> tuple[int, int]:
    """Returns the sample numbers between which some ray can be inside the box, with two to spare."""
    safe = torch.where(rays.directions == 0, torch.full_like(rays.directions, 1e-9), rays.directions)
    a, b = (lookup.low - rays.origins) / safe, (lookup.high - rays.origins) / safe
    enter, leave = torch.minimum(a, b).amax(dim=-1), torch.maximum(a, b).amin(dim=-1)
    hit = leave >= enter - 4 * spacing.squeeze(-1).abs()
    if not hit.any():
        return 0, 1
    if not (spacing > 0).all():
        return 0, n
    low = ((enter[:, None] - first) / spacing)[hit].amin()
    high = ((leave[:, None] - first) / spacing)[hit].amax()
    begin = int(low.clamp(2, n + 1)) - 2
    return begin, max(int(high.clamp(-3, n)) + 3, begin + 1)


def _weigh(
    lookup: Lookup, rays: Rays, t: Tensor, delta: Tensor, options: RenderOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns weights [n_rays, n], the flat numbers of the samples that count [n_kept] and their points."""
    points = (rays.origins[:, None] + rays.directions[:, None] * t[..., None]).view(-1, 3)
    kept = lookup.is_inside(points).nonzero().squeeze(-1)
    points = points[kept]
    if lookup.tables.occupancy is not None and options.mask_threshold >= 0:
        occupied = lookup.is_occupied(points, options.mask_threshold)
        kept, points = kept[occupied], points[occupied]
    sigma = torch.zeros(t.numel(), device=t.device)
    if len(kept):
        sigma[kept] = lookup.sigma(points)
    return render_weights(sigma.view_as(t), delta * options.distance_scale), kept, points


def render_weights(sigma: Tensor, length: Tensor) -> Tensor:
    """Weighs samples front to back, with LandMark's 1e-10. [n_rays, n] each"""
    alpha = 1.0 - torch.exp(-sigma * length)
    passed = torch.cumprod(1.0 - alpha + 1e-10, dim=-1)
    return alpha * torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=-1)


def _shade(
    lookup: Lookup, rays: Rays, points: Tensor, weights: Tensor, kept: Tensor, options: RenderOptions
) -> Tensor:
    """Returns the weighted colour of each ray before the background. [n_rays, 3]"""
    colors = torch.zeros_like(rays.directions)
    weight = weights.reshape(-1)[kept]
    shaded = (weight > options.weight_threshold).nonzero().squeeze(-1)
    if not len(shaded):
        return colors
    weight = weight[shaded]
    ray = torch.div(kept[shaded], weights.shape[1], rounding_mode="floor")
    features = lookup.appearance_feature(points[shaded])
    if options.quality is not Quality.EXACT:
        features, weight, ray = _merge(features, weight, ray, options.quality)
    decoder = Decoder(lookup.tables.decoder, lookup.device)
    per_ray = decoder.ray_inputs(rays.directions, options.latent)
    rgb = in_chunks(
        lambda feature, index: decoder.colors(feature, per_ray[index]), DECODER_CHUNK, features, ray
    )
    return colors.index_add_(0, ray, weight[:, None] * rgb)


def _merge(features: Tensor, weight: Tensor, ray: Tensor, quality: Quality) -> tuple[Tensor, Tensor, Tensor]:
    """Averages neighbouring samples of a ray by weight: all of them, or runs that hold CLUSTER_WEIGHT."""
    key = ray
    if quality is Quality.CLUSTERED:
        n_keys = int(1 / CLUSTER_WEIGHT) + 2
        total = weight.cumsum(0, dtype=torch.float64)
        starts = torch.cat([torch.ones_like(ray[:1], dtype=torch.bool), ray[1:] != ray[:-1]])
        before = total - weight
        before = before - before[starts][starts.cumsum(0) - 1]
        key = ray * n_keys + (before / CLUSTER_WEIGHT).long().clamp(0, n_keys - 1)
    groups, index = torch.unique_consecutive(key, return_inverse=True)
    mass = weight.new_zeros(len(groups)).index_add_(0, index, weight)
    merged = features.new_zeros(len(groups), features.shape[1])
    merged.index_add_(0, index, features * weight[:, None])
    if quality is Quality.CLUSTERED:
        groups = torch.div(groups, int(1 / CLUSTER_WEIGHT) + 2, rounding_mode="floor")
    return merged / mass[:, None], mass, groups


def _median(weights: Tensor, t: Tensor) -> Tensor:
    """Returns t of the first sample at which opacity reaches 0.5; 0 where it never does. [n_rays]"""
    reached = weights.cumsum(dim=-1) >= 0.5
    first = reached.to(torch.uint8).argmax(dim=-1, keepdim=True)
    return t.gather(1, first).squeeze(1) * reached.any(dim=-1)


def _normals(lookup: Lookup, rays: Rays, depth: Tensor, spacing: float) -> Tensor:
    """Returns minus the gradient of the density feature, unit length; 0 without a depth. [n_rays, 3]"""
    normals = torch.zeros_like(rays.directions)
    hit = (depth > 0).nonzero().squeeze(-1)
    if not len(hit):
        return normals
    surface = rays.origins[hit] + rays.directions[hit] * depth[hit, None]
    offsets = spacing * torch.eye(3, device=surface.device)
    probes = torch.cat([surface[:, None] - offsets, surface[:, None] + offsets], dim=1)
    probes = probes.clamp(lookup.low, lookup.high)
    behind, ahead = lookup.raw_density(probes.reshape(-1, 3)).view(-1, 2, 3).unbind(dim=1)
    normals[hit] = F.normalize(behind - ahead, dim=-1)
    return normals


def draw_importance(t: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Adds the quantiles u [n_rays, n] of the weights to the samples. [n_rays, n_t] -> [n_rays, n_t + n]"""
    bins = 0.5 * (t[:, 1:] + t[:, :-1])
    inner = weights[:, 1:-1] + 1e-5
    cdf = torch.cumsum(inner / inner.sum(dim=-1, keepdim=True), dim=-1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf], dim=-1)
    index = torch.searchsorted(cdf, u, right=True)
    low, high = (index - 1).clamp(min=0), index.clamp(max=cdf.shape[-1] - 1)
    cdf_low, bin_low = cdf.gather(1, low), bins.gather(1, low)
    width = cdf.gather(1, high) - cdf_low
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    drawn = bin_low + (u - cdf_low) / width * (bins.gather(1, high) - bin_low)
    return torch.sort(torch.cat([t, drawn], dim=-1), dim=-1).values


def _render_nerf(lookup: Lookup, nerf: NerfWeights, rays: Rays, t: Tensor, options: RenderOptions) -> Seen:
    """Renders the NeRF branch at all samples t [n_rays, n], inside the box or not, without background."""
    n_rays, n = t.shape
    ray = torch.arange(n_rays, device=t.device).repeat_interleave(n)
    flat = t.reshape(-1)
    raw, rgb = [], []
    for first in range(0, len(flat), NERF_CHUNK):
        part = slice(first, first + NERF_CHUNK)
        origins, directions = rays.origins[ray[part]], rays.directions[ray[part]]
        points = origins + directions * flat[part, None]
        products = lookup.density_products(points), lookup.appearance_products(points)
        density, color = nerf_outputs(nerf, points, directions, products, options.latent)
        raw.append(density)
        rgb.append(color)
    delta = torch.cat([t[:, 1:] - t[:, :-1], torch.full_like(t[:, :1], 1000.0)], dim=-1)
    weights = render_weights(torch.relu(torch.cat(raw)).view_as(t), delta)
    colors = (weights[..., None] * torch.cat(rgb).view(n_rays, n, 3)).sum(dim=1)
    return Seen(colors, weights.sum(dim=-1), (weights * t).sum(dim=-1), _median(weights, t))


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
