"""The look of solids: facades with windows and shops, roofs, trees, bridges. Metres."""

from __future__ import annotations

import numpy as np

from .appearances import Appearance, to_linear
from .ground import Surface, road_color, snow_color
from .noise import hash_noise
from .pattern import blend, inside, rise, stripes
from .solids import (
    ACCENT,
    BANDED,
    BASE,
    BAY,
    BOX,
    COLOR,
    CONIFER,
    COS,
    CX,
    CY,
    DECK,
    ELLIPSOID,
    FACADE,
    FLOOR,
    FOLIAGE,
    FRUSTUM,
    GLASS,
    HX,
    HY,
    KX,
    KY,
    PHASE,
    SHOPS,
    SIN,
    STYLE,
    TILES,
    Z0,
    Z1,
    Solids,
)
from .town import Town

_PANE = np.array([0.30, 0.40, 0.48])
_PANE_MIRROR = 0.30
_LIT = np.array([1.0, 0.72, 0.36])  # light of a window at night, linear
_AWNINGS = np.array([[0.78, 0.22, 0.20], [0.18, 0.46, 0.42], [0.88, 0.66, 0.24], [0.24, 0.36, 0.58]])
_RIM = 0.9  # width of the parapet round a flat roof


def _local(solids: Solids, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y of points in their solids' own axes. [n] each"""
    shape = solids.shape
    x, y = position[:, 0] - shape[:, CX], position[:, 1] - shape[:, CY]
    cos, sin = shape[:, COS], shape[:, SIN]
    return cos * x + sin * y, cos * y - sin * x


def solid_normals(solids: Solids, position: np.ndarray) -> np.ndarray:
    """Returns the outward unit normals at points on the surfaces of solids, one each. [n, 3]"""
    shape = solids.shape
    x, y = _local(solids, position)
    z = position[:, 2]
    hx, hy, z0, z1 = (shape[:, column] for column in (HX, HY, Z0, Z1))
    zero, one = np.zeros_like(x), np.ones_like(x)
    kx, ky = (np.where(solids.kind == BOX, 1e4, shape[:, column]) for column in (KX, KY))
    long_x, long_y = np.sqrt(1 + kx * kx), np.sqrt(1 + ky * ky)
    faces = np.stack(  # distance inside each face
        [
            hx - np.abs(x),
            hy - np.abs(y),
            z1 - z,
            z - z0,
            (z0 + kx * (hx - np.abs(x)) - z) / long_x,
            (z0 + ky * (hy - np.abs(y)) - z) / long_y,
        ]
    )
    normals = np.stack(
        [
            np.stack([np.sign(x), zero, zero], axis=1),
            np.stack([zero, np.sign(y), zero], axis=1),
            np.stack([zero, zero, one], axis=1),
            np.stack([zero, zero, -one], axis=1),
            np.stack([kx * np.sign(x), zero, one], axis=1) / long_x[:, None],
            np.stack([zero, ky * np.sign(y), one], axis=1) / long_y[:, None],
        ]
    )
    flat = normals[np.argmin(np.abs(faces), axis=0), np.arange(len(x))]
    half = (z1 - z0) / 2
    oval = np.stack([x / hx**2, y / hx**2, (z - z0 - half) / half**2], axis=1)
    lean = (hx - hy) / (z1 - z0)  # of a frustum
    across = np.hypot(x, y)
    cone = np.stack([x, y, lean * across], axis=1)
    cap = (np.abs(z - z1) < 1e-6) | (np.abs(z - z0) < 1e-6)
    cone = np.where(cap[:, None], np.stack([zero, zero, np.where(z > z0 + half, one, -one)], axis=1), cone)
    kind = solids.kind[:, None]
    normal = np.where(kind == ELLIPSOID, oval, np.where(kind == FRUSTUM, cone, flat))
    cos, sin = shape[:, COS], shape[:, SIN]
    x, y, z = normal.T
    turned = np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=1)
    return np.asarray(turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-12))


def solid_surface(
    town: Town, solids: Solids, appearance: Appearance, position: np.ndarray, width: np.ndarray
) -> Surface:
    """Returns what solids look like at one point each.

    Args:
        town: The town.
        solids: The solid that was hit at each point. [n]
        appearance: The appearance.
        position: Points on the solids, metres. [n, 3]
        width: Size of the finest detail at each point, metres. [n]
    """
    normal = solid_normals(solids, position)
    style = solids.paint[:, STYLE].astype(np.int64)
    up = normal[:, 2] > 0.9
    color = np.where(up[:, None], solids.paint[:, ACCENT : ACCENT + 3], solids.paint[:, COLOR : COLOR + 3])
    glow, mirror = np.zeros_like(color), np.zeros(len(color))
    for chosen, dress in (
        ((style == FACADE) | (style == SHOPS) | (style == GLASS), _dress_facades),
        (style == TILES, _dress_tiles),
        ((style == FOLIAGE) | (style == CONIFER), _dress_crowns),
        (style == BANDED, _dress_bands),
    ):
        (rows,) = np.nonzero(chosen)
        if len(rows):
            part = Surface(color[rows], glow[rows], mirror[rows], normal[rows])
            part = dress(solids.take(rows), appearance, position[rows], width[rows], part)
            color[rows], glow[rows], mirror[rows] = part.albedo, part.glow, part.mirror
    (rows,) = np.nonzero((style == DECK) & up)
    if len(rows):
        color[rows] = road_color(town.seed, position[rows, 0], position[rows, 1], width[rows])
    albedo = to_linear(color)
    if appearance.snow:
        lying = rise((normal[:, 2] - 0.25) / 0.35) * np.where(style == DECK, 0.42, 0.92)
        albedo = blend(albedo, snow_color(), appearance.snow * lying)
        mirror = mirror * (1 - appearance.snow * lying)
    return Surface(albedo, glow, mirror, normal)


def _dress_facades(
    solids: Solids, appearance: Appearance, position: np.ndarray, width: np.ndarray, part: Surface
) -> Surface:
    x, y = _local(solids, position)
    shape, paint = solids.shape, solids.paint
    up = part.normal[:, 2] > 0.5
    rim = inside(np.minimum(shape[:, HX] - np.abs(x), shape[:, HY] - np.abs(y)) - _RIM, width)
    roof = blend(part.albedo, np.minimum(paint[:, COLOR : COLOR + 3] * 1.05, 1.0), np.where(up, rim, 0.0))
    own_x = np.abs(shape[:, COS] * part.normal[:, 0] + shape[:, SIN] * part.normal[:, 1])
    along_y = own_x > 0.7  # the wall faces the solid's own x
    u = np.where(along_y, y, x)
    half = np.where(along_y, shape[:, HY], shape[:, HX])
    turn = solids.kind == FRUSTUM  # a round wall is measured round its axis
    u = np.where(turn, np.arctan2(y, x) * shape[:, HX], u)
    half = np.where(turn, np.pi * shape[:, HX], half)
    walls, glow, mirror = _walls(solids, appearance, (u, half, position[:, 2]), width, part.albedo)
    wall = (~up).astype(np.float64)
    return Surface(np.where(up[:, None], roof, walls), glow * wall[:, None], mirror * wall, part.normal)


def _walls(
    solids: Solids,
    appearance: Appearance,
    at: tuple[np.ndarray, np.ndarray, np.ndarray],
    width: np.ndarray,
    color: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns colour, glow and mirroring of walls at u in [-half, half] and height z."""
    u, half, z = at
    paint, top = solids.paint, solids.shape[:, Z1]
    style, floor, phase = paint[:, STYLE], paint[:, FLOOR], paint[:, PHASE]
    bays = np.maximum(np.floor(2 * half / paint[:, BAY]), 1.0)
    bay = 2 * half / bays
    v = z - paint[:, BASE]
    level, column = np.floor(v / floor), np.floor((u + half) / bay)
    glass = style == GLASS
    shops = ((style == SHOPS) & (v < floor)).astype(np.float64)
    offset = u + half - bay / 2
    narrow, broad = stripes(offset, bay, 0.46, width), stripes(offset, bay, 0.78, width)
    sill = stripes(v - 0.54 * floor, floor, 0.50, width)
    bands = stripes(v - 0.5 * floor, floor, 0.66, width)
    pane = np.where(glass, broad * bands, narrow * sill)
    window = stripes(v - 0.36 * floor, floor, 0.56, width) * broad
    pane = pane * (1 - shops) + window * shops
    pane *= inside(z - (top - 0.9), width) * inside(0.25 - v, width)
    ledges = np.maximum(
        inside(np.abs(z - (top - 0.35)) - 0.35, width),
        np.where(style == SHOPS, inside(np.abs(v - floor - 0.1) - 0.3, width), 0.0),
    )
    awning = _AWNINGS[(hash_noise(solids.origin, 5, (column // 3).astype(np.int64)) * 4).astype(int)]
    canopy = shops * inside(np.abs(v - 0.80 * floor) - 0.35, width) * broad
    color = blend(color, np.minimum(color * 1.12 + 0.05, 1.0), np.where(glass, 0.0, ledges))
    color = blend(color, np.broadcast_to(_PANE, color.shape) * (0.85 + 0.3 * phase[:, None]), pane)
    color = blend(color, awning, canopy)
    color = color * (0.80 + 0.20 * rise(v / 7.0))[:, None]  # walls are darker near the ground
    glow = np.zeros_like(color)
    if appearance.lamps:
        chance = hash_noise(solids.origin, level.astype(np.int64), column.astype(np.int64))
        lit = np.where(glass, 0.45, 0.38) > chance
        warm = 0.55 + 0.45 * hash_noise(solids.origin, 9, level.astype(np.int64), column.astype(np.int64))
        share = pane * np.where(shops > 0, 1.0, lit * warm)
        glow = appearance.lamps * share[:, None] * _LIT * 0.85
    return color, glow, _PANE_MIRROR * pane * (1 - canopy)


def _dress_tiles(
    solids: Solids, appearance: Appearance, position: np.ndarray, width: np.ndarray, part: Surface
) -> Surface:
    """Courses of tiles on slopes; a gable end is part of the wall."""
    gable = np.abs(part.normal[:, 2]) < 0.1
    courses = stripes(position[:, 2] - solids.paint[:, BASE], 1.1, 0.5, width)
    tiles = solids.paint[:, COLOR : COLOR + 3] * (0.93 + 0.12 * courses)[:, None]
    color = np.where(gable[:, None], solids.paint[:, ACCENT : ACCENT + 3], np.minimum(tiles, 1.0))
    return Surface(color, part.glow, part.mirror, part.normal)


def _dress_crowns(
    solids: Solids, appearance: Appearance, position: np.ndarray, width: np.ndarray, part: Surface
) -> Surface:
    palette = np.array([*appearance.leaves, appearance.needles])
    phase = solids.paint[:, PHASE]
    pick = (phase * len(appearance.leaves)).astype(np.int64)
    pick = np.where(solids.paint[:, STYLE] == CONIFER, len(appearance.leaves), pick)
    x, y, z = position.T
    clumps = np.sin(2.1 * x + 6 * phase) * np.sin(2.3 * y) * np.sin(2.7 * z + 9 * phase)
    low = solids.shape[:, Z0]
    depth = rise((z - low) / (solids.shape[:, Z1] - low))
    light = (0.72 + 0.34 * depth) * (1.0 + 0.10 * clumps) * (0.94 + 0.12 * np.mod(phase * 7, 1.0))
    return Surface(np.clip(palette[pick] * light[:, None], 0, 1), part.glow, part.mirror, part.normal)


def _dress_bands(
    solids: Solids, appearance: Appearance, position: np.ndarray, width: np.ndarray, part: Surface
) -> Surface:
    bands = stripes(position[:, 2] - solids.paint[:, BASE], solids.paint[:, FLOOR], 0.38, width)
    color = blend(solids.paint[:, COLOR : COLOR + 3], solids.paint[:, ACCENT : ACCENT + 3], bands)
    lit = appearance.lamps * 0.25 * to_linear(color)  # floodlit at night
    return Surface(color, lit, part.mirror, part.normal)
