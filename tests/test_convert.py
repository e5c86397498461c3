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
        (FIELD, (2, 2), "only a field of one block can be divided"),
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
    with pytest.raises(InputError, match="is a block store already"):
        convert(open_checkpoint(store), tmp_path / "again")


def test_a_scene_may_name_a_store(tmp_path: Path) -> None:
    stored(tmp_path, make_field(FIELD))
    (tmp_path / "scene.yaml").write_text(
        "version: 1\nmodel: {checkpoint: store, white_background: false, sampling: hull}\n"
    )
    scene = open_scene(tmp_path / "scene.yaml")
    assert scene.model.settings.white_background is False
    assert scene.model.settings.n_importance == 40
    for path in (tmp_path / "store", tmp_path / "store" / "store.json"):
        bare = open_scene(path)
        assert isinstance(bare.model.source, Store)
        assert bare.model.settings.white_background is True
        assert bare.name == "store"
    with pytest.raises(InputError, match=r"plane_division must be \[2, 3\] as the store says"):
        open_scene(tmp_path / "store", ["model.plane_division=[3, 2]"])


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
import resource, sys
from pathlib import Path
import torch
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.store.convert import convert
torch.set_num_threads(1)
opened = open_checkpoint(Path(sys.argv[1]))
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
convert(opened, Path(sys.argv[2]))
print(peak() - before)
"""


def test_memory_is_bounded_by_blocks(tmp_path: Path) -> None:
    """Of a field of 300 MB in 9 blocks, less than three are ever in memory, source pages included."""
    large = {"grid": (1560, 1560, 8), "division": (3, 3), "levels": (1,), "appearance": 24, "mask": None}
    path = synthetic.write(tmp_path / "ckpt", "branch-sub", **large)
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "store")]
    outcome = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    block = Store.open(tmp_path / "store").index.form.n_bytes
    assert size > 250e6
    assert int(outcome.stdout) < 2 * block + 100e6 < size


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
