"""The one dataset type that every format is read into."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.camera import Camera
from ...core.training.photos import Photos

Bounds = tuple[tuple[float, float, float], tuple[float, float, float]]
Progress = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class Lens:
    """Distortion of a photograph, OpenCV's models; `Lens()` is a pinhole.

    With (x, y) on the plane at distance 1 and r its distance from the axis, the radial-tangential model
    scales by 1 + k1 r^2 + k2 r^4 + k3 r^6 + k4 r^8 and adds 2 p1 xy + p2 (r^2 + 2 x^2) to x and
    p1 (r^2 + 2 y^2) + 2 p2 xy to y. The fisheye model shows a ray at angle a from the axis at distance
    a (1 + k1 a^2 + k2 a^4 + k3 a^6 + k4 a^8).
    """

    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0
    k3: float = 0.0
    k4: float = 0.0
    fisheye: bool = False  # the fisheye model with k1 .. k4 instead of radial-tangential


@dataclass(frozen=True)
class PhotoFile:
    """One photograph as its source describes it, in the source's own coordinates and pixel convention."""

    path: Path
    camera: Camera  # c2w in source coordinates; cx, cy as stated by the source
    lens: Lens = Lens()
    code: int | None = None  # appearance code; None: one of its own, or the nearest neighbour's for a test
    mask: Path | None = None  # pixels that are 0 here are not trained on
    split: str | None = None  # "train", "test", or None where the source has no split


@dataclass(frozen=True)
class Source:
    """What a format's reader returns: nothing is scaled, split or loaded yet."""

    kind: str  # name of the format
    root: Path
    photos: tuple[PhotoFile, ...]
    bounds: Bounds | None = None  # in source coordinates
    near_far: tuple[float, float] | None = None  # z-depth, source units
    points: np.ndarray | None = None  # sparse points, source coordinates. float64 [n, 3]
    pixel_center: float = 0.5  # position of the first pixel's centre in the convention of cx, cy
    metres_per_unit: float | None = None
    epsg: int | None = None
    z_is_up: bool = True
    reduced: int = 1  # how much smaller the photographs are than those in LandMark's folder
    styles: tuple[tuple[str, int], ...] = ()  # name and code of appearances
    applied: np.ndarray | None = (
        None  # similarity already in the poses: original -> source coordinates. [4, 4]
    )
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetOptions:
    """How a source becomes a dataset; the fields of scene.yaml's `dataset:`."""

    path: Path
    format: str = "auto"  # auto, transforms, landmark, colmap, blender, llff, matrixcity, contextcapture
    downsample: int = 1  # photographs are averaged down by this factor
    folders: tuple[str, ...] = ()  # only photographs that lie in a folder of such a name; (): all
    holdout: int = 8  # every n-th photograph is kept for testing where the source has no split; 0: none
    bounds: Bounds | None = None  # scene units; None: from the source, else from its points or cameras
    near_far: tuple[float, float] | None = None  # scene units; None: from the source, else from the bounds
    scale: float = 1.0  # scene units per source unit, applied last
    recenter: bool = False  # moves the middle of the cameras to x = y = 0, and the ground to z = 0
    orient: bool = False  # turns the cameras' mean up direction to +z
    pixel_center: float | None = (
        None  # overrides the format's; 0: LandMark's, with the principal point central
    )
    cache: Path | None = None  # folder of the pixel cache
    max_memory: int = 2 << 30  # bytes of pixels held in memory; beyond, they stream from the cache
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)  # behind photographs with transparency


@dataclass(frozen=True)
class Dataset:
    """Photographs ready for training, in scene units."""

    kind: str
    root: Path
    train: Photos
    test: Photos
    bounds: Bounds
    near_far: tuple[float, float]
    scene_from_source: np.ndarray  # 4 x 4 float64 similarity: original coordinates -> scene units
    metres_per_unit: float | None = None  # metres per scene unit
    epsg: int | None = None
    downsample: int = 1  # how much smaller the photographs are than those in `root`
    styles: tuple[tuple[str, int], ...] = ()  # name and code of appearances
    notices: tuple[str, ...] = ()
