"""A map of the appearance table: similar looks lie close together, and any place on it can be shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import dearpygui.dearpygui as dpg

from ...core.appearance import Appearance
from ..commands import SetAppearance
from ..state import ViewerState
from ..widgets import Pen, Widgets
from .looks import Look
from .panel import Host, Submit

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.appearance_map import AppearanceMap

STYLES, TABLE = "styles", "table"
FEWEST_STYLES = 3  # that span a plane
MOST_DOTS = 500  # rows that are drawn
HEIGHT, DOT, MARK, REACH = 168, 2, 5, 8  # logical pixels


class MapView:
    """The table along its principal components: a click on a mark takes it, elsewhere what lies there."""

    def __init__(
        self, widgets: Widgets, host: Host, submit: Submit, table: Callable[[], Tensor | None]
    ) -> None:
        """`table` returns the appearance table of the open scene."""
        self._widgets, self._host, self._submit, self._table = widgets, host, submit, table
        self._px = widgets.look.px
        self._maps: dict[str, AppearanceMap] = {}
        self._kind = TABLE
        self._scene: object = None
        self._state: ViewerState | None = None
        self._looks: tuple[Look, ...] = ()
        self._width = 0
        self._drawn: object = None

    def build(self) -> None:
        """Makes the choice of what the map is of, the canvas, and the line about the nearest codes."""
        ui = self._widgets
        options = (
            (STYLES, "Named styles", "The plane through the styles of the scene file"),
            (TABLE, "Whole table", "The plane in which all rows of the table differ most"),
        )
        with dpg.group() as self._choice_row:
            self._choice = ui.segmented(options, self._choose)
            dpg.add_spacer(height=self._px(2))
        self._canvas = ui.styled(dpg.add_drawlist(16, 16), None, "small")
        self._ground = dpg.add_draw_layer(parent=self._canvas)
        self._marks = dpg.add_draw_layer(parent=self._canvas)
        with dpg.item_handler_registry() as handlers:
            dpg.add_item_clicked_handler(dpg.mvMouseButton_Left, callback=self._clicked)
        dpg.bind_item_handler_registry(self._canvas, handlers)
        self._line = ui.label("", -1, "label", "The rows of the table that are most like what is shown")

    def show(self, state: ViewerState, looks: tuple[Look, ...], width: int) -> None:
        """Redraws what changed. width: of the panel, pixels"""
        self._state, self._looks = state, looks
        if state.scene is not self._scene:
            self._adopt(state)
        now = (state.scene, looks, state.appearance, width, self._kind, self._widgets.look.light)
        if now == self._drawn or width < 32:
            return
        if self._drawn is None or width != self._width:
            dpg.configure_item(self._canvas, width=width, height=self._px(HEIGHT))
        self._drawn, self._width = now, width
        found = self._map()
        if found is not None:
            self._draw(found, state)

    def restyle(self) -> None:
        """Draws everything anew."""
        self._drawn = None

    def _adopt(self, state: ViewerState) -> None:
        self._scene, self._drawn = state.scene, None
        self._maps.clear()
        styles = state.scene.styles if state.scene else ()
        codes = {code for _, style in styles if (code := style.code) is not None}
        self._codes = tuple(sorted(codes))
        has_choice = len(codes) >= FEWEST_STYLES
        self._kind = STYLES if has_choice else TABLE
        dpg.configure_item(self._choice_row, show=has_choice)
        self._choice.show(self._kind)

    def _choose(self, kind: str) -> None:
        self._kind = kind
        self._choice.show(kind)

    def _map(self) -> AppearanceMap | None:
        """Returns the map that is shown, made on first use."""
        if self._kind not in self._maps:
            table = self._table()
            if table is None:
                return None
            from ...core.appearance_map import AppearanceMap

            codes = self._codes if self._kind == STYLES else ()
            self._maps[self._kind] = AppearanceMap.of(table, codes)
        return self._maps[self._kind]

    def _draw(self, found: AppearanceMap, state: ViewerState) -> None:
        look, px = self._widgets.look, self._px
        pen = Pen(self._widgets, self._ground)
        pen.clear()
        width, height = self._width, px(HEIGHT)
        pen.plate(0, 0, width, height, look.color("plot"), 4)
        pen.line((width / 2, 0), (width / 2, height), look.color("line"))
        pen.line((0, height / 2), (width, height / 2), look.color("line"))
        rows = found.table[:: -(-len(found.table) // MOST_DOTS)]
        if self._kind == TABLE:
            for x, y in found.place(rows):
                if max(abs(x), abs(y)) <= 1:
                    pen.circle(self._to_canvas(x, y), px(DOT), fill=look.color("muted", 130))
        pen = Pen(self._widgets, self._marks)
        pen.clear()
        for one, place in self._placed(found):
            pen.circle(place, px(MARK), fill=look.color("accent"))
            words = pen.text_width(one.name)
            left = place[0] + px(MARK + 4) if place[0] + px(MARK + 8) + words < width else None
            at = left if left is not None else place[0] - px(MARK + 4) - words
            pen.text(at, min(max(place[1] - px(8), 0), height - px(17)), one.name, look.color("text"))
        self._draw_present(found, state, pen)

    def _draw_present(self, found: AppearanceMap, state: ViewerState, pen: Pen) -> None:
        """Marks what is shown, and names the rows next to it."""
        look, px = self._widgets.look, self._px
        embedding = state.appearance.embedding(found.table)
        if embedding is None:
            return
        (x, y), *_ = found.place(embedding[None])
        at = self._to_canvas(min(max(x, -1), 1), min(max(y, -1), 1))
        pen.circle(at, px(MARK + 3), color=look.color("text"))
        names = {one.appearance.code: one.name for one in self._looks if one.appearance.code is not None}
        nearest = (names.get(code, f"code {code}") for code, _ in found.nearest(embedding))
        dpg.set_item_label(self._line, f"Nearest: {', '.join(nearest)}")

    def _placed(self, found: AppearanceMap) -> list[tuple[Look, tuple[float, float]]]:
        """Returns the looks that lie on the map, and where."""
        placed = []
        for one in self._looks:
            embedding = one.appearance.embedding(found.table)
            if embedding is not None:
                (x, y), *_ = found.place(embedding[None])
                if max(abs(x), abs(y)) <= 1:
                    placed.append((one, self._to_canvas(x, y)))
        return placed

    def _to_canvas(self, x: float, y: float) -> tuple[float, float]:
        width, height = self._width, self._px(HEIGHT)
        return (1 + float(x)) / 2 * width, (1 - float(y)) / 2 * height

    def _clicked(self) -> None:
        pointer, origin = dpg.get_mouse_pos(local=False), dpg.get_item_rect_min(self._canvas)
        self.pick(pointer[0] - origin[0], pointer[1] - origin[1])

    def pick(self, column: float, row: float) -> None:
        """Shows what lies at a place of the canvas, pixels from its upper left corner."""
        found, state = self._map(), self._state
        if found is None or state is None or not self._width:
            return

        def distance(place: tuple[float, float]) -> float:
            return float((place[0] - column) ** 2 + (place[1] - row) ** 2) ** 0.5

        near = [(distance(place), one) for one, place in self._placed(found)]
        closest = min(near, key=lambda item: item[0], default=None)
        if closest is not None and closest[0] <= self._px(REACH):
            appearance = closest[1].appearance
        else:
            x, y = 2 * column / self._width - 1, 1 - 2 * row / self._px(HEIGHT)
            appearance = Appearance(latent=tuple(found.embedding(x, y).tolist()))
            appearance = replace(appearance, grade=state.appearance.grade)
        self._submit(SetAppearance(appearance, undo="Pick on the map"))
