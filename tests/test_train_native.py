"""The native training step against dense torch autograd: predictions, losses, counts and every gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from landmark_viewer.core.blocks import BlockLayout
from landmark_viewer.core.compositing import render_weights
from landmark_viewer.core.gridnerf import DIRECTION_AXES, positional_encoding
from landmark_viewer.core.occupancy import OccupancyGrid
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.train_tables import (
    Gradients,
    PlaneUpdate,
    RayBatch,
    StepResult,
    TrainOptions,
    TrainTables,
)

from .small_fields import AABB, SHAPES, Shape, make_field

CASES = {
    name: shape for name, shape in SHAPES.items() if not shape.missing and name not in ("thin", "empty mask")
} | {
    "decoder of the real ones": Shape(
        levels=3,
        density=(8,),
        appearance=(24,),
        feature_dim=27,
        hidden=128,
        latent=48,
        opacity=0.3,
    ),
    "wide and soft": Shape(density=(16,), appearance=(48,), activation="softplus", opacity=0.2, latent=3),
    "thin in every axis": Shape(grid=(1, 2, 1)),
    "five levels": Shape(levels=5, grid=(5, 4, 3)),
    "blocks and mask": Shape(division=(2, 2), mask=(17, 15, 6), activation="softplus", opacity=0.3),
}


@pytest.fixture(autouse=True)
def _library_and_one_thread_for_torch() -> Iterator[None]:
    status = ops.backend_status()
    if status.name != "native":
        pytest.skip(status.detail)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the oracle's tensors are small
    yield
    torch.set_num_threads(threads)


def make_tables(shape: Shape, seed: int = 0) -> TrainTables:
    """The tables of a small field, blocks stacked."""
    tables = make_field(shape, seed).tables(Precision.FULL)

    def stack(name: str) -> tuple[Tensor, ...]:
        by_block = (getattr(block, name) for block in tables.blocks)
        return tuple(torch.stack(group) for group in zip(*by_block, strict=True))

    return TrainTables(
        aabb=tables.aabb,
        division=tables.division,
        n_directions=tables.n_directions,
        n_levels=tables.n_levels,
        density_channels=tables.density_channels,
        appearance_channels=tables.appearance_channels,
        density_planes=stack("density_planes"),
        density_lines=stack("density_lines"),
        appearance_planes=stack("appearance_planes"),
        appearance_lines=stack("appearance_lines"),
        activation=tables.activation,
        density_shift=tables.density_shift,
        density_basis=tables.density_basis,
        decoder=tables.decoder,
        embedding=make_field(shape, seed).embedding,
        occupancy=tables.occupancy,
    )


def make_batch(n: int = 150, seed: int = 0, n_codes: int = 3) -> RayBatch:
    """Rays from above, from inside, and some that miss the box or run along an axis."""
    random = torch.Generator().manual_seed(seed)
    low, high = AABB
    origins = low + (high - low) * (1.4 * torch.rand(n, 3, generator=random) - 0.2)
    origins[: n // 2, 2] = 1.5
    directions = 0.5 * torch.randn(n, 3, generator=random)
    directions[: n // 2, 2] = -1.0
    directions[0] = torch.tensor([0.0, 0.0, -1.0])
    return RayBatch(
        origins,
        directions,
        torch.rand(n, 3, generator=random),
        torch.rand(n, generator=random),
        torch.randint(n_codes, (n,), generator=random).to(torch.int32),
    )


def make_options(**changes: object) -> TrainOptions:
    options = TrainOptions(
        near=0.1,
        far=6.0,
        step=0.06,
        n_samples=70,
        distance_scale=25.0,
        weight_threshold=1e-3,
        mask_threshold=1e-4,
        background=(1.0, 1.0, 1.0),
    )
    return replace(options, **changes)


# The oracle


def parameters(tables: TrainTables) -> dict[str, Tensor]:
    """Every parameter under the name that its gradient has in Gradients."""
    found = {"basis": tables.decoder.basis}
    for name in ("density_planes", "density_lines", "appearance_planes", "appearance_lines"):
        found |= {f"{name}.{p}": tensor for p, tensor in enumerate(getattr(tables, name))}
    for number, (weight, bias) in enumerate(tables.decoder.layers):
        found[f"weight.{number}"] = weight
        if bias is not None:
            found[f"bias.{number}"] = bias
    if tables.density_basis is not None:
        found["density_basis"] = tables.density_basis
    if tables.embedding is not None:
        found["embedding"] = tables.embedding
    return found


def flat(gradients: Gradients) -> dict[str, Tensor]:
    """Gradients under the names of `parameters`."""
    found = {"basis": gradients.basis}
    for name in ("density_planes", "density_lines", "appearance_planes", "appearance_lines"):
        found |= {f"{name}.{p}": tensor for p, tensor in enumerate(getattr(gradients, name) or ())}
    for number, (weight, bias) in enumerate(gradients.layers):
        found[f"weight.{number}"] = weight
        if bias is not None:
            found[f"bias.{number}"] = bias
    for name in ("density_basis", "embedding"):
        if getattr(gradients, name) is not None:
            found[name] = getattr(gradients, name)
    return found


def products(
    leaves: dict[str, Tensor], tables: TrainTables, kind: str, block: Tensor, local: Tensor
) -> Tensor:
    """Plane times line of every table by grid_sample, unpadded. [n, n_levels * sum(channels)]"""
    channels = tables.density_channels if kind == "density" else tables.appearance_channels
    parts = []
    for p in range(tables.n_directions * tables.n_levels):
        direction = p // tables.n_levels
        u, v, w = DIRECTION_AXES[direction]
        plane, line = leaves[f"{kind}_planes.{p}"], leaves[f"{kind}_lines.{p}"]
        on_plane = local.new_zeros(len(local), plane.shape[-1])
        on_line = local.new_zeros(len(local), plane.shape[-1])
        for number in range(tables.n_blocks):
            inside = (block == number).nonzero().squeeze(-1)
            if not len(inside):
                continue
            at = local[inside]
            grid = at[:, [u, v]].view(1, -1, 1, 2)
            values = F.grid_sample(plane[number].permute(2, 0, 1)[None], grid, align_corners=True)
            on_plane = on_plane.index_copy(0, inside, values[0, :, :, 0].T)
            grid = torch.stack([torch.zeros(len(at)), at[:, w]], dim=-1).view(1, -1, 1, 2)
            values = F.grid_sample(line[number].T[None, :, :, None], grid, align_corners=True)
            on_line = on_line.index_copy(0, inside, values[0, :, :, 0].T)
        parts.append((on_plane * on_line)[:, : channels[direction]])
    return torch.cat(parts, dim=1)


def sample_distances(tables: TrainTables, batch: RayBatch, options: TrainOptions) -> Tensor:
    safe = torch.where(batch.directions == 0, torch.full_like(batch.directions, 1e-6), batch.directions)
    to_high, to_low = ((corner - batch.origins) / safe for corner in (tables.aabb[1], tables.aabb[0]))
    first = torch.minimum(to_high, to_low).amax(dim=-1).clamp(options.near, options.far)
    number = torch.arange(options.n_samples, dtype=torch.float32)[None] + batch.jitter[:, None]
    return first[:, None] + torch.tensor(options.step) * number


def distortion(weights: Tensor, t: Tensor, delta: Tensor) -> Tensor:
    """By its definition: all pairs of samples. Mean over the rays."""
    middle = torch.cat([0.5 * (t[:, 1:] + t[:, :-1]), 0.5 * (t[:, -1:] + t[:, -2:-1])], dim=1)
    pairs = weights[:, :, None] * weights[:, None] * (middle[:, :, None] - middle[:, None]).abs()
    return (pairs.sum(dim=(1, 2)) + (delta * weights.square()).sum(dim=1) / 3).mean()


def oracle(
    tables: TrainTables, batch: RayBatch, options: TrainOptions
) -> tuple[StepResult, dict[str, Tensor]]:
    """One step with every sample of every ray in dense tensors, and its gradients by autograd."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in parameters(tables).items()}
    t = sample_distances(tables, batch, options)
    points = batch.origins[:, None] + batch.directions[:, None] * t[..., None]
    kept = ((points >= tables.aabb[0]) & (points <= tables.aabb[1])).all(dim=-1)
    if tables.occupancy is not None and kept.any():
        mask = OccupancyGrid(tables.occupancy.nodes, tables.occupancy.aabb)
        kept[kept.clone()] = mask.sample(points[kept]) > options.mask_threshold
    low, high = tables.aabb
    block, local = BlockLayout(tables.division).locate((points[kept] - low) * (2.0 / (high - low)) - 1)
    feature = products(leaves, tables, "density", block, local)
    feature = (
        feature.sum(dim=1) if tables.density_basis is None else torch.relu(feature @ leaves["density_basis"])
    )
    soft = tables.activation == "softplus"
    value = F.softplus(feature + tables.density_shift) if soft else torch.relu(feature)
    value = value * ((block >= 0) & (block < tables.n_blocks))
    sigma = torch.zeros_like(t).masked_scatter(kept, value)
    delta = torch.cat([t[:, 1:] - t[:, :-1], torch.zeros_like(t[:, :1])], dim=1)
    weights = render_weights(sigma, delta * options.distance_scale)
    shaded = weights > options.weight_threshold
    ray = shaded.nonzero()[:, 0]
    of_shaded = torch.zeros_like(kept, dtype=torch.int64)
    of_shaded[kept] = torch.arange(len(block))
    of_shaded = of_shaded[shaded]
    colors = torch.zeros(*t.shape, 3)
    if len(ray):
        appearance = products(leaves, tables, "appearance", block[of_shaded], local[of_shaded])
        shades = decode(leaves, tables, batch, appearance, ray)
        colors = colors.masked_scatter(shaded[..., None].expand(*t.shape, 3), shades)
    background = (1 - weights.sum(dim=1, keepdim=True)) * torch.tensor(options.background)
    rgb = ((weights[..., None] * colors).sum(dim=1) + background).clamp(0, 1)
    loss = F.mse_loss(rgb, batch.rgb)
    spread = options.distortion_weight * distortion(torch.where(shaded, weights, 0.0), t, delta)
    nothing = sum(0.0 * leaf.sum() for leaf in leaves.values())
    (loss + spread + nothing).backward()
    gradients = {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for name, leaf in leaves.items()
    }
    result = StepResult(
        rgb.detach(),
        loss.item(),
        Gradients((), (), torch.empty(0), ()),
        distortion=spread.item(),
        n_inside=int(kept.sum()),
        n_dense=int((sigma > 0).sum()),
        n_shaded=int(shaded.sum()),
    )
    return result, gradients


def decode(
    leaves: dict[str, Tensor], tables: TrainTables, batch: RayBatch, products: Tensor, ray: Tensor
) -> Tensor:
    decoder, feature = tables.decoder, F.linear(products, leaves["basis"])
    directions = batch.directions[ray]
    inputs = [feature]
    if tables.embedding is not None:
        inputs.append(leaves["embedding"][batch.codes.long()[ray]])
    if decoder.view_pe > -1:
        inputs.append(directions)
    if decoder.feature_pe > 0:
        inputs.append(positional_encoding(feature, decoder.feature_pe))
    if decoder.view_pe > 0:
        inputs.append(positional_encoding(directions, decoder.view_pe))
    hidden = torch.cat(inputs, dim=1)
    for number in range(3):
        hidden = F.linear(hidden, leaves[f"weight.{number}"], leaves.get(f"bias.{number}"))
        hidden = torch.relu(hidden) if number < 2 else torch.sigmoid(hidden)
    return hidden


def compare(tables: TrainTables, batch: RayBatch, options: TrainOptions, magnified: float = 1.0) -> None:
    result = ops.train_step(tables, batch, options, backend="native")
    expected, gradients = oracle(tables, batch, options)
    for count in ("n_inside", "n_dense", "n_shaded"):
        assert getattr(result, count) == getattr(expected, count), count
    assert (result.rgb - expected.rgb).abs().max() < 1e-6 * magnified
    assert result.loss == pytest.approx(expected.loss, rel=2e-6)
    assert result.distortion == pytest.approx(expected.distortion, rel=1e-5)
    found = flat(result.gradients)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert found[name].shape == gradient.shape, name
        error = (found[name] - gradient).abs().max()
        assert error <= 5e-6 * magnified * gradient.abs().max(), f"{name}: {error / gradient.abs().max()}"


@pytest.mark.parametrize("name", CASES)
def test_a_step_equals_dense_autograd(name: str) -> None:
    # Densities of hundreds magnify the rounding of the features, in torch as much as here.
    magnified = 10.0 if name == "opaque" else 1.0
    compare(make_tables(CASES[name]), make_batch(), make_options(), magnified)


@pytest.mark.parametrize(
    "changes",
    [
        {"distortion_weight": 0.01},
        {"background": (0.0, 0.0, 0.0)},
        {"background": (1.3, 0.5, -0.4)},
        {"weight_threshold": 0.05},
        {"n_samples": 12},
        {"n_samples": 1},
        {"step": 0.004, "n_samples": 800},
        {"near": 1.2, "far": 1.6},
        {"distance_scale": 4.0, "distortion_weight": 0.3},
    ],
    ids=str,
)
@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_every_option_counts(changes: dict[str, object], activation: str) -> None:
    shape = Shape(levels=2, density=(8,), latent=4, activation=activation, mask=(23, 19, 9), opacity=0.3)
    n = 12 if changes.get("n_samples") == 800 else 100
    compare(make_tables(shape), make_batch(n), make_options(**changes))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0, -1.0])
def test_the_mask_decides_which_samples_count(threshold: float) -> None:
    shape = Shape(mask=(9, 8, 5), mask_share=0.7, mask_shift=0.2)
    if threshold < 0:  # the box of the mask does not count either
        shape = replace(shape, mask_shift=0.0)
    compare(make_tables(shape), make_batch(), make_options(mask_threshold=threshold))


def test_a_batch_of_one_ray_and_one_that_sees_nothing() -> None:
    tables = make_tables(Shape(latent=2))
    compare(tables, make_batch(1), make_options())
    away = replace(make_batch(3), directions=torch.tensor([[0.0, 0.0, 1.0]]).repeat(3, 1))
    compare(tables, away, make_options())


def make_update(tables: TrainTables, **changes: object) -> PlaneUpdate:
    def moments(planes: tuple[Tensor, ...]) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple((torch.zeros_like(plane), torch.zeros_like(plane)) for plane in planes)

    update = PlaneUpdate(
        moments(tables.density_planes),
        moments(tables.appearance_planes),
        learning_rate=0.02,
        count=1,
        tv_density=0.1,
        tv_appearance=0.01,
        l1_density=8e-5,
    )
    return replace(update, **changes)


def total_variation(plane: Tensor, n_channels: int) -> Tensor:
    n_v, n_u = plane.shape[:2]
    down, right = (plane[1:] - plane[:-1]).square().sum(), (plane[:, 1:] - plane[:, :-1]).square().sum()
    down = down / (n_channels * (n_v - 1) * n_u) if n_v > 1 else 0
    return 2 * (down + (right / (n_channels * n_v * (n_u - 1)) if n_u > 1 else 0))


def regularised(tables: TrainTables, update: PlaneUpdate, kind: str) -> list[Tensor]:
    """Gradients of total variation and L1, plane by plane."""
    found = []
    channels = tables.density_channels if kind == "density" else tables.appearance_channels
    weight = update.tv_density if kind == "density" else update.tv_appearance
    for p, plane in enumerate(getattr(tables, f"{kind}_planes")):
        n = channels[p // tables.n_levels]
        leaf = plane.clone().requires_grad_()
        loss = sum(weight * total_variation(block, n) for block in leaf) + 0 * leaf.sum()
        if kind == "density":
            loss = loss + update.l1_density * sum(block[..., :n].abs().mean() for block in leaf)
        loss.backward()
        found.append(leaf.grad)
    return found


@pytest.mark.parametrize(
    "shape",
    [
        SHAPES["three levels"],
        SHAPES["three directions"],
        SHAPES["blocks"],
        CASES["thin in every axis"],
        SHAPES["wide channels"],
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "changes", [{}, {"tv_density": 0.0, "tv_appearance": 0.0, "l1_density": 0.0}], ids=str
)
def test_an_update_is_adam_on_all_gradients(shape: Shape, changes: dict[str, float]) -> None:
    tables, batch, options = make_tables(shape), make_batch(), make_options()
    update = make_update(tables, **changes)
    _, gradients = oracle(tables, batch, options)
    before = {name: tensor.clone() for name, tensor in parameters(tables).items()}
    expected = {kind: regularised(tables, update, kind) for kind in ("density", "appearance")}
    result = ops.train_step(tables, batch, options, update, backend="native")
    assert result.gradients.density_planes is None
    assert result.gradients.appearance_planes is None
    for kind, moments in (("density", update.density_moments), ("appearance", update.appearance_moments)):
        for p, (first, second) in enumerate(moments):
            gradient = gradients[f"{kind}_planes.{p}"] + expected[kind][p]
            largest = gradient.abs().max()
            assert (first * 10 - gradient).abs().max() <= 5e-6 * largest
            torch.testing.assert_close(second, 0.01 * (first * 10).square(), rtol=1e-5, atol=1e-37)
            moved = before[f"{kind}_planes.{p}"] - 0.02 * (first / (1 - 0.9)) / (
                (second / (1 - 0.99)).sqrt() + 1e-8
            )
            torch.testing.assert_close(getattr(tables, f"{kind}_planes")[p], moved, rtol=0, atol=1e-6)
    for name, tensor in parameters(tables).items():
        if "planes" not in name:
            assert torch.equal(tensor, before[name])


def test_moments_run_on_as_in_torch() -> None:
    """Three steps on planes that no ray meets: Adam on total variation alone."""
    tables, options = make_tables(Shape(levels=2)), make_options()
    away = replace(make_batch(3), directions=torch.tensor([[0.0, 0.0, 1.0]]).repeat(3, 1))
    leaves = [plane.clone().double().requires_grad_() for plane in tables.density_planes]
    adam = torch.optim.Adam(leaves, lr=0.02, betas=(0.9, 0.99), eps=1e-8)
    update = make_update(tables, l1_density=0.0)
    for count in (1, 2, 3):
        ops.train_step(tables, away, options, replace(update, count=count), backend="native")
        adam.zero_grad()
        sum(update.tv_density * total_variation(leaf[0], 4) for leaf in leaves).backward()
        adam.step()
    for plane, leaf in zip(tables.density_planes, leaves, strict=True):
        close = (plane - leaf).abs() < 1e-4
        assert close.float().mean() > 0.995  # where differences cancel, Adam magnifies the rounding


@pytest.mark.parametrize("name", ["three levels", "blocks and mask", "three directions"])
def test_results_do_not_depend_on_threads(name: str) -> None:
    def run(threads: int) -> list[Tensor]:
        tables = make_tables(CASES[name])
        update = make_update(tables)
        seen = []
        for count in range(1, 5):
            options = make_options(threads=threads, distortion_weight=0.01)
            batch = make_batch(300, seed=count)
            result = ops.train_step(tables, batch, options, replace(update, count=count), backend="native")
            seen += [result.rgb, torch.tensor(result.loss), *flat(result.gradients).values()]
        moments = (*update.density_moments, *update.appearance_moments)
        return [*seen, *parameters(tables).values(), *(part for pair in moments for part in pair)]

    first = run(1)
    for threads in (2, 3, 7):
        for one, other in zip(first, run(threads), strict=True):
            assert torch.equal(one, other)


def test_padding_stays_zero() -> None:
    tables = make_tables(SHAPES["three directions"])
    update = make_update(tables)
    for count in (1, 2):
        ops.train_step(tables, make_batch(), make_options(), replace(update, count=count), backend="native")
    for p, plane in enumerate(tables.appearance_planes):
        assert not plane[..., tables.appearance_channels[p // tables.n_levels] :].any()


def test_a_changed_mask_is_seen() -> None:
    tables = make_tables(Shape(mask=(9, 8, 5), mask_share=1.0))
    whole = ops.train_step(tables, make_batch(), make_options(), backend="native")
    tables.occupancy.nodes[:, :, 4:] = 0
    half = ops.train_step(tables, make_batch(), make_options(), backend="native")
    assert 0 < half.n_inside < whole.n_inside


def test_what_needs_autograd_goes_to_torch() -> None:
    tables, batch = make_tables(Shape()), make_batch(20)
    options = make_options(extra_loss=lambda rgb: 0.25 * rgb.mean())
    result = ops.train_step(tables, batch, options)
    assert result.extra == pytest.approx(0.25 * result.rgb.mean().item())
    with pytest.raises(RuntimeError, match="no extra loss"):
        ops.train_step(tables, batch, options, backend="native")


@pytest.mark.parametrize("name", ["three levels", "blocks", "nonlinear softplus", "three directions"])
def test_both_back_ends_leave_the_same(name: str) -> None:
    def run(backend: str) -> tuple[StepResult, PlaneUpdate]:
        tables = make_tables(CASES[name])
        update = make_update(tables)
        options = make_options(distortion_weight=0.01)
        return ops.train_step(tables, make_batch(), options, update, backend), update

    (native, native_update), (twin, twin_update) = run("native"), run("torch")
    assert (native.n_inside, native.n_dense, native.n_shaded) == (twin.n_inside, twin.n_dense, twin.n_shaded)
    assert native.loss == pytest.approx(twin.loss, rel=2e-6)
    assert native.distortion == pytest.approx(twin.distortion, rel=1e-5)
    found, expected = flat(native.gradients), flat(twin.gradients)
    assert found.keys() == expected.keys()
    for update, seen in ((native_update, found), (twin_update, expected)):
        for kind in ("density_moments", "appearance_moments"):
            seen |= {f"{kind}.{p}": first for p, (first, _) in enumerate(getattr(update, kind))}
    for key, gradient in expected.items():
        assert (found[key] - gradient).abs().max() <= 5e-6 * gradient.abs().max(), key


BAD = {
    "n_directions must be 1 or 3": lambda t, b, o: (replace(t, n_directions=2), b, o),
    "activation must be": lambda t, b, o: (replace(t, activation="exp"), b, o),
    "density plane 0 must be": lambda t, b, o: (
        replace(t, density_planes=tuple(x.double() for x in t.density_planes)),
        b,
        o,
    ),
    "appearance line 0 must be": lambda t, b, o: (
        replace(t, appearance_lines=tuple(x[..., :4] for x in t.appearance_lines)),
        b,
        o,
    ),
    "planes and lines": lambda t, b, o: (replace(t, density_planes=t.density_planes * 2), b, o),
    "embedding must be given": lambda t, b, o: (replace(t, embedding=None), b, o),
    "codes must name": lambda t, b, o: (t, replace(b, codes=None), o),
    "codes must be rows": lambda t, b, o: (t, replace(b, codes=b.codes + 9), o),
    "jitter must be": lambda t, b, o: (t, replace(b, jitter=b.jitter[:-1]), o),
    "at least one ray": lambda t, b, o: (t, replace(b, origins=b.origins[:0]), o),
    "at least one sample": lambda t, b, o: (t, b, replace(o, n_samples=0)),
    "step must be positive": lambda t, b, o: (t, b, replace(o, step=float("nan"))),
    "weight_threshold must not": lambda t, b, o: (t, b, replace(o, weight_threshold=-0.1)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arguments_are_named(message: str) -> None:
    arguments = BAD[message](make_tables(Shape(latent=2)), make_batch(5), make_options())
    with pytest.raises(ValueError, match=message):
        ops.train_step(*arguments)


def test_bad_updates_are_named() -> None:
    tables = make_tables(Shape())
    update = make_update(tables)
    with pytest.raises(ValueError, match="count must be 1 or more"):
        ops.train_step(tables, make_batch(5), make_options(), replace(update, count=0))
    wrong = replace(update, density_moments=tuple((a[:, 1:], b) for a, b in update.density_moments))
    with pytest.raises(ValueError, match="moment of density plane 0 must be"):
        ops.train_step(tables, make_batch(5), make_options(), wrong)
