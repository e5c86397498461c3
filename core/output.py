"""Writes a rendered picture to a file, whole or not at all, with all that is needed to make it again."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .appearance import Appearance
from .edits.layers import Layer, Stack, kind_of
from .errors import InputError
from .render import Frame
from .version import program_version
from .whole_file import check_writable, write_whole

METADATA_KEY = "landmark-viewer"  # of the PNG text chunk and the EXR attribute; "meta" in an npz file
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Provenance:
    """Where a picture comes from, beside its camera and quality."""

    files: tuple[Path, ...] = ()  # the checkpoint's
    appearance: Appearance = field(default_factory=Appearance)
    edits: Stack = ()
    background: tuple[float, float, float] | None = None  # sRGB in [0, 1]
    metres_per_unit: float | None = None  # None: lengths are in scene units
    compared: Compared | None = None  # another picture in the same one


@dataclass(frozen=True)
class Compared:
    """A second picture of the same view that is shown in one picture with the first."""

    mode: str  # "wipe", "difference", ...
    name: str  # of the second picture, for people
    provenance: Provenance


def metadata(frame: Frame, provenance: Provenance) -> dict[str, Any]:
    """Returns what every written file carries, ready for JSON."""
    return {
        "program": f"landmark-viewer {program_version()}",
        "camera": frame.camera.to_json(),
        **_source_record(provenance),
        "quality": frame.quality.value,
        **({"cluster_weight": frame.cluster_weight} if frame.cluster_weight is not None else {}),
        **({"bfloat16": True} if frame.bfloat16 else {}),
        "metres_per_unit": provenance.metres_per_unit,
        **({"compared": _compared_record(provenance.compared)} if provenance.compared else {}),
    }


def _source_record(provenance: Provenance) -> dict[str, Any]:
    """Returns what is shown, and how."""
    return {
        "checkpoint": [_file_record(file) for file in provenance.files],
        "appearance": asdict(provenance.appearance),
        "edits": _edits_record(provenance.edits),
        "background": provenance.background,
    }


def _compared_record(compared: Compared) -> dict[str, Any]:
    return {"mode": compared.mode, "with": compared.name, **_source_record(compared.provenance)}


def _edits_record(layers: Stack) -> dict[str, Any]:
    """Returns which layers are shown, and a digest of all that they say."""
    shown = [replace(layer, uid=0) for layer in layers if layer.enabled]
    mappings = [{"kind": kind_of(layer), **asdict(layer)} for layer in shown]
    said = json.dumps(mappings, default=lambda path: path.name)  # wherever the files lie
    return {
        "layers": [
            {"kind": kind_of(layer), "name": layer.name, "files": _files_of(layer)} for layer in shown
        ],
        "sha256": hashlib.sha256(said.encode()).hexdigest(),
    }


def _files_of(layer: Layer) -> list[dict[str, str]]:
    named = [value for value in vars(layer).values() if isinstance(value, Path) and value.is_file()]
    return [_file_record(file) for file in named]


def _file_record(file: Path) -> dict[str, str]:
    return {"file": file.name, "sha256": _sha256(file)}


def check_output(path: Path) -> None:
    """Finds out before a long render whether its picture can be written.

    Raises:
        InputError: The ending is unknown, or the folder is missing or not writable.
    """
    if path.suffix.lower() not in WRITERS:
        got = repr(path.suffix) if path.suffix else "no ending"
        raise InputError(f"{path} must end in {', '.join(WRITERS)}, got {got}")
    if os.path.isdir(path):
        raise InputError(f"{path} must be a file name, got a folder")
    if not os.path.isdir(path.parent):
        raise InputError(f"{path} must lie in an existing folder, got {path.parent}; create it first")
    check_writable(path)


def write_frame(path: Path, frame: Frame, provenance: Provenance | None = None) -> None:
    """Writes a picture as .png, .jpg, .npz or .exr; an existing file is replaced only by a complete one.

    Raises:
        InputError: The file cannot be written.
    """
    check_output(path)
    meta = json.dumps(metadata(frame, provenance or Provenance()))
    scale = (provenance and provenance.metres_per_unit) or 1.0
    writer = WRITERS[path.suffix.lower()]
    write_whole({path: lambda file: writer(file, frame, meta, scale)})


def to_bytes(rgb: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rounds colours in [0, 1] to 8 bits; what is not a number becomes 0."""
    return np.rint(np.nan_to_num(np.clip(rgb, 0, 1)) * 255).astype(np.uint8)


def _write_png(file: BinaryIO, frame: Frame, meta: str, _scale: float) -> None:
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text(METADATA_KEY, meta)
    file.write(_encoded(frame, format="png", pnginfo=text))


def _write_jpeg(file: BinaryIO, frame: Frame, meta: str, _scale: float) -> None:
    file.write(_encoded(frame, format="jpeg", quality=JPEG_QUALITY, subsampling=0, comment=meta.encode()))


def _encoded(frame: Frame, **options: Any) -> bytes:
    """Encodes in memory: Pillow itself would not notice a disk that fills up in the middle."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(to_bytes(frame.rgb)).save(buffer, **options)
    return buffer.getvalue()


def _write_npz(file: BinaryIO, frame: Frame, meta: str, _scale: float) -> None:
    arrays: dict[str, Any] = {
        "rgb": frame.rgb,
        "depth": frame.depth,
        "opacity": frame.opacity,
        "median_depth": frame.median_depth,
        "normals": frame.normals,
    }
    np.savez(file, meta=np.array(meta), **{k: v for k, v in arrays.items() if v is not None})


def _write_exr(file: BinaryIO, frame: Frame, meta: str, scale: float) -> None:
    """Writes float channels: the picture as shown (R, G, B), opacity (A), z-depth in metres (Z), normals."""
    import OpenEXR

    planes = {
        "R": frame.rgb[..., 0],
        "G": frame.rgb[..., 1],
        "B": frame.rgb[..., 2],
        "A": frame.opacity,
        "Z": frame.depth * np.float32(scale),
        "median.Z": frame.median_depth * np.float32(scale),
    }
    if frame.normals is not None:
        planes |= {f"N.{axis}": frame.normals[..., i] for i, axis in enumerate("XYZ")}
    header = {
        "compression": OpenEXR.ZIP_COMPRESSION,
        "type": OpenEXR.scanlineimage,
        "colorSpace": "sRGB",  # display-referred: the values are those of the PNG, unrounded
        METADATA_KEY: meta,
    }
    channels = {name: np.ascontiguousarray(plane, dtype=np.float32) for name, plane in planes.items()}
    try:
        with OpenEXR.File(header, channels) as picture:
            picture.write(file.name)
    except RuntimeError as error:  # such as a full disk
        raise OSError(str(error).splitlines()[0]) from error


WRITERS: dict[str, Callable[[BinaryIO, Frame, str, float], None]] = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
    ".npz": _write_npz,
    ".exr": _write_exr,
}


@lru_cache(maxsize=8)
def _sha256_of(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    """Returns the digest of a file's content; a file that has not changed is read once."""
    stat = path.stat()
    return _sha256_of(path, stat.st_size, stat.st_mtime_ns)
