"""What can be done with one block: the menu of the map of blocks, and the question for a replacement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dearpygui.dearpygui as dpg

from ...core.edits.layers import Crop, Hide, Prism
from ...core.edits.region import Region
from ..block_map import BlockFacts, Kind
from ..commands import AddLayer, PinBlock, ReplaceBlockWith, SelectBlockArea, ShowMessage
from ..path_dialog import PathWish
from ..plan import block_footprint
from ..state import ViewerState
from ..widgets import Widgets
from .panel import Host, Submit

MASK_ENDINGS = (".npy",)
STREAMED = ("pin", "evict", "reload", "line")  # entries that make sense only while blocks come and go


class BlockMenu:
    """A popup for the block that was clicked."""

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self._widgets, self._host = widgets, host
        self._state = ViewerState()
        self._facts: BlockFacts | None = None

    def build(self, submit: Submit) -> None:
        """Makes the menu, hidden."""
        self._submit = submit
        session = self._host.session
        with self._widgets.popup() as self._menu:
            self._entry("Fly there", lambda block: self._host.fly_to_block(block))
            self._entry("Select area", lambda block: submit(SelectBlockArea(block)))
            dpg.add_separator()
            self._items = {
                "pin": self._entry("Pin", self._pin),
                "evict": self._entry("Evict", lambda block: session.evict_block(block)),
                "reload": self._entry("Reload", lambda block: session.reload_block(block)),
                "failure": self._entry("Show failure", self._show_failure),
                "line": dpg.add_separator(),
            }
            self._entry("Isolate", lambda block: submit(AddLayer(Crop(prism=self._prism(block)))))
            self._entry("Hide", lambda block: submit(AddLayer(Hide(prism=self._prism(block)))))
            self._entry("Replace…", lambda block: ask_for_replacement(self._host, submit, block))

    def open(self, facts: BlockFacts, state: ViewerState, is_streamed: bool) -> None:
        """Shows the menu at the pointer."""
        self._facts, self._state = facts, state
        exists = facts.kind is not Kind.MISSING
        for name in STREAMED:
            dpg.configure_item(self._items[name], show=is_streamed and exists)
        dpg.configure_item(self._items["failure"], show=bool(facts.failure))
        dpg.configure_item(self._items["evict"], enabled=facts.n_bytes > 0)
        dpg.set_item_label(self._items["pin"], "Unpin" if facts.is_pinned else "Pin")
        dpg.set_item_label(self._items["reload"], "Try again" if facts.kind is Kind.FAILED else "Reload")
        place = [int(at) for at in dpg.get_mouse_pos(local=False)]
        dpg.configure_item(self._menu, show=True, pos=place)

    def _entry(self, label: str, action: Callable[[int], object]) -> int:
        def act() -> None:
            if self._facts is not None:
                action(self._facts.block)

        return dpg.add_menu_item(label=label, callback=lambda: act())

    def _pin(self, block: int) -> None:
        self._submit(PinBlock(block, block not in self._state.pinned))

    def _show_failure(self, block: int) -> None:
        if self._facts is not None:
            self._submit(ShowMessage(f"Block {block} failed: {self._facts.failure}", "error"))

    def _prism(self, block: int) -> Prism:
        if self._state.scene is None:
            raise RuntimeError("a block must belong to an open scene")
        return Prism(Region.rectangle(*block_footprint(self._state.scene, block)))


def ask_for_replacement(host: Host, submit: Submit, block: int) -> None:
    """Asks for another checkpoint of a block, then for its mask, and reads the block from there."""

    def replace_it(checkpoint: Path, mask: Path | None = None) -> None:
        submit(ReplaceBlockWith(block, checkpoint.absolute(), mask.absolute() if mask else None))

    def ask_for_mask(checkpoint: Path) -> None:
        about = "LandMark's alpha_volume_*.npy of the whole scene; Cancel leaves the mask as it is."
        host.choose_file(
            PathWish(
                "Occupancy mask",
                about,
                MASK_ENDINGS,
                lambda mask: replace_it(checkpoint, mask),
                "Choose",
                dropped=lambda: replace_it(checkpoint),
            )
        )

    about = f"The checkpoint of block {block}, as LandMark's sub{block}_add.th."
    host.choose_file(PathWish("Replace a block", about, (".th",), ask_for_mask, "Choose"))
