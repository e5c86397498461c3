"""The procedural town: what it consists of, exact rays, variants, footprints."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.cameras import look_at, make_camera, plan_cameras
from landmark_viewer.scenes.city.geojson import to_geojson
from landmark_viewer.scenes.city.layout import MAX_PER_BLOCK, block_of, plan_block
from landmark_viewer.scenes.city.pattern import stripes
from landmark_viewer.scenes.city.raycast import first_hit
from landmark_viewer.scenes.city.render import View, pixel_rays, render, trace
from landmark_viewer.scenes.city.solids import (
    BOX,
    COS,
    CX,
    CY,
    ELLIPSOID,
    FRUSTUM,
    HX,
    HY,
    KX,
    KY,
    SIN,
    Z0,
    Z1,
    Solids,
)
from landmark_viewer.scenes.city.surfaces import solid_normals, solid_surface
from landmark_viewer.scenes.city.terrain import (
    HIGHEST,
    LOWEST,
    RIVER_DEPTH,
    ground_height,
    hit_ground,
    river_center,
)
from landmark_viewer.scenes.city.town import Addition, Town, TownSpec

NOON, SUNSET, AUTUMN, WINTER, NIGHT, FOG = APPEARANCES
SPEC = TownSpec(seed=1, blocks=(2, 2))


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(SPEC)


def town_rays(n: int, seed: int = 0, half: float = 100.0) -> tuple[np.ndarray, np.ndarray]:
    """Returns rays from above into the town."""
    random = np.random.default_rng(seed)
    origins = np.column_stack([random.uniform(-1.4 * half, 1.4 * half, (n, 2)), random.uniform(105, 200, n)])
    targets = np.column_stack([random.uniform(-half, half, (n, 2)), random.uniform(0, 30, n)])
    directions = targets - origins
    return origins, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def view_of(town: Town, appearance=NOON, size=(48, 36), eye=(-130.0, -150.0, 140.0)) -> tuple[View, tuple]:
    rays = pixel_rays(make_camera(look_at(np.array(eye), np.array([0.0, 10.0, 0.0])), *size))
    return trace(*rays, town, appearance), rays


def is_within(solids: Solids, points: np.ndarray) -> np.ndarray:
    """Tells whether points lie in solids, by the definition of each kind. [n] solids, [n, 3] points"""
    shape = solids.shape
    x, y = points[:, 0] - shape[:, CX], points[:, 1] - shape[:, CY]
    x, y = shape[:, COS] * x + shape[:, SIN] * y, shape[:, COS] * y - shape[:, SIN] * x
    z, z0, z1, hx, hy = points[:, 2], shape[:, Z0], shape[:, Z1], shape[:, HX], shape[:, HY]
    tall = (z >= z0) & (z <= z1)
    box = tall & (np.abs(x) <= hx) & (np.abs(y) <= hy)
    roof = box & (z <= z0 + shape[:, KX] * (hx - np.abs(x))) & (z <= z0 + shape[:, KY] * (hy - np.abs(y)))
    oval = (x / hx) ** 2 + (y / hx) ** 2 + ((z - (z0 + z1) / 2) / ((z1 - z0) / 2)) ** 2 <= 1
    cone = tall & (np.hypot(x, y) <= hx + (hy - hx) * (z - z0) / (z1 - z0))
    kind = solids.kind
    return np.where(
        kind == BOX, box, np.where(kind == ELLIPSOID, oval, np.where(kind == FRUSTUM, cone, roof))
    )


# The plan


def test_a_block_is_the_same_whenever_it_is_planned() -> None:
    first, second = plan_block(3, (1, -1)), plan_block(3, (1, -1))
    assert [building.footprint for building in first.buildings] == [b.footprint for b in second.buildings]
    np.testing.assert_array_equal(first.others.shape, second.others.shape)
    np.testing.assert_array_equal(first.others.paint, second.others.paint)


def test_a_block_is_pinned_to_its_seed() -> None:
    """Another machine or Python must build the same town."""
    block = plan_block(1, (-1, 0))
    assert [building.id for building in block.buildings] == [4995000, 4995001, 4995002, 4995003]
    heights = [building.height for building in block.buildings]
    np.testing.assert_allclose(heights, [25.847848, 17.349213, 27.440236, 49.8], atol=1e-5)
    np.testing.assert_allclose(block.buildings[0].footprint[0], (-89.961974, 12.538026), atol=1e-5)
    assert len(block.others) == 54


def test_another_seed_is_another_town() -> None:
    heights = [[b.height for b in plan_block(seed, (-1, 0)).buildings] for seed in (1, 2)]
    assert heights[0] != heights[1]


@pytest.mark.parametrize("seed", [1, 7])
def test_blocks_hold_one_to_six_buildings_inside_their_own_square(seed: int) -> None:
    kinds = set()
    for i in range(-6, 6):
        for j in range(-6, 6):
            block = plan_block(seed, (i, j))
            kinds.add(block.kind)
            assert 1 <= len(block.buildings) <= MAX_PER_BLOCK
            for building in block.buildings:
                assert block_of(building.id) == (i, j)
                assert 5 < building.height < 95
                ring = np.array(building.footprint)
                assert np.all(ring >= np.array([i, j]) * 100)
                assert np.all(ring <= np.array([i, j]) * 100 + 100)
            for solids in (block.others, *(building.solids for building in block.buildings)):
                bounds = solids.bounds()
                assert np.all(bounds[:, :2] >= np.array([i, j]) * 100.0)
                assert np.all(bounds[:, 2:] <= np.array([i, j]) * 100.0 + 100)
    assert kinds == {"square", "core", "town", "suburb", "park", "riverside"}


def test_the_same_place_looks_the_same_in_a_larger_town(town: Town) -> None:
    rays_o, rays_d = town_rays(400, half=80)
    larger = Town(TownSpec(seed=1, blocks=(4, 3)))
    small, large = (trace(rays_o, rays_d, each, NIGHT) for each in (town, larger))  # no shadows from outside
    inside = np.isfinite(small.depth)
    end = rays_o + large.depth[:, None] * rays_d
    inside &= np.all((end[:, :2] > -100) & (end[:, :2] < 100), axis=1)
    assert inside.sum() > 200
    np.testing.assert_array_equal(small.depth[inside], large.depth[inside])
    np.testing.assert_array_equal(small.rgb[inside], large.rgb[inside])
    np.testing.assert_array_equal(small.building[inside], large.building[inside])


def test_a_large_town_plans_only_the_blocks_that_rays_meet() -> None:
    large = Town(TownSpec(seed=1, blocks=(100, 100)))
    trace(*town_rays(200), large, NOON)
    assert 4 <= len(large.entered) < 60


# Terrain


def test_no_ground_is_beyond_its_limits_or_steep_away_from_the_river() -> None:
    random = np.random.default_rng(0)
    x, y = random.uniform(-5000, 5000, (2, 20_000))
    height = ground_height(5, x, y)
    assert height.min() > LOWEST
    assert height.max() < HIGHEST
    dry = (y > 0) | (y < -100)
    slope = np.hypot(ground_height(5, x + 0.5, y) - height, ground_height(5, x, y + 0.5) - height) / 0.5
    assert slope[dry].max() < 0.08


def test_the_river_is_level_and_keeps_to_its_row_of_blocks() -> None:
    x = np.linspace(-5000, 5000, 2000)
    middle = river_center(4, x)
    assert middle.min() > -75
    assert middle.max() < -25
    np.testing.assert_allclose(ground_height(4, x, middle), -RIVER_DEPTH)


def test_rays_meet_the_ground_at_its_height_and_not_before() -> None:
    random = np.random.default_rng(1)
    n = 3000
    rays_o = np.column_stack([random.uniform(-200, 200, (n, 2)), random.uniform(20, 200, n)])
    rays_d = np.column_stack([random.normal(size=(n, 2)), -random.uniform(0.3, 2, n)])
    rays_d /= np.linalg.norm(rays_d, axis=1, keepdims=True)
    t = hit_ground(1, rays_o, rays_d)
    end = rays_o + t[:, None] * rays_d
    np.testing.assert_allclose(end[:, 2], ground_height(1, end[:, 0], end[:, 1]), atol=2e-6)
    for share in np.linspace(0, 0.999, 150):
        before = rays_o + (share * t)[:, None] * rays_d
        assert np.all(before[:, 2] > ground_height(1, before[:, 0], before[:, 1]) - 1e-6)


def test_a_level_ray_never_meets_the_ground() -> None:
    assert np.isinf(hit_ground(1, np.array([[0.0, 0.0, 50.0]]), np.array([[1.0, 0.0, 0.0]]))).all()


# Rays


def test_a_ray_straight_down_meets_a_roof_at_its_height(town: Town) -> None:
    box = next(b for b in town.buildings() if b.kind == "tower")
    top = box.ground + box.height
    view = trace(np.array([[*box.center, 150.0]]), np.array([[0.0, 0.0, -1.0]]), town, NOON)
    np.testing.assert_allclose(view.depth, 150.0 - top, atol=1e-9)
    assert view.building[0] == box.id


def test_a_level_ray_meets_a_wall_where_it_stands(town: Town) -> None:
    tower = next(b for b in town.buildings() if b.kind == "tower")
    shaft = tower.solids.shape[1]
    eye = np.array([[shaft[CX] + shaft[HX] + 20.0, shaft[CY], shaft[Z1] - 1.0]])
    t, _ = first_hit(town, eye, np.array([[-1.0, 0.0, 0.0]]), np.array([np.inf]))
    np.testing.assert_allclose(t, 20.0, atol=1e-9)


def test_first_hits_are_those_of_trying_every_point_on_every_solid(town: Town) -> None:
    """Marches in small steps through all solids, without the grid and without the formulas."""
    rays_o, rays_d = town_rays(80, seed=3)
    limit = hit_ground(town.seed, rays_o, rays_d)
    t, solid = first_hit(town, rays_o, rays_d, limit)
    town.prepare(town.low, town.high - 1e-6)
    bounds, step = town.solids.bounds(), 0.25
    checked = 0
    for ray in range(len(rays_o)):
        steps = np.arange(step, min(limit[ray], 400.0), step)
        points = rays_o[ray] + steps[:, None] * rays_d[ray]
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        near = np.nonzero(np.all(bounds[:, :2] <= high, axis=1) & np.all(bounds[:, 2:] >= low, axis=1))[0]
        grid = is_within(
            town.solids.take(np.repeat(near, len(points))), np.tile(points, (len(near), 1))
        ).reshape(len(near), len(points))
        inside = grid.any(axis=0)
        first = steps[np.argmax(inside)] if inside.any() else np.inf
        assert first >= t[ray] - 1e-9  # nothing is passed by
        if solid[ray] >= 0:
            checked += 1
            at = rays_o[ray] + t[ray] * rays_d[ray]
            target = town.solids.take(solid[ray : ray + 1])
            assert is_within(target, (at + 1e-6 * rays_d[ray])[None])[0] or first - t[ray] > step
            assert not is_within(target, (at - 1e-6 * rays_d[ray])[None])[0]
    assert checked > 20


def test_normals_point_out_of_the_surface(town: Town) -> None:
    rays_o, rays_d = town_rays(2000, seed=4)
    t, solid = first_hit(town, rays_o, rays_d, hit_ground(town.seed, rays_o, rays_d))
    hit = solid >= 0
    at, solids = (rays_o + t[:, None] * rays_d)[hit], town.solids.take(solid[hit])
    assert set(solids.kind) == {0, 1, 2, 3}
    normal = solid_normals(solids, at)
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-9)
    assert np.all(np.einsum("nk,nk->n", normal, rays_d[hit]) < 1e-6)
    assert np.mean(is_within(solids, at - 1e-4 * normal)) > 0.99
    assert np.mean(is_within(solids, at + 1e-4 * normal)) < 0.01


def test_rays_that_leave_the_town_are_white_and_endless(town: Town) -> None:
    rays_o = np.array([[0.0, 0.0, 120.0], [300.0, 0.0, 50.0], [90.0, 0.0, 99.0]])
    rays_d = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.8, 0.0, -0.6]])
    for appearance in APPEARANCES:
        view = trace(rays_o, rays_d, town, appearance)
        np.testing.assert_array_equal(view.rgb, 1.0)
        assert np.all(np.isinf(view.depth))
        assert np.all(view.building == -1)


def test_appearances_share_geometry_and_differ_in_colour(town: Town) -> None:
    views = [view_of(town, appearance)[0] for appearance in APPEARANCES]
    assert [appearance.name for appearance in APPEARANCES] == [
        "summer noon",
        "summer sunset",
        "autumn",
        "winter snow",
        "night",
        "fog",
    ]
    for number, view in enumerate(views):
        np.testing.assert_array_equal(view.depth, views[0].depth)
        assert view.rgb.min() >= 0
        assert view.rgb.max() <= 1
        for other in views[:number]:
            assert np.abs(view.rgb - other.rgb).mean() > 0.03
    brightness = [view.rgb[np.isfinite(view.depth)].mean() for view in views]
    assert np.argmin(brightness) == 4
    assert np.argmax(brightness) == 3


def test_stripes_are_the_mean_of_a_sharp_pattern() -> None:
    position, width = np.linspace(-7, 9, 33), np.full(33, 1.7)
    fine = position[:, None] + np.linspace(-0.85, 0.85, 4001)
    sharp = np.abs(fine / 2.5 - np.round(fine / 2.5)) < 0.2
    np.testing.assert_allclose(stripes(position, 2.5, 0.4, width), sharp.mean(axis=1), atol=1e-3)


def test_samples_average_the_parts_of_a_pixel(town: Town) -> None:
    camera = make_camera(look_at(np.array([-90.0, -120.0, 110.0]), np.array([0.0, 0.0, 5.0])), 12, 8)
    fine = trace(*pixel_rays(camera.resized(24, 16)), town, NIGHT, 1 / camera.fl_x).rgb
    blocks = fine.reshape(8, 2, 12, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(render(town, camera, NIGHT, 2), blocks * 255, atol=0.51)


# Shadows and variants


def hides_sun(town: Town, points: np.ndarray, building: int) -> np.ndarray:
    """Tells at which points a shadow ray meets a building before anything else or after it."""
    solids = town.building(building).solids
    lone = Town(replace(town.spec, removed=tuple(b.id for b in town.buildings() if b.id != building)))
    directions = np.broadcast_to(NOON.sun, points.shape)
    _, solid = first_hit(lone, points, directions, np.full(len(points), np.inf))
    found = solid >= 0
    found[found] = lone.solids.building[solid[found]] == building
    assert len(solids)
    return found


def test_the_landmark_casts_a_shadow_away_from_the_sun(town: Town) -> None:
    landmark = next(b for b in town.buildings() if b.kind == "landmark")
    sun = np.array(NOON.sun)
    shade = np.array([*landmark.center, landmark.ground + 40.0]) - 40.0 * sun / sun[2]
    beside = shade + np.array([sun[1], -sun[0], 0]) * 12
    down, above = np.array([[0.0, 0.0, -1.0]]), np.array([0.0, 0.0, 60.0])
    dark, bright = (trace((point + above)[None], down, town, NOON).rgb.mean() for point in (shade, beside))
    without = Town(replace(SPEC, removed=(landmark.id,)))
    freed = trace((shade + above)[None], down, without, NOON).rgb.mean()
    assert dark < 0.75 * freed
    assert dark < 0.75 * bright


def test_removing_a_building_changes_it_and_its_shadow_only(town: Town) -> None:
    gone = next(b for b in town.buildings() if b.kind == "tower")
    view, (rays_o, rays_d) = view_of(town, size=(80, 60))
    other, _ = view_of(Town(replace(SPEC, removed=(gone.id,))), size=(80, 60))
    changed = np.any(view.rgb != other.rgb, axis=1)
    was_it = view.building == gone.id
    assert was_it.sum() > 20
    assert np.all(changed[was_it])
    assert not np.any(other.building == gone.id)
    rest = changed & ~was_it
    points = rays_o[rest] + view.depth[rest, None] * rays_d[rest]
    assert len(points) > 3
    shaded = hides_sun(town, points + np.array([0, 0, 0.02]), gone.id)
    assert np.mean(shaded) > 0.98  # the shadow ray starts a little off the surface
    np.testing.assert_array_equal(view.depth[~was_it], other.depth[~was_it])


def test_adding_a_building_changes_where_it_stands_and_its_shadow_only(town: Town) -> None:
    source = next(b for b in town.buildings() if b.kind == "house")
    added = Town(replace(SPEC, added=(Addition(source.id, 55.0, 45.0, 30.0),)))
    copy = added.buildings()[-1]
    assert copy.id not in {b.id for b in town.buildings()}
    assert copy.block == (0, 0)
    np.testing.assert_allclose(copy.height, source.height)
    np.testing.assert_allclose(copy.ground, ground_height(1, 55.0, 45.0))
    view, _ = view_of(town)
    other, _ = view_of(added)
    new = other.building == copy.id
    changed = np.any(view.rgb != other.rgb, axis=1)
    assert new.sum() > 3
    assert np.all(view.depth[new] > other.depth[new])
    np.testing.assert_array_equal(view.depth[~new], other.depth[~new])
    assert np.all(other.rgb[changed & ~new].sum(axis=1) < view.rgb[changed & ~new].sum(axis=1))


def test_an_added_building_has_the_windows_and_awnings_of_its_source(town: Town) -> None:
    source = next(b for b in town.buildings() if b.kind == "flats")
    copy = Town(replace(SPEC, added=(Addition(source.id, -30.0, 66.0),))).buildings()[-1]
    shift = np.array([-30.0, 66.0, copy.ground]) - [*source.center, source.ground]
    first = source.solids.take(np.zeros(400, int))  # the whole block, on its east side
    x, y, hx, hy, low, high = first.shape[0, [CX, CY, HX, HY, Z0, Z1]]
    random = np.random.default_rng(0)
    places = random.uniform([x + hx, y - hy, low], [x + hx, y + hy, high], (400, 3))
    seen = solid_surface(town, first, NIGHT, places, np.full(400, 0.4))
    moved = copy.solids.take(np.zeros(400, int))
    other = solid_surface(town, moved, NIGHT, places + shift, np.full(400, 0.4))
    assert len(np.unique(seen.glow[:, 0].round(2))) > 10
    np.testing.assert_allclose(other.glow, seen.glow, atol=1e-6)
    np.testing.assert_allclose(other.albedo, seen.albedo, atol=1e-6)


def test_an_added_building_is_whole_across_the_border_of_blocks() -> None:
    source = next(b for b in Town(SPEC).buildings() if b.kind == "tower")
    added = Town(replace(SPEC, added=(Addition(source.id, 0.0, 60.0, 45.0),)))
    copy = added.buildings()[-1]
    x = np.array([-9.0, -4.0, 0.0, 4.0, 9.0])
    rays_o = np.column_stack([x, np.full(5, 60.0), np.full(5, 150.0)])
    view = trace(rays_o, np.tile([0.0, 0.0, -1.0], (5, 1)), added, FOG)
    assert np.all(view.building == copy.id)


# GeoJSON


def test_footprints_are_closed_polygons_in_metres_under_their_buildings(town: Town) -> None:
    collection = json.loads(json.dumps(to_geojson(town.buildings())))
    assert collection["type"] == "FeatureCollection"
    identities = [feature["properties"]["id"] for feature in collection["features"]]
    assert len(set(identities)) == len(identities) == len(town.buildings())
    for feature in collection["features"]:
        (ring,) = feature["geometry"]["coordinates"]
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        assert ring[0] == ring[-1]
        assert len(ring) >= 5
        points = np.array(ring)
        assert np.all(np.abs(points) <= 100)
        x, y = points.T
        area = np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2
        assert 50 < area < 2500  # counter-clockwise
        building = town.building(feature["properties"]["id"])
        along = np.roll(points[:-1], -1, axis=0) - points[:-1]
        inward = np.column_stack([-along[:, 1], along[:, 0]]) / np.linalg.norm(along, axis=1, keepdims=True)
        inner = points[:-1] + 0.3 * along + 0.3 * inward
        down = np.tile([0.0, 0.0, -1.0], (len(inner), 1))
        view = trace(np.column_stack([inner, np.full(len(inner), 99.0)]), down, town, FOG)
        on_it = view.building == building.id
        assert np.mean(on_it | (view.depth < 99.0 - building.ground - 3)) == 1.0
        top = building.ground + feature["properties"]["height"]
        assert np.all(99.0 - view.depth[on_it] <= top + 1e-3)


# Cameras


def test_cameras_look_down_on_the_town_from_above_everything_near() -> None:
    town = Town(TownSpec(seed=2, blocks=(6, 6)))
    cameras = plan_cameras(town, "train", 24, (16, 12))
    shares, heights = [], []
    for camera in cameras:
        view = trace(*pixel_rays(camera), town, NIGHT)
        assert view.depth.min() > 10
        shares.append(np.isfinite(view.depth).mean())
        heights.append(camera.eye[2])
        assert camera.matrix[2, 2] > math.sin(math.radians(13))
    assert np.mean(np.array(shares) > 0.98) > 0.7
    assert min(heights) < 70
    assert max(heights) > 120


def test_more_cameras_begin_with_the_same_ones_and_splits_differ(town: Town) -> None:
    few, many = (plan_cameras(town, "train", count, (16, 12)) for count in (2, 3))
    assert many[:2] == few
    assert plan_cameras(town, "test", 1, (16, 12))[0] != few[0]
