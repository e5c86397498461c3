"""Trainer: LandMark's schedule from the first step to the last checkpoint."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...cuda import ops
from ...cuda.train_tables import StepResult
from ..checkpoint.write import check_name, write_checkpoint
from ..errors import InputError
from ..metrics import psnr_from_mse
from ..render import Backend, Renderer, RenderSettings
from .batches import Batches
from .evaluate import evaluate, spread
from .events import (
    Event,
    Finished,
    MaskUpdated,
    NerfStarted,
    Outcome,
    Saved,
    Started,
    Stepped,
    Stopped,
    Tested,
    Upsampled,
    ViewScore,
    Warned,
)
from .losses import perceptual_loss
from .parameters import FieldParameters
from .photos import TrainingData
from .schedules import grid_size_at
from .settings import TrainSettings
from .state import RunFolder, check_same_run, fingerprint
from .step import train_step

SMOOTHED = 100  # last steps over which PSNR and time are averaged
REPORT_SECONDS = 0.25  # between two events of steps
TESTS_FOLDER = "tests"  # of test renders, in the run's folder


class Trainer:
    """Trains a field from photographs; a run that was stopped or killed goes on from its last state.

    In `folder` lie the state, the checkpoint `name` in LandMark's layout, and test renders.

    Args:
        settings: The run.
        data: Photographs to learn from and to test with.
        folder: Of this run alone; is made where it does not exist.
        name: Of the checkpoint's files.
        metadata: Plain data that is kept in the checkpoint.
        listener: Is told what happens, in the thread that trains.

    Raises:
        InputError: The settings contradict each other or this machine, there is nothing to learn from, or no
            checkpoint can have the name.
    """

    parameters: FieldParameters  # from the beginning of `run` on

    def __init__(
        self,
        settings: TrainSettings,
        data: TrainingData,
        folder: Path,
        name: str,
        metadata: Mapping[str, Any],
        listener: Callable[[Event], None] = lambda event: None,
    ) -> None:
        if settings.problem:
            raise InputError(f"training settings {settings.problem}")
        check_name(name)
        self.settings = settings
        self.iteration = 0  # steps done
        self._data = data
        self._folder = folder
        self._name = name
        self._metadata = dict(metadata)
        self._tell = listener
        self._device = device_of(settings)
        self._backend = backend_of(settings, self._device)
        self._perceptual = perceptual_loss(self._device) if settings.lpips_from >= 0 else None
        self._batches = Batches(data.train, settings, self._device)
        self._fingerprint = fingerprint(data)
        self._errors: deque[float] = deque(maxlen=SMOOTHED)  # mean squared errors of the last steps
        self._seconds: deque[float] = deque(maxlen=SMOOTHED)
        self._reported = -math.inf  # when steps were last told of
        self._kept = 0  # iteration of the last saved state
        self._saved: tuple[int, tuple[Path, ...]] = (-1, ())  # iteration and files of the last checkpoint
        self._tested: tuple[int, tuple[ViewScore, ...]] = (-1, ())  # iteration and scores of the last test

    def run(self, stop: Callable[[], bool] = lambda: False) -> Outcome:
        """Trains until all iterations are done or `stop` says so; then state and checkpoint are saved.

        Raises:
            InputError: The folder cannot be used or belongs to another run, the disk is full, or a number
                is no longer finite; the last saved state stays.
        """
        settings = self.settings
        with RunFolder(self._folder, self._name) as files:
            self._begin(files)
            while self.iteration < settings.iterations and not stop():
                i = self.iteration
                self._step(i)
                if _is_last_of(settings.test_every, i):
                    self._test()
                if i in settings.update_mask_at and self.parameters.nerf is None:
                    self._update_mask()
                if i in settings.upsample_at:
                    self._upsample()
                if i == settings.nerf_from:
                    self._add_nerf()
                if _is_last_of(settings.save_every, i):
                    self._save(files)
            return self._end(files)

    def _begin(self, files: RunFolder) -> None:
        """Goes on from the saved state, or starts with a first save: what cannot be written shows at once."""
        state = files.read()
        if state is None:
            self.parameters = FieldParameters.create(self.settings, self._data, self._device)
        else:
            check_same_run(state, self.settings, self._fingerprint, files.path)
            self.parameters = files.restore(state, self.settings, self._data, self._device)
            self.iteration = self._kept = state.iteration
        self._tell(
            Started(
                self.iteration,
                iterations=self.settings.iterations,
                n_parameters=sum(tensor.numel() for tensor in self.parameters.named().values()),
                grid_size=self.parameters.grid_size,
                backend=f"{self._backend.name} ({self._backend.detail})",
            )
        )
        if state is None:
            self._save(files)

    def _step(self, i: int) -> None:
        start = time.perf_counter()
        batch = self._batches.at(i)
        extra_loss = self._extra_loss(i, batch.rgb)
        is_native = self._backend.name == "native" and self.parameters.nerf is None and extra_loss is None
        with torch_threads(1 if is_native else self.settings.threads or torch.get_num_threads()):
            result = train_step(self.parameters, batch, i, extra_loss)
        self.iteration = i + 1
        losses = _losses(result)
        if not math.isfinite(sum(losses.values())):
            raise self._diverged(f"a loss of {sum(losses.values())}")
        now = time.perf_counter()
        self._errors.append(result.loss)
        self._seconds.append(now - start)
        if now - self._reported >= REPORT_SECONDS or self.iteration == self.settings.iterations:
            self._reported = now
            seconds = float(np.mean(self._seconds))
            self._tell(
                Stepped(
                    self.iteration,
                    psnr=psnr_from_mse(float(np.mean(self._errors))),
                    losses=losses,
                    seconds_per_step=seconds,
                    remaining_seconds=seconds * (self.settings.iterations - self.iteration),
                    n_inside=result.n_inside,
                    n_shaded=result.n_shaded,
                )
            )

    def _extra_loss(self, i: int, target: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Returns the LPIPS loss of an iteration whose batch is a patch."""
        perceptual, settings = self._perceptual, self.settings
        if perceptual is None or i < settings.lpips_from:
            return None
        patch = target.view(settings.patch_size, settings.patch_size, 3)
        return lambda rgb: settings.lpips_weight * perceptual(rgb.view_as(patch), patch)

    def _test(self) -> None:
        """Renders held-out photographs, if there are any."""
        numbers = spread(len(self._data.test), self.settings.test_views)
        if not numbers:
            return
        settings = RenderSettings(backend=Backend(self.settings.backend), threads=self.settings.threads)
        scores = evaluate(
            Renderer(self.parameters.model(), device=self._device),
            self._data.test,
            numbers,
            settings,
            self._folder / TESTS_FOLDER / f"{self.iteration:06d}",
        )
        self._tested = (self.iteration, scores)
        psnr, ssim = (float(np.mean([getattr(score, name) for score in scores])) for name in ("psnr", "ssim"))
        self._tell(Tested(self.iteration, scores, psnr, ssim))

    def _update_mask(self) -> None:
        warning = self.parameters.update_mask()
        if warning:
            self._tell(Warned(self.iteration, warning))
        elif self.parameters.occupancy is not None:
            share = float(self.parameters.occupancy.nodes.float().mean())
            self._tell(MaskUpdated(self.iteration, share))

    def _upsample(self) -> None:
        grid_size = grid_size_at(self.settings, self._data.bounds, self.iteration)
        self.parameters.upsample(grid_size)
        self._tell(Upsampled(self.iteration, grid_size))

    def _add_nerf(self) -> None:
        self.parameters.add_nerf()
        self._tell(NerfStarted(self.iteration))

    def _save(self, files: RunFolder) -> None:
        parameters = self.parameters
        moments = [moment for pair in parameters.moments.values() for moment in pair]
        with torch_threads(1):
            is_finite = all(bool(t.isfinite().all()) for t in (*parameters.named().values(), *moments))
        if not is_finite:
            raise self._diverged("a parameter that is not finite")
        files.write(parameters, self.iteration, self._fingerprint)
        self._kept = self.iteration
        metadata = self._metadata | {"iteration": self.iteration}
        photos, downsample = self._data.root, self._data.downsample
        checkpoint = write_checkpoint(parameters, self._folder, self._name, metadata, photos, downsample)
        self._saved = (self.iteration, checkpoint)
        self._tell(Saved(self.iteration, files.path, checkpoint))

    def _end(self, files: RunFolder) -> Outcome:
        is_finished = self.iteration >= self.settings.iterations
        if self._saved[0] != self.iteration:
            self._save(files)
        if is_finished and self._tested[0] != self.iteration:
            self._test()
        self._tell(Finished(self.iteration) if is_finished else Stopped(self.iteration))
        return Outcome(self.iteration, is_finished, self._saved[1], self._tested[1])

    def _diverged(self, what: str) -> InputError:
        return InputError(
            f"training must keep finite numbers, got {what} at iteration {self.iteration}; train anew with a "
            f"learning_rate below {self.settings.learning_rate:g} or a network_learning_rate below "
            f"{self.settings.network_learning_rate:g} (the state of iteration {self._kept} is kept)"
        )


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Lets torch use so many threads. They wait busily: beside the kernels' own ones only one is fast."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(settings: TrainSettings) -> torch.device:
    """Returns where to train.

    Raises:
        InputError: A CUDA device is asked for and not there.
    """
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise InputError("device cuda must be there, got none; take device auto or cpu")
    return torch.device("cuda" if has_cuda and settings.device != "cpu" else "cpu")


def backend_of(settings: TrainSettings, device: torch.device) -> ops.BackendStatus:
    """Returns what computes the steps, and why.

    Raises:
        InputError: The native kernels are asked for and cannot be had.
    """
    if settings.backend == "torch":
        return ops.BackendStatus("torch", "as asked for")
    status = ops.backend_status(device)
    if settings.backend == "native" and status.name != "native":
        raise InputError(f"backend native must be there, got {status.detail}; take backend auto or torch")
    return status


def _is_last_of(every: int, i: int) -> bool:
    """Whether iteration i, counted from 0, ends a round of `every`; never if that is not positive."""
    return every > 0 and i % every == every - 1


def _losses(result: StepResult) -> dict[str, float]:
    """Returns the parts of a step's loss that count."""
    parts = {
        "color": result.loss,
        "hull": result.hull_loss,
        "nerf": result.nerf_loss,
        "distortion": result.distortion,
        "lpips": result.extra,
    }
    return {name: value for name, value in parts.items() if value or name == "color"}
