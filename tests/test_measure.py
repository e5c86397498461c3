"""Measurements: values against geometry, uncertainty against a Monte Carlo run, and how they are said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.measure import MeasureKind, Measurement, measure
from landmark_viewer.core.ray_depth import RayDepth, ray_depth
from landmark_viewer.core.rays import generate_rays, view_of
from landmark_viewer.core.render import Backend, Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.render import trace
from landmark_viewer.scenes.city.town import Town, TownSpec
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.scenes.shipped import demo_scene_path
from landmark_viewer.viewer import commands, measuring
from landmark_viewer.viewer.measuring import (
    SAID,
    Corner,
    Ground,
    Measuring,
    corner_at,
    details_text,
    drafted,
    focus_of,
    measured_from,
    title,
    value_text,
)
from landmark_viewer.viewer.overlay_measure import anchor_of, lines_of
from landmark_viewer.viewer.state import Pose, Tool, ViewerState
from landmark_viewer.viewer.units import Units, with_spread

from .small_fields import SHAPES, camera, make_field

KINDS = list(MeasureKind)
CORNERS = ((0.0, 0.0, 0.0), (4.0, 0.0, 0.5), (5.0, 3.0, 1.5), (1.0, 2.5, 0.75))


def made(kind: MeasureKind, **changes: object) -> Measurement:
    """Returns a measurement of some corners, two where the kind has two."""
    two = kind in (MeasureKind.DISTANCE, MeasureKind.HEIGHT)
    return Measurement(kind, CORNERS[:2] if two else CORNERS, **changes)


def unit_rays(n: int, seed: int = 0) -> tuple[tuple[float, float, float], ...]:
    rays = np.random.default_rng(seed).normal(size=(n, 3))
    return tuple(tuple(ray) for ray in (rays / np.linalg.norm(rays, axis=1, keepdims=True)).tolist())


# Values


def test_a_distance_and_what_is_left_of_it_from_above():
    found = measure(Measurement(MeasureKind.DISTANCE, ((1.0, 1.0, 0.0), (4.0, 5.0, 12.0))))
    assert found.value == pytest.approx(13.0)
    assert found.horizontal == pytest.approx(5.0)
    assert found.sigma is None


def test_a_height_counts_the_vertical_alone_and_has_a_sign():
    up = Measurement(MeasureKind.HEIGHT, ((1.0, 1.0, 2.0), (4.0, 5.0, 14.0)))
    assert (measure(up).value, measure(up).horizontal) == (12.0, None)
    assert measure(replace(up, points=up.points[::-1])).value == -12.0


def test_a_polyline_adds_its_parts():
    points = ((0.0, 0.0, 0.0), (3.0, 4.0, 0.0), (3.0, 4.0, 2.0), (3.0, 5.0, 2.0))
    found = measure(Measurement(MeasureKind.POLYLINE, points))
    assert (found.value, found.horizontal) == pytest.approx((8.0, 6.0))


def test_an_area_lies_in_the_plane_of_its_corners():
    slope = math.radians(60)
    corners = ((0, 0), (3, 0), (3, 2), (0, 2))
    points = tuple((x, y * math.cos(slope), y * math.sin(slope)) for x, y in corners)
    found = measure(Measurement(MeasureKind.AREA, points))
    assert (found.value, found.horizontal) == pytest.approx((6.0, 3.0))


def test_a_vertical_wall_covers_no_ground():
    wall = ((0.0, 0.0, 0.0), (4.0, 0.0, 0.0), (4.0, 0.0, 3.0), (0.0, 0.0, 3.0))
    assert (found := measure(Measurement(MeasureKind.AREA, wall))).value == pytest.approx(12.0)
    assert found.horizontal == pytest.approx(0.0)


def test_an_outline_that_crosses_itself_encloses_both_of_its_parts():
    bow = ((0.0, 0.0, 1.0), (2.0, 2.0, 1.0), (2.0, 0.0, 1.0), (0.0, 2.0, 1.0))
    assert measure(Measurement(MeasureKind.AREA, bow)).value == pytest.approx(2.0)


@pytest.mark.parametrize("kind", KINDS)
def test_values_do_not_depend_on_where_the_scene_lies(kind):
    measurement = made(kind)
    turn = math.radians(33)
    moved = tuple(
        (x * math.cos(turn) - y * math.sin(turn) + 70, x * math.sin(turn) + y * math.cos(turn) - 9, z + 5)
        for x, y, z in measurement.points
    )
    assert measure(replace(measurement, points=moved)).value == pytest.approx(measure(measurement).value)


# Uncertainty


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_uncertainty_agrees_with_a_monte_carlo_run(kind, seed):
    n = len(made(kind).points)
    rng = np.random.default_rng(seed)
    spreads = rng.uniform(0.005, 0.03, n)
    measurement = made(kind, spreads=tuple(spreads.tolist()), rays=unit_rays(n, seed))
    errors = rng.normal(size=(4000, n, 1)) * spreads[:, None] * np.array(measurement.rays)
    values = [
        measure(replace(measurement, points=tuple(map(tuple, points.tolist())), spreads=(), rays=())).value
        for points in np.array(measurement.points) + errors
    ]
    assert measure(measurement).sigma == pytest.approx(np.std(values), rel=0.05)


def test_a_ray_along_the_line_counts_in_full_and_one_across_it_not_at_all():
    line = ((0.0, 0.0, 0.0), (10.0, 0.0, 0.0))
    along = Measurement(MeasureKind.DISTANCE, line, (0.3, 0.4), rays=((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)))
    across = replace(along, rays=((0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    assert measure(along).sigma == pytest.approx(0.5)
    assert measure(across).sigma < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_directions_that_are_not_known_never_make_a_value_surer(kind):
    n = len(made(kind).points)
    bound = measure(made(kind, spreads=(0.02,) * n)).sigma
    for seed in range(10):
        assert measure(made(kind, spreads=(0.02,) * n, rays=unit_rays(n, seed))).sigma <= bound * 1.001


def test_two_corners_at_one_place_are_as_unsure_as_their_rays():
    same = Measurement(MeasureKind.DISTANCE, ((1.0, 1.0, 1.0),) * 2, (0.3, 0.4), rays=unit_rays(2))
    assert measure(same).value == 0
    assert measure(same).sigma == pytest.approx(0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        Measurement(MeasureKind.DISTANCE, CORNERS[:1]),
        Measurement(MeasureKind.HEIGHT, CORNERS[:3]),
        Measurement(MeasureKind.AREA, CORNERS[:2]),
        Measurement(MeasureKind.DISTANCE, (CORNERS[0], (math.nan, 0.0, 0.0))),
        Measurement(MeasureKind.DISTANCE, CORNERS[:2], (0.1,)),
        Measurement(MeasureKind.DISTANCE, CORNERS[:2], (0.1, -0.1)),
        Measurement(MeasureKind.DISTANCE, CORNERS[:2], (0.1, math.inf)),
        Measurement(MeasureKind.DISTANCE, CORNERS[:2], (0.1, 0.1), rays=((1.0, 0.0, 0.0),)),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(wrong):
    with pytest.raises(InputError, match="must"):
        measure(wrong)


# Rays


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(make_field(SHAPES["opaque"]), Precision.FULL, "cpu")


SEEN = RenderSettings(backend=Backend.TORCH)


def test_a_marched_ray_has_the_depth_of_the_picture_and_the_spread_of_its_weights(renderer):
    view = camera(24, 16)
    frame = renderer.render(view, SEEN)
    rays_o, rays_d = generate_rays(view_of(view))
    row, column = np.argwhere(frame.median_depth > 0)[40]
    number = int(row * view.width + column)
    picked = float(frame.median_depth[row, column])
    found = ray_depth(renderer, SEEN, rays_o[number].numpy(), rays_d[number].numpy(), picked)
    assert found.depth == pytest.approx(picked, rel=1e-5)
    step = float(renderer.model.step)
    assert found.spread > 0.999 * step / math.sqrt(12)
    # A depth that is far from what the ray meets is kept, and known badly.
    away = ray_depth(renderer, SEEN, rays_o[number].numpy(), rays_d[number].numpy(), picked + 1.0)
    assert away.depth == picked + 1.0
    assert away.spread == pytest.approx(math.hypot(1.0, found.spread), rel=0.5)


def test_a_ray_into_the_sky_meets_nothing(renderer):
    assert ray_depth(renderer, SEEN, (0, 0, 5), (0, 0, 1), 3.0) == RayDepth(3.0, None)


def test_a_corner_without_surface_is_as_sure_as_the_plane_that_it_was_put_on(renderer):
    pose = Pose((0.0, -9.0, 3.0), yaw=math.pi, pitch=-0.4)  # looks away from the scene
    direction = np.array(pose.forward)
    point = tuple((np.array(pose.eye) + direction * (3.0 / -direction[2])).tolist())
    corner = corner_at(point, pose, renderer, None, Ground(0.0, 0.01))
    assert corner.on_plane
    assert corner.point == point
    assert corner.spread == pytest.approx(0.01 / -direction[2])
    measurement, said = measured_from(MeasureKind.DISTANCE, (point, point), [corner, corner])
    assert said == SAID
    assert measurement.spreads == (corner.spread, corner.spread)
    floating = corner_at(point, pose, renderer, None, Ground(-1.0, 0.01))
    assert (floating.spread, floating.on_plane) == (None, False)


def test_one_corner_of_unknown_depth_leaves_the_uncertainty_unknown():
    sure = Corner((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), 0.1, False)
    measurement, said = measured_from(MeasureKind.DISTANCE, CORNERS[:2], [sure, None])
    assert (measurement.spreads, measurement.rays, said) == ((), (), "")
    assert measurement.points == (sure.point, CORNERS[1])


def test_corners_are_learnt_one_by_one_and_the_measurement_comes_once(renderer, monkeypatch):
    asked = []

    def corner(point, *_):
        asked.append(point)
        return Corner(point, (0.0, 0.0, -1.0), 0.1, False)

    monkeypatch.setattr(measuring, "corner_at", corner)
    woken = []
    work = Measuring(lambda: woken.append(1))
    for n in (1, 2, 2):
        work.follow(CORNERS[:n], Pose(), renderer, None, Ground(0.0, 0.0))
    work.complete(MeasureKind.HEIGHT, CORNERS[:2])
    work.follow((), Pose(), renderer, None, Ground(0.0, 0.0))  # the tool has let go of the corners
    work._pool.shutdown(wait=True)
    measurement, said = work.take()
    assert asked == list(CORNERS[:2])
    assert measurement == Measurement(
        MeasureKind.HEIGHT, CORNERS[:2], (0.1, 0.1), rays=((0.0, 0.0, -1.0),) * 2
    )
    assert said == ""
    assert len(woken) == 2
    assert work.take() is None
    assert not work.is_busy


def test_a_ray_that_cannot_be_marched_still_leaves_the_value(renderer, monkeypatch):
    def corner(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(measuring, "corner_at", corner)
    work = Measuring(lambda: None)
    work.follow(CORNERS[:2], Pose(), renderer, None, Ground(0.0, 0.0))
    work.complete(MeasureKind.DISTANCE, CORNERS[:2])
    work._pool.shutdown(wait=True)
    assert work.take() == (Measurement(MeasureKind.DISTANCE, CORNERS[:2]), "")


# Words


@pytest.mark.parametrize(
    ("value", "sigma", "words"),
    [
        (24.312, 0.42, ("24.3", "0.4")),
        (24.312, 0.142, ("24.31", "0.14")),
        (24.312, 3.6, ("24", "4")),
        (1234.5, 14.0, ("1 234", "14")),
        (0.5, 0.0, ("0.500", "0")),
        (2.0, 0.0961, ("2.00", "0.10")),
        (-3.14, 0.2, ("-3.1", "0.2")),
    ],
)
def test_a_value_is_said_to_the_place_of_its_uncertainty(value, sigma, words):
    assert with_spread(value, sigma) == words


def test_lengths_and_areas_are_in_metres_where_the_scene_is():
    metric, plain = Units(100.0), Units()
    line = Measurement(MeasureKind.DISTANCE, ((0.0, 0.0, 0.0), (0.3, 0.0, 0.4)), (0.004, 0.0))
    assert value_text(line, metric) == "50.0 ± 0.4 m"
    assert value_text(line, plain) == "0.500 ± 0.004"
    assert details_text(line, metric) == "horizontal 30.0 m"
    square = ((0.0, 0.0, 0.0), (0.2, 0.0, 0.0), (0.2, 0.2, 0.0), (0.0, 0.2, 0.0))
    assert value_text(Measurement(MeasureKind.AREA, square), metric) == "400.0 m²"
    assert details_text(Measurement(MeasureKind.AREA, square), metric) == "uncertainty not known"


def test_measurements_are_called_by_their_name_or_else_by_kind_and_number():
    assert title(made(MeasureKind.AREA), 2) == "Area 3"
    assert title(made(MeasureKind.AREA, name="Town square"), 2) == "Town square"


def test_corners_make_a_measurement_as_soon_as_they_can():
    assert drafted(Tool.DISTANCE, CORNERS[:1]) is None
    assert drafted(Tool.NAVIGATE, CORNERS) is None
    assert drafted(Tool.AREA, CORNERS[:2]).kind is MeasureKind.DISTANCE
    assert drafted(Tool.AREA, CORNERS[:3]).kind is MeasureKind.AREA


# Pictures


def test_a_height_is_drawn_upright_with_a_level_line_to_the_second_point():
    foot, top = (1.0, 2.0, 3.0), (4.0, 5.0, 9.0)
    upright, level = lines_of(Measurement(MeasureKind.HEIGHT, (foot, top)))
    assert upright == [(foot, (1.0, 2.0, 9.0))]
    assert level == [((1.0, 2.0, 9.0), top)]


def test_outlines_close_and_polylines_do_not():
    assert len(lines_of(made(MeasureKind.AREA))[0]) == 4
    assert len(lines_of(made(MeasureKind.POLYLINE))[0]) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_labels_stand_in_the_middle(kind):
    measurement = made(kind)
    points = np.array(measurement.points)
    assert (np.array(anchor_of(measurement)) >= points.min(axis=0) - 1e-9).all()
    assert (np.array(anchor_of(measurement)) <= points.max(axis=0) + 1e-9).all()


def test_a_polyline_has_its_label_half_way():
    way = Measurement(MeasureKind.POLYLINE, ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 3.0, 0.0)))
    assert anchor_of(way) == pytest.approx((1.0, 1.0, 0.0))


@pytest.mark.parametrize("kind", KINDS)
def test_focusing_brings_every_corner_into_view(kind):
    pose = focus_of(made(kind), Pose((9.0, 9.0, 9.0), yaw=0.7, pitch=-0.5))
    view = pose.camera(640, 480)
    for point in made(kind).points:
        column, row, depth = view.project(np.array(point))
        assert 0 < column < 640
        assert 0 < row < 480
        assert depth > 0


# Commands


def test_a_measurement_is_kept_and_takes_the_draft_with_it():
    drawn = ViewerState(draft=CORNERS[:2])
    after = commands.AddMeasurement(made(MeasureKind.HEIGHT)).apply(drawn)
    assert after.measurements == (made(MeasureKind.HEIGHT),)
    assert after.draft == ()
    refused = commands.AddMeasurement(Measurement(MeasureKind.AREA, CORNERS[:2])).apply(drawn)
    assert refused.measurements == ()
    assert "at least 3 points" in refused.message.text


def test_one_measurement_is_renamed_or_deleted_and_the_others_stay():
    state = ViewerState(measurements=tuple(made(kind) for kind in KINDS))
    renamed = commands.RenameMeasurement(1, "  Tower \n on the hill" + 99 * "!").apply(state).measurements
    assert renamed[1].name.startswith("Tower on the hill!")
    assert len(renamed[1].name) == 80
    assert renamed[:1] + renamed[2:] == state.measurements[:1] + state.measurements[2:]
    assert commands.RemoveMeasurement(1).apply(state).measurements == renamed[:1] + renamed[2:]
    assert commands.RemoveMeasurement(99).apply(state).measurements == state.measurements
    assert commands.ClearMeasurements().apply(state).measurements == ()


# The shipped town


def test_the_tower_of_the_shipped_town_is_as_high_as_it_was_built():
    scene = open_scene(demo_scene_path("demo"))
    shipped = Renderer(scene.model, scene.spec.model.precision, "cpu")
    camera = scene.home_camera(948, 946)
    pose = Pose.from_matrix(camera.matrix, camera.fov_y, 2.0)
    town, metres = Town(TownSpec(1, (2, 2))), scene.spec.frame.metres_per_unit
    corners, heights, seen = [], [], []
    for pixel in ((461, 445), (263, 252)):  # the street beside the tower, and its roof
        eye, direction = camera.ray(*pixel)
        ray = direction / np.linalg.norm(direction)
        truth = trace(metres * eye[None], ray[None], town, APPEARANCES[0])
        picked = eye + truth.depth[0] / metres * ray
        corners.append(corner_at(tuple(picked.tolist()), pose, shipped, None, Ground(0.0, 0.0)))
        heights.append(metres * picked[2])
        seen.append(int(truth.building[0]))
    tower = next(building for building in town.buildings() if building.id == seen[1])
    found = measure(measured_from(MeasureKind.HEIGHT, tuple(c.point for c in corners), corners)[0])
    assert seen[0] == -1
    assert tower.kind == "tower"
    assert heights[1] - heights[0] == pytest.approx(tower.height, abs=0.2)
    assert found.value * metres == pytest.approx(heights[1] - heights[0], abs=0.5)
    assert 0.1 < found.sigma * metres < 1.0
