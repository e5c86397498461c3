"""ContextCapture's XML: what is written comes back, what is broken is named."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from landmark_viewer.core.errors import InputError
from landmark_viewer.scenes.datasets import contextcapture, contextcapture_xml
from landmark_viewer.scenes.datasets.dataset import Lens

from .pose_files import OPENCV, PHOTOGROUP, exchange_xml, random_poses, touch_photos

FOLDER = "D:\\flights\\Images\\"
UTM = np.array([448_595.123456789, 4_856_971.987654321, 213.890123456789])


def known_poses(n=3, origin=UTM):
    """Cameras in projected coordinates, by the path that another machine had."""
    poses = random_poses(n)
    for pose in poses:
        pose[:3, 3] += origin
    return {f"{FOLDER}DJI_{i:04}.JPG": pose for i, pose in enumerate(poses)}


def prepared(root, document=None, **changes):
    """Writes block.xml and the photographs; changes are to elements of the photogroup, None removes one."""
    group = {key: value for key, value in {**PHOTOGROUP, **changes}.items() if value is not None}
    document = exchange_xml(known_poses(), group=group) if document is None else document
    touch_photos(root / "images", [f"DJI_{i:04}.JPG" for i in range(3)])
    path = root / "block.xml"
    path.write_bytes(ElementTree.tostring(document, encoding="utf-8", xml_declaration=True))
    return path


def test_a_known_camera_set_comes_back(tmp_path):
    prepared(tmp_path)
    assert contextcapture.looks_like(tmp_path)
    source = contextcapture.read(tmp_path)
    assert (source.kind, source.epsg, source.z_is_up) == ("contextcapture", 32650, True)
    assert (source.pixel_center, source.metres_per_unit, source.points) == (0.0, 1.0, None)
    for photo, (name, c2w) in zip(source.photos, known_poses().items(), strict=True):
        assert photo.path == tmp_path / "images" / name.rsplit("\\", 1)[-1]
        np.testing.assert_array_equal(photo.camera.eye, c2w[:3, 3])  # kept to the last bit
        np.testing.assert_allclose(photo.camera.matrix, c2w, rtol=0, atol=1e-12)
        camera = photo.camera
        assert (camera.width, camera.height, camera.fl_x, camera.fl_y) == (640, 480, 500.25, 500.25)
        assert (camera.cx, camera.cy) == (320.5, 239.125)
        assert photo.lens == Lens(k1=0.01, k2=-0.02, k3=0.003, p1=-0.002, p2=0.001)  # P1 and P2 exchanged


def test_the_file_itself_may_be_named(tmp_path):
    path = prepared(tmp_path)
    assert contextcapture.looks_like(path)
    assert contextcapture.read(path).root == tmp_path


def test_other_folders_and_files_do_not_look_like_it(tmp_path):
    (tmp_path / "other.xml").write_text("<project/>")
    assert not contextcapture.looks_like(tmp_path)
    assert not contextcapture.looks_like(tmp_path / "other.xml")
    assert not contextcapture.looks_like(tmp_path / "missing")


# Where the stated x and y axes point in the picture; z completes them.
ORIENTATIONS = {
    "XRightYDown": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "XRightYUp": [[1, 0, 0], [0, -1, 0], [0, 0, -1]],
    "XLeftYDown": [[-1, 0, 0], [0, 1, 0], [0, 0, -1]],
    "XLeftYUp": [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
    "XDownYRight": [[0, 1, 0], [1, 0, 0], [0, 0, -1]],
    "XDownYLeft": [[0, 1, 0], [-1, 0, 0], [0, 0, 1]],
    "XUpYLeft": [[0, -1, 0], [-1, 0, 0], [0, 0, -1]],
    "XUpYRight": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
}


@pytest.mark.parametrize("name", list(ORIENTATIONS))
def test_every_camera_orientation_gives_the_same_camera(tmp_path, name):
    group = {**PHOTOGROUP, "CameraOrientation": name}
    prepared(tmp_path, exchange_xml(known_poses(), np.array(ORIENTATIONS[name]), group=group))
    for photo, c2w in zip(contextcapture.read(tmp_path).photos, known_poses().values(), strict=True):
        np.testing.assert_allclose(photo.camera.matrix, c2w, rtol=0, atol=1e-12)


def test_a_rotation_takes_world_to_camera(tmp_path):
    """A nadir photograph with the picture's top to the north, spelled out by hand."""
    c2w = np.eye(4)
    c2w[:3, 3] = [100, 200, 50]
    document = exchange_xml({"DJI_0000.JPG": c2w})
    rows = [[document.findtext(f".//M_{i}{j}") for j in range(3)] for i in range(3)]
    np.testing.assert_array_equal(np.array(rows, dtype=float), OPENCV)
    prepared(tmp_path, document)
    column, row, depth = contextcapture.read(tmp_path).photos[0].camera.project(np.array([110, 220, 0]))
    assert (column, row, depth) == (320.5 + 100.05, 239.125 - 200.1, 50)


def test_millimetres_with_a_sensor_size_become_pixels(tmp_path):
    prepared(tmp_path, FocalLengthPixels=None, FocalLength="10", SensorSize="12.8", AspectRatio="1.5")
    camera = contextcapture.read(tmp_path).photos[0].camera
    assert (camera.fl_x, camera.fl_y) == pytest.approx((500.0, 750.0), rel=1e-15)


def test_a_focal_length_without_sensor_size_is_in_pixels(tmp_path):
    prepared(tmp_path, FocalLengthPixels=None, FocalLength="700.5")
    assert contextcapture.read(tmp_path).photos[0].camera.fl_x == 700.5


def test_what_is_not_stated_has_its_default(tmp_path):
    optional = ("PrincipalPoint", "Distortion", "CameraOrientation", "CameraModelType", "AspectRatio", "Skew")
    prepared(tmp_path, **dict.fromkeys(optional))
    photo = contextcapture.read(tmp_path).photos[0]
    assert (photo.camera.cx, photo.camera.cy, photo.lens) == (319.5, 239.5, Lens())
    np.testing.assert_allclose(photo.camera.matrix, next(iter(known_poses().values())), rtol=0, atol=1e-12)


def test_an_at_export_states_everything_in_the_photograph(tmp_path):
    block = exchange_xml(known_poses())
    group = block.find(".//Photogroup")
    root = ElementTree.Element("ATExport")
    for photo in group.findall("Photo"):
        pose = photo.find("Pose")
        photo.remove(pose)
        photo.extend([*pose, *(element for element in group if element.tag != "Photo")])
        root.append(photo)
    prepared(tmp_path, root)
    source = contextcapture.read(tmp_path)
    assert (source.epsg, source.z_is_up, source.metres_per_unit) == (None, False, None)
    np.testing.assert_allclose(
        [photo.camera.matrix for photo in source.photos], list(known_poses().values()), rtol=0, atol=1e-12
    )
    assert source.photos[2].camera.fl_x == 500.25


def test_metadata_beside_the_pose_is_not_taken_for_it(tmp_path):
    document = exchange_xml(known_poses())
    photo = document.find(".//Photo")
    metadata = ElementTree.SubElement(photo.find("Pose"), "Metadata")
    ElementTree.SubElement(ElementTree.SubElement(metadata, "Center"), "x").text = "-83"
    exif = ElementTree.SubElement(photo, "ExifData")
    ElementTree.SubElement(ElementTree.SubElement(exif, "ImageDimensions"), "Width").text = "17"
    prepared(tmp_path, document)
    camera = contextcapture.read(tmp_path).photos[0].camera
    assert camera.width == 640
    np.testing.assert_array_equal(camera.eye, next(iter(known_poses().values()))[:3, 3])


def test_photographs_without_a_pose_are_left_out_with_a_notice(tmp_path):
    document = exchange_xml(known_poses())
    photo = document.find(".//Photo")
    photo.remove(photo.find("Pose"))
    prepared(tmp_path, document)
    source = contextcapture.read(tmp_path)
    assert len(source.photos) == 2
    assert any("1 photographs of block.xml have no pose" in notice for notice in source.notices)


def test_tie_points_become_points(tmp_path, monkeypatch):
    document = exchange_xml(known_poses())
    ties = ElementTree.SubElement(document.find("Block"), "TiePoints")
    positions = UTM + np.random.default_rng(0).normal(size=(50, 3))
    for position in positions.tolist():
        tie = ElementTree.SubElement(ties, "TiePoint")
        parent = ElementTree.SubElement(tie, "Position")
        for axis, value in zip("xyz", position, strict=True):
            ElementTree.SubElement(parent, axis).text = repr(value)
        measurement = ElementTree.SubElement(tie, "Measurement")
        ElementTree.SubElement(measurement, "x").text = "12"
    prepared(tmp_path, document)
    np.testing.assert_array_equal(contextcapture.read(tmp_path).points, positions)
    monkeypatch.setattr(contextcapture_xml, "MAX_POINTS", 10)
    assert len(contextcapture.read(tmp_path).points) == 10


def test_paths_from_another_machine_match_by_their_longest_end(tmp_path):
    c2w = list(known_poses().values())
    poses = {f"{FOLDER}left\\DJI_1.JPG": c2w[0], "/srv/Images/right/DJI_1.JPG": c2w[1]}
    prepared(tmp_path, exchange_xml(poses))
    touch_photos(tmp_path / "images", ["left/DJI_1.JPG", "right/DJI_1.JPG"])
    found = [photo.path.relative_to(tmp_path / "images") for photo in contextcapture.read(tmp_path).photos]
    assert [path.parts[0] for path in found] == ["left", "right"]


@pytest.mark.parametrize(
    ("definition", "epsg", "z_is_up"),
    [
        ("EPSG:2154", 2154, True),
        ("EPSG:32617+5773", 32617, True),
        ("ENU:39.97523,-83.00678", None, True),
        ("EPSG:4978", 4978, False),
        ("", None, False),
    ],
)
def test_the_reference_system_is_kept(tmp_path, definition, epsg, z_is_up):
    prepared(tmp_path, exchange_xml(known_poses(), definition=definition))
    source = contextcapture.read(tmp_path)
    assert (source.epsg, source.z_is_up) == (epsg, z_is_up)
    assert any(definition in notice for notice in source.notices) or not definition


@pytest.mark.parametrize("definition", ["EPSG:4326", "EPSG:4326+5773", "WGS84"])
def test_coordinates_in_degrees_are_refused(tmp_path, definition):
    prepared(tmp_path, exchange_xml(known_poses(), definition=definition))
    with pytest.raises(InputError, match=r"must be in metres, got .* in degrees; export in a projected"):
        contextcapture.read(tmp_path)


BROKEN_GROUPS = {
    "no size": ({"ImageDimensions": None}, "ImageDimensions must be stated"),
    "no width": ({"ImageDimensions": {"Height": "480"}}, "ImageDimensions must hold Width, which is missing"),
    "half a pixel": (
        {"ImageDimensions": {"Width": "640.5", "Height": "480"}},
        "must be whole numbers, got 640.5",
    ),
    "no pixels": ({"ImageDimensions": {"Width": "0", "Height": "480"}}, "1 to 16384 pixels, got 0 x 480"),
    "words": (
        {"ImageDimensions": {"Width": "wide", "Height": "480"}},
        "Width .* must be a finite number, got 'wide'",
    ),
    "no focal length": ({"FocalLengthPixels": None}, "Photogroup must hold FocalLength, which is missing"),
    "NaN as focal length": ({"FocalLengthPixels": "nan"}, "FocalLengthPixels .* finite number, got 'nan'"),
    "millimetres as pixels": (
        {"FocalLengthPixels": None, "FocalLength": "35"},
        "at least 0.1 of the longer side, got 35 pixels; millimetres need SensorSize",
    ),
    "no sensor": (
        {"FocalLengthPixels": None, "FocalLength": "9", "SensorSize": "0"},
        "SensorSize must be positive",
    ),
    "a fisheye": ({"CameraModelType": "Fisheye"}, "CameraModelType must be Perspective, got 'Fisheye'"),
    "skew": ({"Skew": "0.5"}, "Skew must be 0, got 0.5"),
    "a negative ratio": ({"AspectRatio": "-1"}, "the focal length must be positive"),
    "an unknown orientation": ({"CameraOrientation": "XUpYDown"}, "CameraOrientation .* got 'XUpYDown'"),
    "half a principal point": (
        {"PrincipalPoint": {"x": "320"}},
        "PrincipalPoint must hold y, which is missing",
    ),
    "a word as distortion": (
        {"Distortion": {"K1": "much"}},
        "K1 in Distortion must be a finite number, got 'much'",
    ),
}


@pytest.mark.parametrize("case", list(BROKEN_GROUPS))
def test_a_broken_photogroup_names_file_photograph_and_element(tmp_path, case):
    changes, expected = BROKEN_GROUPS[case]
    path = prepared(tmp_path, **changes)
    with pytest.raises(InputError, match=expected) as caught:
        contextcapture.read(tmp_path)
    assert str(caught.value).startswith(f"{path}: Photo {FOLDER}DJI_0000.JPG: ")
    assert "\n" not in str(caught.value)


BROKEN_TEXTS = {
    "a cut file": (b"</Photogroup>", b"", "must be a whole, well-formed XML"),
    "a document type": (
        b"<BlocksExchange",
        b'<!DOCTYPE b [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><BlocksExchange',
        "without a document type, got <!DOCTYPE b",
    ),
    "an unknown entity": (b"<Id>7", b"<Id>&bomb;", "well-formed XML, got: undefined entity"),
    "an unknown encoding": (b"encoding='utf-8'", b"encoding='klingon'", "well-formed XML"),
    "no path": (b"ImagePath", b"ImageName", "Photo must hold ImagePath, which is missing"),
    "a missing number": (b"_12>", b"_99>", "Rotation must hold M_12, which is missing"),
    "angles": (b"M_00>", b"Omega>", "Rotation must hold M_00, which is missing"),
    "a scaled rotation": (b"<M_00>", b"<M_00>9", "rotation"),
    "a word as position": (b"<z>", b"<z>up", "z in Center must be a finite number, got 'up"),
    "an endless position": (b"<z>", b"<z>1e999</z><z>", "z in Center must be a finite number"),
    "a missing photograph": (b"DJI_0001.JPG", b"DJI_9.JPG", "the photograph DJI_9.JPG must lie in .*images"),
    "one photograph twice": (
        b"DJI_0001.JPG",
        b"DJI_0000.JPG",
        "must not mean one file, got .*DJI_0000.JPG twice",
    ),
    "a lost system": (b"<SRSId>7", b"<SRSId>8", "SRSId '8' must be among the SpatialReferenceSystems"),
}


@pytest.mark.parametrize("case", list(BROKEN_TEXTS))
def test_a_broken_document_is_one_sentence_with_the_file(tmp_path, case):
    old, new, expected = BROKEN_TEXTS[case]
    path = prepared(tmp_path)
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1 if old.startswith((b"<", b"D", b"e")) else -1))
    with pytest.raises(InputError, match=expected) as caught:
        contextcapture.read(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_block_without_any_pose_is_refused(tmp_path):
    path = prepared(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"Rotation", b"Guess"))
    with pytest.raises(InputError, match="at least one Photo with Rotation and Center, got 3 without"):
        contextcapture.read(tmp_path)


def test_blocks_in_two_systems_are_refused(tmp_path):
    document = exchange_xml(known_poses())
    other = exchange_xml({"DJI_0000.JPG": np.eye(4)}).find("Block")
    other.find("SRSId").text = "9"
    document.append(other)
    prepared(tmp_path, document)
    with pytest.raises(InputError, match="all blocks must use one SRSId, got '7', '9'"):
        contextcapture.read(tmp_path)


def test_no_file_or_several_files_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"must hold one ContextCapture XML .* got none"):
        contextcapture.read(tmp_path)
    path = prepared(tmp_path)
    (tmp_path / "again.xml").write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"got again.xml, block.xml; name the file"):
        contextcapture.read(tmp_path)
