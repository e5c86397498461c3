"""Streamed fields in the native kernels: what is resident is shown exactly, and what is lacking is said."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import bricks, ops, stream_native
from landmark_viewer.cuda.edit_tables import ColumnGrid, EditKind, EditOp
from landmark_viewer.cuda.native import Library
from landmark_viewer.cuda.stream_tables import CoarseTables, StreamTables
from landmark_viewer.cuda.tables import (
    TILE,
    BlockTables,
    FieldTables,
    FrameBuffers,
    NerfMode,
    Quality,
    RenderControl,
    RenderOptions,
    View,
)

from .small_edits import buffers_for, clear, instance, patch, source_of, tables_of
from .small_fields import AABB, SHAPES, Shape, camera, make_field, random_points, with_settings
from .streamed_fields import streamed

PARTS = ("rgb", "opacity", "depth", "median_depth", "normals")
SIZE = (43, 29)
VIEWS = [view_of(camera(*SIZE, view=number)) for number in range(3)]
MASK = (23, 19, 9)  # vertices; blocks end between them
FIELDS = {
    "blocks": SHAPES["blocks"],
    "missing": Shape(division=(3, 2), missing=(1,), levels=2, activation="softplus", opacity=0.4),
    "void": SHAPES["void outside the blocks"],
    "masked": Shape(division=(2, 3), mask=MASK, mask_share=0.2, missing=(4,), opacity=0.5),
    "masked softplus": Shape(division=(3, 2), mask=MASK, mask_share=0.1, activation="softplus"),
    "mask of another box": Shape(division=(2, 2), mask=MASK, mask_share=0.25, mask_shift=0.37),
    "directions": Shape(
        directions=3, density=(4, 4, 4), appearance=(6, 6, 6), division=(3, 1), mask=MASK, mask_share=0.3
    ),
    "nonlinear": Shape(
        nonlinear=True, levels=2, density=(5,), division=(2, 2), mask=(9, 8, 5), mask_share=0.5
    ),
    "one": Shape(mask=MASK, mask_share=0.2),
}
MASKED = ["masked", "masked softplus", "mask of another box", "directions", "nonlinear"]


@pytest.fixture(autouse=True)
def library() -> Library:
    """The loaded host library."""
    found = ops._native.get()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def setting(
    name: str, precision: Precision = Precision.FULL, **changes: object
) -> tuple[FieldTables, RenderOptions]:
    """A whole field and how to look at it."""
    sampling = changes.pop("sampling", "box")
    model = with_settings(make_field(FIELDS[name]), sampling=sampling)
    options = replace(options_for(model, RenderSettings()), normals=True, threads=2)
    return model.tables(precision), replace(options, **changes)


def present(tables: FieldTables) -> list[int]:
    return [number for number, block in enumerate(tables.blocks) if block is not None]


def asked(view: View, tables: FieldTables) -> RenderControl:
    """A control that asks for all feedback."""
    control = RenderControl(view.width, view.height)
    control.needs = np.zeros(len(tables.blocks), np.float32)
    control.lacking = np.zeros(len(tables.blocks), np.uint8)
    return control


def picture(
    tables: FieldTables, options: RenderOptions, view: View = VIEWS[0], control: RenderControl | None = None
) -> FrameBuffers:
    buffers = buffers_for(view, options.normals)
    assert ops.render(tables, view, options, buffers, control, backend="native")
    return buffers


def are_equal(a: FrameBuffers, b: FrameBuffers, where: torch.Tensor | None = None) -> bool:
    where = torch.ones(a.opacity.shape, dtype=torch.bool) if where is None else where
    return all(torch.equal(getattr(a, part)[where], getattr(b, part)[where]) for part in PARTS)


def pixels_of(tiles: np.ndarray, control: RenderControl, view: View) -> torch.Tensor:
    """Which pixels lie in tiles that are not 0. [height, width]"""
    grid = torch.from_numpy(tiles.reshape(control.rows, control.columns) != 0)
    return grid.repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)[: view.height, : view.width]


def edits_of(model: GridNeRF, *more: EditOp) -> object:
    """A patch, a turned copy across blocks, and a hole."""
    return tables_of(patch(model.decoder.basis.shape[0]), instance(), *more)


@pytest.mark.parametrize("precision", [Precision.FULL, Precision.HALF])
@pytest.mark.parametrize("sampling", ["box", "hull"])
@pytest.mark.parametrize("name", FIELDS)
def test_with_all_blocks_resident_pictures_are_those_of_the_field_in_memory(
    name: str, sampling: str, precision: Precision
) -> None:
    whole, options = setting(name, precision, sampling=sampling)
    snapshot = streamed(whole, present(whole))
    for quality, view in zip(Quality, VIEWS, strict=True):
        control = asked(view, whole)
        shown = picture(snapshot, replace(options, quality=quality), view, control)
        wanted = picture(whole, replace(options, quality=quality), view)
        assert are_equal(shown, wanted)
        assert wanted.opacity.max() > 0.1
        assert not control.tile_lacking.any()
        assert not control.lacking.any()
        assert control.needs.sum() == pytest.approx(wanted.opacity.mean().item(), rel=0.03)


@pytest.mark.parametrize("name", FIELDS)
def test_tiles_that_lack_nothing_are_exact_and_the_others_are_named(name: str) -> None:
    whole, options = setting(name)
    blocks = present(whole)
    partly = 0
    for quality, resident in zip([*Quality] * 2, [blocks[:1], blocks[1:], blocks[::2]] * 2, strict=True):
        snapshot = streamed(whole, resident)
        for view in VIEWS:
            control = asked(view, whole)
            shown = picture(snapshot, replace(options, quality=quality), view, control)
            wanted = picture(whole, replace(options, quality=quality), view)
            lacking = pixels_of(control.tile_lacking, control, view)
            assert are_equal(shown, wanted, ~lacking)
            partly += bool(lacking.any()) and not are_equal(shown, wanted)
            named = np.flatnonzero(control.lacking)
            assert set(named) <= set(blocks) - set(resident)
            assert bool(len(named)) == bool(lacking.any())
            assert (control.needs[named] > 0).any() == bool(len(named))
            assert not control.needs[[n for n in range(len(whole.blocks)) if n not in blocks]].any()
    assert partly > 2


def test_rays_that_enter_through_the_far_face_of_a_single_row_are_exact_too() -> None:
    """Samples on that face read the border of the next column's block."""
    model = make_field(Shape(division=(3, 1), opacity=5.0))
    whole = model.tables(Precision.FULL)
    options = replace(options_for(model, RenderSettings()), normals=True)
    view = view_of(Camera.from_fov(look_at((0.4, 2.0, 0.25), (0.0, 0.0, 0.2)), *SIZE, 55.0))
    wanted = picture(whole, options, view)
    for resident in ([0], [1], [0, 1], [0, 1, 2]):
        control = asked(view, whole)
        shown = picture(streamed(whole, resident), options, view, control)
        assert are_equal(shown, wanted, ~pixels_of(control.tile_lacking, control, view))
        assert not control.lacking[resident].any()


@pytest.mark.parametrize("name", FIELDS)
def test_without_any_block_the_stand_ins_are_shown(name: str, library: Library) -> None:
    whole, options = setting(name)
    snapshot = streamed(whole, [])
    for view in VIEWS:
        control = asked(view, whole)
        shown = picture(snapshot, options, view, control)
        wanted = picture(whole, options, view)
        assert (shown.opacity[wanted.opacity > 0.5] > 0).float().mean() > 0.6
        seen = pixels_of(control.tile_lacking, control, view)
        assert (shown.opacity[~seen] == 0).all()
        scalar = buffers_for(view, normals=True)
        library.render_scalar(snapshot, view, options, scalar)
        assert ((shown.rgb - scalar.rgb).abs().amax(dim=-1) > 1e-4).float().mean() < 0.01


@pytest.mark.parametrize("name", ["blocks", "masked", "directions", "nonlinear"])
def test_fading_leads_from_the_stand_in_to_the_block(name: str, library: Library) -> None:
    whole, options = setting(name)
    blocks = present(whole)
    snapshot, bare = streamed(whole, blocks), streamed(whole, [])
    pictures = {}
    for share in (0.0, 0.5, 1.0):
        faded = replace(options, fade=torch.full((len(whole.blocks),), share))
        control = asked(VIEWS[0], whole)
        pictures[share] = picture(snapshot, faded, control=control)
        assert not control.tile_lacking.any()
        scalar = buffers_for(VIEWS[0], normals=True)
        library.render_scalar(snapshot, VIEWS[0], faded, scalar)
        assert ((pictures[share].rgb - scalar.rgb).abs().amax(dim=-1) > 1e-4).float().mean() < 0.01
    assert are_equal(pictures[0.0], picture(bare, options))
    assert are_equal(pictures[1.0], picture(whole, options))
    half = pictures[0.5].rgb
    assert (half - pictures[0.0].rgb).abs().max() > 0.02
    assert (half - pictures[1.0].rgb).abs().max() > 0.02
    some = torch.ones(len(whole.blocks))
    some[blocks[0]] = 0.0
    assert are_equal(
        picture(snapshot, replace(options, fade=some)), picture(streamed(whole, blocks[1:]), options)
    )


def test_half_a_fade_is_half_of_the_features() -> None:
    """With density lines of one texel along a ray, opacity is -log linear in the feature."""
    whole, options = setting("blocks", normals=False, weight_threshold=2.0)
    snapshot = streamed(whole, present(whole))

    def sigma(share: float) -> torch.Tensor:
        faded = replace(options, fade=torch.full((len(whole.blocks),), share))
        grid = ColumnGrid((-0.9, -1.1), 0.17, 10, 10, 0.2, 0.21, 0.01)  # one sample each
        column = ops.columns(snapshot, faded, grid, backend="native")
        return -torch.log1p(-column.opacity.double())

    own, coarse, mixed = sigma(1.0), sigma(0.0), sigma(0.5)
    positive = (own > 1e-3) & (coarse > 1e-3) & (own < 5) & (coarse < 5)  # no relu in between
    assert positive.sum() > 10
    assert torch.allclose(mixed[positive], (own + coarse)[positive] / 2, atol=2e-5)


@pytest.mark.parametrize("name", [*MASKED, "blocks"])
def test_edited_scenes_are_exact_where_nothing_is_lacking(name: str, library: Library) -> None:
    whole, options = setting(name)
    model = make_field(FIELDS[name])
    blocks = present(whole)
    edited = replace(options, edits=edits_of(model))
    for quality, view in zip(Quality, VIEWS, strict=True):
        looked = replace(edited, quality=quality)
        wanted = picture(whole, looked, view)
        assert are_equal(picture(streamed(whole, blocks), looked, view), wanted)
        for resident in (blocks[:-1], blocks[1:], []):
            control = asked(view, whole)
            shown = picture(streamed(whole, resident), looked, view, control)
            lacking = pixels_of(control.tile_lacking, control, view)
            assert are_equal(shown, wanted, ~lacking)
            assert set(np.flatnonzero(control.lacking)) <= set(blocks) - set(resident)
            scalar = buffers_for(view, normals=True)
            library.render_scalar(streamed(whole, resident), view, looked, scalar)
            assert ((shown.rgb - scalar.rgb).abs().amax(dim=-1) > 1e-4).float().mean() < 0.02


def test_a_copy_needs_the_block_that_it_is_read_from() -> None:
    """The field is hidden, but for a copy of block 0 that stands over block 3."""
    model = make_field(Shape(division=(2, 2), mask=(9, 8, 5), mask_share=0.9))
    whole = model.tables(Precision.FULL)
    options = options_for(model, RenderSettings())
    low, high = AABB
    x, y = (float(side) / 2 for side in (high - low)[:2])
    copy = EditOp(EditKind.INSTANCE)
    copy = replace(copy, to_source=replace(copy.to_source, x0=-x, y0=-y))
    copied = replace(options, edits=tables_of(EditOp(EditKind.CLEAR), copy))
    for resident in ([0], [1, 2, 3]):
        control = asked(VIEWS[2], whole)
        shown = picture(streamed(whole, resident), replace(copied, normals=False), VIEWS[2], control)
        assert shown.opacity.max() > 0.1
        assert control.needs.argmax() == 0
        assert bool(control.lacking[0]) == (resident != [0])
        assert not control.lacking[1:].any()


def test_what_is_cleared_patched_or_of_another_field_lacks_nothing() -> None:
    model = make_field(FIELDS["masked"])
    whole = model.tables(Precision.FULL)
    options = options_for(model, RenderSettings())
    other = source_of(make_field(SHAPES["dense mask"]))
    for edits in (
        tables_of(EditOp(EditKind.CLEAR)),
        tables_of(EditOp(EditKind.CLEAR), patch(5)),
        tables_of(EditOp(EditKind.INSTANCE, source=1), sources=(other,)),
    ):
        control = asked(VIEWS[0], whole)
        picture(streamed(whole, []), replace(options, edits=edits), control=control)
        assert not control.tile_lacking.any()
        assert not control.lacking.any()


def test_a_clearing_hides_what_would_be_lacking() -> None:
    whole, options = setting("blocks")
    hidden = replace(options, edits=tables_of(clear(footprint=None, z_low=-9.0, z_high=9.0)))
    control = asked(VIEWS[1], whole)
    picture(streamed(whole, [0]), hidden, VIEWS[1], control)
    assert not control.lacking.any()


@pytest.mark.parametrize("mode", [NerfMode.ALONE, NerfMode.RESIDUAL])
@pytest.mark.parametrize("name", ["blocks", "masked"])
def test_the_nerf_branch_reads_blocks_and_says_what_it_lacks(name: str, mode: NerfMode) -> None:
    model = make_field(replace(FIELDS[name], nerf=True))
    whole = model.tables(Precision.FULL)
    options = replace(
        options_for(model, RenderSettings()), nerf=mode, sampling="hull", mask_threshold=0.0, normals=True
    )
    view = view_of(camera(21, 17))
    blocks = present(whole)
    wanted = picture(whole, options, view)
    assert are_equal(picture(streamed(whole, blocks), options, view), wanted)
    control = asked(view, whole)
    shown = picture(streamed(whole, blocks[1:]), options, view, control)
    lacking = pixels_of(control.tile_lacking, control, view)
    assert are_equal(shown, wanted, ~lacking)
    assert np.flatnonzero(control.lacking).tolist() == blocks[:1]
    faded = replace(options, fade=torch.zeros(len(whole.blocks)))
    assert are_equal(
        picture(streamed(whole, blocks), faded, view), picture(streamed(whole, []), options, view)
    )


@pytest.mark.parametrize("quality", Quality)
def test_pictures_and_feedback_do_not_depend_on_the_number_of_threads(quality: Quality) -> None:
    whole, options = setting("masked", quality=quality)
    snapshot = streamed(whole, present(whole)[::2])
    fade = torch.linspace(0, 1, len(whole.blocks))
    found = []
    for threads in (1, 2, 3):
        control = asked(VIEWS[0], whole)
        found.append(
            (picture(snapshot, replace(options, threads=threads, fade=fade), control=control), control)
        )
    for shown, control in found[1:]:
        assert are_equal(shown, found[0][0])
        assert (control.tile_lacking == found[0][1].tile_lacking).all()
        assert (control.lacking == found[0][1].lacking).all()
        assert np.allclose(control.needs, found[0][1].needs, rtol=1e-5)


@pytest.mark.parametrize("name", FIELDS)
def test_probes_and_columns_name_what_they_lack(name: str) -> None:
    whole, options = setting(name)
    blocks = present(whole)
    points = random_points(400)
    grid = ColumnGrid((-0.97, -1.15), 0.23, 9, 9, -0.1, 0.5, 0.02)
    for resident in (blocks, blocks[:1], []):
        snapshot = streamed(whole, resident)
        lacking = np.zeros(len(whole.blocks), np.uint8)
        probed = ops.probe(snapshot, points, "native", lacking)
        assert np.flatnonzero(lacking).tolist() == sorted(set(blocks) - set(resident))
        own = ops.probe(whole, points, "native")
        unlike = (probed.appearance_feature != own.appearance_feature).any(dim=-1)
        assert bool(unlike.any()) == (resident != blocks)
        lacking[:] = 0
        surveyed = ops.columns(snapshot, options, grid, "native", lacking)
        wanted = ops.columns(whole, options, grid, "native")
        assert set(np.flatnonzero(lacking)) <= set(blocks) - set(resident)
        equal = all(
            torch.equal(getattr(surveyed, part), getattr(wanted, part)) for part in ("opacity", "features")
        )
        assert equal or lacking.any()
        assert equal or resident != blocks


def test_one_point_names_its_block_only() -> None:
    whole, _ = setting("blocks")
    snapshot = streamed(whole, [])
    point = AABB[0] + (AABB[1] - AABB[0]) * torch.tensor([[0.75, 0.5, 0.3]])
    lacking = np.zeros(len(whole.blocks), np.uint8)
    ops.probe(snapshot, point, "native", lacking)
    assert np.flatnonzero(lacking).tolist() == [4]  # column 1, row 1 of 2 x 3
    half = ops.probe(snapshot, point, "native")
    assert half.density_feature.abs().item() > 0


def city(n_blocks: int, resident: dict[int, BlockTables], like: FieldTables) -> FieldTables:
    """A long row of blocks, all of which exist, with stand-ins of zeros."""
    block = like.sample_block

    def stacked(group: str) -> tuple[torch.Tensor, ...]:
        return tuple(
            table.new_zeros(n_blocks, *[2] * (table.dim() - 1), table.shape[-1])
            for table in getattr(block, group)
        )

    groups = ("density_planes", "density_lines", "appearance_planes", "appearance_lines")
    coarse = CoarseTables(torch.arange(n_blocks, dtype=torch.int32), *map(stacked, groups))
    blocks = tuple(resident.get(number) for number in range(n_blocks))
    stream = StreamTables(coarse, None, None, {})
    return replace(like, division=(n_blocks, 1), blocks=blocks, stream=stream, occupancy=None, cache={})


def test_a_snapshot_describes_only_what_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, options = setting("nonlinear")
    first, second, third = (whole.blocks[number] for number in range(3))
    described = []
    plain = stream_native._block_tables
    monkeypatch.setattr(
        stream_native, "_block_tables", lambda planes, lines: described.append(planes) or plain(planes, lines)
    )
    tables = city(10_000, {17: first, 18: second}, whole)
    ops.prepare(tables)
    assert len(described) == 6  # two blocks: density, folded density, appearance
    more = replace(tables, blocks=(*tables.blocks[:19], third, *tables.blocks[20:]), cache={})
    ops.prepare(more)
    assert len(described) == 9
    fewer = replace(tables, blocks=(*tables.blocks[:17], None, *tables.blocks[18:]), cache={})
    ops.prepare(fewer)
    assert len(described) == 9
    assert ops.prepare(tables) is None
    picture(more, options, VIEWS[2])


def test_snapshots_leave_nothing_behind() -> None:
    """A pool gets memory back when the last snapshot goes, without help of the collector of cycles."""
    whole, options = setting("nonlinear", edits=edits_of(make_field(FIELDS["nonlinear"])))

    class Held:
        pass

    held = Held()
    snapshot = streamed(whole, [0, 1])
    blocks = (replace(snapshot.blocks[0], held=held), *snapshot.blocks[1:])
    masks = dict(snapshot.stream.block_masks)
    stream = replace(snapshot.stream, block_masks=masks)
    snapshot = replace(snapshot, blocks=blocks, stream=stream, cache={})
    later = replace(snapshot, blocks=(None, *blocks[1:]), cache={})
    picture(snapshot, options)
    prepared = options.edits.cache["native"]
    gone = weakref.ref(held)
    gc.collect()
    gc.disable()
    try:
        del held, blocks, snapshot
        assert gone() is None
    finally:
        gc.enable()
    assert picture(later, options).opacity.max() > 0.1
    assert options.edits.cache["native"] is prepared  # the room for jumps is that of all snapshots


@pytest.mark.parametrize("size", [(1, 1, 1), (4, 3, 2), (7, 8, 9), (13, 5, 6)])
def test_bricks_of_both_back_ends_are_equal(size: tuple[int, int, int]) -> None:
    random = torch.Generator().manual_seed(1)
    for share in (0.0, 0.2, 0.9, 1.0):
        nodes = (torch.rand(size, generator=random) < share).to(torch.uint8)
        for native, plain in zip(ops.mask_bricks(nodes), bricks.brick_tables(nodes), strict=True):
            assert torch.equal(native, plain)
