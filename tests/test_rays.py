"""Lists of single rays: what tiles show, from where they may start, and the depth of their front layer."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.gridnerf import FieldBlock, GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import Renderer, RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import native, ops
from landmark_viewer.cuda.native import Library
from landmark_viewer.cuda.tables import (
    TILE,
    FieldTables,
    FrameBuffers,
    Quality,
    RayList,
    RenderControl,
    RenderOptions,
    View,
)

from .small_edits import clear, instance, patch, psnr, source_of, style, tables_of
from .small_fields import SHAPES, Shape, camera, make_field, with_settings
from .streamed_fields import streamed
from .test_ops import share_beyond
from .test_oracle import CASES

PARTS = ("rgb", "opacity", "depth", "median_depth", "normals", "front")
SIZE = (43, 29)
VIEWS = [view_of(camera(*SIZE, view=number)) for number in range(3)]
PACK = TILE * TILE


@pytest.fixture(autouse=True)
def library() -> Library:
    """The loaded host library."""
    found = ops._native.get()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def setting(shape: Shape | str, **changes: object) -> tuple[GridNeRF, FieldTables, RenderOptions]:
    shape = SHAPES[shape] if isinstance(shape, str) else shape
    model = with_settings(make_field(shape), sampling=changes.pop("sampling", "box"))
    options = replace(options_for(model, RenderSettings()), normals=True, threads=2)
    return model, model.tables(Precision.FULL), replace(options, **changes)


def tiles_of(tables: FieldTables, options: RenderOptions, view: View = VIEWS[0]) -> FrameBuffers:
    buffers = FrameBuffers.empty(view.width, view.height, options.normals, front=True)
    assert ops.render(tables, view, options, buffers, backend="native")
    return buffers


def buffers_of(rays: RayList) -> FrameBuffers:
    return replace(rays.buffers(), normals=torch.zeros(1, len(rays.pixels), 3))


def rays_of(
    tables: FieldTables,
    options: RenderOptions,
    rays: RayList,
    view: View = VIEWS[0],
    control: RenderControl | None = None,
) -> FrameBuffers:
    buffers = buffers_of(rays)
    assert ops.render_rays(tables, view, options, rays, buffers, control)
    return buffers


def scattered(n: int = 300, seed: int = 0, view: View = VIEWS[0]) -> RayList:
    """Some pixels in any order, one of them twice."""
    pixels = np.random.default_rng(seed).permutation(view.width * view.height)[:n].astype(np.int32)
    pixels[-1] = pixels[0]
    return RayList(pixels)


def assert_are_those_of_the_tiles(listed: FrameBuffers, tiles: FrameBuffers, rays: RayList) -> None:
    for part in PARTS:
        whole, own = getattr(tiles, part), getattr(listed, part)
        assert torch.equal(own[0], whole.flatten(0, 1)[torch.from_numpy(rays.pixels).long()]), part


FIELDS = {
    "plain": SHAPES["plain"],
    "sparse mask": SHAPES["sparse mask"],
    "blocks": SHAPES["blocks"],
    "directions": SHAPES["three directions"],
    "latent": SHAPES["latent"],
    "fog": SHAPES["fog"],
}


@pytest.mark.parametrize("quality", list(Quality))
@pytest.mark.parametrize("sampling", ["box", "hull"])
@pytest.mark.parametrize("name", FIELDS)
def test_a_list_shows_what_tiles_show(name: str, sampling: str, quality: Quality) -> None:
    _, tables, options = setting(FIELDS[name], sampling=sampling, quality=quality, cluster_weight=0.2)
    for number, view in enumerate(VIEWS):
        rays = scattered(150 + 50 * number, number)
        shown = tiles_of(tables, options, view)
        assert_are_those_of_the_tiles(rays_of(tables, options, rays, view), shown, rays)
        assert shown.opacity.max() > 0.1
        assert shown.front[..., 0].max() > 0.1


@pytest.mark.parametrize("quality", list(Quality))
@pytest.mark.parametrize("name", ["plain", "dense mask", "latent"])
def test_a_list_of_an_edited_scene_shows_what_tiles_show(name: str, quality: Quality) -> None:
    model, tables, options = setting(name, quality=quality, cluster_weight=0.34)
    other = make_field(SHAPES["three levels"], seed=3)
    done = [patch(model.decoder.basis.shape[0]), instance(), clear(z_low=0.2)]
    if model.embedding is not None:
        done.append(style(model.embedding[1]))
    edited, rays = replace(options, edits=tables_of(*done)), scattered()
    assert_are_those_of_the_tiles(rays_of(tables, edited, rays), tiles_of(tables, edited), rays)
    # Colours from two decoders are added as their batches fill up.
    done.append(instance(-70.0, source=1))
    edited = replace(options, edits=tables_of(*done, sources=(source_of(other),)))
    shown, wanted = rays_of(tables, edited, rays), tiles_of(tables, edited)
    wanted_rgb = wanted.rgb.flatten(0, 1)[torch.from_numpy(rays.pixels).long()]
    assert (shown.rgb[0] - wanted_rgb).abs().max() < 1e-6
    assert_are_those_of_the_tiles(replace(shown, rgb=wanted_rgb[None]), wanted, rays)


@pytest.mark.parametrize("residual", [False, True])
def test_a_list_of_the_nerf_branch_shows_what_tiles_show(residual: bool) -> None:
    model = with_settings(make_field(Shape(nerf=True, levels=2)), run_nerf=True, residual_nerf=residual)
    options, tables = options_for(model, RenderSettings()), model.tables(Precision.FULL)
    options = replace(options, normals=True, threads=2)
    rays = scattered(100)
    assert_are_those_of_the_tiles(rays_of(tables, options, rays), tiles_of(tables, options), rays)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    _, tables, options = setting("channels of the real ones", quality=Quality.FAST, cluster_weight=0.34)
    rays = scattered(500)
    first, *others = (rays_of(tables, replace(options, threads=n), rays) for n in (1, 2, 5))
    for other in others:
        assert all(torch.equal(getattr(first, part), getattr(other, part)) for part in PARTS)


# Streamed fields


@pytest.mark.parametrize("edited", [False, True])
def test_packs_of_a_streamed_field_say_what_they_lack(edited: bool) -> None:
    shape = Shape(division=(2, 3), mask=(23, 19, 9), mask_share=0.2, opacity=0.5)
    model, whole, options = setting(shape, quality=Quality.FAST, cluster_weight=0.34)
    if edited:
        options = replace(options, edits=tables_of(patch(model.decoder.basis.shape[0]), instance()))
    snapshot, rays = streamed(whole, [0, 3, 5]), scattered(500)
    control = rays.control()
    control.needs, control.lacking = np.zeros(6, np.float32), np.zeros(6, np.uint8)
    shown = rays_of(snapshot, options, rays, control=control)
    assert_are_those_of_the_tiles(shown, tiles_of(snapshot, options), rays)
    complete = rays_of(whole, options, rays)
    lacks = np.repeat(control.tile_lacking.astype(bool), PACK)[: len(rays.pixels)]
    assert control.tile_lacking.sum() > 0
    if not edited:  # the patch covers blocks that lack, and each pack sees all of the picture
        assert set(np.flatnonzero(control.lacking)) <= {1, 2, 4}
    for part in PARTS:
        same = (getattr(shown, part) == getattr(complete, part))[0][~torch.from_numpy(lacks)]
        assert same.all(), part
    assert control.done_count[0] == len(control.order) == 8
    assert control.needs.sum() == pytest.approx(shown.opacity.mean().item(), rel=0.1 if not edited else 1.0)


def test_a_pack_that_lacks_nothing_equals_the_whole_field() -> None:
    _, whole, options = setting(Shape(division=(2, 2)), quality=Quality.FAST)
    view = VIEWS[2]  # straight down: the left half of the picture sees two blocks only
    snapshot = streamed(whole, [0, 1])
    order = np.argsort(np.arange(view.width * view.height) % view.width, kind="stable").astype(np.int32)
    rays = RayList(order)
    control = rays.control()
    shown, complete = rays_of(snapshot, options, rays, view, control), rays_of(whole, options, rays, view)
    lacks = control.tile_lacking.astype(bool)
    assert 0 < lacks.sum() < len(lacks)
    seen = torch.from_numpy(~np.repeat(lacks, PACK)[: len(order)])
    for part in PARTS:
        assert torch.equal(getattr(shown, part)[0][seen], getattr(complete, part)[0][seen])


# The front layer, and where rays start


def slabs(*layers: tuple[float, float, float], left: tuple[float, float, float] | None = None) -> GridNeRF:
    """A field of horizontal slabs (low, high, sigma) of one box; `left` lies only where x is below 0."""
    low, high, n_z, n_x = (-1.0, -1.0, 0.0), (1.0, 1.0, 1.0), 401, 201
    z, x = torch.linspace(0, 1, n_z), torch.linspace(-1, 1, n_x)
    planes, lines = [], []
    for number, (bottom, top, sigma) in enumerate((*layers, *([left] if left else []))):
        planes.append(
            (x < 0).float().expand(2, n_x) if left and number == len(layers) else torch.ones(2, n_x)
        )
        lines.append(((z >= bottom) & (z <= top)).float() * sigma)
    channels = len(planes)
    model = make_field(Shape(density=(channels,), appearance=(3,), feature_dim=3))
    block = model.blocks[0]
    assert block is not None
    appearance = ((torch.ones(3, 2, 2),),), ((torch.ones(3, 2),),)
    return replace(
        model,
        aabb=torch.tensor([low, high]),
        grid_size=(100, 100, 100),
        blocks=(FieldBlock(((torch.stack(planes),),), ((torch.stack(lines),),), *appearance),),
        distance_scale=1.0,
    )


def above(size: int = 24) -> View:
    """Straight down from z = 2: z-depth is 2 - z."""
    return view_of(Camera.from_fov(look_at((0.0, 0.0, 2.0), (0.0, 0.0, 0.0)), size, size, 40.0))


def front_of(model: GridNeRF, quality: Quality = Quality.FAST) -> tuple[FrameBuffers, RenderOptions]:
    options = options_for(model, RenderSettings(quality=quality, cluster_weight=0.34))
    return tiles_of(model.tables(Precision.FULL), options, above()), options


@pytest.mark.parametrize("quality", list(Quality))
def test_the_front_of_an_opaque_slab_is_its_top(quality: Quality) -> None:
    shown, options = front_of(slabs((0.2, 0.5, 2000.0)), quality)
    depth, share = shown.front.unbind(-1)
    assert (depth - 1.5).abs().max() < 1.5 * options.step
    assert (share > 0.999).all()


def test_what_a_fast_ray_leaves_over_counts_where_it_ends() -> None:
    model = slabs((0.0, 0.5, 1.0))
    step = options_for(model, RenderSettings()).step
    shown, _ = front_of(slabs((0.0, 0.5, -np.log(0.5) / step)))  # ends within the front layer
    assert (shown.opacity > 0.999).all()
    assert (shown.front[..., 1] > 0.999).all()


def test_a_thin_veil_before_a_wall_counts_little() -> None:
    veil = 0.08 / 0.05  # 8 % opaque: less than where a front layer begins
    shown, _ = front_of(slabs((0.0, 0.3, 2000.0), (0.8, 0.85, veil)))
    wall, _ = front_of(slabs((0.0, 0.3, 2000.0)))
    depth, share = shown.front.unbind(-1)
    assert (shown.opacity > 0.98).all()
    assert (depth < wall.front[..., 0] - 0.01).all()  # it counts with the wall
    assert (depth > wall.front[..., 0] - 0.1 * 0.7).all()
    assert (share > 0.98).all()


def test_a_veil_that_is_a_layer_of_its_own_is_the_front() -> None:
    veil = -np.log(0.6) / 0.025  # 40 % opaque
    shown, options = front_of(slabs((0.0, 0.3, 2000.0), (0.8, 0.825, veil)))
    depth, share = shown.front.unbind(-1)
    assert (depth - 1.19).abs().max() < 2 * options.step
    assert 0.3 < share.min() <= share.max() < 0.5


def test_faint_matter_shows_the_background() -> None:
    shown, _ = front_of(slabs((0.5, 0.55, 0.015 / 0.05)))
    assert 0 < shown.opacity.max() < 0.02
    assert (shown.front[..., 0] == 0).all()
    assert (shown.front[..., 1] == 1).all()


def test_the_front_jumps_at_an_edge_between_two_depths() -> None:
    shown, options = front_of(slabs((0.0, 0.2, 2000.0), left=(0.6, 0.8, 2000.0)))
    depth = shown.front[..., 0]
    steps = (depth[:, 1:] - depth[:, :-1]).abs()
    assert (depth[:, :8] - 1.2).abs().max() < 2 * options.step
    assert (depth[:, -8:] - 1.8).abs().max() < 2 * options.step
    assert ((steps > 0.5).sum(dim=1) == 1).all()


@pytest.mark.parametrize("sampling", ["box", "hull"])
def test_a_start_before_the_surface_changes_nothing(sampling: str) -> None:
    model = with_settings(slabs((0.2, 0.5, 2000.0)), sampling=sampling)
    options, tables = options_for(model, RenderSettings()), model.tables(Precision.FULL)
    options, rays, view = replace(options, normals=True), scattered(200, view=above()), above()
    whole = rays_of(tables, options, rays, view)
    spacing = options.step if sampling == "box" else options.far / options.n_importance
    starts = np.full(200, 1.5 - 2 * spacing, np.float32)
    starts[::3], starts[1::7], starts[2::11] = -5.0, np.nan, -np.inf
    started = rays_of(tables, options, replace(rays, start=starts), view)
    assert all(torch.equal(getattr(whole, part), getattr(started, part)) for part in PARTS)


def test_a_start_behind_the_surface_leaves_it_out() -> None:
    model = slabs((0.2, 0.5, 2000.0), (0.7, 0.8, 2000.0))
    options, view = options_for(model, RenderSettings(quality=Quality.FAST)), above()
    options, rays = replace(options, normals=True), scattered(90, view=above())
    starts = np.full(90, 1.4, np.float32)
    starts[45:] = np.inf
    shown = rays_of(model.tables(Precision.FULL), options, replace(rays, start=starts), view)
    depth = shown.front[0, :, 0]
    assert (depth[:45] - 1.5).abs().max() < 1.5 * options.step
    assert (shown.opacity[0, 45:] == 0).all()
    assert (depth[45:] == 0).all()
    assert torch.equal(shown.rgb[0, 45:], torch.tensor(options.background).expand(45, 3))


# The code that the GPU runs


@pytest.mark.parametrize("cluster_weight", [None, 0.34, 0.1])
@pytest.mark.parametrize("name", ["plain", "sparse mask", "blocks", "fog", "opaque", "latent"])
def test_the_code_that_the_gpu_runs_gives_the_hosts_front_and_rows(
    name: str, cluster_weight: float | None, library: Library
) -> None:
    _, tables, options = setting(name, quality=Quality.FAST, cluster_weight=cluster_weight)
    scalar = FrameBuffers.empty(*SIZE, normals=True, front=True)
    library.render_scalar(tables, VIEWS[0], options, scalar)
    shown = tiles_of(tables, options)
    assert share_beyond(scalar.rgb, shown.rgb, 2e-5) < 0.02
    assert psnr(scalar.rgb, shown.rgb) > 60
    assert share_beyond(scalar.front, shown.front, 1e-4) < 0.01
    if cluster_weight is not None:
        single = tiles_of(tables, replace(options, cluster_weight=None))
        assert not torch.equal(single.rgb, shown.rgb)
        assert torch.equal(single.front, shown.front), "the front layer does not depend on colours"


@pytest.mark.parametrize(
    ("quality", "weights"), [(Quality.FAST, (None, 0.34, 0.1)), (Quality.CLUSTERED, (None, 0.1, 0.02))]
)
def test_lesser_cluster_weights_come_closer_to_exact(
    quality: Quality, weights: tuple[float | None, ...], library: Library
) -> None:
    _, tables, options = setting("channels of the real ones", cluster_weight=None)
    exact = tiles_of(tables, options).rgb
    coarse = [
        psnr(tiles_of(tables, replace(options, quality=quality, cluster_weight=weight)).rgb, exact)
        for weight in weights
    ]
    assert coarse == sorted(coarse)
    assert coarse[2] > coarse[0] + 2


@pytest.mark.parametrize("case", ["d_branch22_app", "b_seq_res124_app"])
def test_several_rows_lie_closer_to_the_exact_picture_of_a_real_scene(case: str, shared_dir) -> None:
    from landmark_viewer.core.checkpoint.landmark import open_checkpoint

    from .bench.render_bench import camera_for

    model = open_checkpoint(shared_dir / "oracle" / case / CASES[case]).model
    renderer, seen = Renderer(model, Precision.FULL, "cpu"), camera_for(case, 80, 60)
    exact = renderer.render(seen, RenderSettings()).buffers.rgb
    fast = RenderSettings(quality=Quality.FAST)
    single = renderer.render(seen, fast).buffers.rgb
    several = renderer.render(seen, replace(fast, cluster_weight=0.34)).buffers.rgb
    assert psnr(several, exact) > psnr(single, exact) + 3


# Lists as such


def test_an_empty_list_is_done_at_once() -> None:
    _, tables, options = setting(FIELDS["blocks"])
    snapshot, rays = streamed(tables, [0, 1]), RayList(np.zeros(0, np.int32))
    control = rays.control()
    control.needs = np.zeros(6, np.float32)
    rays_of(snapshot, options, rays, control=control)
    assert control.done_count[0] == 0
    assert (control.needs == 0).all()


def test_a_list_of_one_ray() -> None:
    _, tables, options = setting("plain")
    rays = RayList(np.array([SIZE[0] * SIZE[1] - 1], np.int32))
    assert_are_those_of_the_tiles(rays_of(tables, options, rays), tiles_of(tables, options), rays)


def test_a_cancelled_list_keeps_the_packs_that_are_done() -> None:
    _, tables, options = setting("plain")
    rays = scattered(300)
    control, buffers = rays.control(), buffers_of(rays)
    control.cancel()
    assert not ops.render_rays(tables, VIEWS[0], options, rays, buffers, control)
    assert control.done_count[0] == 0
    assert (buffers.rgb == 0).all()


def test_cancelling_leaves_the_finished_packs_right() -> None:
    import threading
    import time

    _, tables, options = setting("channels of the real ones", threads=1)
    view = view_of(camera(200, 152))
    rays = scattered(20000, view=view)
    whole = rays_of(tables, options, rays, view)
    control, buffers, answers = rays.control(), buffers_of(rays), []
    worker = threading.Thread(
        target=lambda: answers.append(ops.render_rays(tables, view, options, rays, buffers, control))
    )
    worker.start()
    while control.done_count[0] < 3 and worker.is_alive():
        time.sleep(1e-4)
    control.cancel()
    worker.join()
    done = control.tile_done.astype(bool)
    assert answers == [bool(done.all())]
    assert done.sum() == control.done_count[0] >= 3
    pixels = torch.from_numpy(np.repeat(done, PACK)[: len(rays.pixels)])
    for part in PARTS:
        assert torch.equal(getattr(buffers, part)[0][pixels], getattr(whole, part)[0][pixels])


def test_packs_in_another_order_leave_the_others_untouched() -> None:
    _, tables, options = setting("plain")
    rays = scattered(300)
    control, buffers = rays.control(), buffers_of(rays)
    control.order = np.array([4, 1], np.int32)
    buffers.rgb.fill_(7.0)
    assert ops.render_rays(tables, VIEWS[0], options, rays, buffers, control)
    assert control.tile_done.tolist() == [0, 1, 0, 0, 1]
    assert (buffers.rgb[0, :64] == 7).all()
    assert (buffers.rgb[0, 128:256] == 7).all()
    whole = rays_of(tables, options, rays)
    assert torch.equal(buffers.rgb[0, 256:], whole.rgb[0, 256:])
    assert torch.equal(buffers.rgb[0, 64:128], whole.rgb[0, 64:128])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixels": np.zeros(9, np.int64)}, "pixels must be contiguous int32 [n], got int64 [9]"),
        ({"pixels": np.zeros((3, 3), np.int32)}, "pixels must be contiguous int32 [n], got int32 [3, 3]"),
        (
            {"pixels": np.array([*range(8), SIZE[0] * SIZE[1]], np.int32)},
            f"pixels must hold numbers from 0 to {SIZE[0] * SIZE[1] - 1}, got 0 to {SIZE[0] * SIZE[1]}",
        ),
        (
            {"pixels": np.array([*range(8), -1], np.int32)},
            f"pixels must hold numbers from 0 to {SIZE[0] * SIZE[1] - 1}, got -1 to 7",
        ),
        ({"start": np.zeros(8, np.float32)}, "start must be contiguous float32 [9], got float32 [8]"),
        ({"start": np.zeros(9)}, "start must be contiguous float32 [9], got float64 [9]"),
        (
            {"start": np.zeros(18, np.float32)[::2]},
            "start must be contiguous float32 [9], got float32 [9], not contiguous",
        ),
        ({"buffers": {"rgb": torch.zeros(1, 8, 3)}}, "rgb must be contiguous float32 [1, 9, 3] on cpu, got"),
        ({"buffers": {"front": torch.zeros(1, 9)}}, "front must be contiguous float32 [1, 9, 2] on cpu, got"),
        ({"control": RenderControl(16, 8)}, "control must have 1 x 1 packs for 9 rays, got 2 x 1"),
        ({"order": np.array([1], np.int32)}, "order must hold tile numbers below 1, got others"),
        ({"view": {"c2w": np.eye(4, dtype=np.float32)}}, "c2w must be float32 [3, 4], got [4, 4]"),
        ({"cluster_weight": 0.0}, "cluster_weight must be positive, got 0.0"),
        ({"cluster_weight": float("nan")}, "cluster_weight must be positive, got nan"),
    ],
)
def test_wrong_lists_are_refused(change: dict, message: str) -> None:
    _, tables, options = setting("plain")
    rays = RayList(np.arange(9, dtype=np.int32))
    control, buffers, view = rays.control(), rays.buffers(), VIEWS[0]
    rays = replace(rays, **{name: value for name, value in change.items() if name in ("pixels", "start")})
    buffers = replace(buffers, **change.get("buffers", {}))
    view = replace(view, **change.get("view", {}))
    control = change.get("control", control)
    control.order = change.get("order", control.order)
    options = replace(options, normals=False, cluster_weight=change.get("cluster_weight"))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        ops.render_rays(tables, view, options, rays, buffers, control)


def test_edits_with_the_nerf_branch_are_refused() -> None:
    model = with_settings(make_field(Shape(nerf=True)), run_nerf=True)
    options = replace(options_for(model, RenderSettings()), edits=tables_of(clear()))
    tables, rays = model.tables(Precision.FULL), scattered(9)
    assert not ops.can_render_rays(tables, options)
    assert ops.can_render_rays(tables, replace(options, edits=None))
    with pytest.raises(RuntimeError, match="no NeRF branch in edited scenes"):
        ops.render_rays(tables, VIEWS[0], options, rays, rays.buffers())


def test_without_the_native_kernels_there_are_no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    _, tables, options = setting("plain")
    monkeypatch.setattr(ops._native, "_found", "there is no compiler")
    rays = scattered(9)
    assert not ops.can_render_rays(tables, options)
    with pytest.raises(RuntimeError, match="there is no compiler"):
        ops.render_rays(tables, VIEWS[0], options, rays, rays.buffers())


def test_a_renderer_renders_lists_of_its_settings() -> None:
    model = make_field(SHAPES["latent"])
    renderer, seen = Renderer(model, Precision.FULL, "cpu"), camera(*SIZE)
    settings = RenderSettings(quality=Quality.FAST, cluster_weight=0.34, threads=2)
    rays = scattered(100)
    buffers = buffers_of(rays)
    assert renderer.can_render_rays(settings)
    assert renderer.render_rays(seen, settings, rays, buffers)
    shown = tiles_of(renderer.tables, replace(options_for(model, settings), normals=True), view_of(seen))
    assert_are_those_of_the_tiles(buffers, shown, rays)
    assert native.WHOLE_RAY > 1
