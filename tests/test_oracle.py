"""Pictures that LandMark itself rendered from real checkpoints, against every path of this program."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import generate_rays, view_of
from landmark_viewer.core.reference import render_rays
from landmark_viewer.core.render import Backend, Frame, Renderer, RenderSettings, options_for
from landmark_viewer.core.settings import ModelSettings, Precision, Sampling
from landmark_viewer.cuda import ops

from .conftest import shared_folder

REFERENCE_STRIDE = (
    5  # the reference renders every fifth ray: it is slow, and its error does not depend on where
)

CASES = {
    "a2_seq_sparsemask": "bb_a2_sparsemask.th",
    "b_seq_res124_app": "bb_b_seq_res124_app.th",
    "d_branch22_app": "bb_d_branch22_app-merged-stack.th",
    "e1_plane21": "bb_e1_plane21-merged.th",
    "f_seq_nerf_app": "bb_f_seq_nerf.th",
}


@dataclass(frozen=True)
class Picture:
    """One picture of LandMark's."""

    case: str
    file: str  # of the reference renders
    name: str
    pose: str
    code: int
    settings: ModelSettings

    def __str__(self) -> str:
        return f"{self.case}/{self.name}"


def _pictures(case: str, file: str = "oracle.npz") -> list[Picture]:
    path = shared_folder() / "oracle" / case / file
    if not path.is_file():
        return []
    found = []
    meta = json.loads(path.with_suffix(".json").read_text())
    for entry in meta["renders"]:
        settings = ModelSettings(
            white_background=entry["white_bg"],
            sampling=Sampling.HULL if entry["sampling_opt"] else Sampling.BOX,
            n_importance=meta["n_importance"],
            alpha_mask_threshold=entry["alpha_mask_filter_thre"],
            plane_division=tuple(meta.get("plane_division") or ()) or None,
        )
        found.append(Picture(case, file, entry["name"], entry["pose"], entry["app_code"], settings))
    return found


PICTURES = [picture for case in CASES for picture in _pictures(case)]


@lru_cache(maxsize=1)
def stored(case: str, file: str) -> dict[str, Any]:
    with np.load(shared_folder() / "oracle" / case / file) as data:
        return dict(data)


@lru_cache(maxsize=1)
def opened(case: str, checkpoint: str) -> GridNeRF:
    path = shared_folder() / "oracle" / case / checkpoint
    division = next((p.settings.plane_division for p in PICTURES if p.case == case), None)
    return open_checkpoint(path, ModelSettings(plane_division=division)).model


@lru_cache(maxsize=2)
def renderer(case: str, checkpoint: str, precision: Precision) -> Renderer:
    return Renderer(opened(case, checkpoint), precision, device="cpu")


def camera_of(picture: Picture) -> Camera:
    data = stored(picture.case, picture.file)
    height, width = data[f"{picture.name}/rgb_map"].shape[:2]
    pose = f"pose/{picture.pose}"
    return Camera.from_focal(data[f"{pose}/c2w"], width, height, float(data[f"{pose}/focal"]))


def render(
    picture: Picture, backend: Backend, precision: Precision = Precision.FULL, checkpoint: str | None = None
) -> Frame:
    made = renderer(picture.case, checkpoint or CASES[picture.case], precision)
    made.model = replace(made.model, settings=picture.settings.over(made.model.settings))
    return made.render(
        camera_of(picture), RenderSettings(appearance=Appearance.of(picture.code), backend=backend)
    )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(max(np.mean((a.astype(np.float64) - b) ** 2), 1e-20)))


def share_within(a: np.ndarray, b: np.ndarray, bound: float) -> float:
    return float((np.abs(a - b) <= bound).mean())


def assert_is_landmarks(frame: Frame, picture: Picture) -> None:
    """The bounds for full precision."""
    data = stored(picture.case, picture.file)
    rgb, depth = data[f"{picture.name}/rgb_map"], data[f"{picture.name}/depth_map"]
    assert share_within(frame.rgb.max(axis=-1), rgb.max(axis=-1), 2e-4) >= 0.999
    assert share_within(frame.rgb, rgb, 2e-4) >= 0.999
    assert psnr(frame.rgb, rgb) >= 70
    assert share_within(frame.depth, depth, 2e-3) >= 0.999
    assert psnr(frame.depth, depth) >= 60


def test_the_reference_renders_are_there(shared_dir: Path) -> None:
    assert len(PICTURES) == 62


@pytest.mark.parametrize("picture", PICTURES, ids=str)
def test_the_reference_equals_landmark_to_the_rounding(picture: Picture) -> None:
    data = stored(picture.case, picture.file)
    model = opened(picture.case, CASES[picture.case])
    model = replace(model, settings=picture.settings.over(model.settings))
    options = options_for(model, RenderSettings(appearance=Appearance.of(picture.code)))
    rays_o, rays_d = (rays[::REFERENCE_STRIDE] for rays in generate_rays(view_of(camera_of(picture))))
    with torch.no_grad():
        parts = [
            render_rays(model, rays_o[first : first + 2048], rays_d[first : first + 2048], options)
            for first in range(0, len(rays_o), 2048)
        ]
    rgb = torch.cat([part.rgb for part in parts]).numpy()
    depth = torch.cat([part.depth for part in parts]).numpy()
    assert (
        share_within(rgb, data[f"{picture.name}/rgb_map"].reshape(-1, 3)[::REFERENCE_STRIDE], 5e-6) >= 0.999
    )
    assert (
        share_within(depth, data[f"{picture.name}/depth_map"].reshape(-1)[::REFERENCE_STRIDE], 5e-6) >= 0.999
    )


@pytest.mark.skipif(ops.backend_status().name != "native", reason=ops.backend_status().detail)
@pytest.mark.parametrize("picture", PICTURES, ids=str)
def test_the_native_renderer_equals_landmark(picture: Picture) -> None:
    assert_is_landmarks(render(picture, Backend.NATIVE), picture)
    half = render(picture, Backend.NATIVE, Precision.HALF)
    assert psnr(half.rgb, stored(picture.case, picture.file)[f"{picture.name}/rgb_map"]) >= 55


@pytest.mark.parametrize("picture", PICTURES[::8], ids=str)
def test_the_channel_last_torch_path_equals_landmark(picture: Picture) -> None:
    assert_is_landmarks(render(picture, Backend.TORCH), picture)


@pytest.mark.parametrize("backend", [Backend.NATIVE, Backend.TORCH])
@pytest.mark.parametrize("picture", _pictures("e1_plane21", "oracle_sub.npz"), ids=str)
def test_plane_sub_files_equal_landmarks_render_by_ranks(picture: Picture, backend: Backend) -> None:
    assert_is_landmarks(render(picture, backend, checkpoint="bb_e1_plane21-sub1.th"), picture)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("pose", ["test_DJI_0026", "oblique"])
@pytest.mark.parametrize("backend", [Backend.NATIVE, Backend.REFERENCE])
def test_the_nerf_branch_equals_landmarks_training_forward(
    pose: str, residual: bool, backend: Backend, shared_dir: Path
) -> None:
    data = stored("f_seq_nerf_app", "oracle_nerf.npz")
    name = f"{pose}/nerf_resid{int(residual)}"
    made = renderer("f_seq_nerf_app", CASES["f_seq_nerf_app"], Precision.FULL)
    settings = ModelSettings(
        white_background=True, n_importance=64, nerf_n_importance=16, run_nerf=True, residual_nerf=residual
    )
    made.model = replace(made.model, settings=settings.over(made.model.settings))
    camera = Camera.from_focal(data[f"pose/{pose}/c2w"], 200, 150, float(data[f"pose/{pose}/focal"]))
    rows = slice(60, 84)  # the branch is slow
    band = replace(camera, height=rows.stop - rows.start, cy=camera.cy - rows.start)
    frame = made.render(band, RenderSettings(backend=backend))
    bound = 5e-6 if backend is Backend.REFERENCE else 2e-4
    assert share_within(frame.rgb, data[f"{name}/rgb_map_nerf"][rows], bound) >= 0.999
    assert share_within(frame.depth, data[f"{name}/depth_map_nerf"][rows], 10 * bound) >= 0.999
    assert psnr(frame.rgb, data[f"{name}/rgb_map_nerf"][rows]) >= 70
