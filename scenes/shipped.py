"""Where the scene lies that ships with the program; needs nothing else, so that a window can ask at once."""

from __future__ import annotations

from pathlib import Path


def demo_scene_path() -> Path:
    """Returns the scene that ships with the program."""
    return Path(__file__).resolve().parent / "demo" / "scene.yaml"
