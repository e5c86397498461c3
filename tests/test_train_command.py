"""landmark-viewer train: what it makes of photographs, how it goes on, what it says when it cannot."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors import safe_open

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.render import Renderer
from landmark_viewer.core.training import events
from landmark_viewer.scenes.landmark_config import read_landmark_config
from landmark_viewer.scenes.load import open_scene
from landmark_viewer.scenes.training_spec import read_training_spec
from landmark_viewer.viewer import cli, training_run
from landmark_viewer.viewer.train_report import Log, Terminal

from .dataset_files import View, write_transforms
from .photos import BOUNDS, NEAR_FAR, make_photos

SMALL = {
    "iterations": 24,
    "batch_size": 64,
    "levels": "[1]",
    "density_channels": "[4]",
    "appearance_channels": "[6]",
    "decoder_width": 32,
    "voxels_start": 500,
    "voxels_end": 1500,
    "upsample_at": "[6]",
    "update_mask_at": "[14]",
    "save_every": 8,
    "seed": 3,
    "threads": 1,
}
SMALL_SET = [argument for key, value in SMALL.items() for argument in ("--set", f"train.{key}={value}")]


@pytest.fixture(scope="session")
def small_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with transforms.json and nine small photographs, of which two are held out."""
    folder = tmp_path_factory.mktemp("photos") / "yard"
    folder.mkdir()
    made = make_photos(9, (24, 18), 0.0)
    views = []
    for number, camera in enumerate(made.cameras):
        camera = replace(camera, cx=camera.cx + 0.5, cy=camera.cy + 0.5)  # as the format counts pixels
        views.append(View(made.names[number], camera, made.pixels.image(number)[..., :3]))
    write_transforms(folder, views, bounds=BOUNDS, near_far=NEAR_FAR, metres_per_unit=30.0)
    return folder


def train(*arguments: object) -> int:
    return cli.main(["train", *map(str, arguments)])


def state(folder: Path) -> dict[str, np.ndarray]:
    with safe_open(folder / "state.safetensors", framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Makes the run get a signal when it has saved the state of an iteration."""

    def at(iteration: int, number: int = signal.SIGINT) -> None:
        usual = training_run.Run.__call__

        def write_and_interrupt(self: training_run.Run, event: object) -> None:
            usual(self, event)
            if isinstance(event, events.Saved) and event.iteration == iteration:
                signal.raise_signal(number)

        monkeypatch.setattr(training_run.Run, "__call__", write_and_interrupt)

    return at


# What comes out


def test_photographs_become_a_scene_that_the_viewer_opens(small_photos, tmp_path, capfd):
    run = tmp_path / "run"
    assert train(small_photos, "--out", run, *SMALL_SET, "--set", "dataset.scale=2") == 0
    out, err = capfd.readouterr()
    lines = out.splitlines()
    assert lines[0].split() == ["test", "view", "PSNR", "dB", "SSIM"]
    assert [line.split()[0] for line in lines[1:4]] == ["images/photo-0.png", "images/photo-8.png", "mean"]
    assert lines[4] == f"landmark-viewer {run}/scene.yaml"
    assert f"the run is kept in {run}\n" in err
    assert "7 photographs to learn from, 2 to test with (transforms)" in err
    assert re.search(r"the box from \(.*\) to \(.*\) is trained, with rays from \S+ to \S+\n", err)
    assert "iteration 7: the grid is refined to" in err

    scene = open_scene(run / "scene.yaml")
    assert scene.name == "yard"
    assert scene.opened.files == (run / "yard.th",)
    assert np.array_equal(scene.spec.frame.scene_from_source, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert scene.spec.frame.metres_per_unit == 15
    assert scene.spec.train.iterations == 24
    assert scene.spec.dataset.scale == 2
    frame = Renderer(scene.model).render(scene.home_camera(16, 12))
    assert np.isfinite(frame.rgb).all()
    assert frame.opacity.max() > 0
    assert read_landmark_config(run / "config.txt").settings.white_background is True
    assert read_training_spec(run / "config.txt").dataset.path == small_photos
    assert len(list((run / "tests").glob("*/*.png"))) == 2


def test_the_scene_opens_with_the_view_of_a_photograph(small_photos, tmp_path):
    train(small_photos, "--out", tmp_path / "run", *SMALL_SET, "--quiet", "--set", "train.iterations=1")
    camera = open_scene(tmp_path / "run" / "scene.yaml").home_camera(24, 18)
    eyes = [other.eye for other in make_photos(9, (24, 18), 0.0).cameras]
    assert min(np.abs(camera.eye - eye).max() for eye in eyes) < 1e-6
    assert camera.fov_y == pytest.approx(45)


def test_a_scene_file_keeps_what_it_says_and_names_its_photographs_from_where_it_lies(
    small_photos, tmp_path, capfd
):
    (tmp_path / "yard").symlink_to(small_photos)
    scene = {
        "version": 1,
        "name": "Our yard",
        "model": {"n_importance": 32},
        "appearance": {"code": 2, "styles": {"noon": 0, "dusk": 2}},  # goes before the photographs' own
        "frame": {"epsg": 25832, "origin": [1, 2, 3]},
        "camera": {"eye": [0, -1, 1], "target": [0, 0, 0]},
        "dataset": {"path": "yard"},
        "train": {"appearance_codes": True},
        "edits": [{"kind": "copy", "region": [[0, 0], [1, 0], [1, 1]], "source": "other.yaml"}],
    }
    (tmp_path / "place.yaml").write_text(json.dumps(scene))
    assert train(tmp_path / "place.yaml", *SMALL_SET, "--set", "train.iterations=2", "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    opened = open_scene(tmp_path / "place_run" / "scene.yaml")
    assert opened.name == "Our yard"
    assert opened.spec.model.n_importance == 32
    assert opened.spec.appearance.styles == (("noon", Appearance.of(0)), ("dusk", Appearance.of(2)))
    assert (opened.spec.frame.epsg, opened.spec.frame.origin) == (25832, (1, 2, 3))
    assert opened.spec.camera.eye == (0, -1, 1)
    assert opened.spec.dataset.path == Path("../yard")
    assert opened.spec.edits[0].source == Path("../other.yaml")
    again = [tmp_path / "place_run", "--set", "train.test_views=1"]
    assert train(*again) == 0
    assert "goes on from iteration 2" in capfd.readouterr().err


def test_photographs_with_codes_of_their_own_are_trained_with_them(small_photos, tmp_path):
    folder = tmp_path / "yard"
    shutil.copytree(small_photos, folder)
    data = json.loads((folder / "transforms.json").read_text())
    for number, frame in enumerate(data["frames"]):
        frame["appearance"] = 2 * (number % 2)
    data["appearances"] = ["noon", "snow", "no"]  # nothing shows snow
    (folder / "transforms.json").write_text(json.dumps(data))
    for answer, given in ((True, []), (False, ["--set", "train.appearance_codes=false"])):
        run = tmp_path / str(answer)
        few = [*SMALL_SET, "--set", "train.iterations=1", "--quiet", "--out", run]
        assert train(folder, *few, *given) == 0
        scene = open_scene(run / "scene.yaml")
        assert scene.spec.train.appearance_codes is answer
        assert (scene.model.embedding is not None) is answer
        assert scene.spec.appearance.styles == (
            (("noon", Appearance.of(0)), ("no", Appearance.of(2))) if answer else ()
        )


def test_a_box_as_high_as_wide_is_trained_with_planes_in_all_directions(small_photos, tmp_path):
    bounds = {"flat": "[[-1, -1, 0], [1, 1, 0.5]]", "object": "[[-1, -1, -1], [1, 1, 1]]"}
    for answer, kind, given in (
        (1, "flat", []),
        (3, "object", []),
        (1, "object", ["--set", "train.directions=1"]),
        (1, "object", ["--set", "train.division=[2, 2]"]),
    ):
        run = tmp_path / f"{kind}{len(given)}{answer}{''.join(given)[-3:-1]}"
        few = [*SMALL_SET, "--set", "train.iterations=1", "--quiet", "--out", run]
        for name in ("density", "appearance"):
            few += ["--set", f"train.{name}_channels=[4, 4, 4]"]
        assert train(small_photos, *few, "--set", f"dataset.bounds={bounds[kind]}", *given) == 0
        assert open_scene(run / "scene.yaml").model.n_directions == answer


def test_a_landmark_config_is_trained_as_it_stands(small_photos, tmp_path):
    (tmp_path / "config.txt").write_text(
        f"""
        dataroot = {small_photos.parent}
        datadir = {small_photos.name}
        dataset_name = city
        expname = yard by LandMark
        downsample_train = 1
        lb = [-1, -1, -0.05]
        ub = [1, 1, 0.7]
        train_near_far = [0.5, 6]
        n_iters = 3
        batch_size = 32
        N_voxel_init = 500
        N_voxel_final = 500
        n_lamb_sigma = [4, 4, 4]
        n_lamb_sh = [6, 6, 6]
        featureC = 32
        white_bkgd = 1
        branch_parallel = 1
        plane_division = [2, 1]
        """
    )
    assert train(tmp_path / "config.txt", "--quiet", "--threads", "1", "--out", tmp_path / "run") == 0
    scene = open_scene(tmp_path / "run" / "scene.yaml")
    assert scene.name == "yard by LandMark"
    assert scene.spec.train.threads == 1
    assert scene.model.layout.division == (2, 1)


# Going on


def test_an_interrupted_run_goes_on_to_the_same_end(small_photos, tmp_path, capfd, monkeypatch, interrupt):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(small_photos, "--out", whole, *SMALL_SET, "--quiet") == 0
    with monkeypatch.context():
        interrupt(8)
        assert train(small_photos, "--out", parts, *SMALL_SET) == 130
    monkeypatch.undo()
    said = capfd.readouterr().err
    assert "stopped and saved after iteration 8 of 24" in said
    assert f"to go on: landmark-viewer train {small_photos} --out {parts}" in said
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert (parts / "scene.yaml").is_file()

    assert train(small_photos, "--out", parts, *SMALL_SET) == 0
    assert "training goes on from iteration 8" in capfd.readouterr().err
    ours, theirs = state(parts), state(whole)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[key], theirs[key]) for key in ours)
    kinds = [entry["event"] for entry in log(parts)]
    assert kinds.count("started") == 2
    assert kinds.index("stopped") < kinds.index("finished")


def test_the_systems_wish_to_end_is_heard_too(small_photos, tmp_path, interrupt):
    interrupt(8, signal.SIGTERM)
    assert train(small_photos, "--out", tmp_path / "run", *SMALL_SET, "--quiet") == 130
    assert log(tmp_path / "run")[-1]["event"] == "stopped"


def test_restart_begins_anew_and_loses_nothing(small_photos, tmp_path, capfd):
    run = tmp_path / "run"
    few = [*SMALL_SET, "--set", "train.iterations=2"]
    assert train(small_photos, "--out", run, *few, "--restart") == 0
    old = (run / "yard.th").read_bytes()
    (run / "notes.txt").write_text("mine")
    capfd.readouterr()
    assert train(small_photos, "--out", run, *few, "--set", "train.seed=4", "--restart") == 0
    assert f"the earlier run lies in {run}_1 now" in capfd.readouterr().err
    assert (tmp_path / "run_1" / "yard.th").read_bytes() == old
    assert (tmp_path / "run_1" / "notes.txt").read_text() == "mine"
    assert (run / "yard.th").read_bytes() != old


def test_restart_is_the_way_out_of_a_broken_state(small_photos, tmp_path, capfd):
    run = tmp_path / "run"
    few = [small_photos, "--out", run, *SMALL_SET, "--set", "train.iterations=1", "--quiet"]
    assert train(*few) == 0
    (run / "state.safetensors").write_bytes(b"junk")
    assert "begin anew with --restart, or train into another folder" in refusal(capfd, *few)
    assert train(*few, "--restart") == 0


def test_other_settings_do_not_touch_an_earlier_run(small_photos, tmp_path, capfd):
    few = [*SMALL_SET, "--set", "train.iterations=2", "--quiet"]
    assert train(small_photos, "--out", tmp_path / "run", *few) == 0
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    assert train(small_photos, "--out", tmp_path / "run", *few, "--set", "train.seed=4") == 1
    assert "seed must stay 3" in capfd.readouterr().err
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before


# What is refused


def refusal(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert train(*arguments) == 1
    out, err = capfd.readouterr()
    assert out == ""
    *_, last = err.splitlines()
    assert last.startswith("error: ")
    return last


def test_a_folder_with_other_files_is_not_written_into(small_photos, tmp_path, capfd):
    (tmp_path / "scene.yaml").write_text(f"version: 1\ndataset: {{path: {small_photos}}}")
    said = refusal(capfd, tmp_path / "scene.yaml", "--out", tmp_path, *SMALL_SET)
    assert "must be a new folder or that of an earlier run, got one that holds scene.yaml" in said
    assert [entry.name for entry in tmp_path.iterdir()] == ["scene.yaml"]


def test_what_a_killed_run_left_before_its_first_state_is_no_hindrance(small_photos, tmp_path):
    run = tmp_path / "run"
    (run / "pixels").mkdir(parents=True)
    (run / ".state.safetensors.tmp").write_bytes(b"half")
    (run / "log.jsonl").touch()
    assert train(small_photos, "--out", run, *SMALL_SET, "--set", "train.iterations=1", "--quiet") == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.batch_size=0"], "--set: train.batch_size must be a whole number from 1 to 1048576, got 0"),
        (["train.batch_sise=1"], "--set: unknown key train.batch_sise; did you mean train.batch_size?"),
        (["dataset.downsample"], "--set must be key.path=value, got 'dataset.downsample'"),
        (
            ["train.nerf_from=4", "train.n_importance=2"],
            "train must have n_importance 3 or more for the NeRF branch, got 2",
        ),
        (["train.nerf_width=1"], "train.nerf_width must be a whole number from 2 to 4096, got 1"),
        (["dataset.path=nowhere"], "nowhere"),
        (["appearance.code=1"], "train.appearance_codes must be true for a scene with appearance codes"),
        (["train.voxels_end=2000000000", "train.levels=[64]"], "the field must fit into memory: planes of"),
        (["dataset.downsample=20"], "dataset.downsample must be at most the side of every photograph"),
    ],
)
def test_a_wrong_value_is_one_sentence_and_leaves_nothing_behind(
    small_photos, tmp_path, capfd, overrides, message
):
    given = [argument for text in overrides for argument in ("--set", text)]
    assert message in refusal(capfd, small_photos, "--out", tmp_path / "run", *given)
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_a_path_that_is_not_there_is_named(tmp_path, capfd):
    assert str(tmp_path / "gone") in refusal(capfd, tmp_path / "gone")
    assert str(tmp_path / "gone.yaml") in refusal(capfd, tmp_path / "gone.yaml")


def test_a_board_without_its_package_says_what_to_install(small_photos, tmp_path, capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said = refusal(capfd, small_photos, "--out", tmp_path / "run", "--set", "train.tensorboard=true")
    assert "pip install 'landmark-viewer[tensorboard]'" in said


def test_help_needs_nothing_heavy():
    program = """
import sys
from landmark_viewer.viewer.cli import main
assert main(["train", "--help"]) == 0
assert not {"torch", "numpy", "yaml", "rich"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--restart" in done.stdout


# What is said

STEP = events.Stepped(
    3,
    psnr=20.0,
    losses={"color": 0.01},
    seconds_per_step=0.5,
    remaining_seconds=3725.0,
    n_inside=4,
    n_shaded=2,
)
SCORE = events.ViewScore("a.png", psnr=21.0, ssim=float("nan"), picture=Path("a.png"))


def said_of(*events: object, quiet: bool = False, is_terminal: bool = False) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal, width=100)
    with Terminal(quiet, console) as terminal:
        for event in events:
            terminal(event)
    return text.getvalue()


def test_a_terminal_gets_a_bar_and_a_file_gets_lines():
    begun = events.Started(0, iterations=10, n_parameters=2_000_000, grid_size=(4, 5, 6), backend="native")
    lines = said_of(begun, STEP).splitlines()
    assert lines == [
        "training begins: 2.0 million parameters, a grid of 4 x 5 x 6, native",
        "iteration 3 of 10: PSNR 20.00 dB, 0.500 s/step, 1:02:05 left",
    ]
    assert " 3/10" in said_of(begun, STEP, is_terminal=True)


def test_quiet_still_warns():
    tested = events.Tested(3, (SCORE,), 21.0, 0.5)
    assert said_of(STEP, tested, events.Warned(3, "[odd] mask"), quiet=True) == "warning: [odd] mask\n"
    assert said_of(tested) == "iteration 3: test PSNR 21.00 dB, SSIM 0.500 over 1 view\n"


def test_a_log_on_a_full_disk_is_a_sentence_and_keeps_whole_lines(tmp_path):
    program = """
import resource, sys
from pathlib import Path
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.training import events
from landmark_viewer.viewer.train_report import Log

resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
log = Log(Path(sys.argv[1]))
try:
    while True:
        log(events.Finished(1))
except InputError as error:
    sys.exit(str(error))
finally:
    log.close()
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (
        done.stderr == f"{tmp_path}/log.jsonl must be writable, got: File too large; make room and train on\n"
    )
    assert {entry["event"] for entry in log(tmp_path)} == {"finished"}


def test_the_log_is_json_whatever_the_figures_are(tmp_path):
    for _ in range(2):
        file = Log(tmp_path)
        file(events.Tested(3, (SCORE,), float("inf"), float("nan")))
        file.close()
    entries = log(tmp_path)
    assert len(entries) == 2
    assert entries[0]["psnr"] is None
    assert entries[0]["scores"] == [{"name": "a.png", "psnr": 21.0, "ssim": None, "picture": "a.png"}]
