"""Commands on the measurements, which are annotations of the scene."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from ...core.errors import InputError
from ...core.measure import Measurement, measure
from ..state import ViewerState
from .base import Once, say

LONGEST_NAME = 80  # characters


@dataclass(frozen=True)
class AddMeasurement(Once):
    """Keeps a measurement, and forgets the corners that it was drawn with; a wrong one is refused."""

    measurement: Measurement
    undo: ClassVar[str] = "Measure"

    def apply(self, state: ViewerState) -> ViewerState:
        try:
            measure(self.measurement)
        except InputError as error:
            return say(state, str(error))
        return replace(state, measurements=(*state.measurements, self.measurement), draft=())


@dataclass(frozen=True)
class RemoveMeasurement(Once):
    """Deletes one measurement; a number that is none changes nothing."""

    number: int
    undo: ClassVar[str] = "Delete measurement"

    def apply(self, state: ViewerState) -> ViewerState:
        kept = (measurement for at, measurement in enumerate(state.measurements) if at != self.number)
        return replace(state, measurements=tuple(kept))


@dataclass(frozen=True)
class RenameMeasurement:
    """Names one measurement; "" calls it after its kind."""

    number: int
    name: str
    gesture: str = ""
    undo: ClassVar[str] = "Rename measurement"

    def apply(self, state: ViewerState) -> ViewerState:
        name = " ".join(self.name.split())[:LONGEST_NAME]
        named = (
            replace(measurement, name=name) if at == self.number else measurement
            for at, measurement in enumerate(state.measurements)
        )
        return replace(state, measurements=tuple(named))


@dataclass(frozen=True)
class ClearMeasurements(Once):
    """Deletes all measurements."""

    undo: ClassVar[str] = "Delete measurements"

    def apply(self, state: ViewerState) -> ViewerState:
        return replace(state, measurements=())
