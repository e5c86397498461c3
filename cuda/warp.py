"""Keyframes, and how they look from elsewhere: image space only, knows no field.

One displayed picture: `next`, `project`, `choose`, rays for what was chosen, `put`, `fill_rest`, `image`.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence

import numpy as np
import torch

from . import warp_abi
from .native import Library, buffers_struct, view_struct
from .tables import FrameBuffers, View
from .warp_tables import BORDER, FAR, Check, Choice, Counts, Keyframe, Source, WarpSettings

MAX_SOURCES = 3
_PIXEL = np.dtype("V16")  # four floats: numpy copies them at once


class KeyframeBuilder:
    """A keyframe under way: pixels come in any order, and `finish` makes it one."""

    def __init__(self, view: View) -> None:
        self.view = view
        shape = view.height + 2 * BORDER, view.width + 2 * BORDER, 4
        self.color = np.zeros(shape, np.float32)  # as Keyframe.color; pixels that did not come have depth 0
        self.planes = np.zeros(shape, np.float32)  # as Keyframe.planes
        self.lacking = np.zeros((view.height, view.width), dtype=bool)  # to be set by the owner

    def put(self, pixels: np.ndarray, buffers: FrameBuffers, n: int | None = None) -> None:
        """Takes results of a list of rays.

        Args:
            pixels: int32 [n or more] row * width + column, as in RayList.
            buffers: [1, n or more, ...] in the order of the list, with `front`.
            n: How many, from the first on; None: all of `pixels`.
        """
        n = len(pixels) if n is None else n
        place = pixels[:n] + pixels[:n] // self.view.width * (2 * BORDER)
        place += BORDER * self.color.shape[1] + BORDER
        for plane, rows in zip((self.color, self.planes), _rows(buffers, n), strict=True):
            plane.reshape(-1).view(_PIXEL)[place] = rows.reshape(-1).view(_PIXEL)

    def put_picture(self, buffers: FrameBuffers) -> None:
        """Takes a whole picture of the view, [height, width, ...] with `front`."""
        inner = slice(BORDER, -BORDER), slice(BORDER, -BORDER)
        size = self.view.height, self.view.width
        for plane, rows in zip((self.color, self.planes), _rows(buffers, size[0] * size[1]), strict=True):
            plane[inner] = rows.reshape(*size, 4)

    def finish(self) -> Keyframe:
        """Fills the border and returns the keyframe, whose arrays are these, read-only from now on.

        Every pixel must have come.
        """
        for plane in (self.color, self.planes):
            plane[:BORDER] = plane[BORDER]
            plane[-BORDER:] = plane[-BORDER - 1]
            plane[:, :BORDER] = plane[:, BORDER : BORDER + 1]
            plane[:, -BORDER:] = plane[:, -BORDER - 1 : -BORDER]
        for array in (self.color, self.planes, self.lacking):
            array.setflags(write=False)
        return Keyframe(self.view, self.color, self.planes, self.lacking)


class Warp:
    """Makes displayed pictures of one size; `ops.open_warp` opens one. Not for two threads at once.

    What it makes depends on what it was handed in which order, and on nothing else: not on time, nor on the
    number of threads. The interpreter runs on while it works.
    """

    def __init__(self, library: Library, width: int, height: int, threads: int) -> None:
        self.width, self.height = width, height
        self._lib = library.part("warp")
        self._handle = self._lib.lv_warp_open(width, height, threads)
        weakref.finalize(self, self._lib.lv_warp_close, self._handle)

    def next(self) -> None:
        """A new displayed picture begins: points age."""
        self._lib.lv_warp_next(self._handle)

    def forget(self) -> None:
        """Drops the points: they are of another scene, in other colours, or hide what is there."""
        self._lib.lv_warp_forget(self._handle)

    def project(
        self,
        view: View,
        sources: Sequence[Source],
        settings: WarpSettings,
        fade: float = 1.0,
        planes: bool = False,
    ) -> Counts:
        """Begins the picture with what keyframes and points show from a view.

        Args:
            view: Of the picture's size.
            sources: Best first, up to three, of any size and intrinsics; none: all pixels are holes.
            settings: Tolerances.
            fade: Below 1, the share of sources[0] where both sources[0] and sources[1] know a pixel wholly.
            planes: Also gather opacity and depths; without, `buffers` takes the front layer as opaque.
        """
        self._check_size(view)
        structs, held = _sources(sources)
        holes = self._lib.lv_warp_project(
            self._handle,
            ctypes.byref(view_struct(view)),
            structs,
            len(sources),
            ctypes.byref(_settings(settings)),
            fade,
            int(planes),
        )
        del held
        return Counts(int(holes), 1.0 - holes / (self.width * self.height))

    def choose(self, fill: int, edge: int, check: int = 0) -> Choice:
        """Returns the pixels that are to get fresh rays, with the start of each ray.

        Args:
            fill: At most so many holes, evenly spread. Where more than 5 % of the picture are holes, they may
                take half of `edge` as well, and weaker silhouettes wait.
            edge: At most so many stale pixels, then silhouettes, the strongest first.
            check: At most so many good pixels that are neither, evenly spread, others in every picture.
        """
        n = self.width * self.height
        fill, edge, check = min(fill, n), min(edge, n), min(check, n)
        pixels = np.empty(fill + edge + check, np.int32)
        start = np.empty(fill + edge + check, np.float32)
        counts = np.zeros(2, np.int32)
        found = self._lib.lv_warp_choose(
            self._handle, fill, edge, check, pixels.ctypes.data, start.ctypes.data, counts.ctypes.data
        )
        return Choice(pixels[:found], start[:found], int(counts[0]), int(counts[1]))

    def put(self, choice: Choice, buffers: FrameBuffers) -> Check | None:
        """Takes the fresh pixels of a choice into the picture.

        Those of holes become points, too, and those that show something far nearer than what was there.

        Args:
            choice: As `choose` returned it.
            buffers: [1, n, ...] in its order, with `front`.

        Returns:
            What the fresh check pixels say of the picture; None if there are none.
        """
        elsewhere = ctypes.c_int32()
        error = self._lib.lv_warp_put(
            self._handle,
            choice.pixels.ctypes.data,
            len(choice.pixels),
            choice.n_fill,
            choice.n_check,
            ctypes.byref(buffers_struct(buffers)),
            ctypes.byref(elsewhere),
        )
        return Check(float(error), elsewhere.value / choice.n_check) if choice.n_check else None

    def fill_rest(self) -> int:
        """Sets the holes that are left to the mean of set neighbours; returns their number.

        They are shown once and never remembered. Where nothing at all is set the picture becomes black.
        """
        return int(self._lib.lv_warp_fill_rest(self._handle))

    def show(self, keyframe: Keyframe) -> None:
        """Makes a keyframe of this size the picture, as it is; its view is the picture's."""
        self._check_size(keyframe.view)
        structs, _ = _sources([Source(keyframe)])
        self._lib.lv_warp_show(self._handle, structs, None, 0)

    def show_part(self, builder: KeyframeBuilder, pixels: np.ndarray) -> None:
        """Puts finished pixels of a keyframe under way over the picture, as they are.

        Args:
            builder: Of the picture's view.
            pixels: int32 [n] row * width + column
        """
        self._check_size(builder.view)
        pixels = np.ascontiguousarray(pixels, dtype=np.int32)
        keyframe = Keyframe(builder.view, builder.color, builder.planes, builder.lacking)
        structs, _ = _sources([Source(keyframe)])
        self._lib.lv_warp_show(self._handle, structs, pixels.ctypes.data, len(pixels))

    def image(self) -> np.ndarray:
        """Returns the picture in bytes, opaque, its own copy. uint8 [height, width, 4]"""
        image = np.empty((self.height, self.width, 4), np.uint8)
        self._lib.lv_warp_image(self._handle, image.ctypes.data)
        return image

    def buffers(self) -> FrameBuffers:
        """Returns the picture as floats, its own copies.

        Opacity and depths are those of keyframes and fresh rays if the picture was projected with `planes` or
        is shown as it is; else an opaque front layer is taken for granted.
        """
        size = self.height, self.width
        buffers = FrameBuffers(torch.empty(*size, 3), torch.empty(size), torch.empty(size), torch.empty(size))
        self._lib.lv_warp_buffers(self._handle, ctypes.byref(buffers_struct(buffers)))
        return buffers

    def starts(
        self, view: View, sources: Sequence[Source], pixels: np.ndarray, settings: WarpSettings
    ) -> np.ndarray:
        """Returns the start of rays of another view, of any size; the picture stays as it is.

        Args:
            view: Where the rays are to be cast.
            sources: What is known, up to three.
            pixels: int32 [n] row * width + column of `view`.
            settings: Tolerances and margin.

        Returns:
            z-depth before which a ray is expected to meet nothing; 0 where that is not known. float32 [n]
        """
        pixels = np.ascontiguousarray(pixels, dtype=np.int32)
        start = np.empty(len(pixels), np.float32)
        structs, held = _sources(sources)
        self._lib.lv_warp_starts(
            self._handle,
            ctypes.byref(view_struct(view)),
            structs,
            len(sources),
            ctypes.byref(_settings(settings)),
            pixels.ctypes.data,
            len(pixels),
            start.ctypes.data,
        )
        del held
        return start

    def _check_size(self, view: View) -> None:
        if (view.width, view.height) != (self.width, self.height):
            size = f"{self.width} x {self.height}"
            raise ValueError(f"the picture needs a view of {size} pixels, got {view.width} x {view.height}")


def _rows(buffers: FrameBuffers, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first n pixels as a keyframe's colours and planes have them. float32 [n, 4] each"""
    assert buffers.front is not None, "keyframes need the depth of the front layer"
    color, planes = np.empty((n, 4), np.float32), np.empty((n, 4), np.float32)
    front = buffers.front.reshape(-1, 2)[:n].numpy()
    rgb = buffers.rgb.reshape(-1, 3)[:n].numpy()
    for i in range(3):  # by channels, as those below: numpy takes five times as long for runs of three
        color[:, i] = rgb[:, i]
    color[:, 3] = np.minimum(np.where(front[:, 0] > 0, front[:, 0], FAR), FAR)
    if not np.isfinite(color.sum()):
        np.nan_to_num(color, copy=False, nan=0.0)
    for i, plane in enumerate((buffers.opacity, buffers.depth, buffers.median_depth)):
        planes[:, i] = plane.reshape(-1)[:n].numpy()
    planes[:, 3] = front[:, 1]
    return color, planes


def _sources(sources: Sequence[Source]) -> tuple[ctypes.Array[warp_abi.KeyframeStruct], list[np.ndarray]]:
    """Returns the sources as the library reads them, and the memory that they point to."""
    if len(sources) > MAX_SOURCES:
        raise ValueError(f"a picture must have at most {MAX_SOURCES} sources, got {len(sources)}")
    structs = (warp_abi.KeyframeStruct * max(len(sources), 1))()
    held = []
    for struct, source in zip(structs, sources, strict=False):
        keyframe = source.keyframe
        struct.view = view_struct(keyframe.view)
        struct.color, struct.planes = keyframe.color.ctypes.data, keyframe.planes.ctypes.data
        if source.trust is not None:
            trust = np.ascontiguousarray(source.trust, dtype=np.uint8)
            size = keyframe.view.height, keyframe.view.width
            if trust.shape != size:
                raise ValueError(f"trust must be uint8 {[*size]}, got {[*trust.shape]}")
            held.append(trust)
            struct.trust = trust.ctypes.data
    return structs, held


def _settings(settings: WarpSettings) -> warp_abi.SettingsStruct:
    return warp_abi.SettingsStruct(
        settings.same, settings.crack, settings.edge, settings.margin, settings.life
    )
