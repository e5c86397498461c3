"""One run of the viewer without its window: state, history, opening, asking for pictures and taking them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import InputError
from . import memory, navigation
from .camera_text import camera_text, pose_from_text
from .commands import (
    GLIDING,
    BeginOpening,
    Command,
    DismissMessage,
    LearnUnitRatios,
    OpeningFailed,
    SceneOpened,
    SetDirty,
    SetJob,
    SetNavigation,
    SetPose,
    SetStatus,
    ShowMessage,
)
from .counterparts import Counterparts
from .events import EventLog, since_start
from .history import GestureKeys, History
from .jobs import Jobs
from .keeper import Keeper
from .measuring import Measuring
from .navigation import Glide, GlideCourse
from .opening import Failed, Loaded, SceneLoader
from .picking import Picked
from .picture_desk import PictureDesk
from .picture_saver import PictureSaver
from .plan import over_block
from .plan_picture import PlanPicture
from .selector import Selector
from .state import Message, Navigation, Pose, RenderStatus, ViewerState
from .stream_watch import StreamWatch

if TYPE_CHECKING:  # these need torch, which is imported while the window is already there
    from ..core.render import Renderer
    from ..core.streaming.contracts import FetchRecord, StreamStatus
    from ..scenes.load import Scene
    from .comparison import Comparison
    from .pictures import Picture

INFO_SECONDS = 6.0  # that a message stays which is no error
JOB_SECONDS = 0.25  # between two reports of work in the background
LONGEST_STEP = 0.1  # seconds of flight in one step, however late the loop is

QUIET = (SetStatus, SetJob, SetDirty, LearnUnitRatios)  # reports of the program itself: not for the event log
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
            takes_turns: A moving picture is not asked for before the one before it is there. Where rendering
                and drawing need the same processor, a picture is on screen sooner that way.
        """
        self.state = state
        self.history = History()
        self.keys = GestureKeys()
        self.wants_close = False
        self._events = events
        self._wake = wake
        self._loader = SceneLoader(wake)
        self.jobs = Jobs(wake)
        self.keeper = Keeper(self.submit)
        self._stream = StreamWatch(events)
        found = Counterparts(self.jobs, self._fly_to_photo, lambda: self._stream.room_beside)
        self.desk = PictureDesk(events, wake, found, takes_turns)
        self.measuring = Measuring(wake)
        self.selector = Selector(wake)
        self._plan = PlanPicture(wake)
        self._loaded: Loaded | None = None
        self._opening_since = 0.0
        self._glide: Glide | None = None
        self._input_time = 0.0
        self._message: tuple[Message | None, float] = (None, 0.0)
        self._saver = PictureSaver(events, wake)
        self._has_worked = True  # since it last came to rest
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
        if (glide or isinstance(command, GLIDING)) and self.state.pose != start and self.desk.size[0]:
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
            self.desk.note_move(since_start())

    @property
    def shown(self) -> ViewerState:
        """The state as it is seen now: during a glide the camera is still on its way."""
        if self._glide is None:
            return self.state
        return replace(self.state, pose=self._glide.pose(since_start()))

    @property
    def background(self) -> tuple[float, float, float] | None:
        """Colour behind the scene: the user's, else the scene's."""
        return self.desk.background(self.state)

    @property
    def picture(self) -> Picture | None:
        """What is on screen."""
        return self.desk.picture

    @property
    def comparison(self) -> Comparison:
        """What the picture is compared with, if it is."""
        return self.desk.comparison

    @property
    def plan(self) -> np.ndarray | None:
        """The open scene from above, for the plan map. uint8 [height, width, 4]"""
        return self._plan.image

    @property
    def renderer(self) -> Renderer | None:
        """What renders the open scene."""
        return self._loaded.renderer if self._loaded else None

    @property
    def scene(self) -> Scene | None:
        """The open scene as its files say it."""
        return self._loaded.scene if self._loaded else None

    # Streaming

    @property
    def stream_status(self) -> StreamStatus | None:
        """What there is to say of the streaming of the scene, at most some tenths of a second old."""
        return self._stream.status

    @property
    def stream_version(self) -> int:
        """Counts the changes of `stream_status`."""
        return self._stream.version

    @property
    def fetch_records(self) -> tuple[FetchRecord, ...]:
        """The last fetches of blocks, oldest first."""
        return self._stream.records

    def evict_block(self, block: int) -> None:
        """Takes a block out of memory; it comes back when it is wanted anew."""
        self._events.write("command", name="evict_block", block=block)
        self._stream.evict(block)
        self.desk.look_again()

    def reload_block(self, block: int) -> None:
        """Fetches a block once more, also one that has failed."""
        self._events.write("command", name="reload_block", block=block)
        self._stream.reload(block)
        self.desk.look_again()

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
        self._loaded, self._glide = loaded, None
        self.jobs.cancel()
        self._saver.close()
        self.desk.open(loaded)
        self._plan.open(loaded)
        self._stream.open(loaded.renderer.stream, loaded.facts.memory)
        self.measuring.open()
        self.selector.open(loaded.compiler.terrain)
        self.keeper.open(loaded.scene)
        self.submit(SceneOpened(loaded.facts))
        self.submit(SetStatus(RenderStatus(backend=loaded.backend)))
        memory.release()  # the old scene may hang in reference cycles
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
        self._follow_stream(now)
        for failure in self.desk.take_failures():
            self._events.write("error", text=failure)
            self.submit(ShowMessage(failure, "error"))
        if self._loaded is not None:
            drawn = self.picture, self._loaded.renderer, self.desk.edits
            for command in self.measuring.advance(self.shown, *drawn):
                self.submit(command)
        self._plan.follow(self.desk.standing)
        while said := self._saver.poll():
            self.submit(said)
        if self._glide is not None:
            self.desk.note_move(now)
            if self._glide.is_over(now):
                self._glide = None
        message = self.state.message
        if message is not self._message[0]:
            self._message = (message, now)
        elif message is not None and message.severity != "error" and now - self._message[1] > INFO_SECONDS:
            self.submit(DismissMessage())

    def _follow_stream(self, now: float) -> None:
        """Hands wishes over to the streaming of blocks, and what there is to say of it to the state."""
        if self._stream.follow(self.state):
            self.desk.look_again()
        version = self._stream.version
        for said in self._stream.advance(now):
            self.submit(said)
        if version != self._stream.version:
            self.submit(SetStatus(self._stream.noted_in(self.state.status)))

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
        course = GlideCourse(self._glide, since_start(), size) if self._glide is not None else None
        self.desk.ask(self.state, self.shown, size, now, self._input_time, course)
        edits = self.desk.edits
        if edits is not None and not set(edits.unit_ratios) <= set(self.state.unit_ratios):
            self.submit(LearnUnitRatios(edits.unit_ratios))

    def take_picture(self) -> Picture | None:
        """Returns a new picture to show, and takes note of it."""
        taken = self.desk.take(self.state, since_start())
        if taken is None:
            return None
        picture, status = taken
        self._stream.touch()
        self.submit(SetStatus(self._stream.noted_in(status)))
        if self._saver.is_waiting and self.desk.standing is not None:
            self.save_picture()
        return picture

    def next_time(self, now: float) -> float:
        """Returns when `advance` or `ask` have something to do even if nothing happens before."""
        times = [self.desk.next_time(now, self.state), self._stream.next_time(now)]
        if self._glide is not None:
            times.append(now + 1 / 60)
        if self.jobs.status is not None or self.desk.is_behind:
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
        busy = busy or self._stream.is_busy or self.measuring.is_busy
        return not busy and self.desk.is_idle(self.state)

    # What the picture shows

    def pick(self, at: tuple[float, float]) -> Picked:
        """Returns the point of the scene under a viewport pixel of the picture on screen."""
        return self.desk.pick(self.state, self.shown, at)

    def _fly_to_photo(self, pose: Pose) -> None:
        self.submit(SetPose(pose, undo="Fly to photograph"), glide=True)

    def fly_to_block(self, block: int) -> None:
        """Moves the camera, visibly, so that it shows one block."""
        scene = self.state.scene
        if scene is None:
            return
        pose = over_block(scene, block, self.shown.pose, self.desk.ground)
        self.submit(SetPose(pose, undo="Fly to block"), glide=True)

    def camera_text(self) -> str:
        """Returns the camera as the JSON that the command line reads."""
        size = self.desk.size if min(self.desk.size) > 0 else (1280, 720)
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
        if self._loaded is not None:
            self._saver.save(self.desk.standing, self._loaded, self.state.status)

    def close(self) -> bool:
        """Ends the threads; False when the first did not stop in time."""
        self.keeper.close()
        self.jobs.cancel()
        self.selector.close()
        self.measuring.close()
        self._plan.close()
        self._saver.close()
        ended = self.desk.close()
        self._stream.close()
        return ended
