"""What a field adds to its tables when only some of its blocks are in memory.

Of a streamed field, `FieldTables.blocks` holds the blocks that are resident. Every other block that exists is
read from a coarse stand-in, which is always there; a block without one does not exist, its density is 0.

Alpha mask: a sample in a resident block is kept by that block's own part of the mask, exactly as by the whole
mask; a sample in any other block is kept where the room says that something may be. The room holds every
cell that any part of the mask holds, and one more all round, so rays may jump wherever it is empty.

A point on a far face of the field (its column or row, counted from the low corner, is the last one's + 1; see
BlockLayout.locate) reads features of 0, as in memory, but mask, residency and feedback go by the last block
of its column or row, in which it lies; so it never asks for the block whose number it happens to get.
In a field of one row that block is near enough for its first texels to be read, as in memory. Where it is not
resident, native code reads 0 there and says that it lacks that block, too; torch reads its stand-in and does
not say so.

Fading: with RenderOptions.fade f < 1, a resident block's features are f * its own + (1 - f) * the coarse
ones, and its samples are kept as if it were not resident.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

ROOM_CELL = 4  # cells of the mask along the side of a cell of the room


@dataclass(frozen=True)
class CoarseTables:
    """Down-sampled planes and lines of all blocks that exist, one row per block; as BlockTables otherwise.

    Planes are [n_rows, n_v, n_u, channels], lines [n_rows, n_w, channels]; rows lie behind each other.
    """

    rows: Tensor  # int32 [n_blocks], row of each block; -1: there is no such block. CPU
    density_planes: tuple[Tensor, ...]
    density_lines: tuple[Tensor, ...]
    appearance_planes: tuple[Tensor, ...]
    appearance_lines: tuple[Tensor, ...]

    @property
    def n_bytes(self) -> int:
        """Bytes of all planes and lines."""
        groups = (self.density_planes, self.density_lines, self.appearance_planes, self.appearance_lines)
        return sum(table.nbytes for group in groups for table in group)


@dataclass(frozen=True)
class MaskGrid:
    """Where the vertices of the whole alpha mask lie; their values are in the blocks' parts."""

    n: tuple[int, int, int]  # vertices along x, y, z
    aabb: Tensor  # float32 [2, 3]


@dataclass(frozen=True)
class BlockMask:
    """The vertices of the mask that the samples of one block read, with one to spare on every side.

    Vertex (0, 0, 0) here is vertex (first[0], first[1], 0) of the whole mask. `any_cell` and `all_cell` are
    the brick tables of csrc/abi.h over these vertices.
    """

    nodes: Tensor  # uint8 [n_z, n_y, n_x], 0 or 1
    first: tuple[int, int]
    any_cell: Tensor  # int64 [bricks_z, bricks_y, bricks_x]
    all_cell: Tensor  # same


@dataclass(frozen=True)
class Room:
    """Where any block may hold matter.

    Cell (x, y, z) of the room spans the cells ROOM_CELL * (x, y, z) up to ROOM_CELL * (x + 1, y + 1, z + 1)
    of the mask. Cell c of the mask lies between its vertices c - 1 and c.
    """

    n: tuple[int, int, int]  # cells along x, y, z
    bricks: Tensor  # int64 [ceil(n_z / 4), ceil(n_y / 4), ceil(n_x / 4)], bit (z&3)*16 + (y&3)*4 + (x&3). CPU


@dataclass(frozen=True)
class StreamTables:
    """What of a streamed field is always in memory, and the parts of the mask that are resident."""

    coarse: CoarseTables
    mask: MaskGrid | None  # None: no alpha mask; then no room and no block_masks
    room: Room | None
    block_masks: Mapping[int, BlockMask]  # of resident blocks, by number
    static: dict[str, object] = field(
        default_factory=dict, repr=False, compare=False
    )  # what back ends derive
    # from coarse, mask and room; shared by all snapshots of one field
