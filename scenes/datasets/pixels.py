"""Pixels of a split: in memory, or in a memory-mapped cache on disk that is built once."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import InputError
from .dataset import Progress
from .images import Recipe, load

THREADS = 2
BATCH = 1 << 24  # pixels of photographs that are decoded before they are marked as done
VERSION = 1  # of the cache; a cache of another version is built anew
MAKING = ".making-"  # begins the name of a cache's folder before its files are complete
INDEX, PIXELS, DONE = "index.json", "pixels.bin", "done.bin"


class _Stored:
    """Pixels of all photographs in one array, one after the other; each is decoded when first needed."""

    def __init__(self, recipes: Sequence[Recipe], pixels: np.ndarray, done: np.ndarray) -> None:
        self._recipes = recipes
        self._shapes = [recipe.shape for recipe in recipes]
        self._offsets = offsets_of(recipes)
        self._pixels = pixels  # uint8 [total, 4]
        self._done = done  # uint8 [n]: 1 where the photograph is decoded

    def colors(self, index: np.ndarray) -> np.ndarray:
        """Returns pixels by number. int64 [n] -> uint8 [n, 4]; where the last is 0, nothing is known."""
        if not self._done.all():
            numbers = np.searchsorted(self._offsets, index, side="right") - 1
            self.load(np.unique(numbers).tolist())
        return np.asarray(self._pixels[index])

    def image(self, number: int) -> np.ndarray:
        """Returns one photograph. uint8 [height, width, 4]"""
        self.load([number])
        return self._slice(number).reshape(*self._shapes[number], 4).copy()

    def load(self, numbers: Iterable[int] | None = None, progress: Progress | None = None) -> None:
        """Decodes photographs (all of them: None) that are not decoded yet.

        Raises:
            InputError: A photograph is missing, damaged, or not of its camera's size.
        """
        wanted = list(range(len(self._recipes)) if numbers is None else numbers)
        missing = [number for number in wanted if not self._done[number]]
        count = len(wanted) - len(missing)
        if progress is not None:
            progress(count, len(wanted))
        if not missing:
            return
        with ThreadPoolExecutor(THREADS) as pool:
            for batch in _batches(missing, self._recipes):
                images = pool.map(load, [self._recipes[number] for number in batch])
                for number, image in zip(batch, images, strict=True):
                    self._keep(number, image.reshape(-1, 4))
                    count += 1
                    if progress is not None:
                        progress(count, len(wanted))
                self._commit(batch)

    def _keep(self, number: int, pixels: np.ndarray) -> None:
        self._slice(number)[:] = pixels

    def _commit(self, numbers: Sequence[int]) -> None:
        """Marks photographs as done after their pixels were kept."""
        self._done[numbers] = 1

    def _slice(self, number: int) -> np.ndarray:
        return self._pixels[self._offsets[number] : self._offsets[number + 1]]


class MemoryPixels(_Stored):
    """Pixels in memory."""

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        total = int(offsets_of(recipes)[-1])
        super().__init__(
            recipes, np.empty((total, 4), dtype=np.uint8), np.zeros(len(recipes), dtype=np.uint8)
        )


class CachedPixels(_Stored):
    """Pixels in a file that is mapped into memory: a read touches only the pages that it needs.

    The folder of a cache is named after a digest of everything that its pixels depend on, so a change of a
    photograph or an option leads to another folder. It holds `pixels.bin`, the pixels of all photographs;
    `done.bin`, one byte for each photograph that becomes 1 once its pixels are on disk; and `index.json`,
    which says what it was made of. The folder appears by a rename; a build that was killed goes on later.
    """

    def __init__(self, recipes: Sequence[Recipe], folder: Path, name: str) -> None:
        """Opens the cache in `folder`, or makes an empty one and removes others of the same name.

        Raises:
            InputError: The folder is not writable, or the disk has no room.
        """
        content = _content(recipes)
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        self._folder = folder / f"{name}-{digest}"
        size = int(offsets_of(recipes)[-1]) * 4
        try:
            if not _is_complete(self._folder, size, len(recipes)):
                _remove_others(folder, name)
                _create(self._folder, content, size, len(recipes))
            with (self._folder / PIXELS).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            if hasattr(mmap, "MADV_RANDOM"):
                mapped.madvise(mmap.MADV_RANDOM)
            done = np.fromfile(self._folder / DONE, dtype=np.uint8)
        except OSError as error:
            raise _no_room(folder, size, error) from None
        super().__init__(recipes, np.frombuffer(mapped, dtype=np.uint8).reshape(-1, 4), done)

    def _keep(self, number: int, pixels: np.ndarray) -> None:
        try:
            with (self._folder / PIXELS).open("rb+") as file:
                file.seek(int(self._offsets[number]) * 4)
                file.write(pixels.tobytes())
        except OSError as error:
            raise _no_room(self._folder.parent, pixels.nbytes, error) from None

    def _commit(self, numbers: Sequence[int]) -> None:
        super()._commit(numbers)
        try:
            with (self._folder / PIXELS).open("rb+") as file:
                os.fsync(file.fileno())
            with (self._folder / DONE).open("rb+") as file:
                file.write(self._done.tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _no_room(self._folder.parent, len(self._done), error) from None


def open_pixels(
    recipes: Sequence[Recipe], name: str, max_memory: int, cache: Path | None, progress: Progress | None
) -> MemoryPixels | CachedPixels:
    """Returns the pixels of a split: in memory where they fit, else in a cache that is built now.

    With `progress` everything is decoded now, else photographs in memory are decoded when first needed.

    Raises:
        InputError: The pixels do not fit in memory and `cache` is None, or a photograph is unusable.
    """
    size = int(offsets_of(recipes)[-1]) * 4
    if size <= max_memory:
        memory = MemoryPixels(recipes)
        if progress is not None:
            memory.load(progress=progress)
        return memory
    if cache is None:
        raise InputError(
            f"dataset.cache must name a folder: the {len(recipes)} {name} photographs take "
            f"{_gigabytes(size)}, more than max_memory, {_gigabytes(max_memory)}"
        )
    pixels = CachedPixels(recipes, cache, name)
    pixels.load(progress=progress)
    return pixels


def offsets_of(recipes: Sequence[Recipe]) -> np.ndarray:
    """Returns the number of each photograph's first pixel, and the total. int64 [n + 1]"""
    sizes = [height * width for height, width in (recipe.shape for recipe in recipes)]
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)


def _batches(numbers: Sequence[int], recipes: Sequence[Recipe]) -> Iterator[list[int]]:
    """Yields photographs in groups that are decoded and committed together."""
    batch: list[int] = []
    size = 0
    for number in numbers:
        batch.append(number)
        size += recipes[number].camera.width * recipes[number].camera.height
        if size >= BATCH and len(batch) >= THREADS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _content(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """Returns everything that the pixels depend on."""
    photos = []
    for recipe in recipes:
        facts = asdict(recipe)
        del facts["camera"]["c2w"]
        facts["path"], facts["mask"] = _stamp(recipe.path), recipe.mask and _stamp(recipe.mask)
        photos.append(facts)
    return {"version": VERSION, "photos": photos}


def _stamp(path: Path) -> list[Any]:
    try:
        stat = path.stat()
    except OSError:
        raise InputError(f"{path} must be a photograph, but does not exist") from None
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _is_complete(folder: Path, size: int, count: int) -> bool:
    sizes = {INDEX: None, PIXELS: size, DONE: count}
    files = {name: folder / name for name in sizes}
    if not all(file.is_file() for file in files.values()):
        return False
    return all(size is None or files[name].stat().st_size == size for name, size in sizes.items())


def _create(folder: Path, content: dict[str, Any], size: int, count: int) -> None:
    """Makes the folder of an empty cache; the disk space is reserved."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{MAKING}{folder.name}-", dir=folder.parent))
    try:
        (temporary / INDEX).write_text(json.dumps(content, indent=1), encoding="utf-8")
        with (temporary / PIXELS).open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        (temporary / DONE).write_bytes(bytes(count))
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_others(folder: Path, name: str) -> None:
    for other in (*folder.glob(f"{name}-*"), *folder.glob(f"{MAKING}{name}-*")):
        if (other / INDEX).is_file():
            shutil.rmtree(other, ignore_errors=True)


def _no_room(folder: Path, size: int, error: OSError) -> InputError:
    return InputError(
        f"dataset.cache must be a writable folder with {_gigabytes(size)} of room, got {folder}: "
        f"{error.strerror}"
    )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
