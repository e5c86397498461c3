"""Moving the camera: what must stay where it is on the screen and in the world."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.viewer import navigation
from landmark_viewer.viewer.navigation import Glide, animate
from landmark_viewer.viewer.state import MAX_FOV, MIN_FOV, Navigation, Pose

WIDTH, HEIGHT = 640, 360
coordinates = st.floats(-5, 5)
poses = st.builds(
    Pose,
    eye=st.tuples(coordinates, coordinates, coordinates),
    yaw=st.floats(-3, 3),
    pitch=st.floats(-1.4, 1.4),
    roll=st.sampled_from([0.0, 0.3]),
    fov_y=st.floats(20, 90),
    distance=st.floats(0.1, 10),
)
drags = st.floats(-400, 400)
pixels = st.tuples(st.floats(0, WIDTH), st.floats(0, HEIGHT))
depths = st.floats(0.1, 20)


def world_point(pose: Pose, px: tuple[float, float], depth: float) -> np.ndarray:
    eye, direction = pose.camera(WIDTH, HEIGHT).ray(*px)
    return eye + depth * direction


@given(poses, drags, drags)
def test_orbiting_keeps_pivot_distance_and_roll(pose, dx, dy):
    after = navigation.orbit(pose, dx, dy, HEIGHT)
    np.testing.assert_allclose(after.pivot, pose.pivot, atol=1e-9)
    assert (after.distance, after.roll, after.fov_y) == (pose.distance, pose.roll, pose.fov_y)
    assert np.linalg.norm(np.array(after.eye) - after.pivot) == pytest.approx(pose.distance)


@given(poses, drags, st.floats(-0.05, 0.05))
def test_orbiting_back_returns(pose, dx, turn):
    dy = turn * HEIGHT  # so little that no limit is met
    back = navigation.orbit(navigation.orbit(pose, dx, dy, HEIGHT), -dx, -dy, HEIGHT)
    np.testing.assert_allclose(back.rotation, pose.rotation, atol=1e-9)
    np.testing.assert_allclose(back.eye, pose.eye, atol=1e-8)


def test_orbiting_ends_straight_above_and_never_flips():
    pose = Pose((0.0, -2.0, 1.0), pitch=-0.4, distance=2.0)
    for _ in range(20):
        pose = navigation.orbit(pose, 0, 100, HEIGHT)
        assert pose.rotation[2, 1] >= -1e-9  # the picture's up direction never points down
    assert pose.pitch == pytest.approx(-math.pi / 2)
    assert navigation.orbit(pose, 0, -90, HEIGHT).pitch == pytest.approx(-math.pi / 4)


def test_orbiting_moves_the_near_side_with_the_cursor():
    pose = Pose((0.0, -2.0, 1.0), pitch=-0.4, distance=2.0)
    near = pose.pivot - 0.5 * pose.forward * np.array([1, 1, 0])
    before = pose.camera(WIDTH, HEIGHT).project(near)
    right = navigation.orbit(pose, 20, 0, HEIGHT).camera(WIDTH, HEIGHT).project(near)
    down = navigation.orbit(pose, 0, 20, HEIGHT).camera(WIDTH, HEIGHT).project(near)
    assert right[0] > before[0]
    assert down[1] > before[1]


@given(poses, drags, drags)
def test_looking_keeps_the_eye(pose, dx, dy):
    after = navigation.look(pose, dx, dy, HEIGHT)
    assert after.eye == pose.eye
    assert abs(after.pitch) <= math.pi / 2


def test_looking_right_turns_the_heading_to_the_east_and_down_lowers_it():
    after = navigation.look(Pose(), 30, 30, HEIGHT)
    assert after.yaw > 0
    assert after.pitch < 0


@given(poses, pixels, pixels, depths)
def test_panning_keeps_the_grabbed_point_under_the_cursor(pose, start, end, depth):
    point = world_point(pose, start, depth)
    after = navigation.pan(pose, pose.camera(WIDTH, HEIGHT), start, end, depth)
    column, row, _ = after.camera(WIDTH, HEIGHT).project(point)
    assert (column, row) == pytest.approx(end, abs=1e-6)
    np.testing.assert_array_equal(after.rotation, pose.rotation)


@given(poses, pixels, depths, st.floats(-10, 10))
def test_dollying_keeps_the_point_under_the_cursor_and_never_passes_it(pose, px, depth, steps):
    point = world_point(pose, px, depth)
    after = navigation.dolly(pose, pose.camera(WIDTH, HEIGHT), px, depth, steps)
    column, row, left = after.camera(WIDTH, HEIGHT).project(point)
    assert (column, row) == pytest.approx(px, abs=1e-6)
    assert left == pytest.approx(depth * navigation.DOLLY_STEP**steps, rel=1e-6)
    assert left > 0
    assert after.distance == pytest.approx(left)


def test_dollying_for_ever_stops_before_the_point():
    pose = Pose((0.0, 0.0, 5.0), pitch=-1.0, distance=5.0)
    point = world_point(pose, (400, 200), 5.0)
    for _ in range(500):
        depth = pose.camera(WIDTH, HEIGHT).project(point)[2]
        pose = navigation.dolly(pose, pose.camera(WIDTH, HEIGHT), (400, 200), max(depth, 1e-9), 1)
    assert pose.distance == pytest.approx(navigation.MIN_DISTANCE)
    assert pose.camera(WIDTH, HEIGHT).project(point)[2] > 0


def test_zooming_is_limited_and_can_be_taken_back():
    pose = Pose(fov_y=50.0)
    assert navigation.zoom(navigation.zoom(pose, 3), -3).fov_y == pytest.approx(50)
    assert navigation.zoom(pose, 1).fov_y < 50
    assert navigation.zoom(pose, 99).fov_y == MIN_FOV
    assert navigation.zoom(pose, -99).fov_y == MAX_FOV


@pytest.mark.parametrize(
    ("axes", "direction"),
    [((1, 0, 0), (1, 0, 0)), ((-1, 0, 0), (-1, 0, 0)), ((0, 1, 0), (0, 0, 1)), ((0, 0, 1), (0, 1, 0))],
)
def test_flying_follows_the_axes(axes, direction):
    after = navigation.fly(Pose((1.0, 2.0, 3.0)), axes, 0.5, 4.0)
    np.testing.assert_allclose(np.array(after.eye) - [1, 2, 3], 2.0 * np.array(direction), atol=1e-12)


def test_flying_forward_goes_where_the_camera_looks_and_up_is_up_in_the_world():
    pose = Pose((0.0, 0.0, 0.0), yaw=0.7, pitch=-0.6)
    np.testing.assert_allclose(navigation.fly(pose, (0, 0, 1), 1, 1).eye, pose.forward, atol=1e-12)
    np.testing.assert_allclose(navigation.fly(pose, (0, 1, 0), 1, 1).eye, (0, 0, 1), atol=1e-12)


@given(poses, st.tuples(*[st.sampled_from([-1, 0, 1])] * 3), st.floats(0, 0.2), st.floats(0, 10))
def test_two_half_steps_of_a_flight_are_one_full_step(pose, axes, dt, speed):
    whole = navigation.fly(pose, axes, dt, speed)
    halves = navigation.fly(navigation.fly(pose, axes, dt / 2, speed), axes, dt / 2, speed)
    np.testing.assert_allclose(halves.eye, whole.eye, atol=1e-9)
    assert np.linalg.norm(np.array(whole.eye) - pose.eye) <= speed * dt + 1e-9


def test_speed_follows_the_height_within_the_size_of_the_scene():
    middle = navigation.fly_speed(0.2, 2.0)
    assert navigation.fly_speed(0.4, 2.0) == pytest.approx(2 * middle)
    assert navigation.fly_speed(-1.0, 2.0) == pytest.approx(0.02)
    assert navigation.fly_speed(1e6, 2.0) == pytest.approx(1.0)
    assert navigation.fly_speed(0.2, 2.0, 3.0) == pytest.approx(3 * middle)
    assert navigation.fly_speed(0.2, 2.0, fast=True) == pytest.approx(5 * middle)
    assert navigation.fly_speed(0.2, 2.0, slow=True) == pytest.approx(middle / 5)
    assert navigation.fly_speed(0.2, 2.0, fast=True, slow=True) == pytest.approx(middle)


@given(poses, st.tuples(coordinates, coordinates, coordinates))
def test_focus_brings_the_point_to_the_middle_and_makes_it_the_pivot(pose, point):
    after = navigation.focus(pose, point)
    np.testing.assert_allclose(after.pivot, point, atol=1e-6)
    np.testing.assert_array_equal(after.rotation, pose.rotation)
    again = navigation.focus(pose, point, 2.5)
    assert np.linalg.norm(np.array(again.eye) - point) == pytest.approx(2.5)


@given(poses)
def test_looking_straight_down_keeps_the_pivot_with_north_up(pose):
    after = navigation.top_down(pose)
    np.testing.assert_allclose(after.pivot, pose.pivot, atol=1e-9)
    np.testing.assert_allclose(after.rotation, np.eye(3), atol=1e-12)


@given(poses)
def test_north_up_is_level_and_looks_north(pose):
    orbiting, flying = navigation.north_up(pose), navigation.north_up(pose, Navigation.FLY)
    np.testing.assert_allclose(orbiting.pivot, pose.pivot, atol=1e-9)
    assert flying.eye == pose.eye
    for after in (orbiting, flying):
        assert (after.yaw, after.roll, after.pitch) == (0, 0, pose.pitch)


@settings(max_examples=60)
@given(poses, poses, st.floats(0, 1))
def test_a_glide_starts_and_ends_at_its_poses_and_stays_between(start, end, s):
    assert animate(start, end, 0) is start
    assert animate(start, end, 1) is end
    between = animate(start, end, s)
    low, high = sorted((start.distance, end.distance))
    assert low * (1 - 1e-9) <= between.distance <= high * (1 + 1e-9)
    share = s * s * (3 - 2 * s)
    np.testing.assert_allclose(between.pivot, (1 - share) * start.pivot + share * end.pivot, atol=1e-6)


def test_a_glide_takes_the_shorter_way_round():
    start, end = Pose(yaw=math.radians(170)), Pose(yaw=math.radians(-170))
    assert math.degrees(animate(start, end, 0.5).yaw) == pytest.approx(180)


def test_a_glide_lasts_its_duration():
    glide = Glide(Pose(), Pose((1.0, 0.0, 1.0)), began=10.0)
    assert glide.pose(9.0) == glide.start
    assert not glide.is_over(10.0 + navigation.GLIDE / 2)
    assert glide.is_over(10.0 + navigation.GLIDE)
    assert glide.pose(11.0) == glide.end
