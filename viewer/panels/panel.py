"""What every panel is: a docked window that draws the state and turns input into commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import dearpygui.dearpygui as dpg
import numpy as np

from ..commands import Command
from ..layout import SHARES_DOCK, WINDOW
from ..shortcuts import Action
from ..state import ViewerState
from ..theme import icon
from ..widgets import Widgets

if TYPE_CHECKING:
    from ..path_dialog import PathWish
    from ..session import Session
    from ..tools import Tools

Submit = Callable[[Command], None]


class Panel(Protocol):
    """One dockable panel."""

    title: str

    def build(self, submit: Submit) -> None:
        """Makes the widgets; called once."""
        ...

    def show(self, state: ViewerState) -> None:
        """Brings the widgets in line with a state; touches only what changed."""
        ...


class Host(Protocol):
    """What a panel may ask of the program beside commands on the state."""

    @property
    def session(self) -> Session:
        """The run that the window shows: its history, jobs, document and open scene."""
        ...

    @property
    def tools(self) -> Tools:
        """What the left button does over the picture."""
        ...

    def plan_picture(self) -> tuple[int, tuple[float, float]]:
        """Returns the texture that holds the scene from above, and its lower right corner in it."""
        ...

    def map_picture(self, image: np.ndarray) -> tuple[int, tuple[float, float]]:
        """Puts a picture of the blocks into a texture; returns that, and its lower right corner in it."""
        ...

    def act(self, action: Action) -> None:
        """Does what a key of the table would do."""
        ...

    def open_path(self, path: Path) -> None:
        """Opens a scene in the background, after asking where something would be lost."""
        ...

    def choose_file(self, wish: PathWish) -> None:
        """Asks the user for a file."""
        ...

    def open_demo(self, word: str) -> None:
        """Opens a scene that ships with the program, by its word on the command line."""
        ...

    def fly_to_block(self, block: int) -> None:
        """Moves the camera over a block, visibly."""
        ...

    def copy_camera(self) -> None:
        """Puts the camera on the clipboard, in the form that the command line reads."""
        ...

    def paste_camera(self) -> None:
        """Takes the camera from the clipboard."""
        ...

    def gesture(self, kind: str) -> str:
        """Returns the key under which changes of this kind are one step of the history."""
        ...


class DockedPanel:
    """A docked window with an empty state: what will be here, and the way to it."""

    title = ""
    glyph = ""
    empty_title = ""
    empty_body = ""

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self.widgets = widgets
        self.look = widgets.look
        self.host = host
        self.window = WINDOW[self.title]
        self._content = 0
        self._note = 0
        self._has_content = False
        self._is_front: bool | None = None

    def build(self, submit: Submit) -> None:
        """Makes the window with its empty state, and the content hidden."""
        with dpg.window(label=icon(self.glyph, self.title), tag=self.window, no_close=True):
            self._note = self.widgets.note(self.empty_title, self.empty_body)
            with dpg.group(show=False) as self._content:
                self.build_content(submit)

    def build_content(self, submit: Submit) -> None:
        """Makes the widgets that an open scene needs."""
        raise NotImplementedError

    def show_content(self, state: ViewerState) -> None:
        """Brings those widgets in line with a state that has a scene."""
        raise NotImplementedError

    def has_content(self, state: ViewerState) -> bool:
        """Whether there is anything to show beside the empty state."""
        return state.scene is not None

    def show(self, state: ViewerState) -> None:
        """Shows the content, or the empty state."""
        filled = self.has_content(state)
        if filled != self._has_content:
            self._has_content = filled
            dpg.configure_item(self._note, show=not filled)
            dpg.configure_item(self._content, show=filled)
        if filled:
            self.show_content(state)

    def mark_tab(self) -> None:
        """Colours the tab where several share a dock: a tab takes its colours from the window behind it."""
        if not SHARES_DOCK[self.title]:
            return
        front = dpg.is_item_visible(self.window)
        if front != self._is_front:
            self._is_front = front
            dpg.bind_item_theme(self.window, self.look.themes["tab_front" if front else "tab_back"])

    @property
    def inner_width(self) -> float:
        """Width for widgets, pixels: without padding and scrollbar."""
        scrollbar = self.look.px(10) if dpg.get_y_scroll_max(self.window) > 0 else 0
        return dpg.get_item_rect_size(self.window)[0] - 2 * self.look.px(12) - scrollbar

    def restyle(self) -> None:
        """Draws anew what does not follow a theme by itself."""
