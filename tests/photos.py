"""Photographs of a small scene that is known exactly: a red and a blue box on a chequered floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.training.photos import Photos, TrainingData
from landmark_viewer.core.training.settings import TrainSettings

BOUNDS = ((-1.0, -1.0, -0.05), (1.0, 1.0, 0.7))
NEAR_FAR = (0.5, 6.0)
BOXES = (  # low corner, high corner, colour
    ((-0.6, -0.5, 0.0), (-0.1, 0.2, 0.5), (0.9, 0.2, 0.1)),
    ((0.2, 0.0, 0.0), (0.7, 0.6, 0.3), (0.1, 0.3, 0.9)),
)
SKY = (1.0, 1.0, 1.0)
SMALL = TrainSettings(  # a field that learns this scene in no time
    levels=(1, 2),
    density_channels=(4,),
    appearance_channels=(6,),
    feature_dim=6,
    decoder_width=16,
    feature_pe=1,
    view_pe=1,
    activation="relu",
    batch_size=128,
    voxels_start=12**3,
    voxels_end=20**3,
    n_importance=12,
    nerf_n_importance=4,
    nerf_width=16,
    nerf_frequencies=2,
)


@dataclass(frozen=True)
class MemoryPixels:
    """Photographs held in memory. Each is uint8 [height, width, 4]."""

    photos: tuple[np.ndarray, ...]

    def colors(self, index: np.ndarray) -> np.ndarray:
        """Returns pixels by number over all photographs. [n] -> uint8 [n, 4]"""
        return np.concatenate([photo.reshape(-1, 4) for photo in self.photos])[index]

    def image(self, number: int) -> np.ndarray:
        """Returns one photograph."""
        return self.photos[number]


def make_data(
    n_train: int = 8, n_test: int = 2, size: tuple[int, int] = (24, 18), dark: tuple[int, ...] = ()
) -> TrainingData:
    """Returns photographs from a ring of cameras; those in `dark` are taken at dusk, with code 1.

    Args:
        n_train: Photographs to learn from.
        n_test: Photographs held out, from between the others.
        size: Width and height in pixels.
        dark: Numbers of training photographs.
    """
    train = make_photos(n_train, size, 0.0, dark)
    return TrainingData(train, make_photos(n_test, size, 0.35), BOUNDS, NEAR_FAR)


def make_photos(n: int, size: tuple[int, int], turn: float, dark: tuple[int, ...] = ()) -> Photos:
    """Returns n photographs from a ring that is turned by `turn` radians."""
    angles = 2 * np.pi * np.arange(n) / max(n, 1) + turn
    eyes = [(1.8 * np.cos(angle), 1.8 * np.sin(angle), 1.3 + 0.2 * (i % 3)) for i, angle in enumerate(angles)]
    cameras = tuple(Camera.from_fov(look_at(eye, (0.0, 0.0, 0.1)), *size, 45.0) for eye in eyes)
    codes = np.array([int(i in dark) for i in range(n)], np.int32)
    pixels = MemoryPixels(
        tuple(shoot(camera, 0.3 if code else 1.0) for camera, code in zip(cameras, codes, strict=True))
    )
    return Photos(cameras, tuple(f"photo-{i}" for i in range(n)), codes, pixels)


def shoot(camera: Camera, light: float = 1.0) -> np.ndarray:
    """Casts the rays of a camera into the scene. uint8 [height, width, 4]"""
    columns, rows = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    local = np.stack(
        [(columns - camera.cx) / camera.fl_x, -(rows - camera.cy) / camera.fl_y, -np.ones(columns.shape)], -1
    )
    matrix = camera.matrix
    directions, origin = local @ matrix[:3, :3].T, matrix[:3, 3]
    colors = np.broadcast_to(np.array(SKY), directions.shape).copy()
    nearest = np.full(columns.shape, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        floor = -origin[2] / directions[..., 2]
        at = origin + floor[..., None] * directions
        is_floor = (floor > 0) & (np.abs(at[..., :2]) <= 1).all(-1)
        chequers = ((np.floor(at[..., 0] * 2) + np.floor(at[..., 1] * 2)) % 2)[..., None]
        colors[is_floor] = (np.array([0.5, 0.6, 0.4]) + 0.3 * chequers)[is_floor]
        nearest[is_floor] = floor[is_floor]
        for low, high, color in BOXES:
            faces = [(np.array(corner) - origin) / directions for corner in (low, high)]
            enter, leave = np.minimum(*faces).max(-1), np.maximum(*faces).min(-1)
            hit = (enter < leave) & (enter > 0) & (enter < nearest)
            colors[hit] = color
            nearest[hit] = enter[hit]
    opaque = np.ones((*columns.shape, 1))
    return np.rint(np.concatenate([colors * light, opaque], -1) * 255).astype(np.uint8)
