"""A training step, sample by sample where it matters, against LandMark's dense one through autograd."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from landmark_viewer.core.errors import InputError
from landmark_viewer.core.training import losses
from landmark_viewer.core.training.parameters import FieldParameters, name_small, name_tables
from landmark_viewer.core.training.reference import BatchLosses, ReferenceTraining, batch_losses
from landmark_viewer.core.training.step import options_for, plane_update, train_step
from landmark_viewer.cuda import train_torch
from landmark_viewer.cuda.adam import adam_step
from landmark_viewer.cuda.train_tables import Gradients, StepResult

from .trainable_fields import KINDS, make_batch, make_parameters

TOLERANCE = 5e-6  # of the largest entry of each gradient


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """On busy cores torch's threads wait for each other longer than such small tensors take."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def named(gradients: Gradients) -> dict[str, Tensor]:
    """Returns all gradients under the keys of their parameters."""
    return {
        **name_tables("density_plane", gradients.density_planes or ()),
        **name_tables("density_line", gradients.density_lines),
        **name_tables("app_plane", gradients.appearance_planes or ()),
        **name_tables("app_line", gradients.appearance_lines),
        **name_small(
            gradients.basis, gradients.layers, gradients.density_basis, gradients.embedding, gradients.nerf
        ),
    }


def channel_last(blocks: list[Tensor], like: Tensor, key: str) -> Tensor:
    """Brings a LandMark tensor, one per block, to the layout and the padding of ours."""
    if "_plane." not in key and "_line." not in key:
        return blocks[0].reshape(like.shape)
    stacked = torch.zeros_like(like)
    stacked[..., : len(blocks[0])] = torch.stack(blocks).movedim(1, -1)
    return stacked


def assert_near(got: Tensor, wanted: Tensor, tolerance: float, what: str) -> None:
    largest = float(wanted.abs().max())
    worst = float((got - wanted).abs().max())
    assert worst <= tolerance * largest + 1e-12, f"{what}: off by {worst:.2g} of {largest:.2g}"


def reference_gradients(training: ReferenceTraining, like: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, blocks in training.named().items():
        grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in blocks]
        found[key] = channel_last(grads, like[key], key)
    return found


def both(name: str, n: int = 96) -> tuple[FieldParameters, StepResult, BatchLosses, dict[str, Tensor]]:
    kind = KINDS[name]
    parameters, batch = make_parameters(kind), make_batch(kind, n)
    options = options_for(parameters, 0)
    training = ReferenceTraining(parameters)
    wanted = batch_losses(training.model, batch, options)
    wanted.total.backward()
    result = train_torch.train_step(parameters.tables(), batch, options)
    return parameters, result, wanted, reference_gradients(training, parameters.named())


@pytest.mark.parametrize("name", KINDS)
def test_losses_and_gradients_are_those_of_the_dense_step(name):
    parameters, result, wanted, gradients = both(name)
    assert result.n_shaded > 100
    np.testing.assert_allclose(result.rgb, wanted.rgb.detach(), atol=2e-6)
    for field in ("loss", "hull_loss", "nerf_loss", "distortion", "extra"):
        assert getattr(result, field) == pytest.approx(float(getattr(wanted, field).detach()), rel=2e-5), (
            field
        )
    got = named(result.gradients)
    assert got.keys() == gradients.keys() == parameters.named().keys()
    for key, gradient in gradients.items():
        assert float(gradient.abs().max()) > 0, key
        assert_near(got[key], gradient, TOLERANCE, key)


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("name", ["plain", "three directions, softplus", "blocks", "nerf, everything"])
def test_three_whole_steps_are_those_of_landmarks_loop(name, backend):
    """Adam turns gradients of almost 0 into noise of its sign, so parameters agree less than gradients."""
    kind = KINDS[name]
    kind = replace(
        kind,
        settings=replace(
            kind.settings,
            tv_density_weight=0.5,
            tv_appearance_weight=0.2,
            l1_weight=2e-3,
            orthogonality_weight=5e-2,
            iterations=5,
            backend=backend,
        ),
    )
    parameters = make_parameters(kind)
    training = ReferenceTraining(parameters)
    before = {key: tensor.clone() for key, tensor in parameters.named().items()}
    for iteration in range(3):
        batch = make_batch(kind, seed=iteration)
        wanted = training.step(batch, options_for(parameters, iteration))
        result = train_step(parameters, batch, iteration)
        assert result.loss == pytest.approx(wanted.loss.item(), rel=1e-4)
        assert parameters.count == iteration + 1
        if iteration == 0:  # the first mean is a tenth of the first gradient, regularisation included
            for key, gradient in reference_gradients(training, before).items():
                assert_near(10 * parameters.moments[key][0], gradient, 2 * TOLERANCE, key)
    for key, tensor in parameters.named().items():
        wanted_change = channel_last(training.named()[key], tensor, key).detach() - before[key]
        far = (tensor - before[key] - wanted_change).abs() > 0.02 * wanted_change.abs().max()
        assert float(far.float().mean()) < 0.01, key


@pytest.mark.parametrize("name", ["plain", "blocks", "residual nerf"])
def test_padding_stays_zero(name):
    kind = KINDS[name]
    kind = replace(kind, settings=replace(kind.settings, tv_density_weight=1.0, l1_weight=1.0))
    parameters = make_parameters(kind)
    for iteration in range(2):
        train_step(parameters, make_batch(kind), iteration)
    for p, table in enumerate((*parameters.density_planes, *parameters.density_lines)):
        assert table.shape[-1] == 8
        assert not table[..., kind.settings.density_channels[0] :].any(), p
    for table in (*parameters.appearance_planes, *parameters.appearance_lines):
        assert table.shape[-1] == 16
        assert table[..., :12].any()
        assert not table[..., 12:].any()


def test_same_batch_gives_the_same_field_again():
    kind = KINDS["nerf, everything"]
    fields = [make_parameters(kind), make_parameters(kind)]
    for parameters in fields:
        for iteration in range(2):
            train_step(parameters, make_batch(kind), iteration)
    first, second = (parameters.named() for parameters in fields)
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key


def test_extra_loss_pulls_like_the_colours():
    """The mean squared error once more, as an extra loss, doubles every gradient."""
    kind = KINDS["codes"]
    parameters, batch = make_parameters(kind), make_batch(kind)
    options = options_for(parameters, 0)
    once = train_torch.train_step(parameters.tables(), batch, options)
    again = replace(options, extra_loss=lambda rgb: (rgb - batch.rgb).square().mean())
    twice = train_torch.train_step(parameters.tables(), batch, again)
    assert twice.extra == pytest.approx(once.loss)
    gradients = named(twice.gradients)
    for key, gradient in named(once.gradients).items():
        assert_near(gradients[key], 2 * gradient, TOLERANCE, key)


def test_nerf_branch_takes_its_rays_in_parts(monkeypatch):
    kind = KINDS["nerf, everything"]
    parameters, batch = make_parameters(kind), make_batch(kind)
    options = options_for(parameters, 0)
    whole = train_torch.train_step(parameters.tables(), batch, options)
    monkeypatch.setattr(train_torch, "NERF_RAYS", 37)
    parts = train_torch.train_step(parameters.tables(), batch, options)
    for field in ("loss", "hull_loss", "nerf_loss", "distortion"):
        assert getattr(parts, field) == pytest.approx(getattr(whole, field), rel=1e-5), field
    gradients = named(parts.gradients)
    for key, gradient in named(whole.gradients).items():
        assert_near(gradients[key], gradient, TOLERANCE, key)


def test_rays_that_meet_nothing_change_only_what_regularisation_changes():
    kind = KINDS["plain"]
    parameters, batch = make_parameters(kind), make_batch(kind)
    batch = replace(batch, origins=batch.origins + 50)
    options = options_for(parameters, 0)
    result = train_torch.train_step(parameters.tables(), batch, options)
    assert result.n_inside == result.n_dense == result.n_shaded == 0
    assert not any(gradient.any() for gradient in named(result.gradients).values())
    assert torch.equal(result.rgb, torch.tensor(options.background).expand(len(batch.rgb), 3))
    before = [plane.clone() for plane in parameters.density_planes]
    train_step(parameters, batch, 0)
    assert all(torch.equal(plane, old) for plane, old in zip(parameters.density_planes, before, strict=True))


def test_samples_without_density_are_counted_but_not_differentiated():
    result, everything = both("mask")[1], both("plain")[1]
    assert 0 < result.n_shaded <= result.n_dense < result.n_inside < everything.n_inside
    soft = both("softplus")[1]
    assert soft.n_dense == soft.n_inside == everything.n_inside


def test_planes_move_in_place_and_their_gradients_are_not_returned():
    kind = KINDS["plain"]
    parameters = make_parameters(kind)
    held, before = parameters.density_planes[0], parameters.density_planes[0].clone()
    update = plane_update(parameters, 0)
    result = train_torch.train_step(parameters.tables(), make_batch(kind), options_for(parameters, 0), update)
    assert result.gradients.density_planes is None
    assert result.gradients.appearance_planes is None
    assert parameters.density_planes[0] is held
    assert not held.requires_grad
    assert not torch.equal(held, before)


def test_training_learns():
    """Thirty steps on one batch leave a part of its error."""
    kind = KINDS["white"]
    parameters, batch = make_parameters(kind), make_batch(kind)
    errors = [train_step(parameters, batch, iteration).loss for iteration in range(30)]
    assert errors[-1] < 0.4 * errors[0]


def test_distortion_counts_from_its_iteration_on():
    kind = KINDS["distortion"]
    parameters = make_parameters(replace(kind, settings=replace(kind.settings, distortion_from=2)))
    assert [options_for(parameters, i).distortion_weight for i in range(4)] == [0, 0, 0.3, 0.3]


def test_options_are_those_of_the_rendered_model():
    """The distance between samples is that of the renderer, which reads the file."""
    parameters = make_parameters(KINDS["blocks"])
    options, model = options_for(parameters, 0), parameters.model()
    assert options.step == float(model.step)
    assert (options.near, options.far) == model.near_far


@pytest.mark.parametrize("betas", [(0.9, 0.99), (0.8, 0.999)])
def test_adam_is_torchs(betas):
    random = torch.Generator().manual_seed(0)
    ours = torch.randn(40, generator=random)
    leaf = ours.clone().requires_grad_()
    moments = torch.zeros(40), torch.zeros(40)
    optimizer = torch.optim.Adam([leaf], lr=0.03, betas=betas)
    for count in range(1, 6):
        leaf.grad = torch.randn(40, generator=random) * 10.0**-count
        adam_step(ours, leaf.grad, moments, 0.03, count, betas)
        optimizer.step()
        torch.testing.assert_close(ours, leaf.detach(), rtol=1e-6, atol=1e-7)


def test_losses_of_a_small_plane_are_those_of_pencil_and_paper():
    plane = torch.tensor([[[0.0, 1.0, 3.0], [0.0, 2.0, 2.0]]])  # rows differ by 0, 1, -1
    assert losses.total_variation(plane).item() == pytest.approx(2 * (2 / 3 + (1 + 4 + 4 + 0) / 4))
    assert losses.l1([plane, -plane]).item() == pytest.approx(2 * 8 / 6)
    line = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.0, 1.0]])  # products 1, 2, -1
    assert losses.orthogonality([line]).item() == pytest.approx((1 + 2 + 1) / 3)
    assert losses.orthogonality([line[:1]]).item() == 0
    weights, middle, length = torch.tensor([[[0.5, 0.2], [1.0, 4.0], [0.1, 0.3]]]).unbind(1)
    wanted = 2 * 0.5 * 0.2 * 3 + (0.25 * 0.1 + 0.04 * 0.3) / 3
    assert losses.distortion(weights, middle, length).item() == pytest.approx(wanted)


def test_lpips_that_is_not_installed_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(InputError, match=r"pip install 'landmark-viewer\[lpips\]'"):
        losses.perceptual_loss(torch.device("cpu"))


def test_lpips_sees_pictures_as_it_wants_them(monkeypatch):
    """The network gets [1, 3, height, width] in [-1, 1], and its weights are left alone."""

    class Network(torch.nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            assert first.shape == (1, 3, 4, 5)
            assert first.min() == -1
            assert first.max() == 1
            return self.scale * (first - second).square().mean(dim=1, keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Network))
    picture = torch.linspace(0, 1, 60).view(4, 5, 3).requires_grad_()
    loss = losses.perceptual_loss(torch.device("cpu"))(picture, torch.zeros(4, 5, 3))
    loss.backward()
    assert loss.item() == pytest.approx(4 * picture.square().mean().item())
    assert picture.grad.any()


def test_lpips_without_its_weights_is_an_error(monkeypatch):
    def no_net(**_: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=no_net))
    with pytest.raises(InputError, match=r"weights of VGG, .* got: no route to host"):
        losses.perceptual_loss(torch.device("cpu"))
