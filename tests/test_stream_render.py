"""Block-complete pictures: whatever the budget, they are those of the whole field in memory, bit for bit."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from landmark_viewer.core.appearance import Appearance, blend
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.edits.compile import EditCompiler
from landmark_viewer.core.edits.compiled import CompiledEdits
from landmark_viewer.core.edits.layers import Copy, Crop, Placement, Prism, Remove, Restyle
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.errors import InputError
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.render import Backend, Frame, Renderer, RenderSettings
from landmark_viewer.core.settings import Precision
from landmark_viewer.core.streaming.checkpoint_source import CheckpointSource
from landmark_viewer.core.streaming.contracts import BlockState, MemoryBudget, Variant
from landmark_viewer.cuda.tables import Quality, RenderControl

from .small_fields import Shape, make_field, with_settings
from .stream_town import BARN, HOUSE, budget_of, flight, town

MIXED = blend(Appearance.of(0), Appearance.of(2), 0.4)


def prism(box: tuple[float, ...], low: float, high: float) -> Prism:
    return Prism(Region.rectangle(*box[:4]), low, high)


LAYERS = (
    Remove(prism=prism(HOUSE, 0.1, 0.7)),
    Copy(prism=prism(BARN, 0.12, 0.5), placements=(Placement((0.36, 0.0, 0.16), 20.0),)),
    Restyle(prism=prism((-0.2, -0.5, 0.9, 0.2), 0.0, 0.8), appearance=Appearance.of(1)),
    Crop(prism=prism((-0.9, -0.85, 0.95, 0.9), 0.0, 0.75)),
)


@contextmanager
def streamed(model: GridNeRF, n_blocks: int, precision: Precision = Precision.FULL) -> Iterator[Renderer]:
    """Opens a field with a budget of so many blocks."""
    renderer = Renderer(model, precision, "cpu", budget_of(model, n_blocks, precision))
    try:
        assert renderer.stream is not None
        yield renderer
    finally:
        renderer.close()


def whole(model: GridNeRF, precision: Precision = Precision.FULL) -> Renderer:
    renderer = Renderer(model, precision, "cpu")
    assert renderer.stream is None
    return renderer


def assert_same(got: Frame, wanted: Frame) -> None:
    for name in ("rgb", "opacity", "depth", "median_depth"):
        assert np.array_equal(getattr(got, name), getattr(wanted, name)), name
    assert got.is_complete
    assert got.lacking_share == 0
    if wanted.normals is not None:
        assert np.array_equal(got.normals, wanted.normals)


def fetched_blocks(renderer: Renderer) -> int:
    return len([record for record in renderer.stream.residency.records() if record.error is None])


@pytest.mark.parametrize("precision", [Precision.FULL, Precision.HALF])
def test_a_flight_with_four_of_nine_blocks_equals_the_whole_field_with_edits_and_appearances(precision):
    model = town()
    everything = whole(model, precision)
    edits = EditCompiler(everything).compile(LAYERS)
    with streamed(model, 4, precision) as renderer:
        mine = EditCompiler(renderer).compile(LAYERS)
        for number, camera in enumerate(flight()):
            quality = (Quality.EXACT, Quality.CLUSTERED, Quality.FAST)[number % 3]
            settings = RenderSettings(quality, appearance=MIXED, normals=number % 2 == 0)
            wanted = everything.render(camera, replace(settings, edits=edits))
            assert wanted.opacity.mean() > 0.3
            assert_same(renderer.render(camera, replace(settings, edits=mine)), wanted)
        status = renderer.stream.status()
        assert status.device_bytes <= status.device_budget


def test_what_is_fetched_for_a_picture_that_needs_more_than_fits_is_not_much_more_than_it_needs():
    model = town()
    camera = Camera.from_fov(look_at((-0.1, -1.5, 1.7), (0.0, 0.0, 0.15)), 320, 224, 60.0)
    with streamed(model, 4) as renderer:
        assert_same(renderer.render(camera), whole(model).render(camera))
        assert 9 <= fetched_blocks(renderer) <= 15


def test_the_budget_does_not_change_a_picture():
    model, camera = town(), flight()[2]
    wanted = whole(model).render(camera)
    for n_blocks in (4, 5, 6):
        with streamed(model, n_blocks) as renderer:
            assert_same(renderer.render(camera), wanted)
            assert_same(renderer.render(camera), wanted)


def test_the_nerf_branch_and_hull_samples_are_complete_too():
    shape = Shape(levels=2, latent=3, grid=(33, 33, 6), division=(3, 3), nerf=True, opacity=60.0)
    model = with_settings(make_field(shape), run_nerf=True, residual_nerf=True, n_importance=24)
    camera = Camera.from_fov(look_at((0.0, -0.3, 1.7), (0.05, -0.1, 0.0)), 64, 48, 40.0)
    wanted = whole(model).render(camera)
    with streamed(model, 4) as renderer:
        assert_same(renderer.render(camera), wanted)


@pytest.mark.parametrize("backend", [Backend.TORCH, Backend.REFERENCE])
def test_other_back_ends_show_the_same(backend):
    model, camera = town(), flight(width=48, height=32)[1]
    wanted = whole(model).render(camera, RenderSettings(backend=backend))
    with streamed(model, 4) as renderer:
        got = renderer.render(camera, RenderSettings(backend=backend))
    assert np.abs(got.rgb - wanted.rgb).max() < 1e-5


def test_a_picture_that_need_not_be_complete_is_made_at_once_and_says_what_it_lacks():
    model, camera = town(), flight()[0]
    with streamed(model, 4) as renderer:
        control = RenderControl(camera.width, camera.height)
        control.lacking = np.zeros(9, dtype=np.uint8)
        frame = renderer.render(camera, RenderSettings(complete=False), control)
        assert frame.is_complete
        assert frame.lacking_share > 0.5
        assert frame.lacking_share == control.tile_lacking.mean()
        assert control.lacking.any()
        assert (frame.opacity > 0.5).any()  # stand-ins are seen
        assert fetched_blocks(renderer) == 0


def test_a_picture_is_cancelled_while_it_waits(monkeypatch):
    model, camera = town(), flight()[0]
    with streamed(model, 4) as renderer:
        reading, go_on = threading.Event(), threading.Event()
        read = CheckpointSource.read

        def slow(*arguments):
            reading.set()
            go_on.wait(20)
            return read(*arguments)

        monkeypatch.setattr(CheckpointSource, "read", slow)
        control = RenderControl(camera.width, camera.height)
        frames: list[Frame] = []
        thread = threading.Thread(target=lambda: frames.append(renderer.render(camera, None, control)))
        thread.start()
        assert reading.wait(20)
        control.cancel()
        thread.join(20)
        go_on.set()
        assert not thread.is_alive()
        assert not frames[0].is_complete
        assert control.tile_done.sum() == control.done_count[0] < len(control.order)


def test_a_block_that_cannot_be_read_ends_a_complete_picture_with_its_reason(monkeypatch):
    model, camera = town(), flight()[0]
    read = CheckpointSource.read

    def broken(source, block, *arguments):
        if block == 4:
            raise InputError("block 4: its checksum is wrong; copy it anew")
        return read(source, block, *arguments)

    monkeypatch.setattr(CheckpointSource, "read", broken)
    with streamed(model, 4) as renderer:
        with pytest.raises(InputError, match="block 4: its checksum is wrong"):
            renderer.render(camera)
        assert renderer.render(camera, RenderSettings(complete=False)).is_complete


def test_a_budget_without_room_for_full_detail_is_refused_rather_than_shown_wrong():
    model, camera = town(), flight()[0]
    budget = MemoryBudget(device=budget_of(model, 0).device)
    renderer = Renderer(model, Precision.FULL, "cpu", budget)
    try:
        with pytest.raises(InputError, match=r"memory.device must have room for at least one block in full"):
            renderer.render(camera)
        assert renderer.render(camera, RenderSettings(complete=False)).is_complete
    finally:
        renderer.close()


def test_a_place_that_shows_more_blocks_than_fit_is_refused():
    model = make_field(Shape(grid=(33, 33, 6), division=(6, 1), opacity=0.02))
    camera = Camera.from_fov(look_at((-2.5, -0.1, 0.3), (0.0, -0.1, 0.2)), 32, 24, 30.0)
    with (
        streamed(model, 4) as renderer,
        pytest.raises(InputError, match=r"memory.device must have room for the \d blocks that one ray"),
    ):
        renderer.render(camera)


def test_a_tuned_version_of_a_block_shows_and_survives_being_evicted():
    model, camera = town(), flight()[0]
    brighter = replace(model, blocks=tuple(make_brighter(block) for block in model.blocks))
    blocks = tuple(brighter.blocks[n] if n == 1 else block for n, block in enumerate(model.blocks))
    mixed = replace(model, blocks=blocks)
    wanted = whole(mixed).render(camera)
    assert not np.array_equal(wanted.rgb, whole(model).render(camera).rgb)
    variant = Variant(1, CheckpointSource(brighter), ("tuned", 1), BlockState.TUNED)
    with streamed(model, 4) as renderer:
        edits = CompiledEdits((), mixed, renderer.tables, None, variants=(variant,))
        for _ in range(2):
            assert_same(renderer.render(camera, RenderSettings(edits=edits)), wanted)
            assert_same(renderer.render(camera), whole(model).render(camera))
        renderer.stream.residency.evict(1)
        assert_same(renderer.render(camera, RenderSettings(edits=edits)), wanted)


def make_brighter(block):
    planes = tuple(tuple(1.5 * part for part in parts) for parts in block.appearance_planes)
    return replace(block, appearance_planes=planes)


def test_only_what_is_larger_than_the_budget_is_streamed():
    model = town()
    large = MemoryBudget(device=budget_of(model, 12).device)
    for memory, is_streamed in ((None, False), (large, False), (replace(large, neighbour_size=3), True)):
        renderer = Renderer(model, Precision.FULL, "cpu", memory)
        assert (renderer.stream is not None) == is_streamed
        renderer.close()


def test_points_and_columns_do_not_depend_on_what_is_resident():
    import torch

    from landmark_viewer.core.render import options_for
    from landmark_viewer.cuda.edit_tables import ColumnGrid

    model = town()
    everything = whole(model)
    options = options_for(model, RenderSettings(appearance=Appearance.of(0)))
    grid = ColumnGrid((-0.9, -0.9), 0.03, 60, 55, 0.0, 0.8, float(options.step))
    random = np.random.default_rng(0)
    points = torch.from_numpy(random.uniform((-1, -1, 0), (1, 1, 0.8), (500, 3)).astype(np.float32))
    with streamed(model, 4) as renderer:
        for _ in range(2):
            got, wanted = renderer.columns(options, grid), everything.columns(options, grid)
            for name in ("height", "opacity", "features"):
                np.testing.assert_array_equal(getattr(got, name).numpy(), getattr(wanted, name).numpy())
            probed, known = renderer.probe(points), everything.probe(points)
            for name in ("density_feature", "sigma", "appearance_feature"):
                assert torch.equal(getattr(probed, name), getattr(known, name))


def test_a_converted_checkpoint_shows_the_same_picture(shared_dir, tmp_path):
    from landmark_viewer.core.store.convert import convert
    from landmark_viewer.scenes.load import open_scene

    scene = open_scene(shared_dir / "oracle" / "d_branch22_app" / "bb_d_branch22_app-merged-stack.th")
    convert(scene.opened, tmp_path / "store", Precision.FULL)
    camera = scene.home_camera(96, 64)
    settings = RenderSettings(appearance=Appearance.of(0), background=scene.background)
    wanted = whole(scene.model).render(camera, settings)
    renderer = Renderer(open_scene(tmp_path / "store").model, Precision.FULL, "cpu")
    try:
        assert renderer.stream is not None
        assert_same(renderer.render(camera, settings), wanted)
    finally:
        renderer.close()


def test_the_command_renders_the_same_whatever_it_may_use(tmp_path, capsys):
    from landmark_viewer.viewer import cli

    from . import synthetic

    path = synthetic.write(tmp_path, "branch-sub", division=(2, 2), grid=(24, 24, 8), mask=None)
    common = [
        "render",
        str(path),
        "--size",
        "32x24",
        "--precision",
        "full",
        "--set",
        "model.plane_division=[2, 2]",
    ]
    names = ("free.npz", "tight.npz", "set.npz")
    assert cli.main([*common, "-o", str(tmp_path / names[0])]) == 0
    assert cli.main([*common, "-o", str(tmp_path / names[1]), "--set", "memory.neighbour_size=1"]) == 0
    assert cli.main([*common, "-o", str(tmp_path / names[2]), "--memory", "1MB"]) == 0
    free, *others = (np.load(tmp_path / name)["rgb"] for name in names)
    assert all(np.array_equal(free, other) for other in others)
    assert cli.main([*common, "-o", str(tmp_path / "no.npz"), "--memory", "20kB"]) == 1
    assert "memory" in capsys.readouterr().err
    assert cli.main([*common, "-o", str(tmp_path / "no.npz"), "--memory", "plenty"]) == 2
    assert "--memory: must be a size such as 4GB or 500MB, got 'plenty'" in capsys.readouterr().err


def test_where_memory_is_short_fewer_tiles_are_rendered_at_once(monkeypatch):
    from landmark_viewer.core.streaming import complete
    from landmark_viewer.cuda import ops

    model, camera = town(), flight(width=64, height=48)[0]
    renderer, asked = whole(model), []
    wanted = renderer.render(camera, RenderSettings(backend=Backend.TORCH))
    render = ops.render

    def short(tables, view, options, buffers, control, backend):
        asked.append((options.chunk_tiles, len(control.order)))
        if options.chunk_tiles > least:
            part = RenderControl(view.width, view.height, control.order[:5])
            part.tile_done, part.done_count = control.tile_done, control.done_count
            assert render(tables, view, options, buffers, part, backend)
            raise MemoryError
        return render(tables, view, options, buffers, control, backend)

    monkeypatch.setattr(complete.ops, "render", short)
    least = 4
    got = renderer.render(camera, RenderSettings(backend=Backend.TORCH))
    assert np.abs(got.rgb - wanted.rgb).max() < 1e-5  # torch sums other numbers of rows in another order
    assert asked == [(64, 48), (16, 43), (4, 38)]  # what was done is not done again
    least = 0
    with pytest.raises(InputError, match="must find memory for one tile"):
        renderer.render(camera, RenderSettings(backend=Backend.TORCH))
