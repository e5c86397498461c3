"""Commands on how the scene is lit: rows of its table, mixes, embeddings, the grade, and named styles."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

from ...core.appearance import Appearance, Grade, blend
from ...core.errors import InputError
from ..state import ViewerState
from .base import Once, clamp, say

EXPOSURE_RANGE = -5.0, 5.0  # stops
COLOR_RANGE = -1.0, 1.0  # temperature and tint
LONGEST_NAME = 60  # letters of the name of a style


@dataclass(frozen=True)
class SetCode:
    """Chooses a row of the appearance table and keeps the grade; one that does not exist is refused."""

    code: int
    gesture: str = ""
    undo: ClassVar[str] = "Appearance"

    def apply(self, state: ViewerState) -> ViewerState:
        if state.scene is None or not state.scene.n_codes:
            return say(state, "This scene has one appearance only", "info")
        return _shown(state, replace(Appearance.of(self.code), grade=state.appearance.grade))


@dataclass(frozen=True)
class SetAppearance:
    """Shows an appearance; one that the scene does not have is refused with the valid range."""

    appearance: Appearance
    gesture: str = ""
    undo: str = "Appearance"

    def apply(self, state: ViewerState) -> ViewerState:
        return _shown(state, self.appearance)


@dataclass(frozen=True)
class BlendAppearances:
    """Shows what lies between two appearances, both mixes or both embeddings; 0 and 1 are the ends."""

    first: Appearance
    second: Appearance
    share: float  # of the second, in [0, 1]
    gesture: str = ""
    undo: ClassVar[str] = "Blend appearances"

    def apply(self, state: ViewerState) -> ViewerState:
        for end in (self.first, self.second):
            if reason := _objection(state, end):
                return say(state, reason)
        try:
            return _shown(state, blend(self.first, self.second, clamp(self.share, 0.0, 1.0)))
        except InputError as error:
            return say(state, str(error))


@dataclass(frozen=True)
class SetGrade:
    """Sets exposure, white balance and tint of the picture; every number is limited."""

    grade: Grade
    gesture: str = ""
    undo: ClassVar[str] = "Grade"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, appearance=replace(state.appearance, grade=_limited(self.grade)))


@dataclass(frozen=True)
class SetStyle(Once):
    """Names an appearance; a style that has the name already gets the appearance."""

    name: str
    appearance: Appearance
    undo: ClassVar[str] = "Save style"

    def apply(self, state: ViewerState) -> ViewerState:
        name = self.name.strip()
        reason = _bad_name(name) or _objection(state, self.appearance)
        if reason:
            return say(state, reason)
        styles = dict(state.styles)
        styles[name] = _normalized(self.appearance)
        return replace(state, styles=tuple(styles.items()))


@dataclass(frozen=True)
class RemoveStyle(Once):
    """Forgets a style; the picture stays as it is."""

    name: str
    undo: ClassVar[str] = "Remove style"

    def apply(self, state: ViewerState) -> ViewerState:
        kept = tuple((name, style) for name, style in state.styles if name != self.name)
        if len(kept) == len(state.styles):
            return say(state, _unknown(state, self.name))
        return replace(state, styles=kept)


@dataclass(frozen=True)
class RenameStyle(Once):
    """Gives a style another name that no other style has."""

    name: str
    new_name: str
    undo: ClassVar[str] = "Rename style"

    def apply(self, state: ViewerState) -> ViewerState:
        new_name, names = self.new_name.strip(), [name for name, _ in state.styles]
        if self.name not in names:
            return say(state, _unknown(state, self.name))
        if reason := _bad_name(new_name):
            return say(state, reason)
        if new_name in names and new_name != self.name:
            return say(state, f"There is a style {new_name} already; remove it or choose another name")
        renamed = ((new_name if name == self.name else name, style) for name, style in state.styles)
        return replace(state, styles=tuple(renamed))


def _shown(state: ViewerState, appearance: Appearance) -> ViewerState:
    """Returns the state with an appearance, or with a message that says why it cannot be shown."""
    if reason := _objection(state, appearance):
        return say(state, reason)
    return replace(state, appearance=_normalized(appearance))


def _objection(state: ViewerState, appearance: Appearance) -> str:
    """Returns why a scene cannot be shown in an appearance, "" where it can."""
    n_codes = state.scene.n_codes if state.scene else 0
    if appearance.latent:
        if not n_codes:
            return "A scene without an appearance table takes no embedding"
        finite = all(math.isfinite(number) for number in appearance.latent)
        return "" if finite else "An appearance embedding must hold finite numbers"
    last = max(n_codes - 1, 0)
    for code, _ in appearance.mix:
        if not 0 <= code <= last:
            return f"The appearance code must be from 0 to {last}, got {code}"
    weights = [weight for _, weight in appearance.mix]
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not sum(weights) > 0:
        return "The weights of a mix must be 0 or more, and not all 0"
    return ""


def _normalized(appearance: Appearance) -> Appearance:
    """Returns a valid appearance with weights of the sum 1 and a grade within its limits."""
    graded = replace(appearance, grade=_limited(appearance.grade))
    if appearance.latent or sum(weight for _, weight in appearance.mix) == 1:
        return graded
    weights: dict[int, float] = {}
    for code, weight in appearance.mix:
        weights[code] = weights.get(code, 0.0) + weight
    return replace(graded, mix=Appearance.mixed(weights).mix)


def _limited(grade: Grade) -> Grade:
    def within(value: float, bounds: tuple[float, float]) -> float:
        return clamp(value, *bounds) if math.isfinite(value) else 0.0

    return Grade(
        within(grade.exposure, EXPOSURE_RANGE),
        within(grade.temperature, COLOR_RANGE),
        within(grade.tint, COLOR_RANGE),
    )


def _bad_name(name: str) -> str:
    """Returns why a text cannot be the name of a style, "" where it can."""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        return f"The name of a style must have 1 to {LONGEST_NAME} letters in one line"
    return ""


def _unknown(state: ViewerState, name: str) -> str:
    known = ", ".join(known for known, _ in state.styles) or "none"
    return f"There is no style {name}; the styles are: {known}"
