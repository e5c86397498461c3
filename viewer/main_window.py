"""The window: turns input into commands for the session, and shows what the session holds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dearpygui.dearpygui as dpg
import numpy as np

from ..scenes.shipped import demo_scene_path
from . import glfw
from .commands import Command, ShowMessage
from .dialogs import Dialogs
from .display import Display
from .events import EventLog, since_start
from .input import Input
from .keeper import CANCEL, Question
from .layout import WINDOW, Layout, Room
from .menu import MenuBar, Program
from .pace import LONGEST_WAIT, Pace
from .panels import PANELS, StatusBar
from .path_dialog import PathWish
from .session import Session
from .shortcuts import COMMAND_OF, Action
from .state import Theme
from .theme import Look
from .tools import Tools
from .viewport import Viewport
from .widgets import Widgets

PANELS_EVERY = 0.1  # seconds between two looks of the panels at a moving camera
FLY_PAUSE = 1 / 60  # seconds between two steps of a flight
FRONT = "Edit", "Camera", "Viewport"  # tabs in front at first; the last has the keyboard
SCENE_ENDINGS = (".yaml", ".yml")
EVENT, TYPING = 3, 20  # drawings after an event: keys that edit are worked off one a drawing

log = logging.getLogger(__name__)


class MainWindow:
    """Panels, viewport and the loop that draws them. It is also the Host that panels ask."""

    def __init__(
        self,
        look: Look,
        layout: Layout,
        displays: tuple[Display, Display, Display],
        session: Session,
        events: EventLog,
        folder: Path | None = None,
    ) -> None:
        """Wires the parts.

        Args:
            look: Colours, fonts and sizes.
            layout: Where panels are docked.
            displays: For the viewport, the scene from above, and the map of blocks over that.
            session: The run that is shown.
            events: Where everything is logged.
            folder: In which the open dialog starts.
        """
        self._look, self._layout = look, layout
        self._display, self._plan_display, self._map_display = displays
        self.session, self._events = session, events
        self._widgets = Widgets(look)
        self._pace = Pace()
        self._viewport = Viewport(self._widgets, self._display, self)
        self._panels = [panel(self._widgets, self) for panel in PANELS]
        self._status = StatusBar(self._widgets, self)
        program = Program(self._quit, self._reset_layout, self._show_about)
        self._menu = MenuBar(self._widgets, self, program)
        self._dialogs = Dialogs(self._widgets, folder)
        self._asking: object = None  # what the dialogs ask for the keeper
        self._input = Input(self, session, self._viewport, self._widgets, self._dialogs, self._pace, events)
        self._dropped: list[Path] = []
        self._front = [WINDOW[name] for name in FRONT]  # brought to front at first, one per frame
        self._hidden = False
        self._room = Room(look.scale)
        self._theme = session.state.theme
        self._scene: object = None  # that is shown
        self._plan: object = None  # its picture from above
        self._title = "landmark-viewer"
        self._picture_pending: Any = None
        self._ready = False
        self._first_picture = True
        self._drawn = 0
        self._panels_shown = 0.0

    # Building

    def build(self) -> None:
        """Makes all widgets and handlers."""
        self._menu.build(self.submit)
        for panel in self._panels:
            panel.build(self.submit)
        self._viewport.build(self.submit)
        self._status.build(self.submit)
        self._input.build()

    # The loop

    def run(self, window: glfw.Window) -> None:
        """Draws and waits until the window is closed."""
        self._glfw = window
        self._input.attach(window)
        window.on_drop(self._dropped.extend)
        while not self.session.wants_close and dpg.is_dearpygui_running():
            now = since_start()
            if self._glfw.should_close:
                self._glfw.keep_open()
                self._quit()
            self._input.note_buttons(now)
            self._run_callbacks()
            self._glfw.is_typing = self._widgets.is_typing
            flying = self._input.poll(now)
            self.session.advance(now)
            self._take_picture()
            self.session.ask(self._viewport.size, now)
            self._take_dropped()
            if self._glfw.is_minimised:
                self._glfw.wait(min(max(self.session.next_time(now) - now, FLY_PAUSE), LONGEST_WAIT))
                self._pace.touch(since_start())
            elif self._pace.due(now):
                self._draw()
            else:
                self._wait(now, flying)

    def _wait(self, now: float, flying: bool) -> None:
        until = min(self._pace.next_time(now), self.session.next_time(now))
        if flying:
            until = min(until, now + FLY_PAUSE)
        pause = until - now
        if pause <= 0:
            self._pace.touch(now, 1)
            return
        if not self._pace.owed:
            if not self._hidden:
                self._room.note(self._viewport.size[0])
            if self.session.came_to_rest():
                self._events.write("idle")
        self._glfw.wait(pause)
        now = since_start()
        if now < until - 1e-3 and self.tools.button is None:
            self._pace.touch(now, TYPING if self._widgets.is_typing else EVENT)
        elif self.session.next_time(now) <= now:
            self._pace.touch(now, 1)

    def _draw(self) -> None:
        """Brings all widgets in line with the state and draws one frame."""
        began = since_start()
        self._show()
        dpg.render_dearpygui_frame()
        now = since_start()
        if self._picture_pending is not None:
            self.session.desk.note_drawing(now - began)
        self._pace.drew(began)
        self._drawn += 1
        if self._picture_pending is not None:
            self._report_picture()
        if self._viewport.measure():
            self._pace.touch(now)
            if self._ready:
                self._report_layout("layout")
        if self._front and self._drawn > 2:
            dpg.focus_item(self._front.pop(0))
            self._pace.touch(now)
        elif not self._ready and self._drawn > 6:
            self._ready = True
            self._report_layout("ready", display=self._display.path, renderer=glfw.probe().renderer)

    def _show(self) -> None:
        session, state = self.session, self.session.shown
        if state.theme is not self._theme:
            self._theme = state.theme
            self._look.switch(state.theme is Theme.LIGHT)
            self._viewport.restyle()
            for panel in self._panels:
                panel.restyle()
            self._pace.touch(since_start())
        if session.scene is not self._scene:
            self._scene, self._first_picture = session.scene, True
            self._viewport.hide_picture()
        if session.plan is not self._plan:
            self._plan = session.plan
            self._plan_display.show(session.plan)
            self._pace.touch(since_start())
        title = f"{'• ' * state.dirty}{state.scene.name} - landmark-viewer" if state.scene else self._title
        if title != self._title:
            self._title = title
            dpg.set_viewport_title(title)
        fits_others = self._room.fit(dpg.get_viewport_client_width())
        if fits_others or state.interface_hidden != self._hidden:
            self._hidden = state.interface_hidden
            self._show_windows()
        self._viewport.dragging = self.tools.button is not None
        self._viewport.show(state, session.opening_seconds)
        self._menu.show(state, session.history.undo_label, session.history.redo_label)
        self._dialogs.show(state, self.submit)
        self._ask_for_keeper()
        if self._drawn > 2 and not self._hidden:
            if self._menu.fit():
                self._pace.touch(since_start())
            self._status.fit()
            for panel in self._panels:
                panel.mark_tab()
        if self._panels_due():
            for panel in self._panels:
                panel.show(state)
            self._status.show(state)

    def _panels_due(self) -> bool:
        """Whether the panels are to be written anew: beside a moving picture only now and then."""
        now, picture = since_start(), self.session.picture
        if picture is not None and picture.moving and now - self._panels_shown < PANELS_EVERY:
            return False
        self._panels_shown = now
        return True

    def _ask_for_keeper(self) -> None:
        """Asks what the keeper must know."""
        keeper = self.session.keeper
        if keeper.asking is self._asking:
            return
        self._asking = asking = keeper.asking
        if isinstance(asking, Question):
            self._dialogs.ask(asking, lambda answer: keeper.answer(self.session.state, answer))
        elif asking is not None:
            self._dialogs.ask_for_path(
                PathWish(
                    "Save the scene",
                    "A scene.yaml: it holds edits, styles and measurements, and names the checkpoint.",
                    SCENE_ENDINGS,
                    lambda path: keeper.save_as(self.session.state, path),
                    "Save",
                    saves=True,
                    start=str(asking.suggestion),
                    dropped=lambda: keeper.answer(self.session.state, CANCEL),
                )
            )
        self._pace.touch(since_start())

    def _take_picture(self) -> None:
        picture = self.session.take_picture()
        if picture is not None:
            self._display.show(picture.image)
            self._viewport.refresh_picture()
            self._picture_pending = picture
            self._pace.release()

    def _report_picture(self) -> None:
        """Writes the picture that is on screen now to the event log."""
        picture, self._picture_pending = self._picture_pending, None
        height, width = picture.image.shape[:2]
        asked = picture.request.input_time
        fields = {
            "width": width,
            "height": height,
            "scale": picture.scale,
            "quality": picture.quality.value,
            "mode": picture.request.mode.value,
            "moving": picture.moving,
            "progress": round(picture.progress, 4),
            "finished": picture.finished,
            "coarse": round(picture.coarse, 4),
            "render_ms": round(picture.render_ms, 2),
            "published_ms": round(1000 * (picture.published - asked), 2),
            "shown": picture.warp.kind if picture.warp else "",
            "input": round(asked, 6),
            "latency_ms": round(1000 * (since_start() - asked), 2),
        }
        if self._first_picture:
            self._first_picture = False
            self._events.write("first_picture", scene=self.session.state.scene.name, **fields)
        self._events.write("picture", **fields)

    def _run_callbacks(self) -> None:
        """Runs what Dear PyGui queued; a callback that fails is a message, never the end."""
        for job in dpg.get_callback_queue() or ():
            callback, arguments = job[0], job[1:4]
            if callback is None:
                continue
            try:
                count = len(inspect.signature(callback).parameters)
                callback(*arguments[:count])
            except Exception as error:
                log.exception("an action failed")
                self._events.write("error", text=str(error))
                self.submit(ShowMessage(f"That did not work: {error}", "error"))
            self._pace.touch(since_start())

    def _take_dropped(self) -> None:
        if self._dropped:
            path = self._dropped[0]
            self._dropped.clear()
            self.open_path(path)

    # What panels and menus ask for

    def submit(self, command: Command) -> None:
        """Does what the user asked."""
        self.session.submit(command)
        self._pace.touch(since_start())

    def act(self, action: Action) -> None:
        """Does what a key of the table would do."""
        commands = self.tools.act(action, self._input.cursor, self.session.shown, self._input.size)
        if commands is not None:
            for command in commands:
                self.submit(command)
            return
        actions: dict[Action, Callable[[], None]] = {
            Action.UNDO: self.session.undo,
            Action.REDO: self.session.redo,
            Action.OPEN: self._ask_for_scene,
            Action.SAVE: lambda: self.session.keeper.save(self.session.state),
            Action.SAVE_AS: lambda: self.session.keeper.save_elsewhere(self.session.state),
            Action.SCREENSHOT: self.session.save_picture,
            Action.FOCUS: self._focus,
        }
        if action in actions:
            actions[action]()
            self._pace.touch(since_start())
        elif action in COMMAND_OF:
            self.submit(COMMAND_OF[action])

    @property
    def tools(self) -> Tools:
        """What the left button does over the picture."""
        return self._input.tools

    def plan_picture(self) -> tuple[int, tuple[float, float]]:
        """Returns the texture that holds the scene from above, and its lower right corner in it."""
        return self._plan_display.texture, self._plan_display.uv_max

    def map_picture(self, image: np.ndarray) -> tuple[int, tuple[float, float]]:
        """Puts a picture of the blocks into a texture; returns that, and its lower right corner in it."""
        self._map_display.show(image)
        self._pace.touch(since_start(), 2)
        return self._map_display.texture, self._map_display.uv_max

    def open_path(self, path: Path) -> None:
        """Opens a scene in the background, after asking where something would be lost."""
        self.session.ask_to_open(path)
        self._pace.touch(since_start())

    def choose_file(self, wish: PathWish) -> None:
        """Asks the user for a file."""
        self._dialogs.ask_for_path(wish)
        self._pace.touch(since_start())

    def open_demo(self, word: str) -> None:
        """Opens a scene that ships with the program, by its word on the command line."""
        self.open_path(demo_scene_path(word))

    def fly_to_block(self, block: int) -> None:
        """Moves the camera over a block, visibly."""
        self.session.fly_to_block(block)
        self._pace.touch(since_start())

    def copy_camera(self) -> None:
        """Puts the camera on the clipboard, in the form that the command line reads."""
        dpg.set_clipboard_text(self.session.camera_text())
        self.submit(ShowMessage("The camera is on the clipboard"))

    def paste_camera(self) -> None:
        """Takes the camera from the clipboard."""
        self.session.set_camera_text(dpg.get_clipboard_text() or "")
        self._pace.touch(since_start())

    def gesture(self, kind: str) -> str:
        """Returns the key under which changes of this kind are one step of the history."""
        return self.session.keys.running(kind, since_start())

    def _focus(self) -> None:
        """Focuses what is under the pointer, or in the middle where the pointer is elsewhere."""
        if self.session.state.scene is None:
            return
        width, height = self._input.size
        hovered = self._viewport.is_hovered
        at = self._input.cursor if hovered else (width / 2, height / 2)
        self.submit(self.tools.pointer.focus(at))

    def _ask_for_scene(self) -> None:
        self.choose_file(
            PathWish(
                "Open a scene",
                "A scene.yaml, a LandMark checkpoint (.th), or a folder that holds one.",
                (*SCENE_ENDINGS, ".th"),
                self.open_path,
                recent=self.session.state.recent,
            )
        )

    def _show_about(self) -> None:
        self._dialogs.show_about(self.session.state.status.backend)

    def _quit(self) -> None:
        self.session.ask_to_close()
        self._pace.touch(since_start())

    def _reset_layout(self) -> None:
        size = dpg.get_viewport_client_width(), dpg.get_viewport_client_height()
        if not self._layout.reset(*size):
            self.submit(ShowMessage("The layout is as at first when the program starts again"))
        self._front = [WINDOW[name] for name in FRONT]

    def _show_windows(self) -> None:
        """Shows the docks that have room, or only picture and menu bar, which Dear PyGui always draws."""
        left_out = set(WINDOW) - {"Viewport"} if self._hidden else self._room.left_out
        front = [name for name in FRONT if name not in left_out]
        if not all(dpg.is_item_shown(WINDOW[name]) for name in front):
            self._front = [WINDOW[name] for name in front]
        for name, window in WINDOW.items():
            dpg.configure_item(window, show=name not in left_out)
        self._pace.touch(since_start(), 4)

    def _report_layout(self, event: str, **fields: Any) -> None:
        """Writes where things are on the screen, so that a test can click them."""
        rects = {"viewport": self._viewport.rect}
        for name, tag in WINDOW.items():
            rects[f"window {name}"] = (*dpg.get_item_pos(tag), *dpg.get_item_rect_size(tag))
        for name, item in self._viewport.tool_items.items():
            rects[name] = (*dpg.get_item_rect_min(item), *dpg.get_item_rect_size(item))
        x, y = dpg.get_viewport_pos()
        rects = {
            name: [int(left + x), int(top + y), int(width), int(height)]
            for name, (left, top, width, height) in rects.items()
        }
        self._events.write(event, rects=rects, scale=self._look.scale, **fields)
