"""Writes a scene.yaml: whole or not at all, and so that reading it gives the same scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..core.errors import InputError
from ..core.whole_file import write_whole
from .schema import SceneSpec, scene_from_mapping, scene_to_mapping
from .yaml_file import FLOAT_PATTERN, FLOAT_STARTS, FLOAT_TAG, MAX_VALUES, count_values

_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Dumper(_Base):  # type: ignore[misc]
    """Quotes whatever our reader would take for a number, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> Any:
    """Writes text; what has characters that nobody sees goes into double quotes, where they are escaped."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)
_Dumper.add_implicit_resolver(FLOAT_TAG, FLOAT_PATTERN, FLOAT_STARTS)


def save_scene(path: Path, spec: SceneSpec) -> None:
    """Writes a scene file; an existing one is replaced only by a complete one.

    What equals its default is left out, save in the sections `dataset` and `train`, which are complete.

    Raises:
        InputError: The file cannot be written.
    """
    text = scene_text(spec, str(path)).encode()
    write_whole({path: lambda file: file.write(text)})


def scene_text(spec: SceneSpec, where: str) -> str:
    """Returns a scene file; `where` starts every error message.

    Raises:
        InputError: The scene holds something that could not be read back.
    """
    mapping = scene_to_mapping(spec)
    scene_from_mapping(mapping, where)
    if (n_values := count_values(mapping)) > MAX_VALUES:
        raise InputError(
            f"{where}: must hold at most {MAX_VALUES} values, got {n_values}; simplify the outlines of edits"
        )
    text: str = yaml.dump(
        mapping, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100
    )
    return text
