"""Faulty snapshots of streamed fields are refused with one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from landmark_viewer.core.rays import view_of
from landmark_viewer.core.render import RenderSettings, options_for
from landmark_viewer.core.settings import Precision
from landmark_viewer.cuda import ops
from landmark_viewer.cuda.stream_tables import BlockMask
from landmark_viewer.cuda.tables import FieldTables, FrameBuffers, RenderControl

from .small_fields import Shape, camera, make_field, random_points
from .streamed_fields import streamed

MODEL = make_field(Shape(division=(2, 3), mask=(23, 19, 9), missing=(4,)))
WHOLE = MODEL.tables(Precision.FULL)


def broken(name: str) -> FieldTables:
    """A snapshot with one fault."""
    snapshot = streamed(WHOLE, [0, 1])
    stream, block = snapshot.stream, snapshot.blocks[0]
    part = stream.block_masks[0]
    coarse = {
        "coarse": replace(stream.coarse, rows=stream.coarse.rows.long()),
        "row": replace(stream.coarse, rows=stream.coarse.rows + 1),
        "planes": replace(stream.coarse, density_planes=()),
    }
    blocks = {
        "dtype": replace(block, density_planes=tuple(plane.half() for plane in block.density_planes)),
        "channels": replace(block, density_lines=tuple(line[:, :4] for line in block.density_lines)),
    }
    masks = {
        "part": BlockMask(part.nodes.bool(), part.first, part.any_cell, part.all_cell),
        "place": BlockMask(part.nodes, (50, 0), part.any_cell, part.all_cell),
        "bricks": BlockMask(part.nodes, part.first, part.any_cell[:1], part.all_cell),
    }
    if name in coarse:
        return replace(snapshot, stream=replace(stream, coarse=coarse[name], static={}), cache={})
    if name in blocks:
        return replace(snapshot, blocks=(blocks[name], *snapshot.blocks[1:]), cache={})
    if name in masks:
        parts = {**stream.block_masks, 0: masks[name]}
        return replace(snapshot, stream=replace(stream, block_masks=parts), cache={})
    if name == "no part":
        return replace(snapshot, stream=replace(stream, block_masks={}), cache={})
    if name == "room":
        room = replace(stream.room, n=(1, 1, 1))
        return replace(snapshot, stream=replace(stream, room=room, static={}), cache={})
    return replace(snapshot, blocks=(*snapshot.blocks[:4], block, *snapshot.blocks[5:]), cache={})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("coarse", "coarse.rows must be"),
        ("row", "coarse.rows must be"),
        ("planes", "every block must have"),
        ("dtype", "density plane 0 must be"),
        ("channels", "density line 0 must be"),
        ("part", "nodes of a block must be"),
        ("place", "nodes of a block must lie"),
        ("bricks", "any_cell of a block must be"),
        ("no part", "block_masks must hold"),
        ("room", "room must have"),
        ("no stand-in", "every resident block must have a coarse stand-in"),
    ],
)
def test_faulty_snapshots_are_refused(name: str, message: str) -> None:
    tables = broken(name)
    with pytest.raises(ValueError, match=message):
        ops.check_tables(tables)


def test_faulty_feedback_is_refused() -> None:
    snapshot, n_blocks = streamed(WHOLE, [0]), len(WHOLE.blocks)
    options, view = options_for(MODEL, RenderSettings()), view_of(camera(16, 8))
    control = RenderControl(view.width, view.height)
    control.needs = np.zeros(3, np.float32)
    buffers = FrameBuffers.empty(view.width, view.height)
    with pytest.raises(ValueError, match="needs must be contiguous float32"):
        ops.render(snapshot, view, options, buffers, control)
    with pytest.raises(ValueError, match="lacking must be contiguous uint8"):
        ops.probe(snapshot, random_points(5), lacking=np.zeros(n_blocks))
    with pytest.raises(ValueError, match="fade must be"):
        ops.render(snapshot, view, replace(options, fade=torch.zeros(2)), buffers)
