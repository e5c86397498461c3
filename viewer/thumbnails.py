"""Small pictures of appearances from the present view, rendered while the main picture rests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..core.appearance import Appearance
from ..core.camera import Camera
from ..cuda.tables import Quality, RenderControl
from .state import Mode

if TYPE_CHECKING:  # torch is imported while the window is already there
    from ..core.edits.compiled import CompiledEdits
    from .pictures import Renderer, RenderRequest

KEPT = 8  # views of which pictures are kept: undo comes back to them

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class View:
    """What all thumbnails of a moment have in common."""

    camera: Camera  # at the size of a thumbnail
    edits: CompiledEdits | None
    background: tuple[float, float, float] | None

    @classmethod
    def of(cls, request: RenderRequest, width: int, height: int) -> View:
        """Returns the view of the main picture, cut to the shape of a thumbnail of that size in pixels."""
        camera = request.camera
        scale = max(width / camera.width, height / camera.height)
        cut = replace(
            camera,
            width=width,
            height=height,
            fl_x=scale * camera.fl_x,
            fl_y=scale * camera.fl_y,
            cx=scale * (camera.cx - camera.width / 2) + width / 2,
            cy=scale * (camera.cy - camera.height / 2) + height / 2,
        )
        return cls(cut, request.edits, request.background)


Key = tuple[View, Appearance]


class Thumbnails:
    """Renders what is asked for, one picture after the other. Used from the main thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called from another thread after every picture."""
        self._wake = wake
        self._lock = threading.Lock()
        # Guarded by the lock:
        self._renderer: Renderer | None = None
        self._wishes: list[Key] = []
        self._control: RenderControl | None = None
        self._rendering: Key | None = None
        self._pictures: dict[View, dict[Appearance, np.ndarray | None]] = {}  # None: it failed
        self._is_running = False
        # Used by the main thread only:
        self._view: View | None = None
        self._last: dict[Appearance, np.ndarray] = {}

    def ask(self, renderer: Renderer, view: View, appearances: Iterable[Appearance]) -> None:
        """Wants these appearances from this view; what was wanted before is forgotten."""
        if renderer is not self._renderer:
            self.forget()
        self._view = view
        with self._lock:
            self._renderer = renderer
            known = self._pictures.pop(view, {})
            self._pictures[view] = known  # the newest view is the last one
            while len(self._pictures) > KEPT:
                del self._pictures[next(iter(self._pictures))]
            wanted = [(view, appearance) for appearance in dict.fromkeys(appearances)]
            self._wishes = [key for key in wanted if key[1] not in known and key != self._rendering]
            if self._control is not None and self._rendering not in wanted:
                self._control.cancel()
            if not self._wishes or self._is_running:
                return
            self._is_running = True
        threading.Thread(target=self._run, name="thumbnails", daemon=True).start()

    def pause(self) -> None:
        """Stops within a tile: the main picture needs the processor."""
        with self._lock:
            self._wishes = []
            if self._control is not None:
                self._control.cancel()

    def forget(self) -> None:
        """Drops everything, as another scene is shown."""
        self.pause()
        with self._lock:
            self._renderer = None
            self._pictures.clear()
        self._last.clear()
        self._view = None

    def picture(self, appearance: Appearance) -> np.ndarray | None:
        """Returns the picture from the present view, else the last one that there was. uint8 [h, w, 4]"""
        if self._view is not None:
            with self._lock:
                found = self._pictures.get(self._view, {}).get(appearance)
            if found is not None:
                self._last[appearance] = found
        return self._last.get(appearance)

    # In the thread

    def _run(self) -> None:
        while True:
            with self._lock:
                renderer = self._renderer
                if renderer is None or not self._wishes:
                    self._is_running = False
                    return
                key = self._rendering = self._wishes.pop(0)
                camera = key[0].camera
                control = self._control = RenderControl(camera.width, camera.height)
            picture: np.ndarray | None = None
            try:
                picture = _render(renderer, *key, control)
            except Exception:
                log.exception("a thumbnail failed")
            with self._lock:
                self._rendering = self._control = None
                if control.is_cancelled or renderer is not self._renderer:
                    continue
                self._pictures.setdefault(key[0], {})[key[1]] = picture
            self._wake()


def _render(renderer: Renderer, view: View, appearance: Appearance, control: RenderControl) -> np.ndarray:
    """Returns the picture, incomplete if it was cancelled. uint8 [height, width, 4]"""
    from ..core.render import RenderSettings
    from .imaging import to_image

    settings = RenderSettings(Quality.FAST, appearance, view.edits, view.background, complete=False)
    frame = renderer.render(view.camera, settings, control)
    return to_image(Mode.COLOR, frame.buffers, view.camera, grade=appearance.grade)
