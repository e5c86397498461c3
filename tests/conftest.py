"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .gui.driver import virtual_display

if TYPE_CHECKING:
    from landmark_viewer.core.render import Renderer
    from landmark_viewer.viewer.state import SceneFacts

ROOT = Path(__file__).resolve().parents[1]


def shared_folder() -> Path:
    """Returns the folder of test data that lies beside the checkout, or where the environment says."""
    return Path(os.environ.get("LANDMARK_VIEWER_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of test data: skips where there is none, fails where it lacks the reference renders."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip(f"no folder of test data at {folder}; set LANDMARK_VIEWER_SHARED to name another")
    if not (folder / "oracle").is_dir():
        pytest.fail(f"{folder} must hold the folder oracle")
    return folder


@cache
def has_cuda_device() -> bool:
    """Whether torch finds a CUDA device."""
    import torch

    return torch.cuda.is_available()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what is marked `gpu` on a machine without one: the only place that does."""
    if item.get_closest_marker("gpu") and not has_cuda_device():
        pytest.skip("needs a CUDA device")


@pytest.fixture(autouse=True)
def compiled_ahead() -> Iterator[None]:
    """Leaves no compiler at work behind a test that opened a scene: pictures are others until it is done."""
    yield
    from landmark_viewer.core import kernels

    if kernels._ahead is not None:
        kernels._ahead.join()


def missing_program(name: str) -> None:
    """Fails where tests must be complete (CI), skips elsewhere."""
    report = pytest.fail if os.environ.get("CI") else pytest.skip
    report(f"needs {name}; as root, make test installs it: apt-get install {name.lower()}")


@pytest.fixture(scope="session")
def xdisplay() -> Iterator[str]:
    """The name of a virtual X display of 1600 x 1000 pixels, as DISPLAY wants it."""
    for program in ("Xvfb", "xdotool"):
        if not shutil.which(program):
            missing_program(program)
    with virtual_display(1600, 1000) as display:
        yield display


@pytest.fixture(scope="session")
def native_kernels() -> None:
    """Skips where there is no compiler for the native kernels."""
    from landmark_viewer.cuda import build

    try:
        build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def field(native_kernels: None) -> Renderer:
    """A small field with three appearances that the native kernels render."""
    from landmark_viewer.core.render import Renderer

    from .small_fields import Shape, make_field

    return Renderer(make_field(Shape(levels=2, opacity=6.0, latent=3), seed=3))


@pytest.fixture(scope="session")
def scene_facts() -> SceneFacts:
    """What the window knows of a small made-up city of 2 x 2 blocks with four appearances."""
    from landmark_viewer.core.appearance import Appearance
    from landmark_viewer.viewer.state import Pose, SceneFacts

    return SceneFacts(
        path=Path("city.yaml"),
        name="City",
        kind="branch, 4 blocks",
        n_bytes=1 << 20,
        precision="half",
        aabb=((-1.0, -1.0, 0.0), (1.0, 1.0, 0.5)),
        division=(2, 2),
        present=(True, True, False, True),
        n_levels=2,
        n_directions=3,
        channels=((16, 16, 16), (48, 48, 48)),
        n_codes=4,
        styles=(("day", Appearance.of(0)), ("dusk", Appearance.of(3))),
        has_nerf=False,
        metres_per_unit=100.0,
        epsg=None,
        origin=(0.0, 0.0, 0.0),
        home=Pose((0.0, -2.0, 1.0), pitch=-0.5, distance=2.0),
        notices=(),
    )
