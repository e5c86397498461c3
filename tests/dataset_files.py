"""Writes a known set of cameras and small photographs to disk, in the formats that people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from landmark_viewer.core.camera import Camera, look_at

WIDTH, HEIGHT = 24, 16


@dataclass(frozen=True)
class View:
    """A photograph and its camera; the centre of its first pixel is at (0.5, 0.5)."""

    name: str
    camera: Camera
    pixels: np.ndarray  # uint8 [h, w, 3]


def known_views(count: int = 5, seed: int = 7) -> list[View]:
    """Makes cameras around the origin with off-centre principal points, and smooth random photographs."""
    rng = np.random.default_rng(seed)
    views = []
    for number in range(count):
        angle = 2 * np.pi * number / count
        eye = (3 * np.cos(angle), 3 * np.sin(angle), 1 + 0.3 * number)
        camera = Camera.from_focal(look_at(eye, rng.normal(0, 0.1, 3)), WIDTH, HEIGHT, 20.25, 20.5)
        camera = Camera(camera.c2w, WIDTH, HEIGHT, 20.25, 20.5, 12.375, 7.875)
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        views.append(View(f"{number:04d}", camera, pixels))
    return views


def save_png(path: Path, pixels: np.ndarray) -> Path:
    """Writes pixels, making folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def intrinsics(camera: Camera) -> dict[str, Any]:
    """Returns a camera without its pose, as transforms.json spells it."""
    return {
        "w": camera.width,
        "h": camera.height,
        "fl_x": camera.fl_x,
        "fl_y": camera.fl_y,
        "cx": camera.cx,
        "cy": camera.cy,
    }


def write_transforms(folder: Path, views: list[View], name: str = "transforms.json", **top: Any) -> Path:
    """Writes the photographs and one transforms.json with shared intrinsics."""
    frames = []
    for view in views:
        save_png(folder / "images" / f"{view.name}.png", view.pixels)
        frames.append(
            {"file_path": f"images/{view.name}.png", "transform_matrix": view.camera.matrix.tolist()}
        )
    path = folder / name
    path.write_text(json.dumps({**intrinsics(views[0].camera), **top, "frames": frames}))
    return path


def write_blender(folder: Path, views: list[View], test: list[View]) -> Path:
    """Writes the layout of the NeRF paper's synthetic scenes; the principal point is the middle."""
    folder.mkdir(parents=True, exist_ok=True)
    camera = views[0].camera
    angle = 2 * np.arctan(camera.width / 2 / camera.fl_x)
    for split, members in (("train", views), ("val", test), ("test", test)):
        frames = []
        for view in members:
            opaque = np.full((camera.height, camera.width, 1), 255, dtype=np.uint8)
            save_png(folder / split / f"r_{view.name}.png", np.concatenate([view.pixels, opaque], axis=2))
            frames.append(
                {
                    "file_path": f"./{split}/r_{view.name}",
                    "rotation": 0.1,
                    "transform_matrix": view.camera.matrix.tolist(),
                }
            )
        text = json.dumps({"camera_angle_x": float(angle), "frames": frames})
        (folder / f"transforms_{split}.json").write_text(text)
    return folder / "transforms_train.json"


def write_block(folder: Path, views: list[View], **top: Any) -> Path:
    """Writes a block of MatrixCity: rotations times 0.01, positions in metres; the views' unit is 100 m."""
    frames = []
    for number, view in enumerate(views):
        matrix = view.camera.matrix
        matrix[:3, :3] *= 0.01
        matrix[:3, 3] *= 100
        save_png(folder / f"{number:04d}.png", view.pixels)
        frames.append({"frame_index": number, "rot_mat": matrix.tolist()})
    path = folder / "transforms.json"
    path.write_text(json.dumps({**top, "frames": frames}))
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a JSON file in place."""
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
