"""Blocks fetched from LandMark's own files are the blocks that are packed from them as a whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import ModelSettings, Precision
from landmark_viewer.core.streaming import checkpoint_source
from landmark_viewer.core.streaming.cancelling import ReadCancelled, cancellable
from landmark_viewer.core.streaming.checkpoint_source import CheckpointSource
from landmark_viewer.core.streaming.contracts import BlockKey, MemoryBudget, Payload
from landmark_viewer.core.streaming.parts import mask_part
from landmark_viewer.core.streaming.residency import Residency
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.tables import FrameBuffers

from .small_fields import Shape, camera, make_field
from .synthetic import write

GROUPS = ("density_planes", "density_lines", "appearance_planes", "appearance_lines")
DIVIDED = Shape(division=(2, 3), levels=2, grid=(9, 7, 5), mask=(23, 19, 9), missing=(4,))


def read(
    source: CheckpointSource, block: int, precision: Precision = Precision.FULL, drop_levels: int = 0
) -> Payload:
    memory = torch.full((source.n_bytes(block, precision, drop_levels),), 255, dtype=torch.uint8)
    payload = source.read(block, memory, precision, drop_levels)
    first = memory.data_ptr()
    for tensor in tensors(payload):
        assert tensor.is_contiguous()
        assert tensor.data_ptr() % 64 == first % 64
        assert first <= tensor.data_ptr() <= first + memory.nbytes - tensor.nbytes
    assert payload.n_bytes == memory.nbytes
    return payload


def tensors(payload: Payload) -> list[torch.Tensor]:
    found = [table for group in GROUPS for table in getattr(payload.tables, group)]
    mask = payload.mask
    return found + ([] if mask is None else [mask.nodes, mask.any_cell, mask.all_cell])


@pytest.mark.parametrize("precision", [Precision.FULL, Precision.HALF])
@pytest.mark.parametrize(
    "shape",
    [DIVIDED, Shape(levels=3), Shape(directions=3, levels=2, density=(5, 8, 3), appearance=(27, 6, 9))],
    ids=["divided", "whole", "three directions"],
)
def test_blocks_are_those_of_the_whole_field(shape: Shape, precision: Precision) -> None:
    model = make_field(shape)
    source, whole = CheckpointSource(model), model.tables(precision)
    for block, expected in enumerate(whole.blocks):
        assert source.exists(block) == (expected is not None)
        if expected is None:
            continue
        found = read(source, block, precision)
        for group in GROUPS:
            for mine, theirs in zip(getattr(found.tables, group), getattr(expected, group), strict=True):
                assert mine.dtype == theirs.dtype
                assert torch.equal(mine, theirs)


def test_masks_are_the_block_s_part_of_the_whole() -> None:
    model = make_field(DIVIDED)
    source = CheckpointSource(model)
    for block in (0, 3, 5):
        mask = read(source, block).mask
        grid = model.occupancy
        nodes, first = mask_part(grid.nodes, grid.aabb, model.aabb, (2, 3), block)
        any_cell, all_cell = ops.mask_bricks(nodes)
        assert mask.first == first
        assert torch.equal(mask.nodes, nodes)
        assert torch.equal(mask.any_cell, any_cell)
        assert torch.equal(mask.all_cell, all_cell)


def test_dropped_levels_are_single_texels_of_zeros() -> None:
    model = make_field(DIVIDED)
    source = CheckpointSource(model)
    kept, fewer = read(source, 1), read(source, 1, drop_levels=1)
    assert fewer.n_bytes < kept.n_bytes / 2
    for group in GROUPS:
        coarse, fine = getattr(fewer.tables, group)
        assert torch.equal(coarse, getattr(kept.tables, group)[0])
        assert set(fine.shape[:-1]) == {1}
        assert not fine.any()


def test_a_block_that_is_not_there_is_refused() -> None:
    source = CheckpointSource(make_field(DIVIDED), "the file town.th")
    with pytest.raises(InputError, match=r"block 4 must be one of the file town\.th, but there is none"):
        source.n_bytes(4, Precision.FULL)


def test_a_read_stops_between_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    model = replace(make_field(DIVIDED), release=lambda: pages.append(1))
    source = CheckpointSource(model)
    memory = torch.empty(source.n_bytes(0, Precision.FULL), dtype=torch.uint8)
    with pytest.raises(ReadCancelled), cancellable(lambda: len(pages) >= 3):
        source.read(0, memory, Precision.FULL)
    assert len(pages) == 3
    source.read(0, memory, Precision.FULL)


@pytest.mark.parametrize("side", [2, 8, 64])
def test_stand_ins_are_the_finest_that_fit(side: int) -> None:
    model = make_field(replace(DIVIDED, grid=(70, 66, 40)))
    source = CheckpointSource(model)
    size = source._coarse_bytes([0, 1, 2, 3, 5], side, torch.float32)
    stream = source.stream_tables(model, Precision.FULL, size)
    assert stream.coarse.n_bytes == size
    assert stream.coarse.rows.tolist() == [0, 1, 2, 3, -1, 4]
    assert tuple(stream.coarse.density_planes[0].shape) == (5, min(side, 66), min(side, 70), 8)
    assert stream.room is not None
    assert stream.mask is not None
    assert stream.mask.n == (23, 19, 9)
    assert stream.block_masks == {}
    if side > checkpoint_source.COARSE_SIDES[-1]:
        assert source.stream_tables(model, Precision.FULL, size - 1).coarse.n_bytes < size


def test_stand_ins_of_small_blocks_are_the_blocks() -> None:
    model = make_field(DIVIDED)
    stream = CheckpointSource(model).stream_tables(model, Precision.HALF, 10**9)
    whole = model.tables(Precision.HALF)
    for row, block in enumerate((0, 1, 2, 3, 5)):
        for group in GROUPS:
            for mine, theirs in zip(
                getattr(stream.coarse, group), getattr(whole.blocks[block], group), strict=True
            ):
                assert torch.equal(mine[row], theirs)


def test_stand_ins_of_smooth_planes_are_close() -> None:
    model = make_field(Shape(division=(1, 2), grid=(300, 200, 40)))
    n_v, n_u = 200, 300
    v, u = torch.meshgrid(torch.linspace(0, 3, n_v), torch.linspace(0, 3, n_u), indexing="ij")
    smooth = (torch.sin(u) * torch.cos(v)).expand(4, -1, -1)
    blocks = tuple(replace(block, density_planes=((smooth,),)) for block in model.blocks)
    model = replace(model, blocks=blocks)
    source = CheckpointSource(model)
    coarse = source.stream_tables(model, Precision.FULL, 10**6).coarse.density_planes[0]
    assert coarse.shape[1] == 64
    fine = torch.nn.functional.interpolate(
        coarse[0, ..., :1].movedim(-1, 0)[None], (n_v, n_u), mode="bilinear", align_corners=True
    )
    assert (fine[0, 0] - smooth[0]).abs().max() < 0.02


def pictures(model: GridNeRF, tables: object, backend: str) -> torch.Tensor:
    view = view_of(camera(40, 32))
    buffers = FrameBuffers.empty(40, 32)
    ops.render(tables, view, options_for(model, RenderSettings()), buffers, backend=backend)
    return torch.cat([buffers.rgb, buffers.opacity[..., None], buffers.depth[..., None]], dim=-1)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_pictures_from_resident_blocks_are_those_of_the_whole(backend: str) -> None:
    model = make_field(DIVIDED)
    whole = pictures(model, model.tables(Precision.FULL), backend)
    opened = Residency(CheckpointSource(model), model, Precision.FULL, MemoryBudget(device=10**7))
    with opened.hold([BlockKey(block) for block in range(6)]) as are_there:
        assert are_there
        assert torch.equal(pictures(model, opened.tables(), backend), whole)
    opened.close()
    assert whole[..., 3].max() > 0.1


@pytest.mark.parametrize("layout", ["merged-stack", "branch-sub", "channel-sub", "sequential"])
def test_mapped_files_of_every_layout(layout: str, tmp_path: Path) -> None:
    division = (2, 2) if layout in ("merged-stack", "branch-sub") else None
    path = write(tmp_path, layout, division=division)
    model = open_checkpoint(path, ModelSettings(plane_division=division)).model
    source, whole = CheckpointSource(model), model.tables(Precision.HALF)
    for block, expected in enumerate(whole.blocks):
        found = read(source, block, Precision.HALF)
        for group in GROUPS:
            for mine, theirs in zip(getattr(found.tables, group), getattr(expected, group), strict=True):
                assert torch.equal(mine, theirs)
