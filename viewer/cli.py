"""The command line. What is heavy is imported only where it is used, so that --help answers at once."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..scenes.text_file import read_text

if TYPE_CHECKING:
    from ..core.camera import Camera
    from ..core.output import Provenance
    from ..core.render import Frame, Renderer, RenderSettings
    from ..scenes.load import Scene

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130
HOME_SIZE = (1280, 720)  # pixels, of a picture for which neither --size nor --camera says otherwise
MAX_CAMERA_BYTES = 2**26
BYTES_PER_PIXEL = 64  # of buffers and copies while one picture is rendered and written

SCENE_HELP = "scene.yaml, LandMark checkpoint (.th), folder with one of them, or the word demo or brighton"
EPILOG = """\
commands:
  landmark-viewer [PATH]         open a window; without PATH it offers recent files and the demo
  landmark-viewer demo           open the town that ships with the program, in six seasons and lights
  landmark-viewer brighton       open the real place that ships with it
  landmark-viewer render SCENE   render pictures without a window   (render --help)
  landmark-viewer train PATH     train a scene from photographs     (train --help)
  landmark-viewer city DIR       make a town and photographs of it  (city --help)
  landmark-viewer inspect CKPT   print what a checkpoint holds      (inspect --help)

exit codes: 0 done, 1 failed with a message, 2 wrong use or no display, 130 interrupted
"""
CAMERA_EPILOG = """\
cam.json: {"c2w": 4x4 camera to world (OpenGL axes), "width": pixels, "height": pixels, "fov_y": degrees}, or
"fl_x" (pixels; also "fl_y", "cx", "cy") instead of "fov_y"; a list renders out_0000.png, out_0001.png, ...
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
    parser.add_argument("--size", type=_size, metavar="WxH", help="size of the window in pixels")
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
        _say(
            f"error: no window can be opened ({reason}); use landmark-viewer render for pictures without one"
        )
        return WRONG_USE
    from .app import run

    return run(
        _scene_path(given.path) if given.path else None,
        overrides=given.overrides,
        size=given.size,
        scale=given.scale,
        event_log=given.event_log,
        light=given.light,
    )


# render


@dataclass(frozen=True)
class Shot:
    """One picture to make."""

    camera: Camera
    output: Path


def _render(arguments: list[str]) -> int:
    given = _render_parser().parse_args(arguments)
    from ..core.appearance import Appearance
    from ..core.output import Provenance, check_output
    from ..core.render import Backend, Renderer, RenderSettings
    from ..core.settings import Precision
    from ..cuda.tables import Quality
    from ..scenes.load import open_scene

    logging.basicConfig(format="note: %(message)s")
    check_output(given.output)
    cameras = _read_cameras(given.camera) if given.camera else None
    scene = open_scene(_scene_path(given.scene), given.overrides)
    shots = _shots(cameras, scene, given.size, given.output)
    appearance = Appearance.of(_code(scene, given.code, given.style))
    for notice in scene.notices:
        _say(f"note: {notice}")
    settings = RenderSettings(
        quality=Quality(given.quality),
        appearance=appearance,
        background=scene.background,
        normals=given.normals,
        backend=Backend(given.backend),
        threads=given.threads,
    )
    precision = Precision(given.precision) if given.precision else scene.spec.model.precision
    renderer = Renderer(scene.model, precision)
    if settings.backend is Backend.NATIVE and renderer.backend_status.name != "native":
        raise InputError(f"--backend native must be left out here: {renderer.backend_status.detail}")
    provenance = Provenance(
        scene.opened.files, appearance, scene.background, metres_per_unit=scene.spec.frame.metres_per_unit
    )
    return _render_shots(renderer, shots, settings, provenance)


def _render_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="landmark-viewer render",
        description="Renders pictures of a scene without a window.",
        epilog=CAMERA_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scene", metavar="SCENE", help=SCENE_HELP)
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help=".png, .jpg, .npz or .exr"
    )
    parser.add_argument(
        "--camera", type=Path, metavar="CAM.json", help="view, or list of views; else the scene's own"
    )
    parser.add_argument("--size", type=_size, metavar="WxH", help="pixels; else the camera's, else 1280x720")
    parser.add_argument(
        "--quality",
        choices=("exact", "clustered", "fast"),
        default="exact",
        help="exact is LandMark's own picture",
    )
    appearance = parser.add_mutually_exclusive_group()
    appearance.add_argument("--code", type=int, metavar="N", help="row of the appearance table")
    appearance.add_argument("--style", metavar="NAME", help="one of the scene's appearance.styles")
    parser.add_argument("--normals", action="store_true", help="also write surface normals to .npz or .exr")
    parser.add_argument(
        "--precision", choices=("auto", "full", "half"), help="number format of the planes in memory"
    )
    parser.add_argument("--backend", choices=("auto", "native", "torch", "reference"), default="auto")
    parser.add_argument("--threads", type=threads, default=0, metavar="N", help="0: all cores")
    add_set(parser)
    return parser


def _code(scene: Scene, code: int | None, style: str | None) -> int:
    """Returns the appearance that the command line asks for, or else the scene."""
    from ..core.render import check_code

    if code is not None:
        check_code(scene.model, code, "--code")
        return code
    styles = dict(scene.spec.appearance.styles)
    if style is not None and style not in styles:
        known = f"one of {', '.join(styles)}" if styles else "left out, since the scene names no styles"
        raise InputError(f"--style must be {known}, got {style!r}")
    return scene.spec.appearance.code if style is None else styles[style]


def _read_cameras(path: Path) -> list[Camera] | Camera:
    """Reads a camera file: one view, or a list of views."""
    from ..core.camera import Camera

    data = _read_json(path)
    if not isinstance(data, list):
        return Camera.from_json(data, f"{path}: camera")
    if not data:
        raise InputError(f"{path} must hold at least one camera, got an empty list")
    return [Camera.from_json(entry, f"{path}: camera {number}") for number, entry in enumerate(data)]


def _read_json(path: Path) -> Any:
    text = read_text(path, "camera file", MAX_CAMERA_BYTES)
    try:
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits))
    except (ValueError, RecursionError):
        raise InputError(f"{path} must be a JSON file with a camera") from None


def _shots(
    cameras: list[Camera] | Camera | None, scene: Scene, size: tuple[int, int] | None, output: Path
) -> list[Shot]:
    """Pairs every view with its file; --size goes over what the camera file says."""
    if cameras is None:
        cameras = scene.home_camera(*(size or HOME_SIZE))
    several = isinstance(cameras, list)
    shots = []
    for number, camera in enumerate(cameras if isinstance(cameras, list) else [cameras]):
        name = f"{output.stem}_{number:04d}{output.suffix}" if several else output.name
        shots.append(Shot(camera.resized(*size) if size else camera, output.with_name(name)))
    _check_memory(max(shot.camera.width * shot.camera.height for shot in shots))
    return shots


def _check_memory(pixels: int) -> None:
    """Raises InputError if a picture is sure not to fit; Linux would grant the memory and kill us later."""
    needed, available = pixels * BYTES_PER_PIXEL, available_memory()
    if available is not None and needed > available:
        raise InputError(
            f"the picture must fit into memory: {pixels / 1e6:.0f} megapixels need {needed / 2**30:.1f} GiB, "
            f"got {available / 2**30:.1f} GiB; choose a smaller --size"
        )


def available_memory() -> int | None:
    """Returns the bytes that may still be used, caches included, where the system tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else None


def _render_shots(
    renderer: Renderer, shots: list[Shot], settings: RenderSettings, provenance: Provenance
) -> int:
    from ..core.output import write_frame

    for number, shot in enumerate(shots, 1):
        frame = _render_frame(renderer, shot.camera, settings, f"{shot.output.name} ({number}/{len(shots)})")
        if frame is None:
            return INTERRUPTED
        write_frame(shot.output, frame, provenance)
        _say(f"wrote {shot.output}")
    return DONE


def _render_frame(renderer: Renderer, camera: Camera, settings: RenderSettings, title: str) -> Frame | None:
    """Renders in a thread of its own, so that Ctrl+C is heard; None: interrupted."""
    from ..cuda.tables import RenderControl

    control = RenderControl(camera.width, camera.height)
    outcome: list[Frame | BaseException] = []

    def work() -> None:
        try:
            outcome.append(renderer.render(camera, settings, control))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the main thread
            outcome.append(error)

    thread = threading.Thread(target=work, name="render")
    usual = signal.signal(signal.SIGINT, lambda *_: control.cancel())
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            _show_progress(f"{title} {control.progress:4.0%}")
    finally:
        _show_progress("")
        # A second Ctrl+C must not tear the clean-up apart.
        signal.signal(signal.SIGINT, signal.SIG_IGN if control.is_cancelled else usual)
    if control.is_cancelled:
        return None
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


# inspect


def _inspect(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="landmark-viewer inspect", description="Prints what a checkpoint holds and what it lacks."
    )
    parser.add_argument("checkpoint", metavar="CKPT", help=f"one file of any layout, or {SCENE_HELP}")
    given = parser.parse_args(arguments)
    from ..core.checkpoint import describe
    from ..scenes.load import checkpoint_of

    for line in describe(checkpoint_of(_scene_path(given.checkpoint))).lines():
        print(line)
    return DONE


# train, city


def _train(arguments: list[str]) -> int:
    from .train_command import main as train

    return train(arguments)


def _city(arguments: list[str]) -> int:
    from .city_command import main as city

    return city(arguments)


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "render": _render,
    "train": _train,
    "inspect": _inspect,
    "city": _city,
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


def _size(text: str) -> tuple[int, int]:
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


def _scene_path(text: str) -> Path:
    from ..scenes.shipped import SHIPPED, demo_scene_path

    return demo_scene_path(text) if text in SHIPPED else Path(text)


# Messages


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def _fail(sentence: str) -> int:
    _say(f"error: {sentence}")
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
