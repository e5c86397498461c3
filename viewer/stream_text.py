"""What streaming is doing, in words for panels and the status bar."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from ..core.streaming.contracts import STATES, BlockState, FetchRecord, StreamStatus
from .units import bytes_text, plural

RATE_WINDOW = 2.0  # seconds of which the rate of fetching is the mean
RESIDENT = [STATES.index(state) for state in (BlockState.DEVICE, BlockState.EDITED, BlockState.TUNED)]
FIGURE_SPACE = 2 * " "  # about as wide as a digit


def of_total(used: float, total: float) -> str:
    """Writes a share of a number of bytes, with one unit where both have the same: "5.8 of 8 GB"."""
    (value, unit), whole = bytes_text(used).split(), bytes_text(total)
    return f"{value} of {whole}" if whole.endswith(" " + unit) else f"{value} {unit} of {whole}"


def blocks_text(status: StreamStatus) -> str:
    """Says how many of the blocks that the view wants are there: "12 of 14 blocks"."""
    there = status.n_wanted - status.n_missing
    return f"{there} of {plural(status.n_wanted, 'block')}" if status.n_missing else plural(there, "block")


def resident_text(status: StreamStatus) -> str:
    """Says how many blocks are drawn from themselves: "128 blocks  ·  1.9 GB"."""
    count = int(np.isin(status.states, RESIDENT).sum())
    return f"{plural(count, 'block')}  ·  {bytes_text(status.device_bytes)}"


def rate_of(records: Sequence[FetchRecord], now: float) -> float:
    """Returns the bytes per second that were fetched of late.

    Args:
        records: Of fetches, oldest first.
        now: Seconds of time.monotonic().
    """
    fetched = 0
    for record in reversed(records):
        if now - record.finished > RATE_WINDOW:
            break
        fetched += 0 if record.error else record.n_bytes
    return fetched / RATE_WINDOW


def activity_text(status: StreamStatus, rate: float) -> str:
    """Says in one line what streaming does: "12 of 14 blocks  ·  84 MB/s  ·  2 failed"."""
    words = [blocks_text(status)]
    if rate and status.fetching:
        words.append(f"{bytes_text(rate)}/s")
    if status.failures:
        words.append(f"{len(status.failures)} failed")
    return "  ·  ".join(words)


def given_up(status: StreamStatus) -> list[str]:
    """Returns sentences on what is less than it could be, because of the budget; the newest last."""
    sentences = [each[:1].upper() + each[1:] for each in status.pressure]
    if status.n_beyond:
        verb = "stays" if status.n_beyond == 1 else "stay"
        sentences.append(f"{plural(status.n_beyond, 'block')} {verb} coarse: the memory budget is full")
    return sentences


def totals_text(status: StreamStatus, n_fetches: int) -> str:
    """Says what was fetched since the scene was opened, and how fast: "1.2 GB  ·  mean 210 MB/s"."""
    words = [bytes_text(status.fetched_bytes)]
    if status.fetch_seconds > 0 and status.fetched_bytes:
        words.append(f"mean {bytes_text(status.fetched_bytes / status.fetch_seconds)}/s")
    return "  ·  ".join(words) if n_fetches else "Nothing fetched yet"


def log_line(record: FetchRecord, now: float, clock: datetime) -> str:
    """Writes one line of the log of fetches, in columns of digits.

    Args:
        record: What was fetched.
        now: Seconds of time.monotonic() at `clock`.
        clock: Time of day.
    """
    when = clock - timedelta(seconds=now - record.finished)
    block = _padded(f"{record.key.block}", 5)
    version = f" (version {record.key.variant})" if record.key.variant else ""
    if record.error is not None:
        return f"{when:%H:%M:%S} {block}{version} failed: {record.error}"
    megabytes = _padded(f"{record.n_bytes / 1e6:.1f}", 5) + " MB"
    rate = _padded(f"{record.n_bytes / 1e6 / max(record.seconds, 1e-6):.0f}", 4) + " MB/s"
    return f"{when:%H:%M:%S} {block} {megabytes}  {rate}{version}"


def _padded(words: str, width: int) -> str:
    """Writes words at the right of a column of so many digits."""
    return FIGURE_SPACE * (width - len(words)) + words
