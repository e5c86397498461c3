"""Two pictures in one, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest

from landmark_viewer.core import compare
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.metrics import psnr, ssim


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image[..., 3] = 255
    return image


A, B = picture(12, 20), picture(12, 20, 1)


@pytest.mark.parametrize(("position", "column"), [(0.0, 0), (0.25, 5), (1.0, 20), (-3.0, 0), (7.0, 20)])
def test_a_wipe_shows_a_left_of_its_line_and_b_right_of_it(position, column):
    image = compare.wipe(A, B, position)
    assert np.array_equal(image[:, :column], A[:, :column])
    assert np.array_equal(image[:, column:], B[:, column:])


def test_nothing_is_written_into_the_pictures():
    before = A.copy(), B.copy()
    compare.wipe(A, B, 0.5)
    compare.difference(A, B, 2)
    compare.filled(B, np.zeros((12, 20), bool), A)
    assert np.array_equal(A, before[0])
    assert np.array_equal(B, before[1])


def test_side_by_side_shows_both_in_full():
    image = compare.side_by_side(A, B)
    assert np.array_equal(image, np.concatenate([A, B], axis=1))
    assert image.flags.c_contiguous


@pytest.mark.parametrize("gain", [1.0, 3.5, 32.0])
def test_a_difference_is_absolute_scaled_and_opaque(gain):
    expected = np.clip(np.rint(np.abs(A.astype(int) - B) * gain), 0, 255)
    image = compare.difference(A, B, gain)
    assert image.dtype == np.uint8
    assert np.array_equal(image[..., :3], expected[..., :3])
    assert (image[..., 3] == 255).all()
    assert not compare.difference(A, A, gain)[..., :3].any()


@pytest.mark.parametrize("size", [(12, 20), (6, 10), (24, 40), (7, 13)])
def test_b_of_another_size_is_brought_to_the_size_of_a(size):
    other = picture(*size, 2)
    rows = [math.floor((row + 0.5) * size[0] / 12) for row in range(12)]
    columns = [math.floor((column + 0.5) * size[1] / 20) for column in range(20)]
    nearest = other[rows][:, columns]
    assert np.array_equal(compare.resized(other, 20, 12), nearest)
    assert np.array_equal(compare.wipe(A, other, 0.0), nearest)
    assert compare.difference(A, other, 1).shape == compare.filled(other, nearest[..., 0] > 0, A).shape
    assert compare.side_by_side(A, other).shape[0] == 12


def test_where_b_knows_nothing_a_is_seen():
    known = np.zeros((6, 10), bool)
    known[:, :4] = True
    image = compare.filled(B, known, A)
    assert np.array_equal(image[:, :8], B[:, :8])
    assert np.array_equal(image[:, 8:], A[:, 8:])


def test_scores_are_those_of_the_colours():
    a, b = picture(30, 40, 3), picture(30, 40, 4)
    b[..., 3] = 7  # says nothing of the colours
    found = compare.score(a, b)
    shown = [image[..., :3] / 255.0 for image in (a, b)]
    assert found.psnr == pytest.approx(psnr(*shown), rel=1e-5)
    assert found.ssim == pytest.approx(ssim(*shown), rel=1e-4)
    assert compare.score(a, a).psnr == math.inf
    assert compare.score(a, a).ssim == pytest.approx(1.0)


def test_only_known_pixels_are_scored():
    a, b = picture(30, 40, 3), picture(30, 40, 4)
    known = np.zeros((30, 40), bool)
    known[:, :20] = True
    b[:, :20] = a[:, :20]
    assert compare.score(a, b, known).psnr == math.inf
    assert compare.score(a, b).psnr < 20


PLACE = (1.0, -2.0, 1.5)


def taken(width: int = 40, height: int = 30) -> Camera:
    return Camera(
        tuple(map(tuple, look_at(PLACE, (0.0, 0.0, 0.2)).tolist())), width, height, 33.0, 35.0, 18.5, 16.0
    )


def test_a_photograph_is_itself_to_its_own_camera():
    photo = picture(30, 40)
    assert np.array_equal(compare.seen_from(photo, taken(), taken()), photo)


def test_a_photograph_is_seen_where_its_rays_meet_another_camera_at_the_same_place():
    camera = taken()
    other = Camera.from_fov(look_at(PLACE, (0.3, 0.1, 0.0)), 64, 48, 40.0)
    photo = np.zeros((30, 40, 4), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(40), np.arange(30)[:, None]
    photo[..., 3] = 255
    seen = compare.seen_from(photo, camera, other)
    checked = 0
    for row in range(0, 48, 7):
        for column in range(0, 64, 7):
            eye, direction = other.ray(column, row)
            x, y, _ = camera.project(eye + direction)
            inside = -0.5 < x < 39.5 and -0.5 < y < 29.5
            assert (seen[row, column, 3] == 255) == inside
            if inside:
                checked += 1
                assert abs(seen[row, column, 0] - x) <= 0.5 + 1e-6
                assert abs(seen[row, column, 1] - y) <= 0.5 + 1e-6
    assert checked > 20


def test_a_camera_that_looks_away_sees_nothing_of_a_photograph():
    eye = np.array(PLACE)
    behind = Camera.from_fov(look_at(eye, 2 * eye - np.array([0.0, 0.0, 0.2])), 40, 30, 50.0)
    assert not compare.seen_from(picture(30, 40), taken(), behind).any()


def test_what_a_photograph_does_not_know_stays_unknown():
    photo = picture(30, 40)
    photo[:10, :, 3] = 0
    assert not compare.seen_from(photo, taken(), taken())[:10, :, 3].any()
