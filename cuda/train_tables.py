"""What one training step reads and writes: trainable tables, a batch of rays, what the step returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .tables import DecoderWeights, NerfWeights, OccupancyNodes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainTables:
    """The trainable field, float32, contiguous; the tensors are the parameters themselves, not copies.

    Tables are numbered p = direction * n_levels + level, with the plane and line axes of `BlockTables`. All
    blocks have equal shapes and are stacked. Channels are padded with zeros to a multiple of
    CHANNEL_MULTIPLE; padding never gets a gradient, so it stays zero.
    """

    aabb: Tensor  # [2, 3], scene units, on the CPU
    division: tuple[int, int]  # blocks along x and y; block (i, j) has index i * division[1] + j
    n_directions: int  # 1 or 3
    n_levels: int
    density_channels: tuple[int, ...]  # unpadded, one per direction
    appearance_channels: tuple[int, ...]  # unpadded, one per direction
    density_planes: tuple[Tensor, ...]  # [n_blocks, n_v, n_u, channels]
    density_lines: tuple[Tensor, ...]  # [n_blocks, n_w, channels]
    appearance_planes: tuple[Tensor, ...]  # [n_blocks, n_v, n_u, channels]
    appearance_lines: tuple[Tensor, ...]  # [n_blocks, n_w, channels]
    activation: str  # "softplus" or "relu"
    density_shift: float  # added before softplus
    density_basis: Tensor | None  # [n_levels * sum(density_channels)] for nonlinear density
    decoder: DecoderWeights
    embedding: Tensor | None = None  # appearance codes [n_codes, latent_dim]
    nerf: NerfWeights | None = None  # given only while the NeRF branch is trained
    occupancy: OccupancyNodes | None = None

    @property
    def n_blocks(self) -> int:
        """Number of blocks; a point in none of them has density 0."""
        return self.division[0] * self.division[1]


@dataclass(frozen=True)
class RayBatch:
    """Rays with the colours they should have, and every random number that the step uses."""

    origins: Tensor  # [n, 3] float32, scene units
    directions: Tensor  # [n, 3] float32, not normalised: t is z-depth
    rgb: Tensor  # [n, 3] float32 in [0, 1]
    jitter: Tensor  # [n] float32 in [0, 1): box samples lie at t_first + step * (k + jitter)
    codes: Tensor | None = None  # [n] int32, row of `embedding` of each ray
    hull_jitter: Tensor | None = None  # [n, n_importance] float32 in [0, 1), NeRF branch only
    nerf_u: Tensor | None = None  # [n, nerf_n_importance] float32 in [0, 1), NeRF branch only


@dataclass(frozen=True)
class TrainOptions:
    """Everything that decides a step beside field and batch."""

    near: float
    far: float
    step: float  # distance between box samples, scene units
    n_samples: int  # box samples per ray; the last one has length 0
    distance_scale: float
    weight_threshold: float  # a sample is shaded where its weight exceeds this
    mask_threshold: float  # a sample is kept where the alpha mask exceeds this
    background: tuple[float, float, float]  # added with weight 1 - opacity
    distortion_weight: float = 0.0  # of the distortion loss (arxiv.org/abs/2111.12077, Eq. 15); 0: off
    residual_nerf: bool = False  # the NeRF branch is added to the grid's colour of the hull pass
    extra_loss: Callable[[Tensor], Tensor] | None = None  # of predicted rgb [n, 3], differentiable (LPIPS)
    threads: int = 0  # 0: all cores this process may use

    @property
    def n_threads(self) -> int:
        """Threads to start on the CPU."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class PlaneUpdate:
    """How the planes are updated in place: Adam over data, total variation and L1 gradients.

    A plane's gradient is d(loss)/d(plane) + d/d(plane) of
    tv * 2 * (sum of squared row differences / (C * (n_v - 1) * n_u)
              + sum of squared column differences / (C * n_v * (n_u - 1)))   (C unpadded, per block)
    + l1 * mean(|plane|) (density planes only, mean over unpadded entries, per block).
    Adam is torch's: p -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
    """

    density_moments: tuple[tuple[Tensor, Tensor], ...]  # (m, v) of every density plane, same shape
    appearance_moments: tuple[tuple[Tensor, Tensor], ...]
    learning_rate: float
    count: int  # t: Adam steps since the moments were zero, this one included; 1 or more
    tv_density: float = 0.0
    tv_appearance: float = 0.0
    l1_density: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-8


@dataclass(frozen=True)
class Gradients:
    """Gradients of the data losses (no TV, L1, orthogonality), shaped as the parameters."""

    density_lines: tuple[Tensor, ...]
    appearance_lines: tuple[Tensor, ...]
    basis: Tensor
    layers: tuple[tuple[Tensor, Tensor | None], ...]
    density_basis: Tensor | None = None
    embedding: Tensor | None = None
    nerf: NerfWeights | None = None  # gradients in the places of the weights
    density_planes: tuple[Tensor, ...] | None = None  # None if a PlaneUpdate was applied instead
    appearance_planes: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class StepResult:
    """What a step found. The total loss is loss + hull_loss + nerf_loss + distortion + extra."""

    rgb: Tensor  # predictions [n, 3]
    loss: float  # mean squared error of rgb
    gradients: Gradients
    distortion: float = 0.0  # weighted
    hull_loss: float = 0.0  # mean squared error of the hull pass, NeRF branch only
    nerf_loss: float = 0.0  # mean squared error of the NeRF branch
    extra: float = 0.0  # value of extra_loss
    n_inside: int = 0  # box samples inside box and mask
    n_dense: int = 0  # of these, samples of positive density (relu) or all (softplus)
    n_shaded: int = 0  # samples that the decoder saw
