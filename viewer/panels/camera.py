"""The Camera panel: where the camera is, how it moves, its lens."""

from __future__ import annotations

import math
from dataclasses import replace

import dearpygui.dearpygui as dpg

from ..commands import SetFov, SetNavigation, SetPose, SetSpeed
from ..navigation import flying_speed
from ..shortcuts import Action, keys_of
from ..state import MAX_FOV, MIN_FOV, Navigation, Pose, SceneFacts, ViewerState
from ..theme import icon
from ..units import Units
from ..widgets import Slider
from .panel import DockedPanel, Submit

HALF = 104  # logical pixels of the first of two fields
SPEED_STEPS = 6.0  # powers of two that the speed slider reaches up and down


class CameraPanel(DockedPanel):
    """Pose and lens as numbers that can be changed."""

    title = "Camera"
    glyph = "video"
    empty_title = "No camera"
    empty_body = "Position, direction and lens appear here when a scene is open."

    _scene: SceneFacts | None = None
    _units = Units()
    _pose: Pose | None = None

    def build_content(self, submit: Submit) -> None:
        """Makes the sections."""
        self._submit = submit
        with self.widgets.section("Pose"):
            self._build_pose()
        with self.widgets.section("Move"):
            self._build_movement()
        with self.widgets.section("Lens"), self.widgets.row("Field of view", "Vertical"):
            self._fov = self.widgets.slider(MIN_FOV, MAX_FOV, "{:.1f}°".format, self._set_fov)
        with self.widgets.section("View"):
            self._build_actions()

    def show_content(self, state: ViewerState) -> None:
        """Writes the numbers of a state."""
        if state.scene is not self._scene:
            self._scene = state.scene
            self._adopt_units()
        self._navigation.show(state.navigation)
        self._speed.show(math.log2(state.speed), self._units.speed(flying_speed(state)))
        if state.pose == self._pose:
            return
        pose = self._pose = state.pose
        for item, value in zip(self._eye, self._units.to_map(pose.eye), strict=True):
            self.widgets.set_number(item, value)
        self.widgets.set_number(self._heading, math.degrees(pose.yaw) % 360)
        self.widgets.set_number(self._pitch, math.degrees(pose.pitch))
        self.widgets.set_number(self._distance, pose.distance * self._units.factor)
        self._fov.show(pose.fov_y)

    def _build_pose(self) -> None:
        ui = self.widgets
        self._eye_names, self._eye = [], []
        for axis in range(3):
            with dpg.group(horizontal=True, horizontal_spacing=self.look.px(8)):
                self._eye_names.append(ui.label("XYZ"[axis]))
                self._eye.append(ui.drag("%.2f", lambda value, axis=axis: self._set_eye(axis, value)))
        with ui.row("Heading, pitch", "Heading: compass direction. Pitch: 0 is level, -90 straight down"):
            self._heading = ui.drag("%.1f°", self._set_heading, HALF, speed=0.5)
            self._pitch = ui.drag(
                "%.1f°", self._set_pitch, speed=0.5, min_value=-90, max_value=90, clamped=True
            )
        with ui.row("To pivot", "Distance to the point that orbiting turns about"):
            self._distance = ui.drag("%.2f", self._set_distance, min_value=1e-6, max_value=1e9, clamped=True)

    def _build_movement(self) -> None:
        ui = self.widgets
        with ui.row("Left drag"):
            options = (
                (Navigation.ORBIT, "Orbit", f"Turn about the pivot ({keys_of(Action.NAVIGATION)})"),
                (Navigation.FLY, "Fly", f"Look around ({keys_of(Action.NAVIGATION)}, or press W A S D)"),
            )
            self._navigation = ui.segmented(options, lambda value: self._submit(SetNavigation(value)))
        keys = f"{keys_of(Action.FASTER)}, {keys_of(Action.SLOWER)}"
        hint = f"Factor on what the height above ground gives ({keys})"
        with ui.row("Speed", hint):
            self._speed: Slider = ui.slider(-SPEED_STEPS, SPEED_STEPS, _speed_text, self._set_speed)

    def _build_actions(self) -> None:
        ui = self.widgets
        act = self.host.act

        def add(glyph: str, words: str, action: Action, hint: str) -> None:
            ui.button(icon(glyph, words), lambda: act(action), None, f"{hint} ({keys_of(action)})", -1)

        ui.even(
            2,
            [
                lambda: add("home", "Home", Action.HOME, "The view that the scene opened with"),
                lambda: add("map-2", "Top-down", Action.TOP_DOWN, "Straight down on the pivot, north up"),
                lambda: add("navigation", "North up", Action.NORTH_UP, "Turn to the north"),
                lambda: add(
                    "focus-centered", "Focus", Action.FOCUS, "The point in the middle of the picture"
                ),
                lambda: ui.button(
                    icon("copy", "Copy"),
                    self.host.copy_camera,
                    None,
                    "Copy the camera as JSON, for landmark-viewer render --camera",
                    -1,
                ),
                lambda: ui.button(
                    icon("download", "Paste"),
                    self.host.paste_camera,
                    None,
                    "Take a camera in JSON from the clipboard",
                    -1,
                ),
            ],
            "grid",
        )

    def _adopt_units(self) -> None:
        units = self._units = Units.of(self._scene)
        if self._scene is None:
            return
        low, high = self._scene.aabb
        size = max(high[axis] - low[axis] for axis in range(3))
        decimals = units.decimals(size)
        for name, words in zip(self._eye_names, units.axis_names, strict=True):
            dpg.set_item_label(name, words)
        form = f"%.{decimals}f {units.symbol}".strip()
        for item in (*self._eye, self._distance):
            dpg.configure_item(item, format=form, speed=size * units.factor / 2000)
        self._pose = None

    def _change(self, kind: str, undo: str, **changes: object) -> None:
        if self._pose is not None:
            pose = replace(self._pose, **changes)
            self._submit(SetPose(pose, self.host.gesture(f"camera panel {kind}"), undo))

    def _set_eye(self, axis: int, value: float) -> None:
        if self._pose is not None:
            shown = list(self._units.to_map(self._pose.eye))
            shown[axis] = value
            self._change(f"eye {axis}", "Move camera", eye=self._units.from_map(shown))

    def _set_heading(self, degrees: float) -> None:
        self._change("heading", "Turn camera", yaw=math.remainder(math.radians(degrees), math.tau))

    def _set_pitch(self, degrees: float) -> None:
        self._change("pitch", "Turn camera", pitch=math.radians(degrees))

    def _set_distance(self, shown: float) -> None:
        if self._pose is not None:
            distance = shown / self._units.factor
            eye = self._pose.pivot - distance * self._pose.forward
            x, y, z = (float(v) for v in eye)
            self._change("distance", "Move camera", eye=(x, y, z), distance=distance)

    def _set_fov(self, degrees: float) -> None:
        self._submit(SetFov(degrees, self.host.gesture("camera panel fov")))

    def _set_speed(self, power: float) -> None:
        self._submit(SetSpeed(2.0**power, self.host.gesture("camera panel speed")))


def _speed_text(power: float) -> str:
    factor = 2.0**power
    return f"× {factor:.2f}" if factor < 9.995 else f"× {factor:.0f}"
