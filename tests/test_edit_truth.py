"""Edits of the shipped town show what a town shows that was built that way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import shapely
from scipy import ndimage

from landmark_viewer.core.camera import Camera
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.layers import Hide, Remove
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.cuda.edit_tables import EditKind, EditOp
from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.town import Addition, Town, TownSpec
from landmark_viewer.scenes.load import demo_scene_path, open_scene

from .edit_truth import (
    METRES,
    compare_towns,
    copied,
    decibels,
    field_picture,
    ground_depth_errors,
    prism_of,
    score,
    true_picture,
    view_around,
    view_from,
)

SPEC = TownSpec(seed=1, blocks=(2, 2))
TOWER = 4995003
LANDMARK = 5005000
CHURCH = 5005001  # in the shadows of far buildings in the evening
HOUSE = 5004992  # part of a row of three
OPEN = (45.0, -50.0)  # metres: next to nothing casts a shadow there


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(SPEC)


@pytest.fixture(scope="module")
def compiler() -> EditCompiler:
    return EditCompiler(Renderer(open_scene(demo_scene_path()).model, device="cpu"))


def removed(compiler: EditCompiler, town: Town, number: int) -> Remove:
    return Remove(prism=prism_of(town, number, compiler.terrain))


def test_a_removed_building_shows_the_ground_of_a_town_without_it(compiler, town):
    after = Town(replace(SPEC, removed=(LANDMARK,)))
    truth = compare_towns(town, after, view_around(town, LANDMARK, 200.0, 45.0, 150.0).resized(120, 90))
    edits = compiler.compile((removed(compiler, town, LANDMARK),))
    errors = ground_depth_errors(truth, field_picture(compiler.renderer, truth, 0, edits), LANDMARK)
    assert len(errors) > 50
    assert np.median(np.abs(errors)) < 0.5
    for code in range(len(APPEARANCES)):
        seen = score(compiler.renderer, truth, code, edits)
        assert decibels(seen.edited) > 24.0
        assert decibels(seen.unedited) < decibels(seen.edited) - 10.0


def test_shadows_that_fall_on_a_removal_from_far_off_are_known(compiler, town):
    after = Town(replace(SPEC, removed=(CHURCH,)))
    truth = compare_towns(town, after, view_around(town, CHURCH, 200.0, 45.0, 140.0).resized(120, 90))
    sunset = score(compiler.renderer, truth, 1, compiler.compile((removed(compiler, town, CHURCH),)))
    assert decibels(sunset.edited) > 28.0


def test_the_shadow_goes_with_the_building_and_no_other_layer_is_touched(compiler, town):
    after = Town(replace(SPEC, removed=(TOWER,)))
    truth = compare_towns(town, after, view_around(town, TOWER, 340.0, 50.0, 160.0).resized(120, 90))
    removal = removed(compiler, town, TOWER)
    edits = compiler.compile((removal,))
    plain, edited = (field_picture(compiler.renderer, truth, 0, each).rgb for each in (None, edits))
    picture = true_picture(after, truth, 0)
    before, now = (np.square(each - picture)[truth.nearby].mean() for each in (plain, edited))
    assert now < 0.6 * before  # ground beside the building, as far off as it was, but in the sun

    copy = copied(prism_of(town, HOUSE, compiler.terrain), town, Addition(HOUSE, -40, 60), compiler.terrain)
    both = compiler.compile((copy, removal)).edits.ops
    assert [op.kind for op in both] == [EditKind.PATCH, EditKind.INSTANCE, EditKind.PATCH]
    x, y = np.meshgrid(np.arange(-0.5, -0.12, 0.01), np.arange(0.12, 0.37, 0.01))
    assert claims(both[2], x, y)[removal.prism.region.contains(x, y)].all()
    assert not claims(both[0], x, y)[removal.prism.region.contains(x, y)].any()


def claims(op: EditOp, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Tells which points lie in an operation's footprint."""
    i = np.floor((x - op.footprint.low[0]) / op.footprint.side).astype(int)
    j = np.floor((y - op.footprint.low[1]) / op.footprint.side).astype(int)
    n_y, n_x = op.footprint.mask.shape
    inside = (i >= 0) & (j >= 0) & (i < n_x) & (j < n_y)
    return inside & (op.footprint.mask.numpy()[j.clip(0, n_y - 1), i.clip(0, n_x - 1)] > 0)


def test_a_copied_building_shows_what_a_town_shows_that_has_another(compiler, town):
    addition = Addition(TOWER, *OPEN)
    after = Town(replace(SPEC, added=(addition,)))
    truth = compare_towns(town, after, view_from(np.array([*OPEN, 10.0]), 200.0, 45.0, 150.0, (120, 90)))
    prism = prism_of(town, TOWER, compiler.terrain)
    edits = compiler.compile((copied(prism, town, addition, compiler.terrain),))
    assert truth.changed.sum() > 800
    for code in range(len(APPEARANCES)):
        seen = score(compiler.renderer, truth, code, edits)
        assert decibels(seen.edited) > 22.0
        assert decibels(seen.unedited) < decibels(seen.edited) - 8.0


def test_hiding_takes_the_blurred_rim_of_a_building_as_well(compiler, town):
    prism = prism_of(town, CHURCH, compiler.terrain)
    (op,) = compiler.compile((Hide(prism=prism),)).edits.ops
    near, far = (prism.region.grown(texels * compiler.terrain.side) for texels in (0.6, 1.7))
    assert all(claims(op, *np.array(polygon[0]).T).all() for polygon in near.polygons)
    assert not any(claims(op, *np.array(polygon[0]).T).any() for polygon in far.polygons)


def test_nothing_changes_where_nothing_was_claimed(compiler, town):
    edits = compiler.compile((removed(compiler, town, HOUSE),))
    after = Town(replace(SPEC, removed=(HOUSE,)))
    truth = compare_towns(town, after, view_around(town, HOUSE, 250.0, 40.0, 90.0).resized(80, 60))
    plain, edited = (
        compiler.renderer.render(truth.camera, RenderSettings(edits=each)) for each in (None, edits)
    )
    differs = (plain.rgb != edited.rgb).any(axis=-1) | (plain.median_depth != edited.median_depth)
    touched = np.logical_or.reduce([_touched(truth.camera, op) for op in edits.edits.ops])
    assert differs[truth.changed].mean() > 0.9
    assert not differs[~touched].any()
    assert (~touched).mean() > 0.3


def _touched(camera: Camera, op: EditOp) -> np.ndarray:
    """Tells which rays pass through the footprint, a cell more all round, below its top. [height, width]"""
    column, row = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    x, y = (column - camera.cx) / camera.fl_x, -(row - camera.cy) / camera.fl_y
    directions = np.stack([x, y, -np.ones_like(x)], axis=-1) @ camera.matrix[:3, :3].T
    points = camera.eye + np.arange(0.1, 3.0, 0.004)[:, None] * directions[:, :, None]
    mask = ndimage.binary_dilation(np.pad(op.footprint.mask.numpy() > 0, 2), np.ones((3, 3)))
    at = np.floor((points[..., :2] - op.footprint.low) / op.footprint.side).astype(int) + 2
    inside = (
        (at >= 0).all(axis=-1) & (at < mask.shape[::-1]).all(axis=-1) & (points[..., 2] < op.z_high + 0.02)
    )
    at = np.where(inside[..., None], at, 0)
    return (inside & mask[at[..., 1], at[..., 0]]).any(axis=-1)


def test_the_suns_of_the_appearances_are_found(compiler):
    light = compiler.terrain.light
    assert light is not None
    model = compiler.renderer.model
    for look, sun in zip(light.looks, light.suns, strict=True):
        code = int((model.embedding[: len(APPEARANCES)] - look).norm(dim=1).argmin())
        truth = APPEARANCES[code]
        assert (sun is not None) == truth.has_sun
        if sun is not None:
            x, y, z = truth.sun
            azimuth = np.arctan2(y, x)
            turned = np.degrees(np.angle(np.exp(1j * (sun.azimuth - azimuth))))
            assert abs(turned) < 5.0
            assert np.degrees(np.arctan(sun.slope)) == pytest.approx(np.degrees(np.arcsin(z)), abs=5.0)


def test_buildings_are_selected_as_they_were_built(compiler, town):
    shares = []
    for building in town.buildings():
        footprint = shapely.Polygon(np.array(building.footprint) / METRES)
        found = prism_of(town, building.id, compiler.terrain).region.shape
        shares.append(found.intersection(footprint).area / found.union(footprint).area)
    assert min(shares) > 0.75  # wings of different height are one building, houses of a row are several
    assert np.median(shares) > 0.87
