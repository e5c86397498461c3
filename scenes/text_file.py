"""Text files from others: read whole, but never more than a stated size."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import InputError

MIB = 2**20


def read_text(path: Path, kind: str, limit: int = MIB) -> str:
    """Reads a UTF-8 text file of at most `limit` bytes; `kind` names it in errors, such as "scene file".

    Raises:
        InputError: The file is unreadable, larger, or not text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InputError(f"{path} must be a readable {kind}, got: {error.strerror}") from None
    if len(data) > limit:
        raise InputError(f"{path} must be a {kind} of at most {limit // MIB} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path} must be a {kind} in UTF-8 text, got binary data") from None
