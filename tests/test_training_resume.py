"""A run that is stopped or killed goes on to the same bits, and only with the run that it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.training.photos import TrainingData
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.core.training.state import METADATA_KEY, STATE_NAME, RunFolder
from landmark_viewer.core.training.trainer import Trainer

from .photos import SMALL, make_data

TINY = replace(
    SMALL,
    iterations=14,
    upsample_at=(4,),
    update_mask_at=(6,),
    mask_threshold=1e-6,
    tv_density_weight=0.1,
    l1_weight=1e-4,
    test_every=0,
    save_every=5,
    threads=1,
    device="cpu",
)
SETTINGS = {
    "plain": TINY,
    "all at once": replace(
        TINY, nerf_from=9, appearance_codes=True, nonlinear_density=True, orthogonality_weight=0.01, bias=True
    ),
    "three directions": replace(
        TINY, directions=3, density_channels=(4, 3, 2), appearance_channels=(6, 5, 4), activation="softplus"
    ),
    "blocks": replace(TINY, division=(2, 2)),
}
DATA = make_data(6, 0, (20, 15), dark=(2,))


def train(
    folder: Path, settings: TrainSettings = TINY, stop_at: int | None = None, data: TrainingData = DATA
) -> Trainer:
    """Trains from the last state on, until `stop_at` steps are done."""
    trainer = Trainer(settings, data, folder, "tiny", {})
    trainer.run(lambda: trainer.iteration == stop_at)
    return trainer


def metadata(folder: Path) -> dict:
    """Returns what the state says of itself."""
    with safe_open(folder / STATE_NAME, framework="pt") as file:
        return json.loads(file.metadata()[METADATA_KEY])


def assert_same_state(one: Path, other: Path) -> None:
    """Fails unless two runs are at the same place, bit for bit."""
    assert metadata(one) == metadata(other)
    a, b = load_file(one / STATE_NAME), load_file(other / STATE_NAME)
    assert a.keys() == b.keys()
    different = [key for key in a if not torch.equal(a[key], b[key])]
    assert not different


@pytest.fixture
def begun(tmp_path) -> Path:
    """The folder of a run that was stopped after three steps."""
    train(tmp_path / "run", stop_at=3)
    return tmp_path / "run"


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_that_was_stopped_ends_as_an_unbroken_one(tmp_path, name):
    settings = SETTINGS[name]
    train(tmp_path / "unbroken", settings)
    for stop_at in (2, 5, 7, 10, 13, None):  # after mask, up-sampling and NeRF branch, and between
        train(tmp_path / "stopped", settings, stop_at)
    assert_same_state(tmp_path / "unbroken", tmp_path / "stopped")
    assert metadata(tmp_path / "stopped")["iteration"] == 14
    checkpoints = [sorted(folder.glob("*.th")) for folder in (tmp_path / "unbroken", tmp_path / "stopped")]
    assert [path.name for path in checkpoints[0]] == [path.name for path in checkpoints[1]] != []


def test_the_state_holds_parameters_moments_and_mask(begun):
    trainer = train(begun)
    tensors = load_file(begun / STATE_NAME)
    for key, parameter in trainer.parameters.named().items():
        assert torch.equal(tensors[f"parameter/{key}"], parameter)
        for number, moment in enumerate(trainer.parameters.moments[key], 1):
            assert torch.equal(tensors[f"moment{number}/{key}"], moment)
    assert torch.equal(tensors["mask/nodes"], trainer.parameters.occupancy.nodes)
    found = metadata(begun)
    assert (found["iteration"], found["count"]) == (14, 14 - 5)  # moments start anew after the up-sampling
    assert tuple(found["grid_size"]) == trainer.parameters.grid_size
    assert found["settings"]["batch_size"] == 128


def test_a_finished_run_is_taken_further_with_more_iterations(tmp_path):
    lasting = replace(TINY, decay_iterations=14)
    train(tmp_path / "longer", replace(lasting, iterations=18))
    train(tmp_path / "further", lasting)
    train(tmp_path / "further", replace(lasting, iterations=18))
    a, b = (load_file(tmp_path / name / STATE_NAME) for name in ("longer", "further"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert metadata(tmp_path / "further")["iteration"] == 18


def test_iterations_stay_where_learning_rates_depend_on_them(tmp_path):
    lasting = replace(TINY, decay_iterations=14, reset_learning_rate=False)
    train(tmp_path, lasting, stop_at=1)
    with pytest.raises(InputError, match=r"iterations must stay 14, .*, got 18; put it back"):
        train(tmp_path, replace(lasting, iterations=18))


def test_what_does_not_change_the_model_may_change(begun):
    free = {
        "test_every": 7,
        "test_views": 1,
        "save_every": 4,
        "threads": 2,
        "backend": "torch",
        "tensorboard": True,
        "half_planes": True,
    }
    assert train(begun, replace(TINY, **free), stop_at=3).iteration == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"batch_size": 64},
            "batch_size must stay 128, with which .* was trained, got 64; put it back or train",
        ),
        ({"levels": (1, 2, 4)}, r"levels must stay \[1, 2\], .*, got \[1, 2, 4\]; put it back"),
        ({"seed": 5}, "seed must stay 20211202, .*, got 5; put it back"),
        ({"nerf_from": 8}, "nerf_from must stay -1, .*, got 8"),
        ({"iterations": 20}, "decay_iterations must stay 14, .*, got 20; set decay_iterations to 14 and"),
        (
            {"iterations": 20, "decay_iterations": 14, "reset_learning_rate": False},
            "reset_learning_rate must stay True|iterations must stay 14",
        ),
        ({"iterations": 2, "decay_iterations": 14}, "iterations must be at least 3, .*, got 2"),
    ],
)
def test_another_run_is_refused_by_the_setting_that_differs(begun, change, message):
    before = (begun / STATE_NAME).read_bytes()
    with pytest.raises(InputError, match=message):
        train(begun, replace(TINY, **change))
    assert (begun / STATE_NAME).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("cameras", make_data(6, 0, (20, 16), dark=(2,))),
        (
            "photographs",
            replace(DATA, train=replace(DATA.train, pixels=make_data(6, 0, (20, 15)).train.pixels)),
        ),
        ("appearance codes", replace(DATA, train=replace(DATA.train, codes=np.zeros(6, np.int32)))),
        ("bounds", replace(DATA, bounds=((-1.0, -1.0, 0.0), (1.0, 1.0, 0.7)))),
        ("near and far", replace(DATA, near_far=(0.5, 5.0))),
    ],
)
def test_other_data_are_refused_by_what_differs(begun, name, data):
    with pytest.raises(InputError, match=f"{name} must stay those with which .* got others"):
        train(begun, data=data)


def test_new_test_photographs_are_welcome(begun):
    assert train(begun, data=replace(DATA, test=make_data(1, 3, (20, 15)).test)).iteration == 14


def test_a_state_of_another_version_is_refused(begun):
    changed = metadata(begun) | {"format": 99}
    save_file(load_file(begun / STATE_NAME), begun / STATE_NAME, {METADATA_KEY: json.dumps(changed)})
    with pytest.raises(InputError, match="must have format version 1, got 99; go on with the program"):
        train(begun)


def without(begun: Path, key: str) -> None:
    tensors = load_file(begun / STATE_NAME)
    del tensors[key]
    save_file(tensors, begun / STATE_NAME, {METADATA_KEY: json.dumps(metadata(begun))})


def reshaped(begun: Path, key: str) -> None:
    tensors = load_file(begun / STATE_NAME)
    tensors[key] = tensors[key][:, 1:].contiguous()
    save_file(tensors, begun / STATE_NAME, {METADATA_KEY: json.dumps(metadata(begun))})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / STATE_NAME).write_bytes(b""),
        lambda folder: (folder / STATE_NAME).write_bytes((folder / STATE_NAME).read_bytes()[:-100]),
        lambda folder: (folder / STATE_NAME).write_bytes(b"\xff" * 1000),
        lambda folder: save_file({"a": torch.zeros(1)}, folder / STATE_NAME),
        lambda folder: save_file({"a": torch.zeros(1)}, folder / STATE_NAME, {METADATA_KEY: "[1, 2]"}),
        lambda folder: save_file({"a": torch.zeros(1)}, folder / STATE_NAME, {METADATA_KEY: "[" * 100_000}),
        lambda folder: save_file({"a": torch.zeros(1)}, folder / STATE_NAME, {METADATA_KEY: '{"format": 1}'}),
        lambda folder: without(folder, "moment2/app_line.0"),
        lambda folder: reshaped(folder, "parameter/density_plane.1"),
    ],
)
def test_a_broken_state_is_a_sentence(begun, spoil):
    spoil(begun)
    with pytest.raises(
        InputError, match=r"must be the state of this training run, got: .*; begin anew with --restart, or"
    ):
        train(begun)


def test_a_folder_belongs_to_one_run_at_a_time(begun):
    with RunFolder(begun, "other"), pytest.raises(InputError, match="must belong to one training at a time"):
        train(begun)
    assert train(begun).iteration == 14


def test_what_a_killed_process_left_is_removed_and_nothing_else(begun):
    strays = [begun / name for name in (f".{STATE_NAME}.tmp", ".tiny.th.tmp", ".tiny-sub0.th.tmp")]
    others = [begun / name for name in (".notes.tmp", "notes.txt", ".other.th.tmp")]
    for path in (*strays, *others):
        path.write_text("half")
    train(begun)
    assert not any(path.exists() for path in strays)
    assert all(path.read_text() == "half" for path in others)


# A child is killed a random while after one of its first events, drawn at random. Its own timer does it:
# a parent that waits for the processor would let it run to the end.
# Every third one is killed while it writes its state.
KILLED = """
import os, random, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.test_training_resume import DATA, KILLED_SETTINGS, metadata
from landmark_viewer.core.training import state, trainer
trainer.REPORT_SECONDS = 0.0

def train(folder, tell=lambda event: None):
    trainer.Trainer(KILLED_SETTINGS, DATA, folder, "tiny", {}, tell).run()

def live(folder, n_events, wait):
    def count(event, seen=[]):
        seen.append(event)
        if len(seen) == n_events:
            signal.setitimer(signal.ITIMER_REAL, wait)  # nobody handles SIGALRM, so it kills
    train(folder, count)
    os._exit(0)

def write_half(file, tensors, metadata):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

unbroken, killed = map(Path, sys.argv[1:])
train(unbroken)
draws, reached = random.Random(3), []
for number in range(10):
    n_events, wait = draws.randrange(2, 13), draws.uniform(1e-6, 0.01)
    child = os.fork()
    if child == 0:
        if number % 3 == 2:
            state._write_safetensors = write_half
        live(killed, n_events, wait)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == -(signal.SIGKILL if number % 3 == 2 else signal.SIGALRM), code
    reached.append(metadata(killed)["iteration"])
assert reached == sorted(reached), reached
assert len(set(reached)) > 3, reached
assert 0 < reached[-1] < KILLED_SETTINGS.iterations, reached
train(killed)
"""
KILLED_SETTINGS = replace(
    SETTINGS["all at once"],
    iterations=70,
    upsample_at=(10, 30),
    update_mask_at=(20,),
    nerf_from=-1,
    save_every=2,
)


def test_a_run_that_is_killed_at_ten_moments_ends_as_an_unbroken_one(tmp_path):
    root = Path(__file__).resolve().parents[1]
    folders = [tmp_path / "unbroken", tmp_path / "killed"]
    subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, folders)],
        check=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert_same_state(*folders)
    assert metadata(folders[1])["iteration"] == 70
