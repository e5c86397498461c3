"""`landmark-viewer train`: from photographs with poses to a scene that this program and LandMark open."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .cli import DONE, INTERRUPTED, add_set, threads

if TYPE_CHECKING:
    from ..core.training.events import Outcome
    from .train_report import Terminal

PATH_HELP = "scene.yaml with a section dataset, LandMark config (.txt), or photographs with poses"
EPILOG = """\
PATH may be
  scene.yaml          with  dataset: {path: FOLDER}  and, if you like,  train: {iterations: 10000}
  config.txt          of LandMark; its dataroot may lie beside it
  folder or file      transforms.json, COLMAP, Blender, LLFF, MatrixCity, ContextCapture,
                      or a folder such as images_5 of LandMark's data

DIR gets the state of the run, the checkpoint in LandMark's layout with its config.txt, scene.yaml, log.jsonl
and test renders. Ctrl+C saves and stops; the same command goes on. Poses must be known: COLMAP finds them.
"""


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit code."""
    given = _parser().parse_args(arguments)
    from ..scenes.training_spec import read_training_spec
    from .train_report import Terminal
    from .training_run import SCENE_FILE, run_training

    logging.basicConfig(format="note: %(message)s")
    spec = read_training_spec(given.path, given.overrides)
    if given.threads is not None:
        spec = replace(spec, train=replace(spec.train, threads=given.threads))
    folder = Path(os.path.abspath(given.out or spec.run_folder))
    with Terminal(given.quiet) as terminal:
        outcome = run_training(spec, folder, given.restart, terminal)
        if not outcome.is_finished:
            again = [argument for argument in arguments if argument != "--restart"]
            _say_stopped(outcome, spec.train.iterations, again, terminal)
            return INTERRUPTED
    if not given.quiet:
        _print_scores(outcome)
        print(shlex.join(["landmark-viewer", str(folder / SCENE_FILE)]))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landmark-viewer train",
        description="Trains a scene from photographs with known poses.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", type=Path, metavar="PATH", help=PATH_HELP)
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the run; else beside PATH")
    parser.add_argument("--restart", action="store_true", help="begin anew; an earlier run is moved aside")
    parser.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    parser.add_argument("--threads", type=threads, metavar="N", help="0: all cores")
    add_set(parser)
    return parser


def _say_stopped(outcome: Outcome, iterations: int, arguments: list[str], terminal: Terminal) -> None:
    command = shlex.join(["landmark-viewer", "train", *arguments])
    terminal.say(f"stopped and saved after iteration {outcome.iteration} of {iterations}", always=True)
    terminal.say(f"to go on: {command}", always=True)


def _print_scores(outcome: Outcome) -> None:
    """Prints how well held-out photographs are met."""
    if not outcome.scores:
        return
    rows = [(score.name, score.psnr, score.ssim) for score in outcome.scores]
    means = [sum(row[column] for row in rows) / len(rows) for column in (1, 2)]
    width = max(len("test view"), *(len(name) for name, *_ in rows))
    print(f"{'test view':{width}}  PSNR dB   SSIM")
    for name, psnr, ssim in (*rows, ("mean", *means)):
        print(f"{name:{width}}  {psnr:7.2f}  {ssim:5.3f}")
