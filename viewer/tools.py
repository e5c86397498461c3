"""The tools as a state machine without a window: what mouse and keys do goes in, commands come out.

A tool that takes clicks leaves drags to the navigation: only a press that hardly moves is a click. Handles
come before tools. What the terrain must be asked for is answered later; `poll` returns those commands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.camera import Camera
from ..core.edits.layers import Placement, Prism
from ..core.edits.region import Point, Region
from ..core.errors import InputError
from ..core.measure import N_POINTS, MeasureKind, Measurement, Point3
from ..scenes.footprints import Footprint
from .chooser import Band, Chooser
from .commands import (
    AddMeasurement,
    ClearSelection,
    Command,
    SelectPlacement,
    SetDraft,
    SetTool,
    ShowMessage,
)
from .copier import Copier
from .grabber import Grabber
from .handles import Copied, Grip, Ground, Pixel, copied_of, on_plane, placement_at, snapped
from .history import GestureKeys
from .picking import Picked
from .pointer import LEFT, Pointer
from .selector import Selector
from .shortcuts import Action
from .state import SceneFacts, SelectMode, Tool, ViewerState

if TYPE_CHECKING:
    from ..scenes.schema import FrameSpec

SLOP = 4.0  # logical pixels that a click may wander
REACH = 10.0  # logical pixels around a handle or the first corner
SMALLEST_BAND = 4.0  # logical pixels: a shorter drag selects no rectangle
MEASURING = {Tool.DISTANCE, Tool.HEIGHT, Tool.POLYLINE, Tool.AREA}
DRAWING = {Tool.POLYGON} | MEASURING
CLICKING = {Tool.BUILDING, Tool.PLACE} | DRAWING
TOOL_OF = {
    Action.SELECT_BUILDING: Tool.BUILDING,
    Action.SELECT_RECTANGLE: Tool.RECTANGLE,
    Action.SELECT_POLYGON: Tool.POLYGON,
    Action.MEASURE: Tool.DISTANCE,
}
NOTHING_THERE = "Nothing stands there; click a building, or draw its outline"

Size = tuple[int, int]


@dataclass(frozen=True)
class Sketch:
    """What a tool has in hand, for the overlay."""

    cursor: Point3 | None = None  # where the next corner would be
    band: tuple[Region, float] | None = None  # rectangle that is being drawn, and its height
    ghost: Prism | None = None  # the copy that a click would place
    grip: Grip | None = None  # handle that is held or under the pointer


class Tools:
    """Left button and keys by the tool of the state; every other gesture goes to the pointer."""

    def __init__(
        self,
        pick: Callable[[Pixel], Picked],
        keys: GestureKeys,
        selector: Selector,
        scale: float = 1.0,
    ) -> None:
        """Makes tools for one window.

        Args:
            pick: Returns what a viewport pixel shows.
            keys: Names the gestures.
            selector: Asks the terrain.
            scale: Pixels for a logical pixel.
        """
        self._ready: list[Command] = []
        self.pointer = Pointer(pick, keys)
        self.selector = selector
        self.measured: Callable[[MeasureKind, tuple[Point3, ...]], None] = self._measure_exactly
        self._pick = pick
        self._keys = keys
        self._scale = scale
        self._scene: SceneFacts | None = None
        self._band: Band | None = None
        self._mode = SelectMode.REPLACE  # of the click or the outline under way
        self._draft_tool: Tool | None = None  # that set the corners of the draft
        self._grabber = Grabber(keys, selector, self._ready.append, REACH * scale)
        self._copier = Copier(selector, self._ready.append)
        self._chooser = Chooser(keys, selector, self._ready.append)

    @property
    def footprints(self) -> tuple[Footprint, ...]:
        """Outlines of a file: a click in one of them selects it."""
        return self._chooser.footprints

    def read_footprints(self, path: Path, frame: FrameSpec) -> list[Command]:
        """Takes the outlines of a GeoJSON file; `frame` places the scene on the map."""
        return self._chooser.read_footprints(path, frame)

    # What the mouse does

    @property
    def button(self) -> int | None:
        """The button that is held over the picture."""
        if self._grabber.grip is not None or self._band is not None:
            return LEFT
        return self.pointer.drag.button if self.pointer.drag else None

    def press(self, button: int, at: Pixel, state: ViewerState, size: Size, shift: bool, ctrl: bool) -> None:
        """A button went down over the picture."""
        if self.button is not None or state.scene is None:
            return
        slop = 0.0
        if button == LEFT:
            self._mode = mode_of(shift, ctrl)
            camera = state.pose.camera(*size)
            plain = self._mode is SelectMode.REPLACE  # else a handle would be in the way of what is drawn
            if plain and self._grabber.seize(at, state, camera, self.ground(state)):
                return
            if state.tool is Tool.RECTANGLE:
                self._begin_band(at, state, camera)
                return
            slop = SLOP * self._scale if state.tool in CLICKING else 0.0
        self.pointer.press(button, at, state, size, shift, ctrl, slop)

    def move(self, to: Pixel, state: ViewerState, size: Size) -> list[Command] | None:
        """The pointer is somewhere, a button is held; None where nothing has moved."""
        if self._grabber.grip is not None:
            return self._grabber.move(to, state, self.ground(state))
        if self._band is not None:
            still = self._band.last == to
            self._band = replace(self._band, last=to)
            return None if still else []
        command = self.pointer.move(to, state, size)
        return None if command is None else [command]

    def release(self, state: ViewerState, size: Size) -> list[Command]:
        """The button went up."""
        if self._grabber.grip is not None:
            self._grabber.release(state)
            return []
        if self._band is not None:
            band, self._band = self._band, None
            if band.is_wide(SMALLEST_BAND * self._scale):
                self._chooser.area(band.region, band.mode)
            return []
        drag = self.pointer.release()
        if drag is None or drag.moved or drag.button != LEFT or state.tool not in CLICKING:
            return []
        return self._click(drag.start, state, size)

    def double_click(self, at: Pixel, state: ViewerState, size: Size) -> list[Command]:
        """Closes an outline, or focuses what lies there."""
        if state.scene is None:
            return []
        if state.tool in DRAWING:
            self.pointer.release()
            return self.act(Action.CONFIRM, at, state, size) or []
        if self.button is not None and self.pointer.drag is None:
            return []
        self.pointer.release()
        return [self.pointer.focus(at)]

    # What keys do

    def act(self, action: Action, at: Pixel, state: ViewerState, size: Size) -> list[Command] | None:
        """Returns the commands of a key, None where it is none of the tools'; `at` is the pointer's place."""
        if state.scene is None:
            return None
        if action in TOOL_OF:
            tool = TOOL_OF[action]
            return self.take(Tool.NAVIGATE if state.tool is tool else tool, state)
        if action is Action.DISMISS:
            return self._escape(state)
        if action is Action.CONFIRM:
            return self._finish(state, size)
        if action is Action.TAKE_BACK:
            draft = self._draft(state)
            return [SetDraft(draft[:-1])] if draft else []
        if action is Action.COPY:
            return [self._copier.keep(state)]
        if action is Action.PASTE:
            return _those(self._copier.paste(self._place_of(at, state), state))
        if action is Action.DUPLICATE:
            return _those(self._copier.duplicate(state))
        return None

    def insert(self, copied: Copied, point: Point, state: ViewerState) -> None:
        """Puts a copy of something on the ground at a point."""
        self._copier.put(copied, Placement((*point, self._ground_at(point, state))), state)

    def take(self, tool: Tool, state: ViewerState) -> list[Command]:
        """Returns the commands that take a tool into the hand; what was being drawn is dropped."""
        dropped: list[Command] = [SetDraft(())] if state.draft else []
        return [*dropped, SetTool(tool)]

    def _escape(self, state: ViewerState) -> list[Command] | None:
        """Drops the innermost of what is under way; None leaves the key to the messages and the help."""
        urgent = state.message is not None and state.message.severity == "error"
        if state.help_shown or urgent:
            return None
        if self._draft(state):
            return [SetDraft(())]
        if state.tool is not Tool.NAVIGATE:
            return [SetTool(Tool.NAVIGATE)]
        if state.message is None and state.selection is not None:
            return [ClearSelection()]
        return None

    # What is on the plan map

    def click_ground(self, point: Point, state: ViewerState, shift: bool, ctrl: bool) -> list[Command]:
        """A place of the plan map was clicked."""
        place = (*point, self._ground_at(point, state))
        self._mode = mode_of(shift, ctrl)
        if state.tool is Tool.BUILDING:
            self._chooser.building(point, self._mode)
        elif state.tool is Tool.POLYGON:
            return self._set_corner(place, state)
        elif state.tool is Tool.PLACE:
            return _those(self._copier.place(place, state))
        return []

    def drag_ground(self, start: Point, end: Point, shift: bool, ctrl: bool) -> None:
        """A rectangle was drawn on the plan map."""
        self._chooser.area(Region.rectangle(*start, *end), mode_of(shift, ctrl))

    # The loop

    def poll(self, scene: SceneFacts | None) -> list[Command]:
        """Returns the commands that follow from what the terrain has answered; `scene` is the open one."""
        if scene is not self._scene:
            self._scene, self._band, self._draft_tool = scene, None, None
            self._chooser.footprints = ()
            self._copier.forget()
            self._ready.clear()
        self.selector.poll()
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def sketch(self, at: Pixel | None, state: ViewerState, size: Size) -> Sketch:
        """Returns what the tool has in hand while the pointer is somewhere; None: not over the picture."""
        if state.scene is None:
            return Sketch()
        camera = state.pose.camera(*size)
        if self._band is not None:
            return Sketch(band=(self._band.region, self._band.height))
        if self._grabber.grip is not None:
            return Sketch(grip=self._grabber.grip)
        if at is None or self.button is not None:
            return Sketch()
        grip = self._grabber.find(at, state, camera, self.ground(state))
        if grip is not None:
            return Sketch(grip=grip)
        if state.tool is Tool.PLACE and (copied := copied_of(state)) is not None:
            return Sketch(ghost=copied.placed(Placement(self._place_of(at, state)), state.unit_ratios))
        if state.tool in DRAWING:
            return Sketch(cursor=self._corner_at(at, state, camera))
        if state.tool is Tool.RECTANGLE:
            self._ground_at(self._pick(at).point[:2], state)  # known by the time that the button goes down
        return Sketch()

    def ground(self, state: ViewerState) -> Ground:
        """Returns the height of the ground at a place, as far as it is known now."""
        return lambda x, y: self._ground_at((x, y), state)

    # Rectangles

    def _begin_band(self, at: Pixel, state: ViewerState, camera: Camera) -> None:
        height = self._ground_at(self._pick(at).point[:2], state)
        start = on_plane(camera, at, height)
        if start is not None:
            self._band = Band(start, height, at, at, self._mode, camera)

    # Clicks

    def _click(self, at: Pixel, state: ViewerState, size: Size) -> list[Command]:
        camera = state.pose.camera(*size)
        if state.tool is Tool.PLACE:
            return _those(self._copier.place(self._place_of(at, state), state))
        if state.tool is Tool.BUILDING:
            return self._click_building(at, state, camera)
        draft = self._draft(state)
        if len(draft) >= 3 and state.tool in (Tool.POLYGON, Tool.AREA):
            column, row, depth = camera.project(np.array(draft[0]))
            if depth > 0 and math.hypot(column - at[0], row - at[1]) < REACH * self._scale:
                return self._finish(state, size)
        corner = self._corner_at(at, state, camera)
        if corner is None:
            return [ShowMessage("There is no ground to draw on up there", "warn")]
        return self._set_corner(corner, state)

    def _click_building(self, at: Pixel, state: ViewerState, camera: Camera) -> list[Command]:
        picked = self._pick(at)
        if picked.source == "pivot":
            return [ShowMessage(NOTHING_THERE, "warn")]
        if state.edits_shown and self._mode is SelectMode.REPLACE:
            found = placement_at(state.edits, picked.point, state.unit_ratios)
            if found is not None:
                return [SelectPlacement(found[0].uid, found[1])]
        _, direction = camera.ray(*at)
        flat = math.hypot(direction[0], direction[1])
        inwards = self.selector.side / flat if flat > 1e-6 else 0.0  # a wall is picked on its outside
        x, y, _ = picked.point
        self._chooser.building((x + inwards * direction[0], y + inwards * direction[1]), self._mode)
        return []

    # Corners

    def _draft(self, state: ViewerState) -> tuple[Point3, ...]:
        """Returns the corners that the tool in hand has set."""
        return state.draft if self._draft_tool is state.tool else ()

    def _corner_at(self, at: Pixel, state: ViewerState, camera: Camera) -> Point3 | None:
        """Returns where a corner would be set: on the ground for outlines, on the surface for measures."""
        picked = self._pick(at)
        if state.tool in MEASURING:
            return picked.point if picked.source != "pivot" else None
        draft = self._draft(state)
        height = draft[0][2] if draft else self._ground_at(picked.point[:2], state)
        point = on_plane(camera, at, height)
        return (*snapped(point, state.snapping.grid), height) if point is not None else None

    def _set_corner(self, corner: Point3, state: ViewerState) -> list[Command]:
        draft, most = self._draft(state), None
        if state.tool in MEASURING:
            most = N_POINTS[MeasureKind(state.tool.value)][1]
        if len(draft) == most:  # the one before is complete
            draft = ()
        if draft and draft[-1] == corner:
            return []
        self._draft_tool = state.tool
        after = (*draft, corner)
        if len(after) == most:
            self.measured(MeasureKind(state.tool.value), after)
        return [SetDraft(after)]

    def _finish(self, state: ViewerState, size: Size) -> list[Command]:
        draft = self._draft(state)
        if not draft:
            return []
        if state.tool in MEASURING:
            return self._finish_measure(state.tool, draft)
        try:
            region = Region.polygon(tuple((x, y) for x, y, _ in draft))
        except InputError as error:
            return [ShowMessage(str(error).capitalize(), "warn")]
        self._chooser.area(region, self._mode)
        return []

    def _finish_measure(self, tool: Tool, draft: tuple[Point3, ...]) -> list[Command]:
        kind = MeasureKind(tool.value)
        if len(draft) < N_POINTS[kind][0]:
            return [ShowMessage(f"Set at least {N_POINTS[kind][0]} points to measure", "warn")]
        self.measured(kind, draft)
        return []

    def _measure_exactly(self, kind: MeasureKind, points: tuple[Point3, ...]) -> None:
        """Keeps a measurement whose corners nobody doubts; the command clears the draft."""
        self._ready.append(AddMeasurement(Measurement(kind, points)))

    def _place_of(self, at: Pixel, state: ViewerState) -> Point3:
        """Returns where a copy would stand."""
        x, y, z = self._pick(at).point
        place = snapped((x, y), state.snapping.grid)
        return (*place, self._ground_at(place, state) if state.snapping.ground else z)

    def _ground_at(self, point: Point, state: ViewerState) -> float:
        fallback = state.status.ground
        if fallback is None and state.scene is not None:
            fallback = float(state.scene.home.pivot[2])
        return self.selector.ground(point[0], point[1], fallback or 0.0)


def _those(command: Command | None) -> list[Command]:
    return [] if command is None else [command]


def mode_of(shift: bool, ctrl: bool) -> SelectMode:
    """Returns what a new selection does with these keys held."""
    return SelectMode.SUBTRACT if ctrl else SelectMode.ADD if shift else SelectMode.REPLACE
