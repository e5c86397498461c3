"""Pictures per second while moving, and the share of the time that is left for rendering."""

from __future__ import annotations

import pytest

from landmark_viewer.viewer.frame_rate import FrameRate


def test_moving_pictures_of_the_last_second_are_counted():
    rate = FrameRate()
    rates = [rate.note_picture(10 + step / 20, True) for step in range(40)]
    assert rates[0] == 0
    assert rates[-1] == pytest.approx(20, abs=1)
    assert rate.note_picture(20.0, False) == 0
    rate.note_picture(20.1, True)
    rate.clear()
    assert rate.note_picture(20.2, True) == 0


def test_a_rate_is_true_as_soon_as_it_is_given_and_there_is_none_at_rest():
    rate = FrameRate()
    rates = [rate.note_picture(step / 20, True) for step in range(10)]
    assert [value for value in rates if value] == pytest.approx([20.0] * 5)
    assert rates[:5] == [0.0] * 5
    assert rate.note_picture(0.5, False) == 0.0


def test_rendering_is_quicker_by_what_drawing_takes_but_keeps_half_of_the_time():
    rate = FrameRate()
    assert rate.for_rendering(10.0) == pytest.approx(10.0)
    for _ in range(100):
        rate.note_drawing(0.02)
    assert rate.for_rendering(10.0) == pytest.approx(1 / 0.08, rel=0.02)
    for _ in range(100):
        rate.note_drawing(5.0)
    assert rate.for_rendering(10.0) == pytest.approx(20.0, rel=0.02)
