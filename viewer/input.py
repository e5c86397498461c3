"""Input: what mouse and keys do over the window, as commands and actions for the host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import dearpygui.dearpygui as dpg

from . import glfw
from .commands import Command, SetSelection, SetWipe
from .comparison import in_view, view_size
from .dialogs import Dialogs
from .events import EventLog, since_start
from .overlay_compare import grabs_line
from .pace import Pace
from .pointer import LEFT, MIDDLE, RIGHT
from .session import Session
from .shortcuts import FLY_KEYS, PRESS_KEYS, Action, action_for, fly_axes
from .tools import Tools
from .viewport import Viewport
from .widgets import Widgets

MODIFIERS = ("Ctrl", "Shift", "Alt")
KEY_NAMES = {"Ctrl": "Control"}  # where Dear PyGui has another name
CHORD = 1.0  # seconds that a released modifier may have been held before its key is handled
REPEATING = frozenset({Action.UNDO, Action.REDO, Action.FASTER, Action.SLOWER})
KEY_CODES = {"Plus": 602}  # ImGui's; mvKey_Plus lies outside ImGui's table of keys and reads stray memory
BUTTONS = {LEFT: dpg.mvMouseButton_Left, RIGHT: dpg.mvMouseButton_Right, MIDDLE: dpg.mvMouseButton_Middle}


class InputHost(Protocol):
    """Who does what the input asks for."""

    def submit(self, command: Command) -> None:
        """Does a command."""
        ...

    def act(self, action: Action) -> None:
        """Does what a key of the table would do."""
        ...


class Input:
    """Mouse and keyboard of one window."""

    def __init__(
        self,
        host: InputHost,
        session: Session,
        viewport: Viewport,
        widgets: Widgets,
        dialogs: Dialogs,
        pace: Pace,
        events: EventLog,
    ) -> None:
        self._host, self._session, self._viewport = host, session, viewport
        self._widgets, self._dialogs = widgets, dialogs
        self._pace, self._events = pace, events
        self.tools = Tools(session.pick, session.keys, session.selector, widgets.look.scale)
        self.tools.measured = session.measuring.complete
        self._left = 0.0  # of the picture under the pointer, pixels of the canvas
        self._wiping = ""  # gesture of dragging the line between two pictures
        self._over_line = False  # the pointer was there before a button went down
        self._keys_down: set[str] = set()
        self._spent: set[str] = set()  # keys that went down for something else; they do not fly
        self._modifiers: dict[str, float] = {}  # when each was pressed that was not released yet

    def build(self) -> None:
        """Makes the handlers."""
        with dpg.handler_registry():
            for name in MODIFIERS:  # before the keys that they modify: a quick chord is one frame
                for key in _sides(name):
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
                for key in _sides(name):
                    dpg.add_key_release_handler(key, callback=self._modifier_released, user_data=name)

    def attach(self, window: glfw.Window) -> None:
        """Reads the pointer and held keys of a window from now on."""
        self._window = window

    def note_buttons(self, now: float) -> None:
        """Tells the history whether a button is held anywhere in the window: a drag is one step."""
        self._session.keys.hold(any(map(self._window.is_button_down, BUTTONS)), now)

    def poll(self, now: float) -> bool:
        """Follows a drag and flies while keys are down; True while flying."""
        self._do(self.tools.poll(self._session.state.scene))
        self._poll_pointer()
        return self._poll_keys(now)

    @property
    def cursor(self) -> tuple[float, float]:
        """Pointer position in pixels of the picture under it: side by side, there are two on the canvas."""
        column, row = self._viewport.to_canvas(self._window.cursor)
        if self.tools.button is None:  # a drag stays in the picture that it began in
            compare = self._session.state.compare
            self._left = column - in_view((column, row), self._viewport.size, compare)[0]
        return column - self._left, row

    @property
    def size(self) -> tuple[int, int]:
        """Size of a picture in pixels: side by side, half of the canvas."""
        return view_size(self._viewport.size, self._session.state.compare)

    def _poll_pointer(self) -> None:
        """Follows a drag by the pointer itself: no frame must be drawn to notice a move."""
        if self._wiping:
            self._drag_wipe()
            return
        if not self._window.is_button_down(LEFT):
            (column, _), width = self._viewport.to_canvas(self._window.cursor), self._viewport.size[0]
            compare, scale = self._session.state.compare, self._widgets.look.scale
            self._over_line = grabs_line(compare, column, width, scale)
        button = self.tools.button
        if button is None:
            return
        commands = self.tools.move(self.cursor, self._session.shown, self.size)
        if commands is not None:
            self._do(commands)
            if all(isinstance(command, SetSelection) for command in commands):  # no picture will follow
                self._pace.touch(since_start(), 1)
            else:
                self._pace.hold(since_start())
        if not self._window.is_button_down(button):
            self._do(self.tools.release(self._session.shown, self.size))
            self._pace.touch(since_start())

    def _drag_wipe(self) -> None:
        command = SetWipe(self.cursor[0] / max(self._viewport.size[0], 1), self._wiping)
        if command.position != self._session.state.compare.position:
            self._host.submit(command)
            self._pace.hold(since_start())
        if not self._window.is_button_down(LEFT):
            self._wiping = ""

    def _do(self, commands: Iterable[Command]) -> None:
        for command in commands:
            self._host.submit(command)

    def _poll_keys(self, now: float) -> bool:
        """Flies while keys are down; they are read by position, whatever the keyboard's layout."""
        ctrl, shift, alt = (self._is_down(name) for name in MODIFIERS)
        down = {name for name in FLY_KEYS if self._window.is_key_down(name)}
        self._spent |= {name for name in down if self._window.is_chord(name)}
        if ctrl or self._widgets.is_typing or self._dialogs.is_modal_open:
            self._spent |= down
        self._spent &= down
        flying = self._session.fly(fly_axes(down - self._spent, ctrl), shift, alt, now)
        if flying:
            self._pace.hold(now)
        return flying

    def _is_down(self, modifier: str) -> bool:
        """Whether a modifier is held now."""
        return any(self._window.is_key_down(side + modifier) for side in ("Left", "Right"))

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
        if number == LEFT and self._over_line:
            self._wiping = self._session.keys.begin("wipe")
            return
        self.tools.press(number, self.cursor, self._session.shown, self.size, shift, ctrl)

    def _double_clicked(self) -> None:
        if self._viewport.is_hovered:
            self._do(self.tools.double_click(self.cursor, self._session.shown, self.size))

    def _wheel_turned(self, _sender: int, steps: float) -> None:
        if not self._viewport.is_hovered:
            return
        state, size = self._session.shown, self.size
        command = self.tools.pointer.wheel(steps, self.cursor, state, size, since_start())
        if command is not None:
            self._host.submit(command)
            self._pace.hold(since_start())

    def _key_pressed(self, _sender: int, _data: Any, name: str) -> None:
        action = action_for(name, self._is_held("Ctrl"), self._is_held("Shift"))
        repeated = name in self._keys_down
        self._keys_down.add(name)
        if action is None or (repeated and action not in REPEATING) or self._widgets.is_typing:
            return
        if self._dialogs.is_modal_open:
            if action is Action.DISMISS:
                self._dialogs.close()
            elif action is Action.CONFIRM:
                self._dialogs.confirm()
            return
        if action is Action.DISMISS and self._widgets.close_popups():
            return
        self._events.write("key", action=action.value)
        self._host.act(action)

    def _key_released(self, _sender: int, _data: Any, name: str) -> None:
        self._keys_down.discard(name)


def _sides(modifier: str) -> list[int]:
    """Returns the codes of a modifier's left and right key."""
    return [getattr(dpg, f"mvKey_{side}{KEY_NAMES.get(modifier, modifier)}") for side in "LR"]
