import numpy as np
import pytest

pytest.importorskip("dearpygui.dearpygui", exc_type=ImportError)

from landmark_viewer.cuda.tables import Quality
from landmark_viewer.viewer.overlay import badge_parts, pixel_of, prism_edges, visible_parts
from landmark_viewer.viewer.overlay_edit import dashed
from landmark_viewer.viewer.state import Pose, RenderStatus

CAMERA = Pose((0.0, 0.0, 0.0), fov_y=90.0).camera(200, 200)  # looks north


def words(status: RenderStatus) -> str:
    """Returns the texts of the badge, icons left out."""
    _, texts, _ = badge_parts(status)
    return " | ".join(text for text, _ in texts).encode("ascii", "ignore").decode().strip()


def seen(near: float, *segments) -> list:
    """Returns what is left of segments in the picture."""
    return visible_parts(CAMERA, near, np.array(segments, float)).tolist()


def test_a_segment_in_front_is_projected_whole():
    parts = seen(0.01, [(-1, 2, 0), (1, 2, 0)])
    np.testing.assert_allclose(parts, [[(50, 100), (150, 100)]])


def test_segments_behind_the_camera_and_beside_the_picture_are_not_drawn():
    assert seen(0.01, [(-1, -2, 0), (1, -2, 0)], [(90, 1, 0), (99, 1, 0)]) == []
    assert visible_parts(CAMERA, 0.01, np.zeros((0, 2, 3))).shape == (0, 2, 2)


def test_a_segment_that_passes_the_camera_is_cut_in_front_of_it():
    for ends in ([(0.25, -2, 0), (0.25, 2, 0)], [(0.25, 2, 0), (0.25, -2, 0)]):
        parts = np.sort(np.array(seen(0.5, ends))[0, :, 0])
        np.testing.assert_allclose(parts, (112.5, 150))


def test_a_line_to_the_horizon_ends_at_the_side_of_the_picture():
    parts = np.array(seen(1e-6, [(0.5, 0.0, -0.1), (0.5, 1e6, -0.1)]))
    assert parts.shape == (1, 2, 2)
    assert (np.abs(parts - 100) <= 100 + 1e-6).all()


def test_only_points_in_the_picture_have_a_pixel():
    assert pixel_of(CAMERA, 0.01, (0, 2, 1)) == pytest.approx((100, 50))
    assert pixel_of(CAMERA, 0.01, (0, -2, 1)) is None
    assert pixel_of(CAMERA, 0.01, (4, 2, 0)) is None


def test_a_prism_has_the_edges_of_its_floor_its_roof_and_its_walls():
    edges = prism_edges(np.array([(0, 0), (1, 0), (0, 1)]), 0.0, 2.0)
    assert edges.shape == (9, 2, 3)
    assert sorted(np.ptp(edges[:, :, 2], axis=1)) == [0] * 6 + [2] * 3
    assert {tuple(end) for edge in edges[:3] for end in edge} == {(0, 0, 0), (1, 0, 0), (0, 1, 0)}


def test_dashes_cover_the_same_line_with_gaps():
    line = np.array([[(0.0, 0.0), (100.0, 0.0)]])
    dashes = dashed(line, 1.0)
    assert len(dashes) == 10
    assert np.linalg.norm(dashes[:, 1] - dashes[:, 0], axis=1).sum() == pytest.approx(60)
    assert dashed(line * 1e4, 1.0).tolist() == (line * 1e4).tolist()
    assert dashed(line[:0], 1.0).shape == (0, 2, 2)


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
