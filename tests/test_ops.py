"""The kernels against the plain reference renderer, over fields of every shape."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.reference import render_reference
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.tables import (
    FieldTables,
    FrameBuffers,
    NerfMode,
    Quality,
    RenderControl,
    RenderOptions,
    View,
)

from .small_fields import (
    SHAPES,
    Shape,
    camera,
    make_field,
    random_points,
    with_half_planes,
    with_settings,
)

BACKENDS = ["torch", "native"]
SIZES = [(1, 1), (7, 5), (33, 20)]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Both back ends; the native one only where it can be built."""
    status = ops.backend_status()
    if request.param == "native" and status.name != "native":
        pytest.skip(status.detail)
    return str(request.param)


@pytest.fixture
def library():
    """The loaded host library."""
    found = ops._native.get()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def picture(
    tables: FieldTables,
    view: View,
    options: RenderOptions,
    backend: str,
    control: RenderControl | None = None,
) -> FrameBuffers:
    buffers = FrameBuffers.empty(view.width, view.height, options.normals)
    assert ops.render(tables, view, options, buffers, control, backend)
    return buffers


def reference_picture(model: GridNeRF, view: View, options: RenderOptions) -> FrameBuffers:
    buffers = FrameBuffers.empty(view.width, view.height, options.normals)
    assert render_reference(model, view, options, buffers)
    return buffers


def share_beyond(a: torch.Tensor, b: torch.Tensor, bound: float) -> float:
    return float(((a - b).abs() > bound).float().mean())


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).double().square().mean().clamp(min=1e-20)))


def assert_same_picture(got: FrameBuffers, wanted: FrameBuffers) -> None:
    """Equal to the rounding; one sample in a thousand may fall on the other side of the weight threshold."""
    assert (got.opacity - wanted.opacity).abs().max() < 1e-5
    assert (got.depth - wanted.depth).abs().max() < 1e-4
    assert share_beyond(got.rgb, wanted.rgb, 2e-5) < 2e-3
    assert (got.rgb - wanted.rgb).abs().max() < 2e-3
    assert share_beyond(got.median_depth, wanted.median_depth, 1e-5) < 5e-3
    if wanted.normals is not None:
        same_surface = (got.median_depth - wanted.median_depth).abs() < 1e-5
        assert share_beyond(got.normals[same_surface], wanted.normals[same_surface], 1e-2) < 5e-3


@pytest.mark.parametrize("sampling", ["box", "hull"])
@pytest.mark.parametrize("name", SHAPES)
def test_exact_picture_is_the_references(name: str, sampling: str, backend: str) -> None:
    model = with_settings(make_field(SHAPES[name]), sampling=sampling)
    tables = model.tables(Precision.FULL)
    for number, size in enumerate(SIZES):
        options = replace(options_for(model, RenderSettings()), normals=True, threads=2)
        view = view_of(camera(*size, view=number))
        assert_same_picture(picture(tables, view, options, backend), reference_picture(model, view, options))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.5, 0.98, 0.99995])
@pytest.mark.parametrize("name", ["sparse mask", "dense mask", "mask of another box", "full mask"])
def test_samples_count_where_the_mask_exceeds_the_threshold(
    name: str, threshold: float, backend: str
) -> None:
    model = with_settings(make_field(SHAPES[name]), alpha_mask_threshold=threshold)
    options = options_for(model, RenderSettings())
    view = view_of(camera(40, 30))
    got = picture(model.tables(Precision.FULL), view, options, backend)
    assert_same_picture(got, reference_picture(model, view, options))


@pytest.mark.parametrize("name", ["plain", "three directions", "channels of the real ones", "blocks"])
def test_half_precision_planes_are_computed_in_full(name: str, backend: str) -> None:
    model = make_field(SHAPES[name])
    options, view = options_for(model, RenderSettings()), view_of(camera(33, 20))
    got = picture(model.tables(Precision.HALF), view, options, backend)
    assert_same_picture(got, reference_picture(with_half_planes(model), view, options))


@given(
    shape=st.builds(
        Shape,
        levels=st.integers(1, 3),
        density=st.tuples(st.integers(1, 20)),
        appearance=st.tuples(st.integers(1, 50)),
        grid=st.tuples(st.integers(2, 15), st.integers(2, 15), st.integers(1, 7)),
        division=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        feature_dim=st.integers(1, 35),
        hidden=st.integers(1, 70),
        latent=st.integers(0, 9),
        feature_pe=st.integers(0, 3),
        view_pe=st.integers(-1, 3),
        bias=st.booleans(),
        nonlinear=st.booleans(),
        activation=st.sampled_from(["relu", "softplus"]),
        mask=st.none() | st.tuples(st.integers(2, 20), st.integers(2, 20), st.integers(2, 9)),
        mask_share=st.sampled_from([0.02, 0.3, 0.9]),
    ),
    sampling=st.sampled_from(["box", "hull"]),
    view=st.integers(0, 2),
    seed=st.integers(0, 100),
)
@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_fields_of_any_shape_are_the_references(
    backend: str, shape: Shape, sampling: str, view: int, seed: int
) -> None:
    model = with_settings(make_field(shape, seed), sampling=sampling)
    options, seen = options_for(model, RenderSettings()), view_of(camera(12, 9, view))
    got = picture(model.tables(Precision.FULL), seen, options, backend)
    wanted = reference_picture(model, seen, options)
    assert (got.opacity - wanted.opacity).abs().max() < 1e-5
    assert share_beyond(got.rgb, wanted.rgb, 5e-5) < 0.02


@pytest.mark.parametrize("mode", [NerfMode.ALONE, NerfMode.RESIDUAL])
@pytest.mark.parametrize(
    "shape",
    [
        Shape(nerf=True),
        Shape(nerf=True, levels=2, latent=7, division=(2, 2), missing=(1,)),
        Shape(nerf=True, directions=3, density=(5, 3, 4), appearance=(6, 9, 2), mask=(9, 8, 5)),
    ],
    ids=["plain", "blocks and latent", "directions and mask"],
)
def test_nerf_branch_is_the_references(shape: Shape, mode: NerfMode, backend: str) -> None:
    model = with_settings(make_field(shape), run_nerf=True, residual_nerf=mode is NerfMode.RESIDUAL)
    options, view = options_for(model, RenderSettings()), view_of(camera(33, 20))
    assert options.nerf is mode
    got = picture(model.tables(Precision.FULL), view, options, backend)
    wanted = reference_picture(model, view, options)
    assert share_beyond(got.rgb, wanted.rgb, 1e-4) < 2e-3
    assert share_beyond(got.depth, wanted.depth, 1e-3) < 2e-3
    assert share_beyond(got.opacity, wanted.opacity, 1e-4) < 2e-3


@pytest.mark.parametrize("name", SHAPES)
def test_probes_equal_the_models_queries(name: str, backend: str) -> None:
    model = make_field(SHAPES[name])
    tables = model.tables(Precision.FULL)
    points = random_points(400)
    latent = model.latent(1)
    directions = torch.randn(400, 3, generator=torch.Generator().manual_seed(1))
    probe = ops.probe(tables, points, backend)
    scale = max(1.0, SHAPES[name].opacity)
    assert (probe.density_feature - model.density_feature(points)).abs().max() < 1e-5 * scale
    assert (probe.sigma - model.sigma(points)).abs().max() < 1e-5 * scale
    wanted = model.appearance_feature(points)
    assert (probe.appearance_feature - wanted).abs().max() < 1e-5
    colors = ops.decode(tables, wanted, directions, latent, backend)
    assert (colors - model.color(wanted, directions, latent)).abs().max() < 1e-5


@pytest.mark.parametrize("n", [0, 1, 95, 96, 97, 1000])
@pytest.mark.parametrize("name", SHAPES)
def test_features_are_decoded_alike_in_batches_of_any_size(name: str, n: int, library) -> None:
    model = make_field(SHAPES[name])
    tables = model.tables(Precision.FULL)
    generator = torch.Generator().manual_seed(n)
    features = torch.randn(n, tables.decoder.basis.shape[0], generator=generator)
    turns = torch.randn(7, 3, generator=generator)  # directions that repeat, and that change inside a batch
    directions = turns[torch.arange(n) // 3 % 7]
    codes = None if model.embedding is None else model.embedding
    wanted = ops.decode(tables, features, directions, codes, "torch")
    got = ops.decode(tables, features, directions, codes, "native")
    assert got.shape == wanted.shape
    assert not n or (got - wanted).abs().max() < 1e-5
    alone = ops.decode(tables, features[n // 2 :], directions[n // 2 :], codes, "native")
    assert torch.equal(alone, got[..., n // 2 :, :]), "a row's colour depends on its neighbours"
    if codes is not None:
        assert wanted.shape == (len(codes), n, 3)
        assert torch.equal(ops.decode(tables, features, directions, codes[1], "native"), got[1])


@pytest.mark.parametrize("quality", list(Quality))
@pytest.mark.parametrize("name", SHAPES)
def test_the_code_that_the_gpu_runs_gives_the_hosts_picture(name: str, quality: Quality, library) -> None:
    model = make_field(SHAPES[name])
    tables = model.tables(Precision.FULL)
    options = replace(options_for(model, RenderSettings(quality=quality)), normals=True)
    view = view_of(camera(20, 14))
    scalar = FrameBuffers.empty(20, 14, normals=True)
    library.render_scalar(tables, view, options, scalar)
    got = picture(tables, view, options, "native")
    assert share_beyond(scalar.rgb, got.rgb, 2e-5) < 0.02
    assert psnr(scalar.rgb, got.rgb) > 60
    assert (scalar.opacity - got.opacity).abs().max() < (1e-2 if quality is Quality.FAST else 1e-5)
    assert share_beyond(scalar.median_depth, got.median_depth, 1e-5) < 0.01
    assert share_beyond(scalar.normals, got.normals, 1e-2) < 0.02


def smooth_field() -> GridNeRF:
    """A field whose colour varies as gently along a ray as a trained one's."""
    model = make_field(
        Shape(levels=2, density=(8,), appearance=(16,), grid=(6, 6, 3), feature_dim=9, hidden=32)
    )
    weight, bias = model.decoder.layers[0]
    layers = ((weight * 0.4, bias), *model.decoder.layers[1:])
    return replace(model, decoder=replace(model.decoder, layers=layers))


@pytest.mark.parametrize(("quality", "floor"), [(Quality.CLUSTERED, 40.0), (Quality.FAST, 28.0)])
def test_lesser_qualities_come_close_to_exact(quality: Quality, floor: float, backend: str) -> None:
    model = smooth_field()
    tables, view = model.tables(Precision.FULL), view_of(camera(64, 48))
    exact = picture(tables, view, options_for(model, RenderSettings()), backend)
    lesser = picture(tables, view, options_for(model, RenderSettings(quality=quality)), backend)
    assert psnr(lesser.rgb, exact.rgb) > floor
    assert abs(float((lesser.rgb - exact.rgb).mean())) < 5e-3, "brightness must not drift"
    assert (lesser.opacity - exact.opacity).abs().max() < 0.011


def test_any_number_of_threads_gives_the_same_bits(library) -> None:
    model = make_field(SHAPES["channels of the real ones"])
    tables, view = model.tables(Precision.FULL), view_of(camera(61, 45))
    for quality in Quality:
        options = options_for(model, RenderSettings(quality=quality))
        frames = [picture(tables, view, replace(options, threads=threads), "native") for threads in (1, 2, 5)]
        for other in frames[1:]:
            assert torch.equal(frames[0].rgb, other.rgb)
            assert torch.equal(frames[0].depth, other.depth)


def test_tiles_in_any_order_give_the_same_picture(backend: str) -> None:
    model = make_field(SHAPES["three levels"])
    tables, view = model.tables(Precision.FULL), view_of(camera(43, 29))
    options = options_for(model, RenderSettings())
    whole = picture(tables, view, options, backend)
    order = np.random.default_rng(3).permutation(6 * 4)
    shuffled = picture(tables, view, options, backend, RenderControl(43, 29, order))
    bound = 0 if backend == "native" else 1e-6
    assert (whole.rgb - shuffled.rgb).abs().max() <= bound
    assert (whole.depth - shuffled.depth).abs().max() <= 1e-6


def test_only_the_ordered_tiles_are_touched(backend: str) -> None:
    model = make_field(SHAPES["plain"])
    tables, view = model.tables(Precision.FULL), view_of(camera(24, 16))
    control = RenderControl(24, 16, np.array([4]))
    buffers = FrameBuffers.empty(24, 16)
    buffers.rgb.fill_(7.0)
    assert ops.render(tables, view, options_for(model, RenderSettings()), buffers, control, backend)
    inside = torch.zeros(16, 24, dtype=torch.bool)
    inside[8:16, 8:16] = True
    assert (buffers.rgb[~inside] == 7).all()
    assert (buffers.rgb[inside] <= 1).all()
    assert control.tile_done.tolist() == [0, 0, 0, 0, 1, 0]
    assert control.progress == 1.0


def test_a_cancelled_render_starts_nothing(backend: str) -> None:
    model = make_field(SHAPES["plain"])
    control = RenderControl(24, 16)
    control.cancel()
    buffers = FrameBuffers.empty(24, 16)
    view, options = view_of(camera(24, 16)), options_for(model, RenderSettings())
    assert not ops.render(model.tables(Precision.FULL), view, options, buffers, control, backend)
    assert control.done_count[0] == 0
    assert (buffers.rgb == 0).all()


def test_cancelling_leaves_the_finished_tiles_right(backend: str) -> None:
    model = make_field(SHAPES["channels of the real ones"])
    tables, view = model.tables(Precision.FULL), view_of(camera(200, 152))
    options = replace(options_for(model, RenderSettings()), threads=1)
    whole = picture(tables, view, options, backend)
    control, buffers = RenderControl(200, 152), FrameBuffers.empty(200, 152)
    answers = []
    worker = threading.Thread(
        target=lambda: answers.append(ops.render(tables, view, options, buffers, control, backend))
    )
    worker.start()
    while control.done_count[0] < 3 and worker.is_alive():
        time.sleep(1e-4)
    control.cancel()
    worker.join()
    done = torch.from_numpy(control.tile_done.astype(bool)).view(control.rows, control.columns)
    pixels = done.repeat_interleave(8, 0).repeat_interleave(8, 1)[:152, :200]
    assert answers == [bool(done.all())]
    assert int(done.sum()) == control.done_count[0] >= 3
    assert (buffers.rgb[pixels] - whole.rgb[pixels]).abs().max() < 1e-6


def test_a_ray_beside_the_box_shows_the_background(backend: str) -> None:
    model = make_field(SHAPES["plain"])
    away = replace(camera(9, 9), c2w=camera(9, 9).c2w)
    view = view_of(away)
    view = replace(
        view, c2w=np.hstack([-view.c2w[:, :3] @ np.diag([-1, 1, 1]), view.c2w[:, 3:]]).astype(np.float32)
    )
    options = replace(options_for(model, RenderSettings()), background=(0.25, 0.5, 1.0))
    got = picture(model.tables(Precision.FULL), view, options, backend)
    assert torch.equal(got.rgb, torch.tensor([0.25, 0.5, 1.0]).expand(9, 9, 3))
    assert (got.opacity == 0).all()
    assert (got.median_depth == 0).all()


def test_far_corner_belongs_to_no_block(backend: str) -> None:
    model = make_field(Shape(division=(2, 2), activation="softplus"))
    corner = model.aabb[1:].clone()
    probe = ops.probe(model.tables(Precision.FULL), corner, backend)
    assert probe.density_feature.item() == 0
    assert (probe.appearance_feature == 0).all()


def valid_arguments() -> dict[str, object]:
    model = make_field(SHAPES["latent"])
    return {
        "tables": model.tables(Precision.FULL),
        "view": view_of(camera(24, 16)),
        "options": options_for(model, RenderSettings()),
        "buffers": FrameBuffers.empty(24, 16),
        "control": RenderControl(24, 16),
        "backend": "torch",
    }


def changed(value: object, **changes: object) -> object:
    return replace(value, **changes)  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("backend", lambda v: "gpu", "backend must be one of auto, native, torch, got gpu"),
        (
            "buffers",
            lambda v: changed(v, rgb=torch.zeros(24, 16, 3)),
            "rgb must be contiguous float32 [16, 24, 3] on cpu, got float32 [24, 16, 3] on cpu",
        ),
        (
            "buffers",
            lambda v: changed(v, depth=torch.zeros(16, 24, dtype=torch.float64)),
            "depth must be contiguous float32 [16, 24] on cpu, got float64 [16, 24] on cpu",
        ),
        (
            "buffers",
            lambda v: changed(v, opacity=torch.zeros(24, 16).T),
            "opacity must be contiguous float32 [16, 24] on cpu, got float32 [16, 24] on cpu, not contiguous",
        ),
        ("options", lambda v: changed(v, sampling="ball"), "sampling must be box or hull, got ball"),
        ("options", lambda v: changed(v, n_samples=0), "a ray must have at least one sample, got 0"),
        ("options", lambda v: changed(v, step=0.0), "step must be positive, got 0.0"),
        ("options", lambda v: changed(v, threads=-1), "threads must not be negative, got -1"),
        ("options", lambda v: changed(v, latent=None), "latent must be float32 [7], got None"),
        (
            "options",
            lambda v: changed(v, latent=torch.zeros(8)),
            "latent must be contiguous float32 [7] on cpu, got float32 [8] on cpu",
        ),
        (
            "control",
            lambda v: RenderControl(24, 24),
            "control must have 3 x 2 tiles for 24 x 16 pixels, got 3 x 3",
        ),
        (
            "control",
            lambda v: RenderControl(24, 16, np.array([0, 6])),
            "order must hold tile numbers below 6, got others",
        ),
        (
            "tables",
            lambda v: changed(v, division=(2, 2), cache={}),
            "blocks must be 4 for division (2, 2), at least one of them present, got 1 with 1 present",
        ),
        (
            "tables",
            lambda v: changed(v, blocks=(None,), cache={}),
            "blocks must be 1 for division (1, 1), at least one of them present, got 1 with 0 present",
        ),
        (
            "tables",
            lambda v: changed(v, activation="exp", cache={}),
            "activation must be softplus or relu, got exp",
        ),
    ],
)
def test_wrong_arguments_are_refused(name: str, change, message: str) -> None:
    arguments = valid_arguments()
    arguments[name] = change(arguments[name])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ops.render(**arguments)


def test_probe_points_are_checked() -> None:
    tables = make_field(SHAPES["plain"]).tables(Precision.FULL)
    with pytest.raises(
        ValueError, match=r"points must be contiguous float32 \[n, 3\] on cpu, got float32 \[4, 2\]"
    ):
        ops.probe(tables, torch.zeros(4, 2))
