"""From pixels to points of the world."""

from __future__ import annotations

import math

import numpy as np
import pytest

from landmark_viewer.viewer.picking import ground_height, pick
from landmark_viewer.viewer.resolution import camera_at
from landmark_viewer.viewer.state import Pose

CAMERA = Pose((0.0, 0.0, 2.0), yaw=0.3, pitch=-0.8, distance=3.0).camera(64, 48)


def ground_depth(camera, height: float = 0.0) -> np.ndarray:
    """z-depth of the plane z = height, 0 where a pixel does not see it. [height, width]"""
    depth = np.zeros((camera.height, camera.width), np.float32)
    for row in range(camera.height):
        for column in range(camera.width):
            eye, direction = camera.ray(column, row)
            if direction[2] < 0:
                depth[row, column] = (height - eye[2]) / direction[2]
    return depth


@pytest.mark.parametrize(("column", "row"), [(0, 0), (32, 24), (63, 47), (10, 40)])
def test_a_pixel_on_a_surface_gives_the_point_that_projects_back_to_it(column, row):
    picked = pick(CAMERA, column, row, ground_depth(CAMERA))
    assert picked.source == "surface"
    assert picked.point[2] == pytest.approx(0, abs=1e-5)
    assert CAMERA.project(np.array(picked.point)) == pytest.approx((column, row, picked.depth), abs=1e-4)


def test_a_coarse_depth_picture_serves_the_whole_viewport():
    coarse = camera_at(CAMERA, 0.5)
    assert (coarse.width, coarse.height) == (32, 24)
    picked = pick(CAMERA, 40, 30, ground_depth(coarse))
    assert picked.point[2] == pytest.approx(0, abs=0.1)


def test_a_hole_takes_the_depth_of_the_nearest_pixel_that_has_one():
    depth = np.zeros((48, 64), np.float32)
    depth[24, 33] = 1.5
    assert pick(CAMERA, 32, 24, depth).depth == 1.5
    assert pick(CAMERA, 40, 24, depth, ground=0.0).source == "ground"


def test_without_a_surface_the_ground_is_hit_where_the_ray_meets_it():
    picked = pick(CAMERA, 20, 30, np.zeros((48, 64), np.float32), ground=0.5)
    assert picked.source == "ground"
    assert picked.point[2] == pytest.approx(0.5)


@pytest.mark.parametrize("ground", [None, 5.0])
def test_without_surface_and_ground_the_pivot_distance_is_taken(ground):
    picked = pick(CAMERA, 20, 30, None, ground, pivot_distance=3.0)
    assert (picked.source, picked.depth) == ("pivot", 3.0)


def test_values_that_are_no_depths_are_passed_over():
    depth = np.full((48, 64), np.nan, np.float32)
    assert pick(CAMERA, 20, 30, depth, pivot_distance=3.0).source == "pivot"


def test_a_position_outside_of_the_picture_takes_its_border():
    assert pick(CAMERA, -5, 100, ground_depth(CAMERA)).source == "surface"


def test_the_depth_of_a_picked_point_for_another_camera_is_its_own():
    picked = pick(CAMERA, 32, 24, ground_depth(CAMERA))
    nearer = Pose((0.0, 0.0, 1.0), yaw=0.3, pitch=-0.8).camera(64, 48)
    assert picked.depth_for(CAMERA) == pytest.approx(picked.depth)
    assert picked.depth_for(nearer) < picked.depth


def test_the_ground_is_the_low_part_of_what_is_seen():
    depth = ground_depth(CAMERA, 0.25)
    assert ground_height(CAMERA, depth, 9.0) == pytest.approx(0.25, abs=1e-4)
    depth[:20] *= 0.5  # buildings
    assert ground_height(CAMERA, depth, 9.0) == pytest.approx(0.25, abs=1e-3)


def test_without_any_surface_the_ground_is_the_fallback():
    assert ground_height(CAMERA, np.zeros((48, 64), np.float32), 9.0) == 9.0


def test_looking_at_the_sky_hits_no_ground():
    sky = Pose((0.0, 0.0, 2.0), pitch=math.radians(30)).camera(64, 48)
    assert pick(sky, 32, 2, None, ground=0.0, pivot_distance=4.0).source == "pivot"
