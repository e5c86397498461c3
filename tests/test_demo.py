"""The shipped town against pictures that it was not learnt from; `demo_bench` takes more of them."""

from __future__ import annotations

import numpy as np

from landmark_viewer.scenes.city.appearances import APPEARANCES
from landmark_viewer.scenes.city.dataset import CityOptions, write_city
from landmark_viewer.scenes.city.town import TownSpec

from .bench.demo_bench import town_scores

LEAST_PSNR = 26.0  # dB


def test_the_town_meets_held_out_pictures_and_every_code_is_its_own(tmp_path):
    options = CityOptions(TownSpec(seed=1, blocks=(2, 2)), train=1, test=2, size=(100, 75))
    write_city(tmp_path / "town", options, workers=1)
    styles, codes, psnr, _ = town_scores(tmp_path / "town")
    assert styles == [appearance.name for appearance in APPEARANCES]
    assert len(codes) == 2 * len(styles)
    own = psnr[np.arange(len(codes)), codes]
    assert own.mean() >= LEAST_PSNR
    assert (psnr.argmax(axis=1) == codes).all()
