"""Compiles the native kernels ahead of their first use; imports no torch, to run while torch loads."""

from __future__ import annotations

import logging
import os
import sys
import threading

from ..cuda import build

BEHIND_PICTURES = 10  # niceness at which is compiled what the first picture does not need

log = logging.getLogger(__name__)

_ahead: threading.Thread | None = None


def build_ahead() -> threading.Thread:
    """Starts to compile the kernels unless they are in the cache; whoever needs them waits for this build."""
    global _ahead
    _ahead = threading.Thread(target=_build, name="kernels", daemon=True)
    _ahead.start()
    return _ahead


def is_building() -> bool:
    """Whether `build_ahead` is still at work, so that some kernels would have to be waited for."""
    return _ahead is not None and _ahead.is_alive()


def _build() -> None:
    try:
        for source in build.AHEAD:
            build.build(source=source)
            if sys.platform == "linux":  # where that means this thread and the compilers that it starts
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND_PICTURES)
    except build.BuildError as error:
        log.info("no native kernels: %s", error)  # the first use says so to the user
