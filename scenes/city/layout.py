"""What stands on each block of the town: a pure function of the seed and the block's index.

Block (i, j) is the square of 100 m whose south-west corner is at x = 100 i, y = 100 j. The town's middle is
at the origin: an extent of n blocks reaches from -(n // 2) on. Metres.
"""

from __future__ import annotations

from dataclasses import dataclass

from .buildings import BUILDERS, Building, Rect
from .noise import Dice, hash_noise
from .solids import CONIFER, DECK, FOLIAGE, PLAIN, Z1, Color, Paint, SolidList, Solids
from .streets import ALONG_X, ALONG_Y, SIDEWALK, half_carriageway
from .terrain import BANK, BLOCK, RIVER_HALF_WIDTH, ground_height, river_center

MAX_PER_BLOCK = 6  # building numbers end in the building's place in its block
ID_OFFSET = 500  # of block indices inside a building's number
HIGHEST_TOP = 100.0  # no solid reaches above this, metres
LANDMARK_BLOCK = (0, 0)
CAR_COLORS: tuple[Color, ...] = (
    (0.85, 0.85, 0.85),
    (0.25, 0.27, 0.30),
    (0.72, 0.18, 0.16),
    (0.20, 0.36, 0.58),
    (0.60, 0.62, 0.64),
)
SQUARE, CORE, TOWN, SUBURB, PARK, RIVERSIDE = "square", "core", "town", "suburb", "park", "riverside"


@dataclass(frozen=True)
class Pond:
    """An elliptic pond; its axes lie along x and y."""

    x: float
    y: float
    radius_x: float
    radius_y: float


@dataclass(frozen=True)
class Block:
    """The content of one block."""

    index: tuple[int, int]
    kind: str
    buildings: tuple[Building, ...]
    others: Solids  # trees, bridges and cars
    pond: Pond | None


def building_number(block: tuple[int, int], place: int) -> int:
    """Returns a building's number: three digits each for i + 500 and j + 500, one for its place."""
    return ((block[0] + ID_OFFSET) * 1000 + block[1] + ID_OFFSET) * 10 + place


def block_of(building: int) -> tuple[int, int]:
    """Returns the block of a building's number."""
    return building // 10_000 - ID_OFFSET, building // 10 % 1000 - ID_OFFSET


def block_kind(seed: int, block: tuple[int, int]) -> str:
    """Returns what a block is: a square, part of the core, town or suburb, a park, or on the river."""
    i, j = block
    if block == LANDMARK_BLOCK:
        return SQUARE
    if j == -1:
        return RIVERSIDE
    roll = float(hash_noise(seed, 11, i, j))
    if roll < 0.10 and block != (-1, 0):
        return PARK
    away = max(abs(i + 0.5), abs(j + 0.5))
    middle = float(hash_noise(seed, 12, i // 6, j // 6))  # some districts have a core of their own
    dense = max(1.25 - away / 5.0, 0.75 - away / 40.0 if middle < 0.18 else 0.0) + 0.3 * (roll - 0.5)
    if dense > 0.6:
        return CORE
    return TOWN if dense > 0.1 or middle > 0.55 else SUBURB


class _Planner:
    """Puts one block together."""

    def __init__(self, seed: int, block: tuple[int, int]) -> None:
        self.seed = seed
        self.block = block
        self.dice = Dice("block", seed, *block)
        self.kind = block_kind(seed, block)
        self.buildings: list[Building] = []
        self.others = SolidList()
        self.pond: Pond | None = None
        i, j = block
        self.curbs = (
            tuple(  # from each side of the block to the edge of the carriageway: west, south, east, north
                float(half_carriageway(seed, axis, line))
                for axis, line in ((ALONG_Y, i), (ALONG_X, j), (ALONG_Y, i + 1), (ALONG_X, j + 1))
            )
        )
        x, y = i * BLOCK, j * BLOCK
        west, south, east, north = (curb + SIDEWALK for curb in self.curbs)
        self.inside: Rect = (x + west, y + south, x + BLOCK - east, y + BLOCK - north)

    def ground(self, x: float, y: float) -> float:
        return float(ground_height(self.seed, x, y))

    def build(self, kind: str, rect: Rect, floors: int) -> None:
        """Puts up a building of a kind on a rectangle."""
        ground = self.ground((rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2)
        number = building_number(self.block, len(self.buildings))
        parts = SolidList(number)
        footprint = BUILDERS[kind](self.dice, parts, rect, ground, floors)
        solids = parts.solids()
        height = float(solids.shape[:, Z1].max()) - ground
        self.buildings.append(Building(number, self.block, kind, footprint, ground, height, solids))

    def lots(self, columns: int, rows: int, gap: float) -> list[Rect]:
        """Divides the inside of the block into lots whose borders are jittered."""
        x0, y0, x1, y1 = self.inside
        xs = [x0 + (x1 - x0) * column / columns for column in range(columns + 1)]
        rects = []
        for column in range(columns):
            ys = [y0 + (y1 - y0) * row / rows for row in range(rows + 1)]
            for row in range(1, rows):
                ys[row] += self.dice.between(-3.0, 3.0)
            for row in range(rows):
                lot = (xs[column], ys[row], xs[column + 1], ys[row + 1])
                rects.append((lot[0] + gap, lot[1] + gap, lot[2] - gap, lot[3] - gap))
        return rects

    def tree(self, x: float, y: float, size: float = 1.0, conifers: float = 0.0) -> None:
        """Plants a tree: a trunk and a crown."""
        dice = self.dice
        ground = self.ground(x, y)
        bark = Paint(PLAIN, (0.40, 0.30, 0.22), (0.40, 0.30, 0.22))
        phase = dice.between(0, 1)
        if dice.chance(conifers):
            height = size * dice.between(8.0, 11.0)
            self.others.box((x - 0.3, y - 0.3, x + 0.3, y + 0.3), (ground - 0.5, ground + 1.5), bark)
            needles = Paint(CONIFER, (0.20, 0.36, 0.22), phase=phase)
            self.others.frustum(x, y, (ground + 1.2, ground + height), (size * 2.5, 0.1), needles)
            return
        radius = size * dice.between(2.2, 3.0)
        low = ground + size * dice.between(1.5, 2.2)
        self.others.box((x - 0.3, y - 0.3, x + 0.3, y + 0.3), (ground - 0.5, low + radius), bark)
        leaves = Paint(FOLIAGE, (0.36, 0.52, 0.22), phase=phase)
        self.others.ellipsoid(x, y, (low, low + radius * dice.between(2.0, 2.6)), radius, leaves)

    def is_dry(self, x: float, y: float, margin: float) -> bool:
        """Tells whether a point keeps its distance from the river and the pond."""
        if self.kind == RIVERSIDE:
            away = abs(y - float(river_center(self.seed, x)))
            return away > RIVER_HALF_WIDTH + BANK + margin
        if self.pond:
            u = (x - self.pond.x) / (self.pond.radius_x + margin)
            v = (y - self.pond.y) / (self.pond.radius_y + margin)
            return u * u + v * v > 1
        return True

    def is_free(self, x: float, y: float, margin: float) -> bool:
        """Tells whether a point is outside every building, by a margin."""
        for building in self.buildings:
            xs, ys = zip(*building.footprint, strict=True)
            if min(xs) - margin < x < max(xs) + margin and min(ys) - margin < y < max(ys) + margin:
                return False
        return True

    # The kinds of blocks

    def plan(self) -> None:
        """Fills the block."""
        {
            SQUARE: self._square,
            CORE: self._core,
            TOWN: self._town,
            SUBURB: self._suburb,
            PARK: self._park,
            RIVERSIDE: self._riverside,
        }[self.kind]()
        self._street_trees()
        self._cars()

    def _square(self) -> None:
        x0, y0, x1, y1 = self.inside
        x, y = x0 + 24.0, y0 + 25.0
        self.build("landmark", (x - 9.0, y - 9.0, x + 9.0, y + 9.0), 0)
        dice = self.dice
        self.build("church", (x0 + 4.0, y1 - 19.0, x0 + 36.0, y1 - 5.0), 2)
        self.build("flats", (x1 - 21.0, y0 + 2.0, x1 - 2.0, y0 + 36.0), dice.whole(4, 6))
        self.build("tower", (x1 - 27.0, y1 - 28.0, x1 - 2.0, y1 - 2.0), dice.whole(11, 13))
        for px, py in ((x0 + 6, y0 + 6), (x0 + 42, y0 + 6), (x0 + 6, y0 + 42), (x0 + 42, y0 + 42)):
            for dx, dy in ((0.0, 0.0), (6.0, 0.0), (0.0, 6.0)):
                if self.is_free(px + dx, py + dy, 2.5):
                    self.tree(px + dx, py + dy, 0.95)

    def _core(self) -> None:
        dice = self.dice
        columns, rows = (3, 2) if dice.chance(0.5) else (2, 3)
        for rect in self.lots(columns, rows, dice.between(1.5, 2.6)):
            if len(self.buildings) > 3 and dice.chance(0.12):
                self._yard(rect)
                continue
            kind = "tower" if dice.chance(0.12) else "flats"
            self.build(kind, rect, dice.whole(11, 15) if kind == "tower" else dice.whole(4, 11))

    def _town(self) -> None:
        dice = self.dice
        if dice.chance(0.07):
            x0, y0, x1, y1 = self.inside
            middle = (y0 + y1) / 2
            self.build("church", (x0 + 14.0, middle - 8.0, x1 - 14.0, middle + 8.0), dice.whole(2, 4))
            self._yard(self.inside)
            return
        columns, rows = ((2, 2), (2, 3), (3, 2))[dice.whole(0, 2)]
        for rect in self.lots(columns, rows, dice.between(2.5, 4.0)):
            roll = dice.between(0, 1)
            if roll < 0.12:
                self._yard(rect)
            elif roll < 0.20:
                self.build("hall", rect, 2)
            elif roll < 0.55:
                self.build("house", self._shrunk(rect, 0.5, 0.85), dice.whole(2, 4))
            else:
                self.build("flats", self._shrunk(rect, 0.75, 1.0), dice.whole(2, 6))
        if not self.buildings:
            self.build("flats", self._shrunk(self.inside, 0.4, 0.6), dice.whole(3, 5))

    def _suburb(self) -> None:
        dice = self.dice
        columns, rows = (3, 2) if dice.chance(0.5) else (2, 3)
        for rect in self.lots(columns, rows, 4.0):
            if not dice.chance(0.12) or not self.buildings:
                self.build("house", self._shrunk(rect, 0.42, 0.62), dice.whole(1, 2))
        for rect in self.lots(columns, rows, 3.0):
            self._yard(rect)

    def _park(self) -> None:
        dice = self.dice
        x0, y0, x1, y1 = self.inside
        rx, ry = dice.between(12.0, 18.0), dice.between(9.0, 14.0)
        px, py = dice.between(x0 + rx + 8, x1 - rx - 8), dice.between(y0 + ry + 8, y1 - ry - 8)
        self.pond = Pond(px, py, rx, ry)
        west = px > (x0 + x1) / 2  # the pavilion stands across the park from the pond
        x = x0 + 14.0 if west else x1 - 14.0
        y = y1 - 12.0 if py < (y0 + y1) / 2 else y0 + 12.0
        self.build("house", (x - 7.0, y - 5.0, x + 7.0, y + 5.0), 1)
        for _ in range(46):
            x, y = dice.between(x0 + 3, x1 - 3), dice.between(y0 + 3, y1 - 3)
            if self.is_dry(x, y, 3.5) and self.is_free(x, y, 3.5):
                self.tree(x, y, dice.between(0.9, 1.4), conifers=0.3)

    def _riverside(self) -> None:
        dice = self.dice
        x0, y0, x1, y1 = self.inside
        for south in (False, True):
            x = x0 + 1.0
            while x < x1 - 9.0 and len(self.buildings) < (6 if south else 3):
                wide = dice.between(17.0, 27.0)
                wide = wide if x + wide + 10.0 < x1 else x1 - 1.0 - x
                bank = RIVER_HALF_WIDTH + BANK + 8.0
                near = [float(river_center(self.seed, at)) for at in (x, x + wide / 2, x + wide)]
                low, high = (y0 + 1.0, min(near) - bank) if south else (max(near) + bank, y1 - 1.0)
                high, low = (min(high, low + 15.0), low) if south else (high, max(low, high - 15.0))
                if high - low > 8.0 and not dice.chance(0.1):
                    self.build("house", (x, low, x + wide - 1.2, high), dice.whole(2, 4))
                x += wide + 0.5
            for x in range(int(x0) + 6, int(x1) - 3, 9):
                side = -1.0 if south else 1.0
                y = float(river_center(self.seed, x)) + side * (RIVER_HALF_WIDTH + BANK + 2.8)
                if y0 < y < y1 and self.is_free(x, y, 3.0):
                    self.tree(x, y, 0.85)
        self._bridges()

    def _bridges(self) -> None:
        """Lays the block's halves of the bridges on its west and its east side."""
        x0, x1 = self.block[0] * BLOCK, (self.block[0] + 1) * BLOCK
        stone = Paint(DECK, (0.50, 0.49, 0.48), (0.80, 0.76, 0.68))
        rail = Paint(PLAIN, (0.86, 0.83, 0.76), (0.86, 0.83, 0.76))
        for x, curb, inward in ((x0, self.curbs[0], 1.0), (x1, self.curbs[2], -1.0)):
            y = float(river_center(self.seed, x))
            reach = RIVER_HALF_WIDTH + BANK + 2.5
            edge = x + inward * (curb + SIDEWALK)
            deck = (min(x, edge), y - reach, max(x, edge), y + reach)
            self.others.box(deck, (-1.1, 0.08), stone)
            fence = (min(edge, edge - inward * 0.6), y - reach, max(edge, edge - inward * 0.6), y + reach)
            self.others.box(fence, (0.0, 1.1), rail)

    def _shrunk(self, rect: Rect, least: float, most: float) -> Rect:
        """Returns a smaller rectangle somewhere inside."""
        x0, y0, x1, y1 = rect
        wide, deep = (x1 - x0) * self.dice.between(least, most), (y1 - y0) * self.dice.between(least, most)
        x = self.dice.between(x0, x1 - wide)
        y = self.dice.between(y0, y1 - deep)
        return x, y, x + wide, y + deep

    def _yard(self, rect: Rect) -> None:
        """Plants some trees on what is free of a rectangle."""
        x0, y0, x1, y1 = rect
        for _ in range(max(2, int((x1 - x0) * (y1 - y0) / 170))):
            x, y = self.dice.between(x0, x1), self.dice.between(y0, y1)
            if self.is_free(x, y, 3.2):
                self.tree(x, y, self.dice.between(0.75, 1.1), conifers=0.15)

    def _street_trees(self) -> None:
        x, y = self.block[0] * BLOCK, self.block[1] * BLOCK
        west, south, east, north = (curb + 1.2 for curb in self.curbs)
        for along in range(22, 85, 14):
            for at in (
                (x + west, y + along),
                (x + BLOCK - east, y + along),
                (x + along, y + south),
                (x + along, y + BLOCK - north),
            ):
                if not self.dice.chance(0.2) and self.is_dry(*at, 2.0):
                    self.tree(*at, self.dice.between(0.62, 0.78))

    def _cars(self) -> None:
        """Parks cars along the curbs."""
        dice = self.dice
        x, y = self.block[0] * BLOCK, self.block[1] * BLOCK
        for side, curb in enumerate(self.curbs):
            for _ in range(3):
                if not dice.chance(0.6):
                    continue
                along = dice.between(20.0, 76.0)
                near, far = curb - 2.1, curb - 0.2
                near, far = (BLOCK - far, BLOCK - near) if side > 1 else (near, far)
                low = (near, along, far, along + 4.4) if side in (0, 2) else (along, near, along + 4.4, far)
                rect = (x + low[0], y + low[1], x + low[2], y + low[3])
                if not self.is_dry(rect[0], rect[1], 5.0) or not self.is_dry(rect[0], rect[3], 5.0):
                    continue
                color = dice.pick(CAR_COLORS)
                ground = self.ground((rect[0] + rect[2]) / 2, (rect[1] + rect[3]) / 2)
                paint = Paint(PLAIN, color, color)
                self.others.box(rect, (ground - 0.2, ground + 1.5), paint)


def plan_block(seed: int, block: tuple[int, int]) -> Block:
    """Returns the content of a block.

    Args:
        seed: The town's seed.
        block: Index of the block, east and north of the middle.
    """
    planner = _Planner(seed, block)
    planner.plan()
    assert len(planner.buildings) <= MAX_PER_BLOCK
    return Block(block, planner.kind, tuple(planner.buildings), planner.others.solids(), planner.pond)
