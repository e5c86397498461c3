from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("dearpygui.dearpygui", exc_type=ImportError)

from landmark_viewer.cuda.tables import Quality
from landmark_viewer.viewer import overlay
from landmark_viewer.viewer.comparison import CompareStatus
from landmark_viewer.viewer.overlay import badge_parts, border_lines, pixel_of, prism_edges, visible_parts
from landmark_viewer.viewer.overlay_compare import draw_compare
from landmark_viewer.viewer.overlay_edit import dashed
from landmark_viewer.viewer.plan import ground_of
from landmark_viewer.viewer.state import Compare, CompareMode, Pose, RenderStatus, WarpStatus
from landmark_viewer.viewer.theme import HUD_OK, HUD_WARN
from landmark_viewer.viewer.units import Units

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


def test_the_badge_says_which_blocks_are_still_to_come_or_will_not():
    waiting = RenderStatus(progress=1.0, coarse=0.2, missing=1)
    assert words(waiting) == "Waiting | 1 block"
    short = RenderStatus(finished=True, progress=1.0, coarse=0.2, beyond=2)
    assert words(short) == "Exact | 20 % coarse"
    assert badge_parts(short)[0] == HUD_WARN
    assert badge_parts(replace(short, coarse=0.0))[0] == HUD_OK


def test_all_borders_of_a_small_city_are_drawn_once_around_blocks_that_exist(scene_facts):
    camera = Pose((0.0, -1.5, 1.0), pitch=-0.6).camera(400, 300)
    ground = ground_of(scene_facts)
    lines = border_lines(replace(scene_facts, present=(True,) * 4), camera)
    assert len(lines) == 6
    assert (lines[..., 2] == ground).all()
    assert np.linalg.norm(lines[:, 1] - lines[:, 0], axis=1).tolist() == [2.0] * 6
    lacking = border_lines(scene_facts, camera)  # the south-eastern block does not exist
    found = {tuple(map(tuple, line[:, :2].round(6).tolist())) for line in lacking}
    assert ((1.0, 0.0), (1.0, 1.0)) in found
    assert ((-1.0, -1.0), (0.0, -1.0)) in found
    assert np.linalg.norm(lacking[:, 1] - lacking[:, 0], axis=1).sum() == pytest.approx(12 - 2)


@pytest.mark.parametrize("height", [0.3, 5.0, 40.0])
def test_the_borders_of_ten_thousand_blocks_are_few_hundred_lines_near_the_camera(scene_facts, height):
    scene = replace(
        scene_facts,
        aabb=((-50.0, -50.0, 0.0), (50.0, 50.0, 0.5)),
        division=(100, 100),
        present=(True,) * 10_000,
    )
    camera = Pose((-20.0, 10.0, height), pitch=-0.5).camera(400, 300)
    lines = border_lines(scene, camera)
    assert 4 <= len(lines) <= 200
    ends = lines.reshape(-1, 3)
    assert np.abs(ends[:, :2] - (-20.0, 10.0)).max() <= 50
    assert ((ends[:, :2] + 50) % 1.0 < 1e-6).all(), "on the grid"
    assert len(border_lines(scene, Pose((0.0, 0.0, 4000.0), pitch=-1.5).camera(400, 300))) == 0


Box = tuple[float, float, float, float]  # left, top, right, bottom

BARS: tuple[Box, ...] = ((16, 16, 308, 52), (16, 60, 188, 96))  # that float in the upper left corner
LETTER = 6.8  # pixels


class Sheet:
    """A pen that keeps where plates and discs were drawn; lines and words are left out."""

    def __init__(self) -> None:
        self.look = SimpleNamespace(px=round)
        self.boxes: list[Box] = []

    def plate(self, x, y, width, height, fill, rounding=6) -> None:
        self.boxes.append((x, y, x + width, y + height))

    def circle(self, middle, radius, **_) -> None:
        (x, y) = middle
        self.boxes.append((x - radius, y - radius, x + radius, y + radius))

    def line(self, *_, **__) -> None:
        pass

    text = line

    def text_width(self, words: str, role: str | None = None) -> float:
        return LETTER * len(words)

    @property
    def box(self) -> Box:
        """Round everything that was drawn."""
        lows, highs = zip(*((box[:2], box[2:]) for box in self.boxes), strict=True)
        return (*np.min(lows, axis=0), *np.max(highs, axis=0))


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


WARPED = RenderStatus(moving=True, fps=22.5, scale=0.25, warp=WarpStatus("warped", fresh=0.04))
ADAPTIVE = RenderStatus(moving=True, fps=9.5, scale=0.25, adaptive="the kernels are being compiled: wait")


@pytest.mark.parametrize("moving", [WARPED, ADAPTIVE])
@pytest.mark.parametrize("width", [210, 303, 304, 340, 388, 431, 432, 700, 1600])
def test_nothing_over_the_picture_covers_anything_else(width, moving):
    compass, scale, badge, compare = Sheet(), Sheet(), Sheet(), Sheet()
    pose, height = Pose((0.0, 0.0, 9.0)), 400
    overlay.draw_compass(compass, pose, width)
    overlay.draw_scale_bar(scale, pose.camera(width, height), pose, Units(), width)
    overlay.draw_badge(badge, moving, width, height)
    draw_compare(compare, Compare(CompareMode.DIFFERENCE), CompareStatus(), width, height)
    boxes = [sheet.box for sheet in (compass, scale, badge) if sheet.boxes]
    boxes += [compare.boxes[-1], *(BARS if compass.boxes else ())]
    for one, other in combinations(boxes, 2):
        assert not overlap(one, other), (one, other)
    assert bool(compass.boxes) == (width >= 304)
    assert bool(scale.boxes) == (width >= 388)
    assert badge.box[0] >= 0


def test_the_badge_keeps_still_while_numbers_change():
    boxes = []
    for fps, fresh in ((9.4, 0.04), (11.1, 0.38), (27.0, 0.0)):
        sheet = Sheet()
        status = RenderStatus(moving=True, fps=fps, width=640, warp=WarpStatus("warped", fresh=fresh))
        overlay.draw_badge(sheet, status, 640, 360)
        boxes.append(sheet.box)
    assert len(set(boxes)) == 1
