"""Handles: found under the pointer, and dragged as the picture shows it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from landmark_viewer.core.edits.layers import Copy, Hide, Placement, Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.viewer import handles
from landmark_viewer.viewer.handles import Grip, GripKind
from landmark_viewer.viewer.state import Handle, Pose, Selection, Snapping, ViewerState

SIZE = (640, 480)
POSE = Pose((0.1, -1.2, 1.0), pitch=math.radians(-40), yaw=0.2, distance=1.5)
CAMERA = POSE.camera(*SIZE)
HOUSE = Prism(Region.rectangle(-0.2, -0.1, 0.2, 0.1), 0.0, 0.3)
RADIUS = 10.0


def pixel(point) -> tuple[float, float]:
    """Returns where a point is seen."""
    column, row, _ = CAMERA.project(np.array(point))
    return float(column), float(row)


def grip(kind: GripKind, grips) -> Grip:
    """Returns the first handle of a kind."""
    return next(each for each in grips if each.kind is kind)


def corner_at(x: float, y: float) -> Grip:
    """Returns the handle of one corner of the house."""
    grips = handles.prism_grips(HOUSE, 0.0, 0.3)
    return next(each for each in grips if each.kind is GripKind.CORNER and each.point == (x, y, 0.0))


def target_at(placement: Placement, ratio: float = 1.0) -> handles.Target:
    """Returns the house as a copy that stands somewhere."""
    return handles.Target(HOUSE, Copy(prism=HOUSE, placements=(placement,)), 0, ratio)


def flat(x: float, y: float) -> float:
    return 0.0


def slope(x: float, y: float) -> float:
    return 0.1 * x


def test_a_house_has_a_handle_at_every_corner_and_edge_and_for_both_heights():
    kinds = [each.kind for each in handles.prism_grips(HOUSE, 0.0, 0.3)]
    assert kinds.count(GripKind.CORNER) == kinds.count(GripKind.EDGE) == 4
    assert kinds.count(GripKind.ROOF) == kinds.count(GripKind.GROUND) == 1


def test_the_handle_under_the_pointer_is_the_nearest_one_in_reach():
    grips = handles.prism_grips(HOUSE, 0.0, 0.3)
    for each in grips:
        column, row = pixel(each.point)
        assert handles.hit(grips, CAMERA, (column + 2, row - 1), RADIUS) == each
    assert handles.hit(grips, CAMERA, (5.0, 5.0), RADIUS) is None


def test_handles_behind_the_camera_are_not_hit():
    behind = Grip(GripKind.CORNER, tuple(np.array(POSE.eye) - POSE.forward))
    assert handles.hit([behind], CAMERA, (CAMERA.cx, CAMERA.cy), 1e6) is None


def test_a_dragged_corner_follows_the_pointer_on_the_ground():
    corner = corner_at(0.2, 0.1)
    target = (0.5, 0.3, 0.0)
    after = handles.dragged_prism(HOUSE, corner, CAMERA, (pixel(corner.point), pixel(target)))
    corners = {point for _, point in handles.corners(after.region)}
    assert any(math.dist(point, target[:2]) < 1e-6 for point in corners)
    assert len(corners) == 4
    assert (after.low, after.high) == (HOUSE.low, HOUSE.high)


def test_a_dragged_dot_inserts_a_corner():
    dot = grip(GripKind.EDGE, handles.prism_grips(HOUSE, 0.0, 0.3))
    outwards = np.array(dot.point) * (3.0, 3.0, 1.0)
    after = handles.dragged_prism(HOUSE, dot, CAMERA, (pixel(dot.point), pixel(outwards)))
    assert after.region.n_vertices == 5
    assert after.region.area > HOUSE.region.area


def test_corners_snap_to_the_grid():
    corner = corner_at(0.2, 0.1)
    path = (pixel(corner.point), pixel((0.46, 0.32, 0.0)))
    after = handles.dragged_prism(HOUSE, corner, CAMERA, path, grid=0.25)
    assert any(point == (0.5, 0.25) for _, point in handles.corners(after.region))


@pytest.mark.parametrize(("kind", "low", "high"), [(GripKind.ROOF, 0.0, 0.5), (GripKind.GROUND, 0.2, 0.3)])
def test_a_height_follows_the_pointer_up_and_down(kind, low, high):
    handle = grip(kind, handles.prism_grips(HOUSE, 0.0, 0.3))
    x, y, z = handle.point
    path = (pixel(handle.point), pixel((x, y, z + 0.2)))
    after = handles.dragged_prism(HOUSE, handle, CAMERA, path)
    assert (after.low, after.high) == pytest.approx((low, high))


def test_a_roof_stays_above_the_ground_and_the_ground_below_the_roof():
    for kind, step in ((GripKind.ROOF, -1.0), (GripKind.GROUND, 1.0)):
        handle = grip(kind, handles.prism_grips(HOUSE, 0.0, 0.3))
        x, y, z = handle.point
        path = (pixel(handle.point), pixel((x, y, z + 0.55 * step)))
        after = handles.dragged_prism(HOUSE, handle, CAMERA, path)
        assert after.low < after.high


def test_heights_stay_where_the_camera_looks_straight_down():
    down = Pose((0.0, 0.0, 2.0), pitch=-math.pi / 2, distance=2.0).camera(*SIZE)
    roof = grip(GripKind.ROOF, handles.prism_grips(HOUSE, 0.0, 0.3))
    assert handles.dragged_prism(HOUSE, roof, down, ((320.0, 240.0), (320.0, 100.0))) == HOUSE


def test_a_drag_past_the_horizon_changes_nothing():
    level = Pose((0.0, -1.0, 0.2), pitch=0.0, distance=1.0).camera(*SIZE)
    corner = grip(GripKind.CORNER, handles.prism_grips(HOUSE, 0.0, 0.3))
    assert handles.dragged_prism(HOUSE, corner, level, ((300.0, 300.0), (300.0, 100.0))) == HOUSE


@pytest.mark.parametrize(
    ("kind", "moved"),
    [(GripKind.MOVE, (0.2, 0.3)), (GripKind.EAST, (0.2, 0.0)), (GripKind.NORTH, (0.0, 0.3))],
)
def test_a_copy_moves_on_the_ground_as_its_handle_allows(kind, moved):
    placed = Placement((0.1, 0.1, 0.0))
    handle = grip(kind, handles.placement_grips(target_at(placed), Handle.MOVE, CAMERA, RADIUS))
    target = np.add(handle.point, (0.2, 0.3, 0.0))
    path = (pixel(handle.point), pixel(target))
    after = handles.dragged_placement(placed, handle, CAMERA, path, Snapping(), slope)
    x, y = 0.1 + moved[0], 0.1 + moved[1]
    assert after.position == pytest.approx((x, y, slope(x, y)))
    assert (after.heading, after.scale) == (0.0, 1.0)


def test_without_snapping_a_copy_keeps_its_height_and_its_handle_lifts_it():
    placed = Placement((0.1, 0.1, 0.05))
    grips = handles.placement_grips(target_at(placed), Handle.MOVE, CAMERA, RADIUS)
    for kind, step in ((GripKind.MOVE, (0.2, 0.0, 0.0)), (GripKind.UP, (0.0, 0.0, 0.2))):
        handle = grip(kind, grips)
        path = (pixel(handle.point), pixel(np.array(handle.point) + step))
        after = handles.dragged_placement(placed, handle, CAMERA, path, Snapping(ground=False), slope)
        assert after.position == pytest.approx(np.array(placed.position) + step)


def test_the_ring_turns_a_copy_by_the_angle_that_the_pointer_goes():
    placed = Placement((0.0, 0.0, 0.0), heading=30.0)
    knob = grip(GripKind.TURN, handles.placement_grips(target_at(placed), Handle.ROTATE, CAMERA, RADIUS))
    reach = math.hypot(*knob.point[:2])
    end = (reach * math.cos(math.radians(75)), reach * math.sin(math.radians(75)), 0.0)
    after = handles.dragged_placement(placed, knob, CAMERA, (pixel(knob.point), pixel(end)), Snapping(), flat)
    assert after.heading == pytest.approx(75.0)


def test_the_square_scales_a_copy_by_the_distance_of_the_pointer():
    placed = Placement((0.0, 0.0, 0.0), scale=0.8)
    knob = grip(GripKind.SIZE, handles.placement_grips(target_at(placed), Handle.SCALE, CAMERA, RADIUS))
    end = np.array(knob.point) * 1.5
    after = handles.dragged_placement(placed, knob, CAMERA, (pixel(knob.point), pixel(end)), Snapping(), flat)
    assert after.scale == pytest.approx(1.2)


def test_a_placed_prism_is_turned_about_its_anchor_and_scaled():
    placed = handles.placed_prism(HOUSE, Placement((1.0, 2.0, 0.5), heading=90.0, scale=2.0))
    assert placed.region.bounds == pytest.approx((0.8, 1.6, 1.2, 2.4))
    assert (placed.low, placed.high) == pytest.approx((0.5, 1.1))


def test_a_point_on_a_copy_is_found_and_the_ground_before_it_is_not():
    layer = Copy(uid=3, prism=HOUSE, placements=(Placement((1.0, 0.0, 0.0)), Placement((0.0, 1.0, 0.0))))
    assert handles.placement_at((layer,), (0.1, 1.05, 0.2)) == (layer, 1)
    assert handles.placement_at((layer,), (0.1, 1.05, 0.0)) is None
    assert handles.placement_at((layer,), (0.0, 0.0, 0.2)) is None
    assert handles.placement_at((replace(layer, enabled=False),), (0.1, 1.05, 0.2)) is None


def test_handles_belong_to_the_selection_then_to_the_selected_layer(scene_facts):
    house, copy = Remove(uid=1, prism=HOUSE), Copy(uid=2, prism=HOUSE, placements=(Placement((1, 0, 0)),))
    state = ViewerState(scene_facts, edits=(house, copy), layer=1)
    assert handles.target_of(state) == handles.Target(HOUSE, house)
    assert handles.target_of(replace(state, edits=(replace(house, locked=True), copy))) is None
    other = Prism(Region.rectangle(0, 0, 1, 1))
    assert handles.target_of(replace(state, selection=Selection(other))) == handles.Target(other)
    assert handles.target_of(replace(state, layer=2)) == handles.Target(HOUSE, copy, 0)
    placed = replace(state, layer=2, selection=Selection(HOUSE, "copy", 0))
    assert handles.target_of(placed) == handles.Target(HOUSE, copy, 0)
    assert handles.target_of(ViewerState()) is None


def test_an_endless_prism_is_drawn_from_the_ground_to_the_top_of_the_scene(scene_facts):
    assert handles.heights(Hide(prism=Prism(HOUSE.region)).prism, 0.1, scene_facts) == (0.1, 0.5)
    assert handles.heights(HOUSE, 0.1, scene_facts) == (0.0, 0.3)


def test_a_copy_from_a_scene_of_other_units_is_outlined_and_found_at_its_size_here():
    source = Path("other.yaml")
    layer = Copy(uid=3, prism=HOUSE, placements=(Placement((1.0, 0.0, 0.0)),), source=source)
    ratios = ((source, 2.0),)
    (prism,) = handles.prisms_of(layer, ratios)
    assert prism.region.bounds == pytest.approx((0.6, -0.2, 1.4, 0.2))
    assert (prism.low, prism.high) == pytest.approx((0.0, 0.6))
    assert handles.placement_at((layer,), (1.35, 0.0, 0.5), ratios) == (layer, 0)
    assert handles.placement_at((layer,), (1.35, 0.0, 0.5)) is None
    state = ViewerState(edits=(layer,), layer=3, unit_ratios=ratios)
    assert handles.target_of(state).outline == prism
    assert handles.copied_of(state).placed(layer.placements[0], ratios) == prism
    plain = handles.turning_radius(target_at(layer.placements[0]))
    assert handles.turning_radius(handles.target_of(state)) == pytest.approx(2 * plain)
