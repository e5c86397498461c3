"""Pictures of the town: the first surface on each ray, one shadow ray to the sun, no noise. Metres.

The ground casts no shadow on itself; its hills are too gentle for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.camera import Camera
from .appearances import Appearance, to_display, to_linear
from .ground import Surface, ground_surface, lamp_light
from .pattern import blend
from .raycast import first_hit
from .surfaces import solid_surface
from .terrain import hit_ground
from .town import Town

FINEST = 0.4  # no pattern is finer than this, metres
NO_BUILDING = -1
_RAYS_AT_ONCE = 15_000
_CLEAR = 0.02  # a shadow ray starts this far above its surface
_LAMP = np.array([1.0, 0.62, 0.26])  # linear


@dataclass(frozen=True)
class View:
    """What rays see."""

    rgb: np.ndarray  # sRGB in [0, 1], white where there is nothing. [n, 3]
    depth: np.ndarray  # distance along the unit direction, metres, infinite where there is nothing. [n]
    building: np.ndarray  # number of the building, -1 for everything else. int32 [n]


def trace(
    rays_o: np.ndarray, rays_d: np.ndarray, town: Town, appearance: Appearance, spread: float = 0.0
) -> View:
    """Follows rays to the first surface.

    Args:
        rays_o: Origins above the ground, metres. [n, 3]
        rays_d: Unit directions. [n, 3]
        town: The town.
        appearance: Its appearance.
        spread: Angle between neighbouring rays, radians; patterns blur to this width.
    """
    limit = hit_ground(town.seed, rays_o, rays_d)
    at = rays_o[:, :2] + np.where(np.isfinite(limit), limit, 0.0)[:, None] * rays_d[:, :2]
    within = np.all((at >= town.low) & (at <= town.high), axis=1)
    limit[~within] = np.inf
    depth, solid = first_hit(town, rays_o, rays_d, limit)
    rgb = np.ones((len(rays_o), 3))
    (seen,) = np.nonzero(np.isfinite(depth))
    building = np.full(len(rays_o), NO_BUILDING, np.int32)
    on_solid = solid >= 0
    building[on_solid] = town.solids.building[solid[on_solid]]
    if len(seen):
        rgb[seen] = _shade(rays_o[seen], rays_d[seen], depth[seen], solid[seen], town, appearance, spread)
    return View(rgb, depth, building)


def _shade(
    rays_o: np.ndarray,
    rays_d: np.ndarray,
    depth: np.ndarray,
    solid: np.ndarray,
    town: Town,
    appearance: Appearance,
    spread: float,
) -> np.ndarray:
    position = rays_o + depth[:, None] * rays_d
    width = np.maximum(FINEST, depth * spread)
    surface = _surface(town, appearance, position, solid, width)
    light = _ambient(appearance, surface.normal)
    if appearance.has_sun:
        sun = np.array(appearance.sun)
        facing = surface.normal @ sun
        lit = facing > 0
        lit[lit] = ~_in_shadow(town, position[lit] + _CLEAR * surface.normal[lit], sun)
        light += np.where(lit, facing, 0.0)[:, None] * np.array(appearance.sunlight)
    if appearance.lamps:
        light += (appearance.lamps * 0.85) * lamp_light(town.seed, position)[:, None] * _LAMP
    color = surface.albedo * light
    toward = -np.einsum("nk,nk->n", rays_d, surface.normal)
    fresnel = surface.mirror + (1 - surface.mirror) * np.clip(1 - toward, 0, 1) ** 5
    mirrored = np.where(surface.mirror > 0, fresnel, 0.0)
    color = blend(color, to_linear(np.array(appearance.zenith)), mirrored) + surface.glow
    fade = np.minimum(1 - np.exp(-depth * appearance.haze), appearance.haze_most)
    return blend(to_display(color), np.array(appearance.air), fade)


def _surface(
    town: Town, appearance: Appearance, position: np.ndarray, solid: np.ndarray, width: np.ndarray
) -> Surface:
    """Returns what is at the end of each ray."""
    n = len(position)
    surface = Surface(np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(n), np.zeros((n, 3)))
    (ground,), (built,) = np.nonzero(solid < 0), np.nonzero(solid >= 0)
    for rows in (ground, built):
        if not len(rows):
            continue
        if rows is ground:
            part = ground_surface(town, appearance, position[rows], width[rows])
        else:
            solids = town.solids.take(solid[rows])
            part = solid_surface(town, solids, appearance, position[rows], width[rows])
        surface.albedo[rows], surface.glow[rows] = part.albedo, part.glow
        surface.mirror[rows], surface.normal[rows] = part.mirror, part.normal
    return surface


def _ambient(appearance: Appearance, normal: np.ndarray) -> np.ndarray:
    """Returns the light of a sky that is brighter above than below. [n, 3]"""
    up = (0.5 + 0.5 * normal[:, 2])[:, None]
    side = 1.0 + 0.10 * normal[:, :1]  # east and west walls differ a little, so that corners read
    return np.asarray((np.array(appearance.sky) * up + np.array(appearance.bounce) * (1 - up)) * side)


def _in_shadow(town: Town, position: np.ndarray, sun: np.ndarray) -> np.ndarray:
    """Tells at which points a solid hides the sun. [n]"""
    directions = np.broadcast_to(sun, position.shape)
    _, solid = first_hit(town, position, directions, np.full(len(position), np.inf), any_hit=True)
    return solid >= 0


def pixel_rays(camera: Camera, samples: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns rays through the middles of each pixel's samples x samples parts, row by row.

    Args:
        camera: The camera, metres; a pixel's centre is half a pixel inside it.
        samples: Parts along a pixel's side.

    Returns:
        Origins and unit directions. [height * width * samples^2, 3] each
    """
    parts = (np.arange(samples) + 0.5) / samples
    x = (np.arange(camera.width)[:, None] + parts).reshape(-1)  # [width * samples]
    y = (np.arange(camera.height)[:, None] + parts).reshape(-1)
    columns, rows = np.meshgrid((x - camera.cx) / camera.fl_x, -(y - camera.cy) / camera.fl_y)
    local = np.stack([columns, rows, -np.ones_like(columns)], axis=-1)
    local = local.reshape(camera.height, samples, camera.width, samples, 3).swapaxes(1, 2).reshape(-1, 3)
    c2w = camera.matrix
    directions = local @ c2w[:3, :3].T
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return np.broadcast_to(c2w[:3, 3], directions.shape), directions


def _parts(n: int) -> list[slice]:
    """Returns slices of rays that fit a processor's cache."""
    return [slice(start, start + _RAYS_AT_ONCE) for start in range(0, n, _RAYS_AT_ONCE)]


def render(town: Town, camera: Camera, appearance: Appearance, samples: int = 2) -> np.ndarray:
    """Renders a picture; samples are averaged as they are displayed, as a radiance field averages them.

    Args:
        town: The town.
        camera: The camera, metres.
        appearance: The town's appearance.
        samples: Samples along a pixel's side.

    Returns:
        sRGB. uint8 [height, width, 3]
    """
    rays_o, rays_d = pixel_rays(camera, samples)
    rgb = np.concatenate(
        [
            trace(rays_o[part], rays_d[part], town, appearance, 1.0 / camera.fl_x).rgb
            for part in _parts(len(rays_o))
        ]
    )
    rgb = rgb.reshape(camera.height, camera.width, samples * samples, 3).mean(axis=2)
    return np.asarray((rgb * 255 + 0.5).astype(np.uint8))
