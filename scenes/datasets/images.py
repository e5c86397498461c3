"""Photographs from disk to pixels: decoding, masks, lens distortion, and averaging down."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from ...core.camera import MAX_SIDE, Camera
from ...core.errors import InputError
from .dataset import Lens

Size = tuple[int, int]  # width, height
SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".tif", ".tiff", ".webp", ".bmp")
BAND = 1 << 20  # pixels that are undistorted at a time
OUTSIDE = -9.0  # where a picture goes from -1 to 1
KNOWN = 0.5  # share of a pixel that must be known

EXIF_ORIENTATION = 0x0112
UPRIGHT = {  # what to do with a picture of an orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, struct.error)  # what Pillow raises for a broken file
Image.MAX_IMAGE_PIXELS = MAX_SIDE**2  # aerial photographs exceed Pillow's own limit


@dataclass(frozen=True)
class Recipe:
    """How one photograph becomes the pixels of its camera."""

    path: Path
    mask: Path | None
    camera: Camera  # before averaging; the centre of the first pixel is at (0.5, 0.5)
    lens: Lens
    downsample: int
    background: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the result in pixels."""
        return self.camera.height // self.downsample, self.camera.width // self.downsample


def size_of(path: Path, stated: Size | None = None) -> Size:
    """Returns width and height of a photograph, upright as its EXIF orientation says; reads the header only.

    A stated size that fits only the photograph as it is stored wins over the orientation.
    """
    with _opened(path) as image:
        return _turn(image, stated)[1]


def load(recipe: Recipe) -> np.ndarray:
    """Returns the pixels of a photograph; alpha is 255 where the colour is known, else 0. uint8 [h, w, 4]

    Raises:
        InputError: A file is missing, damaged, or not of the camera's size.
    """
    camera, n = recipe.camera, recipe.downsample
    rgb = _decoded(recipe.path, (camera.width, camera.height), recipe.background)
    known = None if recipe.mask is None else _mask(recipe.mask, (camera.width, camera.height))
    if known is None and recipe.lens == Lens() and n == 1:
        return np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=2)
    planes = torch.ones(1, 4, camera.height, camera.width)
    planes[0, :3] = torch.from_numpy(rgb).permute(2, 0, 1)
    if known is not None:
        planes *= torch.from_numpy(known)
    if recipe.lens != Lens():
        planes = _undistorted(planes, camera, recipe.lens)
    if n > 1:
        planes = torch.nn.functional.avg_pool2d(planes, n)
    return _finished(planes[0])


def distort(lens: Lens, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moves points of the plane at distance 1 to where the lens shows them.

    Returns:
        x and y, and whether the lens shows the point at all: beyond the radius where its polynomial turns
        back, it does not.
    """
    r2 = x * x + y * y
    s = np.arctan(np.sqrt(r2)) ** 2 if lens.fisheye else r2
    scale = 1 + s * (lens.k1 + s * (lens.k2 + s * (lens.k3 + s * lens.k4)))
    shown = s < _turning_point(lens)
    if lens.fisheye:
        scale = scale * np.sqrt(np.divide(s, r2, out=np.ones_like(r2), where=r2 > 0))
        return x * scale, y * scale, shown
    return (
        x * scale + 2 * lens.p1 * x * y + lens.p2 * (r2 + 2 * x * x),
        y * scale + lens.p1 * (r2 + 2 * y * y) + 2 * lens.p2 * x * y,
        shown,
    )


def _turning_point(lens: Lens) -> float:
    """Returns the squared radius (or angle) at which the distorted radius stops growing."""
    roots = np.roots([9 * lens.k4, 7 * lens.k3, 5 * lens.k2, 3 * lens.k1, 1.0])
    real = roots[np.abs(roots.imag) < 1e-9].real
    return float(min(real[real > 0], default=np.inf))


def _undistorted(planes: torch.Tensor, camera: Camera, lens: Lens) -> torch.Tensor:
    """Resamples bilinearly onto the pinhole of the same camera, in bands of rows. [1, c, h, w]"""
    height, width = camera.height, camera.width
    size = np.array([width, height], dtype=np.float32)
    focal = np.array([camera.fl_x, camera.fl_y], dtype=np.float32)
    middle = np.array([camera.cx, camera.cy], dtype=np.float32)
    bands = []
    rows = max(1, BAND // width)
    for top in range(0, height, rows):
        row, column = np.mgrid[top : min(top + rows, height), 0:width].astype(np.float32) + np.float32(0.5)
        x, y, shown = distort(lens, (column - middle[0]) / focal[0], (row - middle[1]) / focal[1])
        grid = (np.stack([x, y], axis=-1) * focal + middle) * 2 / size - 1
        grid[~shown] = OUTSIDE
        bands.append(
            torch.nn.functional.grid_sample(planes, torch.from_numpy(grid)[None], align_corners=False)
        )
    return torch.cat(bands, dim=2)


def _finished(planes: torch.Tensor) -> np.ndarray:
    """Divides sums of known colours [4, h, w] by the share that is known. uint8 [h, w, 4]"""
    share = planes[3]
    known = share >= KNOWN
    colors = torch.where(known, planes[:3] / share.clamp_min(KNOWN), 0.0).round().clamp(0, 255)
    result = torch.cat([colors, known[None] * 255.0])
    return result.to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _opened(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
    except FileNotFoundError:
        raise InputError(f"{path} must be a photograph, but does not exist") from None
    except (PermissionError, IsADirectoryError) as error:
        raise InputError(f"{path} must be a readable photograph, got: {error.strerror}") from None
    except (UnidentifiedImageError, Image.DecompressionBombError, *DAMAGE):
        raise InputError(f"{path} must be a photograph that Pillow can read, such as PNG or JPEG") from None
    if max(image.size) > MAX_SIDE:
        raise InputError(f"{path} must have at most {MAX_SIDE} pixels a side, got {_shown(image.size)}")
    return image


def _turn(image: Image.Image, stated: Size | None) -> tuple[Image.Transpose | None, Size]:
    """Returns how an image becomes upright, and its size then."""
    width, height = image.size
    if image.format == "PNG" and "exif" not in image.info:
        return None, image.size  # Pillow would decode the whole file to look for more
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    turn = UPRIGHT.get(orientation)
    if turn is None or orientation < 5:  # width and height stay
        return turn, image.size
    if width != height and stated == image.size:
        return None, image.size
    return turn, (height, width)


def _upright(path: Path, size: Size) -> Image.Image:
    """Decodes a file completely, turned as its EXIF orientation says, and checks its size."""
    with _opened(path) as image:
        turn, found = _turn(image, size)
        if found != size:
            raise InputError(f"{path} must have {_shown(size)} pixels, got {_shown(found)}")
        try:
            image.load()
        except DAMAGE as error:
            raise InputError(f"{path} must be an undamaged photograph, got: {error}") from None
        return image.copy() if turn is None else image.transpose(turn)


def _decoded(path: Path, size: Size, background: tuple[float, float, float]) -> np.ndarray:
    """Returns opaque colours in front of the background. uint8 [h, w, 3]"""
    image = _upright(path, size)
    if image.mode == "F":
        raise InputError(f"{path} must hold 8- or 16-bit colours, got floating-point ones")
    if image.mode.startswith("I"):  # 16-bit grey
        grey = np.clip(np.rint(np.asarray(image, dtype=np.float64) / 257), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return np.array(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA"), dtype=np.float32)
    alpha = rgba[..., 3:] / 255
    behind = np.array(background, dtype=np.float32) * 255
    return np.rint(rgba[..., :3] * alpha + behind * (1 - alpha)).astype(np.uint8)


def _mask(path: Path, size: Size) -> np.ndarray:
    """Returns where a mask is not black. float32 [h, w], 0 or 1"""
    return (np.asarray(_upright(path, size).convert("L")) > 0).astype(np.float32)


def _shown(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
