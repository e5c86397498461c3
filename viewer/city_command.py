"""`landmark-viewer city`: writes a data set of the procedural town."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.errors import InputError
from ..scenes.city.appearances import APPEARANCES
from ..scenes.city.dataset import CityOptions, write_city
from ..scenes.city.town import Addition, TownSpec

_CODES = ", ".join(f"{code} {appearance.name}" for code, appearance in enumerate(APPEARANCES))


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit code.

    Raises:
        InputError: An option cannot be used, or the folder cannot be written.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    given = _parser().parse_args(arguments)
    options = CityOptions(
        TownSpec(
            given.seed, _pair(given.blocks, "--blocks"), tuple(given.remove), tuple(map(_addition, given.add))
        ),
        train=given.train,
        test=given.test,
        size=_pair(given.size, "--size"),
        samples=given.samples,
        appearances=_codes(given.appearances),
    )
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("planning views", total=None)

        def report(done: int, total: int) -> None:
            bar.update(task, description="drawing", completed=done, total=total)

        drawn = write_city(given.out, options, given.workers, report)
    print(f"{given.out}: {drawn} pictures drawn; the data set is complete")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landmark-viewer city",
        description="Writes pictures of a procedural town as a data set in the form of MatrixCity's. "
        "A run that was interrupted goes on where it stopped.",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the data set")
    parser.add_argument("--blocks", default="2x2", metavar="WxD", help="of 100 m, 2x2 to 100x100 (2x2)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another number is another town (1)")
    parser.add_argument("--train", type=int, default=600, metavar="N", help="training views (600)")
    parser.add_argument(
        "--test", type=int, default=12, metavar="N", help="test views, each in every appearance (12)"
    )
    parser.add_argument("--size", default="200x150", metavar="WxH", help="of the pictures, pixels (200x150)")
    parser.add_argument(
        "--samples", type=int, default=2, metavar="N", help="N x N samples are averaged for each pixel (2)"
    )
    parser.add_argument(
        "--appearances", default="all", metavar="CODES", help=f"all, or codes with commas: {_CODES} (all)"
    )
    parser.add_argument(
        "--remove",
        type=int,
        action="append",
        default=[],
        metavar="ID",
        help="leave a building out; repeatable",
    )
    parser.add_argument(
        "--add",
        action="append",
        default=[],
        metavar="ID@X,Y[,DEGREES]",
        help="add a copy of a building at a place in metres, turned counter-clockwise; repeatable",
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes (2)")
    return parser


def _pair(text: str, option: str) -> tuple[int, int]:
    first, _, second = text.lower().partition("x")
    try:
        return int(first), int(second)
    except ValueError:
        raise InputError(f"{option} must be two whole numbers such as 4x3, got {text}; correct it") from None


def _codes(text: str) -> tuple[int, ...]:
    if text == "all":
        return tuple(range(len(APPEARANCES)))
    try:
        return tuple(int(code) for code in text.split(","))
    except ValueError:
        raise InputError(f"--appearances must be all or codes such as 0,3, got {text}; correct it") from None


def _addition(text: str) -> Addition:
    building, _, place = text.partition("@")
    try:
        x, y, degrees = (*(float(number) for number in place.split(",")), 0.0)[:3]
        if place.count(",") > 2:
            raise ValueError
        return Addition(int(building), x, y, degrees)
    except ValueError:
        raise InputError(f"--add must be ID@X,Y or ID@X,Y,DEGREES, got {text}; correct it") from None
