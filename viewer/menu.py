"""The menu bar: everything that can be done, with its key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dearpygui.dearpygui as dpg

from .commands import SetTheme, ToggleBlockBorders, ToggleEdits
from .panels.panel import Host, Submit
from .panels.render import MODE_ACTIONS, MODE_WORDS
from .shortcuts import Action, keys_of
from .state import Theme, ViewerState
from .widgets import Widgets

MENU_GAP = 12  # logical pixels between two items of the bar
EDIT_ACTIONS = (
    (
        ("Select building", Action.SELECT_BUILDING),
        ("Select rectangle", Action.SELECT_RECTANGLE),
        ("Select polygon", Action.SELECT_POLYGON),
        ("Invert selection", Action.INVERT),
    ),
    (
        ("Remove", Action.REMOVE),
        ("Hide", Action.HIDE),
        ("Unhide all", Action.UNHIDE),
    ),
    (
        ("Copy", Action.COPY),
        ("Paste", Action.PASTE),
        ("Duplicate", Action.DUPLICATE),
    ),
)


@dataclass(frozen=True)
class Program:
    """What only the menu asks of the program."""

    quit: Callable[[], None]
    reset_layout: Callable[[], None]
    about: Callable[[], None]


class MenuBar:
    """Menus at the left, the name of the scene at the right."""

    def __init__(self, widgets: Widgets, host: Host, program: Program) -> None:
        self.widgets = widgets
        self.look = widgets.look
        self.host = host
        self._program = program
        self._needs_scene: list[int] = []
        self._recent: tuple[Path, ...] | None = None
        self._opened: bool | None = None
        self.items: dict[str, int] = {}

    def build(self, submit: Submit) -> None:
        """Makes the menus."""
        with dpg.viewport_menu_bar() as bar:
            self.widgets.styled(bar, "menu")
            self._build_file()
            self._build_edit(submit)
            self._build_view(submit)
            with dpg.menu(label="Camera"):
                for words, action in (
                    ("Home", Action.HOME),
                    ("Focus picked point", Action.FOCUS),
                    ("Top-down", Action.TOP_DOWN),
                    ("North up", Action.NORTH_UP),
                    ("Orbit / fly", Action.NAVIGATION),
                ):
                    self._needs_scene.append(self._action(words, action))
                dpg.add_separator()
                self._needs_scene.append(
                    dpg.add_menu_item(label="Copy camera", callback=self.host.copy_camera)
                )
                self._needs_scene.append(
                    dpg.add_menu_item(label="Paste camera", callback=self.host.paste_camera)
                )
            with dpg.menu(label="Help"):
                self._action("Keys and mouse", Action.HELP)
                dpg.add_menu_item(label="About", callback=self._program.about)
            self._spacer = dpg.add_spacer(width=1)
            self._name = self.widgets.text("", "muted")
            self._unsaved = self.widgets.text("", "warn")

    def show(self, state: ViewerState, undo: str, redo: str) -> None:
        """Enables what can be done; `undo` and `redo` name the steps, "" for none."""
        if self._opened != (state.scene is not None):
            self._opened = state.scene is not None
            for item in self._needs_scene:
                dpg.configure_item(item, enabled=self._opened)
        for item, words, label in ((self._undo, "Undo", undo), (self._redo, "Redo", redo)):
            text = f"{words}: {label[:1].lower()}{label[1:]}" if label else words
            if dpg.get_item_label(item) != text:
                dpg.set_item_label(item, text)
            dpg.configure_item(item, enabled=bool(label))
        dpg.set_value(self._light, state.theme is Theme.LIGHT)
        dpg.set_value(self._borders, state.show_block_borders)
        if state.recent != self._recent:
            self._recent = state.recent
            self._list_recent()
        dpg.set_value(self._edits_shown, state.edits_shown)
        name = state.scene.path.name if state.scene else ""
        for item, words in ((self._name, name), (self._unsaved, "• unsaved" if state.dirty else "")):
            if dpg.get_value(item) != words:
                dpg.set_value(item, words)

    def fit(self) -> bool:
        """Pushes the name of the scene to the right edge; True where it moved."""
        end = dpg.get_item_rect_min(self._name)[0] + self.widgets.text_width(dpg.get_value(self._name))
        if words := dpg.get_value(self._unsaved):
            end += self.look.px(MENU_GAP) + self.widgets.text_width(words)
        gap = dpg.get_viewport_client_width() - self.look.px(12) - end
        wanted = max(1, int(dpg.get_item_width(self._spacer) + gap))
        if dpg.get_item_width(self._spacer) == wanted:
            return False
        dpg.configure_item(self._spacer, width=wanted)
        return True

    def _build_file(self) -> None:
        with dpg.menu(label="File"):
            self._action("Open…", Action.OPEN)
            with dpg.menu(label="Open recent") as self._recent_menu:
                pass
            with dpg.menu(label="Open demo"):
                dpg.add_menu_item(label="Town", callback=lambda: self.host.open_demo("demo"))
                dpg.add_menu_item(label="Brighton Beach", callback=lambda: self.host.open_demo("brighton"))
            dpg.add_separator()
            self._needs_scene.append(self._action("Save", Action.SAVE))
            self._needs_scene.append(self._action("Save as…", Action.SAVE_AS))
            self._needs_scene.append(self._action("Save picture", Action.SCREENSHOT))
            dpg.add_separator()
            dpg.add_menu_item(label="Quit", callback=self._program.quit)

    def _build_edit(self, submit: Submit) -> None:
        with dpg.menu(label="Edit"):
            self._undo = self._action("Undo", Action.UNDO)
            self._redo = self._action("Redo", Action.REDO)
            dpg.add_separator()
            for group in EDIT_ACTIONS:
                for words, action in group:
                    self._needs_scene.append(self._action(words, action))
                dpg.add_separator()
            self._edits_shown = dpg.add_menu_item(
                label="Show edits", check=True, callback=lambda: submit(ToggleEdits())
            )
            self._needs_scene.append(self._edits_shown)

    def _build_view(self, submit: Submit) -> None:
        with dpg.menu(label="View"):
            for mode, words in MODE_WORDS.items():
                self._needs_scene.append(self._action(words, MODE_ACTIONS[mode]))
            dpg.add_separator()
            self._borders = dpg.add_menu_item(
                label="Block borders",
                check=True,
                shortcut=keys_of(Action.BLOCK_BORDERS),
                callback=lambda: submit(ToggleBlockBorders()),
            )
            dpg.add_separator()
            self._action("Hide interface", Action.INTERFACE)
            self._light = dpg.add_menu_item(
                label="Light theme",
                check=True,
                callback=lambda _sender, light: submit(SetTheme(Theme.LIGHT if light else Theme.DARK)),
            )
            dpg.add_menu_item(label="Reset layout", callback=self._program.reset_layout)

    def _action(self, words: str, action: Action) -> int:
        item = dpg.add_menu_item(
            label=words, shortcut=keys_of(action), callback=lambda: self.host.act(action)
        )
        self.items[words] = item
        return item

    def _list_recent(self) -> None:
        dpg.delete_item(self._recent_menu, children_only=True)
        for path in self._recent or ():
            dpg.add_menu_item(
                label=str(path),
                parent=self._recent_menu,
                callback=lambda _sender, _value, chosen: self.host.open_path(chosen),
                user_data=path,
            )
        dpg.configure_item(self._recent_menu, enabled=bool(self._recent))
