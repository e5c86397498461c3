"""The losses beside the colours' mean squared error, as plain differentiable functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..errors import InputError

TV_SCALE = 1e-2  # LandMark's factor on total variation, beside the weight in the settings


def total_variation(plane: Tensor) -> Tensor:
    """Mean squared difference of neighbours along both axes, times two.

    As in TensoRF (arxiv.org/abs/2203.09517, Sec. 4.3, and its published code). plane: [channels, n_v, n_u]
    """
    rows, columns = plane.diff(dim=1), plane.diff(dim=2)
    return 2 * (rows.square().mean() + columns.square().mean())


def l1(tables: Iterable[Tensor]) -> Tensor:
    """Sum of the tables' mean absolute values: makes empty space empty (TensoRF, Eq. 15)."""
    return torch.stack([table.abs().mean() for table in tables]).sum()


def orthogonality(lines: Iterable[Tensor]) -> Tensor:
    """Sum over lines of the mean absolute scalar product of two different channels. lines: [channels, n_w]"""
    terms = []
    for line in lines:
        products = line @ line.T
        different = ~torch.eye(len(line), dtype=torch.bool, device=line.device)
        terms.append(products[different].abs().sum() / max(int(different.sum()), 1))
    return torch.stack(terms).sum()


def distortion(weights: Tensor, middle: Tensor, length: Tensor) -> Tensor:
    """Pulls the weights of a ray together (mip-NeRF 360, Eq. 15 of arxiv.org/abs/2111.12077).

    Written as in the definition, with all pairs of samples.

    Args:
        weights: Of the samples. [n_rays, n]
        middle: Distance of the middle of what each sample stands for. [n_rays, n]
        length: Length of what each sample stands for. [n_rays, n]

    Returns:
        Mean over the rays. scalar
    """
    apart = (middle[:, :, None] - middle[:, None, :]).abs()
    between = (weights[:, :, None] * weights[:, None, :] * apart).sum(dim=(1, 2))
    within = (weights.square() * length).sum(dim=1) / 3
    return (between + within).mean()


def perceptual_loss(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns LPIPS with VGG (arxiv.org/abs/1801.03924) of two pictures [height, width, 3] in [0, 1].

    Raises:
        InputError: The package lpips is not installed, or its weights cannot be had.
    """
    try:
        import lpips
    except ImportError as error:
        raise InputError(
            f"the LPIPS loss needs the package lpips, got: {error}; "
            "pip install 'landmark-viewer[lpips]', or set lpips_from to -1"
        ) from error
    try:
        network = lpips.LPIPS(net="vgg", verbose=False).to(device)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"the LPIPS loss needs the weights of VGG, which are loaded from the net once, got: {error}; "
            "connect this machine, or set lpips_from to -1"
        ) from error
    network.requires_grad_(False)

    def loss(picture: Tensor, target: Tensor) -> Tensor:
        scaled = (image.clamp(0, 1).movedim(-1, 0)[None] * 2 - 1 for image in (picture, target))
        value: Tensor = network(*scaled).mean()
        return value

    return loss
