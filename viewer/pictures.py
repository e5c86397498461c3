"""What is asked of a render thread, and what it delivers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..core.appearance import Appearance, Grade
from ..core.camera import Camera
from ..core.edits.compiled import CompiledEdits
from ..core.render import Frame, RenderSettings
from ..cuda.tables import FieldTables, FrameBuffers, Quality, RenderControl
from .state import Mode, ViewerState, WarpStatus

if TYPE_CHECKING:
    from ..core.interactive.contracts import Course
    from ..core.streaming.stream import FieldStream
    from .comparison import Beside
    from .moment import Moment


class Renderer(Protocol):
    """What the worker needs of core.render.Renderer."""

    tables: FieldTables
    stream: FieldStream | None  # of a field whose blocks are fetched while it is shown

    def render(
        self,
        camera: Camera,
        settings: RenderSettings | None = None,
        control: RenderControl | None = None,
        buffers: FrameBuffers | None = None,
    ) -> Frame:
        """Renders the ordered tiles into the buffers and leaves the others alone."""
        ...


@dataclass(frozen=True)
class RenderRequest:
    """A picture that the window wants."""

    camera: Camera  # at the size of the viewport
    mode: Mode = Mode.COLOR
    quality_at_rest: Quality = Quality.EXACT
    moving: bool = False
    appearance: Appearance = field(default_factory=Appearance)
    edits: CompiledEdits | None = None
    background: tuple[float, float, float] | None = None
    resolution: float = 1.0  # share of the viewport per side, at rest
    draft: bool = False  # better edits come at once: soon matters more than sharp
    target_fps: float = 30.0  # while moving, that rendering alone must manage: drawing takes its time
    screen_fps: float = 30.0  # while moving, on the screen: keyframes are worked on while the window draws
    floor: float = 0.25  # coarsest scale while moving
    input_time: float = 0.0  # when the user did what this shows, seconds since process start
    ahead: tuple[Camera, ...] = field(default=(), compare=False)  # where the camera is on its way to
    course: Course | None = field(default=None, compare=False)  # by which it gets there
    moment: Moment | None = field(default=None, compare=False)  # of which another picture is made as well

    @property
    def view(self) -> tuple[object, ...]:
        """What the rendered pixels depend on, beside quality and scale."""
        return self.camera, replace(self.appearance, grade=Grade()), self.edits, self.background

    @property
    def look(self) -> tuple[Mode, Grade]:
        """How the rendered pixels are shown."""
        return self.mode, self.appearance.grade

    def is_same(self, other: RenderRequest | None) -> bool:
        """Whether both ask for the same picture, if at different times."""
        return other is not None and replace(self, input_time=other.input_time) == other

    def is_same_work(self, other: RenderRequest) -> bool:
        """Whether both rest on the same rendering, though they may show it in different modes and grades."""
        appearance = replace(self.appearance, grade=other.appearance.grade)
        alike = replace(self, mode=other.mode, appearance=appearance, input_time=other.input_time)
        return not self.moving and alike == other


@dataclass(frozen=True)
class Picture:
    """A picture to show; every array is its own copy."""

    image: np.ndarray  # uint8 [height, width, 4], contiguous, opaque
    depth: np.ndarray  # float32 [height, width] median z-depth, 0: no surface; for picking
    camera: Camera  # at the size of the image
    request: RenderRequest  # what it answers
    quality: Quality  # of the finest tiles
    scale: float  # share of the viewport per side
    progress: float  # of the refinement at rest, in [0, 1]; 0 while moving
    finished: bool  # nothing better will come for this request, unless blocks that failed do
    render_ms: float  # spent on rendering this stage so far
    published: float  # seconds since process start
    coarse: float = 0.0  # share of the tiles that read a coarse stand-in for a block
    beside: Beside | None = None  # what else the image shows
    warp: WarpStatus | None = None  # of a moving picture that rests on keyframes
    adaptive: str = ""  # why moving pictures of this scene do not; "": they do

    @property
    def moving(self) -> bool:
        """Whether it was made for a moving camera."""
        return self.request.moving


def request_for(
    state: ViewerState,
    width: int,
    height: int,
    moving: bool,
    input_time: float,
    edits: CompiledEdits | None = None,
) -> RenderRequest:
    """Returns what the window wants to see of a state, for a viewport in pixels."""
    preferences = state.render
    return RenderRequest(
        camera=state.pose.camera(width, height),
        mode=preferences.mode,
        quality_at_rest=preferences.quality_at_rest,
        moving=moving,
        appearance=state.appearance,
        edits=edits,
        background=preferences.background,
        resolution=preferences.resolution,
        target_fps=preferences.target_fps,
        screen_fps=preferences.target_fps,
        floor=preferences.floor,
        input_time=input_time,
    )
