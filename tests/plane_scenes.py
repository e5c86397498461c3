"""Scenes of planes, of which every picture is known exactly, as keyframes and as fresh rays."""

from __future__ import annotations

import math

import numpy as np
import torch

from landmark_viewer.cuda import ops
from landmark_viewer.cuda.tables import FrameBuffers, View
from landmark_viewer.cuda.warp import KeyframeBuilder, Warp
from landmark_viewer.cuda.warp_tables import (
    Choice,
    Keyframe,
    Source,
    WarpSettings,
)

SETTINGS = WarpSettings()
WALL = -5.0  # z of the far plane
CARD = -3.0  # z of the near square, within |x|, |y| < 0.4
SKY = 3.0  # beyond |x| = SKY the wall ends and the background is seen


def view_at(
    eye: tuple[float, float, float] = (0.0, 0.0, 0.0),
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
    width: int = 96,
    height: int = 64,
    focal: float = 1.0,
) -> View:
    """A view along -z, turned by angles in radians; the focal length in units of the width."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(a), math.sin(a)) for a in (yaw, pitch, roll))
    turn = (
        np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
        @ np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    )
    c2w = np.concatenate([turn, np.array(eye)[:, None]], axis=1).astype(np.float32)
    return View(c2w, focal * width, focal * width, width / 2, height / 2, width, height)


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Smooth colours of a plane."""
    return 0.5 + 0.4 * np.stack([np.sin(1.5 * x), np.cos(1.2 * y), np.sin(x + 0.8 * y)], axis=-1)


def look(view: View, card: bool = False, sky: float = SKY) -> FrameBuffers:
    """The exact picture: a wall, a card before it if asked for, and nothing beside the wall."""
    row, column = np.mgrid[: view.height, : view.width].astype(np.float64)
    local = np.stack(
        [(column - view.cx) / view.fl_x, -(row - view.cy) / view.fl_y, -np.ones_like(row)], axis=-1
    )
    eye, d = view.c2w[:, 3].astype(np.float64), local @ view.c2w[:, :3].astype(np.float64).T
    down = np.minimum(d[..., 2], -1e-9)

    t = (WALL - eye[2]) / down
    x, y = eye[0] + d[..., 0] * t, eye[1] + d[..., 1] * t
    is_wall = (np.abs(x) < sky) & (np.abs(y) < sky) & (t > 0)
    rgb = np.where(is_wall[..., None], pattern(x, y), 0.25)
    depth = np.where(is_wall, t, 0.0)
    if card:
        t = (CARD - eye[2]) / down
        x, y = eye[0] + d[..., 0] * t, eye[1] + d[..., 1] * t
        is_card = (np.abs(x) < 0.4) & (np.abs(y) < 0.4) & (t > 0)
        rgb = np.where(is_card[..., None], [0.9, 0.1, 0.1], rgb)
        depth = np.where(is_card, t, depth)
    depth32 = torch.from_numpy(depth.astype(np.float32))
    return FrameBuffers(
        torch.from_numpy(rgb.astype(np.float32)),
        (depth32 > 0).float(),
        depth32,
        depth32.clone(),
        None,
        torch.stack([depth32, torch.ones_like(depth32)], dim=-1),
    )


def rays_of(buffers: FrameBuffers, pixels: np.ndarray) -> FrameBuffers:
    """The listed pixels of a picture, as a list of rays would return them."""

    def pick(plane: torch.Tensor, *channels: int) -> torch.Tensor:
        return plane.reshape(-1, *channels)[torch.from_numpy(pixels.astype(np.int64))][None].contiguous()

    assert buffers.front is not None
    return FrameBuffers(
        pick(buffers.rgb, 3),
        pick(buffers.opacity),
        pick(buffers.depth),
        pick(buffers.median_depth),
        None,
        pick(buffers.front, 2),
    )


def keyframe_of(view: View, buffers: FrameBuffers) -> Keyframe:
    builder = KeyframeBuilder(view)
    builder.put_picture(buffers)
    return builder.finish()


def key(view: View, card: bool = False, sky: float = SKY) -> Source:
    return Source(keyframe_of(view, look(view, card, sky)))


def warp_for(view: View, threads: int = 1) -> Warp:
    return ops.open_warp(view.width, view.height, threads)


def psnr(shown: torch.Tensor, exact: torch.Tensor, where: np.ndarray) -> float:
    error = ((shown - exact).numpy()[where] ** 2).mean()
    return -10 * math.log10(max(float(error), 1e-20))


def holes(warp: Warp, n: int = 10**9) -> Choice:
    return warp.choose(n, 0)


def is_hole(warp: Warp) -> np.ndarray:
    mask = np.zeros(warp.height * warp.width, dtype=bool)
    mask[holes(warp).pixels] = True
    return mask.reshape(warp.height, warp.width)


# Other views of what `view_at(width=192, height=128, focal=0.8)` shows.
POSES = {
    "translation": view_at((0.25, -0.1, 0.0)),
    "approach": view_at((0.0, 0.0, -1.2)),
    "retreat": view_at((0.0, 0.0, 0.8)),
    "turn": view_at(yaw=0.15, pitch=0.1),
    "roll": view_at(roll=0.7),
    "zoom": view_at(focal=1.9),
    "wide": view_at(focal=0.7),
    "another size": view_at((0.1, 0.0, 0.1), 0.05, width=150, height=110, focal=0.9),
    "all at once": view_at((0.2, 0.1, -0.3), 0.1, 0.05, 0.3, 70, 90, 1.4),
}
