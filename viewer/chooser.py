"""Chooser: selects buildings, outlines and rectangles, once the terrain has said how high they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.camera import Camera
from ..core.edits.layers import Prism
from ..core.edits.region import Point, Region
from ..core.errors import InputError
from ..scenes.footprints import Footprint, read_footprints
from .commands import Command, SetDraft, SetSelection, SetTool, ShowMessage
from .handles import Pixel, on_plane
from .history import GestureKeys
from .selector import Selector
from .state import Selection, SelectMode, Tool

if TYPE_CHECKING:
    from ..scenes.schema import FrameSpec


@dataclass(frozen=True)
class Band:
    """A rectangle that is being drawn on the ground."""

    start: Point
    height: float  # of the ground, scene units
    pixel: Pixel  # where the drag began
    last: Pixel
    mode: SelectMode
    camera: Camera

    @property
    def region(self) -> Region:
        """What it covers."""
        end = on_plane(self.camera, self.last, self.height) or self.start
        return Region.rectangle(*self.start, *end)

    def is_wide(self, least: float) -> bool:
        """Whether the drag went at least so many pixels in both directions."""
        return min(abs(last - first) for first, last in zip(self.pixel, self.last, strict=True)) >= least


class Chooser:
    """What becomes the selection. Used from the main thread."""

    def __init__(self, keys: GestureKeys, selector: Selector, later: Callable[[Command], None]) -> None:
        """Makes a chooser.

        Args:
            keys: Names the gestures.
            selector: Asks the terrain.
            later: Takes commands that follow once the terrain has answered.
        """
        self.footprints: tuple[Footprint, ...] = ()  # a point in one of them selects it
        self._keys = keys
        self._selector = selector
        self._later = later

    def read_footprints(self, path: Path, frame: FrameSpec) -> list[Command]:
        """Takes the outlines of a GeoJSON file; `frame` places the scene on the map."""
        try:
            self.footprints = read_footprints(path, frame)
        except InputError as error:
            return [ShowMessage(str(error), "error")]
        found = f"{len(self.footprints)} footprints: click in one to select it"
        return [SetTool(Tool.BUILDING), ShowMessage(found)]

    def building(self, point: Point, mode: SelectMode) -> None:
        """Selects the footprint at a point of the ground, else the building that the terrain finds there."""
        footprint = next((each for each in self.footprints if _is_in(each, point)), None)
        if footprint is not None:
            self.area(footprint.region, mode, "footprint", footprint.height)
            return

        def answered(prism: Prism) -> None:
            self._later(SetSelection(Selection(prism, "building"), mode))

        self._selector.building(point[0], point[1], answered, self._warn)

    def area(self, region: Region, mode: SelectMode, what: str = "area", height: float | None = None) -> None:
        """Selects what stands on a region, as high as given or as the terrain says."""
        if region.is_empty:
            self._warn("The outline must enclose an area")
            return
        gesture = self._keys.begin("select")

        def answered(prism: Prism) -> None:
            known = prism if height is None else replace(prism, high=prism.low + height)
            self._later(SetSelection(Selection(known, what), mode, gesture))
            self._later(SetDraft((), gesture))

        self._selector.standing(region, answered, self._warn)

    def _warn(self, sentence: str) -> None:
        self._later(ShowMessage(sentence[:1].upper() + sentence[1:], "warn"))


def _is_in(footprint: Footprint, point: Point) -> bool:
    x0, y0, x1, y1 = footprint.region.bounds
    near = x0 <= point[0] <= x1 and y0 <= point[1] <= y1
    return near and bool(footprint.region.contains(np.array(point[0]), np.array(point[1])))
