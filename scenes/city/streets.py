"""The grid of streets: which lines are avenues, and how wide everything on them is. Metres."""

from __future__ import annotations

import numpy as np

from .noise import hash_noise

SIDEWALK = 3.5  # width beside each carriageway
_LANES = (4.0, 6.5)  # half width of the carriageway of a street and of an avenue
ALONG_X, ALONG_Y = 0, 1  # a line of constant y, a line of constant x


def half_carriageway(seed: int, axis: int, line: np.ndarray | int) -> np.ndarray:
    """Returns half the width of the carriageway on a line of the block grid.

    Args:
        seed: The town's seed.
        axis: `ALONG_X` for the line y = 100 * line, `ALONG_Y` for x = 100 * line.
        line: Number of the line. [...]
    """
    line = np.asarray(line)
    avenue = (line == 0) | (hash_noise(seed, 71 + axis, line) < 0.2)
    return np.where(avenue, _LANES[1], _LANES[0])
