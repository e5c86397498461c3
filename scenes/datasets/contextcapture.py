"""ContextCapture's block exchange XML, and its AT export with the intrinsics in every photograph.

Facts: Bentley's user guide ("BlocksExchange XML format", "ATExport XML format", "Perspective camera model"):
pixel positions count from the centre of the upper left pixel; a rotation turns world axes into camera axes;
P1 and P2 are exchanged with respect to OpenCV.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ...core.errors import InputError
from .contextcapture_xml import number, parse_blocks
from .dataset import Lens, PhotoFile, Source
from .photo_folder import check_name, find_photo_folder, is_file
from .source_camera import OPENGL_FROM_OPENCV, source_camera

ROOTS = (b"<BlocksExchange", b"<ATExport")
PEEK = 4096  # bytes in which the root element must begin
NARROWEST = 0.1  # of the width; a shorter focal length is millimetres taken for pixels
DIRECTIONS = {"Right": (1.0, 0.0), "Left": (-1.0, 0.0), "Down": (0.0, 1.0), "Up": (0.0, -1.0)}
DEGREES = frozenset({4326, 4979, 4258, 4937, 4269, 4267, 4490, 4480, 4283, 4617})  # geographic systems in use
GEOCENTRIC = frozenset({4978, 4936, 4479})


@dataclass(frozen=True)
class _System:
    """A spatial reference system."""

    definition: str  # empty: a local Cartesian one
    epsg: int | None = None


@dataclass(frozen=True)
class _Pose:
    """The elements with the numbers of a pose."""

    rotation: Element
    center: Element


def looks_like(path: Path) -> bool:
    """Whether a path is a block exchange XML, or a folder with one."""
    return bool(_exchange_files(path))


def read(root: Path) -> Source:
    """Reads the photographs of a block exchange XML; `root` is the file or the folder that holds it.

    Coordinates stay what they are, in float64; photographs without a pose are left out.

    Raises:
        InputError: A file is missing, is no such XML or says what cannot be.
    """
    files = _exchange_files(root)
    if len(files) != 1:
        listed = ", ".join(file.name for file in files) or "none"
        raise InputError(
            f"{root} must hold one ContextCapture XML (BlocksExchange), got {listed}; name the file"
        )
    path = files[0]
    tree, points = parse_blocks(path)
    system = _system(path, tree)
    folder = _folder(path.parent)
    groups = {photo: group for group in tree.iter("Photogroup") for photo in group.iter("Photo")}
    elements = list(tree.iter("Photo"))
    photos = [
        _photo(path, photo, pose, groups.get(photo, photo), folder)
        for photo in elements
        if (pose := _pose(photo)) is not None
    ]
    if not photos:
        raise InputError(
            f"{path} must hold at least one Photo with Rotation and Center, got {len(elements)} without"
        )
    _check_distinct(path, photos)
    return Source(
        kind="contextcapture",
        root=path.parent,
        photos=tuple(photos),
        points=points if len(points) else None,
        pixel_center=0.0,
        metres_per_unit=1.0 if system.definition else None,
        epsg=system.epsg,
        z_is_up=bool(system.definition) and system.epsg not in GEOCENTRIC,
        notices=_notices(path, system, len(elements) - len(photos)),
    )


def _exchange_files(path: Path) -> list[Path]:
    """Returns the XML files that begin like block exchanges."""
    files = sorted(path.glob("*.xml")) if path.is_dir() else [path] if path.suffix.lower() == ".xml" else []
    return [file for file in files if any(root in _beginning(file) for root in ROOTS)]


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(PEEK).replace(b"\0", b"")  # UTF-16 too
    except OSError:
        return b""


def _folder(base: Path) -> Path:
    """Returns where the photographs lie: `images`, a reduced copy, or beside the XML."""
    try:
        return find_photo_folder([base])
    except InputError:
        return base


def _pose(photo: Element) -> _Pose | None:
    """Returns where a photograph was taken, if it says so."""
    parent = photo.find("Pose")
    parent = photo if parent is None else parent
    rotation, center = parent.find("Rotation"), parent.find("Center")
    if rotation is None or center is None or not len(rotation) or not len(center):
        return None
    return _Pose(rotation, center)


def _photo(path: Path, photo: Element, pose: _Pose, group: Element, folder: Path) -> PhotoFile:
    """Reads one photograph; what it does not state itself stands in its group."""
    name = (photo.findtext("ImagePath") or "").strip()
    check_name(f"{path}: Photo", name)
    where = f"{path}: Photo {name or _plain(photo.findtext('Id'))}"
    if not name:
        raise InputError(f"{where.strip()} must hold ImagePath, which is missing")
    matrix = np.array([[number(where, pose.rotation, f"M_{i}{j}") for j in range(3)] for i in range(3)])
    position = np.array([number(where, pose.center, axis) for axis in "xyz"])
    canonical = _camera_axes(where, _stated(photo, group, "CameraOrientation")) @ matrix
    size = _size(where, photo, group)
    focal = _focal(where, photo, group, size)
    middle = _middle(where, photo, group, size)
    camera = source_camera(where, canonical.T @ OPENGL_FROM_OPENCV, position, size, focal, middle)
    return PhotoFile(_find_photo(where, folder, name), camera, _lens(where, photo, group))


def _plain(text: str | None) -> str:
    """Returns the text of an element in one line."""
    return " ".join((text or "").split())


def _element(photo: Element, group: Element, tag: str) -> Element | None:
    own = photo.find(tag)
    return group.find(tag) if own is None else own


def _stated(photo: Element, group: Element, tag: str) -> str:
    element = _element(photo, group, tag)
    return "" if element is None or element.text is None else element.text.strip()


def _optional(where: str, photo: Element, group: Element, tag: str, default: float) -> float:
    own = photo if photo.find(tag) is not None else group
    return default if own.find(tag) is None else number(where, own, tag)


def _camera_axes(where: str, orientation: str) -> np.ndarray:
    """Returns the matrix from the stated camera axes to x right, y down, z forward. [3, 3]"""
    match = re.fullmatch(r"X(Right|Left|Down|Up)Y(Right|Left|Down|Up)", orientation or "XRightYDown")
    axes = np.array([[*DIRECTIONS[name], 0.0] for name in match.groups()]) if match else np.zeros((2, 3))
    if axes[0] @ axes[1] or not axes.any():
        raise InputError(f"{where}: CameraOrientation must be one such as XRightYDown, got {orientation!r}")
    return np.column_stack([*axes, np.cross(axes[0], axes[1])])


def _size(where: str, photo: Element, group: Element) -> tuple[int, int]:
    dimensions = _element(photo, group, "ImageDimensions")
    if dimensions is None:
        raise InputError(f"{where}: ImageDimensions must be stated, by the Photo or its Photogroup")
    width, height = (number(where, dimensions, tag) for tag in ("Width", "Height"))
    if width != round(width) or height != round(height):
        raise InputError(f"{where}: Width and Height must be whole numbers, got {width} and {height}")
    return int(width), int(height)


def _focal(where: str, photo: Element, group: Element, size: tuple[int, int]) -> tuple[float, float]:
    """Returns the focal lengths in pixels: f in x, and f times the pixel ratio in y."""
    if (model := _stated(photo, group, "CameraModelType") or "Perspective") != "Perspective":
        raise InputError(
            f"{where}: CameraModelType must be Perspective, got {model!r}; export undistorted photographs"
        )
    if (skew := _optional(where, photo, group, "Skew", 0.0)) != 0:
        raise InputError(f"{where}: Skew must be 0, got {skew:g}; export undistorted photographs")
    own = photo if _states_focal(photo) else group
    if own.find("FocalLengthPixels") is not None:
        focal = number(where, own, "FocalLengthPixels")
    else:
        focal = number(where, own, "FocalLength")
        if own.find("SensorSize") is not None:  # millimetres, of the longer side
            sensor = number(where, own, "SensorSize")
            if sensor <= 0:
                raise InputError(f"{where}: SensorSize must be positive, got {sensor:g}")
            focal *= max(size) / sensor
    if focal < NARROWEST * max(size):
        raise InputError(
            f"{where}: the focal length must be at least {NARROWEST:g} of the longer side, "
            f"got {focal:g} pixels; millimetres need SensorSize"
        )
    return focal, focal * _optional(where, photo, group, "AspectRatio", 1.0)


def _states_focal(photo: Element) -> bool:
    return any(photo.find(tag) is not None for tag in ("FocalLengthPixels", "FocalLength"))


def _middle(where: str, photo: Element, group: Element, size: tuple[int, int]) -> tuple[float, float]:
    point = _element(photo, group, "PrincipalPoint")
    if point is None:
        return (size[0] - 1) / 2, (size[1] - 1) / 2
    return number(where, point, "x"), number(where, point, "y")


def _lens(where: str, photo: Element, group: Element) -> Lens:
    distortion = _element(photo, group, "Distortion")
    if distortion is None:
        return Lens()
    k1, k2, k3, p1, p2 = (
        _optional(where, distortion, distortion, tag, 0.0) for tag in ("K1", "K2", "K3", "P1", "P2")
    )
    return Lens(k1=k1, k2=k2, p1=p2, p2=p1, k3=k3)


def _find_photo(where: str, folder: Path, name: str) -> Path:
    """Returns the file below `folder` that agrees longest with the end of a path from another machine."""
    parts = [part for part in re.split(r"[\\/]+", name) if part not in ("", ".", "..")]
    for start in range(len(parts)):
        path = folder.joinpath(*parts[start:])
        if is_file(path) and ":" not in parts[start]:
            return path
    raise InputError(f"{where}: the photograph {parts[-1] if parts else name} must lie in {folder}")


def _check_distinct(path: Path, photos: Sequence[PhotoFile]) -> None:
    seen = set()
    for photo in photos:
        if photo.path in seen:
            raise InputError(
                f"{path}: two Photos must not mean one file, got {photo.path} twice; "
                "keep the folders of the ImagePaths"
            )
        seen.add(photo.path)


def _system(path: Path, tree: Element) -> _System:
    """Returns the system that every block with photographs uses."""
    used = {
        _plain(block.findtext("SRSId")) for block in tree.iter("Block") if block.find(".//Photo") is not None
    }
    if len(used) > 1:
        raise InputError(f"{path}: all blocks must use one SRSId, got {', '.join(map(repr, sorted(used)))}")
    if not used or not (wanted := used.pop()):
        return _System("")
    for entry in tree.iter("SRS"):
        if _plain(entry.findtext("Id")) == wanted:
            return _checked_system(path, _plain(entry.findtext("Definition")))
    raise InputError(
        f"{path}: SRSId {wanted!r} must be among the SpatialReferenceSystems, which do not hold it"
    )


def _checked_system(path: Path, definition: str) -> _System:
    match = re.match(r"\s*EPSG:\s*(\d{4,6})(?!\d)", definition, re.IGNORECASE)
    epsg = int(match[1]) if match else None
    if epsg in DEGREES or definition.upper() == "WGS84":
        raise InputError(
            f"{path}: the SRS of the block must be in metres, got {definition} in degrees; "
            "export in a projected or local system"
        )
    return _System(definition, epsg)


def _notices(path: Path, system: _System, n_left_out: int) -> tuple[str, ...]:
    notices = []
    if system.definition:
        notices.append(f"Coordinates are in {system.definition[:200]}, taken as metres.")
    if n_left_out:
        notices.append(f"{n_left_out} photographs of {path.name} have no pose and are left out.")
    return tuple(notices)
