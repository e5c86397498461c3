"""The Blocks panel: a plan of all blocks with their state, and what the camera sees of it."""

from __future__ import annotations

import dearpygui.dearpygui as dpg

from ...core.edits.region import Region
from ..commands import SelectBlock, SelectBlockArea, ToggleBlockBorders
from ..handles import prisms_of, target_of
from ..plan import Plan, block_footprint, footprint_of_view, is_inside
from ..shortcuts import Action, keys_of
from ..state import SceneFacts, Tool, ViewerState
from ..theme import HALO, HUD_ACCENT, HUD_PLATE, HUD_TEXT, NONE, Rgba
from ..tools import mode_of
from ..units import Units, bytes_text, figures, nice_length
from ..widgets import Pen, right_spacer
from .panel import DockedPanel, Submit

SHADE: Rgba = (12, 15, 18, 70)  # over the picture of the ground, so that lines stand out
INK: Rgba = (255, 255, 255, 255)
LEGEND_ROW, LEGEND_ROWS = 20, 2  # logical pixels
SMALLEST = 4  # logical pixels: a shorter drag draws no rectangle
POINTING = {Tool.BUILDING, Tool.POLYGON, Tool.PLACE}  # tools that clicks in the plan serve, too


class BlocksPanel(DockedPanel):
    """Plan map: a click selects a block, a double click flies there; tools work on the ground here, too."""

    title = "Blocks"
    glyph = "grid-dots"
    empty_title = "No blocks"
    empty_body = "The plan of all blocks, and where the camera is, appears here."

    _state: ViewerState | None = None
    _plan: Plan | None = None
    _seen: frozenset[int] = frozenset()
    _width = 0
    _drawn: object = None  # what the layer of the selection shows
    _start: tuple[float, float] | None = None  # of a rectangle that is being drawn, pixels of the plan

    def build_content(self, submit: Submit) -> None:
        """Makes tool row, plan, legend and the line about the selected block."""
        self._submit = submit
        ui = self.widgets
        with dpg.group(horizontal=True, horizontal_spacing=self.look.px(4)):
            self._resident = ui.label("", 168)
            self._stretch = right_spacer(ui, 168 + 3 * 24 + 4 * 4)
            ui.icon("select-all", "Select the area of the selected block", self._select_area)
            ui.icon("focus-centered", "Fly to the selected block", self._fly)
            borders = f"Show or hide the borders in the picture ({keys_of(Action.BLOCK_BORDERS)})"
            self._borders = ui.icon("grid-dots", borders, lambda: submit(ToggleBlockBorders()))
        self._memory = ui.styled(
            dpg.add_progress_bar(width=-1, height=self.look.px(4)),
            "thin",
            None,
            "Share of the blocks in memory",
        )
        dpg.add_spacer(height=self.look.px(2))
        self.plan = self._canvas()
        self._legend = self._canvas()
        ui.rule()
        self._line = ui.label(
            "", -1, "value", "The selected block. Double-click in the plan flies to a block."
        )
        self._layers = {
            name: dpg.add_draw_layer(parent=self.plan)
            for name in ("ground", "blocks", "edits", "view", "frame")
        }
        with dpg.item_handler_registry() as handlers:
            dpg.add_item_clicked_handler(dpg.mvMouseButton_Left, callback=self._clicked)
            dpg.add_item_double_clicked_handler(dpg.mvMouseButton_Left, callback=self._double_clicked)
            dpg.add_item_clicked_handler(dpg.mvMouseButton_Right, callback=self._open_menu)
        dpg.bind_item_handler_registry(self.plan, handlers)
        with dpg.window(popup=True, show=False, no_move=True, min_size=(160, 16)) as self._menu:
            dpg.add_menu_item(label="Select area", callback=self._select_area)
            dpg.add_menu_item(label="Fly there", callback=self._fly)

    def show_content(self, state: ViewerState) -> None:
        """Redraws the layers whose content changed."""
        before, self._state = self._state, state
        width = int(self.inner_width)
        resized = width != self._width
        if width < 32 or state.scene is None:
            return
        if before is None or before.scene is not state.scene or resized:
            self._width = width
            self._adopt(state.scene, width)
            before = None
        seen = self._blocks_in_view(state)
        if before is None or seen != self._seen or before.selected_block != state.selected_block:
            self._seen = seen
            self._draw_blocks(state)
            self._draw_legend(state)
            dpg.set_item_label(self._line, _describe(state.scene, state.selected_block))
        if before is None or before.pose != state.pose or _aspect(before) != _aspect(state):
            self._draw_view(state)
        self._follow_band(state)
        drawn = (self._plan, state.edits, state.selection, state.layer, state.draft, self._band())
        if drawn != self._drawn:
            self._drawn = drawn
            self._draw_edits(state)
        if before is None or before.show_block_borders != state.show_block_borders:
            theme = "on" if state.show_block_borders else "icon"
            dpg.bind_item_theme(self._borders, self.look.themes[theme])

    def restyle(self) -> None:
        """Draws everything anew, in the colours that are in force now."""
        self._width = 0

    def _canvas(self) -> int:
        canvas = dpg.add_drawlist(16, 16)
        return self.widgets.styled(canvas, None, "small")

    def _adopt(self, scene: SceneFacts, width: int) -> None:
        self._plan = Plan.fit(scene, width)
        dpg.configure_item(self.plan, width=width, height=self._plan.height)
        dpg.configure_item(self._legend, width=width, height=self.look.px(LEGEND_ROW * LEGEND_ROWS + 4))
        self._stretch(width)
        share = sum(scene.present) / len(scene.present)
        dpg.set_value(self._memory, share)
        dpg.set_item_label(self._resident, f"{bytes_text(scene.n_bytes)} in memory")
        self._draw_ground()
        self._draw_frame(scene)

    def _draw_ground(self) -> None:
        plan = self._plan
        if plan is None:
            return
        pen = self._pen("ground")
        pen.clear()
        pen.plate(0, 0, plan.width, plan.height, self.look.color("plot"), 4)
        texture, uv_max = self.host.plan_picture()
        pen.picture(texture, plan.width, plan.height, uv_max)
        pen.plate(0, 0, plan.width, plan.height, SHADE, 0)

    def _draw_blocks(self, state: ViewerState) -> None:
        scene, plan = state.scene, self._plan
        if scene is None or plan is None:
            return
        pen = self._pen("blocks")
        pen.clear()
        gap = max(1, self.look.px(1))
        for block, present in enumerate(scene.present):
            x0, y0, x1, y1 = block_footprint(scene, block)
            (left, top), (right, bottom) = plan.to_plan(x0, y1), plan.to_plan(x1, y0)
            place = (left + gap, top + gap, right - left - 2 * gap, bottom - top - 2 * gap)
            corner = {"rounding": self.look.px(2)}
            if not present:
                pen.frame(*place, self.look.color("faint", 120), **corner)
                continue
            strong = block in self._seen
            pen.frame(
                *place,
                self._accent(230 if strong else 120),
                fill=self._accent(64 if strong else 24),
                **corner,
            )
        if state.selected_block is not None:
            x0, y0, x1, y1 = block_footprint(scene, state.selected_block)
            (left, top), (right, bottom) = plan.to_plan(x0, y1), plan.to_plan(x1, y0)
            thick = {"thickness": 2 * self.look.scale, "rounding": self.look.px(2)}
            pen.frame(left, top, right - left, bottom - top, INK, **thick)

    def _draw_view(self, state: ViewerState) -> None:
        scene, plan = state.scene, self._plan
        if scene is None or plan is None:
            return
        pen = self._pen("view")
        pen.clear()
        outline = [plan.to_plan(*point) for point in footprint_of_view(scene, state.pose, _aspect(state))]
        eye = plan.to_plan(*state.pose.eye[:2])
        pen.polygon(outline, (*INK[:3], 22))
        pen.polyline(outline, (*INK[:3], 220), 1.5, closed=True)
        for corner in outline[2:]:
            pen.line(eye, corner, (*INK[:3], 130))
        mark = _kept_inside(plan, eye, self.look.px(9))
        pen.circle(mark, self.look.px(7), fill=INK, color=HUD_PLATE)
        pen.circle(mark, self.look.px(3), fill=self.look.color("accent_deep"))

    def _draw_frame(self, scene: SceneFacts) -> None:
        plan, px = self._plan, self.look.px
        if plan is None:
            return
        pen = self._pen("frame")
        pen.clear()
        right, bottom = plan.width, plan.height
        pen.plate(right - px(30), bottom - px(34), px(24), px(28), HUD_PLATE)
        tip = (
            (right - px(18), bottom - px(31)),
            (right - px(22), bottom - px(25)),
            (right - px(14), bottom - px(25)),
        )
        pen.polygon(tip, HUD_TEXT)
        pen.text(right - px(18), bottom - px(23), "N", HUD_TEXT, 0.5)
        units = Units.of(scene)
        per_shown = plan.per_unit / units.factor
        length = nice_length(0.35 * plan.width / per_shown)
        width = length * per_shown
        pen.plate(px(6), bottom - px(34), width + px(16), px(28), HUD_PLATE)
        pen.line((px(14), bottom - px(12)), (px(14) + width, bottom - px(12)), HUD_TEXT, 2)
        words = units.with_symbol(
            figures(length).rstrip("0").rstrip(".") if length < 1000 else figures(length)
        )
        pen.text(px(14) + width / 2, bottom - px(31), words, HUD_TEXT, 0.5)

    def _draw_legend(self, state: ViewerState) -> None:
        scene = state.scene
        if scene is None:
            return
        pen = Pen(self.widgets, self._legend)
        pen.clear()
        present = sum(scene.present)
        entries: list[tuple[str, int, Rgba, Rgba]] = [
            ("In view", len(self._seen), self._accent(255), self._accent(150)),
            ("In memory", present, self._accent(160), self._accent(60)),
            ("Missing", len(scene.present) - present, self.look.color("faint"), NONE),
        ]
        px = self.look.px
        half = self._width / 2
        for index, (name, count, edge, fill) in enumerate(entries):
            x, y = (index % 2) * half, (index // 2) * px(LEGEND_ROW) + px(4)
            pen.frame(x, y + px(1), px(12), px(12), edge, fill=fill, rounding=px(2))
            pen.text(x + px(18), y, name, self.look.color("muted"))
            pen.text(x + half - px(16 if index % 2 == 0 else 0), y, str(count), self.look.color("text"), 1)

    def _blocks_in_view(self, state: ViewerState) -> frozenset[int]:
        """Returns the blocks whose middle lies in the part of the ground that the camera sees."""
        scene = state.scene
        if scene is None:
            return frozenset()
        outline = footprint_of_view(scene, state.pose, _aspect(state))
        seen = []
        for block, present in enumerate(scene.present):
            x0, y0, x1, y1 = block_footprint(scene, block)
            probes = [
                (x0 + u * (x1 - x0), y0 + v * (y1 - y0)) for u in (0.1, 0.5, 0.9) for v in (0.1, 0.5, 0.9)
            ]
            if present and any(is_inside(outline, probe) for probe in probes):
                seen.append(block)
        return frozenset(seen)

    def _draw_edits(self, state: ViewerState) -> None:
        """Draws the outlines of layers, selection and what is being drawn."""
        plan = self._plan
        if plan is None:
            return
        pen, target, band = self._pen("edits"), target_of(state), self._band()
        pen.clear()
        ratios = state.unit_ratios
        prisms = [prism for layer in state.edits for prism in prisms_of(layer, ratios)]
        lines = [(prism.region, (*INK[:3], 150)) for prism in prisms]
        if target is not None:
            lines.append((target.outline.region, HUD_ACCENT))
        if band is not None:
            lines.append((Region.rectangle(*plan.to_scene(*band[:2]), *plan.to_scene(*band[2:])), HUD_ACCENT))
        for region, color in lines:
            for rings in region.polygons:
                outline = [plan.to_plan(*point) for point in rings[0]]
                pen.polyline(outline, HALO, 3, closed=True)
                pen.polyline(outline, color, 1.5, closed=True)
        corners = [plan.to_plan(x, y) for x, y, _ in state.draft]
        if len(corners) > 1:
            pen.polyline(corners, HUD_ACCENT, 1.5)
        for corner in corners:
            pen.circle(corner, self.look.px(3), fill=INK)

    def _clicked(self) -> None:
        state, plan = self._state, self._plan
        if state is None or state.scene is None or plan is None:
            return
        if state.tool is Tool.RECTANGLE:
            self._start = self._cursor()
        elif state.tool in POINTING:
            point = plan.to_scene(*self._cursor())
            for command in self.host.tools.click_ground(point, state, *_modifiers()):
                self._submit(command)
        else:
            self._submit(SelectBlock(self._block_under_cursor()))

    def _follow_band(self, state: ViewerState) -> None:
        """Selects what a rectangle encloses as soon as the button is released."""
        band, plan = self._band(), self._plan
        if band is None or plan is None or dpg.is_mouse_button_down(dpg.mvMouseButton_Left):
            return
        self._start = None
        if min(abs(band[2] - band[0]), abs(band[3] - band[1])) >= self.look.px(SMALLEST):
            start, end = plan.to_scene(*band[:2]), plan.to_scene(*band[2:])
            self.host.tools.drag_ground(start, end, *_modifiers())

    def _band(self) -> tuple[float, float, float, float] | None:
        """Returns the rectangle that is being drawn, pixels of the plan."""
        return (*self._start, *self._cursor()) if self._start is not None else None

    def _select_area(self) -> None:
        if self._state is not None and self._state.selected_block is not None:
            self._submit(SelectBlockArea(self._state.selected_block, mode_of(*_modifiers())))

    def _open_menu(self) -> None:
        block = self._block_under_cursor()
        self._submit(SelectBlock(block))
        if block is not None:
            place = [int(at) for at in dpg.get_mouse_pos(local=False)]
            dpg.configure_item(self._menu, show=True, pos=place)

    def _double_clicked(self) -> None:
        if self._state is not None and self._state.tool is not Tool.NAVIGATE:
            if self._state.tool is Tool.POLYGON:
                self.host.act(Action.CONFIRM)
            return
        block = self._block_under_cursor()
        if block is not None:
            self._submit(SelectBlock(block))
            self.host.fly_to_block(block)

    def _fly(self) -> None:
        if self._state is not None and self._state.selected_block is not None:
            self.host.fly_to_block(self._state.selected_block)

    def _block_under_cursor(self) -> int | None:
        if self._state is None or self._state.scene is None or self._plan is None:
            return None
        scene = self._state.scene
        x, y = self._plan.to_scene(*self._cursor())
        (x0, y0, _), (x1, y1, _) = scene.aabb
        if not (x0 <= x < x1 and y0 <= y < y1):
            return None
        columns, rows = scene.division
        return int((x - x0) / (x1 - x0) * columns) * rows + int((y - y0) / (y1 - y0) * rows)

    def _cursor(self) -> tuple[float, float]:
        """Returns the place of the pointer in pixels of the plan."""
        pointer, origin = dpg.get_mouse_pos(local=False), dpg.get_item_rect_min(self.plan)
        return pointer[0] - origin[0], pointer[1] - origin[1]

    def _accent(self, alpha: int) -> Rgba:
        return (*HUD_ACCENT[:3], alpha) if not self.look.light else self.look.color("accent", alpha)

    def _pen(self, layer: str) -> Pen:
        return Pen(self.widgets, self._layers[layer])


def _modifiers() -> tuple[bool, bool]:
    """Returns whether Shift and Ctrl are held."""
    shift = dpg.is_key_down(dpg.mvKey_LShift) or dpg.is_key_down(dpg.mvKey_RShift)
    return shift, dpg.is_key_down(dpg.mvKey_LControl) or dpg.is_key_down(dpg.mvKey_RControl)


def _kept_inside(plan: Plan, point: tuple[float, float], inset: float) -> tuple[float, float]:
    """Returns the place of the camera on the plan, at its edge where the camera is beyond it."""
    return (
        min(max(point[0], inset), plan.width - inset),
        min(max(point[1], inset), plan.height - inset),
    )


def _aspect(state: ViewerState) -> float:
    """Returns width over height of the picture, in steps that its coarse versions share."""
    status = state.status
    return round(status.width / status.height, 1) if status.height else 1.0


def _describe(scene: SceneFacts, block: int | None) -> str:
    if block is None:
        return "No block selected"
    column, row = divmod(block, scene.division[1])
    state = "in memory" if scene.present[block] else "not in this checkpoint"
    return f"Block {column}, {row}  ·  {state}"
