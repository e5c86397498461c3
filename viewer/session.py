"""One run of the viewer without its window: state, history, opening, asking for pictures and taking them."""

from __future__ import annotations

import gc
import json
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.camera import Camera
from ..core.errors import InputError
from . import navigation
from .commands import (
    GLIDING,
    BeginOpening,
    Command,
    DismissMessage,
    OpeningFailed,
    SceneOpened,
    SetNavigation,
    SetPose,
    SetStatus,
    ShowMessage,
)
from .edit_job import EditJob
from .events import EventLog, since_start
from .history import GestureKeys, History
from .jobs import Jobs
from .navigation import Glide
from .opening import Failed, Loaded, SceneLoader
from .picking import Picked, ground_height, pick
from .plan import block_footprint
from .quality import SETTLE
from .state import Message, Navigation, Pose, RenderStatus, ViewerState

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from ..core.edits.compiled import CompiledEdits
    from .render_worker import Picture, RenderRequest, RenderWorker

INFO_SECONDS = 6.0  # that a message stays which is no error
RATE_SECONDS = 1.0  # over which pictures per second are counted
GROUND_SECONDS = 0.5  # between two estimates of the height of the ground
LONGEST_STEP = 0.1  # seconds of flight in one step, however late the loop is
LONGEST_TURN = 0.5  # seconds after which a picture that does not come is no longer waited for
DRAWING_WEIGHT = 0.1  # of the newest drawing in the smoothed time
RENDER_SHARE = 0.5  # of the time of a picture that rendering gets at least, however slow drawing is
BLOCK_FILL = 1.3  # height of the view over the side of the block that it shows
BLOCK_PITCH = math.radians(-40)  # a flight to a block looks down at least so steeply

SHOWN = ("render", "appearance", "edits", "edits_shown")  # what the picture depends on beside the pose

log = logging.getLogger(__name__)


class Session:
    """Everything that happens between input and picture. Used from the main thread only."""

    def __init__(
        self,
        state: ViewerState,
        events: EventLog,
        wake: Callable[[], None],
        takes_turns: bool = False,
    ) -> None:
        """Makes a session without a scene.

        Args:
            state: What the window shows first.
            events: Where everything is logged.
            wake: Makes the main loop look here again; other threads call it.
            takes_turns: Rendering waits while the window is drawn. Where both need the same processor, a
                picture is on screen sooner that way.
        """
        self.state = state
        self.history = History()
        self.keys = GestureKeys()
        self.picture: Picture | None = None  # what is on screen
        self.wants_close = False
        self._events = events
        self._wake = wake
        self._worker: RenderWorker | None = None  # from the first scene on
        self._loader = SceneLoader(wake)
        self.jobs = Jobs(wake)
        self._edit_job = EditJob(wake)
        self._loaded: Loaded | None = None
        self._opening_since = 0.0
        self._glide: Glide | None = None
        self._size = (0, 0)
        self._input_time = 0.0
        self._moved = -math.inf  # when the view last changed
        self._request: RenderRequest | None = None
        self._times: deque[float] = deque()  # of the moving pictures of the last second
        self._ground = 0.0
        self._ground_time = -math.inf
        self._message: tuple[Message | None, float] = (None, 0.0)
        self._wants_picture_saved = False
        self._saved: deque[ShowMessage] = deque()
        self._has_worked = True  # since it last came to rest
        self._takes_turns = takes_turns
        self._awaited_since = -math.inf  # when the moving picture was asked for that is still to come
        self._drawing = 0.0  # smoothed seconds that the window takes to draw a picture
        self._flown = 0.0  # when the last step of a flight was taken, 0: not flying

    # Commands

    def submit(self, command: Command, glide: bool = False) -> None:
        """Does what the user asked; `glide` lets the camera travel visibly."""
        before = self.state
        start = self.shown.pose
        if self._glide is not None and command.apply(before).pose != before.pose:
            self._glide = None  # the camera stops where it is seen; what does not move it lets it travel on
            self.state = replace(before, pose=start)
        self.state = self.history.do(self.state, command)
        if (glide or isinstance(command, GLIDING)) and self.state.pose != start and self._size[0]:
            self._glide = Glide(start, self.state.pose, since_start())
        name = type(command).__name__
        if not isinstance(command, SetStatus):
            self._events.write("command", name=name)
        self._note_change(before, name)

    def undo(self) -> None:
        """Takes the last step back."""
        self._exchange(self.history.undo, "undo")

    def redo(self) -> None:
        """Brings the last undone step back."""
        self._exchange(self.history.redo, "redo")

    def _exchange(self, change: Callable[[ViewerState], ViewerState], name: str) -> None:
        before, self._glide = self.state, None
        self.state = change(self.state)
        self._events.write("command", name=name)
        self._note_change(before, name)

    def _note_change(self, before: ViewerState, kind: str) -> None:
        """Remembers when the user changed what the picture shows."""
        self._has_worked = True
        if before.scene is not self.state.scene:
            return
        moved = before.pose != self.state.pose
        if moved or any(getattr(before, name) != getattr(self.state, name) for name in SHOWN):
            self._events.write("input", kind=kind)
            self._input_time = since_start()
        if moved:
            self._moved = since_start()

    @property
    def shown(self) -> ViewerState:
        """The state as it is seen now: during a glide the camera is still on its way."""
        if self._glide is None:
            return self.state
        return replace(self.state, pose=self._glide.pose(since_start()))

    @property
    def background(self) -> tuple[float, float, float] | None:
        """Colour behind the scene: the user's, else the scene's."""
        return self.state.render.background or (self._loaded.background if self._loaded else None)

    @property
    def plan(self) -> np.ndarray | None:
        """The open scene from above, for the plan map. uint8 [height, width, 4]"""
        return self._loaded.plan if self._loaded else None

    # Opening

    def open(self, path: Path, overrides: Sequence[str] = ()) -> None:
        """Opens a scene in the background; what is open stays until it is there."""
        self._opening_since = since_start()
        self.submit(BeginOpening(path.name or str(path)))
        self._loader.open(path, overrides)

    @property
    def opening_seconds(self) -> float:
        """For how long a scene has been opening."""
        return since_start() - self._opening_since if self.state.opening else 0.0

    def _take_opened(self) -> None:
        result = self._loader.take()
        if isinstance(result, Failed):
            self._events.write("error", text=result.text)
            self.submit(OpeningFailed(result.text))
        elif result is not None:
            self._adopt(result)

    def _adopt(self, loaded: Loaded) -> None:
        from .render_worker import RenderWorker

        if self._worker is None:
            self._worker = RenderWorker(loaded.renderer, self._wake)
        else:
            self._worker.set_renderer(loaded.renderer)
        self._loaded, self.picture, self._request, self._glide = loaded, None, None, None
        self.jobs.cancel()
        self._edit_job.open(loaded.compiler, loaded.compiled)
        self._times.clear()
        self._moved = self._ground_time = self._awaited_since = -math.inf
        self._ground = float(loaded.facts.home.pivot[2])
        self.submit(SceneOpened(loaded.facts))
        self.submit(SetStatus(RenderStatus(backend=loaded.backend)))
        gc.collect()  # the old scene may hang in reference cycles
        self._input_time = since_start()
        seconds = round(self._input_time - self._opening_since, 3)
        facts = loaded.facts
        self._events.write(
            "scene_opened", path=str(facts.path), name=facts.name, seconds=seconds, backend=loaded.backend
        )

    # The loop calls these

    def advance(self, now: float) -> None:
        """Lets time pass: arrivals, the end of a glide, messages that have been read."""
        self._take_opened()
        self.jobs.poll()
        if failure := self._edit_job.take_failure():
            self._events.write("error", text=failure)
            self.submit(ShowMessage(failure, "error"))
        while self._saved:
            self.submit(self._saved.popleft())
        if self._worker is not None and (failure := self._worker.take_failure()):
            self._events.write("error", text=failure)
            self._awaited_since = -math.inf
            self.submit(ShowMessage(failure, "error"))
        if self._glide is not None:
            self._moved = now
            if self._glide.is_over(now):
                self._glide = None
        message = self.state.message
        if message is not self._message[0]:
            self._message = (message, now)
        elif message is not None and message.severity != "error" and now - self._message[1] > INFO_SECONDS:
            self.submit(DismissMessage())

    def fly(self, axes: tuple[float, float, float], fast: bool, slow: bool, now: float) -> bool:
        """Moves the camera while keys are held; False when none are."""
        scene = self.state.scene
        if scene is None or not any(axes):
            self._flown = 0.0
            return False
        if self.state.navigation is not Navigation.FLY:
            self.submit(SetNavigation(Navigation.FLY))
        dt = min(now - self._flown, LONGEST_STEP) if self._flown else 1 / 60
        self._flown = now
        pose = navigation.fly(self.shown.pose, axes, dt, navigation.flying_speed(self.state, fast, slow))
        self.submit(SetPose(pose, self.keys.running("fly", now), "Fly"))
        return True

    def ask(self, size: tuple[int, int], now: float) -> None:
        """Asks for the picture of the present state, for a viewport in pixels."""
        if self._worker is None or min(size) < 1:
            return
        from .render_worker import request_for

        if size != self._size:
            if self._size != (0, 0) and self.picture is not None:
                self._moved = now
            self._size = size
        moving = now - self._moved < SETTLE
        request = request_for(self.shown, *size, moving, self._input_time, self._edits())
        request = replace(request, background=self.background, target_fps=self._render_fps())
        if request.is_same(self._request):
            return
        if moving and self._takes_turns:
            if now - self._awaited_since < LONGEST_TURN:
                return
            self._awaited_since = now
        self._request = request
        self._worker.submit(request)

    def _edits(self) -> CompiledEdits | None:
        """Returns the edits to show: those of the state, or the last ones that are ready."""
        shown = self.state.edits_shown
        layers = tuple(layer for layer in self.state.edits if layer.enabled) if shown else ()
        self._edit_job.ask(layers)
        return self._edit_job.current if layers else None

    def note_drawing(self, seconds: float) -> None:
        """The window drew a new picture: the time of a moving one counts against its frame rate."""
        self._awaited_since = -math.inf
        if self.picture is not None and self.picture.moving:
            self._drawing += DRAWING_WEIGHT * (seconds - self._drawing)

    def _render_fps(self) -> float:
        """Returns the frame rate that rendering must keep, so that with drawing the user's is kept."""
        target = 1 / self.state.render.target_fps
        left = max(target - self._drawing, RENDER_SHARE * target)
        return 1 / round(left, 3)

    def take_picture(self) -> Picture | None:
        """Returns a new picture to show, and takes note of it."""
        picture = self._worker.take() if self._worker is not None else None
        if picture is None or self._loaded is None:
            return None
        self.picture = picture
        now = since_start()
        if picture.moving:
            self._times.append(now)
        while self._times and now - self._times[0] > RATE_SECONDS:
            self._times.popleft()
        self._learn_ground(picture, now)
        height, width = picture.image.shape[:2]
        status = RenderStatus(
            moving=picture.moving,
            quality=picture.quality,
            scale=picture.scale,
            progress=picture.progress,
            finished=picture.finished,
            frame_ms=picture.render_ms or self.state.status.frame_ms,
            fps=len(self._times) / RATE_SECONDS if len(self._times) > 1 else 0.0,
            width=width,
            height=height,
            backend=self._loaded.backend,
            ground=self._ground,
        )
        self.submit(SetStatus(status))
        if picture.finished and self._wants_picture_saved:
            self.save_picture()
        return picture

    def next_time(self, now: float) -> float:
        """Returns when `advance` or `ask` have something to do even if nothing happens before."""
        times = [math.inf]
        if self._request is not None and self._request.moving:
            times.append(self._moved + SETTLE)
        if self._glide is not None:
            times.append(now + 1 / 60)
        if self.state.opening:
            times.append(now + 0.25)
        message, since = self._message
        if message is not None and message.severity != "error":
            times.append(since + INFO_SECONDS + 0.01)
        return min(times)

    def came_to_rest(self) -> bool:
        """Whether nothing is under way any more; true once after every piece of work."""
        rested = self._has_worked and self._is_idle
        if rested:
            self._has_worked = False
        return rested

    @property
    def _is_idle(self) -> bool:
        if self.state.opening or self._glide is not None or self._edit_job.is_behind:
            return False
        return self._worker is None or (self._worker.is_idle and self.state.status.finished)

    # What the picture shows

    def pick(self, at: tuple[float, float]) -> Picked:
        """Returns the point of the scene under a viewport pixel of the picture on screen."""
        pose = self.shown.pose
        if self.picture is None:
            return pick(pose.camera(*self._size), *at, None, self._ground, pose.distance)
        camera = self.picture.request.camera
        return pick(camera, *at, self.picture.depth, self._ground, pose.distance)

    def _learn_ground(self, picture: Picture, now: float) -> None:
        if now - self._ground_time > GROUND_SECONDS:
            self._ground_time = now
            self._ground = ground_height(picture.camera, picture.depth, self._ground)

    def fly_to_block(self, block: int) -> None:
        """Moves the camera, visibly, so that it shows one block."""
        scene = self.state.scene
        if scene is None:
            return
        x0, y0, x1, y1 = block_footprint(scene, block)
        ground = min(max(self._ground, scene.aabb[0][2]), scene.aabb[1][2])
        pose = self.shown.pose
        distance = BLOCK_FILL * max(x1 - x0, y1 - y0) / 2 / math.tan(math.radians(pose.fov_y) / 2)
        turned = replace(pose, pitch=min(pose.pitch, BLOCK_PITCH), roll=0.0)
        target = np.array([(x0 + x1) / 2, (y0 + y1) / 2, ground])
        self.submit(SetPose(navigation.focus(turned, target, distance), undo="Fly to block"), glide=True)

    def camera_text(self) -> str:
        """Returns the camera as the JSON that the command line reads."""
        size = self._size if min(self._size) > 0 else (1280, 720)
        return json.dumps(self.shown.pose.camera(*size).to_json(), indent=1)

    def set_camera_text(self, text: str) -> None:
        """Takes a camera from JSON; what cannot be read becomes a message."""
        try:
            data = json.loads(text)
            camera = Camera.from_json(data[0] if isinstance(data, list) and data else data, "the clipboard")
        except json.JSONDecodeError:
            self.submit(
                ShowMessage("The clipboard must hold a camera in JSON, as Copy camera puts it there", "warn")
            )
        except InputError as error:
            self.submit(ShowMessage(str(error), "warn"))
        else:
            fov = min(max(camera.fov_y, 1e-3), 179.0)
            pose = Pose.from_matrix(camera.matrix, fov, self.state.pose.distance)
            self.submit(SetPose(pose, undo="Paste camera"), glide=True)

    def save_picture(self) -> None:
        """Saves the picture in its resting quality: now if it stands, else as soon as it does."""
        picture, loaded = self.picture, self._loaded
        if loaded is None:
            return
        if picture is None or not picture.finished or not picture.request.is_same(self._request):
            self._wants_picture_saved = True
            self.submit(ShowMessage("The picture is saved as soon as it is finished"))
            return
        self._wants_picture_saved = False

        def work() -> None:
            from .saving import save_picture

            text, severity = save_picture(picture, loaded.facts, loaded.files)
            self._events.write("saved" if severity == "info" else "error", text=text)
            self._saved.append(ShowMessage(text, severity))
            self._wake()

        threading.Thread(target=work, name="save", daemon=True).start()

    def close(self) -> bool:
        """Ends the render thread; False when it did not stop in time."""
        return self._worker is None or self._worker.stop(2.0)
