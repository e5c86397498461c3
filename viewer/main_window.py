"""The window: turns input into commands for the session, and shows what the session holds."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dearpygui.dearpygui as dpg

from ..scenes.shipped import demo_scene_path
from . import glfw
from .commands import Command, ShowMessage
from .dialogs import Dialogs
from .display import Display
from .events import EventLog, since_start
from .layout import WINDOW, Layout
from .menu import MenuBar, Program
from .pace import LONGEST_WAIT, Pace
from .panels import PANELS, StatusBar
from .pointer import LEFT, MIDDLE, RIGHT, Pointer
from .session import Session
from .shortcuts import COMMAND_OF, FLY_KEYS, PRESS_KEYS, Action, action_for, fly_axes
from .state import Theme
from .theme import Look
from .viewport import Viewport
from .widgets import Widgets

FLY_PAUSE = 1 / 60  # seconds between two steps of a flight
MODIFIERS = ("Ctrl", "Shift", "Alt")
KEY_NAMES = {"Ctrl": "Control"}  # where Dear PyGui has another name
CHORD = 1.0  # seconds that a released modifier may have been held before its key is handled
EVENT, TYPING = 3, 20  # drawings after an event: quick typing is worked off at one character a drawing
REPEATING = frozenset({Action.UNDO, Action.REDO, Action.FASTER, Action.SLOWER})
KEY_CODES = {"Plus": 602}  # ImGui's; mvKey_Plus lies outside ImGui's table of keys and reads stray memory
BUTTONS = {LEFT: dpg.mvMouseButton_Left, RIGHT: dpg.mvMouseButton_Right, MIDDLE: dpg.mvMouseButton_Middle}

log = logging.getLogger(__name__)


class MainWindow:
    """Panels, viewport and the loop that draws them. It is also the Host that panels ask."""

    def __init__(
        self,
        look: Look,
        layout: Layout,
        display: Display,
        plan_display: Display,
        session: Session,
        events: EventLog,
        folder: Path | None = None,
    ) -> None:
        """Wires the parts; `folder` is where the open dialog starts."""
        self._look, self._layout, self._display = look, layout, display
        self._session, self._events = session, events
        self._widgets = Widgets(look)
        self._pace = Pace()
        self._pointer = Pointer(session.pick, session.keys)
        self._viewport = Viewport(self._widgets, display, self)
        self._plan_display = plan_display
        self._panels = [panel(self._widgets, self) for panel in PANELS]
        self._status = StatusBar(self._widgets, self)
        program = Program(self._quit, self._reset_layout, self._show_about)
        self._menu = MenuBar(self._widgets, self, program)
        self._dialogs = Dialogs(self._widgets, self.open_path, folder)
        self._dropped: list[Path] = []
        self._keys_down: set[str] = set()
        self._modifiers: dict[str, float] = {}  # when each was pressed that was not released yet
        self._front = [WINDOW["Camera"], WINDOW["Viewport"]]  # brought to front at first, one per frame
        self._hidden = False
        self._theme = session.state.theme
        self._scene: object = None
        self._picture_pending: Any = None
        self._ready = False
        self._first_picture = True
        self._drawn = 0

    # Building

    def build(self) -> None:
        """Makes all widgets and handlers."""
        self._menu.build(self.submit)
        for panel in self._panels:
            panel.build(self.submit)
        self._viewport.build(self.submit)
        self._status.build(self.submit)
        with dpg.handler_registry():
            for name in MODIFIERS:  # before the keys that they modify: a quick chord is one frame
                for side in "LR":
                    key = getattr(dpg, f"mvKey_{side}{KEY_NAMES.get(name, name)}")
                    dpg.add_key_press_handler(key, callback=self._modifier_pressed, user_data=name)
            for button in BUTTONS.values():
                dpg.add_mouse_click_handler(button, callback=self._pressed)
            dpg.add_mouse_double_click_handler(dpg.mvMouseButton_Left, callback=self._double_clicked)
            dpg.add_mouse_wheel_handler(callback=self._wheel_turned)
            for name in PRESS_KEYS:
                key = KEY_CODES.get(name) or getattr(dpg, f"mvKey_{name}")
                dpg.add_key_press_handler(key, callback=self._key_pressed, user_data=name)
                dpg.add_key_release_handler(key, callback=self._key_released, user_data=name)
            for name in MODIFIERS:
                for side in "LR":
                    key = getattr(dpg, f"mvKey_{side}{KEY_NAMES.get(name, name)}")
                    dpg.add_key_release_handler(key, callback=self._modifier_released, user_data=name)

    # The loop

    def run(self, window: glfw.Window) -> None:
        """Draws and waits until the window is closed."""
        self._glfw = window
        window.on_drop(self._dropped.extend)
        while not self._session.wants_close and not self._glfw.should_close and dpg.is_dearpygui_running():
            now = since_start()
            self._run_callbacks()
            self._poll_pointer()
            flying = self._poll_keys(now)
            self._session.advance(now)
            self._session.ask(self._viewport.size, now)
            self._take_picture()
            self._take_dropped()
            if self._glfw.is_minimised:
                self._glfw.wait(min(max(self._session.next_time(now) - now, FLY_PAUSE), LONGEST_WAIT))
                self._pace.touch(since_start())
            elif self._pace.due(now):
                self._draw()
            else:
                self._wait(now, flying)

    def _wait(self, now: float, flying: bool) -> None:
        until = min(self._pace.next_time(now), self._session.next_time(now))
        if flying:
            until = min(until, now + FLY_PAUSE)
        pause = until - now
        if pause <= 0:
            self._pace.touch(now, 1)
            return
        if not self._pace.owed and self._session.came_to_rest():
            self._events.write("idle")
        self._glfw.wait(pause)
        now = since_start()
        if now < until - 1e-3 and self._pointer.drag is None:
            self._pace.touch(now, TYPING if self._widgets.is_typing else EVENT)
        elif self._session.next_time(now) <= now:
            self._pace.touch(now, 1)

    def _draw(self) -> None:
        """Brings all widgets in line with the state and draws one frame."""
        began = since_start()
        self._show()
        dpg.render_dearpygui_frame()
        now = since_start()
        if self._picture_pending is not None:
            self._session.note_drawing(now - began)
        self._pace.drew(now)
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
        session, state = self._session, self._session.shown
        if state.theme is not self._theme:
            self._theme = state.theme
            self._look.switch(state.theme is Theme.LIGHT)
            self._viewport.restyle()
            for panel in self._panels:
                panel.restyle()
            self._pace.touch(since_start())
        if state.scene is not self._scene:
            self._scene, self._first_picture = state.scene, True
            self._viewport.hide_picture()
            if session.plan is not None:
                self._plan_display.show(session.plan)
            dpg.set_viewport_title(
                f"{state.scene.name} - landmark-viewer" if state.scene else "landmark-viewer"
            )
            self._pace.touch(since_start())
        if state.interface_hidden != self._hidden:
            self._hidden = state.interface_hidden
            self._hide_interface(state.interface_hidden)
        self._viewport.dragging = self._pointer.drag is not None
        self._viewport.show(state, session.opening_seconds)
        self._menu.show(state, session.history.undo_label, session.history.redo_label)
        self._dialogs.show(state, self.submit)
        if self._drawn > 2 and not self._hidden:
            if self._menu.fit():
                self._pace.touch(since_start())
            self._status.fit()
            for panel in self._panels:
                panel.mark_tab()
        for panel in self._panels:
            panel.show(state)
        self._status.show(state)

    def _take_picture(self) -> None:
        picture = self._session.take_picture()
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
            "render_ms": round(picture.render_ms, 2),
            "input": round(asked, 6),
            "latency_ms": round(1000 * (since_start() - asked), 2),
        }
        if self._first_picture:
            self._first_picture = False
            self._events.write("first_picture", scene=self._session.state.scene.name, **fields)
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

    # Input

    def _poll_pointer(self) -> None:
        """Follows a drag by the pointer itself: no frame must be drawn to notice a move."""
        drag = self._pointer.drag
        if drag is None:
            return
        at = self._viewport.to_canvas(self._glfw.cursor)
        command = self._pointer.move(at, self._session.shown, self._viewport.size)
        if command is not None:
            self.submit(command)
            self._pace.hold(since_start())
        if not self._glfw.is_button_down(drag.button):
            self._pointer.release()
            self._session.history.end_gesture()
            self._pace.touch(since_start())

    def _poll_keys(self, now: float) -> bool:
        """Flies while keys are down; they are read by position, whatever the keyboard's layout."""
        ctrl, shift, alt = (self._is_down(name) for name in MODIFIERS)
        down: Sequence[str] = ()
        if not (self._widgets.is_typing or self._dialogs.is_modal_open):
            down = [name for name in FLY_KEYS if self._glfw.is_key_down(name)]
        flying = self._session.fly(fly_axes(down, ctrl), shift, alt, now)
        if flying:
            self._pace.hold(now)
        return flying

    def _is_down(self, modifier: str) -> bool:
        """Whether a modifier is held now."""
        return any(self._glfw.is_key_down(side + modifier) for side in ("Left", "Right"))

    def _is_held(self, modifier: str) -> bool:
        """Whether a modifier was held with the key being handled: callbacks come a frame late."""
        return self._is_down(modifier) or since_start() - self._modifiers.get(modifier, -1.0) < CHORD

    def _modifier_pressed(self, _sender: int, _data: Any, name: str) -> None:
        self._modifiers[name] = since_start()

    def _modifier_released(self, _sender: int, _data: Any, name: str) -> None:
        self._modifiers.pop(name, None)

    def _pressed(self, _sender: int, button: int) -> None:
        if not self._viewport.is_hovered:
            return
        number = next(n for n, value in BUTTONS.items() if value == button)
        ctrl, shift = self._is_held("Ctrl"), self._is_held("Shift")
        at = self._viewport.to_canvas(self._glfw.cursor)
        self._pointer.press(number, at, self._session.shown, self._viewport.size, shift, ctrl)

    def _double_clicked(self) -> None:
        if self._viewport.is_hovered and self._session.state.scene is not None:
            self._pointer.release()
            self.submit(self._pointer.focus(self._viewport.to_canvas(self._glfw.cursor)))

    def _wheel_turned(self, _sender: int, steps: float) -> None:
        if not self._viewport.is_hovered:
            return
        at = self._viewport.to_canvas(self._glfw.cursor)
        command = self._pointer.wheel(steps, at, self._session.shown, self._viewport.size, since_start())
        if command is not None:
            self.submit(command)
            self._pace.hold(since_start())

    def _key_pressed(self, _sender: int, _data: Any, name: str) -> None:
        ctrl, shift = self._is_held("Ctrl"), self._is_held("Shift")
        action = action_for(name, ctrl, shift)
        repeated = name in self._keys_down
        self._keys_down.add(name)
        if action is None or (repeated and action not in REPEATING) or self._widgets.is_typing:
            return
        if self._dialogs.is_modal_open:
            if action is Action.DISMISS:
                self._dialogs.close()
            return
        self._events.write("key", action=action.value)
        self.act(action)

    def _key_released(self, _sender: int, _data: Any, name: str) -> None:
        self._keys_down.discard(name)

    def _take_dropped(self) -> None:
        if self._dropped:
            path = self._dropped[0]
            self._dropped.clear()
            self.open_path(path)

    # What panels and menus ask for

    def submit(self, command: Command) -> None:
        """Does what the user asked."""
        self._session.submit(command)
        self._pace.touch(since_start())

    def act(self, action: Action) -> None:
        """Does what a key of the table would do."""
        actions: dict[Action, Callable[[], None]] = {
            Action.UNDO: self._session.undo,
            Action.REDO: self._session.redo,
            Action.OPEN: self._ask_for_scene,
            Action.SCREENSHOT: self._session.save_picture,
            Action.FOCUS: self._focus,
        }
        if action in actions:
            actions[action]()
            self._pace.touch(since_start())
        elif action in COMMAND_OF:
            self.submit(COMMAND_OF[action])

    def plan_picture(self) -> tuple[int, tuple[float, float]]:
        """Returns the texture that holds the scene from above, and its lower right corner in it."""
        return self._plan_display.texture, self._plan_display.uv_max

    def open_path(self, path: Path) -> None:
        """Opens a scene in the background."""
        self._session.open(path)
        self._pace.touch(since_start())

    def open_demo(self, word: str) -> None:
        """Opens a scene that ships with the program, by its word on the command line."""
        self.open_path(demo_scene_path(word))

    def fly_to_block(self, block: int) -> None:
        """Moves the camera over a block, visibly."""
        self._session.fly_to_block(block)
        self._pace.touch(since_start())

    def copy_camera(self) -> None:
        """Puts the camera on the clipboard, in the form that the command line reads."""
        dpg.set_clipboard_text(self._session.camera_text())
        self.submit(ShowMessage("The camera is on the clipboard"))

    def paste_camera(self) -> None:
        """Takes the camera from the clipboard."""
        self._session.set_camera_text(dpg.get_clipboard_text() or "")
        self._pace.touch(since_start())

    def gesture(self, kind: str) -> str:
        """Returns the key under which changes of this kind are one step of the history."""
        return self._session.keys.running(kind, since_start())

    def _focus(self) -> None:
        """Focuses what is under the pointer, or in the middle where the pointer is elsewhere."""
        if self._session.state.scene is None:
            return
        width, height = self._viewport.size
        hovered = self._viewport.is_hovered
        at = self._viewport.to_canvas(self._glfw.cursor) if hovered else (width / 2, height / 2)
        self.submit(self._pointer.focus(at))

    def _ask_for_scene(self) -> None:
        self._dialogs.ask_for_scene(self._session.state.recent)

    def _show_about(self) -> None:
        self._dialogs.show_about(self._session.state.status.backend)

    def _quit(self) -> None:
        self._session.wants_close = True

    def _reset_layout(self) -> None:
        size = dpg.get_viewport_client_width(), dpg.get_viewport_client_height()
        if not self._layout.reset(*size):
            self.submit(ShowMessage("The layout is as at first when the program starts again"))
        self._front = [WINDOW["Camera"], WINDOW["Viewport"]]

    def _hide_interface(self, hidden: bool) -> None:
        """Leaves the picture and the menu bar, which Dear PyGui always draws, or brings everything back."""
        for name, window in WINDOW.items():
            if name != "Viewport":
                dpg.configure_item(window, show=not hidden)
        if not hidden:
            self._front = [WINDOW["Camera"], WINDOW["Viewport"]]
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
