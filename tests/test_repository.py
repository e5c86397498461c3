"""What the repository promises: nothing large, everything pinned, documents that agree with the code."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from .conftest import ROOT
from .test_layers import tomllib

LARGEST_FILE = 12_000_000
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")


def repository_files() -> list[Path]:
    """Returns the files that git keeps, or would keep after the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def document(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def dependencies() -> list[Requirement]:
    """Returns what `make` installs; the extra `cuda` is for machines that this list cannot know."""
    project = pyproject()["project"]
    return [Requirement(line) for line in project["dependencies"] + project["optional-dependencies"]["dev"]]


def pins(python: str) -> dict[str, Requirement]:
    """Returns the pinned packages for one version of Python by lower-case name."""
    lines = [line.split("#")[0].strip() for line in document("constraints.txt").splitlines()]
    wanted = [pin for pin in map(Requirement, filter(None, lines)) if applies(pin, python)]
    assert len({pin.name for pin in wanted}) == len(wanted), "a package is pinned twice"
    return {pin.name.lower(): pin for pin in wanted}


def applies(requirement: Requirement, python: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"python_version": python})


def test_no_file_is_large():
    assert not [path for path in repository_files() if path.stat().st_size > LARGEST_FILE]


def test_no_file_names_a_path_of_this_machine():
    paths = [str(path).encode() for path in (ROOT, ROOT.parent / "shared", Path.home() / ".cache")]
    assert not [path for path in repository_files() if any(name in path.read_bytes() for name in paths)]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_dependency_is_pinned_within_its_range(python):
    pinned = pins(python)
    for dependency in dependencies():
        if applies(dependency, python):
            (specifier,) = pinned[dependency.name.lower()].specifier
            assert specifier.operator == "=="
            assert dependency.specifier.contains(specifier.version), dependency


def test_every_pin_is_exact():
    for python in PYTHONS:
        for pin in pins(python).values():
            assert [specifier.operator for specifier in pin.specifier] == ["=="], pin


def test_changelog_knows_this_version():
    assert f"## [{pyproject()['project']['version']}]" in document("CHANGELOG.md")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_in_a_document_exists(name):
    targets = set(re.findall(r"^([a-z][a-z-]*):", document("Makefile"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)\b", "".join(code_of(name)))) <= targets


def test_readme_shows_the_table_of_keys_of_the_code():
    from landmark_viewer.viewer.shortcuts import markdown_table

    assert markdown_table() in document("README.md")


def code_of(name: str) -> list[str]:
    """Returns the code of a document: its fenced blocks and what stands in back quotes."""
    return re.findall(r"```.*?```|`[^`]+`", document(name), re.DOTALL)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_linked_file_exists(name):
    links = re.findall(r"\]\(([^)#:]+)\)", document(name))
    assert not [link for link in links if not (ROOT / link).exists()]


@pytest.mark.parametrize("script", [".ci/run", "tools/setup.sh", "tools/open.sh"])
def test_script_parses_and_is_executable(script):
    subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)
    assert (ROOT / script).stat().st_mode & 0o111
