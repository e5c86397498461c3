"""How often pictures come while moving, and which rate rendering must keep so that drawing has its time."""

from __future__ import annotations

from collections import deque

WINDOW = 1.0  # seconds over which pictures are counted
SHORTEST = 0.25  # seconds between the first and the last of them, from which on they tell a rate
DRAWING_WEIGHT = 0.1  # of the newest drawing in the smoothed time
RENDER_SHARE = 0.5  # of the time of a picture that rendering gets at least, however slow drawing is


class FrameRate:
    """Counts the moving pictures of the last second. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()
        self._drawing = 0.0  # smoothed time that the window takes to draw a picture

    def clear(self) -> None:
        """Forgets the pictures; how long drawing takes is still true."""
        self._times.clear()

    def note_picture(self, now: float, moving: bool) -> float:
        """Counts a picture; returns how many moving ones come per second, 0 at rest and while few have come.

        The rate is that of the pauses between them, so that it is true from the first moment it is given.
        """
        if moving:
            self._times.append(now)
        while self._times and now - self._times[0] > WINDOW:
            self._times.popleft()
        seconds = self._times[-1] - self._times[0] if self._times else 0.0
        return (len(self._times) - 1) / seconds if moving and seconds >= SHORTEST else 0.0

    def note_drawing(self, seconds: float) -> None:
        """Learns how long the window takes to draw a moving picture."""
        self._drawing += DRAWING_WEIGHT * (seconds - self._drawing)

    def for_rendering(self, target: float) -> float:
        """Returns the pictures per second that rendering must manage, so that the window shows `target`."""
        left = max(1 / target - self._drawing, RENDER_SHARE / target)
        return 1 / round(left, 3)
