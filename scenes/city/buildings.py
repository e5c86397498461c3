"""The kinds of buildings, each a function from a lot to solids. Metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .noise import Dice
from .solids import BANDED, FACADE, GLASS, PLAIN, SHOPS, STEEP, TILES, Color, Paint, SolidList, Solids

Rect = tuple[float, float, float, float]  # x0, y0, x1, y1
Ring = tuple[tuple[float, float], ...]  # corners, counter-clockwise, the first not repeated

WALLS: tuple[Color, ...] = (
    (0.93, 0.86, 0.72),
    (0.90, 0.76, 0.56),
    (0.87, 0.66, 0.47),
    (0.80, 0.50, 0.38),
    (0.72, 0.38, 0.30),
    (0.92, 0.90, 0.85),
    (0.76, 0.80, 0.78),
    (0.68, 0.76, 0.82),
    (0.93, 0.80, 0.72),
    (0.80, 0.80, 0.66),
)
TILE_ROOFS: tuple[Color, ...] = (
    (0.80, 0.40, 0.25),
    (0.74, 0.33, 0.22),
    (0.68, 0.30, 0.22),
    (0.84, 0.48, 0.30),
    (0.45, 0.45, 0.50),
)
FLAT_ROOFS: tuple[Color, ...] = (
    (0.72, 0.68, 0.62),
    (0.66, 0.62, 0.58),
    (0.78, 0.72, 0.64),
    (0.62, 0.46, 0.38),
    (0.52, 0.60, 0.38),
)
GLASS_WALLS: tuple[Color, ...] = ((0.42, 0.58, 0.68), (0.36, 0.50, 0.62), (0.50, 0.62, 0.62))
_METAL: Color = (0.70, 0.71, 0.72)
_BURIED = 3.0  # walls reach this far below the ground at the middle, so that none floats on a slope


@dataclass(frozen=True)
class Building:
    """One building of the town."""

    id: int
    block: tuple[int, int]
    kind: str
    footprint: Ring  # metres
    ground: float  # height of the ground at its middle, metres
    height: float  # of its highest point above `ground`, metres
    solids: Solids

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box round the footprint, metres."""
        xs, ys = zip(*self.footprint, strict=True)
        return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def corners(rect: Rect) -> Ring:
    """Returns the corners of a rectangle, counter-clockwise."""
    x0, y0, x1, y1 = rect
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _inset(rect: Rect, by: float) -> Rect:
    return rect[0] + by, rect[1] + by, rect[2] - by, rect[3] - by


def _tinted(dice: Dice, color: Color) -> Color:
    light = dice.between(0.92, 1.06)
    return (min(1.0, color[0] * light), min(1.0, color[1] * light), min(1.0, color[2] * light))


def _furniture(dice: Dice, parts: SolidList, rect: Rect, top: float) -> None:
    """Puts a stair head and one or two machines on a flat roof."""
    for number in range(dice.whole(1, 3)):
        wide, deep = dice.between(2.0, 4.5), dice.between(2.0, 3.5)
        room = _inset(rect, 1.2)
        if room[2] - room[0] <= wide or room[3] - room[1] <= deep:
            return
        x, y = dice.between(room[0], room[2] - wide), dice.between(room[1], room[3] - deep)
        tall = dice.between(2.0, 2.8) if number == 0 else dice.between(1.0, 1.6)
        color = (0.80, 0.76, 0.70) if number == 0 else _METAL
        parts.box((x, y, x + wide, y + deep), (top, top + tall), Paint(PLAIN, color, color))


def flats(dice: Dice, parts: SolidList, rect: Rect, ground: float, floors: int) -> Ring:
    """A block of flats over shops: windows, a flat roof with a parapet and furniture; sometimes L-shaped."""
    floor = dice.between(3.1, 3.6)
    height = floors * floor + 1.4
    paint = Paint(
        SHOPS,
        _tinted(dice, dice.pick(WALLS)),
        dice.pick(FLAT_ROOFS),
        ground,
        floor,
        dice.between(3.3, 4.4),
        dice.between(0, 1),
    )
    x0, y0, x1, y1 = rect
    wide, deep = x1 - x0, y1 - y0
    if dice.chance(0.35) and min(wide, deep) > 17:
        return _corner_flats(dice, parts, rect, (ground, height), paint)
    parts.box(rect, (ground - _BURIED, ground + height), paint)
    if dice.chance(0.3) and min(wide, deep) > 14 and floors > 3:  # a set-back storey
        upper = _inset(rect, 2.5)
        parts.box(upper, (ground + height, ground + height + floor), paint)
        _furniture(dice, parts, upper, ground + height + floor)
        return corners(rect)
    _furniture(dice, parts, rect, ground + height)
    return corners(rect)


def _corner_flats(dice: Dice, parts: SolidList, rect: Rect, rise: tuple[float, float], paint: Paint) -> Ring:
    """Two wings at a right angle: one along the whole of y0, one of the rest along x0 or x1."""
    x0, y0, x1, y1 = rect
    ground, height = rise
    yard_y = y0 + (y1 - y0) * dice.between(0.42, 0.52)
    yard = (x1 - x0) * dice.between(0.42, 0.52)
    lower = height - paint.floor * dice.whole(0, 1)
    front = (x0, y0, x1, yard_y)
    parts.box(front, (ground - _BURIED, ground + height), paint)
    _furniture(dice, parts, front, ground + height)
    ring: Ring
    if dice.chance(0.5):
        parts.box((x0, yard_y, x0 + yard, y1), (ground - _BURIED, ground + lower), paint)
        ring = ((x0, y0), (x1, y0), (x1, yard_y), (x0 + yard, yard_y), (x0 + yard, y1), (x0, y1))
    else:
        parts.box((x1 - yard, yard_y, x1, y1), (ground - _BURIED, ground + lower), paint)
        ring = ((x0, y0), (x1, y0), (x1, y1), (x1 - yard, y1), (x1 - yard, yard_y), (x0, yard_y))
    return ring


def tower(dice: Dice, parts: SolidList, rect: Rect, ground: float, floors: int) -> Ring:
    """An office tower with a glass front on a low base of shops."""
    floor = 3.6
    wall, roof = _tinted(dice, dice.pick(GLASS_WALLS)), dice.pick(FLAT_ROOFS[:3])
    stone = Paint(SHOPS, (0.86, 0.82, 0.74), roof, ground, 4.2, 4.6, dice.between(0, 1))
    parts.box(rect, (ground - _BURIED, ground + 2 * 4.2 + 0.8), stone)
    shaft = _inset(rect, 2.5)
    top = ground + max(floors, 11) * floor
    parts.box(shaft, (ground, top), Paint(GLASS, wall, roof, ground, floor, 2.8, dice.between(0, 1)))
    crown = _inset(shaft, 2.5)
    parts.box(crown, (top, top + 3.0), Paint(PLAIN, (0.80, 0.80, 0.78), roof))
    return corners(rect)


def house(dice: Dice, parts: SolidList, rect: Rect, ground: float, floors: int) -> Ring:
    """A house under a gabled or a hipped roof of tiles."""
    x0, y0, x1, y1 = rect
    eaves = ground + floors * 3.0 + 0.4
    wall = Paint(
        FACADE,
        _tinted(dice, dice.pick(WALLS)),
        (0.90, 0.88, 0.82),
        ground,
        3.0,
        dice.between(3.0, 3.8),
        dice.between(0, 1),
    )
    parts.box(rect, (ground - _BURIED, eaves), wall)
    slope = dice.between(0.65, 0.95)
    tiles = Paint(TILES, _tinted(dice, dice.pick(TILE_ROOFS)), wall.color, phase=dice.between(0, 1))
    over = _inset(rect, -0.5)
    along_x = x1 - x0 > y1 - y0
    half = min(x1 - x0, y1 - y0) / 2 + 0.5
    hipped = dice.chance(0.4)
    across = slope if hipped else STEEP
    slopes = (across, slope) if along_x else (slope, across)
    low = eaves - 0.3
    parts.roof(over, (low, low + slope * half), slopes, tiles)
    if dice.chance(0.7):
        cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
        cx, cy = (cx + (x1 - x0) * 0.22, cy + 1.5) if along_x else (cx + 1.5, cy + (y1 - y0) * 0.22)
        brick = Paint(PLAIN, (0.62, 0.36, 0.28), (0.40, 0.34, 0.32))
        parts.box((cx - 0.6, cy - 0.6, cx + 0.6, cy + 0.6), (eaves, low + slope * half + 0.8), brick)
    return corners(rect)


def church(dice: Dice, parts: SolidList, rect: Rect, ground: float, floors: int) -> Ring:
    """A nave with a steep roof and a steeple at its west end."""
    x0, y0, x1, y1 = rect
    stone = Paint(FACADE, (0.88, 0.82, 0.70), (0.80, 0.76, 0.68), ground, 8.0, 5.0, 0.3)
    nave = (x0 + 8.0, y0, x1, y1)
    half = (y1 - y0) / 2 + 0.4
    slate: Color = (0.38, 0.46, 0.46)
    parts.box(nave, (ground - _BURIED, ground + 9.0), stone)
    roof_top = ground + 8.8 + 1.05 * half
    parts.roof(_inset(nave, -0.4), (ground + 8.8, roof_top), (STEEP, 1.05), Paint(TILES, slate, stone.color))
    y = (y0 + y1) / 2
    shaft = (x0, y - 4.2, x0 + 8.4, y + 4.2)
    top = ground + 19.0 + 2.0 * floors
    parts.box(shaft, (ground - _BURIED, top), stone)
    spire = Paint(TILES, (0.32, 0.52, 0.46), stone.color)
    parts.roof(_inset(shaft, -0.4), (top, top + 16.0), (16.0 / 4.6, 16.0 / 4.6), spire)
    return (
        (x0, y - 4.2),
        (x0 + 8.0, y - 4.2),
        (x0 + 8.0, y0),
        (x1, y0),
        (x1, y1),
        (x0 + 8.0, y1),
        (x0 + 8.0, y + 4.2),
        (x0, y + 4.2),
    )


def hall(dice: Dice, parts: SolidList, rect: Rect, ground: float, floors: int) -> Ring:
    """A market or factory hall: a long, low gable."""
    x0, y0, x1, y1 = rect
    wall = Paint(FACADE, _tinted(dice, WALLS[4]), (0.80, 0.74, 0.66), ground, 6.0, 6.0, 0.6)
    eaves = ground + 7.0
    parts.box(rect, (ground - _BURIED, eaves), wall)
    along_x = x1 - x0 > y1 - y0
    half = min(x1 - x0, y1 - y0) / 2 + 0.5
    slopes = (STEEP, 0.4) if along_x else (0.4, STEEP)
    roof = Paint(TILES, (0.60, 0.62, 0.62), wall.color)
    parts.roof(_inset(rect, -0.5), (eaves, eaves + 0.4 * half), slopes, roof)
    return corners(rect)


def landmark(dice: Dice, parts: SolidList, rect: Rect, ground: float, floors: int) -> Ring:
    """The town's landmark: a slim banded tower with a look-out and a golden spire, on a round base."""
    x0, y0, x1, y1 = rect
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    white: Color = (0.95, 0.93, 0.88)
    red: Color = (0.80, 0.20, 0.16)
    gold = Paint(PLAIN, (0.93, 0.70, 0.25), (0.93, 0.70, 0.25))
    parts.box(rect, (ground - _BURIED, ground + 4.5), Paint(SHOPS, white, white, ground, 4.5, 4.5, 0.2))
    bands = Paint(BANDED, white, red, ground, 8.0, 1.0)
    parts.frustum(x, y, (ground, ground + 58.0), (5.2, 2.8), bands)
    look_out = Paint(GLASS, (0.55, 0.68, 0.72), (0.88, 0.86, 0.80), ground + 54.0, 2.4, 3.0, 0.5)
    parts.frustum(x, y, (ground + 52.0, ground + 55.0), (3.2, 6.6), Paint(PLAIN, white, white))
    parts.frustum(x, y, (ground + 55.0, ground + 60.0), (6.6, 6.0), look_out)
    parts.frustum(x, y, (ground + 60.0, ground + 64.0), (6.6, 2.2), Paint(PLAIN, red, red))
    parts.frustum(x, y, (ground + 64.0, ground + 82.0), (1.8, 0.3), gold)
    return corners(rect)


Builder = Callable[[Dice, SolidList, Rect, float, int], Ring]  # the last: floors
BUILDERS: dict[str, Builder] = {
    "flats": flats,
    "tower": tower,
    "house": house,
    "church": church,
    "hall": hall,
    "landmark": landmark,
}
