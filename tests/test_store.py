"""The block store: what goes in comes out, damage is told in a sentence, and growing is all or nothing."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from landmark_viewer.core.checkpoint.landmark import Opened, open_checkpoint
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.gridnerf import FieldBlock, GridNeRF
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.store import writer as writer_module
from landmark_viewer.core.store.convert import convert, replace_block
from landmark_viewer.core.store.form import FIELDS
from landmark_viewer.core.store.store import OPEN_BLOCKS, Store, StoreBlocks
from landmark_viewer.core.store.verify import verify
from landmark_viewer.core.store.writer import StoreWriter
from landmark_viewer.core.streaming.parts import RoomBuilder, coarsened, mask_part
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.tables import BlockTables

from .city_store import make_city_store
from .small_fields import SHAPES, Shape, make_field, random_points

ROOT = Path(__file__).resolve().parents[1]
STORED = {
    **{name: SHAPES[name] for name in SHAPES if name not in ("opaque", "fog", "plain")},
    "everything": Shape(
        levels=3,
        density=(5,),
        appearance=(9,),
        division=(3, 2),
        missing=(2,),
        latent=4,
        nonlinear=True,
        nerf=True,
        mask=(31, 27, 9),
        mask_shift=0.05,
        activation="softplus",
    ),
    "nerf without blocks": Shape(nerf=True, latent=3),
}
FACTS = (
    *("grid_size", "density_channels", "appearance_channels", "n_levels", "layout", "activation"),
    *("density_shift", "distance_scale", "weight_threshold", "near_far", "step_ratio", "settings"),
    "zero_sigma_outside",
)
FIELD = Shape(levels=2, division=(2, 3), missing=(4,), mask=(23, 19, 9), latent=3, grid=(20, 18, 9))


def opened(folder: Path, model: GridNeRF, name: str = "field.th") -> Opened:
    """Returns a field as if it came from a file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    if not file.exists():
        file.write_bytes(b"a field")
    return Opened(model, (), "made up", (file,))


def stored(folder: Path, model: GridNeRF, precision: Precision = Precision.FULL) -> Store:
    convert(opened(folder, model), folder / "store", precision)
    return Store.open(folder / "store")


def all_tables(tables: BlockTables) -> list[Tensor]:
    return [table for group in FIELDS for table in getattr(tables, group)]


def assert_same_blocks(ours: Any, theirs: Any) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            for a, b in zip(all_tables(one), all_tables(other), strict=True):
                assert a.dtype == b.dtype
                assert torch.equal(a, b)


def assert_same_row(coarse: Any, row: int, block: BlockTables) -> None:
    for rows, table in zip(all_tables(coarse), all_tables(block), strict=True):
        torch.testing.assert_close(rows[row], table)


def buffer(store: Store, block: int, precision: Precision, drop_levels: int = 0) -> Tensor:
    """Returns memory full of what nobody wants."""
    return torch.full((store.n_bytes(block, precision, drop_levels),), 0xA5, dtype=torch.uint8)


# Round trip


@pytest.mark.parametrize("precision", [Precision.FULL, Precision.HALF])
@pytest.mark.parametrize("name", STORED)
def test_a_stored_field_is_the_field(tmp_path: Path, name: str, precision: Precision) -> None:
    model = make_field(STORED[name])
    back = stored(tmp_path, model, precision).model()
    assert_same_blocks(back.tables(precision).blocks, model.tables(precision).blocks)
    for key in FACTS:
        assert getattr(back, key) == getattr(model, key), key
    assert torch.equal(back.aabb, model.aabb)
    points = random_points(200)
    if precision is Precision.FULL:
        assert torch.equal(back.sigma(points), model.sigma(points))
        feature, other = back.appearance_feature(points), model.appearance_feature(points)
        assert torch.equal(feature, other)
        latent = model.latent(1)
        assert (latent is None) == (back.latent(1) is None)
        assert torch.equal(back.color(feature, points, back.latent(1)), model.color(other, points, latent))
    if model.nerf is None:
        assert back.nerf is None
    else:
        pairs: list[Tensor] = []
        back.nerf.map(lambda tensor: pairs.append(tensor) or tensor)
        model.nerf.map(lambda tensor: pairs.append(tensor) or tensor)
        for a, b in zip(pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :], strict=True):
            assert torch.equal(a, b)
        assert (back.nerf.point_pe, back.nerf.view_pe, back.nerf.skip) == (
            model.nerf.point_pe,
            model.nerf.view_pe,
            model.nerf.skip,
        )


def test_the_mask_is_whole_where_blocks_are(tmp_path: Path) -> None:
    model = make_field(FIELD)
    back = stored(tmp_path, model).model()
    assert model.occupancy is not None
    assert back.occupancy is not None
    points = random_points(4000)
    block, _ = model.layout.locate(model._normalize(points))
    there = (block >= 0) & (block < 6) & (block != 4)
    kept, wanted = back.occupancy.sample(points[there]), model.occupancy.sample(points[there])
    assert torch.equal(kept, wanted)
    assert 0 < (wanted > 0).float().mean() < 1


@pytest.mark.parametrize("drop_levels", [0, 1, 2, 9])
@pytest.mark.parametrize("wanted", [Precision.FULL, Precision.HALF])
@pytest.mark.parametrize("precision", [Precision.FULL, Precision.HALF])
def test_a_block_is_read_into_given_memory(
    tmp_path: Path, precision: Precision, wanted: Precision, drop_levels: int
) -> None:
    model = make_field(STORED["everything"])
    store = stored(tmp_path, model, precision)
    tables = model.tables(precision)
    grid = model.occupancy
    assert grid is not None
    for number in range(model.layout.n_blocks):
        assert store.exists(number) == (model.blocks[number] is not None)
        if not store.exists(number):
            continue
        memory = buffer(store, number, wanted, drop_levels)
        payload = store.read(number, memory, wanted, drop_levels)
        assert payload.n_bytes == len(memory)
        found, block = all_tables(payload.tables), tables.blocks[number]
        assert block is not None
        for place, (got, expected) in enumerate(zip(found, all_tables(block), strict=True)):
            assert got.data_ptr() % 16 == 0
            if place % 3 >= 3 - min(drop_levels, 2):
                assert got.shape == (*(1 for _ in expected.shape[1:]), expected.shape[-1])
                assert not got.any()
            else:
                dtype = torch.float32 if got.dim() == 2 or wanted is Precision.FULL else torch.float16
                assert torch.equal(got, expected.to(dtype))
                assert got.dtype == dtype
        nodes, first = mask_part(grid.nodes, grid.aabb, model.aabb, model.layout.division, number)
        assert payload.mask is not None
        assert payload.mask.first == first
        assert torch.equal(payload.mask.nodes, nodes)
        any_cell, all_cell = ops.mask_bricks(nodes)
        assert torch.equal(payload.mask.any_cell, any_cell)
        assert torch.equal(payload.mask.all_cell, all_cell)
        low, high = memory.data_ptr(), memory.data_ptr() + len(memory)
        for table in (*found, payload.mask.nodes, payload.mask.any_cell, payload.mask.all_cell):
            assert low <= table.data_ptr()
            assert table.data_ptr() + table.nbytes <= high


def test_too_little_memory_is_refused(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(FIELD))
    memory = buffer(store, 0, Precision.HALF)
    with pytest.raises(ValueError, match="memory must be aligned to 16 and hold"):
        store.read(0, memory[:-16], Precision.HALF)
    with pytest.raises(InputError, match="must hold block 4, but does not"):
        store.read(4, memory, Precision.HALF)


# Coarse stand-ins and the room


def test_the_finest_stand_ins_that_fit_are_taken(tmp_path: Path) -> None:
    model = make_field(FIELD)
    store = stored(tmp_path, model)
    sides = [entry.side for entry in store.index.coarse]
    assert sides == [32, 16, 8, 4, 2]
    whole = store.stream_tables(store.model(), Precision.FULL, 1 << 30)
    tables = model.tables(Precision.FULL)
    assert whole.coarse.rows.tolist() == [0, 1, 2, 3, -1, 4]
    for number, row in enumerate(whole.coarse.rows.tolist()):
        block = tables.blocks[number]
        if block is not None:
            assert_same_row(whole.coarse, row, coarsened(block, 32))
    sizes = []
    room = whole.room
    assert room is not None
    for n_bytes in (whole.coarse.n_bytes + room.bricks.nbytes - 1, 30_000, 10_000, 0):
        coarse = store.stream_tables(store.model(), Precision.FULL, n_bytes).coarse
        sizes.append(max(coarse.density_planes[1].shape[1:3]))
        assert n_bytes == 0 or coarse.n_bytes <= n_bytes
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < 32
    assert sizes[-1] == 2


def test_stand_ins_have_the_precision_that_is_asked_for(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(FIELD), Precision.HALF)
    full = store.stream_tables(store.model(), Precision.FULL, 1 << 30).coarse
    half = store.stream_tables(store.model(), Precision.HALF, 1 << 30).coarse
    for a, b in zip(all_tables(full), all_tables(half), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b.float())
    assert half.density_planes[0].dtype == torch.float16
    assert half.density_lines[0].dtype == torch.float32


def test_the_room_is_that_of_all_parts(tmp_path: Path) -> None:
    model = make_field(replace(FIELD, mask=(43, 39, 9), mask_share=0.002))
    store = stored(tmp_path, model)
    grid, builder = model.occupancy, RoomBuilder((43, 39, 9))
    assert grid is not None
    for number in (0, 1, 2, 3, 5):
        builder.add(*mask_part(grid.nodes, grid.aabb, model.aabb, (2, 3), number))
    stream = store.stream_tables(store.model(), Precision.FULL, 1 << 20)
    wanted = builder.room()
    assert stream.mask is not None
    assert stream.room is not None
    assert stream.mask.n == (43, 39, 9)
    assert torch.equal(stream.mask.aabb, grid.aabb)
    assert stream.room.n == wanted.n
    assert torch.equal(stream.room.bricks, wanted.bricks)
    assert wanted.bricks.any()


def test_a_field_without_mask_has_no_room(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(Shape(division=(2, 1))))
    stream = store.stream_tables(store.model(), Precision.FULL, 1 << 20)
    assert stream.mask is None
    assert stream.room is None
    assert store.read(0, buffer(store, 0, Precision.FULL), Precision.FULL).mask is None


# Opening


def test_files_are_safetensors(tmp_path: Path) -> None:
    model = make_field(FIELD)
    store = stored(tmp_path, model)
    block = model.tables(Precision.FULL).blocks[3]
    assert block is not None
    with safe_open(store.path / store.index.blocks.name(3), "pt") as file:
        assert torch.equal(file.get_tensor("app_plane.1"), block.appearance_planes[1])
        assert torch.equal(file.get_tensor("density_line.0"), block.density_lines[0])
    for entry in store.index.beside:
        with safe_open(store.path / entry.name, "pt") as file:
            assert len(list(file.keys())) > 0


def test_opening_a_city_touches_no_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_city_store(tmp_path / "city", (30, 20), texels=8, distinct=2, missing=range(100, 130))
    monkeypatch.setattr("landmark_viewer.core.store.block_file.BlockFile.__init__", _fail)
    again = Store.open(store.path)
    model = again.model()
    assert model.source is again
    assert len(model.blocks) == 600
    assert None in model.blocks
    assert [again.exists(number) for number in (99, 100, 129, 130, 600, -1)] == [1, 0, 0, 1, 0, 0]
    assert model.occupancy is not None
    again.stream_tables(model, Precision.HALF, 1 << 24)
    with pytest.raises(RuntimeError, match="touched"):
        model.blocks[0]
    assert model.blocks[100] is None


def _fail(*_: object) -> None:
    raise RuntimeError("touched")


def test_few_blocks_stay_mapped(tmp_path: Path) -> None:
    store = make_city_store(tmp_path / "city", (8, 8), texels=8)
    blocks = store.model().blocks
    assert isinstance(blocks, StoreBlocks)
    assert isinstance(blocks[-1], FieldBlock)
    first = blocks[0]
    assert blocks[0] is first
    assert sum(block is not None for block in blocks) == 64
    assert len(blocks._mapped) == OPEN_BLOCKS
    assert len(blocks[3:9]) == 6
    with pytest.raises(IndexError):
        blocks[64]


def test_a_city_reads_as_it_was_made(tmp_path: Path) -> None:
    city = make_city_store(tmp_path / "a", (4, 3), texels=16, distinct=3, seed=5)
    same = make_city_store(tmp_path / "b", (4, 3), texels=16, distinct=3, seed=5)
    other = make_city_store(tmp_path / "c", (4, 3), texels=16, distinct=3, seed=6)
    assert city.index.blocks.digests == same.index.blocks.digests
    assert city.index.blocks.digests != other.index.blocks.digests
    assert len(set(city.index.blocks.digests)) == 3
    assert verify(city) == []
    for number in range(12):
        payload = city.read(number, buffer(city, number, Precision.HALF), Precision.HALF)
        assert payload.mask is not None
        assert 0 < payload.mask.nodes.float().mean() < 1


# Growing


def grown(folder: Path) -> tuple[Store, GridNeRF, GridNeRF]:
    """Returns a store of which a block is replaced and one is added, its field, and what it was before."""
    before = make_field(FIELD)
    after = make_field(replace(FIELD, missing=()), seed=7)
    after = replace(after, decoder=before.decoder, embedding=before.embedding)
    store = stored(folder, before)
    for number in (1, 4):
        replace_block(opened(folder / "new", after), store.path, number)
    return Store.open(store.path), before, after


def test_blocks_are_replaced_and_added(tmp_path: Path) -> None:
    store, before, after = grown(tmp_path)
    wanted = list(before.tables(Precision.FULL).blocks)
    for number in (1, 4):
        wanted[number] = after.tables(Precision.FULL).blocks[number]
    assert_same_blocks(store.model().tables(Precision.FULL).blocks, wanted)
    assert store.index.generation == 3
    assert verify(store) == []
    coarse = store.stream_tables(store.model(), Precision.FULL, 1 << 30).coarse
    for number, row in enumerate(coarse.rows.tolist()):
        block = wanted[number]
        assert block is not None
        assert_same_row(coarse, row, coarsened(block, 32))
    builder = RoomBuilder((23, 19, 9))
    for row in range(6):
        part = store.block_mask(row)
        assert part is not None
        builder.add(*part)
    stream = store.stream_tables(store.model(), Precision.FULL, 1 << 20)
    assert stream.room is not None
    assert torch.equal(stream.room.bricks, builder.room().bricks)


def test_who_has_the_store_open_reads_on(tmp_path: Path) -> None:
    before = make_field(FIELD)
    store = stored(tmp_path, before)
    coarse = store.stream_tables(store.model(), Precision.FULL, 1 << 30).coarse
    kept = coarse.density_planes[0].clone()
    replace_block(opened(tmp_path / "new", make_field(FIELD, seed=3)), store.path, 1)
    old = store.read(1, buffer(store, 1, Precision.FULL), Precision.FULL)
    assert_same_blocks([old.tables], [before.tables(Precision.FULL).blocks[1]])
    assert torch.equal(coarse.density_planes[0], kept)


def test_what_nobody_names_is_removed_later_and_nothing_else(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(FIELD))
    old = store.path / store.index.blocks.name(1)
    stray = store.path / "blocks" / "77-0123456789abcdef.safetensors"
    stray.write_bytes(b"")
    (store.path / "coarse-8-99.safetensors").write_bytes(b"")
    (store.path / "notes.txt").write_text("mine")
    replace_block(opened(tmp_path / "new", make_field(FIELD, seed=3)), store.path, 1)
    assert old.exists()
    assert not stray.exists()
    assert not (store.path / "coarse-8-99.safetensors").exists()
    replace_block(opened(tmp_path / "new", make_field(FIELD, seed=3)), store.path, 0)
    assert not old.exists()
    assert (store.path / "notes.txt").read_text() == "mine"
    assert len(list((store.path / "blocks").iterdir())) == 6


@pytest.mark.parametrize(
    ("shape", "number", "what"),
    [
        (replace(FIELD, levels=1), 0, "levels"),
        (replace(FIELD, grid=(9, 9, 9)), 0, "sizes"),
        (replace(FIELD, division=(3, 2)), 0, "division"),
        (replace(FIELD, density=(5,)), 0, "density channels"),
        (replace(FIELD, mask=None), 0, "alpha mask"),
        (FIELD, 6, "must hold block 6"),
        (FIELD, -1, "must hold block -1"),
        (FIELD, 4, "must hold block 4"),
    ],
)
def test_a_block_of_another_field_is_refused(tmp_path: Path, shape: Shape, number: int, what: str) -> None:
    store = stored(tmp_path, make_field(FIELD))
    with pytest.raises(InputError, match=what):
        replace_block(opened(tmp_path / "new", make_field(shape)), store.path, number)
    assert verify(Store.open(store.path)) == []


def test_only_one_may_write(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(FIELD))
    with (
        StoreWriter(store.path, store.index, store.networks()),
        pytest.raises(InputError, match="somebody else"),
    ):
        StoreWriter(store.path, store.index, store.networks())
    StoreWriter(store.path, store.index, store.networks()).close()


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from tests.test_store import FIELD, make_field, opened, replace_block
folder = Path(sys.argv[1])
new = opened(folder / "new", make_field(replace(FIELD, missing=()), seed=7))
def child(after):
    count = iter(range(after, -1, -1))
    def dying(function):
        def call(*arguments, **options):
            if next(count, 1) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)
        return call
    for name in ("fsync", "pwrite", "rename", "replace", "unlink", "link", "open"):
        setattr(os, name, dying(getattr(os, name)))
    replace_block(new, folder / str(after) / "store", 4)
    os._exit(0)
for after in map(int, sys.argv[2:]):
    pid = os.fork()
    if not pid:
        child(after)
    print(os.waitpid(pid, 0)[1])
"""


def test_a_kill_while_growing_leaves_the_old_or_the_new_store(tmp_path: Path) -> None:
    """The writer dies at one call of the system or another, from the first to behind the last."""
    store, moments = stored(tmp_path, make_field(FIELD)), (0, 3, 9, 20, 31, 40, 50, 60, 70, 80, 90, 1000)
    for moment in moments:
        shutil.copytree(store.path, tmp_path / str(moment) / "store")
    command = [sys.executable, "-c", KILLED, str(tmp_path), *map(str, moments)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    ends, generations = list(map(int, outcome.stdout.split())), []
    for moment in moments:
        found = Store.open(tmp_path / str(moment) / "store")
        assert verify(found) == []
        assert found.exists(4) == (found.index.generation == 2)
        generations.append(found.index.generation)
        replace_block(opened(tmp_path / "new", make_field(FIELD, seed=9)), found.path, 0)
        found = Store.open(found.path)
        assert verify(found) == []
        left = {path.name for path in found.path.glob("*.safetensors")}
        previous = {name for name in left if name.endswith(f"-{generations[-1]}.safetensors")}
        assert left - previous == {entry.name for entry in found.index.beside}
    assert set(ends) == {0, signal.SIGKILL}
    assert generations == sorted(generations)
    assert set(generations) == {1, 2}
    assert ends[-1] == 0


# A full disk


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Lets no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("n_bytes", [100, 20_000, 150_000])
def test_a_full_disk_leaves_the_old_store(tmp_path: Path, n_bytes: int) -> None:
    store = stored(tmp_path, make_field(FIELD))
    new = opened(tmp_path / "new", make_field(FIELD, seed=3))
    with largest_file(n_bytes), pytest.raises(InputError, match="must be writable, got: File too large"):
        replace_block(new, store.path, 1)
    assert Store.open(store.path).index.generation == 1
    assert verify(Store.open(store.path)) == []
    replace_block(new, store.path, 1)
    assert verify(Store.open(store.path)) == []


def test_no_space_is_said_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path, make_field(FIELD))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(InputError, match="No space left on device; make room"):
        replace_block(opened(tmp_path / "new", make_field(FIELD, seed=3)), store.path, 1)
    monkeypatch.undo()
    assert verify(Store.open(store.path)) == []


# Damage


def block_path(store: Store) -> Path:
    return store.path / store.index.blocks.name(0)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at, os.SEEK_END if at < 0 else os.SEEK_SET)
        value = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([value[0] ^ 0x10]))


def header_size(path: Path) -> int:
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


DAMAGED_BLOCKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "is missing; copy it again"),
    "truncated": (lambda path: os.truncate(path, 5000), "has 5000 bytes instead of"),
    "empty": (lambda path: path.write_bytes(b""), "has 0 bytes instead of"),
    "longer": (lambda path: path.write_bytes(path.read_bytes() + b"x"), "bytes instead of"),
    "mask": (lambda path: flip(path, header_size(path)), "the checksum of its data is wrong"),
    "first level": (lambda path: flip(path, header_size(path) + 200), "the checksum of its data is wrong"),
    "header": (lambda path: flip(path, 100), "the checksum of its header is wrong"),
    "length": (lambda path: flip(path, 5), "its header lies outside it"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "bytes instead of|cannot be read"),
    "zeros": (
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        "the checksum of its header is wrong",
    ),
}


@pytest.mark.parametrize("how", DAMAGED_BLOCKS)
@pytest.mark.parametrize("precision", [Precision.FULL, Precision.HALF])
def test_a_damaged_block_is_told(tmp_path: Path, how: str, precision: Precision) -> None:
    store = stored(tmp_path, make_field(FIELD))
    damage, message = DAMAGED_BLOCKS[how]
    damage(block_path(store))
    with pytest.raises(InputError, match=message) as caught:
        store.read(0, buffer(store, 0, precision), precision)
    assert str(block_path(store)) in str(caught.value)
    assert "\n" not in str(caught.value)
    store.read(1, buffer(store, 1, precision), precision)  # the others are as they were
    (problem,) = verify(store)
    assert block_path(store).name in problem


def test_damage_of_a_dropped_level_does_not_matter(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(FIELD))
    form = store.file_form(0)
    flip(
        block_path(store), header_size(block_path(store)) + sum(form.sections[:3]) - 1
    )  # of the finest level
    store.read(0, buffer(store, 0, Precision.FULL, 1), Precision.FULL, 1)
    with pytest.raises(InputError, match="checksum"):
        store.read(0, buffer(store, 0, Precision.FULL), Precision.FULL)


def test_a_disk_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = stored(tmp_path, make_field(FIELD))

    def broken(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(InputError, match=r"cannot be read \(Input/output error\)"):
        store.read(0, buffer(store, 0, Precision.FULL), Precision.FULL)


@pytest.mark.parametrize("what", ["network", "room", "coarse"])
@pytest.mark.parametrize("how", ["missing", "truncated", "flipped"])
def test_damage_beside_the_blocks_is_told(tmp_path: Path, what: str, how: str) -> None:
    store = stored(tmp_path, make_field(FIELD))
    (path,) = [store.path / e.name for e in store.index.beside if e.name.startswith(what)][:1]
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size - 1)
    else:
        flip(path, -1)
    (problem,) = verify(store)
    assert path.name in problem
    advice = "is missing; copy it again" if how == "missing" else "or run landmark-viewer convert again"
    with pytest.raises(InputError, match=f"{path.name}: .*{advice}"):
        store.stream_tables(store.model(), Precision.FULL, 1 << 30)


def test_damaged_stand_ins_are_not_taken_into_a_store_that_grows(tmp_path: Path) -> None:
    model = make_field(FIELD)
    store = stored(tmp_path, model)
    flip(store.path / store.index.coarse[0].file.name, -1)
    with pytest.raises(InputError, match="its checksum is wrong"):
        replace_block(opened(tmp_path, model), store.path, 0)
    assert Store.open(store.path).index.generation == store.index.generation


def change(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(root: dict[str, Any]) -> None:
        *path, last = key.split(".")
        part: Any = root
        for step in path:
            part = part[int(step) if step.isdecimal() else step]
        if value is KeyError:
            del part[last]
        else:
            part[int(last) if isinstance(part, list) else last] = value

    return apply


BAD_INDEXES: dict[str, tuple[str, Any, str]] = {
    "another format": ("format", "zip", "must be the index of a block store, but is another kind"),
    "newer": ("version", 2, "must be of version 1 or older, got 2; open it with a newer"),
    "no version": (
        "version",
        KeyError,
        "version is missing, so this is not a complete index of a block store",
    ),
    "version of text": ("version", "1", "version must be an integer"),
    "no field": ("kwargs", KeyError, "kwargs is missing"),
    "field of numbers": ("kwargs", [1, 2], "kwargs must be an object"),
    "box of text": ("kwargs.aabb", [["a"] * 3] * 2, "kwargs.aabb must be two corners of three numbers"),
    "empty box": ("kwargs.aabb", [[0, 0, 0], [0, 1, 1]], "second row must exceed the first"),
    "box of too many": ("kwargs.aabb", [[0] * 4, [1] * 4], "two corners of three numbers"),
    "absurd division": ("division", [2**40, 2**40], "division must be at most"),
    "no division": ("division", [0, 3], "division must be 2 integers not below 1"),
    "a division too small": ("division", [2, 2], "blocks must have numbers from 0 to 3, got 5"),
    "absurd levels": ("levels", 10**9, "levels must be at most"),
    "absurd sizes": ("sizes.0", [2**30, 4, 4], "sizes must be 2 times three integers"),
    "negative sizes": ("sizes.1.2", -4, "sizes must be 2 times three integers"),
    "sizes of text": ("sizes.1.2", "4", "sizes must be 2 times three integers"),
    "precision": ("precision", "quarter", "precision must be 'half' or 'full'"),
    "a block twice": ("blocks.1.0", 0, "must hold every block once, but hold 0 twice"),
    "a block beyond": ("blocks.1.0", 6, "blocks must have numbers from 0 to 5, got 6"),
    "a negative block": ("blocks.1.0", -1, "blocks must have numbers from 0 to 5, got -1"),
    "a block's path": ("blocks.1.2", "../../etc/passwd", "16 hexadecimal digits"),
    "a block's digest": ("blocks.1.2", "0123456789ABCDEF", "16 hexadecimal digits"),
    "a block of text": ("blocks.1.1", "12", "blocks must be a list of"),
    "a short block": ("blocks.1", [1, 2, 3], "blocks must be a list of"),
    "a true block": ("blocks.1.0", True, "blocks must be a list of"),
    "an absurd block": ("blocks.1.1", 10**30, "numbers below 2"),
    "a block of nothing": ("blocks.1.1", 0, "files of at least 1 byte"),
    "no blocks": ("blocks", [], "blocks must be a list of"),
    "a window beside its block": ("blocks.1.3", 9, "mask of block 1 must cover the block"),
    "a window of nothing": ("blocks.1.6", 0, "mask of block 1 must cover the block"),
    "a huge window": ("blocks.1.5", 10**6, "must cover the block and lie inside the whole mask"),
    "a room without mask": ("mask", None, "room must be null exactly where mask is null"),
    "an absurd mask": ("mask.n", [2**31, 4, 4], "n must be three integers"),
    "no stand-ins": ("coarse", [], "coarse must be a list of 1 to"),
    "a side twice": ("coarse.1.side", 32, "a list without a side twice"),
    "a side's path": ("coarse.0.side", "../x", "side must be an integer"),
    "a generation's path": ("network.generation", "1/../../x", "generation must be an integer"),
    "a network's digest": ("network.xxh3", 5, "16 hexadecimal digits"),
    "a setting": ("settings.sampling", "sphere", "settings.sampling must be 'box' or 'hull'"),
    "samples": ("kwargs.step_ratio", 1e-9, "must give fewer than"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return stored(tmp_path_factory.mktemp("sound"), make_field(FIELD))


@pytest.mark.parametrize("how", BAD_INDEXES)
def test_a_bad_index_is_told(tmp_path: Path, sound: Store, how: str) -> None:
    key, value, message = BAD_INDEXES[how]
    root = json.loads((sound.path / "store.json").read_bytes())
    change(key, value)(root)
    (tmp_path / "store.json").write_text(json.dumps(root))
    with pytest.raises(InputError) as caught:
        open_checkpoint(tmp_path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "store.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}', b"null"])
def test_an_index_that_is_none_is_told(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "store.json").write_bytes(text)
    with pytest.raises(InputError, match=r"must be complete JSON|must be the index of a block store"):
        Store.open(tmp_path)


def test_a_folder_that_is_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file, so the folder is no finished block store"):
        Store.open(tmp_path)


def test_files_must_have_what_the_index_says(tmp_path: Path, sound: Store) -> None:
    """A header that agrees with its own checksum may still belong to another field."""
    other = stored(tmp_path, make_field(replace(FIELD, density=(12,))))
    index = replace(sound.index, blocks=other.index.blocks, coarse=other.index.coarse)
    with pytest.raises(InputError, match="holds other tensors than the index says"):
        Store(other.path, index).block_file(0)
    with pytest.raises(InputError, match="holds other tensors than the index says"):
        Store(other.path, index).coarse_rows(index.coarse[0])


def test_networks_must_fit_the_field(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(FIELD))
    networks = store.networks()
    networks["basis_mat.weight"] = networks["basis_mat.weight"][:, :-1]
    with StoreWriter(store.path, store.index, networks) as writer:
        writer.commit()
    with pytest.raises(InputError, match=r"basis_mat\.weight must have the shape"):
        Store.open(store.path).model()


def test_the_index_of_many_blocks_is_read(tmp_path: Path, sound: Store) -> None:
    root = json.loads((sound.path / "store.json").read_bytes())
    root |= {"division": [100, 100], "mask": None, "room": None}
    root["blocks"] = [[number, 5000, f"{number:016x}", 0, 0, 0, 0] for number in reversed(range(10_000))]
    (tmp_path / "store.json").write_text(json.dumps(root))
    index = Store.open(tmp_path).index
    assert np.array_equal(index.rows, np.arange(10_000)[::-1])
    assert index.blocks.name(0) == f"blocks/9999-{9999:016x}.safetensors"
    assert writer_module.journal_lines(tmp_path / "convert.journal") == []
