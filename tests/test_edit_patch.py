"""Patches: the ground that is put where a building stood."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from landmark_viewer.core.edits.patch import RIM, make_patch
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.edits.terrain import Terrain
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.cuda.edit_tables import EditKind, EditOp

from .height_fields import DISTANCE_SCALE, Surface, height_field, with_boxes

BOX = (-0.15, -0.1, 0.2, 0.25, 0.3)
NEIGHBOUR = (0.24, -0.1, 0.5, 0.25, 0.2)  # two cells beside it
HIGH = 0.9


def slope(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.2 + 0.10 * x - 0.06 * y


def terrain_of(surface: Surface, **options) -> Terrain:
    model = height_field(surface, **options)
    return Terrain(model.tables(), options_for(model, RenderSettings()))


def region_of(box: tuple[float, ...]) -> Region:
    return Region.rectangle(*box[:4])


def centers(op: EditOp) -> tuple[np.ndarray, np.ndarray]:
    n_y, n_x = op.footprint.mask.shape
    x = op.footprint.low[0] + (np.arange(n_x) + 0.5) * op.footprint.side
    y = op.footprint.low[1] + (np.arange(n_y) + 0.5) * op.footprint.side
    return tuple(np.meshgrid(x, y))


@pytest.mark.parametrize(("division", "n"), [((1, 1), 97), ((2, 2), 49)])
def test_the_ground_goes_on_where_the_building_stood_also_across_a_block_border(division, n):
    terrain = terrain_of(with_boxes(slope, BOX), n=n, division=division)
    op = make_patch(terrain, region_of(BOX), HIGH)
    x, y = centers(op)
    mask = op.footprint.mask.numpy() > 0
    assert op.kind is EditKind.PATCH
    assert op.z_high == HIGH
    assert np.abs(op.ground.numpy() - slope(x, y)).max() < 0.01
    assert op.features[..., 0].numpy()[mask] == pytest.approx(x[mask], abs=0.06)
    assert op.features[..., 1].numpy()[mask] == pytest.approx(y[mask], abs=0.06)
    rim = RIM * op.footprint.side
    assert mask[Region.rectangle(*region_of(BOX).shape.buffer(rim * 0.7).bounds).contains(x, y)].all()
    assert not mask[~Region.rectangle(*region_of(BOX).shape.buffer(rim * 1.5).bounds).contains(x, y)].any()
    assert not mask[[0, -1]].any()  # there are cells beyond the rim to read between
    assert not mask[:, [0, -1]].any()


def test_half_of_the_light_from_above_is_gone_at_the_ground_and_nearly_all_below():
    op = make_patch(terrain_of(with_boxes(slope, BOX)), region_of(BOX), HIGH)
    z = np.linspace(op.rise, -op.thickness, 20_001)  # above the ground
    sigma = op.sigma * np.clip((op.rise - z) / (2 * op.rise), 0, 1)
    depth = np.concatenate([[0], np.cumsum(sigma[:-1] * -np.diff(z))]) * DISTANCE_SCALE
    assert math.exp(-np.interp(0.0, -z, depth)) == pytest.approx(0.5, abs=1e-3)
    assert math.exp(-depth[-1]) < 1e-3


def test_the_neighbour_keeps_its_walls_unless_it_is_removed_too():
    terrain = terrain_of(with_boxes(slope, BOX, NEIGHBOUR))
    neighbour = region_of(NEIGHBOUR)
    alone = make_patch(terrain, region_of(BOX), HIGH)
    x, y = centers(alone)
    mask = alone.footprint.mask.numpy() > 0
    assert not mask[neighbour.contains(x, y)].any()
    assert mask[region_of(BOX).contains(x, y)].all()
    assert np.abs(alone.ground.numpy() - slope(x, y))[mask].max() < 0.02  # its roof is no ground

    pair = [
        make_patch(terrain, region_of(a), HIGH, (region_of(b),))
        for a, b in ((BOX, NEIGHBOUR), (NEIGHBOUR, BOX))
    ]
    gap_x, gap_y = np.meshgrid(
        np.arange(-0.14, 0.49, terrain.side / 3), np.arange(-0.09, 0.24, terrain.side / 3)
    )
    claimed = np.zeros(gap_x.shape, dtype=bool)
    for op in pair:
        i = np.floor((gap_x - op.footprint.low[0]) / op.footprint.side).astype(int)
        j = np.floor((gap_y - op.footprint.low[1]) / op.footprint.side).astype(int)
        n_y, n_x = op.footprint.mask.shape
        inside = (i >= 0) & (j >= 0) & (i < n_x) & (j < n_y)
        claimed |= inside & (op.footprint.mask.numpy()[j.clip(0, n_y - 1), i.clip(0, n_x - 1)] > 0)
    assert claimed.all()  # nothing floats between two that are gone


def test_texture_comes_from_ground_that_fits():
    def colors(x, y):
        stripes = np.sign(np.sin(2 * np.pi * y / 0.125))
        return np.stack([stripes, 0 * x, 1 + 0 * x], axis=-1)

    terrain = terrain_of(with_boxes(slope, BOX), n=129)
    plain = make_patch(terrain, region_of(BOX), HIGH).features[..., 0].numpy()
    model = height_field(with_boxes(slope, BOX), colors, n=129)
    striped = Terrain(model.tables(), options_for(model, RenderSettings()))
    op = make_patch(striped, region_of(BOX), HIGH)
    _, y = centers(op)
    found = op.features[..., 0].numpy()
    inner = op.footprint.mask.numpy() > 0
    truth = np.sign(np.sin(2 * np.pi * y / 0.125))
    assert np.corrcoef(found[inner], truth[inner])[0, 1] > 0.8
    assert np.abs(np.diff(plain, axis=0)).max() < 0.05  # and where there is none, none is made


def test_a_patch_is_the_same_whatever_was_asked_before():
    surface = with_boxes(slope, BOX, NEIGHBOUR)
    terrain = terrain_of(surface)
    make_patch(terrain, region_of(NEIGHBOUR), HIGH)
    terrain.window((-1, -1, -0.5, -0.5))
    first = make_patch(terrain, region_of(BOX), HIGH)
    second = make_patch(terrain_of(surface), region_of(BOX), HIGH)
    for name in ("ground", "features"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert torch.equal(first.footprint.mask, second.footprint.mask)


@pytest.mark.parametrize("region", [Region.rectangle(3, 3, 4, 4), Region()])
def test_a_region_outside_of_the_field_is_a_sentence(region):
    with pytest.raises(InputError, match="must lie in the scene's box, got one outside"):
        make_patch(terrain_of(slope), region, HIGH)


def test_a_region_without_ground_around_it_is_a_sentence():
    with pytest.raises(InputError, match="must have ground of the scene around it"):
        make_patch(terrain_of(slope), Region.rectangle(-1, -1, 1, 1), HIGH)


def test_a_region_at_the_border_of_the_field_is_patched_from_inside():
    edge = (0.7, -0.2, 1.0, 0.2, 0.3)
    op = make_patch(terrain_of(with_boxes(slope, edge)), Region.rectangle(0.7, -0.2, 1.5, 0.2), HIGH)
    x, y = centers(op)
    assert np.abs(op.ground.numpy() - slope(x, y)).max() < 0.03
