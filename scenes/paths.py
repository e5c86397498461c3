"""The paths that a scene names: where they lead, and how they are written for a scene file elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..core.edits.layers import Copy, Layer, ReplaceBlock
from .schema import SceneSpec

SCENE_ENDINGS = (".yaml", ".yml")
PACKAGE = Path(__file__).resolve().parent.parent


def is_shipped(path: Path) -> bool:
    """Whether a file came with the program."""
    return path.resolve().is_relative_to(PACKAGE / "scenes")


def located(source: Path, named: Path) -> Path:
    """Returns a path that is relative to the scene file; ~/ is the home folder."""
    return named.expanduser() if named.parts[:1] == ("~",) else source.parent / named


def absolute(spec: SceneSpec, source: Path) -> SceneSpec:
    """Returns the scene of the file `source` with absolute paths."""
    return with_paths(spec, lambda named: Path(os.path.abspath(located(source, named))))


def relocated(spec: SceneSpec, source: Path, target: Path) -> SceneSpec:
    """Returns a scene whose paths lead from the file `target` to where those of `source` lead.

    Absolute ones stay; layers, which the window gives absolute paths, get relative ones.
    """

    def moved(named: Path) -> Path:
        return _written(located(source, named), target)

    def kept(named: Path) -> Path:
        return named if named.is_absolute() or named.parts[:1] == ("~",) else moved(named)

    return replace(with_paths(spec, kept), edits=with_paths(spec, moved).edits)


def with_paths(spec: SceneSpec, change: Callable[[Path], Path]) -> SceneSpec:
    """Returns a scene with every path changed."""
    model, dataset = spec.model, spec.dataset
    return replace(
        spec,
        model=replace(
            model,
            checkpoint=model.checkpoint and change(model.checkpoint),
            config=model.config and change(model.config),
        ),
        dataset=dataset
        and replace(dataset, path=change(dataset.path), cache=dataset.cache and change(dataset.cache)),
        edits=tuple(_with_paths(layer, change) for layer in spec.edits),
    )


def _with_paths(layer: Layer, change: Callable[[Path], Path]) -> Layer:
    if isinstance(layer, Copy):
        return replace(layer, source=layer.source and change(layer.source))
    if isinstance(layer, ReplaceBlock):
        return replace(layer, checkpoint=change(layer.checkpoint), mask=layer.mask and change(layer.mask))
    return layer


def _written(path: Path, target: Path) -> Path:
    """Returns a path as the scene file `target` names it: relative where it can be.

    What ships with the program is named in full: it stays where it is when the scene file is moved.
    """
    path = path.absolute()
    path = path.parent.resolve() / path.name  # a link is named itself, for its name says what it is
    if is_shipped(path):
        return path
    try:
        return Path(os.path.relpath(path, target.absolute().parent.resolve()))
    except ValueError:  # on another drive
        return path
