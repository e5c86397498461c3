"""How well the shipped fields show photographs that they were not learnt from, the town with every code.

`python -m tests.bench.demo_bench` from the checkout, after `make demo-town`, which leaves the pictures of the
town in build/town; `--write` puts the tables into RESULTS.md.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.training.evaluate import evaluate
from landmark_viewer.scenes.datasets.dataset import DatasetOptions
from landmark_viewer.scenes.datasets.open import open_dataset
from landmark_viewer.scenes.load import demo_scene_path, open_scene

from ..conftest import shared_folder
from .results import machine, write_section

TOWN = Path(__file__).parents[2] / "build" / "town"


def town_scores(pictures: Path) -> tuple[list[str], np.ndarray, np.ndarray, float]:
    """Returns style names, the code of each test view, PSNR [view, code] in dB, and the mean SSIM."""
    scene = open_scene(demo_scene_path())
    photos = open_dataset(DatasetOptions(path=pictures)).test
    renderer, settings = Renderer(scene.model), RenderSettings(background=scene.background)
    styles = [name for name, _ in scene.spec.appearance.styles]
    psnr, ssim = np.zeros((len(photos), len(styles))), []
    for code in range(len(styles)):
        lit = replace(photos, codes=np.full(len(photos), code, dtype=np.int32))
        scores = evaluate(renderer, lit, range(len(photos)), settings)
        psnr[:, code] = [score.psnr for score in scores]
        ssim += [score.ssim for score, own in zip(scores, photos.codes, strict=True) if own == code]
    return styles, photos.codes, psnr, float(np.mean(ssim))


def town_report(pictures: Path) -> str:
    """Returns the table of the town."""
    styles, codes, psnr, ssim = town_scores(pictures)
    own = psnr[np.arange(len(codes)), codes]
    others = np.where(np.arange(len(styles)) == codes[:, None], -np.inf, psnr).max(axis=1)
    rows = [
        f"| {name} | {own[codes == code].mean():.2f} | {own[codes == code].min():.2f} | "
        f"{others[codes == code].mean():.2f} |"
        for code, name in enumerate(styles)
    ]
    return "\n".join(
        [
            "| appearance | PSNR with its code, mean | min | with the best other code, mean |",
            "|---|---|---|---|",
            *rows,
            f"| all {len(codes)} views | **{own.mean():.2f}** | {own.min():.2f} | {others.mean():.2f} |",
            "",
            f"SSIM {ssim:.3f}. The right code beats every other on {np.mean(own > others):.1%} of the views.",
        ]
    )


def brighton_report(pictures: Path) -> str:
    """Returns the table of Brighton Beach, whose photographs are 800 pixels wide."""
    scene = open_scene(demo_scene_path("brighton"))
    renderer, settings = Renderer(scene.model), RenderSettings(background=scene.background)
    rows = []
    for downsample in (4, 2, 1):
        photos = open_dataset(DatasetOptions(path=pictures, downsample=downsample)).test
        scores = evaluate(renderer, photos, range(len(photos)), settings)
        views = " | ".join(f"{score.psnr:.2f}" for score in scores)
        means = [np.mean([getattr(score, name) for score in scores]) for name in ("psnr", "ssim")]
        camera = photos.cameras[0]
        rows.append(f"| {camera.width}x{camera.height} | {views} | **{means[0]:.2f}** | {means[1]:.3f} |")
    head = "| size | DJI_0020 | DJI_0026 | DJI_0033 | PSNR, mean | SSIM, mean |"
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


def main() -> None:
    """Measures, prints, and keeps the table if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, default=TOWN, help="the town's dataset")
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md")
    given = parser.parse_args()
    text = "## The shipped fields against pictures that they were not learnt from\n\n"
    text += f"{machine()}\n\nThe town, 200x150, dB:\n\n{town_report(given.pictures)}\n\n"
    text += f"Brighton Beach, dB:\n\n{brighton_report(shared_folder() / 'data/brighton_beach')}\n"
    print(text)
    if given.write:
        write_section("demo_bench", text)


if __name__ == "__main__":
    main()
