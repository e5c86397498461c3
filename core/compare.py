"""Two pictures in one: wipe, side by side, difference; and how far they are apart in numbers.

Pictures are uint8 RGBA [height, width, 4], opaque; A is on the left. Where sizes differ, B is brought to the
size of A by its nearest pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .camera import Camera
from .metrics import Mask, psnr, ssim

Image = NDArray[np.uint8]  # [height, width, 4]
Pixels = TypeVar("Pixels", Image, Mask)


@dataclass(frozen=True)
class Score:
    """How near two pictures come to each other."""

    psnr: float  # dB; infinite for equal pictures
    ssim: float  # at most 1


def resized(image: Pixels, width: int, height: int) -> Pixels:
    """Returns a picture or a mask of another size with the nearest pixels; itself at equal size."""
    if image.shape[:2] == (height, width):
        return image
    rows, columns = (
        ((np.arange(n) + 0.5) * side / n).astype(np.int64)
        for n, side in zip((height, width), image.shape[:2], strict=True)
    )
    scaled: Pixels = image[rows[:, None], columns]
    return scaled


def wipe(a: Image, b: Image, position: float) -> Image:
    """Returns A on the left and B on the right of a share of the width."""
    height, width = a.shape[:2]
    column = round(min(max(position, 0.0), 1.0) * width)
    image = a.copy()
    image[:, column:] = resized(b, width, height)[:, column:]
    return image


def side_by_side(a: Image, b: Image) -> Image:
    """Returns A and B beside each other, in the height of A, both in their whole width."""
    height = a.shape[0]
    width = round(b.shape[1] * height / b.shape[0])
    return np.ascontiguousarray(np.concatenate([a, resized(b, width, height)], axis=1))


def difference(a: Image, b: Image, gain: float) -> Image:
    """Returns the absolute difference of each channel times `gain`, opaque."""
    other = resized(b, a.shape[1], a.shape[0])
    apart = np.maximum(a, other) - np.minimum(a, other)
    table = np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8)
    image: Image = table[apart]
    image[..., 3] = 255
    return image


def filled(b: Image, known: Mask, a: Image) -> Image:
    """Returns B with the pixels of A where B knows nothing, in the size of A. known: [height, width] of B"""
    height, width = a.shape[:2]
    there = resized(known, width, height)[..., None]
    image: Image = np.where(there, resized(b, width, height), a)
    return image


def score(a: Image, b: Image, known: Mask | None = None) -> Score:
    """Returns PSNR and SSIM of the colours as they are shown.

    Args:
        a: One picture. [height, width, 4]
        b: The other one, of any size. [height, width, 4]
        known: Pixels of A that count; None: all. [height, width]
    """
    first, second = (
        image[..., :3].astype(np.float32) / np.float32(255)
        for image in (a, resized(b, a.shape[1], a.shape[0]))
    )
    return Score(psnr(first, second, known), ssim(first, second, known))


def seen_from(photo: Image, taken: Camera, camera: Camera) -> Image:
    """Returns a photograph as a camera at the same place sees it, whatever its direction and focal length.

    Args:
        photo: A photograph without distortion. [height, width, 4]
        taken: Its camera.
        camera: Of the picture to make; only its place must be that of `taken`.

    Returns:
        The nearest pixels, with alpha 0 where the photograph shows or knows nothing.
        [camera.height, camera.width, 4]
    """
    across = (np.arange(camera.width) - camera.cx) / camera.fl_x
    down = -(np.arange(camera.height) - camera.cy) / camera.fl_y
    turn = taken.matrix[:3, :3].T @ camera.matrix[:3, :3]
    x, y, z = (
        turn[axis, 0] * across[None, :] + turn[axis, 1] * down[:, None] - turn[axis, 2] for axis in range(3)
    )
    ahead = z < -1e-6  # what lies behind the photograph's camera is on no pixel
    depth = np.where(ahead, -z, 1.0)
    column = np.rint(taken.cx + taken.fl_x * x / depth)
    row = np.rint(taken.cy - taken.fl_y * y / depth)
    inside = ahead & (column >= 0) & (column < photo.shape[1]) & (row >= 0) & (row < photo.shape[0])
    image = np.zeros((camera.height, camera.width, 4), np.uint8)
    image[inside] = photo[row[inside].astype(np.int64), column[inside].astype(np.int64)]
    return image
