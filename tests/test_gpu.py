"""A CUDA device renders what the CPU does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from landmark_viewer.core.render import Backend, Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda.tables import Quality
from landmark_viewer.scenes.load import demo_scene_path, open_scene

SIZE = (96, 64)


@pytest.mark.gpu
@pytest.mark.parametrize("quality", list(Quality))
def test_cuda_picture_is_that_of_the_cpu(quality):
    scene = open_scene(demo_scene_path())
    settings = RenderSettings(quality=quality, backend=Backend.TORCH)
    frames = [
        Renderer(scene.model, Precision.FULL, torch.device(device)).render(scene.home_camera(*SIZE), settings)
        for device in ("cpu", "cuda")
    ]
    on_cpu, on_gpu = (frame.rgb for frame in frames)
    assert np.quantile(np.abs(on_cpu - on_gpu).max(axis=-1), 0.999) < 2e-4
