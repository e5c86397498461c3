"""The six appearances of the town: light, air and the colours that follow the season. Geometry is shared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .solids import Color


def _sun(azimuth: float, elevation: float) -> Color:
    """Returns the direction towards the sun; azimuth in degrees clockwise from north."""
    around, up = math.radians(azimuth), math.radians(elevation)
    return (math.sin(around) * math.cos(up), math.cos(around) * math.cos(up), math.sin(up))


@dataclass(frozen=True)
class Appearance:
    """One appearance. Light is linear and relative to the exposure, surface colours are sRGB."""

    name: str
    sun: Color  # unit direction towards the sun
    sunlight: Color  # black: there are no shadows
    sky: Color  # light that falls from above
    bounce: Color  # light that comes from below
    zenith: Color  # of the sky as water and glass mirror it
    leaves: tuple[Color, ...]  # a crown has one of these
    needles: Color = (0.21, 0.36, 0.22)
    grass: Color = (0.46, 0.58, 0.28)
    water: Color = (0.18, 0.36, 0.40)
    snow: float = 0.0  # share of upward faces that snow covers
    lamps: float = 0.0  # brightness of street lamps and lit windows
    air: Color = (0.8, 0.8, 0.8)  # colour that distance fades to
    haze: float = 0.0  # 1 / metre
    haze_most: float = 0.0  # no more than this share of a colour fades

    @property
    def has_sun(self) -> bool:
        """Whether the sun casts shadows."""
        return max(self.sunlight) > 0


_GREENS = ((0.36, 0.54, 0.20), (0.30, 0.48, 0.20), (0.44, 0.58, 0.24), (0.38, 0.52, 0.26))

APPEARANCES: tuple[Appearance, ...] = (
    Appearance(
        "summer noon",
        _sun(150.0, 52.0),
        (1.95, 1.82, 1.58),
        (0.50, 0.60, 0.76),
        (0.24, 0.22, 0.18),
        (0.42, 0.62, 0.86),
        _GREENS,
    ),
    Appearance(
        "summer sunset",
        _sun(250.0, 19.0),
        (3.00, 1.50, 0.58),
        (0.44, 0.44, 0.70),
        (0.30, 0.20, 0.16),
        (1.00, 0.70, 0.48),
        _GREENS,
        water=(0.46, 0.42, 0.46),
        air=(1.0, 0.72, 0.5),
        haze=1 / 2500.0,
        haze_most=0.2,
    ),
    Appearance(
        "autumn",
        _sun(205.0, 36.0),
        (1.85, 1.58, 1.22),
        (0.50, 0.55, 0.62),
        (0.22, 0.20, 0.15),
        (0.60, 0.70, 0.80),
        ((0.82, 0.44, 0.12), (0.74, 0.26, 0.12), (0.86, 0.62, 0.18), (0.62, 0.48, 0.18), (0.84, 0.52, 0.14)),
        grass=(0.62, 0.56, 0.30),
        water=(0.22, 0.34, 0.34),
    ),
    Appearance(
        "winter snow",
        _sun(170.0, 26.0),
        (1.25, 1.16, 1.05),
        (0.60, 0.68, 0.82),
        (0.34, 0.36, 0.42),
        (0.72, 0.78, 0.86),
        ((0.52, 0.50, 0.48), (0.48, 0.46, 0.45), (0.56, 0.54, 0.52)),
        grass=(0.60, 0.58, 0.46),
        needles=(0.22, 0.34, 0.28),
        water=(0.46, 0.56, 0.62),
        snow=1.0,
    ),
    Appearance(
        "night",
        _sun(150.0, 52.0),
        (0.0, 0.0, 0.0),
        (0.12, 0.16, 0.30),
        (0.05, 0.06, 0.10),
        (0.05, 0.07, 0.14),
        _GREENS,
        water=(0.10, 0.16, 0.26),
        lamps=1.0,
    ),
    Appearance(
        "fog",
        _sun(150.0, 52.0),
        (0.0, 0.0, 0.0),
        (0.80, 0.83, 0.86),
        (0.26, 0.26, 0.27),
        (0.80, 0.82, 0.84),
        _GREENS,
        water=(0.42, 0.50, 0.52),
        lamps=0.08,
        air=(0.80, 0.82, 0.84),
        haze=1 / 420.0,
        haze_most=0.55,
    ),
)


def to_linear(color: np.ndarray) -> np.ndarray:
    """Turns sRGB in [0, 1] to linear light, by a power of 2.2."""
    return np.asarray(np.power(color, 2.2))


def to_display(light: np.ndarray) -> np.ndarray:
    """Turns linear light to sRGB in [0, 1]: highlights roll off, then a power of 1 / 2.2."""
    light = np.maximum(light, 0.0)
    rolled = light * (1.0 + light * 0.16) / (1.0 + light * 0.62)
    return np.asarray(np.power(np.minimum(rolled, 1.0), 1 / 2.2))
