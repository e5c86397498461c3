"""Starts the window: a display, a session, and the loop; cleans up whatever way it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import dearpygui.dearpygui as dpg

from . import glfw, recent
from .display import Display
from .events import EventLog, since_start
from .layout import Layout
from .main_window import MainWindow
from .session import Session
from .state import Theme, ViewerState
from .theme import Look

DONE, NO_DISPLAY, INTERRUPTED = 0, 2, 130
PATIENCE = 1.0  # seconds that threads get to end
SCALE_RANGE = 0.5, 4.0
SMALLEST = 640, 400  # logical pixels
TITLE_BAR = 40  # logical pixels that a window of unstated size leaves for what the window manager adds

log = logging.getLogger(__name__)


def run(
    path: Path | None = None,
    *,
    overrides: Sequence[str] = (),
    size: tuple[int, int] | None = None,
    scale: float | None = None,
    event_log: Path | None = None,
    light: bool = False,
) -> int:
    """Shows the window until it is closed, and ends the process; returns an exit code where there is none.

    Args:
        path: Scene to open; None invites the user to open one.
        overrides: `key.path=value` for that scene.
        size: Of the window, pixels; None: as last time, at most the screen.
        scale: Of text and sizes; None: what the screen asks for.
        event_log: File for one JSON object per event.
        light: Light theme, whatever was chosen last time.
    """
    facts = glfw.probe()
    if facts.error:
        log.error("no window can be opened: %s", facts.error)
        return NO_DISPLAY
    before = set(threading.enumerate())
    events = EventLog(event_log)
    remembered = recent.load()
    theme = Theme.LIGHT if light else remembered.theme
    state = ViewerState(recent=remembered.recent, theme=theme)
    session = Session(state, events, glfw.wake, takes_turns=facts.is_software)
    try:
        if path is not None:
            session.open(path, overrides)
        look = Look(_scale(scale, facts), theme is Theme.LIGHT)
        dpg.create_context()
        try:
            with _interrupts(session) as interrupted:
                _show(session, events, look, _window_size(size, remembered, facts, look.scale), remembered)
        finally:
            dpg.destroy_context()
        session.close()
        events.write("closed", seconds=round(since_start(), 3))
        code = INTERRUPTED if interrupted else DONE
    finally:
        session.close()
        events.close()
    _wait_for(set(threading.enumerate()) - before)
    return _leave(code)


def _wait_for(threads: set[threading.Thread]) -> bool:
    """Waits a little for threads that were told to end; returns whether they did."""
    end = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(end - time.monotonic(), 0))
    return not any(thread.is_alive() for thread in threads)


def _leave(code: int) -> NoReturn:
    """Ends the process at once.

    Threads still at work must not meet an interpreter being taken down, which takes most of a second, too.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _show(
    session: Session,
    events: EventLog,
    look: Look,
    size: tuple[int, int],
    remembered: recent.Remembered,
) -> None:
    layout = Layout(look.scale)
    dpg.configure_app(
        docking=True,
        docking_space=True,
        init_file=str(layout.prepare(*size)),
        load_init_file=True,
        auto_save_init_file=False,
        manual_callback_management=True,
    )
    place = dict(zip(("x_pos", "y_pos"), _place(size, remembered, glfw.probe().work_area), strict=True))
    smallest = {"min_width": SMALLEST[0], "min_height": SMALLEST[1]}
    color = look.color("panel")
    dpg.create_viewport(
        title="landmark-viewer",
        width=size[0],
        height=size[1],
        clear_color=color,
        disable_close=True,  # the main loop asks before
        **place,
        **smallest,
    )
    look.load_fonts()
    look.build_themes()
    displays = Display(), Display(), Display()
    window = MainWindow(look, layout, displays, session, events, remembered.folder)
    window.build()
    dpg.setup_dearpygui()
    dpg.show_viewport()
    look.recolour_base_style()
    dpg.render_dearpygui_frame()  # the textures get their OpenGL names now
    for display in displays:
        display.start()
    events.write("window", seconds=round(since_start(), 3))
    window.run(glfw.Window())
    if not session.state.interface_hidden:
        layout.save()
    _remember(session, remembered)


def _scale(asked: float | None, facts: glfw.DisplayFacts) -> float:
    """Returns the scale of text and sizes: as asked, else as the screen says."""
    return min(max(asked or facts.scale, SCALE_RANGE[0]), SCALE_RANGE[1])


def _window_size(
    asked: tuple[int, int] | None, remembered: recent.Remembered, facts: glfw.DisplayFacts, scale: float
) -> tuple[int, int]:
    """Returns the size of the window in pixels: as asked, else as last time, at most the screen."""
    if asked is not None:
        return asked
    width, height = remembered.width, remembered.height
    first = recent.Remembered()
    if (width, height) == (first.width, first.height):
        width, height = round(width * scale), round(height * scale)
    _, _, most_width, most_height = facts.work_area
    if most_width and most_height:
        width, height = min(width, most_width), min(height, most_height - round(TITLE_BAR * scale))
    return width, height


def _place(size: tuple[int, int], remembered: recent.Remembered, area: tuple[int, ...]) -> tuple[int, int]:
    """Returns where the window begins: as last time if that is on the screen, else in the middle."""
    left, top, width, height = area
    if remembered.x is not None and remembered.y is not None:
        across, down = remembered.x - left, remembered.y - top
        if 0 <= across <= width - size[0] and 0 <= down <= height - size[1]:
            return remembered.x, remembered.y
    return left + max(width - size[0], 0) // 2, top + max(height - size[1], 0) // 2


def _remember(session: Session, remembered: recent.Remembered) -> None:
    scene = session.state.scene
    x, y = (int(side) for side in dpg.get_viewport_pos())
    size = {"width": dpg.get_viewport_width(), "height": dpg.get_viewport_height(), "x": x, "y": y}
    folder = scene.path.parent if scene else remembered.folder
    recent.save(
        replace(remembered, recent=session.state.recent, theme=session.state.theme, folder=folder, **size)
    )


@contextlib.contextmanager
def _interrupts(session: Session) -> Iterator[list[int]]:
    """Turns SIGINT and SIGTERM into the end of the loop; the list holds what arrived."""
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        session.wants_close = True
        glfw.wake()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
