"""What the map of blocks draws, one layer for each thing that changes by itself, and its legend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import dearpygui.dearpygui as dpg
import numpy as np

from ...core.edits.region import Region
from ..block_map import NUMBER, Kind, palette_of, picture
from ..handles import prisms_of, target_of
from ..plan import Plan, block_footprint, footprint_of_view
from ..state import SceneFacts, ViewerState
from ..theme import HALO, HUD_ACCENT, HUD_BAD, HUD_MUTED, HUD_OK, HUD_PLATE, HUD_TEXT, HUD_WARN, NONE, Rgba
from ..units import Units, figures, nice_length
from ..widgets import Pen, Widgets
from .panel import Host

SHADE, DARK_SHADE = (12, 15, 18, 70), (12, 15, 18, 140)  # over the picture of the ground
INK: Rgba = (255, 255, 255, 255)
LEGEND_ROW = 20  # logical pixels
TIP_WIDTH = 240  # logical pixels of a tooltip at most
LAYERS = ("ground", "blocks", "marks", "edits", "view", "frame", "tip")

_accent, _ok, _warn, _bad = (color[:3] for color in (HUD_ACCENT, HUD_OK, HUD_WARN, HUD_BAD))
PALETTE = palette_of(  # fill and edge; they lie on imagery, so they are the same in both themes
    {
        Kind.EXACT: ((*_accent, 130), (*_accent, 240)),
        Kind.HOST: ((*_accent, 74), (*_accent, 150)),
        Kind.COARSE: ((*_accent, 36), (*_accent, 90)),
        Kind.LOADING: ((*_warn, 124), (*_warn, 230)),
        Kind.DISK: (NONE, (*INK[:3], 46)),
        Kind.FAILED: ((*_bad, 124), (*_bad, 230)),
        Kind.EDITED: ((*_ok, 130), (*_ok, 240)),
        Kind.TUNED: ((*_ok, 60), (*_ok, 150)),
        Kind.IN_VIEW: ((*_accent, 64), (*_accent, 230)),
        Kind.IN_MEMORY: ((*_accent, 24), (*_accent, 120)),
        Kind.MISSING: (NONE, (*HUD_MUTED[:3], 70)),
    }
)


class BlockCanvas:
    """The plan map and its legend."""

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self.look = widgets.look
        self._widgets, self._host = widgets, host
        self.plan = Plan(0.0, 0.0, 1.0, 1, 1)
        self.whole = self.plan  # what shows all blocks

    def build(self) -> None:
        """Makes the two drawlists."""
        self.item = self._drawlist()
        self._legend = self._drawlist()
        self._layers = {name: dpg.add_draw_layer(parent=self.item) for name in LAYERS}

    def fit(self, scene: SceneFacts, width: int) -> None:
        """Shows all blocks in a width in pixels."""
        self.plan = self.whole = Plan.fit(scene, width)
        dpg.configure_item(self.item, width=width, height=self.plan.height)

    @property
    def cursor(self) -> tuple[float, float]:
        """Place of the pointer in pixels of the plan."""
        pointer, origin = dpg.get_mouse_pos(local=False), dpg.get_item_rect_min(self.item)
        return pointer[0] - origin[0], pointer[1] - origin[1]

    def draw_ground(self, is_dark: bool) -> None:
        """Draws the scene from above, as far as the plan shows it; darker where many colours lie over it."""
        plan, whole = self.plan, self.whole
        pen = self._pen("ground")
        pen.plate(0, 0, plan.width, plan.height, self.look.color("plot"), 4)
        texture, (right, bottom) = self._host.plan_picture()
        corners = [whole.to_plan(*plan.to_scene(*at)) for at in ((0, 0), (plan.width, plan.height))]
        low, high = ((x / whole.width * right, y / whole.height * bottom) for x, y in corners)
        pen.picture(texture, plan.width, plan.height, high, low)
        pen.plate(0, 0, plan.width, plan.height, DARK_SHADE if is_dark else SHADE, 0)

    def draw_blocks(self, scene: SceneFacts, kinds: np.ndarray) -> None:
        """Draws all blocks as one picture."""
        pen = self._pen("blocks")
        image = picture(kinds, scene, self.plan, PALETTE, max(1, self.look.px(1)))
        texture, uv_max = self._host.map_picture(image)
        pen.picture(texture, self.plan.width, self.plan.height, uv_max)

    def draw_marks(self, scene: SceneFacts, selected: int | None, pinned: Iterable[int]) -> None:
        """Marks pinned blocks by a dot in the corner, and the selected one by a frame."""
        pen, px = self._pen("marks"), self.look.px
        for block in pinned:
            left, top, right, bottom = self._box(scene, block)
            size = min(px(3), (right - left) / 4)
            if right > 0 and left < self.plan.width and bottom > 0 and top < self.plan.height:
                pen.circle((right - 2 * size, top + 2 * size), size, fill=INK, color=HUD_PLATE)
        if selected is not None:
            left, top, right, bottom = self._box(scene, selected)
            thick = {"thickness": 2 * self.look.scale, "rounding": px(2)}
            pen.frame(left, top, right - left, bottom - top, INK, **thick)

    def draw_edits(self, state: ViewerState, band: tuple[float, float, float, float] | None) -> None:
        """Draws the outlines of layers, selection and what is being drawn."""
        plan, pen, target = self.plan, self._pen("edits"), target_of(state)
        prisms = [prism for layer in state.edits for prism in prisms_of(layer, state.unit_ratios)]
        lines = [(prism.region, (*INK[:3], 150)) for prism in prisms]
        if target is not None:
            lines.append((target.outline.region, HUD_ACCENT))
        if band is not None:
            lines.append((Region.rectangle(*plan.to_scene(*band[:2]), *plan.to_scene(*band[2:])), HUD_ACCENT))
        for region, color in lines:
            for rings in region.polygons:
                outline = [plan.to_plan(*point) for point in rings[0]]
                pen.polyline(outline, HALO, 3, closed=True)
                pen.polyline(outline, color, 1.5, closed=True)
        corners = [plan.to_plan(x, y) for x, y, _ in state.draft]
        if len(corners) > 1:
            pen.polyline(corners, HUD_ACCENT, 1.5)
        for corner in corners:
            pen.circle(corner, self.look.px(3), fill=INK)

    def draw_view(
        self, scene: SceneFacts, state: ViewerState, aspect: float, ahead: Sequence[tuple[float, float]]
    ) -> None:
        """Draws what the camera sees of the ground, and the places where it will be or is expected soon."""
        plan, px = self.plan, self.look.px
        pen = self._pen("view")
        outline = [plan.to_plan(*point) for point in footprint_of_view(scene, state.pose, aspect)]
        eye = plan.to_plan(*state.pose.eye[:2])
        pen.polygon(outline, (*INK[:3], 22))
        pen.polyline(outline, (*INK[:3], 220), 1.5, closed=True)
        for corner in outline[2:]:
            pen.line(eye, corner, (*INK[:3], 130))
        mark = _kept_inside(plan, eye, px(9))
        way = [plan.to_plan(*place) for place in ahead]
        if way and np.hypot(way[-1][0] - eye[0], way[-1][1] - eye[1]) > px(7):
            pen.polyline([mark, *way], HALO, 4)
            pen.polyline([mark, *way], HUD_ACCENT, 2)
            pen.circle(way[-1], px(4), fill=HUD_ACCENT, color=HUD_PLATE)
        pen.circle(mark, px(7), fill=INK, color=HUD_PLATE)
        pen.circle(mark, px(3), fill=self.look.color("accent_deep"))

    def draw_frame(self, scene: SceneFacts) -> None:
        """Draws the sign for north and the scale."""
        plan, px = self.plan, self.look.px
        pen = self._pen("frame")
        right, bottom = plan.width, plan.height
        pen.plate(right - px(30), bottom - px(34), px(24), px(28), HUD_PLATE)
        tip = (
            (right - px(18), bottom - px(31)),
            (right - px(22), bottom - px(25)),
            (right - px(14), bottom - px(25)),
        )
        pen.polygon(tip, HUD_TEXT)
        pen.text(right - px(18), bottom - px(23), "N", HUD_TEXT, 0.5)
        units = Units.of(scene)
        per_shown = plan.per_unit / units.factor
        length = nice_length(0.35 * plan.width / per_shown)
        width = length * per_shown
        pen.plate(px(6), bottom - px(34), width + px(16), px(28), HUD_PLATE)
        pen.line((px(14), bottom - px(12)), (px(14) + width, bottom - px(12)), HUD_TEXT, 2)
        words = units.with_symbol(
            figures(length).rstrip("0").rstrip(".") if length < 1000 else figures(length)
        )
        pen.text(px(14) + width / 2, bottom - px(31), words, HUD_TEXT, 0.5)

    def draw_tip(self, lines: Sequence[str], at: tuple[float, float]) -> None:
        """Draws a plate with words beside the pointer; no words, no plate."""
        pen, px = self._pen("tip"), self.look.px
        room = min(px(TIP_WIDTH), self.plan.width - px(8)) - px(16)
        rows = [row for line in lines for row in wrapped(line, lambda words: pen.text_width(words) <= room)]
        if not rows:
            return
        height = px(18) * len(rows) + px(8)
        width = max(pen.text_width(row) for row in rows) + px(16)
        x = min(max(at[0] + px(14), px(4)), self.plan.width - width - px(4))
        y = at[1] + px(18) if at[1] + px(18) + height < self.plan.height else at[1] - height - px(8)
        pen.plate(x, max(y, px(4)), width, height, HUD_PLATE)
        for number, row in enumerate(rows):
            place = max(y, px(4)) + px(4) + number * px(18)
            pen.text(x + px(8), place, row, HUD_TEXT if number == 0 else HUD_MUTED)

    def draw_legend(self, entries: Sequence[tuple[Kind, int]], n_pinned: int) -> None:
        """Draws the colours, what they stand for and how many there are of each."""
        pen, px = Pen(self._widgets, self._legend), self.look.px
        pen.clear()
        palette = PALETTE.tolist()
        half = self.plan.width / 2
        panel = self.look.color("panel")
        rows: list[tuple[str, int, list[list[int]] | None]] = [
            (kind.value, count, palette[NUMBER[kind]]) for kind, count in entries
        ]
        rows += [("Pinned", n_pinned, None)] if n_pinned else []
        height = px(LEGEND_ROW) * -(-len(rows) // 2) + px(4)
        dpg.configure_item(self._legend, width=self.plan.width, height=height)
        for index, (name, count, colors) in enumerate(rows):
            x, y = (index % 2) * half, (index // 2) * px(LEGEND_ROW) + px(4)
            if colors is None:
                pen.circle((x + px(6), y + px(7)), px(3), fill=self.look.color("text"))
            else:
                fill, edge = colors
                edge = edge if edge[:3] != [255, 255, 255] else self.look.color("faint")
                pen.frame(x, y + px(1), px(12), px(12), _over(panel, edge), fill=tuple(fill), rounding=px(2))
            pen.text(x + px(18), y, name, self.look.color("muted"))
            words = f"{count:,}".replace(",", " ")
            pen.text(x + half - px(16 if index % 2 == 0 else 0), y, words, self.look.color("text"), 1)

    def _box(self, scene: SceneFacts, block: int) -> tuple[float, float, float, float]:
        x0, y0, x1, y1 = block_footprint(scene, block)
        return (*self.plan.to_plan(x0, y1), *self.plan.to_plan(x1, y0))

    def _drawlist(self) -> int:
        return self._widgets.styled(dpg.add_drawlist(16, 16), None, "small")

    def _pen(self, layer: str) -> Pen:
        pen = Pen(self._widgets, self._layers[layer])
        pen.clear()
        return pen


def wrapped(sentence: str, fits: Callable[[str], bool]) -> list[str]:
    """Breaks a sentence into lines that fit, between words where that is possible."""
    lines = [""]
    for word in sentence.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if not lines[-1] or fits(longer):
            lines[-1] = longer
        else:
            lines.append(word)
        while len(lines[-1]) > 1 and not fits(lines[-1]):
            part = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or fits(lines[-1][:n]))
            lines[-1:] = [lines[-1][:part], lines[-1][part:]]
    return lines


def _over(below: Rgba, color: Sequence[int]) -> Rgba:
    """Returns a colour that covers another one at least half."""
    share = max(color[3], 128) / 255
    red, green, blue = (round(b + share * (c - b)) for b, c in zip(below[:3], color[:3], strict=True))
    return red, green, blue, 255


def _kept_inside(plan: Plan, point: tuple[float, float], inset: float) -> tuple[float, float]:
    """Returns the place of the camera on the plan, at its edge where the camera is beyond it."""
    return (
        min(max(point[0], inset), plan.width - inset),
        min(max(point[1], inset), plan.height - inset),
    )
