"""Compiled edits: operations, and the two maps that must never leave out what an operation claims."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.edits.compile import EditCompiler, SourceScene, to_source
from landmark_viewer.core.edits.layers import (
    Copy,
    Crop,
    Hide,
    Placement,
    Prism,
    Remove,
    ReplaceBlock,
    Restyle,
)
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.render import Renderer
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda.edit_tables import EditKind, EditOp

from . import synthetic
from .small_fields import SHAPES, Shape, make_field

HOUSE = Prism(Region.rectangle(-0.3, -0.2, 0.1, 0.15), 0.0, 0.3)
ROUND = Prism(
    Region.polygon([(0.5 + 0.2 * math.cos(a), 0.4 + 0.2 * math.sin(a)) for a in np.linspace(0, 6, 9)]),
    0.0,
    0.2,
)


def compiler(shape: Shape | None = None, **options) -> EditCompiler:
    return EditCompiler(
        Renderer(make_field(shape or Shape(latent=4, grid=(96, 90, 12))), Precision.FULL, "cpu"), **options
    )


def claims(op: EditOp, points: np.ndarray) -> np.ndarray:
    """Which points an operation claims, by the definition in float64. [n]"""
    to = op.to_source
    x, y, z = points.T
    qx, qy, qz = to.xx * x + to.xy * y + to.x0, -to.xy * x + to.xx * y + to.y0, to.zz * z + to.z0
    claimed = (op.z_low <= qz) & (qz < op.z_high)
    if op.footprint is not None:
        mask = op.footprint.mask.numpy()
        i = np.floor((qx - op.footprint.low[0]) / op.footprint.side).astype(int)
        j = np.floor((qy - op.footprint.low[1]) / op.footprint.side).astype(int)
        known = (i >= 0) & (j >= 0) & (i < mask.shape[1]) & (j < mask.shape[0])
        inside = known & (mask[j.clip(0, mask.shape[0] - 1), i.clip(0, mask.shape[1] - 1)] > 0)
        claimed &= inside == op.inside
    return claimed


STACK = (
    Hide(prism=HOUSE),
    Copy(
        prism=HOUSE,
        placements=(
            Placement((0.5, -0.6, 0.02), 37.0),
            Placement((-0.7, 0.6, 0.0), -120.0, 1.6),
            Placement((0.9, 0.9, 0.1), 5.0, 0.4),
        ),
    ),
    Crop(prism=Prism(Region.rectangle(-0.9, -1.1, 1.0, 0.95), -0.05, 0.45)),
    Restyle(prism=ROUND, appearance=Appearance.of(1)),
)


def points_of(compiled, n=20000) -> np.ndarray:
    low, high = compiled.tables.aabb.double().numpy()
    return np.random.default_rng(3).uniform(low, high, (n, 3))


def test_every_operation_that_claims_a_point_is_in_the_list_of_its_column():
    compiled = compiler().compile(STACK)
    edits, points = compiled.edits, points_of(compiled)
    cells, index = edits.index.cells.numpy(), edits.index
    column = ((points[:, 0] - index.low[0]) * index.scale[0]).astype(int).clip(0, cells.shape[1] - 1)
    row = ((points[:, 1] - index.low[1]) * index.scale[1]).astype(int).clip(0, cells.shape[0] - 1)
    number = cells[row, column]
    starts, items = index.starts.tolist(), index.items.tolist()
    lists = [items[a:b] for a, b in pairwise(starts)]
    assert lists[0] == []
    assert all(each == sorted(each, reverse=True) for each in lists), "the top of the stack comes first"
    for op_number, op in enumerate(edits.ops):
        claimed = claims(op, points)
        assert claimed.any()
        listed = np.array([op_number in each for each in lists])[number]
        assert not (claimed & ~listed).any()


def test_columns_far_from_every_operation_have_an_empty_list():
    compiled = compiler().compile(STACK[:2])
    cells = compiled.edits.index.cells
    assert (cells == 0).float().mean() > 0.5


def test_what_an_operation_may_hold_lies_within_reach():
    compiled = compiler().compile(STACK)
    points, reach = points_of(compiled), compiled.edits.reach
    cells = reach.cells.numpy()
    for op in compiled.edits.ops:
        if op.kind is not EditKind.INSTANCE:
            continue
        claimed = points[claims(op, points)]
        for shift in (-0.49, 0.49):
            for axis in range(3):
                moved = claimed.copy()
                moved[:, axis] += shift * reach.side[axis]
                at = np.floor((moved - reach.low) / reach.side).astype(int)
                known = ((at >= 0) & (at < cells.shape[::-1])).all(axis=1)
                assert cells[at[known, 2], at[known, 1], at[known, 0]].all()
    assert 0 < cells.mean() < 0.5


@pytest.mark.parametrize("heading", [0.0, 30.0, 90.0, -200.0])
def test_a_placement_puts_the_anchor_where_it_says_and_turns_counter_clockwise(heading):
    placement = Placement((0.4, -0.3, 0.2), heading, 2.0)
    to = to_source(HOUSE, placement, placement.scale)
    angle = math.radians(heading)
    anchor = np.array(HOUSE.anchor)
    corner = anchor + np.array([0.1, 0.05, 0.04])
    turned = np.array(
        [0.1 * math.cos(angle) - 0.05 * math.sin(angle), 0.1 * math.sin(angle) + 0.05 * math.cos(angle), 0.04]
    )
    for source, x in ((anchor, np.array(placement.position)), (corner, placement.position + 2.0 * turned)):
        back = (
            to.xx * x[0] + to.xy * x[1] + to.x0,
            -to.xy * x[0] + to.xx * x[1] + to.y0,
            to.zz * x[2] + to.z0,
        )
        assert back == pytest.approx(source)
    direction = np.array([math.cos(angle), math.sin(angle)])
    assert to.cosine * direction[0] + to.sine * direction[1] == pytest.approx(1.0)


def test_a_copy_in_its_own_place_is_the_identity():
    to = to_source(HOUSE, Placement(HOUSE.anchor), 1.0)
    assert (to.xx, to.xy, to.x0, to.y0, to.zz, to.z0) == (1, 0, 0, 0, 1, 0)


def test_a_scaled_copy_keeps_its_walls_as_opaque_as_they_were():
    copy = Copy(prism=HOUSE, placements=(Placement((0.5, 0.5, 0.0), 0.0, 2.0),))
    (op,) = compiler().compile((copy,)).edits.ops
    assert op.sigma_scale == 0.5


def test_disabled_layers_do_nothing():
    assert compiler().compile(()) is None
    assert compiler().compile((Hide(prism=HOUSE, enabled=False),)) is None
    compiled = compiler().compile((Hide(prism=HOUSE), Hide(prism=ROUND, enabled=False)))
    assert len(compiled.edits.ops) == 1


def test_a_layer_is_made_once_whatever_its_name_and_place():
    made = compiler()
    first = made.compile((Hide(prism=HOUSE, uid=1),))
    second = made.compile((Hide(prism=ROUND, uid=2), Hide(prism=HOUSE, uid=1, name="Town hall", locked=True)))
    assert second.edits.ops[1] is first.edits.ops[0]


def test_compiling_again_gives_the_same_bytes():
    one, two = (compiler().compile(STACK).edits for _ in range(2))
    for a, b in (
        (one.index.cells, two.index.cells),
        (one.index.items, two.index.items),
        (one.reach.cells, two.reach.cells),
    ):
        assert torch.equal(a, b)
    for a, b in zip(one.ops, two.ops, strict=True):
        assert (a.to_source, a.z_low, a.z_high) == (b.to_source, b.z_low, b.z_high)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (Hide(name="Yard"), "Yard: the region must have an area"),
        (
            Copy(prism=HOUSE, placements=(Placement((0, 0, 0), 0, 0.0),)),
            "copy: the scale of a copy must be positive",
        ),
        (Restyle(prism=HOUSE, appearance=Appearance.of(99)), "restyle: appearance.code must be from 0 to"),
        (ReplaceBlock(block=7), "replace-block: the block must be from 0 to 0, got 7"),
        (ReplaceBlock(checkpoint=Path("none.th")), "replace-block: none.th"),
        (Copy(prism=HOUSE, source=Path("x.th")), "copy: x.th: no other scene can be opened here"),
    ],
)
def test_a_layer_that_cannot_be_applied_is_named(layer, sentence):
    with pytest.raises(InputError, match=sentence):
        compiler().compile((layer,))


def test_without_an_appearance_table_no_region_is_restyled():
    with pytest.raises(InputError, match="must have an appearance table"):
        compiler(Shape()).compile((Restyle(prism=HOUSE),))


def test_an_insert_takes_units_and_density_from_its_own_scene():
    other = replace(make_field(SHAPES["three levels"]), distance_scale=50.0)
    made = compiler(open_source=lambda path: SourceScene(other, Appearance(), 200.0), metres_per_unit=100.0)
    layers = (Copy(prism=HOUSE, placements=(Placement((0.5, 0.5, 0.0)),), source=Path("other.th")),)
    compiled = made.compile(layers)
    (op,) = compiled.edits.ops
    assert op.source == 1
    assert op.to_source.xx == pytest.approx(0.5)
    own = made.renderer.model.distance_scale
    assert op.sigma_scale == pytest.approx(50.0 / own / 2.0)
    assert compiled.sources == (other,)
    assert len(compiled.edits.sources) == 1


def test_a_replaced_block_shares_all_others(tmp_path):
    from landmark_viewer.core.checkpoint import open_checkpoint
    from landmark_viewer.core.settings import ModelSettings

    settings = ModelSettings(plane_division=(2, 2))
    model = open_checkpoint(synthetic.write(tmp_path / "a", "branch-sub", division=(2, 2)), settings).model
    other = synthetic.write(tmp_path / "b", "branch-sub", division=(2, 2), seed=5)
    variant = sorted(other.parent.glob("*sub2*"))[0]
    renderer = Renderer(model, Precision.FULL, "cpu")
    compiled = EditCompiler(renderer).compile((ReplaceBlock(block=2, checkpoint=variant),))
    assert compiled.edits is None
    same = [a is b for a, b in zip(compiled.tables.blocks, renderer.tables.blocks, strict=True)]
    assert same == [True, True, False, True]
    twin = open_checkpoint(other, settings).model
    assert torch.equal(compiled.model.blocks[2].density_planes[0][0], twin.blocks[2].density_planes[0][0])


def test_removals_below_do_not_depend_on_those_above(monkeypatch):
    made = compiler()
    seen: list[tuple[Region, ...]] = []

    def patch(terrain, region, high, others=(), is_draft=False):
        seen.append(others)
        from landmark_viewer.core.edits.raster import footprint_of

        return (EditOp(EditKind.CLEAR, footprint_of(region, 0.1)),)

    monkeypatch.setattr("landmark_viewer.core.edits.compile.make_patches", patch)
    first, second = Remove(prism=HOUSE, uid=1), Remove(prism=ROUND, uid=2)
    made.compile((first,))
    made.compile((first, second))
    assert seen == [(), (HOUSE.region,)]


def test_a_draft_of_a_removal_keeps_its_shadow_and_is_not_kept_itself(monkeypatch):
    made = compiler()
    seen: list[bool] = []

    def patches(terrain, region, high, others=(), is_draft=False):
        seen.append(is_draft)
        from landmark_viewer.core.edits.raster import footprint_of

        ops = (EditOp(EditKind.CLEAR, footprint_of(region, 0.1)),)
        return ops if is_draft else (*ops, EditOp(EditKind.CLEAR, footprint_of(ROUND.region, 0.1)))

    monkeypatch.setattr("landmark_viewer.core.edits.compile.make_patches", patches)
    layers = (Remove(prism=HOUSE),)
    assert len(made.compile(layers, is_draft=True).edits.ops) == 1
    assert len(made.compile(layers).edits.ops) == 2
    assert len(made.compile(layers, is_draft=True).edits.ops) == 2, "what is compiled already is no draft"
    assert seen == [True, False]
