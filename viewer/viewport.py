"""The canvas: the picture, what lies over it, and the floating bars; tells where the pointer is."""

from __future__ import annotations

from collections.abc import Hashable
from functools import partial
from typing import Any

import dearpygui.dearpygui as dpg

from ..core.camera import Camera
from . import overlay, overlay_compare, overlay_edit, overlay_measure
from .commands import DismissMessage, SetMode, SetNavigation, ToggleBlockBorders
from .comparison import in_view, view_size
from .context_bar import ContextBar
from .display import Display
from .handles import heights, target_of
from .layout import WINDOW
from .panels.panel import Host, Submit
from .panels.render import MODE_ACTIONS, MODE_WORDS
from .shortcuts import Action, keys_of
from .state import CompareMode, Message, Mode, Navigation, Tool, ViewerState
from .theme import icon
from .tools import MEASURING, Sketch
from .units import Units
from .widgets import Pen, Widgets

BAR_HEIGHT, TOOL = 36, 32  # logical pixels
N_TOOLS, TOOL_GAP = 5, 8
MODE_LEFT, MODE_WIDTH, BANNER_WIDTH = 16 + N_TOOLS * TOOL + TOOL_GAP + 4 + 8, 112, 640
MODE_ICONS = {
    Mode.COLOR: "palette",
    Mode.DEPTH: "haze",
    Mode.OPACITY: "layers-intersect",
    Mode.NORMALS: "mountain",
    Mode.BLOCKS: "grid-dots",
    Mode.EDITS: "vector",
}
BANNER_ICONS = {"info": "info-circle", "warn": "alert-triangle", "error": "alert-triangle"}
BANNER_THEMES = {"info": "banner_info", "warn": "banner_warn", "error": "banner_bad"}
LAYERS = (
    "picture",
    "borders",
    "edits",
    "selection",
    "sketch",
    "measures",
    "compare",
    "pivot",
    "compass",
    "scale",
    "badge",
    "notice",
)
TOOL_BUTTONS = {
    Tool.BUILDING: ("building", f"Select a building ({keys_of(Action.SELECT_BUILDING)})"),
    Tool.RECTANGLE: ("select-all", f"Select a rectangle ({keys_of(Action.SELECT_RECTANGLE)})"),
    Tool.POLYGON: ("polygon", f"Select a polygon ({keys_of(Action.SELECT_POLYGON)})"),
    Tool.PLACE: ("map-pin", "Place copies of the selection"),
    Tool.DISTANCE: ("ruler-measure", f"Measure a distance ({keys_of(Action.MEASURE)})"),
}


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
        self._context = ContextBar(widgets, host)
        self._state = ViewerState()
        self._origin = (0.0, 0.0)
        self._keys: dict[str, Hashable] = {}
        self._message: Message | None = None
        self._bars_shown = True
        self._bar_rows = 2  # of floating bars

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
            self._build_views(submit)
            self._build_tools(submit)
            self._build_mode(submit)
            self._context.build(submit)
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
        self._place_mode_bar()
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
        self._state = state
        self._show_bars(state)
        self._show_banner(state.message)
        self._draw(state, opening_seconds)

    def restyle(self) -> None:
        """Draws everything anew, in the colours that are in force now."""
        self._keys.clear()

    def _draw(self, state: ViewerState, opening_seconds: float) -> None:
        size = view_size(self.size, state.compare)
        at = self._pointer and in_view(self._pointer, self.size, state.compare)
        sketch = self.host.tools.sketch(at, state, size) if state.scene else Sketch()
        camera = state.pose.camera(*size)
        for name, key in self._content(state, sketch, opening_seconds).items():
            if self._keys.get(name, ()) == key:
                continue
            self._keys[name] = key
            pen = Pen(self.widgets, self._layers[name], "hud")
            pen.clear()
            if key is None:
                continue
            if name == "notice":
                self._draw_notice(pen, state, opening_seconds)
            elif name in ("edits", "selection", "sketch", "measures"):
                self._draw_editing(name, pen, state, sketch, camera)
            else:
                self._draw_view(name, pen, state, camera)
        if state.scene is not None:
            ground = self.host.tools.ground(state)
            self._context.show(state, camera, ground, self.dragging or state.interface_hidden)

    @property
    def _pointer(self) -> tuple[float, float] | None:
        """Where the pointer is over the picture, None where it is elsewhere."""
        return self.to_canvas(dpg.get_mouse_pos(local=False)) if self.is_hovered else None

    def _content(self, state: ViewerState, sketch: Sketch, opening_seconds: float) -> dict[str, Hashable]:
        """Returns what every layer over the picture depends on, None for an empty one."""
        pose, scene, size = state.pose, state.scene, self.size
        if scene is None:
            shown: dict[str, Hashable] = dict.fromkeys(LAYERS[1:-1])
        else:
            units = Units.of(scene)
            bordered = (pose, size, state.selected_block, state.show_block_borders)
            angles = (pose.yaw, pose.pitch, pose.roll, size[0])
            shown = {
                "borders": bordered if state.show_block_borders or state.selected_block is not None else None,
                "compare": self._compare_content(state),
                "pivot": size if self.dragging and state.navigation is Navigation.ORBIT else None,
                "compass": angles if not state.interface_hidden else None,
                "scale": (pose.distance, pose.fov_y, size, units) if not state.interface_hidden else None,
                "badge": (state.status, size) if state.status.width and not state.interface_hidden else None,
                **self._editing_content(state, sketch),
            }
        notice: Hashable = None
        if state.opening:
            notice = (state.opening, int(opening_seconds), size, scene is None)
        elif scene is None:
            notice = (size, self.look.light)
        return {**shown, "notice": notice}

    def _compare_content(self, state: ViewerState) -> Hashable:
        """Returns what the names and numbers of a comparison depend on."""
        if state.compare.mode is CompareMode.OFF or state.interface_hidden:
            return None
        return state.compare, self.host.session.comparison.status, self.size

    def _editing_content(self, state: ViewerState, sketch: Sketch) -> dict[str, Hashable]:
        """Returns what the layers depend on that are there for editing."""
        view = (state.pose, self.size, state.compare.mode is CompareMode.SIDE)
        if state.scene is None or state.interface_hidden:
            return dict.fromkeys(("edits", "selection", "sketch", "measures"))
        target = target_of(state)
        is_editing = state.tool is not Tool.NAVIGATE or state.layer is not None or target is not None
        footprints = self.host.tools.footprints if state.tool is Tool.BUILDING else ()
        outlined = is_editing and (state.edits or footprints)
        stack = (state.edits, state.layer, state.edits_shown, state.unit_ratios)
        layers = (view, stack, id(footprints)) if outlined else None
        chosen: Hashable = None
        if target is not None:
            ground = self.host.tools.ground(state)(*target.outline.region.center)
            chosen = (view, target, state.handle, sketch.grip, heights(target.outline, ground, state.scene))
        drawn = (view, state.tool, state.draft, sketch) if state.draft or sketch != Sketch() else None
        measured = (view, state.measurements, state.tool, state.draft, sketch.cursor)
        has_measures = bool(state.measurements) or state.tool in MEASURING
        return {
            "edits": layers,
            "selection": chosen,
            "sketch": drawn,
            "measures": measured if has_measures else None,
        }

    def _draw_view(self, name: str, pen: Pen, state: ViewerState, camera: Camera) -> None:
        """Draws one layer that is always of use."""
        (width, height), scene = self.size, state.scene
        if scene is None:
            return
        if name == "borders":
            near = _near(state)
            if state.show_block_borders:
                overlay.draw_borders(pen, scene, camera, near)
            if state.selected_block is not None:
                overlay.draw_block_box(pen, scene, state.selected_block, camera, near)
        elif name == "compare":
            status = self.host.session.comparison.status
            overlay_compare.draw_compare(pen, state.compare, status, width, height)
        elif name == "pivot":
            overlay.draw_pivot(pen, width, height)
        elif name == "compass":
            overlay.draw_compass(pen, state.pose, width)
        elif name == "scale":
            overlay.draw_scale_bar(pen, camera, state.pose, Units.of(scene), width)
        else:
            overlay.draw_badge(pen, state.status, width, height)

    def _draw_editing(self, name: str, pen: Pen, state: ViewerState, sketch: Sketch, camera: Camera) -> None:
        """Draws one layer that is there for editing."""
        if state.scene is None:
            return
        near = _near(state)
        canvas = overlay_edit.Canvas(pen, camera, near, state.scene, self.host.tools.ground(state))
        if name == "edits":
            overlay_edit.draw_layers(canvas, state)
            if state.tool is Tool.BUILDING:
                x, y, _ = state.pose.pivot
                overlay_edit.draw_footprints(canvas, self.host.tools.footprints, (x, y))
        elif name == "selection":
            target = target_of(state)
            if target is not None:
                overlay_edit.draw_target(canvas, state, target, sketch.grip)
        elif name == "sketch":
            overlay_edit.draw_sketch(canvas, state, sketch)
        else:
            units = Units.of(state.scene)
            overlay_measure.draw_measurements(pen, state.measurements, camera, near, units)
            if state.tool in MEASURING:
                corners = (*state.draft, *([sketch.cursor] if sketch.cursor else []))
                overlay_measure.draw_measure_draft(pen, state.tool, corners, camera, near, units)

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
            for item in (self._views, self._tools, self._mode_bar):
                dpg.configure_item(item, show=visible)
        inviting = state.scene is None and not state.opening
        for item in self._open_buttons:
            dpg.configure_item(item, show=inviting)
        self._navigation.show(state.navigation)
        self._tool.show(state.tool)
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
        key = message, width, self._bar_rows
        if key == self._keys.get("banner"):
            return
        self._keys["banner"] = key
        dpg.configure_item(self._banner, show=message is not None)
        if message is None:
            return
        place = ((self.size[0] - width) // 2, self.look.px(16 + self._bar_rows * (BAR_HEIGHT + 8) + 4))
        wrap = width - around + self.look.px(4)
        high = max(self.widgets.text_height(words, wrap) + self.look.px(6), self.look.px(24))
        dpg.configure_item(self._banner, width=width, height=high + self.look.px(2 * 8), pos=place)
        dpg.set_value(self._banner_text, message.text)
        dpg.configure_item(self._banner_text, wrap=wrap)
        dpg.set_item_label(self._banner_icon, icon(BANNER_ICONS[message.severity]))
        dpg.bind_item_theme(self._banner_icon, self.look.themes[BANNER_THEMES[message.severity]])

    def _bar(self, width: float, left: float, row: int = 0) -> Any:
        """Returns a floating bar: a child window, so that it takes the mouse before the canvas below."""
        px = self.look.px
        return dpg.child_window(
            width=px(width + 4),
            height=px(BAR_HEIGHT),
            pos=(px(left), px(16 + row * (BAR_HEIGHT + 8))),
            border=False,
            no_scrollbar=True,
            no_scroll_with_mouse=True,
            always_use_window_padding=True,
        )

    def _build_views(self, submit: Submit) -> None:
        ui, px = self.widgets, self.look.px
        with self._bar(N_TOOLS * TOOL + TOOL_GAP, 16) as self._views:
            ui.styled(self._views, "hud_bar")
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

    def _build_tools(self, submit: Submit) -> None:
        def take(tool: Tool) -> None:
            wanted = Tool.NAVIGATE if self._state.tool is tool else tool
            for command in self.host.tools.take(wanted, self._state):
                submit(command)

        with self._bar(len(TOOL_BUTTONS) * TOOL + TOOL_GAP, 16, 1) as self._tools:
            self.widgets.styled(self._tools, "hud_bar")
            with dpg.group(horizontal=True, horizontal_spacing=0):
                items = {
                    tool: self.widgets.icon(name, hint, partial(take, tool), "hud", TOOL)
                    for tool, (name, hint) in TOOL_BUTTONS.items()
                }
        self._tool = self.widgets.choice(dict(items), "hud_on", "hud")
        self.tool_items |= {tool.value: item for tool, item in items.items()}

    def _build_mode(self, submit: Submit) -> None:
        ui = self.widgets
        with self._bar(MODE_WIDTH, MODE_LEFT) as self._mode_bar:
            ui.styled(self._mode_bar, "hud_bar")
            self._mode_button = ui.button("", self._open_modes, "hud", None, MODE_WIDTH, TOOL)
            ui.styled(self._mode_button, None, "hud")
        with ui.popup() as self._modes:
            self._mode_items = {}
            for mode, words in MODE_WORDS.items():
                self._mode_items[mode] = dpg.add_menu_item(
                    label=icon(MODE_ICONS[mode], words),
                    shortcut=keys_of(MODE_ACTIONS[mode]),
                    check=True,
                    callback=lambda _sender, _value, chosen: submit(SetMode(chosen)),
                    user_data=mode,
                )

    def _place_mode_bar(self) -> None:
        """Puts the bar of the modes beside the others, or below them where it has no room there."""
        px = self.look.px
        beside = self.size[0] >= px(MODE_LEFT + MODE_WIDTH + 4 + 16)
        self._bar_rows = 2 if beside else 3
        place = (MODE_LEFT, 16) if beside else (16, 16 + 2 * (BAR_HEIGHT + 8))
        dpg.configure_item(self._mode_bar, pos=tuple(map(px, place)))

    def _open_modes(self) -> None:
        left, top = dpg.get_item_rect_min(self._mode_button)
        below = int(top + dpg.get_item_rect_size(self._mode_button)[1] + self.look.px(6))
        dpg.configure_item(self._modes, show=True, pos=(int(left), below))

    def _build_banner(self, submit: Submit) -> None:
        ui, px = self.widgets, self.look.px
        with dpg.child_window(
            width=px(BANNER_WIDTH),
            show=False,
            border=True,
            no_scrollbar=True,
            no_scroll_with_mouse=True,
            always_use_window_padding=True,
        ) as self._banner:
            ui.styled(self._banner, "banner")
            with dpg.group(horizontal=True, horizontal_spacing=px(8)):
                self._banner_icon = ui.label("", 24, "banner_info")
                with dpg.group():
                    dpg.add_spacer(height=0)
                    self._banner_text = dpg.add_text("", wrap=px(BANNER_WIDTH - 88))
                ui.icon("x", "Close (Esc)", lambda: submit(DismissMessage()), "hud")


def _near(state: ViewerState) -> float:
    """Returns the z-depth in front of which lines are cut."""
    return overlay.NEAR * max(state.pose.distance, 1e-9)
