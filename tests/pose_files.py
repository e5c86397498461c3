"""Known cameras, and writers of COLMAP's, LLFF's and ContextCapture's files of poses."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

COLMAP_MODELS = {  # name: number, parameters
    "SIMPLE_PINHOLE": (0, (500.25, 320.5, 239.125)),
    "PINHOLE": (1, (500.25, 499.0, 320.5, 239.125)),
    "SIMPLE_RADIAL": (2, (500.25, 320.5, 239.125, 0.01)),
    "RADIAL": (3, (500.25, 320.5, 239.125, 0.01, -0.02)),
    "OPENCV": (4, (500.25, 499.0, 320.5, 239.125, 0.01, -0.02, 1e-3, -2e-3)),
    "OPENCV_FISHEYE": (5, (500.25, 499.0, 320.5, 239.125, 0.01, -0.02, 0.003, -0.004)),
    "FULL_OPENCV": (6, (500.25, 499.0, 320.5, 239.125, 0.01, -0.02, 1e-3, -2e-3, 0.003, 0.0, 0.0, 0.0)),
    "SIMPLE_RADIAL_FISHEYE": (8, (500.25, 320.5, 239.125, 0.01)),
    "RADIAL_FISHEYE": (9, (500.25, 320.5, 239.125, 0.01, -0.02)),
}
OPENCV = np.diag([1.0, -1.0, -1.0])  # between OpenGL's camera axes and OpenCV's
PHOTOGROUP: dict[str, object] = {
    "ImageDimensions": {"Width": "640", "Height": "480"},
    "CameraModelType": "Perspective",
    "FocalLengthPixels": "500.25",
    "CameraOrientation": "XRightYDown",
    "PrincipalPoint": {"x": "320.5", "y": "239.125"},
    "Distortion": {"K1": "0.01", "K2": "-0.02", "K3": "0.003", "P1": "0.001", "P2": "-0.002"},
    "AspectRatio": "1",
    "Skew": "0",
}


@dataclass(frozen=True)
class Model:
    """What a COLMAP model says, with c2w in OpenGL axes."""

    cameras: dict[int, tuple[str, int, int, tuple[float, ...]]]  # model, width, height, parameters
    photos: dict[str, tuple[int, np.ndarray]]  # name: camera, c2w [4, 4]
    points: np.ndarray  # [n, 3]


def random_poses(n: int, seed: int = 0, spread: float = 10.0) -> list[np.ndarray]:
    """Returns camera-to-world matrices in OpenGL axes. n times [4, 4]"""
    generator = np.random.default_rng(seed)
    poses = []
    for rotation in Rotation.random(n, random_state=seed).as_matrix():
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = generator.uniform(-spread, spread, 3)
        poses.append(pose)
    return poses


def colmap_model(model: str = "OPENCV", n: int = 3, n_points: int = 7, seed: int = 0) -> Model:
    """Returns a model of photographs that share one camera."""
    return Model(
        {4: (model, 640, 480, COLMAP_MODELS[model][1])},
        {f"photo_{i}.jpg": (4, pose) for i, pose in enumerate(random_poses(n, seed))},
        np.random.default_rng(seed).normal(size=(n_points, 3)),
    )


def touch_photos(folder: Path, names: Sequence[str]) -> None:
    """Makes empty files: readers of poses never look inside."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def quaternion_and_translation(c2w: np.ndarray) -> tuple[list[float], list[float]]:
    """Returns COLMAP's world-to-camera (w, x, y, z) and translation."""
    w2c = (c2w[:3, :3] @ OPENCV).T
    x, y, z, w = Rotation.from_matrix(w2c).as_quat()
    return [float(w), float(x), float(y), float(z)], [float(v) for v in -w2c @ c2w[:3, 3]]


def write_colmap(folder: Path, model: Model, ending: str) -> None:
    """Writes cameras, images and points3D; `ending` is .bin or .txt."""
    folder.mkdir(parents=True, exist_ok=True)
    files = _colmap_binary(model) if ending == ".bin" else _colmap_text(model)
    for stem, content in files.items():
        (folder / (stem + ending)).write_bytes(content)


def _colmap_binary(model: Model) -> dict[str, bytes]:
    cameras = struct.pack("<Q", len(model.cameras))
    for number, (name, width, height, parameters) in model.cameras.items():
        cameras += struct.pack("<IiQQ", number, COLMAP_MODELS[name][0], width, height)
        cameras += struct.pack(f"<{len(parameters)}d", *parameters)
    images = struct.pack("<Q", len(model.photos))
    for number, (name, (camera, c2w)) in enumerate(model.photos.items()):
        quaternion, translation = quaternion_and_translation(c2w)
        images += struct.pack("<I7dI", number + 1, *quaternion, *translation, camera)
        images += name.encode() + b"\0" + struct.pack("<Q", number)
        images += struct.pack("<ddq", 1.5, 2.5, -1) * number
    points = struct.pack("<Q", len(model.points))
    for number, point in enumerate(model.points):
        points += struct.pack("<Q3d3BdQ", number + 1, *point, 10, 20, 30, 0.5, number % 3)
        points += struct.pack("<II", 1, 0) * (number % 3)
    return {"cameras": cameras, "images": images, "points3D": points}


def _colmap_text(model: Model) -> dict[str, bytes]:
    cameras = "# Camera list\n"
    for number, (name, width, height, parameters) in model.cameras.items():
        cameras += f"{number} {name} {width} {height} {' '.join(map(repr, parameters))}\n"
    images = "# Image list with two lines of data per image\n"
    for number, (name, (camera, c2w)) in enumerate(model.photos.items()):
        quaternion, translation = quaternion_and_translation(c2w)
        pose = " ".join(map(repr, quaternion + translation))
        images += f"{number + 1} {pose} {camera} {name}\n{' '.join(['1.5 2.5 -1'] * number)}\n"
    points = "# 3D point list\n"
    for number, point in enumerate(model.points.tolist()):
        points += f"{number + 1} {' '.join(map(repr, point))} 10 20 30 0.5{' 1 0' * (number % 3)}\n"
    return {"cameras": cameras.encode(), "images": images.encode(), "points3D": points.encode()}


def llff_rows(
    poses: Sequence[np.ndarray], size: tuple[int, int], focal: float, bounds: Sequence[tuple[float, float]]
) -> np.ndarray:
    """Returns the content of poses_bounds.npy. float64 [n, 17]"""
    rows = []
    for c2w, near_far in zip(poses, bounds, strict=True):
        right, up, back, position = c2w[:3].T
        matrix = np.column_stack([-up, right, back, position, [size[1], size[0], focal]])
        rows.append(np.concatenate([matrix.ravel(), near_far]))
    return np.array(rows)


def npy_bytes(array: np.ndarray) -> bytes:
    """Returns what numpy.save writes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def exchange_xml(
    poses: dict[str, np.ndarray],
    orientation: np.ndarray | None = None,
    definition: str = "EPSG:32650",
    group: dict[str, object] | None = None,
) -> ElementTree.Element:
    """Returns a BlocksExchange document.

    Args:
        poses: c2w in OpenGL axes of each ImagePath.
        orientation: From OpenCV's camera axes to those that the rotations are stated in. [3, 3]
        definition: Of the spatial reference system; empty: none.
        group: Elements of the photogroup.
    """
    root = ElementTree.Element("BlocksExchange", version="3.2")
    block: dict[str, object] = {}
    if definition:
        system = {"Id": "7", "Name": "a system", "Definition": definition}
        _append(root, {"SpatialReferenceSystems": {"SRS": system}})
        block["SRSId"] = "7"
    block["Photogroups"] = {"Photogroup": PHOTOGROUP if group is None else group}
    _append(root, {"Block": block})
    photogroup = root.find(".//Photogroup")
    assert photogroup is not None
    for name, c2w in poses.items():
        w2c = (c2w[:3, :3] @ OPENCV).T
        matrix = w2c if orientation is None else orientation @ w2c
        rotation = {f"M_{i}{j}": repr(float(matrix[i, j])) for i in range(3) for j in range(3)}
        center = {axis: repr(float(value)) for axis, value in zip("xyz", c2w[:3, 3], strict=True)}
        _append(photogroup, {"Photo": {"ImagePath": name, "Pose": {"Rotation": rotation, "Center": center}}})
    return root


def _append(parent: ElementTree.Element, content: dict[str, object]) -> None:
    for tag, value in content.items():
        element = ElementTree.SubElement(parent, tag)
        if isinstance(value, dict):
            _append(element, value)
        else:
            element.text = str(value)
