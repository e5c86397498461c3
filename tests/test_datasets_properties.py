"""Whatever a dataset's files hold, they are read or refused in a sentence; both COLMAP spellings agree."""

from __future__ import annotations

import tempfile
import tracemalloc
import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import colmap, contextcapture, llff
from landmark_viewer.scenes.datasets.colmap_model import rotation_matrix
from landmark_viewer.scenes.datasets.dataset import Source

from .pose_files import (
    COLMAP_MODELS,
    Model,
    colmap_model,
    exchange_xml,
    llff_rows,
    npy_bytes,
    quaternion_and_translation,
    random_poses,
    touch_photos,
    write_colmap,
)

LIMIT = 200 << 20  # bytes that a broken file of some kilobytes may make a reader take
SPECIAL = [
    b"\0" * 8,
    b"\xff" * 8,
    b"\xff" * 7 + b"\x7f",
    b"\0\0\0\0\0\0\xf8\x7f",
    b"\0\0\0\0\0\0\xf0\x7f",
    b"nan 1e99",
]
COORDINATES = st.floats(-1e7, 1e7, allow_subnormal=False)
DIRECTIONS = st.tuples(*[st.floats(-1, 1, allow_subnormal=False)] * 4).filter(
    lambda q: np.linalg.norm(q) > 0.1
)


@st.composite
def poses(draw):
    """A camera-to-world matrix in OpenGL axes. [4, 4]"""
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(draw(DIRECTIONS)).as_matrix()
    pose[:3, 3] = draw(st.tuples(COORDINATES, COORDINATES, COORDINATES))
    return pose


@st.composite
def models(draw):
    """A COLMAP model: up to 3 cameras, 6 photographs, 5 points."""
    names = draw(st.lists(st.sampled_from(list(COLMAP_MODELS)), min_size=1, max_size=3))
    sides = st.integers(1, 16384)
    cameras = {
        i * 3 + 1: (name, draw(sides), draw(sides), COLMAP_MODELS[name][1]) for i, name in enumerate(names)
    }
    photos = draw(st.lists(st.tuples(st.sampled_from(list(cameras)), poses()), min_size=1, max_size=6))
    points = draw(st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES), max_size=5))
    named = {f"part {i % 2}/photo_{i}.jpg": photo for i, photo in enumerate(photos)}
    return Model(cameras, named, np.array(points).reshape(-1, 3))


@settings(deadline=None, max_examples=30)
@given(models())
def test_binary_and_text_models_are_one(model):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch_photos(root / "images", list(model.photos))
        write_colmap(root / "sparse/0", model, ".txt")
        text = colmap.read(root)
        write_colmap(root / "sparse/0", model, ".bin")
        binary = colmap.read(root)
    assert binary.photos == text.photos
    assert (binary.points is None) == (text.points is None) == (len(model.points) == 0)
    if binary.points is not None:
        np.testing.assert_array_equal(binary.points, text.points)
        np.testing.assert_array_equal(binary.points, model.points)
    expected = {root / "images" / name: photo for name, photo in model.photos.items()}
    for photo in binary.photos:
        number, c2w = expected[photo.path]
        assert (photo.camera.width, photo.camera.height) == model.cameras[number][1:3]
        np.testing.assert_allclose(photo.camera.matrix[:3, :3], c2w[:3, :3], rtol=0, atol=1e-14)
        np.testing.assert_allclose(photo.camera.eye, c2w[:3, 3], rtol=0, atol=1e-14 * 1e8)


@settings(deadline=None)
@given(DIRECTIONS)
def test_a_quaternion_turns_as_its_matrix(quaternion):
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    matrix = rotation_matrix(np.array([w, x, y, z]))
    np.testing.assert_allclose(matrix, Rotation.from_quat([x, y, z, w]).as_matrix(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(matrix, rotation_matrix(-np.array([w, x, y, z])))


@settings(deadline=None)
@given(poses())
def test_a_matrix_survives_its_quaternion(c2w):
    quaternion, translation = quaternion_and_translation(c2w)
    w2c = rotation_matrix(np.array(quaternion))
    np.testing.assert_allclose(w2c.T @ np.diag([1, -1, -1]), c2w[:3, :3], rtol=0, atol=1e-14)
    np.testing.assert_allclose(-w2c.T @ translation, c2w[:3, 3], rtol=1e-13, atol=1e-7)


@st.composite
def broken(draw, whole):
    """A file with a piece cut off, bytes changed, a value put over others, or a piece doubled."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["cut", "flip", "special", "double"]))
        if kind == "cut":
            del data[at:]
        elif kind == "flip" and data:
            data[at] ^= draw(st.integers(1, 255))
        elif kind == "special":
            special = draw(st.sampled_from(SPECIAL))
            data[at : at + len(special)] = special
        elif kind == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


def colmap_root(ending: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        model = colmap_model(n=3, n_points=5)
        write_colmap(root / "sparse/0", model, ending)
        touch_photos(root / "images", list(model.photos))

    return make


def llff_root(root: Path) -> None:
    rows = llff_rows(random_poses(2), (640, 480), 500.0, [(1.0, 5.0), (2.0, 9.0)])
    (root / "poses_bounds.npy").write_bytes(npy_bytes(rows))
    touch_photos(root / "images", ["a.jpg", "b.jpg"])


def exchange_root(root: Path) -> None:
    document = exchange_xml({f"C:\\Images\\{i}.jpg": pose for i, pose in enumerate(random_poses(2))})
    (root / "block.xml").write_bytes(ElementTree.tostring(document))
    touch_photos(root / "images", ["0.jpg", "1.jpg"])


FORMATS: dict[str, tuple[ModuleType, Callable[[Path], None]]] = {
    "sparse/0/cameras.bin": (colmap, colmap_root(".bin")),
    "sparse/0/images.bin": (colmap, colmap_root(".bin")),
    "sparse/0/points3D.bin": (colmap, colmap_root(".bin")),
    "sparse/0/cameras.txt": (colmap, colmap_root(".txt")),
    "sparse/0/images.txt": (colmap, colmap_root(".txt")),
    "sparse/0/points3D.txt": (colmap, colmap_root(".txt")),
    "poses_bounds.npy": (llff, llff_root),
    "block.xml": (contextcapture, exchange_root),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", list(FORMATS))
def test_any_broken_file_is_a_source_or_a_sentence(name):
    reader, make = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root)
        check_source(reader.read(root))
        path = root / name

        @settings(deadline=None, max_examples=60, database=None)
        @given(broken(path.read_bytes()))
        def read(data):
            path.write_bytes(data)
            reader.looks_like(root)
            tracemalloc.reset_peak()
            check_source_or_sentence(reader, root)
            assert tracemalloc.get_traced_memory()[1] < LIMIT

        tracemalloc.start()
        try:
            read()
        finally:
            tracemalloc.stop()


def check_source_or_sentence(reader: ModuleType, root: Path) -> None:
    try:
        source = reader.read(root)
    except InputError as error:
        sentence = str(error)
    else:
        check_source(source)
        return
    assert str(root) in sentence
    assert not any(unicodedata.category(character) == "Cc" for character in sentence)


def check_source(source: Source) -> None:
    """What every reader promises of what it returns."""
    assert source.photos
    for photo in source.photos:
        camera = photo.camera
        assert photo.path.is_file()
        assert np.isfinite(camera.matrix).all()
        assert np.abs(camera.matrix[:3, :3] @ camera.matrix[:3, :3].T - np.eye(3)).max() < 0.02
        assert np.isfinite([camera.fl_x, camera.fl_y, camera.cx, camera.cy]).all()
        assert min(camera.width, camera.height, camera.fl_x, camera.fl_y) > 0
        assert all(np.isfinite(value) for value in vars(photo.lens).values())
    if source.near_far is not None:
        assert 0 < source.near_far[0] < source.near_far[1] < np.inf
    if source.points is not None:
        assert source.points.shape[1] == 3
        assert np.isfinite(source.points).all()
