"""The part of the Blocks panel that says what was fetched, how fast, and what went wrong."""

from __future__ import annotations

import time
from datetime import datetime

import dearpygui.dearpygui as dpg

from ...core.streaming.contracts import FetchRecord, StreamStatus
from ..stream_text import log_line, totals_text
from ..widgets import Widgets

LINES = 100  # newest fetches that are listed
HEIGHT = 160  # logical pixels
INTERVAL = 0.3  # seconds between two updates at least


class FetchLog:
    """A list of fetches, newest first, under their totals; shown while a field is streamed."""

    def __init__(self, widgets: Widgets) -> None:
        self.widgets = widgets
        self._is_shown = False
        self._newest: FetchRecord | None = None
        self._written = 0.0

    def build(self) -> None:
        """Makes totals and list, folded."""
        ui = self.widgets
        with dpg.group(show=False) as self._group, ui.section("Fetches", opened=False):
            self._totals = ui.label("", -1, "label", "Since the scene was opened")
            with dpg.child_window(height=ui.look.px(HEIGHT), width=-1, horizontal_scrollbar=True):
                self._list = ui.text("", "muted", "small", -1)

    def show(self, status: StreamStatus | None, records: tuple[FetchRecord, ...]) -> None:
        """Lists the fetches where there are new ones, not more often than anybody reads."""
        if self._is_shown != (status is not None):
            self._is_shown = status is not None
            dpg.configure_item(self._group, show=self._is_shown)
            self._newest = None
        newest, now = records[-1] if records else None, time.monotonic()
        if status is None or newest is self._newest or now - self._written < INTERVAL:
            return
        self._newest, self._written = newest, now
        clock = datetime.now()
        dpg.set_item_label(self._totals, totals_text(status, len(records)))
        lines = [log_line(record, now, clock) for record in reversed(records[-LINES:])]
        dpg.set_value(self._list, "\n".join(lines))
