"""When the window is drawn: at once after an event, slowly while tooltips may appear, else not at all."""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST = 1 / 60  # seconds between two drawings
LINGER = 0.7  # seconds after an event in which tooltips and hover marks may still appear
LINGER_INTERVAL = 0.12  # seconds between two drawings then
HELD_BACK = 0.1  # seconds that a drag waits for its picture before the window is drawn without it
LONGEST_WAIT = 1.0  # seconds


@dataclass
class Pace:
    """Counts the drawings that are owed. Times are seconds of any one clock."""

    owed: int = 4  # drawings as soon as possible
    linger_until: float = 0.0
    held_until: float = 0.0
    last: float = 0.0

    def touch(self, now: float, drawings: int = 3) -> None:
        """Something happened that the window must show."""
        self.owed = max(self.owed, drawings)
        self.linger_until = now + LINGER

    def hold(self, now: float) -> None:
        """The camera is being dragged: its next picture and the window are better drawn together."""
        if self.held_until <= self.last:
            self.held_until = now + HELD_BACK
        self.owed = max(self.owed, 1)

    def release(self) -> None:
        """A picture is here: draw now."""
        self.held_until = 0.0
        self.owed = max(self.owed, 1)

    def due(self, now: float) -> bool:
        """Whether to draw now."""
        return now >= self.next_time(now)

    def drew(self, began: float) -> None:
        """The window was drawn, from then on."""
        self.last = began
        self.held_until = 0.0
        self.owed = max(self.owed - 1, 0)

    def next_time(self, now: float) -> float:
        """Returns when to draw next, at most LONGEST_WAIT ahead."""
        if self.owed:
            return max(self.last + SHORTEST, self.held_until)
        if now < self.linger_until:
            return max(self.last + LINGER_INTERVAL, self.held_until)
        return now + LONGEST_WAIT
