"""The map of blocks as data: what each block is just now, how many there are of a kind, and its picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from ..core.streaming.contracts import STATES, BlockState, StreamStatus
from .plan import Plan
from .state import SceneFacts
from .units import bytes_text

NONE = 255  # in StreamStatus.states: there is no such block
GAPS, EDGES = 3, 6  # smallest sides of a block, in widths of a line, with gaps between, and with edges
PARTS = 3  # of a block in the picture: inside, edge, gap


class Kind(Enum):
    """What the map says of a block; the value is its name in the legend."""

    EXACT = "Exact"  # drawn from the block itself
    HOST = "Host"  # in main memory, not on the device
    COARSE = "Coarse"  # in view, drawn from its stand-in
    LOADING = "Loading"
    DISK = "On disk"
    FAILED = "Failed"
    EDITED = "Edited"
    TUNED = "Tuned"
    IN_VIEW = "In view"  # without streaming all blocks are in memory
    IN_MEMORY = "In memory"
    MISSING = "Missing"  # the checkpoint has no such block


KINDS = tuple(Kind)
NUMBER = {kind: number for number, kind in enumerate(KINDS)}
KIND_OF = {
    BlockState.DISK: Kind.DISK,
    BlockState.HOST: Kind.HOST,
    BlockState.FETCHING: Kind.LOADING,
    BlockState.DEVICE: Kind.EXACT,
    BlockState.EDITED: Kind.EDITED,
    BlockState.TUNED: Kind.TUNED,
    BlockState.FAILED: Kind.FAILED,
}
STREAMED = (Kind.EXACT, Kind.HOST, Kind.COARSE, Kind.LOADING, Kind.DISK, Kind.FAILED)  # always in the legend
WORDS = {Kind.MISSING: "not in this checkpoint", Kind.IN_VIEW: "in memory", Kind.IN_MEMORY: "in memory"}
STANDING = (Kind.IN_VIEW, Kind.IN_MEMORY, Kind.MISSING)  # the same, without streaming

_NUMBERS = np.array([NUMBER[KIND_OF[state]] for state in STATES], np.uint8)


def streamed_kinds(status: StreamStatus, seen: np.ndarray) -> np.ndarray:
    """Returns the kind of every block of a streamed field, as its place in KINDS. uint8 [n_blocks]

    Args:
        status: Of the streaming.
        seen: Which blocks the camera sees. bool [n_blocks]
    """
    exists = status.states != NONE
    kinds = np.where(exists, _NUMBERS[np.where(exists, status.states, 0)], NUMBER[Kind.MISSING])
    waiting = (kinds == NUMBER[Kind.DISK]) | (kinds == NUMBER[Kind.HOST])
    kinds[seen & waiting] = NUMBER[Kind.COARSE]
    return kinds.astype(np.uint8)


def standing_kinds(present: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Returns the kind of every block of a field that is in memory as a whole. uint8 [n_blocks]"""
    numbers = NUMBER[Kind.MISSING], NUMBER[Kind.IN_MEMORY], NUMBER[Kind.IN_VIEW]
    return np.array(numbers, np.uint8)[np.where(present, 1 + seen, 0)]


def counts_of(kinds: np.ndarray, always: tuple[Kind, ...]) -> list[tuple[Kind, int]]:
    """Returns the lines of the legend: the kinds that are `always` there, and others where there are any."""
    counts = np.bincount(kinds, minlength=len(KINDS)).tolist()
    rest = (kind for kind in KINDS if kind not in always and counts[NUMBER[kind]])
    return [(kind, counts[NUMBER[kind]]) for kind in (*always, *rest)]


Palette = np.ndarray  # fill and edge of each of KINDS, RGBA. uint8 [n_kinds, 2, 4]


def palette_of(colors: Mapping[Kind, tuple[tuple[int, ...], tuple[int, ...]]]) -> Palette:
    """Returns the palette of (fill, edge) for every kind."""
    return np.array([colors[kind] for kind in KINDS], np.uint8)


def picture(kinds: np.ndarray, scene: SceneFacts, plan: Plan, palette: Palette, line: int = 1) -> np.ndarray:
    """Draws all blocks as they lie on a plan, one pixel for one, clear where there is nothing.

    Args:
        kinds: Of the blocks, as places in KINDS. uint8 [n_blocks]
        scene: Where they lie.
        plan: That they are drawn on.
        palette: Their colours.
        line: Width of edges and gaps, pixels.

    Returns:
        uint8 [height, width, 4], row 0 in the north.
    """
    (x0, y0, _), (x1, y1, _) = scene.aabb
    columns, rows = scene.division
    column, across = _cells(plan.to_plan(x0, y0)[0], plan.to_plan(x1, y0)[0], columns, plan.width, line)
    row, along = _cells(plan.to_plan(x0, y1)[1], plan.to_plan(x0, y0)[1], rows, plan.height, line)
    part = np.maximum(along[:, None], across[None, :])
    kind = kinds.reshape(columns, rows)[:, ::-1].T[row[:, None], column[None, :]]
    colors = np.zeros((len(KINDS), PARTS, 4), np.uint8)
    colors[:, :2] = palette
    packed = colors.view(np.uint32)[..., 0]
    image: np.ndarray = packed[kind, part].view(np.uint8).reshape(plan.height, plan.width, 4)
    return image


def _cells(start: float, end: float, count: int, size: int, line: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the cell that each pixel of a line lies in, and which part of it that is. [size] both

    Args:
        start: Pixel at which the first cell begins.
        end: At which the last one ends.
        count: Of cells.
        size: Of the line, pixels.
        line: Width of edges and gaps, pixels.
    """
    bounds = np.rint(np.linspace(start, end, count + 1)).astype(np.int64)
    pixels = np.arange(size)
    cell = np.clip(np.searchsorted(bounds, pixels, side="right") - 1, 0, count - 1)
    before, after = pixels - bounds[cell], bounds[cell + 1] - 1 - pixels
    side = (end - start) / count
    if side >= EDGES * line:
        near = np.minimum(before, after)
        part = np.where(near < line, 2, np.where(near < 2 * line, 1, 0))
    else:  # too small to have an inside
        part = np.where((before < line) & (side >= GAPS * line), 2, 1)
    part[(before < 0) | (after < 0)] = 2
    return cell, part


@dataclass(frozen=True)
class BlockFacts:
    """What there is to say of one block."""

    block: int
    place: tuple[int, int]  # column from the west, row from the south
    kind: Kind
    n_bytes: int = 0  # in memory, 0: none or not known
    is_pinned: bool = False
    is_coming: bool = False  # wanted for where the camera will be
    failure: str = ""

    @classmethod
    def of(
        cls, scene: SceneFacts, block: int, kind: Kind, status: StreamStatus | None, is_pinned: bool = False
    ) -> BlockFacts:
        """Collects the facts of one block; `status` is that of the streaming, None without."""
        place = divmod(block, scene.division[1])
        if status is None:
            return cls(block, place, kind)
        failure = next((reason for number, reason in status.failures if number == block), "")
        is_coming = block in status.prefetching
        return cls(block, place, kind, int(status.block_bytes[block]), is_pinned, is_coming, failure)

    @property
    def line(self) -> str:
        """One line: "Block 4, 2  ·  Exact  ·  92 MB"."""
        return "  ·  ".join([f"Block {self.place[0]}, {self.place[1]}", *self._facts])

    @property
    def lines(self) -> list[str]:
        """Several lines, for a tooltip."""
        where = f"Block {self.block}  ·  column {self.place[0]}, row {self.place[1]}"
        return [where, "  ·  ".join(self._facts), *([self.failure] if self.failure else [])]

    @property
    def _facts(self) -> list[str]:
        words = {
            Kind.MISSING: "not in this checkpoint",
            Kind.IN_VIEW: "in memory",
            Kind.IN_MEMORY: "in memory",
        }
        facts = [words.get(self.kind, self.kind.value)]
        if self.n_bytes:
            facts.append(bytes_text(self.n_bytes))
        if self.is_pinned:
            facts.append("pinned")
        if self.is_coming:
            facts.append("wanted soon")
        return facts
