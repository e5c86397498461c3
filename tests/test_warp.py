"""Keyframes seen from elsewhere, on scenes of planes, where every picture is known exactly."""

from __future__ import annotations

import hashlib
import math
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.cuda import ops
from landmark_viewer.cuda.tables import View
from landmark_viewer.cuda.warp import KeyframeBuilder
from landmark_viewer.cuda.warp_tables import (
    BORDER,
    FAR,
    Source,
    Trust,
)

from .plane_scenes import (
    POSES,
    SETTINGS,
    is_hole,
    key,
    keyframe_of,
    look,
    psnr,
    rays_of,
    view_at,
    warp_for,
)

pytestmark = pytest.mark.usefixtures("native_kernels")

PATIENCE = 30.0  # seconds that a test waits for what must come


# ---------------------------------------------------------------- what keyframes show from elsewhere


@pytest.mark.parametrize("size", [(96, 64), (61, 37), (1, 1)])
def test_the_same_pose_gives_the_same_bits(size: tuple[int, int]) -> None:
    view = view_at((0.1, 0.2, 0.3), 0.2, -0.1, 0.3, *size)
    exact = look(view, card=True)
    warp = warp_for(view)
    counts = warp.project(view, [Source(keyframe_of(view, exact))], SETTINGS, planes=True)
    assert (counts.holes, counts.coverage) == (0, 1.0)
    shown = warp.buffers()
    surface = exact.depth > 0
    assert torch.equal(shown.rgb, exact.rgb)
    assert torch.equal(shown.opacity, exact.opacity)
    assert torch.allclose(shown.depth[surface], exact.depth[surface], rtol=1e-5)
    assert torch.equal(shown.median_depth[~surface], exact.median_depth[~surface])


@pytest.mark.parametrize("name", POSES)
def test_a_smooth_plane_is_seen_as_it_is(name: str) -> None:
    view = POSES[name]
    source = key(view_at(width=192, height=128, focal=0.8), sky=50.0)
    exact, warp = look(view, sky=50.0), warp_for(view)
    counts = warp.project(view, [source], SETTINGS)
    hole, shown = is_hole(warp), warp.buffers()
    known = ~hole
    inside = seen_by(source.keyframe.view, view, exact.depth.numpy())
    assert counts.holes == hole.sum()
    assert not (hole & inside).any()  # what the keyframe has seen is there
    assert psnr(shown.rgb, exact.rgb, known) > 50
    assert np.abs(shown.depth.numpy() / exact.depth.numpy() - 1)[known].max() < 0.01
    assert np.abs(shown.depth.numpy() / exact.depth.numpy() - 1)[known].mean() < 2e-3


@pytest.mark.parametrize("pose", [(0.0, 0.8), (0.1, 0.8), (0.6, 1.0)], ids=["still", "moved", "turned"])
def test_depths_that_are_asked_for_lie_on_the_rays_of_slopes_too(pose: tuple[float, float]) -> None:
    aside, yaw = pose
    view = view_at((aside, 0.0, 0.1), yaw, 0.3)
    source = key(view_at(yaw=0.8, pitch=0.4, width=120, height=80, focal=0.8), sky=50.0)
    exact, warp = look(view, sky=50.0), warp_for(view)
    warp.project(view, [source], SETTINGS, planes=True)
    known, shown = ~is_hole(warp) & (exact.depth.numpy() > 0), warp.buffers()
    for depth in (shown.depth, shown.median_depth):
        error = np.abs(depth.numpy()[known] / exact.depth.numpy()[known] - 1)
        assert np.median(error) < 2e-4  # those of the points that were looked up: 2e-3 and more
        assert error.mean() < 2e-3
    plain = warp_for(view)
    plain.project(view, [source], SETTINGS)
    assert torch.equal(plain.buffers().rgb, shown.rgb)


def seen_by(other: View, view: View, depth: np.ndarray, rim: float = 1.5) -> np.ndarray:
    """Which pixels of a view show what lies well within the picture of another one."""
    row, column = np.mgrid[: view.height, : view.width].astype(np.float64)
    local = np.stack(
        [(column - view.cx) / view.fl_x, -(row - view.cy) / view.fl_y, -np.ones_like(row)], axis=-1
    )
    points = (local @ view.c2w[:, :3].T) * depth[..., None] + view.c2w[:, 3]
    there = (points - other.c2w[:, 3]) @ other.c2w[:, :3]
    u = other.cx - other.fl_x * there[..., 0] / there[..., 2]
    v = other.cy + other.fl_y * there[..., 1] / there[..., 2]
    return (
        (there[..., 2] < 0)
        & (u > rim)
        & (v > rim)
        & (u < other.width - 1 - rim)
        & (v < other.height - 1 - rim)
    )


@pytest.mark.parametrize("part", [2, 4, 8])
@pytest.mark.parametrize("roll", [0.0, 0.4])
def test_a_coarse_keyframe_leaves_no_grid_of_holes(part: int, roll: float) -> None:
    view = view_at((0.1, 0.0, 0.1), 0.05, roll=roll)
    coarse = view_at(width=96 // part * 2, height=64 // part * 2, focal=0.5)
    exact, warp = look(view, sky=50.0), warp_for(view)
    warp.project(view, [key(coarse, sky=50.0)], SETTINGS)
    hole, shown = is_hole(warp), warp.buffers()
    inside = seen_by(coarse, view, exact.depth.numpy())
    assert inside.mean() > 0.5
    assert not (hole & inside).any()
    assert psnr(shown.rgb, exact.rgb, inside) > 30


def test_a_coarse_keyframe_serves_only_where_the_others_show_nothing() -> None:
    base, view = view_at(), view_at((0.25, 0.0, 0.0))
    fine, coarse = key(base, card=True), key(view_at(width=24, height=16, focal=0.8), card=True)
    warp = warp_for(view)
    alone = warp.project(view, [fine], SETTINGS)
    known, shown = ~is_hole(warp), warp.buffers()
    both = warp.project(view, [fine, coarse], SETTINGS)
    assert both.holes < 0.3 * alone.holes
    mixed = warp.buffers()
    same = (mixed.rgb == shown.rgb).all(dim=-1) & (mixed.depth == shown.depth)
    assert same.numpy()[known].mean() > 0.99
    swapped = warp.project(view, [coarse, fine], SETTINGS)
    assert swapped.holes <= both.holes + 20


def test_the_near_surface_wins_and_what_it_hid_is_a_hole() -> None:
    view = view_at((0.4, 0.0, 0.0))
    exact, warp = look(view, card=True), warp_for(view)
    warp.project(view, [key(view_at(), card=True)], SETTINGS)
    hole, shown = is_hole(warp), warp.buffers()
    row = 32
    # The card moves by 0.4 / 3 of the focal length, the wall by 0.4 / 5: a strip beside the card is new.
    card = np.flatnonzero(exact.depth.numpy()[row] < 4)
    strip = np.flatnonzero(hole[row] & (np.arange(96) > card[0]) & (np.arange(96) < 80))
    assert set(strip) <= set(range(card[-1], card[-1] + 8))
    assert len(strip) >= 3
    inner = card[2:-2]
    assert np.allclose(shown.rgb[row, inner].numpy(), [0.9, 0.1, 0.1], atol=1e-5)
    assert np.allclose(shown.depth[row, inner].numpy(), exact.depth[row, inner].numpy(), rtol=1e-4)


def test_a_second_keyframe_shows_what_the_first_has_not_seen() -> None:
    view = view_at((0.2, 0.0, 0.0))
    sources = [key(view_at(), card=True), key(view_at((0.4, 0.0, 0.0)), card=True)]
    warp = warp_for(view)
    one = warp.project(view, sources[:1], SETTINGS)
    both = warp.project(view, sources, SETTINGS)
    assert both.holes < one.holes / 3
    assert both.coverage > one.coverage


def test_the_background_stays_background() -> None:
    view = view_at((0.1, 0.0, 0.0), yaw=0.9)
    source = key(view_at(yaw=0.5), card=True)
    warp = warp_for(view)
    warp.project(view, [source], SETTINGS, planes=True)
    shown, exact, known = warp.buffers(), look(view), ~is_hole(warp)
    sky = (exact.depth.numpy() == 0) & known
    assert sky.sum() > 100
    agree = (shown.opacity.numpy() == exact.opacity.numpy())[known]
    assert agree.mean() > 0.98
    assert (shown.depth[shown.opacity == 0] == 0).all()
    assert (shown.median_depth[shown.opacity == 0] == 0).all()
    warp.project(view, [source], SETTINGS)
    plain = warp.buffers()
    assert torch.equal(plain.opacity[torch.from_numpy(known)], shown.opacity[torch.from_numpy(known)])
    assert (plain.median_depth[plain.opacity == 0] == 0).all()


def test_what_lies_behind_the_camera_is_not_shown() -> None:
    view = view_at((0.0, 0.0, -8.0))  # behind the wall, looking away from it
    warp = warp_for(view)
    assert warp.project(view, [key(view_at(), sky=50.0)], SETTINGS).holes == 96 * 64
    turned = view_at((0.0, 0.0, -4.9999), yaw=math.pi / 2)  # in the wall, along it
    warp.project(turned, [key(view_at(), sky=50.0)], SETTINGS)
    warp.fill_rest()
    assert np.isfinite(warp.buffers().rgb.numpy()).all()


def test_planes_follow_the_surface() -> None:
    base, view = view_at(), view_at((0.2, 0.0, -0.5))
    picture = look(base, sky=50.0)
    picture.opacity[:] = 0.75
    picture.depth.mul_(0.75)
    picture.median_depth.add_(0.1)
    warp = warp_for(view)
    warp.project(view, [Source(keyframe_of(base, picture))], SETTINGS, planes=True)
    shown, known = warp.buffers(), torch.from_numpy(~is_hole(warp))
    assert torch.allclose(shown.opacity[known], torch.tensor(0.75))
    assert torch.allclose(shown.depth[known], torch.tensor(0.75 * 4.5), rtol=1e-4)
    assert torch.allclose(shown.median_depth[known], torch.tensor(5.1 * 0.9), rtol=1e-4)


def test_numbers_that_are_none_are_holes_or_black() -> None:
    view = view_at()
    picture = look(view, sky=50.0)
    assert picture.front is not None
    picture.front[10, 10, 0] = math.nan
    picture.rgb[20, 20] = math.nan
    warp = warp_for(view)
    warp.project(view_at((0.05, 0.0, 0.0)), [Source(keyframe_of(view, picture))], SETTINGS)
    warp.fill_rest()
    assert np.isfinite(warp.buffers().rgb.numpy()).all()
    lost = replace(view, c2w=np.full((3, 4), math.nan, np.float32))
    assert warp.project(lost, [key(view)], SETTINGS).holes == 96 * 64
    flat = replace(view, c2w=np.zeros((3, 4), np.float32))
    assert warp.project(flat, [key(view)], SETTINGS).holes == 96 * 64


def test_a_swap_is_faded() -> None:
    view = view_at()
    dark, bright = look(view), look(view)
    dark.rgb[:] = 0.2
    bright.rgb[:] = 0.6
    sources = [Source(keyframe_of(view, bright)), Source(keyframe_of(view, dark))]
    warp = warp_for(view)
    for fade in (0.0, 0.25, 1.0):
        warp.project(view, sources, SETTINGS, fade=fade)
        assert torch.allclose(warp.buffers().rgb, torch.tensor(0.2 + 0.4 * fade), atol=1e-6)


# ---------------------------------------------------------------- trust


def test_void_pixels_are_not_shown_and_stale_ones_come_first() -> None:
    view = view_at()
    source = key(view, sky=50.0)
    trust = np.zeros((64, 96), np.uint8)
    trust[10:20, 10:30] = Trust.VOID
    trust[40:50, 60:80] = Trust.STALE
    warp = warp_for(view)
    counts = warp.project(view, [replace(source, trust=trust)], SETTINGS)
    assert counts.holes == 200
    assert (is_hole(warp) == (trust == Trust.VOID)).all()
    choice = warp.choose(50, 100)
    picked = trust.reshape(-1)[choice.pixels]
    assert choice.n_fill == 50
    assert (picked[:50] == Trust.VOID).all()
    assert (picked[50:] == Trust.STALE).all()
    assert len(picked) == 150
    rows = choice.pixels[50:] // 96
    assert set(rows) == set(range(40, 50))  # evenly spread
    whole = warp.choose(200, 1000)
    assert (trust.reshape(-1)[whole.pixels[200:]] == Trust.STALE).sum() == 200


def test_a_good_keyframe_comes_before_a_stale_one() -> None:
    view = view_at()
    old, new = look(view), look(view)
    old.rgb[:] = 0.2
    new.rgb[:] = 0.8
    stale = Source(keyframe_of(view, new), np.full((64, 96), Trust.STALE, np.uint8))
    warp = warp_for(view)
    warp.project(view, [stale, Source(keyframe_of(view, old))], SETTINGS)
    assert torch.allclose(warp.buffers().rgb, torch.tensor(0.2))
    assert not len(warp.choose(0, 100).pixels)
    warp.project(view, [stale], SETTINGS)
    assert torch.allclose(warp.buffers().rgb, torch.tensor(0.8))
    assert len(warp.choose(0, 100).pixels) == 100


def test_nothing_of_a_void_pixel_bleeds_into_its_neighbours() -> None:
    base, view = view_at(), view_at((0.013, 0.007, 0.0))
    trust = np.zeros((64, 96), np.uint8)
    trust[30, 40] = Trust.VOID
    colours = []
    for value in (0.0, 1.0):
        picture = look(base, sky=50.0)
        picture.rgb[30, 40] = value
        warp = warp_for(view)
        warp.project(view, [Source(keyframe_of(base, picture), trust)], SETTINGS)
        colours.append(warp.buffers().rgb)
    assert torch.equal(colours[0], colours[1])


# ---------------------------------------------------------------- pictures as they are


def test_a_keyframe_is_shown_as_it_is_and_finished_parts_over_it() -> None:
    view = view_at()
    exact, other = look(view, card=True), look(view)
    warp = warp_for(view)
    warp.show(keyframe_of(view, exact))
    shown = warp.buffers()
    for name in ("rgb", "opacity", "depth", "median_depth"):
        assert torch.equal(getattr(shown, name), getattr(exact, name)), name
    assert not len(warp.choose(10, 10, 10).pixels)
    pixels = np.arange(0, 96 * 64, 5, dtype=np.int32)
    builder = KeyframeBuilder(view)
    builder.put(pixels, rays_of(other, pixels), 500)
    warp.show_part(builder, pixels[:500])
    expected = exact.rgb.reshape(-1, 3).clone()
    expected[pixels[:500]] = other.rgb.reshape(-1, 3)[pixels[:500]]
    assert torch.equal(warp.buffers().rgb.reshape(-1, 3), expected)


def test_a_finished_keyframe_never_changes_and_its_border_repeats_it() -> None:
    view = view_at()
    exact = look(view, card=True)
    pixels = np.random.default_rng(1).permutation(96 * 64).astype(np.int32)
    builder = KeyframeBuilder(view)
    for part in np.array_split(pixels, 7):
        builder.put(part, rays_of(exact, part))
    builder.lacking[3, 4] = True
    keyframe, whole = builder.finish(), keyframe_of(view, exact)
    assert (keyframe.color == whole.color).all()
    assert (keyframe.planes == whole.planes).all()
    assert keyframe.lacking.sum() == 1
    inner = keyframe.color[BORDER:-BORDER, BORDER:-BORDER]
    assert (inner[..., :3] == exact.rgb.numpy()).all()
    assert (inner[..., 3] == np.where(exact.depth > 0, exact.depth, FAR)).all()
    assert (keyframe.color == np.pad(inner, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")).all()
    for array in (keyframe.color, keyframe.planes, keyframe.lacking):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        builder.put(pixels[:1], rays_of(exact, pixels[:1]))


def test_images_are_rounded_as_other_pictures_are() -> None:
    from landmark_viewer.viewer.imaging import _to_bytes

    view = view_at(width=37, height=23)
    values = np.random.default_rng(2).uniform(-0.2, 1.2, (23, 37, 3)).astype(np.float32)
    values.reshape(-1)[:512] = (np.arange(512) / 2 / 255).astype(np.float32)  # halves
    values[20, :3] = [[math.nan] * 3, [-math.nan] * 3, [1.0, 0.0, 0.5]]
    warp = warp_for(view)
    builder = KeyframeBuilder(view)
    builder.color[BORDER:-BORDER, BORDER:-BORDER, :3] = values
    warp.show(builder.finish())
    image = warp.image()
    assert (image[..., :3] == _to_bytes(values.copy())).all()
    assert (image[..., 3] == 255).all()
    first = image.copy()
    warp.project(view, [], SETTINGS)
    assert (image == first).all()  # its own copy


# ---------------------------------------------------------------- machine


def flight(threads: int) -> str:
    """Hash of some pictures of a flight, every step of the way included."""
    digest = hashlib.sha256()
    size = {"width": 200, "height": 140}
    sources = [key(view_at((0.1, 0.0, 0.0), **size), card=True), key(view_at(yaw=0.1, **size), card=True)]
    trust = (np.random.default_rng(3).integers(0, 40, (140, 200)) // 38).astype(np.uint8)
    sources[1] = replace(sources[1], trust=trust)
    warp = ops.open_warp(200, 140, threads)
    for i in range(4):
        view = view_at((0.05 * i, 0.02, -0.1 * i), 0.03 * i, roll=0.05 * i, **size)
        warp.next()
        warp.project(view, sources, SETTINGS, fade=0.5, planes=i % 2 == 0)
        choice = warp.choose(100, 200, 20)
        warp.put(choice, rays_of(look(view, card=True), choice.pixels))
        warp.fill_rest()
        shown = warp.buffers()
        starts = warp.starts(view_at(yaw=0.02 * i), sources, np.arange(6144, dtype=np.int32), SETTINGS)
        for array in (choice.pixels, choice.start, shown.rgb, shown.depth, warp.image(), starts):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def test_pictures_do_not_depend_on_the_number_of_threads() -> None:
    assert flight(1) == flight(2) == flight(4)


def test_sizes_from_one_pixel_to_large() -> None:
    for width, height in ((1, 1), (1, 50), (50, 1), (3, 2), (1031, 5)):
        view = view_at((0.05, 0.0, 0.0), width=width, height=height)
        warp = warp_for(view, 2)
        counts = warp.project(view, [key(view_at(width=width, height=height), sky=50.0)], SETTINGS)
        choice = warp.choose(5, 5, 5)
        warp.put(choice, rays_of(look(view), choice.pixels))
        warp.fill_rest()
        assert 0 <= counts.holes <= width * height
        assert warp.image().shape == (height, width, 4)


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="needs the clocks of threads")
def test_the_interpreter_runs_on() -> None:
    view = view_at(width=1600, height=1200)
    source, warp = key(view_at(width=800, height=600), sky=50.0), ops.open_warp(1600, 1200, threads=1)
    interval, end = sys.getswitchinterval(), time.monotonic() + PATIENCE
    sys.setswitchinterval(2 * PATIENCE)  # from here on the interpreter goes to another thread by consent only
    try:
        while not works_without_interpreter(lambda: warp.project(view, [source], SETTINGS)):
            assert time.monotonic() < end, "no call was seen to go on without the interpreter"
    finally:
        sys.setswitchinterval(interval)


def works_without_interpreter(call: Callable[[], object]) -> bool:
    """Whether another thread gets on with a call while this one keeps the interpreter."""
    clocks: list[int] = []  # of the processor time of the thread

    def work() -> None:
        clocks.append(time.pthread_getcpuclockid(threading.get_ident()))
        call()

    thread = threading.Thread(target=work)
    thread.start()
    gained = 0.0
    while gained < 1e-3 and thread.is_alive():
        if clocks:
            before, until = time.clock_gettime(clocks[0]), time.monotonic() + 2e-3
            while time.monotonic() < until:
                pass
            gained = time.clock_gettime(clocks[0]) - before
        time.sleep(1e-4)
    thread.join()
    return gained >= 1e-3


def test_bad_arguments_are_said() -> None:
    view = view_at()
    source, warp = key(view), warp_for(view)
    with pytest.raises(ValueError, match="at least 1 x 1 pixels, got 0 x 5"):
        ops.open_warp(0, 5)
    with pytest.raises(ValueError, match="at most 3 sources, got 4"):
        warp.project(view, [source] * 4, SETTINGS)
    with pytest.raises(ValueError, match=r"trust must be uint8 \[64, 96\], got \[3, 3\]"):
        warp.project(view, [replace(source, trust=np.zeros((3, 3), np.uint8))], SETTINGS)
    with pytest.raises(ValueError, match="a view of 96 x 64 pixels, got 10 x 10"):
        warp.project(view_at(width=10, height=10), [source], SETTINGS)
    with pytest.raises(ValueError, match="a view of 96 x 64 pixels, got 10 x 10"):
        warp.show(key(view_at(width=10, height=10)).keyframe)


def test_without_native_kernels_there_is_no_warp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops._native, "_found", "no compiler")
    with pytest.raises(RuntimeError, match="warping needs the native kernels, but no compiler"):
        ops.open_warp(8, 8)
