"""Photographs as the trainer sees them: pinhole cameras, appearance codes, and a source of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..camera import Camera


class Pixels(Protocol):
    """Colours of all photographs, one after the other, row by row; read lazily."""

    def colors(self, index: np.ndarray) -> np.ndarray:
        """Returns pixels by number. int64 [n] -> uint8 [n, 4]; where the last is 0, nothing is known."""

    def image(self, number: int) -> np.ndarray:
        """Returns one photograph. uint8 [height, width, 4]"""


@dataclass(frozen=True)
class Photos:
    """Photographs of one split.

    A ray through column i, row j is (i - cx) / fl_x, -(j - cy) / fl_y, -1 in the camera: `cx` and `cy`
    already contain the half-pixel that the source's convention asks for. Lens distortion is gone.
    """

    cameras: tuple[Camera, ...]  # scene units
    names: tuple[str, ...]
    codes: np.ndarray  # int32 [n], appearance code of each photograph
    pixels: Pixels

    def __len__(self) -> int:
        return len(self.cameras)

    @property
    def offsets(self) -> np.ndarray:
        """Number of each photograph's first pixel, and the total. int64 [n + 1]"""
        sizes = [camera.width * camera.height for camera in self.cameras]
        return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


@dataclass(frozen=True)
class TrainingData:
    """Everything that a trainer needs to know of the world."""

    train: Photos
    test: Photos
    bounds: tuple[tuple[float, float, float], tuple[float, float, float]]  # lowest and highest corner
    near_far: tuple[float, float]  # z-depth of the ends of a ray, scene units
    root: Path | None = None  # folder of the photographs, for LandMark's config
    downsample: int = 1  # how much smaller than there they are, likewise

    @property
    def n_codes(self) -> int:
        """Rows of the appearance table that the photographs use."""
        return int(max(self.train.codes.max(initial=0), self.test.codes.max(initial=0))) + 1
