"""The canvas: the picture, what lies over it, and the floating bars; tells where the pointer is."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import dearpygui.dearpygui as dpg

from . import overlay
from .commands import DismissMessage, SetMode, SetNavigation, ToggleBlockBorders
from .display import Display
from .layout import WINDOW
from .panels.panel import Host, Submit
from .panels.render import MODE_ACTIONS, MODE_WORDS
from .shortcuts import Action, keys_of
from .state import Message, Mode, Navigation, ViewerState
from .theme import icon
from .units import Units
from .widgets import Pen, Widgets

BAR_HEIGHT, TOOL = 36, 32  # logical pixels
N_TOOLS, TOOL_GAP = 5, 8
MODE_WIDTH, BANNER_WIDTH = 112, 640
MODE_ICONS = {
    Mode.COLOR: "palette",
    Mode.DEPTH: "haze",
    Mode.OPACITY: "layers-intersect",
    Mode.NORMALS: "mountain",
    Mode.BLOCKS: "grid-dots",
}
BANNER_ICONS = {"info": "info-circle", "warn": "alert-triangle", "error": "alert-triangle"}
BANNER_THEMES = {"info": "banner_info", "warn": "banner_warn", "error": "banner_bad"}
LAYERS = ("picture", "borders", "pivot", "compass", "scale", "badge", "notice")


class Viewport:
    """The window in the middle."""

    def __init__(self, widgets: Widgets, display: Display, host: Host) -> None:
        self.widgets = widgets
        self.look = widgets.look
        self.display = display
        self.host = host
        self.window = WINDOW["Viewport"]
        self.size = (0, 0)  # pixels of the canvas
        self.dragging = False
        self._origin = (0.0, 0.0)
        self._keys: dict[str, Hashable] = {}
        self._message: Message | None = None
        self._bars_shown = True

    def build(self, submit: Submit) -> None:
        """Makes canvas and bars."""
        ui = self.widgets
        flags = {"no_scrollbar": True, "no_scroll_with_mouse": True, "no_title_bar": True, "no_move": True}
        with dpg.window(label="Viewport", tag=self.window, **flags) as window:
            ui.styled(window, "canvas")
            self.canvas = ui.styled(dpg.add_drawlist(16, 16), None, "hud")
            self._layers = {name: dpg.add_draw_layer(parent=self.canvas) for name in LAYERS}
            self._image = dpg.draw_image(
                self.display.texture, (0, 0), (16, 16), parent=self._layers["picture"], show=False
            )
            self._build_tools(submit)
            self._build_mode(submit)
            self._build_banner(submit)
            self._open_buttons = [
                ui.button(
                    icon("folder", "Open…"),
                    lambda: self.host.act(Action.OPEN),
                    "primary",
                    None,
                    128,
                    pos=(0, 0),
                ),
                ui.button("Demo scene", lambda: self.host.open_demo("demo"), None, None, 128, pos=(0, 0)),
            ]

    def measure(self) -> bool:
        """Follows the size of the window; True where it changed."""
        width, height = (int(side) for side in dpg.get_item_rect_size(self.window))
        self._origin = tuple(dpg.get_item_rect_min(self.canvas))
        if (width, height) == self.size or width < 16 or height < 16:
            return False
        self.size = (width, height)
        dpg.configure_item(self.canvas, width=width, height=height)
        dpg.configure_item(self._image, pmax=(width, height))
        return True

    def to_canvas(self, cursor: tuple[float, float]) -> tuple[float, float]:
        """Turns window pixels into canvas pixels."""
        return cursor[0] - self._origin[0], cursor[1] - self._origin[1]

    @property
    def rect(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the canvas in the window, pixels."""
        return int(self._origin[0]), int(self._origin[1]), *self.size

    @property
    def is_hovered(self) -> bool:
        """Whether the pointer is over the picture and nothing that floats over it."""
        return bool(dpg.is_item_hovered(self.canvas))

    def refresh_picture(self) -> None:
        """Shows what the display holds now."""
        width, height = self.size
        dpg.configure_item(
            self._image,
            texture_tag=self.display.texture,
            uv_max=self.display.uv_max,
            pmax=(width, height),
            show=True,
        )

    def hide_picture(self) -> None:
        """Shows nothing: the next scene has no picture yet."""
        dpg.configure_item(self._image, show=False)

    def show(self, state: ViewerState, opening_seconds: float) -> None:
        """Brings everything over the picture in line with a state."""
        if self.size == (0, 0):
            return
        self._show_bars(state)
        self._show_banner(state.message)
        self._draw(state, opening_seconds)

    def restyle(self) -> None:
        """Draws everything anew, in the colours that are in force now."""
        self._keys.clear()

    def _draw(self, state: ViewerState, opening_seconds: float) -> None:
        width, height = self.size
        pose, scene, size = state.pose, state.scene, self.size
        camera = pose.camera(width, height)
        near = overlay.NEAR * max(pose.distance, 1e-9)
        if scene is None:
            shown = dict.fromkeys(LAYERS[1:-1])
        else:
            units = Units.of(scene)
            bordered = (pose, size, state.selected_block, state.show_block_borders)
            angles = (pose.yaw, pose.pitch, pose.roll, width)
            shown = {
                "borders": bordered if state.show_block_borders or state.selected_block is not None else None,
                "pivot": size if self.dragging and state.navigation is Navigation.ORBIT else None,
                "compass": angles if not state.interface_hidden else None,
                "scale": (pose.distance, pose.fov_y, size, units) if not state.interface_hidden else None,
                "badge": (state.status, size) if state.status.width and not state.interface_hidden else None,
            }
        notice: Hashable = None
        if state.opening:
            notice = (state.opening, int(opening_seconds), size, scene is None)
        elif scene is None:
            notice = (size, self.look.light)
        shown["notice"] = notice
        for name, key in shown.items():
            if self._keys.get(name, ()) == key:
                continue
            self._keys[name] = key
            pen = Pen(self.widgets, self._layers[name], "hud")
            pen.clear()
            if key is not None:
                self._draw_layer(name, pen, state, camera, near, opening_seconds)

    def _draw_layer(
        self, name: str, pen: Pen, state: ViewerState, camera: Any, near: float, opening_seconds: float
    ) -> None:
        width, height = self.size
        scene = state.scene
        if name == "notice":
            self._draw_notice(pen, state, opening_seconds)
        elif scene is None:
            return
        elif name == "borders":
            if state.show_block_borders:
                overlay.draw_borders(pen, scene, camera, near)
            if state.selected_block is not None:
                overlay.draw_block_box(pen, scene, state.selected_block, camera, near)
        elif name == "pivot":
            overlay.draw_pivot(pen, width, height)
        elif name == "compass":
            overlay.draw_compass(pen, state.pose, width)
        elif name == "scale":
            overlay.draw_scale_bar(pen, camera, state.pose, Units.of(scene))
        else:
            overlay.draw_badge(pen, state.status, width, height)

    def _draw_notice(self, pen: Pen, state: ViewerState, opening_seconds: float) -> None:
        width, height = self.size
        if state.scene is None:
            pen.plate(0, 0, width, height, self.look.color("base"), 0)
        if state.opening:
            overlay.draw_opening(pen, state.opening, opening_seconds, width, height)
            return
        left, top = overlay.draw_empty(pen, width, height)
        for index, item in enumerate(self._open_buttons):
            dpg.configure_item(item, pos=(int(left + index * self.look.px(136)), int(top)))

    def _show_bars(self, state: ViewerState) -> None:
        visible = state.scene is not None and not state.interface_hidden
        if visible != self._bars_shown:
            self._bars_shown = visible
            for item in (self._tools, self._mode_bar):
                dpg.configure_item(item, show=visible)
        inviting = state.scene is None and not state.opening
        for item in self._open_buttons:
            dpg.configure_item(item, show=inviting)
        self._navigation.show(state.navigation)
        theme = "hud_on" if state.show_block_borders else "hud"
        dpg.bind_item_theme(self._border_tool, self.look.themes[theme])
        mode = state.render.mode
        words = f"{icon(MODE_ICONS[mode], MODE_WORDS[mode])} {icon('chevron-down')}"
        if dpg.get_item_label(self._mode_button) != words:
            dpg.set_item_label(self._mode_button, words)
            for each, item in self._mode_items.items():
                dpg.set_value(item, each is mode)

    def _show_banner(self, message: Message | None) -> None:
        words = message.text if message else ""
        around = self.look.px(12 + 24 + 8 + 8 + 24 + 16)
        width = min(self.look.px(BANNER_WIDTH), self.size[0] - self.look.px(32))
        width = min(width, int(self.widgets.text_width(words)) + around)
        if (message, width) == self._keys.get("banner"):
            return
        self._keys["banner"] = (message, width)
        dpg.configure_item(self._banner, show=message is not None)
        if message is None:
            return
        place = ((self.size[0] - width) // 2, self.look.px(16 + BAR_HEIGHT + 12))
        dpg.configure_item(self._banner, width=width, pos=place)
        dpg.set_value(self._banner_text, message.text)
        dpg.configure_item(self._banner_text, wrap=width - around + self.look.px(4))
        dpg.set_item_label(self._banner_icon, icon(BANNER_ICONS[message.severity]))
        dpg.bind_item_theme(self._banner_icon, self.look.themes[BANNER_THEMES[message.severity]])

    def _bar(self, width: float, left: float) -> Any:
        """Returns a floating bar: a child window, so that it takes the mouse before the canvas below."""
        px = self.look.px
        return dpg.child_window(
            width=px(width + 4),
            height=px(BAR_HEIGHT),
            pos=(px(left), px(16)),
            border=False,
            no_scrollbar=True,
            no_scroll_with_mouse=True,
            always_use_window_padding=True,
        )

    def _build_tools(self, submit: Submit) -> None:
        ui, px = self.widgets, self.look.px
        with self._bar(N_TOOLS * TOOL + TOOL_GAP, 16) as self._tools:
            ui.styled(self._tools, "hud_bar")
            with dpg.group(horizontal=True, horizontal_spacing=0):
                orbit = ui.icon(
                    "target", "Orbit", lambda: submit(SetNavigation(Navigation.ORBIT)), "hud", TOOL
                )
                fly = ui.icon("plane-tilt", "Fly", lambda: submit(SetNavigation(Navigation.FLY)), "hud", TOOL)
                dpg.add_spacer(width=px(TOOL_GAP))
                ui.icon("home", "Home", lambda: self.host.act(Action.HOME), "hud", TOOL)
                ui.icon("map-2", "Top-down", lambda: self.host.act(Action.TOP_DOWN), "hud", TOOL)
                self._border_tool = ui.icon(
                    "grid-dots", "Block borders", lambda: submit(ToggleBlockBorders()), "hud", TOOL
                )
        choice = {Navigation.ORBIT: orbit, Navigation.FLY: fly}
        self._navigation = ui.choice(choice, "hud_on", "hud")
        self.tool_items = {"orbit": orbit, "fly": fly, "borders": self._border_tool}

    def _build_mode(self, submit: Submit) -> None:
        ui, px = self.widgets, self.look.px
        with self._bar(MODE_WIDTH, 16 + N_TOOLS * TOOL + TOOL_GAP + 4 + 8) as self._mode_bar:
            ui.styled(self._mode_bar, "hud_bar")
            self._mode_button = ui.button("", self._open_modes, "hud", None, MODE_WIDTH, TOOL)
            ui.styled(self._mode_button, None, "hud")
        with dpg.window(popup=True, show=False, no_move=True, min_size=(px(160), px(16))) as self._modes:
            self._mode_items = {}
            for mode, words in MODE_WORDS.items():
                self._mode_items[mode] = dpg.add_menu_item(
                    label=icon(MODE_ICONS[mode], words),
                    shortcut=keys_of(MODE_ACTIONS[mode]),
                    check=True,
                    callback=lambda _sender, _value, chosen: submit(SetMode(chosen)),
                    user_data=mode,
                )

    def _open_modes(self) -> None:
        left, top = dpg.get_item_rect_min(self._mode_button)
        below = int(top + dpg.get_item_rect_size(self._mode_button)[1] + self.look.px(6))
        dpg.configure_item(self._modes, show=True, pos=(int(left), below))

    def _build_banner(self, submit: Submit) -> None:
        ui, px = self.widgets, self.look.px
        with dpg.child_window(
            width=px(BANNER_WIDTH),
            auto_resize_y=True,
            show=False,
            border=True,
            no_scrollbar=True,
            always_use_window_padding=True,
        ) as self._banner:
            ui.styled(self._banner, "banner")
            with dpg.group(horizontal=True, horizontal_spacing=px(8)):
                self._banner_icon = ui.label("", 24, "banner_info")
                with dpg.group():
                    dpg.add_spacer(height=0)
                    self._banner_text = dpg.add_text("", wrap=px(BANNER_WIDTH - 88))
                ui.icon("x", "Close (Esc)", lambda: submit(DismissMessage()), "hud")
