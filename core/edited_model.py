"""A model with edits, by their definition and to be read: every operation is asked at every point.

The model itself is the lowest operation, an instance of itself that claims everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..cuda.edit_tables import EditKind, EditOp, Footprint
from ..cuda.tables import NerfMode, RenderOptions
from .gridnerf import GridNeRF
from .nerf import nerf_outputs


@dataclass(frozen=True)
class Owners:
    """To whom points belong."""

    owner: Tensor  # number of the operation that owns each; 0: the model itself. [n]
    style: Tensor  # number of the STYLE operation on each; 0: none. [n]
    at: Tensor  # where its owner is read. [n, 3]

    def __getitem__(self, index: Tensor) -> Owners:
        return Owners(self.owner[index], self.style[index], self.at[index])


@dataclass(frozen=True)
class Reading:
    """A model that points are read from."""

    model: GridNeRF
    mask_threshold: float
    latent: Tensor | None  # of points without a style

    def is_inside(self, points: Tensor) -> Tensor:
        """Whether points lie in the model's box, faces included. [n, 3] -> [n]"""
        low, high = self.model.aabb.to(points.device)
        inside: Tensor = ((points >= low) & (points <= high)).all(dim=-1)
        return inside

    def sigma(self, points: Tensor) -> Tensor:
        """Returns density, 1 / scene unit: 0 outside of the box and where the mask says so. [n]"""
        kept = self.is_inside(points)
        if self.model.occupancy is not None and kept.any():
            kept[kept.clone()] = self.model.occupancy.sample(points[kept]) > self.mask_threshold
        sigma = torch.zeros(len(points), device=points.device)
        if kept.any():
            sigma[kept] = self.model.sigma(points[kept])
        return sigma


class EditedModel:
    """What a picture asks of a model and its edits. Points are [n, 3] in scene units."""

    def __init__(self, model: GridNeRF, options: RenderOptions, sources: tuple[GridNeRF, ...] = ()) -> None:
        """`sources` are the models of `options.edits.sources`."""
        self.model, self.options = model, options
        edits = options.edits
        self.ops = (EditOp(EditKind.INSTANCE), *(edits.ops if edits else ()))
        self.readings = [Reading(model, options.mask_threshold, options.latent)]
        for source, tables in zip(sources, edits.sources if edits else (), strict=True):
            self.readings.append(Reading(source, tables.mask_threshold, tables.latent))

    def owners(self, points: Tensor) -> Owners:
        """Lets the operations claim points from the bottom up: the last claim counts.

        Styles reach neither other sources nor what is cleared.
        """
        owner = torch.zeros(len(points), dtype=torch.int64, device=points.device)
        style, at = owner.clone(), points
        for number, op in enumerate(self.ops):
            source = to_source(op, points)
            claimed = claims(op, source)
            if op.kind is EditKind.STYLE:
                style = torch.where(claimed, number, style)
            else:
                owner = torch.where(claimed, number, owner)
                at = torch.where(claimed[:, None], source, at)
        styled = [op.kind is not EditKind.CLEAR and op.source == 0 for op in self.ops]
        style = style * torch.tensor(styled, device=points.device)[owner]
        return Owners(owner, style, at)

    def sigma(self, points: Tensor) -> Tensor:
        """Returns density, 1 / scene unit. [n]"""
        return self._sigma(self.owners(points))

    def raw_density(self, points: Tensor) -> Tensor:
        """Returns the density feature before relu and activation, of patches what their sigma is cut from."""
        owners = self.owners(points)
        raw = torch.zeros(len(points), device=points.device)
        for op, mine in self._owned(owners):
            at = owners.at[mine]
            is_patch = op.kind is EditKind.PATCH
            raw[mine] = patch_slope(op, at) if is_patch else _raw_density(self.readings[op.source].model, at)
        return raw

    def decoder_of(self, owners: Owners) -> Tensor:
        """Returns the number of the reading whose decoder colours points. [n]"""
        numbers = [op.source if op.kind is EditKind.INSTANCE else 0 for op in self.ops]
        return torch.tensor(numbers, device=owners.owner.device)[owners.owner]

    def features(self, number: int, owners: Owners) -> Tensor:
        """Returns what decoder `number` is fed at points that it serves. [n, feature_dim]"""
        features = owners.at.new_zeros(len(owners.at), len(self.readings[number].model.decoder.basis))
        for op, mine in self._owned(owners):
            at = owners.at[mine]
            if op.kind is EditKind.PATCH:
                features[mine] = read_raster(op.features, op.footprint, at)
            else:
                features[mine] = self.readings[op.source].model.appearance_feature(at)
        return features

    def colors(self, number: int, features: Tensor, owners: Owners, directions: Tensor) -> Tensor:
        """Returns colours of points that decoder `number` serves, seen along directions. [n, 3]"""
        latents = self._latents(number, owners)
        return self.readings[number].model.color(features, self._turned(owners, directions), latents)

    def nerf(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Returns raw density [n] and colour [n, 3] of the NeRF branch.

        Patches and models without the branch are as in the grid; beside the grid's own picture (RESIDUAL),
        they add no colour.
        """
        owners, options = self.owners(points), self.options
        raw, rgb = torch.zeros(len(points), device=points.device), torch.zeros_like(points)
        in_box = self.readings[0].is_inside(points)
        for op, mine in self._owned(owners):
            reading, mine_owners = self.readings[op.source], owners[mine]
            branch = reading.model.nerf if op.kind is EditKind.INSTANCE else None
            if branch is None:
                raw[mine] = self._sigma(mine_owners) * in_box[mine] * options.distance_scale
                if options.nerf is not NerfMode.RESIDUAL:
                    features = self.features(op.source, mine_owners)
                    rgb[mine] = self.colors(op.source, features, mine_owners, directions[mine])
                continue
            raw[mine], rgb[mine] = nerf_outputs(
                reading.model,
                branch,
                mine_owners.at,
                self._turned(mine_owners, directions[mine]),
                self._latents(op.source, mine_owners),
            )
            raw[mine] *= op.sigma_scale
        return raw, rgb

    def _sigma(self, owners: Owners) -> Tensor:
        sigma = torch.zeros(len(owners.at), device=owners.at.device)
        for op, mine in self._owned(owners):
            at = owners.at[mine]
            if op.kind is EditKind.PATCH:
                sigma[mine] = patch_slope(op, at).clamp(0, op.sigma)
            else:
                sigma[mine] = self.readings[op.source].sigma(at) * op.sigma_scale
        return sigma

    def _owned(self, owners: Owners) -> list[tuple[EditOp, Tensor]]:
        """Returns the operations that own points and hold something, each with the points' numbers."""
        held = []
        for number, op in enumerate(self.ops):
            mine = (owners.owner == number).nonzero().squeeze(-1)
            if len(mine) and op.kind is not EditKind.CLEAR:
                held.append((op, mine))
        return held

    def _turned(self, owners: Owners, directions: Tensor) -> Tensor:
        turns = [(op.to_source.cosine, op.to_source.sine) for op in self.ops]
        cosine, sine = torch.tensor(turns, device=directions.device)[owners.owner].unbind(dim=-1)
        x, y, z = directions.unbind(dim=-1)
        return torch.stack([cosine * x + sine * y, -sine * x + cosine * y, z], dim=-1)

    def _latents(self, number: int, owners: Owners) -> Tensor | None:
        """Returns the embedding of every point; styles reach only what the model itself colours."""
        own = self.readings[number].latent
        if own is None:
            return None
        styles = [own if number or op.latent is None else op.latent for op in self.ops]
        return torch.stack(styles).to(owners.at.device)[owners.style]


def to_source(op: EditOp, points: Tensor) -> Tensor:
    """Returns where an operation reads what it puts at points. [n, 3]"""
    if op.kind is not EditKind.INSTANCE:
        return points
    x, y, z = points.unbind(dim=-1)
    t = op.to_source
    return torch.stack([t.xx * x + t.xy * y + t.x0, -t.xy * x + t.xx * y + t.y0, t.zz * z + t.z0], dim=-1)


def claims(op: EditOp, source: Tensor) -> Tensor:
    """Whether an operation claims points, their place in its source given. [n, 3] -> [n]"""
    z = source[:, 2]
    held = torch.ones(len(z), dtype=torch.bool, device=z.device)
    if op.footprint is not None:
        n_y, n_x = op.footprint.mask.shape
        x, y = (place.floor() for place in _cells(op.footprint, source))
        held = (x >= 0) & (x < n_x) & (y >= 0) & (y < n_y)
        mask = op.footprint.mask.to(z.device)
        held &= mask[y.clamp(0, n_y - 1).long(), x.clamp(0, n_x - 1).long()] == 1
    claimed = (held == op.inside) & (z >= op.z_low) & (z < op.z_high)
    if op.kind is EditKind.PATCH:
        claimed &= z >= _ground(op, source) - op.thickness
    return claimed


def patch_slope(op: EditOp, points: Tensor) -> Tensor:
    """Returns the density of a PATCH at points that it owns before it is cut to 0 .. op.sigma. [n]"""
    above = _ground(op, points) + op.rise - points[:, 2]
    return op.sigma * above / max(2 * op.rise, 1e-12)


def read_raster(raster: Tensor | None, footprint: Footprint | None, points: Tensor) -> Tensor:
    """Reads a raster [n_y, n_x, channels] bilinearly between cell centres, clamped at the rim."""
    assert raster is not None, "a PATCH has ground and features"
    assert footprint is not None, "a PATCH has a footprint"
    raster = raster.to(points.device)
    n_y, n_x = raster.shape[:2]
    x, y = _cells(footprint, points)
    x, y = (x - 0.5).clamp(0, n_x - 1), (y - 0.5).clamp(0, n_y - 1)
    i, j = x.floor().long().clamp(max=max(n_x - 2, 0)), y.floor().long().clamp(max=max(n_y - 2, 0))
    right, above = (i + 1).clamp(max=n_x - 1), (j + 1).clamp(max=n_y - 1)
    u, v = (x - i)[:, None], (y - j)[:, None]
    low = raster[j, i] * (1 - u) + raster[j, right] * u
    high = raster[above, i] * (1 - u) + raster[above, right] * u
    return low * (1 - v) + high * v


def _ground(op: EditOp, points: Tensor) -> Tensor:
    ground = None if op.ground is None else op.ground[..., None]
    return read_raster(ground, op.footprint, points).squeeze(-1)


def _cells(footprint: Footprint, points: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x and y of points, counted in cells from the footprint's lower corner. [n] each"""
    scale = 1 / footprint.side
    return (points[:, 0] - footprint.low[0]) * scale, (points[:, 1] - footprint.low[1]) * scale


def _raw_density(model: GridNeRF, points: Tensor) -> Tensor:
    products = model.density_products(points)
    if model.density_basis is None:
        return products.sum(dim=-1)
    return products @ model.density_basis.to(points.device).reshape(-1)
