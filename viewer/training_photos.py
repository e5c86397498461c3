"""The photographs that a scene was learnt from: names, codes, poses, pixels."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from ..core.camera import Camera
from ..core.errors import InputError
from ..core.training.photos import Photos
from ..scenes.datasets.open import open_dataset
from ..scenes.load import Scene
from ..scenes.paths import located, with_paths


@dataclass(frozen=True)
class TrainingPhotos:
    """All photographs of a dataset, those for training first."""

    names: tuple[str, ...]
    codes: tuple[int, ...]  # rows of the appearance table
    cameras: tuple[Camera, ...]  # scene units
    image: Callable[[int], np.ndarray]  # uint8 [height, width, 4]; where the last is 0, nothing is known

    @classmethod
    def of(cls, train: Photos, test: Photos) -> TrainingPhotos:
        """Joins the photographs of both splits."""

        def image(number: int) -> np.ndarray:
            split, index = (train, number) if number < len(train) else (test, number - len(train))
            return split.pixels.image(index)

        codes = (int(code) for code in (*train.codes, *test.codes))
        return cls(train.names + test.names, tuple(codes), train.cameras + test.cameras, image)

    def find(self, path: Path) -> int | None:
        """Returns the photograph that a file is, by its name without folder and ending; None: not one."""
        found = [number for number, name in enumerate(self.names) if PurePosixPath(name).stem == path.stem]
        return found[0] if len(found) == 1 else None


def open_training_photos(scene: Scene) -> TrainingPhotos:
    """Reads what the dataset of a scene says; pixels are decoded when they are asked for.

    Raises:
        InputError: The scene names no dataset, or it cannot be read.
    """
    options = with_paths(scene.spec, lambda named: located(scene.source, named)).dataset
    if options is None:
        raise InputError(
            f"{scene.source.name} must name a dataset (dataset.path) for its photographs, it does not"
        )
    if options.cache is None:  # memory is taken as photographs are decoded, one at a time
        options = replace(options, max_memory=sys.maxsize)
    dataset = open_dataset(options)
    return TrainingPhotos.of(dataset.train, dataset.test)
