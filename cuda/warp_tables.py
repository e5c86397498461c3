"""What the warp reads and makes: keyframes, and how they are to be seen from elsewhere.

A keyframe is a finished picture with, for every pixel, the z-depth of the front layer. `warp.Warp` shows
keyframes from another pose: their depth is projected, every pixel of the new view looks its colour up where
the surface that it sees lies in a keyframe, and what no keyframe has seen is a hole. Colours are looked up
once: a warped picture is never warped again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .tables import View

BORDER = 4  # pixels round a keyframe, copies of its outermost ones: no lookup asks where the picture ends
FAR = 1e4  # z-depth that stands for the background, scene units


class Trust(IntEnum):
    """What a pixel of a keyframe is worth today."""

    GOOD = 0
    STALE = 1  # to be shown, but first in line for a fresh ray: something better has come since
    VOID = 2  # not to be shown: it would be wrong


@dataclass(frozen=True)
class Keyframe:
    """A finished picture; nothing changes it any more, and its arrays are read-only."""

    view: View
    color: (
        np.ndarray
    )  # float32 [height + 2 BORDER, width + 2 BORDER, 4] rgb, z-depth of the front layer or FAR
    # float32, same shape: opacity, expected z-depth, median z-depth (0: none), share of the opacity in front
    planes: np.ndarray
    lacking: np.ndarray  # bool [height, width] read a coarse stand-in for a block


@dataclass(frozen=True)
class Source:
    """A keyframe as it is to be used for one picture."""

    keyframe: Keyframe
    trust: np.ndarray | None = None  # uint8 [height, width] values of Trust; None: all are good


@dataclass(frozen=True)
class WarpSettings:
    """Tolerances of a warp, as shares of the depth unless said otherwise."""

    same: float = 0.02  # two depths closer than this are one surface
    crack: float = 0.04  # a pixel behind most of its neighbours by more than this is a crack in theirs
    edge: float = 0.04  # neighbours farther apart than this make a silhouette
    margin: float = 0.0  # scene units that a ray starts before the surface that is expected
    life: int = 12  # displayed pictures for which a hole's fresh pixel is kept as a point


@dataclass(frozen=True)
class Choice:
    """Pixels that get fresh rays, in this order: holes, silhouettes and stale ones, checks."""

    pixels: np.ndarray  # int32 [n] row * width + column
    start: np.ndarray  # float32 [n] z-depth before which the ray is expected to meet nothing
    n_fill: int  # of them, holes
    n_check: int  # of them, at the end: ordinary pixels, evenly spread, by which the warp is measured


@dataclass(frozen=True)
class Counts:
    """What a warp has found."""

    holes: int  # pixels that no keyframe and no point shows
    coverage: float  # share of the pixels that a keyframe or point shows


@dataclass(frozen=True)
class Check:
    """What fresh rays found where keyframes or points were shown."""

    error: float  # mean squared difference over pixels and channels
    elsewhere: float  # share of them that met a surface far nearer or farther than the one shown
