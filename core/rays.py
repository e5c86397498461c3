"""Rays of a pinhole view, rounded as LandMark rounds them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..cuda.tables import View
from .camera import Camera


def view_of(camera: Camera) -> View:
    """Casts a camera to float32 first, as LandMark does: rays made in float64 would pick other samples."""
    return View(
        c2w=np.ascontiguousarray(camera.matrix[:3].astype(np.float32)),
        fl_x=camera.fl_x,
        fl_y=camera.fl_y,
        cx=camera.cx,
        cy=camera.cy,
        width=camera.width,
        height=camera.height,
    )


def generate_rays(view: View, pixels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Shoots one ray through every integer pixel position, row by row, or through those of some pixels.

    Directions are not normalised: t is z-depth.

    Args:
        view: Where from.
        pixels: Numbers of pixels, row * width + column; None: all. int64 [n]

    Returns:
        Origins and directions, float32. [n, 3] each
    """
    number = torch.arange(view.height * view.width) if pixels is None else pixels
    row = torch.div(number, view.width, rounding_mode="floor").to(torch.float32)
    column = (number % view.width).to(torch.float32)
    focal_x, focal_y = torch.tensor(view.fl_x), torch.tensor(view.fl_y)
    x = ((column - view.cx) / focal_x).reshape(-1, 1)
    y = (-(row - view.cy) / focal_y).reshape(-1, 1)
    c2w = torch.from_numpy(view.c2w)
    right, up, back = c2w[:, 0], c2w[:, 1], c2w[:, 2]
    directions = (x * right + y * up) + -1.0 * back
    return c2w[:, 3].expand_as(directions), directions
