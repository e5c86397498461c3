"""Reads single blocks and mask volumes that stand in for parts of a field, as LandMark's edit modes do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..gridnerf import FieldBlock, GridNeRF
from ..occupancy import OccupancyGrid
from .header import read_file
from .pieces import make_blocks, stacked_pieces, whole_pieces
from .weights import StateDict


def open_block(path: Path, block: int, model: GridNeRF) -> FieldBlock:
    """Returns a block of another checkpoint that fits a model.

    Args:
        path: A sub file (`sub{k}_add.th`), which holds one block, or a merged-stack, of which one is read.
        block: Number of the block.
        model: The field that the block shall become a part of.

    Raises:
        InputError: The file cannot be read, or its planes do not fit the model.
    """
    file = read_file(path)
    plane = (file.tensors or {}).get("density_plane.0")
    if plane is None:
        raise InputError(f"{path}: must hold planes and lines of a block, got a file without them")
    state = StateDict(str(path), file.tensors or {})
    pieces = stacked_pieces(state) if plane.dim() == 5 else whole_pieces([state])
    blocks, n_levels = make_blocks(pieces, file.header, str(path))
    own = (n_levels, file.header.density_channels, file.header.appearance_channels)
    wanted = (model.n_levels, model.density_channels, model.appearance_channels)
    if own != wanted:
        raise InputError(
            f"{path}: must have the levels, density and appearance channels {wanted} of the scene, got {own}"
        )
    if len(blocks) > 1 and len(blocks) != model.layout.n_blocks:
        raise InputError(f"{path}: must hold 1 or {model.layout.n_blocks} blocks, got {len(blocks)}")
    return blocks[block] if len(blocks) > 1 else blocks[0]


def open_mask(path: Path, like: OccupancyGrid) -> OccupancyGrid:
    """Returns the alpha mask of LandMark's `alpha_volume_*.npy`: 0 or 1 per vertex, or packed bits.

    Raises:
        InputError: The file cannot be read, or is not a volume of the size of `like`.
    """
    shape = tuple(like.nodes.shape)
    try:
        volume = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name an alpha_volume_*.npy") from None
    except (OSError, ValueError, EOFError):
        raise InputError(f"{path}: must be a NumPy array of numbers, got another file") from None
    n_vertices = shape[0] * shape[1] * shape[2]
    if volume.dtype == np.uint8 and volume.ndim == 1 and volume.size == -(-n_vertices // 8):
        return OccupancyGrid.from_packed(volume, (shape[0], shape[1], shape[2]), like.aabb)
    if volume.dtype.kind not in "buif" or volume.shape[-3:] != shape or volume.size != n_vertices:
        raise InputError(
            f"{path}: must be a volume of {list(shape)} vertices as the scene's alpha mask, "
            f"got {list(volume.shape)}"
        )
    return OccupancyGrid(torch.from_numpy((volume.reshape(shape) > 0).astype(np.uint8)), like.aabb)
