"""The Stats panel: what a picture costs, who renders it, and the memory of the program."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path

import dearpygui.dearpygui as dpg

from ...core.streaming.contracts import StreamStatus
from ..state import RenderStatus, ViewerState, WarpStatus
from ..stream_text import blocks_text, given_up, of_total, rate_of, totals_text
from ..units import (
    bytes_text,
    duration_text,
    grouped,
    nice_length,
    percent,
    plural,
    quality_text,
    warp_error_text,
)
from .panel import DockedPanel, Submit

HISTORY = 120  # pictures that the plot shows
LOWEST_SCALE = 50.0  # ms at the top of the plot at least
PLOT_HEIGHT = 112  # logical pixels
WARP_ROWS = {
    "Rays": "Rendered for the last moving picture, and their share of its pixels",
    "Holes": "Pixels that no keyframe showed, and those that had to be guessed from their neighbours",
    "Keyframe": "Time from the newest keyframe to the last moving picture",
    "Warp": "Likeness of what keyframes showed to rays that checked it here and there",
}
STREAM_ROWS = {
    "Blocks": "Of those that the view wants, how many are there",
    "Memory": "What blocks take where rendering happens, of its budget",
    "Host": "What blocks take in main memory beside the device, of its budget",
    "Fetching": "Bytes read per second just now",
    "Fetched": "Since the scene was opened",
    "Failed": "Blocks that could not be read; the Blocks panel says why",
}


class StatsPanel(DockedPanel):
    """Frame times and memory."""

    title = "Stats"
    glyph = "chart-dots"
    empty_title = "No frames yet"
    empty_body = "Frame times and memory appear after the first picture."

    _status: RenderStatus | None = None
    _streamed: StreamStatus | None = None
    _has_warped = False  # a picture was warped in this run

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._times: deque[float] = deque(maxlen=HISTORY)

    def has_content(self, state: ViewerState) -> bool:
        """Whether a picture was shown."""
        return state.scene is not None and bool(state.status.width)

    def build_content(self, submit: Submit) -> None:
        """Makes rows and plot."""
        ui = self.widgets
        with ui.section("Frame"):
            self._shown = ui.fact("Shown", hint="What the picture in the viewport is worth")
            self._cost = ui.fact("Picture", hint="Time to render the last complete picture")
            self._rate = ui.fact("Rate", hint="Pictures per second while moving")
            self._size = ui.fact("Size", hint="Pixels of the picture shown, and rays that made it")
            self._queue = ui.fact("Renderer", hint="What the render thread is doing")
            self._build_plot()
        with dpg.group(show=False) as self._warp_group, ui.section("While moving"):
            self._warp = {name: ui.fact(name, hint=hint) for name, hint in WARP_ROWS.items()}
        with ui.section("Machine"):
            self._backend = ui.fact("Backend", hint="The code that renders")
            self._memory = ui.fact("Memory", hint="Resident memory of this process")
        with dpg.group(show=False) as self._stream_group, ui.section("Streaming"):
            self._stream = {name: ui.fact(name, hint=hint) for name, hint in STREAM_ROWS.items()}
            self._given_up = ui.text("", "warn")

    def show_content(self, state: ViewerState) -> None:
        """Writes what the render thread and streaming reported last."""
        if self.host.session.stream_status is not self._streamed:
            self._streamed = self.host.session.stream_status
            self._show_stream(self._streamed)
        status = state.status
        if status is self._status:
            return
        self._status = status
        facts = {
            self._shown: quality_text(status),
            self._cost: duration_text(status.frame_ms),
            self._rate: f"{status.fps:.1f} fps" if status.fps else "at rest",
            self._size: f"{status.width} × {status.height}{_rays(status)}",
            self._queue: "idle" if status.finished else "moving" if status.moving else "refining",
            self._backend: status.backend,
            self._memory: bytes_text(resident_bytes()),
        }
        for item, words in facts.items():
            dpg.set_item_label(item, words)
        if status.warp is not None:
            self._show_warp(status.warp)
        dpg.configure_item(self._warp_group, show=self._has_warped and not status.adaptive)
        if status.frame_ms > 0 and (status.moving or status.finished):
            self._times.append(status.frame_ms)
            self._draw_plot()

    def _show_warp(self, warp: WarpStatus) -> None:
        """Writes how the last moving picture came about."""
        self._has_warped = True
        facts = {
            "Rays": f"{grouped(warp.rays, 0)}  ·  {percent(warp.fresh)}",
            "Holes": f"{100 * warp.holes:.1f} %  ·  {100 * warp.guessed:.1f} % guessed",
            "Keyframe": f"{warp.age:.1f} s old",
            "Warp": warp_error_text(warp.error),
        }
        for name, words in facts.items():
            dpg.set_item_label(self._warp[name], words)

    def _show_stream(self, status: StreamStatus | None) -> None:
        dpg.configure_item(self._stream_group, show=status is not None)
        if status is None:
            return
        records = self.host.session.fetch_records
        rate = rate_of(records, time.monotonic()) if status.fetching else 0.0
        facts = {
            "Blocks": blocks_text(status),
            "Memory": of_total(status.device_bytes, status.device_budget),
            "Host": of_total(status.host_bytes, status.host_budget) if status.host_budget else "not used",
            "Fetching": f"{bytes_text(rate)}/s" if rate else "at rest",
            "Fetched": totals_text(status, len(records)),
            "Failed": plural(len(status.failures), "block"),
        }
        for name, words in facts.items():
            dpg.set_item_label(self._stream[name], words)
        dpg.set_value(self._given_up, "\n".join(given_up(status)))

    def _build_plot(self) -> None:
        look = self.look
        with dpg.plot(
            height=look.px(PLOT_HEIGHT), width=-1, no_menus=True, no_mouse_pos=True, no_inputs=True
        ) as plot:
            self.widgets.styled(plot, "plot", "small")
            bare = {"no_tick_labels": True, "no_tick_marks": True, "no_gridlines": True}
            self._x_axis = dpg.add_plot_axis(dpg.mvXAxis, **bare)
            with dpg.plot_axis(dpg.mvYAxis) as self._y_axis:
                self._series = dpg.add_line_series([], [])
                dpg.bind_item_theme(self._series, look.themes["series"])
            dpg.set_axis_limits(self._x_axis, 0, HISTORY - 1)
        self._draw_plot()

    def _draw_plot(self) -> None:
        top = 1.2 * max([LOWEST_SCALE, *self._times])
        step = nice_length(top / 2)
        first = HISTORY - len(self._times)
        dpg.set_value(self._series, [list(range(first, HISTORY)), list(self._times)])
        dpg.set_axis_limits(self._y_axis, 0, top)
        ticks = [(duration_text(k * step) if k else "0", k * step) for k in range(3) if k * step <= top]
        dpg.set_axis_ticks(self._y_axis, tuple(ticks))


def _rays(status: RenderStatus) -> str:
    """Says how many rays a picture took that was rendered in one piece."""
    return "" if status.warp else f"  ·  {grouped(status.width * status.height, 0)} rays"


def resident_bytes() -> int:
    """Returns the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
