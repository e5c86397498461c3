import math

import numpy as np
import pytest

pytest.importorskip("dearpygui.dearpygui", exc_type=ImportError)

from landmark_viewer.cuda.tables import Quality
from landmark_viewer.viewer.overlay import badge_parts, visible_part
from landmark_viewer.viewer.state import Pose, RenderStatus

CAMERA = Pose((0.0, 0.0, 0.0), fov_y=90.0).camera(200, 200)  # looks north


def words(status: RenderStatus) -> str:
    """Returns the texts of the badge, icons left out."""
    _, texts, _ = badge_parts(status)
    return " | ".join(text for text, _ in texts).encode("ascii", "ignore").decode().strip()


def test_a_segment_in_front_is_projected_whole():
    points = visible_part(CAMERA, 0.01, np.array([-1.0, 2.0, 0.0]), np.array([1.0, 2.0, 0.0]))
    assert points == [pytest.approx((50, 100)), pytest.approx((150, 100))]


def test_a_segment_behind_is_not_drawn():
    assert visible_part(CAMERA, 0.01, np.array([-1.0, -2.0, 0.0]), np.array([1.0, -2.0, 0.0])) == []


def test_a_segment_that_passes_the_camera_is_cut_in_front_of_it():
    points = visible_part(CAMERA, 0.5, np.array([1.0, -2.0, 0.0]), np.array([1.0, 2.0, 0.0]))
    assert points == [pytest.approx((300, 100)), pytest.approx((150, 100))]
    assert all(math.isfinite(value) for point in points for value in point)


def test_the_badge_says_what_a_moving_picture_is_worth():
    status = RenderStatus(moving=True, fps=12.4, scale=0.5, quality=Quality.FAST)
    assert words(status) == "12.4 fps | moving |  res | fast"


def test_the_badge_shows_how_far_the_refinement_is():
    _, _, progress = badge_parts(RenderStatus(progress=0.43))
    assert words(RenderStatus(progress=0.43)) == "Refining | 43 %"
    assert progress == 0.43


def test_the_badge_says_when_the_picture_is_exact():
    status = RenderStatus(finished=True, progress=1.0, frame_ms=3800)
    assert words(status) == "Exact | full res | 3.8 s"
