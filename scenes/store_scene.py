"""The scene file of a block store: what was said of the field that was converted holds for the store, too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..core.checkpoint.naming import STORE_INDEX
from ..core.edits.layers import ReplaceBlock
from .load import Scene, is_scene_file
from .paths import relocated
from .save import save_scene
from .schema import VERSION, ModelSpec, SceneSpec

SCENE_FILE = "scene.yaml"


def write_store_scene(scene: Scene, store: Path, division: tuple[int, int]) -> str | None:
    """Writes a store's scene.yaml, if there was a scene file before or anything to say.

    Args:
        scene: What was converted.
        store: Folder of the store.
        division: Blocks of the store along x and y.

    Returns:
        A sentence for the user, if something could not be kept or an older scene file stays.

    Raises:
        InputError: The file cannot be written.
    """
    model = ModelSpec(checkpoint=Path(STORE_INDEX))  # the store itself says everything else
    spec = replace(relocated(scene.spec, scene.source, store / SCENE_FILE), model=model)
    kept = tuple(layer for layer in spec.edits if not isinstance(layer, ReplaceBlock))
    lost = len(spec.edits) - len(kept)
    if lost and division != scene.model.layout.division:
        spec = replace(spec, edits=kept)
    else:
        lost = 0
    path = store / SCENE_FILE
    if is_scene_file(scene.source) or spec != SceneSpec(VERSION, model=model):
        save_scene(path, spec)
    elif path.exists():
        return f"{path} stays as it was; remove it if it does not suit what was converted."
    if not lost:
        return None
    layers = "1 layer that replaces a block is" if lost == 1 else f"{lost} layers that replace blocks are"
    return f"{layers} left out of {path}, as the store has other blocks."
