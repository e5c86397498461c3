"""Memory that nothing needs any more goes back to the system."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def release() -> None:
    """Frees what hangs in reference cycles, and hands back what glibc keeps of every thread's work."""
    gc.collect()
    trim()


def trim() -> None:
    """Hands back what glibc keeps of every thread's work; the interpreter runs on meanwhile."""
    with suppress(AttributeError, OSError, TypeError):  # other systems have no such call
        ctypes.CDLL(None).malloc_trim(0)
