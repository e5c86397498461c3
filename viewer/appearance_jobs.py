"""What the Appearance panel starts in the background: listing training photographs, fitting to a photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.appearance import Appearance
from ..core.errors import InputError
from .commands import SetAppearance, SetCode, SetPose, ShowMessage
from .jobs import Progress
from .state import MAX_FOV, MIN_FOV, Pose

if TYPE_CHECKING:  # these need torch
    from ..core.camera import Camera
    from ..core.render import Renderer
    from ..scenes.load import Scene
    from .session import Session
    from .training_photos import TrainingPhotos

LONGEST_SIDE = 1600  # pixels of a photograph that is compared; larger ones are averaged down
READING, FITTING = "Reading the list of photographs", "Fitting the appearance"


class AppearanceJobs:
    """Runs on the session's jobs, and knows the photographs of the open scene. Used from the main thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._photos: TrainingPhotos | None = None
        self._scene: object = None  # whose photographs these are

    @property
    def photos(self) -> TrainingPhotos | None:
        """The training photographs, once they were listed."""
        return self._photos if self._scene is self._session.scene else None

    def list_photos(self) -> None:
        """Reads which photographs the open scene was learnt from."""
        scene = self._session.scene
        if scene is not None and self.photos is None:
            self._start(
                READING, lambda _progress: _open_photos(scene), lambda found: self._adopt(scene, found)
            )

    def show_photo(self, number: int) -> None:
        """Shows the code of a training photograph, from where it was taken."""
        photos, session = self.photos, self._session
        if photos is None:
            return
        camera = photos.cameras[number]
        fov = min(max(camera.fov_y, MIN_FOV), MAX_FOV)
        pose = Pose.from_matrix(camera.matrix, fov, session.state.pose.distance)
        session.submit(SetCode(photos.codes[number]))
        session.submit(SetPose(pose, undo="Go to photograph"), glide=True)

    def fit(self, path: Path, from_here: bool = False) -> None:
        """Fits the appearance to a photograph and shows the result.

        A file that has the name of a training photograph is compared from where that was taken.

        Args:
            path: Of the photograph.
            from_here: Whatever its name, compare it with the present view.
        """
        session = self._session
        scene, renderer = session.scene, session.renderer
        if scene is None or renderer is None:
            return
        pose, background, known = session.state.pose, session.background, self.photos
        has_photos = scene.spec.dataset is not None

        def work(progress: Progress) -> tuple[Appearance | None, TrainingPhotos | None]:
            photos = known
            if has_photos and not from_here and photos is None:
                photos = _open_photos(scene)
            number = None if photos is None or from_here else photos.find(path)
            if photos is None or number is None:
                picture, mask = read_photo(path), None
                camera = pose.camera(picture.shape[1], picture.shape[0])
            else:
                picture, mask = _split(photos.image(number))
                camera = photos.cameras[number]
            return _fit(renderer, camera, picture, mask, background, progress), photos

        def done(result: tuple[Appearance | None, TrainingPhotos | None]) -> None:
            fitted, photos = result
            if photos is not None:
                self._adopt(scene, photos)
            if fitted is not None:
                session.submit(SetAppearance(fitted, undo="Fit appearance"))

        self._start(FITTING, work, done)

    def _adopt(self, scene: Scene, photos: TrainingPhotos) -> None:
        self._scene, self._photos = scene, photos

    def _start(self, what: str, work: Callable[[Progress], Any], done: Callable[[Any], None]) -> None:
        def failed(sentence: str) -> None:
            self._session.submit(ShowMessage(sentence, "error"))

        if not self._session.jobs.start(what, work, done, failed):
            self._session.submit(ShowMessage("Something else is being worked on; cancel it first", "warn"))


def read_photo(path: Path) -> np.ndarray:
    """Returns the colours of a photograph in [0, 1], upright. float32 [height, width, 3]

    Raises:
        InputError: The file is missing or no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file).convert("RGB")
            factor = -(-max(upright.size) // LONGEST_SIDE)
            reduced = upright.reduce(factor) if factor > 1 else upright
            return np.asarray(reduced, np.float32) / np.float32(255)
    except FileNotFoundError:
        raise InputError(f"the photograph must be an existing file, got {path}") from None
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} must be a picture, got: {error}") from None


def _split(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns colours in [0, 1] and which of them are known, of uint8 [height, width, 4]."""
    return image[..., :3].astype(np.float32) / np.float32(255), image[..., 3] > 0


def _open_photos(scene: Scene) -> TrainingPhotos:
    from .training_photos import open_training_photos

    return open_training_photos(scene)


def _fit(
    renderer: Renderer,
    camera: Camera,
    picture: np.ndarray,
    mask: np.ndarray | None,
    background: tuple[float, float, float] | None,
    progress: Progress,
) -> Appearance | None:
    from ..core.appearance_fit import Control, fit_appearance

    def report(share: float) -> None:
        progress.share = share

    control = Control(report, lambda: progress.is_cancelled)
    return fit_appearance(renderer, camera, picture, background, mask, control)
