"""The pieces that panels are made of: rows, sections, sliders, toggles, notes, in the look of the window."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dearpygui.dearpygui as dpg

from .theme import NONE, Look, Rgba, icon

LABEL_WIDTH, ROW_HEIGHT, VALUE_WIDTH, BUTTON_HEIGHT = 104, 24, 72, 28  # logical pixels
TOOLTIP_DELAY = 0.4  # seconds


@dataclass
class Slider:
    """A slider with its value beside it: printed inside, the grab would cover it."""

    item: int
    readout: int
    form: Callable[[float], str]

    def show(self, value: float, words: str | None = None) -> None:
        """Sets slider and text, the slider only unless the user holds it."""
        if not dpg.is_item_active(self.item):
            dpg.set_value(self.item, value)
        if (words := self.form(value) if words is None else words) != dpg.get_item_label(self.readout):
            dpg.set_item_label(self.readout, words)


@dataclass
class Choice:
    """Buttons of which one is pressed."""

    look: Look
    items: dict[Hashable, int]
    on: str = "on"
    off: str = "off"
    chosen: Hashable = field(default_factory=object)

    def show(self, value: Hashable) -> None:
        """Marks the button of a value; a value without a button marks none."""
        if value == self.chosen:
            return
        self.chosen = value
        for option, item in self.items.items():
            dpg.bind_item_theme(item, self.look.themes[self.on if option == value else self.off])


class Widgets:
    """Makes widgets in one look, and knows which of them take the keyboard."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._inputs: list[int] = []
        self._popups: list[int] = []
        self._widths: dict[tuple[str, str], float] = {}

    @property
    def is_typing(self) -> bool:
        """Whether an input holds the keyboard."""
        return any(dpg.is_item_active(item) for item in self._inputs)

    def takes_keys(self, item: int, completed: Callable[[], None] | None = None) -> int:
        """Registers an input whose typing must not reach the viewport; `completed` once a change is."""
        self._inputs.append(item)
        # ImGui takes in some queued keys one a frame: a callback per edit makes the main loop draw the next.
        with dpg.item_handler_registry() as handlers:
            dpg.add_item_edited_handler(callback=lambda: None)
            if completed is not None:
                dpg.add_item_deactivated_after_edit_handler(callback=lambda: completed())
        dpg.bind_item_handler_registry(item, handlers)
        return item

    @contextmanager
    def popup(self) -> Iterator[int]:
        """Makes a menu that is shown at a place of its own, hidden at first; a click beside it closes it."""
        options = {"popup": True, "show": False, "no_move": True}
        with dpg.window(min_size=(self.look.px(160), self.look.px(16)), **options) as menu:
            yield menu
        self._popups.append(menu)

    def close_popups(self) -> bool:
        """Closes the menu that is shown; False where none is."""
        shown = [menu for menu in self._popups if dpg.is_item_shown(menu)]
        for menu in shown:
            dpg.configure_item(menu, show=False)
        return bool(shown)

    def styled(
        self, item: int, theme: str | None = None, font: str | None = None, hint: str | None = None
    ) -> int:
        """Binds theme, font and tooltip to an item."""
        if theme:
            dpg.bind_item_theme(item, self.look.themes[theme])
        if font and font in self.look.fonts:
            dpg.bind_item_font(item, self.look.fonts[font])
        if hint:
            with dpg.tooltip(item, delay=TOOLTIP_DELAY) as tip:
                dpg.bind_item_theme(tip, self.look.themes["tip"])
                dpg.add_text(hint)
        return item

    def text(
        self, words: str, theme: str | None = None, font: str | None = None, wrap: int = 0, **options: Any
    ) -> int:
        """Adds flowing text, wrapped at the edge of the panel."""
        return self.styled(dpg.add_text(words, wrap=wrap, **options), theme, font)

    def label(
        self,
        words: str,
        width: float = LABEL_WIDTH,
        theme: str = "label",
        hint: str | None = None,
        font: str | None = None,
        height: float = ROW_HEIGHT,
    ) -> int:
        """Adds a text as high as a field: a flat button, as ImGui does not align plain text with fields."""
        item = dpg.add_button(label=words, width=self.look.px(width), height=self.look.px(height))
        return self.styled(item, theme, font, hint)

    def icon(
        self, name: str, hint: str, action: Callable[[], None], theme: str = "icon", size: float = ROW_HEIGHT
    ) -> int:
        """Adds a square button with an icon."""
        side = self.look.px(size)
        item = dpg.add_button(label=icon(name), width=side, height=side, callback=lambda: action())
        return self.styled(item, theme, None, hint)

    def button(
        self,
        words: str,
        action: Callable[[], None],
        theme: str | None = None,
        hint: str | None = None,
        width: float = 0,
        height: float = BUTTON_HEIGHT,
        **options: Any,
    ) -> int:
        """Adds a text button; a negative width reaches to the right edge."""
        sides = {"width": self.look.px(width), "height": self.look.px(height)}
        item = dpg.add_button(label=words, callback=lambda: action(), **sides, **options)
        return self.styled(item, theme, None, hint)

    def rule(self) -> None:
        """Adds a thin line between sections."""
        dpg.add_spacer(height=self.look.px(2))
        dpg.add_separator()
        dpg.add_spacer(height=0)

    @contextmanager
    def section(self, title: str, opened: bool = True) -> Iterator[int]:
        """Adds a block that folds: a button shows a group; a header would hand its font to its children."""

        def toggle(sender: int) -> None:
            shown = not dpg.is_item_shown(group)
            dpg.configure_item(group, show=shown)
            dpg.set_item_label(sender, icon("chevron-down" if shown else "chevron-right", title))

        head = dpg.add_button(
            label=icon("chevron-down" if opened else "chevron-right", title),
            width=-1,
            height=self.look.px(ROW_HEIGHT),
            callback=toggle,
        )
        self.styled(head, "value", "strong")
        with dpg.group(show=opened) as group:
            yield group
        self.rule()

    @contextmanager
    def row(self, name: str, hint: str | None = None, width: float = LABEL_WIDTH) -> Iterator[int]:
        """Adds a muted label; what is added inside goes to its right."""
        with dpg.group(horizontal=True, horizontal_spacing=self.look.px(8)) as group:
            self.label(name, width, hint=hint)
            yield group

    def fact(self, name: str, width: float = LABEL_WIDTH, hint: str | None = None) -> int:
        """Adds a label with a value to be set later, and returns the value's item."""
        with self.row(name, hint, width):
            return self.label("", -1, "value")

    def note(self, title: str, body: str) -> int:
        """Adds an empty state: what would be here, and how to get it."""
        with dpg.group() as group:
            self.text(title, font="strong")
            self.text(body, "muted")
        return group

    def even(self, columns: int, add: Sequence[Callable[[], Any]], theme: str = "even") -> int:
        """Places things in equal columns: a borderless table, as there is no row that stretches."""
        with dpg.table(header_row=False, policy=dpg.mvTable_SizingStretchSame, no_pad_outerX=True) as table:
            self.styled(table, theme)
            for _ in range(columns):
                dpg.add_table_column()
            for first in range(0, len(add), columns):
                with dpg.table_row():
                    for one in add[first : first + columns]:
                        one()
        return table

    def segmented(
        self,
        options: Sequence[tuple[Hashable, str, str]],
        chosen: Callable[[Any], None],
        columns: int | None = None,
    ) -> Choice:
        """Adds buttons of which one is pressed; options are (value, text, hint)."""
        choice = Choice(self.look, {})

        def add(value: Hashable, words: str, hint: str) -> None:
            item = self.button(words, lambda: chosen(value), "off", hint or None, -1, ROW_HEIGHT)
            choice.items[value] = item

        cells = [lambda option=option: add(*option) for option in options]
        self.even(columns or len(options), cells, "grid" if columns else "even")
        return choice

    def choice(self, items: dict[Hashable, int], on: str = "on", off: str = "off") -> Choice:
        """Returns the choice between buttons that are already there."""
        return Choice(self.look, items, on, off)

    def slider(
        self, low: float, high: float, form: Callable[[float], str], changed: Callable[[float], None]
    ) -> Slider:
        """Adds a slider with its value at the right."""

        def moved(_sender: int, value: float) -> None:
            dpg.set_item_label(readout, form(value))
            changed(value)

        item = dpg.add_slider_float(
            min_value=low,
            max_value=high,
            format="",
            width=-self.look.px(VALUE_WIDTH),
            callback=moved,
            no_input=True,
        )
        readout = self.label("", -1, "right_value")
        return Slider(item, readout, form)

    def drag(self, form: str, changed: Callable[[float], None], width: float = -1, **options: Any) -> int:
        """Adds a number that is dragged or, after a double click, typed."""
        item = dpg.add_drag_double(
            format=form, width=self.look.px(width), callback=lambda _sender, value: changed(value), **options
        )
        return self.takes_keys(item)

    def set_number(self, item: int, value: float) -> None:
        """Sets a number unless the user is changing it."""
        if not dpg.is_item_active(item):
            dpg.set_value(item, value)

    def text_width(self, words: str, font: str = "body") -> float:
        """Returns the width of a text in pixels, at its font's own height; right from the second frame on."""
        key = (words, font)
        if key not in self._widths:
            size = dpg.get_text_size(words, font=self.look.fonts.get(font, 0))
            if not size or size[0] <= 0:
                return 0.5 * self.look.font_height(font) * len(words)
            self._widths[key] = float(size[0])
        return self._widths[key]

    def text_height(self, words: str, wrap: int) -> int:
        """Returns the height in pixels of a flowing text that is wrapped at a width in pixels."""
        size = dpg.get_text_size(words, wrap_width=wrap, font=self.look.fonts.get("body", 0))
        return round(size[1]) if size else self.look.font_height("body")

    def shortened(self, words: str, width: float, font: str = "body") -> str:
        """Returns the words, or as many of their letters as fit a width in pixels, with an ellipsis."""
        if self.text_width(words, font) <= width:
            return words
        fitting = (words[:count].rstrip() + "…" for count in range(len(words) - 1, 0, -1))
        return next((text for text in fitting if self.text_width(text, font) <= width), "…")


class Pen:
    """Draws on one layer of a drawlist, in pixels from its top left corner."""

    def __init__(self, widgets: Widgets, parent: int, font: str = "small") -> None:
        self.look = widgets.look
        self._widgets = widgets
        self._parent = parent
        self._font = font  # a drawlist has one font

    def clear(self) -> None:
        """Removes everything drawn."""
        dpg.delete_item(self._parent, children_only=True)

    def plate(self, x: float, y: float, width: float, height: float, fill: Rgba, rounding: float = 6) -> None:
        """Draws a filled, rounded rectangle."""
        corner = self.look.px(rounding)
        dpg.draw_rectangle(
            (x, y), (x + width, y + height), color=NONE, fill=fill, rounding=corner, parent=self._parent
        )

    def picture(
        self,
        texture: int,
        width: float,
        height: float,
        uv_max: tuple[float, float],
        uv_min: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Draws a texture, or a part of it, from the top left corner on."""
        dpg.draw_image(texture, (0, 0), (width, height), uv_min=uv_min, uv_max=uv_max, parent=self._parent)

    def frame(self, x: float, y: float, width: float, height: float, color: Rgba, **options: Any) -> None:
        """Draws a rectangle."""
        dpg.draw_rectangle((x, y), (x + width, y + height), color=color, parent=self._parent, **options)

    def text(
        self, x: float, y: float, words: str, color: Rgba, align: float = 0.0, role: str | None = None
    ) -> None:
        """Draws text; `align` is the share of its width that lies left of x, `role` gives its height."""
        height = self.look.font_height(role or self._font)
        width = self.text_width(words, role)
        place = (round(x - align * width), round(y))
        dpg.draw_text(place, words, color=color, size=height, parent=self._parent)

    def text_width(self, words: str, role: str | None = None) -> float:
        """Returns the width that `text` would take, pixels."""
        at_own_height = self._widgets.text_width(words, self._font)
        return at_own_height * self.look.font_height(role or self._font) / self.look.font_height(self._font)

    def line(
        self, start: tuple[float, float], end: tuple[float, float], color: Rgba, thickness: float = 1
    ) -> None:
        """Draws a line; `thickness` is in logical pixels."""
        width = max(1.0, thickness * self.look.scale)
        dpg.draw_line(start, end, color=color, thickness=width, parent=self._parent)

    def polyline(
        self, points: Sequence[tuple[float, float]], color: Rgba, thickness: float = 1, closed: bool = False
    ) -> None:
        """Draws connected lines; `thickness` is in logical pixels."""
        corners = [*points, points[0]] if closed else list(points)
        width = max(1.0, thickness * self.look.scale)
        dpg.draw_polyline(corners, color=color, thickness=width, parent=self._parent)

    def circle(
        self, center: tuple[float, float], radius: float, fill: Rgba = NONE, color: Rgba = NONE
    ) -> None:
        """Draws a disc or, with a colour, a ring; `radius` is in pixels."""
        dpg.draw_circle(center, radius, color=color, fill=fill, parent=self._parent)

    def polygon(self, points: Sequence[tuple[float, float]], fill: Rgba) -> None:
        """Fills a triangle or a convex quadrangle: Dear PyGui fills other polygons row by row, at length."""
        draw = dpg.draw_triangle if len(points) == 3 else dpg.draw_quad
        draw(*points, color=NONE, fill=fill, parent=self._parent)


def right_spacer(widgets: Widgets, taken: float) -> Callable[[float], None]:
    """Adds a spacer that pushes what follows to the right; the result is called with the width of the panel.

    Args:
        widgets: Where to add it.
        taken: Logical pixels of everything else on the line, spacings included.
    """
    spacer = dpg.add_spacer(width=1)

    def fit(width: float) -> None:
        wanted = max(1, int(width) - widgets.look.px(taken))
        if dpg.get_item_width(spacer) != wanted:
            dpg.configure_item(spacer, width=wanted)

    return fit
