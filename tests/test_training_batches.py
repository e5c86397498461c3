"""Batches: every pixel in turn, the rays of the renderer, and nothing but seed and iteration behind them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.rays import generate_rays, view_of
from landmark_viewer.core.training.batches import Batches, shuffle
from landmark_viewer.core.training.photos import Photos
from landmark_viewer.core.training.settings import TrainSettings

from .photos import MemoryPixels, make_photos

PLAIN = TrainSettings(batch_size=100, seed=3)


def same(a: object, b: object) -> bool:
    """Whether two batches agree in every number."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if is_dataclass(a):
        return all(same(getattr(a, field.name), getattr(b, field.name)) for field in fields(a))
    return a == b


def numbered(photos: Photos) -> Photos:
    """Returns photographs whose colours tell the number of each pixel."""
    sizes = [(camera.height, camera.width) for camera in photos.cameras]
    index = np.arange(photos.offsets[-1])
    colors = np.stack([index % 256, index // 256 % 256, index // 65536, np.full_like(index, 255)], -1)
    parts = np.split(colors.astype(np.uint8), photos.offsets[1:-1])
    return replace(
        photos,
        pixels=MemoryPixels(tuple(part.reshape(*size, 4) for part, size in zip(parts, sizes, strict=True))),
    )


def numbers(rgb: torch.Tensor) -> np.ndarray:
    """Reads the numbers of pixels back."""
    channels = np.rint(rgb.numpy() * 255).astype(np.int64)
    return channels @ np.array([1, 256, 65536])


def masked(photos: Photos, known: np.ndarray) -> Photos:
    """Returns photographs of which only some pixels are known."""
    images = [photos.pixels.image(i).copy() for i in range(len(photos))]
    for image, part in zip(images, np.split(known, photos.offsets[1:-1]), strict=True):
        image[..., 3] = part.reshape(image.shape[:2]) * 255
    return replace(photos, pixels=MemoryPixels(tuple(images)))


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 5000), seed=st.integers(0, 2**32))
def test_shuffle_reaches_every_number_once(n, seed):
    keys = np.random.default_rng(seed).integers(0, 2**64, 8, dtype=np.uint64)
    assert np.array_equal(np.sort(shuffle(np.arange(n), n, keys)), np.arange(n))


def test_shuffle_leaves_no_trace_of_the_order():
    n = 40_000
    keys = np.random.default_rng(0).integers(0, 2**64, 8, dtype=np.uint64)
    order = shuffle(np.arange(n), n, keys)
    assert abs(np.corrcoef(np.arange(n), order)[0, 1]) < 0.02
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    in_quarters = np.histogram2d(np.arange(n), order, bins=4)[0]
    assert np.abs(in_quarters / (n / 16) - 1).max() < 0.1


def test_an_epoch_shows_every_pixel_once_and_the_next_one_in_another_order():
    photos = numbered(make_photos(3, (20, 15), 0.0))  # 900 pixels
    batches = Batches(photos, PLAIN)
    epochs = [
        np.concatenate([numbers(batches.at(i).rgb) for i in range(first, first + 9)]) for first in (0, 9)
    ]
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), np.arange(900))
    assert not np.array_equal(*epochs)


def test_a_batch_may_reach_over_epochs():
    photos = numbered(make_photos(1, (7, 5), 0.0))
    seen = np.concatenate([numbers(Batches(photos, PLAIN).at(i).rgb) for i in range(7)])
    assert np.array_equal(np.bincount(seen), np.full(35, 20))


def test_rays_and_colours_are_those_of_the_pixels():
    photos = numbered(make_photos(3, (21, 16), 0.2))
    cameras = [
        photos.cameras[0],
        replace(photos.cameras[1], fl_x=17.123, fl_y=19.7, cx=9.87, cy=8.011),
        replace(photos.cameras[2], width=12, height=28),
    ]
    photos = numbered(replace(photos, cameras=tuple(cameras)))
    batches = Batches(photos, replace(PLAIN, batch_size=int(photos.offsets[-1])))
    origins, directions = (
        torch.cat(parts)
        for parts in zip(*(generate_rays(view_of(camera)) for camera in cameras), strict=True)
    )
    every = batches.rays_of(np.arange(batches.n_pixels))
    assert np.array_equal(every[0], origins)
    assert np.array_equal(every[1], directions)
    rays = batches.at(5)
    at = torch.from_numpy(numbers(rays.rgb))
    assert torch.equal(rays.origins, origins[at])
    assert torch.equal(rays.directions, directions[at])


def test_a_batch_follows_from_seed_and_iteration_alone():
    photos = make_photos(3, (20, 15), 0.0)
    full = replace(PLAIN, appearance_codes=True, nerf_from=0, n_importance=8, nerf_n_importance=4)
    batches = Batches(photos, full)
    batches.at(0), batches.at(9)
    assert same(batches.at(4), Batches(photos, full).at(4))
    assert not same(batches.at(4), batches.at(5))
    other = Batches(photos, replace(full, seed=4)).at(4)
    for name in ("rgb", "jitter", "hull_jitter", "nerf_u"):
        assert not torch.equal(getattr(batches.at(4), name), getattr(other, name))


def test_random_numbers_fill_the_unit_interval():
    photos = make_photos(2, (20, 15), 0.0)
    wanted = replace(PLAIN, batch_size=501, nerf_from=0, n_importance=9, nerf_n_importance=3)
    rays = Batches(photos, wanted).at(1)
    assert rays.hull_jitter.shape == (501, 9)
    assert rays.nerf_u.shape == (501, 3)
    assert rays.jitter.shape == (501,)
    for values in (rays.jitter, rays.hull_jitter, rays.nerf_u):
        assert values.dtype == torch.float32
        assert values.min() >= 0
        assert values.max() < 1
        assert float(values.mean()) == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(rays.jitter, rays.hull_jitter.reshape(-1)[:501])


def test_numbers_of_the_nerf_branch_are_drawn_once_it_is_there():
    photos = make_photos(2, (20, 15), 0.0)
    batches = Batches(photos, replace(PLAIN, nerf_from=2))
    assert [batches.at(i).nerf_u is not None for i in range(4)] == [False, False, False, True]
    assert Batches(photos, PLAIN).at(3).hull_jitter is None


def test_codes_are_those_of_the_photographs():
    photos = numbered(make_photos(3, (20, 15), 0.0, dark=(1,)))
    rays = Batches(photos, replace(PLAIN, appearance_codes=True)).at(0)
    assert rays.codes.dtype == torch.int32
    assert np.array_equal(rays.codes == 1, numbers(rays.rgb) // 300 == 1)
    assert Batches(photos, PLAIN).at(0).codes is None


def test_unknown_pixels_never_come():
    photos = numbered(make_photos(2, (20, 15), 0.0))
    known = np.random.default_rng(0).random(600) < 0.3
    batches = Batches(masked(photos, known), PLAIN)
    seen = np.concatenate([numbers(batches.at(i).rgb) for i in range(6)])
    assert len(seen) == 600
    assert known[seen].all()
    assert set(seen) == set(np.flatnonzero(known))


def test_photographs_without_known_pixels_are_a_sentence():
    photos = make_photos(2, (20, 15), 0.0)
    with pytest.raises(
        InputError, match="photographs must have known pixels, got a batch of 100 without one"
    ):
        Batches(masked(photos, np.zeros(600, bool)), PLAIN).at(0)
    with pytest.raises(InputError, match="at least one photograph"):
        Batches(make_photos(0, (20, 15), 0.0), PLAIN)


def test_a_patch_is_a_square_of_one_photograph():
    photos = numbered(make_photos(3, (20, 15), 0.0))
    patches = replace(PLAIN, lpips_from=2, patch_size=6)
    batches = Batches(photos, patches)
    assert len(batches.at(1).rgb) == 100
    seen = set()
    for i in range(2, 40):
        at = numbers(batches.at(i).rgb).reshape(6, 6)
        photo, (row, column) = at[0, 0] // 300, divmod(at[0, 0] % 300, 20)
        assert row <= 9
        assert column <= 14
        assert np.array_equal(at, at[0, 0] + np.arange(6)[:, None] * 20 + np.arange(6))
        seen.add((photo, row, column))
    assert len(seen) > 30
    assert {photo for photo, _, _ in seen} == {0, 1, 2}
    assert same(batches.at(7), Batches(photos, patches).at(7))


def test_a_patch_avoids_unknown_pixels():
    photos = numbered(make_photos(1, (30, 30), 0.0))
    known = np.ones((30, 30), bool)
    known[:, 24:] = False
    batches = Batches(masked(photos, known.reshape(-1)), replace(PLAIN, lpips_from=0, patch_size=6))
    for i in range(20):
        at = numbers(batches.at(i).rgb).reshape(6, 6)
        assert np.array_equal(at, at[0, 0] + np.arange(6)[:, None] * 30 + np.arange(6))
        assert (at % 30 < 24).all()


def test_a_patch_larger_than_a_photograph_is_refused():
    with pytest.raises(InputError, match=r"patch_size must be at most 15, .*got 16"):
        Batches(make_photos(1, (20, 15), 0.0), replace(PLAIN, lpips_from=0, patch_size=16))
