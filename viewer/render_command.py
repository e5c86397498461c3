"""`landmark-viewer render`: pictures of a scene without a window."""

from __future__ import annotations

import argparse
import json
import logging
import math
import signal
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..scenes.text_file import read_text
from .cli import DONE, INTERRUPTED, SCENE_HELP, add_set, available_memory, pixels, say, scene_path, threads

if TYPE_CHECKING:
    from ..core.appearance import Appearance
    from ..core.camera import Camera
    from ..core.output import Provenance
    from ..core.render import Frame, Renderer, RenderSettings
    from ..scenes.load import Scene

HOME_SIZE = (1280, 720)  # pixels, of a picture for which neither --size nor --camera says otherwise
MAX_CAMERA_BYTES = 2**26
BYTES_PER_PIXEL = 64  # of buffers and copies while one picture is rendered and written

CAMERA_EPILOG = """\
cam.json: {"c2w": 4x4 camera to world (OpenGL axes), "width": pixels, "height": pixels, "fov_y": degrees}, or
"fl_x" (pixels; also "fl_y", "cx", "cy") instead of "fov_y"; a list renders out_0000.png, out_0001.png, ...
"""


@dataclass(frozen=True)
class Shot:
    """One picture to make."""

    camera: Camera
    output: Path


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit code.

    Raises:
        InputError: The scene, an option or the output cannot be used.
    """
    given = _parser().parse_args(arguments)
    if given.quality == "exact" and (given.bfloat16 or given.cluster_weight is not None):
        option = "--bfloat16" if given.bfloat16 else "--cluster-weight"
        raise InputError(f"{option} must be left out with --quality exact, which keeps every bit")
    from ..core.edits.compile import EditCompiler
    from ..core.output import Provenance, check_output
    from ..core.render import Backend, Renderer, RenderSettings
    from ..core.settings import Precision
    from ..cuda.tables import Quality
    from ..scenes.load import open_scene, open_source

    logging.basicConfig(format="note: %(message)s")
    check_output(given.output)
    cameras = _read_cameras(given.camera) if given.camera else None
    scene = open_scene(scene_path(given.scene), given.overrides)
    shots = _shots(cameras, scene, given.size, given.output)
    appearance = _appearance(scene, given)
    for notice in scene.notices:
        say(f"note: {notice}")
    precision = Precision(given.precision) if given.precision else scene.spec.model.precision
    memory = scene.spec.memory if given.memory is None else replace(scene.spec.memory, device=given.memory)
    renderer = Renderer(scene.model, precision, memory=memory)
    if given.backend == "native" and renderer.backend_status.name != "native":
        raise InputError(f"--backend native must be left out here: {renderer.backend_status.detail}")
    metres_per_unit = scene.spec.frame.metres_per_unit
    edits = scene.edits if given.edits == "on" else ()
    settings = RenderSettings(
        quality=Quality(given.quality),
        appearance=appearance,
        background=scene.background,
        normals=given.normals,
        backend=Backend(given.backend),
        threads=given.threads,
        cluster_weight=given.cluster_weight,
        bfloat16=given.bfloat16,
        edits=EditCompiler(renderer, open_source, metres_per_unit).compile(edits) if edits else None,
    )
    provenance = Provenance(scene.opened.files, appearance, edits, scene.background, metres_per_unit)
    try:
        return _render_shots(renderer, shots, settings, provenance)
    finally:
        renderer.close()


def _parser() -> argparse.ArgumentParser:
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
    parser.add_argument("--size", type=pixels, metavar="WxH", help="pixels; else the camera's, else 1280x720")
    parser.add_argument(
        "--quality",
        choices=("exact", "clustered", "fast"),
        default="exact",
        help="exact is LandMark's own picture",
    )
    parser.add_argument(
        "--cluster-weight",
        type=_weight,
        metavar="W",
        help="clustered, fast: samples that weigh so much together share a colour; e.g. 0.1, less is finer",
    )
    parser.add_argument(
        "--bfloat16", action="store_true", help="clustered, fast: decode in bfloat16 where the processor can"
    )
    appearance = parser.add_mutually_exclusive_group()
    appearance.add_argument("--code", type=int, metavar="N", help="row of the appearance table")
    appearance.add_argument("--style", metavar="NAME", help="one of the scene's appearance.styles")
    appearance.add_argument(
        "--mix", metavar="A:0.3,B:0.7", help="styles or rows of the table with their weights"
    )
    parser.add_argument(
        "--edits", choices=("on", "off"), default="on", help="show the edit layers of the scene (on)"
    )
    parser.add_argument("--normals", action="store_true", help="also write surface normals to .npz or .exr")
    parser.add_argument(
        "--precision", choices=("auto", "full", "half"), help="number format of the planes in memory"
    )
    parser.add_argument(
        "--memory",
        type=_size,
        metavar="SIZE",
        help="of blocks at most, e.g. 4GB; pictures do not depend on it",
    )
    parser.add_argument("--backend", choices=("auto", "native", "torch", "reference"), default="auto")
    parser.add_argument("--threads", type=threads, default=0, metavar="N", help="0: all cores")
    add_set(parser)
    return parser


def _weight(text: str) -> float:
    """Reads a weight of samples."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1, got {text[:40]!r}")
    return value


def _size(text: str) -> int:
    """Reads a size in memory."""
    from ..scenes.memory_section import size

    try:
        return size(int(text) if text.isdecimal() else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a size such as 4GB or 500MB, got {text[:40]!r}") from None


def _appearance(scene: Scene, given: argparse.Namespace) -> Appearance:
    """Returns the appearance that the command line asks for, or else the scene."""
    if given.code is not None:
        return _row(scene, given.code, "--code")
    if given.mix is not None:
        return _mix(scene, given.mix)
    if given.style is None:
        return scene.spec.appearance.start
    styles = dict(scene.spec.appearance.styles)
    if given.style not in styles:
        known = f"one of {', '.join(styles)}" if styles else "left out, since the scene names no styles"
        raise InputError(f"--style must be {known}, got {given.style!r}")
    return styles[given.style]


def _row(scene: Scene, code: int, option: str) -> Appearance:
    from ..core.appearance import Appearance
    from ..core.render import check_code

    check_code(scene.model, code, option)
    return Appearance.of(code)


def _mix(scene: Scene, text: str) -> Appearance:
    """Returns a weighted mix of styles and rows; one that has all the weight stays exactly what it is."""
    from ..core.appearance import blend

    parts = [(part, weight) for part, weight in _weighted(scene, text) if weight > 0]
    if not parts:
        raise InputError(f"--mix must have a weight above 0, got {text}")
    if any(part.latent for part, _ in parts) and len(parts) > 1:
        parts = [(part.resolved(scene.model.embedding), weight) for part, weight in parts]
    mixed, total = parts[0]
    for part, weight in parts[1:]:
        total += weight
        mixed = blend(mixed, part, weight / total)
    return mixed


def _weighted(scene: Scene, text: str) -> list[tuple[Appearance, float]]:
    styles = dict(scene.spec.appearance.styles)
    parts = []
    for entry in text.split(","):
        name, colon, number = (word.strip() for word in entry.rpartition(":"))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not (colon and name and 0 <= weight < math.inf):
            raise InputError(f"--mix must be names or rows with weights such as day:0.3,dusk:0.7, got {text}")
        if name in styles:
            parts.append((styles[name], weight))
        elif name.isdecimal():
            parts.append((_row(scene, int(name), "--mix"), weight))
        else:
            known = f"{', '.join(styles)} or rows" if styles else "rows, since the scene names no styles"
            raise InputError(f"--mix must name {known}, got {name!r}")
    return parts


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


def _render_shots(
    renderer: Renderer, shots: list[Shot], settings: RenderSettings, provenance: Provenance
) -> int:
    from ..core.output import write_frame

    for number, shot in enumerate(shots, 1):
        frame = _render_frame(renderer, shot.camera, settings, f"{shot.output.name} ({number}/{len(shots)})")
        if frame is None:
            return INTERRUPTED
        write_frame(shot.output, frame, provenance)
        say(f"wrote {shot.output}")
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
