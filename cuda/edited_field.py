"""A field with edits, in plain torch: density and colour of samples wherever their owners are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .decoder import Decoder, decode_runs
from .edit_claims import Claim, Claims
from .edit_tables import EditKind, EditTables
from .field import Field
from .lookup import Lookup
from .nerf import nerf_outputs
from .streamed_lookup import NO_BLOCK, StreamedLookup, lookup_of
from .tables import NerfMode, RenderOptions

NOWHERE = -1  # source of what CLEAR and PATCH own


@dataclass(frozen=True)
class _Read:
    """A field that samples are read from; number 0 is the edited one."""

    lookup: Lookup
    mask_threshold: float
    latents: Tensor | None  # of every operation, the last one where none has a say. [n_ops + 1, latent_dim]


class EditedField(Field):
    """A field with edits."""

    def __init__(self, lookup: Lookup, edits: EditTables, options: RenderOptions) -> None:
        super().__init__(lookup, options)
        self.ops = edits.ops
        self.claims = Claims.of(edits, lookup.device)
        n = len(edits.ops)
        styles = [op.latent for op in edits.ops]
        self.reads = [_Read(lookup, options.mask_threshold, _latents(styles, options.latent, lookup.device))]
        for source in edits.sources:
            latents = _latents([None] * n, source.latent, lookup.device)
            self.reads.append(_Read(lookup_of(source.tables), source.mask_threshold, latents))
        # Of every operation, the last entry of the field itself: NOBODY is -1.
        sources, scales, turns = [0] * (n + 1), [1.0] * (n + 1), [(1.0, 0.0)] * (n + 1)
        for number, op in enumerate(edits.ops):
            if op.kind is EditKind.INSTANCE:
                sources[number], scales[number] = op.source, op.sigma_scale
                turns[number] = (op.to_source.cosine, op.to_source.sine)
            elif op.kind is not EditKind.STYLE:
                sources[number] = NOWHERE
        self._source = torch.tensor(sources, device=lookup.device)
        self._scale = torch.tensor(scales, device=lookup.device)
        self._turn = torch.tensor(turns, device=lookup.device)

    def density(self, points: Tensor) -> tuple[Tensor, Tensor]:
        sigma, counts = self._sigma(points, self.claims.find(points))
        # What a stand-in knows nothing of may still be something.
        counts = counts if isinstance(self.lookup, StreamedLookup) else sigma > 0
        kept = counts.nonzero().squeeze(-1)
        return kept, sigma[kept]

    def blocks(self, points: Tensor) -> Tensor:
        claim = self.claims.find(points)
        own = self._source[claim.owner] == 0
        return super().blocks(claim.at).masked_fill(~own, NO_BLOCK)

    def colors(self, directions: Tensor, points: Tensor, weight: Tensor, ray: Tensor) -> Tensor:
        colors = torch.zeros_like(directions)
        claim = self.claims.find(points)
        key = torch.stack([ray, claim.owner, claim.style], dim=-1)
        begins = torch.ones_like(ray, dtype=torch.bool)
        begins[1:] = (key[1:] != key[:-1]).any(dim=-1)
        keys, run = key[begins], begins.cumsum(0) - 1
        for number, index in self._shares(claim.owner, with_patches=True):
            features = self._features(number, points[index], _part(claim, index))
            decoder, per_run = self._decoder(number, directions, keys)
            rgb, run_of_row = decode_runs(
                decoder, features, weight[index], run[index], per_run, self.options.quality
            )
            colors.index_add_(0, keys[run_of_row, 0], rgb)
        return colors

    def raw_density(self, points: Tensor) -> Tensor:
        claim = self.claims.find(points)
        raw = torch.zeros(len(points), device=points.device)
        for number, index in self._patches(claim.owner):
            raw[index] = self.claims.patch_slope(number, points[index])
        for number, index in self._shares(claim.owner):
            raw[index] = self.reads[number].lookup.raw_density(claim.at[index])
        return raw

    def nerf(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns density [n] and colour [n, 3] seen along directions. [n, 3]

        What has no such branch, patches and some sources, keeps its density of the grid and also its colour,
        unless that is added by the grid's own pass.
        """
        claim = self.claims.find(points)
        density, rgb = torch.zeros(len(points), device=points.device), torch.zeros_like(points)
        in_grid = self.lookup.is_inside(points)
        for number, index in self._shares(claim.owner):
            read, owner = self.reads[number], claim.owner[index]
            branch = read.lookup.tables.nerf
            if branch is None:
                continue
            in_grid[index] = False
            at, turned = claim.at[index], self._turned(directions[index], owner)
            products = read.lookup.density_products(at), read.lookup.appearance_products(at)
            latent = None if read.latents is None else read.latents[claim.style[index]]
            raw, rgb[index] = nerf_outputs(branch, at, turned, products, latent)
            density[index] = torch.relu(raw) * self._scale[owner]
        index = in_grid.nonzero().squeeze(-1)
        kept, sigma = self.density(points[index])
        index = index[kept]
        density[index] = sigma * self.options.distance_scale
        if self.options.nerf is not NerfMode.RESIDUAL:
            each, whole = torch.arange(len(index), device=points.device), torch.ones_like(sigma)
            rgb[index] = self.colors(directions[index], points[index], whole, each)
        return density, rgb

    def _sigma(self, points: Tensor, claim: Claim) -> tuple[Tensor, Tensor]:
        """Returns the density of points, and which of them count: not what is masked or cleared. [n] each"""
        sigma = torch.zeros(len(points), device=points.device)
        counts = torch.zeros(len(points), dtype=torch.bool, device=points.device)
        for number, index in self._patches(claim.owner):
            sigma[index] = self.claims.patch_sigma(number, points[index])
            counts[index] = True
        for number, index in self._shares(claim.owner):
            read = self.reads[number]
            at = claim.at[index]
            kept = read.lookup.is_inside(at).nonzero().squeeze(-1)
            kept = kept[read.lookup.is_occupied(at[kept], read.mask_threshold)]
            index = index[kept]
            sigma[index] = read.lookup.sigma(at[kept]) * self._scale[claim.owner[index]]
            counts[index] = True
        return sigma, counts

    def _features(self, number: int, points: Tensor, claim: Claim) -> Tensor:
        """Returns what decoder `number` is fed at samples that are its own. [n, feature_dim]"""
        lookup = self.reads[number].lookup
        is_patch = self._source[claim.owner] == NOWHERE
        features = points.new_empty(len(points), len(lookup.basis))
        features[~is_patch] = lookup.appearance_feature(claim.at[~is_patch])
        if number == 0:
            for patch, index in self._patches(claim.owner):
                features[index] = self.claims.patch_features(patch, points[index])
        return features

    def _decoder(self, number: int, directions: Tensor, keys: Tensor) -> tuple[Decoder, Tensor]:
        """Returns decoder `number` and its inputs of runs, by (ray, owner, style). [n_runs, 3]"""
        read = self.reads[number]
        decoder = Decoder(read.lookup.tables.decoder, read.lookup.device)
        ray, owner, style = keys.unbind(dim=-1)
        latent = None if read.latents is None else read.latents[style]
        return decoder, decoder.ray_inputs(self._turned(directions[ray], owner), latent)

    def _turned(self, directions: Tensor, owner: Tensor) -> Tensor:
        cosine, sine = self._turn[owner].unbind(dim=-1)
        x, y, z = directions.unbind(dim=-1)
        return torch.stack([cosine * x + sine * y, -sine * x + cosine * y, z], dim=-1)

    def _shares(self, owner: Tensor, with_patches: bool = False) -> Iterator[tuple[int, Tensor]]:
        """Yields every field that is read, and the numbers of the samples that it holds or decodes."""
        source = self._source[owner]
        if with_patches:  # the field's own decoder colours them; what is cleared has no weight
            source = source.clamp(min=0)
        for number in range(len(self.reads)):
            index = (source == number).nonzero().squeeze(-1)
            if len(index):
                yield number, index

    def _patches(self, owner: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yields every PATCH that owns samples, and their numbers."""
        for number in torch.unique(owner[self._source[owner] == NOWHERE]).tolist():
            if self.ops[number].kind is EditKind.PATCH:
                yield number, (owner == number).nonzero().squeeze(-1)


def _part(claim: Claim, index: Tensor) -> Claim:
    return Claim(claim.owner[index], claim.style[index], claim.at[index])


def _latents(styles: list[Tensor | None], last: Tensor | None, device: torch.device) -> Tensor | None:
    """Returns the embedding of every operation, of those without one the last. [n_ops + 1, latent_dim]"""
    if last is None:
        return None
    return torch.stack([last if style is None else style for style in [*styles, None]]).to(device)
