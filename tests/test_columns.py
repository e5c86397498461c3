"""The survey from straight above: heights, opacity and features of vertical columns."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import columns, ops
from landmark_viewer.cuda.edit_tables import ColumnGrid, Columns
from landmark_viewer.cuda.tables import RenderOptions

from .small_edits import clear, with_edits
from .small_fields import AABB, Shape, make_field

SHAPES = {
    "plain": Shape(opacity=3.0),
    "blocks and mask": Shape(levels=2, division=(2, 2), missing=(1,), mask=(9, 8, 5), mask_share=0.6),
    "three directions": Shape(directions=3, density=(5, 3, 4), appearance=(6, 9, 2), opacity=5.0),
    "softplus": Shape(activation="softplus", mask=(9, 8, 5), mask_share=0.5, mask_shift=0.2),
}
# Wider than the box on every side.
GRID = ColumnGrid(low=(-1.15, -1.3), side=0.19, n_x=13, n_y=14, z_low=-0.2, z_high=0.61, step=0.017)


@pytest.fixture(params=["torch", "native"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both back ends; the native one only where it can be built."""
    if request.param == "native" and ops.backend_status().name != "native":
        pytest.skip(ops.backend_status().detail)
    return str(request.param)


def column(
    model: GridNeRF, options: RenderOptions, grid: ColumnGrid, i: int, j: int
) -> tuple[float, float, torch.Tensor]:
    """One column, sample by sample: height, opacity and feature."""
    passed, height, total = 1.0, math.nan, 0.0
    feature = torch.zeros(model.decoder.basis.shape[0])
    n = 0
    while grid.z_high - (n + 0.5) * grid.step > grid.z_low:
        z = grid.z_high - (n + 0.5) * grid.step
        point = torch.tensor([[grid.low[0] + (i + 0.5) * grid.side, grid.low[1] + (j + 0.5) * grid.side, z]])
        counts = bool(((point >= model.aabb[0]) & (point <= model.aabb[1])).all())
        if counts and model.occupancy is not None:
            counts = model.occupancy.sample(point).item() > options.mask_threshold
        alpha = 0.0
        if counts:
            alpha = 1 - math.exp(-model.sigma(point).item() * grid.step * options.distance_scale)
        weight = passed * alpha
        if 1 - passed < 0.5 <= 1 - passed + weight:
            height = grid.z_high - (n + (0.5 - (1 - passed)) / weight) * grid.step
        feature += weight * model.appearance_feature(point)[0]
        total += weight
        passed -= weight
        n += 1
    return height, 1 - passed, feature / total if total else feature


@pytest.mark.parametrize("name", SHAPES)
def test_columns_are_marched_sample_by_sample(name: str, backend: str) -> None:
    model = make_field(SHAPES[name])
    options = options_for(model, RenderSettings())
    got = ops.columns(model.tables(Precision.FULL), options, GRID, backend)
    n_solid = 0
    for j in range(0, GRID.n_y, 3):
        for i in range(0, GRID.n_x, 3):
            height, opacity, feature = column(model, options, GRID, i, j)
            assert got.opacity[j, i].item() == pytest.approx(opacity, abs=1e-5)
            assert got.height[j, i].item() == pytest.approx(height, abs=1e-4, nan_ok=True)
            torch.testing.assert_close(got.features[j, i], feature, rtol=1e-4, atol=1e-4)
            n_solid += not math.isnan(height)
    assert 0 < n_solid < len(range(0, GRID.n_y, 3)) * len(range(0, GRID.n_x, 3))


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_field(SHAPES["blocks and mask"])
    tables, options = model.tables(Precision.FULL), options_for(model, RenderSettings())
    whole = ops.columns(tables, options, GRID, "torch")
    monkeypatch.setattr(columns, "CHUNK_SAMPLES", 7 * columns.n_samples(GRID) + 1)
    assert_same(ops.columns(tables, options, GRID, "torch"), whole)


def test_columns_show_the_field_without_its_edits(backend: str) -> None:
    model = make_field(SHAPES["plain"])
    tables, options = model.tables(Precision.FULL), options_for(model, RenderSettings())
    edited = with_edits(options, clear(footprint=None))
    assert_same(ops.columns(tables, edited, GRID, backend), ops.columns(tables, options, GRID, backend))


def test_an_empty_field_has_no_height(backend: str) -> None:
    model = make_field(Shape(mask=(9, 8, 5), mask_share=0.0))
    got = ops.columns(model.tables(Precision.FULL), options_for(model, RenderSettings()), GRID, backend)
    assert got.height.isnan().all()
    assert not got.opacity.any()
    assert not got.features.any()


def test_a_wall_of_any_density_ends_at_the_top_of_the_box(backend: str) -> None:
    model = make_field(Shape(grid=(2, 2, 2), density=(1,), opacity=1.0))
    block = model.blocks[0]
    solid = replace(
        block,
        density_planes=((torch.full_like(block.density_planes[0][0], 1e4),),),
        density_lines=((torch.ones_like(block.density_lines[0][0]),),),
    )
    model = replace(model, blocks=(solid,))
    low, high = AABB.tolist()
    step = 0.01
    grid = ColumnGrid((low[0], low[1]), 0.2, 10, 11, low[2], high[2] + 0.1, step)
    got = ops.columns(model.tables(Precision.FULL), options_for(model, RenderSettings()), grid, backend)
    assert (got.height - high[2]).abs().max() < step
    assert (got.opacity == 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_x": 0}, "must have 1 to"),
        ({"side": 0.0}, "must be positive"),
        ({"step": -1.0}, "must be positive"),
        ({"z_high": -0.2}, "z_high above z_low"),
        ({"z_low": math.nan}, "must be finite"),
        ({"low": (0.0, math.inf)}, "must be finite"),
    ],
)
def test_grids_that_cannot_be_marched_are_refused(changes: dict[str, object], message: str) -> None:
    model = make_field(SHAPES["plain"])
    with pytest.raises(ValueError, match=message):
        ops.columns(model.tables(), options_for(model, RenderSettings()), replace(GRID, **changes))


def assert_same(got: Columns, wanted: Columns) -> None:
    torch.testing.assert_close(got.height, wanted.height, rtol=0, atol=1e-5, equal_nan=True)
    torch.testing.assert_close(got.opacity, wanted.opacity, rtol=0, atol=1e-6)
    torch.testing.assert_close(got.features, wanted.features, rtol=0, atol=1e-5)
