"""Where the scenes lie that ship with the program; needs nothing else, so that a window can ask at once."""

from __future__ import annotations

from pathlib import Path

SHIPPED = {"demo": "scene.yaml", "brighton": "brighton_beach.yaml"}  # by the word that opens them


def demo_scene_path(word: str = "demo") -> Path:
    """Returns a scene that ships with the program: `demo`, a town, or `brighton`, a real place."""
    return Path(__file__).resolve().parent / "demo" / SHIPPED[word]
