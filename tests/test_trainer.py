"""The trainer on a scene of two boxes: it learns, keeps its schedule, tells of it, fails in a sentence."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.metrics import psnr
from landmark_viewer.core.render import Backend, Renderer, RenderSettings
from landmark_viewer.core.training import events
from landmark_viewer.core.training import trainer as trainer_module
from landmark_viewer.core.training.evaluate import evaluate, spread
from landmark_viewer.core.training.parameters import FieldParameters
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.core.training.trainer import Trainer

from .photos import SMALL, MemoryPixels, make_data

TINY = replace(
    SMALL,
    white_background=True,
    iterations=12,
    test_every=0,
    save_every=0,
    threads=1,
    device="cpu",
    backend="torch",
)
DATA = make_data(6, 2, (20, 15))


class Run:
    """A trainer whose events are kept."""

    def __init__(self, folder: Path, settings: TrainSettings = TINY, data=DATA) -> None:
        self.events: list[events.Event] = []
        self.trainer = Trainer(settings, data, folder, "tiny", {"scene": "boxes"}, self.events.append)

    def __call__(self, stop: Callable[[], bool] = lambda: False):
        return self.trainer.run(stop)

    def of(self, kind: type[events.Event]) -> list:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def every_step(monkeypatch):
    """Steps are told of one by one."""
    monkeypatch.setattr(trainer_module, "REPORT_SECONDS", 0.0)


def test_loss_falls_and_held_out_views_get_better(tmp_path, every_step):
    run = Run(
        tmp_path, replace(TINY, iterations=120, batch_size=256, test_every=40, network_learning_rate=5e-3)
    )
    outcome = run()
    steps = run.of(events.Stepped)
    color = [step.losses["color"] for step in steps]
    assert np.mean(color[-20:]) < np.mean(color[:20]) / 3
    assert steps[-1].psnr > steps[9].psnr + 4
    tests = run.of(events.Tested)
    assert [test.iteration for test in tests] == [40, 80, 120]
    assert tests[-1].psnr > 14
    assert tests[-1].psnr > tests[0].psnr
    assert outcome.scores == tests[-1].scores
    assert tests[-1].psnr == pytest.approx(np.mean([score.psnr for score in outcome.scores]))


def test_events_come_in_the_order_of_the_schedule(tmp_path):
    settings = replace(
        TINY,
        upsample_at=(3, 7),
        update_mask_at=(3, 10),  # by 10 the NeRF branch is there, and the mask stays
        nerf_from=8,
        test_every=4,
        save_every=6,
        mask_threshold=1e-6,
    )
    run = Run(tmp_path, settings)
    run()
    assert [
        (type(event), event.iteration) for event in run.events if not isinstance(event, events.Stepped)
    ] == [
        (events.Started, 0),
        (events.Saved, 0),
        (events.Tested, 4),
        (events.MaskUpdated, 4),
        (events.Upsampled, 4),
        (events.Saved, 6),
        (events.Tested, 8),
        (events.Upsampled, 8),
        (events.NerfStarted, 9),
        (events.Tested, 12),
        (events.Saved, 12),
        (events.Finished, 12),
    ]
    sizes = [run.of(events.Started)[0].grid_size, *(event.grid_size for event in run.of(events.Upsampled))]
    assert sizes == sorted(sizes)
    assert math.prod(sizes[0]) == pytest.approx(12**3, rel=0.3)
    assert math.prod(sizes[-1]) == pytest.approx(20**3, rel=0.3)
    assert 0 < run.of(events.MaskUpdated)[0].share <= 1
    assert run.trainer.parameters.nerf is not None


def test_steps_tell_losses_time_and_samples(tmp_path, every_step):
    run = Run(tmp_path, replace(TINY, nerf_from=5, distortion_from=8))
    run()
    steps = run.of(events.Stepped)
    assert [step.iteration for step in steps] == list(range(1, 13))
    assert [sorted(step.losses) for step in (steps[5], steps[6], steps[8])] == [
        ["color"],
        ["color", "hull", "nerf"],
        ["color", "distortion", "hull", "nerf"],
    ]
    assert all(step.seconds_per_step > 0 and step.n_inside >= step.n_shaded > 0 for step in steps)
    remaining = [step.remaining_seconds / step.seconds_per_step for step in steps]
    assert remaining == pytest.approx(list(range(11, -1, -1)))


def test_a_mask_that_nothing_passes_is_a_warning_and_training_goes_on(tmp_path):
    run = Run(tmp_path, replace(TINY, update_mask_at=(2,), mask_threshold=1.5))
    assert run().is_finished
    assert [event.iteration for event in run.of(events.Warned)] == [3]
    assert "the mask stays as it is" in run.of(events.Warned)[0].message
    assert not run.of(events.MaskUpdated)
    assert run.trainer.parameters.occupancy is None


def test_a_run_that_is_stopped_saves_and_says_so(tmp_path):
    run = Run(tmp_path)
    outcome = run(lambda: run.trainer.iteration == 5)
    assert (outcome.iteration, outcome.is_finished) == (5, False)
    assert [type(event) for event in run.events[-2:]] == [events.Saved, events.Stopped]
    assert run.of(events.Saved)[-1].iteration == 5


def test_the_checkpoint_opens_and_shows_what_was_trained(tmp_path):
    run = Run(tmp_path)
    outcome = run()
    opened = open_checkpoint(outcome.checkpoint[0])
    settings = RenderSettings(backend=Backend.TORCH)
    camera = DATA.test.cameras[0]
    trained = Renderer(run.trainer.parameters.model()).render(camera, settings)
    assert np.abs(Renderer(opened.model).render(camera, settings).rgb - trained.rgb).max() < 1e-5


def test_the_same_seed_trains_the_same_field_and_another_seed_another(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        Run(tmp_path / name, replace(TINY, seed=seed, iterations=6))()
    a, b, c = (load_file(tmp_path / name / "state.safetensors") for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["parameter/density_plane.0"], c["parameter/density_plane.0"])


@pytest.mark.parametrize("change", [{"learning_rate": 1e30}, {"network_learning_rate": math.nan}])
def test_numbers_that_are_no_longer_finite_stop_the_run_and_the_state_stays(tmp_path, change):
    run = Run(tmp_path, replace(TINY, iterations=3, **change))
    with pytest.raises(
        InputError, match=r"must keep finite numbers, got .* \(the state of iteration 0 is kept\)"
    ):
        run()
    state = load_file(tmp_path / "state.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    fresh = FieldParameters.create(run.trainer.settings, DATA, torch.device("cpu"))
    assert torch.equal(state["parameter/app_plane.1"], fresh.appearance_planes[1])


def test_a_full_disk_is_a_sentence_and_the_old_state_stays(tmp_path):
    run = Run(tmp_path, replace(TINY, test_views=0))
    run(lambda: run.trainer.iteration == 3)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before["state.safetensors"]) // 2, limits[1]))
    try:
        with pytest.raises(InputError, match=r"state\.safetensors must be writable, got: File too large"):
            Run(tmp_path, replace(TINY, test_views=0))()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (Path("/proc/run"), tmp_path / "file"):
        with pytest.raises(InputError, match=f"{folder} must be a folder for the run's files, got: "):
            Run(folder)()


def test_a_name_that_no_checkpoint_can_have_is_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="the name of a checkpoint must be a plain file name"):
        Trainer(TINY, DATA, tmp_path / "new", "tower-sub0", {})
    assert not (tmp_path / "new").exists()


def test_the_config_beside_a_checkpoint_names_the_photographs(tmp_path):
    data = replace(DATA, root=tmp_path / "data" / "tower", downsample=5)
    Run(tmp_path / "run", replace(TINY, iterations=1), data)()
    lines = (tmp_path / "run" / "config.txt").read_text().splitlines()
    assert {f"dataroot = {tmp_path}/data", "datadir = tower", "downsample_train = 5"} <= set(lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directions": 2}, "training settings must have directions 1 or 3, got 2"),
        ({"device": "cuda"}, "device cuda must be there, got none; take device auto or cpu"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(tmp_path, change, message):
    if change.get("device") and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InputError, match=message):
        Run(tmp_path / "new", replace(TINY, **change))
    assert not (tmp_path / "new").exists()


def test_torch_keeps_to_one_thread_beside_the_native_kernels_only(tmp_path, monkeypatch):
    seen = []
    step = trainer_module.train_step

    def counted(*arguments):
        seen.append(torch.get_num_threads())
        return step(*arguments)

    monkeypatch.setattr(trainer_module, "train_step", counted)
    before = torch.get_num_threads()
    run = Run(tmp_path, replace(TINY, iterations=1, backend="auto", threads=2))
    run()
    is_native = run.of(events.Started)[0].backend.startswith("native")
    Run(tmp_path / "torch", replace(TINY, iterations=1, threads=2))()
    assert seen == [1 if is_native else 2, 2]
    assert torch.get_num_threads() == before


def test_batches_become_patches_when_lpips_begins(tmp_path, every_step, monkeypatch):
    shapes = []

    def difference(picture: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        shapes.append((tuple(picture.shape), tuple(target.shape)))
        return (picture - target).abs().mean()

    monkeypatch.setattr(trainer_module, "perceptual_loss", lambda device: difference)
    run = Run(tmp_path, replace(TINY, iterations=6, lpips_from=4, patch_size=9, lpips_weight=0.5))
    run()
    assert shapes == [((9, 9, 3), (9, 9, 3))] * 2
    assert ["lpips" in step.losses for step in run.of(events.Stepped)] == [False] * 4 + [True] * 2


def test_views_are_rendered_with_the_code_of_their_photograph(tmp_path):
    data = make_data(4, 0, (24, 16), dark=(1, 3))
    settings = replace(TINY, appearance_codes=True, iterations=60, network_learning_rate=0.01)
    run = Run(tmp_path / "run", settings, data)
    run()
    renderer = Renderer(run.trainer.parameters.model())
    scores = evaluate(renderer, data.train, range(4), RenderSettings(), tmp_path / "views", with_photos=True)
    swapped = evaluate(renderer, replace(data.train, codes=1 - data.train.codes), range(4), RenderSettings())
    assert all(right.psnr > wrong.psnr + 1 for right, wrong in zip(scores, swapped, strict=True))
    assert [score.name for score in scores] == list(data.train.names)
    assert len(list((tmp_path / "views").iterdir())) == 8
    for number, score in enumerate(scores):
        photo = iio.imread(tmp_path / "views" / f"000{number}-photo-{number}-photo.png")
        assert np.array_equal(photo, data.train.pixels.image(number)[..., :3])
        picture = iio.imread(score.picture)
        assert psnr(picture / 255, photo / 255) == pytest.approx(score.psnr, abs=0.2)


def test_unknown_pixels_of_a_held_out_photograph_do_not_count(tmp_path):
    run = Run(tmp_path, replace(TINY, iterations=1))
    run()
    renderer = Renderer(run.trainer.parameters.model())
    spoiled = [DATA.test.pixels.image(0).copy() for _ in range(2)]
    spoiled[1][2:9, 3:8] = 0
    spoiled[0][2:9, 3:8, 3] = 0
    photos = replace(DATA.test, pixels=MemoryPixels(tuple(spoiled)), cameras=(DATA.test.cameras[0],) * 2)
    known, hidden = evaluate(renderer, photos, [0, 1], RenderSettings())
    assert known.psnr == hidden.psnr
    assert known.psnr != evaluate(renderer, DATA.test, [0], RenderSettings())[0].psnr


def test_test_views_are_spread_over_the_photographs():
    assert spread(7, -1) == spread(7, 9) == list(range(7))
    assert spread(10, 3) == [0, 3, 6]
    assert spread(5, 0) == []
    assert spread(0, 5) == []


@pytest.mark.gpu
def test_a_run_on_a_cuda_device_learns_as_on_the_cpu_and_goes_on(tmp_path, every_step):
    losses = []
    for device in ("cpu", "cuda"):
        settings = replace(TINY, device=device, iterations=8, update_mask_at=(3,), mask_threshold=1e-6)
        run = Run(tmp_path / device, settings)
        run(lambda run=run: run.trainer.iteration == 5)
        rest = Run(tmp_path / device, settings)
        assert rest().is_finished
        losses.append([step.losses["color"] for step in (*run.of(events.Stepped), *rest.of(events.Stepped))])
    assert len(losses[0]) == 8
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
