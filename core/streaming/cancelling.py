"""How a source learns, between two pieces of a long read, that nobody wants the block any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_reading = threading.local()


class ReadCancelled(Exception):  # noqa: N818 - not an error
    """The block that is being read is not wanted any more."""


def check_cancelled() -> None:
    """Called by sources between pieces of a read.

    Raises:
        ReadCancelled: The read that this thread is at is of no use any more; leave `read` with it.
    """
    is_cancelled = getattr(_reading, "is_cancelled", None)
    if is_cancelled is not None and is_cancelled():
        raise ReadCancelled


@contextmanager
def cancellable(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Lets reads of this thread be cancelled inside the block."""
    _reading.is_cancelled = is_cancelled
    try:
        yield
    finally:
        _reading.is_cancelled = None
