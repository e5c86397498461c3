"""Saves the picture of the viewport: its own pixels, never those of the window."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import torch

from ..core.errors import InputError
from ..core.output import Compared, Provenance, write_frame
from ..core.render import Frame, Renderer, RenderSettings
from ..cuda.tables import FrameBuffers, RenderControl
from .imaging import BlockGrid, to_image
from .pictures import Picture, RenderRequest
from .state import SceneFacts

log = logging.getLogger(__name__)


def pictures_folder() -> Path:
    """Returns where pictures are saved; it may not exist yet."""
    return Path(platformdirs.user_pictures_dir()) / "landmark-viewer"


def save_picture(picture: Picture, facts: SceneFacts, files: tuple[Path, ...]) -> tuple[str, str]:
    """Writes a PNG into the pictures folder; returns a message and its severity."""
    name = re.sub(r"[^\w.-]+", "-", facts.name).strip("-.") or "scene"
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    candidates = (
        pictures_folder() / f"{stem}{ending}.png" for ending in ("", *(f"_{n}" for n in range(2, 1000)))
    )
    path = next(candidate for candidate in candidates if not candidate.exists())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = picture.request
        provenance = _provenance(asked, files, facts)
        if (beside := picture.beside) is not None:
            other = _provenance(beside.request, beside.files or files, facts)
            provenance = replace(provenance, compared=Compared(beside.mode, beside.name, other))
        write_frame(path, _frame(picture), provenance)
    except (InputError, OSError) as error:
        log.warning("saving failed: %s", error)
        return f"The picture was not saved: {error}", "error"
    return f"Saved {path}", "info"


def completed(picture: Picture, renderer: Renderer, control: RenderControl) -> Picture | None:
    """Returns a picture with all of its blocks, however many of them fit into memory.

    None: it was cancelled, or the memory budget was changed meanwhile.

    Raises:
        InputError: A block cannot be read.
    """
    asked, camera = picture.request, picture.camera
    settings = RenderSettings(picture.quality, asked.appearance, asked.edits, asked.background)
    frame = renderer.render(camera, settings, control)
    if not frame.is_complete:
        return None
    grid, grade = BlockGrid.of(renderer.tables), asked.appearance.grade
    image = to_image(asked.mode, frame.buffers, camera, grid, grade=grade, edits=asked.edits)
    return replace(picture, image=image, depth=frame.median_depth, coarse=0.0)


def _provenance(request: RenderRequest, files: tuple[Path, ...], facts: SceneFacts) -> Provenance:
    edits = request.edits.layers if request.edits else ()
    return Provenance(files, request.appearance, edits, request.background, facts.metres_per_unit)


def _frame(picture: Picture) -> Frame:
    """Returns the picture as it is shown, in the form that the writers take."""
    rgb = torch.from_numpy(picture.image[..., :3].astype(np.float32) / np.float32(255))
    flat = torch.zeros(rgb.shape[:2])
    depth = torch.from_numpy(picture.depth)
    return Frame(picture.camera, FrameBuffers(rgb, flat, flat, depth), picture.quality, True)
