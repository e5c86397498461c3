"""Small random radiance fields of every shape, made in memory, and pictures of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from landmark_viewer.core.blocks import BlockLayout
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.gridnerf import FieldBlock, GridNeRF
from landmark_viewer.core.occupancy import OccupancyGrid
from landmark_viewer.core.settings import LANDMARK_DEFAULTS, ModelSettings, Sampling
from landmark_viewer.cuda.tables import DecoderWeights, NerfWeights

AABB = torch.tensor([[-1.0, -1.2, -0.1], [1.1, 1.0, 0.5]])


@dataclass(frozen=True)
class Shape:
    """What kind of field to make."""

    levels: int = 1
    directions: int = 1
    density: tuple[int, ...] = (4,)
    appearance: tuple[int, ...] = (6,)
    grid: tuple[int, int, int] = (12, 10, 6)  # vertices of a block's first level
    division: tuple[int, int] = (1, 1)
    missing: tuple[int, ...] = ()  # absent blocks
    zero_sigma_outside: bool = False
    feature_dim: int = 5
    hidden: int = 16
    latent: int = 0
    feature_pe: int = 2
    view_pe: int = 2
    bias: bool = True
    nonlinear: bool = False
    activation: str = "relu"
    opacity: float = 1.0  # scales density
    mask: tuple[int, int, int] | None = None  # vertices along x, y, z
    mask_share: float = 0.3  # of vertices that are set
    mask_shift: float = 0.0  # moves the mask's box against the field's, scene units
    nerf: bool = False


# One field for every way in which fields differ.
SHAPES = {
    "plain": Shape(),
    "three levels": Shape(levels=3),
    "three directions": Shape(directions=3, levels=2, density=(5, 8, 3), appearance=(27, 6, 9)),
    "channels of the real ones": Shape(levels=3, density=(8,), appearance=(24,), feature_dim=27, hidden=128),
    "wide channels": Shape(density=(16,), appearance=(48,), hidden=17),
    "blocks": Shape(division=(2, 3), levels=2),
    "a block is missing": Shape(division=(2, 2), missing=(1,), activation="softplus"),
    "void outside the blocks": Shape(division=(2, 2), missing=(2,), zero_sigma_outside=True),
    "directions and blocks": Shape(directions=3, density=(4, 4, 4), appearance=(6, 6, 6), division=(1, 2)),
    "sparse mask": Shape(mask=(23, 19, 9), mask_share=0.01, opacity=0.3),
    "dense mask": Shape(mask=(9, 8, 5), mask_share=0.6),
    "mask of another box": Shape(mask=(9, 8, 5), mask_share=0.6, mask_shift=0.37),
    "empty mask": Shape(mask=(9, 8, 5), mask_share=0.0),
    "full mask": Shape(mask=(4, 4, 2), mask_share=1.0),
    "latent": Shape(latent=7, levels=2),
    "no bias": Shape(bias=False, hidden=33),
    "nonlinear": Shape(nonlinear=True, levels=2, density=(5,)),
    "softplus": Shape(activation="softplus", opacity=0.5),
    "nonlinear softplus": Shape(nonlinear=True, activation="softplus", density=(9,)),
    "no encodings": Shape(feature_pe=0, view_pe=0),
    "no direction": Shape(view_pe=-1, feature_pe=1),
    "high frequencies": Shape(feature_pe=5, view_pe=4),
    "thin": Shape(grid=(2, 2, 2)),
    "opaque": Shape(opacity=40.0),
    "fog": Shape(opacity=0.05),
}


def make_field(shape: Shape, seed: int = 0) -> GridNeRF:
    """Returns a random field; the same seed gives the same field."""
    random = torch.Generator().manual_seed(seed)

    def normal(*size: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*size, generator=random) * scale

    blocks = tuple(_make_block(shape, random) for _ in range(shape.division[0] * shape.division[1]))
    n_inputs = shape.feature_dim * (1 + 2 * shape.feature_pe) + shape.latent
    n_inputs += 3 + 6 * shape.view_pe if shape.view_pe > -1 else 0
    widths = (n_inputs, shape.hidden, shape.hidden, 3)
    layers = tuple(
        (normal(n_out, n_in, scale=(2 / n_in) ** 0.5), normal(n_out, scale=0.3) if shape.bias else None)
        for n_in, n_out in pairwise(widths)
    )
    n_products = shape.levels * sum(shape.appearance)
    basis = normal(shape.feature_dim, n_products, scale=n_products**-0.5)
    n_density = shape.levels * sum(shape.density)
    settings = ModelSettings(n_importance=40, nerf_n_importance=8, white_background=True)
    return GridNeRF(
        aabb=AABB.clone(),
        grid_size=(24, 20, 8),
        density_channels=shape.density,
        appearance_channels=shape.appearance,
        n_levels=shape.levels,
        layout=BlockLayout(shape.division),
        blocks=tuple(None if i in shape.missing else block for i, block in enumerate(blocks)),
        decoder=DecoderWeights(basis, layers, shape.feature_pe, shape.view_pe, shape.latent),
        activation=shape.activation,
        density_shift=-1.0 if shape.activation == "softplus" else 0.0,
        distance_scale=25.0,
        weight_threshold=1e-3,
        near_far=(0.1, 6.0),
        step_ratio=0.5,
        settings=settings.over(LANDMARK_DEFAULTS),
        density_basis=normal(1, n_density) if shape.nonlinear else None,
        embedding=normal(3, shape.latent) if shape.latent else None,
        nerf=_make_nerf(shape, n_density, n_products, normal) if shape.nerf else None,
        occupancy=_make_mask(shape, random),
        zero_sigma_outside=shape.zero_sigma_outside,
    )


def with_half_planes(model: GridNeRF) -> GridNeRF:
    """Returns the field with its planes rounded to half precision."""

    def rounded(planes: tuple[tuple[Tensor, ...], ...]) -> tuple[tuple[Tensor, ...], ...]:
        return tuple(tuple(part.half().float() for part in parts) for parts in planes)

    blocks = tuple(
        block
        and replace(
            block,
            density_planes=rounded(block.density_planes),
            appearance_planes=rounded(block.appearance_planes),
        )
        for block in model.blocks
    )
    return replace(model, blocks=blocks)


def with_settings(model: GridNeRF, **changes: object) -> GridNeRF:
    """Returns the field with other settings; `sampling` may be "box" or "hull"."""
    if "sampling" in changes:
        changes["sampling"] = Sampling(changes["sampling"])
    return replace(model, settings=replace(model.settings, **changes))


def camera(width: int, height: int, view: int = 0) -> Camera:
    """One of three cameras: oblique from outside, from inside towards the horizon, straight down."""
    eye, target = (
        ((-1.6, -2.1, 1.3), (0.0, 0.0, 0.1)),
        ((0.2, -0.8, 0.35), (0.3, 1.0, 0.4)),
        ((0.05, 0.1, 2.0), (0.05, 0.1, 0.0)),
    )[view]
    return Camera.from_fov(look_at(eye, target), width, height, 55.0)


def random_points(n: int, seed: int = 0) -> Tensor:
    """Returns points inside the box, some beyond it, and some exactly on its faces and corners. [n, 3]"""
    rng = np.random.default_rng(seed)
    low, high = AABB.numpy()
    points = low + (high - low) * rng.uniform(-0.1, 1.1, (n, 3))
    on_face = rng.integers(0, 3, n // 5)
    points[np.arange(n // 5), on_face] = np.where(rng.random(n // 5) < 0.5, low[on_face], high[on_face])
    points[0], points[1] = low, high
    return torch.from_numpy(points.astype(np.float32))


def _make_block(shape: Shape, random: torch.Generator) -> FieldBlock:
    axes = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
    groups: dict[str, list[tuple[Tensor]]] = {name: [] for name in ("dp", "dl", "ap", "al")}
    for direction in range(shape.directions):
        for level in range(shape.levels):
            n_u, n_v, n_w = (shape.grid[axis] * 2**level - level for axis in axes[direction])
            for kind, channels in (("d", shape.density[direction]), ("a", shape.appearance[direction])):
                scale = shape.opacity if kind == "d" else 1.0
                groups[kind + "p"].append((torch.randn(channels, n_v, n_u, generator=random) * scale,))
                groups[kind + "l"].append((torch.randn(channels, n_w, generator=random),))
    return FieldBlock(*(tuple(groups[name]) for name in ("dp", "dl", "ap", "al")))


def _make_mask(shape: Shape, random: torch.Generator) -> OccupancyGrid | None:
    if shape.mask is None:
        return None
    nodes = (torch.rand(shape.mask[::-1], generator=random) < shape.mask_share).to(torch.uint8)
    return OccupancyGrid(nodes, AABB + shape.mask_shift)


def _make_nerf(shape: Shape, n_density: int, n_products: int, normal) -> NerfWeights:
    width, point_pe, view_pe = 12, 3, 4

    def layer(n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
        return normal(n_out, n_in, scale=(2 / n_in) ** 0.5), normal(n_out, scale=0.2)

    n_inputs = 3 + 6 * point_pe + n_density
    n_view = width + 3 + 6 * view_pe + n_products + shape.latent
    points = (
        [layer(n_inputs, width)] + [layer(width, width) for _ in range(4)] + [layer(n_inputs + width, width)]
    )
    return NerfWeights(
        tuple(points),
        layer(width, 1),
        layer(width, width),
        (layer(n_view, width), layer(width, width)),
        layer(width, 3),
        point_pe,
        view_pe,
    )
