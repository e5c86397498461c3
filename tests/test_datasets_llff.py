"""LLFF captures: what is written comes back, what is broken is named."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import llff
from landmark_viewer.scenes.datasets.dataset import Lens

from .pose_files import llff_rows, npy_bytes, random_poses, touch_photos

NAMES = ["a.JPG", "b.png", "c.jpg"]
BOUNDS = [(1.5, 20.0), (1.25, 30.0), (2.0, 40.5)]
POSES = random_poses(3)


def prepared(root, rows=None):
    touch_photos(root / "images", NAMES)
    touch_photos(root / "images", ["notes.txt"])
    rows = llff_rows(POSES, (640, 480), 500.25, BOUNDS) if rows is None else rows
    (root / "poses_bounds.npy").write_bytes(npy_bytes(rows))


def test_a_known_camera_set_comes_back(tmp_path):
    prepared(tmp_path)
    assert llff.looks_like(tmp_path)
    source = llff.read(tmp_path)
    assert (source.kind, source.z_is_up, source.near_far) == ("llff", False, (1.25, 40.5))
    assert [photo.path for photo in source.photos] == [tmp_path / "images" / name for name in NAMES]
    for photo, c2w in zip(source.photos, POSES, strict=True):
        np.testing.assert_array_equal(photo.camera.matrix, c2w)
        camera = photo.camera
        assert (camera.width, camera.height, camera.fl_x, camera.fl_y) == (640, 480, 500.25, 500.25)
        assert (camera.cx, camera.cy, photo.lens, photo.split) == (320.0, 240.0, Lens(), None)


def test_the_axes_are_down_right_and_back(tmp_path):
    """A camera that looks along the world's y with z up, spelled out by hand."""
    down, right, back, position = [0, 0, -1], [1, 0, 0], [0, -1, 0], [7, 8, 9]
    row = [*np.column_stack([down, right, back, position, [480, 640, 500]]).ravel(), 1, 2]
    prepared(tmp_path, np.array([row] * 3, dtype=np.float64))
    camera = llff.read(tmp_path).photos[0].camera
    np.testing.assert_array_equal(camera.matrix[:3], [[1, 0, 0, 7], [0, 0, -1, 8], [0, 1, 0, 9]])
    column, row_, depth = camera.project(np.array([7, 18, 10]))  # ten ahead, one up
    assert (column, row_, depth) == (320, 190, 10)


def test_poses_in_float32_are_read_to_their_own_precision(tmp_path):
    rows = llff_rows(POSES, (640, 480), 500.25, BOUNDS).astype(">f4")
    prepared(tmp_path, rows)
    for photo, c2w in zip(llff.read(tmp_path).photos, POSES, strict=True):
        np.testing.assert_allclose(photo.camera.matrix, c2w, rtol=0, atol=1e-6)


def changed(row, column, value):
    def change(rows):
        rows[row, column] = value
        return rows

    return change


BROKEN_ROWS = {
    "NaN in a rotation": (changed(1, 0, np.nan), "poses_bounds.npy: row 1: the rotation must be finite"),
    "NaN in a position": (changed(1, 3, np.nan), "row 1: the position must be finite"),
    "NaN in the focal length": (changed(2, 14, np.nan), "row 2: the focal length must be finite"),
    "a negative focal length": (changed(0, 14, -1.0), "row 0: the focal length must be positive, got -1"),
    "half a pixel": (
        changed(0, 4, 480.5),
        "row 0: height and width must be whole numbers of pixels, got 480.5",
    ),
    "an endless width": (changed(0, 9, np.inf), "row 0: height and width must be whole"),
    "an absurd width": (
        changed(0, 9, 1e5),
        "row 0: width and height must be 1 to 16384 pixels, got 100000 x",
    ),
    "near behind far": (changed(1, 15, 50.0), "row 1: depths must be 0 < near < far, got 50 and 30"),
    "no near": (changed(1, 15, 0.0), "row 1: depths must be 0 < near < far, got 0 and 30"),
    "NaN in a depth": (changed(1, 16, np.nan), "row 1: depths must be 0 < near < far, got 1.25 and nan"),
    "a mirrored camera": (lambda rows: rows * np.where(np.arange(17) % 5 == 0, -1, 1), "row 0: .* mirrored"),
    "a scaled camera": (lambda rows: rows * 2, "row 0: .* rotation"),
    "a row less": (lambda rows: rows[:2], "one photograph for each of the 2 rows of .*, got 3"),
    "no row": (lambda rows: rows[:0], r"shape \(photographs, 17\) in C order, got .*'shape': \(0, 17\)"),
    "15 columns": (lambda rows: rows[:, :15].copy(), r"got .*'<f8'.*'shape': \(3, 15\)"),
    "one dimension": (lambda rows: rows[0], r"'shape': \(17,\)"),
    "integers": (lambda rows: rows.astype(np.int64), "must hold real numbers"),
    "Fortran order": (np.asfortranarray, "'fortran_order': True"),
    "objects": (lambda rows: rows.astype(object), "must hold real numbers"),
}


@pytest.mark.parametrize("case", list(BROKEN_ROWS))
def test_broken_poses_are_one_sentence_with_the_file(tmp_path, case):
    change, expected = BROKEN_ROWS[case]
    prepared(tmp_path, change(llff_rows(POSES, (640, 480), 500.25, BOUNDS)))
    with pytest.raises(InputError, match=expected) as caught:
        llff.read(tmp_path)
    assert str(tmp_path / "poses_bounds.npy") in str(caught.value)
    assert "\n" not in str(caught.value)


def with_header(text):
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + bytes([len(padded), 0]) + padded.encode()


BROKEN_FILES = {
    "empty": (lambda data: b"", "must be an array saved by numpy.save"),
    "an archive": (lambda data: b"PK\x03\x04" + data, "must be an array saved by numpy.save"),
    "a pickle": (lambda data: b"\x80\x04" + data, "must be an array saved by numpy.save"),
    "another version": (
        lambda data: data[:6] + b"\x09\x00" + data[8:],
        "must be an array saved by numpy.save",
    ),
    "cut in the header": (lambda data: data[:60], "must be an array saved by numpy.save"),
    "cut in the rows": (
        lambda data: data[:-9],
        "3 rows of 17 numbers, .* must take 408 bytes, but 399 follow",
    ),
    "a rest": (lambda data: data + b"rest", "must take 408 bytes, but 412 follow"),
    "an absurd shape": (
        lambda data: with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**15}, 17)}}"),
        "1000000000000000 rows",
    ),
    "a negative shape": (
        lambda data: with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-3, 17)}"),
        r"'shape': \(-3, 17\)",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN_FILES))
def test_a_broken_file_is_one_sentence_and_little_memory(tmp_path, case):
    change, expected = BROKEN_FILES[case]
    prepared(tmp_path)
    path = tmp_path / "poses_bounds.npy"
    path.write_bytes(change(path.read_bytes()))
    tracemalloc.start()
    with pytest.raises(InputError, match=expected) as caught:
        llff.read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path):
    assert not llff.looks_like(tmp_path)
    with pytest.raises(InputError, match=r"poses_bounds.npy must be a readable file"):
        llff.read(tmp_path)
    prepared(tmp_path)
    os.rename(tmp_path / "images", tmp_path / "photos")
    with pytest.raises(InputError, match="must hold the photographs in a folder images"):
        llff.read(tmp_path)
