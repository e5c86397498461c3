"""How fine keyframes are: measured on pictures of known detail, and by how much had to be guessed."""

from __future__ import annotations

import numpy as np

from landmark_viewer.core.interactive.detail import CALM, COARSEST, LATE, MANY, Detail, Haste, lost_by_halving
from landmark_viewer.cuda.tables import View
from landmark_viewer.cuda.warp_tables import BORDER, Keyframe


def keyframe(wave: float, width: int = 96, height: int = 64) -> Keyframe:
    """A keyframe of stripes that are `wave` pixels long."""
    view = View(np.eye(4, dtype=np.float32)[:3], 80.0, 80.0, width / 2, height / 2, width, height)
    shape = height + 2 * BORDER, width + 2 * BORDER, 4
    color = np.ones(shape, np.float32)
    color[..., :3] = (0.5 + 0.4 * np.sin(2 * np.pi * np.arange(shape[1]) / wave))[None, :, None]
    return Keyframe(view, color, np.ones(shape, np.float32), np.zeros((height, width), bool))


def test_fine_stripes_lose_by_halving_and_long_ones_do_not():
    assert lost_by_halving(keyframe(3.0)) > 0.01
    assert lost_by_halving(keyframe(48.0)) < 1e-4
    assert lost_by_halving(keyframe(3.0)) > lost_by_halving(keyframe(8.0)) > lost_by_halving(keyframe(24.0))


def test_smooth_scenes_get_small_keyframes_and_sharp_ones_large_ones():
    smooth = Detail().after(keyframe(48.0), 1.0)
    assert smooth.scale == 0.5
    assert smooth.after(keyframe(24.0), 0.5).scale == 0.5
    assert smooth.after(keyframe(4.0), 0.5).scale == 1.0
    assert smooth.after(keyframe(4.0), 1.0).scale == 1.0
    assert Detail().after(keyframe(4.0), 1.0).scale == 1.0


def test_keyframes_that_are_small_for_haste_tell_nothing_of_the_detail():
    smooth = Detail().after(keyframe(48.0), 1.0)
    assert smooth.after(keyframe(3.0), 0.25) == smooth
    assert Detail().after(keyframe(48.0), 0.25).scale == 1.0
    assert Detail().after(keyframe(8.0, 2, 2), 1.0) == Detail()


def test_what_is_smooth_in_fine_pixels_need_not_be_so_in_coarse_ones():
    smooth = Detail().after(keyframe(48.0, 96), 1.0)
    assert smooth.at(96) == smooth.at(400) == smooth.at(72) == 0.5
    assert smooth.at(48) == smooth.at(24) == 1.0
    assert smooth.after(keyframe(48.0, 48), 0.5).at(48) == 1.0  # of a picture as wide as before
    assert Detail(0.5, 96).after(keyframe(48.0, 48), 1.0).at(48) == 0.5
    assert Detail().at(1) == 1.0


def test_haste_comes_when_much_is_guessed_and_goes_when_nothing_is():
    haste = Haste()
    for _ in range(LATE - 1):
        haste = haste.after(2 * MANY)
    assert haste.scale == 1.0
    assert haste.after(0.0).after(2 * MANY).scale == 1.0  # in a row
    haste = haste.after(2 * MANY)
    assert haste.scale == 0.5
    for _ in range(100):
        haste = haste.after(2 * MANY)
    assert haste.scale == 0.5**COARSEST
    for _ in range(100):
        haste = haste.after(MANY / 2)  # neither many nor few
    assert haste.scale == 0.5**COARSEST
    for _ in range(CALM):
        haste = haste.after(0.0)
    assert haste.scale == 0.5 ** (COARSEST - 1)
    for _ in range(CALM):
        haste = haste.after(0.0)
    assert haste.scale == 1.0
