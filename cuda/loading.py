"""Loads the host libraries when they are first asked for, and remembers why where there is none."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from . import build

logger = logging.getLogger(__name__)

L = TypeVar("L")


class Loader(Generic[L]):
    """A host library, built and loaded on first use; or the sentence that says why there is none."""

    def __init__(self, source: str, load: Callable[[Path], L], use: str, level: str | None = None) -> None:
        """`source` and `level` are build.build's, `use` is what torch does where there is no library."""
        self._lock = threading.Lock()
        self._source, self._use, self._level = source, use, level
        self._open: Callable[[Path], L] = load
        self._found: L | str | None = None

    def get(self) -> L | str:
        """Returns the library or the sentence."""
        with self._lock:
            if self._found is None:
                self._found = self._load()
                if isinstance(self._found, str):
                    logger.warning("%s with torch: %s", self._use, self._found)
            return self._found

    def _load(self) -> L | str:
        if os.environ.get("LANDMARK_VIEWER_NATIVE", "1") == "0":
            return "LANDMARK_VIEWER_NATIVE=0 switches the native kernels off"
        try:
            path = build.build(self._level, source=self._source)
            try:
                return self._open(path)
            except (OSError, AttributeError):
                return self._open(build.build(self._level, rebuild=True, source=self._source))
        except build.BuildError as error:
            return str(error)
        except (OSError, AttributeError) as error:
            return f"the native kernels cannot be loaded: {error}"
