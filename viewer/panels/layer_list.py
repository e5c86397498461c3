"""The list of edit layers: the uppermost first, each with an eye, its kind and name, a fact and a lock."""

from __future__ import annotations

import dearpygui.dearpygui as dpg

from ...core.edits.layers import Layer, kind_of
from ..commands import LockLayer, SelectLayer, ToggleEdits, ToggleLayer
from ..state import ViewerState
from ..theme import icon
from ..units import Units
from ..widgets import Widgets
from .panel import Submit
from .sizes import fact_of

KIND_ICONS = {
    "remove": "trash",
    "hide": "eye-off",
    "crop": "crop",
    "copy": "copy",
    "replace-block": "cube",
    "restyle": "palette",
}
FACT_WIDTH = 84  # logical pixels
Row = tuple[int, str, str, str, bool, bool]  # uid, kind, name, fact, enabled, locked


class LayerList:
    """Rows that are made anew when they say something else."""

    def __init__(self, widgets: Widgets, submit: Submit) -> None:
        self.widgets, self._submit = widgets, submit
        self._shown: object = None
        self.rows: dict[int, int] = {}  # uid to the button that selects the layer

    def build(self) -> None:
        """Makes the empty list."""
        ui = self.widgets
        with ui.row("Show edits", "Show the scene with or without all its edits"):
            self._all = dpg.add_checkbox(callback=lambda: self._submit(ToggleEdits()))
        self._none = ui.text("None yet: select something and remove, copy or restyle it.", "muted")
        self._list = dpg.add_group()

    def show(self, state: ViewerState, units: Units) -> None:
        """Brings the list in line with a state."""
        dpg.set_value(self._all, state.edits_shown)
        rows = tuple(_row(layer, units) for layer in reversed(state.edits))
        shown = rows, state.layer, self.widgets.look.light
        if shown == self._shown:
            return
        self._shown = shown
        dpg.configure_item(self._none, show=not rows)
        dpg.delete_item(self._list, children_only=True)
        self.rows.clear()
        if rows:
            self._make(rows, state.layer)

    def _make(self, rows: tuple[Row, ...], selected: int | None) -> None:
        ui, px = self.widgets, self.widgets.look.px
        dpg.push_container_stack(self._list)
        with dpg.table(header_row=False, no_pad_outerX=True, policy=dpg.mvTable_SizingFixedFit) as table:
            ui.styled(table, "list")
            dpg.add_table_column(width_fixed=True, init_width_or_weight=px(24))
            dpg.add_table_column(width_stretch=True)
            dpg.add_table_column(width_fixed=True, init_width_or_weight=px(FACT_WIDTH))
            dpg.add_table_column(width_fixed=True, init_width_or_weight=px(24))
            for number, row in enumerate(rows):
                with dpg.table_row():
                    self._add(row)
                if row[0] == selected:
                    dpg.highlight_table_row(table, number, ui.look.color("tint"))
        dpg.pop_container_stack()

    def _add(self, row: Row) -> None:
        ui = self.widgets
        uid, kind, name, fact, enabled, locked = row
        eye = "eye" if enabled else "eye-off"
        ui.icon(eye, "Off" if enabled else "On", lambda: self._submit(ToggleLayer(uid)))
        words = icon(KIND_ICONS[kind], name)
        self.rows[uid] = ui.button(words, lambda: self._submit(SelectLayer(uid)), "row", None, -1, 24)
        ui.label(fact, -1, "right")
        lock = "lock" if locked else "lock-open"
        ui.icon(lock, "Unlock" if locked else "Lock", lambda: self._submit(LockLayer(uid)))


def _row(layer: Layer, units: Units) -> Row:
    kind = kind_of(layer)
    return (
        layer.uid,
        kind,
        layer.name or kind.capitalize(),
        fact_of(layer, units),
        layer.enabled,
        layer.locked,
    )
