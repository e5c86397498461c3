"""What the parts of streaming say to each other: blocks, states, budgets, and where blocks come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch

    from ...cuda.stream_tables import BlockMask, Room, StreamTables
    from ...cuda.tables import BlockTables
    from ..gridnerf import GridNeRF
    from ..settings import Precision


class BlockState(str, Enum):
    """Where a block is. EDITED and TUNED: on the device, but not as the checkpoint has it."""

    DISK = "disk"
    HOST = "host"
    FETCHING = "fetching"
    DEVICE = "device"
    EDITED = "edited"
    TUNED = "tuned"
    FAILED = "failed"


STATES = tuple(BlockState)  # a state's number, in arrays, is its place here


@dataclass(frozen=True)
class MemoryBudget:
    """What streaming may use, and how."""

    device: int | None = None  # bytes of blocks and stand-ins where rendering happens; None: see `resolved`
    host: int | None = None  # bytes of blocks kept beside the device; unused where both are one memory
    detail: float = 0.0  # coarse texels below this many pixels are fine enough; 0: full detail wherever seen
    neighbour_size: int | None = None  # N: hold the N x N blocks around the camera instead of what is in view
    prefetch_seconds: float = 1.25  # how far ahead of a moving camera blocks are fetched


@dataclass(frozen=True)
class Variant:
    """Another version of one block: replaced by a layer (edited) or fine-tuned (tuned)."""

    block: int
    source: BlockSource = field(compare=False, repr=False)  # serves `block` only
    identity: tuple[object, ...]  # equal for equal contents, e.g. (path, mtime_ns, size)
    state: BlockState = BlockState.EDITED
    room: Room | None = field(default=None, compare=False, repr=False)  # of its mask, if it has its own


class BlockKey(NamedTuple):
    """One block in one version; variant 0 is the checkpoint's own."""

    block: int
    variant: int = 0


@dataclass(frozen=True, eq=False)
class Wants:
    """Blocks that are wanted, each once, most urgent first; arrays are [n]."""

    blocks: np.ndarray = field(default_factory=partial(np.zeros, 0, np.int64))
    variants: np.ndarray = field(default_factory=partial(np.zeros, 0, np.int64))  # see BlockKey
    priority: np.ndarray = field(default_factory=partial(np.zeros, 0))  # larger: more urgent; any scale
    prefetch: np.ndarray = field(default_factory=partial(np.zeros, 0, np.bool_))  # wanted soon, not yet seen


@dataclass(frozen=True)
class Payload:
    """One block in memory, ready for the kernels."""

    tables: BlockTables
    mask: BlockMask | None
    n_bytes: int  # of the memory that they lie in


class BlockSource(Protocol):
    """Where blocks come from: a store, or LandMark's own files. `read` is called from fetch threads."""

    @property
    def description(self) -> str:
        """For people: where the blocks lie."""

    @property
    def precision(self) -> Precision:
        """Number format that the planes have where they come from; AUTO: any is as good."""

    def exists(self, block: int) -> bool:
        """Whether there is such a block."""

    def n_bytes(self, block: int, precision: Precision, drop_levels: int = 0) -> int:
        """Bytes that `read` fills."""

    def read(self, block: int, memory: torch.Tensor, precision: Precision, drop_levels: int = 0) -> Payload:
        """Fills memory (uint8 [n_bytes], CPU) with one block and describes it.

        Args:
            block: Its number.
            memory: To be filled.
            precision: Of the planes.
            drop_levels: So many of the finest levels become a single texel of zeros.

        Raises:
            InputError: The block is missing, damaged or cannot be read; one sentence.
        """

    def expect(self, block: int) -> None:
        """Is told which block will probably be read next, so that a disk can begin; must not raise."""

    def stream_tables(self, model: GridNeRF, precision: Precision, n_bytes: int) -> StreamTables:
        """Reads the coarse stand-ins, in the finest size that fits n_bytes, and the room of the mask."""


@dataclass(frozen=True)
class FetchRecord:
    """One line of the log of fetches."""

    key: BlockKey
    n_bytes: int
    seconds: float  # from the start of reading to being on the device
    finished: float  # seconds of time.monotonic()
    error: str | None = None


@dataclass(frozen=True)
class StreamStatus:
    """What there is to say of the streaming of one field; arrays are copies."""

    states: np.ndarray  # uint8 [n_blocks], index into STATES; 255: no such block
    block_bytes: np.ndarray  # int64 [n_blocks], bytes in memory now, host and device together
    pinned: frozenset[int]
    device_bytes: int  # allocated for blocks now, coarse stand-ins included
    device_budget: int
    host_bytes: int
    host_budget: int
    n_wanted: int  # blocks that the present view wants
    n_missing: int  # of these, not there yet
    n_beyond: int  # of these, for which the budget has no room
    fetching: tuple[int, ...]
    prefetching: tuple[int, ...]  # blocks that are wanted for where the camera will be
    target: tuple[float, float] | None  # where the camera is expected to be, scene units
    pressure: tuple[str, ...] = ()  # what was given up so far to stay within the budget, in order
    fetched_bytes: int = 0  # since the field was opened
    fetch_seconds: float = 0.0  # spent reading
    failures: tuple[tuple[int, str], ...] = ()  # block and reason
    version: int = 0  # counts changes of what is resident
