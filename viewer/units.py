"""Lengths and positions as the interface says them: metres and map coordinates where the scene knows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..cuda.tables import Quality
from .state import RenderStatus, SceneFacts

FRACTIONS = {1.0: "full", 0.5: "½", 0.25: "¼", 0.125: "⅛", 0.75: "¾"}
AXIS_NAMES = {True: ("Easting", "Northing", "Height"), False: ("X", "Y", "Z")}


@dataclass(frozen=True)
class Units:
    """How to turn scene units into what the user reads."""

    metres_per_unit: float | None = None
    epsg: int | None = None
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # map coordinates of the scene origin

    @classmethod
    def of(cls, scene: SceneFacts | None) -> Units:
        """Returns the units of a scene; plain scene units without one."""
        return cls(scene.metres_per_unit, scene.epsg, scene.origin) if scene else cls()

    @property
    def is_metric(self) -> bool:
        """Whether lengths are known in metres."""
        return self.metres_per_unit is not None

    @property
    def factor(self) -> float:
        """Displayed length of one scene unit."""
        return self.metres_per_unit or 1.0

    @property
    def symbol(self) -> str:
        """Unit of displayed lengths; scene units have none."""
        return "m" if self.is_metric else ""

    @property
    def axis_names(self) -> tuple[str, str, str]:
        """Names of the three coordinates."""
        return AXIS_NAMES[self.epsg is not None]

    def to_map(self, point: Sequence[float]) -> tuple[float, float, float]:
        """Turns a scene position into displayed coordinates."""
        x, y, z = (o + self.factor * float(p) for o, p in zip(self.origin, point, strict=True))
        return x, y, z

    def from_map(self, shown: Sequence[float]) -> tuple[float, float, float]:
        """Turns displayed coordinates into a scene position."""
        x, y, z = ((float(s) - o) / self.factor for o, s in zip(self.origin, shown, strict=True))
        return x, y, z

    def decimals(self, size: float) -> int:
        """Returns how many decimals tell positions apart in a scene of this size (scene units)."""
        return min(max(4 - math.ceil(math.log10(max(size * self.factor, 1e-6))), 0), 6)

    def length(self, value: float) -> str:
        """Writes a length given in scene units with three to four figures."""
        return self.with_symbol(figures(value * self.factor))

    def measured(self, value: float, sigma: float | None = None, power: int = 1) -> str:
        """Writes a length (power 1) or an area (2) with its uncertainty: "24.3 ± 0.4 m".

        Args:
            value: In scene units, to the power.
            sigma: One standard deviation; None leaves it out.
            power: Of the length that it is.
        """
        factor = self.factor**power
        symbol = self.symbol and self.symbol + {1: "", 2: "²"}[power]
        if sigma is None:
            return f"{figures(value * factor)} {symbol}".strip()
        words, spread = with_spread(value * factor, sigma * factor)
        return f"{words} ± {spread} {symbol}".strip()

    def speed(self, value: float) -> str:
        """Writes a speed given in scene units per second."""
        return f"{figures(value * self.factor)} {self.symbol}/s"

    def with_symbol(self, words: str) -> str:
        """Appends the unit, if there is one."""
        return f"{words} {self.symbol}".strip()


def figures(value: float) -> str:
    """Writes a number with about three figures and thin groups of thousands."""
    size = abs(value)
    decimals = 0 if size >= 1000 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return grouped(value, decimals)


def with_spread(value: float, sigma: float) -> tuple[str, str]:
    """Writes a number and its standard deviation to the same place: one figure of it, two if it is a 1."""
    if not sigma > 0:
        return figures(value), "0"
    place = math.floor(math.log10(sigma))
    leading = sigma / 10.0**place
    decimals = min(max(-place + (leading < 1.95), 0), 6)
    return grouped(value, decimals), grouped(sigma, decimals)


def grouped(value: float, decimals: int) -> str:
    """Writes a number with spaces between thousands."""
    return f"{value:,.{decimals}f}".replace(",", " ").replace("-0." + "0" * decimals, "0." + "0" * decimals)


def nice_length(limit: float) -> float:
    """Returns the largest of 1, 2, 5, 10, 20, 50, ... (or tenths) that is not above the limit."""
    power = 10.0 ** math.floor(math.log10(limit))
    return next(step * power for step in (5, 2, 1) if step * power <= limit * (1 + 1e-9))


def bytes_text(count: float) -> str:
    """Writes a number of bytes in the unit that leaves one to three digits before the point."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 99.5 or unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def resolution_text(scale: float) -> str:
    """Names the share of the full resolution per side."""
    return _fraction(scale) + " res"


def _fraction(scale: float) -> str:
    return FRACTIONS.get(round(scale, 3)) or percent(scale)


def quality_text(status: RenderStatus) -> str:
    """Says in one line what the picture is worth: "warped · 4 % new", "refining 43 %", "exact"."""
    if status.moving:
        return " · ".join(moving_words(status))
    if is_waiting(status):
        return f"waiting for {waiting_text(status)}"
    if not status.finished:
        return f"refining {percent(status.progress)}"
    share = "" if status.scale >= 1 else f" · {resolution_text(status.scale)}"
    return status.quality.value + share + (f" · {coarse_text(status)}" if status.coarse else "")


def moving_words(status: RenderStatus) -> list[str]:
    """Says what a moving picture is worth: how it was made, and what follows from that."""
    share = [] if status.scale >= 1 else [resolution_text(status.scale)]
    warp = status.warp
    if warp is None:
        if status.adaptive:
            return [f"adaptive {_fraction(status.scale)}", reason_text(status)]
        return ["moving", resolution_text(status.scale), status.quality.value]
    if warp.kind == "warped":
        return ["warped", *share, f"{percent(warp.fresh)} new"]
    return [warp.kind, *share]


def reason_text(status: RenderStatus) -> str:
    """Says in a few words why moving pictures do not rest on keyframes."""
    return status.adaptive.partition(":")[0]


def adaptive_sentence(status: RenderStatus) -> list[str]:
    """Says in a sentence why moving pictures do not rest on keyframes; nothing where they do."""
    return [f"No keyframes here: {status.adaptive}"] if status.adaptive else []


def warp_error_text(error: float | None) -> str:
    """Writes a mean squared error of colours in [0, 1] as the signal to noise ratio."""
    if error is None:
        return "not measured"
    return f"{-10 * math.log10(error):.1f} dB" if error > 0 else "exact"


def is_waiting(status: RenderStatus) -> bool:
    """Whether a picture at rest has all that there is, and blocks of it are still to come."""
    return not status.moving and not status.finished and status.progress > 0.999 and status.missing > 0


def waiting_text(status: RenderStatus) -> str:
    """Says how many blocks are still to come."""
    return plural(status.missing, "block")


def coarse_text(status: RenderStatus) -> str:
    """Says how much of a picture shows stand-ins of blocks, for which there is no room in memory."""
    return f"{percent(max(status.coarse, 0.01))} coarse"


def percent(share: float) -> str:
    """Writes a share as whole percent."""
    return f"{100 * share:.0f} %"


def plural(count: int, word: str) -> str:
    """Writes a number of things: "1 block", "10 000 blocks"."""
    return f"{grouped(count, 0)} {word}{'' if count == 1 else 's'}"


def duration_text(milliseconds: float) -> str:
    """Writes a duration in milliseconds or seconds."""
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def heading_text(yaw: float) -> str:
    """Writes a compass heading given in radians, from 0.0° to 359.9°."""
    degrees = round(math.degrees(yaw) % 360, 1)
    return f"{degrees % 360:.1f}°"


QUALITY_WORDS = {Quality.EXACT: "Exact", Quality.CLUSTERED: "Clustered", Quality.FAST: "Fast"}
