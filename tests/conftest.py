"""Fixtures that every test may use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from .gui.driver import virtual_display

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
