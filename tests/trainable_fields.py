"""Small trainable fields of every kind, and batches of rays that meet them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from landmark_viewer.core.occupancy import OccupancyGrid
from landmark_viewer.core.training.parameters import FieldParameters
from landmark_viewer.core.training.photos import Photos, TrainingData
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.cuda.train_tables import RayBatch

from .photos import MemoryPixels

BOUNDS = ((-1.0, -1.2, -0.1), (1.1, 1.0, 0.5))
NEAR_FAR = (0.1, 4.0)
N_CODES = 3

PLAIN = TrainSettings(
    levels=(1, 2),
    density_channels=(8, 4, 3),
    appearance_channels=(12, 6, 5),
    feature_dim=7,
    decoder_width=24,
    feature_pe=3,
    view_pe=2,
    activation="relu",
    voxels_start=14**3,
    max_samples=90,
    nerf_width=20,
    nerf_frequencies=4,
    n_importance=24,
    nerf_n_importance=8,
    backend="torch",
)


@dataclass(frozen=True)
class Kind:
    """A field and how its batches are rendered."""

    settings: TrainSettings
    has_mask: bool = False
    has_nerf: bool = False


def _kind(has_mask: bool = False, has_nerf: bool = False, **changes: object) -> Kind:
    if changes.get("activation") == "softplus":
        changes.setdefault("density_shift", -1.0)
    return Kind(replace(PLAIN, **changes), has_mask, has_nerf)


# One field for every way in which fields differ.
KINDS = {
    "plain": _kind(),
    "softplus": _kind(activation="softplus"),
    "three directions": _kind(directions=3),
    "three directions, softplus": _kind(directions=3, activation="softplus"),
    "codes": _kind(appearance_codes=True),
    "codes and bias": _kind(appearance_codes=True, bias=True, activation="softplus"),
    "nonlinear": _kind(nonlinear_density=True),
    "nonlinear, softplus, three directions": _kind(
        nonlinear_density=True, activation="softplus", directions=3
    ),
    "blocks": _kind(division=(2, 3), appearance_codes=True),
    "blocks, softplus": _kind(division=(2, 1), activation="softplus"),
    "mask": _kind(has_mask=True),
    "mask, softplus, blocks": _kind(has_mask=True, activation="softplus", division=(1, 2)),
    "mask threshold": _kind(has_mask=True, mask_filter_threshold=0.4),
    "distortion": _kind(distortion_from=0, distortion_weight=0.3),
    "samples end inside": _kind(max_samples=14, activation="softplus", distortion_from=0),
    "white": _kind(white_background=True, levels=(1,)),
    "no encodings": _kind(feature_pe=0, view_pe=-1),
    "nerf": _kind(has_nerf=True, appearance_codes=True),
    "residual nerf": _kind(has_nerf=True, residual_nerf=True, has_mask=True, white_background=True),
    "nerf, everything": _kind(
        has_nerf=True,
        residual_nerf=True,
        division=(2, 2),
        activation="softplus",
        appearance_codes=True,
        bias=True,
        nonlinear_density=True,
        distortion_from=0,
        nerf_depth=3,
    ),
}


def make_data(n_codes: int = N_CODES) -> TrainingData:
    """Returns what a field needs to know of photographs that do not exist."""
    train = Photos((), (), np.arange(n_codes, dtype=np.int32), MemoryPixels(()))
    return TrainingData(train, Photos((), (), np.zeros(0, np.int32), MemoryPixels(())), BOUNDS, NEAR_FAR)


def make_parameters(kind: Kind, seed: int = 0) -> FieldParameters:
    """Returns a field with enough matter in it to be seen."""
    settings = replace(kind.settings, seed=seed)
    parameters = FieldParameters.create(settings, make_data(), torch.device("cpu"))
    random = torch.Generator().manual_seed(seed)
    for tables in (parameters.density_planes, parameters.density_lines):
        for table in tables:
            table.mul_(6)
    for tables in (parameters.appearance_planes, parameters.appearance_lines):
        for table in tables:
            table.mul_(3)
    if parameters.density_basis is not None:
        parameters.density_basis.mul_(4)
    if kind.has_mask:
        nodes = torch.rand(6, 9, 8, generator=random) < 0.4
        parameters.occupancy = OccupancyGrid(nodes.to(torch.uint8), torch.tensor(BOUNDS))
    if kind.has_nerf:
        parameters.add_nerf()
        assert parameters.nerf is not None
        parameters.nerf = parameters.nerf.map(lambda tensor: tensor * 2)  # far from saturation
        parameters.nerf.density[1].fill_(0.5)
    return parameters


def make_batch(kind: Kind, n: int = 96, seed: int = 1) -> RayBatch:
    """Returns rays from above and from the side, some of which miss, with smooth colours to learn."""
    random = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> torch.Tensor:
        return torch.rand(*size, generator=random)

    origins = torch.tensor([-1.3, -1.5, 0.7]) + torch.tensor([2.6, 2.6, 0.9]) * draw(n, 3)
    targets = torch.tensor([-1.0, -1.1, -0.1]) + torch.tensor([2.0, 2.0, 0.4]) * draw(n, 3)
    directions = (targets - origins) * (0.5 + draw(n, 1))
    directions[0] = torch.tensor([0.0, 0.0, -1.0])
    directions[1] = torch.tensor([0.3, 0.1, 0.2])
    settings = kind.settings
    return RayBatch(
        origins=origins,
        directions=directions,
        rgb=0.5 + 0.4 * torch.sin(3 * targets),
        jitter=draw(n),
        codes=(torch.arange(n) % N_CODES).to(torch.int32) if settings.appearance_codes else None,
        hull_jitter=draw(n, settings.n_importance) if kind.has_nerf else None,
        nerf_u=draw(n, settings.nerf_n_importance) if kind.has_nerf else None,
    )
