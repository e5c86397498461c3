"""Where a dataset lies in its scene: one similarity, the box that is trained, and the ends of the rays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.camera import Camera, as_matrix
from ...core.errors import InputError
from .dataset import Bounds, DatasetOptions, Source

OUTLIERS = 1.0  # per cent of the sparse points beyond the box, at either end of an axis
MARGIN = 0.1  # around the box: of the longest side of the points' box, or of the height of a flight
TALLEST = 0.3  # of the height of a flight: the top of the box
LEVEL = 0.5  # least steepness of a ray to the ground; one that runs level would see the whole world
SPREAD = 0.02  # mean squared sine between view directions and their main one: below, they are parallel
MISS = 0.5  # of their distance: how far half of the cameras may look past the place they look at
NEAR = 0.1  # of the least depth of the box: where rays begin
NEAREST = 0.01  # of the greatest depth of the box: where they begin if a camera is inside it
FAR = 2.0  # of the greatest depth of the box: where rays end
REMOTE = 1000.0  # longest sides of the box from the origin: beyond, float32 rays miss by a part of a voxel


@dataclass(frozen=True)
class Placement:
    """A similarity: turns, then moves, then scales."""

    matrix: np.ndarray  # source coordinates -> scene units. [4, 4]
    scale: float  # scene units per source unit

    def camera(self, camera: Camera) -> Camera:
        """Moves a camera; its rotation stays a rotation."""
        c2w = self.matrix @ camera.matrix
        c2w[:3, :3] /= self.scale
        return replace(camera, c2w=as_matrix(c2w))

    def points(self, points: np.ndarray) -> np.ndarray:
        """Moves points. [n, 3]"""
        moved: np.ndarray = points @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return moved

    def bounds(self, bounds: Bounds) -> Bounds:
        """Returns the box around a moved box."""
        return _box(self.points(_corners(bounds)))


def place(source: Source, options: DatasetOptions) -> Placement:
    """Makes the similarity that the options ask for.

    `orient` turns the mean up direction of the cameras to +z. `recenter` then moves the mean of the cameras
    to x = y = 0 and the ground to z = 0: the lowest per cent of the sparse points, else the bottom of the
    source's bounds, else the lowest camera. `scale` comes last.
    """
    matrix = np.eye(4)
    cameras = np.stack([photo.camera.matrix for photo in source.photos])
    if options.orient:
        matrix[:3, :3] = _rotation_to_z(cameras[:, :3, 1].mean(axis=0))
    turned = Placement(matrix, 1.0)
    if options.recenter:
        eyes = turned.points(cameras[:, :3, 3])
        if source.points is not None and len(source.points):
            ground = float(np.percentile(turned.points(source.points)[:, 2], OUTLIERS))
        elif source.bounds is not None:
            ground = turned.bounds(source.bounds)[0][2]
        else:
            ground = float(eyes[:, 2].min())
        matrix[:3, 3] = -eyes[:, 0].mean(), -eyes[:, 1].mean(), -ground
    matrix[:3] *= options.scale
    return Placement(matrix, options.scale)


def scene_bounds(
    source: Source, options: DatasetOptions, placement: Placement, cameras: Sequence[Camera]
) -> Bounds:
    """Returns the box that is trained, in scene units.

    It is the options' box; else the source's; else that of all sparse points but the outermost, together with
    what parallel cameras see at the points' depth. Without points it is, where the cameras look at one place,
    a cube around it whose half side is their median distance; where all look down on z = 0, what they see of
    it, up to TALLEST of the lowest camera's height; else what they see between stated ends of the rays.

    Raises:
        InputError: Nothing of this is known, or the box has no volume.
    """
    if options.bounds is not None:
        bounds = options.bounds
    elif source.bounds is not None:
        bounds = placement.bounds(source.bounds)
    elif source.points is not None and len(source.points):
        bounds = _bounds_of_points(placement.points(source.points), cameras)
    else:
        bounds = _bounds_of_cameras(cameras, _stated_near_far(source, options))
    if not np.isfinite(bounds).all() or not (np.array(bounds[0]) < bounds[1]).all():
        raise InputError(
            f"dataset.bounds must be two corners, the first lower along every axis, got {bounds[0]} and "
            f"{bounds[1]}"
        )
    return bounds


def is_remote(bounds: Bounds) -> bool:
    """Whether a box lies so far from the origin, for its size, that single precision blurs it."""
    low, high = np.array(bounds)
    return bool(np.abs([low, high]).max() > REMOTE * (high - low).max())


def scene_near_far(
    source: Source, options: DatasetOptions, bounds: Bounds, cameras: Sequence[Camera]
) -> tuple[float, float]:
    """Returns the z-depths of the ends of the rays, in scene units.

    They are the options'; else the source's, scaled; else from well before the box to well behind it: a ray
    has its samples in the box only, wherever it ends.

    Raises:
        InputError: The box lies behind every camera, or the given ends are out of order.
    """
    if stated := _stated_near_far(source, options):
        near, far = stated
    else:
        matrices = np.stack([camera.matrix for camera in cameras])
        offsets = _corners(bounds)[None] - matrices[:, None, :3, 3]
        depths = -np.einsum("cpi,ci->cp", offsets, matrices[:, :3, 2])
        nearest, farthest = float(depths.min()), float(depths.max())
        if not farthest > 0:
            raise InputError("dataset.bounds must lie in front of a camera, got a box behind all of them")
        near, far = max(NEAR * nearest, NEAREST * farthest), FAR * farthest
    if not 0 < near < far < np.inf:
        raise InputError(f"dataset.near_far must be 0 < near < far, got {near:g} and {far:g}")
    return near, far


def _stated_near_far(source: Source, options: DatasetOptions) -> tuple[float, float] | None:
    if options.near_far is not None or source.near_far is None:
        return options.near_far
    near, far = source.near_far
    return near * options.scale, far * options.scale


@dataclass(frozen=True)
class _Views:
    """Where cameras stand and look."""

    eyes: np.ndarray  # [n, 3]
    ahead: np.ndarray  # unit vectors. [n, 3]
    across: np.ndarray  # projections onto the planes across the views. [n, 3, 3]

    @classmethod
    def of(cls, cameras: Sequence[Camera]) -> _Views:
        ahead = -np.stack([camera.matrix[:3, 2] for camera in cameras])
        across = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]
        return cls(np.stack([camera.eye for camera in cameras]), ahead, across)

    @property
    def are_parallel(self) -> bool:
        return bool(np.linalg.eigvalsh(self.across.mean(axis=0))[0] <= SPREAD)


def _bounds_of_points(points: np.ndarray, cameras: Sequence[Camera]) -> Bounds:
    """Returns the box of sparse points [n, 3]; parallel cameras also see where no point was found."""
    low, high = np.percentile(points, [OUTLIERS, 100 - OUTLIERS], axis=0)
    margin = MARGIN * (high - low).max()
    places = np.stack([low - margin, high + margin])
    views = _Views.of(cameras)
    if views.are_parallel:
        seen = _seen(cameras, np.median(points, axis=0), views.ahead.mean(axis=0))
        places = np.concatenate([places, seen])
    return _box(places)


def _bounds_of_cameras(cameras: Sequence[Camera], near_far: tuple[float, float] | None) -> Bounds:
    views = _Views.of(cameras)
    eyes, ahead, across = views.eyes, views.ahead, views.across
    if not views.are_parallel:
        place = np.linalg.solve(across.sum(axis=0), np.einsum("cij,cj->i", across, eyes))
        offsets = place - eyes
        half = float(np.median(np.linalg.norm(offsets, axis=1)))
        miss = np.median(np.linalg.norm(np.einsum("cij,cj->ci", across, offsets), axis=1))
        if miss < MISS * half and np.median((offsets * ahead).sum(axis=1)) > 0:
            return _box(place[None], half)
    height = float(eyes[:, 2].min())
    if height > 0 and ahead[:, 2].mean() < -0.5:
        low, high = _box(_seen(cameras, np.zeros(3), np.array([0.0, 0.0, -1.0])), MARGIN * height)
        return low, (high[0], high[1], TALLEST * height)
    if near_far is not None:
        return _box(np.concatenate([_at_depth(cameras, depth) for depth in near_far]))
    raise InputError(
        "dataset.bounds must be given: the dataset has neither bounds nor points, and its cameras look "
        "neither at one place nor down on z = 0"
    )


def _corner_rays(cameras: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Returns origins and directions of the rays through the pictures' corners; t is z-depth. [4 n, 3]"""
    rays = [
        camera.ray(column, row)
        for camera in cameras
        for column, row in ((0, 0), (camera.width, 0), (0, camera.height), (camera.width, camera.height))
    ]
    return np.array([origin for origin, _ in rays]), np.array([direction for _, direction in rays])


def _seen(cameras: Sequence[Camera], place: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Returns what the corners of the pictures see of the plane through `place` across `down`. [4 n, 3]"""
    origins, directions = _corner_rays(cameras)
    down = down / np.linalg.norm(down)
    steepness = np.maximum(directions @ down, LEVEL)
    seen: np.ndarray = origins + directions * ((place - origins) @ down / steepness)[:, None]
    return seen


def _at_depth(cameras: Sequence[Camera], depth: float) -> np.ndarray:
    """Returns what the corners of the pictures see at a z-depth. [4 n, 3]"""
    origins, directions = _corner_rays(cameras)
    return origins + depth * directions


def _rotation_to_z(up: np.ndarray) -> np.ndarray:
    """Returns the smallest rotation that turns a direction to +z (Rodrigues' formula). [3, 3]"""
    length = np.linalg.norm(up)
    if length < 1e-6:
        raise InputError("dataset.orient must be false here: the cameras' up directions cancel out")
    x, y, cosine = up / length
    if cosine < -1 + 1e-12:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, 0, -x], [0, 0, -y], [x, y, 0]])
    rotation: np.ndarray = np.eye(3) + cross + cross @ cross / (1 + cosine)
    return rotation


def _corners(bounds: Bounds) -> np.ndarray:
    """Returns the eight corners of a box. [8, 3]"""
    return np.stack(np.meshgrid(*np.array(bounds).T, indexing="ij"), axis=-1).reshape(8, 3)


def _box(points: np.ndarray, margin: float = 0.0) -> Bounds:
    """Returns the box of points [n, 3] with a margin on every side."""
    low, high = (points.min(axis=0) - margin).tolist(), (points.max(axis=0) + margin).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
