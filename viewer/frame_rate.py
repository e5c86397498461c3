"""How often pictures come while moving, and which rate rendering must keep so that drawing has its time."""

from __future__ import annotations

from collections import deque

WINDOW = 1.0  # seconds over which pictures are counted
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
        """Counts a picture and returns how many moving ones came per second, 0 while at rest."""
        if moving:
            self._times.append(now)
        while self._times and now - self._times[0] > WINDOW:
            self._times.popleft()
        return len(self._times) / WINDOW if len(self._times) > 1 else 0.0

    def note_drawing(self, seconds: float) -> None:
        """Learns how long the window takes to draw a moving picture."""
        self._drawing += DRAWING_WEIGHT * (seconds - self._drawing)

    def for_rendering(self, target: float) -> float:
        """Returns the pictures per second that rendering must manage, so that the window shows `target`."""
        left = max(1 / target - self._drawing, RENDER_SHARE / target)
        return 1 / round(left, 3)
