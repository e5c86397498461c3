"""COLMAP models, binary and text: what is written comes back, what is broken is named."""

from __future__ import annotations

import json
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import colmap, colmap_binary, colmap_text
from landmark_viewer.scenes.datasets.dataset import DatasetOptions, Lens
from landmark_viewer.scenes.datasets.open import open_dataset

from .pose_files import COLMAP_MODELS, colmap_model, random_poses, touch_photos, write_colmap

LENSES = {
    "SIMPLE_PINHOLE": Lens(),
    "PINHOLE": Lens(),
    "SIMPLE_RADIAL": Lens(k1=0.01),
    "RADIAL": Lens(k1=0.01, k2=-0.02),
    "OPENCV": Lens(k1=0.01, k2=-0.02, p1=1e-3, p2=-2e-3),
    "OPENCV_FISHEYE": Lens(k1=0.01, k2=-0.02, k3=0.003, k4=-0.004, fisheye=True),
    "FULL_OPENCV": Lens(k1=0.01, k2=-0.02, p1=1e-3, p2=-2e-3, k3=0.003),
    "SIMPLE_RADIAL_FISHEYE": Lens(k1=0.01, fisheye=True),
    "RADIAL_FISHEYE": Lens(k1=0.01, k2=-0.02, fisheye=True),
}
ENDINGS = pytest.mark.parametrize("ending", [".bin", ".txt"])


def prepared(root, ending=".bin", model=None, folder="sparse/0"):
    model = colmap_model() if model is None else model
    write_colmap(root / folder, model, ending)
    touch_photos(root / "images", list(model.photos))
    return model


@ENDINGS
@pytest.mark.parametrize("name", list(COLMAP_MODELS))
def test_a_known_camera_set_comes_back(tmp_path, ending, name):
    model = prepared(tmp_path, ending, colmap_model(name))
    source = colmap.read(tmp_path)
    assert (source.kind, source.z_is_up, source.pixel_center) == ("colmap", False, 0.5)
    assert [photo.path for photo in source.photos] == [tmp_path / "images" / photo for photo in model.photos]
    for photo, (_, c2w) in zip(source.photos, model.photos.values(), strict=True):
        np.testing.assert_allclose(photo.camera.matrix, c2w, rtol=0, atol=1e-12)
        fl_y = 499.0 if len(COLMAP_MODELS[name][1]) in (8, 12) or name == "PINHOLE" else 500.25
        camera = photo.camera
        assert (camera.width, camera.height) == (640, 480)
        assert (camera.fl_x, camera.fl_y, camera.cx, camera.cy) == (500.25, fl_y, 320.5, 239.125)
        assert photo.lens == LENSES[name]
        assert (photo.split, photo.code, photo.mask) == (None, None, None)
    np.testing.assert_array_equal(source.points, model.points)


@ENDINGS
@pytest.mark.parametrize("folder", ["sparse/0", "sparse", "colmap/sparse/0", "."])
def test_the_model_is_found_in_the_usual_folders(tmp_path, folder, ending):
    prepared(tmp_path, ending, folder=folder)
    assert colmap.looks_like(tmp_path)
    assert len(colmap.read(tmp_path).photos) == 3


def test_the_folder_of_the_model_itself_may_be_named(tmp_path):
    prepared(tmp_path)
    assert len(colmap.read(tmp_path / "sparse" / "0").photos) == 3
    assert len(colmap.read(tmp_path / "sparse").photos) == 3


def test_other_folders_do_not_look_like_a_model(tmp_path):
    assert not colmap.looks_like(tmp_path)
    assert not colmap.looks_like(tmp_path / "missing")
    write_colmap(tmp_path, colmap_model(), ".bin")
    (tmp_path / "images.bin").unlink()
    assert not colmap.looks_like(tmp_path)


def test_photographs_come_sorted_by_name_whatever_the_order_of_the_file(tmp_path):
    model = colmap_model(n=5)
    backwards = type(model)(model.cameras, dict(reversed(model.photos.items())), model.points)
    prepared(tmp_path, model=backwards)
    assert [photo.path.name for photo in colmap.read(tmp_path).photos] == [f"photo_{i}.jpg" for i in range(5)]


def test_names_may_have_folders_and_spaces(tmp_path):
    c2w = random_poses(1)[0]
    for ending in (".bin", ".txt"):
        model = colmap_model()
        model.photos["left wing/a photo.jpg"] = (4, c2w)
        prepared(tmp_path, ending, model)
        assert colmap.read(tmp_path).photos[0].path == tmp_path / "images" / "left wing" / "a photo.jpg"


def test_the_least_reduced_photographs_are_taken_and_their_cameras_scaled(tmp_path):
    model = colmap_model("PINHOLE")
    write_colmap(tmp_path / "sparse/0", model, ".bin")
    for n in (4, 2):
        folder = tmp_path / f"images_{n}"
        folder.mkdir()
        for name in model.photos:
            Image.new("RGB", (640 // n, 480 // n)).save(folder / name)
    assert {photo.path.parent.name for photo in colmap.read(tmp_path).photos} == {"images_2"}
    dataset = open_dataset(DatasetOptions(tmp_path, near_far=(1, 2), cache=tmp_path / "cache"))
    camera = dataset.train.cameras[0]
    assert (dataset.kind, camera.width, camera.height) == ("colmap", 320, 240)
    assert (camera.fl_x, camera.fl_y, camera.cx, camera.cy) == (250.125, 249.5, 160.25 - 0.5, 119.5625 - 0.5)


def test_a_model_without_points_has_none(tmp_path):
    prepared(tmp_path, model=colmap_model(n_points=0))
    assert colmap.read(tmp_path).points is None
    (tmp_path / "sparse/0/points3D.bin").unlink()
    assert colmap.read(tmp_path).points is None


@ENDINGS
def test_of_very_many_points_an_even_share_is_kept(tmp_path, ending, monkeypatch):
    monkeypatch.setattr(colmap_binary, "MAX_POINTS", 100)
    monkeypatch.setattr(colmap_text, "MAX_POINTS", 100)
    model = prepared(tmp_path, ending, colmap_model(n_points=1000))
    points = colmap.read(tmp_path).points
    assert 50 <= len(points) <= 100
    index = [int(np.flatnonzero((model.points == point).all(axis=1))[0]) for point in points]
    assert index[0] == 0
    assert len(set(np.diff(index))) == 1
    assert index[-1] > 950


def test_several_models_are_mentioned(tmp_path):
    prepared(tmp_path)
    (tmp_path / "sparse" / "1").mkdir()
    assert "2 models; 0 is read" in colmap.read(tmp_path).notices[0]


def test_brighton_agrees_with_its_transforms_up_to_one_similarity(shared_dir):
    root = shared_dir / "data" / "brighton_beach"
    frames = [
        frame
        for split in ("train", "test")
        for frame in json.loads((root / f"transforms_{split}.json").read_text())["frames"]
    ]
    source = colmap.read(root)
    poses = {photo.path.name: photo.camera.matrix for photo in source.photos}
    ours = np.array([poses[frame["file_path"].rsplit("/", 1)[-1]] for frame in frames])
    theirs = np.array([frame["transform_matrix"] for frame in frames])
    # the frames are turned with respect to the model: one rotation explains all of them
    u, _, vt = np.linalg.svd(np.einsum("nij,nkj->ik", theirs[:, :3, :3], ours[:, :3, :3]))
    turn = u @ vt
    assert np.linalg.det(turn) == pytest.approx(1)
    assert np.abs(turn @ ours[:, :3, :3] - theirs[:, :3, :3]).max() < 1e-4
    a, b = ours[:, :3, 3] @ turn.T, theirs[:, :3, 3]
    a0, b0 = a - a.mean(0), b - b.mean(0)
    scale = (a0 * b0).sum() / (a0 * a0).sum()
    assert np.abs(scale * a0 - b0).max() < 1e-4 * np.abs(b0).max()
    camera = source.photos[0].camera
    assert (camera.fl_x, camera.cx, camera.cy) == (551.0154756818654, 400.0, 225.0)
    assert source.points.shape[1] == 3
    assert len(source.points) > 1000


def patched(name, at, value):
    """Overwrites bytes of a file."""

    def change(folder):
        path = folder / name
        data = bytearray(path.read_bytes())
        data[at : at + len(value)] = value
        path.write_bytes(bytes(data))

    return change


def cut(name, n_bytes):
    def change(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:n_bytes])

    return change


def appended(name):
    def change(folder):
        with (folder / name).open("ab") as file:
            file.write(b"rest")

    return change


NAN = struct.pack("<d", float("nan"))
HUGE = struct.pack("<Q", 1 << 60)
# In images.bin the first record starts at byte 8: id 4, quaternion 32, translation 24, camera 4, name.
BROKEN_BINARIES = {
    "an empty file": (cut("cameras.bin", 0), "cameras.bin", "must have 8 bytes, but the file ends at byte 0"),
    "a cut camera": (cut("cameras.bin", 60), "cameras.bin", "the parameters of OPENCV at byte 32"),
    "a cut image": (cut("images.bin", 100), "images.bin", "must take 73 bytes each at least"),
    "cut observations": (cut("images.bin", -10), "images.bin", "observations of photo_2.jpg at byte"),
    "a cut point": (cut("points3D.bin", -20), "points3D.bin", "a track at byte|a point at byte|must take 51"),
    "too many cameras": (
        patched("cameras.bin", 0, HUGE),
        "cameras.bin",
        "as byte 0 states, must take 24 bytes",
    ),
    "too many images": (patched("images.bin", 0, HUGE), "images.bin", "1152921504606846976 images"),
    "too many points": (patched("points3D.bin", 0, HUGE), "points3D.bin", "must take 51 bytes each"),
    "too few images": (
        patched("images.bin", 0, struct.pack("<Q", 2)),
        "images.bin",
        "must end after the 2 images",
    ),
    "a rest": (appended("points3D.bin"), "points3D.bin", "must end after the 7 points"),
    "an unknown camera model": (
        patched("cameras.bin", 12, struct.pack("<i", 99)),
        "cameras.bin",
        "got 'number 99'",
    ),
    "a refused camera model": (patched("cameras.bin", 12, struct.pack("<i", 7)), "cameras.bin", "got 'FOV'"),
    "an unknown camera": (patched("images.bin", 68, b"\7\0\0\0"), "images.bin", "has no number 7"),
    "NaN in a pose": (patched("images.bin", 12, NAN), "images.bin", "quaternion of length 1, got .nan"),
    "NaN in a position": (patched("images.bin", 44, NAN), "images.bin", "the position must be finite"),
    "NaN in a focal length": (
        patched("cameras.bin", 32, NAN),
        "cameras.bin",
        "the parameter fx must be finite",
    ),
    "a quaternion of zeros": (patched("images.bin", 12, b"\0" * 32), "images.bin", "quaternion of length 1"),
    "no width": (patched("cameras.bin", 16, b"\0" * 8), "cameras.bin", "1 to 16384 pixels, got 0 x 480"),
    "a negative focal length": (
        patched("cameras.bin", 32, struct.pack("<d", -5.0)),
        "cameras.bin",
        "the focal length must be positive, got -5",
    ),
    "a name of bytes": (patched("images.bin", 72, b"\xff\xfe"), "images.bin", "the name must be UTF-8"),
    "a missing photograph": (patched("images.bin", 72, b"q"), "images.bin", "qhoto_0.jpg must lie in"),
    "a name that rings": (
        patched("images.bin", 72, b"\7"),
        "images.bin",
        r"no control characters, got '\\x07hoto",
    ),
    "an absolute name": (patched("images.bin", 72, b"/"), "images.bin", "must be a path below"),
    "a name that climbs": (patched("images.bin", 72, b"../"), "images.bin", "must be a path below"),
    "NaN in a point": (patched("points3D.bin", 16, NAN), "points3D.bin", "finite coordinates, got nan"),
}


@pytest.mark.parametrize("case", list(BROKEN_BINARIES))
def test_a_broken_binary_is_one_sentence_with_the_file(tmp_path, case):
    change, name, expected = BROKEN_BINARIES[case]
    prepared(tmp_path)
    change(tmp_path / "sparse/0")
    with pytest.raises(InputError, match=expected) as caught:
        colmap.read(tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


BROKEN_TEXTS = {
    "a short camera": ("cameras.txt", "640 480 500.25", "640", "cameras.txt: line 2: .*640"),
    "a camera without numbers": (
        "cameras.txt",
        "640",
        "wide",
        "line 2: numbers must stand here, got '4 wide 480'",
    ),
    "a refused model": ("cameras.txt", "OPENCV", "THIN_PRISM_FISHEYE", "got 'THIN_PRISM_FISHEYE'"),
    "too few parameters": ("cameras.txt", " -0.002", "", "must have the 8 parameters .*, got 7"),
    "too many parameters": ("cameras.txt", " -0.002", " 1 2", "must have the 8 parameters .*, got 9"),
    "infinite parameter": ("cameras.txt", "320.5", "inf", "the parameter cx must be finite, got inf"),
    "a short image": ("images.txt", " 4 photo_0.jpg", "", "images.txt: line 2: an image must be IMAGE_ID"),
    "a missing line": ("images.txt", "\n1.5 2.5 -1\n", "\n", "images.txt: line 6: an image must be"),
    "an unknown camera": ("images.txt", " 4 photo_1", " 5 photo_1", "line 4: .* which has no number 5"),
    "a name twice": ("images.txt", "photo_1", "photo_0", "image names must differ, got photo_0.jpg twice"),
    "a missing photograph": ("images.txt", "photo_2", "photo_9", "photo_9.jpg must lie in .*images"),
    "a point of words": ("points3D.txt", "\n2 ", "\n2 x ", "points3D.txt: line 3: numbers must stand here"),
    "a point too short": ("points3D.txt", "\n2 ", "\n2 1\n", "points3D.txt: line 3: a point must be"),
    "an endless number": ("cameras.txt", "640", "6" * 5000, "numbers must stand here"),
}


@pytest.mark.parametrize("case", list(BROKEN_TEXTS))
def test_a_broken_text_is_one_sentence_with_file_and_line(tmp_path, case):
    name, old, new, expected = BROKEN_TEXTS[case]
    prepared(tmp_path, ".txt")
    path = tmp_path / "sparse/0" / name
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))
    with pytest.raises(InputError, match=expected) as caught:
        colmap.read(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_that_is_none_is_refused(tmp_path):
    prepared(tmp_path, ".txt")
    (tmp_path / "sparse/0/cameras.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="line 1 must be UTF-8"):
        colmap.read(tmp_path)


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(colmap_text, "LONGEST_LINE", 1000)
    prepared(tmp_path, ".txt")
    (tmp_path / "sparse/0/images.txt").write_bytes(b"x" * 2000)
    with pytest.raises(InputError, match="line 1 must have at most 1000 bytes"):
        colmap.read(tmp_path)


@ENDINGS
def test_a_division_that_opencv_divides_by_is_refused(tmp_path, ending):
    model = colmap_model("FULL_OPENCV")
    name, width, height, parameters = model.cameras[4]
    model.cameras[4] = (name, width, height, (*parameters[:-1], 0.5))
    prepared(tmp_path, ending, model)
    with pytest.raises(InputError, match=r"k4, k5 and k6 of FULL_OPENCV must be zero, got \[0.0, 0.0, 0.5\]"):
        colmap.read(tmp_path)


def test_missing_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"must hold COLMAP's cameras.bin and images.bin"):
        colmap.read(tmp_path)
    write_colmap(tmp_path / "sparse/0", colmap_model(), ".bin")
    with pytest.raises(InputError, match="must hold the photographs in a folder images"):
        colmap.read(tmp_path)


def test_a_model_without_images_is_refused(tmp_path):
    prepared(tmp_path, model=colmap_model(n=0))
    with pytest.raises(InputError, match=r"images.bin must hold at least one registered image"):
        colmap.read(tmp_path)


def test_an_absurd_count_allocates_nothing(tmp_path):
    prepared(tmp_path)
    patched("points3D.bin", 0, HUGE)(tmp_path / "sparse/0")
    tracemalloc.start()
    with pytest.raises(InputError):
        colmap.read(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 << 20
