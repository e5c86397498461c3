"""`landmark-viewer convert`: a field becomes a block store, of which only what is seen is in memory."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import InputError
from .cli import DONE, FAILED, INTERRUPTED, SCENE_HELP, add_set, say, scene_path

if TYPE_CHECKING:
    from ..core.store.convert import Progress, Report

LINE_SECONDS = 5.0  # between two lines of progress where there is no terminal
EPILOG = """\
  landmark-viewer convert CKPT STORE                  all blocks; Ctrl+C stops, the same command goes on
  landmark-viewer convert CKPT STORE --division 4x4   cut an undivided field into 4 x 4 blocks
  landmark-viewer convert CKPT STORE --block 7        add or replace one block of a store
  landmark-viewer convert STORE STORE2 --precision half   a store in another precision or division
  landmark-viewer convert --verify STORE              check every file of a store against its checksum
"""

Tell = Callable[[int, int, str], None]  # done, total, what else there is to say


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit code."""
    parser = _parser()
    given = parser.parse_intermixed_args(arguments)
    if given.verify:
        if len(given.paths) != 1:
            parser.error("--verify takes the store only")
        return _verify(Path(given.paths[0]), given.quiet)
    if len(given.paths) != 2:
        parser.error("a checkpoint and a store must be named")
    from ..core.settings import Precision
    from ..core.store.convert import convert, replace_block
    from ..scenes.load import open_scene
    from ..scenes.store_scene import write_store_scene

    store = Path(given.paths[1])
    scene = open_scene(scene_path(given.paths[0]), given.overrides)
    if not given.quiet:
        for notice in scene.notices:
            say(f"note: {notice}")
    if given.block is not None:
        replace_block(scene.opened, store, given.block)
        _print(given.quiet, f"{store}: block {given.block} is in place")
        return DONE
    try:
        with _progress("converting", given.quiet) as tell:
            report = convert(
                scene.opened,
                store,
                scene.spec.model.precision if given.precision == "auto" else Precision(given.precision),
                given.division,
                given.force,
                lambda progress: tell(progress.done, progress.total, _speed(progress)),
            )
    except KeyboardInterrupt:
        say("stopped; finished blocks are kept")
        say(f"to go on: {shlex.join(['landmark-viewer', 'convert', *arguments])}")
        return INTERRUPTED
    note = write_store_scene(scene, store, given.division or scene.model.layout.division)
    if note and not given.quiet:
        say(f"note: {note}")
    _print(given.quiet, _sentence(store, report))
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landmark-viewer convert",
        description="Writes a checkpoint or a scene as a block store, from which single blocks are fetched "
        "as they are needed; what a scene file says goes along.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="+", metavar="CKPT STORE", help=f"{SCENE_HELP}; and a new folder")
    parser.add_argument("--division", type=_division, metavar="AxB", help="blocks along x and y")
    parser.add_argument("--block", type=int, metavar="N", help="only this block, into a store that is there")
    parser.add_argument(
        "--precision",
        choices=("auto", "half", "full"),
        default="auto",
        help="of the planes; auto: as they are shown",
    )
    parser.add_argument("--force", action="store_true", help="write over a store that is there")
    parser.add_argument("--verify", action="store_true", help="check a store instead of writing one")
    parser.add_argument("--quiet", action="store_true", help="say nothing but warnings and errors")
    add_set(parser)
    return parser


def _division(text: str) -> tuple[int, int]:
    columns, cross, rows = text.lower().partition("x")
    if not cross or not all(part.isdecimal() and 1 <= int(part[:5]) <= 1024 for part in (columns, rows)):
        raise argparse.ArgumentTypeError(f"must be AxB, each from 1 to 1024, got {text[:40]!r}")
    return int(columns), int(rows)


def _verify(path: Path, quiet: bool) -> int:
    from ..core.store.store import Store, is_store
    from ..core.store.verify import verify

    if not is_store(path):
        raise InputError(f"{path}: must be the folder of a finished block store, but is none")
    store = Store.open(path)
    with _progress("checking", quiet) as tell:
        problems = verify(store, lambda done, total: tell(done, total, ""))
    for problem in problems:
        say(f"error: {problem}")
    if problems:
        return FAILED
    _print(quiet, f"{path}: every file is as it was written")
    return DONE


def _speed(progress: Progress) -> str:
    if not progress.n_bytes or not progress.seconds:
        return ""
    return f"{progress.n_bytes / progress.seconds / 1e6:.0f} MB/s"


def _sentence(store: Path, report: Report) -> str:
    sentence = f"{store}: {report.n_blocks} blocks"
    if report.n_taken_up:
        sentence += f", {report.n_taken_up} of them finished before"
    if report.largest_error is not None:
        sentence += (
            f"; planes do not divide evenly and were resampled, by {report.largest_error:.3g} at most where "
            f"values reach {report.largest_value:.3g}"
        )
    return sentence


def _print(quiet: bool, sentence: str) -> None:
    if not quiet:
        print(sentence)


@contextmanager
def _progress(what: str, quiet: bool) -> Iterator[Tell]:
    """Shows a bar on a terminal, else a line every few seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[facts]}"),
        TimeRemainingColumn(),
    )
    spoken = time.monotonic()
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, facts="")

        def tell(done: int, total: int, facts: str) -> None:
            nonlocal spoken
            bar.update(task, completed=done, total=total, facts=facts)
            if bar.disable and not quiet and time.monotonic() - spoken >= LINE_SECONDS:
                spoken = time.monotonic()
                say(f"{what}: {done} of {total} blocks" + f", {facts}" * bool(facts))

        yield tell
