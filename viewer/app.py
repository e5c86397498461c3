"""Starts the window: a display, a session, and the loop; cleans up whatever way it ends."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

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
SCALE_RANGE = 0.5, 4.0
SMALLEST = 640, 400  # logical pixels

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
    """Shows the window until it is closed, and returns the exit code of the program.

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
    events = EventLog(event_log)
    remembered = recent.load()
    theme = Theme.LIGHT if light else remembered.theme
    state = ViewerState(recent=remembered.recent, theme=theme)
    session = Session(state, events, glfw.wake)
    try:
        if path is not None:
            session.open(path, overrides)
        with _interrupts(session) as interrupted:
            _show(session, events, facts, _window_size(size, remembered, facts), scale, remembered)
        session.close()
        events.write("closed", seconds=round(since_start(), 3))
        return INTERRUPTED if interrupted else DONE
    finally:
        session.close()
        events.close()
        dpg.destroy_context()


def _show(
    session: Session,
    events: EventLog,
    facts: glfw.DisplayFacts,
    size: tuple[int, int],
    scale: float | None,
    remembered: recent.Remembered,
) -> None:
    look = Look(
        min(max(scale or facts.scale, SCALE_RANGE[0]), SCALE_RANGE[1]), session.state.theme is Theme.LIGHT
    )
    layout = Layout(look.scale)
    dpg.create_context()
    dpg.configure_app(
        docking=True,
        docking_space=True,
        init_file=str(layout.prepare(*size)),
        load_init_file=True,
        auto_save_init_file=False,
        manual_callback_management=True,
    )
    place = {"x_pos": remembered.x or 0, "y_pos": remembered.y or 0}
    smallest = {"min_width": SMALLEST[0], "min_height": SMALLEST[1]}
    color = look.color("base")
    dpg.create_viewport(
        title="landmark-viewer", width=size[0], height=size[1], clear_color=color, **place, **smallest
    )
    look.load_fonts()
    look.build_themes()
    display, plan_display = Display(), Display()
    window = MainWindow(look, layout, display, plan_display, session, events)
    window.build()
    dpg.setup_dearpygui()
    dpg.show_viewport()
    look.recolour_base_style()
    dpg.render_dearpygui_frame()  # the texture gets its OpenGL name now
    display.start()
    plan_display.start()
    events.write("window", seconds=round(since_start(), 3))
    window.run(glfw.Window())
    layout.save()
    _remember(session, remembered)


def _window_size(
    asked: tuple[int, int] | None, remembered: recent.Remembered, facts: glfw.DisplayFacts
) -> tuple[int, int]:
    if asked is not None:
        return asked
    width, height = remembered.width, remembered.height
    if min(facts.work_area) > 0:
        width, height = min(width, facts.work_area[0]), min(height, facts.work_area[1])
    return width, height


def _remember(session: Session, remembered: recent.Remembered) -> None:
    scene = session.state.scene
    size = {"width": dpg.get_viewport_width(), "height": dpg.get_viewport_height()}
    folder = scene.path.parent if scene else remembered.folder
    recent.save(
        replace(remembered, recent=session.state.recent, theme=session.state.theme, folder=folder, **size)
    )


@contextmanager
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
