"""Every edit in every layout with every style, crop and quality: the kernels against the plain reference."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch

from landmark_viewer.core.appearance import Appearance
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.gridnerf import GridNeRF
from landmark_viewer.core.rays import view_of
from landmark_viewer.core.reference import render_reference
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.edit_tables import EditOp, Source
from landmark_viewer.cuda.tables import FieldTables, FrameBuffers, Quality, RenderOptions

from .small_edits import buffers_for, clear, footprint, instance, patch, psnr, source_of, style, tables_of
from .small_fields import Shape, make_field

SMOOTH = 0.4  # of the decoder's first layer: colours vary along a ray as gently as a trained field's
VIVID = 4.0  # of the embeddings: styles differ in spite of that
LAYOUTS = {
    "sequential": Shape(levels=2, latent=6, mask=(9, 8, 5), mask_share=0.7),
    "blocks": Shape(levels=2, latent=6, mask=(9, 8, 5), mask_share=0.7, division=(2, 2)),
    "three directions": Shape(
        directions=3, density=(3, 2, 3), appearance=(6, 5, 4), latent=6, mask=(9, 8, 5), mask_share=0.7
    ),
}
OTHER = Shape(levels=1, feature_dim=9, hidden=24, latent=4, view_pe=1, opacity=3.0, grid=(9, 9, 5))
KINDS = ("remove", "hide", "crop", "copy", "insert", "replace", "restyle", "stack")
VIEW = view_of(Camera.from_fov(look_at((-1.1, -1.5, 1.1), (0.0, 0.0, 0.1)), 24, 16, 50.0))
FLOORS = {Quality.EXACT: 80.0, Quality.FAST: 55.0}  # dB
STYLES = (Appearance.of(1), Appearance.mixed({0: 0.3, 1: 0.7}))
CROP = clear(footprint=footprint(24, 26, (-0.85, -0.95)), inside=False, z_low=-3e38, z_high=3e38)


@cache
def field(layout: str) -> tuple[GridNeRF, FieldTables]:
    model = smoothed(make_field(LAYOUTS[layout]))
    return model, model.tables(Precision.FULL)


@cache
def replaced(layout: str) -> tuple[GridNeRF, FieldTables]:
    """The field with its last block from elsewhere."""
    model, _ = field(layout)
    *blocks, _ = model.blocks
    model = replace(model, blocks=(*blocks, make_field(LAYOUTS[layout], seed=9).blocks[-1]))
    return model, model.tables(Precision.FULL)


@cache
def other() -> tuple[GridNeRF, Source]:
    model = smoothed(make_field(OTHER, seed=3))
    return model, source_of(model, model.tables(Precision.FULL), code=1)


def smoothed(model: GridNeRF) -> GridNeRF:
    weight, bias = model.decoder.layers[0]
    layers = ((weight * SMOOTH, bias), *model.decoder.layers[1:])
    decoder = replace(model.decoder, layers=layers)
    return replace(model, decoder=decoder, embedding=model.embedding * VIVID)


def operations(kind: str, model: GridNeRF) -> tuple[EditOp, ...]:
    feature_dim, latent = model.decoder.basis.shape[0], model.latent(2)
    insert = replace(instance(turn=-70.0, scale=0.8), source=1, z_low=-0.1, z_high=0.5)
    by_kind = {
        "remove": (patch(feature_dim),),
        "hide": (clear(),),
        "crop": (clear(inside=False),),
        "copy": (instance(), instance(turn=160.0, scale=0.7)),
        "insert": (insert,),
        "replace": (instance(turn=0.0, scale=1.0),),
        "restyle": (style(latent),),
        "stack": (style(latent), clear(z_low=0.2), patch(feature_dim), instance(), insert),
    }
    return by_kind[kind]


def rendered(tables: FieldTables, options: RenderOptions, backend: str) -> FrameBuffers:
    buffers = buffers_for(VIEW)
    assert ops.render(tables, VIEW, options, buffers, backend=backend)
    return buffers


@pytest.mark.parametrize("quality", FLOORS, ids=lambda quality: quality.value)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_edited_frame_is_the_references(layout: str, kind: str, quality: Quality) -> None:
    model, tables = replaced(layout) if kind == "replace" else field(layout)
    other_model, source = other()
    for appearance in STYLES:
        plain = options_for(model, RenderSettings(quality=quality, appearance=appearance))
        unedited = rendered(field(layout)[1], plain, "auto")
        for crop in ((), (CROP,)):
            edits = tables_of(*operations(kind, model), *crop, sources=(source,))
            options = replace(plain, edits=edits)
            wanted = buffers_for(VIEW)
            assert render_reference(model, VIEW, options, wanted, sources=(other_model,))
            assert psnr(unedited.rgb, wanted.rgb) < 50, "the edit must show"
            for backend in ("auto", "torch"):
                got = rendered(tables, options, backend)
                floor = FLOORS[quality]
                assert psnr(got.rgb, wanted.rgb) >= floor, f"{backend}, {appearance.mix}, {len(crop)} crops"
                bound = 1e-4 if quality is Quality.EXACT or backend == "torch" else 0.011
                assert (got.opacity - wanted.opacity).abs().max() < bound


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_cuda_device_renders_the_same_edited_frame(kind: str) -> None:
    model, tables = replaced("blocks") if kind == "replace" else field("blocks")
    other_model, source = other()
    options = replace(
        options_for(model, RenderSettings()), edits=tables_of(*operations(kind, model), sources=(source,))
    )
    device = torch.device("cuda")
    there = replace(source, tables=other_model.tables(Precision.FULL, device))
    on_device = replace(options, edits=tables_of(*operations(kind, model), sources=(there,)))
    got = rendered(model.tables(Precision.FULL, device), on_device, "auto")
    assert psnr(got.rgb, rendered(tables, options, "torch").rgb) >= 80
