"""The trainable field: how it starts, how it becomes a model and back, and what changes it between steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.occupancy import OccupancyGrid
from landmark_viewer.core.training.parameters import FieldParameters
from landmark_viewer.core.training.settings import TrainSettings
from landmark_viewer.core.training.step import options_for, train_step
from landmark_viewer.cuda import ops, train_torch

from .small_fields import SHAPES, make_field, random_points
from .trainable_fields import BOUNDS, KINDS, NEAR_FAR, PLAIN, make_batch, make_data, make_parameters

CPU = torch.device("cpu")
WHOLE = [name for name, shape in SHAPES.items() if not shape.missing]


def points_in(parameters: FieldParameters, n: int = 400) -> Tensor:
    low, high = parameters.aabb
    return low + (high - low) * torch.rand(n, 3, generator=torch.Generator().manual_seed(3))


def assert_same(first: FieldParameters, second: FieldParameters) -> None:
    assert first.named().keys() == second.named().keys()
    for key, tensor in second.named().items():
        assert torch.equal(first.named()[key], tensor), key


# Start


def test_field_starts_with_landmarks_shapes():
    settings = TrainSettings(
        directions=3,
        levels=(1, 3),
        voxels_start=8000,
        appearance_codes=True,
        bias=True,
        nonlinear_density=True,
    )
    data = replace(make_data(5), bounds=((0.0, 0.0, 0.0), (4.0, 2.0, 1.0)))
    parameters = FieldParameters.create(settings, data, CPU)
    shapes = {key: list(tensor.shape) for key, tensor in parameters.named().items()}
    assert parameters.grid_size == (40, 20, 10)
    expected = {
        "density_plane.0": [1, 20, 40, 16],
        "density_plane.1": [1, 60, 120, 16],
        "density_plane.3": [1, 30, 120, 16],  # x and z
        "density_plane.5": [1, 30, 60, 16],  # y and z
        "density_line.1": [1, 30, 16],
        "density_line.3": [1, 60, 16],
        "density_line.5": [1, 120, 16],
        "app_plane.2": [1, 10, 40, 48],
        "app_line.4": [1, 40, 48],
        "basis_mat.weight": [27, 2 * 3 * 48],
        "basis_den.weight": [2 * 3 * 16],
        "embedding_app.weight": [5, 48],
        "renderModule.mlp.0.weight": [128, 27 + 48 + 3 + 2 * 6 * 27 + 2 * 6 * 3],
        "renderModule.mlp.2.bias": [128],
        "renderModule.mlp.4.weight": [3, 128],
    }
    assert {key: shapes[key] for key in expected} == expected
    assert len(shapes) == 4 * 6 + 3 + 6


def test_field_starts_with_landmarks_spread():
    settings = replace(TrainSettings(), appearance_codes=True, bias=True, voxels_start=40**3)
    named = FieldParameters.create(settings, make_data(50), CPU).named()
    for key in ("density_plane.0", "app_plane.0", "app_line.0"):
        assert float(named[key].std()) == pytest.approx(0.1, rel=0.1), key
        assert abs(float(named[key].mean())) < 0.01, key
    assert float(named["embedding_app.weight"].std()) == pytest.approx(1, rel=0.1)
    for key, n_in in (("renderModule.mlp.2.weight", 128), ("renderModule.mlp.2.bias", 128)):
        assert 0.9 * n_in**-0.5 < float(named[key].abs().max()) <= n_in**-0.5, key
    assert float(named["basis_mat.weight"].std()) == pytest.approx((3 * 48) ** -0.5, rel=0.1)
    assert not named["renderModule.mlp.4.bias"].any()


def test_blocks_share_the_grid_and_start_differently():
    parameters = make_parameters(KINDS["blocks"])
    columns, rows = 2, 3
    n_x, n_y, n_z = parameters.grid_size
    assert parameters.density_planes[1].shape[:3] == (6, round(n_y * 2 / rows), round(n_x * 2 / columns))
    assert parameters.density_lines[0].shape[:2] == (6, n_z)
    first, second = parameters.density_planes[0][:2]
    assert not torch.equal(first, second)


def test_seed_decides_the_start():
    kind = KINDS["nerf, everything"]
    assert_same(make_parameters(kind), make_parameters(kind))
    first, other = make_parameters(kind).named(), make_parameters(kind, seed=1).named()
    for key, tensor in first.items():
        if tensor.any() and key != "nerf.alpha_linear.bias":
            assert not torch.equal(tensor, other[key]), key


def test_tables_are_the_parameters_themselves():
    parameters = make_parameters(KINDS["codes and bias"])
    tables = parameters.tables()
    for name, group in (
        ("density_plane", tables.density_planes),
        ("density_line", tables.density_lines),
        ("app_plane", tables.appearance_planes),
        ("app_line", tables.appearance_lines),
    ):
        for p, table in enumerate(group):
            assert table is parameters.named()[f"{name}.{p}"]
            assert table.is_contiguous()
    assert tables.decoder.layers[1][1] is parameters.named()["renderModule.mlp.2.bias"]


# Models


@pytest.mark.parametrize("name", KINDS)
def test_model_and_back_is_the_same_field(name):
    parameters = make_parameters(KINDS[name])
    again = FieldParameters.from_model(parameters.model(), parameters.settings, 3)
    assert_same(again, parameters)
    n = parameters.settings.directions
    assert again.settings == replace(
        parameters.settings,
        density_channels=PLAIN.density_channels[:n],
        appearance_channels=PLAIN.appearance_channels[:n],
    )
    assert again.grid_size == parameters.grid_size
    assert again.near_far == NEAR_FAR
    assert torch.equal(again.aabb, parameters.aabb)


@pytest.mark.parametrize("name", WHOLE)
def test_taken_over_model_has_the_same_density(name):
    model = make_field(SHAPES[name])
    parameters = FieldParameters.from_model(model, PLAIN, 3)
    points = random_points(500)
    inside = ((points > model.aabb[0]) & (points < model.aabb[1])).all(dim=1)  # where sub files agree
    density = train_torch.sigma(parameters.tables(), points[inside])
    torch.testing.assert_close(density, model.sigma(points[inside]), rtol=1e-4, atol=1e-4)
    back = parameters.model()
    torch.testing.assert_close(
        back.appearance_feature(points[inside]),
        model.appearance_feature(points[inside]),
        rtol=1e-5,
        atol=1e-5,
    )


def test_model_renders_what_the_step_predicts():
    """A view of the model through the renderer is what training sees at the same samples."""
    parameters = make_parameters(KINDS["softplus"])
    model = parameters.model()
    points = points_in(parameters)
    probe = ops.probe(model.tables(), points, backend="torch")
    torch.testing.assert_close(
        probe.sigma, train_torch.sigma(parameters.tables(), points), rtol=1e-5, atol=1e-5
    )


def test_model_follows_training_without_copies():
    kind = KINDS["blocks"]
    parameters = make_parameters(kind)
    model, points = parameters.model(), points_in(parameters)
    before = model.sigma(points)
    train_step(parameters, make_batch(kind), 0)
    assert not torch.equal(model.sigma(points), before)
    assert model.blocks[1].density_planes[0][0].data_ptr() == parameters.density_planes[0][1].data_ptr()


def test_codes_are_cut_or_filled_up():
    model = make_field(SHAPES["latent"])
    fewer = FieldParameters.from_model(model, PLAIN, 2).embedding
    more = FieldParameters.from_model(model, PLAIN, 5).embedding
    assert torch.equal(fewer, model.embedding[:2])
    assert more.shape == (5, 7)
    assert torch.equal(more[:3], model.embedding)
    assert more[3:].abs().min() > 0


def test_taken_over_model_is_not_changed_by_training():
    model = make_field(SHAPES["plain"])
    before = model.blocks[0].density_planes[0][0].clone()
    parameters = FieldParameters.from_model(model, PLAIN, 1)
    parameters.density_planes[0].add_(1)
    parameters.basis.add_(1)
    assert torch.equal(model.blocks[0].density_planes[0][0], before)
    assert not torch.equal(model.decoder.basis, parameters.basis)


def test_stacked_files_state_the_size_of_one_block():
    model = replace(make_field(SHAPES["blocks"]), grid_size=(12, 10, 6))
    parameters = FieldParameters.from_model(model, PLAIN, 1)
    assert parameters.grid_size == (24, 30, 6)
    assert parameters.settings.levels == (1, 2)


def test_missing_block_is_an_error():
    model = make_field(SHAPES["a block is missing"])
    with pytest.raises(InputError, match="all of its 4 blocks to be trained, got 3"):
        FieldParameters.from_model(model, PLAIN, 1)


def test_blocks_of_different_sizes_are_an_error():
    model = make_field(SHAPES["blocks"])
    block = model.blocks[3]
    cut = tuple((parts[0][:, 1:],) for parts in block.density_planes)
    blocks = (*model.blocks[:3], replace(block, density_planes=cut), *model.blocks[4:])
    with pytest.raises(InputError, match="must be of one size to be trained, got 9 x 12 and 10 x 12"):
        FieldParameters.from_model(replace(model, blocks=blocks), PLAIN, 1)


# Changes between steps


@pytest.mark.parametrize("name", ["three directions", "blocks"])
def test_upsampling_is_bilinear_in_landmarks_layout(name):
    parameters = make_parameters(KINDS[name])
    before = parameters.model()
    parameters.upsample((25, 31, 9))
    after = parameters.model()
    assert after.grid_size == (25, 31, 9)
    axes = ((0, 1, 2), (0, 2, 1), (1, 2, 0))
    columns, rows = parameters.settings.division
    for old, new in zip(before.blocks, after.blocks, strict=True):
        for kind in ("density", "appearance"):
            planes, lines = f"{kind}_planes", f"{kind}_lines"
            for p, (plane, line) in enumerate(zip(getattr(old, planes), getattr(old, lines), strict=True)):
                u, v, w = axes[p // 2]
                n_u, n_v = ((25 / columns, 31 / rows, 9)[axis] * (p % 2 + 1) for axis in (u, v))
                wanted = F.interpolate(
                    plane[0][None], size=(round(n_v), round(n_u)), mode="bilinear", align_corners=True
                )
                torch.testing.assert_close(getattr(new, planes)[p][0], wanted[0])
                n_w = (25, 31, 9)[w] * (p % 2 + 1)
                wanted = F.interpolate(line[0][None], size=n_w, mode="linear", align_corners=True)
                torch.testing.assert_close(getattr(new, lines)[p][0], wanted[0])


def test_upsampling_forgets_the_moments():
    kind = KINDS["plain"]
    parameters = make_parameters(kind)
    train_step(parameters, make_batch(kind), 0)
    assert parameters.count == 1
    parameters.upsample((20, 20, 8))
    assert parameters.count == 0
    named = parameters.named()
    assert parameters.moments.keys() == named.keys()
    for key, moments in parameters.moments.items():
        for moment in moments:
            assert moment.shape == named[key].shape, key
            assert not moment.any(), key
    train_step(parameters, make_batch(kind), 1)


def plain_opacity(parameters: FieldParameters) -> np.ndarray:
    """The opacity of one step at every vertex of the grid. [n_z, n_y, n_x]"""
    model = parameters.model()
    x, y, z = (torch.linspace(0, 1, n) for n in parameters.grid_size)
    shares = torch.stack(torch.meshgrid(z, y, x, indexing="ij")[::-1], dim=-1)
    points = (model.aabb[0] * (1 - shares) + model.aabb[1] * shares).view(-1, 3)
    opacity = 1 - torch.exp(-model.sigma(points) * model.step)
    if model.occupancy is not None:
        opacity[model.occupancy.sample(points) <= 0] = 0
    return opacity.view(shares.shape[:3]).numpy()


def spread(opaque: np.ndarray) -> np.ndarray:
    """Sets all 26 neighbours of what is set."""
    padded, n = np.pad(opaque, 1), opaque.shape
    shifts = [(i, j, k) for i in range(3) for j in range(3) for k in range(3)]
    return np.any([padded[i : i + n[0], j : j + n[1], k : k + n[2]] for i, j, k in shifts], axis=0)


@pytest.mark.parametrize("name", ["plain", "blocks", "three directions, softplus", "mask"])
def test_mask_is_that_of_its_definition(name):
    parameters = make_parameters(KINDS[name])
    opacity = plain_opacity(parameters)
    highest = np.sort(opacity.reshape(-1))[-9:-7]
    threshold = float(highest.mean())  # eight vertices pass
    parameters.settings = replace(parameters.settings, mask_threshold=threshold)
    for _ in range(2):
        wanted = spread(plain_opacity(parameters) >= threshold)
        assert 20 < wanted.sum() < 300
        assert parameters.update_mask() is None
        nodes = parameters.occupancy.nodes
        assert nodes.dtype == torch.uint8
        assert nodes.shape == tuple(reversed(parameters.grid_size))
        assert np.array_equal(nodes.numpy(), wanted)
        assert torch.equal(parameters.occupancy.aabb, torch.tensor(BOUNDS))
    parameters.density_planes[0].mul_(10)  # outside the mask nothing may come back
    parameters.density_planes[1].mul_(10)
    seen = plain_opacity(parameters) >= threshold
    parameters.update_mask()
    assert np.array_equal(parameters.occupancy.nodes.numpy(), spread(seen))


def test_mask_keeps_its_size_on_grids_that_are_too_fine():
    kind = KINDS["plain"]
    parameters = make_parameters(replace(kind, settings=replace(kind.settings, max_mask_voxels=1000)))
    parameters.update_mask()
    n_z, n_y, n_x = parameters.occupancy.nodes.shape
    assert 500 < n_x * n_y * n_z <= 1000
    parameters.occupancy = OccupancyGrid(torch.ones(4, 6, 5, dtype=torch.uint8), torch.tensor(BOUNDS))
    parameters.update_mask()
    assert parameters.occupancy.nodes.shape == (4, 6, 5)


def test_mask_stays_where_nothing_would_pass():
    parameters = make_parameters(KINDS["mask"])
    before = parameters.occupancy
    for plane in parameters.density_planes:
        plane.zero_()
    warning = parameters.update_mask()
    assert "opacity of a step must reach 0.0001 somewhere" in warning
    assert "got 0 at most" in warning
    assert parameters.occupancy is before


def test_mask_cuts_empty_samples_away_and_keeps_the_picture():
    kind = KINDS["plain"]
    kind = replace(kind, settings=replace(kind.settings, mask_threshold=1e-9))
    parameters, batch = make_parameters(kind), make_batch(kind)
    for plane in parameters.density_planes:
        plane[:, :, : plane.shape[2] // 2] = 0
    options = options_for(parameters, 0)
    before = train_torch.train_step(parameters.tables(), batch, options)
    parameters.update_mask()
    after = train_torch.train_step(parameters.tables(), batch, options)
    assert after.n_inside < 0.8 * before.n_inside
    assert after.n_dense == before.n_dense
    torch.testing.assert_close(after.rgb, before.rgb)


@pytest.mark.parametrize("depth", [3, 6])
def test_nerf_branch_has_landmarks_shapes(depth):
    settings = replace(
        PLAIN,
        appearance_codes=True,
        nerf_depth=depth,
        nerf_color_depth=3,
        nerf_width=20,
        nerf_frequencies=5,
    )
    parameters = FieldParameters.create(settings, make_data(), CPU)
    n_before = len(parameters.named())
    parameters.add_nerf()
    shapes = {key: list(tensor.shape) for key, tensor in parameters.named().items() if "nerf." in key}
    n_in = 3 + 6 * 5 + 2 * 8
    assert shapes["nerf.pts_linears.0.weight"] == [20, n_in]
    if depth == 6:
        assert shapes["nerf.pts_linears.5.weight"] == [20, 20 + n_in]
    assert shapes[f"nerf.pts_linears.{depth - 1}.bias"] == [20]
    assert shapes["nerf.views_linears.0.weight"] == [10, 20 + 3 + 24 + 2 * 12 + 48]
    assert shapes["nerf.views_linears.2.weight"] == [10, 10]
    assert shapes["nerf.alpha_linear.weight"] == [1, 20]
    assert shapes["nerf.feature_linear.weight"] == [20, 20]
    assert shapes["nerf.rgb_linear.weight"] == [3, 10]
    assert len(shapes) == 2 * (depth + 3 + 3)
    assert len(parameters.moments) == n_before + len(shapes)
    bound = n_in**-0.5
    assert 0.8 * bound < float(parameters.named()["nerf.pts_linears.0.weight"].abs().max()) <= bound


def test_nerf_branch_is_rendered_where_it_is_trained():
    parameters = make_parameters(KINDS["plain"])
    assert not parameters.model().settings.run_nerf
    parameters.add_nerf()
    assert parameters.model().settings.run_nerf


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["codes and bias", "nerf, everything", "mask"])
def test_step_on_a_device_is_that_on_the_cpu(name):
    kind = KINDS[name]
    host, device = make_parameters(kind), make_parameters(kind).to(torch.device("cuda"))
    batch = make_batch(kind)
    moved = {key: value if value is None else value.cuda() for key, value in vars(batch).items()}
    for iteration in range(2):
        wanted = train_step(host, batch, iteration)
        got = train_step(device, replace(batch, **moved), iteration)
        torch.testing.assert_close(got.rgb.cpu(), wanted.rgb, rtol=0, atol=1e-3)
    device.update_mask()
    device.upsample((20, 20, 8))
    train_step(device, replace(batch, **moved), 2)
    assert device.model().decoder.basis.device.type == "cpu"
