"""ViewerState: everything the window shows, in one immutable value. Only the main thread replaces it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import numpy as np

from ..core.camera import Camera
from ..cuda.tables import Quality

MAX_PITCH = math.radians(89.9)  # beyond this a heading is read from the picture's up direction
MIN_FOV, MAX_FOV = 5.0, 120.0  # degrees, of the vertical field of view that a user can choose
MAX_RECENT = 10


class Mode(str, Enum):
    """What the viewport shows; the order is that of the keys F5 to F9."""

    COLOR = "colour"
    DEPTH = "depth"
    OPACITY = "opacity"
    NORMALS = "normals"
    BLOCKS = "blocks"


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
        """Camera to world rotation, OpenGL axes. [3, 3]"""
        sin_yaw, cos_yaw = math.sin(self.yaw), math.cos(self.yaw)
        sin_pitch, cos_pitch = math.sin(self.pitch), math.cos(self.pitch)
        forward = np.array([sin_yaw * cos_pitch, cos_yaw * cos_pitch, sin_pitch])
        right = np.array([cos_yaw, -sin_yaw, 0.0])
        up = np.cross(right, forward)
        sin_roll, cos_roll = math.sin(self.roll), math.cos(self.roll)
        right, up = cos_roll * right + sin_roll * up, cos_roll * up - sin_roll * right
        return np.stack([right, up, -forward], axis=1)

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
        c2w = np.eye(4)
        c2w[:3, :3], c2w[:3, 3] = self.rotation, self.eye
        return Camera.from_fov(c2w, width, height, self.fov_y)

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
    styles: tuple[tuple[str, int], ...]  # name, code
    has_nerf: bool
    metres_per_unit: float | None
    epsg: int | None
    origin: tuple[float, float, float]  # map coordinates of the scene origin
    home: Pose
    notices: tuple[str, ...]  # what was assumed because no file states it
    code: int = 0  # the appearance that the scene file asks for


@dataclass(frozen=True)
class RenderPreferences:
    """What the Render panel sets."""

    mode: Mode = Mode.COLOR
    quality_at_rest: Quality = Quality.EXACT
    target_fps: float = 15.0  # while moving
    floor: float = 0.25  # smallest share of the full resolution while moving
    background: tuple[float, float, float] | None = None  # None: the scene's own
    resolution: float = 1.0  # share of the viewport's pixels at rest, in (0, 1]


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
    code: int = 0  # appearance code
    render: RenderPreferences = field(default_factory=RenderPreferences)
    status: RenderStatus = field(default_factory=RenderStatus)
    message: Message | None = None
    opening: str | None = None  # name of what is being opened
    interface_hidden: bool = False
    help_shown: bool = False
    show_block_borders: bool = False
    selected_block: int | None = None
    recent: tuple[Path, ...] = ()  # newest first, at most MAX_RECENT
    theme: Theme = Theme.DARK
