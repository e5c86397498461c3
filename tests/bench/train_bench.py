"""How long a training step takes, all ways to make it in one run, on the same field and the same batches.

`python -m tests.bench.train_bench` from the checkout; `--write` puts the table into RESULTS.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from landmark_viewer.core.camera import Camera
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.rays import generate_rays, view_of
from landmark_viewer.core.settings import ModelSettings
from landmark_viewer.core.training.parameters import FieldParameters
from landmark_viewer.core.training.photos import Photos, TrainingData
from landmark_viewer.core.training.reference import ReferenceTraining
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.core.training.step import options_for, train_step
from landmark_viewer.cuda.train_tables import RayBatch

from ..conftest import shared_folder
from .results import machine, write_section

BOUNDS = ((-1.5, -1.5, -0.1), (1.5, 1.5, 0.3))
NEAR_FAR = (0.1, 4.0)
N_CODES = 29
N_BATCHES = 4
POSES = ("test_DJI_0026", "test_DJI_0033", "oblique")
CASE_B = TrainSettings(
    levels=(1, 2, 4),
    density_channels=(8, 8, 8),
    appearance_channels=(24, 24, 24),
    feature_pe=2,
    view_pe=2,
    bias=True,
    appearance_codes=True,
    activation="relu",
    white_background=True,
    batch_size=1024,
    iterations=1300,
    l1_weight=8e-5,
    tv_density_weight=0.1,
    tv_appearance_weight=0.01,
    voxels_start=110_000,  # 93 x 93 x 12
)
WIDE = replace(CASE_B, density_channels=(16,) * 3, appearance_channels=(48,) * 3)
CASE_D = replace(CASE_B, appearance_channels=(16,) * 3, division=(2, 2), voxels_start=100_000)
ORACLE = Path("oracle") / "b_seq_res124_app"
REFERENCE = "dense reference"
WAYS = (REFERENCE, "torch", "native")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    field: str
    way: str
    ms: float  # median, wall clock
    ratio: float  # time of the dense reference over this one
    n_shaded: int  # samples that the decoder saw, mean over the batches; 0: not counted


def created(settings: TrainSettings) -> FieldParameters:
    """Returns a field as it is before the first step."""
    nothing = Photos((), (), np.arange(N_CODES, dtype=np.int32), None)  # type: ignore[arg-type]
    data = TrainingData(nothing, nothing, BOUNDS, NEAR_FAR)
    return FieldParameters.create(settings, data, torch.device("cpu"))


def trained() -> FieldParameters:
    """Returns LandMark's own field of case b."""
    path = shared_folder() / ORACLE / "bb_b_seq_res124_app.th"
    model = open_checkpoint(path, ModelSettings(white_background=True)).model
    return FieldParameters.from_model(model, CASE_B, N_CODES)


FIELDS: dict[str, Callable[[], FieldParameters]] = {
    "8/24 channels, before the first step": lambda: created(CASE_B),
    "8/24 channels, trained, with mask": trained,
    "16/48 channels, before the first step": lambda: created(WIDE),
    "8/16 channels, 2 x 2 blocks, before the first step": lambda: created(CASE_D),
}


def make_batches(size: int) -> list[RayBatch]:
    """Draws rays from the stored poses; their colours are those of LandMark's pictures of them."""
    with np.load(shared_folder() / ORACLE / "oracle.npz") as stored:
        rays, colors = [], []
        for pose in POSES:
            rgb = stored[f"{pose}/opt0_code0/rgb_map"]
            height, width, _ = rgb.shape
            focal = float(stored[f"pose/{pose}/focal"])
            camera = Camera.from_focal(stored[f"pose/{pose}/c2w"], width, height, focal)
            rays.append(generate_rays(view_of(camera)))
            colors.append(torch.from_numpy(rgb.reshape(-1, 3)))
    origins, directions = (torch.cat(parts) for parts in zip(*rays, strict=True))
    rgb, random = torch.cat(colors), torch.Generator().manual_seed(0)
    batches = []
    for _ in range(N_BATCHES):
        pick = torch.randint(len(rgb), (size,), generator=random)
        codes = torch.randint(N_CODES, (size,), generator=random, dtype=torch.int32)
        jitter = torch.rand(size, generator=random)
        batches.append(RayBatch(origins[pick], directions[pick], rgb[pick], jitter, codes))
    return batches


def stepper(parameters: FieldParameters, way: str) -> Callable[[RayBatch, int], int]:
    """Returns the function that makes one step and tells how many samples were shaded."""
    if way == REFERENCE:
        training = ReferenceTraining(parameters)

        def dense(batch: RayBatch, iteration: int) -> int:
            training.step(batch, options_for(parameters, iteration))
            return 0

        return dense
    parameters.settings = replace(parameters.settings, backend=way)
    return lambda batch, iteration: train_step(parameters, batch, iteration).n_shaded


def measure(field: str, rounds: int) -> list[Row]:
    """Makes the steps in turn, so that a slow spell of the machine hits all ways alike."""
    make = FIELDS[field]
    steps = {way: stepper(make(), way) for way in WAYS}
    batches = make_batches(make().settings.batch_size)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    shaded: dict[str, list[int]] = {way: [] for way in WAYS}
    for iteration in range(rounds + 1):
        for way, step in steps.items():
            start = time.perf_counter()
            n_shaded = step(batches[iteration % N_BATCHES], iteration)
            if iteration:  # the first one allocates
                seconds[way].append(time.perf_counter() - start)
                shaded[way].append(n_shaded)
    median = {way: statistics.median(values) for way, values in seconds.items()}
    return [
        Row(
            field,
            way,
            1e3 * median[way],
            median[REFERENCE] / median[way],
            round(statistics.mean(shaded[way])),
        )
        for way in WAYS
    ]


def table(rows: list[Row]) -> str:
    """Formats rows as Markdown."""
    lines = ["| field | step | ms | times the reference | samples shaded |", "|---|---|---:|---:|---:|"]
    for row in rows:
        cells = (row.field, row.way, f"{row.ms:.0f}", f"{row.ratio:.1f}", str(row.n_shaded or ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three steps each")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    chosen = parser.parse_args()
    if not (shared_folder() / "oracle").is_dir():
        print(f"train_bench: skipped, {shared_folder()} does not hold the folder oracle")
        return 0
    rows: list[Row] = []
    for field in FIELDS:
        rows += measure(field, 3 if chosen.quick else 12)
        lines = table(rows).splitlines()
        print("\n".join(lines if len(rows) == len(WAYS) else lines[-len(WAYS) :]), flush=True)
    if chosen.write:
        how = f"Levels 1, 2, 4, 1024 rays, total variation and L1; median, wall clock. {machine()}"
        text = f"## Training steps\n\n{how}\n\n{table(rows)}\n"
        write_section("training", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
