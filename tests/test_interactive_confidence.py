"""When warped pictures are no longer believed: scripted sequences of measured errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.core.interactive.confidence import (
    BEHIND,
    FIRST_PAUSE,
    LIMIT,
    LONGEST_PAUSE,
    PERSISTENT,
    PICTURES,
    PROVEN,
    Confidence,
    behind_share,
)
from landmark_viewer.cuda.tables import View
from landmark_viewer.cuda.warp_tables import BORDER, Keyframe

FRAME = 1 / 30
TOWN, FOLIAGE, FOG = 0.02, 0.18, 0.46  # shares of the opacity behind the front layer


def mean_square(decibels: float) -> float:
    return 10 ** (-decibels / 10)


def watch(
    confidence: Confidence, decibels: list[float] | float, share: float, seconds: float, now: float = 0.0
):
    """Shows pictures whose errors come round again and again; returns confidence, decisions and time."""
    errors = decibels if isinstance(decibels, list) else [decibels]
    decisions = []
    for number in range(round(seconds / FRAME)):
        error = mean_square(errors[number % len(errors)]) if confidence.uses_engine else None
        confidence = confidence.after(error, share, now)
        decisions.append(confidence.uses_engine)
        now += FRAME
    return confidence, decisions, now


@pytest.mark.parametrize("share", [TOWN, FOLIAGE, FOG])
def test_warps_that_are_good_are_believed_however_much_lies_behind(share):
    confidence, decisions, _ = watch(Confidence(), [50.0, 34.0, 38.0], share, 20.0)
    assert all(decisions)
    assert confidence.said == ""
    assert confidence.is_semi_transparent == (share > BEHIND)


def test_fog_falls_back_soon_and_says_so():
    confidence, decisions, _ = watch(Confidence(), 28.5, FOG, 4.0)
    first = decisions.index(False) * FRAME
    assert PERSISTENT <= first < PERSISTENT + (PICTURES + 2) * FRAME
    assert not confidence.uses_engine
    assert confidence.said == "semi-transparent"


def test_an_opaque_scene_never_falls_back():
    _, decisions, _ = watch(Confidence(), 25.0, TOWN, 20.0)
    assert all(decisions)


@pytest.mark.parametrize("share", [TOWN, FOLIAGE, FOG])
def test_a_reversal_of_the_motion_changes_nothing(share):
    confidence, now = Confidence(), 0.0
    for _ in range(6):
        confidence, calm, now = watch(confidence, 34.0, share, 2.0, now)
        confidence, reversal, now = watch(confidence, [30.0, 28.0, 27.0], share, 0.4, now)
        assert all(calm)
        assert all(reversal)


@pytest.mark.parametrize("share", [TOWN, FOLIAGE, FOG])
def test_motion_that_sets_in_far_from_any_keyframe_changes_nothing(share):
    confidence, now = Confidence(), 0.0
    for _ in range(4):
        confidence, first, now = watch(confidence, [26.0, 27.0, 29.0], share, 1.4, now)
        confidence, then, now = watch(confidence, [31.0, 38.0, 41.0], share, 1.0, now)
        assert all(first)
        assert all(then)


def test_single_bad_pictures_are_outvoted_and_a_bad_mean_is_not():
    rarely, often = [40.0] * 15 + [24.0], [40.0, 26.0]
    assert all(watch(Confidence(), rarely, FOG, 10.0)[1])
    assert not all(watch(Confidence(), often, FOG, 10.0)[1])


def test_pictures_without_checks_say_nothing():
    confidence = Confidence()
    for number in range(200):
        confidence = confidence.after(None, FOG, number * FRAME)
    assert confidence.uses_engine
    for number in range(200, 200 + PICTURES - 1):
        confidence = confidence.after(float("nan") if number % 2 else mean_square(20.0), FOG, number * FRAME)
    assert confidence.uses_engine
    assert confidence.bad == 0.0


def test_time_without_pictures_does_not_count():
    confidence, decisions, now = watch(Confidence(), 28.0, FOG, PERSISTENT - 0.2)
    assert all(decisions)
    for _ in range(3):  # one picture every minute
        confidence, decisions, now = watch(confidence, 28.0, FOG, FRAME, now + 60.0)
        assert all(decisions)
    held, _, _ = watch(replace(confidence, pause=LONGEST_PAUSE), 40.0, FOG, 1.0, now + 60.0)
    assert held.pause == LONGEST_PAUSE


def test_it_tries_again_ever_later():
    _, decisions, _ = watch(Confidence(), 28.0, FOG, 500.0)
    falls = [n for n in range(1, len(decisions)) if decisions[n - 1] and not decisions[n]]
    tries = [n for n in range(1, len(decisions)) if decisions[n] and not decisions[n - 1]]
    pauses = [(back - fall) * FRAME for fall, back in zip(falls, tries, strict=False)]
    expected = [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(len(pauses))]
    assert pauses == pytest.approx(expected, abs=3 * FRAME)
    assert len(pauses) >= 7
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=3 * FRAME)
    assert all(
        1 < (fall - back) * FRAME / PERSISTENT < 2 for fall, back in zip(falls[1:], tries, strict=False)
    )


def test_a_trial_that_holds_makes_the_next_pause_short():
    confidence, _, now = watch(Confidence(), 28.0, FOG, 60.0)
    while not confidence.uses_engine:
        confidence, _, now = watch(confidence, 40.0, FOG, FRAME, now)
    assert confidence.pause > 2 * FIRST_PAUSE
    kept, _, _ = watch(confidence, 40.0, FOG, PROVEN / 2, now)
    assert kept.pause == confidence.pause
    proven, _, _ = watch(confidence, 40.0, FOG, PROVEN + 1, now)
    assert proven.pause == FIRST_PAUSE
    assert proven.uses_engine


def test_a_pause_ends_by_itself_and_forgets_what_was_measured_before():
    confidence, _, now = watch(Confidence(), 28.0, FOG, PERSISTENT + 1.0)
    assert not confidence.uses_engine
    again = confidence.after(None, FOG, now + FIRST_PAUSE)
    assert again.uses_engine
    assert again.errors == ()


def test_the_limit_lies_between_what_reduced_resolution_gives():
    assert 29.0 <= -10 * np.log10(LIMIT) <= 31.0


def keyframe(opacity: np.ndarray, share: np.ndarray) -> Keyframe:
    height, width = opacity.shape
    size = (height + 2 * BORDER, width + 2 * BORDER, 4)
    color, planes = np.zeros(size, dtype=np.float32), np.zeros(size, dtype=np.float32)
    planes[..., 0] = 1.0  # a border that would be counted
    planes[BORDER:-BORDER, BORDER:-BORDER, 0] = opacity
    planes[BORDER:-BORDER, BORDER:-BORDER, 3] = share
    view = View(np.eye(3, 4, dtype=np.float32), 1.0, 1.0, width / 2, height / 2, width, height)
    return Keyframe(view, color, planes, np.zeros((height, width), dtype=np.bool_))


def test_what_lies_behind_is_the_mean_over_what_shows_anything():
    opacity = np.array([[1.0, 0.5, 0.0], [1.0, 0.01, 1.0]], dtype=np.float32)
    share = np.array([[1.0, 0.6, 0.0], [0.8, 0.0, 0.6]], dtype=np.float32)
    assert behind_share(keyframe(opacity, share)) == pytest.approx((0.0 + 0.4 + 0.2 + 0.4) / 4)
    assert behind_share(keyframe(np.zeros_like(opacity), share)) == 0.0


def test_it_is_a_value():
    confidence = Confidence()
    confidence.after(mean_square(20.0), FOG, 0.0)
    assert confidence == Confidence()
    assert replace(confidence, behind=FOG).is_semi_transparent
