"""The dialog that asks for a file: a path to type, files that were used before, and a browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dearpygui.dearpygui as dpg

from .theme import icon
from .widgets import Widgets

WIDTH, BROWSER = 560, (760, 480)  # logical pixels
RECENT_SHOWN = 6
REPLACED = "There is such a file already; it will be replaced."

Present = Callable[[int, tuple[int, int]], None]


@dataclass(frozen=True)
class PathWish:
    """Which file is asked for."""

    title: str  # "Open a scene"
    about: str  # what kind of file, in a sentence
    endings: tuple[str, ...]  # that the browser lists
    then: Callable[[Path], None]  # called with what was chosen
    verb: str = "Open"
    saves: bool = False  # the file is to be written, and need not be there
    start: str = ""  # path that stands there first
    recent: tuple[Path, ...] = ()
    dropped: Callable[[], None] = lambda: None  # called where nothing was chosen


class PathDialog:
    """One window, filled anew for every wish."""

    def __init__(self, widgets: Widgets, window: int, present: Present, folder: Path) -> None:
        """Makes the widgets.

        Args:
            widgets: Makes them.
            window: Modal window to fill.
            present: Shows a window in the middle, with a size in logical pixels.
            folder: Where browsing starts.
        """
        self.widgets, self.window, self.folder = widgets, window, folder
        self._present = present
        self._browser = 0
        self._wish: PathWish | None = None
        self._build()

    @property
    def is_open(self) -> bool:
        """Whether it waits for an answer."""
        return any(item and dpg.is_item_shown(item) for item in (self.window, self._browser))

    def ask(self, wish: PathWish) -> None:
        """Shows the dialog."""
        self._wish = wish
        dpg.configure_item(self.window, label=wish.title)
        dpg.set_value(self._about, wish.about)
        dpg.set_item_label(self._accept_button, wish.verb)
        dpg.configure_item(self._replaces, show=False)
        dpg.delete_item(self._recent, children_only=True)
        dpg.push_container_stack(self._recent)
        for path in wish.recent[:RECENT_SHOWN]:
            words = icon("history", _short(path))
            self.widgets.button(words, lambda path=path: self._choose(path), "row", str(path), -1, 24)
        dpg.pop_container_stack()
        self._present(self.window, (WIDTH, 0))
        dpg.set_value(self._path, wish.start)
        dpg.focus_item(self._path)

    def close(self) -> None:
        """Takes the dialog away without an answer."""
        if self._wish is None:
            return
        wish = self._wish
        self._hide()
        wish.dropped()

    def _hide(self) -> None:
        self._wish = None
        for item in (self.window, self._browser):
            if item:
                dpg.configure_item(item, show=False)

    def _build(self) -> None:
        ui = self.widgets
        dpg.push_container_stack(self.window)
        self._about = ui.text("", "muted", wrap=ui.look.px(WIDTH - 32))
        dpg.add_spacer(height=ui.look.px(4))
        self._path = ui.takes_keys(
            dpg.add_input_text(
                hint="Path",
                width=ui.look.px(WIDTH - 32),
                on_enter=True,
                auto_select_all=True,  # also where ImGui remembers the cursor of the last time
                callback=lambda: self._accept(),
            )
        )
        self._replaces = ui.text(REPLACED, "warn", show=False)
        self._recent = dpg.add_group()
        dpg.add_spacer(height=ui.look.px(4))
        with dpg.group(horizontal=True, horizontal_spacing=ui.look.px(8)):
            self._accept_button = ui.button("Open", self._accept, "primary", None, 96)
            ui.button("Browse…", self._browse, None, None, 96)
            ui.button("Cancel", self.close, None, None, 96)
        dpg.pop_container_stack()

    def _accept(self) -> None:
        text = dpg.get_value(self._path).strip()
        if text:
            self._choose(Path(text).expanduser())

    def _choose(self, path: Path) -> None:
        wish = self._wish
        if wish is None:
            return
        again = str(path) == wish.start or dpg.is_item_shown(self._replaces)
        if wish.saves and path.exists() and not again:
            dpg.set_value(self._path, str(path))
            dpg.configure_item(self._replaces, show=True)
            dpg.configure_item(self.window, show=True)
            return
        self._hide()
        self.folder = path if path.is_dir() else path.parent
        wish.then(path)

    def _browse(self) -> None:
        wish = self._wish
        if wish is None:
            return
        dpg.configure_item(self.window, show=False)
        if self._browser:
            dpg.delete_item(self._browser)
        width, height = (self.widgets.look.px(side) for side in BROWSER)
        with dpg.file_dialog(
            label=wish.title,
            modal=True,
            width=width,
            height=height,
            default_path=str(self.folder),
            default_filename=Path(wish.start).name if wish.saves else "",
            callback=lambda _sender, chosen: self._browsed(chosen),
            cancel_callback=lambda: self.close(),
        ) as self._browser:
            dpg.add_file_extension(f"{wish.title}{{{','.join(wish.endings)}}}")
            for ending in wish.endings:
                dpg.add_file_extension(ending, color=self.widgets.look.color("text"))

    def _browsed(self, chosen: dict) -> None:
        files = [Path(path) for path in (chosen.get("selections") or {}).values()]
        path = files[0] if files else Path(chosen["file_path_name"])
        if not path.exists() and not (self._wish and self._wish.saves):
            path = Path(chosen["current_path"])  # nothing was selected: the name is a pattern in the folder
        self._choose(path)


def _short(path: Path) -> str:
    """Names a file so that scenes called alike can be told apart."""
    return f"{path.parent.name}/{path.name}" if path.name in ("scene.yaml", "scene.yml") else path.name
