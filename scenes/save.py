"""Writes a scene.yaml: whole or not at all, and so that reading it gives the same scene."""

from __future__ import annotations

from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from ..core.whole_file import write_whole
from .kinds import Section, Table
from .schema import SceneSpec, section_of
from .training_sections import DATASET, TRAIN
from .yaml_file import FLOAT_PATTERN, FLOAT_STARTS, FLOAT_TAG


class _Dumper(yaml.SafeDumper):
    """Quotes whatever our reader would take for a number, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
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
    text = yaml.dump(
        scene_to_mapping(spec),
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=100,
    )
    write_whole({path: lambda file: file.write(text.encode())})


def scene_to_mapping(spec: SceneSpec) -> dict[str, Any]:
    """Returns the mapping that `scene_from_mapping` reads back as `spec`."""
    return section_to_mapping(section_of(SceneSpec), spec)


def section_to_mapping(section: Section, made: Any) -> dict[str, Any]:
    """Returns the mapping that a section reads back as the dataclass `made`."""
    mapping: dict[str, Any] = {}
    for its in fields(section.of):
        kind, value = section.accepted[its.name], getattr(made, its.name)
        if value is None:
            continue
        if isinstance(kind, Section):
            if inner := section_to_mapping(kind, value):
                mapping[its.name] = inner
        elif section in (DATASET, TRAIN) or its.default is MISSING or value != its.default:
            mapping[its.name] = dict(value) if isinstance(kind, Table) else _plain(value)
    return mapping


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Enum):
        return value.value
    return value.as_posix() if isinstance(value, Path) else value
