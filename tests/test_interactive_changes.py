"""What an edit changes of a keyframe: every pixel that looks different afterwards, and not many more."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.compiled import CompiledEdits
from landmark_viewer.core.edits.layers import (
    Copy,
    Crop,
    Hide,
    Layer,
    Placement,
    Prism,
    Remove,
    ReplaceBlock,
    Restyle,
)
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.interactive.changes import MOST, blocks_trust, changed_boxes, trust_of
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.streaming.contracts import Variant
from landmark_viewer.cuda.edit_tables import EditKind, EditOp, Footprint, Source
from landmark_viewer.cuda.tables import FrameBuffers, Quality, View
from landmark_viewer.cuda.warp import KeyframeBuilder
from landmark_viewer.cuda.warp_tables import Keyframe, Trust
from landmark_viewer.scenes.city.town import Town, TownSpec
from landmark_viewer.scenes.load import demo_scene_path, open_scene

from .edit_truth import prism_of
from .small_edits import clear, footprint, instance, patch, placed, style, tables_of
from .small_fields import Shape, make_field
from .small_fields import camera as small_camera

SEEN = 1 / 255  # difference of colours that counts
LEFT_OUT = 0.01  # share of the light at which rays of the fast path end
TOWER, CHURCH, HOUSE = 4995003, 5005001, 5004992
ENGINE = {"quality": Quality.FAST, "cluster_weight": 0.34}
EXACT = {"quality": Quality.EXACT}


def picture(renderer: Renderer, camera: Camera, edits: CompiledEdits | None, **settings) -> FrameBuffers:
    buffers = FrameBuffers.empty(camera.width, camera.height, front=True)
    renderer.render(camera, RenderSettings(edits=edits, **settings), buffers=buffers)
    return buffers


def keyframe_of(camera: Camera, buffers: FrameBuffers) -> Keyframe:
    builder = KeyframeBuilder(view_of(camera))
    builder.put_picture(buffers)
    return builder.finish()


def differences(a: FrameBuffers, b: FrameBuffers) -> np.ndarray:
    return (a.rgb - b.rgb).abs().amax(dim=-1).numpy()


def voided(renderer: Renderer, keyframe: Keyframe, boxes) -> np.ndarray:
    return trust_of(keyframe, boxes, 8 * float(renderer.model.step)) == Trust.VOID


# The town


@dataclass(frozen=True)
class Place:
    """The shipped town, and what can be edited in it."""

    renderer: Renderer
    compiler: EditCompiler
    prisms: dict[int, Prism]
    cameras: tuple[Camera, ...]


@pytest.fixture(scope="module")
def place() -> Place:
    scene = open_scene(demo_scene_path())
    renderer = Renderer(scene.model, device="cpu")
    compiler = EditCompiler(renderer)
    town = Town(TownSpec(seed=1, blocks=(2, 2)))
    prisms = {number: prism_of(town, number, compiler.terrain) for number in (TOWER, CHURCH, HOUSE)}
    x, y = prisms[CHURCH].region.center
    low = Camera.from_fov(look_at((x - 0.7, y + 0.5, 0.25), (x, y, 0.1)), 128, 72, 50.0)
    return Place(renderer, compiler, prisms, (scene.home_camera(128, 72), low))


def check(place: Place, before: tuple[Layer, ...], after: tuple[Layer, ...], most: float) -> None:
    """Holds the masks of two cameras and two kinds of keyframes against pictures before and after."""
    renderer = place.renderer
    old, new = (place.compiler.compile(layers) for layers in (before, after))
    boxes = changed_boxes(old, new)
    assert boxes is not None
    n_changed = 0
    for camera in place.cameras:
        exact, fast = (
            [picture(renderer, camera, edits, **settings) for edits in (old, new)]
            for settings in (EXACT, ENGINE)
        )
        changed = differences(*exact)
        n_changed += np.count_nonzero(changed > SEEN)
        adopted = voided(renderer, keyframe_of(camera, exact[0]), boxes)
        assert not (changed > SEEN)[~adopted].any()
        own = voided(renderer, keyframe_of(camera, fast[0]), boxes)
        assert not (differences(*fast) > SEEN)[~own].any()
        assert not (changed > LEFT_OUT)[~own].any()
        assert own.mean() < most
    assert n_changed > 20


def test_a_removed_building_and_its_shadow(place):
    check(place, (), (Remove(prism=place.prisms[CHURCH]),), most=0.25)


def test_undoing_a_removal(place):
    check(place, (Remove(prism=place.prisms[CHURCH]),), (), most=0.25)


def test_a_removal_beside_another_one_changes_the_ground_of_both(place):
    first, second = (Remove(uid=n, prism=place.prisms[n]) for n in (HOUSE, CHURCH))
    check(place, (first,), (first, second), most=0.3)


def test_a_hidden_building_and_a_copy_that_is_put_somewhere(place):
    hidden = Hide(prism=place.prisms[HOUSE])
    check(place, (hidden,), (hidden, Copy(prism=place.prisms[TOWER], placements=(NEAR,))), most=0.15)


NEAR = Placement((0.45, 0.2, 0.02), 30.0, 0.8)


def test_a_copy_that_is_moved_changes_both_places(place):
    prism = place.prisms[TOWER]
    before, after = (
        Copy(prism=prism, placements=(NEAR, there))
        for there in (Placement((0.0, 0.55, 0.02)), Placement((0.0, -0.3, 0.02), 10.0))
    )
    check(place, (before,), (after,), most=0.4)
    boxes = changed_boxes(place.compiler.compile((before,)), place.compiler.compile((after,)))
    assert not any(low[0] < 0.45 < high[0] and low[1] < 0.2 < high[1] for low, high in boxes)


def test_a_restyled_building(place):
    check(place, (), (Restyle(prism=place.prisms[CHURCH], appearance=Appearance.of(1)),), most=0.25)


def test_another_order_of_layers_changes_what_they_share(place):
    x0, y0, x1, y1 = place.prisms[CHURCH].region.bounds
    half = Prism(Region.rectangle(x0, y0, (x0 + x1) / 2, y1), place.prisms[CHURCH].low)
    shown = Copy(prism=place.prisms[HOUSE], placements=(Placement((x0, (y0 + y1) / 2, 0.0)),))
    check(place, (Hide(prism=half), shown), (shown, Hide(prism=half)), most=0.2)


def test_what_changes_nothing_voids_nothing(place):
    layers = Remove(prism=place.prisms[CHURCH]), Hide(prism=place.prisms[HOUSE])
    edits = place.compiler.compile(layers)
    renamed = place.compiler.compile((replace(layers[0], uid=7, name="X", locked=True), layers[1]))
    assert edits is not renamed
    assert changed_boxes(edits, renamed) == changed_boxes(edits, edits) == changed_boxes(None, None) == ()
    again = EditCompiler(place.renderer).compile(layers[1:])
    assert changed_boxes(place.compiler.compile(layers[1:]), again) == ()
    switched_off = place.compiler.compile((*layers, replace(layers[0], enabled=False)))
    assert changed_boxes(edits, switched_off) == ()


def test_isolating_a_building_changes_everything(place):
    crop = place.compiler.compile((Crop(prism=place.prisms[CHURCH]),))
    assert changed_boxes(None, crop) is None
    assert changed_boxes(crop, None) is None
    hidden = place.compiler.compile((Crop(prism=place.prisms[CHURCH]), Hide(prism=place.prisms[HOUSE])))
    (box,) = changed_boxes(crop, hidden)
    x, y = place.prisms[HOUSE].region.center
    assert box[0][0] < x < box[1][0]
    assert box[0][1] < y < box[1][1]


# Small fields: half transparent ones as well, and operations of every kind


SMALL = Shape(levels=2, division=(2, 2), latent=7, feature_dim=5)


def edits_of(
    model: GridNeRF, renderer: Renderer, *ops: EditOp, other: GridNeRF | None = None
) -> CompiledEdits:
    sources = (
        ()
        if other is None
        else (Source(other.tables(), other.settings.alpha_mask_threshold, other.latent(0)),)
    )
    ratios = ((Path("other"), 1.0),) * len(sources)
    models = () if other is None else (other,)
    return CompiledEdits((), model, renderer.tables, tables_of(*ops, sources=sources), models, ratios)


def some_ops(model: GridNeRF) -> list[EditOp]:
    far = placed((0.0, 0.0, 0.0), (-0.4, -0.2, 0.05), 70.0, 0.6)
    return [
        clear(footprint=footprint(5, 6, (0.2, 0.1))),
        patch(5, footprint=footprint()),
        instance(),
        replace(instance(), to_source=far, sigma_scale=1 / 0.6),
        replace(instance(), source=1, to_source=placed((0.0, 0.0, 0.0), (0.5, -0.7, 0.1), 10.0, 0.5)),
        style(model.latent(1)),
        style(model.latent(2), footprint=footprint(6, 6, (-0.8, -0.9))),
    ]


@pytest.mark.parametrize("opacity", [0.05, 1.0, 40.0])
@pytest.mark.parametrize("view", [0, 1])
def test_no_pixel_that_looks_different_stays(opacity, view):
    model = make_field(replace(SMALL, opacity=opacity), seed=3)
    other = make_field(replace(SMALL, opacity=opacity), seed=4)
    renderer = Renderer(model, device="cpu")
    camera = small_camera(48, 36, view)
    pool = some_ops(model)
    rng = np.random.default_rng(view)
    n_changed = n_kept = 0
    for _ in range(8):
        stacks = [[pool[i] for i in rng.permutation(len(pool))[: rng.integers(0, 5)]] for _ in range(2)]
        old, new = (edits_of(model, renderer, *ops, other=other) for ops in stacks)
        boxes = changed_boxes(old, new)
        assert boxes is not None
        before, after = (picture(renderer, camera, edits, **EXACT) for edits in (old, new))
        changed = differences(before, after) > SEEN
        void = voided(renderer, keyframe_of(camera, before), boxes)
        assert not changed[~void].any()
        n_changed += np.count_nonzero(changed)
        n_kept += np.count_nonzero(~void)
    assert n_changed > 100
    assert n_kept > 300


def test_operations_are_told_apart_by_all_that_they_say():
    model = make_field(SMALL)
    renderer = Renderer(model, device="cpu")
    base = patch(5)
    assert base.ground is not None
    assert base.features is not None
    assert base.footprint is not None
    holes = base.footprint.mask.clone()
    holes[-1, -1] = 0
    changes = (
        {"ground": base.ground + 1e-6},
        {"features": -base.features},
        {"thickness": 0.07},
        {"rise": 0.02},
        {"sigma": 31.0},
        {"z_low": -0.03},
        {"footprint": Footprint(holes, base.footprint.low, base.footprint.side)},
        {"kind": EditKind.CLEAR},
    )
    old = edits_of(model, renderer, base)
    assert changed_boxes(old, edits_of(model, renderer, patch(5))) == ()
    for change in changes:
        assert changed_boxes(old, edits_of(model, renderer, replace(base, **change))), change
    one, two = (edits_of(model, renderer, style(torch.full((7,), value))) for value in (0.0, 1.0))
    assert changed_boxes(one, two)


def test_copies_from_scenes_are_told_apart_by_the_scene_and_its_colours():
    model, other = make_field(SMALL), make_field(SMALL, seed=1)
    renderer = Renderer(model, device="cpu")
    ops = instance(), replace(instance(), source=1, to_source=placed((0, 0, 0), (0.2, 0.1, 0.0), 0.0, 1.0))
    edits = edits_of(model, renderer, *ops, other=other)
    (low, high), *_ = changed_boxes(edits, replace(edits, unit_ratios=((Path("another"), 1.0),)))
    assert low[0] < 0.2 < high[0]
    source = replace(edits.edits.sources[0], latent=other.latent(1))
    relit = replace(edits, edits=replace(edits.edits, sources=(source,)))
    assert changed_boxes(edits, relit) == changed_boxes(
        edits, replace(edits, unit_ratios=((Path("another"), 1.0),))
    )


def test_an_operation_that_is_turned_is_wholly_in_its_boxes():
    model = make_field(SMALL)
    renderer = Renderer(model, device="cpu")
    op = replace(instance(), to_source=placed((0.0, 0.0, 0.0), (0.1, -0.2, 0.02), 35.0, 0.7))
    boxes = np.array(changed_boxes(None, edits_of(model, renderer, op)))
    points = np.random.default_rng(0).uniform(*model.aabb.numpy(), (4000, 3))
    t, cells = op.to_source, op.footprint
    x, y = t.xx * points[:, 0] + t.xy * points[:, 1] + t.x0, -t.xy * points[:, 0] + t.xx * points[:, 1] + t.y0
    z = t.zz * points[:, 2] + t.z0
    i, j = (np.floor((at - low) / cells.side).astype(int) for at, low in zip((x, y), cells.low, strict=True))
    n_y, n_x = cells.mask.shape
    inside = (i >= 0) & (i < n_x) & (j >= 0) & (j < n_y) & (z >= op.z_low) & (z < op.z_high)
    inside &= cells.mask.numpy()[j.clip(0, n_y - 1), i.clip(0, n_x - 1)] > 0
    held = ((points[:, None] >= boxes[:, 0]) & (points[:, None] <= boxes[:, 1])).all(axis=2).any(axis=1)
    assert inside.sum() > 100
    assert held[inside].all()
    assert held.mean() < 3 * inside.mean()


def test_too_many_changes_are_not_told_apart():
    model = make_field(SMALL)
    renderer = Renderer(model, device="cpu")
    ops = [clear(footprint=footprint(3, 3, (-0.9 + 0.01 * n, -0.5))) for n in range(MOST + 1)]
    assert changed_boxes(None, edits_of(model, renderer, *ops)) is None
    assert len(changed_boxes(None, edits_of(model, renderer, *ops[:MOST]))) <= MOST
    assert len(changed_boxes(edits_of(model, renderer, *ops[:-1]), edits_of(model, renderer, *ops))) <= 16


# Replaced blocks


def with_block(
    model: GridNeRF, renderer: Renderer, number: int, *ops: EditOp, **changes: object
) -> CompiledEdits:
    """A stack that replaces one block of a field in memory."""
    mended = make_field(SMALL, seed=9).blocks[number]
    edited = replace(model, blocks=tuple(mended if n == number else b for n, b in enumerate(model.blocks)))
    layer = replace(ReplaceBlock(block=number, checkpoint=Path("b.th")), **changes)
    tables = edited.repacked(renderer.tables, number)
    return CompiledEdits((layer,), edited, tables, tables_of(*ops) if ops else None)


def test_a_replaced_block_changes_what_is_seen_through_it_and_copies_of_it():
    model = make_field(SMALL)
    renderer = Renderer(model, device="cpu")
    (x0, y0, _), (x1, y1, _) = model.aabb.tolist()
    edits = with_block(model, renderer, 2)
    (box,) = changed_boxes(None, edits)
    assert box[0][:2] == pytest.approx(((x0 + x1) / 2, y0), abs=1e-3)
    assert box[1][:2] == pytest.approx((x1, (y0 + y1) / 2), abs=1e-3)
    op = instance()
    for before, after, n_boxes in (
        (None, edits, 1),
        (edits_of(model, renderer, op), with_block(model, renderer, 2, op), 2),
    ):
        boxes = changed_boxes(before, after)
        assert len(boxes) >= n_boxes
        for view in (0, 1, 2):
            camera = small_camera(40, 30, view)
            old, new = (picture(renderer, camera, each, **EXACT) for each in (before, after))
            changed = differences(old, new) > SEEN
            void = voided(renderer, keyframe_of(camera, old), boxes)
            assert changed.any()
            assert not changed[~void].any()


def test_a_replaced_mask_changes_everything_and_a_block_of_a_stream_its_own():
    model = make_field(SMALL)
    renderer = Renderer(model, device="cpu")
    masked = with_block(model, renderer, 1, mask=Path("alpha.npy"))
    assert changed_boxes(None, masked) is None
    assert changed_boxes(masked, None) is None
    versions = [
        replace(masked, model=replace(model), variants=(Variant(1, None, ("b.th", time)),)) for time in (1, 2)
    ]
    assert len(changed_boxes(None, versions[0])) == 1
    assert len(changed_boxes(versions[0], None)) == 1
    assert changed_boxes(*versions) == changed_boxes(None, versions[0])
    assert changed_boxes(versions[0], replace(versions[0], model=replace(model))) == ()


def test_a_layer_that_is_switched_off_replaces_nothing():
    model = make_field(SMALL)
    renderer = Renderer(model, device="cpu")
    edits = with_block(model, renderer, 1, enabled=False, mask=Path("alpha.npy"))
    assert changed_boxes(None, edits) == ()


# Masks


def flat_keyframe(view: View, depth: float, opacity: float = 1.0, share: float = 1.0) -> Keyframe:
    """A keyframe of a wall that faces the camera."""
    buffers = FrameBuffers.empty(view.width, view.height, front=True)
    buffers.front[..., 0], buffers.front[..., 1] = depth, share
    buffers.opacity[:] = opacity
    builder = KeyframeBuilder(view)
    builder.put_picture(buffers)
    return builder.finish()


DOWN = view_of(Camera.from_fov(look_at((0.0, 0.0, 2.0), (0.0, 0.0, 0.0)), 64, 48, 50.0))


def test_a_box_counts_before_the_surface_and_in_it_but_not_behind_it():
    box = ((-0.1, -0.1, 0.4), (0.1, 0.1, 0.5))  # z-depth from 1.5 to 1.6
    for depth, margin, touched in (
        (1.8, 0.0, True),
        (1.55, 0.0, True),
        (1.45, 0.0, False),
        (1.45, 0.06, True),
    ):
        void = trust_of(flat_keyframe(DOWN, depth), [box], margin) == Trust.VOID
        assert void.any() == touched
        assert not void.all()
    void = trust_of(flat_keyframe(DOWN, 1.8), [box], 0.0) == Trust.VOID
    side = 2 * 0.1 / 1.5 * DOWN.fl_y  # of the near face, pixels
    assert void.sum() == pytest.approx(side**2, rel=0.15)


@pytest.mark.parametrize(("opacity", "share"), [(1.0, 0.9), (0.9, 1.0), (0.0, 1.0)])
def test_what_shines_through_a_surface_counts(opacity, share):
    behind = ((-0.1, -0.1, 0.0), (0.1, 0.1, 0.1))
    assert not trust_of(flat_keyframe(DOWN, 1.0), [behind], 0.0).any()
    assert trust_of(flat_keyframe(DOWN, 1.0, opacity, share), [behind], 0.0).any()


def test_boxes_round_and_behind_the_camera():
    keyframe = flat_keyframe(DOWN, 1.0)
    assert not trust_of(keyframe, [((-1, -1, 2.1), (1, 1, 3.0))], 0.0).any()  # behind
    assert not trust_of(keyframe, [((5, 5, 0.0), (6, 6, 3.0))], 0.0).any()  # beside
    assert (
        trust_of(keyframe, [((-1, -1, 1.9), (1, 1, 2.1))], 0.0) == Trust.VOID
    ).all()  # the camera is in it
    assert (trust_of(keyframe, [((-9, -9, -9), (9, 9, 9))], 0.0) == Trust.VOID).all()
    half = (
        trust_of(keyframe, [((0.0, -9, -9), (9, 9, 9))], 0.0) == Trust.VOID
    )  # its side goes through the eye
    assert 0.45 < half.mean() < 0.55
    assert trust_of(keyframe, [], 0.0).dtype == np.uint8


def test_pixels_that_lacked_a_block_are_stale_when_blocks_have_come():
    keyframe = flat_keyframe(DOWN, 1.0)
    lacking = np.zeros((48, 64), dtype=np.bool_)
    lacking[3:5, 10:20] = True
    trust = blocks_trust(replace(keyframe, lacking=lacking))
    assert trust.dtype == np.uint8
    assert np.array_equal(trust == Trust.STALE, lacking)
    assert not trust[~lacking].any()
    assert np.maximum(trust, np.uint8(Trust.VOID)).min() == Trust.VOID  # the worse one counts
