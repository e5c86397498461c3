"""Windows over the window: open a scene, keys and mouse, about."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dearpygui.dearpygui as dpg

from .commands import ToggleHelp
from .panels.panel import Submit
from .shortcuts import SHORTCUTS, Section
from .state import ViewerState
from .theme import icon
from .widgets import Widgets

OPEN_SIZE, HELP_SIZE, ABOUT_SIZE, BROWSE_SIZE = (560, 0), (720, 620), (440, 0), (760, 480)  # logical pixels
KEYS_WIDTH = 208
RECENT_SHOWN = 6
FILE_ENDINGS = (".yaml", ".yml", ".th")
ABOUT = (
    "Interactive viewer for city-scale GridNeRF radiance fields, as trained by LandMark.",
    "MIT licence. Fonts: Inter (SIL Open Font License 1.1) with Tabler Icons (MIT).",
)


class Dialogs:
    """Makes the dialogs on first use and keeps track of which is open."""

    def __init__(
        self, widgets: Widgets, open_path: Callable[[Path], None], folder: Path | None = None
    ) -> None:
        """`open_path` is called with what was chosen; `folder` is where browsing starts."""
        self.widgets = widgets
        self.look = widgets.look
        self._open_path = open_path
        self._open_window = self._browser = self._help = self._about = 0
        self._folder = folder or Path.home()
        self._help_shown = False

    @property
    def is_modal_open(self) -> bool:
        """Whether a dialog waits for an answer, so that keys are not for the picture."""
        windows = (self._open_window, self._browser, self._about)
        return any(window and dpg.is_item_shown(window) for window in windows)

    def close(self) -> bool:
        """Closes what is open; False when nothing was."""
        was_open = self.is_modal_open
        for window in (self._open_window, self._browser, self._about):
            if window:
                dpg.configure_item(window, show=False)
        return was_open

    def ask_for_scene(self, recent: tuple[Path, ...]) -> None:
        """Asks which scene to open."""
        if not self._open_window:
            self._build_open()
        dpg.delete_item(self._recent, children_only=True)
        dpg.push_container_stack(self._recent)
        for path in recent[:RECENT_SHOWN]:
            self.widgets.button(
                icon("history", _short(path)), lambda path=path: self._choose(path), "row", str(path), -1, 24
            )
        dpg.pop_container_stack()
        self._present(self._open_window, OPEN_SIZE)
        dpg.set_value(self._path, "")
        dpg.focus_item(self._path)

    def show(self, state: ViewerState, submit: Submit) -> None:
        """Shows or hides the help, which is a part of the state."""
        if state.help_shown == self._help_shown:
            return
        self._help_shown = state.help_shown
        if not self._help:
            self._build_help(submit)
        if state.help_shown:
            self._present(self._help, HELP_SIZE)
        else:
            dpg.configure_item(self._help, show=False)

    def show_about(self, backend: str) -> None:
        """Shows what this program is."""
        if not self._about:
            self._build_about()
        dpg.set_value(self._backend, f"Rendering: {backend}" if backend else "")
        self._present(self._about, ABOUT_SIZE)

    def _present(self, window: int, size: tuple[int, int]) -> None:
        width, height = (self.look.px(side) for side in size)
        room = dpg.get_viewport_client_width(), dpg.get_viewport_client_height()
        width, height = min(width, room[0] - 32), min(height, room[1] - 64)
        top = (room[1] - height) // 2 if height else room[1] // 4
        dpg.configure_item(window, show=True, width=width, pos=((room[0] - width) // 2, top))
        if height:
            dpg.configure_item(window, height=height)

    def _window(self, title: str, **options: object) -> int:
        flags = {"show": False, "no_collapse": True, "no_saved_settings": True, "no_docking": True, **options}
        window = dpg.add_window(label=title, **flags)
        return self.widgets.styled(window, "dialog")

    def _build_open(self) -> None:
        ui = self.widgets
        self._open_window = self._window("Open a scene", modal=True, no_resize=True, autosize=True)
        dpg.push_container_stack(self._open_window)
        ui.text("A scene.yaml, a LandMark checkpoint (.th), or a folder that holds one.", "muted")
        dpg.add_spacer(height=self.look.px(4))
        self._path = ui.takes_keys(
            dpg.add_input_text(
                hint="Path",
                width=self.look.px(OPEN_SIZE[0] - 32),
                on_enter=True,
                callback=lambda: self._accept(),
            )
        )
        with dpg.group() as self._recent:
            pass
        dpg.add_spacer(height=self.look.px(4))
        with dpg.group(horizontal=True, horizontal_spacing=self.look.px(8)):
            ui.button("Open", self._accept, "primary", None, 96)
            ui.button("Browse…", self._browse, None, None, 96)
            ui.button("Cancel", lambda: self.close(), None, None, 96)
        dpg.pop_container_stack()

    def _accept(self) -> None:
        text = dpg.get_value(self._path).strip()
        if text:
            self._choose(Path(text).expanduser())

    def _browse(self) -> None:
        self.close()
        if not self._browser:
            width, height = (self.look.px(side) for side in BROWSE_SIZE)
            with dpg.file_dialog(
                label="Open a scene",
                show=False,
                modal=True,
                width=width,
                height=height,
                default_path=str(self._folder),
                callback=lambda _sender, chosen: self._browsed(chosen),
                cancel_callback=lambda: None,
            ) as self._browser:
                dpg.add_file_extension(f"Scenes and checkpoints{{{','.join(FILE_ENDINGS)}}}")
                for ending in FILE_ENDINGS:
                    dpg.add_file_extension(ending, color=self.look.color("text"))
        dpg.configure_item(self._browser, show=True, default_path=str(self._folder))

    def _browsed(self, chosen: dict) -> None:
        files = [Path(path) for path in (chosen.get("selections") or {}).values()]
        path = files[0] if files else Path(chosen["file_path_name"])
        if not path.exists():  # nothing was selected: the name is a pattern in the folder
            path = Path(chosen["current_path"])
        self._choose(path)

    def _choose(self, path: Path) -> None:
        self.close()
        self._folder = path if path.is_dir() else path.parent
        self._open_path(path)

    def _build_help(self, submit: Submit) -> None:
        def closed() -> None:
            if self._help_shown:
                self._help_shown = False
                submit(ToggleHelp())

        self._help = self._window("Keys and mouse", on_close=closed)
        dpg.push_container_stack(self._help)
        for section in Section:
            rows = [row for row in SHORTCUTS if row.section is section]
            self.widgets.text(section.value, font="strong")
            with dpg.table(header_row=False, no_pad_outerX=True, policy=dpg.mvTable_SizingFixedFit) as table:
                self.widgets.styled(table, "list")
                dpg.add_table_column(width_fixed=True, init_width_or_weight=self.look.px(KEYS_WIDTH))
                dpg.add_table_column(width_stretch=True)
                for row in rows:
                    with dpg.table_row():
                        dpg.add_text(row.keys)
                        self.widgets.text(row.what, "muted")
            dpg.add_spacer(height=self.look.px(8))
        dpg.pop_container_stack()

    def _build_about(self) -> None:
        self._about = self._window("About", modal=True, no_resize=True, autosize=True)
        dpg.push_container_stack(self._about)
        self.widgets.text(f"landmark-viewer {_version()}", font="title")
        for sentence in ABOUT:
            self.widgets.text(sentence, "muted", wrap=self.look.px(ABOUT_SIZE[0] - 32))
        self._backend = self.widgets.text("", "muted", wrap=self.look.px(ABOUT_SIZE[0] - 32))
        dpg.add_spacer(height=self.look.px(4))
        self.widgets.button("Close", lambda: self.close(), None, None, 96)
        dpg.pop_container_stack()


def _short(path: Path) -> str:
    """Names a file so that scenes called alike can be told apart."""
    return f"{path.parent.name}/{path.name}" if path.name in ("scene.yaml", "scene.yml") else path.name


def _version() -> str:
    try:
        return version("landmark-viewer")
    except PackageNotFoundError:
        return "from a checkout"
