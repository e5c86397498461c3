"""Edits in the native kernels: both code paths agree, and what saves time changes nothing."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.edit_claims import to_source
from landmark_viewer.cuda.edit_tables import (
    ColumnGrid,
    EditIndex,
    EditKind,
    EditOp,
    Footprint,
    Reach,
    Source,
    Transform,
)
from landmark_viewer.cuda.native import Library
from landmark_viewer.cuda.tables import (
    FieldTables,
    FrameBuffers,
    NerfMode,
    Quality,
    RenderControl,
    RenderOptions,
    View,
)

from .small_edits import buffers_for, clear, footprint, instance, patch, style, tables_of
from .small_fields import AABB, SHAPES, Shape, camera, make_field, with_settings

SIZE = (33, 20)
VIEWS = [view_of(camera(*SIZE, view=number)) for number in range(3)]
OTHER = Shape(
    density=(5,), appearance=(19,), feature_dim=9, hidden=24, latent=3, mask=(9, 8, 5), mask_share=0.6
)
PARTS = ("rgb", "opacity", "depth", "median_depth", "normals")
HOUSE = Footprint(torch.ones(3, 4, dtype=torch.uint8), (0.125, -0.25), 0.0625)


@pytest.fixture
def library() -> Library:
    """The loaded host library."""
    found = ops._native.get()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def setting(name: str, **changes: object) -> tuple[GridNeRF, FieldTables, RenderOptions]:
    model = make_field(SHAPES[name])
    options = replace(options_for(model, RenderSettings()), normals=True, threads=2)
    return model, model.tables(Precision.FULL), replace(options, **changes)


def other_source(code: int = 1) -> Source:
    model = make_field(OTHER, seed=5)
    return Source(model.tables(Precision.FULL), 0.2, model.embedding[code])


def all_kinds(model: GridNeRF) -> tuple[EditOp, ...]:
    """Operations of every kind that overlap, one of them reading another field."""
    styles = [style(2 * model.embedding[1])] if model.embedding is not None else []
    return (
        patch(model.decoder.basis.shape[0]),
        instance(),
        instance(turn=-80.0, scale=0.8, footprint=HOUSE, source=1),
        clear(footprint=HOUSE, z_low=0.1),
        *styles,
        clear(footprint=footprint(24, 26, (-0.85, -0.95)), inside=False),
    )


def ground_on(cells: Footprint, **changes: object) -> EditOp:
    """A patch over a footprint, of any height, with rasters of its size."""
    random, size = torch.Generator().manual_seed(3), cells.mask.shape
    ground, features = (
        0.05 + 0.02 * torch.rand(size, generator=random),
        torch.randn(*size, 5, generator=random),
    )
    return patch(5, footprint=cells, z_high=3e38, ground=ground, features=features, **changes)


def picture(
    tables: FieldTables, options: RenderOptions, view: View = VIEWS[0], backend: str = "native"
) -> FrameBuffers:
    buffers = buffers_for(view, options.normals)
    assert ops.render(tables, view, options, buffers, backend=backend)
    return buffers


def are_equal(a: FrameBuffers, b: FrameBuffers) -> bool:
    return all(torch.equal(getattr(a, part), getattr(b, part)) for part in PARTS)


def assert_close(a: FrameBuffers, b: FrameBuffers, bound: float = 2e-5) -> None:
    for part in ("rgb", "opacity", "depth"):
        difference = (getattr(a, part) - getattr(b, part)).abs()
        assert difference.median() < bound
        assert (difference > bound).float().mean() < 4e-3, part
    surface = (a.median_depth - b.median_depth).abs() < 1e-5
    assert surface.float().mean() > 0.99
    assert ((a.normals - b.normals).abs().amax(dim=-1)[surface] > 1e-2).float().mean() < 5e-3


@pytest.mark.parametrize("name", SHAPES)
def test_both_code_paths_show_all_kinds_alike(name: str, library: Library) -> None:
    model, tables, options = setting(name)
    edits = tables_of(*all_kinds(model), sources=(other_source(),))
    for quality, view in zip(Quality, VIEWS, strict=True):
        edited = replace(options, quality=quality, edits=edits)
        scalar = buffers_for(view, normals=True)
        library.render_scalar(tables, view, edited, scalar)
        assert_close(picture(tables, edited, view), scalar)
        assert not torch.equal(scalar.rgb, picture(tables, replace(edited, edits=None), view).rgb)


@pytest.mark.parametrize("precision", [Precision.FULL, Precision.HALF])
@pytest.mark.parametrize("sampling", ["box", "hull"])
@pytest.mark.parametrize("name", ["blocks", "three directions", "nonlinear", "latent", "sparse mask"])
def test_exact_pictures_are_those_of_plain_torch(name: str, sampling: str, precision: Precision) -> None:
    model = with_settings(make_field(SHAPES[name]), sampling=sampling)
    tables = model.tables(precision)
    options = replace(options_for(model, RenderSettings()), normals=True)
    edited = replace(options, edits=tables_of(*all_kinds(model), sources=(other_source(),)))
    for view in VIEWS[:2]:
        assert_close(picture(tables, edited, view), picture(tables, edited, view, "torch"))


@pytest.mark.parametrize("quality", Quality)
@pytest.mark.parametrize("name", ["plain", "blocks", "dense mask", "latent", "softplus", "fog"])
def test_an_instance_in_its_own_place_is_the_original(name: str, quality: Quality) -> None:
    _, tables, options = setting(name, quality=quality)
    edits = tables_of(EditOp(EditKind.INSTANCE))
    for view in VIEWS:
        plain, edited = (picture(tables, replace(options, edits=e), view) for e in (None, edits))
        assert (plain.rgb - edited.rgb).abs().max() < 2e-6
        assert torch.equal(plain.opacity, edited.opacity)
        assert torch.equal(plain.depth, edited.depth)


def test_an_instance_of_everything_is_the_other_field() -> None:
    _, tables, options = setting("sparse mask")
    other = make_field(OTHER, seed=5)
    edits = tables_of(EditOp(EditKind.INSTANCE, source=1), sources=(other_source(),))
    alone = replace(options, latent=other.embedding[1], mask_threshold=0.2)
    for view in VIEWS:
        wanted = picture(other.tables(Precision.FULL), alone, view)
        assert_close(picture(tables, replace(options, edits=edits), view), wanted, 1e-6)


@pytest.mark.parametrize("name", ["blocks", "dense mask", "latent"])
def test_nothing_changes_without_a_claim(name: str) -> None:
    model, tables, options = setting(name)
    styles = (style(model.embedding[1], footprint=HOUSE),) if model.embedding is not None else ()
    stacks = [(), (clear(footprint=HOUSE),), (ground_on(HOUSE, z_low=2.0), *styles)]
    for quality, operations in zip(Quality, stacks, strict=True):
        plain = replace(options, quality=quality)
        for view in VIEWS:
            before = picture(tables, plain, view)
            after = picture(tables, replace(plain, edits=tables_of(*operations)), view)
            outside = ~touched(view, options)
            assert outside.any()
            for part in PARTS:
                assert torch.equal(getattr(before, part)[outside], getattr(after, part)[outside])
            assert are_equal(before, after) == (not operations or (quality is Quality.FAST and not styles))


def touched(view: View, options: RenderOptions) -> torch.Tensor:
    """Which rays come near the house's footprint, at any height. [height, width]"""
    n_y, n_x = HOUSE.mask.shape
    low = torch.tensor(HOUSE.low) - 2 * options.step
    high = torch.tensor(HOUSE.low) + torch.tensor([n_x, n_y]) * HOUSE.side + 2 * options.step
    row, column = torch.meshgrid(torch.arange(view.height), torch.arange(view.width), indexing="ij")
    c2w = torch.from_numpy(view.c2w)
    local = [(column - view.cx) / view.fl_x, -(row - view.cy) / view.fl_y, -torch.ones(row.shape)]
    direction = torch.stack(local, dim=-1) @ c2w[:, :3].T
    t = torch.linspace(0, options.far, 4000)[:, None, None, None]
    at = c2w[:2, 3] + direction[..., :2] * t
    return ((at >= low) & (at <= high)).all(dim=-1).any(dim=0)


def test_pictures_do_not_depend_on_the_number_of_threads() -> None:
    model, tables, options = setting("latent")
    edits = tables_of(*all_kinds(model), sources=(other_source(),))
    for quality in Quality:
        edited = replace(options, edits=edits, quality=quality)
        first, *others = (picture(tables, replace(edited, threads=n)) for n in (1, 2, 4))
        assert all(are_equal(first, other) for other in others)


def test_a_cancelled_edited_picture_leaves_nothing_behind() -> None:
    model, tables, options = setting("latent", threads=2)
    edited = replace(options, edits=tables_of(*all_kinds(model), sources=(other_source(),)))
    view = view_of(camera(800, 600))
    for _ in range(50):  # on a busy machine the cancel may come when all is done
        control, buffers = RenderControl(800, 600), buffers_for(view, normals=True)
        done: list[bool] = []
        arguments = (tables, view, edited, buffers, control, "native")
        thread = threading.Thread(target=lambda given=arguments, found=done: found.append(ops.render(*given)))
        thread.start()
        while control.done_count[0] == 0 and thread.is_alive():
            time.sleep(0.001)
        control.cancel()
        thread.join()
        if done == [False]:
            break
    assert done == [False]
    assert 0 < control.tile_done.sum() < len(control.order)
    assert are_equal(picture(tables, edited), picture(tables, edited))


# What saves time


def lists_of(operations: Sequence[EditOp], n: int = 24) -> EditIndex:
    """An index whose lists name the operations that can claim something within a cell."""
    (x0, y0, _), (x1, y1, _) = AABB.tolist()
    side = ((x1 - x0) / n, (y1 - y0) / n)
    cells, lists = torch.zeros(n, n, dtype=torch.int32), [()]
    inner = (torch.arange(9) - 0.5) / 8
    for j in range(n):
        for i in range(n):
            x, y = x0 + (i + inner) * side[0], y0 + (j + inner) * side[1]
            grid = torch.stack([*torch.meshgrid(x, y, indexing="ij"), torch.zeros(9, 9)], dim=-1).view(-1, 3)
            named = tuple(k for k, op in reversed([*enumerate(operations)]) if may_claim(op, grid))
            if named not in lists:
                lists.append(named)
            cells[j, i] = lists.index(named)
    starts = torch.tensor([0, *map(len, lists)]).cumsum(0).to(torch.int32)
    items = torch.tensor([item for named in lists for item in named], dtype=torch.int32)
    return EditIndex(cells, (x0, y0), (1 / side[0], 1 / side[1]), starts, items)


def may_claim(op: EditOp, points: torch.Tensor) -> bool:
    at = to_source(op.to_source, points)
    u, v = ((at[:, axis] - op.footprint.low[axis]) / op.footprint.side for axis in (0, 1))
    n_y, n_x = op.footprint.mask.shape
    return bool(((u > -1) & (u < n_x + 1) & (v > -1) & (v < n_y + 1)).any())


@pytest.mark.parametrize("name", ["latent", "dense mask", "blocks"])
def test_an_index_changes_no_bit(name: str) -> None:
    model, tables, options = setting(name)
    edits = tables_of(*all_kinds(model)[:-1], sources=(other_source(),))
    indexed = replace(edits, index=lists_of(edits.ops), cache={})
    assert (indexed.index.cells == 0).any()
    assert len(indexed.index.cells.unique()) > 4
    for view in VIEWS:
        whole = picture(tables, replace(options, edits=edits), view)
        assert are_equal(picture(tables, replace(options, edits=indexed), view), whole)


@pytest.mark.parametrize("cells", [(5, 6, 4), (40, 37, 17), (3, 1, 1)])
@pytest.mark.parametrize("name", ["sparse mask", "empty mask", "mask of another box"])
def test_a_reach_lets_nothing_be_jumped_that_is_put_there(name: str, cells: tuple[int, int, int]) -> None:
    _, tables, options = setting(name)
    tower = EditOp(EditKind.INSTANCE, HOUSE, to_source=Transform(1.0, 0.0, 0.0, 0.0), source=1)
    source = replace(other_source(), mask_threshold=-1.0)  # of any height, up to the top face of the box
    ground = ground_on(footprint(10, 9, (-0.9, -0.9)))
    edits = tables_of(tower, ground, sources=(source,))
    boxes = [
        ((*HOUSE.low, -1.0), (HOUSE.low[0] + 4 * HOUSE.side, HOUSE.low[1] + 3 * HOUSE.side, 1.0)),
        ((-0.9, -0.9, -0.1), (-0.9 + 10 * 0.0625, -0.9 + 9 * 0.0625, 0.2)),
    ]
    reaching = replace(edits, reach=reach_of(boxes, cells), cache={})
    unmasked = replace(options, mask_threshold=-1.0)
    for view in VIEWS:
        got = picture(tables, replace(options, edits=reaching), view)
        assert_close(got, picture(tables, replace(options, edits=edits), view, "torch"))
        assert got.opacity.max() > 0.2
        everywhere = picture(tables, replace(options, edits=edits), view)
        assert are_equal(got, everywhere)
        assert not are_equal(got, picture(tables, replace(unmasked, edits=reaching), view))


def reach_of(boxes: list[tuple], cells: tuple[int, int, int]) -> Reach:
    """Cells that boxes touch, widened by half a cell."""
    low, high = AABB
    side = (high - low) / torch.tensor(cells)
    held = torch.zeros(cells, dtype=torch.uint8)
    for box_low, box_high in boxes:
        first = ((torch.tensor(box_low) - low) / side - 0.5).floor().clamp(min=0).int().tolist()
        last = ((torch.tensor(box_high) - low) / side + 0.5).ceil().int().tolist()
        held[first[0] : last[0], first[1] : last[1], first[2] : last[2]] = 1
    return Reach(held.permute(2, 1, 0).contiguous(), tuple(low.tolist()), tuple(side.tolist()))


def test_edits_are_prepared_once_for_a_field() -> None:
    _, tables, options = setting("dense mask")
    _, others, _ = setting("sparse mask")
    edited = replace(options, edits=tables_of(clear()))
    wanted = picture(tables, edited)
    prepared = edited.edits.cache["native"]
    assert are_equal(picture(tables, edited), wanted)
    assert edited.edits.cache["native"] is prepared
    picture(others, edited)
    assert are_equal(picture(tables, edited), wanted)


# Edges


def test_patches_of_one_cell_and_without_rise_are_finite() -> None:
    _, tables, options = setting("plain")
    cell = Footprint(torch.ones(1, 1, dtype=torch.uint8), (-0.9, -0.9), 1.7)
    op = ground_on(cell, rise=1e-9)
    for quality in Quality:
        buffers = picture(tables, replace(options, edits=tables_of(op), quality=quality))
        assert all(getattr(buffers, part).isfinite().all() for part in PARTS)
    straight = picture(tables, replace(options, edits=tables_of(op)), VIEWS[2])
    middle = straight.median_depth[SIZE[1] // 2, SIZE[0] // 2]
    assert math.isclose(middle, 2.0 - op.ground.item(), abs_tol=options.step)


def test_edits_with_the_nerf_branch_are_left_to_torch(library: Library) -> None:
    model = make_field(Shape(nerf=True))
    tables = model.tables(Precision.FULL)
    options = replace(options_for(model, RenderSettings()), edits=tables_of(clear()))
    assert library.can_render(tables, options)
    alone = replace(options, nerf=NerfMode.ALONE)
    assert not library.can_render(tables, alone)
    assert library.can_render(tables, replace(alone, edits=None))


def test_columns_do_not_depend_on_the_number_of_threads(library: Library) -> None:
    _, tables, options = setting("blocks")
    grid = ColumnGrid((-1.05, -1.1), 0.07, 29, 30, -0.1, 0.5, 0.013)
    first, *others = (library.columns(tables, replace(options, threads=n), grid) for n in (1, 2, 4))
    assert (first.opacity > 0.5).any()
    for other in others:
        assert torch.equal(first.opacity, other.opacity)
        assert torch.equal(first.features, other.features)
        assert torch.equal(first.height.nan_to_num(9.0), other.height.nan_to_num(9.0))
