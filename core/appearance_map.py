"""A plane through an appearance table on which appearances can be seen side by side and picked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MARGIN = 0.15  # of the map around its points, as a share of their extent


@dataclass(frozen=True)
class AppearanceMap:
    """The mean of some embeddings and the two directions in which they differ most."""

    table: Tensor  # float32 [n_codes, latent_dim]
    mean: Tensor  # [latent_dim]
    axes: Tensor  # orthonormal [2, latent_dim]
    half: tuple[float, float]  # the map reaches so far from its middle along each axis

    @classmethod
    def of(cls, table: Tensor, codes: tuple[int, ...] = ()) -> AppearanceMap:
        """Fits the plane to rows of a table by their principal components; the same one every time.

        Args:
            table: All embeddings. [n_codes, latent_dim]
            codes: Rows that the plane is fitted to; (): all.
        """
        table = table.to(torch.float32)
        rows = table[list(codes)] if codes else table
        mean = rows.mean(dim=0)
        # Of a symmetric matrix no larger than an embedding, however many rows there are.
        _, axes = torch.linalg.eigh(((rows - mean).T @ (rows - mean)).double())
        axes = axes[:, -2:].flip(1).T.to(torch.float32)
        if len(axes) < 2:  # embeddings of one number
            axes = torch.cat([axes, torch.zeros(2 - len(axes), table.shape[1])])
        largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
        axes = axes * torch.where(largest < 0, -1.0, 1.0)  # a sign is otherwise up to the solver
        extent = ((rows - mean) @ axes.T).abs().amax(dim=0)
        half = (1 + MARGIN) * torch.where(extent > 1e-6, extent, extent.amax().clamp(min=1.0))
        return cls(table, mean, axes, (float(half[0]), float(half[1])))

    def place(self, embeddings: Tensor) -> np.ndarray:
        """Returns where embeddings [n, latent_dim] lie: x to the right, y up, in [-1, 1] there. [n, 2]"""
        at = (embeddings.to(torch.float32) - self.mean) @ self.axes.T
        return (at / torch.tensor(self.half)).numpy()

    def embedding(self, x: float, y: float) -> Tensor:
        """Returns the embedding of a place on the map. [latent_dim]"""
        at = torch.tensor([x * self.half[0], y * self.half[1]], dtype=torch.float32)
        return self.mean + at @ self.axes

    def nearest(self, embedding: Tensor, n: int = 3) -> tuple[tuple[int, float], ...]:
        """Returns the rows nearest to an embedding [latent_dim] with their distances, nearest first.

        Of rows that are alike, as those that nothing was learnt into may be, the first one stands for all.
        """
        distance = torch.linalg.vector_norm(self.table - embedding.to(torch.float32), dim=1)
        ordered, codes = torch.sort(distance, stable=True)
        is_new = torch.ones_like(codes, dtype=torch.bool)
        is_new[1:] = ordered[1:] != ordered[:-1]
        return tuple((int(code), float(distance[code])) for code in codes[is_new][:n])
