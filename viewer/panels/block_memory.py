"""The part of the Blocks panel that sets what streaming may use."""

from __future__ import annotations

from collections.abc import Callable

import dearpygui.dearpygui as dpg

from ...core.streaming.contracts import MemoryBudget, StreamStatus
from ..commands import SetMemoryDetail, SetMemoryDevice, SetMemoryHost, SetMemoryNeighbours
from ..commands.streaming import DETAIL_RANGE
from ..stream_text import of_total
from ..widgets import Widgets
from .panel import Host, Submit

MEGA = 1_000_000
LABEL = 88  # logical pixels
IN_VIEW = "What is in view"
SIZES = (None, 3, 5, 7)  # of the neighbourhood that the list offers; a scene file may say another one
BUDGET_HINT = "Most that blocks may take where rendering happens; the program chooses unless you do"
HOST_HINT = "Most that blocks may take in main memory beside the device; the program chooses unless you do"
DETAIL_HINT = """How many pixels a texel of a far block's stand-in may cover
before the block itself is fetched; 0 fetches whatever is seen"""
HOLD_HINT = "Which blocks are held: those that the camera sees, or a square around it"


class MemorySection:
    """Budgets, detail and neighbourhood; shown while a field is streamed."""

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self.widgets, self._host = widgets, host
        self._memory: MemoryBudget | None = None
        self._status: StreamStatus | None = None

    def build(self, submit: Submit) -> None:
        """Makes the rows, folded."""
        ui, self._submit = self.widgets, submit
        with dpg.group(show=False) as self._group, ui.section("Memory", opened=False):
            self._device = self._budget(
                "Budget", BUDGET_HINT, lambda n_bytes: submit(SetMemoryDevice(n_bytes))
            )
            with dpg.group() as self._host_rows:
                self._host_budget = self._budget(
                    "Host budget", HOST_HINT, lambda n_bytes: submit(SetMemoryHost(n_bytes))
                )
                self._host_use = ui.fact("In the host", LABEL, "Blocks that wait in main memory")
            with ui.row("Detail", DETAIL_HINT, LABEL):
                self._detail = ui.slider(*DETAIL_RANGE, _detail_text, self._set_detail)
            with ui.row("Hold", HOLD_HINT, LABEL):
                self._sizes = dpg.add_combo(
                    [_size_text(size) for size in SIZES],
                    width=-1,
                    callback=lambda _sender, words: submit(SetMemoryNeighbours(_size_of(words))),
                )

    def show(self, memory: MemoryBudget, status: StreamStatus | None) -> None:
        """Writes budgets and what is used of them."""
        if status is self._status and memory == self._memory:
            return
        if (status is None) != (self._status is None):
            dpg.configure_item(self._group, show=status is not None)
        self._memory, self._status = memory, status
        if status is None:
            return
        self.widgets.set_number(self._device, (memory.device or status.device_budget) / MEGA)
        self.widgets.set_number(self._host_budget, (memory.host or status.host_budget) / MEGA)
        dpg.configure_item(self._host_rows, show=status.host_budget > 0)
        dpg.set_item_label(self._host_use, of_total(status.host_bytes, status.host_budget))
        self._detail.show(memory.detail)
        dpg.set_value(self._sizes, _size_text(memory.neighbour_size))

    def _set_detail(self, pixels: float) -> None:
        self._submit(SetMemoryDetail(round(2 * pixels) / 2, self._host.gesture("detail")))

    def _budget(self, name: str, hint: str, submit: Callable[[int | None], None]) -> int:
        """Adds a number of megabytes that counts once it is complete, and a button that takes it back."""
        ui = self.widgets
        with ui.row(name, hint, LABEL):
            item = dpg.add_input_double(width=-ui.look.px(32), step=0, format="%.0f MB")
            ui.takes_keys(item, lambda: submit(round(dpg.get_value(item) * MEGA)))
            ui.icon("refresh", "Let the program choose", lambda: submit(None))
        return item


def _detail_text(pixels: float) -> str:
    """Writes the size of a texel on the screen."""
    return f"{pixels:.1f} px" if pixels else "full"


def _size_text(size: int | None) -> str:
    """Names a neighbourhood."""
    return f"{size} × {size} blocks" if size else IN_VIEW


def _size_of(words: str) -> int | None:
    """Returns the neighbourhood of a name in the list."""
    return next(size for size in SIZES if _size_text(size) == words)
