"""The command line: what it makes, what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.render import Backend, Frame, Renderer, RenderSettings
from landmark_viewer.cuda.tables import FrameBuffers, Quality
from landmark_viewer.scenes.load import demo_scene_path, open_scene
from landmark_viewer.viewer import cli, render_command

from .synthetic import write

VIEW = look_at([0.4, -1.2, 1.2], [0, 0, 0.1])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write(tmp_path / "city", embedding=5)


def camera_file(folder: Path, *cameras: Camera) -> Path:
    path = folder / "cam.json"
    entries = [camera.to_json() for camera in cameras]
    path.write_text(json.dumps(entries if len(entries) > 1 else entries[0]))
    return path


def render(*arguments: object) -> None:
    assert cli.main(["render", *map(str, arguments)]) == 0


def rgb(path: Path) -> np.ndarray:
    with np.load(path) as data:
        return data["rgb"]


def test_help_names_every_command_and_needs_nothing_heavy(capsys):
    program = """
import sys
from landmark_viewer.viewer.cli import main
assert main(["--help"]) == 0
assert not {"torch", "numpy", "dearpygui", "yaml"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for word in ("render", "inspect", "demo", "exit codes"):
        assert word in done.stdout
    for command in cli.COMMANDS:
        assert cli.main([command, "--help"]) == 0
        assert f"landmark-viewer {command}" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    assert re.fullmatch(r"landmark-viewer \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["render"],
        ["render", "demo"],
        ["render", "demo", "-o", "x.png", "--quality", "best"],
        ["render", "demo", "-o", "x.png", "--quality", "clustered", "--cluster-weight", "0"],
        ["render", "demo", "-o", "x.png", "--size", "12"],
        ["render", "demo", "-o", "x.png", "--size", "99999x1"],
        ["render", "demo", "-o", "x.png", "--size", "0x1"],
        ["render", "demo", "-o", "x.png", "--threads", "-1"],
        ["render", "demo", "-o", "x.png", "--code", "1", "--style", "day"],
        ["--scale", "0"],
        ["--scale", "nan"],
    ],
)
def test_wrong_use_ends_with_code_2_and_a_usage_line(arguments, capsys):
    assert cli.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: landmark-viewer")


# render


def test_the_demo_renders_from_its_own_view(tmp_path, capsys):
    render("demo", "-o", tmp_path / "out.png", "--size", "48x27")
    picture = Image.open(tmp_path / "out.png")
    assert picture.size == (48, 27)
    red, green, blue = np.asarray(picture).reshape(-1, 3).mean(axis=0)
    assert green > red > blue  # lawns and trees
    camera = Camera.from_json(json.loads(picture.text["landmark-viewer"])["camera"])
    assert camera == open_scene(demo_scene_path()).home_camera(48, 27)
    assert capsys.readouterr().err == f"wrote {tmp_path / 'out.png'}\n"


def test_a_picture_is_what_the_renderer_makes(checkpoint, tmp_path):
    camera = Camera.from_fov(VIEW, 20, 15, 60)
    render(checkpoint, "--camera", camera_file(tmp_path, camera), "-o", tmp_path / "out.npz", "--normals")
    frame = Renderer(open_scene(checkpoint).model).render(camera, RenderSettings(normals=True))
    with np.load(tmp_path / "out.npz") as data:
        for name in ("rgb", "depth", "opacity", "median_depth", "normals"):
            assert np.array_equal(data[name], getattr(frame, name)), name
    assert frame.opacity.mean() > 0.1


def test_png_and_npz_of_a_view_agree(checkpoint, tmp_path):
    for name in ("out.png", "out.npz"):
        render(checkpoint, "-o", tmp_path / name, "--size", "20x15")
    pixels = np.asarray(Image.open(tmp_path / "out.png"))
    assert np.array_equal(pixels, np.rint(rgb(tmp_path / "out.npz") * 255).astype(np.uint8))


def test_an_angle_and_its_focal_length_give_the_same_picture(checkpoint, tmp_path):
    camera = Camera.from_fov(VIEW, 20, 15, 60)
    by_focal = camera.to_json()
    by_angle = {"c2w": by_focal["c2w"], "width": 20, "height": 15, "fov_y": 60}
    without_middle = {k: v for k, v in by_focal.items() if k not in ("cx", "cy", "fl_y")}
    three_rows = {**by_focal, "c2w": by_focal["c2w"][:3]}
    (tmp_path / "cam.json").write_text(json.dumps([by_focal, by_angle, without_middle, three_rows]))
    render(checkpoint, "--camera", tmp_path / "cam.json", "-o", tmp_path / "out.npz")
    pictures = [rgb(tmp_path / f"out_{number:04d}.npz") for number in range(4)]
    assert pictures[0].std() > 0.01
    for picture in pictures[1:]:
        assert np.array_equal(picture, pictures[0])


def test_an_off_centre_principal_point_shifts_the_picture(checkpoint, tmp_path):
    wide = Camera.from_fov(VIEW, 24, 16, 60).to_json()
    shifted = {**wide, "width": 20, "cx": wide["cx"] - 4}  # without the four columns on the left
    (tmp_path / "cam.json").write_text(json.dumps([wide, shifted]))
    render(checkpoint, "--camera", tmp_path / "cam.json", "-o", tmp_path / "out.npz")
    assert np.allclose(rgb(tmp_path / "out_0000.npz")[:, 4:], rgb(tmp_path / "out_0001.npz"), atol=1e-5)


def test_a_list_of_cameras_makes_numbered_files(checkpoint, tmp_path):
    path = tmp_path / "cam.json"
    path.write_text(json.dumps([Camera.from_fov(VIEW, 8, 6, 60).to_json()]))
    (tmp_path / "out").mkdir()
    render(checkpoint, "--camera", path, "-o", tmp_path / "out" / "view.jpg")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["view_0000.jpg"]


def test_size_goes_over_the_camera_file_and_keeps_its_angle(checkpoint, tmp_path):
    path = camera_file(tmp_path, Camera.from_fov(VIEW, 20, 15, 60))
    render(checkpoint, "--camera", path, "--size", "16x8", "-o", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as data:
        assert data["rgb"].shape == (8, 16, 3)
        assert Camera.from_json(json.loads(str(data["meta"]))["camera"]).fov_y == pytest.approx(60)


def test_code_and_style_choose_the_appearance(checkpoint, tmp_path):
    common = (checkpoint, "--size", "12x8", "--set", "appearance={code: 1, styles: {dusk: 3}}")
    render(*common, "-o", tmp_path / "scene.npz")
    render(*common, "--code", "1", "-o", tmp_path / "one.npz")
    render(*common, "--code", "3", "-o", tmp_path / "three.npz")
    render(*common, "--style", "dusk", "-o", tmp_path / "dusk.npz")
    assert np.array_equal(rgb(tmp_path / "scene.npz"), rgb(tmp_path / "one.npz"))
    assert np.array_equal(rgb(tmp_path / "dusk.npz"), rgb(tmp_path / "three.npz"))
    assert not np.array_equal(rgb(tmp_path / "one.npz"), rgb(tmp_path / "three.npz"))


@pytest.mark.parametrize("color", [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_background_of_the_scene_shows_where_nothing_is(checkpoint, tmp_path, color):
    away = Camera.from_fov(look_at([0, 0, 5], [0, 0, 9]), 6, 4, 60)
    path = camera_file(tmp_path, away)
    render(checkpoint, "--camera", path, "-o", tmp_path / "out.npz", "--set", f"background={list(color)}")
    assert (rgb(tmp_path / "out.npz") == color).all()


def test_white_background_alone_decides_where_no_background_is_stated(checkpoint, tmp_path):
    path = camera_file(tmp_path, Camera.from_fov(look_at([0, 0, 5], [0, 0, 9]), 6, 4, 60))
    for white in ("true", "false"):
        render(
            checkpoint,
            "--camera",
            path,
            "-o",
            tmp_path / "out.npz",
            "--set",
            f"model.white_background={white}",
        )
        assert (rgb(tmp_path / "out.npz") == (white == "true")).all()


def test_pictures_say_how_colours_were_shared(tmp_path):
    common = ("demo", "--size", "48x27", "--quality", "clustered")
    render(*common, "-o", tmp_path / "plain.npz")
    render(*common, "-o", tmp_path / "fine.npz", "--cluster-weight", "0.1", "--bfloat16")
    plain, fine = (np.load(tmp_path / f"{name}.npz") for name in ("plain", "fine"))
    said = json.loads(str(fine["meta"]))
    assert (said["cluster_weight"], said["bfloat16"]) == (0.1, True)
    assert "cluster_weight" not in json.loads(str(plain["meta"]))
    assert not np.array_equal(plain["rgb"], fine["rgb"])


@pytest.mark.parametrize("option", ["--bfloat16", "--cluster-weight=0.1"])
def test_exact_pictures_know_no_shortcuts(option, tmp_path, capsys):
    assert cli.main(["render", "demo", "-o", str(tmp_path / "out.png"), option]) != 0
    assert "--quality exact" in capsys.readouterr().err


def test_every_option_of_the_renderer_is_passed_on(checkpoint, tmp_path, monkeypatch):
    seen: list[tuple[Renderer, RenderSettings]] = []

    def fake(self, camera, settings, control):
        seen.append((self, settings))
        return Frame(camera, FrameBuffers.empty(camera.width, camera.height), settings.quality, True)

    monkeypatch.setattr(Renderer, "render", fake)
    options = (
        "--quality fast --precision half --threads 3 --backend torch --normals --code 2 --size 8x6 "
        "--cluster-weight 0.1 --bfloat16"
    )
    render(checkpoint, "-o", tmp_path / "out.png", *options.split())
    renderer, settings = seen[0]
    assert renderer.precision.value == "half"
    assert settings == RenderSettings(
        quality=Quality.FAST,
        appearance=Appearance.of(2),
        background=(0.0, 0.0, 0.0),
        normals=True,
        backend=Backend.TORCH,
        threads=3,
        cluster_weight=0.1,
        bfloat16=True,
    )


def test_the_precision_of_the_scene_holds_unless_the_command_line_says_otherwise(
    checkpoint, tmp_path, monkeypatch
):
    seen: list[str] = []
    monkeypatch.setattr(
        Renderer, "__init__", lambda self, model, precision, **_: seen.append(precision.value)
    )
    monkeypatch.setattr(Renderer, "close", lambda self: None)
    monkeypatch.setattr(render_command, "_render_shots", lambda *_: 0)
    common = (checkpoint, "-o", tmp_path / "out.png")
    render(*common)
    render(*common, "--set", "model.precision=half")
    render(*common, "--set", "model.precision=half", "--precision", "full")
    assert seen == ["auto", "half", "full"]


def test_a_render_makes_the_same_picture_in_another_folder(tmp_path, monkeypatch):
    copy = tmp_path / "copy"
    shutil.copytree(demo_scene_path().parent, copy)
    monkeypatch.chdir(copy)
    render("demo", "-o", tmp_path / "demo.npz", "--size", "16x9")
    render("scene.yaml", "-o", tmp_path / "copy.npz", "--size", "16x9")
    render(".", "-o", tmp_path / "folder.npz", "--size", "16x9")
    assert np.array_equal(rgb(tmp_path / "demo.npz"), rgb(tmp_path / "copy.npz"))
    assert np.array_equal(rgb(tmp_path / "demo.npz"), rgb(tmp_path / "folder.npz"))


def test_what_is_assumed_is_said(checkpoint, tmp_path, capsys):
    render(checkpoint, "-o", tmp_path / "out.png", "--size", "4x3")
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert "note: model.sampling is stated nowhere, so LandMark's default box is assumed." in notes


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Puts the handler of Ctrl+C back after a test that presses it."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("interrupts")
def test_an_interrupted_render_ends_with_130_and_keeps_only_complete_files(checkpoint, tmp_path, monkeypatch):
    original = Renderer.render

    def slow_second(self, camera, settings, control):
        if (tmp_path / "out" / "v_0000.png").exists():
            os.kill(os.getpid(), signal.SIGINT)
            while not control.is_cancelled:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)  # an impatient user
        return original(self, camera, settings, control)

    monkeypatch.setattr(Renderer, "render", slow_second)
    (tmp_path / "out").mkdir()
    view = Camera.from_fov(VIEW, 16, 12, 60)
    path = camera_file(tmp_path, view, view, view)
    arguments = ["render", str(checkpoint), "--camera", str(path), "-o", str(tmp_path / "out" / "v.png")]
    assert cli.main(arguments) == 130
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["v_0000.png"]
    assert Image.open(tmp_path / "out" / "v_0000.png").size == (16, 12)


def test_a_picture_too_large_for_the_memory_is_not_tried(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(render_command, "available_memory", lambda: 2**30)
    arguments = ["render", str(checkpoint), "-o", str(tmp_path / "out.png"), "--size", "16000x16000"]
    assert cli.main(arguments) == 1
    assert capsys.readouterr().err == (
        "error: the picture must fit into memory: 256 megapixels need 15.3 GiB, got 1.0 GiB; "
        "choose a smaller --size\n"
    )


# What nobody foresaw


def test_an_unforeseen_error_is_one_line_and_its_traceback_is_in_the_log(
    checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def broken(self, camera, settings, control):
        raise RuntimeError("the kernel is on strike\nand wants more registers")

    monkeypatch.setattr(Renderer, "render", broken)
    assert cli.main(["render", str(checkpoint), "-o", str(tmp_path / "out.png"), "--size", "4x3"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    match = re.fullmatch(r"error: RuntimeError: the kernel is on strike; the details are in (.*)", last)
    assert match
    assert Path(match[1]).is_relative_to(tmp_path)
    assert "in broken" in Path(match[1]).read_text()
    assert "wants more registers" in Path(match[1]).read_text()


def test_a_log_that_cannot_be_written_does_not_hide_the_error(monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    monkeypatch.setitem(cli.COMMANDS, "inspect", lambda _: 1 // 0)
    assert cli.main(["inspect", "demo"]) == 1
    assert capsys.readouterr().err == (
        "error: ZeroDivisionError: integer division or modulo by zero; "
        "the details are in no log file, since none could be written\n"
    )


def test_memory_that_runs_out_is_a_sentence(monkeypatch, capsys):
    def exhausted(_):
        raise MemoryError

    monkeypatch.setitem(cli.COMMANDS, "inspect", exhausted)
    assert cli.main(["inspect", "demo"]) == 1
    assert capsys.readouterr().err.startswith("error: there must be more free memory for this")


# inspect


def test_inspect_describes_a_checkpoint_a_scene_or_the_demo(checkpoint, capsys):
    kinds = {
        checkpoint: "sequential",
        checkpoint.parent: "sequential",
        "demo": "branch merged-stack",
        demo_scene_path(): "branch merged-stack",
        "brighton": "sequential",
    }
    for path, kind in kinds.items():
        assert cli.main(["inspect", str(path)]) == 0
        out = capsys.readouterr().out
        assert re.search(rf"^kind +{kind}$", out, re.MULTILINE)
        assert "resolution" in out


def test_a_reader_that_leaves_early_gets_no_traceback():
    program = f"{sys.executable} -m landmark_viewer.viewer.cli inspect demo | head -c 10"
    environment = {**os.environ, "LC_ALL": "C"}  # bash complains of a locale that is not installed
    done = subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, timeout=60, env=environment
    )
    assert len(done.stdout) == 10
    assert done.stderr == ""


# The window


@pytest.fixture
def window(monkeypatch) -> dict:
    """Stands in for the window and the display; holds what the window was asked to do."""
    asked: dict = {}

    class App:
        @staticmethod
        def run(path, **options):
            asked.update(options, path=path)
            return 0

    class Display:
        @staticmethod
        def probe_display():
            return asked.get("no display")

    monkeypatch.setitem(sys.modules, "landmark_viewer.viewer.app", App)
    monkeypatch.setitem(sys.modules, "landmark_viewer.viewer.display", Display)
    return asked


def test_the_window_gets_all_that_the_command_line_says(window, tmp_path):
    log = tmp_path / "events.jsonl"
    words = (
        f"city.th --set model.sampling=hull --set name=A --size 800x600 --scale 1.5 --event-log {log} --light"
    )
    assert cli.main(words.split()) == 0
    assert window == {
        "path": Path("city.th"),
        "overrides": ["model.sampling=hull", "name=A"],
        "size": (800, 600),
        "scale": 1.5,
        "event_log": log,
        "light": True,
    }


def test_the_window_opens_empty_or_with_the_demo(window):
    assert cli.main([]) == 0
    assert window["path"] is None
    assert cli.main(["demo"]) == 0
    assert window["path"] == demo_scene_path()


def test_without_a_display_the_answer_is_render_and_code_2(window, capsys):
    window["no display"] = "DISPLAY is not set"
    assert cli.main(["demo"]) == 2
    assert capsys.readouterr().err == (
        "error: no window can be opened (DISPLAY is not set); "
        "use landmark-viewer render for pictures without one\n"
    )
    assert "path" not in window


def test_the_real_probe_says_why_there_is_no_display():
    environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    done = subprocess.run(
        [sys.executable, "-m", "landmark_viewer.viewer.cli", "demo"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 2, done.stderr
    assert re.fullmatch(
        r"error: no window can be opened \(.+\); use landmark-viewer render .*\n", done.stderr
    )
