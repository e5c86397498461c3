"""The status bar: left where you are, right what the program does; fixed widths, so that nothing jumps."""

from __future__ import annotations

import math
from pathlib import Path

import dearpygui.dearpygui as dpg

from ..layout import WINDOW
from ..state import ViewerState
from ..theme import icon
from ..units import Units, bytes_text, grouped, heading_text, quality_text
from ..widgets import Widgets, right_spacer
from .panel import Host, Submit
from .stats import resident_bytes

# Key and value widths in logical pixels; the last two leave a small window.
FIELDS = (
    ("E", 20, 92),
    ("N", 20, 100),
    ("H", 20, 76),
    ("Heading", 54, 60),
    ("Pitch", 38, 60),
    ("Speed", 46, 64),
)
RIGHT = 64 + 196 + 8 + 56 + 64 + 92
SMALL_WIDTH = 1400


class StatusBar:
    """One line below everything."""

    title = "Status"

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self.widgets = widgets
        self.look = widgets.look
        self.window = WINDOW[self.title]
        self._texts: dict[str, str] = {}
        self._total = _physical_memory()

    def build(self, submit: Submit) -> None:
        """Makes the fields."""
        ui, px = self.widgets, self.look.px
        with dpg.window(
            label=self.title, tag=self.window, no_scrollbar=True, no_scroll_with_mouse=True, no_title_bar=True
        ) as window:
            ui.styled(window, "status")
            self._ready = ui.label("Ready", 400, "label", None, "small")
            with dpg.group(horizontal=True, horizontal_spacing=px(4), show=False) as self._bar:
                self._keys, self._values, self._groups = {}, {}, {}
                for name, key_width, width in FIELDS:
                    with dpg.group(horizontal=True, horizontal_spacing=0) as self._groups[name]:
                        self._keys[name] = ui.label(name, key_width, "label", None, "small")
                        self._values[name] = ui.label("", width, "value", None, "small")
                used = sum(key + width + 4 for _, key, width in FIELDS) + RIGHT + 7 * 4 + 24
                self._wide = right_spacer(ui, used)
                self._narrow_by = px(sum(FIELDS[-1][1:]) + 4)
                self._rate = ui.label("", 64, "right", "Pictures per second while moving", "small")
                self._quality = ui.label(
                    "", 196, "right_value", "Quality shown; refines to exact at rest", "small"
                )
                dpg.add_spacer(width=px(8))
                ui.label("Memory", 56, "label", None, "small")
                with dpg.group():
                    dpg.add_spacer(height=px(9))
                    self._memory_bar = ui.styled(dpg.add_progress_bar(width=px(64), height=px(6)), "thin")
                hint = "Resident memory of this process, of the machine's"
                self._memory = ui.label("", 92, "right_value", hint, "small")

    def show(self, state: ViewerState) -> None:
        """Writes the fields that changed."""
        opened = state.scene is not None
        dpg.configure_item(self._bar, show=opened)
        dpg.configure_item(self._ready, show=not opened)
        if state.scene is None:
            self._set(self._ready, f"Opening {state.opening} …" if state.opening else "Ready")
            return
        units = Units.of(state.scene)
        low, high = state.scene.aabb
        decimals = min(units.decimals(max(h - lo for lo, h in zip(low, high, strict=True))), 3)
        names = ("E", "N", "H") if units.epsg else ("X", "Y", "Z")
        position = units.to_map(state.pose.eye)
        for field, name, value in zip(("E", "N", "H"), names, position, strict=True):
            self._set(self._keys[field], name)
            self._set(
                self._values[field],
                units.with_symbol(grouped(value, decimals)) if field == "H" else grouped(value, decimals),
            )
        self._set(self._values["Heading"], heading_text(state.pose.yaw))
        self._set(self._values["Pitch"], f"{math.degrees(state.pose.pitch):.1f}°")
        self._set(
            self._values["Speed"], f"× {state.speed:.2f}" if state.speed < 9.995 else f"× {state.speed:.0f}"
        )
        self._show_activity(state)

    def fit(self) -> None:
        """Stretches the gap between left and right to the width of the window."""
        width = dpg.get_viewport_client_width()
        small = width / self.look.scale < SMALL_WIDTH
        dpg.configure_item(self._groups["Speed"], show=not small)
        self._wide(width + (self._narrow_by if small else 0))

    def _show_activity(self, state: ViewerState) -> None:
        status = state.status
        self._set(self._rate, "idle" if status.finished else f"{status.fps:.1f} fps" if status.fps else "")
        words = quality_text(status) + (" " + icon("check") if status.finished else "")
        self._set(
            self._quality, f"opening {state.opening} …" if state.opening else words if status.width else ""
        )
        used = resident_bytes()
        if self._total:
            dpg.set_value(self._memory_bar, used / self._total)
        self._set(self._memory, f"{bytes_text(used)} / {self._total / 1e9:.0f} GB")

    def _set(self, item: int, words: str) -> None:
        if self._texts.get(str(item)) != words:
            self._texts[str(item)] = words
            dpg.set_item_label(item, words)


def _physical_memory() -> int:
    """Returns the bytes of memory of the machine, 0 if it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
