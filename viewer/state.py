"""ViewerState: everything the window shows, in one immutable value. Only the main thread replaces it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..core.appearance import Appearance
from ..core.camera import Camera
from ..core.edits.layers import Prism, Stack
from ..core.measure import Measurement, Point3
from ..core.streaming.contracts import MemoryBudget
from ..cuda.tables import Quality

MAX_PITCH = math.radians(89.9)  # beyond this a heading is read from the picture's up direction
MIN_FOV, MAX_FOV = 5.0, 120.0  # degrees, of the vertical field of view that a user can choose
MAX_RECENT = 10


class Mode(str, Enum):
    """What the viewport shows; the order is that of the keys F5 to F10."""

    COLOR = "colour"
    DEPTH = "depth"
    OPACITY = "opacity"
    NORMALS = "normals"
    BLOCKS = "blocks"
    EDITS = "edits"


class Navigation(str, Enum):
    """What a left drag does."""

    ORBIT = "orbit"
    FLY = "fly"


class Theme(str, Enum):
    """Colours of the interface."""

    DARK = "dark"
    LIGHT = "light"


@dataclass(frozen=True)
class Pose:
    """Where the camera is: Z-up, level unless rolled. Angles in radians, lengths in scene units."""

    eye: tuple[float, float, float] = (0.0, 0.0, 1.0)
    yaw: float = 0.0  # 0 looks along +y (north), growing clockwise seen from above (a compass heading)
    pitch: float = 0.0  # 0 is level, negative looks down
    roll: float = 0.0
    fov_y: float = 50.0  # degrees
    distance: float = 1.0  # from the eye to the pivot that orbiting turns about

    @property
    def rotation(self) -> np.ndarray:
        """Camera to world rotation, OpenGL axes, read-only. [3, 3]"""
        return _rotation(self.yaw, self.pitch, self.roll)

    @property
    def forward(self) -> np.ndarray:
        """Unit viewing direction. [3]"""
        return -self.rotation[:, 2]

    @property
    def pivot(self) -> np.ndarray:
        """The point that orbiting turns about. [3]"""
        return np.array(self.eye) + self.distance * self.forward

    def camera(self, width: int, height: int) -> Camera:
        """Returns the pinhole camera of this pose for a picture size."""
        return _camera(self, width, height)

    @classmethod
    def from_matrix(cls, c2w: np.ndarray, fov_y: float, distance: float) -> Pose:
        """Reads a camera-to-world matrix [4, 4], OpenGL axes."""
        forward, right = -c2w[:3, 2], c2w[:3, 0]
        pitch = math.asin(float(np.clip(forward[2], -1, 1)))
        # Straight down or up the heading is that of the picture's up (or down) direction.
        level = forward if abs(pitch) < MAX_PITCH else c2w[:3, 1] * -np.sign(pitch)
        yaw = math.atan2(float(level[0]), float(level[1]))
        level_right = np.array([math.cos(yaw), -math.sin(yaw), 0.0])
        level_up = np.cross(level_right, forward)
        roll = math.atan2(float(right @ level_up), float(right @ level_right))
        x, y, z = (float(v) for v in c2w[:3, 3])
        return cls((x, y, z), yaw, pitch, roll, fov_y, distance)


@lru_cache(maxsize=64)  # many ask for the present one while it is drawn
def _rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    sin_yaw, cos_yaw = math.sin(yaw), math.cos(yaw)
    sin_pitch, cos_pitch = math.sin(pitch), math.cos(pitch)
    forward = np.array([sin_yaw * cos_pitch, cos_yaw * cos_pitch, sin_pitch])
    right = np.array([cos_yaw, -sin_yaw, 0.0])
    up = np.cross(right, forward)
    sin_roll, cos_roll = math.sin(roll), math.cos(roll)
    right, up = cos_roll * right + sin_roll * up, cos_roll * up - sin_roll * right
    rotation = np.stack([right, up, -forward], axis=1)
    rotation.flags.writeable = False
    return rotation


@lru_cache(maxsize=16)
def _camera(pose: Pose, width: int, height: int) -> Camera:
    c2w = np.eye(4)
    c2w[:3, :3], c2w[:3, 3] = pose.rotation, pose.eye
    return Camera.from_fov(c2w, width, height, pose.fov_y)


class Tool(str, Enum):
    """What a click or drag with the left button over the picture does."""

    NAVIGATE = "navigate"
    BUILDING = "building"  # a click selects what stands there
    RECTANGLE = "rectangle"  # a drag selects a rectangle on the ground
    POLYGON = "polygon"  # clicks set corners on the ground; the first one, Enter or a double-click closes
    PLACE = "place"  # a click puts a copy of the selection on the ground there
    DISTANCE = "distance"
    HEIGHT = "height"
    POLYLINE = "polyline"
    AREA = "area"


class Handle(str, Enum):
    """What dragging a placed copy changes."""

    MOVE = "move"
    ROTATE = "rotate"
    SCALE = "scale"


class SelectMode(str, Enum):
    """What a new selection does to the present one."""

    REPLACE = "replace"
    ADD = "add"  # with Shift
    SUBTRACT = "subtract"  # with Ctrl


UnitRatios = tuple[tuple[Path, float], ...]  # another scene, and how long one of its units is in this one


@dataclass(frozen=True)
class Selection:
    """What the next edit acts on."""

    prism: Prism
    what: str = "area"  # "building", "area", "block", "footprint", for people
    placement: int | None = None  # number of a placement of the selected Copy layer that is selected instead


class CompareMode(str, Enum):
    """How two pictures are shown at once."""

    OFF = "off"
    WIPE = "wipe"
    SIDE = "side by side"
    DIFFERENCE = "difference"
    BLINK = "blink"


class Against(str, Enum):
    """What the present picture is compared with."""

    UNEDITED = "unedited"
    APPEARANCE = "appearance"
    CHECKPOINT = "checkpoint"
    PHOTO = "photo"  # the nearest training photograph, from its own pose


@dataclass(frozen=True)
class Compare:
    """A comparison of the present picture (left, A) with another one (right, B)."""

    mode: CompareMode = CompareMode.OFF
    against: Against = Against.UNEDITED
    appearance: Appearance = field(default_factory=Appearance)  # of B, for Against.APPEARANCE
    path: Path | None = None  # of B, for Against.CHECKPOINT
    position: float = 0.5  # of the wipe, share of the width
    gain: float = 4.0  # factor on differences


@dataclass(frozen=True)
class Snapping:
    """What placed copies and drawn corners snap to."""

    ground: bool = True
    grid: float = 0.0  # side of the grid, scene units; 0: none


@dataclass(frozen=True)
class SceneFacts:
    """What the panels say of the open scene; written once when it opens."""

    path: Path
    name: str
    kind: str  # "sequential", "branch, 4 blocks", ...
    n_bytes: int  # of the planes as loaded
    precision: str  # "full" or "half"
    aabb: tuple[tuple[float, float, float], tuple[float, float, float]]  # scene units
    division: tuple[int, int]
    present: tuple[bool, ...]  # per block
    n_levels: int
    n_directions: int
    channels: tuple[tuple[int, ...], tuple[int, ...]]  # density, appearance
    n_codes: int  # rows of the appearance table; 0: none
    styles: tuple[tuple[str, Appearance], ...]  # named in the scene file
    has_nerf: bool
    metres_per_unit: float | None
    epsg: int | None
    origin: tuple[float, float, float]  # map coordinates of the scene origin
    home: Pose
    notices: tuple[str, ...]  # what was assumed because no file states it
    appearance: Appearance = field(default_factory=Appearance)  # that the scene file asks for
    edits: Stack = ()  # of the scene file
    measurements: tuple[Measurement, ...] = ()  # of the scene file
    has_photos: bool = False  # the scene file names the photographs that it was learnt from
    memory: MemoryBudget = field(default_factory=MemoryBudget)  # that the scene file asks for


@dataclass(frozen=True)
class RenderPreferences:
    """What the Render panel sets."""

    mode: Mode = Mode.COLOR
    quality_at_rest: Quality = Quality.EXACT
    target_fps: float = 30.0  # while moving
    floor: float = 0.25  # smallest share of the full resolution while moving
    background: tuple[float, float, float] | None = None  # None: the scene's own
    resolution: float = 1.0  # share of the viewport's pixels at rest, in (0, 1]


@dataclass(frozen=True)
class WarpStatus:
    """How a moving picture came about that rests on keyframes."""

    kind: str = "warped"  # "warped"; "keyframe": one from its own pose; "coarse": none shows enough
    fresh: float = 0.0  # share of its pixels that were rendered for it
    holes: float = 0.0  # share of its pixels that no keyframe showed
    guessed: float = 0.0  # share of its pixels that are the mean of their neighbours
    rays: int = 0  # rendered for it
    age: float = 0.0  # seconds since the newest keyframe was finished
    error: float | None = None  # mean squared, measured by rays here and there; None: not measured


@dataclass(frozen=True)
class RenderStatus:
    """What the render thread last reported."""

    moving: bool = False
    quality: Quality = Quality.EXACT
    scale: float = 1.0  # share of the full resolution, per side
    progress: float = 0.0  # of the refinement at rest, in [0, 1]
    finished: bool = False  # the picture is exact and nothing is being rendered
    frame_ms: float = 0.0  # of the last complete picture
    fps: float = 0.0  # pictures shown per second while moving
    width: int = 0  # of the picture shown, pixels
    height: int = 0  # of the picture shown, pixels
    ground: float | None = None  # height of the ground in the picture, scene units; None: not known yet
    backend: str = ""  # "native, 2 threads", "torch (no compiler found)"
    coarse: float = 0.0  # share of the picture's tiles that read a coarse stand-in for a block
    missing: int = 0  # blocks that the view wants and that may still come
    beyond: int = 0  # blocks that the view wants and for which the memory budget has no room
    pressure: str = ""  # what was given up last to stay within the memory budget
    warp: WarpStatus | None = None  # of a moving picture that rests on keyframes
    adaptive: str = ""  # why moving pictures do not rest on keyframes, the short of it before a colon


@dataclass(frozen=True)
class JobStatus:
    """Work in the background that the user may cancel."""

    what: str  # "Fitting the appearance"
    progress: float | None = None  # in [0, 1]; None: not known
    seconds: float = 0.0  # since it began


@dataclass(frozen=True)
class Message:
    """A sentence to the user."""

    text: str
    severity: str = "info"  # "info", "warn" or "error"


@dataclass(frozen=True)
class ViewerState:
    """All that the window shows."""

    scene: SceneFacts | None = None
    pose: Pose = field(default_factory=Pose)
    navigation: Navigation = Navigation.ORBIT
    speed: float = 1.0  # factor on the flying speed that follows from the height above ground
    appearance: Appearance = field(default_factory=Appearance)
    styles: tuple[tuple[str, Appearance], ...] = ()  # named; saved in the scene file
    edits: Stack = ()
    last_uid: int = 0  # of any layer so far: numbers are not given twice
    edits_shown: bool = True
    unit_ratios: UnitRatios = ()  # of the scenes that copies come from
    layer: int | None = None  # uid of the selected layer
    selection: Selection | None = None
    tool: Tool = Tool.NAVIGATE
    handle: Handle = Handle.MOVE
    snapping: Snapping = field(default_factory=Snapping)
    draft: tuple[Point3, ...] = ()  # corners set so far with a tool, scene units
    measurements: tuple[Measurement, ...] = ()
    compare: Compare = field(default_factory=Compare)
    job: JobStatus | None = None  # work in the background, for the status bar
    dirty: bool = False  # there is something that the scene file does not hold yet
    render: RenderPreferences = field(default_factory=RenderPreferences)
    status: RenderStatus = field(default_factory=RenderStatus)
    message: Message | None = None
    opening: str | None = None  # name of what is being opened
    interface_hidden: bool = False
    help_shown: bool = False
    show_block_borders: bool = False
    selected_block: int | None = None
    memory: MemoryBudget = field(default_factory=MemoryBudget)  # what streaming may use
    pinned: frozenset[int] = frozenset()  # blocks that stay in memory wherever the camera is
    recent: tuple[Path, ...] = ()  # newest first, at most MAX_RECENT
    theme: Theme = Theme.DARK
