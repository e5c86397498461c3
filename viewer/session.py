"""One run of the viewer without its window: state, history, opening, asking for pictures and taking them."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError
from . import navigation
from .camera_text import camera_text, pose_from_text
from .commands import (
    GLIDING,
    BeginOpening,
    Command,
    DismissMessage,
    OpeningFailed,
    SceneOpened,
    SetDirty,
    SetJob,
    SetNavigation,
    SetPose,
    SetStatus,
    ShowMessage,
)
from .comparison import Comparison, in_view
from .counterparts import Counterparts
from .edit_job import EditJob
from .events import EventLog, since_start
from .frame_rate import FrameRate
from .history import GestureKeys, History
from .jobs import Jobs
from .keeper import Keeper
from .measuring import Measuring
from .navigation import Glide
from .opening import Failed, Loaded, SceneLoader
from .picking import Picked, ground_height, pick
from .picture_saver import PictureSaver
from .plan import over_block
from .quality import SETTLE
from .selector import Selector
from .state import Message, Navigation, Pose, RenderStatus, ViewerState

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from ..core.edits.compiled import CompiledEdits
    from ..core.render import Renderer
    from ..scenes.load import Scene
    from .render_worker import Picture, RenderRequest, RenderWorker

INFO_SECONDS = 6.0  # that a message stays which is no error
GROUND_SECONDS = 0.5  # between two estimates of the height of the ground
JOB_SECONDS = 0.25  # between two reports of work in the background
COMPILING_SECONDS = 0.25  # after which it is said that the edits of the picture are not the newest
LONGEST_PAUSE = 1.0  # seconds that compiling edits may keep a picture from being refined
LONGEST_STEP = 0.1  # seconds of flight in one step, however late the loop is
LONGEST_TURN = 0.5  # seconds after which a picture that does not come is no longer waited for

QUIET = (SetStatus, SetJob, SetDirty)  # reports of the program itself: not for the event log
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
        self.keeper = Keeper(self.submit)
        self._edit_job = EditJob(wake)
        self.comparison = Comparison(wake, Counterparts(self.jobs, self._fly_to_photo))
        self.measuring = Measuring(wake)
        self._compiled: CompiledEdits | None = None  # that were last asked for in a picture
        self.selector = Selector(wake)
        self._loaded: Loaded | None = None
        self._opening_since = 0.0
        self._glide: Glide | None = None
        self._size = (0, 0)
        self._input_time = 0.0
        self._moved = -math.inf  # when the view last changed
        self._request: RenderRequest | None = None
        self._rate = FrameRate()
        self._ground = 0.0
        self._ground_time = -math.inf
        self._message: tuple[Message | None, float] = (None, 0.0)
        self._saver = PictureSaver(events, wake)
        self._has_worked = True  # since it last came to rest
        self._takes_turns = takes_turns
        self._awaited_since = -math.inf  # when the moving picture was asked for that is still to come
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
        if isinstance(command, QUIET):
            self._has_worked = True
            return
        name = type(command).__name__
        self._events.write("command", name=name)
        self._note_change(before, name)

    def undo(self) -> None:
        """Takes the last step back."""
        self._exchange(self.history.undo, "undo")

    def redo(self) -> None:
        """Brings the last undone step back."""
        self._exchange(self.history.redo, "redo")

    def undo_layer(self, uid: int) -> None:
        """Brings the previous version of a layer back."""
        self._exchange(lambda state: self.history.undo_layer(state, uid), "undo_layer")

    def redo_layer(self, uid: int) -> None:
        """Brings the version of a layer back that was last undone."""
        self._exchange(lambda state: self.history.redo_layer(state, uid), "redo_layer")

    def _exchange(self, change: Callable[[ViewerState], ViewerState], name: str) -> None:
        before, self._glide = self.state, None
        self.state = change(self.state)
        self._events.write("command", name=name)
        self._note_change(before, name)

    def _note_change(self, before: ViewerState, kind: str) -> None:
        """Remembers when the user changed what the picture shows."""
        self._has_worked = True
        dirty = self.keeper.note(self.state)
        if dirty != self.state.dirty:
            self.submit(SetDirty(dirty))
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

    @property
    def renderer(self) -> Renderer | None:
        """What renders the open scene."""
        return self._loaded.renderer if self._loaded else None

    @property
    def scene(self) -> Scene | None:
        """The open scene as its files say it."""
        return self._loaded.scene if self._loaded else None

    # Opening

    def open(self, path: Path, overrides: Sequence[str] = ()) -> None:
        """Opens a scene in the background; what is open stays until it is there."""
        self._opening_since = since_start()
        self.submit(BeginOpening(path.name or str(path)))
        self._loader.open(path, overrides)

    def ask_to_open(self, path: Path) -> None:
        """Opens a scene; asks before where something would be lost."""
        self.keeper.guard(self.state, lambda: self.open(path))

    def ask_to_close(self) -> None:
        """Ends the run; asks before where something would be lost."""

        def close() -> None:
            self.wants_close = True

        self.keeper.guard(self.state, close)

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
        self._compiled = loaded.compiled
        self.jobs.cancel()
        self._edit_job.open(loaded.compiler, loaded.compiled)
        self.comparison.open()
        self.measuring.open()
        self.selector.open(loaded.compiler.terrain)
        self._rate.clear()
        self._moved = self._ground_time = self._awaited_since = -math.inf
        self._ground = float(loaded.facts.home.pivot[2])
        self.keeper.open(loaded.scene)
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
        self._poll_job()
        if failure := self._edit_job.take_failure():
            self._events.write("error", text=failure)
            self.submit(ShowMessage(failure, "error"))
        if failure := self.comparison.take_failure():
            self.submit(ShowMessage(failure, "error"))
        if self._loaded is not None:
            drawn = self.picture, self._loaded.renderer, self._compiled
            for command in self.measuring.advance(self.shown, *drawn):
                self.submit(command)
        while said := self._saver.poll():
            self.submit(said)
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

    def _poll_job(self) -> None:
        """Hands over what a job in the background has made, and reports how far it is."""
        self.jobs.poll()
        status, shown = self.jobs.status, self.state.job
        if status is None or shown is None or status.what != shown.what:
            news = status is not shown
        else:
            news = status.seconds - shown.seconds >= JOB_SECONDS
        if news:
            self.submit(SetJob(status))

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
        edits = self._edits()
        if edits is not self._compiled:  # shown at once and fast, like a move, then refined
            self._compiled, self._moved = edits, now
            self._events.write("edits", layers=len(edits.layers) if edits else 0)
        moving = now - self._moved < SETTLE
        if not moving and 0 < self._edit_job.seconds_behind < LONGEST_PAUSE:
            self._worker.stop_refining()  # compiling needs the processor, and makes another picture
            self._request = None
            return
        fps = self._rate.for_rendering(self.state.render.target_fps)
        request = request_for(self.shown, *size, moving, self._input_time, edits)
        request = replace(request, background=self.background, target_fps=fps)
        if moving and self._takes_turns and now - self._awaited_since < LONGEST_TURN:
            return
        asked = self.comparison.ask(self.state, request, self._loaded)
        if asked is None or asked.is_same(self._request):
            return
        if moving:
            self._awaited_since = now
        self._request = asked
        self._worker.submit(asked)

    def _edits(self) -> CompiledEdits | None:
        """Returns the edits to show: those of the state, or the last ones that are ready."""
        shown = self.state.edits_shown
        layers = tuple(layer for layer in self.state.edits if layer.enabled) if shown else ()
        self._edit_job.ask(layers)
        return self._edit_job.current if layers else None

    @property
    def is_compiling(self) -> bool:
        """Whether the picture lacks the newest edits, and that for so long that it should be said."""
        return self._edit_job.seconds_behind > COMPILING_SECONDS

    def note_drawing(self, seconds: float) -> None:
        """The window drew a new picture: the time of a moving one counts against its frame rate."""
        self._awaited_since = -math.inf
        if self.picture is not None and self.picture.moving:
            self._rate.note_drawing(seconds)

    def take_picture(self) -> Picture | None:
        """Returns a new picture to show, and takes note of it."""
        picture = self._worker.take() if self._worker is not None else None
        picture = self.comparison.take(picture, self.state)
        if picture is None or self._loaded is None:
            return None
        self.picture = picture
        now = since_start()
        self._learn_ground(picture, now)
        height, width = picture.image.shape[:2]
        status = RenderStatus(
            moving=picture.moving,
            quality=picture.quality,
            scale=picture.scale,
            progress=picture.progress,
            finished=picture.finished,
            frame_ms=picture.render_ms or self.state.status.frame_ms,
            fps=self._rate.note_picture(now, picture.moving),
            width=width,
            height=height,
            backend=self._loaded.backend,
            ground=self._ground,
        )
        self.submit(SetStatus(status))
        if picture.finished and self._saver.is_waiting:
            self.save_picture()
        return picture

    def next_time(self, now: float) -> float:
        """Returns when `advance` or `ask` have something to do even if nothing happens before."""
        times = [self.comparison.next_time(now, self.state)]
        if self._request is not None and self._request.moving:
            times.append(self._moved + SETTLE)
        if self._glide is not None:
            times.append(now + 1 / 60)
        if self.jobs.status is not None or self._edit_job.is_behind:
            times.append(now + JOB_SECONDS)
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
        busy = self.state.opening or self._glide is not None or self.jobs.status is not None
        if busy or self._edit_job.is_behind or not self.comparison.is_idle or self.measuring.is_busy:
            return False
        return self._worker is None or (self._worker.is_idle and self.state.status.finished)

    # What the picture shows

    def pick(self, at: tuple[float, float]) -> Picked:
        """Returns the point of the scene under a viewport pixel of the picture on screen."""
        pose = self.shown.pose
        if self.picture is None:
            return pick(pose.camera(*self._size), *at, None, self._ground, pose.distance)
        camera, at = self.picture.request.camera, in_view(at, self._size, self.state.compare)
        return pick(camera, *at, self.picture.depth, self._ground, pose.distance)

    def _learn_ground(self, picture: Picture, now: float) -> None:
        if now - self._ground_time > GROUND_SECONDS:
            self._ground_time = now
            self._ground = ground_height(picture.camera, picture.depth, self._ground)

    def _fly_to_photo(self, pose: Pose) -> None:
        self.submit(SetPose(pose, undo="Fly to photograph"), glide=True)

    def fly_to_block(self, block: int) -> None:
        """Moves the camera, visibly, so that it shows one block."""
        scene = self.state.scene
        if scene is None:
            return
        pose = over_block(scene, block, self.shown.pose, self._ground)
        self.submit(SetPose(pose, undo="Fly to block"), glide=True)

    def camera_text(self) -> str:
        """Returns the camera as the JSON that the command line reads."""
        size = self._size if min(self._size) > 0 else (1280, 720)
        return camera_text(self.shown.pose, size)

    def set_camera_text(self, text: str) -> None:
        """Takes a camera from JSON; what cannot be read becomes a message."""
        try:
            pose = pose_from_text(text, self.state.pose)
        except InputError as error:
            self.submit(ShowMessage(str(error), "warn"))
        else:
            self.submit(SetPose(pose, undo="Paste camera"), glide=True)

    def save_picture(self) -> None:
        """Saves the picture in its resting quality: now if it stands, else as soon as it does."""
        picture, loaded = self.picture, self._loaded
        if loaded is None:
            return
        stands = picture is not None and picture.finished and picture.request.is_same(self._request)
        self._saver.save(picture if stands else None, loaded)

    def close(self) -> bool:
        """Ends the threads; False when the first did not stop in time."""
        self.keeper.close()
        self.jobs.cancel()
        self._edit_job.close()
        self.comparison.close()
        return self._worker is None or self._worker.stop(2.0)
