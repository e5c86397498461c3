"""Edits as the kernels see them: who owns a sample, and where that owner is read.

An edit is a list of operations over a field. For a sample at p, in the order of the stack from the top down,
the first operation that claims p owns it; a sample that none claims belongs to the field itself. Styles are
found apart from that: the first STYLE operation that claims p says with which embedding p is coloured.

An operation claims p if, with q = `to_source`(p) (q = p for all kinds but INSTANCE):
    footprint.holds(q.x, q.y) == inside,  and  z_low <= q.z < z_high,  and for PATCH
    q.z >= ground(q.x, q.y) - thickness.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from .tables import FieldTables

if TYPE_CHECKING:
    from torch import Tensor

FAR = 3.0e38  # a height that no sample reaches; stands for infinity in float32


class EditKind(str, Enum):
    """What becomes of the samples that an operation claims."""

    CLEAR = "clear"  # they hold nothing
    PATCH = "patch"  # they hold a surface at `ground`, and nothing above it
    INSTANCE = "instance"  # they hold what a field holds at q, seen along the turned direction
    STYLE = "style"  # their owner stays; they are coloured with another embedding


@dataclass(frozen=True)
class Footprint:
    """A plan raster: (x, y) lies in cell (floor((x - low_x) / side), floor((y - low_y) / side))."""

    mask: Tensor  # uint8 [n_y, n_x], 0 or 1; nothing outside
    low: tuple[float, float]  # lower corner of cell (0, 0), scene units, float32 numbers
    side: float  # of a cell, scene units; the kernels multiply by float32(1 / side)


@dataclass(frozen=True)
class Transform:
    """A turn about the vertical with scale and shift, from the edited scene to a source.

    q = (xx * x + xy * y + x0, -xy * x + xx * y + y0, zz * z + z0), and a direction d becomes
    (cosine * dx + sine * dy, -sine * dx + cosine * dy, dz): turned, not scaled.
    """

    xx: float = 1.0
    xy: float = 0.0
    x0: float = 0.0
    y0: float = 0.0
    zz: float = 1.0
    z0: float = 0.0
    cosine: float = 1.0
    sine: float = 0.0


@dataclass(frozen=True)
class EditOp:
    """One operation; what a kind does not need keeps its default."""

    kind: EditKind
    footprint: Footprint | None = None  # None: everywhere
    inside: bool = True  # False: claims what lies outside of the footprint
    z_low: float = -FAR
    z_high: float = FAR
    # INSTANCE
    to_source: Transform = field(default_factory=Transform)
    source: int = 0  # 0: the edited field, n: EditTables.sources[n - 1]
    sigma_scale: float = 1.0  # factor on sigma; 1 / scale keeps walls as opaque as they were
    # PATCH; rasters over the footprint's cells, read bilinearly between cell centres, clamped at the rim
    ground: Tensor | None = None  # float32 [n_y, n_x], scene units
    features: Tensor | None = None  # float32 [n_y, n_x, feature_dim], what the decoder is fed
    thickness: float = 0.0  # the surface is opaque down to ground - thickness; below, the field goes on
    rise: float = 0.0  # sigma grows from 0 at ground + rise to `sigma` at ground - rise, linearly
    sigma: float = 0.0  # 1 / scene unit
    # STYLE
    latent: Tensor | None = None  # float32 [latent_dim]


@dataclass(frozen=True)
class Source:
    """Another field that instances are read from, with its own decoder."""

    tables: FieldTables
    mask_threshold: float  # of its alpha mask; negative: all samples count
    latent: Tensor | None = None  # its own embedding; STYLE does not reach it. float32 [latent_dim]


@dataclass(frozen=True)
class EditIndex:
    """Which operations may claim anything in a column of the scene; it only saves time.

    (x, y) lies in cell (floor((x - low_x) * scale_x), ...), clamped to the map. A list names operations
    from the top of the stack down; list 0 is empty.
    """

    cells: Tensor  # int32 [n_y, n_x], number of a list
    low: tuple[float, float]
    scale: tuple[float, float]  # cells per scene unit
    starts: Tensor  # int32 [n_lists + 1]
    items: Tensor  # int32 [starts[-1]]


@dataclass(frozen=True)
class Reach:
    """Where operations may put matter that the field's own alpha mask does not know; it only saves time.

    Cell (i, j, k) spans low + (i, j, k) * side to low + (i + 1, j + 1, k + 1) * side. Whatever PATCH and
    INSTANCE hold lies, with half a cell to spare, in cells that are set or outside of no cell at all.
    """

    cells: Tensor  # uint8 [n_z, n_y, n_x]
    low: tuple[float, float, float]
    side: tuple[float, float, float]


@dataclass(frozen=True)
class EditTables:
    """The edits of one scene, ready for the kernels; all tensors on the CPU, contiguous."""

    ops: tuple[EditOp, ...]  # the last one is on top
    sources: tuple[Source, ...]
    index: EditIndex
    reach: Reach
    cache: dict[str, object] = field(default_factory=dict, repr=False, compare=False)  # what back ends derive


@dataclass(frozen=True)
class ColumnGrid:
    """Vertical lines through the centres of plan cells, marched downwards."""

    low: tuple[float, float]  # lower corner of cell (0, 0), scene units
    side: float  # of a cell
    n_x: int
    n_y: int
    z_low: float  # where the lines end
    z_high: float  # where they begin
    step: float  # between samples


@dataclass(frozen=True)
class Columns:
    """What is seen from straight above, float32."""

    height: Tensor  # z at which the opacity from above reaches 0.5, NaN where it never does [n_y, n_x]
    opacity: Tensor  # of the whole column [n_y, n_x]
    features: Tensor  # appearance feature, mean by compositing weight, 0: empty [n_y, n_x, feature_dim]
