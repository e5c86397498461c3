"""The Appearance panel: styles and codes as pictures, blends and mixes, the map of the table, the grade."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import dearpygui.dearpygui as dpg

from ...core.appearance import Grade
from ..commands import RemoveStyle, RenameStyle, SetAppearance, SetCode, SetGrade, SetStyle
from ..commands.appearance import COLOR_RANGE, EXPOSURE_RANGE
from ..state import SceneFacts, ViewerState
from .appearance_map import MapView
from .looks import Look, LookGrid, looks_of
from .mixing import Blend, Mix
from .panel import DockedPanel, Submit
from .photo_looks import PhotoLooks

if TYPE_CHECKING:
    from torch import Tensor

NO_TABLE = """This scene was learnt in one light: it has no appearance table.
Exposure, white balance and tint can be changed below, and saved as styles."""
CODE_WIDTH = 128  # logical pixels


class AppearancePanel(DockedPanel):
    """How the scene is lit."""

    title = "Appearance"
    glyph = "palette"
    empty_title = "No appearances"
    empty_body = "Styles, codes and the grade of the picture appear here when a scene is open."

    _scene: SceneFacts | None = None
    _state: ViewerState | None = None
    _chosen: Look | None = None  # that was last clicked

    def build_content(self, submit: Submit) -> None:
        """Makes the sections."""
        self._submit = submit
        self._codes: tuple[int, ...] = ()  # that were added to the grid
        ui, host = self.widgets, self.host
        self._grid = LookGrid(ui, host, self._choose)
        self._blend = Blend(ui, host, submit, self._table)
        self._mix = Mix(ui, host, submit)
        self._map = MapView(ui, host, submit, self._table)
        self._photos = PhotoLooks(ui, host)
        with dpg.group() as self._no_table:
            ui.text(NO_TABLE, "muted")
            ui.rule()
        with ui.section("Styles"):
            self._build_styles()
        with dpg.group() as self._of_looks, ui.section("Blend"):
            self._blend.build()
        with dpg.group() as self._of_table:
            with ui.section("Mix"):
                self._mix.build()
            with ui.section("Map"):
                self._map.build()
            with ui.section("From photographs"):
                self._photos.build()
        with ui.section("Grade"):
            self._build_grade()

    def show_content(self, state: ViewerState) -> None:
        """Brings all sections in line with a state."""
        if state.scene is not self._scene:
            self._adopt(state)
        self._state = state
        looks, width = looks_of(state, self._codes), int(self.inner_width)
        self._grid.show(state, looks, self._blend.ends, width, dpg.is_item_visible(self.window))
        self._blend.show(state, looks)
        dpg.configure_item(self._of_looks, show=len(looks) > 1)
        if self._has_table:
            self._mix.show(state, looks)
            self._map.show(state, looks, width)
            self._photos.show(state)
            code = state.appearance.code
            if code is not None and not dpg.is_item_active(self._code):
                dpg.set_value(self._code, code)
        for name, slider in self._grade.items():
            slider.show(getattr(state.appearance.grade, name))

    def restyle(self) -> None:
        """Draws what does not follow a theme by itself."""
        self._grid.restyle()
        self._map.restyle()

    def _adopt(self, state: ViewerState) -> None:
        self._scene, self._chosen, self._codes = state.scene, None, ()
        n_codes = state.scene.n_codes if state.scene else 0
        self._has_table = n_codes > 0
        dpg.configure_item(self._no_table, show=not self._has_table)
        dpg.configure_item(self._of_table, show=self._has_table)
        dpg.configure_item(self._code_row, show=self._has_table)
        dpg.set_item_label(self._range, f"Code, 0 to {n_codes - 1}")
        dpg.set_value(self._name, "")

    def _table(self) -> Tensor | None:
        """Returns the appearance table of the open scene. [n_codes, latent_dim]"""
        renderer = self.host.session.renderer
        return None if renderer is None else renderer.model.embedding

    # Styles and codes

    def _build_styles(self) -> None:
        ui, px = self.widgets, self.look.px
        self._grid.build()
        with dpg.group(horizontal=True, horizontal_spacing=px(4)):
            self._name = ui.takes_keys(
                dpg.add_input_text(
                    hint="Name of a style", width=-px(3 * 28), on_enter=True, callback=self._save
                )
            )
            ui.icon("device-floppy", "Save what is shown as a style of this name", self._save)
            ui.icon("pencil", "Rename the style that was clicked last", self._rename)
            ui.icon(
                "trash", "Remove the style that was clicked last, or the code from the grid", self._remove
            )
        with dpg.group(horizontal=True, horizontal_spacing=px(8)) as self._code_row:
            hint = "Row of the appearance table: every training photograph has one"
            self._range = ui.label("", CODE_WIDTH, hint=hint)
            self._code = ui.takes_keys(
                dpg.add_input_int(
                    width=-px(32), on_enter=True, callback=lambda _sender, code: self._set_code(code)
                )
            )
            ui.icon("square-plus", "Add this code to the grid", self._add_code)

    def _choose(self, look: Look) -> None:
        self._chosen = look
        dpg.set_value(self._name, look.name if look.is_style else "")
        self._submit(SetAppearance(look.appearance, undo="Style" if look.is_style else "Appearance"))

    def _save(self) -> None:
        if self._state is not None:
            self._submit(SetStyle(dpg.get_value(self._name), self._state.appearance))

    def _rename(self) -> None:
        look, name = self._chosen, dpg.get_value(self._name).strip()
        if look is not None and look.is_style and name != look.name:
            self._submit(RenameStyle(look.name, name))
            self._chosen = replace(look, name=name)

    def _remove(self) -> None:
        look, self._chosen = self._chosen, None
        if look is not None and look.is_style:
            self._submit(RemoveStyle(look.name))
        elif look is not None:
            self._codes = tuple(code for code in self._codes if code != look.appearance.code)

    def _set_code(self, code: int) -> None:
        self._submit(SetCode(code, self.host.gesture("appearance code")))

    def _add_code(self) -> None:
        code = dpg.get_value(self._code)
        n_codes = self._scene.n_codes if self._scene else 0
        if 0 <= code < n_codes and code not in self._codes:
            self._codes = (*self._codes, code)

    # Grade

    def _build_grade(self) -> None:
        ui = self.widgets
        rows = (
            ("exposure", "Exposure", EXPOSURE_RANGE, "{:+.2f} EV".format, "Stops, in linear light"),
            ("temperature", "White balance", COLOR_RANGE, "{:+.2f}".format, "From blue to orange"),
            ("tint", "Tint", COLOR_RANGE, "{:+.2f}".format, "From green to magenta"),
        )
        self._grade = {}
        for name, words, bounds, form, hint in rows:
            with ui.row(words, hint):
                self._grade[name] = ui.slider(
                    *bounds, form, lambda value, name=name: self._set_grade(name, value)
                )
        ui.button("Reset", lambda: self._submit(SetGrade(Grade())), None, "As the scene was learnt", 96)

    def _set_grade(self, name: str, value: float) -> None:
        if self._state is not None:
            grade = replace(self._state.appearance.grade, **{name: value})
            self._submit(SetGrade(grade, self.host.gesture(f"grade {name}")))
