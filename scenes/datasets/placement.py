"""Where a dataset lies in its scene: one similarity, the box that is trained, and the ends of the rays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core.camera import Camera, as_matrix
from ...core.errors import InputError
from .dataset import Bounds, DatasetOptions, Source

OUTLIERS = 1.0  # per cent of the sparse points beyond the box, at either end of an axis
MARGIN = 0.1  # of the box of the sparse points, on every side
SPREAD = 0.02  # mean squared sine between view directions and their main one: below, they are parallel
MISS = 0.5  # of their distance: how far half of the cameras may look past the place they look at
NEAREST = 0.01  # of the far end: the near end of a ray that starts inside the box


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

    It is the options' box; else the source's; else the box of all but the outermost sparse points, and a
    margin; else, where the cameras look at one place, a cube around it whose half side is their median
    distance; else, where all cameras look down on z = 0, what they see of it.

    Raises:
        InputError: Nothing of this is known, or the box has no volume.
    """
    if options.bounds is not None:
        bounds = options.bounds
    elif source.bounds is not None:
        bounds = placement.bounds(source.bounds)
    elif source.points is not None and len(source.points):
        points = placement.points(source.points)
        low, high = np.percentile(points, [OUTLIERS, 100 - OUTLIERS], axis=0)
        margin = MARGIN * (high - low).max()
        bounds = _box(np.stack([low - margin, high + margin]))
    else:
        bounds = _bounds_of_cameras(cameras)
    if not np.isfinite(bounds).all() or not (np.array(bounds[0]) < bounds[1]).all():
        raise InputError(
            f"dataset.bounds must be two corners, the first lower along every axis, got {bounds[0]} and "
            f"{bounds[1]}"
        )
    return bounds


def scene_near_far(
    source: Source, options: DatasetOptions, bounds: Bounds, cameras: Sequence[Camera]
) -> tuple[float, float]:
    """Returns the z-depths of the ends of the rays, in scene units.

    They are the options'; else the source's, scaled; else the least and greatest depth of a corner of the box
    in any camera, where the least is at least a hundredth of the greatest.

    Raises:
        InputError: The box lies behind every camera, or the given ends are out of order.
    """
    if options.near_far is not None:
        near, far = options.near_far
    elif source.near_far is not None:
        near, far = (depth * options.scale for depth in source.near_far)
    else:
        matrices = np.stack([camera.matrix for camera in cameras])
        offsets = _corners(bounds)[None] - matrices[:, None, :3, 3]
        depths = -np.einsum("cpi,ci->cp", offsets, matrices[:, :3, 2])
        far = float(depths.max())
        near = max(float(depths.min()), NEAREST * far)
        if not far > 0:
            raise InputError("dataset.bounds must lie in front of a camera, got a box behind all of them")
    if not 0 < near < far < np.inf:
        raise InputError(f"dataset.near_far must be 0 < near < far, got {near:g} and {far:g}")
    return near, far


def _bounds_of_cameras(cameras: Sequence[Camera]) -> Bounds:
    eyes = np.stack([camera.eye for camera in cameras])
    ahead = -np.stack([camera.matrix[:3, 2] for camera in cameras])
    across = np.eye(3) - ahead[:, :, None] * ahead[:, None, :]  # projects onto the plane across each view
    if np.linalg.eigvalsh(across.mean(axis=0))[0] > SPREAD:
        place = np.linalg.solve(across.sum(axis=0), np.einsum("cij,cj->i", across, eyes))
        offsets = place - eyes
        half = np.median(np.linalg.norm(offsets, axis=1))
        miss = np.median(np.linalg.norm(np.einsum("cij,cj->ci", across, offsets), axis=1))
        if miss < MISS * half and np.median((offsets * ahead).sum(axis=1)) > 0:
            return _box(np.stack([place - half, place + half]))
    if (eyes[:, 2] > 0).all() and ahead[:, 2].mean() < -0.5:
        return _footprint(cameras, float(np.median(eyes[:, 2])))
    raise InputError(
        "dataset.bounds must be given: the dataset has neither bounds nor points, and its cameras look "
        "neither at one place nor down on z = 0"
    )


def _footprint(cameras: Sequence[Camera], height: float) -> Bounds:
    """Returns the box over what the corners of the pictures see of z = 0."""
    places = []
    for camera in cameras:
        for column, row in ((0, 0), (camera.width, 0), (0, camera.height), (camera.width, camera.height)):
            origin, direction = camera.ray(column, row)
            steepness = max(-direction[2], 0.5)  # a ray that runs level would see the whole world
            places.append(origin + direction * origin[2] / steepness)
    low, high = _box(np.array(places))
    return (low[0], low[1], -height / 8), (high[0], high[1], height / 2)


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


def _box(points: np.ndarray) -> Bounds:
    low, high = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    return (low[0], low[1], low[2]), (high[0], high[1], high[2])
