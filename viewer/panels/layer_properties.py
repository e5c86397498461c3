"""Properties of the selected layer: its name, place in the stack, copies, heights, appearance, files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import dearpygui.dearpygui as dpg

from ...core.appearance import Appearance
from ...core.edits.layers import Copy, Layer, Placement, ReplaceBlock, Restyle
from ..commands import (
    AddPlacement,
    Command,
    DuplicateLayer,
    MoveLayer,
    RemoveLayer,
    RemovePlacement,
    SelectPlacement,
    SetLayer,
    SetPlacement,
    SetSelection,
)
from ..commands.edits import layer_of
from ..handles import prisms_of
from ..state import Selection, ViewerState
from ..theme import icon
from ..units import Units, figures
from ..widgets import Widgets
from .panel import Host, Submit

PRESENT = "Present appearance"
OWN = "Its own"
HALF = 104  # logical pixels of the first of two fields
STEP_SIDE = 0.05  # of the scene: from the last copy to the next one that is added


class LayerProperties:
    """The section below the list of layers."""

    def __init__(self, widgets: Widgets, host: Host, submit: Submit) -> None:
        self.widgets, self._host, self._submit = widgets, host, submit
        self._state = ViewerState()
        self._units = Units()
        self._shown: object = None
        self._copies: object = None

    def build(self) -> None:
        """Makes the widgets of every kind of layer; `show` shows those that apply."""
        ui = self.widgets
        with dpg.group(show=False) as self._group, ui.section("Layer"):
            self._build_actions()
            with ui.row("Name"):
                self._name = ui.takes_keys(
                    dpg.add_input_text(
                        width=-1, on_enter=True, callback=lambda _sender, name: self._rename(name)
                    )
                )
            with dpg.group() as self._style_row, ui.row("Appearance"):
                self._style = dpg.add_combo(
                    [], width=-1, callback=lambda _sender, name: self._set_style(name)
                )
            with dpg.group() as self._file_rows:
                self._file = ui.fact("File")
                self._mask = ui.fact("Mask", hint="LandMark's alpha_volume_*.npy")
            with dpg.group() as self._copy_rows:
                self._source = ui.fact("From", hint="Where the copies are taken from")
                self._list = dpg.add_group()
                ui.button(icon("plus", "Add copy"), self._add_copy, None, "One more, beside the last", -1)
                self._build_placement()

    def show(self, state: ViewerState, units: Units) -> None:
        """Writes the properties of the selected layer."""
        self._state, self._units = state, units
        layer = layer_of(state, state.layer)
        number = self._number(layer)
        place = state.edits.index(layer) if layer else 0
        shown = layer, number, place, len(state.edits), units, state.styles, state.scene
        if shown == self._shown:
            return
        self._shown = shown
        dpg.configure_item(self._group, show=layer is not None)
        if layer is None:
            return
        self._show_actions(layer)
        if not dpg.is_item_active(self._name):
            dpg.set_value(self._name, layer.name)
        dpg.configure_item(self._style_row, show=isinstance(layer, Restyle))
        dpg.configure_item(self._file_rows, show=isinstance(layer, ReplaceBlock))
        dpg.configure_item(self._copy_rows, show=isinstance(layer, Copy))
        if isinstance(layer, Restyle):
            self._show_style(layer.appearance)
        elif isinstance(layer, ReplaceBlock):
            dpg.set_item_label(self._file, layer.checkpoint.name)
            dpg.set_item_label(self._mask, layer.mask.name if layer.mask else "As before")
        elif isinstance(layer, Copy):
            self._show_copies(layer, number)

    # The layer as a whole

    def _build_actions(self) -> None:
        ui = self.widgets
        session = self._host.session
        with dpg.group(horizontal=True, horizontal_spacing=ui.look.px(4)):
            hint = "Back to the layer's previous version, whatever happened to others since"
            self._undo = ui.icon("arrow-back-up", hint, lambda: self._with_uid(session.undo_layer))
            hint = "To the layer's version that was undone"
            self._redo = ui.icon("arrow-forward-up", hint, lambda: self._with_uid(session.redo_layer))
            self._up = ui.icon("chevron-up", "Up: over the next layer", lambda: self._move(1))
            self._down = ui.icon("chevron-down", "Down: under the last layer", lambda: self._move(-1))
            ui.icon("square-plus", "Duplicate the layer", lambda: self._do(DuplicateLayer))
            ui.icon("select-all", "Select what it acts on", self._select_area)
            ui.icon("trash", "Delete the layer", lambda: self._do(RemoveLayer))

    def _show_actions(self, layer: Layer) -> None:
        back, forth = self._host.session.history.can_undo_layer(self._state, layer.uid)
        place, last = self._state.edits.index(layer), len(self._state.edits) - 1
        free = not layer.locked
        for item, possible in (
            (self._undo, back and free),
            (self._redo, forth and free),
            (self._up, place < last and free),
            (self._down, place > 0 and free),
        ):
            dpg.configure_item(item, enabled=possible)

    @property
    def _layer(self) -> Layer | None:
        return layer_of(self._state, self._state.layer)

    def _with_uid(self, action: Callable[[int], None]) -> None:
        if self._layer is not None:
            action(self._layer.uid)

    def _do(self, command: Callable[[int], Command]) -> None:
        self._with_uid(lambda uid: self._submit(command(uid)))

    def _move(self, by: int) -> None:
        if (layer := self._layer) is not None:
            self._submit(MoveLayer(layer.uid, self._state.edits.index(layer) + by))

    def _set(self, undo: str, **changes: object) -> None:
        if (layer := self._layer) is not None:
            self._submit(SetLayer(layer.uid, replace(layer, **changes), undo=undo))

    def _rename(self, name: str) -> None:
        self._set("Rename layer", name=name.strip())

    def _select_area(self) -> None:
        layer = self._layer
        prism = getattr(layer, "prism", None)
        if isinstance(layer, Copy) and layer.source is not None:  # its prism lies in the other scene
            prism = next(iter(prisms_of(layer, self._state.unit_ratios)), None)
        if prism is not None:
            self._submit(SetSelection(Selection(prism)))

    # Appearance

    def _show_style(self, appearance: Appearance) -> None:
        names = {style: name for name, style in self._state.styles}
        dpg.configure_item(self._style, items=[PRESENT, *names.values()])
        dpg.set_value(self._style, names.get(appearance, OWN))

    def _set_style(self, name: str) -> None:
        appearance = dict(self._state.styles).get(name, self._state.appearance)
        self._set("Restyle", appearance=appearance)

    # Copies

    def _number(self, layer: Layer | None) -> int:
        """Returns which copy the fields change."""
        if not isinstance(layer, Copy):
            return 0
        selection = self._state.selection
        number = selection.placement if selection is not None else None
        return min(number or 0, max(len(layer.placements) - 1, 0))

    def _build_placement(self) -> None:
        ui = self.widgets
        with dpg.group() as self._placement_rows:
            with ui.row("East, north") as self._place_row:
                self._east = ui.drag("%.2f", lambda value: self._set_position(0, value), HALF)
                self._north = ui.drag("%.2f", lambda value: self._set_position(1, value))
            with ui.row("Height", "Of the ground that it stands on"):
                self._height = ui.drag("%.2f", lambda value: self._set_position(2, value))
            with ui.row("Turn, scale", "Counter-clockwise seen from above; factor on its size"):
                self._heading = ui.drag("%.1f°", lambda value: self._set_copy(heading=value), HALF, speed=0.5)
                self._scale = ui.drag(
                    "× %.2f",
                    lambda value: self._set_copy(scale=value),
                    speed=0.01,
                    min_value=0.01,
                    max_value=100,
                    clamped=True,
                )

    def _show_copies(self, layer: Copy, number: int) -> None:
        units = self._units
        dpg.set_item_label(self._source, layer.source.name if layer.source else "This scene, unedited")
        self._list_copies(layer, number)
        dpg.configure_item(self._placement_rows, show=bool(layer.placements))
        if not layer.placements or self._state.scene is None:
            return
        low, high = self._state.scene.aabb
        size = max(high[axis] - low[axis] for axis in range(3))
        form = f"%.{units.decimals(size)}f {units.symbol}".strip()
        placement = layer.placements[number]
        shown = units.to_map(placement.position)
        for item, value in zip((self._east, self._north, self._height), shown, strict=True):
            dpg.configure_item(item, format=form, speed=size * units.factor / 2000)
            self.widgets.set_number(item, value)
        self.widgets.set_number(self._heading, placement.heading)
        self.widgets.set_number(self._scale, placement.scale)

    def _list_copies(self, layer: Copy, number: int) -> None:
        copies = (layer.uid, number, tuple(_words(p, self._units) for p in layer.placements))
        if copies == self._copies:
            return
        self._copies = copies
        ui, uid = self.widgets, layer.uid
        dpg.delete_item(self._list, children_only=True)
        dpg.push_container_stack(self._list)
        with dpg.table(header_row=False, no_pad_outerX=True, policy=dpg.mvTable_SizingFixedFit) as table:
            ui.styled(table, "list")
            dpg.add_table_column(width_stretch=True)
            dpg.add_table_column(width_fixed=True, init_width_or_weight=ui.look.px(24))
            for i, words in enumerate(copies[2]):
                with dpg.table_row():
                    select = lambda i=i: self._submit(SelectPlacement(uid, i))  # noqa: E731
                    ui.button(f"{i + 1}  {words}", select, "row", None, -1, 24)
                    ui.icon("x", "Remove this copy", lambda i=i: self._submit(RemovePlacement(uid, i)))
                if i == number:
                    dpg.highlight_table_row(table, i, ui.look.color("tint"))
        dpg.pop_container_stack()

    def _set_position(self, axis: int, value: float) -> None:
        layer = self._layer
        if isinstance(layer, Copy) and layer.placements:
            shown = list(self._units.to_map(layer.placements[self._number(layer)].position))
            shown[axis] = value
            self._set_copy(position=self._units.from_map(shown))

    def _set_copy(self, **changes: object) -> None:
        layer = self._layer
        if not isinstance(layer, Copy) or not layer.placements:
            return
        number = self._number(layer)
        placement = replace(layer.placements[number], **changes)
        gesture = self._host.gesture(f"copy {number} {next(iter(changes))}")
        self._submit(SetPlacement(layer.uid, number, placement, gesture))

    def _add_copy(self) -> None:
        layer, scene = self._layer, self._state.scene
        if not isinstance(layer, Copy) or scene is None:
            return
        step = STEP_SIDE * (scene.aabb[1][0] - scene.aabb[0][0])
        last = layer.placements[-1] if layer.placements else Placement(layer.prism.anchor)
        x, y, z = last.position
        self._submit(AddPlacement(layer.uid, replace(last, position=(x + step, y, z))))


def _words(placement: Placement, units: Units) -> str:
    """Says where a copy stands."""
    x, y, _ = units.to_map(placement.position)
    scale = "" if placement.scale == 1 else f"  ×{figures(placement.scale)}"
    return f"{figures(x)}, {figures(y)}  ·  {placement.heading:.0f}°{scale}"
