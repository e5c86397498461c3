"""A town of a given extent: blocks, planned when first looked at, in a grid of cells for the ray caster."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ...core.errors import InputError
from .buildings import Building
from .layout import (
    HIGHEST_TOP,
    ID_OFFSET,
    Block,
    block_kind,
    block_of,
    building_number,
    plan_block,
)
from .solids import N_KINDS, Z1, Solids, join
from .terrain import BLOCK, LOWEST, ground_height

CELLS = 5  # along a block's side
CELL = BLOCK / CELLS  # metres
MAX_BLOCKS = 100  # along a side of the town
GRASS, PAVING, YARD = 0, 1, 2  # what covers the inside of a block


@dataclass(frozen=True)
class Addition:
    """A copy of a building at another place."""

    building: int  # number of the building that is copied
    x: float  # where its middle comes to lie, metres
    y: float
    degrees: float = 0.0  # turned counter-clockwise by this


@dataclass(frozen=True)
class TownSpec:
    """Everything that the town depends on."""

    seed: int
    blocks: tuple[int, int]  # west to east, south to north
    removed: tuple[int, ...] = ()
    added: tuple[Addition, ...] = ()

    def __post_init__(self) -> None:
        wide, deep = self.blocks
        if not (2 <= wide <= MAX_BLOCKS and 2 <= deep <= MAX_BLOCKS):
            raise InputError(
                f"a town must have 2x2 to {MAX_BLOCKS}x{MAX_BLOCKS} blocks, got {wide}x{deep}; "
                "choose such an extent"
            )
        if not 0 <= self.seed < 2**31:
            raise InputError(f"a town's seed must be a whole number from 0 to 2147483647, got {self.seed}")


class Town:
    """The town: blocks, and the tables that rays are traced through.

    Blocks are planned and entered into the tables when a ray first comes near them.
    """

    def __init__(self, spec: TownSpec) -> None:
        self.spec = spec
        self.seed = spec.seed
        wide, deep = spec.blocks
        self.first = (-(wide // 2), -(deep // 2))  # index of the south-west block
        self.low = np.array([self.first[0] * BLOCK, self.first[1] * BLOCK])  # south-west corner, metres
        self.high = self.low + np.array([wide, deep]) * BLOCK
        self.n_cells = (wide * CELLS, deep * CELLS)
        self._present = np.zeros((deep, wide), bool)
        self._parts: list[Solids] = []
        self._n_solids = 0
        cells = self.n_cells[0] * self.n_cells[1]
        self.cell_start = np.zeros((N_KINDS, cells), np.int64)
        self.cell_count = np.zeros((N_KINDS, cells), np.int64)
        self.cell_top = np.full(cells, -np.inf)  # highest point of the solids in a cell, metres
        self._entries: list[np.ndarray] = []
        self._n_entries = 0
        self.block_cover = np.zeros((deep, wide), np.int8)
        self.block_pond = np.ones((deep, wide, 4))  # x, y, radii; far away where there is none
        self.block_pond[..., :2] = 1e9
        self.solids = join([])
        self.shape_columns = np.ascontiguousarray(self.solids.shape.T)  # [10, n]
        self.entries = np.zeros(0, np.int64)  # solids of each cell, by kind
        self._additions = tuple(self._copy(number, added) for number, added in enumerate(spec.added))
        for number in spec.removed:
            self.building(number)

    # Blocks and buildings

    def has(self, block: tuple[int, int]) -> bool:
        """Tells whether a block belongs to the town."""
        return all(0 <= block[axis] - self.first[axis] < self.spec.blocks[axis] for axis in (0, 1))

    def block(self, block: tuple[int, int]) -> Block:
        """Returns a block's content as planned, before buildings are removed or added."""
        return _planned(self.seed, block)

    def building(self, number: int) -> Building:
        """Returns a building as planned.

        Raises:
            InputError: The town has no such building.
        """
        block = block_of(number)
        if number >= 0 and self.has(block):
            for building in self.block(block).buildings:
                if building.id == number:
                    return building
        raise InputError(
            f"a building's number must be one of this town's, got {number}; buildings.geojson lists them"
        )

    def buildings(self) -> list[Building]:
        """Returns all buildings, removed ones left out and added ones at the end."""
        wide, deep = self.spec.blocks
        found = [
            building
            for j in range(deep)
            for i in range(wide)
            for building in self.block((self.first[0] + i, self.first[1] + j)).buildings
            if building.id not in self.spec.removed
        ]
        return found + list(self._additions)

    def _copy(self, number: int, added: Addition) -> Building:
        source = self.building(added.building)
        if not (math.isfinite(added.x) and math.isfinite(added.y) and math.isfinite(added.degrees)):
            raise InputError("an added building's place must be given in finite numbers; correct it")
        if not (self.low[0] <= added.x <= self.high[0] and self.low[1] <= added.y <= self.high[1]):
            raise InputError(
                f"an added building must be in the town, x {self.low[0]:g} to {self.high[0]:g} and y "
                f"{self.low[1]:g} to {self.high[1]:g} metres, got {added.x:g}, {added.y:g}; correct it"
            )
        x, y = source.center
        ground = float(ground_height(self.seed, added.x, added.y))
        angle = math.radians(added.degrees)
        cos, sin = math.cos(angle), math.sin(angle)
        ring = tuple(
            (added.x + cos * (px - x) - sin * (py - y), added.y + sin * (px - x) + cos * (py - y))
            for px, py in source.footprint
        )
        identity = building_number((ID_OFFSET - 1, ID_OFFSET - 1), 0) + 1 + number  # beyond every block's
        at, to = np.array([x, y, source.ground]), np.array([added.x, added.y, ground])
        block = (math.floor(added.x / BLOCK), math.floor(added.y / BLOCK))
        solids = source.solids.moved(at, to, angle, identity)
        return replace(source, id=identity, block=block, footprint=ring, ground=ground, solids=solids)

    # Tables

    @property
    def top(self) -> float:
        """Height that nothing in the town exceeds, metres."""
        return HIGHEST_TOP

    @property
    def bottom(self) -> float:
        """Height that no ground in the town lies below, metres."""
        return LOWEST

    @property
    def entered(self) -> list[tuple[int, int]]:
        """Blocks that are in the tables."""
        rows, columns = np.nonzero(self._present)
        return [(self.first[0] + int(i), self.first[1] + int(j)) for j, i in zip(rows, columns, strict=True)]

    def prepare(self, low: np.ndarray, high: np.ndarray) -> None:
        """Enters the blocks of a rectangle into the tables.

        Args:
            low: South-west corner, metres. [2]
            high: North-east corner, metres. [2]
        """
        first = np.clip(np.floor((low - self.low) / BLOCK).astype(int), 0, None)
        last = np.minimum(np.floor((high - self.low) / BLOCK).astype(int), np.array(self.spec.blocks) - 1)
        window = self._present[first[1] : last[1] + 1, first[0] : last[0] + 1]
        if window.all():
            return
        for row, column in np.argwhere(~window) + first[::-1]:
            self._enter(int(column), int(row))
        self.solids = join(self._parts)
        self.shape_columns = np.ascontiguousarray(self.solids.shape.T)
        self.entries = np.concatenate(self._entries) if self._entries else self.entries
        self._parts, self._entries = [self.solids], [self.entries]

    def _enter(self, column: int, row: int) -> None:
        """Plans a block and appends its solids and cells to the tables."""
        index = (self.first[0] + column, self.first[1] + row)
        block = self.block(index)
        self._present[row, column] = True
        self.block_cover[row, column] = _cover(self.seed, index)
        if block.pond:
            pond = block.pond
            self.block_pond[row, column] = (pond.x, pond.y, pond.radius_x, pond.radius_y)
        kept = [building.solids for building in block.buildings if building.id not in self.spec.removed]
        solids = join([*kept, block.others, *(added.solids for added in self._additions)])
        corner = self.low + np.array([column, row]) * BLOCK
        box = solids.bounds() - np.tile(corner, 2)
        near = np.all(box[:, :2] < BLOCK, axis=1) & np.all(box[:, 2:] > 0, axis=1)
        solids, box = solids.take(near), box[near]
        reach = np.clip(np.floor(box / CELL).astype(int), 0, CELLS - 1)
        members: list[list[list[int]]] = [[[] for _ in range(CELLS * CELLS)] for _ in range(N_KINDS)]
        tops = solids.shape[:, Z1]
        for number, (x0, y0, x1, y1) in enumerate(reach):
            kind = int(solids.kind[number])
            for y in range(y0, y1 + 1):
                cell = (row * CELLS + y) * self.n_cells[0] + column * CELLS
                self.cell_top[cell + x0 : cell + x1 + 1] = np.maximum(
                    self.cell_top[cell + x0 : cell + x1 + 1], tops[number]
                )
                for x in range(x0, x1 + 1):
                    members[kind][y * CELLS + x].append(self._n_solids + number)
        for kind in range(N_KINDS):
            for place, found in enumerate(members[kind]):
                y, x = divmod(place, CELLS)
                cell = (row * CELLS + y) * self.n_cells[0] + column * CELLS + x
                self.cell_start[kind, cell] = self._n_entries
                self.cell_count[kind, cell] = len(found)
                self._entries.append(np.array(found, np.int64))
                self._n_entries += len(found)
        self._parts.append(solids)
        self._n_solids += len(solids)


@lru_cache(maxsize=512)
def _planned(seed: int, block: tuple[int, int]) -> Block:
    return plan_block(seed, block)


def _cover(seed: int, block: tuple[int, int]) -> int:
    kind = block_kind(seed, block)
    return {"square": PAVING, "core": PAVING, "town": YARD}.get(kind, GRASS)
