"""The look of the ground: streets with markings, sidewalks, courts, lawns, paths, banks and water. Metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .appearances import Appearance, to_linear
from .pattern import blend, inside, stripes
from .streets import ALONG_X, ALONG_Y, SIDEWALK, half_carriageway
from .terrain import BANK, BLOCK, RIVER_HALF_WIDTH, river_center, river_distance
from .town import GRASS, PAVING, YARD, Town

ASPHALT = (0.43, 0.43, 0.45)
SIDEWALK_STONE = (0.76, 0.73, 0.68)
_MARKING = (0.93, 0.92, 0.88)
_COURTS = {PAVING: (0.80, 0.74, 0.64), YARD: (0.70, 0.66, 0.56)}  # everything else is lawn
_PATH = (0.84, 0.77, 0.62)
_SAND = (0.78, 0.72, 0.58)
_SNOW = (0.95, 0.96, 0.98)
_LAMP_SPACING = 28.0  # along a street


@dataclass(frozen=True)
class Surface:
    """What light falls on. Colours are linear."""

    albedo: np.ndarray  # [n, 3]
    glow: np.ndarray  # light of its own, [n, 3]
    mirror: np.ndarray  # share of mirrored sky when seen head on, 0 for dull. [n]
    normal: np.ndarray  # unit, outward. [n, 3]


@dataclass(frozen=True)
class _Streets:
    """Where points lie in the grid of streets; lists hold the line along y first, then the one along x."""

    off: list[np.ndarray]  # distance from the middle of the nearest line
    along: list[np.ndarray]  # position along that line, 0 in the middle of a block's side
    half: list[np.ndarray]  # half width of its carriageway


def _streets(seed: int, x: np.ndarray, y: np.ndarray) -> _Streets:
    off, along, half = [], [], []
    for axis, (across, other) in ((ALONG_Y, (x, y)), (ALONG_X, (y, x))):
        line = np.floor(across / BLOCK + 0.5)
        off.append(np.abs(across - line * BLOCK))
        along.append(np.mod(other, BLOCK) - BLOCK / 2)
        half.append(half_carriageway(seed, axis, line.astype(np.int64)))
    return _Streets(off, along, half)


def lamp_light(seed: int, position: np.ndarray) -> np.ndarray:
    """Returns how strongly street lamps light a place, about 1 below a lamp. [n, 3] -> [n]"""
    x, y, z = position.T
    light = np.zeros(len(x))
    streets = _streets(seed, x, y)
    for off, along, half in zip(streets.off, streets.along, streets.half, strict=True):
        to_lamp = np.mod(along, _LAMP_SPACING) - _LAMP_SPACING / 2
        squared = (off - half - 0.5) ** 2 + to_lamp**2 + np.square(np.maximum(z, 0) * 0.35)
        light += 1.0 / (1.0 + squared / 26.0) ** 1.5
    return light


def road_color(seed: int, x: np.ndarray, y: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Returns carriageway and sidewalk with markings, sRGB. [n, 3]"""
    streets = _streets(seed, x, y)
    on = [inside(off - half, width) for off, half in zip(streets.off, streets.half, strict=True)]
    road = np.maximum(*on)
    color = blend(np.tile(SIDEWALK_STONE, (len(x), 1)), np.array(ASPHALT), road)
    for this, other in ((0, 1), (1, 0)):
        off, along, half = streets.off[this], streets.along[this], streets.half[this]
        before = streets.off[other] - streets.half[other]  # distance to the crossing's edge
        straight = inside(9.0 - before, width) * on[this]
        dashes = inside(off - 0.3, width) * stripes(along, 8.0, 0.5, width) * straight
        color = blend(color, np.array(_MARKING), dashes * 0.85)
        band = inside(np.abs(before - 4.6) - 1.7, width)
        zebra = stripes(off, 2.2, 0.5, width) * band * inside(off - half + 0.4, width)
        color = blend(color, np.array(_MARKING), zebra * 0.9)
    return color


def ground_surface(town: Town, appearance: Appearance, position: np.ndarray, width: np.ndarray) -> Surface:
    """Returns what the ground looks like.

    Args:
        town: The town, its blocks round the positions prepared.
        appearance: The appearance.
        position: Points on the ground, metres. [n, 3]
        width: Size of the finest detail at each point, metres. [n]
    """
    x, y = position[:, 0], position[:, 1]
    seed = town.seed
    wide, deep = town.spec.blocks
    column = np.clip(np.floor((x - town.low[0]) / BLOCK).astype(np.int64), 0, wide - 1)
    row = np.clip(np.floor((y - town.low[1]) / BLOCK).astype(np.int64), 0, deep - 1)
    cover = town.block_cover[row, column]
    mottle = 1.0 + 0.07 * np.sin(x * 0.41 + 1.7 * np.sin(y * 0.13)) * np.sin(
        y * 0.37 + 1.3 * np.sin(x * 0.17)
    )
    grass = np.array(appearance.grass)[None] * mottle[:, None]
    color = grass.copy()
    for kind, stone in _COURTS.items():
        color = np.where((cover == kind)[:, None], np.array(stone)[None], color)
    color = _paved(color, x, y, cover, width)
    pond = town.block_pond[row, column].T
    color, water = _ponds(color, grass, (x, y), pond, width)
    streets = _streets(seed, x, y)
    off_street = np.minimum(*(o - h - SIDEWALK for o, h in zip(streets.off, streets.half, strict=True)))
    street = inside(off_street, width)
    color = blend(color, road_color(seed, x, y, width), street)
    away = river_distance(seed, x, y)
    (by_river,) = np.nonzero(away < RIVER_HALF_WIDTH + BANK + 8.0)
    color, river = _river(color, grass, away, width, by_river)
    water = np.maximum(water * (1 - street), river)
    normal = np.zeros_like(position)
    normal[:, 2] = 1.0
    if len(by_river):
        normal[by_river] = _bank_normal(seed, x[by_river], y[by_river], away[by_river])
    albedo = to_linear(color)
    if appearance.snow:
        trodden = np.where(np.minimum(off_street + SIDEWALK, 1.0) < 0, 0.42, 0.9)  # carriageways are cleared
        albedo = blend(albedo, to_linear(np.array(_SNOW)), appearance.snow * trodden * (1 - water))
    albedo = blend(albedo, to_linear(np.array(appearance.water)), water)
    return Surface(albedo, np.zeros_like(albedo), 0.10 * water, normal)


def _paved(
    color: np.ndarray, x: np.ndarray, y: np.ndarray, cover: np.ndarray, width: np.ndarray
) -> np.ndarray:
    """Lays a pattern of slabs on courts, and paths through lawns."""
    slabs = 0.5 * stripes(x, 5.0, 0.5, width) + 0.5 * stripes(y, 5.0, 0.5, width)
    color = np.where((cover == PAVING)[:, None], color * (0.96 + 0.07 * slabs)[:, None], color)
    u, v = np.mod(x, BLOCK) - BLOCK / 2, np.mod(y, BLOCK) - BLOCK / 2
    round_path = np.abs(np.hypot(u, v) - 33.0) - 1.3
    cross_path = np.minimum(np.abs(u + 7 * np.sin(v / 17.0)), np.abs(v - 7 * np.sin(u / 15.0))) - 1.2
    path = inside(np.minimum(round_path, cross_path), width) * (cover == GRASS)
    return blend(color, np.array(_PATH), path)


def _ponds(
    color: np.ndarray,
    grass: np.ndarray,
    at: tuple[np.ndarray, np.ndarray],
    pond: np.ndarray,
    width: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the colours with the shores of ponds, and the share of water."""
    u, v = (at[0] - pond[0]) / pond[2], (at[1] - pond[1]) / pond[3]
    distance = (np.sqrt(u * u + v * v) - 1.0) * np.minimum(pond[2], pond[3])
    color = blend(color, grass, inside(distance - 5.0, width))
    color = blend(color, np.array(_SAND), inside(distance - 1.6, width))
    return color, inside(distance, width)


def _river(
    color: np.ndarray, grass: np.ndarray, away: np.ndarray, width: np.ndarray, by_river: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the colours with quays and banks, and the share of water."""
    color, water = color.copy(), np.zeros(len(color))
    d, soft = away[by_river], width[by_river]
    part = blend(color[by_river], np.array(_PATH), inside(d - RIVER_HALF_WIDTH - BANK - 6.0, soft))
    part = blend(part, grass[by_river], inside(d - RIVER_HALF_WIDTH - BANK - 0.2, soft))
    part = blend(part, np.array(_SAND), inside(d - RIVER_HALF_WIDTH - 1.4, soft))
    color[by_river] = part
    water[by_river] = inside(d - RIVER_HALF_WIDTH, soft)
    return color, water


def _bank_normal(seed: int, x: np.ndarray, y: np.ndarray, away: np.ndarray) -> np.ndarray:
    """Returns normals that lean towards the river on its banks."""
    u = np.clip((away - RIVER_HALF_WIDTH) / BANK, 0, 1)
    slope = 2.2 * 6 * u * (1 - u) / BANK
    side = np.sign(y - river_center(seed, x))
    normal = np.stack([np.zeros_like(x), -side * slope, np.ones_like(x)], axis=1)
    return np.asarray(normal / np.linalg.norm(normal, axis=1, keepdims=True))


def snow_color() -> np.ndarray:
    """Returns the albedo of snow, linear. [3]"""
    return to_linear(np.array(_SNOW))
