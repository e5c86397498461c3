"""Edits of a streamed field: compiled from whichever blocks they need, and shown as of a field in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.checkpoint import open_checkpoint
from landmark_viewer.core.edits.compile import EditCompiler, SourceScene
from landmark_viewer.core.edits.compiled import CompiledEdits
from landmark_viewer.core.edits.layers import Copy, Hide, Placement, Remove, ReplaceBlock
from landmark_viewer.core.edits.select import select_building
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.render import Renderer, RenderSettings
from landmark_viewer.core.settings import ModelSettings, Precision
from landmark_viewer.core.streaming.contracts import STATES, BlockState, MemoryBudget

from . import synthetic
from .scripted_source import eventually
from .stream_town import BARN, HOUSE, TOWER, flight, town
from .test_stream_render import assert_same, prism, streamed, whole

SETTINGS = RenderSettings(appearance=Appearance.of(1))


def assert_same_operations(got: CompiledEdits, wanted: CompiledEdits) -> None:
    assert len(got.edits.ops) == len(wanted.edits.ops)
    for mine, theirs in zip(got.edits.ops, wanted.edits.ops, strict=True):
        for name in ("kind", "inside", "z_low", "z_high", "to_source", "thickness", "rise", "sigma"):
            assert getattr(mine, name) == getattr(theirs, name), name
        for name in ("ground", "features"):
            pair = getattr(mine, name), getattr(theirs, name)
            assert (pair[0] is None and pair[1] is None) or torch.equal(*pair), name
        if theirs.footprint is not None:
            assert torch.equal(mine.footprint.mask, theirs.footprint.mask)
    assert torch.equal(got.edits.index.cells, wanted.edits.index.cells)


def test_a_removal_does_not_depend_on_what_is_resident():
    model = town()
    layers = (Remove(prism=prism(HOUSE, 0.1, 0.7)), Remove(prism=prism(TOWER, 0.1, 0.8)))
    wanted = EditCompiler(whole(model)).compile(layers)
    with streamed(model, 4) as renderer:
        renderer.render(flight()[3], SETTINGS)  # some blocks are there
        assert_same_operations(EditCompiler(renderer).compile(layers), wanted)
    with streamed(model, 5) as renderer:
        assert_same_operations(EditCompiler(renderer).compile(layers), wanted)


def test_compiled_edits_keep_no_blocks_in_memory():
    with streamed(town(), 4) as renderer:
        compiled = EditCompiler(renderer).compile((Remove(prism=prism(HOUSE, 0.1, 0.7)),))
        assert not any(compiled.tables.blocks)
        assert not compiled.tables.stream.block_masks


def test_a_building_is_selected_though_its_blocks_are_on_disk():
    model = town()
    x, y = (TOWER[0] + TOWER[2]) / 2, (TOWER[1] + TOWER[3]) / 2
    wanted = select_building(EditCompiler(whole(model)).terrain, x, y)
    with streamed(model, 4) as renderer:
        assert select_building(EditCompiler(renderer).terrain, x, y) == wanted


def other_town(path: Path) -> SourceScene:
    return SourceScene(town((2, 2), n=41), Appearance.of(2), None)


COPIES = (
    Hide(prism=prism(BARN, 0.1, 0.5)),
    Copy(
        prism=prism(HOUSE, 0.1, 0.6),
        source=Path("other.yaml"),
        placements=(Placement((0.1, -0.6, 0.17), 30.0),),
    ),
)


def test_copies_from_another_scene_hold_only_the_blocks_under_them():
    model = town()
    everything = whole(model)
    edits = EditCompiler(everything, other_town).compile(COPIES)
    with streamed(model, 4) as renderer:
        mine = EditCompiler(renderer, other_town).compile(COPIES)
        source = mine.edits.sources[0].tables
        assert [block is not None for block in source.blocks] == [True, True, False, False]
        for camera in flight(2):
            wanted = everything.render(camera, replace(SETTINGS, edits=edits))
            assert_same(renderer.render(camera, replace(SETTINGS, edits=mine)), wanted)


@pytest.fixture
def sub_files(tmp_path: Path) -> tuple[GridNeRF, GridNeRF, Path]:
    """A field of 2 x 2 blocks, another one of its form, and the file of the latter's block 2."""
    options = {"division": (2, 2), "grid": (24, 24, 8), "mask": (25, 25, 9)}
    settings = ModelSettings(plane_division=(2, 2))
    first = synthetic.write(tmp_path / "a", "branch-sub", **options)
    second = synthetic.write(tmp_path / "b", "branch-sub", seed=5, **options)
    models = [open_checkpoint(path, settings).model for path in (first, second)]
    return models[0], models[1], sorted(second.parent.glob("*sub2*"))[0]


def view_of_all(model: GridNeRF) -> Camera:
    low, high = model.aabb.double().numpy()
    middle, size = (low + high) / 2, high - low
    return Camera.from_fov(look_at(middle + size.max() * np.array([0, -0.4, 1.2]), middle), 64, 48, 50.0)


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_replaced_block_is_fetched_like_any_other(sub_files, tmp_path, with_mask):
    model, _, file = sub_files
    layer = ReplaceBlock(block=2, checkpoint=file)
    if with_mask:
        nodes = model.occupancy.nodes.clone()
        nodes[:, :9, 16:] = 1 - nodes[:, :9, 16:]  # well inside block 2, above low x and y
        np.save(tmp_path / "alpha_volume_2.npy", nodes.numpy())
        layer = replace(layer, mask=tmp_path / "alpha_volume_2.npy")
    everything, camera = whole(model), view_of_all(model)
    settings = RenderSettings(appearance=Appearance.of(0))
    edits = EditCompiler(everything).compile((layer,))
    wanted = everything.render(camera, replace(settings, edits=edits))
    assert not np.array_equal(wanted.rgb, everything.render(camera, settings).rgb)
    renderer = Renderer(model, Precision.FULL, "cpu", MemoryBudget(neighbour_size=3))
    try:
        mine = EditCompiler(renderer).compile((layer,))
        assert [variant.block for variant in mine.variants] == [2]
        for _ in range(2):
            assert_same(renderer.render(camera, replace(settings, edits=mine)), wanted)
            assert_same(renderer.render(camera, settings), everything.render(camera, settings))
            renderer.stream.residency.evict(2)
        states = renderer.stream.status().states
        assert states[2] == STATES.index(BlockState.DISK)
        residency = renderer.stream.residency
        eventually(lambda: 2 not in residency.tables(mine.variants).resident, "a snapshot without it")
        renderer.render(camera, replace(settings, edits=mine))
        assert renderer.stream.status().states[2] == STATES.index(BlockState.EDITED)
    finally:
        renderer.close()
