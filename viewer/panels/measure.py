"""The Measure panel: the tools, and the measurements that are kept with the scene."""

from __future__ import annotations

from dataclasses import dataclass

import dearpygui.dearpygui as dpg

from ...core.measure import Measurement
from ..commands import ClearMeasurements, RemoveMeasurement, RenameMeasurement, SetPose, ShowMessage
from ..measuring import details_text, focus_of, title, value_text
from ..state import Tool, ViewerState
from ..theme import icon
from ..units import Units
from .panel import DockedPanel, Submit

TOOLS = (
    (Tool.DISTANCE, "Distance", "Click two points"),
    (Tool.HEIGHT, "Height", "Click the foot, then the top"),
    (Tool.POLYLINE, "Polyline", "Click points; Enter or a double-click ends"),
    (Tool.AREA, "Area", "Click corners; the first one, Enter or a double-click closes"),
)
NAME_WIDTH, VALUE_WIDTH = 112, 112  # logical pixels


@dataclass(frozen=True)
class _Row:
    """Widgets of one measurement."""

    group: int
    name: int
    value: int
    details: int


class MeasurePanel(DockedPanel):
    """Measurements of the scene."""

    title = "Measure"
    glyph = "ruler-measure"
    empty_title = "Nothing to measure"
    empty_body = "Distances, heights and areas appear here when a scene is open."

    _listed: tuple[object, ...] = ()
    _state: ViewerState | None = None

    def build_content(self, submit: Submit) -> None:
        """Makes tools and list."""
        self._submit = submit
        self._rows: list[_Row] = []
        ui = self.widgets
        with ui.section("Tool"):
            self._tool = ui.segmented(TOOLS, self._take, 2)
            self._hint = ui.text("", "muted")
        with ui.section("Measurements"):
            self._none = ui.text("None yet. They are saved with the scene.", "muted")
            with dpg.group() as self._list:
                pass
            self._clear = ui.button(
                icon("trash", "Delete all"), lambda: submit(ClearMeasurements()), None, None, -1
            )

    def show_content(self, state: ViewerState) -> None:
        """Sets the tool, and lists what changed."""
        self._state = state
        self._tool.show(state.tool)
        hint = next((hint for tool, _, hint in TOOLS if tool is state.tool), "Choose what to measure")
        if dpg.get_value(self._hint) != hint:
            dpg.set_value(self._hint, hint)
        listed = state.measurements, Units.of(state.scene)
        if listed == self._listed:
            return
        self._listed = listed
        while len(self._rows) < len(state.measurements):
            self._rows.append(self._add_row(len(self._rows)))
        for number, row in enumerate(self._rows):
            there = number < len(state.measurements)
            dpg.configure_item(row.group, show=there)
            if there:
                self._show_row(row, number, state.measurements[number], listed[1])
        dpg.configure_item(self._none, show=not state.measurements)
        dpg.configure_item(self._clear, show=len(state.measurements) > 1)

    def _add_row(self, number: int) -> _Row:
        """Adds a row that is filled and hidden from then on: an input that takes keys is never deleted."""
        ui, px = self.widgets, self.look.px
        with dpg.group(parent=self._list) as group:
            with dpg.group(horizontal=True, horizontal_spacing=px(4)):
                name = ui.takes_keys(
                    dpg.add_input_text(
                        width=px(NAME_WIDTH),
                        callback=lambda _sender, words: self._submit(
                            RenameMeasurement(number, words, self.host.gesture(f"measurement {number}"))
                        ),
                    )
                )
                value = ui.label("", VALUE_WIDTH, "value")
                ui.icon("copy", "Copy the value", lambda: self._copy(number))
                ui.icon("focus-centered", "Bring it into view", lambda: self._focus(number))
                ui.icon("trash", "Delete", lambda: self._submit(RemoveMeasurement(number)))
            details = ui.text("", "muted", "small")
        return _Row(group, name, value, details)

    def _show_row(self, row: _Row, number: int, measurement: Measurement, units: Units) -> None:
        if not dpg.is_item_active(row.name):
            dpg.set_value(row.name, title(measurement, number))
        dpg.set_item_label(row.value, value_text(measurement, units))
        details = details_text(measurement, units)
        dpg.set_value(row.details, details)
        dpg.configure_item(row.details, show=bool(details))

    def _take(self, tool: Tool) -> None:
        state = self._state
        if state is None:
            return
        chosen = Tool.NAVIGATE if state.tool is tool else tool
        for command in self.host.tools.take(chosen, state):
            self._submit(command)

    def _copy(self, number: int) -> None:
        if self._state is not None:
            value = value_text(self._state.measurements[number], Units.of(self._state.scene))
            dpg.set_clipboard_text(value)
            self._submit(ShowMessage(f"On the clipboard: {value}"))

    def _focus(self, number: int) -> None:
        if self._state is not None:
            pose = focus_of(self._state.measurements[number], self._state.pose)
            self.host.session.submit(SetPose(pose, undo="Focus"), glide=True)
