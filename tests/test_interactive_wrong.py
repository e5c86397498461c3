"""Keyframes that do not show what is there: the near plane has cut away what the camera now looks at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.interactive.contracts import Budget, Displayed, Look
from landmark_viewer.core.interactive.engine import Engine
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.settings import Precision

from .city_store import make_city_store, resident

SIZE = 96, 64
BUDGET = Budget(total=1_200, key=800, fill=200, edge=200, check=64)
DIP, RISE = 20, 12  # pictures
WITHIN = range(6, 13)  # steps back at which a wall is all around
LEAST = 12.0  # dB of every picture of the way up; white ones have 5


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    """A small town on ground that is thinner than the near plane is far."""
    folder: Path = tmp_path_factory.mktemp("wrong")
    return Renderer(resident(make_city_store(folder / "town", (2, 2), texels=32)), Precision.HALF)


def down(step: int) -> Camera:
    """Looks at the ground from within the near plane, then from ever higher."""
    height = 0.03 + 0.02 * max(step - DIP, 0)
    eye = np.array([1.0 + 0.002 * step, 1.0, height])
    return Camera.from_fov(look_at(eye, eye + np.array([0.3, 0.2, -1.0])), *SIZE, 60.0)


def back(step: int) -> Camera:
    """Looks along a street, and goes back into a house."""
    eye = np.array([0.5, 1.7 - 0.03 * step, 0.12])
    return Camera.from_fov(look_at(eye, eye + np.array([0.0, 1.0, -0.19])), *SIZE, 50.0)


def psnr_of(displayed: Displayed, exact: np.ndarray) -> float:
    """How well a picture shows what is there, dB."""
    return float(-10 * np.log10(np.mean((displayed.buffers.rgb.numpy() - exact) ** 2) + 1e-12))


def test_a_picture_is_rendered_anew_where_check_rays_find_what_no_keyframe_shows(renderer):
    engine = Engine(renderer, threads=2)
    for step in range(DIP + RISE):
        displayed = engine.display(down(step), Look(), BUDGET, step / 30)
        engine.refine(BUDGET.key)
        exact = renderer.render(down(step), RenderSettings(complete=False)).buffers.rgb.numpy()
        psnr = psnr_of(displayed, exact)
        if step <= DIP:
            assert exact.min() > 0.99  # the ground is cut away
        else:
            assert psnr > LEAST, f"picture {step}: {psnr:.1f} dB"


def test_points_that_came_with_wrong_keyframes_are_dropped_with_them(renderer):
    engine = Engine(renderer, threads=2)
    for step in range(WITHIN.stop):
        displayed = engine.display(back(step), Look(), BUDGET, step / 30)
        engine.refine(BUDGET.key)
        if step in WITHIN:
            exact = renderer.render(back(step), RenderSettings(complete=False)).buffers.rgb.numpy()
            assert psnr_of(displayed, exact) > 45.0, f"picture {step}"  # with them: 16 to 21
