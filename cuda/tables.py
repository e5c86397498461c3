"""What the kernels read and write: plain, immutable descriptions over torch tensors.

Nothing here knows files or windows. `landmark_viewer.core` fills these in, `ops` hands them to a back end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # the window says qualities and modes long before torch is there
    import torch
    from torch import Tensor

    from .edit_tables import EditTables
    from .stream_tables import StreamTables
    from .tight import TightRoom

CHANNEL_MULTIPLE = 8  # channels are padded with zeros up to a multiple of this
TILE = 8  # pixels along the side of a render tile


class Quality(str, Enum):
    """How much a pixel is worth."""

    EXACT = "exact"  # the decoder runs on every sample that LandMark shades
    CLUSTERED = "clustered"  # neighbouring samples of a ray share one decoder evaluation
    FAST = "fast"  # one decoder evaluation per ray


class NerfMode(str, Enum):
    """What becomes of the NeRF branch (LandMark's `run_nerf` and `residnerf`)."""

    OFF = "off"
    ALONE = "alone"
    RESIDUAL = "residual"


@dataclass(frozen=True)
class BlockTables:
    """Planes and lines of one block, channel last; index p = direction * n_levels + level.

    Direction 0 has plane axes (x, y) and line axis z, 1 has (x, z) and y, 2 has (y, z) and x.
    Planes are [n_v, n_u, channels], float16 or float32; lines [n_w, channels], float32; contiguous.
    Channels are padded with zeros to a multiple of CHANNEL_MULTIPLE.
    """

    density_planes: tuple[Tensor, ...]
    density_lines: tuple[Tensor, ...]
    appearance_planes: tuple[Tensor, ...]
    appearance_lines: tuple[Tensor, ...]
    held: object = field(default=None, repr=False, compare=False)  # keeps the memory that they lie in


@dataclass(frozen=True)
class DecoderWeights:
    """LandMark's colour network, float32.

    Its inputs are, in this order: feature, latent, direction, PE(feature), PE(direction).
    """

    basis: Tensor  # [feature_dim, n_levels * sum(appearance_channels)]
    layers: tuple[tuple[Tensor, Tensor | None], ...]  # three of (weight [n_out, n_in], bias [n_out])
    feature_pe: int  # frequencies of the feature encoding; 0 or less: none
    view_pe: int  # frequencies of the direction encoding; 0: direction only; -1: no direction either
    latent_dim: int  # length of the appearance embedding; 0: none


@dataclass(frozen=True)
class NerfWeights:
    """LandMark's NeRF branch, float32; every layer is (weight [n_out, n_in], bias [n_out])."""

    point_layers: tuple[tuple[Tensor, Tensor], ...]
    density: tuple[Tensor, Tensor]
    feature: tuple[Tensor, Tensor]
    view_layers: tuple[tuple[Tensor, Tensor], ...]
    color: tuple[Tensor, Tensor]
    point_pe: int  # frequencies of the position encoding
    view_pe: int  # frequencies of the direction encoding
    skip: int = 4  # the input is concatenated after this point layer

    def map(self, function: Callable[[Tensor], Tensor]) -> NerfWeights:
        """Returns the branch with a function of each tensor in its place."""

        def both(layer: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return function(layer[0]), function(layer[1])

        return replace(
            self,
            point_layers=tuple(both(layer) for layer in self.point_layers),
            density=both(self.density),
            feature=both(self.feature),
            view_layers=tuple(both(layer) for layer in self.view_layers),
            color=both(self.color),
        )


@dataclass(frozen=True)
class OccupancyNodes:
    """LandMark's alpha mask: 0 or 1 at grid vertices."""

    nodes: Tensor  # uint8 [n_z, n_y, n_x]
    aabb: Tensor  # float32 [2, 3]


@dataclass(frozen=True)
class FieldTables:
    """One GridNeRF as the kernels see it; small tensors on the CPU, planes and lines on `device`."""

    aabb: Tensor  # float32 [2, 3], scene units
    division: tuple[int, int]  # blocks along x and y; block (i, j) has index i * division[1] + j
    n_directions: int  # 1 or 3
    n_levels: int
    density_channels: tuple[int, ...]  # unpadded, one per direction
    appearance_channels: tuple[int, ...]  # unpadded, one per direction
    blocks: tuple[BlockTables | None, ...]  # None: the block is absent and its density is 0
    zero_sigma_outside: bool  # a point in no block has sigma 0 (LandMark's sub files) or feature 0 (stacked)
    activation: str  # "softplus" or "relu"
    density_shift: float  # added before softplus
    density_basis: Tensor | None  # [n_levels * sum(density_channels)] for nonlinear density
    decoder: DecoderWeights
    nerf: NerfWeights | None = None
    occupancy: OccupancyNodes | None = None  # of a streamed field None, as its mask comes in parts
    stream: StreamTables | None = None  # of a field of which only some blocks are in memory
    cache: dict[str, object] = field(default_factory=dict, repr=False, compare=False)  # what back ends derive

    @cached_property
    def resident(self) -> list[int]:
        """Numbers of the blocks in memory."""
        return list(compress(range(len(self.blocks)), self.blocks))

    @property
    def sample_block(self) -> BlockTables:
        """A block in memory, or a coarse stand-in: channels, type and device are the same of all."""
        held = self.blocks[self.resident[0]] if self.resident else None
        if held is not None or self.stream is None:
            assert held is not None
            return held
        coarse = self.stream.coarse
        groups = (
            coarse.density_planes,
            coarse.density_lines,
            coarse.appearance_planes,
            coarse.appearance_lines,
        )
        return BlockTables(*(tuple(table[0] for table in group) for group in groups))

    @property
    def device(self) -> torch.device:
        """Where the planes lie."""
        if self.stream is not None:
            return self.stream.coarse.density_planes[0].device
        return self.sample_block.density_planes[0].device

    @property
    def has_mask(self) -> bool:
        """Whether an alpha mask decides about samples."""
        return self.occupancy is not None or (self.stream is not None and self.stream.mask is not None)

    @property
    def n_bytes(self) -> int:
        """Bytes of all planes and lines that are in memory."""
        coarse = 0 if self.stream is None else self.stream.coarse.n_bytes
        return coarse + sum(
            table.nbytes
            for block in filter(None, self.blocks)
            for group in (
                block.density_planes,
                block.density_lines,
                block.appearance_planes,
                block.appearance_lines,
            )
            for table in group
        )


@dataclass(frozen=True)
class View:
    """A pinhole view in float32, as LandMark casts it. Rays go through integer pixel positions."""

    c2w: np.ndarray  # float32 [3, 4], OpenGL axes
    fl_x: float
    fl_y: float
    cx: float
    cy: float
    width: int
    height: int


@dataclass(frozen=True)
class RenderOptions:
    """Everything that decides a picture beside field and view."""

    sampling: str  # "box" or "hull"
    near: float
    far: float
    step: float  # box sampling: distance between samples, scene units
    n_samples: int  # box sampling: samples per ray
    n_importance: int  # hull sampling: samples per ray
    distance_scale: float
    weight_threshold: float  # a sample is shaded where its weight exceeds this
    mask_threshold: float  # a sample is kept where the alpha mask exceeds this
    background: tuple[float, float, float]  # added with weight 1 - opacity
    latent: Tensor | None = None  # float32 [latent_dim]
    quality: Quality = Quality.EXACT
    nerf: NerfMode = NerfMode.OFF
    nerf_n_importance: int = 16
    normals: bool = False  # also compute normals from the density gradient
    threads: int = 0  # 0: all cores this process may use
    edits: EditTables | None = None  # None: the field as it is
    fade: Tensor | None = None  # float32 [n_blocks], share of a resident block against its coarse stand-in
    chunk_tiles: int = 64  # tiles that the torch path renders at once
    # Fast and clustered, on the host kernels: weight from which on further samples of a ray begin another
    # decoder evaluation; None: fast has one, clustered its usual weight.
    cluster_weight: float | None = None
    # Not exact, on the host kernels: the decoder's layers take bfloat16 numbers, where the processor can.
    bfloat16: bool = False
    tight: TightRoom | None = None  # fast and clustered, on the host kernels: where samples are looked for

    @property
    def n_threads(self) -> int:
        """Threads to start on the CPU."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class FrameBuffers:
    """Output of one render, filled tile by tile; float32 on the CPU, contiguous."""

    rgb: Tensor  # [height, width, 3], in [0, 1]
    opacity: Tensor  # [height, width]
    depth: Tensor  # [height, width] expected z-depth, sum of weight * t, scene units
    median_depth: Tensor  # [height, width] z-depth where the accumulated opacity reaches 0.5; 0: never
    normals: Tensor | None = None  # [height, width, 3] unit, world; 0: no surface
    # [height, width, 2] z-depth of the front layer, 0: the background is seen; and share of the opacity that
    # lies in it. The host kernels only.
    front: Tensor | None = None

    @classmethod
    def empty(cls, width: int, height: int, normals: bool = False, front: bool = False) -> FrameBuffers:
        """Allocates zeroed buffers."""
        import torch

        return cls(
            torch.zeros(height, width, 3),
            torch.zeros(height, width),
            torch.zeros(height, width),
            torch.zeros(height, width),
            torch.zeros(height, width, 3) if normals else None,
            torch.zeros(height, width, 2) if front else None,
        )


@dataclass(frozen=True)
class RayList:
    """Single pixels of a view, to be rendered instead of tiles. Packs of TILE * TILE of them are one step."""

    pixels: np.ndarray  # int32 [n] row * width + column, contiguous
    start: np.ndarray | None = None  # float32 [n] z-depth before which the ray meets nothing, contiguous

    def control(self) -> RenderControl:
        """Returns what follows the work on the list, pack by pack."""
        return RenderControl(-(-len(self.pixels) // TILE), TILE)

    def buffers(self) -> FrameBuffers:
        """Allocates buffers in the order of the list: [1, n, ...], front included."""
        return FrameBuffers.empty(len(self.pixels), 1, front=True)


class RenderControl:
    """Shared between the thread that renders and the one that watches; safe without a lock.

    Tiles are TILE x TILE pixels, numbered row by row. The renderer takes them in `order`.
    """

    def __init__(self, width: int, height: int, order: np.ndarray | None = None) -> None:
        self.columns = -(-width // TILE)
        self.rows = -(-height // TILE)
        self.order = np.ascontiguousarray(
            np.arange(self.columns * self.rows) if order is None else order, dtype=np.int32
        )
        self.cancel_flag = np.zeros(1, dtype=np.int32)
        self.done_count = np.zeros(1, dtype=np.int32)
        self.tile_done = np.zeros(self.columns * self.rows, dtype=np.uint8)
        # Of a streamed field: which tiles read a coarse stand-in, and how much each block would have counted.
        # A tile lacks something if any sample that was weighed, before the ray ended, lies in a block that is
        # not resident; a block's need is the sum of weight / pixels of its samples. None: not asked for.
        self.tile_lacking = np.zeros(self.columns * self.rows, dtype=np.uint8)
        self.needs: np.ndarray | None = None  # float32 [n_blocks]
        self.lacking: np.ndarray | None = None  # uint8 [n_blocks], blocks that any tile lacked

    def cancel(self) -> None:
        """Asks the renderer to stop after the tiles under way."""
        self.cancel_flag[0] = 1

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return bool(self.cancel_flag[0])

    @property
    def progress(self) -> float:
        """Share of the ordered tiles that are finished, in [0, 1]."""
        return float(self.done_count[0]) / max(len(self.order), 1)
