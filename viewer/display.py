"""Pixels to the screen: whether a window can open at all, and one texture that our own code writes.

Dear PyGui uploads a static texture once and never touches it again, so its OpenGL storage can be taken over:
8-bit RGBA through a pixel buffer costs a twentieth of Dear PyGui's own float path. A self-test at start
decides; where it fails, the float path serves.
"""

from __future__ import annotations

import ctypes
import logging
import os
from typing import Any

import dearpygui.dearpygui as dpg
import numpy as np

from . import glfw

os.environ.setdefault("PYOPENGL_PLATFORM", "glx")  # Dear PyGui's window is X11, also on Wayland desktops

log = logging.getLogger(__name__)

FLOAT_VARIABLE = "LANDMARK_VIEWER_FLOAT_TEXTURE"  # set it where a driver shows no picture
MARKER_SIZE = (3, 5)  # rows, columns: a size that no other texture has
MAX_TEXTURE_NAME = 4096
RAW_STEP = 256  # pixels by which the fall-back texture grows


def probe_display() -> str | None:
    """Returns why no window can be opened, or None if one can."""
    return glfw.probe().error


class Display:
    """The picture of the viewport as one texture for the life of the window."""

    def __init__(self) -> None:
        """Makes the texture; needs a Dear PyGui context, but no window yet."""
        self._registry = dpg.add_texture_registry()
        self._marker = np.random.default_rng().integers(0, 256, (*MARKER_SIZE, 4), dtype=np.uint8)
        values = (self._marker.astype(np.float32) / 255).ravel()
        self.texture: int = dpg.add_static_texture(
            MARKER_SIZE[1], MARKER_SIZE[0], values, parent=self._registry
        )
        self.uv_max = (1.0, 1.0)  # lower right corner of the picture inside the texture
        self.size = (0, 0)  # width and height of the picture, pixels
        self._backend: PixelBufferTexture | RawTexture | None = None

    @property
    def path(self) -> str:
        """How pixels reach the screen."""
        return self._backend.name if self._backend else "none yet"

    def start(self) -> None:
        """Chooses the way pixels take; call once, after the first rendered frame."""
        try:
            if os.environ.get(FLOAT_VARIABLE):
                raise RuntimeError(f"{FLOAT_VARIABLE} is set")
            self._backend = PixelBufferTexture(self._marker)
        except (RuntimeError, ImportError, OSError, AttributeError) as error:
            log.warning("direct display is not available (%s); pixels take the slower float path", error)
            self._backend = RawTexture(self._registry)

    def show(self, image: np.ndarray) -> None:
        """Makes an image the content of the texture from the next frame on.

        Args:
            image: uint8 [height, width, 4], row 0 at the top; alpha should be 255, it blends with the window.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 4 or 0 in image.shape:
            raise ValueError(f"image must be uint8 [height, width, 4], got {image.dtype} {image.shape}")
        if self._backend is None:
            raise RuntimeError("Display.start must run before Display.show")
        self._backend.upload(np.ascontiguousarray(image))
        self.texture = self._backend.tag or self.texture
        self.uv_max = self._backend.uv_max
        self.size = (image.shape[1], image.shape[0])


class PixelBufferTexture:
    """Dear PyGui's static texture, with storage and content owned here."""

    name = "static texture, pixel buffer"
    tag: int | None = None  # that of Display
    uv_max = (1.0, 1.0)

    def __init__(self, marker: np.ndarray) -> None:
        """Finds the texture that shows `marker` [rows, columns, 4] and checks that it can be written.

        Raises:
            RuntimeError: It cannot be found, or what is written does not come back.
        """
        from OpenGL import GL

        self._gl: Any = GL
        self._texture = self._find(marker)
        self._buffer = int(GL.glGenBuffers(1))
        self._size = (0, 0)
        self._limit = int(GL.glGetIntegerv(GL.GL_MAX_TEXTURE_SIZE))
        test = np.random.default_rng(1).integers(0, 256, (4, 7, 4), dtype=np.uint8)
        self.upload(test)
        if not np.array_equal(self._read(self._texture, 4, 7), test):
            raise RuntimeError("the texture does not keep what is written to it")

    def upload(self, image: np.ndarray) -> None:
        """Writes an image, uint8 [height, width, 4], contiguous."""
        gl, (height, width) = self._gl, image.shape[:2]
        if max(height, width) > self._limit:
            raise ValueError(
                f"image must be at most {self._limit} pixels wide and high, got {width} x {height}"
            )
        gl.glBindTexture(gl.GL_TEXTURE_2D, self._texture)
        gl.glBindBuffer(gl.GL_PIXEL_UNPACK_BUFFER, self._buffer)
        gl.glBufferData(gl.GL_PIXEL_UNPACK_BUFFER, image.nbytes, image, gl.GL_STREAM_DRAW)
        try:
            if (width, height) != self._size:
                self._allocate(width, height)
            rgba8 = (gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, ctypes.c_void_p(0))
            gl.glTexSubImage2D(gl.GL_TEXTURE_2D, 0, 0, 0, width, height, *rgba8)
        finally:  # state left behind would garble Dear PyGui's own glyph uploads
            gl.glBindBuffer(gl.GL_PIXEL_UNPACK_BUFFER, 0)
            gl.glBindTexture(gl.GL_TEXTURE_2D, 0)

    def _allocate(self, width: int, height: int) -> None:
        """Gives the bound texture new storage; the pixel buffer is bound, hence the null offset."""
        gl, target = self._gl, self._gl.GL_TEXTURE_2D
        rgba8 = (gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, ctypes.c_void_p(0))
        gl.glTexImage2D(target, 0, gl.GL_RGBA8, width, height, 0, *rgba8)
        for name in (gl.GL_TEXTURE_WRAP_S, gl.GL_TEXTURE_WRAP_T):
            gl.glTexParameteri(target, name, gl.GL_CLAMP_TO_EDGE)
        for name in (gl.GL_TEXTURE_MIN_FILTER, gl.GL_TEXTURE_MAG_FILTER):
            gl.glTexParameteri(target, name, gl.GL_LINEAR)
        self._size = (width, height)

    def _find(self, marker: np.ndarray) -> int:
        gl, (rows, columns) = self._gl, marker.shape[:2]
        if not gl.glGetString(gl.GL_VERSION):
            raise RuntimeError("no OpenGL context is current")
        found = []
        for name in range(1, MAX_TEXTURE_NAME):
            if not gl.glIsTexture(name):
                continue
            gl.glBindTexture(gl.GL_TEXTURE_2D, name)
            sides = (gl.GL_TEXTURE_WIDTH, gl.GL_TEXTURE_HEIGHT)
            size = tuple(int(gl.glGetTexLevelParameteriv(gl.GL_TEXTURE_2D, 0, side)) for side in sides)
            if size == (columns, rows) and np.array_equal(self._read(name, rows, columns), marker):
                found.append(name)
        gl.glBindTexture(gl.GL_TEXTURE_2D, 0)
        if len(found) != 1:
            raise RuntimeError(f"the marker texture was found {len(found)} times")
        return found[0]

    def _read(self, name: int, rows: int, columns: int) -> np.ndarray:
        gl = self._gl
        pixels = np.empty((rows, columns, 4), np.uint8)
        gl.glBindTexture(gl.GL_TEXTURE_2D, name)
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 1)
        gl.glGetTexImage(gl.GL_TEXTURE_2D, 0, gl.GL_RGBA, gl.GL_UNSIGNED_BYTE, pixels)
        gl.glPixelStorei(gl.GL_PACK_ALIGNMENT, 4)
        gl.glBindTexture(gl.GL_TEXTURE_2D, 0)
        return pixels


class RawTexture:
    """Dear PyGui's float texture: slower, one frame late, but without a private agreement with OpenGL.

    It only ever grows, because Dear PyGui leaks a pixel buffer with every raw texture that is deleted.
    """

    name = "raw texture"

    def __init__(self, registry: int) -> None:
        self._registry = registry
        self.tag: int | None = None
        self.uv_max = (1.0, 1.0)
        self._pixels = np.zeros((0, 0, 4), np.float32)

    def upload(self, image: np.ndarray) -> None:
        """Writes an image, uint8 [height, width, 4]."""
        height, width = image.shape[:2]
        if height + 2 > self._pixels.shape[0] or width + 2 > self._pixels.shape[1]:
            self._grow(height + 2, width + 2)
        pixels = self._pixels
        np.divide(image, np.float32(255), out=pixels[:height, :width])
        # A border of the picture's own colours for linear filtering; left and above it lies the far end.
        pixels[height, :width], pixels[-1, :width] = pixels[height - 1, :width], pixels[0, :width]
        pixels[:, width], pixels[:, -1] = pixels[:, width - 1], pixels[:, 0]
        rows, columns = pixels.shape[:2]
        self.uv_max = (width / columns, height / rows)

    def _grow(self, height: int, width: int) -> None:
        rows, columns = (RAW_STEP * (side // RAW_STEP + 1) for side in (height, width))
        rows, columns = max(rows, self._pixels.shape[0]), max(columns, self._pixels.shape[1])
        self._pixels = np.zeros((rows, columns, 4), np.float32)
        self.tag = dpg.add_raw_texture(
            columns, rows, self._pixels, format=dpg.mvFormat_Float_rgba, parent=self._registry
        )
