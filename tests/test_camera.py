"""The pinhole camera and its file form."""

from __future__ import annotations

import json

import numpy as np
import pytest

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.errors import InputError

IDENTITY = np.eye(4).tolist()


def test_projecting_a_point_on_a_ray_gives_the_pixel_back() -> None:
    camera = Camera.from_fov(look_at([1, -2, 3], [0, 0.5, 0]), 320, 200, 60)
    origin, direction = camera.ray(17.25, 140.5)
    column, row, depth = camera.project(origin + 2.5 * direction)
    np.testing.assert_allclose((column, row, depth), (17.25, 140.5, 2.5), rtol=1e-9)


def test_look_at_is_a_level_rotation_with_the_target_in_the_middle() -> None:
    c2w = look_at([3, 1, 2], [0, 0, 0])
    np.testing.assert_allclose(c2w[:3, :3].T @ c2w[:3, :3], np.eye(3), atol=1e-12)
    assert c2w[2, 0] == pytest.approx(0)  # the picture's x axis is horizontal
    camera = Camera.from_fov(c2w, 64, 48, 40)
    assert camera.project(np.zeros(3))[:2] == pytest.approx((32, 24))


def test_look_at_straight_down_has_north_up() -> None:
    c2w = look_at([0, 0, 5], [0, 0, 0])
    np.testing.assert_allclose(c2w[:3, 1], [0, 1, 0], atol=1e-12)


def test_json_round_trip_keeps_every_number() -> None:
    camera = Camera.from_focal(look_at([1, 2, 3], [0, 0, 0]), 200, 150, 123.456, 120.0)
    assert Camera.from_json(json.loads(json.dumps(camera.to_json()))) == camera


def test_fov_and_focal_describe_the_same_camera() -> None:
    by_fov = Camera.from_json({"c2w": IDENTITY, "width": 640, "height": 360, "fov_y": 90})
    assert by_fov.fl_x == pytest.approx(180)
    assert by_fov.fov_y == pytest.approx(90)


def test_resizing_keeps_the_vertical_field_of_view_and_the_middle() -> None:
    camera = Camera.from_fov(IDENTITY, 640, 360, 50).resized(320, 180)
    assert camera.fov_y == pytest.approx(50)
    assert (camera.cx, camera.cy) == (160, 90)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "camera.width must be a whole number of pixels from 1 to 16384, got 0"),
        ({"height": 2.5}, "camera.height must be a whole number of pixels from 1 to 16384, got 2.5"),
        ({"fov_y": 270}, "camera.fov_y must be in (0, 180) degrees, got 270"),
        ({"fl_x": 10.0}, "camera must have either fl_x (pixels) or fov_y (degrees)"),
        ({"c2w": [[1, 2], [3, 4]]}, "camera.c2w must be a 4 x 4 matrix of numbers"),
        ({"c2w": np.zeros((4, 4)).tolist()}, "camera.c2w must be invertible"),
        ({"c2w": [[float("nan")] * 4] * 4}, "camera.c2w must hold finite numbers only"),
        ({"cx": "middle"}, "camera.cx must be a finite number, got 'middle'"),
        (
            {"fov": 50},
            "camera has the unknown key fov; known are c2w, cx, cy, fl_x, fl_y, fov_y, height, width",
        ),
    ],
)
def test_a_bad_camera_says_what_must_hold(change: dict, message: str) -> None:
    entry = {"c2w": IDENTITY, "width": 64, "height": 48, "fov_y": 50} | change
    with pytest.raises(InputError) as caught:
        Camera.from_json(entry)
    assert str(caught.value) == message
