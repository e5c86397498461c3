"""How fast and how good the picture is while the camera moves, and how soon it is exact at rest.

`python -m tests.bench.interactive_bench` from the checkout; `--write` puts the tables into RESULTS.md. Poses
come at a fixed rate from scripted flights, pictures are compared with the exact picture of the same pose.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from landmark_viewer.core.camera import Camera, camera_at, look_at
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.interactive.contracts import Budget, Look
from landmark_viewer.core.interactive.controller import Controller
from landmark_viewer.core.interactive.engine import Engine
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.settings import ModelSettings, Precision
from landmark_viewer.cuda.tables import FrameBuffers, Quality
from landmark_viewer.scenes.load import demo_scene_path, open_scene
from landmark_viewer.viewer.events import since_start
from landmark_viewer.viewer.imaging import to_image
from landmark_viewer.viewer.pictures import Picture, RenderRequest
from landmark_viewer.viewer.quality import ScaleController
from landmark_viewer.viewer.render_worker import RenderWorker
from landmark_viewer.viewer.state import Mode

from ..conftest import shared_folder
from ..trajectories import Place, Trajectory, trajectories
from .render_bench import CASES, camera_for, psnr
from .results import machine, write_section

SIZE = (640, 360)
RATE = 30.0  # poses per second
FRAMES, SCORED = 45, 3  # pictures of a flight, of which every so many are compared
FIXED = Budget(total=22_000, key=14_000, fill=3_500, edge=4_500)  # what a picture costs with fixed budgets
FLIGHTS = ("orbit", "forward", "turn", "reversal", "low", "path")
FIRST = FLIGHTS[:3]
ADAPTIVE_MS = 1000 / 15  # the window's wish where the resolution adapts
GOOD = 43.0  # dB
STREET = look_at((-0.85, 0.0, 0.12), (-0.35, 0.0, 0.06))  # between the houses of the demo town
PATIENCE = 60.0  # seconds


@dataclass
class Scene:
    """A field to fly over."""

    name: str
    renderer: Renderer
    place: Place
    look: Look
    exact_colors: dict[Camera, np.ndarray] = field(default_factory=dict)

    def settings(self, quality: Quality) -> RenderSettings:
        return RenderSettings(quality, self.look.appearance, background=self.look.background)

    def render(self, camera: Camera, quality: Quality) -> FrameBuffers:
        front = quality is Quality.EXACT  # a keyframe may be made of it
        buffers = FrameBuffers.empty(camera.width, camera.height, front=front)
        return self.renderer.render(camera, self.settings(quality), buffers=buffers).buffers

    def exact(self, camera: Camera) -> np.ndarray:
        """Returns the exact picture, rendered once. float32 [height, width, 3]"""
        if camera not in self.exact_colors:
            self.exact_colors[camera] = self.render(camera, Quality.EXACT).rgb.numpy()
        return self.exact_colors[camera]

    def flight(self, name: str, like: Camera | None = None) -> Trajectory:
        return trajectories(self.place)[name].seen_as(like or self.place.home)


def demo() -> Scene:
    scene = open_scene(demo_scene_path())
    home = scene.home_camera(*SIZE)
    place = Place.of(home, box_of(scene.model), STREET)
    return Scene("demo town", Renderer(scene.model, device="cpu"), place, Look(background=scene.background))


def checkpoint(case: str) -> Scene:
    settings = ModelSettings(white_background=True)
    model = open_checkpoint(shared_folder() / "oracle" / case / CASES[case], settings).model
    place = Place.of(camera_for(case, *SIZE), box_of(model))
    return Scene(case, Renderer(model, Precision.AUTO, "cpu"), place, Look())


def box_of(model: GridNeRF) -> np.ndarray:
    return model.aabb.double().numpy()


@dataclass
class Part:
    """Time that some work has taken."""

    ms: float = 0.0
    cpu_ms: float = 0.0

    @contextmanager
    def measured(self):
        """Adds what happens meanwhile."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield self
        self.ms += 1000 * (time.perf_counter() - wall)
        self.cpu_ms += 1000 * (time.process_time() - cpu)


@dataclass
class Shown:
    """One picture of a moving camera."""

    rgb: np.ndarray  # float32 [height, width, 3] in full size
    ms: float  # everything that it took
    published_ms: float  # until it could be shown
    scale: float = 1.0  # share of the full resolution per side
    cpu_ms: tuple[float, ...] = ()  # warping, fresh rays, next keyframe
    holes: float = 0.0


Pilot = Callable[[Camera, float, Trajectory], Shown]


class EnginePilot:
    """Flies as the window does: a budget from the controller, or a fixed one."""

    def __init__(self, scene: Scene, start: Camera, given: Budget | float, threads: int = 0) -> None:
        """`given`: the budget, or the milliseconds that a picture may take."""
        self.engine = Engine(scene.renderer, threads)
        self.look = scene.look
        self.fixed = given if isinstance(given, Budget) else None
        target = 1000 / RATE if self.fixed else given
        self.controller = Controller(target, start.width * start.height)
        self.rays = Part()
        scene.renderer.render_rays = self._counted(Renderer.render_rays.__get__(scene.renderer))
        self.engine.adopt(start, self.look, scene.render(start, Quality.EXACT))
        self.engine.prepare()
        self.engine.display(start, self.look, self.budget, 0.0)

    @property
    def budget(self) -> Budget:
        return self.fixed or self.controller.budget

    def __call__(self, camera: Camera, seconds: float, flight: Trajectory) -> Shown:
        self.controller = self.controller.keying(self.engine.key_area)
        budget, scale = self.budget, 1.0 if self.fixed else self.controller.scale
        self.rays = Part()
        with Part().measured() as display:
            course = flight.course(seconds)
            shown = self.engine.display(camera_at(camera, scale), self.look, budget, seconds, course)
        fresh_cpu_ms = self.rays.cpu_ms
        with Part().measured() as refine:
            n = max(budget.total + budget.check - shown.rays, budget.key)
            refined = self.engine.refine(n, None)
        self.controller = self.controller.after(display.ms, shown.rays, refine.ms, refined.rays, scale)
        return Shown(
            full_size(shown.buffers.rgb, camera),
            display.ms + refine.ms,
            display.ms,
            scale,
            (display.cpu_ms - fresh_cpu_ms, fresh_cpu_ms, refine.cpu_ms),
            shown.holes,
        )

    def _counted(self, render_rays: Callable) -> Callable:
        def counted(*given: object, **named: object) -> bool:
            with self.rays.measured():
                return render_rays(*given, **named)

        return counted


class FastPilot:
    """Renders every picture fast and in full."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def __call__(self, camera: Camera, seconds: float, flight: Trajectory) -> Shown:
        with Part().measured() as whole:
            buffers = self.scene.render(camera, Quality.FAST)
        return Shown(buffers.rgb.numpy(), whole.ms, whole.ms)


class AdaptivePilot:
    """Renders fast, at the resolution that the scale controller finds."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.controller = ScaleController(ADAPTIVE_MS)

    def __call__(self, camera: Camera, seconds: float, flight: Trajectory) -> Shown:
        scale = self.controller.scale
        with Part().measured() as whole:
            buffers = self.scene.render(camera_at(camera, scale), Quality.FAST)
        self.controller = self.controller.after(whole.ms, scale)
        return Shown(full_size(buffers.rgb, camera), whole.ms, whole.ms, scale)


def full_size(rgb: torch.Tensor, camera: Camera) -> np.ndarray:
    """Returns colours [h, w, 3] at the size of the camera, enlarged as a texture is."""
    if rgb.shape[:2] != (camera.height, camera.width):
        planes = rgb.permute(2, 0, 1)[None]
        size = (camera.height, camera.width)
        rgb = torch.nn.functional.interpolate(planes, size, mode="bilinear", align_corners=False)[0]
        rgb = rgb.permute(1, 2, 0)
    return rgb.numpy()


@dataclass(frozen=True)
class Flown:
    """What a flight was like."""

    fps: float
    p95_ms: float
    published_ms: tuple[float, float]  # mean, p95
    scale: float  # median
    psnr: tuple[float, float]  # mean, least
    cpu_ms: tuple[float, ...]  # mean per picture
    holes: float  # mean

    @property
    def quality(self) -> str:
        return f"{self.psnr[0]:.1f} / {self.psnr[1]:.1f}"


def fly(
    scene: Scene,
    flight: Trajectory,
    pilot: Pilot,
    frames: Iterable[int] = range(1, FRAMES + 1),
    scored: int = SCORED,
    rate: float = RATE,
) -> Flown:
    """Flies from rest; every so many pictures are compared with the exact one."""
    shown, decibels = [], []
    for number in frames:
        camera = flight.camera(number / rate)
        picture = pilot(camera, number / rate, flight)
        shown.append(picture)
        if number % scored == 0:
            decibels.append(psnr(picture.rgb, scene.exact(camera)))
            picture.rgb = picture.rgb[:0]
    ms, published = ([getattr(each, name) for each in shown] for name in ("ms", "published_ms"))
    return Flown(
        1000 / float(np.mean(ms)),
        float(np.percentile(ms, 95)),
        (float(np.mean(published)), float(np.percentile(published, 95))),
        float(np.median([each.scale for each in shown])),
        (float(np.mean(decibels)), min(decibels)),
        tuple(np.mean([each.cpu_ms for each in shown], axis=0)),
        float(np.mean([each.holes for each in shown])),
    )


def target_ms(rate: float = RATE) -> float:
    return 1000 / rate


@dataclass(frozen=True)
class Rest:
    """How a picture became exact."""

    good_s: float  # from the last move to GOOD dB
    exact_s: float  # to the finished picture
    difference: int  # largest to the renderer's own picture, of 255

    @property
    def cells(self) -> tuple[str, ...]:
        return f"{self.good_s:.2f}", f"{self.exact_s:.2f}", str(self.difference)


def rest(scene: Scene, frames: int = 20) -> Rest:
    """Orbits with the window's render thread, stops, and waits for the exact picture."""
    flight = scene.flight("orbit")
    pictures: list[Picture] = []

    def take() -> None:
        if picture := worker.take():
            pictures.append(picture)

    worker = RenderWorker(scene.renderer, take)
    try:
        begin = RenderRequest(flight.camera(0.0), background=scene.look.background, target_fps=RATE)
        worker.submit(begin)
        worker.wait_idle(PATIENCE)
        for number in range(1, frames + 1):
            worker.submit(replace(begin, camera=flight.camera(number / RATE), moving=True))
            time.sleep(1 / RATE)
        last = replace(begin, camera=flight.camera(frames / RATE))
        stopped = since_start()
        worker.submit(last)
        if not worker.wait_idle(PATIENCE):
            raise TimeoutError(f"the picture must be finished within {PATIENCE:g} s")
    finally:
        worker.stop(PATIENCE)
    exact = to_image(Mode.COLOR, scene.render(last.camera, Quality.EXACT), last.camera)[..., :3]
    resting = [picture for picture in pictures if picture.published > stopped and not picture.moving]
    good = next(each.published for each in resting if likeness(each.image, exact) >= GOOD)
    final = resting[-1]
    difference = int(np.abs(final.image[..., :3].astype(int) - exact).max())
    return Rest(good - stopped, final.published - stopped, difference)


def likeness(image: np.ndarray, exact: np.ndarray) -> float:
    """PSNR of 8 bit colours, dB; of another size 0."""
    return psnr(image[..., :3] / 255, exact / 255) if image.shape[:2] == exact.shape[:2] else 0.0


def compare(scene: Scene, names: Iterable[str], frames: int, scored: int) -> Iterable[tuple[str, ...]]:
    """Yields a row for each flight: the engine against every picture fast and adaptive resolution."""
    for name in names:
        flight = scene.flight(name)
        engine = fly_engine(scene, flight, target_ms(), frames, scored)
        fast = fly(scene, flight, FastPilot(scene), range(scored, frames + 1, 2 * scored), scored)
        adaptive = fly(scene, flight, AdaptivePilot(scene), range(1, frames + 1), scored)
        yield (
            scene.name,
            name,
            *measured_cells(engine),
            f"{fast.fps:.1f}: {fast.quality}",
            f"{adaptive.fps:.1f} at {adaptive.scale:g}: {adaptive.quality}",
        )


def fly_engine(
    scene: Scene,
    flight: Trajectory,
    given: Budget | float,
    frames: int = FRAMES,
    scored: int = SCORED,
    threads: int = 0,
    rate: float = RATE,
) -> Flown:
    pilot = EnginePilot(scene, flight.camera(0.0), given, threads)
    return fly(scene, flight, pilot, range(1, frames + 1), scored, rate)


def measured_cells(flown: Flown) -> tuple[str, ...]:
    """Returns what the columns MEASURED say."""
    mean, p95 = flown.published_ms
    parts = " / ".join(f"{ms:.0f}" for ms in flown.cpu_ms)
    scale = "" if flown.scale == 1 else f" at {flown.scale:g}"
    return f"{flown.fps:.1f}{scale}", f"{flown.p95_ms:.0f}", f"{mean:.0f} / {p95:.0f}", flown.quality, parts


MEASURED = (
    "fps",
    "p95 ms",
    "published ms, mean / p95",
    "dB, mean / least",
    "CPU-ms, warp / rays / key",
)


def fixed(scene: Scene, names: Iterable[str], frames: int, scored: int) -> Iterable[tuple[str, ...]]:
    """Yields rows with a fixed number of rays, on one thread and on two."""
    for name in names:
        for threads in (1, 2):
            flown = fly_engine(scene, scene.flight(name), FIXED, frames, scored, threads)
            yield scene.name, name, str(threads), *measured_cells(flown)


def others(scene: Scene) -> Iterable[tuple[str, ...]]:
    """Yields rows for another rate, other sizes and other fields of view."""
    home, (width, height) = scene.place.home, SIZE
    cases = {
        "60 Hz": (home, 60.0, FRAMES, SCORED),
        "1280x720": (home.resized(1280, 720), RATE, 20, 10),
        "1920x1080": (home.resized(1920, 1080), RATE, 20, 20),
        "25 degrees": (Camera.from_fov(home.matrix, width, height, 25), RATE, 24, 6),
        "90 degrees": (Camera.from_fov(home.matrix, width, height, 90), RATE, 24, 6),
    }
    for name, (like, rate, frames, scored) in cases.items():
        flight = scene.flight("orbit", like)
        flown = fly_engine(scene, flight, target_ms(rate), frames, scored, rate=rate)
        yield name, *measured_cells(flown)


def table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Formats rows as Markdown, and prints them as they come."""
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    print("\n" + "\n".join(lines), flush=True)
    for row in rows:
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def measure(scenes: list[Scene], quick: bool) -> str:
    """Runs everything and returns the tables."""
    frames, scored = (24, 6) if quick else (FRAMES, SCORED)
    names = FIRST if quick else FLIGHTS
    compared = ("scene", "flight", *MEASURED, "every picture fast: fps, dB", "adaptive: fps, scale, dB")
    texts = [table(compared, (row for scene in scenes for row in compare(scene, names, frames, scored)))]
    resting = ((scene.name, *rest(scene).cells) for scene in scenes)
    texts.append(table(("scene", f"s to {GOOD:g} dB", "s to exact", "largest difference of 255"), resting))
    if not quick:
        rows = (row for scene in scenes for row in fixed(scene, FIRST, frames, scored))
        texts.append(table(("scene", "flight", "threads", *MEASURED), rows))
        texts.append(table(("demo town, orbit", *MEASURED), others(scenes[0])))
    return "\n\n".join(texts)


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the demo town only, short flights")
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    chosen = parser.parse_args()
    scenes = [demo()]
    if (shared_folder() / "oracle").is_dir() and not chosen.quick:
        scenes += [checkpoint(case) for case in CASES]
    text = measure(scenes, chosen.quick)
    if chosen.write:
        about = (
            f"{SIZE[0]}x{SIZE[1]}, poses at {RATE:g} Hz from rest, against exact pictures of the same poses. "
            f"Fixed budgets: {FIXED.total} rays a picture. {machine()}"
        )
        write_section("interactive", f"## A moving camera\n\n{about}\n\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
