"""Store, a field on disk: opens at once at any size, and fetches single blocks into given memory."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from ...cuda import ops
from ...cuda.stream_tables import ROOM_CELL, BlockMask, CoarseTables, Room, StreamTables
from ..blocks import BlockLayout
from ..checkpoint.naming import STORE_INDEX
from ..checkpoint.values import show
from ..checkpoint.weights import StateDict, read_decoder, read_density_basis, read_embedding, read_nerf
from ..errors import InputError
from ..gridnerf import FieldBlock, GridNeRF, Parts
from ..lazy_blocks import LazyBlocks
from ..occupancy import OccupancyGrid
from ..settings import Precision
from ..streaming.contracts import Payload
from .block_file import BlockFile, FileForm, read_ahead
from .form import ALIGNMENT, BlockForm
from .index import CoarseEntry, FileEntry, StoreIndex, read_index
from .safe_file import Tensors, damaged, map_checked, map_file, tensors_of

MAX_OCCUPANCY = 16 << 20  # vertices of a mask that is also kept, and opened, as a whole
OPEN_BLOCKS = 8  # blocks of `model().blocks` that stay mapped


def is_store(path: Path) -> bool:
    """Whether a path is the folder of a finished block store."""
    return (path / STORE_INDEX).is_file()


class Store:
    """An open block store; a BlockSource. Safe to use from several threads.

    A store that grows meanwhile is seen as it was when it was opened.
    """

    def __init__(self, path: Path, index: StoreIndex) -> None:
        self.path = path
        self.index = index
        self._forms: dict[tuple[bool, int], BlockForm] = {}  # by precision and dropped levels
        self._file_forms: dict[int, FileForm] = {}  # by vertices of the mask

    @classmethod
    def open(cls, path: Path) -> Store:
        """Opens a folder; only its index is read.

        Raises:
            InputError: It is no block store, or its index is damaged.
        """
        path = Path(path).absolute()
        return cls(path, read_index(path))

    # BlockSource

    @property
    def description(self) -> str:
        """For people: where the blocks lie."""
        return str(self.path)

    @property
    def precision(self) -> Precision:
        """Number format of the stored planes."""
        return Precision.HALF if self.index.form.half else Precision.FULL

    def exists(self, block: int) -> bool:
        """Whether there is such a block."""
        return 0 <= block < self.index.n_blocks and bool(self.index.rows[block] >= 0)

    def n_bytes(self, block: int, precision: Precision, drop_levels: int = 0) -> int:
        """Bytes that `read` fills: tables, vertices of the mask and their brick tables."""
        shape = self._mask_shape(self._row(block))
        return self._form(precision, drop_levels).n_bytes + _mask_layout(shape)[-1]

    def read(self, block: int, memory: Tensor, precision: Precision, drop_levels: int = 0) -> Payload:
        """Fills memory with one block, see BlockSource; Precision.AUTO is the stored one."""
        row, form = self._row(block), self._form(precision, drop_levels)
        shape = self._mask_shape(row)
        n_bytes = form.n_bytes + _mask_layout(shape)[-1]
        if len(memory) < n_bytes or memory.data_ptr() % ALIGNMENT:
            raise ValueError(
                f"memory must be aligned to {ALIGNMENT} and hold {n_bytes} bytes, got {len(memory)}"
            )
        with self.block_file(row) as file:
            file.tables(memory, form)
            nodes = None if shape is None else file.mask(shape)
        mask = None
        if nodes is not None:
            window = self.index.blocks.windows[row]
            mask = _placed_mask(nodes, (int(window[0]), int(window[1])), memory[form.n_bytes : n_bytes])
        return Payload(form.tables(memory, held=memory), mask, n_bytes)

    def expect(self, block: int) -> None:
        """Has the system begin to read a block's file."""
        if self.exists(block):
            read_ahead(self.path / self.index.blocks.name(int(self.index.rows[block])))

    def stream_tables(self, model: GridNeRF, precision: Precision, n_bytes: int) -> StreamTables:
        """Opens the coarse stand-ins, in the finest size that fits n_bytes, and the room of the mask.

        Where not even the smallest fits, it is that one. In the stored precision the stand-ins stay in their
        file, which is mapped into memory.

        Raises:
            InputError: A file is missing or damaged.
        """
        index, half = self.index, self._is_half(precision)
        room = None if index.room is None else self._room(index.room)
        left = n_bytes - (0 if room is None else room.bricks.nbytes)
        n_rows = len(index.blocks.numbers)
        fitting = (
            entry
            for entry in index.coarse
            if index.coarse_form(entry).with_half(half).n_bytes * n_rows <= left
        )
        chosen = next(fitting, index.coarse[-1])
        return StreamTables(self._coarse(chosen, half), index.mask, room, {})

    # The field

    def model(self) -> GridNeRF:
        """Returns the field; its blocks are mapped when they are asked for.

        Its occupancy is None where the field has no mask, and also where the whole mask is very large.

        Raises:
            InputError: The networks are missing or damaged.
        """
        index = self.index
        header, form = index.header, index.form
        state = StateDict(str(self.path / index.network.name), self.networks())
        n_density = form.n_levels * sum(header.density_channels)
        n_appearance = form.n_levels * sum(header.appearance_channels)
        embedding = read_embedding(state)
        latent_dim = 0 if embedding is None else embedding.shape[1]
        return GridNeRF(
            aabb=header.aabb,
            grid_size=header.grid_size,
            density_channels=header.density_channels,
            appearance_channels=header.appearance_channels,
            n_levels=form.n_levels,
            layout=BlockLayout(index.division),
            blocks=StoreBlocks(self),
            decoder=read_decoder(state, header, n_appearance, latent_dim),
            activation=header.activation,
            density_shift=header.density_shift,
            distance_scale=header.distance_scale,
            weight_threshold=header.weight_threshold,
            near_far=header.near_far,
            step_ratio=header.step_ratio,
            settings=index.settings,
            density_basis=read_density_basis(state, n_density),
            embedding=embedding,
            nerf=read_nerf(state, n_density, n_appearance, latent_dim),
            occupancy=self._occupancy(),
            zero_sigma_outside=index.zero_sigma_outside,
            source=self,
        )

    def field_block(self, block: int) -> FieldBlock | None:
        """Maps one block, channels first; nothing is read before it is used."""
        if not self.exists(block):
            return None
        row, form = self._row(block), self.index.form
        path = self.path / self.index.blocks.name(row)
        self.block_file(row).close()  # checks the header
        data = map_file(path, int(self.index.blocks.n_bytes[row]))
        sections = self.file_form(row).sections
        tables = form.tables(data[len(data) - sum(sections[1:]) :])

        def channel_first(group: tuple[Tensor, ...], channels: tuple[int, ...]) -> tuple[Parts, ...]:
            return tuple(
                (table.movedim(-1, 0)[: channels[p // form.n_levels]],) for p, table in enumerate(group)
            )

        return FieldBlock(
            channel_first(tables.density_planes, form.density_channels),
            channel_first(tables.density_lines, form.density_channels),
            channel_first(tables.appearance_planes, form.appearance_channels),
            channel_first(tables.appearance_lines, form.appearance_channels),
        )

    # Files

    def block_file(self, row: int) -> BlockFile:
        """Opens the file of the block in a row of the list."""
        blocks = self.index.blocks
        path = self.path / blocks.name(row)
        return BlockFile(path, int(blocks.n_bytes[row]), blocks.digests[row], self.file_form(row))

    def file_form(self, row: int) -> FileForm:
        """Returns what is in that file."""
        index, shape = self.index, self._mask_shape(row)
        n_vertices = 0 if shape is None else shape[0] * shape[1] * shape[2]
        if n_vertices not in self._file_forms:
            coarse = tuple((entry.side, index.coarse_form(entry)) for entry in index.coarse)
            self._file_forms[n_vertices] = FileForm(index.form, coarse, n_vertices)
        return self._file_forms[n_vertices]

    def block_mask(self, row: int) -> tuple[Tensor, tuple[int, int]] | None:
        """Reads a block's part of the mask [n_z, n_y, n_x] and its first vertex along x and y."""
        shape = self._mask_shape(row)
        if shape is None:
            return None
        window = self.index.blocks.windows[row]
        with self.block_file(row) as file:
            return file.mask(shape), (int(window[0]), int(window[1]))

    def coarse_rows(self, entry: CoarseEntry) -> list[Tensor]:
        """Maps a coarse file: its tables in the order of BlockForm.specs, each [n_rows, ...]."""
        tensors = coarse_tensors(self.index.coarse_form(entry), len(self.index.blocks.numbers))
        mapped = self._map(entry.file, tensors)
        return [mapped[name] for name, *_ in tensors]

    def _row(self, block: int) -> int:
        if not self.exists(block):
            raise InputError(f"{self.path}: must hold block {show(block)}, but does not")
        return int(self.index.rows[block])

    def _is_half(self, precision: Precision) -> bool:
        return self.index.form.half if precision is Precision.AUTO else precision is Precision.HALF

    def _form(self, precision: Precision, drop_levels: int) -> BlockForm:
        key = self._is_half(precision), drop_levels
        if key not in self._forms:
            self._forms[key] = self.index.form.with_half(key[0]).dropped(drop_levels)
        return self._forms[key]

    def _mask_shape(self, row: int) -> tuple[int, int, int] | None:
        if self.index.mask is None:
            return None
        window = self.index.blocks.windows[row]
        return self.index.mask.n[2], int(window[3]), int(window[2])

    def _coarse(self, entry: CoarseEntry, half: bool) -> CoarseTables:
        form = self.index.coarse_form(entry)
        groups: tuple[list[Tensor], ...] = ([], [], [], [])
        dtype = form.with_half(half).plane_dtype
        placed = zip(form.specs, self.coarse_rows(entry), strict=True)
        for spec, rows in sorted(placed, key=lambda pair: pair[0].p):
            groups[spec.group].append(rows if spec.group % 2 else rows.to(dtype))
        return CoarseTables(torch.from_numpy(self.index.rows.copy()), *map(tuple, groups))

    def _room(self, entry: FileEntry) -> Room:
        mask = self.index.mask
        assert mask is not None
        x, y, z = (n // ROOM_CELL + 1 for n in mask.n)
        return Room((x, y, z), self._map(entry, room_tensors(mask.n))["bricks"])

    def _occupancy(self) -> OccupancyGrid | None:
        mask, room = self.index.mask, self.index.room
        if mask is None or room is None or mask.n[0] * mask.n[1] * mask.n[2] > MAX_OCCUPANCY:
            return None
        packed = self._map(room, room_tensors(mask.n))["mask"]
        return OccupancyGrid.from_packed(packed.numpy(), mask.n[::-1], mask.aabb)

    def networks(self) -> dict[str, Tensor]:
        """Reads everything but planes and lines, by LandMark's names; nothing in it is checked yet.

        Raises:
            InputError: The file is missing or damaged.
        """
        entry = self.index.network
        path = self.path / entry.name
        data = map_checked(path, entry.n_bytes, entry.digest)
        try:
            from safetensors.torch import load

            return load(data.numpy().tobytes())
        except Exception:  # noqa: BLE001 - whatever the library says, the file cannot be used
            raise damaged(path, "it holds no tensors") from None

    def _map(self, entry: FileEntry, tensors: Tensors) -> dict[str, Tensor]:
        """Maps a file that is not too large to be checked whole when it is opened."""
        path = self.path / entry.name
        return tensors_of(path, map_checked(path, entry.n_bytes, entry.digest), tensors)


class StoreBlocks(LazyBlocks):
    """The blocks of a store, mapped when they are asked for; the last `n_kept` stay mapped."""

    def __init__(self, store: Store, n_kept: int = OPEN_BLOCKS) -> None:
        self._store, self._n_kept = store, n_kept
        self._mapped: OrderedDict[int, FieldBlock] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return self._store.index.n_blocks

    def __contains__(self, block: object) -> bool:
        if block is None:
            return len(self._store.index.blocks.numbers) < len(self)
        return super().__contains__(block)

    def block(self, number: int) -> FieldBlock | None:
        """Maps a block, unless it is mapped already; None: it does not exist."""
        with self._lock:
            block = self._mapped.get(number)
            if block is None:
                block = self._store.field_block(number)
            if block is not None:
                self._mapped[number] = block
                self._mapped.move_to_end(number)
                if len(self._mapped) > self._n_kept:
                    self._mapped.popitem(last=False)
            return block


def coarse_tensors(form: BlockForm, n_rows: int) -> Tensors:
    """Returns what is in a coarse file."""
    return [(spec.name, spec.dtype, (n_rows, *spec.shape)) for spec in form.specs]


def room_tensors(n_vertices: tuple[int, int, int]) -> Tensors:
    """Returns what is in the file of the room: its bricks, and the whole mask where that is small."""
    n_x, n_y, n_z = (-(-(n // ROOM_CELL + 1) // 4) for n in n_vertices)
    tensors: list[tuple[str, torch.dtype, tuple[int, ...]]] = [("bricks", torch.int64, (n_z, n_y, n_x))]
    count = n_vertices[0] * n_vertices[1] * n_vertices[2]
    if count <= MAX_OCCUPANCY:
        tensors.append(("mask", torch.uint8, (-(-count // 8),)))
    return tensors


def _mask_layout(shape: tuple[int, int, int] | None) -> tuple[int, int, int]:
    """Returns where, behind the tables, the brick tables and the end of a block's mask lie, in bytes."""
    if shape is None:
        return 0, 0, 0
    nodes = -(-shape[0] * shape[1] * shape[2] // ALIGNMENT) * ALIGNMENT
    z, y, x = (n // 4 + 1 for n in shape)
    bricks = z * y * x * 8
    return nodes, nodes + bricks, nodes + 2 * bricks


def _placed_mask(nodes: Tensor, first: tuple[int, int], memory: Tensor) -> BlockMask:
    """Puts vertices and their brick tables into the memory that was counted for them."""
    bricks_at, all_at, end = _mask_layout(tuple(nodes.shape))  # type: ignore[arg-type]
    placed = memory[: nodes.numel()].view(nodes.shape)
    placed.copy_(nodes)
    any_cell, all_cell = ops.mask_bricks(placed)
    bricks = [
        memory[begin:stop].view(torch.int64).view(any_cell.shape)
        for begin, stop in ((bricks_at, all_at), (all_at, end))
    ]
    bricks[0].copy_(any_cell)
    bricks[1].copy_(all_cell)
    return BlockMask(placed, first, *bricks)
