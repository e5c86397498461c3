"""Where the town is photographed from: oblique views over all of it, fixed by seed and extent. Metres."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...core.camera import Camera
from .noise import Dice
from .raycast import first_hit
from .render import pixel_rays
from .terrain import hit_ground
from .town import Town

FIELD_OF_VIEW = math.radians(50.0)  # across
_FARTHEST = 300.0  # from the target, along the ground
_CLEARANCE = 14.0  # no surface is nearer to a camera
_TRIES = 40
_SHARES = (0.65, 0.20)  # of the first two kinds of views
_GOLDEN = (0.7548776662466927, 0.5698402909980532)  # the R2 sequence spreads targets evenly


@dataclass(frozen=True)
class _Kind:
    """A kind of view: ranges that its tries are drawn from."""

    heights: tuple[float, float]  # above the target
    pitches: tuple[float, float]  # below the horizon, degrees
    aims: tuple[float, float]  # height of the target
    margin: float  # of the town, as a share of its side, that is not aimed at
    share: float  # of the picture that should show the town


_KINDS = (
    _Kind((60.0, 250.0), (30.0, 75.0), (0.0, 10.0), 0.04, 1.0),  # steep
    _Kind((32.0, 60.0), (24.0, 42.0), (0.0, 10.0), 0.04, 1.0),  # low
    _Kind((50.0, 170.0), (14.0, 40.0), (10.0, 60.0), 0.25, 0.5),  # from afar, at upper floors
)


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the camera-to-world matrix of a level camera, OpenGL axes. [4, 4]"""
    back = (eye - target) / np.linalg.norm(eye - target)
    right = np.array([-back[1], back[0], 0.0]) / math.hypot(back[0], back[1])
    c2w = np.eye(4)
    c2w[:3, 0], c2w[:3, 1], c2w[:3, 2], c2w[:3, 3] = right, np.cross(back, right), back, eye
    return c2w


def make_camera(c2w: np.ndarray, width: int, height: int) -> Camera:
    """Returns a camera with the town's field of view."""
    return Camera.from_focal(c2w, width, height, width / 2 / math.tan(FIELD_OF_VIEW / 2))


def plan_cameras(town: Town, split: str, count: int, size: tuple[int, int]) -> list[Camera]:
    """Returns the cameras of a split, the same for a seed and an extent.

    Most look down on a spot and see nothing but the town, or as much of it as some tries allow. A few look
    from afar at the upper floors: they may see white beyond the town, and teach where it is empty.

    Args:
        town: The town, without removed or added buildings.
        split: "train" or "test".
        count: Number of cameras; the first of more are the same.
        size: Width and height, pixels.
    """
    return [_plan_camera(town, split, number, size) for number in range(count)]


def _plan_camera(town: Town, split: str, number: int, size: tuple[int, int]) -> Camera:
    dice = Dice("camera", town.seed, *town.spec.blocks, split, number)
    shift = Dice("cameras", town.seed, split)
    start = np.array([shift.between(0, 1), shift.between(0, 1)])
    spot = np.mod(start + (number + 1) * np.array(_GOLDEN), 1.0)
    side = town.high - town.low
    kind = _KINDS[0 if (roll := dice.between(0, 1)) < _SHARES[0] else 1 if roll < sum(_SHARES) else 2]
    most = min(kind.heights[1], max(110.0, 0.8 * float(side.min())))
    tries = []
    for _ in range(_TRIES):
        place = town.low + side * (kind.margin + (1 - 2 * kind.margin) * spot)
        target = np.array([*place, dice.between(*kind.aims)])
        height, pitch = dice.between(kind.heights[0], most), dice.between(*kind.pitches)
        turn, away = dice.between(0, 2 * math.pi), min(height / math.tan(math.radians(pitch)), _FARTHEST)
        eye = target + np.array([away * math.cos(turn), away * math.sin(turn), height])
        tries.append(make_camera(look_at(eye, target), *size))
    shares = _shares_seen(town, tries)
    enough = np.nonzero(shares >= kind.share)[0]
    return tries[int(enough[0] if len(enough) else np.argmax(shares))]


def _shares_seen(town: Town, cameras: list[Camera]) -> np.ndarray:
    """Returns which share of each picture shows the town, -0.5 where it is too near to something. [n]"""
    pairs = [pixel_rays(camera.resized(8, 6)) for camera in cameras]
    rays_o, rays_d = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    limit = hit_ground(town.seed, rays_o, rays_d)
    at = rays_o[:, :2] + np.where(np.isfinite(limit), limit, 0.0)[:, None] * rays_d[:, :2]
    within = np.all((at >= town.low) & (at <= town.high), axis=1) & np.isfinite(limit)
    depth, solid = first_hit(town, rays_o, rays_d, np.where(within, limit, np.inf))
    seen = (within | (solid >= 0)).reshape(len(cameras), -1).mean(axis=1)
    near = depth.reshape(len(cameras), -1).min(axis=1) < _CLEARANCE
    return np.where(near | _are_crowded(town, np.array([camera.eye for camera in cameras])), -0.5, seen)


def _are_crowded(town: Town, eyes: np.ndarray) -> np.ndarray:
    """Tells where something stands at or above a camera, or close below it. [n, 3] -> [n]"""
    around = np.array([[x, y, 0] for x in (-1, 0, 1) for y in (-1, 0, 1)]) * _CLEARANCE
    points = (eyes[:, None] + around).reshape(-1, 3)
    top = np.column_stack([points[:, :2], np.full(len(points), town.top)])
    down = np.broadcast_to([0.0, 0.0, -1.0], top.shape)
    _, solid = first_hit(town, top, down, np.maximum(town.top - points[:, 2], 0.0) + _CLEARANCE)
    return np.asarray(np.any((solid >= 0).reshape(len(eyes), -1), axis=1))
