"""Sample distances, weights and depth."""

from __future__ import annotations

import torch

from landmark_viewer.core.compositing import median_depth, render_weights
from landmark_viewer.core.sampling import sample_box, sample_hull, sample_importance, spacings

BOX = torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.5]])


def random_rays(n: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    origins = torch.tensor([0.3, -3.0, 1.5]).expand(n, 3)
    targets = torch.rand(n, 3, generator=generator) * (BOX[1] - BOX[0]) + BOX[0]
    return origins, targets - origins


def test_box_samples_start_where_the_ray_enters_the_box() -> None:
    origins, directions = random_rays()
    t = sample_box(origins, directions, BOX, (0.1, 10.0), torch.tensor(0.01), 5)
    first = origins + directions * t[:, :1]
    face_distance = torch.minimum((first - BOX[0]).abs(), (first - BOX[1]).abs()).amin(dim=-1)
    assert face_distance.max() < 1e-5
    torch.testing.assert_close(t.diff(dim=-1), torch.full((50, 4), 0.01), rtol=0, atol=1e-6)


def test_box_samples_respect_near_from_inside_the_box() -> None:
    t = sample_box(
        torch.tensor([[0.0, 0, 0.2]]), torch.tensor([[0.0, 1, 0]]), BOX, (0.25, 4.0), torch.tensor(0.1), 3
    )
    assert t[0, 0] == 0.25


def test_hull_samples_end_on_the_floor_or_at_far() -> None:
    origins = torch.tensor([[0.0, -3.0, 1.5], [0.0, -3.0, 0.2]])
    directions = torch.tensor([[0.0, 1.0, -0.5], [0.0, 1.0, 0.1]])
    t = sample_hull(origins, directions, BOX, (0.1, 7.0), 16)
    assert t[0, -1] == 3.0
    assert t[1, -1] == 7.0
    assert (t[:, 0] == 0.1).all()


def test_importance_samples_are_sorted_and_gather_at_the_weight() -> None:
    t = torch.linspace(0, 1, 32).expand(4, 32)
    weights = torch.zeros(4, 32)
    weights[:, 20] = 1.0
    merged = sample_importance(t, weights, 16)
    assert merged.shape == (4, 48)
    assert (merged.diff(dim=-1) >= 0).all()
    near_peak = ((merged - t[0, 20]).abs() < 0.04).sum(dim=-1)
    assert (near_peak >= 15).all()


def test_opacity_is_one_behind_a_wall_and_zero_in_empty_space() -> None:
    sigma = torch.zeros(2, 10)
    sigma[0, 4] = 1e6
    weights = render_weights(sigma, torch.full((2, 10), 0.1))
    assert weights[0].sum() == 1
    assert weights[0].argmax() == 4
    assert weights[1].sum() == 0


def test_the_last_sample_of_a_ray_weighs_nothing() -> None:
    delta = spacings(torch.linspace(0, 1, 10)[None], 0.0)
    weights = render_weights(torch.full((1, 10), 5.0), delta)
    assert weights[0, -1] == 0


def test_median_depth_is_where_half_of_the_light_is_stopped() -> None:
    t = torch.arange(10.0).expand(2, 10)
    sigma = torch.zeros(2, 10)
    sigma[0, 6] = 1e3
    depth = median_depth(render_weights(sigma, torch.ones(2, 10)), t)
    assert depth.tolist() == [6.0, 0.0]
