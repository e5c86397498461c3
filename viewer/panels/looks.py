"""The looks that the Appearance panel offers: named styles and codes, as a grid of thumbnails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_not

import dearpygui.dearpygui as dpg
import numpy as np

from ...core.appearance import Appearance
from ...core.camera import Camera
from .. import glfw
from ..display import Display
from ..state import ViewerState
from ..thumbnails import Thumbnails, View
from ..widgets import Pen, Widgets
from .panel import Host

COLUMNS, GAP, NAME_HEIGHT = 3, 8, 22  # logical pixels
RATIO = 2 / 3  # height of a thumbnail over its width
THUMBNAIL = 96  # pixels of its width at scale 1
BADGES = "AB"


@dataclass(frozen=True)
class Look:
    """Something to choose."""

    name: str
    appearance: Appearance
    is_style: bool = True  # False: a code that was added to the grid


def looks_of(state: ViewerState, codes: Sequence[int]) -> tuple[Look, ...]:
    """Returns the styles of a state, then codes that were added."""
    styles = (Look(name, appearance) for name, appearance in state.styles)
    return (*styles, *(Look(f"Code {code}", Appearance.of(code), False) for code in codes))


class LookGrid:
    """Draws thumbnails with names; a click chooses."""

    def __init__(self, widgets: Widgets, host: Host, chosen: Callable[[Look], None]) -> None:
        self._widgets, self._host, self._chosen = widgets, host, chosen
        self._px = widgets.look.px
        self._size = self._px(THUMBNAIL), round(RATIO * self._px(THUMBNAIL))
        self._thumbnails = Thumbnails(glfw.wake)
        self._display: Display | None = None
        self._looks: tuple[Look, ...] = ()
        self._drawn: object = None
        self._atlas: list[np.ndarray | None] = []  # what the texture shows
        self._width = 0

    def build(self) -> None:
        """Makes the canvas."""
        self._canvas = self._widgets.styled(dpg.add_drawlist(16, 16), None, "small")
        self._layer = dpg.add_draw_layer(parent=self._canvas)
        with dpg.item_handler_registry() as handlers:
            dpg.add_item_clicked_handler(dpg.mvMouseButton_Left, callback=self._clicked)
        dpg.bind_item_handler_registry(self._canvas, handlers)
        self._display = Display()

    def show(
        self,
        state: ViewerState,
        looks: tuple[Look, ...],
        badges: Sequence[Appearance | None],
        width: int,
        is_seen: bool,
    ) -> None:
        """Draws what changed.

        Args:
            state: What the window shows.
            looks: What to offer.
            badges: The ends of the blend, marked A and B.
            width: Of the panel, pixels.
            is_seen: Whether the panel is in front; else nothing new is rendered.
        """
        self._looks, self._width = looks, width
        pictures = self._pictures(state, looks, is_seen)
        is_new = len(pictures) != len(self._atlas) or any(map(is_not, pictures, self._atlas))
        now = (looks, state.appearance, tuple(badges), width, self._widgets.look.light)
        if now == self._drawn and not is_new:
            return
        self._drawn = now
        if is_new and any(picture is not None for picture in pictures):
            self._upload(pictures)
        self._atlas = pictures
        self._draw(state, pictures, badges)

    def restyle(self) -> None:
        """Draws everything anew."""
        self._drawn = None

    def place(self, number: int) -> tuple[float, float, float, float]:
        """Returns left, top, width and height of a thumbnail in the canvas, pixels."""
        gap, name = self._px(GAP), self._px(NAME_HEIGHT)
        width = (self._width - (COLUMNS - 1) * gap) / COLUMNS
        row, column = divmod(number, COLUMNS)
        return column * (width + gap), row * (RATIO * width + name + gap / 2), width, RATIO * width

    def _pictures(
        self, state: ViewerState, looks: tuple[Look, ...], is_seen: bool
    ) -> list[np.ndarray | None]:
        """Asks for what is missing while the main picture rests, and returns what there is."""
        session = self._host.session
        picture, renderer = session.picture, session.renderer
        if renderer is None:
            return [None] * len(looks)
        thumbnails = self._thumbnails
        appearances = [look.appearance for look in looks]
        if is_seen and picture is not None and picture.finished and _shows(picture.request.camera, state):
            thumbnails.ask(renderer, View.of(picture.request, *self._size), appearances)
        else:
            thumbnails.pause()
        return [thumbnails.picture(appearance) for appearance in appearances]

    def _upload(self, pictures: list[np.ndarray | None]) -> None:
        """Puts all pictures into one texture: textures must not be deleted."""
        display, (width, height) = self._display, self._size
        if display is None:
            return
        if display.path == "none yet":
            display.start()
        rows = -(-len(pictures) // COLUMNS)
        atlas = np.full((rows * height, COLUMNS * width, 4), 255, np.uint8)
        for number, picture in enumerate(pictures):
            if picture is not None:
                row, column = divmod(number, COLUMNS)
                atlas[row * height : (row + 1) * height, column * width : (column + 1) * width] = picture
        display.show(atlas)

    def _draw(
        self,
        state: ViewerState,
        pictures: list[np.ndarray | None],
        badges: Sequence[Appearance | None],
    ) -> None:
        look = self._widgets.look
        pen = Pen(self._widgets, self._layer)
        pen.clear()
        rows = -(-len(pictures) // COLUMNS)
        for number, (one, picture) in enumerate(zip(self._looks, pictures, strict=True)):
            left, top, width, height = self.place(number)
            pen.plate(left, top, width, height, look.color("field"), 4)
            if picture is not None:
                self._draw_picture(number, rows, (left, top, width, height))
            # A thick frame in the colour of the panel rounds the corners of the picture.
            thick = self._px(4)
            outer = (left - thick / 2, top - thick / 2, width + thick, height + thick)
            pen.frame(*outer, look.color("panel"), rounding=1.5 * thick, thickness=thick)
            is_shown = one.appearance == state.appearance
            if is_shown:
                pen.frame(left, top, width, height, look.color("accent"), rounding=thick, thickness=thick / 2)
            marks = [mark for mark, end in zip(BADGES, badges, strict=True) if end == one.appearance]
            for index, mark in enumerate(marks):
                self._draw_badge(pen, mark, left + self._px(5 + 22 * index), top + self._px(5))
            name = _shortened(pen, one.name, width)
            pen.text(left, top + height + self._px(3), name, look.color("text" if is_shown else "muted"))
        _, top, _, height = self.place(max(len(pictures) - 1, 0))
        tall = top + height + self._px(NAME_HEIGHT) if pictures else 1
        dpg.configure_item(self._canvas, width=max(self._width, 1), height=int(tall))

    def _draw_picture(self, number: int, rows: int, place: tuple[float, float, float, float]) -> None:
        display = self._display
        if display is None:
            return
        left, top, width, height = place
        row, column = divmod(number, COLUMNS)
        across, down = display.uv_max[0] / COLUMNS, display.uv_max[1] / rows
        dpg.draw_image(
            display.texture,
            (left, top),
            (left + width, top + height),
            uv_min=(column * across, row * down),
            uv_max=((column + 1) * across, (row + 1) * down),
            parent=self._layer,
        )

    def _draw_badge(self, pen: Pen, mark: str, x: float, y: float) -> None:
        px = self._px
        pen.plate(x, y, px(18), px(18), self._widgets.look.color("accent_deep"), 3)
        pen.text(x + px(9), y + px(1), mark, (255, 255, 255, 255), 0.5)

    def _clicked(self) -> None:
        pointer, origin = dpg.get_mouse_pos(local=False), dpg.get_item_rect_min(self._canvas)
        x, y = pointer[0] - origin[0], pointer[1] - origin[1]
        for number, look in enumerate(self._looks):
            left, top, width, height = self.place(number)
            if left <= x < left + width and top <= y < top + height + self._px(NAME_HEIGHT):
                self._chosen(look)
                return


def _shows(camera: Camera, state: ViewerState) -> bool:
    """Whether a picture of that camera shows the pose of the state."""
    return state.pose.camera(camera.width, camera.height) == camera


def _shortened(pen: Pen, words: str, width: float) -> str:
    """Returns a text that fits into a width, with an ellipsis where it was cut."""
    if pen.text_width(words) <= width:
        return words
    while words and pen.text_width(words + "…") > width:
        words = words[:-1]
    return words.rstrip() + "…"
