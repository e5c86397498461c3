"""How close moving pictures come to exact ones, flight by flight, in a small view of the demo town."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.interactive import course
from landmark_viewer.core.interactive.contracts import Budget, Look
from landmark_viewer.core.interactive.engine import Engine
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.cuda.tables import FrameBuffers
from landmark_viewer.cuda.warp import Warp
from landmark_viewer.scenes.load import demo_scene_path, open_scene

from .trajectories import Place, Trajectory, trajectories

pytestmark = pytest.mark.usefixtures("native_kernels")

WIDTH, HEIGHT = 128, 72
NARROW = 10.0  # degrees of views from afar: a pixel is as small as in the window, or all is aliasing
RATE = 30.0  # poses per second
FRAMES, SCORED = 45, 5  # pictures of a flight, of which every so many are compared
BUDGET = Budget(total=880, key=560, fill=140, edge=180)  # as for 640x360, in proportion
STREET = look_at((-0.85, 0.0, 0.12), (-0.35, 0.0, 0.06))  # between the houses
NEAR = ("turn", "low")  # flights between the houses
# Mean and least, dB.
FLOORS = {
    "orbit": (31.95, 31.0),
    "forward": (31.9, 30.3),
    "turn": (33.1, 28.0),
    "reversal": (30.9, 29.0),
    "low": (29.9, 28.5),
    "path": (31.4, 29.5),
}


class Town:
    """The demo town, with the exact pictures that were wanted so far."""

    def __init__(self) -> None:
        scene = open_scene(demo_scene_path())
        self.renderer = Renderer(scene.model, device="cpu")
        self.look = Look(background=scene.background)
        home = scene.home_camera(WIDTH, HEIGHT)
        flights = trajectories(Place.of(home, scene.model.aabb.double().numpy(), STREET))
        narrow = Camera.from_fov(home.matrix, WIDTH, HEIGHT, NARROW)
        self.flights = {
            name: flight if name in NEAR else flight.seen_as(narrow) for name, flight in flights.items()
        }
        self.exact = cache(self._exact)

    def _exact(self, camera: Camera) -> FrameBuffers:
        buffers = FrameBuffers.empty(WIDTH, HEIGHT, front=True)
        settings = RenderSettings(background=self.look.background)
        return self.renderer.render(camera, settings, buffers=buffers).buffers


@pytest.fixture(scope="module")
def town() -> Town:
    return Town()


def flown(town: Town, flight: Trajectory, budget: Budget = BUDGET) -> list[float]:
    """Flies from rest and returns how close the compared pictures come, dB."""
    engine = Engine(town.renderer, threads=1)
    start = flight.camera(0.0)
    engine.adopt(start, town.look, town.exact(start))
    engine.display(start, town.look, budget, 0.0)
    decibels = []
    for number in range(1, FRAMES + 1):
        seconds = number / RATE
        camera = flight.camera(seconds)
        shown = engine.display(camera, town.look, budget, seconds, flight.course(seconds))
        engine.refine(max(budget.total - shown.rays, budget.key))
        if number % SCORED == 0:
            decibels.append(likeness(shown.buffers.rgb.numpy(), town.exact(camera).rgb.numpy()))
    return decibels


def reached(name: str, decibels: list[float]) -> bool:
    """Whether a flight is as good as it must be."""
    mean, least = FLOORS[name]
    return np.mean(decibels) >= mean and min(decibels) >= least


def likeness(picture: np.ndarray, exact: np.ndarray) -> float:
    """PSNR, dB."""
    return float(-10 * np.log10(np.mean((picture.astype(np.float64) - exact) ** 2)))


@pytest.mark.parametrize("name", FLOORS)
def test_a_moving_picture_is_close_to_the_exact_one(town, name):
    decibels = flown(town, town.flights[name])
    assert reached(name, decibels), (np.mean(decibels), decibels)


@pytest.mark.parametrize("name", ["orbit", "reversal", "low", "path"])
def test_without_rays_for_silhouettes_it_is_not(town, name):
    without = replace(BUDGET, total=BUDGET.total - BUDGET.edge, edge=0)
    assert not reached(name, flown(town, town.flights[name], without))


@pytest.mark.parametrize("name", ["turn", "reversal", "low"])
def test_without_points_it_is_not(town, name, monkeypatch):
    monkeypatch.setattr(Warp, "next", Warp.forget)
    assert not reached(name, flown(town, town.flights[name]))


@pytest.mark.parametrize("name", ["orbit", "turn", "low", "path"])
def test_with_keyframes_from_where_the_camera_was_it_is_not(town, name, monkeypatch):
    for lead in ("STEADY_LEAD", "UNSTEADY_LEAD"):
        monkeypatch.setattr(course, lead, 0.0)
    assert not reached(name, flown(town, town.flights[name]))
