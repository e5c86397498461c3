"""The version of this program, as its files and its window state it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def program_version() -> str:
    """Returns the version of the installed package, or "unknown"."""
    try:
        return version("landmark-viewer")
    except PackageNotFoundError:
        return "unknown"
