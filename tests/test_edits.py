"""What edits mean: owners, surfaces, copies and styles, in every renderer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.edited_model import EditedModel
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.reference import render_reference
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.edit_claims import NOBODY, Claims
from landmark_viewer.cuda.edit_tables import EditKind, EditOp, EditTables, Footprint, Transform
from landmark_viewer.cuda.tables import FieldTables, FrameBuffers, NerfMode, Quality, RenderOptions, View

from .small_edits import (
    buffers_for,
    clear,
    footprint,
    instance,
    patch,
    placed,
    psnr,
    source_of,
    style,
    tables_of,
    with_edits,
)
from .small_fields import Shape, camera, make_field, random_points, with_settings

SHAPE = Shape(levels=2, latent=6, mask=(9, 8, 5), mask_share=0.7, division=(2, 2))
BACKENDS = ("reference", "torch", "native")
VIEW = view_of(camera(24, 16))


@pytest.fixture(scope="module")
def model() -> GridNeRF:
    return make_field(SHAPE)


@pytest.fixture(scope="module")
def tables(model: GridNeRF) -> FieldTables:
    return model.tables(Precision.FULL)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Every renderer; the native one only where it can be built."""
    if request.param == "native" and ops.backend_status().name != "native":
        pytest.skip(ops.backend_status().detail)
    return str(request.param)


def picture(
    model: GridNeRF,
    options: RenderOptions,
    backend: str,
    view: View = VIEW,
    sources: tuple[GridNeRF, ...] = (),
) -> FrameBuffers:
    buffers = buffers_for(view, options.normals)
    if backend == "reference":
        assert render_reference(model, view, options, buffers, sources=sources)
    else:
        assert ops.render(model.tables(Precision.FULL), view, options, buffers, backend=backend)
    return buffers


def assert_same(got: FrameBuffers, wanted: FrameBuffers, bound: float = 2e-5) -> None:
    for name in ("rgb", "opacity", "depth"):
        difference = (getattr(got, name) - getattr(wanted, name)).abs()
        assert difference.max() < 10 * bound, name
        assert (difference > bound).float().mean() < 5e-3, name


def raised(latent: torch.Tensor, kind: EditKind, turn: float, scale: float, inside: bool) -> EditOp:
    """An operation of a kind."""
    by_kind = {
        EditKind.CLEAR: clear(z_low=0.1),
        EditKind.PATCH: patch(5),
        EditKind.INSTANCE: instance(turn, scale),
        EditKind.STYLE: style(latent),
    }
    return replace(by_kind[kind], inside=inside)


@given(
    kinds=st.lists(
        st.tuples(
            st.sampled_from(list(EditKind)),
            st.floats(-180, 180),
            st.floats(0.3, 3.0),
            st.booleans(),
            st.integers(0, 1),
        ),
        max_size=6,
    ),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_topmost_claim_owns_a_point(kinds: list[tuple], seed: int) -> None:
    model = make_field(Shape(latent=6))
    operations = [
        replace(raised(model.latent(1), *rest), source=source if rest[0] is EditKind.INSTANCE else 0)
        for *rest, source in kinds
    ]
    edits = tables_of(*operations, sources=(source_of(model),))
    points = random_points(400, seed)
    claim = Claims.of(edits, points.device).find(points)
    options = replace(options_for(model, RenderSettings()), edits=edits)
    owners = EditedModel(model, options, (model,)).owners(points)
    assert torch.equal(claim.owner + 1, owners.owner)
    assert torch.equal(claim.style + 1, owners.style)
    assert torch.equal(claim.at, owners.at)


def test_a_footprint_holds_its_cells_with_their_lower_edges() -> None:
    mask = torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8)
    cells = Footprint(mask, (0.25, -0.5), 0.5)
    held = [(0.25, -0.5), (0.5, 0.25), (1.0, 0.25)]
    free = [(0.2, -0.4), (0.75, -0.4), (1.25, 0.25), (0.5, 0.5), (0.5, -0.6)]
    points = torch.tensor([(*xy, 0.0) for xy in held + free])
    for inside in (True, False):
        edits = tables_of(EditOp(EditKind.CLEAR, cells, inside=inside))
        owner = Claims.of(edits, points.device).find(points).owner
        assert (owner == 0).tolist() == [inside] * len(held) + [not inside] * len(free)


def test_heights_count_from_the_lower_bound_on() -> None:
    points = torch.tensor([[0.0, 0.0, z] for z in (0.09, 0.125, 0.2, 0.25, 0.3)])
    edits = tables_of(EditOp(EditKind.CLEAR, z_low=0.125, z_high=0.25))
    owner = Claims.of(edits, points.device).find(points).owner
    assert owner.tolist() == [NOBODY, 0, 0, NOBODY, NOBODY]


def test_what_is_cleared_everywhere_is_background(model: GridNeRF, backend: str) -> None:
    options = with_edits(options_for(model, RenderSettings()), EditOp(EditKind.CLEAR))
    got = picture(model, options, backend)
    assert not got.opacity.any()
    assert (got.rgb == 1).all()


def test_a_copy_in_place_changes_nothing(model: GridNeRF, backend: str) -> None:
    options = options_for(model, RenderSettings())
    edited = with_edits(options, EditOp(EditKind.INSTANCE), clear(z_low=5.0, z_high=6.0))
    assert_same(picture(model, edited, backend), picture(model, options, backend))


def test_a_field_inserted_everywhere_is_that_field(model: GridNeRF, backend: str) -> None:
    other = make_field(Shape(feature_dim=9, hidden=24, latent=3, view_pe=1), seed=4)
    options = options_for(model, RenderSettings())
    alone = replace(options, latent=other.latent(2))
    source = source_of(other, code=2)
    edited = with_edits(options, EditOp(EditKind.INSTANCE, source=1), sources=(source,))
    got = picture(model, edited, backend, sources=(other,))
    assert_same(got, picture(other, alone, backend))


def test_a_turned_copy_is_the_field_from_a_turned_camera(backend: str) -> None:
    """All is turned: where the box does not cut, the copy looks as if the camera had gone round."""
    model = with_settings(
        make_field(Shape(grid=(24, 22, 12), opacity=3.0)), sampling="hull", n_importance=1500
    )
    options = options_for(model, RenderSettings())
    transform = placed((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 90.0, 1.0)
    inner = Footprint(torch.ones(8, 8, dtype=torch.uint8), (-0.5, -0.5), 0.125)
    outside = replace(clear(), footprint=inner, inside=False, z_low=-3e38, z_high=3e38)
    copied = with_edits(options, EditOp(EditKind.INSTANCE, to_source=transform), outside)
    alone = with_edits(options, outside)
    eye = (-1.2, -0.9, 1.1)
    seen = view_of(Camera.from_fov(look_at(eye, (0.0, 0.0, 0.1)), 24, 16, 50.0))
    turned_eye = (eye[1], -eye[0], eye[2])
    turned = view_of(Camera.from_fov(look_at(turned_eye, (0.0, 0.0, 0.1)), 24, 16, 50.0))
    got, wanted = picture(model, copied, backend, seen), picture(model, alone, backend, turned)
    assert psnr(picture(model, alone, backend, seen).rgb, wanted.rgb) < 30
    assert psnr(got.rgb, wanted.rgb) > 45


def test_scale_keeps_opacity_with_its_density(backend: str) -> None:
    """A field twice as large with half the density is as opaque, seen from twice as far."""
    model = with_settings(make_field(Shape(opacity=0.3)), sampling="hull", n_importance=3000)
    options = options_for(model, RenderSettings())
    inner = Footprint(torch.ones(4, 4, dtype=torch.uint8), (-0.2, -0.2), 0.1)
    small = EditOp(EditKind.CLEAR, inner, inside=False)
    small_top = EditOp(EditKind.CLEAR, z_low=0.2)
    small_ground = EditOp(EditKind.CLEAR, z_high=0.0)
    transform = placed((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 2.0)
    large = EditOp(EditKind.INSTANCE, inner, z_low=0.0, z_high=0.2, to_source=transform, sigma_scale=0.5)
    near = view_of(Camera.from_fov(look_at((-0.5, -0.6, 0.7), (0.0, 0.0, 0.1)), 24, 16, 40.0))
    far = view_of(Camera.from_fov(look_at((-1.0, -1.2, 1.4), (0.0, 0.0, 0.2)), 24, 16, 40.0))
    alone = with_edits(options, small, small_top, small_ground)
    scaled = with_edits(options, EditOp(EditKind.CLEAR), large)
    wanted, got = picture(model, alone, backend, near), picture(model, scaled, backend, far)
    assert wanted.opacity.max() > 0.5
    assert psnr(got.opacity, wanted.opacity) > 35


def test_a_style_everywhere_is_its_embedding(model: GridNeRF, backend: str) -> None:
    options = options_for(model, RenderSettings())
    styled = replace(options, latent=model.latent(2))
    edited = with_edits(options, EditOp(EditKind.STYLE, latent=model.latent(2)))
    assert_same(picture(model, edited, backend), picture(model, styled, backend))


def test_styles_do_not_reach_other_fields(model: GridNeRF, backend: str) -> None:
    other = make_field(Shape(latent=6), seed=4)
    options = options_for(model, RenderSettings())
    inserted = EditOp(EditKind.INSTANCE, source=1)
    painted = EditOp(EditKind.STYLE, latent=model.latent(2))
    sources = (source_of(other),)
    without = picture(model, with_edits(options, inserted, sources=sources), backend, sources=(other,))
    got = picture(model, with_edits(options, inserted, painted, sources=sources), backend, sources=(other,))
    assert torch.equal(got.rgb, without.rgb)


def test_a_patch_is_an_opaque_surface_at_its_ground(model: GridNeRF, backend: str) -> None:
    """Seen from above, depth is where the ground says, and the colour is the decoded raster."""
    options = options_for(model, RenderSettings())
    fine = replace(options, sampling="box", step=0.001, n_samples=4000)
    op = patch(5, sigma=400.0, rise=0.005, z_high=3e38)
    camera = Camera.from_fov(look_at((-0.1, 0.0, 1.6), (-0.1, 0.0, 0.0)), 24, 16, 25.0)
    got = picture(model, with_edits(fine, op), backend, view_of(camera))
    claimants = Claims.of(tables_of(op), torch.device("cpu"))
    seen = 0
    for row in range(0, 16, 3):
        for column in range(0, 24, 3):
            origin, direction = (np.asarray(part) for part in camera.ray(column, row))
            hit = torch.tensor(origin + direction * got.median_depth[row, column].item())[None].float()
            owner = claimants.find(hit).owner
            if owner.item() != 0 or not got.median_depth[row, column]:
                continue
            below = claimants.patch_slope(0, hit)
            assert 0 < below < op.sigma, "the surface lies within the rise"
            feature = claimants.patch_features(0, hit)
            rgb = ops.decode(
                model.tables(Precision.FULL), feature, torch.tensor(direction)[None].float(), options.latent
            )
            assert (got.rgb[row, column] - rgb[0]).abs().max() < 0.1
            seen += 1
    assert seen > 10


@pytest.mark.parametrize("quality", list(Quality))
def test_untouched_pixels_keep_their_colours(model: GridNeRF, backend: str, quality: Quality) -> None:
    options = options_for(model, RenderSettings(quality=quality))
    corner = Footprint(torch.ones(4, 4, dtype=torch.uint8), (-0.6, -0.9), 0.1)
    edited = with_edits(options, EditOp(EditKind.CLEAR, corner))
    before, after = picture(model, options, backend), picture(model, edited, backend)
    same = (before.rgb == after.rgb).all(dim=-1)
    if backend == "native":  # bit for bit; in torch the size of a batch may change how a sum is rounded
        assert 0.5 < same.float().mean() < 0.98
    close = (before.rgb - after.rgb).abs().amax(dim=-1) < 1e-6
    assert 0.5 < close.float().mean() < 0.98


@pytest.mark.parametrize("mode", [NerfMode.ALONE, NerfMode.RESIDUAL])
def test_the_nerf_branch_is_edited_as_in_the_reference(mode: NerfMode) -> None:
    shape = Shape(nerf=True, levels=2, latent=6)
    model = with_settings(make_field(shape), run_nerf=True, residual_nerf=mode is NerfMode.RESIDUAL)
    weight, bias = model.nerf.density
    model = replace(model, nerf=replace(model.nerf, density=(weight, bias + 3)))  # dense all over the box
    other = make_field(Shape(latent=3, feature_dim=4, opacity=4.0), seed=6)
    options = options_for(model, RenderSettings())
    crop = clear(footprint=footprint(24, 26, (-0.85, -0.95)), inside=False, z_low=-3e38, z_high=3e38)
    sky = EditOp(EditKind.CLEAR, z_low=0.4)  # the branch also has density in front of the box
    plain = picture(model, with_edits(options, crop, sky), "torch")
    latent = model.latent(1)
    for operations in (
        (clear(),),
        (patch(5),),
        (instance(),),
        (style(latent),),
        (replace(instance(), source=1),),
        (patch(5), instance(), style(latent), clear(z_low=0.2)),
    ):
        edited = with_edits(options, *operations, crop, sky, sources=(source_of(other),))
        got = picture(model, edited, "auto")
        wanted = picture(model, edited, "reference", sources=(other,))
        assert psnr(got.rgb, wanted.rgb) > 70
        assert psnr(got.rgb, plain.rgb) < 50, "the edit must show"


def test_the_native_code_refuses_edits_with_a_nerf_branch() -> None:
    if ops.backend_status().name != "native":
        pytest.skip(ops.backend_status().detail)
    model = with_settings(make_field(Shape(nerf=True)), run_nerf=True)
    options = with_edits(options_for(model, RenderSettings()), clear())
    with pytest.raises(RuntimeError, match="NeRF branch"):
        picture(model, options, "native")


@pytest.mark.parametrize("quality", [Quality.EXACT, Quality.CLUSTERED])
def test_normals_and_clusters_are_the_references(model: GridNeRF, quality: Quality) -> None:
    operations = (style(model.latent(2)), patch(5), instance(), clear(z_low=0.25))
    options = replace(options_for(model, RenderSettings(quality=quality)), normals=True)
    edited = with_edits(options, *operations)
    wanted = picture(model, edited, "reference")
    for backend in ("torch", "auto"):
        got = picture(model, edited, backend)
        floor = 45 if backend == "auto" and quality is Quality.CLUSTERED else 80
        assert psnr(got.rgb, wanted.rgb) > floor
        same = (got.median_depth - wanted.median_depth).abs() < 1e-5
        assert same.float().mean() > 0.95
        different = (got.normals - wanted.normals)[same].abs() > 1e-2
        assert different.float().mean() < 0.01


def broken(edits: EditTables, **changes: object) -> EditTables:
    return replace(edits, cache={}, **changes)


WRONG = {
    "source": (lambda: tables_of(replace(instance(), source=1)), "source of operation 0 must be 0 to 0"),
    "transform": (
        lambda: tables_of(replace(instance(), to_source=Transform(xx=0.0))),
        "transform of operation 0 must be finite",
    ),
    "patch without ground": (lambda: tables_of(patch(5, ground=None)), "must have footprint, ground and"),
    "ground of another size": (
        lambda: tables_of(patch(5, ground=torch.zeros(2, 2))),
        r"ground of operation 0 must be contiguous float32 \[16, 14\]",
    ),
    "features of another width": (
        lambda: tables_of(patch(4)),
        r"features of operation 0 must be contiguous float32 \[16, 14, 5\]",
    ),
    "features not contiguous": (
        lambda: tables_of(patch(5, features=torch.zeros(5, 14, 16).permute(2, 1, 0))),
        "not contiguous",
    ),
    "negative rise": (lambda: tables_of(patch(5, rise=-1.0)), "must not be negative"),
    "mask of another type": (
        lambda: tables_of(clear(footprint=replace(footprint(), mask=torch.ones(3, 3)))),
        "footprint of operation 0 must be contiguous uint8",
    ),
    "style without latent": (lambda: tables_of(EditOp(EditKind.STYLE)), "operation 0 must have a latent"),
    "latent of another length": (
        lambda: tables_of(EditOp(EditKind.STYLE, latent=torch.zeros(5))),
        r"latent of operation 0 must be contiguous float32 \[6\]",
    ),
    "item beyond the operations": (
        lambda: broken(tables_of(clear()), ops=()),
        "index.items must name operations below 0",
    ),
    "lists upside down": (
        lambda: with_index(items=torch.tensor([0, 1], dtype=torch.int32)),
        "from the top down",
    ),
    "list 0 not empty": (
        lambda: with_index(starts=torch.tensor([0, 2, 2], dtype=torch.int32)),
        "index.starts must rise from 0, 0 to 2",
    ),
    "cell beyond the lists": (
        lambda: with_index(cells=torch.full((2, 2), 7, dtype=torch.int32)),
        "index.cells must name lists below 2",
    ),
    "index without scale": (lambda: with_index(scale=(0.0, 1.0)), "scale positive"),
    "reach without side": (
        lambda: broken(tables_of(), reach=replace(tables_of().reach, side=(1.0, 0.0, 1.0))),
        "reach.low must be finite and side positive",
    ),
    "source without embedding": (
        lambda: tables_of(sources=(replace(source_of(make_field(Shape(latent=3))), latent=None),)),
        "latent of source 0 must be float32",
    ),
}


def with_index(**changes: object) -> EditTables:
    edits = tables_of(clear(), clear())
    return broken(edits, index=replace(edits.index, **changes))


@pytest.mark.parametrize("name", WRONG)
def test_edits_that_do_not_fit_are_refused(name: str, model: GridNeRF, tables: FieldTables) -> None:
    make, message = WRONG[name]
    options = replace(options_for(model, RenderSettings()), edits=make())
    with pytest.raises(ValueError, match=message):
        ops.render(tables, VIEW, options, buffers_for(VIEW))


def test_edits_are_checked_against_every_field_they_meet(model: GridNeRF, tables: FieldTables) -> None:
    edits = tables_of(patch(5))
    options = replace(options_for(model, RenderSettings()), edits=edits)
    assert ops.render(tables, VIEW, options, buffers_for(VIEW))
    wider = make_field(Shape(feature_dim=8))
    other = replace(options_for(wider, RenderSettings()), edits=edits)
    with pytest.raises(ValueError, match="features of operation 0"):
        ops.render(wider.tables(), VIEW, other, buffers_for(VIEW))
