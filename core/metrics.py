"""How near a picture comes to a photograph or to another picture: PSNR and SSIM."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, minimum_filter

Picture = NDArray[np.floating]  # [height, width, 3] in [0, 1]
Mask = NDArray[np.bool_]  # [height, width]

SSIM_RADIUS = 5  # pixels: the window is 11 x 11
SSIM_SIGMA = 1.5  # pixels
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2  # (K1 L)^2 and (K2 L)^2 for colours in [0, 1]


def psnr_from_mse(error: float) -> float:
    """Returns the peak signal-to-noise ratio in dB of a mean squared error of colours in [0, 1]."""
    return math.inf if error == 0 else -10 * math.log10(error)


def psnr(picture: Picture, photo: Picture, known: Mask | None = None) -> float:
    """Returns the peak signal-to-noise ratio of two pictures.

    Args:
        picture: Colours in [0, 1]. [height, width, 3]
        photo: What they should be. [height, width, 3]
        known: Pixels that count; None: all. [height, width]

    Returns:
        dB; infinite for equal pictures, NaN where no pixel is known.
    """
    error = np.square(picture.astype(np.float64) - photo)
    if known is not None:
        error = error[known]
    return psnr_from_mse(float(error.mean())) if error.size else math.nan


def ssim(picture: Picture, photo: Picture, known: Mask | None = None) -> float:
    """Returns the mean structural similarity of two pictures (Wang et al. 2004, Eq. 13 and Section III-C).

    A Gaussian window of 11 x 11 pixels, sigma 1.5, moves over the part of the picture that holds it whole;
    the colour channels are averaged.

    Args:
        picture: Colours in [0, 1]. [height, width, 3]
        photo: What they should be. [height, width, 3]
        known: Windows that touch any other pixel do not count; None: all count. [height, width]

    Returns:
        At most 1; NaN where no window counts, as in pictures of less than 11 pixels along a side.
    """
    height, width = photo.shape[:2]
    inside = slice(SSIM_RADIUS, height - SSIM_RADIUS), slice(SSIM_RADIUS, width - SSIM_RADIUS)
    if min(height, width) <= 2 * SSIM_RADIUS:
        return math.nan
    a, b = picture.astype(np.float64), photo.astype(np.float64)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a = _blurred(a * a) - mean_a**2
    variance_b = _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + SSIM_C1) * (2 * covariance + SSIM_C2)
    similarity /= (mean_a**2 + mean_b**2 + SSIM_C1) * (variance_a + variance_b + SSIM_C2)
    similarity = similarity[inside]
    if known is not None:
        similarity = similarity[minimum_filter(known, 2 * SSIM_RADIUS + 1)[inside]]
    return float(similarity.mean()) if similarity.size else math.nan


def _blurred(picture: Picture) -> Picture:
    """Returns weighted means over the window; they hold where it lies inside the picture."""
    for axis in (0, 1):
        picture = gaussian_filter1d(picture, SSIM_SIGMA, axis=axis, radius=SSIM_RADIUS)
    return picture
