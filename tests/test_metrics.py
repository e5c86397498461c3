"""PSNR and SSIM, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from landmark_viewer.core.metrics import psnr, psnr_from_mse, ssim


def pictures(height: int = 17, width: int = 23, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    photo = rng.random((height, width, 3)).astype(np.float32)
    picture = np.clip(photo + noise * rng.standard_normal(photo.shape), 0, 1).astype(np.float32)
    return picture, photo


def slow_ssim(picture: np.ndarray, photo: np.ndarray, known: np.ndarray | None = None) -> float:
    """Follows the paper window by window."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    found = []
    for row in range(photo.shape[0] - 10):
        for column in range(photo.shape[1] - 10):
            at = slice(row, row + 11), slice(column, column + 11)
            if known is not None and not known[at].all():
                continue
            for channel in range(3):
                a, b = (image[(*at, channel)].astype(np.float64) for image in (picture, photo))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                cov = (window * (a - mean_a) * (b - mean_b)).sum()
                found.append(
                    (2 * mean_a * mean_b + 1e-4)
                    * (2 * cov + 9e-4)
                    / ((mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4))
                )
    return float(np.mean(found))


def test_an_error_of_one_tenth_is_twenty_decibels():
    photo = np.full((4, 5, 3), 0.5)
    assert psnr(photo + 0.1, photo) == pytest.approx(20)
    assert psnr_from_mse(0.001) == pytest.approx(30)


def test_equal_pictures_have_infinite_psnr_and_ssim_one():
    photo = pictures()[1]
    assert psnr(photo, photo) == math.inf
    assert ssim(photo, photo) == pytest.approx(1, abs=1e-12)


def test_unknown_pixels_do_not_count():
    picture, photo = pictures()
    known = np.ones(photo.shape[:2], bool)
    known[:3, :4] = False
    spoiled = picture.copy()
    spoiled[:3, :4] = 0
    assert psnr(spoiled, photo, known) == psnr(picture, photo, known) != psnr(spoiled, photo)
    assert ssim(spoiled, photo, known) == pytest.approx(ssim(picture, photo, known), abs=1e-12)
    assert math.isnan(psnr(picture, photo, np.zeros_like(known)))


@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_ssim_equals_the_definition_window_by_window(noise):
    picture, photo = pictures(noise=noise)
    assert ssim(picture, photo) == pytest.approx(slow_ssim(picture, photo), abs=1e-9)
    known = np.ones(photo.shape[:2], bool)
    known[8, 4] = False
    assert ssim(picture, photo, known) == pytest.approx(slow_ssim(picture, photo, known), abs=1e-9)


def test_ssim_of_a_picture_smaller_than_its_window_is_not_a_number():
    picture, photo = pictures(10, 30)
    assert math.isnan(ssim(picture, photo))
    assert math.isfinite(ssim(*pictures(11, 11)))
