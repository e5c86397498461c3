"""The ground's height: gentle hills, and a river from west to east through the blocks south of the middle.

Everything is a function of position and seed, in metres.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .noise import Dice

BLOCK = 100.0  # side of a block, metres
RIVER_HALF_WIDTH = 12.0  # of the water, metres
BANK = 5.0  # width of a bank, metres
RIVER_DEPTH = 2.2  # of the water's surface below its banks, metres
_MEAN = 2.6  # height of the hills, metres
LOWEST, HIGHEST = -3.5, 7.0  # no ground lies beyond these
STEEPEST = 0.75  # no slope is greater, rise over run
_GENTLE = 0.08  # the same for the hills without the banks
_ROUNDS = 400  # rays that graze a bank need many
_MARGIN = 1e-6  # metres above the ground at which a ray has arrived


@lru_cache(maxsize=16)
def _waves(seed: int) -> tuple[tuple[float, float, float, float], ...]:
    """Returns amplitude, two wave numbers and phase of each hill wave."""
    dice = Dice("terrain", seed)
    waves = []
    for amplitude, length in ((1.9, 900.0), (1.1, 520.0), (0.6, 310.0)):
        angle = dice.between(0, 2 * np.pi)
        number = 2 * np.pi / length
        waves.append((amplitude, number * np.cos(angle), number * np.sin(angle), dice.between(0, 2 * np.pi)))
    return tuple(waves)


@lru_cache(maxsize=16)
def _meander(seed: int) -> tuple[float, float]:
    dice = Dice("river", seed)
    return dice.between(0, 2 * np.pi), dice.between(0, 2 * np.pi)


def river_center(seed: int, x: np.ndarray | float) -> np.ndarray:
    """Returns the y of the river's middle at x, metres; it stays inside the blocks of row -1."""
    first, second = _meander(seed)
    x = np.asarray(x, np.float64)
    return np.asarray(-51.0 + 7.0 * np.sin(x / 68.0 + first) + 3.0 * np.sin(x / 31.0 + second))


def river_distance(seed: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the distance from the river's middle, along y, metres."""
    return np.asarray(np.abs(np.asarray(y) - river_center(seed, x)))


def _rise(value: np.ndarray) -> np.ndarray:
    value = np.clip(value, 0.0, 1.0)
    return np.asarray(value * value * (3 - 2 * value))


def ground_height(seed: int, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Returns the height of the ground or of the water on it, metres.

    Args:
        seed: The town's seed.
        x: East, metres. [...]
        y: North, metres. [...]
    """
    return _ground(seed, np.asarray(x, np.float64), np.asarray(y, np.float64))[0]


def _ground(seed: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the height of the ground, and the distance from the river's middle, metres."""
    hills = np.full(np.broadcast(x, y).shape, _MEAN)
    for amplitude, kx, ky, phase in _waves(seed):
        hills += amplitude * np.sin(kx * x + ky * y + phase)
    away = river_distance(seed, x, y)
    hills *= _rise((away - 20.0) / 240.0)
    near = away < RIVER_HALF_WIDTH + BANK
    if np.any(near):
        bank = _rise((away - RIVER_HALF_WIDTH) / BANK)
        hills = np.where(near, hills - RIVER_DEPTH * (1 - bank), hills)
    return hills, away


def hit_ground(seed: int, rays_o: np.ndarray, rays_d: np.ndarray) -> np.ndarray:
    """Returns the distance at which rays first meet the ground, infinite where they never do. [n]

    Where a bank may lie ahead, rays step only as far as the greatest slope makes safe, so that none jumps
    over it; elsewhere the secant method closes in.

    Args:
        seed: The town's seed.
        rays_o: Origins, metres, above the ground. [n, 3]
        rays_d: Unit directions. [n, 3]
    """
    t = np.full(len(rays_o), np.inf)
    (rays,) = np.nonzero(rays_d[:, 2] < -1e-3)
    o, d = np.ascontiguousarray(rays_o[rays].T), np.ascontiguousarray(rays_d[rays].T)
    reached = np.maximum((HIGHEST - o[2]) / d[2], 0.0)
    flat = np.hypot(d[0], d[1])
    steep, rate = STEEPEST * flat - d[2], _GENTLE * flat - d[2]
    before, step = np.zeros_like(reached), np.zeros_like(reached)
    for number in range(_ROUNDS):
        height, away = _ground(seed, o[0] + reached * d[0], o[1] + reached * d[1])
        above = o[2] + reached * d[2] - height
        if number and np.any(step):
            moved = (step != 0) & (np.abs(above - before) > 0)
            secant = (before - above) / np.where(moved, step, 1.0)
            rate = np.where(moved & (secant > -0.5 * d[2]) & (secant < 2 * steep), secant, rate)
        ahead = above / rate
        bank = np.abs(away - RIVER_HALF_WIDTH - 0.5 * BANK) < 0.5 * BANK + 1.25 * np.abs(ahead) * flat
        step = np.where(bank, above / steep, ahead)
        reached, before = reached + step, above
        going = np.abs(above) > _MARGIN
        t[rays[~going]] = reached[~going]
        if not np.any(going):
            break
        if np.mean(going) < 0.8:
            rays, o, d, flat, steep = rays[going], o[:, going], d[:, going], flat[going], steep[going]
            reached, rate, before, step = reached[going], rate[going], before[going], step[going]
    else:
        t[rays] = reached
    return t
