"""Opens scenes in the background: reads, packs, and says what there is, while the window lives on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.edits.layers import Stack
from ..core.errors import InputError
from ..core.kernels import EDITED, build_ahead, compile_next
from ..cuda.tables import Quality
from .block_map import NONE
from .plan import plan_camera
from .state import Mode, Pose, SceneFacts
from .units import plural

if TYPE_CHECKING:
    from ..core.edits.compile import EditCompiler
    from ..core.edits.compiled import CompiledEdits
    from ..core.render import Renderer
    from ..scenes.load import Scene

HOME_SIZE = (1600, 1000)  # pixels of the picture that the home view is made for; only their ratio counts
PLAN_WIDTH = 168  # pixels of the picture of the plan map: it must not delay the first picture

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A scene, ready to be shown."""

    facts: SceneFacts
    renderer: Renderer
    background: tuple[float, float, float]  # behind the scene, as its files say
    files: tuple[Path, ...]  # of the checkpoint
    plan: np.ndarray  # the scene from above, for the plan map; uint8 [height, width, 4]
    scene: Scene
    compiler: EditCompiler
    compiled: CompiledEdits | None  # the edits of the scene file

    @property
    def backend(self) -> str:
        """Which code renders at present, and why."""
        status = self.renderer.backend_status
        return f"{status.name}, {status.detail}" if status.detail else status.name


@dataclass(frozen=True)
class Failed:
    """Why a scene was not opened: one sentence."""

    text: str


class SceneLoader:
    """Runs one opening at a time as far as anyone hears of it: the result of an older one is dropped."""

    def __init__(self, on_done: Callable[[], None]) -> None:
        """`on_done` is called from the thread when there is something to take."""
        self._on_done = on_done
        self._lock = threading.Lock()
        self._newest = 0
        self._result: Loaded | Failed | None = None

    def open(self, path: Path, overrides: Sequence[str] = ()) -> None:
        """Starts to open a scene; what was being opened is forgotten."""
        with self._lock:
            self._newest += 1
            self._result = None
            number = self._newest
        work = threading.Thread(
            target=self._run, args=(number, path, tuple(overrides)), name="open", daemon=True
        )
        work.start()

    def take(self) -> Loaded | Failed | None:
        """Returns the result that was not taken yet."""
        with self._lock:
            result, self._result = self._result, None
        return result

    def _run(self, number: int, path: Path, overrides: tuple[str, ...]) -> None:
        result: Loaded | Failed
        try:
            result = load(path, overrides)
        except InputError as error:
            log.info("%s", error)
            result = Failed(str(error))
        except MemoryError:
            log.exception("out of memory")
            result = Failed(
                f"{path.name} must fit into memory; close other programs or choose model.precision: half"
            )
        except Exception as error:
            log.exception("opening failed")
            result = Failed(f"{path.name} was not opened: {type(error).__name__}: {error}")
        with self._lock:
            if number != self._newest:
                return
            self._result = result
        self._on_done()


def load(path: Path, overrides: Sequence[str] = ()) -> Loaded:
    """Opens a scene and packs its field for rendering.

    Raises:
        InputError: Something in the files cannot be used.
    """
    build_ahead()  # beside the import of torch, which takes as long
    from ..core.edits.compile import EditCompiler
    from ..core.render import Renderer
    from ..scenes.load import open_scene, open_source

    scene = open_scene(path, overrides)
    if any(layer.enabled for layer in scene.edits):
        compile_next(EDITED)
    renderer = Renderer(scene.model, scene.spec.model.precision, memory=scene.spec.memory)
    compiler = EditCompiler(renderer, open_source, scene.spec.frame.metres_per_unit)
    scene, compiled = _compiled(scene, compiler)
    facts = facts_of(scene, renderer)
    files = tuple(scene.opened.files)
    plan = _plan_picture(facts, scene, renderer)
    return Loaded(facts, renderer, scene.background, files, plan, scene, compiler, compiled)


def _compiled(scene: Scene, compiler: EditCompiler) -> tuple[Scene, CompiledEdits | None]:
    """Compiles the layers of a scene; one that cannot be shown is switched off, and a notice says why."""
    wanted = tuple(layer for layer in scene.edits if layer.enabled)
    try:
        return scene, compiler.compile(wanted)
    except InputError:
        shown: Stack = ()
    compiled, failures = None, []
    for layer in wanted:
        try:
            compiled = compiler.compile((*shown, layer))
            shown = (*shown, layer)
        except InputError as error:
            failures.append(f"{error}; the layer is switched off.")
    uids = {layer.uid for layer in shown}
    edits = tuple(replace(layer, enabled=layer.uid in uids) for layer in scene.spec.edits)
    notices = (*scene.notices, *failures)
    return replace(scene, spec=replace(scene.spec, edits=edits), notices=notices), compiled


def _plan_picture(facts: SceneFacts, scene: Scene, renderer: Renderer) -> np.ndarray:
    """Renders the scene from above."""
    from ..core.render import RenderSettings
    from .imaging import to_image

    camera = plan_camera(facts, scene.model.near_far[1], PLAN_WIDTH)
    settings = RenderSettings(
        Quality.FAST, facts.appearance, background=scene.background, complete=False
    )  # a city's blocks are not fetched for a small picture
    return to_image(Mode.COLOR, renderer.render(camera, settings).buffers, camera)


def facts_of(scene: Scene, renderer: Renderer) -> SceneFacts:
    """Collects what the panels say of a scene."""
    model, spec = scene.model, scene.spec
    low, high = (tuple(float(v) for v in corner) for corner in model.aabb)
    camera = scene.home_camera(*HOME_SIZE)
    distance = float(np.linalg.norm(scene.home_target() - camera.eye))
    present, n_bytes = _blocks_of(renderer)
    kind = scene.opened.kind
    if renderer.stream is not None:
        kind = f"{kind}, {plural(sum(present), 'block')}"
    return SceneFacts(
        path=scene.path.expanduser().absolute(),
        name=scene.name,
        kind=kind,
        n_bytes=n_bytes,
        precision=renderer.precision.value,
        aabb=(low, high),
        division=model.layout.division,
        present=present,
        n_levels=model.n_levels,
        n_directions=model.n_directions,
        channels=(model.density_channels, model.appearance_channels),
        n_codes=0 if model.embedding is None else len(model.embedding),
        styles=spec.appearance.styles,
        has_nerf=model.nerf is not None,
        metres_per_unit=spec.frame.metres_per_unit,
        epsg=spec.frame.epsg,
        origin=spec.frame.origin,
        home=Pose.from_matrix(camera.matrix, camera.fov_y, distance),
        notices=scene.notices,
        appearance=spec.appearance.start,
        edits=scene.edits,
        measurements=spec.measurements,
        has_photos=spec.dataset is not None,
        memory=spec.memory,
    )


def _blocks_of(renderer: Renderer) -> tuple[tuple[bool, ...], int]:
    """Returns which blocks a field has, and the bytes of them all, whether or not they are in memory."""
    from ..core.streaming.choice import packed_bytes

    model, precision, stream = renderer.model, renderer.precision, renderer.stream
    if stream is None:
        return tuple(block is not None for block in model.blocks), renderer.tables.n_bytes
    numbers = np.flatnonzero(stream.status().states != NONE)
    present = np.bincount(numbers, minlength=model.layout.n_blocks).astype(bool)
    if (source := model.source) is None:
        return tuple(present.tolist()), packed_bytes(model, precision)
    return tuple(present.tolist()), sum(source.n_bytes(block, precision) for block in numbers.tolist())
