"""The folders form a one-way stack, viewer -> scenes -> core -> cuda, and each keeps its own libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
BELOW = {
    "viewer": {"viewer", "scenes", "core", "cuda.tables"},
    "scenes": {"scenes", "core"},
    "core": {"core", "cuda"},
    "cuda": {"cuda"},
}
OWNER = {"dearpygui": "viewer", "OpenGL": "viewer", "yaml": "scenes", "pycuda": "cuda"}


def modules(folder: str) -> list[Path]:
    """Returns the Python files of one folder."""
    return sorted((ROOT / folder).rglob("*.py"))


def dotted(source: Path) -> str:
    """Returns the module that a file holds: viewer/panels/__init__.py is viewer.panels."""
    parts = source.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: Path) -> set[str]:
    """Returns what one file imports: our own modules as `core.camera`, others as `numpy.linalg`.

    `from a import b` counts as a.b, since b may be a module.
    """
    package = [*source.relative_to(ROOT).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
    return {name.removeprefix("landmark_viewer.") for name in found}


def lies_in(name: str, package: str) -> bool:
    """Whether a dotted name is a package or something in it."""
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("folder", BELOW)
def test_folder_imports_only_itself_and_what_is_below_it(folder):
    for source in modules(folder):
        ours = {name for name in imports(source) if name.split(".")[0] in BELOW}
        stray = {name for name in ours if not any(lies_in(name, allowed) for allowed in BELOW[folder])}
        assert not stray, f"{source.relative_to(ROOT)} imports {sorted(stray)}"


@pytest.mark.parametrize(("library", "folder"), OWNER.items())
def test_library_is_imported_in_its_own_folder_only(library, folder):
    for other in BELOW.keys() - {folder}:
        for source in modules(other):
            assert not [name for name in imports(source) if lies_in(name, library)], source.relative_to(ROOT)


def test_everything_below_the_viewer_imports_without_a_window():
    sources = [source for folder in ("cuda", "core", "scenes") for source in modules(folder)]
    names = ["landmark_viewer." + dotted(source) for source in sources]
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
held = {{"dearpygui", "OpenGL"}} & sys.modules.keys()
assert not held, held
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_command_line_starts_without_torch_or_a_window():
    code = """
import sys
import landmark_viewer.viewer.cli
held = {"dearpygui", "torch"} & sys.modules.keys()
assert not held, held
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_package_is_listed_for_the_wheel():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(pyproject["tool"]["setuptools"]["packages"])
    held = {
        "landmark_viewer." + ".".join(source.parent.relative_to(ROOT).parts)
        for folder in BELOW
        for source in modules(folder)
    }
    assert held <= listed


def test_cuda_folder_stays_a_namespace():
    """With an __init__.py it would hide NVIDIA's package `cuda`, which torch may need."""
    assert not (ROOT / "cuda" / "__init__.py").exists()


def test_imports_are_found_however_they_are_spelled(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    source = tmp_path / "viewer" / "panels" / "map.py"
    source.parent.mkdir(parents=True)
    source.write_text(
        "import numpy.linalg\n"
        "from ...core import camera\n"
        "from ..state import ViewerState\n"
        "from . import scene\n"
        "from landmark_viewer.cuda.ops import render\n"
    )
    assert imports(source) == {
        "numpy.linalg",
        "core.camera",
        "viewer.state.ViewerState",
        "viewer.panels.scene",
        "cuda.ops.render",
    }
