"""Broken files and wrong words: each ends in its own sentence and exit code 1, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from landmark_viewer.viewer.cli import main

from .synthetic import edit, rewrite, save_pickle, write

NAN = float("nan")
ABSURD_PLANE = torch.zeros(1).expand(1, 4, 10**6, 10**6)  # states 16 TB, holds 4 bytes
IDENTITY = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
CAMERA = {"c2w": IDENTITY, "width": 8, "height": 6, "fov_y": 50}
MARKER = "the code in the file ran"

Arguments = list[str | Path]
Change = Callable[[dict[str, Any]], object]


class RunsCode:
    """Pickles to a call of os.system."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"echo {MARKER}",)


def check(arguments: Arguments, sentence: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Runs the program and compares all that it says and leaves; DIR stands for the folder."""
    before = sorted(folder.rglob("*"))
    assert main([str(argument) for argument in arguments]) == 1
    out, err = capfd.readouterr()
    assert err.replace(str(folder), "DIR") == f"error: {sentence}\n"
    assert out == ""
    assert sorted(folder.rglob("*")) == before


# Checkpoints. Each builder gets an empty folder and returns the path to open.


def holding(content: bytes) -> Callable[[Path], Path]:
    def build(folder: Path) -> Path:
        path = folder / "city.th"
        path.write_bytes(content)
        return path

    return build


def truncated(folder: Path) -> Path:
    path = write(folder)
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def other_zip(folder: Path) -> Path:
    path = folder / "city.th"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    return path


def compressed(folder: Path) -> Path:
    return rewrite(write(folder), lambda entries: None, zipfile.ZIP_DEFLATED)


def without_storage(folder: Path) -> Path:
    return rewrite(write(folder), lambda entries: entries.pop("data/1"))


def pickled(content: bytes) -> Callable[[Path], Path]:
    return lambda folder: save_pickle(folder / "city.th", content)


def nested_references() -> bytes:
    """Nine tuples, each of ten references to the one before it: a billion texts, if anybody counted."""
    content = b"\x80\x02(" + b"X\x04\x00\x00\x00boom" * 10 + b"tq\x00"
    for level in range(9):
        content += b"0(" + bytes([ord("h"), level]) * 10 + bytes([ord("t"), ord("q"), level + 1])
    return content + b"."


def changed(change: Change) -> Callable[[Path], Path]:
    return lambda folder: edit(write(folder), change)


def add(key: str, value: Any) -> Callable[[Path], Path]:
    return changed(lambda root: root.update({key: value}))


def argument(key: str, value: Any) -> Callable[[Path], Path]:
    return changed(lambda root: root["kwargs"].update({key: value}))


def tensor(key: str, value: torch.Tensor) -> Callable[[Path], Path]:
    return changed(lambda root: root["state_dict"].update({key: value}))


def sub_file_missing(folder: Path) -> Path:
    path = write(folder, "branch-sub")
    (folder / "city-sub2.th").unlink()
    return path


def planes_missing(folder: Path) -> Path:
    path = write(folder, "wo_plane")
    (folder / "city-merged-stack.th").unlink()
    return path


def two_experiments(folder: Path) -> Path:
    write(folder)
    write(folder, name="town")
    return folder


CHECKPOINTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "empty file": (holding(b""), "DIR/city.th: must be a checkpoint file, but is empty; copy it again"),
    "text named .th": (
        holding(b"these are not the planes you are looking for\n"),
        "DIR/city.th: must be a zip file written by torch.save, but is another kind of file",
    ),
    "older torch format": (
        holding(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."),
        "DIR/city.th: must be a zip file as torch >= 1.6 saves it, but is in torch's older "
        "format; load it with torch.load and write it again with torch.save",
    ),
    "truncated zip": (
        truncated,
        "DIR/city.th: must be a complete zip file, but its end is missing; it is truncated or "
        "damaged, so copy it again",
    ),
    "another zip": (
        other_zip,
        "DIR/city.th: must be a zip file written by torch.save with one data.pkl, but holds 'readme.txt'",
    ),
    "compressed zip": (
        compressed,
        "DIR/city.th: entries must be stored as torch.save does it, but 'city/data.pkl' is packed",
    ),
    "storage missing": (
        without_storage,
        "DIR/city.th: must be a complete zip file, but 'data/1' is missing; it is truncated or "
        "damaged, so copy it again",
    ),
    "pickle that runs code": (
        add("extra", RunsCode()),
        "DIR/city.th: must hold nothing but LandMark's data, but its pickle asks for "
        "posix.system; nothing of it was run and the file is refused",
    ),
    "pickle without end": (
        pickled(b"\x80\x02}"),
        "DIR/city.th: data.pkl must be a pickle as torch.save writes it, but its EMPTY_DICT "
        "instruction cannot be carried out; the file is damaged, so copy it again",
    ),
    "pickle that unfolds": (
        pickled(nested_references()),
        "DIR/city.th: must hold the dict that LandMark saves, got [..., ..., ..., ..., ..., ..., ...]",
    ),
    "list instead of dict": (
        pickled(b"\x80\x02]."),
        "DIR/city.th: must hold the dict that LandMark saves, got []",
    ),
    "kwargs missing": (
        changed(lambda root: root.pop("kwargs")),
        "DIR/city.th: kwargs is missing, so this is not a complete LandMark file",
    ),
    "state_dict missing": (
        changed(lambda root: root.pop("state_dict")),
        "DIR/city.th: state_dict is missing, so this is not a complete LandMark file",
    ),
    "bounds missing": (
        changed(lambda root: root["kwargs"].pop("aabb")),
        "DIR/city.th: kwargs.aabb is missing, so this is not a complete LandMark file",
    ),
    "bounds not numbers": (
        argument("aabb", torch.tensor([[NAN] * 3, [1.0] * 3])),
        "DIR/city.th: kwargs.aabb must be finite and its second row must exceed the first, got "
        "[[nan, nan, nan], [1.0, 1.0, 1.0]]",
    ),
    "bounds reversed": (
        argument("aabb", torch.tensor([[1.0, 1, 1], [-1, -1, -1]])),
        "DIR/city.th: kwargs.aabb must be finite and its second row must exceed the first, got "
        "[[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]",
    ),
    "grid of one vertex": (
        argument("gridSize", [1, 8, 5]),
        "DIR/city.th: kwargs.gridSize must be 3 integers not below 2, got [1, 8, 5]",
    ),
    "grid of absurd size": (
        argument("gridSize", [10**9, 10**9, 10**9]),
        "DIR/city.th: kwargs.aabb, gridSize and step_ratio must give fewer than 1048576 samples, "
        "got a step of 9.5e-10 across 3.75 units",
    ),
    "near behind far": (
        argument("near_far", [4.0, 0.1]),
        "DIR/city.th: kwargs.near_far must be two finite numbers with 0 <= near < far, got [4.0, 0.1]",
    ),
    "unknown activation": (
        argument("fea2denseAct", "gelu"),
        "DIR/city.th: kwargs.fea2denseAct must be 'softplus' or 'relu', got 'gelu'",
    ),
    "plane missing": (
        changed(lambda root: root["state_dict"].pop("app_plane.1")),
        "DIR/city.th: state_dict.app_plane.1 is missing, so this is not a complete LandMark file "
        "of 1 direction(s)",
    ),
    "plane of wrong shape": (
        tensor("app_plane.0", torch.zeros(1, 6, 3, 3)),
        "DIR/city.th: state_dict.app_plane.0 must have 8 x 12 vertices as density_plane.0 says, got 3 x 3",
    ),
    "decoder of wrong shape": (
        tensor("renderModule.mlp.0.weight", torch.zeros(16, 9)),
        "DIR/city.th: state_dict.renderModule.mlp.0.weight must have the shape (16, 40) as "
        "kwargs.app_dim, featureC, view_pe, fea_pe and the appearance table say, got [16, 9]",
    ),
    "decoder not numbers": (
        tensor("renderModule.mlp.4.bias", torch.full((3,), NAN)),
        "DIR/city.th: state_dict.renderModule.mlp.4.bias must hold finite numbers; the training has diverged",
    ),
    "line of whole numbers": (
        tensor("density_line.0", torch.zeros(1, 4, 5, 1).long()),
        "DIR/city.th: state_dict.density_line.0 must hold floating-point numbers, got torch.int64",
    ),
    "plane of absurd size": (
        tensor("density_plane.0", ABSURD_PLANE),
        "DIR/city.th: must hold nothing but LandMark's data, but it holds a tensor of shape [1, "
        "4, 1000000, 1000000] in a storage of 1 numbers; nothing of it was run and the file is "
        "refused",
    ),
    "alpha mask of absurd size": (
        add("alphaMask.shape", (1, 1, 4000, 4000, 4000)),
        "DIR/city.th: alphaMask.mask must hold 8000000000 bytes for alphaMask.shape [1, 1, 4000, "
        "4000, 4000], got 21",
    ),
    "sub file missing": (
        sub_file_missing,
        "DIR/city-sub0.th: its set needs 4 sub files, but city-sub2.th is missing beside it",
    ),
    "planes missing": (
        planes_missing,
        "DIR/city-merged-stack-wo_plane.th: holds no planes and cannot render alone; put city-"
        "merged-stack.th or the files city-sub0.th, ... beside it",
    ),
    "folder with two experiments": (
        two_experiments,
        "DIR: must hold the files of one experiment, but holds 2 (city, town); name the file to open",
    ),
    "folder without checkpoint": (
        lambda folder: folder,
        "DIR: must hold a checkpoint (a file ending in .th), but holds none",
    ),
    "no such file": (
        lambda folder: folder / "nowhere.th",
        "DIR/nowhere.th: no such file; name a scene.yaml, a .th checkpoint or a folder with one of them",
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_broken_checkpoint_ends_in_its_sentence(name, tmp_path, capfd):
    build, sentence = CHECKPOINTS[name]
    check(["render", build(tmp_path), "-o", tmp_path / "out.png"], sentence, tmp_path, capfd)


# Scene files, configs and what stands on the command line. Each builder returns the arguments.


def scene(text: str) -> Callable[[Path], Arguments]:
    """A scene.yaml beside a good checkpoint."""

    def build(folder: Path) -> Arguments:
        write(folder)
        (folder / "scene.yaml").write_text(text)
        return ["render", folder / "scene.yaml", "-o", folder / "out.png"]

    return build


def model(keys: str) -> Callable[[Path], Arguments]:
    return scene(f"version: 1\nmodel: {{checkpoint: city.th, {keys}}}\n")


def config(content: bytes) -> Callable[[Path], Arguments]:
    def build(folder: Path) -> Arguments:
        (folder / "config.txt").write_bytes(content)
        return model("config: config.txt")(folder)

    return build


def words(*more: str, layout: str = "sequential", **options: Any) -> Callable[[Path], Arguments]:
    """Further words of the command line behind a good checkpoint."""
    return lambda folder: ["render", write(folder, layout, **options), "-o", folder / "out.png", *more]


def camera(text: str) -> Callable[[Path], Arguments]:
    def build(folder: Path) -> Arguments:
        (folder / "cam.json").write_text(text)
        return ["render", write(folder), "-o", folder / "out.png", "--camera", folder / "cam.json"]

    return build


def camera_with(**changes: Any) -> Callable[[Path], Arguments]:
    """A camera file with some keys changed; None removes a key."""
    return camera(json.dumps({k: v for k, v in {**CAMERA, **changes}.items() if v is not None}))


def no_camera(folder: Path) -> Arguments:
    return ["render", write(folder), "-o", folder / "out.png", "--camera", folder / "cam.json"]


def output(name: str) -> Callable[[Path], Arguments]:
    return lambda folder: ["render", write(folder), "-o", folder / name]


def folder_as_output(folder: Path) -> Arguments:
    (folder / "out.png").mkdir()
    return output("out.png")(folder)


ALIASES = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a, *a]\n" for i in range(40))
STYLES = "appearance.styles={day: 0, dusk: 3}"

OTHERS: dict[str, tuple[Callable[[Path], Arguments], str]] = {
    "scene file that is a list": (
        scene("[city.th]"),
        "DIR/scene.yaml: the file must be a mapping of keys to values, got ['city.th']",
    ),
    "scene file that is not YAML": (
        scene("version: 1: 2"),
        "DIR/scene.yaml, line 1: must be valid YAML, got mapping values are not allowed in this context",
    ),
    "scene file that runs code": (
        scene("!!python/object/apply:os.system [echo]"),
        "DIR/scene.yaml, line 1: must not use YAML tags, got tag:yaml.org,2002:python/object/apply:os.system",
    ),
    "scene file that unfolds": (
        scene(ALIASES),
        "DIR/scene.yaml, line 1: must not use YAML anchors or aliases",
    ),
    "scene file of brackets": (
        scene("[" * 100_000),
        "DIR/scene.yaml, line 1: must be nested at most 32 levels deep",
    ),
    "scene file with a key twice": (
        scene("version: 1\nname: a\nname: b"),
        "DIR/scene.yaml, line 3: must be valid YAML, got the key name twice",
    ),
    "scene file of a later version": (
        scene("version: 2"),
        "DIR/scene.yaml: version must be 1, the version that this program reads, got 2",
    ),
    "scene file without checkpoint": (
        scene("version: 1"),
        "DIR/scene.yaml: model.checkpoint must name a .th file or a folder with one, got nothing",
    ),
    "scene file with an unknown key": (
        model("samplign: hull"),
        "DIR/scene.yaml: unknown key model.samplign; did you mean model.sampling?",
    ),
    "scene file with a wrong type": (
        model("near_far: near"),
        "DIR/scene.yaml: model.near_far must be two numbers with 0 <= near < far, got 'near'",
    ),
    "absurd number of samples": (
        model("n_importance: 1000000000000"),
        "DIR/scene.yaml: model.n_importance must be a whole number from 1 to 16384, got 1000000000000",
    ),
    "checkpoint that is not there": (
        scene("version: 1\nmodel: {checkpoint: town.th}"),
        "DIR/scene.yaml: model.checkpoint must be an existing file, got DIR/town.th",
    ),
    "config that is not there": (
        model("config: config.txt"),
        "DIR/scene.yaml: model.config must be an existing file, got DIR/config.txt",
    ),
    "config with a misspelt key": (
        config(b"ndims = 1\nwhite_bg = 1"),
        "DIR/config.txt, line 2: unknown key white_bg; did you mean white_bkgd?",
    ),
    "config with a wrong value": (
        config(b"white_bkgd = [1]"),
        "DIR/config.txt, line 1: white_bkgd must be 0 or 1, got '[1]'",
    ),
    "config that is binary": (
        config(b"\xff"),
        "DIR/config.txt must be a LandMark config in UTF-8 text, got binary data",
    ),
    "division unknown": (
        words(layout="merged-stack", with_args=False),
        "DIR/city-merged-stack.th: its 4 blocks can lie in several ways and no config says which;"
        " state model.plane_division in the scene file or with --set "
        "model.plane_division=[columns,rows]",
    ),
    "division into other blocks": (
        words("--set", "model.plane_division=[3,2]", layout="merged-stack"),
        "DIR/city-merged-stack.th: model.plane_division must make 4 blocks, got [3, 2]; state the"
        " division that the checkpoint was trained with",
    ),
    "division of other shape": (
        words("--set", "model.plane_division=[4,1]", layout="branch-sub"),
        "DIR/city-sub0.th: model.plane_division [4, 1] must divide the 12 x 8 vertices of "
        "gridSize into blocks of 6 x 4; state the division that the checkpoint was trained with",
    ),
    "set without a value": (
        words("--set", "model.sampling"),
        "--set must be key.path=value, got 'model.sampling'",
    ),
    "set of an unknown key": (
        words("--set", "camera.fovy=3"),
        "--set: unknown key camera.fovy; did you mean camera.fov_y?",
    ),
    "set out of range": (
        words("--set", "camera.fov_y=270"),
        "--set: camera.fov_y must be in (0, 180) degrees, got 270",
    ),
    "code without a table": (
        words("--code", "1"),
        "--code must be from 0 to 0 (the model has no appearance table), got 1",
    ),
    "code outside the table": (
        words("--code", "-1", embedding=5),
        "--code must be from 0 to 4 (the table has 5 rows), got -1",
    ),
    "scene's code outside the table": (
        words("--set", "appearance.code=5", embedding=5),
        "--set: appearance.code must be from 0 to 4 (the table has 5 rows), got 5",
    ),
    "style that is not there": (
        words("--set", STYLES, "--style", "night", embedding=5),
        "--style must be one of day, dusk, got 'night'",
    ),
    "style where there are none": (
        words("--style", "night"),
        "--style must be left out, since the scene names no styles, got 'night'",
    ),
    "camera file that is not there": (
        no_camera,
        "DIR/cam.json must be a readable camera file, got: No such file or directory",
    ),
    "camera file that is not JSON": (camera("{c2w: 1}"), "DIR/cam.json must be a JSON file with a camera"),
    "camera file of brackets": (camera("[" * 100_000), "DIR/cam.json must be a JSON file with a camera"),
    "camera file without cameras": (
        camera("[]"),
        "DIR/cam.json must hold at least one camera, got an empty list",
    ),
    "camera file with a number": (
        camera("7"),
        "DIR/cam.json: camera must be a mapping with c2w, width and height, got int",
    ),
    "camera without a pose": (camera_with(c2w=None), "DIR/cam.json: camera must have the key c2w"),
    "camera without an angle": (
        camera_with(fov_y=None),
        "DIR/cam.json: camera must have either fl_x (pixels) or fov_y (degrees)",
    ),
    "camera with an unknown key": (
        camera_with(fov=50),
        "DIR/cam.json: camera has the unknown key fov; known are c2w, cx, cy, fl_x, fl_y, fov_y, "
        "height, width",
    ),
    "camera with a flat pose": (
        camera_with(c2w=[[0] * 4] * 4),
        "DIR/cam.json: camera.c2w must be invertible",
    ),
    "camera with an infinite pose": (
        camera(json.dumps(CAMERA).replace("[[1", "[[1e999")),
        "DIR/cam.json: camera.c2w must hold finite numbers only",
    ),
    "camera with a ragged pose": (
        camera_with(c2w=[[1], [2, 3]]),
        "DIR/cam.json: camera.c2w must be a 4 x 4 matrix of numbers",
    ),
    "camera of absurd size": (
        camera_with(width=10**7),
        "DIR/cam.json: camera.width must be a whole number of pixels from 1 to 16384, got 10000000",
    ),
    "camera of 400 digits": (
        camera(json.dumps(CAMERA).replace(": 8", ": 8" + "0" * 400)),
        "DIR/cam.json: camera.width must be a whole number of pixels from 1 to 16384, got inf",
    ),
    "second camera broken": (
        camera(json.dumps([CAMERA, {**CAMERA, "fov_y": 0}])),
        "DIR/cam.json: camera 1.fov_y must be in (0, 180) degrees, got 0",
    ),
    "output of an unknown kind": (
        output("out.tif"),
        "DIR/out.tif must end in .png, .jpg, .jpeg, .npz, .exr, got '.tif'",
    ),
    "output in a missing folder": (
        output("none/out.png"),
        "DIR/none/out.png must lie in an existing folder, got DIR/none; create it first",
    ),
    "output that is a folder": (folder_as_output, "DIR/out.png must be a file name, got a folder"),
    "output that cannot be written": (
        lambda folder: ["render", write(folder), "-o", "/proc/out.png"],
        "/proc/out.png must be writable, got: No such file or directory",
    ),
    "nothing to inspect": (
        lambda folder: ["inspect", folder / "city.th"],
        "DIR/city.th: no such file; name a scene.yaml, a .th checkpoint or a folder with one of them",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_wrong_scene_or_argument_ends_in_its_sentence(name, tmp_path, capfd):
    build, sentence = OTHERS[name]
    check(build(tmp_path), sentence, tmp_path, capfd)


def test_a_folder_without_permission_ends_in_its_sentence(tmp_path, capfd):
    folder = tmp_path / "locked"
    write(folder)
    main(["inspect", str(tmp_path / "none.th")])  # imports what main needs while everything can be read
    capfd.readouterr()
    folder.chmod(0)
    user = os.geteuid()
    try:
        if user == 0:  # root may read anything
            os.seteuid(65534)
        assert main(["inspect", str(folder)]) == 1
    finally:
        os.seteuid(user)
        folder.chmod(0o755)
    sentence = f"{folder}: cannot be read (Permission denied); check its permissions"
    assert capfd.readouterr().err == f"error: {sentence}\n"


def test_nothing_in_a_refused_pickle_runs(tmp_path, capfd):
    path = add("extra", RunsCode())(tmp_path)
    for arguments in (["inspect", str(path)], ["render", str(path), "-o", str(tmp_path / "out.png")]):
        assert main(arguments) == 1
        out, err = capfd.readouterr()
        assert MARKER not in out + err


BOMBS = [
    "plane of absurd size",
    "grid of absurd size",
    "alpha mask of absurd size",
    "pickle that unfolds",
    "scene file that unfolds",
    "absurd number of samples",
]


def test_absurd_files_are_refused_within_little_memory(tmp_path):
    cases: list[tuple[Arguments, str]] = []
    for number, name in enumerate(BOMBS):
        folder = tmp_path / str(number)
        folder.mkdir()
        if name in CHECKPOINTS:
            build, sentence = CHECKPOINTS[name]
            cases.append((["render", build(folder), "-o", folder / "out.png"], sentence))
        else:
            cases.append((OTHERS[name][0](folder), OTHERS[name][1]))
    program = f"""
import resource
from landmark_viewer.core import render
from landmark_viewer.viewer.cli import main
main(["inspect", "none.th"])
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {256 * 2**20},) * 2)
for arguments in {[[str(word) for word in arguments] for arguments, _ in cases]!r}:
    assert main(arguments) == 1
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()[1:]
    expected = [f"error: {sentence}" for _, sentence in cases]
    assert [line.replace(f"{tmp_path}/{n}", "DIR") for n, line in enumerate(said)] == expected
