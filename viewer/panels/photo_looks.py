"""Looks that come from photographs: the code of a training photograph, and one fitted to any photograph."""

from __future__ import annotations

from pathlib import Path

import dearpygui.dearpygui as dpg

from ..appearance_jobs import AppearanceJobs
from ..path_dialog import PathWish
from ..state import SceneFacts, ViewerState
from ..theme import icon
from ..widgets import Widgets
from .panel import Host

MOST_LISTED = 200  # names in the list of photographs
HERE, OWN = "here", "own"
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")


class PhotoLooks:
    """Lists the training photographs and starts fits."""

    def __init__(self, widgets: Widgets, host: Host) -> None:
        self._widgets, self._host = widgets, host
        self._jobs: AppearanceJobs | None = None
        self._scene: SceneFacts | None = None
        self._listed: object = None  # names that the list was made of
        self._pose = OWN

    def build(self) -> None:
        """Makes the list of training photographs and the form of a fit."""
        ui = self._widgets
        with dpg.group() as self._training:
            self._read = ui.button(
                icon("photo", "List the training photographs"),
                self._list,
                None,
                "Choosing one shows its code\nfrom where it was taken",
                -1,
            )
            with ui.row("Training photo", "Shows its code, from where it was taken") as self._choice:
                self._photo = dpg.add_combo([], width=-1, callback=lambda _sender, name: self._show(name))
            with ui.row("Find", "Only photographs with this in their names") as self._search:
                self._find = ui.takes_keys(dpg.add_input_text(width=-1, callback=self._filter))
        with ui.row("Taken from") as self._pose_row:
            options = (
                (OWN, "Its own place", "A training photograph's own pose; any other: the present view"),
                (HERE, "This view", "The present view, whatever the name of the file"),
            )
            self._poses = ui.segmented(options, self._choose_pose)
            self._poses.show(self._pose)
        hint = "Finds the embedding in which the scene\nlooks most like a photograph of it"
        ui.button(icon("palette", "Fit to a photograph…"), self._ask, None, hint, -1)

    def show(self, state: ViewerState) -> None:
        """Follows the scene, and the list once it was read."""
        if state.scene is not self._scene:
            self._scene, self._listed = state.scene, None
            has_photos = state.scene is not None and state.scene.has_photos
            dpg.configure_item(self._training, show=has_photos)
            dpg.configure_item(self._pose_row, show=has_photos)
        photos = self._background_jobs().photos if self._scene and self._scene.has_photos else None
        names = photos.names if photos else ()
        if names is not self._listed:
            self._listed = names
            dpg.configure_item(self._read, show=not names)
            dpg.configure_item(self._choice, show=bool(names))
            dpg.configure_item(self._search, show=len(names) > MOST_LISTED)
            self._filter()

    def _background_jobs(self) -> AppearanceJobs:
        if self._jobs is None:
            self._jobs = AppearanceJobs(self._host.session)
        return self._jobs

    def _list(self) -> None:
        self._background_jobs().list_photos()

    def _filter(self) -> None:
        photos = self._background_jobs().photos
        wanted = dpg.get_value(self._find).casefold()
        names = [name for name in photos.names if wanted in name.casefold()] if photos else []
        dpg.configure_item(self._photo, items=names[:MOST_LISTED])

    def _show(self, name: str) -> None:
        photos = self._background_jobs().photos
        if photos is not None and name in photos.names:
            self._background_jobs().show_photo(photos.names.index(name))

    def _choose_pose(self, pose: str) -> None:
        self._pose = pose
        self._poses.show(pose)

    def _ask(self) -> None:
        own = self._scene is not None and self._scene.has_photos and self._pose == OWN
        about = (
            "A training photograph is compared from where it was taken, any other from the present view."
            if own
            else "The photograph must have been taken from where the camera is now."
        )
        wish = PathWish("Fit to a photograph", about, PHOTO_ENDINGS, self._fit, "Fit")
        self._host.choose_file(wish)

    def _fit(self, path: Path) -> None:
        self._background_jobs().fit(path, self._pose == HERE)
