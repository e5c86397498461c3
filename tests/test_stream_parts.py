"""The parts of streamed fields: pieces of the mask, the room, coarse stand-ins, blocks opened one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming.parts import (
    RoomBuilder,
    coarsened,
    mask_part,
    packed_bricks,
    stack_coarse,
)
from landmark_viewer.cuda.lookup import locate, mask_cells
from landmark_viewer.cuda.stream_tables import ROOM_CELL, Room
from landmark_viewer.cuda.tables import BlockTables

from .small_fields import AABB, Shape, make_field, random_points

GROUPS = ("density_planes", "density_lines", "appearance_planes", "appearance_lines")

sizes = st.tuples(st.integers(2, 40), st.integers(2, 40), st.integers(1, 11))
divisions = st.tuples(st.integers(1, 5), st.integers(1, 5))
shifts = st.tuples(*[st.sampled_from([-3.1, -0.4, -0.013, 0.0, 0.21, 2.3])] * 2, st.just(0.0))
stretches = st.sampled_from([0.5, 1.0, 1.37])


def mask_box(shift: tuple[float, float, float], stretch: float) -> Tensor:
    return AABB * stretch + torch.tensor(shift)


def random_mask(size: tuple[int, int, int], share: float, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(size[::-1], generator=random) < share).to(torch.uint8)


def room_by_definition(nodes: Tensor) -> Tensor:
    """Cells with any vertex set, one more on each side, gathered. [n_z, n_y, n_x]"""
    cells = F.max_pool3d(F.pad(nodes.float(), (1,) * 6)[None], 2, 1)
    wider = F.max_pool3d(cells, 3, 1, 1)
    padding = [end for n in reversed(wider.shape[1:]) for end in (0, -n % ROOM_CELL)]
    return F.max_pool3d(F.pad(wider, padding), ROOM_CELL)[0].to(torch.uint8)


def cells_of(room: Room) -> Tensor:
    """Unpacks a room, bit by bit. [n_z, n_y, n_x]"""
    x, y, z = (torch.arange(n) for n in room.n)
    z, y, x = torch.meshgrid(z, y, x, indexing="ij")
    bit = (z & 3) * 16 + (y & 3) * 4 + (x & 3)
    return (room.bricks[z >> 2, y >> 2, x >> 2] >> bit & 1).to(torch.uint8)


def whole_room(nodes: Tensor) -> Room:
    builder = RoomBuilder(tuple(nodes.shape[::-1]))
    builder.add(nodes, (0, 0))
    return builder.room()


@given(size=sizes, share=st.sampled_from([0.0, 0.002, 0.02, 0.5]), seed=st.integers(0, 20))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_room_is_every_cell_of_the_mask_and_one_more_all_round(
    size: tuple[int, int, int], share: float, seed: int
) -> None:
    nodes = random_mask(size, share, seed)
    room = whole_room(nodes)
    assert room.n == tuple(n // 4 + 1 for n in size)
    assert torch.equal(cells_of(room), room_by_definition(nodes))


@given(size=sizes, division=divisions, shift=shifts, stretch=stretches, seed=st.integers(0, 20))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_parts_of_all_blocks_make_the_room_of_the_whole_mask(
    size: tuple[int, int, int], division: tuple[int, int], shift, stretch: float, seed: int
) -> None:
    nodes, box = random_mask(size, 0.03, seed), mask_box(shift, stretch)
    inside = torch.zeros_like(
        nodes
    )  # what the blocks' parts hold between them: all, if the mask is no larger
    builder = RoomBuilder(size)
    for block in np.random.default_rng(seed).permutation(division[0] * division[1]):
        part, (x, y) = mask_part(nodes, box, AABB, division, int(block))
        builder.add(part, (x, y))
        inside[:, y : y + part.shape[1], x : x + part.shape[2]] = part
    covers = bool((box[0, :2] >= AABB[0, :2] - 1e-6).all() and (box[1, :2] <= AABB[1, :2] + 1e-6).all())
    assert not covers or torch.equal(inside, nodes)
    together = whole_room(inside)
    assert torch.equal(builder.room().bricks, together.bricks)
    assert builder.room().n == together.n


@given(size=sizes, division=divisions, shift=shifts, stretch=stretches, seed=st.integers(0, 20))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_a_part_holds_every_vertex_that_samples_of_its_block_read(
    size: tuple[int, int, int], division: tuple[int, int], shift, stretch: float, seed: int
) -> None:
    nodes, box = random_mask(size, 0.5, seed), mask_box(shift, stretch)
    points = border_points(division, seed)
    number, local = locate(points, *AABB, division)
    number[(local.abs() > 1.01).any(dim=-1)] = -1  # on a far face, with another block's number
    _, at, _, in_mask = mask_cells(points, box, size)
    for block in range(division[0] * division[1]):
        part, first = mask_part(nodes, box, AABB, division, block)
        assert part.is_contiguous()
        begin, end = torch.tensor(first), torch.tensor(first) + torch.tensor([part.shape[2], part.shape[1]])
        assert torch.equal(part, nodes[:, begin[1] : end[1], begin[0] : end[0]])
        before = at[(number == block) & in_mask, :2].floor().long()
        whole = torch.tensor(size[:2])
        assert ((before - 1 >= begin) | (begin == 0)).all(), "one vertex to spare"
        assert ((before + 2 < end) | (end == whole)).all(), "one vertex to spare"


def border_points(division: tuple[int, int], seed: int) -> Tensor:
    """Points in the field, many as close to borders between blocks as numbers can be."""
    rng = np.random.default_rng(seed)
    low, high = AABB.numpy()
    points = (low + (high - low) * rng.random((600, 3))).astype(np.float32)
    for axis in range(2):
        borders = (
            low[axis] + (high[axis] - low[axis]) * rng.integers(0, division[axis] + 1, 300) / division[axis]
        )
        borders = borders.astype(np.float32)
        for _ in range(3):
            borders = np.nextafter(borders, rng.choice([-9, 9], 300).astype(np.float32))
        points[rng.permutation(600)[:300], axis] = borders
    return torch.from_numpy(points).clamp(AABB[0], AABB[1])


def test_bricks_are_packed_bit_by_bit() -> None:
    cells = random_mask((9, 6, 5), 0.4)
    room = Room((9, 6, 5), packed_bricks(cells))
    assert room.bricks.shape == (2, 2, 3)
    assert room.bricks.dtype == torch.int64
    assert torch.equal(cells_of(room), cells)


def small_block(**changes: object) -> BlockTables:
    shape = replace(Shape(grid=(21, 17, 40), levels=2, density=(5,), appearance=(9,)), **changes)
    block = make_field(shape).tables(Precision.FULL).blocks[0]
    assert block is not None
    return block


def test_coarse_tables_are_as_small_as_asked_for() -> None:
    block = small_block()
    for side in (2, 5, 8):
        coarse = coarsened(block, side)
        for group in GROUPS:
            for table, fine in zip(getattr(coarse, group), getattr(block, group), strict=True):
                limit = 2 * side if "lines" in group else side
                assert table.shape[:-1] == tuple(min(n, limit) for n in fine.shape[:-1])
                assert table.shape[-1] == fine.shape[-1]
                assert table.is_contiguous()
                assert table.dtype == fine.dtype


def test_what_is_small_stays_as_it_is() -> None:
    block = small_block()
    for precision in (torch.float32, torch.float16):
        typed = replace(block, density_planes=tuple(plane.to(precision) for plane in block.density_planes))
        coarse = coarsened(typed, 64)
        for group in GROUPS:
            for table, fine in zip(getattr(coarse, group), getattr(typed, group), strict=True):
                assert torch.equal(table, fine)
                assert table.dtype == fine.dtype


@pytest.mark.parametrize("side", [2, 3, 7, 16])
def test_constants_and_slopes_stay(side: int) -> None:
    v, u = torch.meshgrid(torch.linspace(0, 1, 33), torch.linspace(0, 1, 50), indexing="ij")
    ramp = torch.stack([torch.ones_like(u), u, 3 * v - u, torch.zeros_like(u)] * 2, dim=-1)
    line = torch.stack([torch.linspace(2, -1, 90)] * 8, dim=-1)
    coarse = coarsened(BlockTables((ramp,), (line,), (ramp,), (line,)), side)
    v, u = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    wanted = torch.stack([torch.ones_like(u), u, 3 * v - u, torch.zeros_like(u)] * 2, dim=-1)
    assert (coarse.density_planes[0] - wanted).abs().max() < 1e-5
    assert (coarse.appearance_lines[0] - torch.linspace(2, -1, 2 * side)[:, None]).abs().max() < 1e-5


def test_no_other_stand_in_comes_closer() -> None:
    block, random = small_block(), torch.Generator().manual_seed(2)
    fine = block.density_planes[0]

    def distance(coarse: Tensor) -> float:
        size = fine.shape[:2]
        wide = F.interpolate(coarse.movedim(-1, 0)[None], size, mode="bilinear", align_corners=True)
        return float((wide[0].movedim(0, -1) - fine).square().sum())

    best = coarsened(block, 6).density_planes[0]
    least = distance(best)
    mean = F.adaptive_avg_pool2d(fine.movedim(-1, 0), 6).movedim(0, -1)
    assert least < 0.97 * distance(mean)
    for scale in (1e-2, 1e-1, 1.0):
        assert least < distance(best + torch.randn(best.shape, generator=random) * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("n_v", "n_u", "side"), [(301, 977, 32), (1200, 40, 19), (33, 1000, 2), (34, 65, 32)]
)
def test_large_planes_are_fitted_piece_by_piece(n_v: int, n_u: int, side: int, dtype: torch.dtype) -> None:
    """Many rows and columns are read in pieces; the fit is that of the whole, by definition."""
    plane = torch.randn(n_v, n_u, 8, generator=torch.Generator().manual_seed(n_u)).to(dtype)
    wanted = plane.double()
    for axis in (0, 1):
        at = torch.linspace(0, side - 1, plane.shape[axis], dtype=torch.float64)
        linear = (1 - (at[:, None] - torch.arange(side)).abs()).clamp(min=0)
        wanted = torch.tensordot(torch.linalg.pinv(linear), wanted, dims=([1], [axis])).movedim(0, axis)
    coarse = coarsened(BlockTables((plane,), (), (), ()), side).density_planes[0]
    torch.testing.assert_close(coarse, wanted.to(dtype), rtol=1e-3, atol=1e-4)


def test_a_plane_of_one_texel_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2 texels along its sides, got 1"):
        coarsened(small_block(), 1)


def test_coarse_blocks_lie_behind_each_other() -> None:
    tables = make_field(Shape(division=(2, 3), levels=2, missing=(2,))).tables(Precision.FULL)
    parts = {n: coarsened(block, 4) for n, block in enumerate(tables.blocks) if block is not None}
    shuffled = {n: parts[n] for n in (5, 0, 3, 1, 4)}
    stacked = stack_coarse(shuffled, 6, torch.float16)
    assert stacked.rows.tolist() == [0, 1, -1, 2, 3, 4]
    assert stacked.rows.dtype == torch.int32
    for group in GROUPS:
        for p, table in enumerate(getattr(stacked, group)):
            assert table.is_contiguous()
            assert table.dtype == (torch.float16 if "planes" in group else torch.float32)
            for number, part in parts.items():
                assert torch.equal(table[stacked.rows[number]], getattr(part, group)[p].to(table.dtype))
    n_bytes = sum(table.nbytes for group in GROUPS for table in getattr(stacked, group))
    assert stacked.n_bytes == n_bytes > 0


def test_a_field_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one block, got none"):
        stack_coarse({}, 4, torch.float32)


def test_a_model_opens_only_the_blocks_that_are_asked_for() -> None:
    model = make_field(Shape(division=(3, 3), levels=2, missing=(4, 8), activation="softplus"))
    opened = set()

    class Lazy(Sequence):
        def __len__(self) -> int:
            return 9

        def __getitem__(self, number):
            opened.add(number)
            return model.blocks[number]

    class Source:
        def exists(self, block: int) -> bool:
            return block not in (4, 8)

        def n_bytes(self, block: int, precision: Precision, drop_levels: int = 0) -> int:
            assert precision is Precision.FULL
            return 100 + block

    lazy = replace(model, blocks=Lazy(), source=Source())
    low, high = AABB
    points = low + (high - low) * torch.tensor([[0.1, 0.5, 0.5], [0.2, 0.4, 0.1], [0.5, 0.5, 0.5]])
    directions = torch.ones(3, 3)
    assert torch.equal(lazy.sigma(points), model.sigma(points))
    assert lazy.sigma(points)[2] == 0
    features = lazy.appearance_feature(points)
    assert torch.equal(lazy.color(features, directions, None), model.color(features, directions, None))
    assert opened == {1, 4}
    assert lazy.n_parameter_bytes == sum(100 + block for block in range(9) if block not in (4, 8))
    assert opened == {1, 4}
    everywhere = random_points(500)
    assert torch.equal(lazy.sigma(everywhere), model.sigma(everywhere))
