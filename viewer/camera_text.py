"""A camera on the clipboard: the JSON that the command line reads."""

from __future__ import annotations

import json

from ..core.camera import Camera
from ..core.errors import InputError
from .state import Pose

WIDEST = 179.0  # degrees of the vertical field of view


def camera_text(pose: Pose, size: tuple[int, int]) -> str:
    """Returns the camera of a pose for a picture size as JSON."""
    return json.dumps(pose.camera(*size).to_json(), indent=1)


def pose_from_text(text: str, before: Pose) -> Pose:
    """Returns the pose of a camera in JSON; its pivot is as far away as before.

    Raises:
        InputError: The text is no camera.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        raise InputError("The clipboard must hold a camera in JSON, as Copy camera puts it there") from None
    camera = Camera.from_json(data[0] if isinstance(data, list) and data else data, "the clipboard")
    return Pose.from_matrix(camera.matrix, min(max(camera.fov_y, 1e-3), WIDEST), before.distance)
