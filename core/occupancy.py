"""OccupancyGrid: LandMark's alpha mask, 0 or 1 at the vertices of a regular grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class OccupancyGrid:
    """Vertices that may hold matter; a sample is kept where their trilinear mean exceeds a threshold."""

    nodes: Tensor  # uint8, 0 or 1. [n_z, n_y, n_x]
    aabb: Tensor  # float32. [2, 3]

    @classmethod
    def from_packed(cls, packed: np.ndarray, shape: tuple[int, int, int], aabb: Tensor) -> OccupancyGrid:
        """Unpacks LandMark's bits (most significant first, x fastest). shape = (n_z, n_y, n_x)"""
        bits = np.unpackbits(packed, count=shape[0] * shape[1] * shape[2])
        return cls(torch.from_numpy(bits.reshape(shape)), aabb)

    def packed(self) -> np.ndarray:
        """Returns the bits as LandMark stores them. uint8 [ceil(n / 8)]"""
        return np.packbits(self.nodes.numpy().reshape(-1))

    def sample(self, points: Tensor) -> Tensor:
        """Interpolates the mask at world points; 0 outside its box. [n, 3] -> [n]"""
        low, high = self.aabb
        position = (points - low) * (1.0 / (high - low) * 2) - 1
        volume = self.nodes.to(points.device, torch.float32)[None, None]
        return F.grid_sample(volume, position.view(1, -1, 1, 1, 3), align_corners=True).view(-1)
