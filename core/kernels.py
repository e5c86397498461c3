"""Compiles the native kernels ahead of their first use; imports no torch, to run while torch loads."""

from __future__ import annotations

import logging
import os
import sys
import threading

from ..cuda import build

BEHIND_PICTURES = 10  # niceness at which is compiled what the first picture does not need
EDITED = ("probe", "edited")  # what pictures of edited scenes need beside what all need

log = logging.getLogger(__name__)

_ahead: threading.Thread | None = None
_next: tuple[str, ...] = ()  # what `compile_next` was asked for


def build_ahead() -> threading.Thread:
    """Starts to compile the kernels unless they are in the cache; whoever needs them waits for this build."""
    global _ahead, _next
    _next = ()
    _ahead = threading.Thread(target=_build, name="kernels", daemon=True)
    _ahead.start()
    return _ahead


def compile_next(libraries: tuple[str, ...]) -> None:
    """Says which of build.LIBRARIES the first picture needs beside the host's: they come before all else."""
    global _next
    _next = libraries


def is_building() -> bool:
    """Whether `build_ahead` is still at work, so that some kernels would have to be waited for."""
    return _ahead is not None and _ahead.is_alive()


def _build() -> None:
    try:
        build.build()
        build.build_all(_next)
        if sys.platform == "linux":  # where that means this thread, those that it starts and their compilers
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND_PICTURES)
        build.build_all(build.AHEAD)
    except build.BuildError as error:
        log.info("no native kernels: %s", error)  # the first use says so to the user
