"""The form that inserts a building from another scene: where it stands there, in that scene's units."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dearpygui.dearpygui as dpg

from ...core.edits.layers import Prism
from ...core.edits.region import Region
from ..commands import ShowMessage
from ..handles import Copied
from ..jobs import Progress
from ..state import ViewerState
from ..theme import icon
from ..widgets import Widgets
from .panel import Host, Submit

HALF = 104  # logical pixels of the first of two fields
Box = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Source:
    """Another scene, as far as the form must know it."""

    path: Path
    box: Box  # in its own units
    metres_per_unit: float | None


def read_source(path: Path) -> Source:
    """Reads how large another scene is.

    Raises:
        InputError: Something in its files cannot be used.
    """
    from ...scenes.load import open_scene

    scene = open_scene(path)
    low, high = (tuple(float(v) for v in corner) for corner in scene.model.aabb)
    return Source(path.expanduser().absolute(), (low, high), scene.spec.frame.metres_per_unit)


class InsertForm:
    """Shown from the choice of a file until the building is inserted."""

    def __init__(self, widgets: Widgets, host: Host, submit: Submit) -> None:
        self.widgets, self._host, self._submit = widgets, host, submit
        self._state = ViewerState()
        self._source: Source | None = None

    def build(self) -> None:
        """Makes the form, hidden."""
        ui = self.widgets
        with dpg.group(show=False) as self._group, ui.section("Insert a building"):
            self._from = ui.fact("From")
            self._unit = ui.fact("Its units", hint="The numbers below are in the units of that scene")
            with ui.row("West, south", "Lower corner of the rectangle that holds the building"):
                self._low = [ui.takes_keys(_number(ui, HALF)), ui.takes_keys(_number(ui, -1))]
            with ui.row("East, north", "Upper corner"):
                self._high = [ui.takes_keys(_number(ui, HALF)), ui.takes_keys(_number(ui, -1))]
            with ui.row("Ground, roof", "What is below the ground is not inserted"):
                self._heights = [ui.takes_keys(_number(ui, HALF)), ui.takes_keys(_number(ui, -1))]
            ui.even(
                2,
                [
                    lambda: ui.button(icon("check", "Insert"), self._insert, "primary", None, -1),
                    lambda: ui.button("Cancel", self._close, None, None, -1),
                ],
                "grid",
            )

    def show(self, state: ViewerState) -> None:
        """Remembers the state; another scene closes the form."""
        if self._source is not None and state.scene is None:
            self._close()
        self._state = state

    def start(self, path: Path) -> None:
        """Reads another scene in the background, then shows the form."""

        def read(_: Progress) -> Source:
            return read_source(path)

        def failed(sentence: str) -> None:
            self._submit(ShowMessage(sentence, "error"))

        if not self._host.session.jobs.start(f"Reading {path.name}", read, self._adopt, failed):
            self._submit(ShowMessage("Something else is being worked on; wait or cancel it", "warn"))

    def _adopt(self, source: Source) -> None:
        self._source = source
        dpg.set_item_label(self._from, source.path.name)
        metres = source.metres_per_unit
        dpg.set_item_label(self._unit, f"1 unit = {metres:g} m" if metres else "Not known in metres")
        (x0, y0, z0), (x1, y1, z1) = source.box
        numbers = (*self._low, *self._high, *self._heights)
        for item, value in zip(numbers, (x0, y0, x1, y1, z0, z1), strict=True):
            dpg.set_value(item, value)
        dpg.configure_item(self._group, show=True)

    def _close(self) -> None:
        self._source = None
        dpg.configure_item(self._group, show=False)

    def _insert(self) -> None:
        source = self._source
        if source is None:
            return
        (x0, y0), (x1, y1), (low, high) = (
            [float(dpg.get_value(item)) for item in pair] for pair in (self._low, self._high, self._heights)
        )
        if x0 == x1 or y0 == y1 or not low < high:
            self._submit(ShowMessage("The building needs an area, and a roof above its ground", "warn"))
            return
        x, y, _ = (float(v) for v in self._state.pose.pivot)
        prism = Prism(Region.rectangle(x0, y0, x1, y1), low, high)
        self._host.tools.insert(Copied(prism, source.path), (x, y), self._state)
        self._close()


def _number(ui: Widgets, width: float) -> int:
    return dpg.add_input_double(width=ui.look.px(width), step=0, format="%.4g")
