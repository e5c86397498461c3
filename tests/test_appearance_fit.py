"""Fitting an embedding to a photograph gives back the picture of the code that it was made with."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.appearance_fit import Control, fit_appearance
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.metrics import psnr
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.scenes.shipped import demo_scene_path

from .small_fields import Shape, camera, make_field, with_settings

ENOUGH = 35.0  # dB
LATENT = Shape(latent=7, levels=2)


def photograph(renderer: Renderer, code: int, view, background=None) -> np.ndarray:
    """Returns what a camera would take of the scene in one code: 8-bit colours in [0, 1]."""
    settings = RenderSettings(appearance=Appearance.of(code), background=background)
    picture = renderer.render(view, settings).rgb
    return (np.rint(255 * picture) / 255).astype(np.float32)


def without(renderer: Renderer, code: int) -> Renderer:
    """Returns a renderer whose table lacks a code, so that it has to be found."""
    table = renderer.model.embedding
    others = [row for row in range(len(table)) if row != code]
    return Renderer(replace(renderer.model, embedding=table[others]), device="cpu")


def psnr_of(renderer: Renderer, found: Appearance, photo: np.ndarray, view, background=None) -> float:
    settings = RenderSettings(appearance=found, background=background)
    return psnr(renderer.render(view, settings).rgb, photo)


@pytest.fixture(scope="module")
def town():
    scene = open_scene(demo_scene_path())
    table = scene.model.embedding[:6].clone()  # the rows that the town was learnt with
    return scene, Renderer(replace(scene.model, embedding=table), device="cpu")


@pytest.fixture(scope="module")
def field() -> Renderer:
    return Renderer(make_field(LATENT), device="cpu")


@pytest.mark.parametrize("code", [1, 3, 4])
def test_a_season_of_the_town_is_found_from_the_other_seasons(town, code):
    scene, renderer = town
    view = scene.home_camera(160, 100)
    photo = photograph(renderer, code, view, scene.background)
    others = without(renderer, code)
    best = max(
        psnr_of(others, Appearance.of(row), photo, view, scene.background)
        for row in range(len(others.model.embedding))
    )
    found = fit_appearance(others, view, photo, scene.background)
    assert psnr_of(others, found, photo, view, scene.background) >= ENOUGH > best + 5


@pytest.mark.parametrize(
    "shape",
    [
        LATENT,
        replace(LATENT, view_pe=-1, feature_pe=1),
        replace(LATENT, mask=(9, 8, 5), mask_share=0.6, division=(2, 2), missing=(1,)),
        replace(LATENT, activation="softplus", opacity=0.5, bias=False),
    ],
    ids=["plain", "no direction", "mask and blocks", "softplus, no bias"],
)
@pytest.mark.parametrize("sampling", ["box", "hull"])
def test_a_code_of_any_field_is_found(shape, sampling):
    renderer = Renderer(with_settings(make_field(shape), sampling=sampling), device="cpu")
    view = camera(48, 36)
    photo = photograph(renderer, 0, view)
    assert psnr_of(renderer, fit_appearance(without(renderer, 0), view, photo), photo, view) >= ENOUGH


def test_the_same_photograph_gives_the_same_embedding(field):
    view = camera(100, 80)
    photo = photograph(field, 2, view)
    first, second = (fit_appearance(without(field, 2), view, photo) for _ in range(2))
    assert first == second


def test_only_the_pixels_of_the_mask_count(field):
    view = camera(48, 36)
    photo = photograph(field, 1, view)
    mask = np.ones(photo.shape[:2], bool)
    mask[:, :20] = False
    spoilt = np.where(mask[..., None], photo, np.float32(0.5))
    others = without(field, 1)
    assert psnr_of(others, fit_appearance(others, view, spoilt, mask=mask), photo, view) >= ENOUGH
    assert psnr_of(others, fit_appearance(others, view, spoilt), photo, view) < ENOUGH


def test_it_tells_how_far_it_is_and_stops_when_it_is_told_to(field):
    view = camera(90, 70)
    photo = photograph(field, 0, view)
    shares: list[float] = []
    assert fit_appearance(field, view, photo, control=Control(shares.append)) is not None
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == 1
    for last in (0, 1, len(shares) // 2):
        heard: list[float] = []
        cancelled = Control(heard.append, lambda heard=heard, last=last: len(heard) > last)
        assert fit_appearance(field, view, photo, control=cancelled) is None
        assert len(heard) == last + 1


class TestRefusals:
    def test_a_model_without_a_table(self):
        renderer = Renderer(make_field(Shape()), device="cpu")
        with pytest.raises(InputError, match="scenes with an appearance table"):
            fit_appearance(renderer, camera(8, 6), np.zeros((6, 8, 3), np.float32))

    def test_a_photograph_of_another_size(self, field):
        with pytest.raises(InputError, match="6 x 8 x 3 numbers for its camera, got 8 x 6 x 3"):
            fit_appearance(field, camera(8, 6), np.zeros((8, 6, 3), np.float32))

    def test_a_view_that_misses_the_scene(self, field):
        away = replace(camera(40, 30), c2w=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, -9.0), (0, 0, 0, 1)))
        with pytest.raises(InputError, match="it fills 0; choose a view that looks at it"):
            fit_appearance(field, away, np.zeros((30, 40, 3), np.float32))

    def test_a_mask_that_leaves_nothing(self, field):
        with pytest.raises(InputError, match="at least 32 of the pixels compared, it fills 0"):
            fit_appearance(
                field, camera(40, 30), np.zeros((30, 40, 3), np.float32), mask=np.zeros((30, 40), bool)
            )

    def test_a_nerf_branch(self):
        model = with_settings(make_field(replace(LATENT, nerf=True)), run_nerf=True)
        with pytest.raises(InputError, match="run_nerf: false"):
            fit_appearance(Renderer(model, device="cpu"), camera(8, 6), np.zeros((6, 8, 3), np.float32))
