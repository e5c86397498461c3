"""Which pixels of a warped picture get fresh rays, where those start, and what becomes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.cuda.tables import FrameBuffers, View
from landmark_viewer.cuda.warp import Warp
from landmark_viewer.cuda.warp_tables import (
    FAR,
    Choice,
    Source,
    Trust,
)

from .plane_scenes import (
    POSES,
    SETTINGS,
    holes,
    is_hole,
    key,
    keyframe_of,
    look,
    rays_of,
    view_at,
    warp_for,
)

pytestmark = pytest.mark.usefixtures("native_kernels")


# ---------------------------------------------------------------- choosing


def test_choices_keep_to_their_caps_and_are_the_same_every_time() -> None:
    view = view_at((0.3, 0.1, 0.2))
    warp = warp_for(view)
    chosen = []
    for _ in range(2):
        counts = warp.project(view, [key(view_at(), card=True)], SETTINGS)
        chosen.append(warp.choose(40, 60, 30))
    choice = chosen[0]
    assert counts.holes > 0.05 * 96 * 64  # much is new: weaker silhouettes wait
    assert choice.n_fill == 40 + 60 // 2
    assert 25 <= choice.n_check <= 30  # there are none in the parts that are new
    assert len(choice.pixels) == len(set(choice.pixels)) == 100 + choice.n_check
    assert (chosen[0].pixels == chosen[1].pixels).all()
    assert (chosen[0].start == chosen[1].start).all()
    hole = is_hole(warp).reshape(-1)
    assert hole[choice.pixels[:70]].all()
    assert not hole[choice.pixels[70:]].any()
    rows = choice.pixels[:70] // 96
    assert len(set(rows // 8)) == 8  # in every part of the picture


def test_the_strongest_silhouettes_come_first() -> None:
    base, view = view_at(), view_at((0.02, 0.0, 0.0))
    warp = warp_for(view)
    counts = warp.project(view, [key(base, card=True)], SETTINGS)
    assert counts.holes < 0.05 * 96 * 64
    choice = warp.choose(counts.holes, 60)
    edges = choice.pixels[choice.n_fill :]
    assert 0 < len(edges) <= 60
    depth = warp.buffers().depth.numpy()
    step = np.zeros(depth.shape, dtype=bool)  # some neighbour lies at another depth
    padded = np.pad(depth, 1, mode="edge")
    for y in range(3):
        for x in range(3):
            step |= np.abs(padded[y : y + 64, x : x + 96] - depth) > 0.04 * depth
    assert step.reshape(-1)[edges].all()


def test_a_flat_wall_has_no_silhouettes() -> None:
    view = view_at((0.02, 0.0, 0.0))
    warp = warp_for(view)
    counts = warp.project(view, [key(view_at(), sky=50.0)], SETTINGS)
    assert len(warp.choose(counts.holes, 1000).pixels) == counts.holes


def test_checks_are_good_pixels_and_others_every_time() -> None:
    view = view_at((0.02, 0.0, 0.0))
    trust = np.zeros((64, 96), np.uint8)
    trust[:, :30] = Trust.STALE
    warp, picked = warp_for(view), []
    for _ in range(2):
        warp.next()
        warp.project(view, [replace(key(view_at(), card=True), trust=trust)], SETTINGS)
        choice = warp.choose(0, 0, 64)
        assert choice.n_check == len(choice.pixels) == 64
        assert choice.n_fill == 0
        assert (choice.pixels % 96 >= 29).all()
        assert not is_hole(warp).reshape(-1)[choice.pixels].any()
        both = warp.choose(10**9, 10**9, 64)
        assert len(set(both.pixels)) == len(both.pixels)
        assert len(set(choice.pixels // 96 // 8)) == 8
        picked.append(set(choice.pixels))
    assert len(picked[0] & picked[1]) < 32


# ---------------------------------------------------------------- fresh rays


def test_what_a_silhouettes_ray_finds_far_in_front_is_kept_and_a_check_is_not() -> None:
    base, near = view_at(), view_at((0.01, 0.0, 0.0))
    wall, exact = key(base, sky=50.0), look(near, sky=50.0)
    pixels = np.array([20 * 96 + 30, 30 * 96 + 50, 40 * 96 + 70], np.int32)  # the last is a check
    warp = warp_for(base)
    warp.next()
    warp.project(near, [wall], SETTINGS)
    fresh = rays_of(exact, pixels)
    assert fresh.front is not None
    fresh.rgb[:] = torch.tensor([1.0, 0.0, 1.0])
    fresh.front[0, :, 0] *= torch.tensor([0.5, 0.9, 0.5])
    warp.put(Choice(pixels, np.zeros(3, np.float32), n_fill=0, n_check=1), fresh)
    warp.next()
    warp.project(near, [wall], SETTINGS)
    shown = warp.buffers().rgb.numpy().reshape(-1, 3)[pixels]
    assert (shown[0] == [1.0, 0.0, 1.0]).all()
    assert (np.abs(shown[1:] - exact.rgb.numpy().reshape(-1, 3)[pixels[1:]]) < 0.05).all()


def with_card_found(view: View, sky: Source) -> Warp:
    """A picture's points: rays have found a card where the only keyframe shows the sky."""
    exact, warp = look(view, card=True, sky=0.0), warp_for(view)
    pixels = np.flatnonzero(exact.depth.numpy() > 0).astype(np.int32)
    warp.next()
    warp.project(view, [sky], SETTINGS)
    warp.put(Choice(pixels, np.zeros(len(pixels), np.float32), 0, 0), rays_of(exact, pixels))
    warp.next()
    return warp


def inner_card(view: View) -> np.ndarray:
    """Pixels of a view whose neighbours, too, show the card."""
    is_card = np.pad(look(view, card=True, sky=0.0).depth.numpy() > 0, 1)
    size = view.height, view.width
    return np.logical_and.reduce([is_card[y:, x:][: size[0], : size[1]] for y in range(3) for x in range(3)])


def test_the_sky_is_not_seen_between_points() -> None:
    base = view_at()
    sky, near = key(base, sky=0.0), replace(base, fl_x=1.2 * base.fl_x)  # points move apart
    warp, inner = with_card_found(base, sky), inner_card(near)
    counts = warp.project(near, [sky], SETTINGS)
    cracks = is_hole(warp) & inner
    assert 0 < cracks.sum() <= counts.holes
    assert (cracks == (inner & cracks.any(axis=0))).all()  # whole columns
    warp.fill_rest()
    assert warp.buffers().rgb.numpy()[inner, 0].min() > 0.6  # the card's is 0.9, the sky's 0.25


def test_points_have_silhouettes_and_rays_beside_them_start_before_them() -> None:
    base = view_at()
    sky = key(base, sky=0.0)
    warp = with_card_found(base, sky)
    assert warp.project(base, [sky], SETTINGS).holes == 0
    choice, depth = warp.choose(0, 10**6), warp.buffers().depth.numpy()
    is_card = depth > 0
    chosen = np.zeros(depth.shape, dtype=bool)
    chosen.reshape(-1)[choice.pixels] = True
    assert (chosen & is_card).sum() > 50
    assert (chosen & ~is_card).sum() > 50
    assert not chosen[inner_card(base)].any()
    assert (choice.start < 3.0).all()
    assert (choice.start > 2.9).all()


def test_fresh_pixels_are_shown_and_checks_measure_the_warp() -> None:
    view = view_at((0.3, 0.0, 0.0))
    exact, warp = look(view, card=True), warp_for(view)
    warp.project(view, [key(view_at(), card=True)], SETTINGS)
    before = warp.buffers().rgb.numpy().reshape(-1, 3)
    choice = warp.choose(200, 100, 50)
    fresh = rays_of(exact, choice.pixels)
    fresh.rgb.mul_(0.9)  # else the smooth wall has no error to speak of
    check = warp.put(choice, fresh)
    assert check is not None
    checks = choice.pixels[-50:]
    wanted = ((fresh.rgb[0, -50:].numpy().astype(np.float64) - before[checks]) ** 2).mean()
    assert check.error == pytest.approx(wanted, rel=1e-6)
    assert check.elsewhere == 0.0
    assert torch.equal(
        warp.buffers().rgb.reshape(-1, 3)[torch.from_numpy(choice.pixels).long()], fresh.rgb[0]
    )
    assert warp.put(holes(warp, 0), rays_of(exact, choice.pixels[:0])) is None


def test_points_live_for_so_many_pictures() -> None:
    view, settings = view_at((0.3, 0.0, 0.0)), replace(SETTINGS, life=3)
    source, exact = key(view_at(), card=True), look(view, card=True)
    warp = warp_for(view)
    warp.next()
    empty = warp.project(view, [source], settings).holes
    choice = holes(warp)
    warp.put(choice, rays_of(exact, choice.pixels))
    counts, shown = [], None
    for i in range(5):
        warp.next()
        counts.append(warp.project(view, [source], settings).holes)
        if i == 0:
            shown = warp.buffers()
            at = torch.from_numpy(choice.pixels).long()
            assert torch.equal(shown.rgb.reshape(-1, 3)[at], exact.rgb.reshape(-1, 3)[at])
    assert counts == [0, 0, 0, empty, empty]
    warp.put(choice, rays_of(exact, choice.pixels))
    warp.forget()
    assert warp.project(view, [source], settings).holes == empty


def test_keyframes_win_over_points_and_the_nearest_and_newest_point_wins() -> None:
    view = view_at()
    warp = warp_for(view)
    pixel = np.array([30 * 96 + 40], np.int32)

    def point(depth: float, value: float) -> None:
        warp.next()
        warp.project(view, [], SETTINGS)
        fresh = FrameBuffers.empty(1, 1, front=True)
        assert fresh.front is not None
        fresh.rgb[:] = value
        fresh.front[..., 0] = depth
        warp.put(Choice(pixel, np.zeros(1, np.float32), 1, 0), fresh)

    def seen(sources: list[Source]) -> float:
        warp.next()
        warp.project(view, sources, SETTINGS)
        return float(warp.buffers().rgb[30, 40, 0])

    point(5.0, 0.1)
    point(5.0, 0.2)
    assert seen([]) == pytest.approx(0.2)
    point(4.0, 0.3)
    point(6.0, 0.4)
    assert seen([]) == pytest.approx(0.3)
    warp.forget()
    point(5.0, 0.9)
    wall = key(view, sky=50.0)
    assert seen([wall]) == pytest.approx(float(look(view, sky=50.0).rgb[30, 40, 0]), abs=1e-6)


@pytest.mark.parametrize("sources", [[], [view_at(yaw=2.5)], [view_at((0.5, 0.0, 0.0), yaw=0.9)]])
def test_every_pixel_is_set_without_a_single_ray(sources: list[View]) -> None:
    view = view_at()
    warp = warp_for(view)
    counts = warp.project(view, [key(source, card=True) for source in sources], SETTINGS, planes=True)
    assert counts.holes > 0
    assert warp.fill_rest() == counts.holes
    assert warp.fill_rest() == 0
    assert not len(holes(warp).pixels)
    shown = warp.buffers()
    assert np.isfinite(shown.rgb.numpy()).all()
    assert (warp.image()[..., 3] == 255).all()
    if counts.coverage > 0:
        known = look(sources[0], card=True).rgb
        assert shown.rgb.min() >= known.min() - 0.05


def test_guesses_are_means_of_neighbours_and_forgotten() -> None:
    view = view_at()
    picture = look(view)
    picture.rgb[:] = 0.3
    trust = np.zeros((64, 96), np.uint8)
    trust[30:34, 50:53] = Trust.VOID
    warp = warp_for(view)
    for _ in range(2):
        warp.next()
        counts = warp.project(view, [Source(keyframe_of(view, picture), trust)], SETTINGS)
        assert counts.holes == 12  # a guess does not come back as a point
        assert warp.fill_rest() == 12
        assert torch.allclose(warp.buffers().rgb, torch.tensor(0.3), atol=1e-6)


# ---------------------------------------------------------------- where rays start


@pytest.mark.parametrize("name", [*POSES])
def test_rays_never_start_behind_what_they_meet(name: str) -> None:
    base, view = view_at(width=192, height=128, focal=0.8), POSES[name]
    exact = look(view, card=True).depth.numpy().reshape(-1)
    exact = np.where(exact > 0, exact, FAR)
    warp = warp_for(base)
    pixels = np.arange(view.width * view.height, dtype=np.int32)
    start = warp.starts(view, [key(base, card=True)], pixels, SETTINGS)
    wide = look(replace(view, c2w=view.c2w), card=True).depth.numpy() > 0
    assert (start <= exact).all()
    assert (start > 0).mean() > 0.3
    if wide.all():
        assert np.median(start[start > 0] / exact[start > 0]) > 0.95
    again = warp.starts(view, [key(base, card=True)], pixels[::7], replace(SETTINGS, margin=0.5))
    assert np.allclose(again, np.maximum(start[::7] - 0.5, 0), atol=1e-5)


def test_starts_of_the_picture_are_those_of_its_view_and_leave_it_alone() -> None:
    view = view_at((0.3, 0.0, 0.0))
    source = key(view_at(), card=True)
    warp = warp_for(view)
    warp.project(view, [source], SETTINGS)
    choice, before = warp.choose(500, 500, 50), warp.image()
    start = warp.starts(view, [source], choice.pixels, SETTINGS)
    other = view_at(yaw=1.0, width=40, height=30)
    warp.starts(other, [source], np.arange(1200, dtype=np.int32), SETTINGS)
    assert (start == choice.start).all()
    assert (start[: choice.n_fill] == 0).all()
    assert (warp.image() == before).all()
    assert (warp.choose(500, 500, 50).start == choice.start).all()
