"""The Render panel: what the picture shows, its quality while moving and at rest, and saving it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import dearpygui.dearpygui as dpg

from ...cuda.tables import Quality
from ..commands import (
    SetBackground,
    SetFloor,
    SetMode,
    SetQualityAtRest,
    SetResolution,
    SetTargetFps,
)
from ..shortcuts import Action, keys_of
from ..state import Mode, RenderPreferences, RenderStatus, SceneFacts, ViewerState
from ..theme import icon
from ..units import adaptive_sentence, reason_text
from ..widgets import TOOLTIP_DELAY
from .panel import DockedPanel, Submit

MODE_WORDS = {
    Mode.COLOR: "Colour",
    Mode.DEPTH: "Depth",
    Mode.OPACITY: "Opacity",
    Mode.NORMALS: "Normals",
    Mode.BLOCKS: "Blocks",
    Mode.EDITS: "Edits",
}
MODE_ACTIONS = {
    Mode.COLOR: Action.COLOR,
    Mode.DEPTH: Action.DEPTH,
    Mode.OPACITY: Action.OPACITY,
    Mode.NORMALS: Action.NORMALS,
    Mode.BLOCKS: Action.BLOCKS,
    Mode.EDITS: Action.EDITS,
}
QUALITIES = {Quality.EXACT: "Exact", Quality.CLUSTERED: "Clustered", Quality.FAST: "Fast"}
QUALITY_HINT = """What a still picture refines to.
Exact: LandMark's own picture
Clustered: neighbouring samples share a colour
Fast: one colour for each ray"""
FLOORS = {1.0: "Full resolution", 0.5: "½ of the window", 0.25: "¼ of the window", 0.125: "⅛ of the window"}
RESOLUTIONS = {1.0: "Window", 0.75: "¾ of the window", 0.5: "½ of the window", 0.25: "¼ of the window"}
Key = TypeVar("Key")
SCENE_BACKGROUND, OWN_BACKGROUND = "As in the scene", "Own colour"
BACKGROUNDS = {SCENE_BACKGROUND: None, "Black": (0.0, 0.0, 0.0), "White": (1.0, 1.0, 1.0)}
FPS_LOW, FPS_HIGH = 5, 60


class RenderPanel(DockedPanel):
    """Preferences of the picture."""

    title = "Render"
    glyph = "photo"
    empty_title = "Nothing to render"
    empty_body = "Picture mode, quality and saving appear here when a scene is open."

    _scene: SceneFacts | None = None
    _render: RenderPreferences | None = None
    _reason = ""  # why moving pictures do not rest on keyframes

    def build_content(self, submit: Submit) -> None:
        """Makes the sections."""
        self._submit = submit
        ui = self.widgets
        with ui.section("Picture"):
            options = [(mode, words, keys_of(MODE_ACTIONS[mode])) for mode, words in MODE_WORDS.items()]
            self._mode = ui.segmented(options, lambda mode: submit(SetMode(mode)), 3)
            dpg.add_spacer(height=self.look.px(2))
            self._build_background()
        with ui.section("Quality"):
            self._build_quality()
        with ui.section("Save picture"):
            ui.button(
                icon("photo", "Save picture"),
                lambda: self.host.act(Action.SCREENSHOT),
                None,
                f"In the resting quality, without what lies over it ({keys_of(Action.SCREENSHOT)})",
                -1,
            )

    def show_content(self, state: ViewerState) -> None:
        """Sets the widgets to a state."""
        if state.status.adaptive != self._reason:
            self._reason = state.status.adaptive
            self._show_reason(state.status)
        if state.scene is not self._scene:
            self._scene, self._render = state.scene, None
        if state.render == self._render:
            return
        render = self._render = state.render
        self._mode.show(render.mode)
        self._fps.show(render.target_fps)
        dpg.set_value(self._floor, FLOORS.get(render.floor, f"{100 * render.floor:.0f} %"))
        dpg.set_value(self._rest, QUALITIES[render.quality_at_rest])
        dpg.set_value(self._size, RESOLUTIONS.get(render.resolution, f"{100 * render.resolution:.0f} %"))
        named = next((n for n, color in BACKGROUNDS.items() if color == render.background), OWN_BACKGROUND)
        dpg.set_value(self._background, named)
        dpg.configure_item(self._own_row, show=named == OWN_BACKGROUND)
        if render.background is not None and not dpg.is_item_active(self._own):
            dpg.set_value(self._own, [*(255 * channel for channel in render.background), 255])

    def _show_reason(self, status: RenderStatus) -> None:
        """Says why moving pictures do not rest on keyframes, if they do not."""
        dpg.configure_item(self._adaptive, show=bool(status.adaptive))
        dpg.set_value(self._adaptive, f"Lower resolution while moving: {reason_text(status)}")
        dpg.set_value(self._adaptive_hint, "\n".join(adaptive_sentence(status)))

    def _build_background(self) -> None:
        ui = self.widgets
        with ui.row("Background", "Behind the scene"):
            self._background = self._combo([*BACKGROUNDS, OWN_BACKGROUND], self._set_background)
        with ui.row("Own colour") as self._own_row:
            self._own = ui.takes_keys(
                dpg.add_color_edit(
                    (90, 120, 150, 255),
                    no_alpha=True,
                    width=-1,
                    callback=lambda _sender, value: self._set_own(value),
                )
            )

    def _build_quality(self) -> None:
        ui, submit = self.widgets, self._submit
        with ui.row("While moving", "Rays, and if need be the resolution, follow this frame rate"):
            self._fps = ui.slider(
                FPS_LOW,
                FPS_HIGH,
                "{:.0f} fps".format,
                lambda fps: submit(SetTargetFps(round(fps), self.host.gesture("target fps"))),
            )
        with ui.row("Never below", "Smallest resolution while moving"):
            self._floor = self._combo(FLOORS.values(), lambda words: submit(SetFloor(_key(FLOORS, words))))
        self._adaptive = ui.text("", "muted", show=False)
        with dpg.tooltip(self._adaptive, delay=TOOLTIP_DELAY) as tip:
            dpg.bind_item_theme(tip, self.look.themes["tip"])
            self._adaptive_hint = dpg.add_text("")
        with ui.row("At rest", QUALITY_HINT):
            self._rest = self._combo(
                QUALITIES.values(), lambda words: submit(SetQualityAtRest(_key(QUALITIES, words)))
            )
        with ui.row("Resolution", "Of the resting picture"):
            self._size = self._combo(
                RESOLUTIONS.values(), lambda words: submit(SetResolution(_key(RESOLUTIONS, words)))
            )

    def _combo(self, items: Iterable[str], changed: Callable[[str], None]) -> int:
        return dpg.add_combo(list(items), width=-1, callback=lambda _sender, words: changed(words))

    def _set_background(self, name: str) -> None:
        if name == OWN_BACKGROUND:
            dpg.configure_item(self._own_row, show=True)
            self._set_own(dpg.get_value(self._own))
        else:
            self._submit(SetBackground(BACKGROUNDS[name]))

    def _set_own(self, rgba: object) -> None:
        # Dear PyGui reports 0 to 1 in the callback of a colour, but keeps 0 to 255 as its value.
        red, green, blue = (min(max(v / 255, 0.0), 1.0) for v in dpg.get_value(self._own)[:3])
        self._submit(SetBackground((red, green, blue), self.host.gesture("background")))


def _key(words: Mapping[Key, str], text: str) -> Key:
    """Returns what a text of a combo stands for."""
    return next(key for key, value in words.items() if value == text)
