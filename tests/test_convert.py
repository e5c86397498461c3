"""`landmark-viewer convert`: every layout, cut fields, stops and kills, bounded memory, the command."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.settings import ModelSettings, Precision
from landmark_viewer.core.store.convert import convert
from landmark_viewer.core.store.store import Store
from landmark_viewer.core.store.verify import verify
from landmark_viewer.core.store.writer import StoreWriter
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.viewer.cli import main

from . import synthetic
from .city_store import resident
from .small_fields import Shape, camera, make_field, random_points
from .test_store import FIELD, assert_same_blocks, opened, stored

ROOT = Path(__file__).resolve().parents[1]


# Layouts


@pytest.mark.parametrize("layout", synthetic.LAYOUTS)
def test_every_layout_is_converted(tmp_path: Path, layout: str) -> None:
    path = synthetic.write(tmp_path / "ckpt", layout, embedding=3, nerf=synthetic.NerfShape())
    model = open_checkpoint(path, ModelSettings(plane_division=(2, 2))).model
    from_file = open_checkpoint(path, ModelSettings(plane_division=(2, 2)))
    convert(from_file, tmp_path / "store", Precision.FULL)
    back = open_checkpoint(tmp_path / "store")
    assert back.kind == f"block store of {from_file.kind}"
    assert_same_blocks(back.model.tables(Precision.FULL).blocks, model.tables(Precision.FULL).blocks)
    assert back.model.settings == model.settings
    assert back.model.zero_sigma_outside == model.zero_sigma_outside
    assert back.notices == ()  # the store says what the checkpoint left open
    assert isinstance(back.model.source, Store)
    view = camera(24, 16)
    mine, theirs = replace(model, release=lambda: None), replace(resident(back.model.source), source=None)
    frames = [Renderer(field, Precision.FULL, "cpu").render(view) for field in (mine, theirs)]
    assert torch.equal(frames[0].buffers.rgb, frames[1].buffers.rgb)


def test_half_precision_is_rounded_once(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "ckpt", "branch-sub")
    model = open_checkpoint(path).model
    convert(open_checkpoint(path), tmp_path / "store", Precision.HALF)
    store = Store.open(tmp_path / "store")
    assert store.precision is Precision.HALF
    assert_same_blocks(store.model().tables(Precision.HALF).blocks, model.tables(Precision.HALF).blocks)


def test_auto_is_what_a_renderer_chooses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(tmp_path, make_field(FIELD))
    convert(source, tmp_path / "small")
    monkeypatch.setattr("landmark_viewer.core.store.convert.FULL_PRECISION_LIMIT", 1000)
    convert(source, tmp_path / "large")
    assert Store.open(tmp_path / "small").precision is Precision.FULL
    assert Store.open(tmp_path / "large").precision is Precision.HALF


# Division


@pytest.mark.parametrize(
    ("shape", "division"),
    [
        (Shape(grid=(13, 9, 6), mask=(9, 8, 5)), (3, 2)),
        (Shape(grid=(13, 9, 6), nonlinear=True, latent=3), (4, 4)),
        (Shape(directions=3, density=(4, 3, 5), appearance=(6, 9, 4), grid=(13, 9, 6)), (2, 4)),
    ],
)
def test_a_field_whose_texels_divide_is_cut_exactly(
    tmp_path: Path, shape: Shape, division: tuple[int, int]
) -> None:
    model = make_field(shape)
    report = convert(opened(tmp_path, model), tmp_path / "store", Precision.FULL, division)
    assert report.largest_error is None
    back = Store.open(tmp_path / "store").model()
    assert back.layout.division == division
    assert back.settings.plane_division == division
    points = random_points(2000)
    inside = ((points > model.aabb[0]) & (points < model.aabb[1])).all(dim=1)
    torch.testing.assert_close(
        back.density_feature(points[inside]), model.density_feature(points[inside]), rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(
        back.appearance_products(points[inside]),
        model.appearance_products(points[inside]),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("directions", [1, 3])
def test_a_field_whose_texels_do_not_divide_is_resampled_and_says_by_how_much(
    tmp_path: Path, directions: int
) -> None:
    channels = (5,) * directions
    shape = Shape(directions=directions, density=channels, appearance=channels, grid=(12, 11, 6), levels=2)
    model = make_field(shape)
    lines = replace(
        model.blocks[0],  # type: ignore[type-var]
        density_lines=tuple((torch.ones_like(line[0]),) for line in model.blocks[0].density_lines),  # type: ignore[union-attr]
    )
    model = replace(model, blocks=(lines,))  # then products are what planes hold
    report = convert(opened(tmp_path, model), tmp_path / "store", Precision.FULL, (3, 2))
    assert report.largest_error is not None
    back = Store.open(tmp_path / "store").model()
    points = random_points(30_000)
    points = points[((points > model.aabb[0]) & (points < model.aabb[1])).all(dim=1)]
    error = (back.density_products(points) - model.density_products(points)).abs().max()
    assert 0.3 * report.largest_error < error <= report.largest_error * 1.001
    assert report.largest_error < report.largest_value
    spacing = [(u - 1) / 12 for u, *_ in back.source.index.form.sizes[:1]]  # type: ignore[union-attr]
    assert spacing[0] * 3 >= (12 - 1) / 12  # texels lie at least as close


@pytest.mark.parametrize(
    ("shape", "division", "message"),
    [
        (FIELD, (2, 2), "must keep the borders of the 2 x 3 blocks that there are, got 2 x 2"),
        (Shape(grid=(4, 4, 4)), (4, 1), "must leave every block a texel, got 4 blocks of 4 texels along x"),
    ],
)
def test_a_division_that_cannot_be_is_refused(
    tmp_path: Path, shape: Shape, division: tuple[int, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert(opened(tmp_path, make_field(shape)), tmp_path / "store", division=division)
    assert not (tmp_path / "store").exists()


# Folders


def test_nothing_is_written_over_by_accident(tmp_path: Path) -> None:
    source = opened(tmp_path, make_field(FIELD))
    store = tmp_path / "store"
    convert(source, store)
    with pytest.raises(InputError, match="holds a block store already; name another folder, or add --force"):
        convert(source, store)
    convert(opened(tmp_path / "new", make_field(replace(FIELD, levels=1))), store, force=True)
    assert Store.open(store).index.form.n_levels == 1
    assert verify(Store.open(store)) == []
    assert len(list((store / "blocks").iterdir())) == 5
    other = tmp_path / "other"
    other.mkdir()
    (other / "photo.jpg").write_bytes(b"")
    for force in (False, True):
        with pytest.raises(InputError, match="must be a new or empty folder, but holds other files"):
            convert(source, other, force=force)
    with pytest.raises(InputError, match="must be a folder for the store, but is a file"):
        convert(source, other / "photo.jpg")
    with pytest.raises(InputError, match="must be another folder than the store that is converted"):
        convert(open_checkpoint(store), store, force=True)


def test_a_scene_may_name_a_store(tmp_path: Path) -> None:
    convert(opened(tmp_path, make_field(FIELD)), tmp_path / "city")
    (tmp_path / "scene.yaml").write_text(
        "version: 1\nmodel: {checkpoint: city, white_background: false, sampling: hull}\n"
    )
    scene = open_scene(tmp_path / "scene.yaml")
    assert scene.model.settings.white_background is False
    assert scene.model.settings.n_importance == 40
    for path in (tmp_path / "city", tmp_path / "city" / "store.json"):
        bare = open_scene(path)
        assert isinstance(bare.model.source, Store)
        assert bare.model.settings.white_background is True
        assert bare.name == "city"
    with pytest.raises(InputError, match=r"plane_division must be \[2, 3\] as the store says"):
        open_scene(tmp_path / "city", ["model.plane_division=[3, 2]"])


# From store to store


def files_of(store: Store) -> dict[int, tuple[str, list[int]]]:
    """Digest and window of each block's file: equal for equal contents."""
    blocks = store.index.blocks
    return {
        int(number): (digest, window.tolist())
        for number, digest, window in zip(blocks.numbers, blocks.digests, blocks.windows, strict=True)
    }


def test_a_store_becomes_one_in_another_precision(tmp_path: Path) -> None:
    source = opened(tmp_path, make_field(replace(FIELD, missing=(1, 4))))
    stores = {}
    for precision in (Precision.FULL, Precision.HALF):
        convert(source, tmp_path / precision.value, precision)
        stores[precision] = Store.open(tmp_path / precision.value)
    report = convert(open_checkpoint(tmp_path / "full"), tmp_path / "again", Precision.HALF)
    again = Store.open(tmp_path / "again")
    assert report.n_blocks == 4
    assert files_of(again) == files_of(stores[Precision.HALF])
    assert verify(again) == []
    for what in ("source", "kind", "division", "kwargs", "settings", "form", "zero_sigma_outside"):
        assert getattr(again.index, what) == getattr(stores[Precision.HALF].index, what), what
    convert(open_checkpoint(tmp_path / "half"), tmp_path / "same")
    assert files_of(Store.open(tmp_path / "same")) == files_of(again)
    convert(open_checkpoint(tmp_path / "half"), tmp_path / "wide", Precision.FULL)
    wide = Store.open(tmp_path / "wide").model().tables(Precision.HALF)
    assert_same_blocks(wide.blocks, again.model().tables(Precision.HALF).blocks)


@pytest.mark.parametrize("mask_shift", [0.0, 0.37])
def test_a_store_is_divided_further(tmp_path: Path, mask_shift: float) -> None:
    shape = Shape(grid=(17, 13, 6), mask=(41, 39, 5), mask_share=0.4, mask_shift=mask_shift, levels=2)
    source = opened(tmp_path, make_field(shape))
    convert(source, tmp_path / "at once", Precision.FULL, (4, 6))
    convert(source, tmp_path / "coarse", Precision.FULL, (2, 3))
    convert(open_checkpoint(tmp_path / "coarse"), tmp_path / "twice", Precision.FULL, (4, 6))
    assert files_of(Store.open(tmp_path / "twice")) == files_of(Store.open(tmp_path / "at once"))
    back = Store.open(tmp_path / "twice").index
    assert back.settings.plane_division == back.division == (4, 6)


def test_only_what_exists_is_divided_further(tmp_path: Path) -> None:
    shape = Shape(grid=(9, 9, 6), division=(2, 2), missing=(2,), zero_sigma_outside=True, mask=(11, 9, 5))
    model = make_field(shape)
    convert(opened(tmp_path, model), tmp_path / "store", Precision.FULL, (4, 4))
    store = Store.open(tmp_path / "store")
    assert [n for n in range(16) if not store.exists(n)] == [8, 9, 12, 13]
    points = random_points(3000)
    points = points[((points > model.aabb[0]) & (points < model.aabb[1])).all(dim=1)]
    torch.testing.assert_close(store.model().sigma(points), model.sigma(points), rtol=1e-3, atol=1e-3)


def test_a_mask_too_large_to_be_kept_whole_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = opened(tmp_path, make_field(FIELD))
    convert(source, tmp_path / "whole", Precision.FULL)
    monkeypatch.setattr("landmark_viewer.core.store.store.MAX_OCCUPANCY", 100)
    monkeypatch.setattr("landmark_viewer.core.store.commit.MAX_OCCUPANCY", 100)
    convert(source, tmp_path / "large", Precision.FULL)
    assert open_checkpoint(tmp_path / "large").model.occupancy is None
    convert(open_checkpoint(tmp_path / "large"), tmp_path / "again")
    again = Store.open(tmp_path / "again")
    assert files_of(again) == files_of(Store.open(tmp_path / "whole"))
    assert again.index.mask is not None
    assert again.index.mask.n == source.model.occupancy.nodes.shape[::-1]  # type: ignore[union-attr]


def test_a_damaged_block_is_not_converted(tmp_path: Path) -> None:
    store = stored(tmp_path, make_field(FIELD))
    path = store.path / store.index.blocks.name(2)
    data = bytearray(path.read_bytes())
    data[-5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="the checksum of its data is wrong"):
        convert(open_checkpoint(store.path), tmp_path / "again")
    assert not (tmp_path / "again" / "store.json").exists()


def test_a_block_comes_from_another_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(opened(tmp_path, make_field(FIELD)), tmp_path / "store", Precision.HALF)
    convert(opened(tmp_path, make_field(FIELD, seed=5)), tmp_path / "other", Precision.FULL)
    assert main(["convert", str(tmp_path / "other"), str(tmp_path / "store"), "--block", "2"]) == 0
    before, other = make_field(FIELD), make_field(FIELD, seed=5)
    mixed = replace(before, blocks=(*before.blocks[:2], other.blocks[2], *before.blocks[3:]))
    after = Store.open(tmp_path / "store").model().tables(Precision.HALF)
    assert_same_blocks(after.blocks, mixed.tables(Precision.HALF).blocks)
    assert main(["convert", str(tmp_path / "store"), str(tmp_path / "store"), "--block", "2"]) == 1
    assert "must be another folder than the store that is converted" in capsys.readouterr().err


# Scenes

SCENE = """
version: 1
name: A town
model: {checkpoint: files, plane_division: [2, 2], white_background: false, precision: half}
appearance: {mix: {0: 0.25, 2: 0.75}, styles: {noon: 1}}
camera: {eye: [0.3, -2.0, 1.4], target: [0.0, 0.1, 0.1], fov_y: 40}
background: [0.2, 0.4, 0.6]
frame: {metres_per_unit: 100}
dataset: {path: photos}
edits:
- {kind: hide, region: [[-0.9, -0.6], [-0.2, -0.6], [-0.2, 0.1]]}
- {kind: copy, region: [[0, 0], [1, 0], [1, 1]], placements: [{position: [0, 0, 0]}], source: more/scene.yaml}
- {kind: replace-block, block: 1, checkpoint: /elsewhere/city-sub1_add.th}
"""


def test_what_a_scene_says_goes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "scenes"
    synthetic.write(folder / "files", "branch-sub", embedding=3)
    (folder / "scene.yaml").write_text(SCENE)
    source = open_scene(folder / "scene.yaml", ["camera.fov_y=45"])
    command = ["convert", str(folder / "scene.yaml"), "--set", "camera.fov_y=45"]
    assert main([*command, str(tmp_path / "store")]) == 0
    assert "left out" not in capsys.readouterr().err
    scene = open_scene(tmp_path / "store")
    assert scene.source == tmp_path / "store" / "scene.yaml"
    assert isinstance(scene.model.source, Store)
    assert scene.model.source.precision is Precision.HALF
    assert (scene.name, scene.background, scene.model.settings) == (
        source.name,
        source.background,
        source.model.settings,
    )
    for part in ("appearance", "camera", "frame"):
        assert getattr(scene.spec, part) == getattr(source.spec, part), part
    assert scene.spec.camera.fov_y == 45
    assert [replace(layer, uid=0) for layer in scene.edits] == [
        replace(layer, uid=0) for layer in source.edits
    ]
    assert scene.spec.dataset is not None
    assert scene.spec.dataset.path == Path("../scenes/photos")
    assert main([*command, str(tmp_path / "divided"), "--division", "4x2", "--precision", "full"]) == 0
    assert "note: 1 layer that replaces a block is left out" in capsys.readouterr().err
    divided = open_scene(tmp_path / "divided")
    assert len(divided.edits) == 2
    assert main(["convert", str(tmp_path / "store"), str(tmp_path / "again")]) == 0
    assert open_scene(tmp_path / "again").edits == scene.edits


def test_a_checkpoint_alone_makes_no_scene_file_unless_something_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(synthetic.write(tmp_path / "ckpt", "branch-sub"))
    assert main(["convert", path, str(tmp_path / "store"), "--quiet"]) == 0
    assert not (tmp_path / "store" / "scene.yaml").exists()
    (tmp_path / "store" / "scene.yaml").write_text("version: 1\nmodel: {checkpoint: store.json}\n")
    assert main(["convert", path, str(tmp_path / "store"), "--force"]) == 0
    assert "scene.yaml stays as it was; remove it if" in capsys.readouterr().err
    command = ["convert", path, str(tmp_path / "said"), "--quiet", "--set", "background=#f00000"]
    assert main([*command, "--set", "model.sampling=hull"]) == 0
    scene = open_scene(tmp_path / "said")
    assert scene.background == (240 / 255, 0.0, 0.0)
    assert scene.model.settings.sampling.value == "hull"  # type: ignore[union-attr]


def test_the_picture_of_a_converted_scene_is_that_of_the_scene(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "files", "branch-sub", embedding=3)
    lines = SCENE.replace("precision: half", "precision: full").splitlines()
    kept = [line for line in lines if not line.startswith(("dataset", "- {kind: copy", "- {kind: replace"))]
    (tmp_path / "scene.yaml").write_text("\n".join(kept))
    assert main(["convert", str(tmp_path / "scene.yaml"), str(tmp_path / "store"), "--quiet"]) == 0
    pictures = []
    for name in ("scene.yaml", "store"):
        picture = tmp_path / "picture.npz"
        assert main(["render", str(tmp_path / name), "-o", str(picture), "--size", "48x32"]) == 0
        with np.load(picture) as arrays:
            pictures.append({key: arrays[key] for key in arrays if key != "meta"})
    assert pictures[0].keys() == pictures[1].keys() > {"rgb", "depth"}
    for key, array in pictures[0].items():
        assert np.array_equal(array, pictures[1][key]), key
    assert pictures[0]["rgb"].std() > 0.02


# Stops


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_stopped_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(tmp_path, make_field(FIELD))
    convert(source, tmp_path / "undisturbed")
    write, written = StoreWriter.write, []

    def stop(self: StoreWriter, packed: Any) -> None:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(packed.number)
        write(self, packed)

    monkeypatch.setattr(StoreWriter, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "store")
    monkeypatch.undo()
    with pytest.raises(InputError, match="its conversion was stopped; run the same landmark-viewer convert"):
        open_checkpoint(tmp_path / "store")
    with pytest.raises(InputError, match="holds an unfinished conversion of something else"):
        convert(source, tmp_path / "store", Precision.HALF)
    damaged = next((tmp_path / "store" / "blocks").glob("1-*"))  # as after a power cut
    os.truncate(damaged, 100)
    seen = []
    report = convert(source, tmp_path / "store", on_progress=lambda progress: seen.append(progress.done))
    assert report.n_taken_up == 2
    assert seen == [2, 3, 4, 5]
    assert contents(tmp_path / "store").keys() == contents(tmp_path / "undisturbed").keys()
    assert Store.open(tmp_path / "store").index.form == Store.open(tmp_path / "undisturbed").index.form
    assert verify(Store.open(tmp_path / "store")) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.test_convert import LARGER, convert, make_field, opened
folder = Path(sys.argv[1])
source = opened(folder, make_field(LARGER))
def child(after):
    rename, count = os.replace, iter(range(after, -1, -1))
    def dying(*paths):
        if next(count) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*paths)
    os.replace = dying
    convert(source, folder / "store")
for after in map(int, sys.argv[2:]):
    pid = os.fork()
    if not pid:
        child(after)
    print(os.waitpid(pid, 0)[1])
"""
LARGER = Shape(levels=3, division=(6, 5), mask=(67, 59, 9))


def test_a_killed_conversion_equals_an_undisturbed_one(tmp_path: Path) -> None:
    source = opened(tmp_path, make_field(LARGER))
    convert(source, tmp_path / "undisturbed")
    chance = random.Random(11)
    moments = [chance.randrange(8) for _ in range(3)]  # renames, of a block's file each, before the kill
    command = [sys.executable, "-c", KILLED, str(tmp_path), *map(str, moments)]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert outcome.stdout.split() == [str(int(signal.SIGKILL))] * 3
    assert not (tmp_path / "store" / "store.json").exists()
    report = convert(source, tmp_path / "store")
    assert report.n_taken_up == sum(moments) > 3
    assert contents(tmp_path / "store") == contents(tmp_path / "undisturbed")


MEMORY = """
import sys
from pathlib import Path
import torch
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.store.convert import convert
torch.set_num_threads(1)
opened = open_checkpoint(Path(sys.argv[1]))
def peak():  # getrusage would count the peak of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
before = peak()
convert(opened, Path(sys.argv[2]))
print(peak() - before)
"""


def test_memory_is_bounded_by_blocks(tmp_path: Path) -> None:
    """Of a field of 300 MB in 9 blocks, less than three are ever in memory, source pages included.

    From a store it is one more, which is mapped.
    """
    large = {"grid": (1560, 1560, 8), "division": (3, 3), "levels": (1,), "appearance": 24, "mask": None}
    path = synthetic.write(tmp_path / "ckpt", "branch-sub", **large)
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    for number, (source, name) in enumerate(((path, "store"), (tmp_path / "store", "again"))):
        command = [sys.executable, "-c", MEMORY, str(source), str(tmp_path / name)]
        outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        block = Store.open(tmp_path / name).index.form.n_bytes
        assert block < int(outcome.stdout) < (2 + number) * block + 100e6 < size
    assert size > 250e6


# The command


def test_the_command_converts_checks_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(synthetic.write(tmp_path / "ckpt", "branch-sub"))
    store = tmp_path / "store"
    assert main(["convert", path, str(store), "--precision", "half"]) == 0
    out = capsys.readouterr()
    assert out.out == f"{store}: 4 blocks\n"
    assert "note: model.white_background is stated nowhere" in out.err
    assert main(["convert", "--verify", str(store)]) == 0
    assert "every file is as it was written" in capsys.readouterr().out
    assert main(["inspect", str(store)]) == 0
    told = capsys.readouterr().out
    for text in ("block store of branch sub files", "4 of 2 x 2", "half precision", "7 x 6 x 4 vertices"):
        assert text in told
    assert main(["convert", path, str(store), "--block", "2", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert Store.open(store).index.generation == 2
    block = next((store / "blocks").iterdir())
    os.truncate(block, 10)
    assert main(["convert", "--verify", str(store)]) == 1
    assert f"{block}: must be a complete file" in capsys.readouterr().err


def test_the_command_says_how_far_resampled_planes_are_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(synthetic.write(tmp_path / "ckpt", "sequential", grid=(12, 8, 5)))
    assert main(["convert", path, str(tmp_path / "store"), "--division", "3x2", "--quiet"]) == 0
    assert main(["convert", path, str(tmp_path / "again"), "--division", "3x2"]) == 0
    assert "planes do not divide evenly and were resampled, by " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "CKPT"),
        (["a.th"], 2, "a checkpoint and a store must be named"),
        (["a.th", "b", "c"], 2, "a checkpoint and a store must be named"),
        (["--verify", "a", "b"], 2, "--verify takes the store only"),
        (["a.th", "b", "--division", "3"], 2, "must be AxB"),
        (["a.th", "b", "--division", "0x2"], 2, "must be AxB"),
        (["a.th", "b", "--precision", "quarter"], 2, "invalid choice"),
        (["a.th", "b"], 1, "a.th: no such file"),
        (["--verify", "b"], 1, "b: must be the folder of a finished block store"),
    ],
)
def test_wrong_use_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", *arguments]) == code
    assert message in capsys.readouterr().err


def test_ctrl_c_is_130_and_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(synthetic.write(tmp_path / "ckpt", "branch-sub"))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StoreWriter, "commit", stop)
    assert main(["convert", path, str(tmp_path / "store")]) == 130
    assert f"to go on: landmark-viewer convert {path}" in capsys.readouterr().err
    monkeypatch.undo()
    assert main(["convert", path, str(tmp_path / "store")]) == 0
    assert "4 of them finished before" in capsys.readouterr().out


# Fields of LandMark's


def _oracle(shared_dir: Path, case: str, file: str, division: tuple[int, int] | None = None) -> Any:
    found = list((shared_dir / "oracle" / case).glob(f"**/{file}")) or list((shared_dir).glob(f"**/{file}"))
    assert found, file
    return open_checkpoint(found[0], ModelSettings(plane_division=division))


def test_a_field_of_landmarks_renders_the_same(tmp_path: Path, shared_dir: Path) -> None:
    source = _oracle(shared_dir, "d_branch22_app", "bb_d_branch22_app-merged-stack.th", (2, 2))
    convert(source, tmp_path / "store", Precision.FULL)
    store = Store.open(tmp_path / "store")
    whole = source.model.tables(Precision.FULL)
    assert_same_blocks(store.model().tables(Precision.FULL).blocks, whole.blocks)
    frames = [
        Renderer(model, Precision.FULL, "cpu").render(_above(model), RenderSettings(normals=True))
        for model in (source.model, resident(store))
    ]
    assert torch.equal(frames[0].buffers.rgb, frames[1].buffers.rgb)
    assert torch.equal(frames[0].buffers.depth, frames[1].buffers.depth)
    assert frames[0].buffers.opacity.max() > 0.5


def test_a_field_of_landmarks_is_cut(tmp_path: Path, shared_dir: Path) -> None:
    source = _oracle(shared_dir, "b_seq_res124_app", "bb_b_seq_res124_app.th")
    report = convert(source, tmp_path / "store", Precision.FULL, (2, 2))
    back = resident(Store.open(tmp_path / "store"))
    frames = [
        Renderer(model, Precision.FULL, "cpu").render(_above(model)).buffers.rgb
        for model in (source.model, back)
    ]
    error = (frames[0] - frames[1]).abs().mean()
    assert error < (1e-4 if report.largest_error is None else 0.02)


def _above(model: Any) -> Camera:
    low, high = model.aabb.double().numpy()
    eye = (low + high) / 2 + (high - low).max() * np.array((0.1, -0.3, 0.4))
    return Camera.from_fov(look_at(eye, (low + high) / 2), 48, 32, 50.0)
