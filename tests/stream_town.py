"""A small town of several blocks with an alpha mask and appearances, and budgets of so many of its blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.occupancy import OccupancyGrid
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming.checkpoint_source import CheckpointSource
from landmark_viewer.core.streaming.contracts import MemoryBudget

from .height_fields import HIGH, LOW, height_field, with_boxes

VERTICES = (73, 73, 25)  # of the mask along x, y, z
HOUSE = (-0.5, -0.15, -0.2, 0.15, 0.3)  # over a border of blocks along x, of 3 x 3
TOWER = (0.45, 0.5, 0.6, 0.7, 0.45)
BARN = (-0.8, 0.45, -0.45, 0.65, 0.2)


def town(division: tuple[int, int] = (3, 3), n: int = 33) -> GridNeRF:
    """Returns the town; with three appearances."""
    surface = with_boxes(lambda x, y: 0.15 + 0.04 * x - 0.03 * y, HOUSE, TOWER, BARN)
    model = height_field(surface, n=n, division=division)
    random = torch.Generator().manual_seed(1)
    decoder = model.decoder
    (weight, bias), *rest = decoder.layers
    wider = torch.cat([weight[:, :3], torch.randn(len(weight), 2, generator=random), weight[:, 3:]], dim=1)
    x, y, z = (np.linspace(LOW[axis], HIGH[axis], VERTICES[axis]) for axis in range(3))
    top = surface(*np.meshgrid(x, y))
    nodes = z[:, None, None] <= top + 0.05
    return replace(
        model,
        decoder=replace(decoder, layers=((wider, bias), *rest), latent_dim=2),
        embedding=torch.randn(3, 2, generator=random),
        occupancy=OccupancyGrid(torch.from_numpy(nodes.astype(np.uint8)), model.aabb.clone()),
    )


def budget_of(model: GridNeRF, n_blocks: int, precision: Precision = Precision.FULL) -> MemoryBudget:
    """Returns a budget with room for so many blocks of a field beside its coarse stand-ins."""
    source = CheckpointSource(model)
    size = max(
        source.n_bytes(block, precision) for block in range(model.layout.n_blocks) if source.exists(block)
    )
    return MemoryBudget(device=int(size * (n_blocks + 0.6)), prefetch_seconds=0.0)


def flight(n: int = 6, width: int = 96, height: int = 64) -> list[Camera]:
    """Returns views on a way over the town that looks down obliquely."""
    cameras = []
    for place in np.linspace(-0.7, 0.6, n):
        eye, target = (place, -1.0 - 0.1 * place, 1.3), (0.5 * place, 0.35 * place, 0.2)
        cameras.append(Camera.from_fov(look_at(eye, target), width, height, 45.0))
    return cameras
