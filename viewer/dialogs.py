"""Windows over the window: questions, files, keys and mouse, about."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dearpygui.dearpygui as dpg

from .commands import ToggleHelp
from .keeper import Question
from .panels.panel import Submit
from .path_dialog import PathDialog, PathWish
from .shortcuts import SHORTCUTS, Section
from .state import ViewerState
from .widgets import Widgets

HELP_SIZE, ABOUT_SIZE, QUESTION_SIZE = (720, 620), (440, 0), (440, 0)  # logical pixels
KEYS_WIDTH = 208
ABOUT = (
    "Interactive viewer for city-scale GridNeRF radiance fields, as trained by LandMark.",
    "MIT licence. Fonts: Inter (SIL Open Font License 1.1) with Tabler Icons (MIT).",
)


FRAMES_BETWEEN = 2  # drawings between two dialogs


class Dialogs:
    """Makes the dialogs on first use and keeps track of which is open."""

    def __init__(self, widgets: Widgets, folder: Path | None = None) -> None:
        """`folder` is where browsing for files starts."""
        self.widgets = widgets
        self.look = widgets.look
        self._help = self._about = self._question = 0
        self._folder = folder or Path.home()
        self._paths: PathDialog | None = None
        self._help_shown = False
        self._asked: Question | None = None
        self._answer: Callable[[str], None] = lambda _: None
        self._next: Callable[[], None] | None = None  # shows the dialog that is to come
        self._frames = 0  # until then

    @property
    def is_modal_open(self) -> bool:
        """Whether a dialog waits for an answer, so that keys are not for the picture."""
        paths = self._paths is not None and self._paths.is_open
        windows = (self._about, self._question)
        shown = any(window and dpg.is_item_shown(window) for window in windows)
        return self._next is not None or paths or shown

    def close(self) -> None:
        """Closes what is open; a question is answered with its last answer."""
        if self._paths is not None:
            self._paths.close()
        if self._about:
            dpg.configure_item(self._about, show=False)
        if self._asked is not None:
            self._answered(self._asked.answers[-1])

    def confirm(self) -> None:
        """Gives the first answer to an open question."""
        if self._asked is not None:
            self._answered(self._asked.answers[0])

    def ask_for_path(self, wish: PathWish) -> None:
        """Asks for a file."""
        self._show_soon(lambda: self._show_paths(wish))

    def ask(self, question: Question, answer: Callable[[str], None]) -> None:
        """Asks a question; `answer` is called with one of its answers."""
        self._asked, self._answer = question, answer
        self._show_soon(lambda: self._show_question(question))

    def _show_soon(self, show: Callable[[], None]) -> None:
        """Shows a dialog when the one before is gone: Dear PyGui drops one that comes in the same frame."""
        self._next, self._frames = show, FRAMES_BETWEEN

    def _show_paths(self, wish: PathWish) -> None:
        if self._paths is None:
            window = self._window("", modal=True, no_resize=True, autosize=True)
            dpg.configure_item(window, on_close=lambda: self._paths.close() if self._paths else None)
            self._paths = PathDialog(self.widgets, window, self._present, self._folder)
        self._paths.ask(wish)

    def _show_question(self, question: Question) -> None:
        if not self._question:
            self._question = self._window("", modal=True, no_resize=True, autosize=True, no_close=True)
        dpg.configure_item(self._question, label=question.text)
        dpg.delete_item(self._question, children_only=True)
        dpg.push_container_stack(self._question)
        self.widgets.text(question.detail, "muted", wrap=self.look.px(QUESTION_SIZE[0] - 32))
        dpg.add_spacer(height=self.look.px(8))
        with dpg.group(horizontal=True, horizontal_spacing=self.look.px(8)):
            for number, words in enumerate(question.answers):
                theme = None if number else "primary"
                self.widgets.button(words, lambda words=words: self._answered(words), theme, None, 112)
        dpg.pop_container_stack()
        self._present(self._question, QUESTION_SIZE)

    def _answered(self, words: str) -> None:
        self._asked = self._next = None
        if self._question:
            dpg.configure_item(self._question, show=False)
        self._answer(words)

    def show(self, state: ViewerState, submit: Submit) -> None:
        """Shows what was asked for, and shows or hides the help, which is a part of the state."""
        if self._next is not None:
            self._frames -= 1
            if self._frames <= 0:
                present, self._next = self._next, None
                present()
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


def _version() -> str:
    try:
        return version("landmark-viewer")
    except PackageNotFoundError:
        return "from a checkout"
