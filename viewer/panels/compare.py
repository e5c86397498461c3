"""The Compare panel: the present picture and another one, how they are shown, and how far they are apart."""

from __future__ import annotations

import math
from pathlib import Path

import dearpygui.dearpygui as dpg

from ...core.appearance import Appearance
from ..commands import (
    CompareWith,
    CompareWithAppearance,
    CompareWithCheckpoint,
    SetCode,
    SetCompareMode,
    SetGain,
    SetWipe,
)
from ..commands.compare import GAIN_RANGE
from ..comparison import CompareStatus
from ..counterparts import appearance_label
from ..path_dialog import PathWish
from ..state import Against, Compare, CompareMode, SceneFacts, ViewerState
from ..theme import icon
from .panel import DockedPanel, Submit

MODES = (
    (CompareMode.OFF, "Off", "Only the present picture"),
    (CompareMode.WIPE, "Wipe", "A left of a line, B right of it; drag the line in the picture"),
    (CompareMode.SIDE, "Side by side", "Both in full, each half as wide"),
    (CompareMode.DIFFERENCE, "Difference", "How far the colours are apart"),
    (CompareMode.BLINK, "Blink", "A and B in turn, twice a second"),
)
AGAINST = {
    Against.UNEDITED: "Scene without edits",
    Against.APPEARANCE: "Another appearance",
    Against.CHECKPOINT: "Another checkpoint",
    Against.PHOTO: "Nearest photograph",
}
CHECKPOINTS = (".yaml", ".yml", ".th")


class ComparePanel(DockedPanel):
    """What is compared, and how."""

    title = "Compare"
    glyph = "switch-horizontal"
    empty_title = "Nothing to compare"
    empty_body = "Wipe, side by side, difference and blinking appear here when a scene is open."

    _scene: SceneFacts | None = None
    _compare: Compare | None = None
    _status: CompareStatus | None = None
    _appearances: dict[str, Appearance] | None = None

    def build_content(self, submit: Submit) -> None:
        """Makes the sections."""
        self._submit = submit
        ui = self.widgets
        with ui.section("Show"):
            self._mode = ui.segmented(MODES, lambda mode: submit(SetCompareMode(mode)), 3)
            with dpg.group() as self._wipe_row, ui.row("Line"):
                self._wipe = ui.slider(
                    0.0, 1.0, _percent, lambda at: submit(SetWipe(at, self.host.gesture("wipe")))
                )
            with dpg.group() as self._gain_row, ui.row("Gain", "Factor on the difference"):
                low, high = (math.log2(gain) for gain in GAIN_RANGE)
                self._gain = ui.slider(
                    low,
                    high,
                    lambda power: f"× {2**power:.1f}",
                    lambda power: submit(SetGain(2**power, self.host.gesture("gain"))),
                )
        with ui.section("With"):
            self._build_against()
        with ui.section("Result"):
            self._other = ui.fact("B", hint="What the present picture, A, is compared with")
            self._state = ui.fact("State", hint="B is rendered when A is finished")
            self._psnr = ui.fact(
                "PSNR", hint="Of the colours that are shown, once both pictures are finished"
            )
            self._ssim = ui.fact("SSIM", hint="Structural similarity; 1 is equal")
            self._note_text = ui.text("", "muted")

    def _build_against(self) -> None:
        ui, submit = self.widgets, self._submit
        with ui.row("B"):
            self._against = dpg.add_combo(
                list(AGAINST.values()),
                width=-1,
                callback=lambda _sender, words: submit(CompareWith(_key(words))),
            )
        with dpg.group() as self._appearance_row, ui.row("Appearance", "A style, or a code of the table"):
            self._appearance = dpg.add_combo(
                [], width=-1, callback=lambda _sender, words: self._set_appearance(words)
            )
        with dpg.group() as self._path_row, ui.row("File"):
            self._path = ui.button(icon("folder", "Choose…"), self._choose, None, None, -1)
        with dpg.group() as self._photo_row:
            ui.even(
                2,
                [
                    lambda: ui.button(
                        icon("camera", "Nearest"),
                        lambda: self.host.session.comparison.counterparts.next_photo(),
                        None,
                        "Fly to the photograph that is now nearest",
                        -1,
                    ),
                    lambda: ui.button(
                        icon("palette", "Its appearance"),
                        self._take_code,
                        None,
                        "Show the scene with the code of the photograph",
                        -1,
                    ),
                ],
                "grid",
            )

    def show_content(self, state: ViewerState) -> None:
        """Sets the widgets to a state, and says what the comparison says."""
        self._show_status(self.host.session.comparison.status, state.compare.mode)
        self._show_appearances(state)
        if state.compare == self._compare:
            return
        compare = self._compare = state.compare
        self._mode.show(compare.mode)
        self._wipe.show(compare.position)
        self._gain.show(math.log2(compare.gain))
        dpg.set_value(self._against, AGAINST[compare.against])
        dpg.set_item_label(self._path, icon("folder", compare.path.name if compare.path else "Choose…"))
        for row, shown in (
            (self._wipe_row, compare.mode is CompareMode.WIPE),
            (self._gain_row, compare.mode is CompareMode.DIFFERENCE),
            (self._appearance_row, compare.against is Against.APPEARANCE),
            (self._path_row, compare.against is Against.CHECKPOINT),
            (self._photo_row, compare.against is Against.PHOTO),
        ):
            dpg.configure_item(row, show=shown)

    def _show_appearances(self, state: ViewerState) -> None:
        if state.scene is None:
            return
        codes = ((f"code {code}", Appearance.of(code)) for code in range(min(state.scene.n_codes, 64)))
        appearances = {**dict(state.styles), **dict(codes)}
        if appearances != self._appearances:
            self._appearances = appearances
            dpg.configure_item(self._appearance, items=list(appearances))
        words = appearance_label(state.compare.appearance, state.styles)
        if dpg.get_value(self._appearance) != words:
            dpg.set_value(self._appearance, words)

    def _show_status(self, status: CompareStatus, mode: CompareMode) -> None:
        if status == self._status:
            return
        self._status = status
        score = status.score
        facts = {
            self._other: status.label,
            self._state: state_text(status) if mode is not CompareMode.OFF else "",
            self._psnr: psnr_text(score.psnr) if score else "",
            self._ssim: f"{score.ssim:.4f}" if score else "",
        }
        for item, words in facts.items():
            dpg.set_item_label(item, words)
        dpg.set_value(self._note_text, status.note)

    def _set_appearance(self, words: str) -> None:
        if self._appearances and words in self._appearances:
            self._submit(CompareWithAppearance(self._appearances[words]))

    def _choose(self) -> None:
        def chosen(path: Path) -> None:
            self._submit(CompareWithCheckpoint(path))

        about = "A scene.yaml, a LandMark checkpoint (.th), or a folder that holds one."
        self.host.choose_file(PathWish("Compare with", about, CHECKPOINTS, chosen, "Choose"))

    def _take_code(self) -> None:
        photo = self.host.session.comparison.status.photo
        if photo is not None:
            self._submit(SetCode(photo.code))


def state_text(status: CompareStatus) -> str:
    """Says how far both pictures are."""
    if status.finished:
        return "finished"
    if not status.label:
        return "nothing to compare with"
    return f"refining B {100 * status.progress:.0f} %" if status.progress else "waiting for A"


def psnr_text(psnr: float) -> str:
    """Writes a PSNR; that of equal pictures is infinite."""
    return "equal" if math.isinf(psnr) else "no pixels" if math.isnan(psnr) else f"{psnr:.2f} dB"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _key(words: str) -> Against:
    return next(against for against, text in AGAINST.items() if text == words)
