"""The Edit panel: tools, what is selected and what can be done with it, the layers and their properties."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dearpygui.dearpygui as dpg

from ..commands import (
    ClearSelection,
    CropToSelection,
    GrowSelection,
    IsolateSelection,
    RestyleSelection,
    SetHandle,
    SetSelectionHeights,
    SetSnapping,
    ShowMessage,
)
from ..handles import target_of
from ..path_dialog import PathWish
from ..shortcuts import Action, keys_of
from ..state import Handle, SceneFacts, Snapping, Tool, ViewerState
from ..theme import icon
from ..units import Units
from .block_menu import ask_for_replacement
from .insert import InsertForm
from .layer_list import LayerList
from .layer_properties import PRESENT, LayerProperties
from .panel import DockedPanel, Submit
from .sizes import area_text, drawn_prism, size_text

TOOLS = (
    (Tool.NAVIGATE, "target", "Move the camera", None),
    (Tool.BUILDING, "building", "Select a building by a click", Action.SELECT_BUILDING),
    (Tool.RECTANGLE, "select-all", "Select a rectangle by a drag", Action.SELECT_RECTANGLE),
    (Tool.POLYGON, "polygon", "Select a polygon by clicks", Action.SELECT_POLYGON),
    (Tool.PLACE, "map-pin", "Put copies of the selection where you click", None),
)
HANDLES = (
    (Handle.MOVE, "arrows-move", "Move a copy", Action.MOVE),
    (Handle.ROTATE, "rotate-2", "Turn a copy", Action.ROTATE),
    (Handle.SCALE, "resize", "Scale a copy", Action.SCALE),
)
SELECTED = "selection", "layer", "edits", "unit_ratios"  # what the facts of the selection depend on
GROW_SHARE = 1 / 200  # of the scene's size, for one step of growing
CHECKPOINT_ENDINGS = ".th", ".yaml", ".yml"
FOOTPRINT_ENDINGS = (".geojson", ".json")


class EditPanel(DockedPanel):
    """Everything that changes the scene."""

    title = "Edit"
    glyph = "vector"
    empty_title = "Nothing to edit"
    empty_body = "Tools, selection and layers appear here when a scene is open."

    _scene: SceneFacts | None = None
    _units = Units()
    _state: ViewerState | None = None
    _styles: tuple[str, ...] | None = None

    def build_content(self, submit: Submit) -> None:
        """Makes the sections."""
        self._submit = submit
        self._build_tools()
        with self.widgets.section("Selection"):
            self._build_selection()
        with self.widgets.section("Layers"):
            self._layers = LayerList(self.widgets, submit)
            self._layers.build()
            self._build_additions()
        self._insert = InsertForm(self.widgets, self.host, submit)
        self._insert.build()
        self._properties = LayerProperties(self.widgets, self.host, submit)
        self._properties.build()
        with self.widgets.section("Snapping"):
            self._build_snapping()

    def show_content(self, state: ViewerState) -> None:
        """Writes what changed."""
        before, self._state = self._state, state
        if state.scene is not self._scene:
            self._scene, before = state.scene, None
            self._units = Units.of(state.scene)
            self._adopt_units(state.scene)
        self._tools.show(state.tool)
        self._handles.show(state.handle)
        styles = tuple(name for name, _ in state.styles)
        if styles != self._styles:
            self._styles = styles
            dpg.configure_item(self._restyle, items=[PRESENT, *styles])
        if before is None or any(getattr(before, name) != getattr(state, name) for name in SELECTED):
            self._show_selection(state)
        if before is None or before.snapping != state.snapping:
            dpg.set_value(self._snap_ground, state.snapping.ground)
            self.widgets.set_number(self._snap_grid, state.snapping.grid * self._units.factor)
        self._layers.show(state, self._units)
        self._insert.show(state)
        self._properties.show(state, self._units)

    # Building

    def _build_tools(self) -> None:
        ui = self.widgets
        tools = [(tool, icon(glyph), _hint(words, action)) for tool, glyph, words, action in TOOLS]
        self._tools = ui.segmented(tools, self._take)
        handles = [(handle, icon(glyph), _hint(words, action)) for handle, glyph, words, action in HANDLES]
        with ui.row("Handles", "What dragging a placed copy changes"):
            self._handles = ui.segmented(handles, lambda handle: self._submit(SetHandle(handle)))
        ui.rule()

    def _build_selection(self) -> None:
        ui, act = self.widgets, self.host.act
        with dpg.group() as self._nothing:
            ui.text("Select a building or an area with a tool above.", "muted")
        with dpg.group(show=False) as self._selected:
            self._what = ui.fact("Selected", hint="What it is, and the area of its outline")
            self._size = ui.fact("Size", hint="Length × width × height")
            with ui.row("Ground, roof", "Heights between which the selection lies"):
                self._low = ui.drag("%.2f", lambda value: self._set_heights(low=value), 104)
                self._high = ui.drag("%.2f", lambda value: self._set_heights(high=value))
            ui.even(
                2,
                [
                    lambda: ui.button(icon("minus", "Shrink"), lambda: self._grow(-1), None, None, -1),
                    lambda: ui.button(icon("plus", "Grow"), lambda: self._grow(1), None, None, -1),
                ],
                "grid",
            )

            def add(glyph: str, words: str, hint: str, action: Action) -> None:
                ui.button(icon(glyph, words), lambda: act(action), None, _hint(hint, action), -1)

            def send(glyph: str, words: str, hint: str, command: object) -> None:
                ui.button(icon(glyph, words), lambda: self._submit(command), None, hint, -1)

            only = "Keep only what stands in the selection"
            crop = "Keep only what lies in its outline, at all heights"
            place = "Put copies of it where you click"
            ui.even(
                3,
                [
                    lambda: add("trash", "Remove", "Take it away and close the ground", Action.REMOVE),
                    lambda: add("eye-off", "Hide", "Show what is behind it", Action.HIDE),
                    lambda: send("target", "Isolate", only, IsolateSelection()),
                    lambda: send("crop", "Crop", crop, CropToSelection()),
                    lambda: ui.button(icon("copy", "Copy"), lambda: self._take(Tool.PLACE), None, place, -1),
                    lambda: send("x", "Deselect", "Select nothing", ClearSelection()),
                ],
                "grid",
            )
            with ui.row("Restyle as", "Show it in another appearance"):
                self._restyle = dpg.add_combo(
                    [PRESENT], width=-1, callback=lambda _sender, name: self._restyle_as(name)
                )

    def _build_additions(self) -> None:
        ui = self.widgets
        ui.even(
            2,
            [
                lambda: ui.button(
                    icon("square-plus", "Insert…"),
                    self._ask_for_source,
                    None,
                    "A building from another scene or checkpoint",
                    -1,
                ),
                lambda: ui.button(
                    icon("cube", "Replace block…"),
                    self._ask_for_block,
                    None,
                    "Read a block from LandMark's sub{k}_add.th or sub{k}_remove.th",
                    -1,
                ),
                lambda: ui.button(
                    icon("vector", "Footprints…"),
                    self._ask_for_footprints,
                    None,
                    "Select buildings by their outlines in a GeoJSON file",
                    -1,
                ),
            ],
            "grid",
        )

    def _build_snapping(self) -> None:
        ui = self.widgets
        with ui.row("Ground", "Copies stand on the ground"):
            self._snap_ground = dpg.add_checkbox(callback=lambda _sender, on: self._snap(ground=on))
        with ui.row("Grid", "Side of the grid that corners and copies snap to; 0: none"):
            self._snap_grid = ui.drag(
                "%.2f", lambda value: self._snap(grid=value / self._units.factor), min_value=0, clamped=True
            )

    def _adopt_units(self, scene: SceneFacts | None) -> None:
        if scene is None:
            return
        low, high = scene.aabb
        size = max(high[axis] - low[axis] for axis in range(3))
        form = f"%.{self._units.decimals(size)}f {self._units.symbol}".strip()
        for item in (self._low, self._high, self._snap_grid):
            dpg.configure_item(item, format=form, speed=size * self._units.factor / 2000)

    # Selection

    def _show_selection(self, state: ViewerState) -> None:
        selection = state.selection
        dpg.configure_item(self._nothing, show=selection is None)
        dpg.configure_item(self._selected, show=selection is not None)
        if selection is None or self._scene is None:
            return
        target = target_of(state)
        outline = target.outline if target else selection.prism
        units, prism = self._units, drawn_prism(outline, self._scene)
        copied = "" if selection.placement is None else f" {selection.placement + 1}"
        dpg.set_item_label(self._what, f"{selection.what.capitalize()}{copied}  ·  {area_text(prism, units)}")
        dpg.set_item_label(self._size, size_text(prism, units))
        self.widgets.set_number(self._low, units.to_map((0.0, 0.0, prism.low))[2])
        self.widgets.set_number(self._high, units.to_map((0.0, 0.0, prism.high))[2])

    def _set_heights(self, low: float | None = None, high: float | None = None) -> None:
        selection = self._state.selection if self._state else None
        if selection is None:
            return
        values = [selection.prism.low, selection.prism.high]
        for axis, shown in enumerate((low, high)):
            if shown is not None:
                values[axis] = self._units.from_map((0.0, 0.0, shown))[2]
        self._submit(SetSelectionHeights(*values, self.host.gesture("selection heights")))

    def _grow(self, steps: int) -> None:
        if self._scene is not None:
            low, high = self._scene.aabb
            side = max(high[0] - low[0], high[1] - low[1])
            self._submit(GrowSelection(steps * GROW_SHARE * side))

    def _restyle_as(self, name: str) -> None:
        if self._state is not None:
            appearance = dict(self._state.styles).get(name, self._state.appearance)
            self._submit(RestyleSelection(appearance))

    # Tools

    def _take(self, tool: Tool) -> None:
        if self._state is not None:
            for command in self.host.tools.take(tool, self._state):
                self._submit(command)

    def _snap(self, **changes: object) -> None:
        snapping = self._state.snapping if self._state else Snapping()
        self._submit(SetSnapping(replace(snapping, **changes)))

    # Files

    def _ask_for_source(self) -> None:
        about = "The scene or checkpoint that holds the building. Its files stay where they are."
        self.host.choose_file(
            PathWish("Insert from", about, CHECKPOINT_ENDINGS, self._insert.start, "Choose")
        )

    def _ask_for_footprints(self) -> None:
        def read(path: Path) -> None:
            scene = self.host.session.scene
            if scene is not None:
                for command in self.host.tools.read_footprints(path, scene.spec.frame):
                    self._submit(command)

        about = "A GeoJSON file of building outlines, in the coordinates of the map."
        self.host.choose_file(PathWish("Footprints", about, FOOTPRINT_ENDINGS, read, "Choose"))

    def _ask_for_block(self) -> None:
        """Asks where the selected block shall be read from."""
        block = self._state.selected_block if self._state else None
        if block is None:
            self._submit(ShowMessage("Select a block on the map of blocks first", "warn"))
            return
        ask_for_replacement(self.host, self._submit, block)


def _hint(words: str, action: Action | None) -> str:
    keys = keys_of(action) if action else ""
    return f"{words} ({keys})" if keys else words
