"""Renders held-out photographs with a field under training and says how near the pictures come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...cuda.tables import FrameBuffers
from ..appearance import Appearance
from ..errors import InputError
from ..metrics import psnr, ssim
from ..output import Provenance, write_frame
from ..render import Frame, Renderer, RenderSettings
from .events import ViewScore
from .photos import Photos


def evaluate(
    renderer: Renderer,
    photos: Photos,
    numbers: Sequence[int],
    settings: RenderSettings,
    folder: Path | None = None,
    with_photos: bool = False,
) -> tuple[ViewScore, ...]:
    """Renders photographs from their cameras and compares.

    A model with an appearance table is rendered with the code of each photograph. Pixels that the photograph
    does not know do not count.

    Args:
        renderer: Of the field.
        photos: What the pictures should be.
        numbers: Which of the photographs.
        settings: How to render; the look in it is used for models without appearance table only.
        folder: Where to write `NUMBER-NAME.png`; None: nowhere.
        with_photos: Also writes the photograph as `NUMBER-NAME-photo.png`.

    Returns:
        One score for each number.

    Raises:
        InputError: A picture cannot be written, or a photograph has a code that the table lacks.
    """
    if folder is not None:
        _make(folder)
    scores = []
    for number in numbers:
        if renderer.model.embedding is not None:
            settings = replace(settings, appearance=Appearance.of(int(photos.codes[number])))
        frame = renderer.render(photos.cameras[number], settings)
        image = photos.pixels.image(number)
        photo, known = image[..., :3].astype(np.float32) / np.float32(255), image[..., 3] > 0
        path = None
        if folder is not None:
            path = folder / f"{number:04d}-{Path(photos.names[number]).stem}.png"
            write_frame(path, frame, Provenance(appearance=settings.appearance))
            if with_photos:
                write_frame(path.with_stem(f"{path.stem}-photo"), _as_frame(photo, frame))
        picture = np.clip(frame.rgb, 0, 1)
        scores.append(
            ViewScore(photos.names[number], psnr(picture, photo, known), ssim(picture, photo, known), path)
        )
    return tuple(scores)


def spread(n_photos: int, n_views: int) -> list[int]:
    """Returns the numbers of at most n_views photographs, evenly spread; all of them if it is negative."""
    if n_views < 0 or n_views >= n_photos:
        return list(range(n_photos))
    return [i * n_photos // n_views for i in range(n_views)]


def _as_frame(photo: np.ndarray, like: Frame) -> Frame:
    flat = torch.zeros(photo.shape[:2])
    return replace(like, buffers=FrameBuffers(torch.from_numpy(photo), flat, flat, flat))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} must be a folder that can be made, got: {error.strerror}") from error
