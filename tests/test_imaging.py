"""The bytes of every mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from landmark_viewer.core.edits.compiled import CompiledEdits
from landmark_viewer.core.edits.layers import Copy, Hide, Placement, Prism, Remove
from landmark_viewer.core.edits.region import Region
from landmark_viewer.core.output import to_bytes
from landmark_viewer.cuda.tables import FrameBuffers
from landmark_viewer.viewer.edit_map import owners
from landmark_viewer.viewer.imaging import EMPTY, BlockGrid, block_color, depth_legend, depth_range, to_image
from landmark_viewer.viewer.state import Mode, Pose

WIDTH, HEIGHT = 40, 24
CAMERA = Pose((0.0, 0.0, 2.0), pitch=-np.pi / 2).camera(WIDTH, HEIGHT)  # straight down
GRID = BlockGrid((-1.0, -1.0), (1.0, 1.0), (2, 2))


@pytest.fixture
def buffers() -> FrameBuffers:
    """A plane at z = 0 seen from straight above; the left eight columns see nothing."""
    torch.manual_seed(0)
    depth = torch.full((HEIGHT, WIDTH), 2.0)
    depth[:, :8] = 0
    opacity = (depth > 0).float()
    return FrameBuffers(torch.rand(HEIGHT, WIDTH, 3) * opacity[..., None], opacity, depth.clone(), depth)


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_gives_opaque_contiguous_bytes(mode, buffers):
    image = to_image(mode, buffers, CAMERA, GRID)
    assert (image.dtype, image.shape) == (np.uint8, (HEIGHT, WIDTH, 4))
    assert image.flags.c_contiguous
    assert (image[..., 3] == 255).all()


@pytest.mark.parametrize("mode", Mode)
def test_every_mode_survives_a_picture_without_surface_and_with_bad_numbers(mode, buffers):
    buffers.median_depth.zero_()
    buffers.rgb[0, 0] = torch.tensor([float("nan"), float("inf"), -1.0])
    image = to_image(mode, buffers, CAMERA, GRID)
    if mode in (Mode.DEPTH, Mode.NORMALS, Mode.BLOCKS, Mode.EDITS):
        assert (image[..., :3] == EMPTY).all()


def test_the_colour_mode_rounds_as_saved_pictures_do(buffers):
    image = to_image(Mode.COLOR, buffers, CAMERA)
    np.testing.assert_array_equal(image[..., :3], to_bytes(buffers.rgb.numpy()))


def test_colours_out_of_range_are_limited(buffers):
    buffers.rgb[0, 0] = torch.tensor([-0.5, 2.0, float("nan")])
    assert to_image(Mode.COLOR, buffers, CAMERA)[0, 0].tolist() == [0, 255, 0, 255]


def test_the_opacity_mode_is_grey(buffers):
    buffers.opacity[3, 20] = 0.5
    image = to_image(Mode.OPACITY, buffers, CAMERA)
    assert image[3, 20, :3].tolist() == [128, 128, 128]
    assert image[3, 0, :3].tolist() == [0, 0, 0]


def test_nearer_is_lighter_in_the_depth_mode(buffers):
    buffers.median_depth[:] = torch.linspace(1, 5, WIDTH)
    image = to_image(Mode.DEPTH, buffers, CAMERA)
    brightness = image[0, :, :3].astype(float).sum(axis=1)
    assert (np.diff(brightness) <= 1).all()
    assert brightness[0] > brightness[-1] + 200


def test_the_lightness_of_the_depth_colours_falls_evenly():
    linear = (depth_legend(64) / 255.0) ** 2.2
    lightness = np.cbrt(linear @ [0.2126, 0.7152, 0.0722])
    steps = np.diff(lightness)
    assert (steps < 0).all()
    assert steps.min() > 3 * steps.max()


def test_one_far_pixel_does_not_take_the_depth_colours_away(buffers):
    buffers.median_depth[:] = torch.linspace(1, 2, WIDTH)
    buffers.median_depth[0, 0] = 1e6
    assert depth_range(buffers.median_depth.numpy())[1] < 3


def test_the_depth_mode_shows_a_plain_surface(buffers):
    image = to_image(Mode.DEPTH, buffers, CAMERA)
    assert (image[:, :8, :3] == EMPTY).all()
    assert (image[:, 8:, :3] == depth_legend(256)[0]).all()


def test_normals_of_the_ground_point_up(buffers):
    image = to_image(Mode.NORMALS, buffers, CAMERA)
    assert image[10, 20, :3].tolist() == [128, 128, 255]
    assert image[10, 2, :3].tolist() == list(EMPTY)


def test_the_blocks_mode_colours_a_point_by_the_block_it_lies_in(buffers):
    buffers.rgb[:] = 1.0
    image = to_image(Mode.BLOCKS, buffers, CAMERA, GRID)
    for point, block in (((-0.2, -0.2), 0), ((-0.2, 0.2), 1), ((0.2, -0.2), 2), ((0.2, 0.2), 3)):
        column, row, _ = CAMERA.project(np.array([*point, 0.0]))
        assert image[round(row), round(column), :3].tolist() == list(block_color(block))


def test_the_blocks_mode_keeps_the_shading(buffers):
    buffers.rgb[:, 20:] = 0.0
    buffers.rgb[:, :20] = 1.0
    image = to_image(Mode.BLOCKS, buffers, CAMERA, BlockGrid((-9.0, -9.0), (9.0, 9.0)))
    assert image[10, 15, :3].sum() > image[10, 25, :3].sum() > 0


def test_the_edits_mode_colours_what_the_uppermost_layer_changed(buffers):
    buffers.rgb.fill_(1.0)
    square = Prism(Region.rectangle(-0.2, -0.2, 0.2, 0.2), 0.1, 0.5)
    corner = Prism(Region.rectangle(0.0, 0.0, 0.2, 0.2))
    layers = (Remove(prism=square), Hide(prism=corner), Hide(prism=Prism(square.region), enabled=False))
    image = to_image(Mode.EDITS, buffers, CAMERA, edits=CompiledEdits(layers, None, None, None))
    found = {tuple(color) for color in image[..., :3].reshape(-1, 3)}
    assert found == {EMPTY, (150, 150, 150), block_color(0), block_color(1)}
    column, row, _ = CAMERA.project(np.array([0.1, 0.1, 0.0]))
    assert tuple(image[round(row), round(column), :3]) == block_color(1)


def test_a_copy_is_shown_where_it_stands_and_the_ground_below_it_is_not():
    house = Prism(Region.rectangle(-0.1, -0.1, 0.1, 0.1), 0.0, 0.2)
    layers = (Copy(prism=house, placements=(Placement((1.0, 0.0, 0.5)),)),)
    x, z = np.array([1.0, 1.0, 0.0]), np.array([0.6, 0.3, 0.1])
    assert owners(layers, x, np.zeros(3), z).tolist() == [0, -1, -1]


def test_positions_outside_of_all_blocks_have_none():
    positions = np.array([-1.1, -0.9, 0.9, 1.0])
    assert GRID.locate(positions, np.zeros(4)).tolist() == [-1, 1, 3, -1]


def test_neighbouring_blocks_have_different_colours():
    colors = np.array([block_color(block) for block in range(64)], float)
    distance = np.linalg.norm(colors[1:] - colors[:-1], axis=1)
    assert distance.min() > 60
