"""YAML as data and nothing else: no tags, no anchors, no repeated keys, no surprises of size or depth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from ..core.errors import InputError
from .text_file import MIB, read_text

MAX_DEPTH = 32
MAX_VALUES = 400_000  # numbers, texts, lists and mappings of one file; some hundred MiB while it is read
MAX_BYTES = 16 * MIB

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """Refuses repeated keys, keeps dates as text, and reads 1e-3 as a number."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        letter: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Builds a mapping whose keys are distinct."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value} twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


FLOAT_TAG = "tag:yaml.org,2002:float"
FLOAT_PATTERN = re.compile(
    r"(?:[-+]?(?:(?:\d+\.\d*|\.\d+)(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?i:inf))|\.(?i:nan))$"
)
FLOAT_STARTS = list("-+.0123456789")
_Loader.add_implicit_resolver(FLOAT_TAG, FLOAT_PATTERN, FLOAT_STARTS)


def read_yaml(path: Path) -> Any:
    """Reads a YAML file.

    Raises:
        InputError: The file is unreadable, too large, not YAML, or uses tags, anchors or repeated keys.
    """
    return parse_yaml(read_text(path, "scene file", MAX_BYTES), str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Parses YAML text; `where` starts every error message."""
    try:
        _check_events(text, where)
        return yaml.load(text, Loader=_Loader)
    except InputError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(f"{where}{line}: must be valid YAML, got {error.problem or error.context}") from None
    except yaml.YAMLError:
        raise InputError(f"{where}: must be valid YAML, got characters that YAML does not allow") from None
    except (ValueError, OverflowError):
        raise InputError(f"{where}: must hold numbers of reasonable length") from None


def _check_events(text: str, where: str) -> None:
    """Refuses what could run code or grow without bound, before anything is built."""
    depth = n_values = 0
    for event in yaml.parse(text, Loader=_Base):
        n_values += isinstance(event, yaml.NodeEvent)
        tag = getattr(event, "tag", None)
        problem = None
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            problem = "must not use YAML anchors or aliases"
        elif tag not in (None, "!"):
            problem = f"must not use YAML tags, got {tag[:60]}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            problem = f"must be nested at most {MAX_DEPTH} levels deep"
        if n_values > MAX_VALUES:
            problem = f"must hold at most {MAX_VALUES} values"
        if problem:
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            raise InputError(f"{where}{line}: {problem}")


def count_values(data: Any) -> int:
    """Returns how many values there are in what YAML knows, counted as the limit of a file is."""
    if isinstance(data, dict):
        return 1 + len(data) + sum(map(count_values, data.values()))
    return 1 + sum(map(count_values, data)) if isinstance(data, list) else 1
