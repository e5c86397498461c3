"""The wheel carries everything the viewer needs and works from any folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from .conftest import ROOT

FOLDERS = ("viewer", "core", "cuda", "scenes")
NOT_PACKAGED = "window.png"  # the picture in the README
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from a copy of the sources: setuptools writes beside them, and keeps what was deleted."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in FOLDERS:
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", NOT_PACKAGED)
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", "dist", "."]
    subprocess.run(command, cwd=copy, check=True)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder in which the wheel is installed, apart from the checkout."""
    target = tmp_path_factory.mktemp("site")
    command = [*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)]
    subprocess.run(command, check=True)
    return target


def run_viewer(installed: Path, folder: Path, *arguments: str) -> str:
    """Runs the installed command line in a folder that holds nothing of ours and returns what it prints."""
    environment = dict(os.environ, PYTHONPATH=str(installed))
    command = [sys.executable, "-m", "landmark_viewer.viewer.cli", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def declared_version() -> str:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    assert found
    return found[1]


def test_wheel_holds_every_file_of_the_four_folders(wheel):
    copy = wheel.parents[1]
    files = [
        path.relative_to(copy) for folder in FOLDERS for path in (copy / folder).rglob("*") if path.is_file()
    ]
    held = set(zipfile.ZipFile(wheel).namelist())
    assert not {f"landmark_viewer/{file.as_posix()}" for file in files} - held


def test_wheel_holds_nothing_but_the_package_and_its_licence(wheel):
    metadata = f"landmark_viewer-{declared_version()}.dist-info"
    held = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in held} == {"landmark_viewer", metadata}
    assert f"{metadata}/licenses/LICENSE" in held


@pytest.mark.parametrize(
    "pattern",
    ["cuda/csrc/*.h", "viewer/fonts/*.ttf", "scenes/demo/*.th", "scenes/demo/*.yaml", "scenes/demo/LICENSE*"],
)
def test_wheel_holds_what_is_not_python(wheel, pattern):
    held = map(Path, zipfile.ZipFile(wheel).namelist())
    assert [path for path in held if path.match(f"landmark_viewer/{pattern}")]


def test_installed_modules_come_from_the_wheel(installed, tmp_path):
    code = """
import landmark_viewer.cuda.tables, landmark_viewer.viewer.cli
print(landmark_viewer.cuda.tables.__file__, landmark_viewer.viewer.cli.__file__)
"""
    environment = dict(os.environ, PYTHONPATH=str(installed))
    command = [sys.executable, "-c", code]
    files = subprocess.check_output(command, cwd=tmp_path, env=environment, text=True).split()
    assert all(Path(file).is_relative_to(installed) for file in files), files


def test_installed_version_is_the_declared_one(installed, tmp_path):
    assert run_viewer(installed, tmp_path, "--version").split()[-1] == declared_version()


def test_installed_viewer_renders_the_demo(installed, tmp_path):
    run_viewer(installed, tmp_path, "render", "demo", "-o", "demo.png", "--size", "32x24")
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.size == (32, 24)
        assert len(picture.convert("RGB").getcolors(32 * 24) or []) > 50
