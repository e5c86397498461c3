"""The bar under the selection: what it is, how large, and what can be done with it."""

from __future__ import annotations

import math
from collections.abc import Callable

import dearpygui.dearpygui as dpg
import numpy as np

from ..core.camera import Camera
from ..core.edits.layers import Prism
from .commands import FocusOn, IsolateSelection, RestyleSelection
from .handles import Ground, heights, target_of
from .panels.panel import Host, Submit
from .panels.sizes import area_text, drawn_prism, size_text
from .shortcuts import Action, keys_of
from .state import ViewerState
from .units import Units
from .widgets import Widgets

HEIGHT, BUTTON, GAP, PAD = 36, 32, 16, 12  # logical pixels
N_BUTTONS = 6
Place = tuple[int, int, int]  # left, top, width


class ContextBar:
    """Floats under what is selected; a child window, so that it takes the mouse before the canvas below."""

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self._widgets = widgets
        self._look = widgets.look
        self._host = host
        self._state = ViewerState()
        self._place: Place | None = None
        self._words = ""

    def build(self, submit: Submit) -> None:
        """Makes the bar; it is hidden until something is selected."""
        ui, px = self._widgets, self._look.px
        with dpg.child_window(
            width=px(240),
            height=px(HEIGHT),
            show=False,
            border=False,
            no_scrollbar=True,
            no_scroll_with_mouse=True,
            always_use_window_padding=True,
        ) as self._bar:
            ui.styled(self._bar, "hud_bar")
            with dpg.group(horizontal=True, horizontal_spacing=0):
                dpg.add_spacer(width=px(PAD))
                self._text = ui.label("", 96, "hud", font="hud", height=BUTTON)
                for name, hint, action in self._buttons(submit):
                    ui.icon(name, hint, action, "hud", BUTTON)

    def show(self, state: ViewerState, camera: Camera, ground: Ground, is_dragging: bool) -> None:
        """Puts the bar under the selection, or hides it."""
        self._state = state
        chosen = state.selection
        target = target_of(state) if chosen is not None else None
        place = None
        if chosen is not None and target is not None and state.scene is not None and not is_dragging:
            drawn, units = drawn_prism(target.outline, state.scene), Units.of(state.scene)
            words = f"{chosen.what.capitalize()}  ·  {size_text(drawn, units)}  ·  {area_text(drawn, units)}"
            low, high = heights(target.outline, ground(*target.outline.region.center), state.scene)
            rings = [polygon[0] for polygon in target.outline.region.polygons]
            corners = [(x, y, z) for ring in rings for x, y in ring for z in (low, high)]
            place = self._under(corners, camera, self._width(words))
            if place is not None and words != self._words:
                self._words = words
                dpg.set_item_label(self._text, words)
        if place == self._place:
            return
        self._place = place
        if place is None:
            dpg.configure_item(self._bar, show=False)
            return
        left, top, width = place
        taken = self._look.px(2 * PAD + N_BUTTONS * BUTTON)
        dpg.configure_item(self._text, width=width - taken)
        dpg.configure_item(self._bar, show=True, pos=(left, top), width=width)

    def _buttons(self, submit: Submit) -> tuple[tuple[str, str, Callable[[], None]], ...]:
        act = self._host.act
        return (
            ("trash", f"Remove ({keys_of(Action.REMOVE)})", lambda: act(Action.REMOVE)),
            ("eye-off", f"Hide ({keys_of(Action.HIDE)})", lambda: act(Action.HIDE)),
            ("focus-centered", "Isolate: keep only this", lambda: submit(IsolateSelection())),
            ("copy", f"Copy ({keys_of(Action.COPY)})", lambda: act(Action.COPY)),
            ("palette", "Restyle: keep the present appearance here", self._restyle(submit)),
            ("zoom-scan", "Focus", self._focus(submit)),
        )

    def _restyle(self, submit: Submit) -> Callable[[], None]:
        return lambda: submit(RestyleSelection(self._state.appearance))

    def _focus(self, submit: Submit) -> Callable[[], None]:
        def focus() -> None:
            target = target_of(self._state)
            if target is not None:
                submit(focus_on(target.outline))

        return focus

    def _width(self, words: str) -> int:
        taken = self._look.px(2 * PAD + N_BUTTONS * BUTTON)
        return int(self._widgets.text_width(words, "hud")) + taken + self._look.px(PAD)

    def _under(self, corners: list[tuple[float, float, float]], camera: Camera, width: int) -> Place | None:
        """Returns where the bar stands: below the lowest corner, inside the picture; None out of sight."""
        seen = [camera.project(np.array(corner)) for corner in corners]
        inside = [(column, row) for column, row, depth in seen if depth > 0]
        inside = [at for at in inside if -camera.width < at[0] < 2 * camera.width and math.isfinite(at[1])]
        if not inside:
            return None
        columns, rows = zip(*inside, strict=True)
        if max(columns) < 0 or min(columns) > camera.width or max(rows) < 0 or min(rows) > camera.height:
            return None
        middle = (min(columns) + max(columns)) / 2
        gap = self._look.px(GAP)
        room = max(camera.width - width, 0)
        left = min(max(int(middle - width / 2), min(gap, room)), max(room - gap, 0))
        top = min(int(max(rows)) + gap, camera.height - self._look.px(2 * HEIGHT + GAP))
        return left, max(top, 0), min(width, camera.width)


def focus_on(prism: Prism) -> FocusOn:
    """Returns the command that brings what stands in a prism to the middle of the picture."""
    x, y, low = prism.anchor
    return FocusOn((x, y, (low + prism.high) / 2 if math.isfinite(prism.high) else low))
