"""The Scene panel: what is open, what was assumed of it, and what was open before."""

from __future__ import annotations

from pathlib import Path

import dearpygui.dearpygui as dpg

from ...core.streaming.contracts import StreamStatus
from ..state import SceneFacts, ViewerState
from ..stream_text import resident_text
from ..theme import icon
from ..units import Units, bytes_text, figures, grouped
from .panel import DockedPanel, Submit

LABEL = 80  # logical pixels
MANY = 1000  # blocks, from which on there is no room for the size of one
ROWS = {
    "File": "Where the scene was opened from",
    "Field": "Bytes of the planes and lines as loaded, and their number format",
    "Blocks": "How many, columns × rows, and the size of one",
    "In memory": "What there is of the blocks where rendering happens",
    "Bounds": "East × north × height",
    "Grid": "Levels of resolution, and channels (ch) of density + appearance",
    "Appearance": "Looks that the checkpoint was trained with",
    "Map frame": "Coordinate system of the map, from scene.yaml: frame",
}


class ScenePanel(DockedPanel):
    """Facts about the open scene."""

    title = "Scene"
    glyph = "stack-2"
    empty_title = "No scene"
    empty_body = "Size, bounds and map frame appear here when a scene is open."

    _scene: SceneFacts | None = None
    _status: StreamStatus | None = None
    _recent: tuple[Path, ...] = ()

    def build(self, submit: Submit) -> None:
        """Makes the window; recent files stand below content and empty state alike."""
        super().build(submit)
        ui = self.widgets
        with dpg.group(parent=self.window, show=False) as self._recent_group:
            dpg.add_spacer(height=self.look.px(8))
            with ui.section("Recent"):
                self._recent_list = dpg.add_group()

    def build_content(self, submit: Submit) -> None:
        """Makes name, facts and notices."""
        ui = self.widgets
        self._name = ui.text("", font="title")
        self._kind = ui.text("", "muted", "small")
        dpg.add_spacer(height=self.look.px(2))
        self._facts = {name: ui.fact(name, LABEL, hint) for name, hint in ROWS.items()}
        ui.rule()
        with dpg.group() as self._notices_group, ui.section("Assumed"):
            self._notices = dpg.add_group()

    def show(self, state: ViewerState) -> None:
        """Shows the scene and the recent files."""
        super().show(state)
        others = tuple(p for p in state.recent if state.scene is None or p != state.scene.path)
        if others != self._recent:
            self._recent = others
            self._show_recent()

    def show_content(self, state: ViewerState) -> None:
        """Writes the facts when another scene opened."""
        scene, status = state.scene, self.host.session.stream_status
        if scene is None or (scene is self._scene and status is self._status):
            return
        dpg.set_item_label(self._facts["In memory"], resident_text(status) if status else "All blocks")
        is_same, self._scene, self._status = scene is self._scene, scene, status
        if is_same:
            return
        dpg.set_value(self._name, scene.name)
        dpg.set_value(self._kind, f"LandMark grid, {scene.kind}")
        for name, value in _facts(scene).items():
            dpg.set_item_label(self._facts[name], value)
        dpg.delete_item(self._notices, children_only=True)
        dpg.configure_item(self._notices_group, show=bool(scene.notices))
        for notice in scene.notices:
            dpg.push_container_stack(self._notices)
            self.widgets.text(notice[:1].upper() + notice[1:], "muted")
            dpg.pop_container_stack()

    def _show_recent(self) -> None:
        dpg.delete_item(self._recent_list, children_only=True)
        dpg.configure_item(self._recent_group, show=bool(self._recent))
        dpg.push_container_stack(self._recent_list)
        for path in self._recent:
            name = path.name if path.name != "scene.yaml" else f"{path.parent.name}/{path.name}"
            self.widgets.button(
                icon("history", name), lambda path=path: self.host.open_path(path), "row", str(path), -1, 24
            )
        dpg.pop_container_stack()


def _facts(scene: SceneFacts) -> dict[str, str]:
    units = Units.of(scene)
    size = [(high - low) * units.factor for low, high in zip(*scene.aabb, strict=True)]
    columns, rows = scene.division
    n_present = sum(scene.present)
    facts = [grouped(n_present, 0), f"{columns} × {rows}"]
    if n_present < MANY:
        facts.append(units.with_symbol(figures(size[0] / columns)))
    blocks = "  ·  ".join(facts)
    if columns * rows == 1:
        blocks = "1  ·  the whole scene"
    density, appearance = (sum(group) for group in scene.channels)
    levels = f"{scene.n_levels} level{'s' if scene.n_levels != 1 else ''}"
    grid = f"{levels}  ·  {density} + {appearance} ch" + ("  ·  NeRF" if scene.has_nerf else "")
    looks = f"{grouped(scene.n_codes, 0)} codes" if scene.n_codes else "One fixed look"
    if scene.styles:
        looks += f"  ·  {len(scene.styles)} named"
    metric = f"1 unit = {figures(scene.metres_per_unit)} m" if scene.metres_per_unit else "Scene units"
    return {
        "File": scene.path.name,
        "Field": f"{bytes_text(scene.n_bytes)}  ·  {scene.precision} precision",
        "Blocks": blocks,
        "Bounds": units.with_symbol(" × ".join(figures(side) for side in size)),
        "Grid": grid,
        "Appearance": looks,
        "Map frame": f"EPSG:{scene.epsg}" if scene.epsg else metric,
    }
