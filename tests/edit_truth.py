"""Edits of the shipped town against ray-traced pictures of a town that was built that way."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import shapely
from scipy import ndimage

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera, as_matrix, look_at
from landmark_viewer.core.edits.compiled import CompiledEdits
from landmark_viewer.core.edits.layers import Copy, Placement, Prism
from landmark_viewer.core.edits.select import select_building
from landmark_viewer.core.edits.terrain import Terrain
from landmark_viewer.core.render import Frame, Renderer, RenderSettings
from landmark_viewer.cuda.tables import TILE, Quality, RenderControl
from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.render import pixel_rays, render, trace
from landmark_viewer.scenes.city.town import Addition, Town

METRES = 100.0  # per scene unit
NEAR_PIXELS = 12  # around the changed pixels: where the field's own noise is measured


@dataclass(frozen=True)
class Truth:
    """A view of two towns, before and after an edit."""

    before: Town
    after: Town
    town_camera: Camera  # metres
    camera: Camera  # of the field: scene units, rays through integer pixels
    changed: np.ndarray  # pixels whose true depth differs [height, width]
    nearby: np.ndarray  # pixels around them whose depth does not [height, width]
    depth: np.ndarray  # true z-depth after the edit, metres [height, width]
    position: np.ndarray  # of the true surface after the edit, metres [height, width, 3]
    building: np.ndarray  # number of the building that is seen after the edit, -1: none [height, width]


@dataclass(frozen=True)
class Score:
    """Mean squared errors of one view in one appearance."""

    edited: float  # changed pixels, edited field against the town after the edit
    unedited: float  # changed pixels, field as it is against the same
    floor: float  # unchanged pixels near by, field as it is against the town before


def view_around(town: Town, number: int, azimuth: float, pitch: float, distance: float) -> Camera:
    """Returns a camera, metres, that looks at a building from `azimuth`, degrees clockwise from north."""
    building = town.building(number)
    target = np.array([*building.center, building.ground + min(building.height, 30.0) / 3])
    return view_from(target, azimuth, pitch, distance)


def view_from(
    target: np.ndarray, azimuth: float, pitch: float, distance: float, size: tuple[int, int] = (160, 120)
) -> Camera:
    """Returns a camera, metres, that looks at a point from `azimuth`, degrees clockwise from north."""
    around, down = math.radians(azimuth), math.radians(pitch)
    away = np.array([math.sin(around) * math.cos(down), math.cos(around) * math.cos(down), math.sin(down)])
    return Camera.from_fov(look_at(target + distance * away, target), *size, 45.0)


def compare_towns(before: Town, after: Town, town_camera: Camera) -> Truth:
    """Traces both towns through the middles of the pixels."""
    rays_o, rays_d = pixel_rays(town_camera)
    spread = 1.0 / town_camera.fl_x
    old, new = (trace(rays_o, rays_d, town, APPEARANCES[0], spread) for town in (before, after))
    size = (town_camera.height, town_camera.width)
    with np.errstate(invalid="ignore"):
        same = (np.abs(old.depth - new.depth) < 0.1) | (np.isinf(old.depth) & np.isinf(new.depth))
    changed = ~same.reshape(size)
    matrix = town_camera.matrix
    depth = new.depth * -(rays_d @ matrix[:3, 2])
    with np.errstate(invalid="ignore"):
        position = rays_o + new.depth[:, None] * rays_d
    matrix[:3, 3] /= METRES
    camera = replace(town_camera, c2w=as_matrix(matrix), cx=town_camera.cx - 0.5, cy=town_camera.cy - 0.5)
    return Truth(
        before,
        after,
        town_camera,
        camera,
        changed,
        ndimage.binary_dilation(changed, iterations=NEAR_PIXELS) & ~changed,
        depth.reshape(size),
        position.reshape(*size, 3),
        new.building.reshape(size),
    )


def field_picture(
    renderer: Renderer, truth: Truth, code: int, edits: CompiledEdits | None, quality: Quality = Quality.EXACT
) -> Frame:
    """Renders the tiles around the changed pixels; the others stay empty."""
    rows, columns = np.nonzero(truth.changed | truth.nearby)
    width = -(-truth.camera.width // TILE)
    order = np.unique(rows // TILE * width + columns // TILE)
    control = RenderControl(truth.camera.width, truth.camera.height, order)
    settings = RenderSettings(appearance=Appearance.of(code), edits=edits, quality=quality)
    return renderer.render(truth.camera, settings, control)


def true_picture(town: Town, truth: Truth, code: int) -> np.ndarray:
    """Draws a town, in [0, 1]. [height, width, 3]"""
    return render(town, truth.town_camera, APPEARANCES[code]) / 255.0


def score(renderer: Renderer, truth: Truth, code: int, edits: CompiledEdits) -> Score:
    """Measures the colours of one view in one appearance."""
    edited = field_picture(renderer, truth, code, edits).rgb
    plain = field_picture(renderer, truth, code, None).rgb
    after, before = (true_picture(town, truth, code) for town in (truth.after, truth.before))
    return Score(
        edited=_mean_square(edited - after, truth.changed),
        unedited=_mean_square(plain - after, truth.changed),
        floor=_mean_square(plain - before, truth.nearby),
    )


def ground_depth_errors(truth: Truth, frame: Frame, number: int) -> np.ndarray:
    """Returns field minus true depth, metres, where the ground under a removed building is seen. [n]"""
    footprint = shapely.Polygon(truth.before.building(number).footprint)
    here = shapely.contains_xy(footprint, truth.position[..., 0], truth.position[..., 1])
    here &= truth.changed & (truth.building < 0)
    return frame.median_depth[here] * METRES - truth.depth[here]


def copied(prism: Prism, town: Town, addition: Addition, terrain: Terrain) -> Copy:
    """Returns the layer that adds what an addition adds to a town, on the ground of the field."""
    angle = math.radians(addition.degrees)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    off = np.array(prism.anchor[:2]) - np.array(town.building(addition.building).center) / METRES
    to = np.array([addition.x, addition.y]) / METRES
    x, y = to + turn @ off
    height = terrain.ground_at(*to)
    return Copy(prism=prism, placements=(Placement((float(x), float(y), height), addition.degrees),))


def prism_of(town: Town, number: int, terrain: Terrain) -> Prism:
    """Returns what a click on the middle of a building's footprint selects."""
    middle = shapely.Polygon(town.building(number).footprint).representative_point()
    return select_building(terrain, middle.x / METRES, middle.y / METRES)


def decibels(mean_square: float) -> float:
    """Returns the PSNR of a mean squared error."""
    return -10 * math.log10(max(mean_square, 1e-12))


def _mean_square(difference: np.ndarray, where: np.ndarray) -> float:
    return float(np.square(difference[where]).mean())
