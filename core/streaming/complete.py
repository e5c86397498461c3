"""Block-complete work: pictures, columns and points of a streamed field as if all of it were in memory.

What lacks a block is done again once that block is there. Blocks that do not fit into the budget together
come in turn: a snapshot is taken, used and dropped, so that nothing is kept while others are waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...cuda import ops
from ...cuda.edit_tables import ColumnGrid, Columns
from ...cuda.tables import TILE, FieldTables, FrameBuffers, RenderControl, RenderOptions, View
from ..errors import InputError
from .contracts import BlockKey, Variant, Wants
from .sweep import swept

if TYPE_CHECKING:
    from .residency import Residency

PASS_TILES = 1024  # tiles that are rendered with one snapshot
PIECES = 256  # of a picture whose blocks do not fit together, told apart by what they read
MOST_TILES = 64  # of a piece
BORDER = 1e-6  # of a block's side, beside rounding: what is as near to a border may be read from either side

T = TypeVar("T")
Blocks = frozenset[int]
Tiles = NDArray[np.int32]


class Completion:
    """Does work with whichever blocks of one field it needs, within the field's budget."""

    def __init__(
        self,
        residency: Residency,
        variants: Sequence[Variant] = (),
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """`variants` stand for the blocks that they replace; waiting ends when `is_cancelled` says so."""
        self.residency = residency
        self._is_cancelled = is_cancelled
        self._variants = tuple(variants)
        self._numbers = {variant.block: residency.number(variant) for variant in variants}

    def is_cancelled(self) -> bool:
        """Whether nobody waits any more, or nothing will come."""
        return self.residency.is_closed or self._is_cancelled()

    @property
    def tables(self) -> FieldTables:
        """The newest snapshot; not to be kept."""
        return self.residency.tables(self._variants)

    def keys(self, blocks: Blocks) -> list[BlockKey]:
        """Names blocks in the versions that are meant."""
        return [BlockKey(block, self._numbers.get(block, 0)) for block in sorted(blocks)]

    def fits(self, blocks: Blocks) -> bool:
        """Whether the budget has room for all these blocks at once."""
        return self.residency.fits(self.keys(blocks))

    def refuse(self, blocks: Blocks) -> None:
        """Raises InputError: these blocks are needed at once and do not fit."""
        needed, budget = self.residency.n_bytes(self.keys(blocks)), self.residency.status().device_budget
        raise InputError(
            f"memory.device must have room for the {len(blocks)} blocks that one ray of the picture meets, "
            f"{needed / 1e6:.1f} MB, got {budget / 1e6:.1f} MB; raise it"
        )

    def with_blocks(self, blocks: Blocks, work: Callable[[FieldTables], T]) -> T | None:
        """Does some work with a snapshot that holds these blocks; None: cancelled, or the field closed.

        Raises:
            InputError: They do not fit into the budget, or one of them cannot be read.
        """
        if not blocks:
            return None if self.is_cancelled() else work(self.tables)
        with self.residency.hold(self.keys(blocks), self.is_cancelled) as are_there:
            return work(self.tables) if are_there else None

    def in_turn(self, sets: Sequence[Blocks]) -> Iterator[tuple[list[int], Blocks]]:
        """Yields numbers of sets whose blocks fit together, and these blocks."""
        together: list[int] = []
        union: Blocks = frozenset()
        for number, blocks in enumerate(sets):
            if together and not self.fits(union | blocks):
                yield together, union
                together, union = [], frozenset()
            together, union = [*together, number], union | blocks
        if together:
            yield together, union


# Points and columns


def complete_probe(completion: Completion, points: Tensor) -> ops.Probe:
    """Returns what the field holds at points in scene units, whatever is in memory. points: [n, 3] float32

    Raises:
        InputError: A block that is read does not fit into the budget, or cannot be read.
    """
    lacking = _no_blocks(completion.tables)
    found = ops.probe(completion.tables, points, lacking=lacking)
    if not lacking.any():
        return found
    sets, number = _blocks_at(completion.tables, points[:, :2].double().numpy())
    for together, blocks in completion.in_turn(sets):
        rows = torch.from_numpy(np.flatnonzero(np.isin(number, together)))
        part = _looked_up(completion, blocks, partial(ops.probe, points=points[rows]))
        found.density_feature[rows] = part.density_feature
        found.sigma[rows] = part.sigma
        found.appearance_feature[rows] = part.appearance_feature
    return found


def complete_columns(completion: Completion, options: RenderOptions, grid: ColumnGrid) -> Columns:
    """Looks at the field from straight above, whatever is in memory.

    Every turn surveys the whole grid, for the places of its columns would round otherwise in a part of it.

    Raises:
        InputError: A block that is read does not fit into the budget, or cannot be read.
    """
    lacking = _no_blocks(completion.tables)
    found = ops.columns(completion.tables, options, grid, lacking=lacking)
    if not lacking.any():
        return found
    x = grid.low[0] + (np.arange(grid.n_x) + 0.5) * grid.side
    y = grid.low[1] + (np.arange(grid.n_y) + 0.5) * grid.side
    places = np.stack(np.broadcast_arrays(x, y[:, None]), axis=-1).reshape(-1, 2)
    sets, number = _blocks_at(completion.tables, places)
    for together, blocks in completion.in_turn(sets):
        part = _looked_up(completion, blocks, partial(ops.columns, options=options, grid=grid))
        mine = torch.from_numpy(np.isin(number, together).reshape(grid.n_y, grid.n_x))
        found.height[mine], found.opacity[mine] = part.height[mine], part.opacity[mine]
        found.features[mine] = part.features[mine]
    return found


def _looked_up(completion: Completion, blocks: Blocks, work: Callable[[FieldTables], T]) -> T:
    part = completion.with_blocks(blocks, work)
    if part is None:
        raise InputError("the memory budget must stay as it is while blocks are looked up; try again")
    return part


def _blocks_at(tables: FieldTables, places: NDArray[np.float64]) -> tuple[list[Blocks], NDArray[np.int64]]:
    """Returns sets of blocks, and which of them each place in plan reads. places: [n, 2], -> [n]"""
    assert tables.stream is not None
    low, high = tables.aabb[:, :2].double().numpy()
    division = np.array(tables.division)
    near = []
    for side in (-1, 1):
        border = side * (BORDER + 2**-21 * division)
        near.append(np.clip(np.floor((places - low) / (high - low) * division + border), 0, division - 1))
    (x0, y0), (x1, y1) = (cells.astype(np.int64).T for cells in near)
    blocks = np.stack([x * division[1] + y for x in (x0, x1) for y in (y0, y1)], axis=-1)
    rows, number = np.unique(blocks, axis=0, return_inverse=True)
    exists = tables.stream.coarse.rows.numpy() >= 0
    return [frozenset(row[exists[row]].tolist()) for row in rows], number.reshape(-1)


def _no_blocks(tables: FieldTables) -> NDArray[np.uint8]:
    return np.zeros(len(tables.blocks), dtype=np.uint8)


# Pictures


@dataclass(frozen=True, eq=False)
class _Pass:
    """What became of some tiles."""

    tiles: Tiles  # those that still lack blocks
    lacked: Blocks  # the blocks
    read: Blocks  # these, and what was read of those that were there
    was_wrong: bool = False  # it lacked more than it had been found to read: such sets never shrink again

    def and_then(self, other: _Pass) -> _Pass:
        tiles = np.concatenate([self.tiles, other.tiles])
        return _Pass(tiles, self.lacked | other.lacked, self.read | other.read)


class CompletePicture:
    """One picture that waits for its blocks; tiles of `control` are done once they lack nothing."""

    def __init__(
        self,
        completion: Completion,
        view: View,
        options: RenderOptions,
        buffers: FrameBuffers,
        control: RenderControl,
        backend: str,
    ) -> None:
        self._completion = completion
        self._view, self._options, self._buffers = view, options, buffers
        self._control, self._backend = control, backend

    def render(self) -> bool:
        """Renders all ordered tiles. Returns False if it was cancelled, or the field closed meanwhile.

        Raises:
            InputError: A tile needs more blocks than the budget has room for, or one that cannot be read.
        """
        first = self._pass(self._control.order, frozenset())
        left = self._finished(first.tiles, first.lacked)
        if len(left):
            self._completion.residency.want(Wants())  # there is no room for what may be wanted beside this
            self._render_in_turn(left)
        control = self._control
        return not control.is_cancelled and bool(control.tile_done[control.order].all())

    def _render_in_turn(self, tiles: Tiles) -> None:
        """Renders pieces of the picture, those first for which the fewest blocks have to come."""
        size = min(max(len(tiles) // PIECES, 1), MOST_TILES)
        parts = (np.array_split(stop, -(-len(stop) // size)) for stop in self._swept(tiles))
        pieces = self._measured([part for stop in parts for part in stop])
        while pieces and not self._control.is_cancelled:
            blocks = self._next_blocks([piece.read for piece in pieces])
            now = [piece for piece in pieces if piece.read <= blocks]
            pieces = [piece for piece in pieces if not piece.read <= blocks]
            if now:
                met = [piece for piece in pieces if not piece.was_wrong and len(piece.read & blocks) > 1]
                pieces = [piece for piece in pieces if piece not in met]
                pieces += self._render_pieces(now, blocks)
                pieces += self._measured([piece.tiles for piece in met])  # stand-ins hide less than blocks do
            elif len(pieces[0].tiles) == 1:
                piece = pieces.pop(0)
                self._render_alone(piece.tiles, piece.read)
            else:
                pieces[:1] = self._measured(np.array_split(pieces[0].tiles, 2))

    def _next_blocks(self, sets: Sequence[Blocks]) -> Blocks:
        """Returns blocks that fit, all of some sets: of those that have most of theirs already."""
        present = frozenset(self._completion.tables.resident)
        union: Blocks = frozenset()
        for blocks in sorted(set(sets), key=lambda blocks: (len(blocks - present), sorted(blocks))):
            if not blocks <= union and self._completion.fits(union | blocks):
                union |= blocks
        return union

    def _render_pieces(self, pieces: Sequence[_Pass], blocks: Blocks) -> list[_Pass]:
        """Renders pieces with their blocks held; returns what still lacks some, with these."""
        done = self._pass(np.concatenate([piece.tiles for piece in pieces]), blocks)
        left = ((piece.read, piece.tiles[np.isin(piece.tiles, done.tiles)]) for piece in pieces)
        return [
            replace(again, read=again.read | read, was_wrong=True)
            for read, tiles in left
            for again in self._measured([tiles])
        ]

    def _render_alone(self, tile: Tiles, blocks: Blocks) -> None:
        """Renders one tile whose blocks do not fit: ray by ray, for a ray reads fewer."""
        view, buffers = self._view, self._buffers
        if (view.width, view.height) == (1, 1):
            self._render_ray(tile, blocks)
            return
        row, column = divmod(int(tile[0]), self._control.columns)
        rows = range(row * TILE, min((row + 1) * TILE, view.height))
        columns = range(column * TILE, min((column + 1) * TILE, view.width))
        rays = [(x, y, self._ray(x, y)) for y in rows for x in columns]
        read = [ray._pass(ray._control.order, frozenset()).read for _, _, ray in rays]
        for number in sorted(range(len(rays)), key=lambda number: sorted(read[number])):
            x, y, ray = rays[number]
            if not ray.render():
                return
            for field in fields(FrameBuffers):
                if (whole := getattr(buffers, field.name)) is not None:
                    whole[y, x] = getattr(ray._buffers, field.name)[0, 0]
        self._control.tile_done[tile] = 1
        self._control.done_count[0] += 1

    def _ray(self, x: int, y: int) -> CompletePicture:
        """Returns the picture of one pixel."""
        view, control = self._view, RenderControl(1, 1)
        control.cancel_flag = self._control.cancel_flag
        cx, cy = float(np.float32(view.cx) - np.float32(x)), float(np.float32(view.cy) - np.float32(y))
        ray = replace(view, cx=cx, cy=cy, width=1, height=1)
        pixel = FrameBuffers.empty(1, 1, self._buffers.normals is not None)
        return CompletePicture(self._completion, ray, self._options, pixel, control, self._backend)

    def _render_ray(self, tile: Tiles, blocks: Blocks) -> None:
        """Renders one ray whose blocks do not fit: those in front may hide the others."""
        aabb, division = self._completion.tables.aabb, self._completion.tables.division
        low, high = aabb[:, :2].double().numpy()
        numbers = np.array(sorted(blocks))
        centers = low + (np.stack(np.divmod(numbers, division[1]), axis=-1) + 0.5) / division * (high - low)
        nearest = numbers[np.argsort(np.linalg.norm(centers - self._view.c2w[:2, 3], axis=-1))].tolist()
        while not self._completion.fits(frozenset(nearest)):
            nearest.pop()
        if len(self._pass(tile, frozenset(nearest)).tiles):
            self._completion.refuse(blocks)

    def _swept(self, tiles: Tiles) -> list[Tiles]:
        tables = self._completion.tables
        return swept(tiles, self._view, self._buffers, tables.aabb, tables.division)

    def _measured(self, groups: Sequence[Tiles]) -> list[_Pass]:
        """Returns groups with the blocks that each reads, as far as can be told; some get finished."""
        passes = (self._pass(tiles, frozenset()) for tiles in groups if len(tiles))
        return [done for done in passes if len(done.tiles)]

    def _finished(self, tiles: Tiles, blocks: Blocks) -> Tiles:
        """Renders tiles with ever more blocks held, until these do not fit; returns what is left."""
        while len(tiles) and self._completion.fits(blocks):
            done = self._pass(tiles, blocks)
            tiles = done.tiles
            if len(tiles) and done.lacked <= blocks:
                raise RuntimeError(f"tiles must not lack blocks that are held, got {sorted(done.lacked)[:8]}")
            blocks |= done.lacked
        return tiles

    def _pass(self, tiles: Tiles, blocks: Blocks) -> _Pass:
        """Renders tiles with some blocks held; nothing is left of them if it is cancelled."""
        whole = _Pass(tiles[:0], frozenset(), frozenset())
        for first in range(0, len(tiles), PASS_TILES):
            part = tiles[first : first + PASS_TILES]
            done = self._completion.with_blocks(blocks, partial(self._render, part))
            if done is None:
                return _Pass(tiles[:0], frozenset(), frozenset())
            whole = whole.and_then(done)
        return whole

    def _render(self, tiles: Tiles, tables: FieldTables) -> _Pass | None:
        outer, inner = self._control, RenderControl(self._view.width, self._view.height, tiles)
        inner.cancel_flag = outer.cancel_flag
        inner.lacking = _no_blocks(tables)
        inner.needs = np.zeros(len(tables.blocks), dtype=np.float32)
        render_tiles(tables, self._view, self._options, self._buffers, inner, self._backend)
        done = (inner.tile_done[tiles] != 0) & (inner.tile_lacking[tiles] == 0)
        outer.tile_done[tiles[done]] = 1
        outer.done_count[0] += np.count_nonzero(done)
        if inner.is_cancelled:
            return None
        lacked = frozenset(np.flatnonzero(inner.lacking).tolist())
        return _Pass(tiles[~done], lacked, lacked.union(np.flatnonzero(inner.needs).tolist()))


def render_tiles(
    tables: FieldTables,
    view: View,
    options: RenderOptions,
    buffers: FrameBuffers,
    control: RenderControl,
    backend: str,
) -> bool:
    """Renders as `ops.render` does; where memory is short, with fewer tiles at a time.

    Raises:
        InputError: Memory is too short for a single tile.
    """
    while True:
        try:
            return ops.render(tables, view, options, buffers, control, backend)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
        if options.chunk_tiles == 1:
            raise InputError(
                "a picture must find memory for one tile of it on the device, got none; "
                "close other programs or lower memory.device"
            )
        options = replace(options, chunk_tiles=max(options.chunk_tiles // 4, 1))
        control = _rest_of(control, view)


def _is_out_of_memory(error: Exception) -> bool:
    is_of_device = isinstance(error, torch.cuda.OutOfMemoryError)
    return is_of_device or isinstance(error, MemoryError) or "not enough memory" in str(error)


def _rest_of(control: RenderControl, view: View) -> RenderControl:
    """Returns a control of the tiles that are not done, which reports to the given one."""
    rest = RenderControl(view.width, view.height, control.order[control.tile_done[control.order] == 0])
    rest.cancel_flag, rest.done_count = control.cancel_flag, control.done_count
    rest.tile_done, rest.tile_lacking = control.tile_done, control.tile_lacking
    rest.needs, rest.lacking = control.needs, control.lacking
    return rest
