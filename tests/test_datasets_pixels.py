"""Photographs become pixels: decoding, lenses, averaging, masks, memory and the cache on disk."""

from __future__ import annotations

import errno
import json
import os
import signal
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landmark_viewer.core.camera import Camera
from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import pixels as pixels_module
from landmark_viewer.scenes.datasets.dataset import DatasetOptions, Lens
from landmark_viewer.scenes.datasets.images import Recipe, distort, load, size_of
from landmark_viewer.scenes.datasets.open import open_dataset
from landmark_viewer.scenes.datasets.pixels import CachedPixels, MemoryPixels, open_pixels

from .dataset_files import edit, known_views, save_png, write_transforms

OPENCV = Lens(k1=-0.12, k2=0.04, p1=0.003, p2=-0.002, k3=-0.004, k4=0.0005)
FISHEYE = Lens(k1=0.05, k2=-0.02, k3=0.006, k4=-0.001, fisheye=True)
EYE = tuple(tuple(row) for row in np.eye(4).tolist())


def recipe_of(path: Path, width: int, height: int, **fields: object) -> Recipe:
    camera = Camera(EYE, width, height, 100.0, 100.0, width / 2, height / 2)
    recipe = Recipe(path, None, camera, Lens(), 1, (1.0, 1.0, 1.0))
    return replace(recipe, **fields)  # type: ignore[arg-type]


def undistort(lens: Lens, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverts `distort` with Newton's method on a numerical Jacobian."""
    u, v, step = x.copy(), y.copy(), 1e-6
    for _ in range(30):
        fx, fy, _shown = distort(lens, u, v)
        ax, ay, _shown = distort(lens, u + step, v)
        bx, by, _shown = distort(lens, u, v + step)
        a, b, c, d = (ax - fx) / step, (bx - fx) / step, (ay - fy) / step, (by - fy) / step
        det = a * d - b * c
        u, v = u - (d * (fx - x) - b * (fy - y)) / det, v - (a * (fy - y) - c * (fx - x)) / det
    return u, v


def pattern(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth picture on the plane at distance 1. uint8 [..., 3]"""
    waves = np.stack([np.sin(7 * x) * np.cos(5 * y), np.sin(6 * y + 1), np.cos(8 * x + 3 * y)], axis=-1)
    return np.rint(127.5 + 120 * waves).astype(np.uint8)


@pytest.mark.parametrize("lens", [OPENCV, FISHEYE])
def test_distortion_can_be_undone(lens: Lens) -> None:
    x, y = np.meshgrid(np.linspace(-0.7, 0.7, 31), np.linspace(-0.5, 0.5, 21))
    x_seen, y_seen, shown = distort(lens, x, y)
    assert shown.all()
    u, v = undistort(lens, x_seen, y_seen)
    assert max(np.abs(u - x).max(), np.abs(v - y).max()) < 1e-9
    assert np.abs(x_seen - x).max() > 0.01


def test_distortion_follows_opencvs_formulas() -> None:
    x, y, r2 = 0.3, -0.2, 0.13
    radial = 1 - 0.12 * r2 + 0.04 * r2**2 - 0.004 * r2**3 + 0.0005 * r2**4
    expected = (
        x * radial + 2 * 0.003 * x * y - 0.002 * (r2 + 2 * x * x),
        y * radial + 0.003 * (r2 + 2 * y * y) - 2 * 0.002 * x * y,
    )
    np.testing.assert_allclose(distort(OPENCV, np.array(x), np.array(y))[:2], expected, rtol=1e-13)
    r = np.sqrt(r2)
    angle = np.arctan(r)
    bent = angle * (1 + 0.05 * angle**2 - 0.02 * angle**4 + 0.006 * angle**6 - 0.001 * angle**8)
    expected = (x * bent / r, y * bent / r)
    np.testing.assert_allclose(distort(FISHEYE, np.array(x), np.array(y))[:2], expected, rtol=1e-13)
    assert distort(FISHEYE, np.zeros(1), np.zeros(1))[0] == 0


@pytest.mark.parametrize("lens", [OPENCV, FISHEYE])
def test_an_undistorted_photograph_is_the_pinholes(tmp_path: Path, lens: Lens) -> None:
    camera = Camera(EYE, 160, 120, 110.0, 105.0, 83.0, 57.5)
    row, column = np.mgrid[0:120, 0:160] + 0.5
    x, y = (column - camera.cx) / camera.fl_x, (row - camera.cy) / camera.fl_y
    path = save_png(tmp_path / "bent.png", pattern(*undistort(lens, x, y)))
    image = load(recipe_of(path, 160, 120, camera=camera, lens=lens))
    known = image[..., 3] == 255
    assert known[10:-10, 10:-10].all()
    difference = np.abs(image[..., :3].astype(int) - pattern(x, y))[known]
    assert difference.mean() < 0.6
    assert np.percentile(difference, 99.9) <= 3


def test_what_the_lens_does_not_show_is_unknown(tmp_path: Path) -> None:
    path = save_png(tmp_path / "wide.png", np.full((120, 160, 3), 90, dtype=np.uint8))
    image = load(recipe_of(path, 160, 120, lens=Lens(k1=0.5)))  # shows less than the pinhole would
    assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).all()
    np.testing.assert_array_equal(image[60, 80], [90, 90, 90, 255])
    folded = load(recipe_of(path, 160, 120, lens=Lens(k1=-1.0)))  # turns back at a radius of sqrt(1/3)
    row, column = np.mgrid[0:120, 0:160] + 0.5
    radius = np.hypot(column - 80, row - 60) / 100
    assert (folded[radius > 0.5775, 3] == 0).all()
    assert (folded[radius < 0.57, 3] == 255).all()


def test_averaging_down_takes_whole_squares_and_drops_the_rest(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (11, 17, 3), dtype=np.uint8)
    recipe = recipe_of(save_png(tmp_path / "a.png", pixels), 17, 11, downsample=3)
    expected = pixels[:9, :15].reshape(3, 3, 5, 3, 3).astype(float).mean(axis=(1, 3))
    image = load(recipe)
    assert recipe.shape == image.shape[:2] == (3, 5)
    assert np.abs(image[..., :3] - expected).max() <= 0.5 + 1e-4


def test_rays_stay_where_they_are_when_averaging_down(tmp_path: Path) -> None:
    write_transforms(tmp_path, known_views(2))
    full = open_dataset(DatasetOptions(tmp_path)).train.cameras[0]
    half = open_dataset(DatasetOptions(tmp_path, downsample=2)).train.cameras[0]
    np.testing.assert_allclose(half.ray(3, 5)[1], full.ray(6.5, 10.5)[1], rtol=1e-12)


def test_masks_hide_pixels_and_averages_take_what_is_left(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    pixels[:, :2], pixels[:, 2:] = 100, 200
    mask = np.array([[1, 0, 0, 0], [1, 0, 0, 1]] * 2, dtype=np.uint8) * 255
    path, mask_path = save_png(tmp_path / "a.png", pixels), save_png(tmp_path / "m.png", mask)
    full = load(recipe_of(path, 4, 4, mask=mask_path))
    np.testing.assert_array_equal(full[..., 3], mask)
    assert (full[mask == 0] == 0).all()
    half = load(recipe_of(path, 4, 4, mask=mask_path, downsample=2))
    np.testing.assert_array_equal(half[0], [[100, 100, 100, 255], [0, 0, 0, 0]])


def test_photographs_are_turned_as_exif_says(tmp_path: Path) -> None:
    upright = np.zeros((24, 16, 3), dtype=np.uint8)
    upright[:12, :8], upright[12:, 8:] = 250, 120
    stored = Image.fromarray(np.rot90(upright, 1).copy())  # as a camera held upright stores it
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.jpg"
    stored.save(path, exif=exif, quality=100, subsampling=0)
    assert size_of(path) == size_of(path, (16, 24)) == (16, 24)
    image = load(recipe_of(path, 16, 24))
    assert np.abs(image[..., :3].astype(int) - upright).max() <= 3
    assert size_of(path, (24, 16)) == (24, 16)
    raw = load(recipe_of(path, 24, 16))
    assert np.abs(raw[..., :3].astype(int) - np.asarray(stored)).max() <= 3


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (100, 0, 0, 51), (224, 204, 204)),
        ("LA", (100, 51), (224, 224, 224)),
        ("I;16", 257 * 77, (77, 77, 77)),
    ],
)
def test_kinds_of_png(tmp_path: Path, mode: str, value: object, expected: tuple[int, ...]) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (3, 2), value).save(path)  # type: ignore[arg-type]
    image = load(recipe_of(path, 3, 2))
    assert np.abs(image[0, 0].astype(int) - (*expected, 255)).max() <= 1
    assert image.shape == (2, 3, 4)


def test_sixteen_bit_colours_and_palettes_and_cmyk(tmp_path: Path) -> None:
    colours = Image.new("RGB", (3, 2), (10, 200, 30))
    colours.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    colours.convert("CMYK").save(tmp_path / "c.tif")
    for name in ("p.png", "c.tif"):
        image = load(recipe_of(tmp_path / name, 3, 2))
        assert np.abs(image[1, 1, :3].astype(int) - (10, 200, 30)).max() <= 2


def truncated(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-400])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.png", lambda path: None, r"none\.png must be a photograph, but does not exist$"),
        ("text.png", lambda path: path.write_text("hello"), r"must be a photograph that Pillow can read"),
        ("empty.jpg", lambda path: path.touch(), r"must be a photograph that Pillow can read"),
        ("folder.png", lambda path: path.mkdir(), r"must be a readable photograph, got: Is a directory$"),
        ("half.jpg", truncated, r"half\.jpg must be an undamaged photograph, got: "),
        ("half.png", truncated, r"half\.png must be an undamaged photograph, got: "),
        (
            "float.tif",
            lambda path: Image.new("F", (50, 40)).save(path),
            r"8- or 16-bit colours, got",
        ),
        (
            "small.png",
            lambda path: Image.new("L", (3, 2)).save(path),
            r"must have 50 x 40 pixels, got 3 x 2$",
        ),
    ],
)
def test_a_file_that_is_no_photograph(
    tmp_path: Path, name: str, make: Callable[[Path], object], message: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(InputError, match=message):
        load(recipe_of(tmp_path / name, 50, 40))


def recipes_of(folder: Path, count: int = 5) -> list[Recipe]:
    """Photographs of different sizes."""
    rng = np.random.default_rng(5)
    recipes = []
    for number in range(count):
        size = (6 + number, 4 + number)
        path = save_png(folder / f"{number}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        recipes.append(recipe_of(path, size[1], size[0]))
    return recipes


def all_pixels(recipes: list[Recipe]) -> np.ndarray:
    return np.concatenate([load(recipe).reshape(-1, 4) for recipe in recipes])


def test_pixels_in_memory_are_decoded_when_needed(tmp_path: Path) -> None:
    recipes = recipes_of(tmp_path)
    pixels, expected = MemoryPixels(recipes), all_pixels(recipes)
    recipes[3].path.unlink()
    first = np.array([23, 0, 24, 5, 5])  # of the first two photographs
    np.testing.assert_array_equal(pixels.colors(first), expected[first])
    np.testing.assert_array_equal(pixels.image(2), load(recipes[2]))
    with pytest.raises(InputError, match=r"3\.png must be a photograph, but does not exist"):
        pixels.image(3)


def test_pixels_of_the_cache_are_those_in_memory(tmp_path: Path) -> None:
    recipes = recipes_of(tmp_path / "photos")
    steps: list[tuple[int, int]] = []
    pixels = open_pixels(
        recipes, "train", 0, tmp_path / "cache", lambda done, total: steps.append((done, total))
    )
    expected = all_pixels(recipes)
    order = np.random.default_rng(0).permutation(len(expected))
    np.testing.assert_array_equal(pixels.colors(order), expected[order])
    np.testing.assert_array_equal(pixels.image(4), load(recipes[4]))
    assert isinstance(pixels, CachedPixels)
    assert steps == [(number, 5) for number in range(6)]
    (folder,) = (tmp_path / "cache").iterdir()
    assert json.loads((folder / "index.json").read_text())["version"] == pixels_module.VERSION


def test_a_complete_cache_is_not_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipes = recipes_of(tmp_path / "photos")
    expected = all_pixels(recipes)
    open_pixels(recipes, "train", 0, tmp_path / "cache", None)
    monkeypatch.setattr(pixels_module, "load", None)
    steps: list[int] = []
    pixels = open_pixels(recipes, "train", 0, tmp_path / "cache", lambda done, total: steps.append(done))
    np.testing.assert_array_equal(pixels.colors(np.arange(len(expected))), expected)
    assert steps == [5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_build_that_is_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels_module, "BATCH", 0)  # two photographs at a time
    recipes = recipes_of(tmp_path / "photos", 7)

    def kill_at_three(done: int, total: int) -> None:
        if done == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        open_pixels(recipes, "train", 0, tmp_path / "cache", kill_at_three)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    steps: list[int] = []
    pixels = open_pixels(recipes, "train", 0, tmp_path / "cache", lambda done, total: steps.append(done))
    assert steps == [2, 3, 4, 5, 6, 7]
    expected = all_pixels(recipes)
    np.testing.assert_array_equal(pixels.colors(np.arange(len(expected))), expected)


def test_pixels_that_were_not_marked_as_done_do_not_count(tmp_path: Path) -> None:
    recipes = recipes_of(tmp_path / "photos")
    open_pixels(recipes, "train", 0, tmp_path / "cache", None)
    (folder,) = (tmp_path / "cache").iterdir()
    with (folder / "done.bin").open("rb+") as done, (folder / "pixels.bin").open("rb+") as data:
        done.seek(1)
        done.write(b"\0")
        data.seek(24 * 4 + 9)
        data.write(b"garbage")
    pixels = open_pixels(recipes, "train", 0, tmp_path / "cache", None)
    np.testing.assert_array_equal(pixels.image(1), load(recipes[1]))


def rewrite(folder: Path, recipes: list[Recipe]) -> list[Recipe]:
    """Changes a photograph but not its size in bytes."""
    stat = recipes[2].path.stat()
    os.utime(recipes[2].path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))
    return recipes


def cut(folder: Path, recipes: list[Recipe]) -> list[Recipe]:
    """Damages the cache itself."""
    (cache,) = folder.glob("train-*")
    with (cache / "pixels.bin").open("rb+") as file:
        file.truncate(40)
    return recipes


@pytest.mark.parametrize(
    "change",
    [
        rewrite,
        cut,
        lambda folder, recipes: [replace(recipe, downsample=2) for recipe in recipes],
        lambda folder, recipes: [replace(recipe, background=(0.0, 0.0, 0.0)) for recipe in recipes],
        lambda folder, recipes: [replace(recipe, lens=OPENCV) for recipe in recipes],
        lambda folder, recipes: recipes[::-1],
    ],
)
def test_a_change_makes_a_new_cache_and_removes_the_old_one(
    tmp_path: Path, change: Callable[[Path, list[Recipe]], list[Recipe]]
) -> None:
    cache = tmp_path / "cache"
    recipes = recipes_of(tmp_path / "photos")
    open_pixels(recipes[:1], "test", 0, cache, None)
    (kept,) = cache.iterdir()
    open_pixels(recipes, "train", 0, cache, None)
    changed = change(cache, recipes)
    steps: list[int] = []
    pixels = open_pixels(changed, "train", 0, cache, lambda done, total: steps.append(done))
    assert steps[0] == 0
    assert len(list(cache.iterdir())) == 2
    assert kept.is_dir()
    expected = all_pixels(changed)
    np.testing.assert_array_equal(pixels.colors(np.arange(len(expected))), expected)


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    message = r"dataset\.cache must be a writable folder with .* GB of room, got .*: No space left on device$"
    with pytest.raises(InputError, match=message):
        open_pixels(recipes_of(tmp_path / "photos"), "train", 0, tmp_path / "cache", None)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, no folder")
    with pytest.raises(InputError, match=r"dataset\.cache must be a writable folder"):
        open_pixels(recipes_of(tmp_path / "photos"), "train", 0, tmp_path / "cache", None)


def test_a_damaged_photograph_stops_the_build_which_goes_on_when_it_is_mended(tmp_path: Path) -> None:
    recipes = recipes_of(tmp_path / "photos")
    good = recipes[4].path.read_bytes()
    recipes[4].path.write_bytes(good[:60])
    with pytest.raises(InputError, match=r"4\.png must be an undamaged photograph"):
        open_pixels(recipes, "train", 0, tmp_path / "cache", None)
    recipes[4].path.write_bytes(good)
    pixels = open_pixels(recipes, "train", 0, tmp_path / "cache", None)
    np.testing.assert_array_equal(pixels.image(4), load(recipes[4]))


def test_what_does_not_fit_needs_a_cache(tmp_path: Path) -> None:
    write_transforms(tmp_path, known_views(5))
    with pytest.raises(InputError, match=r"dataset\.cache must name a folder: the 4 train photographs take"):
        open_dataset(DatasetOptions(tmp_path, max_memory=4 * 24 * 16 * 4 - 1))
    open_dataset(DatasetOptions(tmp_path, max_memory=4 * 24 * 16 * 4))


def test_a_dataset_streams_from_its_cache(tmp_path: Path) -> None:
    path = write_transforms(tmp_path / "photos", known_views(6))
    edit(path, lambda data: data.update(k1=0.05))
    steps: list[tuple[int, int]] = []
    memory = open_dataset(DatasetOptions(tmp_path / "photos", holdout=3))
    cached = open_dataset(
        DatasetOptions(tmp_path / "photos", holdout=3, max_memory=0, cache=tmp_path / "cache"),
        lambda done, total: steps.append((done, total)),
    )
    for a, b in ((memory.train, cached.train), (memory.test, cached.test)):
        index = np.arange(a.offsets[-1])
        np.testing.assert_array_equal(a.pixels.colors(index), b.pixels.colors(index))
    assert steps[-1] == (6, 6)
    assert sorted({done for done, _ in steps}) == list(range(7))


def test_reading_a_few_pixels_does_not_read_the_file(tmp_path: Path) -> None:
    path = save_png(tmp_path / "a.png", np.zeros((1024, 2048, 3), dtype=np.uint8))  # 8 MiB of pixels
    pixels = open_pixels([recipe_of(path, 2048, 1024)], "train", 0, tmp_path / "cache", None)
    index = np.arange(20) * 100_000
    tracemalloc.start()
    pixels.colors(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 1024
