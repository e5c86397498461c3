"""Blending two appearances with one slider, and mixing any number of codes by weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import dearpygui.dearpygui as dpg

from ...core.appearance import Appearance, Grade
from ..commands import BlendAppearances, SetAppearance
from ..state import ViewerState
from ..widgets import LABEL_WIDTH, Slider, Widgets
from .looks import Look
from .panel import Host, Submit

if TYPE_CHECKING:
    from torch import Tensor

LETTER_WIDTH = 16  # logical pixels


class Blend:
    """A slider from one look to another."""

    def __init__(
        self, widgets: Widgets, host: Host, submit: Submit, table: Callable[[], Tensor | None]
    ) -> None:
        """`table` returns the appearance table of the open scene."""
        self._widgets, self._host, self._submit, self._table = widgets, host, submit, table
        self._looks: tuple[Look, ...] = ()
        self._names = ["", ""]  # of the two ends
        self._share = 0.0
        self._shown: Appearance | None = None

    @property
    def ends(self) -> tuple[Appearance | None, Appearance | None]:
        """The two appearances, None where nothing is chosen."""
        known = {look.name: look.appearance for look in self._looks}
        return known.get(self._names[0]), known.get(self._names[1])

    def build(self) -> None:
        """Makes the two choices and the slider."""
        ui = self._widgets
        self._combos = []
        for number, letter in enumerate("AB"):
            with dpg.group(horizontal=True, horizontal_spacing=ui.look.px(8)):
                ui.label(letter, LETTER_WIDTH)
                width = -ui.look.px(32) if number else -1
                self._combos.append(
                    dpg.add_combo(
                        [],
                        width=width,
                        callback=lambda _sender, name, number=number: self._choose(number, name),
                    )
                )
                if number:
                    ui.icon("switch-horizontal", "Exchange A and B", self._exchange)
        with dpg.group(horizontal=True, horizontal_spacing=ui.look.px(8)):
            self._slider = ui.slider(0, 1, _percent, self._moved)

    def show(self, state: ViewerState, looks: tuple[Look, ...]) -> None:
        """Follows the looks that there are, and the appearance where it lies between the ends."""
        if looks != self._looks:
            self._looks = looks
            names = [look.name for look in looks]
            for number, combo in enumerate(self._combos):
                dpg.configure_item(combo, items=names)
                if self._names[number] not in names:
                    self._names[number] = names[min(number, len(names) - 1)] if names else ""
                dpg.set_value(combo, self._names[number])
            self._shown = None
        if state.appearance != self._shown:
            self._shown = state.appearance
            share = _share_of(state.appearance, *self.ends)
            self._share = self._share if share is None else share
            self._slider.show(self._share)

    def _choose(self, number: int, name: str) -> None:
        self._names[number] = name
        self._shown = None  # the slider may stand elsewhere between these

    def _exchange(self) -> None:
        self._names.reverse()
        for combo, name in zip(self._combos, self._names, strict=True):
            dpg.set_value(combo, name)
        self._share, self._shown = 1 - self._share, None

    def _moved(self, share: float) -> None:
        self._share = share
        first, second = self.ends
        if first is None or second is None:
            return
        if bool(first.latent) != bool(second.latent) and 0 < share < 1:
            table = self._table()
            first, second = first.resolved(table), second.resolved(table)
        self._submit(BlendAppearances(first, second, share, self._host.gesture("appearance blend")))


def _share_of(appearance: Appearance, first: Appearance | None, second: Appearance | None) -> float | None:
    """Returns how far an appearance lies from the first to the second; None where that cannot be said."""
    if first is None or second is None or first == second:
        return None
    if appearance in (first, second):
        return float(appearance == second)
    codes = first.code, second.code
    weights = dict(appearance.mix)
    if appearance.latent or None in codes or set(weights) != set(codes):
        return None
    return weights[codes[1]]  # type: ignore[index]


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


class Mix:
    """One row for each code of the mix that is shown."""

    def __init__(self, widgets: Widgets, host: Host, submit: Submit) -> None:
        self._widgets, self._host, self._submit = widgets, host, submit
        self._looks: tuple[Look, ...] = ()
        self._rows: dict[int, Slider] = {}
        self._sent: Appearance | None = None
        self._state: ViewerState | None = None

    def build(self) -> None:
        """Makes the list and what adds to it."""
        ui = self._widgets
        self._note = ui.text("This appearance is an embedding of its own, no mix of codes.", "muted")
        with dpg.group() as self._list:
            pass
        with ui.row("Add"):
            self._add = dpg.add_combo([], width=-1, callback=lambda _sender, name: self._added(name))

    def show(self, state: ViewerState, looks: tuple[Look, ...]) -> None:
        """Follows the appearance: the rows stay while the mix changes by their own sliders."""
        before, self._state = self._state, state
        if looks != self._looks:
            self._looks = looks
            dpg.configure_item(self._add, items=[look.name for look in looks if not look.appearance.latent])
            self._sent = None
            before = None
        if before is not None and before.appearance == state.appearance:
            return
        weights = {} if state.appearance.latent else dict(state.appearance.mix)
        dpg.configure_item(self._note, show=bool(state.appearance.latent))
        if state.appearance != self._sent or not weights.keys() <= self._rows.keys():
            self._build_rows(tuple(weights))
        for code, slider in self._rows.items():
            slider.show(weights.get(code, 0.0))

    def _build_rows(self, codes: Sequence[int]) -> None:
        ui = self._widgets
        dpg.delete_item(self._list, children_only=True)
        self._rows = {}
        dpg.push_container_stack(self._list)
        for code in codes:
            with dpg.group(horizontal=True, horizontal_spacing=ui.look.px(8)):
                ui.icon("x", "Take out of the mix", lambda code=code: self._set(code, 0.0))
                ui.label(self._name_of(code), LABEL_WIDTH)
                self._rows[code] = ui.slider(
                    0,
                    1,
                    _percent,
                    lambda share, code=code: self._set(code, share, self._host.gesture(f"mix {code}")),
                )
        dpg.pop_container_stack()

    def _name_of(self, code: int) -> str:
        names = (look.name for look in self._looks if look.appearance.code == code)
        return next(names, f"Code {code}")

    def _set(self, code: int, share: float, gesture: str = "") -> None:
        """Gives one code a share of the mix; the others keep their proportions."""
        weights = {other: self._weight(other) for other in self._rows if other != code}
        total = sum(weights.values())
        if not weights or (share == 0 and gesture == "" and total == 0):
            return
        even = 1 / len(weights)
        parts = {other: (w / total if total else even) * (1 - share) for other, w in weights.items()}
        self._send({**parts, code: share}, gesture, keep_rows=bool(gesture))

    def _added(self, name: str) -> None:
        """Mixes a look in, as strong as one of those that are there."""
        dpg.set_value(self._add, "")
        look = next((look for look in self._looks if look.name == name), None)
        state = self._state
        if look is None or state is None:
            return
        present = {} if state.appearance.latent else dict(state.appearance.mix)
        share = 1 / (len(present) + 1)
        weights = {code: (1 - share) * weight for code, weight in present.items()}
        for code, weight in look.appearance.mix:
            weights[code] = weights.get(code, 0.0) + share * weight
        self._send(weights, "", keep_rows=False)

    def _weight(self, code: int) -> float:
        mix = self._state.appearance.mix if self._state else ()
        return dict(mix).get(code, 0.0)

    def _send(self, weights: dict[int, float], gesture: str, keep_rows: bool) -> None:
        grade = self._state.appearance.grade if self._state else Grade()
        appearance = replace(Appearance.mixed(weights), grade=grade)
        self._sent = appearance if keep_rows else None
        self._submit(SetAppearance(appearance, gesture, "Mix appearances"))
