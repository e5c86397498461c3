"""Replaces files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from .errors import InputError

KEPT = "nothing was changed, make room or name another folder"


def write_whole(contents: Mapping[Path, Callable[[BinaryIO], object]], hint: str = KEPT) -> None:
    """Fills new files beside their places and renames them when all are complete and on the disk.

    A process that is killed, a full disk or an error in the middle leaves every old file as it was. What a
    killed process has left behind is overwritten by the next one.

    Args:
        contents: For each file the function that writes it. The files are renamed in this order.
        hint: What an error says after the reason.

    Raises:
        InputError: A file cannot be written.
    """
    path = next(iter(contents))
    temporary = {path: _temporary(path) for path in contents}
    try:
        try:
            for path, write in contents.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary[path].open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
            for path in contents:
                temporary[path].replace(path)
        finally:
            for left in temporary.values():
                left.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        reason = _system_error(error)
        if reason is None:
            raise
        raise InputError(f"{path} must be writable, got: {reason}; {hint}") from error


def check_writable(path: Path) -> None:
    """Finds out before long work whether a file can be written.

    Raises:
        InputError: It cannot.
    """
    temporary = _temporary(path)
    try:
        temporary.touch()
        temporary.unlink()
    except OSError as error:
        raise InputError(f"{path} must be writable, got: {error.strerror}") from None


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _system_error(error: BaseException | None) -> str | None:
    """Returns what the system said; torch.save hides it behind a RuntimeError of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return None if error is None else error.strerror or str(error)
