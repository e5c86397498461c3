"""Compiles the native kernels ahead of their first use; imports no torch, to run while torch loads."""

from __future__ import annotations

import logging
import threading

from ..cuda import build

log = logging.getLogger(__name__)


def build_ahead() -> threading.Thread:
    """Starts to compile the kernels unless they are in the cache; whoever needs them waits for this build."""
    thread = threading.Thread(target=_build, name="kernels", daemon=True)
    thread.start()
    return thread


def _build() -> None:
    try:
        build.build()
    except build.BuildError as error:
        log.info("no native kernels: %s", error)  # the first use says so to the user
