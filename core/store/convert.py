"""Turns a checkpoint into a block store, one block at a time; a run that was stopped is taken up again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import xxhash

from ...cuda.stream_tables import MaskGrid
from ..checkpoint.header import read_header
from ..checkpoint.landmark import Opened
from ..checkpoint.naming import STORE_JOURNAL
from ..checkpoint.values import Values
from ..errors import InputError
from ..gridnerf import FULL_PRECISION_LIMIT, GridNeRF
from ..settings import Precision
from ..streaming.parts import LINE_TEXELS, mask_part
from ..training.parameters import name_small
from .cut import CutBlocks, divided
from .form import BlockForm, Size, sizes_of
from .index import VERSION, BlockList, CoarseEntry, FileEntry, StoreIndex, check_texels
from .store import Store, is_store
from .writer import MaskPart, StoreWriter, journal_lines

SIDES = (32, 16, 8, 4, 2)  # texels along the sides of coarse stand-ins, where blocks are finer
PACKED = 2  # blocks in memory: one is written while the next one is packed


@dataclass(frozen=True)
class Progress:
    """How far a conversion is; bytes are those of the source's planes and lines in the store's precision."""

    done: int  # blocks, those of earlier runs included
    total: int
    n_bytes: int  # of this run
    seconds: float


@dataclass(frozen=True)
class Report:
    """What a conversion has done."""

    n_blocks: int
    n_taken_up: int  # blocks that an earlier run had finished
    n_bytes: int  # written in this run
    seconds: float
    largest_error: float | None  # of resampled planes against the undivided ones; None: all blocks are exact
    largest_value: float  # of what was resampled


OnProgress = Callable[[Progress], None]


def convert(
    opened: Opened,
    path: Path,
    precision: Precision = Precision.AUTO,
    division: tuple[int, int] | None = None,
    force: bool = False,
    on_progress: OnProgress = lambda progress: None,
) -> Report:
    """Writes a store with all blocks of a checkpoint.

    The store counts from the moment it is complete. A run that was stopped goes on where it was when it is
    started again with the same checkpoint and options; two blocks at most are held in memory.

    Args:
        opened: The checkpoint.
        path: Folder of the store, new or empty unless `force`.
        precision: Of the planes; AUTO is what a renderer would choose.
        division: Blocks along x and y to cut an undivided field into.
        force: Write over a store that is there; it stays valid until the new one is complete.
        on_progress: Called after every block.

    Raises:
        InputError: The checkpoint or the folder cannot be used, or the disk is full.
    """
    model = opened.model
    if isinstance(model.source, Store):
        raise InputError(f"{model.source.path}: is a block store already; name the checkpoint it came from")
    cut = None
    if division is not None:
        model, cut = divided(model, division)
    draft = draft_of(opened, model, precision)
    fingerprint = _fingerprint(opened, draft)
    _check_folder(path, force, fingerprint)
    numbers = [number for number in range(draft.n_blocks) if _has_block(model, number)]
    with StoreWriter(path, draft, _networks(model), fingerprint) as writer:
        taken_up = writer.finished
        todo = [number for number in numbers if number not in taken_up]
        began = time.monotonic()

        def report(n_written: int) -> None:
            seconds = time.monotonic() - began
            n_bytes = n_written * draft.form.n_bytes
            on_progress(Progress(len(taken_up) + n_written, len(numbers), n_bytes, seconds))

        report(0)
        _write_blocks(writer, model, todo, report)
        writer.commit()
        writer.clean()
    exact = cut is None or cut.is_exact
    return Report(
        len(numbers),
        len(taken_up),
        len(todo) * draft.form.n_bytes,
        time.monotonic() - began,
        None if exact or cut is None else cut.largest_error,
        0.0 if cut is None else cut.largest_value,
    )


def replace_block(opened: Opened, path: Path, number: int) -> None:
    """Adds one block of a checkpoint to a store or replaces it there; nothing in between is ever seen.

    Raises:
        InputError: The checkpoint's field has another form than the store's, or lacks the block.
    """
    store = Store.open(path)
    model, index = opened.model, store.index
    theirs = draft_of(opened, model, store.precision)
    for (what, own), other in zip(_shape(index).items(), _shape(theirs).values(), strict=True):
        if own != other:
            raise InputError(
                f"{opened.files[0]}: must have the {what} {own} of {path}, got {other}; "
                "name a checkpoint of the same layout"
            )
    if not 0 <= number < index.n_blocks or not _has_block(model, number):
        raise InputError(
            f"{opened.files[0]}: must hold block {number}, got a field of {index.n_blocks} blocks without it"
        )
    block = model.blocks[number]
    assert block is not None
    with StoreWriter(path, index, store.networks()) as writer:
        writer.put(number, block, _mask_of(model, number))
        writer.commit()


def draft_of(opened: Opened, model: GridNeRF, precision: Precision) -> StoreIndex:
    """Returns the index of a store of a field, without blocks."""
    first = next((n for n in range(model.layout.n_blocks) if _has_block(model, n)), None)
    block = None if first is None else model.blocks[first]
    if block is None:
        raise InputError(f"{opened.files[0]}: must have at least one block, got none")
    sizes = sizes_of(block)
    check_texels(sizes)
    form = BlockForm.of(
        sizes,
        model.n_levels,
        model.density_channels,
        model.appearance_channels,
        _is_half(model, precision),
    )
    kwargs = _kwargs(model)
    header = read_header(
        Values(str(opened.files[0]), "kwargs.", {**kwargs, "aabb": torch.tensor(kwargs["aabb"])})
    )
    grid = model.occupancy
    sides = [side for side in SIDES if side < form.n_texels] or [SIDES[-1]]
    nowhere = FileEntry("", 0, "")
    return StoreIndex(
        source=", ".join(file.name for file in opened.files[:8]) + ", ..." * (len(opened.files) > 8),
        kind=opened.kind,
        generation=0,
        division=model.layout.division,
        zero_sigma_outside=model.zero_sigma_outside,
        header=header,
        kwargs=kwargs,
        settings=model.settings,
        form=form,
        mask=None if grid is None else MaskGrid(tuple(grid.nodes.shape[::-1]), grid.aabb),  # type: ignore[arg-type]
        blocks=BlockList.empty(),
        coarse=tuple(CoarseEntry(side, _coarse_sizes(sizes, side), nowhere) for side in sides),
        room=None,
        network=nowhere,
    )


def _write_blocks(
    writer: StoreWriter, model: GridNeRF, numbers: Sequence[int], report: Callable[[int], None]
) -> None:
    """Packs one block while the one before it is written."""
    memories = [torch.empty(writer.n_memory_bytes, dtype=torch.uint8) for _ in range(PACKED)]
    with ThreadPoolExecutor(1, "store") as pool:
        writing: Future[None] | None = None
        for count, number in enumerate(numbers):
            block = model.blocks[number]
            assert block is not None
            mask = _mask_of(model, number)
            packed = writer.pack(number, block, mask, memories[count % PACKED], model.release)
            if writing is not None:
                writing.result()
                report(count)
            writing = pool.submit(writer.write, packed)
        if writing is not None:
            writing.result()
            report(len(numbers))


def _check_folder(path: Path, force: bool, fingerprint: str) -> None:
    """Makes sure that nothing is written over that shall be kept."""
    if not path.exists():
        return
    if not path.is_dir():
        raise InputError(f"{path}: must be a folder for the store, but is a file; name another one")
    lines = journal_lines(path / STORE_JOURNAL)
    if (lines and lines[0] == fingerprint) or not os.listdir(path):
        return
    if is_store(path) or lines:
        if not force:
            what = "a block store already" if is_store(path) else "an unfinished conversion of something else"
            raise InputError(f"{path}: holds {what}; name another folder, or add --force to write over it")
        return
    raise InputError(f"{path}: must be a new or empty folder, but holds other files; name another one")


def _fingerprint(opened: Opened, draft: StoreIndex) -> str:
    """Tells whether two runs would write the same."""
    files = [(str(file), *_stamp(file)) for file in opened.files]
    facts = [VERSION, files, draft.division, draft.form.half, draft.form.sizes, draft.kwargs]
    return xxhash.xxh3_128_hexdigest(json.dumps(facts).encode())


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


def _has_block(model: GridNeRF, number: int) -> bool:
    """Whether a block exists; without cutting it out."""
    return isinstance(model.blocks, CutBlocks) or model.blocks[number] is not None


def _mask_of(model: GridNeRF, number: int) -> MaskPart | None:
    grid = model.occupancy
    if grid is None:
        return None
    return mask_part(grid.nodes, grid.aabb, model.aabb, model.layout.division, number)


def _shape(index: StoreIndex) -> dict[str, object]:
    """Returns what the blocks of one store have in common."""
    form, mask = index.form, index.mask
    return {
        "division": index.division,
        "levels": form.n_levels,
        "sizes": form.sizes,
        "density channels": form.density_channels,
        "appearance channels": form.appearance_channels,
        "bounding box": index.header.aabb.tolist(),
        "alpha mask": None if mask is None else (mask.n, mask.aabb.tolist()),
    }


def _is_half(model: GridNeRF, precision: Precision) -> bool:
    if precision is Precision.AUTO:
        return model.n_parameter_bytes > FULL_PRECISION_LIMIT
    return precision is Precision.HALF


def _coarse_sizes(sizes: Sequence[Size], side: int) -> tuple[Size, ...]:
    return tuple((min(u, side), min(v, side), min(w, LINE_TEXELS * side)) for u, v, w in sizes)


def _kwargs(model: GridNeRF) -> dict[str, object]:
    """Returns the field's numbers as LandMark's `kwargs`, plain."""
    decoder = model.decoder
    return {
        "aabb": model.aabb.tolist(),
        "gridSize": list(model.grid_size),
        "density_n_comp": list(model.density_channels),
        "appearance_n_comp": list(model.appearance_channels),
        "app_dim": decoder.basis.shape[0],
        "featureC": decoder.layers[0][0].shape[0],
        "fea2denseAct": model.activation,
        "density_shift": model.density_shift,
        "distance_scale": model.distance_scale,
        "rayMarch_weight_thres": model.weight_threshold,
        "near_far": list(model.near_far),
        "step_ratio": model.step_ratio,
        "view_pe": decoder.view_pe,
        "fea_pe": decoder.feature_pe,
    }


def _networks(model: GridNeRF) -> dict[str, torch.Tensor]:
    decoder = model.decoder
    return name_small(decoder.basis, decoder.layers, model.density_basis, model.embedding, model.nerf)
