"""What a picture is compared with: the scene otherwise, another checkpoint, or a photograph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.appearance import Appearance
from ..core.camera import Camera
from ..core.compare import seen_from
from ..core.errors import InputError
from ..cuda.tables import Quality
from .jobs import Jobs, Progress
from .state import MAX_FOV, MIN_FOV, Against, Mode, Pose, ViewerState

if TYPE_CHECKING:
    from ..core.render import Frame, RenderSettings
    from ..core.streaming.contracts import MemoryBudget
    from ..cuda.tables import FieldTables, FrameBuffers, RenderControl
    from .opening import Loaded
    from .pictures import Renderer, RenderRequest
    from .training_photos import TrainingPhotos

SHARED = "Meanwhile B may use a quarter of the memory budget, and A the rest"
SAME_PLACE = 1e-4  # share of the distance to the pivot by which the camera may miss a photograph's place


@dataclass(frozen=True)
class Photo:
    """A photograph as B."""

    name: str
    code: int  # appearance code that it was trained with
    camera: Camera


@dataclass(frozen=True)
class Counterpart:
    """B: who renders it, and what is asked otherwise than of A."""

    label: str
    renderer: Any = field(repr=False)  # a Renderer
    changes: tuple[tuple[str, Any], ...] = ()  # fields of a request
    photo: Photo | None = None
    remark: str = ""
    files: tuple[Path, ...] = ()  # of its checkpoint; none: those of the open scene

    def request(self, request: RenderRequest) -> RenderRequest:
        """Returns what to ask for B where `request` is asked of A."""
        return replace(request, **dict(self.changes))

    def note(self, request: RenderRequest) -> str:
        """Says where B is not what one might expect."""
        if self.photo is not None and not _same_place(self.photo.camera, request.camera):
            return "The camera has left the place of the photograph"
        if self.photo is not None and request.mode is not Mode.COLOR:
            return "A photograph has colours only"
        return self.remark


class Counterparts:
    """Finds B for a state; what must be opened for it is opened in a job."""

    def __init__(
        self, jobs: Jobs, fly: Callable[[Pose], None], room: Callable[[], MemoryBudget | None]
    ) -> None:
        """Makes an account of nothing.

        Args:
            jobs: Opens things.
            fly: Moves the camera, visibly, to the place of a photograph.
            room: Says what blocks of another scene may use; None: there is no room for them yet.
        """
        self._jobs, self._room = jobs, room
        self._fly = fly
        self._key: Any = None  # of what is open, being opened, or could not be
        self._opened: Any = None
        self._failure: str | None = None
        self.note = ""  # why there is no B
        self._photos: TrainingPhotos | None = None
        self._photo: Counterpart | None = None

    def open(self) -> None:
        """Forgets what belongs to the scene before."""
        self.release()
        self._photos = self._failure = None

    def release(self) -> None:
        """Lets go of what was opened to be compared with, but for the list of photographs."""
        self._drop()
        self._key = self._photo = None
        self.note = ""

    def find(self, state: ViewerState, loaded: Loaded) -> Counterpart | None:
        """Returns B; None while it is being opened, and where there is none."""
        against, compare = state.compare.against, state.compare
        if against is not Against.PHOTO:
            self._photo = None
        if against in (Against.UNEDITED, Against.APPEARANCE):
            self.release()
        if against is Against.UNEDITED:
            return Counterpart("unedited", loaded.renderer, (("edits", None),))
        if against is Against.APPEARANCE:
            label = appearance_label(compare.appearance, state.styles)
            return Counterpart(label, loaded.renderer, (("appearance", compare.appearance),))
        if against is Against.CHECKPOINT:
            return self._checkpoint(state)
        return self._photograph(state, loaded)

    def next_photo(self) -> None:
        """Looks anew for the photograph that is nearest to the view."""
        self._photo = None

    def take_failure(self) -> str | None:
        """Returns why something could not be opened, once."""
        failure, self._failure = self._failure, None
        return failure

    def _checkpoint(self, state: ViewerState) -> Counterpart | None:
        path = state.compare.path
        if path is None:
            self.note = "Choose a scene or checkpoint to compare with"
            return None
        room = self._room()
        if room is None and path != self._key:
            self.note = "Making room for the other scene …"
            return None
        opened = self._open(path, f"Opening {path.name}", lambda _: open_counterpart(path, room))
        if opened is None:
            return None
        renderer, appearance, files = opened
        changes: dict[str, Any] = {"edits": None}
        remark = "" if room is not None and room.device is None else SHARED
        try:
            state.appearance.embedding(renderer.model.embedding)
        except InputError:
            changes["appearance"] = appearance
            remark = "The other model does not know this appearance; its own is shown"
        return Counterpart(path.name, renderer, tuple(changes.items()), remark=remark, files=files)

    def _photograph(self, state: ViewerState, loaded: Loaded) -> Counterpart | None:
        if self._photo is not None:
            return self._photo
        if self._photos is None:
            self._photos = self._open(
                loaded.facts.path, "Reading the list of photographs", lambda _: _open_photos(loaded)
            )
        photos = self._photos
        if photos is None:
            return None
        number = nearest_camera(photos.cameras, state.pose)
        key = (loaded.facts.path, number)
        image = self._open(key, "Reading a photograph", lambda _: photos.image(number))
        if image is None:
            return None
        camera = photos.cameras[number]
        photo = Photo(photos.names[number], photos.codes[number], camera)
        changes = (
            ("edits", None),
            ("appearance", Appearance()),
            ("mode", Mode.COLOR),
            ("quality_at_rest", Quality.FAST),  # there is nothing to refine
        )
        renderer = PhotoRenderer(image, camera, loaded.renderer.tables)
        self._photo = Counterpart(Path(photo.name).name, renderer, changes, photo)
        fov = min(max(camera.fov_y, MIN_FOV), MAX_FOV)
        self._fly(Pose.from_matrix(camera.matrix, fov, state.pose.distance))
        return self._photo

    def _open(self, key: Any, what: str, work: Callable[[Progress], Any]) -> Any:
        """Returns what a job has made for a key; None while there is nothing, and starts the job once."""
        if key == self._key:
            return self._opened

        def done(result: Any) -> None:
            if key == self._key:
                self._opened, self.note = result, ""
            else:
                _close(result)

        def failed(sentence: str) -> None:
            if key == self._key:
                self.note = self._failure = sentence

        if self._jobs.start(what, work, done, failed):
            self._drop()
            self._key, self.note = key, f"{what} …"
        return None

    def _drop(self) -> None:
        opened, self._opened = self._opened, None
        _close(opened)


class PhotoRenderer:
    """Shows a photograph to cameras at its place, as if it were a field; its depth is 1 where it is known.

    From elsewhere it shows nothing.
    """

    stream = None

    def __init__(self, image: np.ndarray, camera: Camera, tables: FieldTables) -> None:
        """`image` is uint8 [height, width, 4], `tables` are those of the scene that it is compared with."""
        self._image, self._camera = image, camera
        self._seen: tuple[Camera, np.ndarray] | None = None  # what was shown last, and to whom
        self.tables = tables

    def render(
        self,
        camera: Camera,
        settings: RenderSettings | None = None,
        control: RenderControl | None = None,
        buffers: FrameBuffers | None = None,
    ) -> Frame:
        """Writes the whole picture into the buffers, whatever tiles were ordered."""
        import torch

        from ..core.render import Frame, RenderSettings
        from ..cuda.tables import FrameBuffers

        settings = settings or RenderSettings()
        buffers = buffers or FrameBuffers.empty(camera.width, camera.height)
        if _same_place(self._camera, camera):
            if self._seen is None or self._seen[0] != camera:
                self._seen = camera, seen_from(self._image, self._camera, camera)
            seen = torch.from_numpy(self._seen[1])
            known = (seen[..., 3] > 0).float()
            behind = torch.tensor(settings.background or (0.0, 0.0, 0.0))
            buffers.rgb.copy_(torch.where(known[..., None] > 0, seen[..., :3] / 255, behind))
            for buffer in (buffers.opacity, buffers.depth, buffers.median_depth):
                buffer.copy_(known)
        else:
            for buffer in (buffers.rgb, buffers.opacity, buffers.depth, buffers.median_depth):
                buffer.zero_()
        return Frame(camera, buffers, settings.quality, is_complete=True)


def nearest_camera(cameras: Sequence[Camera], pose: Pose) -> int:
    """Returns the number of the camera that sees most nearly what a pose sees.

    A radian between the directions counts as much as the distance to the pivot between the places.
    """
    places = np.array([camera.eye for camera in cameras])
    directions = np.array([-camera.matrix[:3, 2] for camera in cameras])
    apart = np.linalg.norm(places - np.array(pose.eye), axis=1) / max(pose.distance, 1e-12)
    angle = np.arccos(np.clip(directions @ pose.forward, -1, 1))
    return int(np.argmin(np.hypot(apart, angle)))


def appearance_label(appearance: Appearance, styles: tuple[tuple[str, Appearance], ...]) -> str:
    """Names an appearance: by its style, or by its row."""
    named = next((name for name, style in styles if style == appearance), None)
    if named is not None:
        return named
    return "own appearance" if appearance.code is None else f"code {appearance.code}"


def open_counterpart(path: Path, room: MemoryBudget | None) -> tuple[Renderer, Appearance, tuple[Path, ...]]:
    """Opens another scene or checkpoint to compare with; returns also its appearance and files.

    Args:
        path: Of the scene or checkpoint.
        room: What its blocks may use at most; None: as its file says.

    Raises:
        InputError: Something in the files cannot be used.
    """
    from ..core.render import Renderer
    from ..scenes.load import open_scene

    scene = open_scene(path)
    own = scene.spec.memory
    if room is not None:
        own = replace(own, device=_least(own.device, room.device), host=_least(own.host, room.host))
    renderer = Renderer(scene.model, scene.spec.model.precision, memory=own)
    return renderer, scene.spec.appearance.start, tuple(scene.opened.files)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _close(opened: Any) -> None:
    """Ends the fetching of blocks of what `open_counterpart` has opened; nothing else has to be ended."""
    if isinstance(opened, tuple) and opened[0].stream is not None:
        opened[0].close()


def _open_photos(loaded: Loaded) -> TrainingPhotos:
    from .training_photos import open_training_photos

    return open_training_photos(loaded.scene)


def _same_place(taken: Camera, camera: Camera) -> bool:
    apart = float(np.linalg.norm(taken.eye - camera.eye))
    return apart <= SAME_PLACE * max(1.0, float(np.abs(taken.eye).max()))
