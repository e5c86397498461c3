"""Poses against the matrices they stand for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmark_viewer.core.camera import look_at
from landmark_viewer.viewer.state import Pose, ViewerState

angles = st.floats(-3.1, 3.1)
pitches = st.floats(-1.5, 1.5)


@given(angles, pitches, angles)
def test_a_pose_rotation_is_a_right_handed_rotation(yaw, pitch, roll):
    rotation = Pose(yaw=yaw, pitch=pitch, roll=roll).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(rotation) == pytest.approx(1)


@given(angles, pitches, angles)
def test_a_pose_read_from_its_own_matrix_is_the_same(yaw, pitch, roll):
    pose = Pose((1.0, -2.0, 3.0), yaw, pitch, roll, 40.0, 5.0)
    again = Pose.from_matrix(pose.camera(64, 48).matrix, 40.0, 5.0)
    np.testing.assert_allclose(again.rotation, pose.rotation, atol=1e-6)
    assert again.eye == pose.eye


def test_heading_is_a_compass_heading():
    np.testing.assert_allclose(Pose(yaw=0).forward, [0, 1, 0], atol=1e-12)
    np.testing.assert_allclose(Pose(yaw=math.pi / 2).forward, [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("target", [(3.0, 1.0, 0.5), (0.0, 0.0, 0.0), (0.0, 0.0, 9.0)])
def test_a_pose_keeps_the_picture_of_look_at(target):
    c2w = look_at((0.0, 0.0, 2.0), target)
    pose = Pose.from_matrix(c2w, 50.0, 1.0)
    np.testing.assert_allclose(pose.rotation, c2w[:3, :3], atol=1e-9)


def test_the_pivot_lies_in_the_middle_of_the_picture():
    pose = Pose((1.0, 2.0, 3.0), yaw=0.4, pitch=-0.7, distance=4.0)
    column, row, depth = pose.camera(640, 360).project(pose.pivot)
    assert (column, row, depth) == pytest.approx((320, 180, 4))


def test_states_are_values(scene_facts):
    assert ViewerState(scene_facts) == ViewerState(scene_facts)
    assert ViewerState().scene is None
    assert scene_facts.path == Path("city.yaml")
