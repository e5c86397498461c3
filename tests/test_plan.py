import math
from dataclasses import replace

import pytest

from landmark_viewer.viewer.plan import Plan, block_footprint, footprint_of_view, is_inside
from landmark_viewer.viewer.state import Pose


def test_blocks_tile_the_bounding_box(scene_facts):
    assert block_footprint(scene_facts, 0) == (-1.0, -1.0, 0.0, 0.0)
    assert block_footprint(scene_facts, 1) == (-1.0, 0.0, 0.0, 1.0)
    assert block_footprint(scene_facts, 2) == (0.0, -1.0, 1.0, 0.0)


def test_the_plan_shows_all_blocks_north_up(scene_facts):
    plan = Plan.fit(scene_facts, 240)
    left, bottom = plan.to_plan(-1.0, -1.0)
    right, top = plan.to_plan(1.0, 1.0)
    assert 0 < left < right < plan.width
    assert 0 < top < bottom < plan.height


def test_plan_positions_lead_back_to_the_scene(scene_facts):
    plan = Plan.fit(scene_facts, 240)
    assert plan.to_scene(*plan.to_plan(0.3, -0.7)) == pytest.approx((0.3, -0.7))


def test_a_long_scene_stays_within_the_panel(scene_facts):
    aabb = ((-1.0, -50.0, 0.0), (1.0, 50.0, 0.5))
    plan = Plan.fit(replace(scene_facts, aabb=aabb), 240)
    assert plan.height <= 300
    assert 0 < plan.to_plan(0.0, 50.0)[1] < plan.to_plan(0.0, -50.0)[1] < plan.height


def test_looking_down_sees_the_ground_below(scene_facts):
    pose = Pose((0.2, 0.1, 1.0), pitch=-math.pi / 2, fov_y=60.0, distance=1.0)
    outline = footprint_of_view(scene_facts, pose, aspect=1.0)
    assert is_inside(outline, (0.2, 0.1))
    assert not is_inside(outline, (0.2, 1.0))


def test_a_view_above_the_horizon_reaches_far_but_not_for_ever(scene_facts):
    pose = Pose((0.0, 0.0, 0.3), pitch=0.0, distance=1.0)
    outline = footprint_of_view(scene_facts, pose)
    assert max(abs(value) for corner in outline for value in corner) < 20
    assert is_inside(outline, (0.0, 3.0))
    assert not is_inside(outline, (0.0, -3.0))
