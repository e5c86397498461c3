"""Reads and writes what a scene file is made of, as `kinds` says it; the two undo one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from ..core.errors import InputError
from .kinds import Accepted, Kind, Listed, Section, Table, Variants

MAX_NAMED = 16  # keys that one error message lists


def section_of(part: type) -> Section:
    """Returns what a dataclass accepts whose fields are annotated with it; those in it likewise."""
    accepted: dict[str, Accepted] = {}
    for name, hint in get_type_hints(part, include_extras=True).items():
        accepted[name] = hint.__metadata__[0] if hasattr(hint, "__metadata__") else section_of(hint)
    return dataclass_section(part, accepted)


def dataclass_section(part: type, accepted: Mapping[str, Accepted], complete: bool = False) -> Section:
    """Returns what a dataclass accepts; fields without a default are required."""
    required = frozenset(
        f.name for f in fields(part) if f.default is MISSING and f.default_factory is MISSING
    )
    return Section(part, accepted, required & set(accepted), complete=complete)


# Reading


def read(accepted: Accepted, data: Any, where: str, path: str = "") -> Any:
    """Checks a value of a file and returns what it stands for.

    Args:
        accepted: What it may be.
        data: As YAML knows it.
        where: The file, which starts every error message.
        path: Keys that lead to the value.

    Raises:
        InputError: A key is unknown or missing, or has a value that is not accepted.
    """
    if isinstance(accepted, Kind):
        return _parse(accepted, data, _join(where, path))
    if isinstance(accepted, Listed):
        return _list(accepted, data, where, path)
    if isinstance(accepted, Section) and accepted.short and not isinstance(data, Mapping):
        return accepted.of(**{accepted.short_key: _parse(accepted.short, data, _join(where, path))})
    _check_mapping(data, where, path)
    if isinstance(accepted, Table):
        return _pairs(accepted, data, where, path)
    if isinstance(accepted, Variants):
        word = _parse(_word(accepted), data.get(accepted.key), f"{where}: {path}.{accepted.key}")
        rest = {key: value for key, value in data.items() if key != accepted.key}
        return _build(accepted.sections[word], rest, where, path)
    return _build(accepted, data, where, path)


def _build(section: Section, data: Mapping[Any, Any], where: str, path: str) -> Any:
    """Makes what a section stands for; a key without a value counts as not given."""
    prefix = f"{path}." if path else ""
    for key in data:
        if key not in section.accepted:
            raise InputError(f"{where}: {unknown_key(prefix, key, section.accepted)}")
    values = {}
    for key, accepted in section.accepted.items():
        if data.get(key) is not None:
            values[key] = read(accepted, data[key], where, f"{prefix}{key}")
        elif key in section.required:
            raise InputError(f"{where}: {prefix}{key} must be {_expected(accepted)}, got nothing")
    try:
        made = section.of(**values)
    except InputError as error:
        raise InputError(f"{_join(where, path)} {error}") from None
    if problem := getattr(made, "problem", None):
        raise InputError(f"{_join(where, path)} {problem}")
    return made


def _list(accepted: Listed, data: Any, where: str, path: str) -> tuple[Any, ...]:
    if not isinstance(data, list) or len(data) > accepted.most:
        got = f"{len(data)} entries" if isinstance(data, list) else show(data)
        raise InputError(f"{where}: {path} must be {_expected(accepted)}, got {got}")
    return tuple(read(accepted.of, value, where, f"{path}[{number}]") for number, value in enumerate(data))


def _pairs(accepted: Table, data: Mapping[Any, Any], where: str, path: str) -> tuple[tuple[str, Any], ...]:
    for name in data:
        if not isinstance(name, str):
            raise InputError(f"{where}: {path} must have text as keys, got {show(name)}; put it in quotes")
    return tuple((name, read(accepted.of, value, where, f"{path}.{name}")) for name, value in data.items())


def _check_mapping(data: Any, where: str, path: str) -> None:
    if not isinstance(data, Mapping):
        raise InputError(
            f"{where}: {path or 'the file'} must be a mapping of keys to values, got {show(data)}"
        )


def _parse(kind: Kind, value: Any, where: str) -> Any:
    try:
        return kind.parse(value)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{where} must be {kind.expected}, got {show(value)}") from None


def _word(variants: Variants) -> Kind:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in variants.sections:
            raise ValueError
        return value

    return Kind(" or ".join(variants.sections), parse)


def _expected(accepted: Accepted) -> str:
    if isinstance(accepted, Kind):
        return accepted.expected
    if isinstance(accepted, Listed):
        return f"a list of at most {accepted.most} entries"
    return "a mapping of keys to values"


def _join(where: str, path: str) -> str:
    return f"{where}: {path}" if path else where


# Writing


def write(accepted: Accepted, value: Any) -> Any:
    """Returns what `read` reads back as the value, made of what YAML knows."""
    if isinstance(accepted, Table):
        return {name: write(accepted.of, entry) for name, entry in value}
    if isinstance(accepted, Listed):
        return [write(accepted.of, entry) for entry in value]
    if isinstance(accepted, Variants):
        word = accepted.name_of(value)
        return {accepted.key: word, **_parts(accepted.sections[word], value)}
    if isinstance(accepted, Section):
        parts = _parts(accepted, value)
        is_short = accepted.short is not None and list(parts) == [accepted.short_key]
        return parts[accepted.short_key] if is_short else parts
    return _plain(value)


def _parts(section: Section, value: Any) -> dict[str, Any]:
    parts = section.parts(value) if section.parts else _stated(section, value)
    written = {key: write(section.accepted[key], part) for key, part in parts.items()}
    inner = {key for key, accepted in section.accepted.items() if isinstance(accepted, Section)}
    return {key: part for key, part in written.items() if part != {} or key not in inner}


def _stated(section: Section, value: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass that say something."""
    parts = {}
    for field in fields(value):
        part = getattr(value, field.name)
        if field.name not in section.accepted or part is None:
            continue
        if section.complete or field.default is MISSING or part != field.default:
            parts[field.name] = part
    return parts


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return float(value)  # YAML knows no number of NumPy
    return value.as_posix() if isinstance(value, Path) else value


# Messages


def unknown_key(prefix: str, key: Any, known: Mapping[str, Any]) -> str:
    """Says that a key is unknown, and names the nearest known one."""
    near = get_close_matches(str(key), known, n=1, cutoff=0.5 if len(known) <= MAX_NAMED else 0.0)
    advice = f"did you mean {prefix}{near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown key {prefix}{_clip(str(key))}; {advice}"


def show(value: Any) -> str:
    """Writes a value for an error message, in few characters."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    try:
        return _clip(repr(value))
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a huge number"


def _clip(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
