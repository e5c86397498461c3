"""The similarity into the scene, the box that is trained, and the ends of the rays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets.dataset import DatasetOptions, PhotoFile, Source
from landmark_viewer.scenes.datasets.open import open_dataset
from landmark_viewer.scenes.datasets.placement import place, scene_bounds, scene_near_far

OPTIONS = DatasetOptions(Path("photos"))


def source_of(*cameras: Camera, **fields: object) -> Source:
    photos = tuple(PhotoFile(Path(f"{i}.png"), camera) for i, camera in enumerate(cameras))
    return Source("transforms", Path("photos"), photos, **fields)  # type: ignore[arg-type]


def camera_at(eye: object, target: object = (0, 0, 0)) -> Camera:
    return Camera.from_fov(look_at(eye, target), 40, 30, 60.0)


def ring(height: float = 2.0, radius: float = 3.0) -> list[Camera]:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return [camera_at((radius * np.cos(a), radius * np.sin(a), height)) for a in angles]


def nadir(height: float = 1.0) -> list[Camera]:
    places = [(x, y) for x in (-1.0, 0.0, 1.0) for y in (-1.0, 0.0, 1.0)]
    return [camera_at((x, y, height), (x, y, 0.0)) for x, y in places]


def test_without_options_nothing_moves() -> None:
    placement = place(source_of(*ring()), OPTIONS)
    np.testing.assert_array_equal(placement.matrix, np.eye(4))
    assert placement.camera(ring()[3]) == ring()[3]


def test_pictures_stay_the_same_whatever_the_similarity() -> None:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [0.4, -0.8, 1.1]).as_matrix()
    turn[:3, 3] = 5, -3, 8
    cameras = [replace(c, c2w=tuple(map(tuple, (turn @ c.matrix).tolist()))) for c in ring()]
    placement = place(source_of(*cameras), replace(OPTIONS, orient=True, recenter=True, scale=0.25))
    points = np.random.default_rng(0).normal(size=(20, 3)) + turn[:3, 3]
    for camera in cameras:
        moved = placement.camera(camera)
        np.testing.assert_allclose(moved.matrix[:3, :3].T @ moved.matrix[:3, :3], np.eye(3), atol=1e-12)
        for before, after in zip(points, placement.points(points), strict=True):
            column, row, depth = camera.project(before)
            np.testing.assert_allclose(moved.project(after), (column, row, 0.25 * depth), rtol=1e-9)


def test_orient_turns_the_mean_up_direction_to_z() -> None:
    turn = Rotation.from_euler("xyz", [2.0, 0.5, 1.0])
    cameras = []
    for camera in ring():
        c2w = camera.matrix
        c2w[:3] = turn.as_matrix() @ c2w[:3]
        cameras.append(replace(camera, c2w=tuple(map(tuple, c2w.tolist()))))
    placement = place(source_of(*cameras), replace(OPTIONS, orient=True))
    ups = np.stack([placement.camera(camera).matrix[:3, 1] for camera in cameras])
    np.testing.assert_allclose(ups.mean(axis=0)[:2], 0, atol=1e-12)
    assert ups.mean(axis=0)[2] > 0


def test_orient_turns_cameras_upside_down_by_half_a_turn() -> None:
    over = np.diag([1.0, -1.0, -1.0, 1.0])
    cameras = [replace(c, c2w=tuple(map(tuple, (over @ c.matrix).tolist()))) for c in ring()]
    placement = place(source_of(*cameras), replace(OPTIONS, orient=True))
    assert np.mean([placement.camera(camera).matrix[2, 1] for camera in cameras]) > 0.5
    assert np.linalg.det(placement.matrix[:3, :3]) == pytest.approx(1)


def test_orient_needs_an_up_direction() -> None:
    level, rolled = camera_at((3, 0, 0)), camera_at((3, 0, 0)).matrix
    rolled[:3, :2] *= -1
    both = source_of(level, replace(level, c2w=tuple(map(tuple, rolled.tolist()))))
    with pytest.raises(InputError, match=r"dataset\.orient must be false here"):
        place(both, replace(OPTIONS, orient=True))


@pytest.mark.parametrize(
    ("fields", "ground"),
    [
        ({"points": np.array([[0.0, 0, 7]] * 200 + [[0, 0, -50]])}, 7.0),
        ({"bounds": ((0.0, 0, 4), (1.0, 1, 5))}, 4.0),
        ({}, 102.0),
    ],
)
def test_recenter_puts_the_cameras_over_the_origin_and_the_ground_at_zero(
    fields: dict[str, object], ground: float
) -> None:
    middle = (1000, 2000, 100)
    cameras = [camera_at(np.add(c.eye, middle), middle) for c in ring()]
    placement = place(source_of(*cameras, **fields), replace(OPTIONS, recenter=True, scale=2.0))
    eyes = np.stack([placement.camera(camera).eye for camera in cameras])
    np.testing.assert_allclose(eyes.mean(axis=0), [0, 0, 2 * (102 - ground)], atol=1e-9)


def test_bounds_come_from_the_options_then_the_source_then_the_points() -> None:
    box, other = ((-1.0, -2.0, -3.0), (1.0, 2.0, 3.0)), ((0.0, 0.0, 0.0), (9.0, 9.0, 9.0))
    points = np.random.default_rng(1).uniform(0, 1, (1000, 3))
    points[:5] = 1e6
    options = replace(OPTIONS, scale=2.0)
    source = source_of(*ring(), bounds=box, points=points)
    placement = place(source, options)
    assert scene_bounds(source, replace(options, bounds=other), placement, ring()) == other
    assert scene_bounds(source, options, placement, ring()) == ((-2.0, -4.0, -6.0), (2.0, 4.0, 6.0))
    low, high = scene_bounds(replace(source, bounds=None), options, placement, ring())
    assert np.abs(np.array(low) - (-0.18)).max() < 0.05
    assert np.abs(np.array(high) - 2.18).max() < 0.05


def test_bounds_of_a_ring_of_cameras_are_around_what_they_look_at() -> None:
    cameras = [camera_at(np.add(c.eye, (5, 0, 0)), (5, 0, 0)) for c in ring()]
    source = source_of(*cameras)
    low, high = scene_bounds(source, OPTIONS, place(source, OPTIONS), cameras)
    half = np.hypot(2.0, 3.0)
    np.testing.assert_allclose(low, np.array([5, 0, 0]) - half, atol=1e-9)
    np.testing.assert_allclose(high, np.array([5, 0, 0]) + half, atol=1e-9)


def test_bounds_of_a_flight_are_what_it_sees_of_the_ground() -> None:
    cameras = [*nadir(), camera_at((0, 0, 2.0), (0.001, 0, 0))]  # the lowest ones count
    source = source_of(*cameras)
    low, high = scene_bounds(source, OPTIONS, place(source, OPTIONS), cameras)
    seen = np.tan(np.radians(30)) * np.array([1, 4 / 3])
    np.testing.assert_allclose(sorted(high[:2]), np.maximum(1 + seen, 2 * seen) + 0.1, atol=2e-3)
    assert (low[2], high[2]) == pytest.approx((-0.1, 0.3))


def test_parallel_cameras_show_more_than_their_points() -> None:
    points = np.random.default_rng(1).uniform([-0.5, -0.5, -3.0], [0.5, 0.5, -3.0], (1000, 3))
    source = source_of(*nadir(), points=points)
    low, high = scene_bounds(source, OPTIONS, place(source, OPTIONS), nadir())
    seen = 4 * np.tan(np.radians(30)) * np.array([1, 4 / 3])  # the points lie 4 below the cameras
    np.testing.assert_allclose(sorted(high[:2]), 1 + seen, atol=1e-9)
    assert (low[2], high[2]) == pytest.approx((-3.1, -2.9), abs=0.01)


def test_a_flight_over_real_ground_gets_a_flat_box(shared_dir: Path) -> None:
    data = open_dataset(DatasetOptions(shared_dir / "data" / "brighton_beach", format="transforms"))
    np.testing.assert_allclose(data.bounds, [[-1.45, -1.45, -0.1], [1.45, 1.45, 0.3]], atol=0.05)
    assert 0.02 < data.near_far[0] < 0.1
    assert 2.5 < data.near_far[1] < 4


def test_real_views_around_a_thing_get_a_cube(shared_dir: Path) -> None:
    data = open_dataset(DatasetOptions(shared_dir / "data" / "fox"))
    np.testing.assert_allclose(data.bounds, [[-5.0] * 3, [5.0] * 3], atol=0.2)


def test_bounds_of_forward_facing_views_hold_what_they_show_between_stated_ends() -> None:
    cameras = [camera_at((x, 0, 0), (x, 1, 0)) for x in (0.0, 1.0)]
    source = source_of(*cameras, near_far=(1.0, 5.0))
    options = replace(OPTIONS, scale=2.0)
    placement = place(source, options)
    low, high = scene_bounds(source, options, placement, [placement.camera(c) for c in cameras])
    wide, tall = 10 * np.tan(np.radians(30)) * np.array([4 / 3, 1])
    np.testing.assert_allclose((low, high), [[-wide, 2, -tall], [2 + wide, 10, tall]], atol=1e-9)


def test_oblique_views_all_over_a_city_do_not_look_at_one_place() -> None:
    rng = np.random.default_rng(3)
    cameras = []
    for x, y in rng.uniform(-50, 50, (60, 2)):
        turn = rng.uniform(0, 2 * np.pi)
        cameras.append(camera_at((x, y, 3.0), (x + 2 * np.cos(turn), y + 2 * np.sin(turn), 0.0)))
    source = source_of(*cameras)
    low, high = scene_bounds(source, OPTIONS, place(source, OPTIONS), cameras)
    assert low[0] < -45 < 45 < high[0]
    assert high[2] - low[2] < 3


def test_bounds_must_be_given_where_nothing_tells_them() -> None:
    cameras = [camera_at((x, 0, 1), (x, 9, 1)) for x in (0.0, 1.0, 2.0)]
    source = source_of(*cameras)
    with pytest.raises(InputError, match=r"dataset\.bounds must be given: .* neither at one place nor"):
        scene_bounds(source, OPTIONS, place(source, OPTIONS), cameras)


def test_bounds_of_the_options_must_have_a_volume() -> None:
    source = source_of(*ring())
    flat = replace(OPTIONS, bounds=((0.0, 0.0, 0.0), (1.0, 1.0, 0.0)))
    with pytest.raises(InputError, match=r"dataset\.bounds must be two corners, the first lower"):
        scene_bounds(source, flat, place(source, flat), ring())


def test_ends_of_rays_reach_well_around_the_box() -> None:
    box = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    cameras = [camera_at((9.0, 0, 0)), camera_at((0, 5.0, 0))]
    assert scene_near_far(source_of(), OPTIONS, box, cameras) == pytest.approx((0.4, 20.0))


def test_rays_from_inside_the_box_begin_at_a_hundredth() -> None:
    box = ((-2.0, -2.0, -2.0), (2.0, 2.0, 2.0))
    near, far = scene_near_far(source_of(), OPTIONS, box, [camera_at((1.0, 0, 0))])
    assert (near, far) == pytest.approx((0.03, 6.0))


def test_a_box_behind_all_cameras_is_refused() -> None:
    box = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match=r"dataset\.bounds must lie in front of a camera"):
        scene_near_far(source_of(), OPTIONS, box, [camera_at((9.0, 0, 0), (20.0, 0, 0))])
