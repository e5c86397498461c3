"""Pictures on disk: what they hold, and that nothing half-written stays behind."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from landmark_viewer.core import output
from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.edits.layers import Hide, Layer, Prism, Remove, ReplaceBlock
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.output import Compared, Provenance, check_output, to_bytes, write_frame
from landmark_viewer.core.render import Frame
from landmark_viewer.cuda.tables import FrameBuffers, Quality

WIDTH, HEIGHT = 7, 5


def make_frame(normals: bool = True) -> Frame:
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(HEIGHT, WIDTH, *shape, generator=generator)

    buffers = FrameBuffers(random(3), random(), random(), random(), random(3) if normals else None)
    camera = Camera.from_fov(look_at([1, 2, 3], [0, 0, 0]), WIDTH, HEIGHT, 45)
    return Frame(camera, buffers, Quality.EXACT, True)


@pytest.fixture
def provenance(tmp_path) -> Provenance:
    checkpoint = tmp_path / "city.th"
    checkpoint.write_bytes(b"planes and lines")
    return Provenance(
        (checkpoint,), appearance=Appearance.of(4), background=(1.0, 1.0, 1.0), metres_per_unit=100.0
    )


def read_exr(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    with OpenEXR.File(str(path), separate_channels=True) as file:
        return dict(file.header()), {name: channel.pixels for name, channel in file.channels().items()}


def test_an_npz_file_returns_the_arrays_unchanged(tmp_path, provenance):
    frame = make_frame()
    write_frame(tmp_path / "out.npz", frame, provenance)
    with np.load(tmp_path / "out.npz") as data:
        assert set(data) == {"rgb", "depth", "opacity", "median_depth", "normals", "meta"}
        for name in ("rgb", "depth", "opacity", "median_depth", "normals"):
            assert data[name].dtype == np.float32
            assert np.array_equal(data[name], getattr(frame, name))
        assert data["rgb"].shape == (HEIGHT, WIDTH, 3)
        assert data["depth"].shape == data["opacity"].shape == (HEIGHT, WIDTH)


def test_normals_are_left_out_where_none_were_computed(tmp_path):
    write_frame(tmp_path / "out.npz", make_frame(normals=False))
    write_frame(tmp_path / "out.exr", make_frame(normals=False))
    assert "normals" not in np.load(tmp_path / "out.npz")
    assert not any(name.startswith("N.") for name in read_exr(tmp_path / "out.exr")[1])


def test_a_png_holds_the_rounded_colours_of_the_npz(tmp_path):
    frame = make_frame()
    write_frame(tmp_path / "out.png", frame)
    write_frame(tmp_path / "out.npz", frame)
    pixels = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(pixels, np.rint(np.load(tmp_path / "out.npz")["rgb"] * 255).astype(np.uint8))


def test_a_jpeg_looks_like_the_png(tmp_path):
    frame = make_frame()
    frame.buffers.rgb[:] = torch.linspace(0, 1, WIDTH)[None, :, None]
    write_frame(tmp_path / "out.JPG", frame)
    pixels = np.asarray(Image.open(tmp_path / "out.JPG")).astype(int)
    assert np.abs(pixels - to_bytes(frame.rgb)).max() <= 4


def test_an_exr_holds_colour_opacity_and_depth_in_metres(tmp_path, provenance):
    frame = make_frame()
    write_frame(tmp_path / "out.exr", frame, provenance)
    header, channels = read_exr(tmp_path / "out.exr")
    assert all(plane.dtype == np.float32 for plane in channels.values())
    assert np.array_equal(np.stack([channels[c] for c in "RGB"], axis=-1), frame.rgb)
    assert np.array_equal(channels["A"], frame.opacity)
    assert np.array_equal(channels["Z"], frame.depth * np.float32(100))
    assert np.array_equal(channels["median.Z"], frame.median_depth * np.float32(100))
    assert np.array_equal(np.stack([channels[f"N.{c}"] for c in "XYZ"], axis=-1), frame.normals)
    assert header["colorSpace"] == "sRGB"


def test_every_format_says_how_it_was_made(tmp_path, provenance):
    frame = make_frame()
    for ending in output.WRITERS:
        write_frame(tmp_path / f"out{ending}", frame, provenance)
    texts = {
        ".png": Image.open(tmp_path / "out.png").text["landmark-viewer"],
        ".jpg": Image.open(tmp_path / "out.jpg").info["comment"],
        ".jpeg": Image.open(tmp_path / "out.jpeg").info["comment"],
        ".npz": str(np.load(tmp_path / "out.npz")["meta"]),
        ".exr": read_exr(tmp_path / "out.exr")[0]["landmark-viewer"],
    }
    assert set(texts) == set(output.WRITERS)
    for text in texts.values():
        meta = json.loads(text)
        assert Camera.from_json(meta["camera"]) == frame.camera
        assert meta["checkpoint"] == [
            {"file": "city.th", "sha256": hashlib.sha256(b"planes and lines").hexdigest()}
        ]
        assert meta["appearance"] == json.loads(json.dumps(asdict(provenance.appearance)))
        assert meta["appearance"]["mix"] == [[4, 1.0]]
        assert meta["edits"]["layers"] == []
        assert meta["quality"] == "exact"
        assert meta["program"].startswith("landmark-viewer ")


def test_the_edits_are_told_apart_by_all_that_they_say_and_not_by_where_files_lie(tmp_path):
    def record(*layers: Layer) -> dict:
        return output.metadata(make_frame(), Provenance(edits=layers))["edits"]

    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sub3_add.th").write_bytes(b"planes")
    tower = Prism(Region.rectangle(0, 0, 1, 1))
    block = ReplaceBlock(4, "Fair", block=3, checkpoint=tmp_path / "a" / "sub3_add.th")
    first = record(Remove(7, "Tower", prism=tower), Hide(1, enabled=False), block)
    digest = hashlib.sha256(b"planes").hexdigest()
    assert first["layers"] == [
        {"kind": "remove", "name": "Tower", "files": []},
        {"kind": "replace-block", "name": "Fair", "files": [{"file": "sub3_add.th", "sha256": digest}]},
    ]
    moved = replace(block, uid=5, checkpoint=tmp_path / "b" / "sub3_add.th")
    assert record(Remove(1, "Tower", prism=tower), moved) == first
    for other in (replace(tower, high=2.0), Prism(Region.rectangle(0, 0, 1, 1.5))):
        assert record(Remove(7, "Tower", prism=other), block)["sha256"] != first["sha256"]
    assert record(block, Remove(7, "Tower", prism=tower))["sha256"] != first["sha256"]


def test_a_checkpoint_that_changes_gets_a_new_digest(tmp_path, provenance):
    first = output.metadata(make_frame(), provenance)["checkpoint"]
    provenance.files[0].write_bytes(b"other planes and lines")
    assert output.metadata(make_frame(), provenance)["checkpoint"] != first


def test_what_is_not_a_number_is_written_as_black():
    assert to_bytes(np.array([np.nan, -1, 2, 0.5], np.float32)).tolist() == [0, 0, 255, 128]


@pytest.mark.parametrize("ending", list(output.WRITERS))
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, ending):
    target = tmp_path / f"out{ending}"
    target.write_text("the old picture")

    def full_disk(file: BinaryIO, *_) -> None:
        file.write(b"half a pic")
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(output.WRITERS, ending, full_disk)
    with pytest.raises(InputError) as error:
        write_frame(target, make_frame())
    assert str(error.value).startswith(f"{target} must be writable, got: No space left on device; nothing ")
    assert target.read_text() == "the old picture"
    assert list(tmp_path.iterdir()) == [target]


def test_a_limit_on_the_size_of_files_is_a_sentence_in_every_format(tmp_path):
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_output import make_frame
from landmark_viewer.core import output
from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.errors import InputError
frame = make_frame()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
for ending in output.WRITERS:
    try:
        output.write_frame(Path({str(tmp_path)!r}, "out" + ending), frame)
    except InputError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == len(output.WRITERS), done.stderr
    assert all("must be writable, got: " in line for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(file: BinaryIO, *_) -> None:
        file.write(b"half a pic")
        raise KeyboardInterrupt

    monkeypatch.setitem(output.WRITERS, ".png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_frame(tmp_path / "out.png", make_frame())
    assert list(tmp_path.iterdir()) == []


def test_the_check_before_a_render_leaves_nothing_behind(tmp_path):
    check_output(tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_is_refused_before_the_render(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for name, message in {
        "out.tif": "out.tif must end in .png, .jpg, .jpeg, .npz, .exr, got '.tif'",
        "out": "out must end in .png, .jpg, .jpeg, .npz, .exr, got no ending",
        "folder.png": "folder.png must be a file name, got a folder",
        "none/out.png": f"none/out.png must lie in an existing folder, got {tmp_path}/none; create it first",
    }.items():
        with pytest.raises(InputError) as error:
            check_output(tmp_path / name)
        assert str(error.value) == f"{tmp_path}/{message}"
    with pytest.raises(InputError, match="must be writable, got: "):
        check_output(Path("/proc/out.png"))


def test_a_picture_of_two_names_what_both_show(tmp_path):
    (tmp_path / "winter.th").write_bytes(b"snow")
    other = Provenance((tmp_path / "winter.th",), appearance=Appearance.of(3))
    both = Provenance(appearance=Appearance.of(1), compared=Compared("wipe", "winter.th", other))
    said = output.metadata(make_frame(), both)
    assert said["appearance"]["mix"] == ((1, 1.0),)
    assert (said["compared"]["mode"], said["compared"]["with"]) == ("wipe", "winter.th")
    assert said["compared"]["appearance"]["mix"] == ((3, 1.0),)
    assert [file["file"] for file in said["compared"]["checkpoint"]] == ["winter.th"]
    assert "compared" not in output.metadata(make_frame(), other)
