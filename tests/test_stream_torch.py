"""Streamed fields in plain torch, against the whole fields and the native code."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import ops, reference
from landmark_viewer.cuda.columns import survey
from landmark_viewer.cuda.edit_tables import ColumnGrid
from landmark_viewer.cuda.lookup import Lookup
from landmark_viewer.cuda.streamed_lookup import StreamedLookup, lookup_of
from landmark_viewer.cuda.tables import (
    FieldTables,
    FrameBuffers,
    NerfMode,
    Quality,
    RenderControl,
    RenderOptions,
    View,
)

from .small_edits import clear, instance, patch, psnr, source_of, style, with_edits
from .small_fields import AABB, Shape, camera, make_field, random_points, with_settings
from .streamed_fields import streamed

SHAPES = {
    "blocks": Shape(division=(2, 3), levels=2),
    "one block": Shape(levels=2, mask=(23, 19, 9)),
    "mask": Shape(division=(2, 2), mask=(23, 19, 9), mask_share=0.03, opacity=0.3),
    "mask of another box": Shape(division=(3, 2), mask=(19, 28, 5), mask_share=0.2, mask_shift=0.17),
    "dense mask": Shape(division=(3, 3), mask=(9, 8, 5), mask_share=0.6, opacity=4.0),
    "missing": Shape(division=(2, 2), missing=(1,), activation="softplus", mask=(31, 30, 9)),
    "softplus": Shape(division=(2, 2), activation="softplus", opacity=0.5, mask=(9, 8, 5)),
    "void outside": Shape(division=(2, 2), missing=(2,), zero_sigma_outside=True),
    "three directions": Shape(
        directions=3, levels=2, density=(5, 8, 3), appearance=(27, 6, 9), division=(1, 2), mask=(9, 8, 5)
    ),
    "nonlinear": Shape(nonlinear=True, levels=2, density=(5,), division=(2, 2), latent=3),
}
# What softplus rounds depends on how many samples are computed beside, and here it is not as many.
PARTED = ("missing",)
PARTS = ("rgb", "opacity", "depth", "median_depth")
GRID = ColumnGrid(low=(-1.15, -1.3), side=0.19, n_x=13, n_y=14, z_low=-0.2, z_high=0.61, step=0.017)


def setting(name: str, precision: Precision = Precision.FULL, **changes: object):
    model = with_settings(make_field(SHAPES[name]), **changes)
    return model, model.tables(precision), options_for(model, RenderSettings())


def picture(
    tables: FieldTables,
    options: RenderOptions,
    view: View,
    control: RenderControl | None = None,
    backend: str = "torch",
) -> FrameBuffers:
    buffers = FrameBuffers.empty(view.width, view.height, options.normals)
    assert ops.render(tables, view, options, buffers, control, backend)
    return buffers


def watch(view: View, tables: FieldTables) -> RenderControl:
    control = RenderControl(view.width, view.height)
    control.lacking = np.zeros(len(tables.blocks), np.uint8)
    control.needs = np.zeros(len(tables.blocks), np.float32)
    return control


def same(a: FrameBuffers, b: FrameBuffers) -> bool:
    equal = all(torch.equal(getattr(a, part), getattr(b, part)) for part in PARTS)
    return equal and (a.normals is None or b.normals is None or torch.equal(a.normals, b.normals))


def assert_close(got: FrameBuffers, wanted: FrameBuffers, where: torch.Tensor) -> None:
    """Equal to the rounding of what else is computed beside."""
    parts = PARTS if got.normals is None else (*PARTS, "normals")
    for part in parts if where.any() else ():
        assert (getattr(got, part) - getattr(wanted, part))[where].abs().max() < 2e-6, part


def pixels_of(tiles: np.ndarray, control: RenderControl, view: View) -> torch.Tensor:
    """Which pixels lie in tiles that are set. [height, width]"""
    grid = torch.from_numpy(tiles.astype(bool)).view(control.rows, control.columns)
    return grid.repeat_interleave(8, 0).repeat_interleave(8, 1)[: view.height, : view.width]


def present(tables: FieldTables) -> list[int]:
    return [number for number, block in enumerate(tables.blocks) if block is not None]


@pytest.mark.parametrize(("sampling", "precision"), [("box", Precision.FULL), ("hull", Precision.HALF)])
@pytest.mark.parametrize("name", SHAPES)
def test_with_all_blocks_the_bits_are_those_of_the_whole(
    name: str, sampling: str, precision: Precision
) -> None:
    _, tables, options = setting(name, precision, sampling=sampling)
    options = replace(options, normals=True)
    stream = streamed(tables, range(len(tables.blocks)), side=2)
    for number in range(3):
        view = view_of(camera(26, 18, number))
        control = watch(view, tables)
        got, wanted = picture(stream, options, view, control), picture(tables, options, view)
        if name in PARTED:
            assert_close(got, wanted, torch.ones_like(got.opacity, dtype=torch.bool))
        else:
            assert same(got, wanted)
        assert not control.tile_lacking.any()
        assert not control.lacking.any()


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 0.98, 0.99995])
@pytest.mark.parametrize(
    "name", ["mask", "mask of another box", "dense mask", "three directions", "one block"]
)
def test_resident_blocks_keep_what_the_whole_mask_keeps(name: str, threshold: float) -> None:
    model, tables, _ = setting(name)
    points = torch.cat([near_borders(model.layout.division), random_points(4000)])
    points = points[((points >= AABB[0]) & (points <= AABB[1])).all(dim=-1)]
    wanted = lookup_of(tables).is_occupied(points, threshold)
    resident = {0, len(tables.blocks) - 1}
    lookup = streaming(streamed(tables, resident))
    kept = lookup.is_occupied(points, threshold)
    own = torch.isin(lookup.home(points), torch.tensor(sorted(resident)))
    assert own.any()
    assert torch.equal(kept[own], wanted[own])
    assert (kept | ~wanted).all(), "a stand-in keeps at least what its block keeps"


def near_borders(division: tuple[int, int]) -> torch.Tensor:
    """Points that lie on borders between blocks, to the last bits."""
    rng = np.random.default_rng(1)
    low, high = AABB.numpy()
    points = (low + (high - low) * rng.random((2000, 3))).astype(np.float32)
    for axis in range(2):
        share = rng.integers(0, division[axis] + 1, 1000) / division[axis]
        border = (low[axis] + (high[axis] - low[axis]) * share).astype(np.float32)
        for _ in range(2):
            border = np.nextafter(border, rng.choice([-9, 9], 1000).astype(np.float32))
        points[rng.permutation(2000)[:1000], axis] = border
    return torch.from_numpy(points)


def streaming(tables: FieldTables, fade: torch.Tensor | None = None) -> StreamedLookup:
    lookup = lookup_of(tables, fade)
    assert isinstance(lookup, StreamedLookup)
    return lookup


@pytest.mark.parametrize("sampling", ["box", "hull"])
@pytest.mark.parametrize("name", SHAPES)
def test_tiles_that_lack_nothing_are_right(name: str, sampling: str) -> None:
    _, tables, options = setting(name, sampling=sampling)
    options = replace(options, normals=True)
    right = lacking = 0
    for resident in (present(tables)[:1], present(tables)[1:]):
        stream = streamed(tables, resident, side=2)
        for number in range(3):
            view = view_of(camera(45, 37, number))
            control = watch(view, tables)
            got, wanted = picture(stream, options, view, control), picture(tables, options, view)
            complete = pixels_of(control.tile_lacking == 0, control, view)
            assert_close(got, wanted, complete)
            if SHAPES[name].activation == "relu" and not SHAPES[name].nonlinear:
                assert torch.equal(got.depth[complete], wanted.depth[complete])
            right, lacking = right + int(complete.sum()), lacking + int((~complete).sum())
            assert set(control.lacking.nonzero()[0]) <= set(present(tables)) - set(resident)
            assert bool(control.lacking.any()) == bool(control.tile_lacking.any())
    assert lacking, "this shows nothing"
    assert right, "this shows nothing"


def test_only_the_blocks_that_are_lacking_make_a_picture_complete() -> None:
    _, tables, options = setting("dense mask")
    view = view_of(camera(45, 37, 1))
    resident: set[int] = set()
    for _ in range(len(tables.blocks)):
        control = watch(view, tables)
        got = picture(streamed(tables, resident, side=2), options, view, control)
        if not control.tile_lacking.any():
            break
        resident |= set(control.lacking.nonzero()[0].tolist())
    assert 0 < len(resident) < len(tables.blocks)
    assert same(got, picture(tables, options, view))


def test_without_any_block_the_stand_ins_are_seen() -> None:
    _, tables, options = setting("missing")
    coarse = streamed(tables, [], side=64)  # as fine as the blocks
    view = view_of(camera(45, 37))
    control = watch(view, tables)
    got = picture(coarse, options, view, control)
    unmasked = replace(tables, occupancy=None, cache={})
    seen = view_of(camera(45, 37, 2))
    free = replace(streamed(unmasked, [], side=64), cache={})
    bare, wanted = picture(free, options, seen), picture(unmasked, options, seen)
    for part in PARTS:
        assert torch.allclose(getattr(bare, part), getattr(wanted, part), atol=1e-5)
    assert got.opacity.max() > 0.1
    assert control.tile_lacking.any()
    assert control.lacking.tolist() == [1, 0, 1, 1]


def test_a_need_is_what_a_block_adds_to_the_picture() -> None:
    _, tables, options = setting("blocks")
    view = view_of(camera(40, 30))
    control = watch(view, tables)
    got = picture(streamed(tables, [0, 3]), options, view, control)
    assert control.needs.sum() == pytest.approx(float(got.opacity.mean()), rel=1e-4)
    assert (control.needs > 0).sum() >= 4
    apart = [watch(view, tables), watch(view, tables)]
    for part, half in zip(apart, np.array_split(control.order, 2), strict=True):
        part.order = half
        picture(streamed(tables, [0, 3]), options, view, part)
    np.testing.assert_allclose(apart[0].needs + apart[1].needs, control.needs, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["blocks", "mask of another box", "nonlinear", "three directions"])
def test_fading_goes_from_the_stand_in_to_the_block(name: str) -> None:
    _, tables, options = setting(name)
    n, view = len(tables.blocks), view_of(camera(33, 26))
    stream, none = streamed(tables, range(n)), streamed(tables, [])

    def faded(share: float) -> FrameBuffers:
        control = watch(view, tables)
        got = picture(stream, replace(options, fade=torch.full((n,), share)), view, control)
        assert not control.tile_lacking.any(), "a block that fades in is there"
        return got

    assert same(faded(1.0), picture(stream, options, view))
    for part in PARTS:
        assert torch.allclose(
            getattr(faded(0.0), part), getattr(picture(none, options, view), part), atol=1e-5
        )
    points = random_points(500)
    half = streaming(stream, torch.full((n,), 0.25)).raw_density(points)
    own, coarse = lookup_of(stream).raw_density(points), lookup_of(none).raw_density(points)
    assert (own - coarse).abs().max() > 0.1
    assert torch.allclose(half, 0.25 * own + 0.75 * coarse, atol=1e-5)


@pytest.mark.parametrize("name", ["missing", "void outside", "softplus", "blocks"])
def test_points_read_blocks_stand_ins_or_nothing(name: str) -> None:
    _, tables, _ = setting(name)
    points = torch.cat([random_points(3000), AABB[1:].clone()])
    resident = present(tables)[1:]
    stream, none = streamed(tables, resident), streamed(tables, [])
    lacking = np.zeros(len(tables.blocks), np.uint8)
    assert [len(part) for part in reference.query(stream, points[:0], lacking)] == [0, 0, 0]
    assert not lacking.any()
    got = reference.query(stream, points, lacking)
    assert lacking.nonzero()[0].tolist() == present(tables)[:1]
    number, _ = lookup_of(tables).locate(points)
    own = number != present(tables)[0]
    for part, wanted, coarse in zip(
        got, reference.query(tables, points), reference.query(none, points), strict=True
    ):
        assert torch.allclose(part[own], wanted[own], atol=1e-6)
        assert torch.allclose(part[~own], coarse[~own], atol=1e-6)
    void = torch.isin(number, torch.tensor([n for n, block in enumerate(tables.blocks) if block is None]))
    assert (got[1][void] == 0).all()


def test_a_far_face_is_the_last_blocks() -> None:
    _, tables, _ = setting("softplus")
    face = AABB[1].repeat(3, 1)
    face[0, :2] = torch.tensor([-0.5, AABB[1, 1]])  # gets the number of block 2, lies in block 1
    face[1, :2] = torch.tensor([AABB[1, 0], -0.9])  # gets number 4, lies in block 2
    face[:, 2] = 0.2
    lookup = streaming(streamed(tables, []))
    assert lookup.locate(face)[0].tolist() == [2, 4, 6]
    assert lookup.home(face).tolist() == [1, 2, 3]
    assert lookup.home(face + 1e-3).tolist() == [-1, -1, -1]
    resident = lookup_of(streamed(tables, range(4)))
    assert torch.equal(resident.sigma(face), lookup_of(tables).sigma(face))


def test_surveys_say_what_they_lacked() -> None:
    _, tables, options = setting("missing")
    wanted = survey(tables, options, GRID)
    whole = survey(streamed(tables, range(4)), options, GRID)
    lacking = np.zeros(4, np.uint8)
    part = survey(streamed(tables, [2, 3]), options, GRID, lacking)
    assert lacking.tolist() == [1, 0, 0, 0]
    for name in ("height", "opacity", "features"):
        assert torch.allclose(getattr(whole, name), getattr(wanted, name), equal_nan=True, atol=0)
        right = getattr(part, name)[:, GRID.n_x // 2 + 1 :]
        assert torch.allclose(right, getattr(wanted, name)[:, GRID.n_x // 2 + 1 :], equal_nan=True, atol=1e-6)


def edited_setting():
    model = make_field(Shape(division=(2, 2), levels=2, latent=4, mask=(23, 19, 9), mask_share=0.3))
    options = options_for(model, RenderSettings())
    other = make_field(Shape(levels=2, mask=(9, 8, 5), latent=4), seed=7)
    operations = (
        clear(z_low=0.1),
        patch(5, z_low=-0.05, z_high=0.3),
        instance(),
        instance(turn=10.0, source=1),
        style(torch.randn(4, generator=torch.Generator().manual_seed(2))),
    )
    edited = with_edits(options, *operations, sources=(source_of(other),))
    return model.tables(Precision.FULL), options, edited


def test_edits_of_streamed_fields_are_those_of_whole_ones() -> None:
    tables, _, edited = edited_setting()
    shares = []
    for options in (edited, replace(edited, normals=True, quality=Quality.CLUSTERED)):
        for number in range(3):
            view = view_of(camera(60, 44, number))
            wanted = picture(tables, options, view)
            assert same(picture(streamed(tables, range(4)), options, view), wanted)
            for missing in (number, 3):
                control = watch(view, tables)
                got = picture(streamed(tables, {0, 1, 2, 3} - {missing}, side=2), options, view, control)
                complete = pixels_of(control.tile_lacking == 0, control, view)
                assert_close(got, wanted, complete)
                shares.append(float(complete.float().mean()))
    assert min(shares) < 0.8
    assert max(shares) > 0.2


def test_an_instance_reads_the_block_that_it_was_taken_from() -> None:
    tables, options, _ = edited_setting()
    copies = with_edits(options, clear(footprint=None), instance(0.0, 1.0))
    view = view_of(camera(33, 26))
    needed = set()
    for number in range(4):
        control = watch(view, tables)
        picture(streamed(tables, {0, 1, 2, 3} - {number}), copies, view, control)
        assert set(control.lacking.nonzero()[0]) <= {number}
        needed |= set(control.lacking.nonzero()[0].tolist())
    low = torch.tensor(copies.edits.ops[1].footprint.low)
    corners = low + torch.tensor([[0.0, 0], [0, 0.9], [0.8, 0], [0.8, 0.9]])
    read = streaming(streamed(tables, [])).home(torch.cat([corners, torch.zeros(4, 1)], dim=1))
    assert needed == set(read.tolist())


@pytest.mark.parametrize("mode", [NerfMode.ALONE, NerfMode.RESIDUAL])
def test_the_nerf_branch_of_a_streamed_field(mode: NerfMode) -> None:
    model = make_field(Shape(nerf=True, levels=2, division=(2, 2), latent=4))
    model = with_settings(model, run_nerf=True, residual_nerf=mode is NerfMode.RESIDUAL)
    tables, options = model.tables(Precision.FULL), options_for(model, RenderSettings())
    view = view_of(camera(20, 14))
    wanted = picture(tables, options, view)
    assert same(picture(streamed(tables, range(4)), options, view), wanted)
    control = watch(view, tables)
    picture(streamed(tables, [1, 2]), options, view, control)
    assert control.lacking.tolist() == [1, 0, 0, 1]
    assert control.tile_lacking.any()


def test_chunks_are_as_large_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tables, options = setting("blocks")
    view, chunks = view_of(camera(40, 30)), []
    found = reference._tile_pixels
    monkeypatch.setattr(
        reference, "_tile_pixels", lambda tiles, *rest: (chunks.append(len(tiles)), found(tiles, *rest))[1]
    )
    small = picture(tables, replace(options, chunk_tiles=3), view)
    assert chunks == [3] * 6 + [2]
    assert torch.allclose(small.rgb, picture(tables, options, view).rgb, atol=1e-6)


def test_nothing_is_asked_of_blocks_that_no_sample_lies_in() -> None:
    asked = set()

    class Watched(tuple):
        def __getitem__(self, number):
            asked.add(number)
            return super().__getitem__(number)

    _, tables, _ = setting("dense mask")
    stream = streamed(tables, [0, 4])
    watched = Watched(stream.blocks)
    lookup = streaming(replace(stream, blocks=watched, cache={}))
    points = AABB[0] + torch.tensor([[0.05, 0.05, 0.2], [0.1, 0.2, 0.3], [0.1, 1.0, 0.3]])
    lookup.sigma(points), lookup.appearance_feature(points), lookup.is_occupied(points, 0.0)
    assert asked == {0, 1}


def test_lookups_of_whole_fields_are_kept_and_snapshots_go_as_soon_as_they_are_dropped() -> None:
    _, tables, _ = setting("blocks")
    assert type(lookup_of(tables)) is Lookup
    assert lookup_of(tables, torch.ones(6)) is lookup_of(tables)
    stream = streamed(tables, [0])
    is_dropped = weakref.ref(stream)
    gc.disable()
    try:
        lookup_of(stream).sigma(random_points(10))
        lookup_of(stream, torch.ones(6)).sigma(random_points(10))
        del stream
        assert is_dropped() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("quality", list(Quality))
@pytest.mark.parametrize("name", SHAPES)
def test_native_pictures_are_those_of_torch(name: str, quality: Quality) -> None:
    if ops.backend_status().name != "native":
        pytest.skip(ops.backend_status().detail)
    _, tables, options = setting(name)
    options = replace(options, quality=quality, normals=quality is Quality.EXACT)
    resident = present(tables)[::2]
    stream, view = streamed(tables, resident), view_of(camera(33, 26))
    controls = watch(view, tables), watch(view, tables)
    got = picture(stream, options, view, controls[0], "native")
    wanted = picture(stream, options, view, controls[1])
    if quality is Quality.EXACT:
        assert (got.opacity - wanted.opacity).abs().max() < 1e-5
        assert (got.depth - wanted.depth).abs().max() < 1e-4
        assert ((got.rgb - wanted.rgb).abs() > 2e-5).float().mean() < 2e-3
        assert (got.rgb - wanted.rgb).abs().max() < 2e-3
    else:
        assert psnr(got.rgb, wanted.rgb) > 40
    if quality is not Quality.FAST:
        assert np.allclose(controls[0].needs, controls[1].needs, atol=1e-5)
        assert (controls[0].tile_lacking <= controls[1].tile_lacking).all(), "native rays end no later"
        assert controls[0].lacking.tolist() == controls[1].lacking.tolist()


@pytest.mark.parametrize("name", SHAPES)
def test_native_probes_and_surveys_are_those_of_torch(name: str) -> None:
    if ops.backend_status().name != "native":
        pytest.skip(ops.backend_status().detail)
    _, tables, options = setting(name)
    stream = streamed(tables, present(tables)[::2])
    points = torch.cat([random_points(2000), near_borders(tables.division)])
    lacking = [np.zeros(len(tables.blocks), np.uint8) for _ in range(4)]
    got = ops.probe(stream, points, "native", lacking=lacking[0])
    wanted = ops.probe(stream, points, "torch", lacking=lacking[1])
    for part in ("density_feature", "sigma", "appearance_feature"):
        assert (getattr(got, part) - getattr(wanted, part)).abs().max() < 1e-5, part
    above = ops.columns(stream, options, GRID, "native", lacking=lacking[2])
    seen = ops.columns(stream, options, GRID, "torch", lacking=lacking[3])
    assert (above.opacity - seen.opacity).abs().max() < 1e-5
    assert torch.allclose(above.height, seen.height, atol=1e-4, equal_nan=True)
    assert lacking[0].tolist() == lacking[1].tolist()
    assert lacking[2].tolist() == lacking[3].tolist()
