"""The status bar: left where you are, right what the program does; fixed widths, so that nothing jumps."""

from __future__ import annotations

import math
import time
from pathlib import Path

import dearpygui.dearpygui as dpg

from ...core.streaming.contracts import StreamStatus
from ..layout import WINDOW
from ..navigation import above_ground, flying_speed
from ..state import JobStatus, ViewerState
from ..stream_text import activity_text, given_up, of_total, rate_of
from ..theme import icon
from ..units import Units, adaptive_sentence, bytes_text, grouped, heading_text, quality_text
from ..widgets import TOOLTIP_DELAY, Widgets
from .panel import Host, Submit
from .stats import resident_bytes

# Names with the widths of name and value, logical pixels.
FIELDS = {
    "E": (20, 92),
    "N": (20, 100),
    "H": (20, 76),
    "Heading": (54, 60),
    "Pitch": (38, 52),
    "Above ground": (92, 72),
    "Speed": (46, 72),
}
LEAVING = ("Pitch", "Speed", "Above ground", "Heading", "H", "N", "E")  # in this order where room is short
GAP = 4  # logical pixels between two fields
JOB = 168 + 64 + 40 + 24 + 3 * GAP  # what is worked on in the background, and the gaps between
STREAM = 208 + GAP  # what streaming does
STREAM_HINT = "Blocks that the view needs, and what is read of them"
GIVEN_UP = 288 + GAP  # what the memory budget costs
QUALITY = 196  # what the picture is worth
QUALITY_HINT = """Quality shown; refines to exact at rest.
Warped: keyframes seen from here, and rays where they show nothing or would show it wrong
Coarse: no keyframe shows this view yet
Adaptive: rendered in one piece, at the resolution that is fast enough"""
RIGHT = 64 + QUALITY + 8 + 56 + 64 + 104 + 7 * GAP + 24  # what stands at the right, with all gaps and padding


class StatusBar:
    """One line below everything."""

    title = "Status"

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self.widgets = widgets
        self.look = widgets.look
        self.host = host
        self.window = WINDOW[self.title]
        self._texts: dict[int, str] = {}
        self._room = 0.0, 0.0  # width of the window, and what is taken at the right
        self._has_job = False
        self._has_given_up = False  # something, to stay within the memory budget
        self._status: StreamStatus | None = None
        self._hint = QUALITY_HINT  # of what the picture is worth
        self._total = _physical_memory()

    def build(self, submit: Submit) -> None:
        """Makes the fields."""
        ui, px = self.widgets, self.look.px
        with dpg.window(
            label=self.title, tag=self.window, no_scrollbar=True, no_scroll_with_mouse=True, no_title_bar=True
        ) as window:
            ui.styled(window, "status")
            self._ready = ui.label("Ready", 400, "label", None, "small")
            with dpg.group(horizontal=True, horizontal_spacing=px(GAP), show=False) as self._bar:
                self._keys, self._values, self._groups = {}, {}, {}
                for name, (key_width, width) in FIELDS.items():
                    with dpg.group(horizontal=True, horizontal_spacing=0) as self._groups[name]:
                        self._keys[name] = ui.label(name, key_width, "label", None, "small")
                        self._values[name] = ui.label("", width, "value", None, "small")
                self._gap = dpg.add_spacer(width=1)
                with dpg.group(horizontal=True, horizontal_spacing=px(GAP), show=False) as self._job:
                    self._job_name = ui.label("", 168, "right", None, "small")
                    with dpg.group():
                        dpg.add_spacer(height=px(9))
                        self._job_bar = ui.styled(dpg.add_progress_bar(width=px(64), height=px(6)), "thin")
                    self._job_share = ui.label("", 40, "right_value", None, "small")
                    ui.icon("x", "Cancel", lambda: self.host.session.jobs.cancel())
                self._build_stream()
                self._rate = ui.label("", 64, "right", "Pictures per second while moving", "small")
                self._quality = ui.label("", QUALITY, "right_value", None, "small")
                with dpg.tooltip(self._quality, delay=TOOLTIP_DELAY) as tip:
                    dpg.bind_item_theme(tip, self.look.themes["tip"])
                    self._quality_hint = dpg.add_text(QUALITY_HINT)
                dpg.add_spacer(width=px(8))
                ui.label("Memory", 56, "label", None, "small")
                with dpg.group():
                    dpg.add_spacer(height=px(9))
                    self._memory_bar = ui.styled(dpg.add_progress_bar(width=px(64), height=px(6)), "thin")
                hint = "Of this process and the machine; of blocks and their budget where these are streamed"
                self._memory = ui.label("", 104, "right_value", hint, "small")

    def _build_stream(self) -> None:
        """Makes what is said of streaming: what the memory budget costs, and what is read."""
        self._given_up = self.widgets.label("", 288, "right_warn", None, "small")
        self._stream = self.widgets.label("", 208, "right", None, "small")
        self._hints = []
        for item in (self._given_up, self._stream):
            dpg.configure_item(item, show=False)
            with dpg.tooltip(item, delay=TOOLTIP_DELAY) as tip:
                dpg.bind_item_theme(tip, self.look.themes["tip"])
                self._hints.append(dpg.add_text(STREAM_HINT))

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
        self._set(self._values["Above ground"], units.length(above_ground(state)))
        self._set(self._values["Speed"], units.speed(flying_speed(state)))
        self._show_activity(state)

    def fit(self) -> None:
        """Stretches the gap between left and right to the width of the window."""
        width = dpg.get_viewport_client_width() / self.look.scale
        right = RIGHT + (JOB if self._has_job else 0) + (STREAM if self._status is not None else 0)
        tells = self._has_given_up and right + GIVEN_UP <= width
        right += GIVEN_UP if tells else 0
        if (width, right) == self._room:
            return
        self._room = width, right
        dpg.configure_item(self._given_up, show=tells)
        shown = fields_that_fit(width - right)
        for name, group in self._groups.items():
            dpg.configure_item(group, show=name in shown)
        left = sum(sum(FIELDS[name]) + GAP for name in shown)
        dpg.configure_item(self._gap, width=max(self.look.px(width - right - left), 1))

    def _show_activity(self, state: ViewerState) -> None:
        status = state.status
        self._set(self._rate, "idle" if status.finished else f"{status.fps:.1f} fps" if status.fps else "")
        doing = self._doing(state)
        shown = self.widgets.shortened(doing, self.look.px(QUALITY - 8), "small")
        self._set(self._quality, shown)
        said = [] if shown == doing else [doing]
        hint = "\n".join([*said, QUALITY_HINT, *adaptive_sentence(status)])
        if hint != self._hint:
            self._hint = hint
            dpg.set_value(self._quality_hint, hint)
        self._show_job(state.job)
        self._show_stream(self.host.session.stream_status)

    def _show_stream(self, status: StreamStatus | None) -> None:
        """Says what memory is used, and what streaming does."""
        if status is None:
            used, total = resident_bytes(), self._total
            words = f"{bytes_text(used)} / {total / 1e9:.0f} GB"
        else:
            used, total = status.device_bytes, status.device_budget
            words = of_total(used, total)
            rate = rate_of(self.host.session.fetch_records, time.monotonic())
            self._set(self._stream, activity_text(status, rate))
        if total:
            dpg.set_value(self._memory_bar, used / total)
        self._set(self._memory, words)
        if status is not self._status:
            self._status = status
            sentences = given_up(status) if status else []
            self._has_given_up = bool(sentences)
            dpg.configure_item(self._stream, show=status is not None)
            self._set(self._given_up, sentences[-1] if sentences else "")
            for hint in self._hints:
                dpg.set_value(hint, "\n".join([STREAM_HINT, *sentences]))

    def _doing(self, state: ViewerState) -> str:
        """Says in a few words what the picture waits for, or what it is worth."""
        if state.opening:
            return f"opening {state.opening} …"
        if self.host.session.desk.is_compiling:
            return "edits: compiling …"
        words = quality_text(state.status) + (" " + icon("check") if state.status.finished else "")
        return words if state.status.width else ""

    def _show_job(self, job: JobStatus | None) -> None:
        if self._has_job != (job is not None):
            self._has_job = job is not None
            dpg.configure_item(self._job, show=self._has_job)
        if job is None:
            return
        self._set(self._job_name, job.what)
        dpg.set_value(self._job_bar, job.progress or 0.0)
        share = "" if job.progress is None else f"{100 * job.progress:.0f} %"
        self._set(self._job_share, share or f"{job.seconds:.0f} s")

    def _set(self, item: int, words: str) -> None:
        if self._texts.get(item) != words:
            self._texts[item] = words
            dpg.set_item_label(item, words)


def fields_that_fit(room: float) -> list[str]:
    """Returns the names of the fields that have room, logical pixels, in their order."""
    shown = list(FIELDS)
    for name in LEAVING:
        if sum(sum(FIELDS[each]) + GAP for each in shown) <= room:
            break
        shown.remove(name)
    return shown


def _physical_memory() -> int:
    """Returns the bytes of memory of the machine, 0 if it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    return 0
