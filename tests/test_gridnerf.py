"""The model's queries: blocks, planes times lines, the mask, normals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from landmark_viewer.core.blocks import BlockLayout
from landmark_viewer.core.camera import Camera, look_at
from landmark_viewer.core.gridnerf import positional_encoding
from landmark_viewer.core.normals import normals_from_depth
from landmark_viewer.core.occupancy import OccupancyGrid

UNIT = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])


def test_every_point_of_the_box_lies_in_the_block_whose_footprint_holds_it() -> None:
    layout = BlockLayout((3, 2))
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    block, local = layout.locate(points)
    for point, number, inside in zip(points, block.tolist(), local, strict=True):
        column, row = divmod(number, 2)
        x0, y0, x1, y1 = column * 2 / 3 - 1, row - 1, (column + 1) * 2 / 3 - 1, row
        assert x0 - 1e-6 <= point[0] <= x1 + 1e-6
        assert y0 - 1e-6 <= point[1] <= y1 + 1e-6
        expected = [(point[0] - x0) / (x1 - x0) * 2 - 1, (point[1] - y0) / (y1 - y0) * 2 - 1, point[2]]
        torch.testing.assert_close(inside, torch.stack(expected), rtol=0, atol=1e-5)


def test_a_point_on_the_far_face_is_in_no_block() -> None:
    block, local = BlockLayout((2, 2)).locate(torch.tensor([[1.0, 0.0, 0.0], [-0.5, 1.0, 0.0]]))
    assert block[0] >= 4
    assert block[1] == 2  # the next column's number, as LandMark counts
    assert local[1, :2].abs().max() > 1.5  # and far outside it


def test_packed_bits_are_most_significant_first_and_x_fastest() -> None:
    nodes = torch.zeros(2, 3, 5, dtype=torch.uint8)
    nodes[0, 0, 1] = 1
    grid = OccupancyGrid(nodes, UNIT)
    assert grid.packed()[0] == 0b01000000
    assert torch.equal(OccupancyGrid.from_packed(grid.packed(), (2, 3, 5), UNIT).nodes, nodes)


def test_the_mask_is_interpolated_between_vertices_and_empty_outside() -> None:
    nodes = torch.zeros(2, 2, 2, dtype=torch.uint8)
    nodes[0, 0, 0] = 1
    grid = OccupancyGrid(nodes, UNIT)
    points = torch.tensor([[0.0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0.5], [3.0, 0, 0]])
    torch.testing.assert_close(grid.sample(points), torch.tensor([1.0, 0.5, 0.125, 0.0]))


def test_encoding_is_dimension_major_with_all_sines_first() -> None:
    encoded = positional_encoding(torch.tensor([[0.1, 0.2]]), 2)[0]
    angles = torch.tensor([0.1, 0.2, 0.2, 0.4])
    torch.testing.assert_close(encoded, torch.cat([angles.sin(), angles.cos()]))


def test_normals_of_a_flat_ground_point_up() -> None:
    camera = Camera.from_fov(look_at([0, -2, 2], [0, 0, 0]), 40, 30, 40)
    depth = np.empty((30, 40), np.float32)
    for row in range(30):
        for column in range(40):
            origin, direction = camera.ray(column, row)
            depth[row, column] = -origin[2] / direction[2]
    normals = normals_from_depth(camera, depth)
    assert normals == pytest.approx(np.broadcast_to([0, 0, 1], normals.shape), abs=2e-3)


def test_normals_are_zero_where_there_is_no_surface() -> None:
    camera = Camera.from_fov(look_at([0, -2, 2], [0, 0, 0]), 8, 6, 40)
    assert not normals_from_depth(camera, np.zeros((6, 8), np.float32)).any()
