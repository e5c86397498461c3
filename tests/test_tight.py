"""Tight rooms: what they keep, that pictures hardly change, and where there are none."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.occupancy import OccupancyGrid
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import Renderer, RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import abi, ops, tight
from landmark_viewer.cuda.edit_tables import EditTables, Reach
from landmark_viewer.cuda.native import Library
from landmark_viewer.cuda.tables import FieldTables, FrameBuffers, Quality, RayList, RenderOptions, View
from landmark_viewer.cuda.tight import TightRoom
from landmark_viewer.scenes.load import demo_scene_path, open_scene

from .height_fields import HIGH, LOW, height_field, with_boxes
from .small_edits import clear, instance, patch, placed, psnr, tables_of
from .small_fields import SHAPES, Shape, camera, make_field, with_settings
from .streamed_fields import streamed
from .test_rays import slabs

SIZE = (64, 48)
FAST = RenderSettings(quality=Quality.FAST, cluster_weight=0.34)
LESSER = (Quality.FAST, Quality.CLUSTERED)


@pytest.fixture(autouse=True)
def library() -> Library:
    """The loaded host library."""
    found = ops._native.get()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def town(mask: tuple[int, int, int] | None = (40, 40, 17), top: float = 0.6, **changes: object) -> GridNeRF:
    """Boxes on a plain; the mask, of so many vertices, is set up to a height."""
    ground = with_boxes(
        lambda x, y: 0.05 + 0.0 * x,
        (-0.6, -0.5, -0.2, 0.1, 0.35),
        (0.1, -0.3, 0.5, 0.2, 0.2),
        (0.0, 0.5, 0.1, 0.9, 0.4),
    )
    model = height_field(ground, **changes)
    if mask is None:
        return model
    n_x, n_y, n_z = mask
    z = torch.linspace(LOW[2], HIGH[2], n_z)
    nodes = (z < top).to(torch.uint8)[:, None, None].expand(n_z, n_y, n_x).contiguous()
    return replace(model, occupancy=OccupancyGrid(nodes, torch.tensor([LOW, HIGH])))


def oblique(size: tuple[int, int] = SIZE) -> View:
    return view_of(Camera.from_fov(look_at((-1.2, -1.4, 1.0), (0.0, 0.0, 0.1)), *size, 55.0))


def made(
    model: GridNeRF, settings: RenderSettings = FAST, **changes: object
) -> tuple[FieldTables, RenderOptions, TightRoom | None]:
    options = replace(options_for(model, settings), **changes)
    tables = model.tables(Precision.FULL)
    return tables, options, ops.tight_room(tables, options)


def picture(tables: FieldTables, options: RenderOptions, view: View) -> FrameBuffers:
    buffers = FrameBuffers.empty(view.width, view.height, front=True)
    assert ops.render(tables, view, options, buffers, backend="native")
    return buffers


def bits(words: Tensor, n: tuple[int, ...]) -> np.ndarray:
    """Cells [n_z + 1, n_y + 1, n_x + 1] of a brick table of n vertices along x, y, z."""
    z, y, x = words.shape
    flat = np.unpackbits(words.numpy().view(np.uint8), bitorder="little").reshape(z, y, x, 4, 4, 4)
    cells = flat.transpose(0, 3, 1, 4, 2, 5).reshape(4 * z, 4 * y, 4 * x)
    assert cells.sum() == cells[: n[2] + 1, : n[1] + 1, : n[0] + 1].sum(), "cells beyond the mask"
    return cells[: n[2] + 1, : n[1] + 1, : n[0] + 1].astype(bool)


def densest(tables: FieldTables, mask: abi.Mask, parts: int) -> np.ndarray:
    """The greatest density at a lattice's points, cell by cell."""
    axes = []
    for axis in range(3):
        at = np.arange((mask.n[axis] + 1) * parts + 1) / parts - 1
        p = mask.low[axis] + 2 * at / (mask.scale[axis] * (mask.n[axis] - 1))
        axes.append(torch.from_numpy(p.clip(*tables.aabb[:, axis].tolist())).float())
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).permute(2, 1, 0, 3)
    sigma = ops.probe(tables, points.reshape(-1, 3).contiguous(), "torch").sigma
    volume = sigma.view(1, 1, *points.shape[:3])
    return torch.nn.functional.max_pool3d(volume, parts + 1, parts)[0, 0].numpy()


MASKED = {
    "sparse": Shape(mask=(23, 19, 9), mask_share=0.05, opacity=0.01),
    "dense": Shape(mask=(9, 8, 5), mask_share=0.6, opacity=0.01),
    "another box": Shape(mask=(9, 8, 5), mask_share=0.6, mask_shift=0.37, opacity=0.01),
    "softplus": Shape(mask=(11, 12, 6), activation="softplus", opacity=2.0, mask_share=0.5),
    "nonlinear": Shape(nonlinear=True, levels=2, density=(5,), mask=(9, 8, 5), opacity=0.01),
    "directions": Shape(directions=3, density=(5, 8, 3), appearance=(4, 6, 9), mask=(9, 8, 5), opacity=0.01),
}


@pytest.mark.parametrize("sampling", ["box", "hull"])
@pytest.mark.parametrize("name", MASKED)
def test_a_cell_is_kept_exactly_if_its_lattice_holds_something(
    name: str, sampling: str, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tight, "MOST", 1.0)
    model = with_settings(make_field(MASKED[name]), sampling=sampling)
    tables, options, room = made(model)
    assert room is not None
    nodes = model.occupancy.nodes
    n = nodes.shape[::-1]
    spacing = options.step if sampling == "box" else (options.far - options.near) / (options.n_importance - 1)
    least = -np.log(0.99) / (spacing * options.distance_scale)
    whole = bits(library.mask_bricks(nodes)[0], n)
    sigma = densest(tables, room.mask, tight._parts(tables, room.mask, int(whole.sum())))
    kept = bits(room.any_cell, n)
    assert not (kept & ~whole).any()
    clear_cut = np.abs(sigma - least) > 1e-3 * least
    assert np.array_equal(kept[clear_cut], (whole & (sigma >= least))[clear_cut])
    assert 0 < room.n_cells == kept.sum() <= whole.sum()
    assert sampling == "hull" or kept.sum() < whole.sum()


@pytest.mark.parametrize("quality", LESSER)
@pytest.mark.parametrize("mask", [None, (40, 40, 17)])
@pytest.mark.parametrize("division", [(1, 1), (2, 2)])
def test_pictures_hardly_change(
    mask: tuple[int, int, int] | None, division: tuple[int, int], quality: Quality, library: Library
) -> None:
    model = town(mask, division=division)
    tables, options, room = made(model, RenderSettings(quality=quality))
    assert room is not None
    whole = np.prod([n - 1 for n in room.mask.n])
    if model.occupancy is not None:
        whole = bits(library.mask_bricks(model.occupancy.nodes)[0], mask).sum()
    assert room.n_cells < 0.6 * whole
    without = picture(tables, options, oblique())
    shown = picture(tables, replace(options, tight=room), oblique())
    assert psnr(shown.rgb, without.rgb) > 50
    assert (shown.opacity - without.opacity).abs().max() < 0.02
    assert without.opacity.max() > 0.99


def test_a_mask_with_a_threshold_is_asked_inside_the_cells() -> None:
    model = with_settings(town((9, 9, 5), top=0.1), alpha_mask_threshold=0.7)
    tables, options, room = made(model)
    shown = picture(tables, replace(options, tight=room), oblique())
    assert psnr(shown.rgb, picture(tables, options, oblique()).rgb) > 50
    loose = picture(tables, replace(options, mask_threshold=0.0), oblique())
    assert psnr(shown.rgb, loose.rgb) < 40


def test_a_mask_that_is_switched_off_is_not_asked() -> None:
    model = with_settings(town((9, 9, 5)), alpha_mask_threshold=-1.0)
    tables, options, room = made(model)
    assert room is not None
    assert [*room.mask.n] != [9, 9, 5]
    without = picture(tables, options, oblique())
    assert psnr(picture(tables, replace(options, tight=room), oblique()).rgb, without.rgb) > 50


@pytest.mark.parametrize("mask", [None, (8, 8, 12)])
@pytest.mark.parametrize(("alpha", "is_kept"), [(0.025, True), (0.5, True), (0.004, False)])
def test_walls_of_one_texel_are_kept_from_the_threshold_on(
    mask: tuple[int, int, int] | None, alpha: float, is_kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tight, "MOST", 1.0)
    model = slabs((0.4975, 0.5025, 1.0))  # three texels along z: a cell is far larger
    model = replace(model, grid_size=(40, 40, 40))
    model = slabs((0.4985, 0.5015, -np.log(1 - alpha) / float(model.step)))
    model = replace(model, grid_size=(40, 40, 40))
    if mask is not None:
        nodes = torch.ones(mask[::-1], dtype=torch.uint8)
        model = replace(model, occupancy=OccupancyGrid(nodes, model.aabb))
    tables, options, room = made(model)
    above = view_of(Camera.from_fov(look_at((0.3, 0.2, 2.0), (0.0, 0.0, 0.0)), 40, 40, 40.0))
    without = picture(tables, options, above).opacity
    shown = picture(tables, replace(options, tight=room), above).opacity
    assert without.max() > 0.1 * alpha
    assert torch.equal(shown, without) == is_kept
    assert (room.n_cells > 0) == is_kept
    assert is_kept or (shown == 0).all()


# Edits


def in_the_air(edits: EditTables) -> EditTables:
    """The same edits, of which nothing is said to reach below a height of 0.2."""
    side = [(high - low) / 4 for low, high in zip(LOW, HIGH, strict=True)]
    cells = torch.ones(4, 4, 4, dtype=torch.uint8)
    cells[0] = 0
    return replace(edits, reach=Reach(cells, LOW, tuple(side)))


@pytest.mark.parametrize("mask", [None, (40, 40, 17)])
def test_what_operations_put_somewhere_is_never_lost(mask: tuple[int, int, int] | None) -> None:
    model = town(mask)
    tables, options, room = made(model)
    to_source = placed((0.0, 0.0, 0.0), (0.3, 0.4, 0.3), 35.0, 1.2)
    raised = replace(instance(z_low=0.1, z_high=0.4), to_source=to_source)
    slab = patch(3, ground=torch.full((16, 14), 0.5), thickness=0.03, z_high=0.75)
    for op in (raised, slab):
        edited = replace(options, edits=in_the_air(tables_of(op)))
        without = picture(tables, edited, oblique())
        shown = picture(tables, replace(edited, tight=room), oblique())
        plain = picture(tables, replace(options, tight=room), oblique())
        assert psnr(shown.rgb, without.rgb) > 50
        assert psnr(shown.rgb, plain.rgb) < 30, "the operation cannot be seen"


def test_edited_scenes_profit_where_they_are_not_edited(library: Library) -> None:
    model = town()
    tables, options, room = made(model)
    edits = in_the_air(tables_of(clear(z_low=0.2, z_high=0.7)))
    picture(tables, replace(options, edits=edits, tight=room), oblique())
    prepared = edits.cache["native"]
    own = prepared.tight_room(room)
    assert own is prepared.tight_room(room), "it is made once"

    def low_cells(of: abi.Mask) -> int:
        """Cells of the lowest bricks, out of the operation's reach."""
        n = of.bricks[0] * of.bricks[1]
        words = np.frombuffer((ctypes.c_uint64 * n).from_address(of.any), np.uint8)
        return int(np.unpackbits(words).sum())

    assert low_cells(own) == low_cells(room.mask) < low_cells(prepared.struct.room)


# What it must not do


def test_rooms_and_pictures_do_not_depend_on_the_number_of_threads() -> None:
    model = town(division=(2, 2))
    tables, options, room = made(model, threads=1)
    first = picture(tables, replace(options, tight=room), oblique())
    rays = RayList(np.random.default_rng(0).permutation(64 * 48)[:500].astype(np.int32))
    for threads in (2, 5):
        options = replace(options, threads=threads)
        again = ops.tight_room(tables, options)
        assert torch.equal(again.any_cell, room.any_cell)
        other = picture(tables, replace(options, tight=again), oblique())
        assert torch.equal(other.rgb, first.rgb)
        listed = rays.buffers()
        assert ops.render_rays(tables, oblique(), replace(options, tight=room), rays, listed)
        chosen = torch.from_numpy(rays.pixels).long()
        assert torch.equal(listed.rgb[0], first.rgb.flatten(0, 1)[chosen])
        assert torch.equal(listed.front[0], first.front.flatten(0, 1)[chosen])


def test_the_exact_quality_refuses_a_room() -> None:
    model = town()
    tables, options, room = made(model)
    message = "a tight room is not for the exact quality; quality must be fast or clustered"
    with pytest.raises(ValueError, match=re.escape(message)):
        picture(tables, replace(options, tight=room, quality=Quality.EXACT), oblique())
    renderer = Renderer(model, Precision.FULL, "cpu")
    with pytest.raises(ValueError, match="a tight room is not for the exact quality"):
        renderer.render(camera(16, 16), RenderSettings(tight=room))


@pytest.mark.parametrize(
    "changes", [{"step": 0.02}, {"mask_threshold": 0.5}, {"sampling": "hull"}, {"distance_scale": 50.0}]
)
def test_a_room_is_for_one_field_and_its_options(changes: dict[str, object]) -> None:
    model = town()
    tables, options, room = made(model)
    message = "tight must be a room of this field and these options, got another's; make a new one"
    with pytest.raises(ValueError, match=re.escape(message)):
        picture(tables, replace(options, tight=room, **changes), oblique())
    with pytest.raises(ValueError, match=re.escape(message)):
        picture(replace(tables, cache={}), replace(options, tight=room), oblique())


def test_a_cancelled_search_gives_nothing() -> None:
    model = town()
    tables, options, room = made(model)
    assert room is not None
    assert ops.tight_room(tables, options, np.ones(1, np.int32)) is None


def test_there_is_no_room_where_it_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    model = town()
    tables, options, room = made(model)
    assert room is not None
    assert ops.tight_room(streamed(model, [0]), options) is None
    assert made(make_field(SHAPES["opaque"]))[2] is None, "all of the box is full"
    with monkeypatch.context() as patched:
        patched.setattr(tight, "MAX_POINTS", 1000)
        assert ops.tight_room(tables, options) is None
    monkeypatch.setattr(ops._native, "_found", "there is no compiler")
    assert ops.tight_room(tables, options) is None


def test_large_cells_are_divided_as_far_as_can_be_afforded(monkeypatch: pytest.MonkeyPatch) -> None:
    tables, _, room = made(town((9, 9, 5)))
    fine = tight._parts(tables, room.mask, 400)
    monkeypatch.setattr(tight, "MAX_POINTS", 400 * 4**3)
    assert fine == tight.MAX_PARTS
    assert tight._parts(tables, room.mask, 400) == 4


def test_the_demo_town_hardly_changes() -> None:
    scene = open_scene(demo_scene_path())
    renderer, seen = Renderer(scene.model, Precision.FULL, "cpu"), scene.home_camera(160, 90)
    room = ops.tight_room(renderer.tables, options_for(renderer.model, FAST))
    assert room is not None
    exact = renderer.render(seen).buffers.rgb
    without = renderer.render(seen, FAST).buffers.rgb
    shown = renderer.render(seen, replace(FAST, tight=room)).buffers.rgb
    assert psnr(shown, without) > 50
    assert psnr(shown, exact) > psnr(without, exact) - 0.2
