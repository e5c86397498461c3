"""The Blocks panel: a plan of all blocks with their state, what the camera sees, and what is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import dearpygui.dearpygui as dpg
import numpy as np

from ...core.streaming.contracts import StreamStatus
from ..block_map import KINDS, STANDING, STREAMED, BlockFacts, Kind, counts_of, standing_kinds, streamed_kinds
from ..commands import SelectBlock, SelectBlockArea, ToggleBlockBorders
from ..plan import Plan, block_at, blocks_in, closest, footprint_of_view
from ..shortcuts import Action, keys_of
from ..state import SceneFacts, Tool, ViewerState
from ..stream_text import of_total
from ..tools import mode_of
from ..units import bytes_text
from ..widgets import right_spacer
from .block_canvas import BlockCanvas
from .block_log import FetchLog
from .block_memory import MemorySection
from .block_menu import BlockMenu
from .panel import DockedPanel, Submit

SMALLEST = 4  # logical pixels: a shorter drag draws no rectangle and moves no map
STEP = 1.25  # factor of the scale for one notch of the wheel
USED = 124  # logical pixels of what the memory line says
POINTING = {Tool.BUILDING, Tool.POLYGON, Tool.PLACE}  # tools that clicks in the plan serve, too


@dataclass
class _Grip:
    """The map in the hand."""

    button: int
    start: tuple[float, float]  # pixels of the plan
    plan: Plan  # as it was then
    has_moved: bool = False


class BlocksPanel(DockedPanel):
    """Plan map: a click selects a block, a double click flies there; tools work on the ground here, too."""

    title = "Blocks"
    glyph = "grid-dots"
    empty_title = "No blocks"
    empty_body = "The plan of all blocks, and where the camera is, appears here."

    _state: ViewerState | None = None
    _status: StreamStatus | None = None
    _kinds: np.ndarray = np.zeros(0, np.uint8)
    _seen: np.ndarray = np.zeros(0, bool)
    _start: tuple[float, float] | None = None  # of a rectangle that is being drawn, pixels of the plan
    _grip: _Grip | None = None
    _is_hovered = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shown: dict[str, tuple[object, ...]] = {}  # what each part was drawn from

    def build_content(self, submit: Submit) -> None:
        """Makes tool row, plan, legend, the line about the selected block, budgets and log."""
        self._submit = submit
        ui = self.widgets
        self._build_head()
        self.canvas = BlockCanvas(ui, self.host)
        self.canvas.build()
        ui.rule()
        hint = "The selected block. Double-click in the plan flies to a block."
        self._line = ui.label("", -1, "value", hint)
        self._memory_section = MemorySection(ui, self.host)
        self._memory_section.build(submit)
        self._log = FetchLog(ui)
        self._log.build()
        self._menu = BlockMenu(ui, self.host)
        self._menu.build(submit)
        with dpg.item_handler_registry() as handlers:
            dpg.add_item_clicked_handler(dpg.mvMouseButton_Left, callback=self._clicked)
            dpg.add_item_double_clicked_handler(dpg.mvMouseButton_Left, callback=self._double_clicked)
            for button in (dpg.mvMouseButton_Right, dpg.mvMouseButton_Middle):
                dpg.add_item_clicked_handler(button, callback=self._seize, user_data=button)
        dpg.bind_item_handler_registry(self.canvas.item, handlers)
        with dpg.handler_registry():
            dpg.add_mouse_wheel_handler(callback=lambda _sender, steps: self._zoom(steps))

    def _build_head(self) -> None:
        ui = self.widgets
        with dpg.group(horizontal=True, horizontal_spacing=self.look.px(4)):
            self._used = ui.label("", USED, hint="Memory that blocks take, of its budget")
            self._stretch = right_spacer(ui, USED + 4 * 24 + 5 * 4)
            ui.icon("maximize", "Show all blocks", self._show_all)
            ui.icon("select-all", "Select the area of the selected block", self._select_area)
            ui.icon("focus-centered", "Fly to the selected block", self._fly)
            borders = f"Show or hide the borders in the picture ({keys_of(Action.BLOCK_BORDERS)})"
            self._borders = ui.icon("grid-dots", borders, lambda: self._submit(ToggleBlockBorders()))
        bar = dpg.add_progress_bar(width=-1, height=self.look.px(4))
        self._bar = ui.styled(bar, "thin", None, "Share of the memory budget, or of the blocks")
        dpg.add_spacer(height=self.look.px(2))

    def show_content(self, state: ViewerState) -> None:
        """Redraws the parts whose content changed."""
        self._state, self._status = state, self.host.session.stream_status
        scene, width = state.scene, int(self.inner_width)
        if width < 32 or scene is None:
            return
        if self._is_new("size", scene, width):
            self._adopt(scene, width)
        self._follow_grip(state)
        self._follow_band(state)
        self._follow_pointer()
        self._classify(scene, state)
        self._draw(scene, state)
        self._write(scene, state)
        self._memory_section.show(state.memory, self._status)
        self._log.show(self._status, self.host.session.fetch_records)

    def restyle(self) -> None:
        """Draws everything anew, in the colours that are in force now."""
        self._shown.clear()

    def _is_new(self, part: str, *things: object) -> bool:
        """Whether a part must be drawn again, as it was drawn from other things."""
        before, self._shown[part] = self._shown.get(part), things
        return before is None or not all(map(_is_same, before, things))

    def _adopt(self, scene: SceneFacts, width: int) -> None:
        self._present = np.array(scene.present, bool)
        self._grip = self._start = None
        self.canvas.fit(scene, width)
        self._stretch(width)

    def _classify(self, scene: SceneFacts, state: ViewerState) -> None:
        """Finds out what each block is; arrays are replaced only where that has changed."""
        status, aspect = self._status, _aspect(state)
        if self._is_new("seen", scene, state.pose, aspect):
            seen = blocks_in(scene, footprint_of_view(scene, state.pose, aspect))
            self._seen = self._seen if np.array_equal(seen, self._seen) else seen
        if self._is_new("kinds", scene, self._seen, status):
            kinds = (
                standing_kinds(self._present, self._seen)
                if status is None
                else streamed_kinds(status, self._seen)
            )
            self._kinds = self._kinds if np.array_equal(kinds, self._kinds) else kinds

    def _draw(self, scene: SceneFacts, state: ViewerState) -> None:
        canvas, plan, band = self.canvas, self.canvas.plan, self._band()
        aspect, ahead = _aspect(state), self._ahead(state)
        if self._is_new("ground", scene, plan, self._status is None):
            canvas.draw_ground(self._status is not None)
            canvas.draw_frame(scene)
        if self._is_new("blocks", scene, plan, self._kinds):
            canvas.draw_blocks(scene, self._kinds)
        if self._is_new("marks", scene, plan, state.selected_block, state.pinned):
            canvas.draw_marks(scene, state.selected_block, state.pinned)
        if self._is_new("edits", plan, state.edits, state.selection, state.layer, state.draft, band):
            canvas.draw_edits(state, band)
        if self._is_new("view", scene, plan, state.pose, aspect, ahead):
            canvas.draw_view(scene, state, aspect, ahead)
        if self._is_new("legend", plan.width, self._kinds, len(state.pinned)):
            canvas.draw_legend(counts_of(self._kinds, self._always), len(state.pinned))
        block = self._block_under_cursor() if self._is_hovered and self._grip is None else None
        tip = block, self._kinds, self._status, canvas.cursor if block is not None else None
        if self._is_new("tip", *tip):
            facts = self._facts_of(block)
            canvas.draw_tip(facts.lines if facts else (), canvas.cursor)

    @property
    def _always(self) -> tuple[Kind, ...]:
        """The kinds that are in the legend even where there is no such block."""
        if self._status is None:
            return STANDING
        has_host = self._status.host_budget > 0
        return tuple(kind for kind in STREAMED if has_host or kind is not Kind.HOST)

    def _ahead(self, state: ViewerState) -> tuple[tuple[float, float], ...]:
        """Returns where the camera will be: the end of a flight, else what fetching reckons with."""
        destination = self.host.session.state.pose
        if destination != state.pose:
            return (destination.eye[:2],)
        return (self._status.target,) if self._status and self._status.target else ()

    def _write(self, scene: SceneFacts, state: ViewerState) -> None:
        status = self._status
        if self._is_new("use", scene, status):
            if status is None:
                share = float(self._present.mean())
                words = f"{bytes_text(scene.n_bytes)} in memory"
            else:
                share = status.device_bytes / max(status.device_budget, 1)
                words = of_total(status.device_bytes, status.device_budget)
            dpg.set_value(self._bar, share)
            dpg.set_item_label(self._used, words)
        if self._is_new("line", scene, self._kinds, status, state.selected_block, state.pinned):
            facts = self._facts_of(state.selected_block)
            dpg.set_item_label(self._line, facts.line if facts else "No block selected")
        if self._is_new("borders", state.show_block_borders):
            theme = "on" if state.show_block_borders else "icon"
            dpg.bind_item_theme(self._borders, self.look.themes[theme])

    def _facts_of(self, block: int | None) -> BlockFacts | None:
        state = self._state
        if block is None or state is None or state.scene is None or block >= len(self._kinds):
            return None
        kind = KINDS[self._kinds[block]]
        return BlockFacts.of(state.scene, block, kind, self._status, block in state.pinned)

    # The mouse

    def _clicked(self) -> None:
        state = self._state
        if state is None or state.scene is None:
            return
        if state.tool is Tool.RECTANGLE:
            self._start = self.canvas.cursor
        elif state.tool in POINTING:
            point = self.canvas.plan.to_scene(*self.canvas.cursor)
            for command in self.host.tools.click_ground(point, state, *_modifiers()):
                self._submit(command)
        else:
            self._submit(SelectBlock(self._block_under_cursor()))

    def _double_clicked(self) -> None:
        if self._state is not None and self._state.tool is not Tool.NAVIGATE:
            if self._state.tool is Tool.POLYGON:
                self.host.act(Action.CONFIRM)
            return
        block = self._block_under_cursor()
        if block is not None:
            self._submit(SelectBlock(block))
            self.host.fly_to_block(block)

    def _seize(self, _sender: int, _data: object, button: int) -> None:
        if self._grip is None:
            self._grip = _Grip(button, self.canvas.cursor, self.canvas.plan)

    def _follow_grip(self, state: ViewerState) -> None:
        """Moves the map with the pointer; a right click that moved nothing opens the menu."""
        grip = self._grip
        if grip is None:
            return
        across, along = (now - then for now, then in zip(self.canvas.cursor, grip.start, strict=True))
        grip.has_moved |= max(abs(across), abs(along)) >= self.look.px(SMALLEST)
        if grip.has_moved:
            self._set_plan(grip.plan.moved(across, along))
        if not dpg.is_mouse_button_down(grip.button):
            self._grip = None
            if not grip.has_moved and grip.button == dpg.mvMouseButton_Right:
                self._open_menu(state)

    def _follow_band(self, state: ViewerState) -> None:
        """Selects what a rectangle encloses as soon as the button is released."""
        band, plan = self._band(), self.canvas.plan
        if band is None or dpg.is_mouse_button_down(dpg.mvMouseButton_Left):
            return
        self._start = None
        if min(abs(band[2] - band[0]), abs(band[3] - band[1])) >= self.look.px(SMALLEST):
            start, end = plan.to_scene(*band[:2]), plan.to_scene(*band[2:])
            self.host.tools.drag_ground(start, end, *_modifiers())

    def _follow_pointer(self) -> None:
        """Keeps the wheel from scrolling the panel while it scales the map."""
        hovered = dpg.is_item_hovered(self.canvas.item)
        if hovered != self._is_hovered:
            self._is_hovered = hovered
            dpg.configure_item(self.window, no_scroll_with_mouse=hovered)

    def _zoom(self, steps: float) -> None:
        if self._is_hovered:
            self._set_plan(self.canvas.plan.zoomed(STEP**steps, self.canvas.cursor))

    def _show_all(self) -> None:
        self.canvas.plan = self.canvas.whole

    def _set_plan(self, plan: Plan) -> None:
        if self._state is not None and self._state.scene is not None:
            self.canvas.plan = plan.within(self.canvas.whole, closest(self._state.scene, plan.width))

    def _open_menu(self, state: ViewerState) -> None:
        block = self._block_under_cursor()
        self._submit(SelectBlock(block))
        facts = self._facts_of(block)
        if facts is not None:
            self._menu.open(facts, state, self._status is not None)

    def _select_area(self) -> None:
        if self._state is not None and self._state.selected_block is not None:
            self._submit(SelectBlockArea(self._state.selected_block, mode_of(*_modifiers())))

    def _fly(self) -> None:
        if self._state is not None and self._state.selected_block is not None:
            self.host.fly_to_block(self._state.selected_block)

    def _band(self) -> tuple[float, float, float, float] | None:
        """Returns the rectangle that is being drawn, pixels of the plan."""
        return (*self._start, *self.canvas.cursor) if self._start is not None else None

    def _block_under_cursor(self) -> int | None:
        if self._state is None or self._state.scene is None:
            return None
        return block_at(self._state.scene, *self.canvas.plan.to_scene(*self.canvas.cursor))


def _is_same(before: object, now: object) -> bool:
    """Whether two things are equal; arrays and what holds them only if they are one."""
    return before is now or (not isinstance(now, np.ndarray | StreamStatus) and before == now)


def _modifiers() -> tuple[bool, bool]:
    """Returns whether Shift and Ctrl are held."""
    shift = dpg.is_key_down(dpg.mvKey_LShift) or dpg.is_key_down(dpg.mvKey_RShift)
    return shift, dpg.is_key_down(dpg.mvKey_LControl) or dpg.is_key_down(dpg.mvKey_RControl)


def _aspect(state: ViewerState) -> float:
    """Returns width over height of the picture, in steps that its coarse versions share."""
    status = state.status
    return round(status.width / status.height, 1) if status.height else 1.0
