"""Which operation owns a sample and which one styles it, in plain torch: the ops are asked one by one.

The index over the plan is not used, so this is an oracle of it, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .edit_tables import EditKind, EditOp, EditTables, Footprint, Transform

NOBODY = -1
THINNEST = 1e-12  # rise of a surface without one
SLACK = 1e-4  # of its size and place, by which the box around an operation is widened against rounding


@dataclass(frozen=True)
class Claim:
    """Who has a claim to points."""

    owner: Tensor  # number of the operation that owns the point; NOBODY: the field itself. int64 [n]
    style: Tensor  # number of the STYLE operation that colours it; NOBODY: none. int64 [n]
    at: Tensor  # where its owner is read; the point itself for all kinds but INSTANCE. [n, 3]


class Claims:
    """The operations of edits, ready to be asked on one device."""

    def __init__(self, edits: EditTables, device: torch.device) -> None:
        self._claimants = [_Claimant(number, op, device) for number, op in enumerate(edits.ops)]
        keeps_out = [op.kind is EditKind.CLEAR or op.source > 0 for op in edits.ops]
        self._keeps_out = torch.tensor([*keeps_out, False], device=device)  # the field itself comes last
        reaches = [bounds(op) for op in edits.ops]
        self._reach_x = torch.tensor([[low[0], high[0]] for low, high in reaches], device=device).view(-1, 2)

    @classmethod
    def of(cls, edits: EditTables, device: torch.device) -> Claims:
        """Returns the claims of edits, made on first use and kept in their cache."""
        key = f"claims on {device}"
        found = edits.cache.get(key)
        if not isinstance(found, Claims):
            found = cls(edits, device)
            edits.cache[key] = found
        return found

    def find(self, points: Tensor) -> Claim:
        """Asks the operations from the top down; each only sees points that none above it claimed. [n, 3]

        Styles reach neither other sources nor what is cleared.
        """
        owner = torch.full((len(points),), NOBODY, device=points.device)
        style = torch.full_like(owner, NOBODY)
        at = points.clone()
        x, by_x = points[:, 0].sort()
        spans = torch.searchsorted(x, self._reach_x).tolist()  # of `by_x`, one of every operation
        for claimant, (begin, end) in zip(reversed(self._claimants), reversed(spans), strict=True):
            target = style if claimant.op.kind is EditKind.STYLE else owner
            near = by_x[begin:end]
            near = near[(target[near] == NOBODY) & claimant.may_claim(points[near])]
            source = claimant.to_source(points[near])
            claimed = claimant.claims(source)
            target[near[claimed]] = claimant.number
            if claimant.op.kind is EditKind.INSTANCE:
                at[near[claimed]] = source[claimed]
        return Claim(owner, style.masked_fill(self._keeps_out[owner], NOBODY), at)

    def patch_slope(self, number: int, points: Tensor) -> Tensor:
        """Returns what the sigma of PATCH `number` is cut from at points that it owns. [n, 3] -> [n]"""
        claimant = self._claimants[number]
        op = claimant.op
        above = claimant.ground(points) + op.rise - points[:, 2]
        return op.sigma * above / max(2 * op.rise, THINNEST)

    def patch_sigma(self, number: int, points: Tensor) -> Tensor:
        """Returns the density of PATCH `number` at points that it owns. [n, 3] -> [n]"""
        return self.patch_slope(number, points).clamp(0, self._claimants[number].op.sigma)

    def patch_features(self, number: int, points: Tensor) -> Tensor:
        """Returns what PATCH `number` feeds the decoder at points that it owns. [n, 3] -> [n, feature_dim]"""
        return self._claimants[number].features(points)


class _Claimant:
    """One operation with its rasters on a device."""

    def __init__(self, number: int, op: EditOp, device: torch.device) -> None:
        self.number, self.op = number, op
        low, high = bounds(op)
        self._low, self._high = low.to(device), high.to(device)
        self._mask = None if op.footprint is None else op.footprint.mask.to(device).bool()
        self._ground = None if op.ground is None else op.ground.to(device)[..., None]
        self._features = None if op.features is None else op.features.to(device)

    def may_claim(self, points: Tensor) -> Tensor:
        """Whether points lie in a box around all that the operation can claim. [n, 3] -> [n]"""
        near: Tensor = ((points >= self._low) & (points <= self._high)).all(dim=-1)
        return near

    def to_source(self, points: Tensor) -> Tensor:
        """Returns where the operation reads what it puts at points. [n, 3]"""
        return points if self.op.kind is not EditKind.INSTANCE else to_source(self.op.to_source, points)

    def claims(self, source: Tensor) -> Tensor:
        """Whether the operation claims points whose place in the source is given. [n, 3] -> [n]"""
        op, z = self.op, source[:, 2]
        claimed = (z >= op.z_low) & (z < op.z_high)
        claimed &= self._holds(source) == op.inside
        if op.kind is EditKind.PATCH:
            index = claimed.nonzero().squeeze(-1)
            claimed[index] = z[index] >= self.ground(source[index]) - op.thickness
        return claimed

    def ground(self, points: Tensor) -> Tensor:
        """Returns the height of the patch's surface. [n, 3] -> [n]"""
        assert self.op.footprint is not None, "a PATCH has a footprint"
        assert self._ground is not None, "a PATCH has a ground"
        return _bilinear(self._ground, self.op.footprint, points).squeeze(-1)

    def features(self, points: Tensor) -> Tensor:
        """Returns the patch's features. [n, 3] -> [n, feature_dim]"""
        assert self.op.footprint is not None, "a PATCH has a footprint"
        assert self._features is not None, "a PATCH has features"
        return _bilinear(self._features, self.op.footprint, points)

    def _holds(self, points: Tensor) -> Tensor:
        if self._mask is None:
            return torch.ones(len(points), dtype=torch.bool, device=points.device)
        assert self.op.footprint is not None
        u, v = (place.floor() for place in _places(self.op.footprint, points))
        n_v, n_u = self._mask.shape
        held = (u >= 0) & (u < n_u) & (v >= 0) & (v < n_v)
        u, v = u.clamp(0, n_u - 1).long(), v.clamp(0, n_v - 1).long()
        return held & self._mask[v, u]


def to_source(transform: Transform, points: Tensor) -> Tensor:
    """Returns points of the edited scene in the source's coordinates. [n, 3]"""
    x, y, z = points.unbind(dim=-1)
    t = transform
    return torch.stack(
        [t.xx * x + t.xy * y + t.x0, -t.xy * x + t.xx * y + t.y0, t.zz * z + t.z0],
        dim=-1,
    )


def bounds(op: EditOp) -> tuple[Tensor, Tensor]:
    """Returns a box of the edited scene that holds all that an operation can claim, with slack. [3] each"""
    t = op.to_source if op.kind is EditKind.INSTANCE else Transform()
    low, high = np.full(3, -np.inf), np.full(3, np.inf)
    low[2], high[2] = (op.z_low - t.z0) / t.zz, (op.z_high - t.z0) / t.zz
    if op.footprint is not None and op.inside:
        n_v, n_u = op.footprint.mask.shape
        (x, y), side = op.footprint.low, op.footprint.side
        corners = np.array([(x + i * side * n_u, y + j * side * n_v) for i in (0, 1) for j in (0, 1)])
        turn = np.linalg.inv([[t.xx, t.xy], [-t.xy, t.xx]])
        corners = (corners - (t.x0, t.y0)) @ turn.T
        low[:2], high[:2] = corners.min(axis=0), corners.max(axis=0)
        reach = np.abs(corners).max() + np.abs(turn).max() * (abs(t.x0) + abs(t.y0) + abs(x) + abs(y) + side)
        low[:2] -= SLACK * reach
        high[:2] += SLACK * reach
    slack = SLACK * (np.abs([low[2], high[2]]) + (abs(t.z0) + 1) / t.zz)
    low[2], high[2] = low[2] - slack[0], high[2] + slack[1]
    return torch.from_numpy(low).float(), torch.from_numpy(high).float()


def _places(footprint: Footprint, points: Tensor) -> tuple[Tensor, Tensor]:
    """Returns x and y of points in cells from the footprint's corner. [n] each"""
    scale = 1 / footprint.side
    return (points[:, 0] - footprint.low[0]) * scale, (points[:, 1] - footprint.low[1]) * scale


def _bilinear(raster: Tensor, footprint: Footprint, points: Tensor) -> Tensor:
    """Reads a raster [n_v, n_u, channels] over the footprint's cells between their centres. [n, channels]"""
    (u, u_next, u_share), (v, v_next, v_share) = (
        _neighbours(place, n)
        for place, n in zip(_places(footprint, points), reversed(raster.shape[:2]), strict=True)
    )
    below = raster[v, u] * (1 - u_share) + raster[v, u_next] * u_share
    above = raster[v_next, u] * (1 - u_share) + raster[v_next, u_next] * u_share
    return below * (1 - v_share) + above * v_share


def _neighbours(place: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the cells whose centres lie before and behind a place, and the share of the latter."""
    place = (place - 0.5).clamp(0, n - 1)
    before = place.floor().clamp(max=max(n - 2, 0))
    first = before.long()
    return first, (first + 1).clamp(max=n - 1), (place - before)[:, None]
