"""The scene from above for the plan map, as it looks now: rendered while the main picture rests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .opening import PLAN_WIDTH, Loaded
from .plan import plan_camera
from .thumbnails import Thumbnails, View

if TYPE_CHECKING:  # it needs torch, which is imported while the window is already there
    from .pictures import Picture


class PlanPicture:
    """Used from the main thread only."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` makes the main loop look here again."""
        self.image: np.ndarray | None = None  # uint8 [height, width, 4]
        self._thumbnails = Thumbnails(wake)
        self._loaded: Loaded | None = None

    def open(self, loaded: Loaded) -> None:
        """Shows another scene, whose unedited picture is there already."""
        self.close()
        self._loaded, self.image = loaded, loaded.plan

    def follow(self, standing: Picture | None) -> None:
        """Shows the edits and the appearance of the picture that stands; without one it waits."""
        loaded = self._loaded
        if loaded is None or standing is None:
            self._thumbnails.pause()
            return
        request = standing.request
        camera = plan_camera(loaded.facts, loaded.scene.model.near_far[1], PLAN_WIDTH)
        view = View(camera, request.edits, request.background)
        if view == View(camera, None, loaded.background) and request.appearance == loaded.facts.appearance:
            self.image = loaded.plan
            return
        self._thumbnails.ask(loaded.renderer, view, [request.appearance])
        picture = self._thumbnails.picture(request.appearance)
        if picture is not None:
            self.image = picture

    def close(self) -> None:
        """Ends what is under way within a tile."""
        self._thumbnails.forget()
