"""The renderer in plain torch over channel-last tables: what serves without a compiler and on CUDA devices.

It has the signature, the outputs and the qualities of the native code, and is one of its oracles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .decoder import Decoder
from .edited_field import EditedField
from .field import Field
from .lookup import Lookup
from .streamed_lookup import StreamedLookup, lookup_of
from .tables import (
    TILE,
    FieldTables,
    FrameBuffers,
    NerfMode,
    RenderControl,
    RenderOptions,
    View,
)

NERF_CHUNK = 65536  # points that go through the NeRF branch at once
ENDED = 1e-7  # a ray ends where less light is left: what is behind shall not decide about the last bit


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


class Reads:
    """What the rays of a chunk read of the blocks of a streamed field."""

    def __init__(self, field: Field, lookup: StreamedLookup, n_rays: int) -> None:
        n_blocks = len(lookup.tables.blocks)
        self._field, self._lookup = field, lookup
        self._lacking_rays = torch.zeros(n_rays, dtype=torch.bool, device=lookup.device)
        self._lacking = torch.zeros(n_blocks, dtype=torch.bool, device=lookup.device)
        self._needs = torch.zeros(n_blocks, device=lookup.device)

    @classmethod
    def of(cls, field: Field, n_rays: int) -> Reads | None:
        """Returns an empty record; None if the field is not streamed."""
        lookup = field.lookup
        return cls(field, lookup, n_rays) if isinstance(lookup, StreamedLookup) else None

    def note(self, points: Tensor, ray: Tensor, weight: Tensor | None = None) -> None:
        """Notes that rays [n] read points [n, 3], and what they weigh [n]."""
        block = self._field.blocks(points)
        lacks = self._lookup.lacks(block)
        self._lacking_rays[ray[lacks]] = True
        self._lacking[block[lacks]] = True
        if weight is not None:
            inside = block >= 0
            self._needs.index_add_(0, block[inside], weight[inside])

    def report(self, control: RenderControl, view: View, tiles: np.ndarray, pixels: Tensor) -> None:
        """Tells the control what was lacking in tiles with these pixels."""
        row = torch.div(pixels, view.width, rounding_mode="floor") // TILE
        tile = (row * control.columns + pixels % view.width // TILE).numpy()
        control.tile_lacking[tiles] = 0
        control.tile_lacking[tile[self._lacking_rays.cpu().numpy()]] = 1
        if control.lacking is not None:
            control.lacking |= self._lacking.to(torch.uint8).cpu().numpy()
        if control.needs is not None:
            control.needs += self._needs.cpu().numpy() / np.float32(view.width * view.height)


def render(
    tables: FieldTables,
    view: View,
    options: RenderOptions,
    buffers: FrameBuffers,
    control: RenderControl,
) -> bool:
    """Renders a view, a few tiles at a time. Returns False if it was cancelled."""
    lookup = lookup_of(tables, options.fade)
    field = Field(lookup, options) if options.edits is None else EditedField(lookup, options.edits, options)
    for first in range(0, len(control.order), options.chunk_tiles):
        if control.is_cancelled:
            return False
        tiles = control.order[first : first + options.chunk_tiles]
        pixels = _tile_pixels(tiles, control.columns, view)
        with torch.no_grad():
            reads = Reads.of(field, len(pixels))
            _render_pixels(field, view, buffers, pixels, reads)
            if reads is not None:
                reads.report(control, view, tiles, pixels)
        control.tile_done[tiles] = 1
        control.done_count[0] += len(tiles)
    return True


def query(
    tables: FieldTables, points: Tensor, lacking: np.ndarray | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns density feature [n], sigma [n] and appearance feature [n, feature_dim] at points [n, 3].

    Of a streamed field, `lacking` (uint8 [n_blocks]) gets 1 for every block that was read without being
    resident.
    """
    lookup = lookup_of(tables)
    points = points.to(lookup.device)
    with torch.no_grad():
        if isinstance(lookup, StreamedLookup):
            lookup.mark_lacking(points, lacking)
        feature, sigma = lookup.density_feature(points), lookup.sigma(points)
        return feature.cpu(), sigma.cpu(), lookup.appearance_feature(points).cpu()


def decode(tables: FieldTables, features: Tensor, directions: Tensor, latent: Tensor | None) -> Tensor:
    """Returns colours [n, 3] of features [n, feature_dim] seen along directions [n, 3]."""
    device = tables.device
    decoder = Decoder(tables.decoder, device)
    with torch.no_grad():
        per_ray = decoder.ray_inputs(directions.to(device), latent)
        return decoder.colors(features.to(device), per_ray).cpu()


def _tile_pixels(tiles: np.ndarray, columns: int, view: View) -> Tensor:
    """Returns the pixel numbers of tiles, row by row inside each. [n_pixels] int64"""
    tile = torch.from_numpy(tiles).to(torch.int64)
    row, column = (tile // columns * TILE)[:, None, None], (tile % columns * TILE)[:, None, None]
    row = row + torch.arange(TILE)[:, None]
    column = column + torch.arange(TILE)
    inside = (row < view.height) & (column < view.width)
    return (row * view.width + column)[inside]


def _render_pixels(
    field: Field, view: View, buffers: FrameBuffers, pixels: Tensor, reads: Reads | None
) -> None:
    rays = _cast(view, pixels, field.lookup.device)
    seen = _render_rays(field, rays, reads)
    buffers.rgb.view(-1, 3)[pixels] = seen.rgb.cpu()
    buffers.opacity.view(-1)[pixels] = seen.opacity.cpu()
    buffers.depth.view(-1)[pixels] = seen.depth.cpu()
    buffers.median_depth.view(-1)[pixels] = seen.median_depth.cpu()
    if buffers.normals is not None:
        normals = _normals(field, rays, seen.median_depth, reads)
        buffers.normals.view(-1, 3)[pixels] = normals.cpu()


def _cast(view: View, pixels: Tensor, device: torch.device) -> Rays:
    """Shoots rays, every operation rounded on its own, on the CPU: a device might fuse them."""
    column, row = (pixels % view.width).float(), torch.div(pixels, view.width, rounding_mode="floor").float()
    x = ((column - view.cx) / torch.tensor(view.fl_x))[:, None]
    y = (-(row - view.cy) / torch.tensor(view.fl_y))[:, None]
    right, up, back, eye = torch.from_numpy(np.ascontiguousarray(view.c2w.T, dtype=np.float32))
    directions = (x * right + y * up) + -1.0 * back
    return Rays(eye.expand_as(directions).to(device), directions.to(device))


def _render_rays(field: Field, rays: Rays, reads: Reads | None) -> Seen:
    options = field.options
    has_nerf = options.nerf is not NerfMode.OFF and field.lookup.tables.nerf is not None
    t, delta = _place(field.lookup, rays, options, whole=has_nerf)
    weights, kept, points = _weigh(field, rays, t, delta, reads)
    if not has_nerf or options.nerf is NerfMode.RESIDUAL:
        colors = _shade(field, rays, points, weights, kept)
        opacity = weights.sum(dim=-1)
        background = torch.tensor(options.background, device=t.device)
        rgb = (colors + (1.0 - opacity[:, None]) * background).clamp(0, 1)
    if not has_nerf:
        return Seen(rgb, opacity, (weights * t).sum(dim=-1), _median(weights, t))
    share = torch.linspace(0, 1, options.nerf_n_importance, device=t.device)
    t = draw_importance(t, weights, share.expand(len(t), -1).contiguous())
    seen = _render_nerf(field, rays, t, reads)
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
    field: Field, rays: Rays, t: Tensor, delta: Tensor, reads: Reads | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns weights [n_rays, n], the flat numbers of the samples that count [n_kept] and their points."""
    points = (rays.origins[:, None] + rays.directions[:, None] * t[..., None]).view(-1, 3)
    kept = field.lookup.is_inside(points).nonzero().squeeze(-1)
    points = points[kept]
    sigma = torch.zeros(t.numel(), device=t.device)
    if len(kept):
        counted, density = field.density(points)
        kept, points = kept[counted], points[counted]
        sigma[kept] = density
    weights, ended = _ended_weights(sigma.view_as(t), delta * field.options.distance_scale)
    if reads is not None:
        seen = ~ended.view(-1)[kept]
        ray = torch.div(kept[seen], t.shape[1], rounding_mode="floor")
        reads.note(points[seen], ray, weights.view(-1)[kept[seen]])
    return weights, kept, points


def render_weights(sigma: Tensor, length: Tensor) -> Tensor:
    """Weighs samples front to back, with LandMark's 1e-10. [n_rays, n] each"""
    alpha, before = _absorbed(sigma, length)
    return alpha * before


def _absorbed(sigma: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the share of light that each sample absorbs, and what light comes to it. [n_rays, n] each"""
    alpha = 1.0 - torch.exp(-sigma * length)
    passed = torch.cumprod(1.0 - alpha + 1e-10, dim=-1)
    return alpha, torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], dim=-1)


def _ended_weights(sigma: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the weights of samples, 0 where their ray has ended, and whether it has. [n_rays, n] each"""
    alpha, before = _absorbed(sigma, length)
    ended = before < ENDED
    return (alpha * before).masked_fill_(ended, 0.0), ended


def _shade(field: Field, rays: Rays, points: Tensor, weights: Tensor, kept: Tensor) -> Tensor:
    """Returns the weighted colour of each ray before the background. [n_rays, 3]"""
    weight = weights.reshape(-1)[kept]
    shaded = (weight > field.options.weight_threshold).nonzero().squeeze(-1)
    if not len(shaded):
        return torch.zeros_like(rays.directions)
    ray = torch.div(kept[shaded], weights.shape[1], rounding_mode="floor")
    return field.colors(rays.directions, points[shaded], weight[shaded], ray)


def _median(weights: Tensor, t: Tensor) -> Tensor:
    """Returns t of the first sample at which opacity reaches 0.5; 0 where it never does. [n_rays]"""
    reached = weights.cumsum(dim=-1) >= 0.5
    first = reached.to(torch.uint8).argmax(dim=-1, keepdim=True)
    return t.gather(1, first).squeeze(1) * reached.any(dim=-1)


def _normals(field: Field, rays: Rays, depth: Tensor, reads: Reads | None) -> Tensor:
    """Returns minus the gradient of the density feature, unit length; 0 without a depth. [n_rays, 3]"""
    normals = torch.zeros_like(rays.directions)
    hit = (depth > 0).nonzero().squeeze(-1)
    if not len(hit):
        return normals
    surface = rays.origins[hit] + rays.directions[hit] * depth[hit, None]
    offsets = field.options.step * torch.eye(3, device=surface.device)
    probes = torch.cat([surface[:, None] - offsets, surface[:, None] + offsets], dim=1)
    probes = probes.clamp(field.lookup.low, field.lookup.high)
    if reads is not None:
        reads.note(probes.reshape(-1, 3), hit.repeat_interleave(6))
    behind, ahead = field.raw_density(probes.reshape(-1, 3)).view(-1, 2, 3).unbind(dim=1)
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


def _render_nerf(field: Field, rays: Rays, t: Tensor, reads: Reads | None) -> Seen:
    """Renders the NeRF branch at all samples t [n_rays, n], inside the box or not, without background."""
    n_rays, n = t.shape
    ray = torch.arange(n_rays, device=t.device).repeat_interleave(n)
    flat = t.reshape(-1)
    raw, rgb = [], []
    for first in range(0, len(flat), NERF_CHUNK):
        part = slice(first, first + NERF_CHUNK)
        origins, directions = rays.origins[ray[part]], rays.directions[ray[part]]
        points = origins + directions * flat[part, None]
        density, color = field.nerf(points, directions)
        raw.append(density)
        rgb.append(color)
    delta = torch.cat([t[:, 1:] - t[:, :-1], torch.full_like(t[:, :1], 1000.0)], dim=-1)
    weights, ended = _ended_weights(torch.relu(torch.cat(raw)).view_as(t), delta)
    if reads is not None:
        points = rays.origins[:, None] + rays.directions[:, None] * t[..., None]
        reads.note(points[~ended], ray[~ended.view(-1)], weights[~ended])
    colors = (weights[..., None] * torch.cat(rgb).view(n_rays, n, 3)).sum(dim=1)
    return Seen(colors, weights.sum(dim=-1), (weights * t).sum(dim=-1), _median(weights, t))
