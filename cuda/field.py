"""A field in plain torch, as the renderer asks it: density, colour and NeRF branch of samples."""

from __future__ import annotations

import torch
from torch import Tensor

from .decoder import Decoder, decode_runs
from .lookup import Lookup
from .nerf import nerf_outputs
from .streamed_lookup import StreamedLookup
from .tables import RenderOptions


class Field:
    """A field as it is, seen with some options. Points are [n, 3] in scene units."""

    def __init__(self, lookup: Lookup, options: RenderOptions) -> None:
        self.lookup, self.options = lookup, options

    def density(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the numbers of the points that count and their density in 1 / scene unit. [n_kept] each"""
        kept = torch.arange(len(points), device=points.device)
        if self.lookup.tables.has_mask and self.options.mask_threshold >= 0:
            kept = self.lookup.is_occupied(points, self.options.mask_threshold).nonzero().squeeze(-1)
            points = points[kept]
        return kept, self.lookup.sigma(points)

    def blocks(self, points: Tensor) -> Tensor:
        """Returns the number of the streamed field's block that each point is read from; NO_BLOCK: none."""
        assert isinstance(self.lookup, StreamedLookup), "blocks of other fields are all there"
        return self.lookup.home(points)

    def colors(self, directions: Tensor, points: Tensor, weight: Tensor, ray: Tensor) -> Tensor:
        """Returns the weighted colours of rays before the background. [n_rays, 3]

        Args:
            directions: Of all rays. [n_rays, 3]
            points: Samples that are shaded, ray by ray, front to back. [n, 3]
            weight: Of each sample. [n]
            ray: Of each sample. [n]
        """
        decoder = Decoder(self.lookup.tables.decoder, self.lookup.device)
        features = self.lookup.appearance_feature(points)
        per_ray = decoder.ray_inputs(directions, self.options.latent)
        rgb, ray = decode_runs(decoder, features, weight, ray, per_ray, self.options.quality)
        return torch.zeros_like(directions).index_add_(0, ray, rgb)

    def raw_density(self, points: Tensor) -> Tensor:
        """Returns the density feature before relu and activation. [n]"""
        return self.lookup.raw_density(points)

    def nerf(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns raw density [n] and colour [n, 3] of the NeRF branch seen along directions. [n, 3]"""
        branch = self.lookup.tables.nerf
        assert branch is not None, "a field without the branch is not asked for it"
        products = self.lookup.density_products(points), self.lookup.appearance_products(points)
        return nerf_outputs(branch, points, directions, products, self.options.latent)
