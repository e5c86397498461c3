"""The command line. What is heavy is imported only where it is used, so that --help answers at once."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from ..core.errors import InputError

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

SCENE_HELP = "scene.yaml, checkpoint (.th), block store, folder with one, or the word demo or brighton"
EPILOG = """\
commands:
  landmark-viewer [PATH]            open a window; without PATH it offers recent files and the demo
  landmark-viewer demo              open the town that ships with the program, in six seasons and lights
  landmark-viewer brighton          open the real place that ships with it
  landmark-viewer render SCENE      render pictures without a window  (render --help)
  landmark-viewer train PATH        train a scene from photographs    (train --help)
  landmark-viewer city DIR          make a town and photographs of it (city --help)
  landmark-viewer convert CKPT DIR  make a block store of a city      (convert --help)
  landmark-viewer inspect CKPT      print what a checkpoint holds     (inspect --help)

exit codes: 0 done, 1 failed with a message, 2 wrong use or no display, 130 interrupted
"""
logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        command = COMMANDS.get(arguments[0]) if arguments else None
        if command:
            return command(arguments[1:])
        return _window(arguments)
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one must not tear the clean-up apart
        return INTERRUPTED
    except SystemExit as stop:  # argparse has printed its message
        return stop.code if isinstance(stop.code, int) else WRONG_USE
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except MemoryError:
        return _fail(
            "there must be more free memory for this; choose a smaller --size or --set model.precision=half"
        )
    except Exception as error:  # noqa: BLE001 - the last resort: a sentence for the user, the traceback for the log
        return _fail(f"{type(error).__name__}: {_first_line(error)}; the details are in {_log_traceback()}")


# The window


def _window(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="landmark-viewer",
        description="Shows city-scale GridNeRF radiance fields.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="?", metavar="PATH", help=SCENE_HELP)
    parser.add_argument("--size", type=pixels, metavar="WxH", help="size of the window in pixels")
    parser.add_argument("--scale", type=_scale, metavar="S", help="size of text and buttons, 1 is 100 %%")
    parser.add_argument("--light", action="store_true", help="light theme")
    parser.add_argument("--event-log", type=Path, metavar="FILE", help="write one JSON line per event")
    parser.add_argument(
        "--version", action="version", version=f"landmark-viewer {version('landmark-viewer')}"
    )
    add_set(parser)
    given = parser.parse_args(arguments)
    from .display import probe_display

    if reason := probe_display():
        say(f"error: no window can be opened ({reason}); use landmark-viewer render for pictures without one")
        return WRONG_USE
    from .app import run

    return run(
        scene_path(given.path) if given.path else None,
        overrides=given.overrides,
        size=given.size,
        scale=given.scale,
        event_log=given.event_log,
        light=given.light,
    )


# inspect


def _inspect(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="landmark-viewer inspect", description="Prints what a checkpoint holds and what it lacks."
    )
    parser.add_argument("checkpoint", metavar="CKPT", help=f"one file of any layout, or {SCENE_HELP}")
    given = parser.parse_args(arguments)
    from ..core.checkpoint import describe
    from ..scenes.load import checkpoint_of

    for line in describe(checkpoint_of(scene_path(given.checkpoint))).lines():
        print(line)
    return DONE


# render, train, city, convert


def _render(arguments: list[str]) -> int:
    from .render_command import main as render

    return render(arguments)


def _train(arguments: list[str]) -> int:
    from .train_command import main as train

    return train(arguments)


def _city(arguments: list[str]) -> int:
    from .city_command import main as city

    return city(arguments)


def _convert(arguments: list[str]) -> int:
    from .convert_command import main as convert

    return convert(arguments)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "render": _render,
    "train": _train,
    "inspect": _inspect,
    "city": _city,
    "convert": _convert,
}


# Arguments


def add_set(parser: argparse.ArgumentParser) -> None:
    """Gives a command the option --set."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY.PATH=VALUE",
        help="set a key as if it stood in scene.yaml, e.g. model.sampling=hull; may be given several times",
    )


def pixels(text: str) -> tuple[int, int]:
    """Reads WIDTHxHEIGHT."""
    from ..core.camera import MAX_SIDE

    width, cross, height = text.lower().partition("x")
    is_size = cross and all(side.isdecimal() and 1 <= int(side[:9]) <= MAX_SIDE for side in (width, height))
    if not is_size:
        raise argparse.ArgumentTypeError(
            f"must be WIDTHxHEIGHT, up to {MAX_SIDE} pixels each, got {text[:40]!r}"
        )
    return int(width), int(height)


def _scale(text: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.5 <= scale <= 4:
        raise argparse.ArgumentTypeError(f"must be a number from 0.5 to 4, got {text!r}")
    return scale


def threads(text: str) -> int:
    """Reads a number of threads."""
    if not text.isdecimal() or not 0 <= int(text[:9]) <= 1024:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 1024, got {text!r}")
    return int(text)


def scene_path(text: str) -> Path:
    """Returns what a user names, or the shipped scene that a word stands for."""
    from ..scenes.shipped import SHIPPED, demo_scene_path

    return demo_scene_path(text) if text in SHIPPED else Path(text)


# The machine


def available_memory() -> int | None:
    """Returns the bytes that may still be used, caches included, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


# Messages


def say(text: str) -> None:
    """Tells the user something that is no result."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def _fail(sentence: str) -> int:
    say(f"error: {sentence}")
    return FAILED


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or ["no details"])[0]


def _log_traceback() -> str:
    """Writes the exception being handled to the log file and returns its name."""
    from platformdirs import user_log_path

    try:
        file = user_log_path("landmark-viewer", ensure_exists=True) / "landmark-viewer.log"
        handler = logging.FileHandler(file)
    except OSError:
        return "no log file, since none could be written"
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    try:
        logger.error("unexpected error in %s", " ".join(sys.argv), exc_info=True)
    finally:
        logger.removeHandler(handler)
        handler.close()
    return str(file)


if __name__ == "__main__":
    sys.exit(main())
