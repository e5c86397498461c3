"""The decoder in bfloat16: close to float32, a function of the ray alone, and never in exact pictures."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from landmark_viewer.core.camera import Camera
from landmark_viewer.core.checkpoint.landmark import open_checkpoint
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import Renderer, RenderSettings, options_for
from landmark_viewer.core.settings import ModelSettings, Precision
from landmark_viewer.cuda import build, native, ops
from landmark_viewer.cuda.tables import (
    FieldTables,
    FrameBuffers,
    Quality,
    RayList,
    RenderControl,
    RenderOptions,
)

from .small_edits import buffers_for, clear, instance, patch, psnr, source_of, style, with_edits
from .small_fields import SHAPES, Shape, camera, make_field
from .streamed_fields import streamed

BF16 = "x86-64-v4-bf16"
SIZE = (41, 27)
VIEW = view_of(camera(*SIZE))
COARSE = {
    "fast": {"quality": Quality.FAST, "cluster_weight": 0.34},
    "clustered": {"quality": Quality.CLUSTERED},
}
BLOCKS = Shape(division=(2, 3), mask=(23, 19, 9), mask_share=0.2, feature_dim=7, hidden=40, latent=3)
CHECKPOINTS = {
    "b_seq_res124_app": "bb_b_seq_res124_app.th",
    "d_branch22_app": "bb_d_branch22_app-merged-stack.th",
}
CLOSE = 50.0  # dB between float32 and bfloat16 in fields of random weights


@pytest.fixture
def bfloat16() -> None:
    """Skips where it is float32 that is rendered."""
    if not ops.has_bfloat16():
        pytest.skip(f"no bfloat16 here: {ops.backend_status().detail}")


@pytest.fixture
def compiler() -> str:
    try:
        return build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))


def options_of(model: GridNeRF, coarse: str, **changes: object) -> RenderOptions:
    return replace(options_for(model, RenderSettings(**COARSE[coarse])), **changes)


def picture(tables: FieldTables, options: RenderOptions, backend: str = "native") -> torch.Tensor:
    buffers = buffers_for(VIEW)
    assert ops.render(tables, VIEW, options, buffers, backend=backend)
    return buffers.rgb


def assert_close_but_other(tables: FieldTables, options: RenderOptions) -> None:
    rounded, plain = (picture(tables, replace(options, bfloat16=on)) for on in (True, False))
    assert not torch.equal(rounded, plain)
    assert psnr(rounded, plain) > CLOSE


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("coarse", COARSE)
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "empty mask"])
def test_colours_are_close_to_those_in_float32(name: str, coarse: str) -> None:
    model = make_field(SHAPES[name])
    assert_close_but_other(model.tables(Precision.FULL), options_of(model, coarse))


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("coarse", COARSE)
def test_edited_scenes_decode_all_their_fields_in_it(coarse: str) -> None:
    model, other = make_field(BLOCKS), make_field(SHAPES["latent"], seed=5)
    everywhere = instance(turn=20.0, scale=1.0, footprint=None, z_low=-9.0, z_high=9.0, source=1)
    mixed = (
        patch(model.decoder.basis.shape[0]),
        instance(),
        style(2 * model.embedding[1]),
        clear(inside=False),
    )
    for operations in (mixed, (everywhere,)):
        options = with_edits(options_of(model, coarse), *operations, sources=(source_of(other),))
        assert_close_but_other(model.tables(Precision.FULL), options)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("coarse", COARSE)
def test_streamed_fields_decode_in_it_as_those_in_memory(coarse: str) -> None:
    model = make_field(BLOCKS)
    options = options_of(model, coarse, bfloat16=True)
    whole = picture(model.tables(Precision.FULL), options)
    assert torch.equal(picture(streamed(model, range(6)), options), whole)
    assert_close_but_other(streamed(model, (0, 3)), options)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("coarse", COARSE)
def test_a_colour_depends_on_its_ray_alone(coarse: str) -> None:
    model = make_field(SHAPES["channels of the real ones"])
    tables, options = model.tables(Precision.FULL), options_of(model, coarse, bfloat16=True)
    whole = picture(tables, replace(options, threads=1)).reshape(-1, 3)
    for threads in (2, 4):
        assert torch.equal(picture(tables, replace(options, threads=threads)).reshape(-1, 3), whole)
    order = np.random.default_rng(3).permutation(SIZE[0] * SIZE[1]).astype(np.int32)
    for pixels in (order, order[:1], order[7:12], order[100:313]):
        rays = RayList(np.ascontiguousarray(pixels))
        buffers = rays.buffers()
        assert ops.render_rays(tables, VIEW, options, rays, buffers)
        assert torch.equal(buffers.rgb[0], whole[torch.from_numpy(pixels).long()])


def test_exact_pictures_refuse_it() -> None:
    model = make_field(SHAPES["plain"])
    settings = RenderSettings(bfloat16=True)
    assert options_for(model, settings).bfloat16
    sentence = r"bfloat16 must be off in exact pictures, which keep every bit, got on"
    with pytest.raises(ValueError, match=sentence):
        Renderer(model, device="cpu").render(camera(*SIZE), settings)
    rays = RayList(np.arange(9, dtype=np.int32))
    with pytest.raises(ValueError, match=sentence):
        ops.render_rays(model.tables(), VIEW, options_for(model, settings), rays, rays.buffers())


def test_torch_takes_no_notice_of_it() -> None:
    model = make_field(SHAPES["plain"])
    tables, options = model.tables(Precision.FULL), options_of(model, "clustered")
    assert torch.equal(
        picture(tables, replace(options, bfloat16=True), "torch"), picture(tables, options, "torch")
    )


@pytest.mark.usefixtures("bfloat16")
def test_a_library_without_it_renders_the_same_in_float32(compiler: str) -> None:
    here, other = (native.Library(build.build(level), level) for level in (BF16, "x86-64-v4"))
    assert here.has_bfloat16
    assert not other.has_bfloat16
    model = make_field(SHAPES["channels of the real ones"])
    tables = model.tables(Precision.FULL)

    def shown(library: native.Library, options: RenderOptions) -> torch.Tensor:
        buffers = FrameBuffers.empty(*SIZE)
        assert library.render(tables, VIEW, options, buffers, RenderControl(*SIZE))
        return buffers.rgb

    for quality in Quality:
        options = options_for(model, RenderSettings(quality=quality))
        assert torch.equal(shown(here, options), shown(other, options))
    assert torch.equal(shown(other, replace(options, bfloat16=True)), shown(other, options))


def test_a_compiler_without_words_for_it_builds_the_level_below(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "c++"
    old.write_text(f'#!/bin/sh\ncase " $* " in *bf16*) exit 1;; esac\nexec {compiler} "$@"\n')
    old.chmod(0o755)
    levels = [*build.LEVELS, build.BASELINE]
    best = build.cpu_level()
    expected = levels[levels.index(best) + 1] if best == BF16 else best
    assert build.cpu_level(str(old)) == expected
    assert build.cpu_level(compiler) == best
    sources = tmp_path / "csrc"
    sources.mkdir()
    for name in build.LIBRARIES["host"]:
        (sources / f"{name}.cpp").write_text(f'extern "C" int {name}() {{ return 42; }}\n')
    monkeypatch.setattr(build, "SOURCES", sources)
    monkeypatch.setenv("LANDMARK_VIEWER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert build.build() == build.build(expected)


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_real_checkpoints_lose_less_than_a_tenth_of_a_decibel(shared_dir: Path, case: str) -> None:
    folder = shared_dir / "oracle" / case
    model = open_checkpoint(folder / CHECKPOINTS[case], ModelSettings(white_background=True)).model
    with np.load(folder / "oracle.npz") as stored:
        pose = next(name.split("/")[1] for name in stored if name.startswith("pose/"))
        seen = Camera.from_focal(stored[f"pose/{pose}/c2w"], 96, 64, float(stored[f"pose/{pose}/focal"]))
    renderer = Renderer(model, Precision.FULL, "cpu")
    exact = renderer.render(seen, RenderSettings()).buffers.rgb
    for settings in COARSE.values():
        plain, rounded = (
            renderer.render(seen, RenderSettings(**settings, bfloat16=on)).buffers.rgb for on in (False, True)
        )
        assert not torch.equal(plain, rounded)
        assert psnr(rounded, exact) > psnr(plain, exact) - 0.1
