"""Turns a checkpoint, or a store, into a block store, block by block; a run that was stopped goes on."""

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

from ..checkpoint.header import read_header
from ..checkpoint.landmark import Opened
from ..checkpoint.naming import STORE_JOURNAL
from ..checkpoint.values import Values
from ..errors import InputError
from ..gridnerf import FULL_PRECISION_LIMIT, GridNeRF
from ..settings import Precision
from ..streaming.parts import LINE_TEXELS
from ..training.parameters import name_small
from .form import BlockForm, Size, sizes_of
from .index import VERSION, BlockList, CoarseEntry, FileEntry, StoreIndex, check_texels
from .original import Original
from .store import Store, is_store
from .writer import StoreWriter, journal_lines

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
    """Writes a store with all blocks of a checkpoint or of another store.

    The store counts from the moment it is complete. A run that was stopped goes on where it was when it is
    started again with the same checkpoint and options; two blocks at most are held in memory.

    Args:
        opened: The checkpoint or store.
        path: Folder of the store, new or empty unless `force`.
        precision: Of the planes; AUTO is a store's own, or else what a renderer would choose.
        division: Blocks along x and y to cut the field into, multiples of those that it has.
        force: Write over a store that is there; it stays valid until the new one is complete.
        on_progress: Called after every block.

    Raises:
        InputError: The checkpoint or the folder cannot be used, or the disk is full.
    """
    original = Original(opened, division)
    _check_other_folder(original, path)
    draft = draft_of(original, precision)
    fingerprint = _fingerprint(opened, draft)
    _check_folder(path, force, fingerprint)
    # What is cut out of one block comes behind each other, so that it is opened and checked once.
    numbers = sorted(filter(original.exists, range(draft.n_blocks)), key=original.whole)
    with StoreWriter(path, draft, _networks(original.model), fingerprint) as writer:
        taken_up = writer.finished
        todo = [number for number in numbers if number not in taken_up]
        began = time.monotonic()

        def report(n_written: int) -> None:
            seconds = time.monotonic() - began
            n_bytes = n_written * draft.form.n_bytes
            on_progress(Progress(len(taken_up) + n_written, len(numbers), n_bytes, seconds))

        report(0)
        _write_blocks(writer, original, todo, report)
        writer.commit()
        writer.clean()
    cut = original.cut
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
    """Adds one block of a checkpoint, or of another store, to a store or replaces it there, all at once.

    Raises:
        InputError: The checkpoint's field has another form than the store's, or lacks the block.
    """
    store = Store.open(path)
    original, index = Original(opened), store.index
    _check_other_folder(original, path)
    theirs = draft_of(original, store.precision)
    for (what, own), other in zip(_shape(index).items(), _shape(theirs).values(), strict=True):
        if own != other:
            raise InputError(
                f"{opened.files[0]}: must have the {what} {own} of {path}, got {other}; "
                "name a checkpoint of the same layout"
            )
    if not 0 <= number < index.n_blocks or not original.exists(number):
        raise InputError(
            f"{opened.files[0]}: must hold block {number}, got a field of {index.n_blocks} blocks without it"
        )
    with StoreWriter(path, index, store.networks()) as writer:
        writer.put(number, original.block(number), original.mask(number))
        writer.commit()


def draft_of(original: Original, precision: Precision) -> StoreIndex:
    """Returns the index of a store of a field, without blocks."""
    opened, model, store = original.opened, original.model, original.store
    sizes = sizes_of(next(block for block in model.blocks if block is not None))
    check_texels(sizes)
    form = BlockForm.of(
        sizes,
        model.n_levels,
        model.density_channels,
        model.appearance_channels,
        _is_half(original, precision),
    )
    kwargs = _kwargs(model)
    header = read_header(
        Values(str(opened.files[0]), "kwargs.", {**kwargs, "aabb": torch.tensor(kwargs["aabb"])})
    )
    sides = [side for side in SIDES if side < form.n_texels] or [SIDES[-1]]
    nowhere = FileEntry("", 0, "")
    names = ", ".join(file.name for file in opened.files[:8]) + ", ..." * (len(opened.files) > 8)
    return StoreIndex(
        source=names if store is None else store.index.source,
        kind=opened.kind if store is None else store.index.kind,
        generation=0,
        division=model.layout.division,
        zero_sigma_outside=model.zero_sigma_outside,
        header=header,
        kwargs=kwargs,
        settings=model.settings,
        form=form,
        mask=original.mask_grid,
        blocks=BlockList.empty(),
        coarse=tuple(CoarseEntry(side, _coarse_sizes(sizes, side), nowhere) for side in sides),
        room=None,
        network=nowhere,
    )


def _write_blocks(
    writer: StoreWriter, original: Original, numbers: Sequence[int], report: Callable[[int], None]
) -> None:
    """Packs one block while the one before it is written."""
    memories = [torch.empty(writer.n_memory_bytes, dtype=torch.uint8) for _ in range(PACKED)]
    with ThreadPoolExecutor(1, "store") as pool:
        writing: Future[None] | None = None
        for count, number in enumerate(numbers):
            block, mask = original.block(number), original.mask(number)
            packed = writer.pack(number, block, mask, memories[count % PACKED], original.model.release)
            if writing is not None:
                writing.result()
                report(count)
            writing = pool.submit(writer.write, packed)
        if writing is not None:
            writing.result()
            report(len(numbers))


def _check_other_folder(original: Original, path: Path) -> None:
    store = original.store
    if store is not None and store.path.resolve() == path.resolve():
        raise InputError(f"{path}: must be another folder than the store that is converted; name a new one")


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


def _is_half(original: Original, precision: Precision) -> bool:
    if precision is Precision.AUTO and original.store is not None:
        return original.store.index.form.half
    if precision is Precision.AUTO:
        return original.opened.model.n_parameter_bytes > FULL_PRECISION_LIMIT
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
